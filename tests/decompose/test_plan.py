"""`--plan`: what it counts is what the networks take, and it loads nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from seethrough.decompose.__main__ import main
from seethrough.decompose.memory_need import Coding, Need, Pass, layer_bytes, trace
from seethrough.decompose.plan import MODES, table
from seethrough.engine.memory import GIB
from seethrough.inference.memory import MemoryMode
from seethrough.models import UNetFrameConditionModel
from seethrough.models.live_bytes import LiveBytes
from tests.decompose.memory_models import memory_bytes, run_unet, wide_unet
from tests.inference.small import small_models

INSIDE = 0.2
"""What operations may take for themselves, such as reordered weights of a convolution, as a share
of what is counted: measured 15% on a CPU. The plan leaves it out."""

SIDE = 32
"""Latents of a pass along a side."""


def on_meta() -> UNetFrameConditionModel:
    unet = wide_unet()
    nn.Module.to(unet, "meta")
    return unet


def test_weights_are_those_of_the_networks_in_memory() -> None:
    unet = wide_unet()
    sizes, packed, scales = layer_bytes(on_meta())
    assert sum(sizes.values()) == memory_bytes(unet)
    MemoryMode(quantize="nf4").place(unet, small_models().vae, "cpu", torch.float32)
    assert sum(packed.values()) + scales == memory_bytes(unet) < 0.6 * sum(sizes.values())


def test_activations_are_those_that_live_in_a_pass(tmp_path: Path) -> None:
    meta, unet = on_meta(), wide_unet()
    counted = max(one.activations for one in trace(meta, lambda: run_unet(meta, 0, "meta", SIDE)))
    with LiveBytes() as live:
        run_unet(unet, side=SIDE)
    assert counted == live.peak
    # The same, as the allocator sees it.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_unet(unet, side=SIDE)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    assert counted <= peak < (1 + INSIDE) * counted


def need(**changes: object) -> Need:
    """Two blocks and a layer that stays, in bytes that are easy to add."""
    given = {
        "title": "layers: none",
        "parameters": 0,
        "stored_packed": False,
        "sizes": {"stays": 1, "a.0": 10, "a.1": 20, "b.0": 40},
        "packed_sizes": {"stays": 1, "a.0": 5, "a.1": 10, "b.0": 20},
        "scales": 3,
        "unpacked": 2,
        "passes": (
            Pass("stays", None, 100),
            Pass("a.0", "a", 200),
            Pass("a.1", "a", 300),
            Pass("b.0", "b", 250),
        ),
        "others": 1000,
        "text": 0,
        "encode": Coding(50, 10),
        "decode": Coding(400, 20),
    }
    return Need(**{**given, **changes})  # pyright: ignore[reportArgumentType]


def test_the_arithmetic_of_the_modes() -> None:
    one = need()
    assert (one.unet, one.packed, one.denoise) == (71, 39, 300)
    # All that stays, and the larger of decoding and denoising.
    assert one.peak(MemoryMode()) == 1000 + 71 + 400
    assert one.peak(MemoryMode(vae_tiling=True)) == 1000 + 71 + 300
    # Block a with the next, b, while a's second layer computes.
    assert one.denoise_by("blocks", packed=False) == 1 + 30 + 40 + 300
    assert one.denoise_by("layers", packed=False) == 20 + 40 + 300
    assert one.peak(MemoryMode(offload="layers")) == 1000 + 400
    assert one.denoise_by("blocks", packed=True) == 1 + 15 + 20 + 300 + 3 + 2
    assert one.peak(MemoryMode(quantize="nf4", vae_tiling=True)) == 1000 + 39 + 2 + 300
    # A text encoder may need more than all that comes after it.
    assert need(text=5000).peak(MemoryMode()) == 5000
    stored = need(stored_packed=True)
    assert stored.peak(MemoryMode()) == one.peak(MemoryMode(quantize="nf4"))


def test_the_first_mode_that_fits_is_recommended() -> None:
    gib = {"stays": 2 * GIB, "a.0": GIB, "a.1": GIB, "b.0": GIB}
    large = need(sizes=gib, others=GIB, decode=Coding(GIB, GIB // 2))
    depth = need(title="depth: none", stored_packed=True)
    for limit, answer in (
        (8.0, "all fits as it is: no flag is needed"),
        (6.0, "take --offload=layers"),
        (1.5, "nothing fits: take a smaller --resolution, and --depth_resolution"),
        (None, "no GPU is here to compare with: --device_memory_gib=8 does with one of 8 GiB"),
    ):
        lines = list(table([large, depth], limit))
        assert lines[-1] == answer
    # A header, and each mode: here all that waits is the model of layers.
    assert [line.split() for line in lines[1:3]] == [
        ["7.00", "0.00", "6.00"],
        ["--vae_tiling", "6.50", "0.00", "6.00"],
    ]
    assert len(lines) == 2 + len(MODES)


def test_plan_reads_configs_alone(
    layer_model: Path, depth_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--plan", "--resolution=32", "--depth_resolution=32", "--device_memory_gib=8"]
    for flag, model in (("layers", layer_model), ("depth", depth_model)):
        copy = tmp_path / flag
        shutil.copytree(model, copy, ignore=shutil.ignore_patterns("*.safetensors"))
        arguments.append(f"--{flag}=file:{copy}")
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "layers: 13 frames of 32 px, bfloat16, in GiB" in said
    assert "depth: 20 frames of 32 px, bfloat16, in GiB" in said
    assert "text encoders, before the others come: 0.00" in said
    assert said.endswith("all fits as it is: no flag is needed\n")
    (tmp_path / "layers" / "vae" / "config.json").unlink()
    assert main(arguments) == 2
    assert f"{tmp_path}/layers/vae/config.json: not found" in capsys.readouterr().err
