"""Which models decompose: found from the command line, then loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from seethrough.decompose.layout import PARTS, Family, family_of
from seethrough.decompose.options import FILE, depth_options, layer_options
from seethrough.decompose.packaged import FOLDER, packaged_model
from seethrough.decompose.settings import Command, Settings
from seethrough.engine.hub import download
from seethrough.engine.model_options import read_options
from seethrough.engine.sources import HashCache, snapshot_commit
from seethrough.engine.trained import Trained, trained_unets
from seethrough.errors import InputError
from seethrough.inference.decompose import DecomposeOptions, LayerDiff
from seethrough.inference.device import choose_device, choose_dtype
from seethrough.inference.marigold import DepthOptions, Marigold, load_marigold
from seethrough.inference.memory import WHOLE, MemoryMode, is_offloaded
from seethrough.recipe import Hub, Local, evolve
from seethrough.tasks.decompose import load_layerdiff

CONFIGS = ("*.json",)
"""Patterns of the files that say how large a model is."""


@attrs.frozen(kw_only=True)
class ModelFiles:
    """Where a model lies on this machine."""

    unet: Path
    """A 3D UNet, or a folder with the subfolder `unet`."""
    base: Path
    """A folder with the autoencoder and text encoders."""
    transparent_vae: Path | None = None
    """A model of layers has one, one of depth has none."""
    identity: str
    """What results depend on: a commit of a repository, or hashes."""


@attrs.frozen(kw_only=True)
class Choice:
    """The models of a command line, and how to use them."""

    layers: ModelFiles
    depth: ModelFiles | None
    options: DecomposeOptions
    depth_options: DepthOptions
    device: torch.device
    dtype: torch.dtype
    memory: MemoryMode = WHOLE

    def account(self) -> Iterator[str]:
        """Lines that say what decomposes, and on what."""
        options = self.options
        precision = str(self.dtype).removeprefix("torch.")
        yield (
            f"layers: {self.layers.unet}, {options.resolution} px, {options.steps} steps; "
            f"{' '.join([precision, *self.memory.flags()])} on {self.device.type}"
        )
        if self.depth is None:
            yield "depth: no model, so parts lie in a fixed drawing order; --depth gives one"
        else:
            side = self.depth_options.resolution
            yield f"depth: {self.depth.unet}, {side} px, {self.depth_options.steps} steps"

    def load_layers(self) -> LayerDiff:
        """The networks that predict layers, on the device; the text encoders are gone.

        Raises:
            InputError: when a part is missing, broken or of another family.
        """
        files = self.layers
        return load_layerdiff(
            files.unet,
            files.base,
            files.transparent_vae or files.base,
            self.device,
            self.dtype,
            cache_folder() / "text",
            self.memory,
        )

    def load_depth(self) -> Marigold | None:
        """The networks that predict depth, in main memory; None when none are chosen.

        Raises:
            InputError: as `load_layers`.
        """
        if self.depth is None:
            return None
        unet, base = self.depth.unet, self.depth.base
        return load_marigold(unet, base, "cpu", self.dtype, self.memory, self.device)


def choose(command: Command, packaged: Path = FOLDER) -> Choice:
    """Find the models; what the hub has is downloaded, or found in its cache.

    `packaged` is where the package's own model lies.

    Raises:
        InputError: when one is not there, or no flag gives a model of layers.
    """
    settings = command.settings
    if settings.model is not None:
        layers, depth = packaged_model(packaged)
        settings = evolve(
            settings,
            layers=Local(str(layers)),
            depth=None if depth is None else Local(str(depth)),
        )
    trained = {} if command.run is None else _by_family(command.run)
    hashes = None if settings.plan else HashCache(cache_folder())
    layers = _given(settings.layers, "layers", hashes)
    if layers is not None:
        options = read_options(layers.base / FILE, DecomposeOptions)
    elif "layers" in trained:
        layers, options = _of_run(trained["layers"]), layer_options(trained["layers"])
    else:
        raise InputError(
            f"{command.run}: no finished stage trained a model of layers: give --layers too"
        )
    depth, of_depth = _given(settings.depth, "depth", hashes), DepthOptions()
    if depth is not None:
        of_depth = read_options(depth.base / FILE, DepthOptions)
    elif "depth" in trained:
        depth, of_depth = _of_run(trained["depth"]), depth_options(trained["depth"])
    device = choose_device(settings.device)
    return Choice(
        layers=layers,
        depth=depth,
        options=attrs.evolve(
            options,
            resolution=settings.resolution or options.resolution,
            steps=settings.steps or options.steps,
            decode_batch=frames_together(settings.resolution or options.resolution),
            skip_absent=not settings.decode_all,
        ),
        depth_options=attrs.evolve(
            of_depth,
            resolution=settings.depth_resolution or of_depth.resolution,
            ensemble=settings.depth_ensemble,
        ),
        device=device,
        dtype=choose_dtype(settings.precision, device),
        memory=_memory(settings, device),
    )


def frames_together(side: int) -> int:
    """How many frames of `side` pixels are decoded at once: as many as fill the published canvas.

    By their size alone, whatever the machine: the number decides how sums are rounded.
    """
    return max(DecomposeOptions().resolution ** 2 // side**2, 1)


def cache_folder() -> Path:
    """Where text embeddings and hashes of local models are kept from one process to the next.

    Raises:
        InputError: when it can't be made.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seethrough"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: can't be made ({error.strerror}): set XDG_CACHE_HOME to a folder of yours"
        ) from error
    return folder


def move(models: Any, device: torch.device) -> None:
    """Move the networks that `models` has as fields to a device, but those that are offloaded."""
    for value in attrs.asdict(models, recurse=False).values():
        if isinstance(value, nn.Module) and not is_offloaded(value):
            value.to(device)


def _given(
    source: Hub | Local | None, family: Family, hashes: HashCache | None
) -> ModelFiles | None:
    """The model that the flag of a family names; one folder holds all its parts.

    Without `hashes` its weights are neither fetched nor read, and it has no identity.
    """
    if source is None:
        return None
    flag = f"--{family}"
    if isinstance(source, Hub):
        folder = download(source, flag) if hashes else download(source, flag, CONFIGS)
    else:
        folder = Path(source.path)
    if not folder.is_dir():
        raise InputError(f"{flag}: {folder}: no such folder")
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    if (other := family_of(names)) not in (None, family):
        raise InputError(f"{flag}: {folder} holds a model of {other}: give it as --{other}")
    if missing := [part for part in PARTS[family] if part not in names]:
        raise InputError(
            f"{flag}: {folder} lacks {', '.join(missing)}: give a whole repository of this kind,"
            " laid out as the published ones"
        )
    if hashes is None:
        identity = ""
    elif isinstance(source, Hub):
        identity = f"{source.repo}@{snapshot_commit(folder) or source.revision}"
    else:
        identity = f"sha256:{hashes.sha256(folder)}"
    return ModelFiles(unet=folder, base=folder, transparent_vae=folder, identity=identity)


def _by_family(run: Path) -> dict[str, Trained]:
    return {"layers" if one.is_layerdiff else "depth": one for one in trained_unets(run)}


def _of_run(trained: Trained) -> ModelFiles:
    inputs = trained.record.inputs
    fields = ["model.base", *(["model.transparent_vae"] if trained.is_layerdiff else [])]
    identities = [trained.record.artifacts["unet"].sha256]
    identities += [inputs[field].content or inputs[field].identity for field in fields]
    paths = [trained.input(field) for field in fields]
    return ModelFiles(
        unet=trained.unet,
        base=paths[0],
        transparent_vae=paths[1] if len(paths) > 1 else None,
        identity=" ".join(identities),
    )


def _memory(settings: Settings, device: torch.device) -> MemoryMode:
    if settings.offload != "none" and device.type == "cpu" and not settings.plan:
        raise InputError(
            f"--offload={settings.offload}: there is nothing to save without a GPU, all computes in"
            " main memory: leave it out"
        )
    return MemoryMode(
        offload=settings.offload, quantize=settings.quantize, vae_tiling=settings.vae_tiling
    )
