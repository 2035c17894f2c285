"""Latents of pages, layers and depths on disk: the same bits as computed, and never stale."""

from pathlib import Path
from typing import Any

import pytest
import torch

from seethrough.data.depth import DepthDataset3D, depth_of
from seethrough.data.items import PAGE
from seethrough.data.layerdiff import LayerDiff3DDataset
from seethrough.data.tags import TAGS_V2
from seethrough.recipe import Local, evolve
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.inflate import inflate_stage
from seethrough.tasks.latents import LatentStore, PictureItems
from seethrough.tasks.marigold import Marigold2D, Marigold3D
from tests.samples import write_list, write_sample
from tests.tasks.small import SIDE, Small, batch, context, draw, stage_depth_2d, stage_depth_3d


@pytest.fixture(scope="module")
def unet(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base's UNet as a conversion leaves it."""
    folder = tmp_path_factory.mktemp("converted")
    source = Local(str(small.marigold))
    stage = Inflate(unet=source, tag_version="v2", group_embedding=False, group_sizes=(20,))
    return inflate_stage(stage, context(stage, folder)).artifacts["unet"]


def make(family: str, small: Small, unet: Path, folder: Path, cache: bool, **data: Any) -> Any:
    stage: Any = stage_depth_2d(small) if family == "2d" else stage_depth_3d(small, unet)
    stage = evolve(stage, data=evolve(stage.data, cache_latents=cache, **data))
    task = Marigold2D if family == "2d" else Marigold3D
    return task(stage, context(stage, folder / "train"))


@pytest.mark.parametrize("family", ["2d", "3d"])
def test_a_stored_item_trains_with_the_same_bits_as_a_fresh_one(
    small: Small, unet: Path, tmp_path: Path, family: str
) -> None:
    task = make(family, small, unet, tmp_path, cache=True)
    model = task.build().eval()
    draws = [draw(0), draw(1)]
    fresh = batch(task, *draws)
    assert all(item["pictures"] and not item["posteriors"] for item in fresh["items"])
    first, weight = task.loss(model, fresh).total, task.weight(fresh)
    files = sorted((tmp_path / "latents").rglob("*.safetensors"))
    assert len(files) == sum(len(item["pictures"]) for item in fresh["items"])
    stored = batch(task, *draws)
    for before, item in zip(fresh["items"], stored["items"], strict=True):
        assert not item["pictures"] and item["posteriors"].keys() == before["pictures"].keys()
        assert {PAGE, depth_of(PAGE)} <= item["posteriors"].keys()
    encoded: list[int] = []
    task.encoder.vae.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    assert torch.equal(task.loss(model, stored).total, first) and task.weight(stored) == weight
    assert not encoded
    plain = make(family, small, unet, tmp_path / "plain", cache=False)
    assert torch.equal(plain.loss(model, batch(plain, *draws)).total, first)
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize("family", ["2d", "3d"])
def test_depth_is_measured_alike_when_latents_are_stored(
    small: Small, unet: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measures need pixels, which stored items come without."""
    monkeypatch.setattr("seethrough.tasks.latent_diffusion.VALIDATION_PLACES", 2)
    held_out = small.source("samples")
    plain, cached = (
        make(family, small, unet, tmp_path, cache=cache, validation=held_out)
        for cache in (False, True)
    )
    model = plain.build().eval()
    with torch.no_grad():
        expected = plain.validate(model)
        # The first time fills the store, the second one reads it.
        assert cached.validate(model) == expected
        assert cached.validate(model) == expected
    assert any(name.startswith("depth/") for name in expected)


def test_a_changed_byte_of_a_depth_changes_the_keys_of_depth_alone(tmp_path: Path) -> None:
    """Those of layers without depth are as if there were none."""
    boxes = {"back hair": (2, 1, 30, 30), "topwear": (4, 20, 36, 46), "front hair": (8, 3, 28, 20)}
    page = write_sample(tmp_path, "one", tags=boxes)
    options: dict[str, Any] = {
        "sources": [(write_list(tmp_path / "list.txt", [page]), 1)], "target_size": SIDE,
        "groups": (TAGS_V2,), "global_batch": 1,
    }  # fmt: skip
    store = LatentStore(tmp_path, "")

    def places(kind: Any) -> dict[str, Path]:
        return PictureItems(kind(**options), store)[draw(0)]["places"]

    depths, layers = places(DepthDataset3D), places(LayerDiff3DDataset)
    names = {"hair", "topwear", PAGE}
    assert depths.keys() == names | {depth_of(name) for name in names}
    assert len(set(depths.values())) == len(depths)
    # V2's hair is made of V3's two: the bytes of these count.
    for name in ("one_depth.png", "one_topwear_depth.png", "one_front hair_depth.png"):
        file = tmp_path / name
        content = file.read_bytes()
        file.write_bytes(content + b"more")
        changed = places(DepthDataset3D)
        assert changed.keys() == depths.keys()
        assert not set(changed.values()) & set(depths.values())
        assert places(LayerDiff3DDataset) == layers
        file.write_bytes(content)
    assert places(DepthDataset3D) == depths
