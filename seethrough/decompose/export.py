"""A run's model as a folder in the published hub layout, which diffusers' own loaders read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from seethrough.decompose.card import write_card
from seethrough.decompose.options import FILE, depth_options, layer_options
from seethrough.engine.files import clear_disk_errors
from seethrough.engine.model_options import write_options
from seethrough.engine.trained import Trained
from seethrough.errors import InputError
from seethrough.inference.marigold import load_scheduler
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import PACKED, load_model, open_base, read_config
from seethrough.tasks.latents import load_transparent_vae

TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


def export(trained: Trained, folder: Path, dtype: torch.dtype, license: str | None = None) -> None:
    """Write the model and all that it needs, in `dtype`: whole or not at all.

    `unet` is a UNetFrameConditionModel, which diffusers doesn't know: `model_index.json` leaves it
    out, so a pipeline of diffusers is given it, as the published repositories are loaded. So it is
    with `trans_vae`. The scheduler is the one that decomposition uses, and `decompose.json` holds
    its options. README.md is the hub's model card; `license` is the identifier that it states.

    Raises:
        InputError: when the folder holds something, or a part of the model is gone, broken, or of
            4 bits already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: there is something already: give a new folder")
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    with clear_disk_errors(folder.parent):
        _make(partial, folder)
        _save(
            load_model(UNetFrameConditionModel, trained.unet, dtype), partial / "unet", trained.unet
        )
        base = trained.input("model.base")
        vae = open_base(base).require("vae")
        _save(load_model(AutoencoderKL, vae, dtype), partial / "vae", vae)
        if trained.is_layerdiff:
            _export_layerdiff(trained, base, partial, dtype)
        else:
            _export_marigold(trained, base, partial, dtype)
        write_card(partial, trained, dtype, license)
        os.replace(partial, folder)


def _export_layerdiff(trained: Trained, base: Path, folder: Path, dtype: torch.dtype) -> None:
    transparent_vae = load_transparent_vae(trained.input("model.transparent_vae"))
    nn.Module.to(transparent_vae, dtype=dtype)
    transparent_vae.save_pretrained(folder / "trans_vae")
    _copy_text(base, folder, ("", "_2"), dtype)
    options = layer_options(trained)
    DPMSolverMultistepScheduler(**attrs.asdict(options.solver)).save_pretrained(
        folder / "scheduler"
    )
    write_options(folder / FILE, options)
    _write_index(
        folder,
        "StableDiffusionXLPipeline",
        force_zeros_for_empty_prompt=True,
        scheduler=["diffusers", "DPMSolverMultistepScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer=["transformers", "CLIPTokenizer"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
        vae=["diffusers", "AutoencoderKL"],
    )


def _export_marigold(trained: Trained, base: Path, folder: Path, dtype: torch.dtype) -> None:
    _copy_text(base, folder, ("",), dtype)
    load_scheduler(base).save_pretrained(folder / "scheduler")
    options = depth_options(trained)
    write_options(folder / FILE, options)
    _write_index(
        folder,
        "MarigoldDepthPipeline",
        default_denoising_steps=options.steps,
        default_processing_resolution=options.resolution,
        prediction_type="depth",
        scale_invariant=True,
        shift_invariant=True,
        scheduler=["diffusers", "DDIMScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        vae=["diffusers", "AutoencoderKL"],
    )


def _copy_text(base: Path, folder: Path, suffixes: tuple[str, ...], dtype: torch.dtype) -> None:
    """Text encoders in `dtype`, and their tokenizers as they are."""
    opened = open_base(base)
    for suffix in suffixes:
        shutil.copytree(opened.require(f"tokenizer{suffix}"), folder / f"tokenizer{suffix}")
        name = f"text_encoder{suffix}"
        source = opened.require(name)
        if "quantization_config" in read_config(source):
            raise _refuse_packed(source)
        try:
            encoder: Any = TEXT_ENCODERS[name].from_pretrained(
                source, dtype=dtype, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: can't be read as a text encoder ({error})") from error
        encoder.save_pretrained(folder / name)


def _make(partial: Path, folder: Path) -> None:
    try:
        partial.mkdir(parents=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{folder}: can't be written ({error.strerror}): give a folder that can be"
        ) from error


def _save(model: Any, folder: Path, source: Path) -> None:
    if any(PACKED in key for key in model.state_dict()):
        raise _refuse_packed(source)
    model.save_pretrained(folder)


def _refuse_packed(source: Path) -> InputError:
    return InputError(
        f"{source}: its weights are of 4 bits, from which no others can be written: use the"
        " repository that they come from as it is"
    )


def _write_index(folder: Path, pipeline: str, **entries: Any) -> None:
    index = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__, **entries}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
