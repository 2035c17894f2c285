"""Rules of the sections that every training stage is made of."""

import pytest

from seethrough.recipe import evolve, load
from seethrough.recipes.training import Schedule, TrainStage
from tests.recipes.rules import EXPERIMENTS, V3, is_accepted, problems

ITER2 = EXPERIMENTS / "layerdiff_iter2.py"


def stage(*flags: str) -> TrainStage:
    pairs = [tuple(flag.split("=", 1)) for flag in flags]
    resolved = load(ITER2).override([(path, text) for path, text in pairs]).resolve()
    train = resolved.stages["train_2d"]
    assert isinstance(train, TrainStage)
    return train


def test_accumulation_follows_from_the_batch_and_the_machine() -> None:
    assert stage().accumulation == 1
    assert stage("train_2d.hardware.processes=1").accumulation == 8
    few = ("train_2d.hardware.processes=2", "train_2d.hardware.micro_batch=4")
    assert stage(*few).accumulation == 8
    assert stage(*few, "train_2d.data.global_batch=24").accumulation == 3


def test_a_batch_that_does_not_split_is_refused() -> None:
    assert problems(ITER2, "train_2d.hardware.processes=3") == [
        "train_2d.data.global_batch: 64 doesn't split over processes=3 x micro_batch=8"
    ]
    assert problems(ITER2, "train_2d.data.global_batch=32") == [
        "train_2d.data.global_batch: 32 doesn't split over processes=8 x micro_batch=8"
    ]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ("schedule.max_steps=500",),
            "schedule.warmup_steps: warm-up must end before max_steps=500",
        ),
        (
            ("schedule.lr_schedule=piecewise", "schedule.pieces=((20,0.5),(10,0.1))"),
            "schedule.pieces: steps must rise",
        ),
        (
            ("schedule.lr_schedule=piecewise", "schedule.pieces=((10,0.5),(10,0.1))"),
            "schedule.pieces: steps must rise",
        ),
        (
            ("schedule.lr_schedule=piecewise",),
            "schedule.pieces: belongs to lr_schedule=piecewise, and that needs at least one piece",
        ),
        (
            ("schedule.pieces=((10,0.5),)",),
            "schedule.pieces: belongs to lr_schedule=piecewise, and that needs at least one piece",
        ),
        (
            ("optim.precision=fp16", "hardware.device=cpu"),
            "optim.precision: fp16 needs a GPU: use bf16 or fp32 on the CPU",
        ),
        (
            ("data.target_size=1000",),
            "data.target_size: 1000 is no multiple of 32",
        ),
        (
            ("objective.timestep_bias=range", "objective.timestep_bias_range=(700,600)"),
            "objective.timestep_bias_range: needs first < end <= 1000",
        ),
        (
            ("objective.timestep_bias=range", "objective.timestep_bias_range=(0,1001)"),
            "objective.timestep_bias_range: needs first < end <= 1000",
        ),
    ],
)  # fmt: skip
def test_rules_across_fields(flags: tuple[str, ...], problem: str) -> None:
    for name in ("train_2d", "train_3d"):
        found = problems(V3, *(f"{name}.{flag}" for flag in flags))
        assert found == [f"{name}.{problem}"]


@pytest.mark.parametrize(
    "flags",
    [
        ("schedule.max_steps=501",),
        ("schedule.lr_schedule=piecewise", "schedule.pieces=((10,0.5),(20,0.1))"),
        ("optim.precision=fp16",),
        ("optim.precision=bf16", "hardware.device=cpu"),
        ("data.target_size=992",),
        ("objective.timestep_bias=range", "objective.timestep_bias_range=(999,1000)"),
        # The range plays no part in other strategies.
        ("objective.timestep_bias=later", "objective.timestep_bias_range=(700,600)"),
    ],
)
def test_what_the_rules_let_pass(flags: tuple[str, ...]) -> None:
    assert is_accepted(V3, *(f"train_3d.{flag}" for flag in flags))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ("deepspeed.offload_optimizer=cpu",),
            "deepspeed.offload_optimizer: needs zero_stage of at least 1",
        ),
        (
            ("deepspeed.zero_stage=2", "deepspeed.offload_parameters=cpu"),
            "deepspeed.offload_parameters: needs zero_stage=3",
        ),
        (
            ("deepspeed.zero_stage=3", "deepspeed.offload_parameters=nvme"),
            "deepspeed.nvme_path: belongs to offload_parameters=nvme, and that needs it",
        ),
        (
            ("deepspeed.nvme_path=/scratch",),
            "deepspeed.nvme_path: belongs to offload_parameters=nvme, and that needs it",
        ),
        (
            ("deepspeed.zero_stage=1", "optim=AdamW8bit"),
            "optim: deepspeed.zero_stage=1 cuts its state anywhere, which only AdamW's allows",
        ),
        (
            ("deepspeed.zero_stage=1", "hardware.channels_last=true"),
            "hardware.channels_last: deepspeed.zero_stage=1 lays weights out end to end: set it to "
            "false",
        ),
        (
            ("deepspeed.zero_stage=2", "optim.precision=fp16"),
            "optim.precision: deepspeed.zero_stage=2 trains in bf16 or fp32",
        ),
    ],
)
def test_rules_of_zero(flags: tuple[str, ...], problem: str) -> None:
    found = problems(ITER2, *(f"train_2d.{flag}" for flag in flags))
    assert found == [f"train_2d.{problem}"]


def test_what_zero_lets_pass() -> None:
    offload = ("deepspeed.offload_optimizer=cpu", "deepspeed.offload_parameters=nvme")
    flags = ("deepspeed.zero_stage=3", *offload, "deepspeed.nvme_path=/scratch")
    assert is_accepted(ITER2, *(f"train_2d.{flag}" for flag in flags))
    assert is_accepted(ITER2, "train_2d.optim=AdamW8bit")


def test_values_that_a_user_must_give_are_named() -> None:
    """A training stage of no family: its samples and its length are nobody's default."""
    from seethrough.recipe import REQUIRED

    made = TrainStage()
    assert made.data.sources is REQUIRED and made.schedule.max_steps is REQUIRED
    assert list(evolve(Schedule(), max_steps=501).check()) == []
