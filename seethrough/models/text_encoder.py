"""Reading a text encoder of a base, and the tokenizer that belongs to it."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CLIPTokenizer

from seethrough.errors import InputError
from seethrough.models.checkpoints import Base


def load_text_encoder(
    base: Base, suffix: str, encoder_class: type[Any], dtype: torch.dtype
) -> tuple[CLIPTokenizer, Any]:
    """The folders `tokenizer{suffix}` and `text_encoder{suffix}`; nothing is fetched.

    Raises:
        InputError: when one is missing or cannot be read.
    """
    tokenizer_name, encoder_name = f"tokenizer{suffix}", f"text_encoder{suffix}"
    tokenizer_folder, encoder_folder = base.require(tokenizer_name), base.require(encoder_name)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        encoder = encoder_class.from_pretrained(encoder_folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{base.folder}: {tokenizer_name} or {encoder_name} cannot be read ({error})"
        ) from error
    return tokenizer, encoder
