"""Layers measured as a user starts it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seethrough.benchmark.layers import cutouts, on_white
from seethrough.data.crops import fit_layer
from seethrough.data.tags import TAGS_V2, TAGS_V3
from seethrough.metrics.layers import score_layer
from tests.benchmark.conftest import (
    SIZE,
    TAGS,
    benchmark,
    read_samples,
    results,
    table,
    true_layers,
    write_predictions,
)

FLAGS = ("--resolution=48", "--cutout=176", "--layer_alpha=straight")


@pytest.fixture(autouse=True)
def no_cached_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has none."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_true_layers_are_perfect_and_what_needs_a_network_says_so(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = write_predictions(samples, tmp_path / "predicted"), tmp_path / "out"
    benchmark("layers", samples, folder, f"--out={out}", *FLAGS)
    found = results(out)
    everything = found["rows"]["all"]
    assert everything["count"] == 3
    best = {"iou": 1, "dice": 1, "mae": 0, "false_layers": 0, "ssim": 1, "ms_ssim": 1}
    assert {m: everything[m] for m in best} == pytest.approx(best, abs=1e-4)
    assert everything["psnr"] == pytest.approx(58.92, abs=0.01)
    assert everything["picture_psnr"] == pytest.approx(58.92, abs=0.01)
    # Layers over each other are the page, but for what rounding and resizing leave.
    assert everything["composite_error"] < 0.01
    # Without its factor 2 the published loss of what is perfect, and not quite opaque, is a half.
    assert 0.4 < everything["published_dice_loss"] < 0.5
    assert [found["rows"][tag]["count"] for tag in ("face", "legwear", "tail")] == [3, 1, 0]
    assert found["rows"]["tail"]["iou"] is None
    assert list(found["rows"]) == ["all", *TAGS_V3]
    assert "lpips" not in found["measures"] and "fid" not in found["measures"]
    lpips, sets, clip = found["missing"]
    assert "vgg16" in lpips and "--lpips=file:FILE or --lpips=hub:timm/vgg16.tv_in1k" in lpips
    assert "FID and KID" in sets and str(tmp_path / "torch" / "hub") in sets
    assert "--clip=hub:openai/clip-vit-large-patch14" in clip
    assert "not measured: LPIPS" in capsys.readouterr().out
    assert "not measured: LPIPS" in (out / "table.md").read_text()


def test_measures_of_a_sample_are_those_of_its_layers(samples: Path, tmp_path: Path):
    def change(name: str, layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        changed = {tag: np.roll(layer, 4, axis=1) for tag, layer in layers.items()}
        if name == "two":
            del changed["face"]
            changed["tail"] = layers["topwear"]
        return changed

    folder, out = write_predictions(samples, tmp_path / "predicted", change), tmp_path / "out"
    benchmark("layers", samples, folder, f"--out={out}", *FLAGS, "--worst=2")
    rows = {(row["sample"], row["tag"]): row for row in table(out / "samples.csv")}
    assert len(rows) == 3 * len(TAGS_V3)
    one, two, three = (true_layers(sample) for sample in read_samples(samples))
    whole = (0, 0, SIZE[1], SIZE[0])
    ious: dict[str, list[float]] = {}
    for name, layers in (("one", one), ("two", two), ("three", three)):
        for tag, layer in layers.items():
            true, found = (
                fit_layer(picture, whole, whole, 48, flip=False)
                for picture in (layer, np.roll(layer, 4, axis=1))
            )
            if (name, tag) == ("two", "face"):
                found = np.zeros_like(true)
            expected = score_layer(found, true, true[..., 3] > 127)
            for measure in ("iou", "mae", "psnr"):
                assert float(rows[name, tag][measure]) == pytest.approx(expected[measure])
            ious.setdefault(tag, []).append(expected["iou"])
    means = {tag: np.mean(values) for tag, values in ious.items()}
    found = results(out)["rows"]
    assert found["face"]["iou"] == pytest.approx(means["face"])
    assert found["all"]["iou"] == pytest.approx(np.mean(list(means.values())))
    # The only false layer of all absent ones: a tail of sample two.
    absent = 3 * len(TAGS_V3) - sum(map(len, TAGS.values()))
    assert found["all"]["false_layers"] == pytest.approx(1 / absent)
    assert found["tail"]["false_layers"] == pytest.approx(1 / 3)
    # A layer that is missing is compared as an empty one, on white.
    true = fit_layer(two["face"], whole, whole, 48, flip=False)
    cut = cutouts(np.zeros_like(true), true, 176)
    assert cut is not None
    white, face = map(on_white, cut)
    assert torch.equal(white, torch.ones_like(white))
    mse = (white - face).square().mean().item()
    assert float(rows["two", "face"]["picture_psnr"]) == pytest.approx(
        -10 * np.log10(mse), abs=1e-3
    )
    # The page shows the worst first: what was not found at all.
    page = (out / "worst.html").read_text()
    assert page.count("<article>") == 2
    assert page.split("<h3>")[1].startswith("two: face")
    assert page.count("data:image/png;base64,") == page.count("<img") == 6
    assert "<script" not in page and "<link" not in page


def test_every_layout_of_a_prediction_gives_the_same(samples: Path, tmp_path: Path):
    psds = write_predictions(samples, tmp_path / "psds")
    beside, pngs, canvas, published = (tmp_path / name for name in ("flat", "pngs", "c", "p"))
    beside.mkdir()
    for sample in read_samples(samples):
        name = sample.name
        (beside / f"{name}.psd").write_bytes((psds / name / f"{name}.psd").read_bytes())
        for folder in (pngs / name / "layers", canvas / name, published / name / "optimized"):
            folder.mkdir(parents=True)
        parts: dict[str, object] = {}
        for place, (tag, layer) in enumerate(true_layers(sample).items()):
            Image.fromarray(layer).save(pngs / name / "layers" / f"{tag}.png")
            whole = (0, 0, SIZE[1], SIZE[0])
            square = fit_layer(layer, whole, whole, 48, flip=False)
            Image.fromarray(square).save(canvas / name / f"{tag}.png")
            x1, y1, x2, y2 = sample.boxes[tag]
            Image.fromarray(layer[y1:y2, x1:x2]).save(published / name / "optimized" / f"{tag}.png")
            parts[tag] = {"xyxy": [x1, y1, x2, y2], "depth_median": 1 - place / 10, "tag": tag}
        # What is no layer lies beside them.
        Image.new("L", (7, 7)).save(canvas / name / "face_depth.png")
        Image.new("RGBA", (9, 9)).save(canvas / name / "src_img.png")
        (published / name / "optimized" / "info.json").write_text(
            json.dumps({"parts": parts, "frame_size": list(SIZE)})
        )
    tables = []
    for place, folder in enumerate((psds, beside, pngs, canvas, published)):
        benchmark("layers", samples, folder, f"--out={tmp_path / str(place)}", *FLAGS)
        tables.append((tmp_path / str(place) / "table.csv").read_text())
    assert len(set(tables)) == 1


def test_parts_of_a_split_are_their_layer_again(samples: Path, tmp_path: Path):
    def halves(_: str, layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        left = np.arange(SIZE[1])[None, :, None] < SIZE[1] // 2
        face = layers.pop("face")
        return {**layers, "face-r": np.where(left, face, 0), "face-l": np.where(left, 0, face)}

    folder = write_predictions(samples, tmp_path / "predicted", lambda n, s: halves(n, dict(s)))
    benchmark("layers", samples, folder, f"--out={tmp_path / 'out'}", *FLAGS)
    assert results(tmp_path / "out")["rows"]["face"]["iou"] == 1


def test_tags_of_v2_are_made_of_parts_in_the_truth_alone(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def hair(name: str, layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept = {tag: layer for tag, layer in layers.items() if "hair" not in tag}
        return {**kept, "hair": layers["front hair"]} if "front hair" in layers else kept

    folder, out = write_predictions(samples, tmp_path / "predicted", hair), tmp_path / "out"
    benchmark("layers", samples, folder, f"--out={out}", "--tags=v2", *FLAGS)
    rows = results(out)["rows"]
    assert list(rows) == ["all", *TAGS_V2]
    assert rows["hair"]["count"] == 1 and 0 < rows["hair"]["iou"] < 1
    benchmark("layers", samples, folder, f"--out={out}", *FLAGS, code=1)
    assert "has hair, which are not among the tags" in capsys.readouterr().err


def test_what_is_done_is_skipped_and_what_changed_is_not(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = write_predictions(samples, tmp_path / "predicted"), tmp_path / "out"
    words = ("layers", samples, folder, f"--out={out}", *FLAGS)
    benchmark(*words)
    first = (out / "results.json").read_text()
    capsys.readouterr()
    benchmark(*words)
    assert "3 of 3 are done already" in capsys.readouterr().out
    assert (out / "results.json").read_text() == first
    (folder / "two" / "two.psd").unlink()
    Image.fromarray(np.zeros((*SIZE, 4), np.uint8)).save(folder / "two" / "face.png")
    benchmark(*words)
    assert "2 of 3 are done already" in capsys.readouterr().out
    assert results(out)["rows"]["face"]["iou"] == pytest.approx(2 / 3)


def test_a_sample_that_fails_is_told_and_in_no_mean(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = write_predictions(samples, tmp_path / "predicted"), tmp_path / "out"
    (folder / "one" / "one.psd").unlink()
    (folder / "two" / "two.psd").write_bytes(b"8BPS but no more")
    benchmark("layers", samples, folder, f"--out={out}", *FLAGS, code=1)
    said = capsys.readouterr().err
    assert "one: no prediction of this page: there is no one.psd" in said
    assert "two.psd: can't be read as a PSD" in said
    found = results(out)
    assert found["rows"]["all"]["count"] == 1 and len(found["failed"]) == 2
    assert "no prediction" in (out / "worst.html").read_text()


def test_pictures_of_a_wrong_shape_or_name_are_refused(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = tmp_path / "predicted", tmp_path / "out"
    for name, size, file in (
        ("one", (48, 30), "face"),
        ("two", SIZE, "face"),
        ("three", SIZE, "t"),
    ):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((*size, 4), np.uint8)).save(folder / name / f"{file}.png")
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(folder / "two" / "neck.png")
    benchmark("layers", samples, folder, f"--out={out}", *FLAGS, code=2)
    said = capsys.readouterr().err
    assert "no sample could be measured" in said
    assert "predicted on 30 x 48 px: neither the page, of 40 x 48 px" in said
    assert "neck.png: 9 x 9 px, where others of its folder have 40 x 48" in said
    assert "three: no prediction of this page" in said
