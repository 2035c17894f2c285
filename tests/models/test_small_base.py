"""The small bases: complete in the hub's layout, and the same bytes each time."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from hypothesis import given
from hypothesis import strategies as st

from seethrough.errors import InputError
from seethrough.models.checkpoints import load_model, open_base
from seethrough.models.empty_prompt import encode_empty_prompt
from seethrough.models.small_base import (
    caption_tokenizer,
    save_small_base,
    save_small_marigold,
)
from seethrough.models.text_table import encode_captions

CAPTIONS = ["front hair", "back hair", "head", "headwear", "legwear,footwear", "hair", ""]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.7).save_pretrained(
        folder
    )
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_arguments_same_bytes(tmp_path: Path, vae: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_small_base(tmp_path / name, vae=vae, captions=CAPTIONS, seed=seed)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    changed = {key for key in a if a[key] != c[key]}
    assert changed == {
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    }


def test_loads_as_a_hub_base(tmp_path: Path, vae: Path) -> None:
    """diffusers' own SDXL pipeline takes it, and encodes captions as we do."""
    save_small_base(tmp_path, vae=vae, captions=CAPTIONS, text_widths=(16, 24), text_length=12)
    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert pipeline.vae.config.scaling_factor == 0.7
    with torch.no_grad():
        hidden, _, pooled, _ = pipeline.encode_prompt(CAPTIONS, do_classifier_free_guidance=False)
    table = encode_captions(tmp_path, CAPTIONS)
    assert torch.equal(table.hidden, hidden)
    assert torch.equal(table.pooled, pooled)
    assert table.hidden.shape == (len(CAPTIONS), 12, 40)
    unet = load_model(UNet2DConditionModel, open_base(tmp_path).require("unet"))
    assert unet.config["in_channels"] == 4
    time_ids = torch.tensor([64.0, 64, 0, 0, 64, 64]).expand(len(CAPTIONS), -1)
    output = unet(
        torch.randn(len(CAPTIONS), 4, 8, 8),
        3,
        table.hidden,
        added_cond_kwargs={"text_embeds": table.pooled, "time_ids": time_ids},
    ).sample
    assert output.shape == (len(CAPTIONS), 4, 8, 8)
    scheduler = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "DDPMScheduler"
    expected = (1000, "scaled_linear", 0.00085, 0.012, "epsilon")
    names = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "prediction_type")
    assert tuple(scheduler[name] for name in names) == expected


def test_a_marigold_base_loads_as_the_published_pipeline(tmp_path: Path, vae: Path) -> None:
    """It predicts a depth, on the same empty prompt, from a scheduler that ends in pure noise."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_small_marigold(tmp_path / name, vae=vae, seed=seed)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert {key for key in a if a[key] != c[key]} == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    }
    pipeline: Any = MarigoldDepthPipeline.from_pretrained(tmp_path / "a", local_files_only=True)
    assert pipeline.unet.config.in_channels == 8
    config = pipeline.scheduler.config
    assert (config.prediction_type, config.timestep_spacing) == ("v_prediction", "trailing")
    assert pipeline.scheduler.alphas_cumprod[-1] == 0
    pipeline.set_progress_bar_config(disable=True)
    page = torch.rand(1, 3, 8, 8)
    depth = pipeline(page, num_inference_steps=1, processing_resolution=0, output_type="pt")
    assert depth.prediction.shape == (1, 1, 8, 8) and depth.prediction.isfinite().all()
    prompt = encode_empty_prompt(tmp_path / "a")
    torch.testing.assert_close(prompt, pipeline.empty_text_embedding[0])
    assert prompt.std() == pytest.approx(1, abs=0.3)


def test_captions_are_told_apart(tmp_path: Path, vae: Path) -> None:
    save_small_base(tmp_path, vae=vae, captions=CAPTIONS)
    table = encode_captions(tmp_path, CAPTIONS)
    assert table.hidden.std() == pytest.approx(1, abs=0.3)
    assert table.pooled.std() == pytest.approx(1, abs=0.3)
    distances = torch.cdist(table.hidden.flatten(1), table.hidden.flatten(1))
    assert distances[~torch.eye(len(CAPTIONS), dtype=torch.bool)].min() > 5


def test_words_of_captions_are_single_tokens() -> None:
    tokenizer = caption_tokenizer(CAPTIONS, 77)
    assert tokenizer.tokenize("Legwear,footwear") == ["legwear</w>", ",</w>", "footwear</w>"]
    assert tokenizer.model_max_length == 77


@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=12))
def test_every_text_has_tokens_of_its_own(captions: Sequence[str], other: str) -> None:
    tokenizer = caption_tokenizer(captions, 77)
    for text in [*captions, other]:
        tokens = tokenizer.tokenize(text)
        assert tokenizer.unk_token not in tokens
        if text in captions:
            words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
                tokenizer.backend_tokenizer.normalizer.normalize_str(text)
            )
            assert len(tokens) == len(words)


def test_folder_that_is_no_vae(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: not found"):
        save_small_base(tmp_path / "base", vae=tmp_path, captions=CAPTIONS)
    assert not (tmp_path / "base").exists()
