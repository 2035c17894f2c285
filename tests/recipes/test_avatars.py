"""The experiment with models of its own: nothing comes from outside, and a CPU can carry it."""

import pytest

from seethrough.recipe import Hub, Local, Output, Source, flatten, load
from seethrough.recipes.layerdiff import Decompose, LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.recipes.marigold import Marigold2DTrain, Marigold3DTrain, OrderLayers
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, is_accepted, problems

AVATARS = EXPERIMENTS / "avatars.py"
STAGES = load(AVATARS).resolve().stages


def sources(value: object) -> list[Source]:
    if isinstance(value, tuple):
        return [source for item in value for source in sources(item)]
    return [value] if isinstance(value, Hub | Local | Output) else []


def test_both_families_are_trained_measured_and_packed() -> None:
    assert list(STAGES) == [
        "characters", "vae", "decoders", "base", "train_2d", "inflate", "train_3d", "decompose",
        "depth_vae", "depth_base", "depth_2d", "depth_inflate", "depth_3d", "depth_order", "pack",
    ]  # fmt: skip
    classes = [LayerDiff2DTrain, LayerDiff3DTrain, Decompose]
    classes += [Marigold2DTrain, Marigold3DTrain, OrderLayers]
    names = ["train_2d", "train_3d", "decompose", "depth_2d", "depth_3d", "depth_order"]
    assert [type(STAGES[name]) for name in names] == classes


def test_every_input_is_made_by_an_earlier_stage() -> None:
    before: set[str] = set()
    for name, stage in STAGES.items():
        given = [source for value in flatten(stage).values() for source in sources(value)]
        assert all(isinstance(source, Output) for source in given)
        assert {source.stage for source in given if isinstance(source, Output)} <= before
        before.add(name)


def test_it_is_measured_on_characters_that_it_does_not_learn_from() -> None:
    for name in ("vae", "train_2d", "train_3d", "depth_2d", "depth_3d"):
        assert flatten(STAGES[name])["data.sources"] == ((Output("characters", "train"), 1),)
    for name in ("decompose", "depth_order"):
        assert flatten(STAGES[name])["pages"] == Output("characters", "test")
        assert flatten(STAGES[name])["known"] == Output("characters", "train")
    assert flatten(STAGES["characters"])["test_count"] >= 64


def test_it_trains_on_two_cores_and_sends_nothing_anywhere() -> None:
    for stage in STAGES.values():
        if isinstance(stage, TrainStage):
            assert stage.hardware.device == "cpu"
            assert stage.hardware.processes * (stage.hardware.threads or 0) == 2
            assert stage.tracking.tracker is None
            assert stage.deepspeed.zero_stage == 0


def test_all_stages_of_a_model_see_pictures_of_one_size() -> None:
    layers = flatten(STAGES["characters"])["size"], "decompose", ("vae", "train_2d", "train_3d")
    depth = 64, "depth_order", ("depth_vae", "depth_2d", "depth_3d")
    for side, measuring, trained in (layers, depth):
        assert flatten(STAGES[measuring])["resolution"] == side
        assert {flatten(STAGES[name])["data.target_size"] for name in trained} == {side}


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("decompose.prediction_type=epsilon", "decompose.prediction_type: train_3d predicts"),
        ("train_3d.data.page_alpha=character", "train_3d.data.page_alpha: decompose shows pages"),
        ("pack.layers=file:unet", "pack.layers: has to be a stage's output"),
        ("depth_inflate.group_sizes=(19,)", "depth_inflate.group_sizes: depth_3d.data has groups"),
        ("depth_order.base=stage:base/base", "depth_order.base: depth_3d has another"),
    ],
)
def test_stages_that_do_not_go_together_are_refused(flag: str, problem: str) -> None:
    assert any(line.startswith(problem) for line in problems(AVATARS, flag))


def test_a_smaller_limit_is_a_choice() -> None:
    assert is_accepted(AVATARS, "pack.limit_mb=5", "pack.precision=bf16")
