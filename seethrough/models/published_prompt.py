"""The empty prompt of an SD3 base as the published one-step model keeps it: two files of torch.

They are zip archives of one tensor each. torch's restricted reader takes nothing else from them:
no code of theirs runs.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models.empty_prompt_sd3 import PromptEmbeddings, check_prompt

FOLDER = "precomputed_prompt_embeddings"
"""Name of the folder that holds them."""

EMBEDS_FILE, POOLED_FILE = "empty_prompt_embeds.pt", "empty_pooled_prompt_embeds.pt"


def read_published_prompt(folder: str | Path) -> PromptEmbeddings:
    """Read both files, in the dtype they were stored as.

    Raises:
        InputError: when one is missing, damaged or holds something else than an empty prompt.
    """
    folder = Path(folder)
    prompt = PromptEmbeddings(_read(folder / EMBEDS_FILE), _read(folder / POOLED_FILE))
    check_prompt(prompt, folder)
    return prompt


def write_published_prompt(folder: Path, prompt: PromptEmbeddings) -> None:
    """Write both files into a new folder."""
    folder.mkdir()
    torch.save(prompt.embeds.cpu().clone(), folder / EMBEDS_FILE)
    torch.save(prompt.pooled.cpu().clone(), folder / POOLED_FILE)


def _read(file: Path) -> Tensor:
    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; the published folder {FOLDER} holds {EMBEDS_FILE} and"
            f" {POOLED_FILE}"
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{file}: not a stored tensor of torch ({error})") from error
    if not isinstance(tensor, Tensor):
        raise InputError(f"{file}: holds {type(tensor).__name__}, a tensor is expected")
    return tensor
