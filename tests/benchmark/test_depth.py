"""Depth measured as a user starts it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.data.depth import disk_to_depth
from seethrough.data.layout import Sample
from seethrough.inference.parts import Part
from seethrough.inference.psd import write_parts
from seethrough.metrics.depth import DEPTH_MEASURES
from tests.benchmark.conftest import SIZE, benchmark, read_samples, results, table, true_layers

STRAIGHT = "--layer_alpha=straight"


def true_depth(sample: Sample, tag: str | None = None) -> np.ndarray:
    """Depth in [0, 1] on the page, 0 near and 1 where there is none."""
    nearest = int(sample.depth().max())
    levels = np.zeros(SIZE, np.uint8)
    x1, y1, x2, y2 = sample.boxes[tag] if tag else (0, 0, SIZE[1], SIZE[0])
    levels[y1:y2, x1:x2] = sample.depth(tag)
    return (disk_to_depth(levels, nearest) + 1) / 2


def write_depths(samples: Path, folder: Path, scale: float = 0.5, shift: float = 0.2) -> Path:
    """True depths in another scale, as `seethrough.decompose` writes them."""
    for sample in read_samples(samples):
        parts: list[Part] = []
        for tag, layer in true_layers(sample).items():
            x1, y1, x2, y2 = sample.boxes[tag]
            depth = (scale * true_depth(sample, tag) + shift)[y1:y2, x1:x2].astype(np.float32)
            rgba = layer[y1:y2, x1:x2]
            median = float(np.median(depth[rgba[..., 3] > 25]))
            parts.append(
                Part(
                    name=tag,
                    box=(x1, y1, x2, y2),
                    rgba=rgba,
                    tag=tag,
                    depth=np.where(rgba[..., 3] > 10, depth, np.float32(1)),
                    depth_median=median,
                )
            )
        parts.sort(key=lambda part: -part.depth_median)
        write_parts(folder / sample.name, sample.name, parts, SIZE)
    return folder


def test_true_depth_in_another_scale_has_no_error_and_the_right_order(
    samples: Path, tmp_path: Path
):
    folder, out = write_depths(samples, tmp_path / "predicted"), tmp_path / "out"
    benchmark("depth", samples, folder, f"--out={out}", STRAIGHT)
    found = results(out)
    for alignment in ("least squares", "median"):
        row = found["rows"][f"layers, {alignment}"]
        assert row["count"] == 3
        # 8 bits of a scale of a half.
        assert row["abs_rel"] < 0.01 and row["a1"] == 1 and row["coverage"] == 1
    assert found["rows"]["order of layers"]["all_pairs"] == 1
    assert found["missing"] == ["depth of pages: no sample's prediction has that of the page"]
    assert set(found["measures"]) >= set(DEPTH_MEASURES)
    assert (out / "worst.html").read_text().count("<article>") == 3


def test_depth_that_is_wrong_or_missing_is_worse(samples: Path, tmp_path: Path):
    folder, out = write_depths(samples, tmp_path / "predicted"), tmp_path / "out"
    (two,) = (sample for sample in read_samples(samples) if sample.name == "two")
    index = folder / "two" / "two.psd.json"
    parts = json.loads(index.read_text())["parts"]
    medians = [part["depth_median"] for part in parts.values()]
    for part, median in zip(parts.values(), reversed(medians), strict=True):
        part["depth_median"] = median
    index.write_text(json.dumps({"parts": parts, "frame_size": SIZE}))
    (folder / "two" / "two_depth.psd").unlink()
    layer = true_depth(two, "topwear")
    Image.fromarray(np.rint(layer * 255).astype(np.uint8)).save(
        folder / "two" / "topwear_depth.png"
    )
    benchmark("depth", samples, folder, f"--out={out}", STRAIGHT)
    rows = {row["sample"]: row for row in table(out / "samples.csv")}
    assert rows["one"]["coverage"] == "1.0"
    # The face has no depth, so that what counts is the clothes alone.
    both = [(true_depth(two, tag) < 1) & (true_layers(two)[tag][..., 3] > 25) for tag in two.boxes]
    clothes = both[list(two.boxes).index("topwear")]
    assert float(rows["two"]["coverage"]) == pytest.approx(
        clothes.sum() / sum(mask.sum() for mask in both)
    )
    order = results(out)["rows"]["order of layers"]["all_pairs"]
    assert order is not None and order < 1


def test_depth_of_the_page_from_pngs_dark_or_bright_on_the_page_or_a_square(
    samples: Path, tmp_path: Path
):
    dark, bright, square = (tmp_path / name for name in ("dark", "bright", "square"))
    for folder in (dark, bright, square):
        folder.mkdir()
    for sample in read_samples(samples):
        depth = true_depth(sample)
        levels = np.rint(depth * 65535).astype(np.uint16)
        Image.fromarray(levels).save(dark / f"{sample.name}_depth.png")
        Image.fromarray(65535 - levels).save(bright / f"{sample.name}_depth.png")
        canvas = np.full((48, 48), 65535, np.uint16)
        canvas[:, 4:44] = levels
        (square / sample.name).mkdir()
        Image.fromarray(canvas).save(square / sample.name / f"{sample.name}_depth.png")
    tables = []
    for folder, more in ((dark, ()), (bright, ("--nearest=bright",)), (square, ())):
        out = tmp_path / f"out_{folder.name}"
        benchmark("depth", samples, folder, f"--out={out}", STRAIGHT, *more)
        row = results(out)["rows"]["page, least squares"]
        assert row["abs_rel"] < 1e-4 and row["coverage"] == 1
        tables.append({name: round(row[name], 3) for name in DEPTH_MEASURES})
    assert tables[0] == tables[1] == tables[2]
    # Least squares turn what is inside out round, the median doesn't.
    out = tmp_path / "inside_out"
    benchmark("depth", samples, bright, f"--out={out}", STRAIGHT)
    rows = results(out)["rows"]
    assert rows["page, least squares"]["abs_rel"] < 1e-4 < rows["page, median"]["abs_rel"]


def test_bad_predictions_are_told(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = write_depths(samples, tmp_path / "predicted")
    (folder / "one" / "one_depth.psd").unlink()
    (folder / "one" / "one.psd.json").unlink()
    (folder / "two" / "two.psd.json").write_text('{"parts": {"face": {"depth_median": "far"}}}')
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "three" / "three_depth.png")
    benchmark("depth", samples, folder, f"--out={tmp_path / 'out'}", STRAIGHT, code=2)
    said = capsys.readouterr().err
    assert "one: no prediction of this page: there is no one_depth.psd" in said
    assert "'depth_median' of 'face' is 'far'" in said
    assert "three_depth.png: a depth has one channel" in said
