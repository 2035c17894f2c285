"""Inflation from 2D to 3D: every tensor accounted for, and nothing changed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, read_state_dict
from seethrough.models.inflate import InflationReport, Verdict, inflate
from seethrough.models.small_base import save_small_marigold
from seethrough.models.unet_frame_condition import CrossFrameTransformerBlock
from tests.data.parity import rule

SOURCE: dict[str, Any] = {
    "in_channels": 8,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "transformer_layers_per_block": [1, 1, 3],
    "attention_head_dim": [1, 2, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 34,
}
TEMPORAL_BLOCKS = 7  # in the config above


def save_source(folder: Path, shard_size: str = "10GB", **changes: Any) -> dict[str, Tensor]:
    unet = UNet2DConditionModel(**(SOURCE | changes))
    rule.fill(unet)
    unet.save_pretrained(folder, max_shard_size=shard_size)
    return unet.state_dict()


def rows(report: InflationReport, verdict: Verdict) -> set[str]:
    return {row.key for row in report.rows if row.verdict is verdict}


@pytest.mark.parametrize("shard_size", ["10GB", "100KB"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_inflation(tmp_path: Path, shard_size: str, dtype: torch.dtype | None) -> None:
    source = save_source(tmp_path / "base" / "unet", shard_size)
    target = tmp_path / "target"
    report = inflate(tmp_path / "base", target, dtype=dtype)
    assert report.max_difference == 0
    assert not report.warm_start
    assert rows(report, Verdict.COPIED) == source.keys()
    zero = rows(report, Verdict.ZERO)
    assert len(zero) == 2 * TEMPORAL_BLOCKS + 8  # weight and bias; two groups in two places
    assert len(rows(report, Verdict.INITIALISED)) == 17 * TEMPORAL_BLOCKS + 4
    assert not rows(report, Verdict.DROPPED)
    model: Any = load_model(UNetFrameConditionModel, target)
    assert model.dtype == (dtype or torch.float32)
    assert model.config.group_embedding
    assert model.config.tag_version == "v3"
    assert model.config.mid_block_type == "UNetMidBlockCrossFrameAttn"
    state = model.state_dict()
    for key, value in source.items():
        assert torch.equal(state[key], value.to(model.dtype)), key
    assert all(state[key].abs().max() == 0 for key in zero)
    assert state["group_embeds.0.params"].float().std() == pytest.approx(1, abs=0.3)
    table = (target / "inflation.tsv").read_text().splitlines()
    assert len(table) == 1 + len(state) == 1 + len(report.rows)
    assert "conv_in.weight\tcopied\t8x8x3x3" in table
    assert sum(report.counts().values()) == len(state)


def test_new_tensors_follow_from_the_seed(tmp_path: Path) -> None:
    save_source(tmp_path / "unet")
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        inflate(tmp_path / "unet", tmp_path / name, seed=seed)
        states.append(read_state_dict(tmp_path / name))
    a, b, c = states
    assert all(torch.equal(a[key], b[key]) for key in a)
    key = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(a[key], c[key])
    other = key.replace("mid_block.attentions.0", "down_blocks.2.attentions.0")
    assert not torch.equal(a[key], a[other])


def test_sd2_shaped_source_without_groups(tmp_path: Path) -> None:
    changes = {
        "in_channels": 12,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
        "projection_class_embeddings_input_dim": None,
    }
    save_source(tmp_path / "unet", **changes)
    report = inflate(tmp_path / "unet", tmp_path / "3d", group_embedding=False, tag_version="v2")
    assert report.max_difference == 0
    with pytest.raises(InputError, match=r"group_embedding.*needs addition_embed_type"):
        inflate(tmp_path / "unet", tmp_path / "groups")


def test_sd2_shape_of_marigold(tmp_path: Path) -> None:
    """Attention in front, three of four levels: 16 places with 19 new tensors, as published."""
    AutoencoderKL(norm_num_groups=4, block_out_channels=(8,)).save_pretrained(tmp_path / "vae")
    save_small_marigold(
        tmp_path / "base",
        vae=tmp_path / "vae",
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=2,
        attention_heads=(1, 2, 2, 2),
        text_width=16,
    )
    report = inflate(tmp_path / "base", tmp_path / "3d", group_embedding=False, tag_version="v2")
    assert report.max_difference == 0
    counts = report.counts()
    assert counts[Verdict.COPIED] == 686 and not counts[Verdict.DROPPED]
    assert counts[Verdict.ZERO] == 2 * 16 and counts[Verdict.INITIALISED] == 17 * 16
    model: Any = load_model(UNetFrameConditionModel, tmp_path / "3d")
    assert model.config.in_channels == 8 and model.config.tag_version == "v2"


def save_trained_3d(folder: Path, source: Path, **options: Any) -> dict[str, Tensor]:
    """A 3D network whose every tensor has been trained away from zero."""
    inflate(source, folder, **options)
    model = load_model(UNetFrameConditionModel, folder)
    rule.fill(model)
    model.save_pretrained(folder)
    return model.state_dict()


def test_warm_start_is_never_zeroed(tmp_path: Path) -> None:
    save_source(tmp_path / "unet")
    trained = save_trained_3d(tmp_path / "trained", tmp_path / "unet")
    report = inflate(tmp_path / "trained", tmp_path / "target")
    assert report.warm_start
    assert report.max_difference == 0
    assert rows(report, Verdict.COPIED) == trained.keys()
    state = read_state_dict(tmp_path / "target")
    assert all(torch.equal(state[key], value) for key, value in trained.items())


def test_groups_can_be_added_to_and_dropped_from_a_warm_start(tmp_path: Path) -> None:
    save_source(tmp_path / "unet")
    plain = save_trained_3d(tmp_path / "plain", tmp_path / "unet", group_embedding=False)
    added = inflate(tmp_path / "plain", tmp_path / "grouped")
    assert added.max_difference == 0
    assert rows(added, Verdict.COPIED) == plain.keys()
    assert all("linear" in key for key in rows(added, Verdict.ZERO))
    trained = save_trained_3d(tmp_path / "trained", tmp_path / "unet")
    dropped = inflate(tmp_path / "trained", tmp_path / "dropped", group_embedding=False)
    assert dropped.max_difference == 0
    assert rows(dropped, Verdict.DROPPED) == {k for k in trained if k.startswith("group_embeds")}


def test_tensors_it_cannot_explain(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    state = save_source(folder)
    save_file(state | {"extra": torch.zeros(1)}, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match=r"unet: the checkpoint has unknown tensors.*'extra'"):
        inflate(folder, tmp_path / "target")
    config = json.loads((folder / "config.json").read_text())
    save_source(folder)
    (folder / "config.json").write_text(json.dumps(config | {"in_channels": 4}))
    with pytest.raises(InputError, match=r"'conv_in.weight' has shape \(8, 8, 3, 3\)"):
        inflate(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_network_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal blocks that begin with an output, as without the zero initialisation."""
    save_source(tmp_path / "unet")
    monkeypatch.setattr(CrossFrameTransformerBlock, "init_weights", lambda self: None)
    with pytest.raises(RuntimeError, match="differs from its source by 0\\."):
        inflate(tmp_path / "unet", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    report = inflate(tmp_path / "unet", tmp_path / "target", tolerance=10)
    assert 0 < report.max_difference < 10
