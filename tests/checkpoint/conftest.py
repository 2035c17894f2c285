"""A small network in every form that checkpoints have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from seethrough.checkpoint.__main__ import main
from seethrough.engine.checkpoint import save_checkpoint
from seethrough.engine.files import tree_sha256
from seethrough.engine.record import Artifact, StageRecord, write_record
from seethrough.models import TransparentVAE

DATA = Path(__file__).parent / "data"


class Program:
    """Runs command lines and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        found = main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        assert found == code, err
        return out + err


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(capsys)


def small_unet() -> UNet2DConditionModel:
    """Layers of 64, which can be packed, but one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(64, 64),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            norm_num_groups=8,
        )


@pytest.fixture(scope="session")
def unet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "unet"
    small_unet().save_pretrained(folder)
    return folder


@pytest.fixture
def state() -> dict[str, Tensor]:
    return small_unet().state_dict()


@pytest.fixture
def stage(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A finished stage that left a UNet, with two checkpoints that keep an average."""
    folder = tmp_path / "runs" / "tries" / "train_2d"
    for step in (5, 10):
        parts = {
            "network": {key: value + step for key, value in state.items()},
            "average": {key: value + step / 2 for key, value in state.items()},
            "progress": {"seconds": 1.5},
        }
        save_checkpoint(folder / "checkpoints", step, parts, keep=5)
    small_unet().save_pretrained(folder / "unet")
    write_record(
        folder,
        StageRecord(
            stage="train_2d",
            experiment="tries",
            fingerprint="f" * 64,
            config={},
            execution={},
            inputs={},
            artifacts={"unet": Artifact("unet", tree_sha256(folder / "unet"))},
            metrics={},
            git={},
            versions={},
            seconds=12.0,
        ),
    )
    return folder


@pytest.fixture
def autoencoders(tmp_path: Path) -> Path:
    """`vae` and `trans_vae`, as a published repository has them."""
    folder = tmp_path / "base"
    vae: dict[str, Any] = {
        "block_out_channels": (8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "norm_num_groups": 4,
    }
    AutoencoderKL(**vae).save_pretrained(folder / "vae")
    TransparentVAE(
        encoder_channels=(4, 8, 8),
        block_out_channels=(4, 8, 8, 16),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
    ).save_pretrained(folder / "trans_vae")
    return folder


def save(state: dict[str, Tensor], file: Path) -> Path:
    """One safetensors file."""
    save_file({key: value.clone() for key, value in state.items()}, file)
    return file
