"""The empty prompt: two tokens, from the published parts of a base."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextModel

from seethrough.errors import InputError
from seethrough.models.empty_prompt import encode_empty_prompt
from seethrough.models.small_base import save_small_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    vae = tmp_path_factory.mktemp("vae")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(vae)
    save_small_base(folder, vae=vae, captions=["a"])
    return folder


def test_last_hidden_states_of_begin_and_end(base: Path) -> None:
    encoder: Any = CLIPTextModel.from_pretrained(base / "text_encoder")
    config = encoder.config
    with torch.no_grad():
        tokens = torch.tensor([[config.bos_token_id, config.eos_token_id]])
        expected = encoder(tokens).last_hidden_state[0]
    prompt = encode_empty_prompt(base)
    assert torch.equal(prompt, expected)
    assert prompt.shape == (2, 32)
    assert not prompt.requires_grad
    assert encode_empty_prompt(base, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_missing_or_broken_part(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base/text_encoder/model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="tokenizer or text_encoder cannot be read"):
        encode_empty_prompt(tmp_path / "base")
    shutil.rmtree(tmp_path / "base/tokenizer")
    with pytest.raises(InputError, match="no subfolder 'tokenizer'"):
        encode_empty_prompt(tmp_path / "base")
