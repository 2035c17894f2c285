"""The order of layers by predicted depth: right networks order right, and all is told and kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from seethrough.data.layout import read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.data.tags import HEAD
from seethrough.errors import InputError
from seethrough.inference.parts import cut_parts, layer_depths, order_parts
from seethrough.metrics.depth_order import pair_orders, varying_pairs
from seethrough.models import UNetFrameConditionModel
from seethrough.models.unet import load_unet
from seethrough.recipe import Local, evolve
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.marigold import OrderLayers
from seethrough.tasks.depth_order import (
    Comparison,
    cut_page,
    depth_order_stage,
)
from seethrough.tasks.inflate import inflate_stage
from tests.samples import write_list, write_sample
from tests.tasks.small import SIDE, Small, context

SYSTEMS = ["model", "depth alone", "tag order", "tags and page", "ceiling"]
FACE, HAIR, HAT, CLOTHES = (8, 8, 32, 32), (4, 2, 36, 24), (6, 0, 34, 20), (6, 24, 36, 46)
BACK_TO_FRONT = (("face", FACE), ("front hair", HAIR), ("headwear", HAT), ("topwear", CLOTHES))


def write_characters(folder: Path) -> tuple[Path, Path]:
    """Lists of training and of test characters: of all pairs, that of hat and hair varies."""
    other = (BACK_TO_FRONT[0], BACK_TO_FRONT[2], BACK_TO_FRONT[1], BACK_TO_FRONT[3])
    lists = [
        write_list(
            folder / f"{split}.txt",
            [
                write_sample(folder, f"{split}_{name}", tags=dict(order))
                for name, order in (("a", BACK_TO_FRONT), ("b", other))
            ],
        )
        for split in ("train", "test")
    ]
    return lists[0], lists[1]


@pytest.fixture(scope="module")
def unet(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D UNet that sees the page."""
    folder = tmp_path_factory.mktemp("unet")
    source = Local(str(small.marigold))
    stage = Inflate(unet=source, tag_version="v2", group_embedding=False, group_sizes=(20,))
    converted = inflate_stage(stage, context(stage, folder)).artifacts["unet"]
    network = load_unet(UNetFrameConditionModel, converted, in_channels=12, in_front=True)
    network.save_pretrained(folder / "extended")
    return folder / "extended"


def stage_of(small: Small, unet: Path, lists: tuple[Path, Path]) -> OrderLayers:
    default = OrderLayers(pages=Local(str(lists[1])), known=Local(str(lists[0])))
    return evolve(
        default,
        unet=Local(str(unet)),
        base=small.source("marigold"),
        layer_alpha="straight",
        resolution=SIDE,
        precision="fp32",
        sampler=evolve(default.sampler, steps=1),
        hardware=evolve(default.hardware, threads=1),
    )


def test_the_stage_tells_and_keeps_its_scores(small: Small, unet: Path, tmp_path: Path) -> None:
    stage = stage_of(small, unet, write_characters(tmp_path))
    said: list[str] = []
    folder = tmp_path / "stage"
    folder.mkdir()
    result = depth_order_stage(stage, context(stage, folder, said))
    assert result.artifacts == {"scores": folder / "scores.json", "table": folder / "table.txt"}
    assert said == [(folder / "table.txt").read_text()]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["pages"] == 2 and list(scores["overall"]) == SYSTEMS
    # A hat lies before the hair in the fixed order: right on one page of two.
    assert scores["overall"]["tag order"]["varying_pairs"] == 0.5
    (pair,) = scores["varying_pairs"]
    assert (pair["pair"], pair["count"]) == (["front hair", "headwear"], 2)
    assert pair["tag order"] == 0.5
    assert result.metrics["varying"] == 2 and result.metrics["pairs"] > 6
    for name, values in scores["overall"].items():
        for kind in ("all_pairs", "varying_pairs"):
            assert result.metrics[f"{name.replace(' ', '_')}_{kind}"] == values[kind]
    first, *rows = said[0].splitlines()
    assert first.split() == ["2", "pages", "pairs", *" ".join(SYSTEMS).split()]
    assert [row.split("  ")[0].strip() for row in rows[:2]] == ["all pairs", "varying pairs"]
    assert rows[2].startswith("  front hair, headwear") and " 0.500" in rows[2]
    again = tmp_path / "again"
    again.mkdir()
    depth_order_stage(stage, context(stage, again))
    for name in ("scores.json", "table.txt"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("crop_to", ["page", "character"])
def test_true_depths_order_every_pair_right(tmp_path: Path, crop_to: str) -> None:
    """What is cut and assembled keeps the order; hair comes as one frame."""
    known, pages = (
        [read_sample(page) for page in read_sample_list(path)]
        for path in write_characters(tmp_path)
    )
    comparison = Comparison(varying_pairs(map(pair_orders, known)))
    for sample in pages:
        page = cut_page(sample, crop_to)
        depths = {
            tag: np.where(levels > 0, 1 - levels / page.nearest, 1).astype(np.float32)
            for tag, levels in page.levels.items()
        }
        assert "hair" in depths
        parts = order_parts(cut_parts(page.layers, layer_depths(page.layers, depths)))
        comparison.add(page.orders, {"ceiling": {part.tag: part.depth_median for part in parts}})
    scores = comparison.overall()["ceiling"]
    assert (scores.all_pairs, scores.varying_pairs, scores.varying) == (1.0, 1.0, 2)


def test_a_page_is_cut_alike_to_its_layers(tmp_path: Path) -> None:
    boxes = {"face": FACE, "head": FACE, "back hair": HAIR}
    sample = read_sample(write_sample(tmp_path, "one", (48, 40), boxes))
    page = cut_page(sample, "character")
    x1, y1, x2, y2 = 4, 2, 36, 32
    assert page.layers.keys() == {"face", "back hair"} and HEAD in sample.boxes
    assert page.levels.keys() == {"face", "hair"}
    for plane in (page.rgba, *page.layers.values(), *page.levels.values()):
        assert plane.shape[:2] == (y2 - y1, x2 - x1)
    assert np.array_equal(page.rgba, sample.page()[y1:y2, x1:x2])
    assert np.array_equal(page.layers["face"][6:30, 4:28], sample.layer("face"))
    assert np.array_equal(page.levels["face"] > 0, page.layers["face"][..., 3] > 25)
    assert page.nearest == 3 and page.orders == {("back hair", "face"): True}
    assert cut_page(sample, "page").rgba.shape == (48, 40, 4)


def test_a_page_without_layers_is_refused(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "one")
    (tmp_path / "one_ann.json").unlink()
    with pytest.raises(InputError, match=r"one_ann\.json: no such file; the order of layers"):
        cut_page(read_sample(page), "page")


def test_a_share_of_no_pairs_is_a_dash() -> None:
    comparison = Comparison(frozenset())
    assert comparison.metrics() == {"pairs": 0, "varying": 0}
    assert comparison.table().splitlines()[1].split() == [
        "all",
        "pairs",
        "0",
        *["-"] * len(SYSTEMS),
    ]
