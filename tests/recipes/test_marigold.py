"""Every value of Marigold that was published, in one place, with where it stands."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from seethrough.recipe import differences, flatten, load
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, is_accepted, not_as_published, problems

DEPTH, CHAIN = EXPERIMENTS / "marigold_depth.py", EXPERIMENTS / "marigold3d_v3.py"

HEAD = "headwear, face, eyes, eyewear, ears, earwear, nose, mouth, neck, neckwear"
BODY = "topwear, handwear, bottomwear, legwear, footwear, tail, wings, objects"
ALL = f"hair, {HEAD}, {BODY}"

BOTH = {
    "training loops: configurations": {
        "seed": "42",
        "optim": "AdamW",
        "optim.betas": "(0.9, 0.999)",
        "optim.weight_decay": "0.1",
        "optim.eps": "1e-08",
        "optim.precision": "bf16",
        "data.target_size": "768",
        "data.random_flip": "0.5",
    },
    "training loops: defaults of the programs": {
        "optim.max_grad_norm": "1.0",
        "optim.ema_decay": "none",
    },
    "noise: strength 0.9, annealed, original": {
        "objective.noise": "random",
        "sampler.noise": "random",
        "objective.noise_strength": "0.9",
        "objective.noise_annealed": "true",
        "objective.noise_downscale": "original",
    },
    "loss: a plain mean over uniform timesteps": {
        "objective.snr_gamma": "none",
        "objective.timestep_bias": "none",
    },
    "hub ids": {"model.base": "hub:prs-eth/marigold-depth-v1-1"},
}  # fmt: skip
"""Section of the specification in words, and what it says of both training stages."""

TRAIN_2D = {
    "training loops: configurations": {
        "data.global_batch": "16",
        "hardware.micro_batch": "4",
        "optim.lr": "3e-05",
        "schedule.lr_schedule": "constant",
        "schedule.warmup_steps": "0",
        "schedule.checkpoint_every": "2000",
        "schedule.validate_every": "2000",
        "schedule.pictures_every": "500",
        "data.random_crop": "0.3",
        "data.random_hsv": "0.25",
        "sampler.steps": "1",
    },
    "datasets: options": {
        "data.random_crop_ratio": "0.3",
        "data.flip_horizontal": "0.8",
        "data.flip_vertical": "0.3",
        "data.crop_to": "page",
        "data.transparent": "bled",
        "data.beyond": "far",
    },
    "inflation: the checkpoint that was converted": {"schedule.max_steps": "20000"},
    "overview: base weights": {"model.unet": "none"},
}

TRAIN_3D = {
    "training loops: configurations": {
        "data.global_batch": "8",
        "hardware.micro_batch": "1",
        "optim.lr": "4e-05",
        "schedule.lr_schedule": "constant",
        "schedule.warmup_steps": "500",
        "schedule.checkpoint_every": "2500",
        "schedule.validate_every": "2500",
        "schedule.pictures_every": "125",
        "data.random_pad": "0.5",
        "sampler.steps": "4",
    },
    "datasets: groups of the 3D one": {
        "data.groups": f"((hair, {HEAD}), ({BODY}), ({ALL}))",
        "data.crop_tags": f"(({HEAD}), ({BODY}), ({ALL}))",
        "data.crop_skip_tags": "()",
        "data.crop_to": "layers",
        "data.ngroup_iters": "1",
        "data.page_frame": "true",
        "data.frames.absent": "true",
        "data.frames.transparent": "bled",
        "data.frames.beyond": "far",
    },
    "datasets: configured for 3D but not made": {
        "data.random_crop": "0.0",
        "data.random_hsv": "0.0",
    },
    "loss: absent frames count": {"objective.absent_weight": "1.0"},
}

OTHERS = {
    "inflation": {
        "inflate.group_embedding": "false",
        "inflate.tag_version": "v2",
        "inflate.seed": "0",
    },
}

OURS = {
    "*.data.sources": "names of sample lists",
    "*.data.layer_alpha": "said once more by the annotation of samples that know",
    "*.data.bad_samples": "execution",
    "*.data.cache_latents": "execution",
    "*.data.validation": "execution",
    "*.data.random_crop_ratio": "of crops, which the 3D stage has none of",
    "*.objective.timestep_bias*": "of timesteps that are not uniform",
    "*.optim.lr_scaling": "the published programs scale no rate, or by a flag that is off",
    "*.deepspeed.*": "execution",
    "*.hardware.*": "execution; the published program can't recompute activations",
    "*.schedule.*": "execution, or of other schedules; the published 3D length is 400 epochs",
    "*.tracking.*": "execution",
    "train_3d.model.unet": "the chain's wiring; the published program takes a copy from the hub",
    "inflate.unet": "the chain's wiring",
    "inflate.group_sizes": "of group embeddings, which depth has none of",
    "inflate.dtype": "published in bfloat16, here as trained",
    "depth_order.*": "a stage of ours; what it shows the network is as in training",
    "environment.*": "execution",
}
"""What no publication says, or what we do otherwise on purpose."""


def rows(*tables: tuple[str, dict[str, dict[str, str]]]) -> list[tuple[str, str, str]]:
    return [
        (f"{prefix}{path}", value, section)
        for prefix, table in tables
        for section, entries in table.items()
        for path, value in entries.items()
    ]


PUBLISHED_2D = rows(("train_2d.", BOTH), ("train_2d.", TRAIN_2D))
PUBLISHED = PUBLISHED_2D + rows(("train_3d.", BOTH), ("train_3d.", TRAIN_3D), ("", OTHERS))


@pytest.mark.parametrize(
    ("experiment", "published"), [(DEPTH, PUBLISHED_2D), (CHAIN, PUBLISHED)], ids=["2d", "chain"]
)
def test_the_recipes_have_every_published_value(
    experiment: Path, published: list[tuple[str, str, str]]
) -> None:
    assert not_as_published(experiment, published) == []


def test_no_value_is_left_without_a_source() -> None:
    told = {path for path, _, _ in PUBLISHED}
    leaves = {p for p, value in load(CHAIN).values().items() if not isinstance(value, type)}
    assert not {p for p in leaves - told if not any(fnmatch(p, pattern) for pattern in OURS)}


def test_both_experiments_train_the_same_2d_model() -> None:
    chain, alone = (flatten(load(path).experiment) for path in (CHAIN, DEPTH))
    assert {path: chain[path] for path in alone} == alone
    found = {d.path for d in differences(load(CHAIN).experiment, load(DEPTH).experiment)}
    assert {path.partition(".")[0] for path in found} == {"inflate", "train_3d", "depth_order"}


def test_accumulation_and_parameters() -> None:
    """4 times 4 pages, 8 times 1 character; parameters as counted on the reference."""
    stages = load(CHAIN).resolve().stages
    found = {
        name: (stage.accumulation, stage.parameters)
        for name, stage in stages.items()
        if isinstance(stage, TrainStage)
    }
    assert found == {"train_2d": (4, 865_922_244), "train_3d": (8, 1_213_165_444 + 320 * 4 * 9)}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ("train_2d.model.base=hub:prs-eth/marigold-depth-v1-0",),
            [
                "train_2d.model.base: train_3d has another: its UNet would see other latents than "
                "it learned from"
            ],
        ),
        (
            ("depth_order.base=hub:prs-eth/marigold-depth-v1-0",),
            ["depth_order.base: train_3d has another: its UNet would see other latents"],
        ),
        (
            ("depth_order.resolution=700",),
            ["depth_order.resolution: 700 is no multiple of 8"],
        ),
        (
            ("train_3d.data.page_frame=false",),
            ["inflate.group_sizes: train_3d.data has groups of (11, 8, 19) frames"],
        ),
        (
            ("inflate.tag_version=v3", "inflate.group_embedding=true"),
            ["inflate.group_embedding: depth has no captions to offset: set it to false"],
        ),
        (
            ("train_2d.data.random_crop_ratio=1.0",),
            [
                "train_2d.data.random_crop_ratio: nothing would be left of the crop: needs a share "
                "below 1"
            ],
        ),
        (
            ("train_3d.data.validation=none",),
            [
                "train_3d.schedule.validate_every: needs held-out samples: give their list, "
                "data.validation"
            ],
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused(flags: tuple[str, ...], expected: list[str]) -> None:
    assert problems(CHAIN, *flags) == expected


@pytest.mark.parametrize(
    ("flags", "path", "message"),
    [
        (
            ("train_2d.objective.noise=zeros", "train_2d.sampler.noise=zeros"),
            "train_2d.objective.noise",
            "zeros leave depth in sight before the last timestep: set timestep_bias to 'range' and "
            "timestep_bias_range to (999, 1000)",
        ),
        (
            ("train_3d.sampler.noise=zeros",),
            "train_3d.sampler.steps",
            "a network that was trained without noise tells depth in one: set 1",
        ),
        (
            ("train_2d.sampler.noise=zeros",),
            "train_2d.sampler.noise",
            "differs from objective.noise, 'random'",
        ),
        (
            ("depth_order.sampler.noise=zeros", "depth_order.sampler.steps=1"),
            "depth_order.sampler.noise",
            "differs from train_3d.objective.noise",
        ),
        (
            (
                "depth_order.sampler.noise=zeros",
                "depth_order.sampler.steps=1",
                "depth_order.ensemble=3",
            ),
            "depth_order.ensemble",
            "predictions from zeros are all the same: set 1",
        ),
    ],
)
def test_zeros_for_noise_go_with_one_step_at_the_last_timestep(
    flags: tuple[str, ...], path: str, message: str
) -> None:
    assert f"{path}: {message}" in problems(CHAIN, *flags)


def test_stages_that_fit_are_accepted() -> None:
    sizes = "inflate.group_sizes=(11,8,19)"
    assert is_accepted(CHAIN, "train_3d.data.page_frame=false", sizes)
    assert is_accepted(CHAIN, "train_3d.deepspeed.zero_stage=2")
