"""Checkpoints with linear layers of 4 bits."""

import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model
from tests.inference.small import small_unet
from tests.models.packed import SKIPPED, save_packed


def plain_unet() -> UNetFrameConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = small_unet(
            addition_embed_type=None, cross_attention_dim=64, block_out_channels=(64, 64)
        )
    return unet.eval()


def output(unet: UNetFrameConditionModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 3, 8, 8, 8, generator=generator).to(unet.dtype)
    text = torch.randn(3, 5, 64, generator=generator).to(unet.dtype)
    with torch.no_grad():
        return unet(noisy, 500, text, return_dict=False)[0].float()


@pytest.mark.parametrize("nested", [False, True], ids=["scales", "scales of scales"])
def test_packed_weights_stay_packed_and_compute_about_the_same(
    tmp_path: Path, nested: bool
) -> None:
    save_packed(plain_unet(), tmp_path, nested)
    unet = load_model(UNetFrameConditionModel, tmp_path)
    layers = {name for name, layer in unet.named_modules() if isinstance(layer, Linear4bit)}
    linear = {n for n, layer in unet.named_modules() if isinstance(layer, nn.Linear)}
    assert {name.split(".")[0] for name in linear - layers} == set(SKIPPED)
    assert all(unet.get_submodule(name).weight.dtype == torch.uint8 for name in layers)
    expected = output(plain_unet())
    error = (output(unet) - expected).norm() / expected.norm()
    assert 0 < error < 0.2


def test_the_type_of_all_that_is_not_packed(tmp_path: Path) -> None:
    save_packed(plain_unet(), tmp_path)
    unet = load_model(UNetFrameConditionModel, tmp_path, torch.bfloat16)
    assert unet.dtype == torch.bfloat16
    assert output(unet).isfinite().all()
    # As whoever loads networks does: it leaves packed weights alone.
    nn.Module.to(unet, "cpu", torch.float32)
    assert unet.dtype == torch.float32
    expected = output(plain_unet())
    assert (output(unet) - expected).norm() / expected.norm() < 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no layer", "'nothing.weight' is packed to 4 bits, but this .* no linear layer there"),
        ("no scales", "can't be unpacked"),
        ("no bias", "lacks tensors"),
        ("another config", r"has shape \(64, 64\), but this .* needs \(64, 32\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path: Path, change: str, message: str) -> None:
    save_packed(plain_unet(), tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    layer = "mid_block.attentions.0.proj_in"
    if change == "no layer":
        packed = [key for key in state if key.startswith(f"{layer}.weight")]
        state |= {key.replace(layer, "nothing"): state[key].clone() for key in packed}
    elif change == "no scales":
        del state[f"{layer}.weight.absmax"]
    elif change == "no bias":
        del state[f"{layer}.bias"]
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["cross_attention_dim"] = 32
        (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state, file)
    with pytest.raises(InputError, match=message):
        load_model(UNetFrameConditionModel, tmp_path)
