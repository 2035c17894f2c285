"""The twin: the same stage classes, and no value changed but those that its rule names."""

from fnmatch import fnmatch

import pytest

from seethrough.recipe import (
    Draft,
    Experiment,
    Hub,
    Local,
    Output,
    Source,
    differences,
    flatten,
    identity_values,
    load,
)
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, V3

NAMES = sorted(
    path.stem
    for path in EXPERIMENTS.glob("*.py")
    if type(load(path).experiment).rehearsal is not Experiment.rehearsal
)
"""Of the experiments that have a twin; one that is CPU-sized itself has none."""
DRAWN = (["characters", "vae", "base"], [])
AROUND = {
    "transparency": (["scenes", "vae", "base"], ["scores"]),
    "depth_anything": (["characters", "base"], ["scores"]),
    "partseg": (["characters", "sam"], ["scores"]),
    "transparent_vae": (["characters", "vae"], ["scores"]),
}
"""Stages in front of the chain's and behind them, where they are others than `DRAWN`, by what the
experiment's name begins with."""

RULE = (
    # What comes from outside comes from the stand-ins.
    "prompt.base", "*.model.base", "*.model.transparent_vae", "train_2d.model.unet_delta",
    "*.data.sources", "*.model.weights",
    "decompose.base", "decompose.transparent_vae", "decompose.pages", "decompose.known",
    "depth_order.base", "depth_order.pages", "depth_order.known",
    "*.model.sam",
    # Smaller pictures, whole and not mirrored, so that each is encoded once.
    "*.data.target_size", "*.data.crop_to", "*.data.random_pad", "*.data.random_flip",
    "*.data.cache_latents", "*.objective.posterior", "*.data.random_crop", "*.data.random_hsv",
    "*.data.validation",
    "decompose.resolution", "decompose.head_pass", "decompose.crop_to",
    "depth_order.resolution", "depth_order.crop_to",
    # Depth: layers are shown with their ends; of all tags, as they are used.
    "train_2d.data.transparent", "train_2d.data.beyond", "*.frames.*", "train_3d.data.groups",
    "train_3d.data.crop_tags", "inflate.group_sizes",
    # Of depth one step at the last timestep alone is learnt, and taken.
    "*.objective.noise", "*.sampler.noise",
    "*.objective.timestep_bias", "*.objective.timestep_bias_range",
    "*.objective.timestep_bias_multiplier", "*.sampler.steps",
    # A small adapter of a small network.
    "*.model.control_widths",
    # Fewer steps of fewer samples.
    "*.data.global_batch", "*.schedule.max_steps", "*.schedule.warmup_steps",
    "*.schedule.checkpoint_every", "*.schedule.keep_checkpoints", "*.schedule.pictures_every",
    "*.schedule.log_every", "*.optim.lr", "*.optim.ema_decay",
    "*.loss.sampling.points",
    # Photos are small: blur and noise of their pixels would leave nothing.
    "*.data.target_sizes", "*.data.random_blur", "*.data.random_noise",
    "*.schedule.warmup_epochs", "*.schedule.anneal_steps", "*.schedule.validate_every",
    # Networks of perception can't be made: pixels stand in. The discriminator is smaller.
    "train.model.vae", "train.loss.lpips", "train.loss.convnext", "train.loss.composite_l1",
    "train.adversarial.channels", "train.adversarial.lr",
    # The machine.
    "prompt.dtype", "*.model.vae_precision", "*.deepspeed.zero_stage",
    "*.deepspeed.offload_optimizer", "*.optim.precision", "*.hardware.*", "*.tracking.tracker",
    "decompose.precision", "decompose.pages_at_once", "depth_order.precision",
)  # fmt: skip
"""Paths that the rule may change."""


def named(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in RULE)


def twin(name: str, *flags: str) -> Draft:
    """The twin of an experiment under `path=value` flags."""
    pairs = [tuple(flag.split("=", 1)) for flag in flags]
    return load(EXPERIMENTS / f"{name}.py").override([(p, text) for p, text in pairs]).rehearsal()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_stages_run_behind_the_stand_ins(name: str) -> None:
    full, small = load(EXPERIMENTS / f"{name}.py").experiment, twin(name).resolve()
    chain = {stage: type(value) for stage, value in full.stages().items()}
    found = {stage: type(value) for stage, value in small.stages.items()}
    in_front, behind = next((a for family, a in AROUND.items() if name.startswith(family)), DRAWN)
    assert list(found) == [*in_front, *chain, *behind]
    assert {stage: cls for stage, cls in found.items() if stage in chain} == chain
    assert small.name == f"{name}-rehearsal"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_but_what_the_rule_names(name: str) -> None:
    full, small = (
        flatten(load(EXPERIMENTS / f"{name}.py").experiment),
        flatten(twin(name).experiment),
    )
    changed = {path for path, value in full.items() if small.get(path) != value}
    assert not {path for path in changed if not named(path)}
    # A section's own path holds its class: none is swapped for another.
    assert not {path for path in changed if isinstance(full[path], type)}


def test_the_rule_names_no_more_than_it_changes() -> None:
    changed: set[str] = set()
    for name in (
        "layerdiff3d_v3",
        "marigold3d_v3",
        "transparency_sd35_lora",
        "transparency_sd35",
        "depth_anything_adapter",
        "partseg_samhq",
        "transparent_vae",
    ):
        full = flatten(load(EXPERIMENTS / f"{name}.py").experiment)
        small = flatten(twin(name).experiment)
        changed |= {path for path, value in full.items() if small.get(path) != value}
    assert [p for p in RULE if not any(fnmatch(path, p) for path in changed)] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_outside(name: str) -> None:
    def sources(value: object) -> list[Source]:
        if isinstance(value, tuple):
            return [source for item in value for source in sources(item)]
        return [value] if isinstance(value, Hub | Local | Output) else []

    for path, value in flatten(twin(name).experiment).items():
        assert all(isinstance(source, Output) for source in sources(value)), path


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_one_machine_without_a_gpu(name: str) -> None:
    for stage in twin(name).resolve().stages.values():
        if isinstance(stage, TrainStage):
            assert stage.hardware.device == "cpu"
            assert stage.hardware.processes <= 2 and (stage.hardware.threads or 0) <= 2
            assert stage.optim.precision == "fp32"
            assert stage.data.global_batch <= 64 and stage.schedule.max_steps <= 2000
            assert stage.tracking.tracker is None


def test_what_the_recipe_trains_is_what_is_rehearsed() -> None:
    """Objective, optimizer and sampler of the full recipe, also when a user changed them."""
    flags = (
        "train_2d.objective.prediction_type=v_prediction",
        "train_3d.objective.prediction_type=v_prediction",
        "decompose.prediction_type=v_prediction",
        "train_2d.objective.snr_gamma=none",
        "train_3d.objective.empty_prompt_probability=0.1",
        "train_3d.objective.absent_weight=0.5",
        "train_3d.model.learn=temporal",
        "train_3d.optim=Adafactor",
        "train_2d.optim.max_grad_norm=0.5",
        "train_2d.schedule.lr_schedule=linear",
        "train_3d.data.ngroup_iters=2",
        "train_3d.seed=5",
        "inflate.seed=6",
        "decompose.sampler.shared_noise=true",
        "decompose.sampler.seed=7",
        "decompose.averaged_decode=true",
    )
    small = {path: str(value) for path, value in identity(twin("layerdiff3d_v3", *flags)).items()}
    for flag in flags:
        path, text = flag.split("=")
        assert small[path] == text


def test_the_learning_rate_across_frames_keeps_its_share() -> None:
    values = identity(twin("layerdiff3d_v3", "train_3d.model.temporal_lr=1e-5"))
    rate, others = values["train_3d.model.temporal_lr"], values["train_3d.optim.lr"]
    assert float(rate) / float(others) == pytest.approx(1e-5 / 4e-5)


def identity(draft: Draft) -> dict[str, str]:
    return identity_values(draft.resolve().experiment)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("layerdiff3d_")])
def test_an_ablation_stays_one_when_rehearsed(name: str) -> None:
    """Its twin differs from the base's where it differs from the base: numbers by the same factor,
    everything else by the same values."""
    full = differences(load(EXPERIMENTS / f"{name}.py").experiment, load(V3).experiment)
    small = differences(twin(name).experiment, twin("layerdiff3d_v3").experiment)
    assert [d.path for d in small] == [d.path for d in full]
    for one, other in zip(full, small, strict=True):
        if isinstance(one.b, float):
            assert other.a / other.b == pytest.approx(one.a / one.b)
        else:
            assert (other.a, other.b) == (one.a, one.b)


def test_what_is_validated_is_validated_on_characters_not_trained_on() -> None:
    flags = ("train_3d.schedule.validate_every=500", "train_3d.data.validation=file:held_out.txt")
    stages = twin("layerdiff3d_v3", *flags).resolve().stages
    values = {name: flatten(stages[name]) for name in ("train_2d", "train_3d")}
    assert values["train_3d"]["data.validation"] == Output("characters", "test")
    assert values["train_3d"]["schedule.validate_every"] == 500
    assert values["train_2d"]["data.validation"] is None
