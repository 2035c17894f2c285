"""Which model segments: found from the command line, then loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch

from seethrough.decompose.models import cache_folder
from seethrough.engine.hub import download
from seethrough.engine.model_options import read_options
from seethrough.engine.sources import HashCache, snapshot_commit
from seethrough.engine.trained import Trained, trained_transformer
from seethrough.errors import InputError
from seethrough.inference.device import choose_dtype
from seethrough.inference.transparency import (
    MaskOptions,
    Transparency,
    check_resolution,
    load_transparency,
)
from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.published_prompt import FOLDER, read_published_prompt
from seethrough.models.sd3 import transformer_folder
from seethrough.recipe import Hub, Local
from seethrough.recipes.transparency import TRANSFORMER_FILES
from seethrough.segment.options import FILE, ModelOptions, run_options
from seethrough.segment.settings import ModelSettings

BASE_FILES = ("vae", f"{FOLDER}/*.pt")
"""What is read of a repository that `--base` names."""

MODEL_FILES = (*TRANSFORMER_FILES, *BASE_FILES, FILE)
"""What is read of one that `--model` names."""


@attrs.frozen(kw_only=True)
class ModelFiles:
    """Where a model lies on this machine."""

    transformer: Path
    vae: Path
    prompt: Path
    """A file of ours, or the folder of the published two."""
    identity: str
    """What results depend on: a commit of a repository, or hashes."""


@attrs.frozen(kw_only=True)
class Choice:
    """The model of a command line, and how to use it; the same on every process."""

    files: ModelFiles
    timestep: float
    shift: float | None
    options: MaskOptions
    dtype: torch.dtype

    def account(self, device: torch.device) -> str:
        """A line that says what segments, and on what."""
        precision = str(self.dtype).removeprefix("torch.")
        side = self.options.resolution
        return f"model: {self.files.transformer}, {side} px; {precision} on {device.type}"

    def identity(self) -> dict[str, object]:
        """What a mask depends on beside its photo, as records hold it."""
        return {
            "model": self.files.identity,
            "timestep": self.timestep,
            "shift": self.shift,
            "precision": str(self.dtype).removeprefix("torch."),
            **attrs.asdict(self.options),
        }

    def load(self, device: torch.device) -> Transparency:
        """The networks on a device.

        Raises:
            InputError: when a part is missing, broken or of another family, or can't see as large a
            square as the options say.
        """
        prompt = self.files.prompt
        stored = read_published_prompt(prompt) if prompt.is_dir() else read_prompt(prompt)
        files = self.files
        models = load_transparency(
            files.transformer, files.vae, stored, device, self.dtype, self.timestep, self.shift
        )
        check_resolution(models, self.options.resolution)
        return models


def choose(settings: ModelSettings, run: Path | None, device: torch.device) -> Choice:
    """Find the model; what the hub has is downloaded, or found in its cache.

    Args:
        settings: what the flags say.
        run: what `--from` names, if anything.
        device: where it will compute.

    Raises:
        InputError: when it or a part of it is not there.
    """
    if run is None:
        files, options = _given(settings)
    else:
        trained = trained_transformer(run)
        files, options = _of_run(trained), run_options(trained)
    draws = settings.posterior == "sample" or options.shift is not None
    return Choice(
        files=files,
        timestep=options.timestep,
        shift=options.shift,
        options=MaskOptions(
            resolution=settings.resolution or options.resolution,
            classes=options.classes,
            posterior=settings.posterior,
            steps=settings.steps if options.shift is not None else 1,
            seed=settings.seed if draws else 0,
        ),
        dtype=choose_dtype(settings.precision, device),
    )


def _given(settings: ModelSettings) -> tuple[ModelFiles, ModelOptions]:
    """The model that `--model`, `--base` and `--prompt` name; what of it is local is hashed."""
    assert settings.model is not None
    model = _folder(settings.model, "--model", MODEL_FILES)
    base = None if settings.base is None else _folder(settings.base, "--base", BASE_FILES)
    places = [model] if base is None else [base, model]
    vae = next((place / "vae" for place in places if (place / "vae").is_dir()), None)
    if vae is None:
        raise InputError(
            f"{' and '.join(map(str, places))}: no subfolder vae: name with --base what the model"
            " was trained from, such as hub:stabilityai/stable-diffusion-3.5-medium"
        )
    prompt = _prompt(settings.prompt, [model, *places])
    hashes = HashCache(cache_folder())
    transformer = transformer_folder(model)
    hashed = [prompt]
    identities: list[str] = []
    for source, folder, part in ((settings.model, model, transformer), (settings.base, base, vae)):
        if isinstance(source, Hub) and folder is not None:
            identities.append(f"{source.repo}@{snapshot_commit(folder) or source.revision}")
        else:
            hashed.append(part)
    identities += [f"sha256:{hashes.sha256(path)}" for path in hashed]
    files = ModelFiles(
        transformer=transformer, vae=vae, prompt=prompt, identity=" ".join(identities)
    )
    return files, read_options(model / FILE, ModelOptions)


def _folder(source: Hub | Local, flag: str, reads: Sequence[str]) -> Path:
    folder = download(source, flag, reads) if isinstance(source, Hub) else Path(source.path)
    if not folder.is_dir():
        raise InputError(f"{flag}: {folder}: no such folder")
    return folder


def _prompt(given: Local | None, places: list[Path]) -> Path:
    """The stored empty prompt: what `--prompt` names, or what lies beside the model."""
    if given is not None:
        path = Path(given.path)
        if not path.exists():
            raise InputError(f"--prompt: {path}: no such file or folder")
        return path
    for place in places:
        if (place / FOLDER).is_dir():
            return place / FOLDER
    raise InputError(
        f"{places[0]}: no {FOLDER} in it: name with --prompt the folder of the stored empty"
        " prompt, or the file that a run's stage `prompt` left"
    )


def _of_run(trained: Trained) -> ModelFiles:
    inputs = trained.record.inputs
    identities = [trained.record.artifacts["transformer"].sha256]
    for field in ("model.base", "model.prompt"):
        identities.append(inputs[field].content or inputs[field].identity)
    return ModelFiles(
        transformer=trained.transformer,
        vae=trained.input("model.base", ("vae",)) / "vae",
        prompt=trained.input("model.prompt"),
        identity=" ".join(identities),
    )
