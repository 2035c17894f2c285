"""The text condition of Marigold: the empty prompt, the same for every picture and frame."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from seethrough.errors import InputError
from seethrough.models.checkpoints import open_base


def encode_empty_prompt(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Last hidden states of the empty prompt, (2, width): its begin and its end, not padded.

    The text encoder is freed again, and nothing of its graph is kept.

    Args:
        folder: an SD2-shaped base in the hub's layout, with `tokenizer` and `text_encoder`.
        device: where to compute.
        dtype: of the encoder and the result.

    Raises:
        InputError: when the tokenizer or the encoder is missing or cannot be read.
    """
    base = open_base(folder)
    tokenizer_folder, encoder_folder = base.require("tokenizer"), base.require("text_encoder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        encoder: Any = CLIPTextModel.from_pretrained(
            encoder_folder, dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{base.folder}: tokenizer or text_encoder cannot be read ({error})"
        ) from error
    tokens = tokenizer("", padding="do_not_pad", return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder.to(device).eval()(tokens.to(device))[0][0]
