"""Every value that was published, in one place, with where it stands; and what ablations change."""

from pathlib import Path

import pytest

from seethrough.data.tags import TAG_GROUPS, TAGS_V2, TRAINING_TAGS
from seethrough.engine.plan import make_plan, missing_inputs
from seethrough.recipe import differences, load
from seethrough.recipes.layer_data import BODY_SIZE_GROUP, HEAD_SIZE_GROUP
from seethrough.recipes.training import TrainStage
from tests.recipes.rules import EXPERIMENTS, V3, is_accepted, not_as_published, problems, values

HEAD_TAGS = (
    "head, front hair, back hair, headwear, face, irides, eyebrow, eyewhite, eyelash, eyewear, "
    "ears, earwear, nose, mouth, neck, neckwear"
)
BODY_TAGS = "topwear, handwear, bottomwear, legwear, footwear, tail, wings, objects"
BODY_GROUP = (
    "front hair, back hair, head, neck, neckwear, topwear, handwear, bottomwear, legwear, "
    "footwear, tail, wings, objects"
)
HEAD_GROUP = (
    "headwear, face, irides, eyebrow, eyewhite, eyelash, eyewear, ears, earwear, nose, mouth"
)

BOTH = {
    "training configurations": {
        "data.random_flip": "0.5",
        "data.random_pad": "0.5",
        "optim": "AdamW",
        "optim.precision": "bf16",
        "schedule.lr_schedule": "constant",
        "schedule.warmup_steps": "500",
        "schedule.checkpoint_every": "4000",
        "schedule.keep_checkpoints": "10",
        "objective.snr_gamma": "5.0",
        "objective.offset_probability": "0.25",
        "objective.empty_prompt_probability": "0.0",
        "model.base": "hub:cagliostrolab/animagine-xl-4.0",
    },
    "required optimizer arguments": {
        "optim.betas": "(0.9, 0.999)",
        "optim.weight_decay": "0.01",
        "optim.eps": "1e-08",
    },
    "defaults of the training programs": {
        "optim.max_grad_norm": "1.0",
        "optim.ema_decay": "none",
        "objective.noise_offset": "0.0",
        "objective.timestep_bias": "none",
        "objective.timestep_bias_multiplier": "1.0",
        "objective.timestep_bias_portion": "0.25",
        "objective.timestep_bias_range": "(0, 1000)",
    },
    "overview of the two models: steps and machine": {
        "schedule.max_steps": "200000",
        "hardware.processes": "8",
        "hardware.device_memory_gib": "141.0",
    },
    "diffusion: SDXL's scheduler predicts the noise; latents without offset are drawn": {
        "objective.prediction_type": "epsilon",
        "objective.posterior": "sample",
    },
    "samples: the page has its background, and an alpha of 1": {"data.page_alpha": "full"},
    "the step: offsets come from LayerDiffuse's files": {
        "model.transparent_vae": "hub:lllyasviel/LayerDiffuse_Diffusers",
    },
}  # fmt: skip
"""Section of the specification in words, and what it says of both training stages."""

TRAIN_2D = {
    "training configurations": {
        "seed": "42",
        "data.target_size": "1024",
        "data.size_groups": f"(({HEAD_TAGS}), ({BODY_TAGS}), ({HEAD_TAGS}, {BODY_TAGS}))",
        "data.mask_condition": "false",
        "data.global_batch": "64",
        "hardware.micro_batch": "8",
        "optim.lr": "3e-05",
        "schedule.pictures_every": "500",
    },
    "2D samples: the own box is one of the crops, and objects are loaded": {
        "data.own_box": "true",
        "data.crop_to": "layers",
        "data.load_objects": "true",
    },
    "2D samples: any layer may be the one, and a text file beside it is its caption": {
        "data.tags": f"({HEAD_TAGS}, {BODY_TAGS})",
        "data.caption_files": "true",
    },
    "options of the datasets": {"data.random_mask": "0.0"},
    "set-up sequence: the base's UNet with LayerDiffuse's weight offsets": {
        "model.unet_delta": "hub:lllyasviel/LayerDiffuse_Diffusers",
        "model.unet": "none",
    },
}

TRAIN_3D = {
    "training configurations": {
        "seed": "64",
        "data.target_size": "1280",
        "data.groups": f"(({BODY_GROUP}), ({HEAD_GROUP}))",
        "data.ngroup_iters": "1",
        "data.global_batch": "64",
        "hardware.micro_batch": "1",
        "hardware.gradient_checkpointing": "true",
        "optim.lr": "4e-05",
        "schedule.pictures_every": "125",
        "tracking.tracker": "wandb",
    },
    "defaults of the training programs": {"model.learn": "all"},
    "3D samples: the crop is the box of the group's tags": {
        "data.crop_to": "layers",
        "data.crop_tags": "()",
        "data.crop_skip_tags": "()",
        "data.pad_frames": "0",
    },
    "training programs: the learning rate across frames is read nowhere": {
        "model.temporal_lr": "none",
    },
    "diffusion: absent frames count fully": {"objective.absent_weight": "1.0"},
}

OTHERS = {
    "extra configuration keys that the V3 flow needs": {
        "inflate.group_embedding": "true",
        "inflate.group_sizes": "(13, 11)",
        "inflate.tag_version": "v3",
        "inflate.seed": "0",
    },
    "inference: command line": {
        "decompose.resolution": "1280",
        "decompose.sampler.steps": "30",
        "decompose.sampler.seed": "42",
    },
    "inference: the pipeline runs in bf16, its averaging breaks off after the first pass": {
        "decompose.precision": "bf16",
        "decompose.averaged_decode": "false",
    },
    "inference: the head is cropped and enlarged for the second pass": {
        "decompose.head_pass": "crop",
    },
    "inference: noise is what the network predicts": {"decompose.prediction_type": "epsilon"},
}


def rows(*tables: tuple[str, dict[str, dict[str, str]]]) -> list[tuple[str, str, str]]:
    return [
        (f"{prefix}{path}", value, section)
        for prefix, table in tables
        for section, entries in table.items()
        for path, value in entries.items()
    ]


PUBLISHED_2D = rows(("train_2d.", BOTH), ("train_2d.", TRAIN_2D))
PUBLISHED = PUBLISHED_2D + rows(("train_3d.", BOTH), ("train_3d.", TRAIN_3D), ("", OTHERS))

OURS = {
    "*.data.sources": "names of sample lists",
    "*.data.layer_alpha": "said once more by the annotation of samples that know",
    "*.data.bad_samples": "execution; the published 2D samples skip, the 3D ones stop",
    "*.data.cache_latents": "execution",
    "*.data.validation": "execution",
    "*.optim.lr_scaling": "the published programs scale no rate, or by a flag that is off",
    "*.deepspeed.*": "the published runs used ZeRO 1 or 2 at the same batch",
    "*.hardware.*": "execution",
    "*.schedule.*": "execution, or of other schedules",
    "*.tracking.*": "execution",
    "train_3d.model.unet": "the chain's wiring",
    "inflate.unet": "the chain's wiring",
    "inflate.dtype": "published in bfloat16, here as trained",
    "decompose.*": "inputs, wiring and machine",
    "environment.*": "execution",
}
"""What no publication says, or what we do otherwise on purpose."""


def test_the_v3_recipe_has_every_published_value() -> None:
    assert not_as_published(V3, PUBLISHED) == []


def test_no_value_is_left_without_a_source() -> None:
    from fnmatch import fnmatch

    draft = load(V3)
    told = {path for path, _, _ in PUBLISHED}
    leaves = {path for path, value in draft.values().items() if not isinstance(value, type)}
    untold = {path for path in leaves - told if not any(fnmatch(path, pattern) for pattern in OURS)}
    assert not untold
    assert told <= set(draft.values())


def test_the_second_iteration_has_its_published_values() -> None:
    found = values(EXPERIMENTS / "layerdiff_iter2.py")
    for path, value, section in PUBLISHED_2D:
        assert found[path] == value, section
    # Training configurations: the true samples 16 times, the synthetic ones once.
    assert found["train_2d.data.sources"] == (
        "((file:l2d_bodysamples_v3.txt, 16), (file:danbooru_synsamples.txt, 1))"
    )
    assert {path.partition(".")[0] for path in found} == {"train_2d", "environment"}


def test_accumulation_is_the_published_one() -> None:
    stages = load(V3).resolve().stages
    accumulation = {
        name: stage.accumulation for name, stage in stages.items() if isinstance(stage, TrainStage)
    }
    assert accumulation == {"train_2d": 1, "train_3d": 8}


def test_parameters_are_known_for_the_published_base_alone() -> None:
    """Parameter counts of the specification, counted on the reference."""
    stages = load(V3).resolve().stages
    train_2d, train_3d = stages["train_2d"], stages["train_3d"]
    assert isinstance(train_2d, TrainStage) and isinstance(train_3d, TrainStage)
    assert (train_2d.parameters, train_3d.parameters) == (2_567_475_204, 4_071_291_140)
    other = load(V3).override([("train_2d.model.base", "file:elsewhere")]).resolve()
    stage = other.stages["train_2d"]
    assert isinstance(stage, TrainStage) and stage.parameters is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ("decompose.prediction_type=sample",),
            ["decompose.prediction_type: train_3d predicts epsilon: make them the same"],
        ),
        (
            ("train_3d.objective.prediction_type=v_prediction",),
            [
                "decompose.prediction_type: train_3d predicts v_prediction: make them the same",
                "train_2d.objective.prediction_type: train_3d predicts v_prediction",
            ],
        ),
        (
            ("inflate.group_sizes=(13,12)",),
            ["inflate.group_sizes: train_3d.data.groups have (13, 11) tags"],
        ),
        (
            ("train_3d.data.groups=((face,nose),(topwear,))",),
            [
                "train_3d.data.groups: not those that inflate.tag_version='v3' decomposes, "
                "in their order",
                "inflate.group_sizes: train_3d.data.groups have (2, 1) tags",
            ],
        ),
        (
            ("inflate.tag_version=v2",),
            [
                "train_3d.data.groups: not those that inflate.tag_version='v2' decomposes, "
                "in their order",
                "inflate.group_embedding: tag_version='v2' has one group and no embedding: "
                "set it false",
            ],
        ),
        (
            ("train_2d.data.mask_condition=true",),
            [
                "train_2d.data.mask_condition: gives the 2D UNet 12 input channels, but the 3D one "
                "has 8: set it to false"
            ],
        ),
        (
            ("train_3d.data.page_alpha=character",),
            [
                "train_3d.data.page_alpha: decompose shows pages with their background: set it to "
                "'full'"
            ],
        ),
        (
            ("train_3d.data.pad_frames=13",),
            [
                "train_3d.data.pad_frames: group embeddings have none for further frames: set it "
                "to 0, or inflate.group_embedding to false"
            ],
        ),
        (
            ("train_2d.data.random_mask=0.5",),
            ["train_2d.data.random_mask: changes what mask_condition shows: needs that, or 0"],
        ),
        (
            ("train_2d.data.tags=(face,fase)", "train_2d.data.size_groups=((noze,),)"),
            [
                "train_2d.data.tags: unknown tag 'fase'; did you mean face?",
                "train_2d.data.size_groups: unknown tag 'noze'; did you mean nose?",
            ],
        ),
        (
            ("train_3d.data.crop_tags=((head,),)", "train_3d.data.crop_skip_tags=(wing,)"),
            [
                "train_3d.data.crop_skip_tags: unknown tag 'wing'; did you mean wings?",
                "train_3d.data.crop_tags: 1 entries for 2 groups",
            ],
        ),
        (
            ("train_3d.model.learn=spatial", "train_3d.model.temporal_lr=1e-5"),
            [
                "train_3d.model.temporal_lr: learn='spatial' trains no blocks across frames: leave "
                "it at none"
            ],
        ),
        (
            ("train_3d.deepspeed.zero_stage=3", "train_3d.hardware.micro_batch=2"),
            [
                "train_3d.data.ngroup_iters: 1 is no multiple of hardware.micro_batch=2: under "
                "ZeRO-3 every process must call the network equally often, so a micro-batch has "
                "one group"
            ],
        ),
        (
            ("decompose.big_tags=(face,cape)",),
            ["decompose.big_tags: 'cape' is no tag of either version"],
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused(flags: tuple[str, ...], expected: list[str]) -> None:
    assert problems(V3, *flags) == expected


def test_stages_that_fit_are_accepted() -> None:
    kinds = ("decompose", "train_2d.objective", "train_3d.objective")
    assert is_accepted(V3, *(f"{kind}.prediction_type=v_prediction" for kind in kinds))
    assert is_accepted(V3, "inflate.group_embedding=false")
    assert is_accepted(V3, "train_3d.deepspeed.zero_stage=3")
    two = ("train_3d.hardware.micro_batch=2", "train_3d.data.ngroup_iters=4")
    assert is_accepted(V3, "train_3d.deepspeed.zero_stage=3", *two)
    assert is_accepted(V3, "train_3d.model.learn=temporal", "train_3d.model.temporal_lr=1e-5")
    iter2 = EXPERIMENTS / "layerdiff_iter2.py"
    assert is_accepted(iter2, "train_2d.data.mask_condition=true", "train_2d.data.random_mask=0.5")


ABLATIONS = {
    "layerdiff3d_low_lr": {"train_3d.optim.lr": (2e-5, 4e-5)},
    "layerdiff3d_drop_absent": {"train_3d.objective.absent_weight": (0.0, 1.0)},
    "layerdiff3d_v2": {
        "train_2d.data.tags": (TAGS_V2, TRAINING_TAGS),
        "train_2d.data.size_groups": (
            (TAGS_V2[:11], TAGS_V2[11:], TAGS_V2),
            (HEAD_SIZE_GROUP, BODY_SIZE_GROUP, HEAD_SIZE_GROUP + BODY_SIZE_GROUP),
        ),
        "inflate.tag_version": ("v2", "v3"),
        "inflate.group_embedding": (False, True),
        "inflate.group_sizes": ((19,), (13, 11)),
        "train_3d.data.groups": ((TAGS_V2,), TAG_GROUPS),
    },
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_in_its_fields_alone(name: str) -> None:
    ablation, base = load(EXPERIMENTS / f"{name}.py"), load(V3)
    found = {d.path: (d.a, d.b) for d in differences(ablation.experiment, base.experiment)}
    assert found == ABLATIONS[name]
    assert isinstance(ablation.experiment, type(base.experiment))


def test_every_experiment_is_known_here() -> None:
    stems = {path.stem for path in EXPERIMENTS.glob("layerdiff*.py")}
    assert stems == {"layerdiff3d_v3", "layerdiff_iter2", *ABLATIONS}


@pytest.mark.parametrize("stage", ["train_2d", "train_3d"])
def test_validation_needs_samples_and_samples_validation(stage: str) -> None:
    every, samples = f"{stage}.schedule.validate_every=100", f"{stage}.data.validation=file:x.txt"
    assert problems(V3, every) == [
        f"{stage}.schedule.validate_every: needs held-out samples: give their list, data.validation"
    ]
    assert problems(V3, samples) == [
        f"{stage}.data.validation: nothing measures them: set schedule.validate_every"
    ]
    assert is_accepted(V3, every, samples)


def test_groups_are_padded_where_no_embedding_counts_their_frames() -> None:
    assert is_accepted(V3, "train_3d.data.pad_frames=11")
    assert is_accepted(V3, "train_3d.data.pad_frames=13", "inflate.group_embedding=false")


def test_held_out_samples_are_no_part_of_what_is_trained(tmp_path: Path) -> None:
    pairs = [("train_2d.schedule.validate_every", "9"), ("train_2d.data.validation", "file:x.txt")]
    plain, validated = (
        {stage.name: stage.made for stage in make_plan(resolved, tmp_path).stages}
        for resolved in (load(V3).resolve(), load(V3).override(pairs).resolve())
    )
    assert validated == plain
    # But it is looked for before anything runs.
    plan = make_plan(load(V3).override(pairs).resolve(), tmp_path)
    missing = missing_inputs(plan, ["train_2d"])
    assert any(line.startswith("train_2d.data.validation: x.txt") for line in missing)
