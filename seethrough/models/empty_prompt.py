"""The text condition of Marigold: the empty prompt, the same for every picture and frame."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel

from seethrough.models.checkpoints import open_base
from seethrough.models.text_encoder import load_text_encoder


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
    tokenizer, encoder = load_text_encoder(open_base(folder), "", CLIPTextModel, dtype)
    tokens = tokenizer("", padding="do_not_pad", return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder.to(device).eval()(tokens.to(device))[0][0]
