"""Keys of the second project's `config.yaml`: arguments in groups, each with a default."""

import math
from typing import Any

from seethrough.import_yaml.rules import Beside, By, Import, Layout, Rule, To, Without, source
from seethrough.recipe import Local, RecipeError
from seethrough.recipes.transparency import TransparencyChain

TRAINING_PHOTOS = 5000
"""Of Trans10K, version 1."""

_ONE_STEP = Without("training in one step draws no noise")


def base(made: Import, value: Any) -> None:
    """The stage that encodes the prompt has the same base."""
    made.put("model.base", source(value))
    made.put_whole("prompt.base", source(value))


def precision(made: Import, name: Any) -> None:
    made.put("optim.precision", name)
    made.put("model.vae_precision", "fp32" if name == "fp32" else "bf16")


def dataset(made: Import, path: Any) -> None:
    made.put("data.sources", ((Local(str(path)), 1),))
    made.put("data.validation", Local(str(path)))


def known_dataset(made: Import, name: Any) -> None:
    if name != "trans10k":
        raise RecipeError(f"{name!r}: the only dataset is trans10k")


def steps(made: Import, epochs: Any) -> None:
    """Batch, and what is counted in epochs: length, checkpoints."""
    micro_batch = made.get("training.train_batch_size")
    accumulation = made.get("training.gradient_accumulation_steps")
    made.put("hardware.processes", made.processes)
    made.put("hardware.micro_batch", micro_batch)
    made.put("data.global_batch", micro_batch * accumulation * made.processes)
    if made.options.processes is None:
        made.open["processes"] = (
            f"how many GPUs it ran on isn't in it: {made.processes}, as in the recipe, unless "
            "--processes says otherwise"
        )
    photos = made.options.samples or TRAINING_PHOTOS
    per_epoch = math.ceil(math.ceil(photos / micro_batch) / (accumulation * made.processes))
    made.put("schedule.max_steps", made.get("training.max_train_steps") or epochs * per_epoch)
    saved = made.get("training.save_checkpoint_epochs")
    every = saved * per_epoch if saved else made.get("training.save_checkpoint_steps")
    if every:
        made.put("schedule.checkpoint_every", every)


def warmup(made: Import, epochs: Any) -> None:
    made.put("schedule.warmup_epochs", epochs)
    counted = made.get("learning_rate_scheduler.lr_warmup_steps")
    made.put("schedule.warmup_steps", 0 if epochs is not None else counted or 0)


def betas(made: Import, first: Any) -> None:
    given = made.get("optimizer.adam_beta2") or made.get("optimizer.beta2")
    made.put("optim.betas", (float(first), float(given)))


RULES: dict[str, Rule] = {
    "model.base_model_path": By(base),
    "model.data_type": By(precision),
    "project_config.output_dir": Without("results go below --runs"),
    "dataset.dataset_path": By(dataset),
    "dataset.dataset_name": By(known_dataset),
    "dataset.val_difficulty": Without("easy, hard and both are measured"),
    "dataset.test_difficulty": Without("easy, hard and both are measured"),
    "dataset.dataloader_num_workers": To("hardware.loader_workers"),
    "prompt_embeds.prompt_embeds_path": Without("the stage `prompt` encodes the empty prompt"),
    "training.resume_from_checkpoint": Without(
        "the same command goes on from the newest checkpoint"
    ),
    "training.epochs": By(steps),
    "training.max_train_steps": Beside("training.epochs"),
    "training.train_batch_size": Beside("training.epochs"),
    "training.gradient_accumulation_steps": Beside("training.epochs"),
    "training.save_checkpoint_steps": Beside("training.epochs"),
    "training.save_checkpoint_epochs": Beside("training.epochs"),
    "training.checkpoint_offset_warmup": Without("the program computes it and ignores it"),
    "training.val_steps": To("schedule.validate_every"),
    "training.num_vals_train": Without("all held-out photos are measured"),
    "validation.load_checkpoint": Without("`python -m seethrough.evaluate` is told a run"),
    "validation.num_vals_test": Without("all photos are measured"),
    "learning_rate_scheduler.lr": To("optim.lr"),
    "learning_rate_scheduler.min_lr_ratio": To("schedule.floor"),
    "learning_rate_scheduler.lr_scheduler": Without("the program always takes the cosine wave"),
    "learning_rate_scheduler.lr_cycles": To("schedule.periods"),
    "learning_rate_scheduler.lr_warmup_epochs": By(warmup),
    "learning_rate_scheduler.lr_warmup_steps": Beside("learning_rate_scheduler.lr_warmup_epochs"),
    "optimizer.adam_beta1": By(betas),
    "optimizer.adam_beta2": Beside("optimizer.adam_beta1"),
    "optimizer.adam_weight_decay": To("optim.weight_decay"),
    "optimizer.adam_epsilon": To("optim.eps"),
    "noise.weighting_scheme": _ONE_STEP,
    "noise.logit_mean": _ONE_STEP,
    "noise.logit_std": _ONE_STEP,
    "noise.mode_scale": _ONE_STEP,
    "gradient_clipping.max_grad_norm": To("optim.max_grad_norm"),
}

TRANSPARENCY = Layout(
    "transparency segmentation",
    TransparencyChain,
    "train",
    # The arguments of Adam may lack their prefix.
    RULES
    | {
        key.replace("adam_", ""): rule
        for key, rule in RULES.items()
        if key.startswith("optimizer.adam_")
    },
    {
        "training.epochs": 43,
        "training.train_batch_size": 4,
        "training.gradient_accumulation_steps": 2,
        "training.save_checkpoint_epochs": 1,
        "learning_rate_scheduler.lr_warmup_epochs": 1,
    },
)
