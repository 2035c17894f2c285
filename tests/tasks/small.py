"""Small networks and samples of every kind that the tasks start from, on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seethrough.data.draws import Draw
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.models import TransparentVAE
from seethrough.models.small_base import save_small_base, save_small_marigold
from seethrough.recipe import Local, Output, Source, Stage, evolve, flatten
from seethrough.recipes.layer_data import PictureData
from seethrough.recipes.layerdiff import (
    LayerDiff2DTrain,
    LayerDiff3DTrain,
)
from seethrough.recipes.marigold import Marigold2DTrain, Marigold3DTrain
from seethrough.recipes.objective import Objective, Objective3D
from seethrough.tasks.datasets import AUGMENTATIONS
from seethrough.tasks.task import Batch, StageContext, Task
from tests.samples import write_list, write_sample

SIDE = 32
SCALING = 0.4

TaskT = TypeVar("TaskT", bound=Task[Any])
DataT = TypeVar("DataT", bound=PictureData)


@attrs.frozen
class Small:
    """Folders and files."""

    base: Path
    marigold: Path
    """A base like Marigold's, with the same autoencoder."""
    transparent_vae: Path
    samples: Path
    """Sample list: `body` has layers of the body group alone, `head` of the head group too."""

    def source(self, name: str) -> Source:
        return Local(str(getattr(self, name)))


def write_small(folder: Path) -> Small:
    """Write all of it; a function of nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        vae_config: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (4, 4, 8, 8),
            "norm_num_groups": 2,
            "scaling_factor": SCALING,
        }
        vae = AutoencoderKL(**vae_config)
        transparent_vae = TransparentVAE(
            encoder_channels=(4, 4, 4, 4),
            block_out_channels=(4, 4, 4, 8, 8),
            layers_per_block=1,
            norm_num_groups=2,
            attention_head_dim=4,
        )
        # A new offset encoder gives zeros: no test of offsets could tell them from the mean.
        torch.nn.init.normal_(transparent_vae.encoder.model.blocks[-1].weight, std=0.01)  # pyright: ignore[reportArgumentType]
    vae.save_pretrained(folder / "vae")
    transparent_vae.save_pretrained(folder / "transparent_vae")
    save_small_base(
        folder / "base",
        vae=folder / "vae",
        captions=[*TRAINING_TAGS, LEGWEAR_WITH_FOOTWEAR],
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        text_widths=(12, 8),
        text_length=6,
        addition_time_embed_dim=4,
    )
    save_small_marigold(
        folder / "marigold",
        vae=folder / "vae",
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        text_width=12,
    )
    pages = [
        write_sample(folder, "body", tags=("back hair", "topwear", "legwear"), seed=1),
        write_sample(folder, "head", tags=("topwear", "head", "face", "mouth"), seed=2),
    ]
    return Small(
        base=folder / "base",
        marigold=folder / "marigold",
        transparent_vae=folder / "transparent_vae",
        samples=write_list(folder / "list.txt", pages),
    )


def small_data(data: DataT, small: Small) -> DataT:
    """The samples, at a size to match; nothing random but the choice of tag."""
    off = {name: 0.0 for name in AUGMENTATIONS if hasattr(data, name)}
    return evolve(
        data,
        sources=((small.source("samples"), 1),),
        target_size=SIDE,
        layer_alpha="straight",
        **off,
    )


def stage_2d(small: Small, objective: Objective | None = None) -> LayerDiff2DTrain:
    """2D training on all that is small; latents are the posterior's mean unless told otherwise."""
    default = LayerDiff2DTrain()
    return evolve(
        default,
        model=evolve(
            default.model,
            base=small.source("base"),
            unet_delta=None,
            transparent_vae=small.source("transparent_vae"),
        ),
        data=small_data(default.data, small),
        objective=objective or Objective(offset_probability=0.0, posterior="mean"),
    )


def stage_3d(small: Small, unet: Path, objective: Objective3D | None = None) -> LayerDiff3DTrain:
    """3D training likewise, from a 3D UNet."""
    default = LayerDiff3DTrain()
    return evolve(
        default,
        model=evolve(
            default.model,
            unet=Local(str(unet)),
            base=small.source("base"),
            transparent_vae=small.source("transparent_vae"),
        ),
        data=small_data(default.data, small),
        objective=objective or Objective3D(offset_probability=0.0, posterior="mean"),
    )


def stage_depth_2d(small: Small) -> Marigold2DTrain:
    """2D training of depth on all that is small."""
    default = Marigold2DTrain()
    return evolve(
        default,
        model=evolve(default.model, base=small.source("marigold")),
        data=small_data(default.data, small),
    )


def stage_depth_3d(small: Small, unet: Path) -> Marigold3DTrain:
    """3D training of depth likewise, from a 3D UNet."""
    default = Marigold3DTrain()
    return evolve(
        default,
        model=evolve(default.model, unet=Local(str(unet)), base=small.source("marigold")),
        data=small_data(default.data, small),
    )


def context(stage: Stage, directory: Path, said: list[str] | None = None) -> StageContext:
    """What the engine would hand to a stage whose sources are all local; `said` gets its lines."""
    named = [leaf for value in flatten(stage).values() for leaf in _leaves(value)]
    assert not any(isinstance(value, Output) for value in named)
    paths: dict[Source, Path] = {v: Path(v.path) for v in named if isinstance(v, Local)}
    report = said.append if said is not None else lambda text: None
    return StageContext("small", directory, paths, torch.device("cpu"), report)


def draw(index: int, sample: int | None = None, step: int = 0) -> Draw:
    """Place `index` of a step; the sample is the index unless given."""
    row = index if sample is None else sample
    return Draw(seed=0, stage="small", step=step, index=index, sample=row)


def batch(task: Task[Any], *draws: Draw) -> Batch:
    """The micro-batch of these draws."""
    dataset: Any = task.dataset()
    return task.collate([dataset[draw] for draw in draws])


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
