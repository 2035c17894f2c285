"""A LayerDiff 3D stage with all it starts from, made on the spot at a chosen size."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from seethrough.data.avatars_samples import write_characters
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.models import TransparentVAE
from seethrough.models.inflate import inflate
from seethrough.models.small_base import save_small_base
from seethrough.models.unet import load_unet
from seethrough.recipe import Local, evolve
from seethrough.recipes.layerdiff import LayerDiff3DTrain
from seethrough.tasks.layerdiff3d import LayerDiff3D
from seethrough.tasks.task import StageContext

SAMPLES = 4

LATENT_CHANNELS = 4

VAE_LEVELS = 4
"""Of SDXL's autoencoder: latents have an eighth of the picture's side."""


@attrs.frozen
class Size:
    """How large the networks and pictures are; the rest is SDXL's layout and 13 frames."""

    side: int
    """Side of the pictures in px."""
    channels: tuple[int, int, int]
    """Channels of the UNet's levels."""
    layers: int
    """Residual blocks a level."""
    transformer_layers: tuple[int, int, int]
    """Transformer blocks of each attention, by level."""
    heads: tuple[int, int, int]
    """Attention heads by level."""
    vae_channels: tuple[int, int, int, int]
    """Channels of the autoencoder's levels."""
    text_widths: tuple[int, int]
    """Widths of the two text encoders."""
    text_layers: int
    """Layers of each."""


SIZES = {
    "small": Size(
        side=64,
        channels=(16, 32, 32),
        layers=1,
        transformer_layers=(1, 1, 1),
        heads=(1, 2, 2),
        vae_channels=(8, 8, 16, 16),
        text_widths=(32, 32),
        text_layers=2,
    ),
    "medium": Size(
        side=128,
        channels=(32, 64, 128),
        layers=2,
        transformer_layers=(1, 1, 2),
        heads=(1, 2, 4),
        vae_channels=(16, 32, 64, 64),
        text_widths=(64, 96),
        text_layers=4,
    ),
    "baseline": Size(
        side=128,
        channels=(64, 128, 256),
        layers=2,
        transformer_layers=(1, 2, 10),
        heads=(1, 2, 4),
        vae_channels=(32, 64, 128, 128),
        text_widths=(192, 320),
        text_layers=12,
    ),
}
"""Those to choose from. `baseline` has 167 million parameters; the public implementation was
measured at 158 million."""


@contextmanager
def made(size: Size, steps: int) -> Iterator[LayerDiff3D]:
    """The task of a stage of `steps` steps, on the CPU in float32, in a temporary folder."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        stage, paths = _stage(Path(folder), size, steps)
        directory = Path(folder) / "runs" / "bench"
        directory.mkdir(parents=True)
        device = torch.device("cpu")
        yield LayerDiff3D(stage, StageContext("bench", directory, paths, device, _nothing))


def _nothing(text: str) -> None:
    del text


def _stage(folder: Path, size: Size, steps: int) -> tuple[LayerDiff3DTrain, dict[Any, Path]]:
    _write_networks(folder, size)
    samples = write_characters(folder / "samples", "train", SAMPLES, size.side, seed=0)
    base, unet = Local(str(folder / "base")), Local(str(folder / "unet"))
    vae, pages = Local(str(folder / "transparent_vae")), Local(str(samples))
    default = LayerDiff3DTrain()
    stage = evolve(
        default,
        model=evolve(default.model, unet=unet, base=base, transparent_vae=vae),
        data=evolve(
            default.data,
            sources=((pages, 1),),
            global_batch=1,
            target_size=size.side,
            crop_to="character",
            random_flip=0.0,
            random_pad=0.0,
            ngroup_iters=steps,  # always the first group: all steps cost the same
            cache_latents=True,
        ),
        # Plain mean squared error, which a bare loop can compute too.
        objective=evolve(default.objective, snr_gamma=None),
        optim=evolve(default.optim, precision="fp32"),
        schedule=evolve(default.schedule, max_steps=steps, warmup_steps=0, pictures_every=None),
        hardware=evolve(
            default.hardware,
            device="cpu",
            processes=1,
            threads=1,
            micro_batch=1,
            loader_workers=0,
            gradient_checkpointing=False,
        ),
        tracking=evolve(default.tracking, tracker=None),
    )
    return stage, {source: Path(source.path) for source in (base, unet, vae, pages)}


def _write_networks(folder: Path, size: Size) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae_config: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * VAE_LEVELS,
            "up_block_types": ("UpDecoderBlock2D",) * VAE_LEVELS,
            "block_out_channels": size.vae_channels,
            "layers_per_block": 2,
            "latent_channels": LATENT_CHANNELS,
            "norm_num_groups": 8,
        }
        AutoencoderKL(**vae_config).save_pretrained(folder / "vae")
        TransparentVAE(
            encoder_channels=(8, 16, 32, 32),
            block_out_channels=(8, 8, 8, 16, 16),
            layers_per_block=1,
            norm_num_groups=4,
        ).save_pretrained(folder / "transparent_vae")
    save_small_base(
        folder / "base",
        vae=folder / "vae",
        captions=[*TRAINING_TAGS, LEGWEAR_WITH_FOOTWEAR],
        block_out_channels=size.channels,
        layers_per_block=size.layers,
        transformer_layers_per_block=size.transformer_layers,
        attention_heads=size.heads,
        norm_num_groups=16,
        text_widths=size.text_widths,
        text_layers=size.text_layers,
    )
    base_unet = folder / "base" / "unet"
    unet = load_unet(UNet2DConditionModel, base_unet, in_channels=2 * LATENT_CHANNELS)
    unet.save_pretrained(folder / "unet_2d")
    inflate(folder / "unet_2d", folder / "unet")
