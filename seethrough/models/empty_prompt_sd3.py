"""The text condition of SD3 models that see no text: the empty prompt, encoded once and stored.

Its first half are the tokens of both CLIP encoders, whose features lie side by side and are padded
with zeros to the width of T5's; the second half stands for T5's tokens and is zero, as diffusers'
pipeline has it where T5 is left out.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from seethrough.errors import InputError
from seethrough.models.checkpoints import open_base, read_config
from seethrough.models.text_encoder import load_text_encoder

EMBEDS, POOLED = "prompt_embeds", "pooled_prompt_embeds"
"""Names of the stored tensors."""


class PromptEmbeddings(NamedTuple):
    """What SD3 conditions on."""

    embeds: Tensor
    """(1, tokens, width): (1, 154, 4096) of Stable Diffusion 3 and 3.5."""
    pooled: Tensor
    """(1, pooled width): (1, 2048) of them."""


def encode_empty_prompt_sd3(
    folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> PromptEmbeddings:
    """Encode the empty prompt; the encoders are freed again, one after the other.

    Args:
        folder: an SD3 base in the hub's layout; of its transformer the config alone is read.
        device: where to compute.
        dtype: of the encoders and the result.

    Raises:
        InputError: when a tokenizer, an encoder or the config is missing, cannot be read or does
            not fit the others.
    """
    base = open_base(folder)
    width = read_config(base.require("transformer"))["joint_attention_dim"]
    features: list[Tensor] = []
    pooled: list[Tensor] = []
    for suffix in ("", "_2"):
        tokenizer, encoder = load_text_encoder(base, suffix, CLIPTextModelWithProjection, dtype)
        tokens = tokenizer("", padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            output = encoder.to(device).eval()(tokens.to(device), output_hidden_states=True)
        features.append(output.hidden_states[-2])
        pooled.append(output.text_embeds)
    side_by_side = torch.cat(features, dim=-1)
    if side_by_side.shape[-1] > width:
        raise InputError(
            f"{base.folder}: the text encoders' features are {side_by_side.shape[-1]} wide, but "
            f"the transformer's joint_attention_dim is {width}: they are not of one base"
        )
    _, length, used = side_by_side.shape
    embeds = side_by_side.new_zeros(1, 2 * length, width)
    embeds[:, :length, :used] = side_by_side
    return PromptEmbeddings(embeds, torch.cat(pooled, dim=-1))


def save_prompt(file: Path, prompt: PromptEmbeddings) -> None:
    """Write a safetensors file for `read_prompt`."""
    save_file({EMBEDS: prompt.embeds.cpu(), POOLED: prompt.pooled.cpu()}, file)


def read_prompt(file: str | Path) -> PromptEmbeddings:
    """A stored empty prompt, in the dtype it was stored as.

    Raises:
        InputError: when the file is missing or damaged, or holds no empty prompt: shapes, or the
            zeros that stand for T5 and fill up CLIP's features, are others.
    """
    try:
        stored = load_file(file)
        prompt = PromptEmbeddings(stored[EMBEDS], stored[POOLED])
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; the stage that encodes the empty prompt writes it"
        ) from None
    except (KeyError, OSError, SafetensorError) as error:
        raise InputError(
            f"{file}: not a file with {EMBEDS} and {POOLED} in safetensors ({error!r})"
        ) from error
    check_prompt(prompt, file)
    return prompt


def check_prompt(prompt: PromptEmbeddings, source: str | Path) -> None:
    """Raise InputError, naming the source, for what is no empty prompt: as of `read_prompt`."""
    problem = _problem(prompt)
    if problem is not None:
        raise InputError(f"{source}: this is no empty prompt of an SD3 base: {problem}; encode it")


def _problem(prompt: PromptEmbeddings) -> str | None:
    embeds, pooled = prompt
    if embeds.ndim != 3 or len(embeds) != 1 or embeds.shape[1] % 2:
        return f"{EMBEDS} has shape {tuple(embeds.shape)}, (1, tokens of CLIP and T5, width) needed"
    if pooled.ndim != 2 or len(pooled) != 1 or pooled.shape[1] > embeds.shape[2]:
        return f"{POOLED} has shape {tuple(pooled.shape)}, (1, width of both CLIPs) is needed"
    if not (embeds.isfinite().all() and pooled.isfinite().all()):
        return "it has values that are not finite"
    tokens, features = embeds.shape[1] // 2, pooled.shape[1]
    if embeds[:, tokens:].any():
        return f"tokens from {tokens} on, which stand for T5's, are not zero"
    if embeds[:, :, features:].any():
        return f"features from {features} on, beyond those of CLIP, are not zero"
    if not embeds.any():
        return "it is all zero"
    return None
