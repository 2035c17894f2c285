"""Every value of transparency's training that was published, with where it stands."""

import pytest

from seethrough.recipe import RecipeError, differences, load
from seethrough.recipes.glass_scores import GlassScores
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, is_accepted, not_as_published, problems, values

SD35 = EXPERIMENTS / "transparency_sd35.py"

PUBLISHED = {
    "base checkpoint": {
        "model.base": "hub:stabilityai/stable-diffusion-3.5-medium",
        "model.vae_precision": "bf16",
    },
    "config: training": {
        "data.global_batch": "32",
        "hardware.micro_batch": "4",
        "hardware.processes": "4",
        "hardware.gradient_checkpointing": "true",
        "schedule.max_steps": "6751",
        "schedule.checkpoint_every": "157",
        "schedule.validate_every": "157",
        "optim.precision": "bf16",
    },
    "config: learning rate": {
        "optim.lr": "2e-06",
        "optim.lr_scaling": "global_batch",
        "schedule.lr_schedule": "cosine_wave",
        "schedule.periods": "3.5",
        "schedule.floor": "0.1",
        "schedule.warmup_epochs": "1.0",
        "schedule.peaks": "()",
        "schedule.anneal_steps": "0",
    },
    "config: optimizer": {
        "optim": "AdamW",
        "optim.betas": "(0.9, 0.999)",
        "optim.weight_decay": "0.0",
        "optim.eps": "1e-15",
        "optim.max_grad_norm": "1.0",
        "optim.ema_decay": "none",
    },
    "loop: one step": {
        "objective.method": "one_step",
        "objective.timestep": "1000.0",
        "objective.posterior": "sample",
        "objective.latent_mse": "1.0",
        "objective.bce": "0.0",
        "objective.dice": "0.0",
        "objective.boundary": "0.0",
    },
    "branch of the diffusion version": {
        "objective.logit_mean": "0.0",
        "objective.logit_std": "1.0",
        "objective.shift": "3.0",
    },
    "dataset and augmentation": {
        "data.classes": "merged",
        "data.target_sizes": "(1024,)",
        "data.random_flip": "0.5",
        "data.random_colour": "0.5",
        "data.random_blur": "0.3",
        "data.random_noise": "0.3",
    },
    "DeepSpeed": {
        "deepspeed": "OffloadedZero3",
        "deepspeed.zero_stage": "3",
        "deepspeed.offload_optimizer": "cpu",
        "deepspeed.offload_parameters": "none",
    },
}
"""Section of the specification in words, and what it says."""


def test_the_recipe_has_every_published_value() -> None:
    published = [
        (f"train.{path}", value, section)
        for section, entries in PUBLISHED.items()
        for path, value in entries.items()
    ]
    assert not_as_published(SD35, published) == []
    assert values(SD35)["prompt.dtype"] == "bfloat16"


def test_derived_values() -> None:
    """Twice accumulated, at 32 times the rate."""
    train = load(SD35).resolve().stages["train"]
    assert isinstance(train, TrainStage)
    assert (train.accumulation, train.peak_lr, train.parameters) == (2, 6.4e-5, 2_243_171_520)


def test_ablations_change_what_they_say() -> None:
    base = load(SD35).experiment
    pixels = load(EXPERIMENTS / "transparency_sd35_pixels.py").experiment
    assert [d.path for d in differences(pixels, base)] == [
        "train.objective.bce", "train.objective.dice", "train.objective.boundary",
    ]  # fmt: skip
    lora = load(EXPERIMENTS / "transparency_sd35_lora.py").resolve().stages["train"]
    assert lora.outputs == ("transformer", "lora")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("data.target_sizes=(1000,)", "data.target_sizes: 1000 is no multiple of 16"),
        ("data.target_sizes=()", "data.target_sizes: needs at least one side"),
        (
            "objective.latent_mse=0",
            "objective.latent_mse: nothing is left to learn from: give a term a weight",
        ),
        (
            "data.validation=none",
            "schedule.validate_every: goes together with data.validation: give both or none",
        ),
        ("schedule.peaks=((9,0.5),(5,1.0))", "schedule.peaks: steps must rise"),
        ("schedule.anneal_steps=7000", "schedule.anneal_steps: must begin after warm-up"),
    ],
)
def test_values_that_do_not_fit_are_refused(flag: str, expected: str) -> None:
    assert problems(SD35, f"train.{flag}") == [f"train.{expected}"]


def test_pixels_are_of_one_step_and_one_class() -> None:
    pixels = "train.objective.bce=1.0"
    assert problems(SD35, pixels, "train.objective.method=diffusion") == [
        "train.objective.method: diffusion predicts no mask to decode: set bce, dice and boundary "
        "to 0"
    ]
    assert problems(SD35, pixels, "train.data.classes=apart") == [
        "train.data.classes: decoded pixels have one class: merge them, or weigh no pixels"
    ]
    assert is_accepted(SD35, "train.data.classes=apart")
    assert is_accepted(SD35, "train.objective.method=diffusion")


def test_updates_alone_do_not_make_a_base_see_the_photo() -> None:
    lora, diffusion = EXPERIMENTS / "transparency_sd35_lora.py", "train.objective.method=diffusion"
    (problem,) = problems(lora, diffusion)
    assert problem.startswith("train.model.transformer: a base stays blind to the photo")
    assert is_accepted(lora, diffusion, "train.model.transformer=file:trained")


def test_prompt_and_transformer_are_of_one_base() -> None:
    assert problems(SD35, "prompt.base=hub:stabilityai/stable-diffusion-3-medium-diffusers") == [
        "prompt.base: train.model.base is another: its transformer knows other text"
    ]


def test_a_rehearsal_scores_what_it_trains() -> None:
    """Told before the rule, diffusion is scored as such; told after it, both flags are needed."""
    diffusion = [("train.objective.method", "diffusion"), ("train.objective.shift", "2.0")]
    scores = load(SD35).override(diffusion).rehearsal().resolve().stages["scores"]
    assert isinstance(scores, GlassScores)
    assert (scores.shift, scores.steps) == (2.0, 100)
    twin = load(SD35).rehearsal().override(diffusion)
    with pytest.raises(RecipeError, match=r"scores\.shift: train\.objective is scored with 2\.0"):
        twin.resolve()
    twin.override([("scores.shift", "2.0")]).resolve()
