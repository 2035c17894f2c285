"""The decomposition stage: any pages in, layers and PSDs out, and numbers where truth is known."""

import gc
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from seethrough.data.tags import TRAINING_TAGS
from seethrough.engine.files import tree_sha256
from seethrough.errors import InputError
from seethrough.inference.composite import drawing_order
from seethrough.inference.decompose import NO_HEAD
from seethrough.inference.decomposition import Decomposition
from seethrough.recipe import Local, evolve
from seethrough.recipes.layerdiff import Decompose, Sampler
from seethrough.tasks.decompose import decompose_stage
from seethrough.tasks.task import StageResult
from tests.samples import write_list, write_png
from tests.tasks.small import SIDE, Small, context

SIZES = {"tall": (40, 24, 4), "wide": (20, 50, 3), "square": (32, 32, 4)}


@pytest.fixture
def plain_pages(tmp_path: Path) -> Path:
    """Pages without annotation: RGBA and RGB, of several sizes; their list."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "pages"
    folder.mkdir()
    pages: list[Path] = []
    for name, shape in SIZES.items():
        picture = rng.integers(0, 256, shape).astype(np.uint8)
        picture[..., 3:] = 255
        write_png(folder / f"{name}.png", picture)
        pages.append(folder / f"{name}.png")
    return write_list(folder / "list.txt", pages)


def stage_of(small: Small, unet_3d: Path, pages: Path, **changes: Any) -> Decompose:
    stage = Decompose(
        unet=Local(str(unet_3d)),
        base=small.source("base"),
        transparent_vae=small.source("transparent_vae"),
        pages=Local(str(pages)),
        layer_alpha="straight",
        resolution=SIDE,
        sampler=Sampler(steps=2),
        precision="fp32",
        pages_at_once=2,
    )
    return evolve(stage, **changes)


def run(stage: Decompose, folder: Path, said: list[str] | None = None) -> StageResult:
    folder.mkdir(parents=True, exist_ok=True)
    return decompose_stage(stage, context(stage, folder, said))


def pictures(result: StageResult, page: str) -> dict[str, np.ndarray]:
    folder = result.artifacts["layers"] / page
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_pages_without_annotation_give_layers_and_no_numbers(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    stage, said = stage_of(small, unet_3d, plain_pages), []
    result = run(stage, tmp_path / "run", said)
    assert set(result.artifacts) == set(type(stage).outputs)
    assert result.metrics == {}
    assert not (tmp_path / "run" / "scores.json").exists()
    layers = result.artifacts["layers"]
    for name in SIZES:
        found = pictures(result, name)
        assert set(found) == set(TRAINING_TAGS)
        assert all(picture.shape == (SIDE, SIDE, 4) for picture in found.values())
        document = PSDImage.open(layers / f"{name}.psd")
        assert document.size == (SIDE, SIDE)
        shown = [tag for tag in drawing_order(found) if found[tag][..., 3].any()]
        assert shown and [layer.name for layer in document] == shown
    assert sorted(path.stem for path in layers.glob("*.psd")) == sorted(SIZES)
    report = result.artifacts["report"]
    assert said == [*(f"small: {layers / name}.psd" for name in SIZES), f"small: {report}"]
    html = report.read_text()
    assert all(f"layers/{name}.psd" in html for name in SIZES) and "alpha IoU" not in html


def test_a_page_is_written_as_soon_as_it_is_done_and_let_go(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    """Layers take 157 MB a page at 1280 px: they must not wait for the last one in memory."""
    stage = stage_of(small, unet_3d, plain_pages, pages_at_once=1)
    seen: list[tuple[list[str], int]] = []

    def alive() -> int:
        return sum(isinstance(thing, Decomposition) for thing in gc.get_objects())

    others = alive()

    def report(text: str) -> None:
        written = sorted(path.stem for path in (tmp_path / "layers").glob("*.psd"))
        seen.append((written, alive() - others))

    decompose_stage(stage, attrs.evolve(context(stage, tmp_path), report=report))
    assert seen == [
        (["tall"], 1),
        (["tall", "wide"], 1),
        (["square", "tall", "wide"], 1),
        (["square", "tall", "wide"], 0),
    ]


def test_pictures_of_every_kind_are_pages(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    """Grey of 16 bits, a palette, and a photograph on its side."""
    folder = tmp_path / "pages"
    folder.mkdir()
    rng = np.random.default_rng(4)
    grey = rng.integers(0, 65536, (24, 24)).astype(np.uint16)
    write_png(folder / "deep.png", grey)
    Image.fromarray(grey >> 8).convert("P").save(folder / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(rng.integers(0, 256, (16, 32, 3), dtype=np.uint8))
    lying.save(folder / "photo.png", exif=exif)
    lying.transpose(Image.Transpose.ROTATE_270).save(folder / "turned.png")
    result = run(stage_of(small, unet_3d, folder, head_pass="body"), tmp_path / "run")
    for name in ("deep", "palette", "photo", "turned"):
        assert set(pictures(result, name)) == set(TRAINING_TAGS)
    # The canvas of the photograph stands upright: a margin at each side.
    for name in ("photo", "turned"):
        alpha = sum(picture[..., 3].astype(int) for picture in pictures(result, name).values())
        columns = np.flatnonzero(np.any(alpha, axis=0))
        assert len(columns) and columns.min() >= 8 and columns.max() < 24


def test_an_empty_page_gives_an_empty_psd_and_a_note(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    write_png(tmp_path / "blank.png", np.zeros((20, 30, 4), np.uint8))
    said: list[str] = []
    stage = stage_of(small, unet_3d, tmp_path / "blank.png")
    result = run(stage, tmp_path / "run", said)
    assert said[0].endswith(f"blank.psd ({NO_HEAD})")
    assert not any(picture[..., 3].any() for picture in pictures(result, "blank").values())
    assert list(PSDImage.open(result.artifacts["layers"] / "blank.psd")) == []
    assert NO_HEAD in result.artifacts["report"].read_text()


def test_the_seed_and_the_page_s_bytes_fix_every_byte(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    stage = stage_of(small, unet_3d, plain_pages)
    np.random.seed(1)
    first = tree_sha256(run(stage, tmp_path / "a").artifacts["layers"])
    np.random.seed(2)
    again = run(stage, tmp_path / "b")
    assert tree_sha256(again.artifacts["layers"]) == first
    other = run(evolve(stage, sampler=evolve(stage.sampler, seed=43)), tmp_path / "c")
    for name in SIZES:
        before, after = pictures(again, name), pictures(other, name)
        assert any(not np.array_equal(before[tag], after[tag]) for tag in before)
    # The place in the list and on the disk plays no part.
    moved = tmp_path / "elsewhere" / "square.png"
    moved.parent.mkdir()
    moved.write_bytes((plain_pages.parent / "square.png").read_bytes())
    alone = write_list(moved.parent / "alone.txt", [moved])
    single = run(evolve(stage, pages=Local(str(alone))), tmp_path / "d")
    batched, by_itself = pictures(again, "square"), pictures(single, "square")
    for tag, picture in by_itself.items():
        assert np.abs(picture.astype(int) - batched[tag]).max() <= 1


def test_annotated_pages_are_measured_and_others_are_not(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    mixed = small.samples.parent / "mixed.txt"
    true = small.samples.read_text().split("\n")
    mixed.write_text("\n".join([*true, str(plain_pages.parent / "tall.png"), ""]))
    stage, said = stage_of(small, unet_3d, mixed), []
    result = run(stage, tmp_path / "run", said)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    # Without known characters there are no baselines.
    assert list(scores) == ["chain", "ceiling"]
    assert all(system["characters"] == 2 for system in scores.values())
    assert {"chain_mae", "ceiling_mae"} <= set(result.metrics)
    assert not any(name.startswith(("mean_alpha", "nearest")) for name in result.metrics)
    assert any(line.startswith("2 characters") for line in said)
    assert len(list(result.artifacts["layers"].glob("*.psd"))) == 3


def test_known_characters_are_baselines(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    """Of pages that are known themselves, the nearest known character is the page itself."""
    stage = stage_of(small, unet_3d, small.samples, known=Local(str(small.samples)))
    result = run(stage, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["chain", "mean alpha", "nearest", "ceiling"]
    nearest = scores["nearest"]["overall"]
    assert (nearest["iou"], nearest["mae"], nearest["false_layers"]) == (1, 0, 0)
    assert result.metrics["nearest_iou"] == 1
    assert scores["mean alpha"]["overall"]["iou"] < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"head_pass": "body"},
        {"crop_to": "character"},
        {"prediction_type": "v_prediction"},
        {"averaged_decode": True},
        {"sampler": Sampler(steps=3)},
        {"sampler": Sampler(steps=2, shared_noise=True)},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_option_has_an_effect(
    small: Small, unet_3d: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    one = write_list(small.samples.parent / "one.txt", [small.samples.parent / "head.png"])
    stage = stage_of(small, unet_3d, one)
    plain = pictures(run(stage, tmp_path / "plain"), "head")
    changed = pictures(run(evolve(stage, **changes), tmp_path / "changed"), "head")
    assert plain.keys() == changed.keys()
    assert any(not np.array_equal(plain[tag], changed[tag]) for tag in plain)


def test_the_canvas_has_the_side_of_the_recipe(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    stage = stage_of(small, unet_3d, plain_pages, resolution=2 * SIDE)
    found = pictures(run(stage, tmp_path), "tall")
    assert all(picture.shape == (2 * SIDE, 2 * SIDE, 4) for picture in found.values())


def test_layers_stored_premultiplied_are_read_so(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    """The true layers' colour, and with it the ceiling's and the chain's error, depends on it."""
    psnr = [
        run(stage_of(small, unet_3d, small.samples, layer_alpha=stored), tmp_path / stored).metrics[
            "ceiling_psnr"
        ]
        for stored in ("straight", "premultiplied")
    ]
    assert psnr[0] != psnr[1]


def test_a_broken_page_is_named(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    page = plain_pages.parent / "wide.png"
    page.write_bytes(page.read_bytes()[:-200])
    with pytest.raises(InputError, match=f"{page}: broken or truncated"):
        run(stage_of(small, unet_3d, plain_pages), tmp_path / "run")


def test_pages_of_one_name_are_refused(
    small: Small, unet_3d: Path, plain_pages: Path, tmp_path: Path
) -> None:
    """Their layers would overwrite each other."""
    other = plain_pages.parent / "more" / "tall.png"
    other.parent.mkdir()
    other.write_bytes((plain_pages.parent / "tall.png").read_bytes())
    plain_pages.write_text(plain_pages.read_text() + "more/tall.png\n")
    with pytest.raises(InputError, match=f"{other}: .*'tall'.*{plain_pages.parent}/tall.png"):
        run(stage_of(small, unet_3d, plain_pages), tmp_path / "run")
