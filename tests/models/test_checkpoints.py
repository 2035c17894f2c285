"""Reading checkpoints: whole and sharded, and an error for everything that can be wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from seethrough.errors import InputError
from seethrough.models.checkpoints import load_into, load_model, open_base, read_state_dict


def save_vae(folder: Path, width: int = 8, shard_size: str = "10GB") -> AutoencoderKL:
    vae = AutoencoderKL(block_out_channels=(width,), norm_num_groups=4, layers_per_block=1)
    vae.save_pretrained(folder, max_shard_size=shard_size)
    return vae


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_load_model(tmp_path: Path, shard_size: str, dtype: torch.dtype | None) -> None:
    vae = save_vae(tmp_path, shard_size=shard_size)
    loaded = load_model(AutoencoderKL, tmp_path, dtype)
    assert loaded.dtype == (dtype or torch.float32)
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    state = loaded.state_dict()
    for key, value in vae.state_dict().items():
        assert torch.equal(state[key], value.to(loaded.dtype))
    assert loaded.config["scaling_factor"] == vae.config["scaling_factor"]


def test_load_model_with_former_attention_names(tmp_path: Path) -> None:
    vae = save_vae(tmp_path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in vae.state_dict().items():
        for name, former in names.items():
            key = key.replace(f".{name}.", f".{former}.")
        state[key] = value
    assert state.keys() != vae.state_dict().keys()
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    loaded = load_model(AutoencoderKL, tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in vae.state_dict().items())


def test_load_into_keeps_the_modules_dtype_and_storage() -> None:
    module = nn.Linear(2, 3).double()
    weight = module.weight
    load_into(module, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "file")
    assert module.weight is weight
    assert torch.equal(weight, torch.ones(3, 2).double())


def edit_config(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "config.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    return damage


def truncate_weights(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def drop_tensor(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    state = {key: value.clone() for key, value in read_state_dict(file).items()}
    del state["quant_conv.bias"]
    save_file(state, file)


def add_tensor(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    state = {key: value.clone() for key, value in read_state_dict(file).items()}
    save_file(state | {"extra": torch.zeros(1)}, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"config\.json: not found"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "holds list, a JSON object"),
        (
            lambda f: (f / "diffusion_pytorch_model.safetensors").unlink(),
            r"no diffusion_pytorch_model\.safetensors, whole or sharded; the folder holds config",
        ),
        (truncate_weights, "not a readable safetensors file"),
        (
            edit_config(lambda c: c.update(block_out_channels=[16])),
            r"'\S+' has shape \(\S+.*\), but this AutoencoderKL needs \(",
        ),
        (edit_config(lambda c: c.update(down_block_types=["No"])), r"config\.json: .*No"),
        (drop_tensor, "lacks tensors for this AutoencoderKL: 'quant_conv.bias'"),
        (add_tensor, "has unknown tensors for this AutoencoderKL: 'extra'"),
    ],
)
def test_damaged_model(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "vae"
    save_vae(folder)
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load_model(AutoencoderKL, folder)
    assert str(folder) in str(error.value)


def test_missing_shard(tmp_path: Path) -> None:
    save_vae(tmp_path, shard_size="20KB")
    shard = sorted(tmp_path.glob("*-of-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard}: this shard is missing"):
        read_state_dict(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="not a readable index of shards"):
        read_state_dict(tmp_path)


def test_base_names_the_missing_subfolder_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "unet").mkdir()
    base = open_base(tmp_path)
    assert base.require("unet") == tmp_path / "unet"
    with pytest.raises(InputError, match="no subfolder 'text_encoder'; it holds unet, vae"):
        base.require("text_encoder")
    with pytest.raises(InputError, match="no such folder"):
        open_base(tmp_path / "absent")
