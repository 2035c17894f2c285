"""Every value of Depth Anything's training that was published, and what its fields refuse."""

import pytest

from seethrough.recipe import load
from seethrough.recipes.depth_anything import DepthAnythingAdapterTrain
from tests.recipes.rules import EXPERIMENTS, is_accepted, problems, values

ADAPTER = EXPERIMENTS / "depth_anything_adapter.py"

PUBLISHED = {
    "data.target_size": "518",
    "data.global_batch": "1",
    "data.random_flip": "0.0",
    "data.random_crop": "0.0",
    "data.random_crop_ratio": "0.3",
    "data.random_hsv": "0.0",
    "optim": "AdamW",
    "optim.lr": "3e-05",
    "optim.betas": "(0.9, 0.999)",
    "optim.weight_decay": "0.01",
    "optim.eps": "1e-08",
    "optim.max_grad_norm": "1.0",
    "optim.precision": "bf16",
    "schedule.lr_schedule": "constant",
    "schedule.warmup_steps": "10",
    "schedule.max_steps": "100",
    "schedule.checkpoint_every": "200",
    "schedule.validate_every": "200",
    "schedule.pictures_every": "200",
    "loss.gradient_matching": "1.0",
    "loss.affine_invariant": "1.0",
    "loss.scale_invariant_log": "0.0",
    "loss.scale_before_loss": "true",
    "loss.ignore_mask": "false",
    "model.control_widths": "(128, 256, 512)",
    "model.learn": "all",
}
"""Section 6 of the specification."""


def test_the_recipe_has_every_published_value() -> None:
    found = values(ADAPTER)
    assert {path: found[f"train.{path}"] for path in PUBLISHED} == PUBLISHED


def test_the_plan_knows_how_many_parameters_there_are() -> None:
    def stage(*flags: tuple[str, str]) -> DepthAnythingAdapterTrain:
        train = load(ADAPTER).override(list(flags)).resolve().stages["train"]
        assert isinstance(train, DepthAnythingAdapterTrain)
        return train

    # Those of the published class, whose control has two channels more.
    assert stage().parameters == 351_539_073 - 64 * 2 * 7 * 7
    assert stage().trained_parameters is None
    assert stage(("train.model.learn", "adapter")).trained_parameters == 16_223_424 - 6272
    assert stage(("train.model.control_widths", "(64,64,64)")).parameters is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["loss.gradient_matching=0", "loss.affine_invariant=0"],
            "loss.affine_invariant: nothing is left to learn from: give a term a weight",
        ),
        (
            ["loss.ignore_mask=true", "loss.scale_invariant_log=1"],
            "loss.ignore_mask: the background has no logarithm: set scale_invariant_log to 0",
        ),
        (["model.width=100"], "model.width: 100 is no multiple of heads=6"),
        (["model.depth=6"], "model.depth: 6 is no multiple of 4"),
        (["model.patch=7"], "model.patch: 7 is odd"),
        (
            ["model.weights=none", "data.target_size=512"],
            "data.target_size: 512 is no multiple of model.patch=14",
        ),
        (
            ["model.control_widths=(128,250,512)"],
            "model.control_widths: 250 doesn't split into the groups of normalisation",
        ),
        (["data.tags=(hairs,)"], "data.tags: unknown tag 'hairs'; did you mean hair or ears?"),
        (
            ["data.random_crop_ratio=1"],
            "data.random_crop_ratio: nothing would be left of the crop: needs a share below 1",
        ),
        (
            ["data.validation=none"],
            "schedule.validate_every: needs held-out samples: give their list, data.validation",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused(flags: list[str], expected: str) -> None:
    assert problems(ADAPTER, *(f"train.{flag}" for flag in flags)) == [f"train.{expected}"]


def test_sides_are_multiples_of_patches_alone() -> None:
    assert is_accepted(ADAPTER, "train.data.target_size=532")
