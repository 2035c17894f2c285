"""A small base like Stable Diffusion 3.5's, its prompt, and photos with masks, on disk.

Its transformer may pass for a fine-tuned one: what it predicts is a mask like any other.
"""

from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seethrough.models.empty_prompt_sd3 import encode_empty_prompt_sd3, save_prompt
from seethrough.models.small_base_sd3 import save_small_sd3
from seethrough.recipe import Local, evolve
from seethrough.recipes.transparency import TransparencyTrain
from tests.data.photos import write_copy

SIDE = 32
"""Of the squares that it sees, 2 x 2 tokens; it can see up to 512."""

StageT = TypeVar("StageT", bound=TransparencyTrain)


@attrs.frozen
class SmallSD3:
    """Folders and files."""

    base: Path
    prompt: Path
    photos: Path
    """Three photos to train on; one easy and one hard to validate with."""


VAE_CONFIG: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (4, 4, 8, 8),
    "norm_num_groups": 2,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""An autoencoder of 16 latent channels, an eighth of the side."""


def write_small_vae(folder: Path) -> Path:
    """Write the autoencoder: the same bytes at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        vae = AutoencoderKL(**VAE_CONFIG)
        with torch.no_grad():
            # A new network's mask is flat: every pixel on one side of the threshold.
            vae.decoder.conv_out.weight.mul_(6)
    vae.save_pretrained(folder)
    return folder


def write_small_sd3(folder: Path) -> SmallSD3:
    """Write all of it; a function of nothing."""
    base, prompt = folder / "base", folder / "prompt.safetensors"
    save_small_sd3(base, vae=write_small_vae(folder / "vae"))
    save_prompt(prompt, encode_empty_prompt_sd3(base, dtype=torch.float32))
    counts = {"train": 3, "validation/easy": 1, "validation/hard": 1}
    return SmallSD3(base, prompt, write_copy(folder / "photos", counts))


def small_stage(small: SmallSD3, stage: StageT, **objective: Any) -> StageT:
    """The stage on all that is small, in float32; photos are as they are."""
    photos = Local(str(small.photos))
    return evolve(
        stage,
        model=evolve(
            stage.model,
            base=Local(str(small.base)),
            prompt=Local(str(small.prompt)),
            vae_precision="fp32",
        ),
        data=evolve(
            stage.data,
            sources=((photos, 1),),
            target_sizes=(SIDE,),
            random_flip=0.0,
            random_colour=0.0,
            random_blur=0.0,
            random_noise=0.0,
            validation=photos,
        ),
        schedule=evolve(stage.schedule, validate_every=2),
        objective=evolve(stage.objective, **objective),
    )
