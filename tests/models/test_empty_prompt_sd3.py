"""The empty prompt of Stable Diffusion 3: as diffusers' pipeline encodes it, without T5."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
    StableDiffusion3Pipeline,
)
from safetensors.torch import save_file

from seethrough.errors import InputError
from seethrough.models.empty_prompt_sd3 import (
    EMBEDS,
    POOLED,
    PromptEmbeddings,
    encode_empty_prompt_sd3,
    read_prompt,
    save_prompt,
)
from seethrough.models.small_base_sd3 import save_small_sd3
from tests.tasks.small_sd3 import write_small_vae


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_small_sd3(folder / "base", vae=write_small_vae(folder / "vae"), text_length=77)
    return folder / "base"


def test_as_the_pipeline_encodes_it(base: Path, tmp_path: Path) -> None:
    pipeline: Any = StableDiffusion3Pipeline.from_pretrained(
        base, text_encoder_3=None, tokenizer_3=None
    )
    with torch.no_grad():
        expected, _, pooled, _ = pipeline.encode_prompt(
            "", None, None, do_classifier_free_guidance=False, max_sequence_length=77
        )
    found = encode_empty_prompt_sd3(base, dtype=torch.float32)
    assert torch.equal(found.embeds, expected) and torch.equal(found.pooled, pooled)
    assert found.embeds.shape == (1, 154, 40) and found.pooled.shape == (1, 32)
    assert not found.embeds[:, 77:].any() and not found.embeds[..., 32:].any()
    save_prompt(tmp_path / "prompt.safetensors", found)
    stored = read_prompt(tmp_path / "prompt.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(stored, found, strict=True))


def good() -> PromptEmbeddings:
    embeds = torch.zeros(1, 4, 6)
    embeds[:, :2, :5] = 1
    return PromptEmbeddings(embeds, torch.ones(1, 5))


def broken(part: str, index: tuple[Any, ...], value: float) -> PromptEmbeddings:
    prompt = good()
    getattr(prompt, part)[index] = value
    return prompt


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (broken("embeds", (0, 3, 0), 1.0), "tokens from 2 on, which stand for T5's, are not zero"),
        (broken("embeds", (0, 0, 5), 1.0), "features from 5 on, beyond those of CLIP"),
        (broken("pooled", (0, 0), float("nan")), "values that are not finite"),
        (PromptEmbeddings(torch.zeros(1, 4, 6), torch.ones(1, 5)), "it is all zero"),
        (PromptEmbeddings(torch.ones(2, 4, 6), torch.ones(1, 5)), r"has shape \(2, 4, 6\)"),
        (PromptEmbeddings(torch.ones(1, 4, 6), torch.ones(1, 7)), r"has shape \(1, 7\)"),
    ],
)
def test_what_is_no_empty_prompt(tmp_path: Path, prompt: PromptEmbeddings, problem: str) -> None:
    save_prompt(tmp_path / "prompt.safetensors", prompt)
    with pytest.raises(InputError, match=problem):
        read_prompt(tmp_path / "prompt.safetensors")


def test_files_that_are_absent_or_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_prompt(tmp_path / "prompt.safetensors")
    save_file({EMBEDS: good().embeds}, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=f"not a file with {EMBEDS} and {POOLED}"):
        read_prompt(tmp_path / "half.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensor")
    with pytest.raises(InputError, match="not a file with"):
        read_prompt(tmp_path / "text.safetensors")
