"""Text embeddings of the captions, computed once.

LayerDiff has one caption a tag and a few more, and those of the samples' caption files.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from seethrough.errors import InputError
from seethrough.models.checkpoints import Base, open_base
from seethrough.models.text_encoder import load_text_encoder

TENSORS_FILE = "text_table.safetensors"
CAPTIONS_FILE = "text_table.json"

ENCODED_AT_ONCE = 32
"""Captions in one forward pass: their hidden states of all layers take some 400 MB in SDXL."""

NAMED = 30
"""Captions that a message names at most."""


@attrs.frozen(eq=False)
class TextTable:
    """The text condition of each caption, as SDXL takes it."""

    captions: tuple[str, ...]
    hidden: Tensor
    """(N, tokens, width): penultimate hidden states of both encoders side by side."""
    pooled: Tensor
    """(N, pooled width): projected text embedding of the second encoder."""

    def rows(self, captions: Sequence[str]) -> Tensor:
        """The row of each caption, int64 (len(captions),).

        Raises:
            InputError: when a caption is not in the table.
        """
        index = self._index
        for caption in captions:
            if caption not in index:
                others = len(self.captions) - NAMED
                raise InputError(
                    f"caption {caption!r} is not in the text table, which holds "
                    f"{', '.join(map(repr, self.captions[:NAMED]))}"
                    f"{f' and {others} others' if others > 0 else ''}; encode it with them first"
                )
        return torch.tensor([index[caption] for caption in captions], dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        """Size of both tensors in bytes."""
        return self.hidden.nbytes + self.pooled.nbytes

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {caption: row for row, caption in enumerate(self.captions)}

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextTable":
        """The same table elsewhere, or in another dtype."""
        return attrs.evolve(
            self,
            hidden=self.hidden.to(device, dtype),
            pooled=self.pooled.to(device, dtype),
        )

    def save(self, folder: str | Path) -> None:
        """Write the table as two files in `folder`, which is made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"hidden": self.hidden.contiguous(), "pooled": self.pooled.contiguous()}
        save_file(tensors, folder / TENSORS_FILE)
        (folder / CAPTIONS_FILE).write_text(json.dumps(self.captions, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "TextTable":
        """Read a saved table.

        Raises:
            InputError: when a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            captions = tuple(json.loads((folder / CAPTIONS_FILE).read_text()))
            tensors = load_file(folder / TENSORS_FILE)
            table = cls(captions, tensors["hidden"], tensors["pooled"])
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise InputError(f"{folder}: not a readable text table ({error!r})") from error
        if not len(captions) == len(table.hidden) == len(table.pooled):
            raise InputError(
                f"{folder}: {len(captions)} captions, but {len(table.hidden)} rows of hidden "
                f"states and {len(table.pooled)} of pooled ones; encode the captions again"
            )
        return table


def encode_captions(
    folder: str | Path,
    captions: Sequence[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextTable:
    """Encode captions with both text encoders of an SDXL-shaped base, which are then freed.

    Captions are padded or cut to the tokenizers' length (77). Repeated captions get one row.

    Args:
        folder: the base, in the hub's layout.
        captions: the texts; the empty string is one like any other.
        device: where to compute.
        dtype: dtype of the encoders and of the table, which is on the CPU.

    Raises:
        InputError: when a tokenizer or an encoder is missing from the base or cannot be read.
    """
    base = open_base(folder)
    unique = tuple(dict.fromkeys(captions))
    first, _ = _encode(base, "", CLIPTextModel, unique, device, dtype)
    second, pooled = _encode(base, "_2", CLIPTextModelWithProjection, unique, device, dtype)
    return TextTable(unique, torch.cat([first, second], dim=-1), pooled)


def cached_captions(
    cache: Path,
    folder: str | Path,
    captions: Sequence[str],
    device: torch.device | str = "cpu",
) -> TextTable:
    """What `encode_captions` gives, kept below the folder `cache` from one process to the next.

    A table is found again by the base's files (path, size and time of change), the captions and
    the kind of device; one that can't be read is made again.
    """
    base = open_base(folder)
    parts = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    files = sorted(file for part in parts for file in base.require(part).rglob("*"))
    digest = hashlib.blake2b(f"{torch.device(device).type} {list(captions)}".encode())
    for file in files:
        state = file.stat()
        digest.update(f"\n{file.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
    place = cache / digest.hexdigest()[:32]
    try:
        return TextTable.load(place)
    except InputError:
        table = encode_captions(folder, captions, device)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as partial:
        table.save(Path(partial) / "table")
        shutil.rmtree(place, ignore_errors=True)
        # Another process may have put the same table there meanwhile.
        with contextlib.suppress(OSError):
            os.rename(Path(partial) / "table", place)
    return table


def _encode(
    base: Base,
    suffix: str,
    encoder_class: type[Any],
    captions: Sequence[str],
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Penultimate hidden states (N, tokens, width) and the encoder's first output."""
    tokenizer, encoder = load_text_encoder(base, suffix, encoder_class, dtype)
    tokens = tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    encoder = encoder.to(device).eval()
    hidden: list[Tensor] = []
    first: list[Tensor] = []
    with torch.no_grad():
        for some in tokens.split(ENCODED_AT_ONCE):
            output = encoder(some.to(device), output_hidden_states=True)
            hidden.append(output.hidden_states[-2].cpu())
            first.append(output[0].cpu())
    return torch.cat(hidden), torch.cat(first)
