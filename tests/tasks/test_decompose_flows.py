"""The V2 flow from conversion to layers, published layouts, and averaged weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from psd_tools import PSDImage

from seethrough.data.tags import TAGS_V2, TRAINING_TAGS
from seethrough.engine.runner import run
from seethrough.errors import InputError
from seethrough.inference.composite import drawing_order
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, read_config, read_state_dict
from seethrough.recipe import Experiment, Local, draft, evolve, recipe
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.layerdiff import Decompose, LayerDiff3DTrain, Sampler
from seethrough.recipes.training import AdamW
from seethrough.tasks.decompose import decompose_stage
from seethrough.tasks.groupwise import GroupwiseUNet
from seethrough.tasks.layerdiff3d import LayerDiff3D
from tests.samples import write_list, write_sample
from tests.tasks.small import SIDE, Small, context, stage_3d

V2_SAMPLES = ("back hair", "front hair", "face", "eyewhite", "irides", "topwear")


@recipe
class Flow(Experiment):
    """Conversion, training and decomposition."""

    inflate: Inflate = Inflate()
    """Conversion."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """Training."""

    decompose: Decompose = Decompose()
    """Decomposition."""


def flow(small: Small, unet_2d: Path, samples: Path, ema_decay: float | None) -> Flow:
    """One step of V2 training."""
    train = stage_3d(small, unet_2d)
    pages = Local(str(samples))
    default = Flow()
    return Flow(
        inflate=Inflate(
            unet=Local(str(unet_2d)),
            tag_version="v2",
            group_embedding=False,
            group_sizes=(len(TAGS_V2),),
        ),
        train_3d=evolve(
            train,
            model=evolve(train.model, unet=default.train_3d.model.unet),
            data=evolve(train.data, sources=((pages, 1),), groups=(TAGS_V2,), global_batch=2),
            optim=AdamW(lr=1e-2, precision="fp32", ema_decay=ema_decay),
            schedule=evolve(train.schedule, max_steps=1, warmup_steps=0, pictures_every=None),
            hardware=evolve(
                train.hardware, device="cpu", processes=1, micro_batch=2, loader_workers=0
            ),
            tracking=evolve(train.tracking, tracker=None),
        ),
        decompose=decompose_of(small, default.decompose.unet, pages),
    )


def decompose_of(small: Small, unet: Any, pages: Any, **changes: Any) -> Decompose:
    stage = Decompose(
        unet=unet,
        base=small.source("base"),
        transparent_vae=small.source("transparent_vae"),
        pages=pages,
        layer_alpha="straight",
        resolution=SIDE,
        sampler=Sampler(steps=2),
        precision="fp32",
    )
    return evolve(stage, **changes)


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


@attrs.frozen
class Ran:
    """A finished chain."""

    folder: Path

    def unet(self, stage: str) -> Path:
        return self.folder / stage / "unet"

    def layers(self, page: str) -> dict[str, np.ndarray]:
        return pictures(self.folder / "decompose" / "layers" / page)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v2")
    pages = [write_sample(folder, name, tags=V2_SAMPLES, seed=3) for name in ("one", "two")]
    return write_list(folder / "list.txt", pages)


@pytest.fixture(scope="module")
def ran(
    small: Small, unet_2d: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ran]:
    """The chain without an average and with one."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    for name, decay in (("last", None), ("averaged", 0.99)):
        run(draft(flow(small, unet_2d, samples, decay), name).resolve(), runs)
    return {name: Ran(runs / name) for name in ("last", "averaged")}


def test_what_a_v2_chain_makes_is_decomposed_by_the_v2_flow(ran: dict[str, Ran]) -> None:
    for stage in ("inflate", "train_3d"):
        config = read_config(ran["last"].unet(stage))
        assert (config["tag_version"], config["group_embedding"]) == ("v2", False)
    assert set(ran["last"].layers("one")) == set(TAGS_V2)


def test_its_psd_and_report_hold_the_v2_tags(ran: dict[str, Ran]) -> None:
    layers, folder = ran["last"].layers("one"), ran["last"].folder / "decompose"
    document = PSDImage.open(folder / "layers" / "one.psd")
    shown = [tag for tag in drawing_order(TAGS_V2) if layers[tag][..., 3].any()]
    assert shown and [layer.name for layer in document] == shown
    html = (folder / "report.html").read_text()
    assert '<th scope="row">hair</th>' in html and "front hair" not in html


def test_its_scores_know_hair_and_eyes_by_their_parts(ran: dict[str, Ran]) -> None:
    scores = json.loads((ran["last"].folder / "decompose" / "scores.json").read_text())
    for system in scores.values():
        assert tuple(system["tags"]) == TAGS_V2
        present = {tag: count for tag, count in system["present"].items() if count}
        assert present == {"hair": 2, "eyes": 2, "face": 2, "topwear": 2}
    assert scores["ceiling"]["tags"]["hair"]["mae"] is not None
    assert scores["ceiling"]["overall"]["big_iou"] is not None


def test_a_decomposition_of_a_run_with_an_average_uses_it(
    ran: dict[str, Ran], small: Small, samples: Path, tmp_path: Path
) -> None:
    start = read_state_dict(ran["last"].unet("inflate"))
    last = read_state_dict(ran["last"].unet("train_3d"))
    averaged = read_state_dict(ran["averaged"].unet("train_3d"))
    # After one step the average's decay is 2/11.
    for name, value in averaged.items():
        torch.testing.assert_close(value, start[name] * 2 / 11 + last[name] * 9 / 11)
    assert any(not torch.equal(value, last[name]) for name, value in averaged.items())
    # What the chain's decomposition shows is what the average alone gives.
    stage = decompose_of(small, Local(str(ran["averaged"].unet("train_3d"))), Local(str(samples)))
    decompose_stage(stage, context(stage, tmp_path))
    alone, chain = pictures(tmp_path / "layers" / "one"), ran["averaged"].layers("one")
    assert all(np.array_equal(alone[tag], chain[tag]) for tag in TAGS_V2)
    other = ran["last"].layers("one")
    assert any(not np.array_equal(alone[tag], other[tag]) for tag in TAGS_V2)


def hub_layout(small: Small, unet: Path, folder: Path) -> Path:
    """All parts in one folder, as published: weights in bfloat16."""
    shutil.copytree(small.base, folder)
    shutil.rmtree(folder / "unet")
    shutil.rmtree(folder / "scheduler")
    network = load_model(UNetFrameConditionModel, unet, torch.bfloat16)
    network.save_pretrained(folder / "unet", max_shard_size="200KB")
    load_model(TransparentVAE, small.transparent_vae, torch.bfloat16).save_pretrained(
        folder / "trans_vae"
    )
    assert (folder / "model_index.json").is_file()
    return folder


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_published_repository_is_base_vae_and_unet_at_once(
    version: str,
    ran: dict[str, Ran],
    small: Small,
    unet_3d: Path,
    samples: Path,
    tmp_path: Path,
) -> None:
    unet = unet_3d if version == "v3" else ran["last"].unet("train_3d")
    repository = Local(str(hub_layout(small, unet, tmp_path / "repository")))
    stage = decompose_of(
        small,
        repository,
        Local(str(samples)),
        base=repository,
        transparent_vae=repository,
        precision="bf16",
    )
    decompose_stage(stage, context(stage, tmp_path / "whole"))
    found = pictures(tmp_path / "whole" / "layers" / "one")
    assert set(found) == set(TAGS_V2 if version == "v2" else TRAINING_TAGS)
    # The same as from folders apart: nothing is read from elsewhere, and nothing is left out.
    apart = evolve(
        stage,
        unet=Local(str(tmp_path / "repository" / "unet")),
        transparent_vae=Local(str(tmp_path / "repository" / "trans_vae")),
        base=small.source("base"),
    )
    decompose_stage(apart, context(apart, tmp_path / "apart"))
    expected = pictures(tmp_path / "apart" / "layers" / "one")
    assert all(np.array_equal(found[tag], expected[tag]) for tag in found)


def test_training_goes_on_from_a_published_repository(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    stage = stage_3d(small, hub_layout(small, unet_3d, tmp_path / "repository"))
    model = LayerDiff3D(stage, context(stage, tmp_path)).build()
    assert isinstance(model, GroupwiseUNet) and model.unet.config["tag_version"] == "v3"


def test_a_unet_of_no_flow_is_named(
    small: Small, unet_2d: Path, samples: Path, tmp_path: Path
) -> None:
    stage = decompose_of(small, Local(str(unet_2d)), Local(str(samples)))
    with pytest.raises(InputError, match=f"{unet_2d}/config.json: .*no blocks across frames"):
        decompose_stage(stage, context(stage, tmp_path))
