"""Weights written as a folder in the hub's layout or as one safetensors file, in any type."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.quantizers.quantization_config import BitsAndBytesConfig
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn

from seethrough.checkpoint.settings import Convert
from seethrough.checkpoint.source import Weights, kind_of, open_weights, parts_of, split_part
from seethrough.checkpoint.summary import packed_layers, summary
from seethrough.engine.files import clear_disk_errors
from seethrough.engine.tensor_tree import apart
from seethrough.errors import InputError
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import (
    WEIGHT_NAMES,
    empty_model,
    load_into,
    load_model,
    read_config,
    read_json,
)
from seethrough.models.quantized import pack_linears, split_packed, unpack
from seethrough.models.torch_files import TORCH_SUFFIXES

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

PACKABLE = ("unet", "transformer")
"""Parts of a pipeline that are packed to 4 bits."""

COMBINED = {"vae", "trans_decoder", "trans_encoder"}
"""What names begin with in a checkpoint of the published trainer of transparent autoencoders."""

AUTOENCODERS = ({"vae", "trans_vae"}, {"vae", "transparent_vae"})
"""Parts of a folder that such a checkpoint is made of."""


def convert(text: str, target: Path, settings: Convert) -> str:
    """Write weights as `target`, whole or not at all; returns a line that says what is there.

    A target that ends in .safetensors is one file, any other a folder in the hub's layout.

    Raises:
        InputError: when the source can't be read, lacks tensors that its config asks for, no config
            is known for a folder, a number is too large for fp16, or the target exists.
    """
    if target.exists():
        raise InputError(f"{target}: is there already: give a new name")
    path, part = split_part(text)
    alone = target.suffix == ".safetensors"
    kind = kind_of(path) if part is None else None
    if alone and kind in ("pipeline", "stage") and set(parts_of(path)) in AUTOENCODERS:
        return _combine_autoencoders(path, target, settings)
    if kind == "pipeline":
        return _convert_pipeline(path, target, settings)
    weights = open_weights(text)
    if not alone and {key.partition(".")[0] for key in weights.tensors} <= COMBINED:
        return _split_autoencoders(Path(weights.where), target, settings)
    config = weights.config
    if settings.config is not None:
        given = Path(settings.config)
        config = read_json(given) if given.is_file() else read_config(given)
    if config is None and not alone:
        raise InputError(
            f"{weights.where}: has no config.json, which a folder needs: give --config=FOLDER of a "
            "model like it, or a target that ends in .safetensors"
        )
    tensors, config = _in_dtype(weights, config, settings.dtype)
    with _appearing(target) as partial:
        if alone:
            _save(tensors, partial)
        else:
            assert config is not None
            partial.mkdir()
            _write_folder(tensors, config, partial, settings)
    return f"{target}: {summary(tensors)}"


def _convert_pipeline(path: Path, target: Path, settings: Convert) -> str:
    """All parts of a pipeline, and its other files as they are."""
    if target.suffix == ".safetensors":
        names = ", ".join(f"{path}:{name}" for name in parts_of(path))
        raise InputError(f"{path}: a pipeline's parts don't go into one file: give {names}")
    parts = parts_of(path)
    with _appearing(target) as partial:
        shutil.copytree(path, partial, ignore=_weight_names)
        for name, folder in parts.items():
            weights = open_weights(str(folder))
            dtype = settings.dtype
            if dtype == "nf4" and name not in PACKABLE:
                dtype = "bf16"
            tensors, config = _in_dtype(weights, weights.config, dtype)
            _write_folder(tensors, config or {}, partial / name, settings)
    return f"{target}: {', '.join(parts)} in {settings.dtype}"


def _weight_names(_: str, names: list[str]) -> list[str]:
    """Those of a folder's files that hold weights."""
    ends = (".safetensors", ".safetensors.index.json", *TORCH_SUFFIXES)
    return [name for name in names if name.endswith(ends)]


def _combine_autoencoders(path: Path, target: Path, settings: Convert) -> str:
    """Both in one file, as the published trainer writes them."""
    parts = parts_of(path)
    vae = load_model(AutoencoderKL, parts.pop("vae"))
    (folder,) = parts.values()
    tensors = load_model(TransparentVAE, folder).combined_state(vae)
    tensors, _ = _in_dtype(Weights(str(path), tensors), None, settings.dtype)
    with _appearing(target) as partial:
        _save(tensors, partial)
    return f"{target}: {summary(tensors)}"


def _split_autoencoders(file: Path, target: Path, settings: Convert) -> str:
    """A combined checkpoint as `vae` and `trans_vae`, with the configs and, where it holds none,
    the offset encoder of the folders in `config`."""
    if settings.config is None:
        raise InputError(
            f"{file}: a combined checkpoint of autoencoders: give --config=FOLDER that has `vae` "
            "and `trans_vae` in the hub's layout, or a stage that trained both"
        )
    base = Path(settings.config)
    given = {"vae": base / "vae", "trans_vae": base / "transparent_vae"}
    if not given["trans_vae"].is_dir():
        given["trans_vae"] = base / "trans_vae"
    vae = load_model(AutoencoderKL, given["vae"], torch.float32)
    transparent_vae = load_model(TransparentVAE, given["trans_vae"], torch.float32)
    transparent_vae.load_vae_checkpoint(file, vae)
    with _appearing(target) as partial:
        for name, model in (("vae", vae), ("trans_vae", transparent_vae)):
            folder = partial / name
            folder.mkdir(parents=True)
            weights = Weights(str(file), model.state_dict(), read_config(given[name]))
            tensors, config = _in_dtype(weights, weights.config, settings.dtype)
            _write_folder(tensors, config or {}, folder, settings)
    return f"{target}: vae and trans_vae of {file}"


def _in_dtype(
    weights: Weights, config: Mapping[str, Any] | None, dtype: str
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors in a type, and the config that goes with them.

    Where the network's class is known they are checked against the config, and get the names that
    the class has today.
    """
    tensors = dict(weights.tensors)
    packed = bool(packed_layers(tensors))
    known = None if config is None else dict(config)
    if packed and dtype in ("keep", "nf4"):
        return tensors, known
    if packed:
        tensors = unpack(tensors, weights.where)
    if known is not None:
        known.pop("quantization_config", None)
        model = _fill(known, tensors, weights.where)
        if dtype == "nf4":
            return _pack(model, known, weights.where)
        if model is not None:
            tensors = model.state_dict()
    elif dtype == "nf4":
        raise InputError(
            f"{weights.where}: which of its layers can be packed tells its config alone: give "
            "--config=FOLDER of a model like it"
        )
    if dtype == "keep":
        return tensors, known
    for name in ("dtype", "torch_dtype"):
        if known is not None and name in known:
            known[name] = str(DTYPES[dtype]).removeprefix("torch.")
    return {key: _cast(key, value, dtype, weights.where) for key, value in tensors.items()}, known


def _fill(config: dict[str, Any], tensors: dict[str, Tensor], where: str) -> nn.Module | None:
    """The network with the tensors for weights; None where its class isn't known."""
    name = config.get("_class_name", "")
    ours = {model.__name__: model for model in (TransparentVAE, UNetFrameConditionModel)}
    network = ours.get(name) or getattr(diffusers, name, None)
    if network is None:
        return None
    model = empty_model(network, config, where)
    load_into(model, tensors, where)
    return model


def _pack(
    model: nn.Module | None, config: dict[str, Any], where: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if model is None:
        raise InputError(
            f"{where}: {config.get('_class_name', 'its class')} isn't known here, so its layers "
            "can't be packed"
        )
    pack_linears(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    tensors = model.state_dict()
    packed, _ = split_packed(tensors)
    # bitsandbytes' packed layers are linear ones too: what is left is named, so that loaders that
    # go by the config leave it.
    plain = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name not in packed
    ]
    quantization: Any = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=plain,
    )
    rest = {
        key: value if key.partition(".weight")[0] in packed else _cast(key, value, "bf16", where)
        for key, value in tensors.items()
    }
    return rest, {**config, "quantization_config": quantization.to_dict()}


def _cast(key: str, value: Tensor, dtype: str, where: str) -> Tensor:
    if not value.is_floating_point():
        return value
    cast = value.to(DTYPES[dtype])
    if dtype == "fp16" and not cast.isfinite().all() and value.isfinite().all():
        raise InputError(
            f"{where}: {key!r} has numbers up to {value.abs().max():.3g}, too large for fp16: "
            "choose bf16"
        )
    return cast


def _write_folder(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path, settings: Convert
) -> None:
    """`config.json` and weights, whole or sharded."""
    stem = WEIGHT_NAMES[0] if "_class_name" in config else WEIGHT_NAMES[1]
    shards = split_torch_state_dict_into_shards(
        dict(tensors),
        filename_pattern=stem + "{suffix}.safetensors",
        max_shard_size=int(settings.shard_gb * 1e9),
    )
    for name, keys in shards.filename_to_tensors.items():
        _save({key: tensors[key] for key in keys}, folder / name)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n")


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    whole = {key: value.detach().contiguous() for key, value in tensors.items()}
    save_file(apart(whole), file, metadata={"format": "pt"})


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A place to write at, beside the target, whose name it takes in the end; an error leaves
    neither."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        with clear_disk_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            if partial.is_dir():
                shutil.rmtree(partial)
            yield partial
            os.replace(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise InputError(
                f"{target}: can't be written ({error.strerror}): give a place that can be"
            ) from error
        raise
