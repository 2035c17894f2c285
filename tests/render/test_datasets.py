"""Every dataset reads what is rendered."""

from pathlib import Path

import pytest

from seethrough.data.depth import DepthDataset2D, DepthDataset3D
from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.partseg import PartSegDataset
from seethrough.data.tags import TAG_GROUPS, TAGS_V2, TAGS_V3
from seethrough.recipe import evolve
from seethrough.render.sample import render_sample
from tests.render.art import avatar, varied

SIDE = 32


@pytest.fixture(scope="module", params=[False, True], ids=["over", "compat"])
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two samples of two characters."""
    folder = tmp_path_factory.mktemp("samples")
    options = varied()
    background = evolve(options.background, zoom=(1.0, 1.0))
    options = evolve(options, compat=request.param, background=background)
    names = []
    for seed in (0, 1):
        character, labels = avatar(folder / "characters", seed)
        sample = render_sample(character, labels, [], options, 0, seed)
        for ending, content in sample.files().items():
            (folder / (sample.name + ending)).write_bytes(content)
        names.append(f"{sample.name}.png\n")
    (folder / "list.txt").write_text("".join(names))
    return folder / "list.txt"


def items(dataset) -> list[dict]:
    """Items of both samples, several draws each."""
    draws = [Draw(0, "train", index // 4, index % 4, index % 2) for index in range(8)]
    return [dataset[draw] for draw in draws]


def test_layerdiff_2d_and_the_vae_read_layers(samples: Path) -> None:
    options = {"sources": [(samples, 1)], "target_size": SIDE}
    for dataset in (
        LayerDiff2DDataset(**options, mask_condition=True),
        LayerDiff2DDataset(**options, caption_files=False, page_alpha="character"),
    ):
        for item in items(dataset):
            assert item["layer"].shape == item["page"].shape == (4, SIDE, SIDE)
            assert item["layer"][0].any()


def test_layerdiff_3d_reads_both_groups(samples: Path) -> None:
    dataset = LayerDiff3DDataset(
        sources=[(samples, 1)], target_size=SIDE, groups=TAG_GROUPS, global_batch=4
    )
    found = items(dataset)
    assert {item["group_index"] for item in found} == {0, 1}
    assert all(item["layers"].shape[0] == len(TAG_GROUPS[item["group_index"]]) for item in found)
    assert all(item["present"].sum() >= 3 for item in found)


def test_depth_2d_and_3d_read_levels(samples: Path) -> None:
    options = {"sources": [(samples, 1)], "target_size": SIDE}
    for item in items(DepthDataset2D(**options)):
        assert item["mask"].any() and item["depth"][item["mask"]].min() < 0
    groups = (TAGS_V2[:11], TAGS_V2[11:])
    for item in items(DepthDataset3D(**options, groups=groups, global_batch=4)):
        assert item["depths"].shape == (len(item["tags"]), 1, SIDE, SIDE)
        assert item["masks"].any()


def test_part_segmentation_reads_masks(samples: Path) -> None:
    dataset = PartSegDataset(sources=[(samples, 1)], tags=TAGS_V3, target_size=SIDE)
    for item in items(dataset):
        assert item["masks"].shape == (len(TAGS_V3), SIDE, SIDE)
        assert item["masks"][TAGS_V3.index("face")].any()
