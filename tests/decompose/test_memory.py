"""Memory modes: offloaded networks give the same results, 4 bits and tiles nearly the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks.hooks import HookRegistry
from torch import Tensor

from seethrough.decompose.__main__ import main
from seethrough.inference.memory import (
    MemoryMode,
    Offload,
    Quantize,
    is_offloaded,
    offloaded_blocks,
    tile,
)
from tests.decompose.memory_models import run_unet, wide_unet
from tests.decompose.models import RESOLUTION
from tests.inference.small import small_models


def passes(mode: MemoryMode) -> list[Tensor]:
    """Passes over both tag groups, and over the first again, as of a second picture."""
    unet = wide_unet()
    mode.place(unet, small_models().vae, "cpu", torch.float32)
    assert unet.device.type == "cpu" and unet.dtype == torch.float32
    assert is_offloaded(unet) == (mode.offload != "none")
    return [run_unet(unet, group) for group in (0, 1, 0)]


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_offloading_changes_no_bit(quantize: Quantize) -> None:
    whole = passes(MemoryMode(quantize=quantize))
    parts: tuple[Offload, ...] = ("blocks", "layers")
    for offload in parts:
        for found, expected in zip(
            passes(MemoryMode(offload=offload, quantize=quantize)), whole, strict=True
        ):
            assert torch.equal(found, expected)


def test_blocks_are_those_that_diffusers_moves() -> None:
    """Transformers and residual blocks, none of which holds another; the plan counts them."""
    unet = wide_unet()
    blocks = list(offloaded_blocks(unet))
    MemoryMode(offload="blocks").place(unet, small_models().vae, "cpu", torch.float32)
    registries = [
        HookRegistry.check_if_exists_or_initialize(module)
        for module in unet.modules()
        if hasattr(module, "_diffusers_hook")
    ]
    moved: list[Any] = [registry.get_hook("group_offloading") for registry in registries]
    leaders = [hook.group.onload_leader for hook in moved]
    assert {id(leader) for leader in leaders if leader is not unet} == {id(b) for b in blocks}
    inside = [part for block in blocks for part in block.modules()]
    assert len(inside) == len(set(map(id, inside)))


def test_4_bits_are_near() -> None:
    """NF4 has 16 levels between a block's extremes: each weight is off by some tenth of its std."""
    whole, packed = wide_unet(), wide_unet()
    MemoryMode(quantize="nf4").place(packed, small_models().vae, "cpu", torch.float32)
    expected, found = run_unet(whole), run_unet(packed)
    error = ((found - expected).norm() / expected.norm()).item()
    assert 0.005 < error < 0.15


def test_tiles_see_themselves_alone_and_small_pictures_stay_whole() -> None:
    vae: Any = small_models().vae
    picture = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mode()
        decoded = vae.decode(latents).sample
        # The first of the tiles of 64 px, up to where the next one begins.
        corner = vae.decode(latents[..., :8, :8]).sample[..., :48, :48]
        tile(vae, 128)
        torch.testing.assert_close(vae.encode(picture).latent_dist.mode(), latents)
        torch.testing.assert_close(vae.decode(latents).sample, decoded)
        tile(vae, 64)
        tiled = vae.decode(latents).sample
        assert vae.encode(picture).latent_dist.mode().shape == latents.shape
    assert tiled.shape == decoded.shape
    torch.testing.assert_close(tiled[..., :48, :48], corner)


def test_records_name_the_modes_that_change_results(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(pictures / "one.png"), f"--layers=file:{layer_model}", f"--out={tmp_path}"]
    arguments += [f"--resolution={RESOLUTION}", "--steps=1"]
    assert main([*arguments, "--vae_tiling", "--quantize=nf4"]) == 0
    assert "float32 --quantize=nf4 --vae_tiling on cpu" in capsys.readouterr().out
    inputs = json.loads((tmp_path / "one" / "record.json").read_text())["inputs"]
    assert (inputs["quantize"], inputs["vae_tiling"]) == ("nf4", 512)
    assert MemoryMode(offload="blocks").changes() == {}
    # There is nothing to offload from when all is in main memory.
    assert main([*arguments, "--offload=blocks", "--device=cpu"]) == 2
    assert "--offload=blocks: there is nothing to save" in capsys.readouterr().err
