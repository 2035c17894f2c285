"""Every value of part segmentation's training that was published, and where it was mended."""

import pytest

from seethrough.data.tags import TAGS_V3
from seethrough.recipe import Stage, load, show_value
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, is_accepted, not_as_published, problems

SAMHQ = EXPERIMENTS / "partseg_samhq.py"

PUBLISHED = {
    "model_args": {
        "model.sam": "file:sam_hq_vit_h.pth",
        "model.mask_decoder": "mlp_variant",
        "model.freeze_image_encoder": "false",
        "model.freeze_prompt_encoder": "true",
        "model.freeze_mask_decoder": "false",
    },
    "dataset_args, 23 classes": {
        "data.tags": show_value(TAGS_V3),
        "data.target_size": "1024",
        "data.random_flip": "0.5",
        "data.flip_horizontal": "0.8",
        "data.flip_vertical": "0.3",
        "data.random_crop": "0.3",
        "data.random_crop_ratio": "0.3",
        "data.random_hsv": "0.25",
        "data.random_downscale": "0.0",
        "data.downscale_sizes": "(48, 64, 128, 256)",
    },
    "loss": {
        "loss.bce": "1.0",
        "loss.dice": "1.0",
        "loss.sampling.points": "12544",
        "loss.sampling.oversampling": "3.0",
        "loss.sampling.unsure_share": "0.75",
    },
    "optimizer and schedule": {
        "optim": "AdamW",
        "optim.lr": "0.0002",
        "optim.betas": "(0.9, 0.999)",
        "optim.weight_decay": "0.1",
        "optim.eps": "1e-08",
        "optim.max_grad_norm": "1.0",
        "optim.precision": "bf16",
        "schedule.lr_schedule": "constant",
        "schedule.warmup_steps": "1000",
        "schedule.checkpoint_every": "2000",
        "schedule.validate_every": "2000",
        "schedule.pictures_every": "500",
    },
    "batch and machine": {
        "data.global_batch": "32",
        "hardware.processes": "4",
        "hardware.micro_batch": "1",
        "deepspeed.zero_stage": "2",
    },
}
"""Section of the specification in words, and what it says."""


def test_the_recipe_has_every_published_value() -> None:
    published = [
        (f"train.{path}", value, section)
        for section, entries in PUBLISHED.items()
        for path, value in entries.items()
    ]
    assert not_as_published(SAMHQ, published) == []


def sizes_of(stage: Stage) -> tuple[int | None, int | None]:
    """All parameters, and those that are trained."""
    assert isinstance(stage, TrainStage)
    return stage.parameters, stage.trained_parameters


def test_derived_values() -> None:
    train = load(SAMHQ).resolve().stages["train"]
    assert isinstance(train, TrainStage) and train.accumulation == 8
    # The frozen prompt encoder is not trained, nor the estimate of IoUs.
    assert sizes_of(train) == (648_418_128, 648_279_296)
    free = load(SAMHQ).override([("train.model.freeze_prompt_encoder", "false")]).resolve()
    assert sizes_of(free.stages["train"]) == (648_418_128, 648_279_552)
    for flag in ("model.mask_decoder=token_variant", "model.sam=file:other.pth"):
        path, text = flag.split("=")
        other = load(SAMHQ).override([(f"train.{path}", text)]).resolve().stages["train"]
        assert sizes_of(other) == (None, None)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("data.tags=(hairs,)", "data.tags: unknown tag 'hairs'; did you mean hair"),
        ("data.tags=(hair,hair)", "data.tags: needs at least one tag, and each once"),
        ("data.downscale_sizes=()", "data.downscale_sizes: needs at least one side"),
        ("model.sam=none", "model.partseg: give it or sam: training starts from one"),
        ("model.partseg=file:a.pt", "model.partseg: give it or sam: training starts from one"),
        (
            "loss.sampling.oversampling=0.5",
            "loss.sampling.oversampling: 0.5 gives too few points for unsure_share",
        ),
        (
            "data.validation=none",
            "schedule.validate_every: goes together with data.validation: give both or none",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused(flag: str, expected: str) -> None:
    (problem,) = problems(SAMHQ, f"train.{flag}")
    assert problem.startswith(f"train.{expected}")


def test_a_term_may_be_left_out_but_not_both() -> None:
    assert is_accepted(SAMHQ, "train.loss.bce=0")
    assert problems(SAMHQ, "train.loss.bce=0", "train.loss.dice=0") == [
        "train.loss.bce: nothing is left to learn from: give a term a weight"
    ]
