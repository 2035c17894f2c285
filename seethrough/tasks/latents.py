"""Latents of layers and pages from the frozen autoencoder, kept on disk when that pays."""

import hashlib
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.items import Item
from seethrough.data.padding import bleed_batch
from seethrough.models import TransparentVAE
from seethrough.models.checkpoints import load_model, open_base
from seethrough.recipes.objective import Objective
from seethrough.tasks.items import SampleDatasetT, SampleItems
from seethrough.tasks.noise import normal
from seethrough.tasks.task import Batch

LAYERDIFFUSE_ENCODER = "ld_diffusers_sdxl_vae_transparent_encoder.safetensors"
LAYERDIFFUSE_DECODER = "ld_diffusers_sdxl_vae_transparent_decoder.safetensors"


def load_transparent_vae(folder: Path) -> TransparentVAE:
    """A saved TransparentVAE, or one made from LayerDiffuse's two files, in float32."""
    if (folder / LAYERDIFFUSE_ENCODER).exists():
        model = TransparentVAE()
        model.load_layerdiffuse(folder / LAYERDIFFUSE_ENCODER, folder / LAYERDIFFUSE_DECODER)
    else:
        saved = folder / "trans_vae" if (folder / "trans_vae").is_dir() else folder
        model = load_model(TransparentVAE, saved, torch.float32)
    model.requires_grad_(False)
    return model.eval()


def load_vae(base_folder: Path) -> AutoencoderKL:
    """The autoencoder of a base, in float32."""
    vae = load_model(AutoencoderKL, open_base(base_folder).require("vae"), torch.float32)
    vae.requires_grad_(False)
    return vae.eval()


def network_input(argb: Tensor) -> Tensor:
    """Pictures as networks take them, on their device.

    (N, 4, H, W) uint8 ARGB, straight alpha -> float32 in [0, 1], the colour of transparent pixels
    filled.
    """
    return bleed_batch(argb.float() / 255)


class PictureEncoder(ABC):
    """Encodes pictures one at a time, in float32.

    One at a time, so that a picture's latents don't depend on which others are encoded with it:
    a run that finds them on disk goes on with the same bits as one that computes them.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae
        self.scale = float(vae.config["scaling_factor"])

    @abstractmethod
    def posterior(self, picture: Tensor) -> Tensor:
        """Parts of the posterior of one picture, (parts, C, h, w) float32, unscaled."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that posteriors depend on beside the picture."""

    def to(self, device: torch.device) -> None:
        """Move the frozen networks."""
        nn.Module.to(self.vae, device)


class LatentEncoder(PictureEncoder):
    """Encodes layers and pages with the offset of their transparency."""

    def __init__(
        self, vae: AutoencoderKL, transparent_vae: TransparentVAE, objective: Objective
    ) -> None:
        super().__init__(vae)
        self.transparent_vae = transparent_vae
        self.use_offset = objective.offset_probability > 0
        self.use_noise = objective.posterior == "sample"
        self.offset_probability = objective.offset_probability
        self._empty: dict[int, Tensor] = {}

    def to(self, device: torch.device) -> None:
        super().to(device)
        nn.Module.to(self.transparent_vae, device)

    def fingerprint(self) -> str:
        modules = (self.vae.encoder, self.vae.quant_conv, self.transparent_vae.encoder)
        return weights_hash(f"offset {self.use_offset}", modules)

    @torch.no_grad()
    def posterior(self, picture: Tensor) -> Tensor:
        """Parts of the posterior of one picture, (4, H, W) uint8 ARGB, straight alpha, not filled.

        Returns (parts, C, h, w) float32, unscaled: the mean, the standard deviation, and the
        offset when the objective uses it.
        """
        with torch.autocast(picture.device.type, enabled=False):
            filled = network_input(picture[None])
            mean, std = self.transparent_vae.posterior(self.vae, filled)
            parts = [mean, std]
            if self.use_offset:
                parts.append(self.transparent_vae.offset(filled))
            return torch.cat(parts)

    def empty(self, size: int) -> Tensor:
        """Posterior of an absent layer, all zero, of `size` px; computed once."""
        if size not in self._empty:
            nothing = torch.zeros(4, size, size, dtype=torch.uint8, device=self.vae.device)
            self._empty[size] = self.posterior(nothing)
        return self._empty[size]

    def sample(self, posterior: Tensor, draw: Draw) -> Tensor:
        """Scaled latents (P, C, h, w) of the posteriors of one sample's pictures.

        By the draw: the offset in place of noise for all pictures of a sample, else noise or
        the mean, as the objective says.
        """
        mean, std = posterior[:, 0], posterior[:, 1]
        if self.use_offset and draw.numpy("offset").random() < self.offset_probability:
            return (mean + std * posterior[:, 2]) * self.scale
        if not self.use_noise:
            return mean * self.scale
        (noise,) = normal([draw], "posterior", mean.shape, mean.device)
        return (mean + std * noise) * self.scale


def weights_hash(options: str, modules: Iterable[nn.Module | None]) -> str:
    """Hash of the modules' weights, and of a text."""
    digest = hashlib.sha256(options.encode())
    for module in modules:
        for name, value in module.state_dict().items() if module is not None else ():
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


class LatentStore:
    """Posteriors on disk, one file a picture.

    The key holds the bytes of the sample's files, all else that the picture is made from
    (`Item.key`), and the weights of the encoder: other inputs lie at another place.
    """

    def __init__(self, folder: Path, encoder_fingerprint: str) -> None:
        self.folder = folder
        self.encoder_fingerprint = encoder_fingerprint

    def path(self, key: str) -> Path:
        """Where the picture of a key lies."""
        text = f"{self.encoder_fingerprint}/{key}"
        name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, path: Path) -> Tensor:
        """The posterior, (parts, C, h, w)."""
        return load_file(path)["posterior"]

    def write(self, path: Path, posterior: Tensor) -> None:
        """Store a posterior, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        save_file({"posterior": posterior.cpu().contiguous()}, partial)
        os.replace(partial, path)


class PictureItems(SampleItems[SampleDatasetT]):
    """Items for the tasks: by name the pictures to encode, or posteriors where they are stored.

    An item is what `Item.describe` tells, with `pictures` {name: (4, T, T) uint8}, `posteriors`
    {name: (parts, C, h, w)} and, with a store, `places` {name: path} of the pictures.
    """

    def __init__(self, dataset: SampleDatasetT, store: LatentStore | None) -> None:
        super().__init__(dataset)
        self.store = store
        self._hashes: dict[Path, str] = {}

    def __getitem__(self, draw: Draw) -> Batch:
        return self.opened(self.dataset.item(draw))

    def opened(self, item: Item) -> Batch:
        """What is told of an item, its pictures and posteriors."""
        pictures: dict[str, Tensor] = {}
        posteriors: dict[str, Tensor] = {}
        places: dict[str, Path] = {}
        for name in item.names:
            if self.store is not None:
                place = self.store.path(f"{self._hash(item)} {item.key(name)}")
                if place.exists():
                    posteriors[name] = self.store.read(place)
                    continue
                places[name] = place
            pictures[name] = item.picture(name)
        return {**item.describe(), "pictures": pictures, "posteriors": posteriors, "places": places}

    def _hash(self, item: Item) -> str:
        page = item.sample.page_path
        if page not in self._hashes:
            self._hashes[page] = item.bytes_hash()
        return self._hashes[page]
