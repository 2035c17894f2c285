"""UNets to start from: more input channels, LayerDiffuse's offsets."""

from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.unet import extend_input_channels, load_unet
from tests.data.parity import rule

SD_SHAPED = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}

FRAME_SHAPED = SD_SHAPED | {
    "in_channels": 8,
    "down_block_types": ["DownBlock2D", "CrossFrameAttnDownBlock"],
    "mid_block_type": "UNetMidBlockCrossFrameAttn",
    "up_block_types": ["CrossFrameAttnUpBlock", "UpBlock2D"],
}


def saved_unet(folder: Path) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**SD_SHAPED)
    rule.fill(unet)
    unet.save_pretrained(folder)
    return unet


def test_extended_convolution_ignores_the_new_channels() -> None:
    conv = nn.Conv2d(4, 5, 3)
    weight = extend_input_channels(conv.weight, 8)
    assert weight.shape == (5, 8, 3, 3)
    assert torch.equal(weight[:, :4], conv.weight)
    assert weight[:, 4:].abs().max() == 0
    with pytest.raises(ValueError, match="has 8 input channels, more than 4"):
        extend_input_channels(weight, 4)


def test_extended_unet_begins_as_the_base(tmp_path: Path) -> None:
    base = saved_unet(tmp_path)
    unet = load_unet(UNet2DConditionModel, tmp_path, in_channels=8)
    assert unet.config["in_channels"] == 8
    sample, text = torch.randn(2, 8, 8, 8), torch.randn(2, 5, 12)
    torch.testing.assert_close(unet(sample, 9, text).sample, base(sample[:, :4], 9, text).sample)
    with pytest.raises(InputError, match="takes 4 input channels, more than the 3"):
        load_unet(UNet2DConditionModel, tmp_path, in_channels=3)


def test_channels_in_front_move_the_others_back(tmp_path: Path) -> None:
    """The new ones may hold anything: the network is the one it was."""
    model = UNetFrameConditionModel(**FRAME_SHAPED)
    rule.fill(model)
    model.save_pretrained(tmp_path)
    unet = load_unet(UNetFrameConditionModel, tmp_path, in_channels=12, in_front=True)
    assert unet.config["in_channels"] == 12
    assert not unet.conv_in.weight[:, :4].any()
    assert torch.equal(unet.conv_in.weight[:, 4:], model.conv_in.weight)
    sample, text = torch.randn(1, 2, 12, 8, 8), torch.randn(2, 5, 12)
    found = unet(sample, 9, text).sample
    torch.testing.assert_close(found, model(sample[:, :, 4:], 9, text).sample)
    # As it is where nothing is new.
    unet.save_pretrained(tmp_path / "extended")
    again = load_unet(UNetFrameConditionModel, tmp_path / "extended", in_channels=12, in_front=True)
    assert torch.equal(again.conv_in.weight, unet.conv_in.weight)


def test_offsets_are_added_before_the_extension(tmp_path: Path) -> None:
    base = saved_unet(tmp_path / "unet").state_dict()
    offsets = {"conv_in.weight": torch.full_like(base["conv_in.weight"], 0.5).half()}
    save_file(offsets, tmp_path / "offsets.safetensors")
    unet = load_unet(
        UNet2DConditionModel,
        tmp_path / "unet",
        in_channels=8,
        offsets=tmp_path / "offsets.safetensors",
    ).state_dict()
    assert torch.equal(unet["conv_in.weight"][:, :4], base["conv_in.weight"] + 0.5)
    assert unet["conv_in.weight"][:, 4:].abs().max() == 0
    assert all(torch.equal(unet[key], base[key]) for key in base if key != "conv_in.weight")
    half = load_unet(UNet2DConditionModel, tmp_path / "unet", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("other", "offset 'other' is for no weight"),
        (
            "conv_in.weight",
            r"'conv_in.weight' has shape \(2,\), .* needs \(8, 4, 3, 3\)",
        ),
    ],
)
def test_offsets_that_do_not_fit(tmp_path: Path, key: str, message: str) -> None:
    saved_unet(tmp_path / "unet")
    file = tmp_path / "offsets.safetensors"
    save_file({key: torch.zeros(2)}, file)
    with pytest.raises(InputError, match=message) as error:
        load_unet(UNet2DConditionModel, tmp_path / "unet", offsets=file)
    assert str(file) in str(error.value)
