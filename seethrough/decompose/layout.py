"""The published layout: which folders a repository of each family has."""

from collections.abc import Collection, Mapping
from typing import Literal

Family = Literal["layers", "depth"]

PARTS: Mapping[Family, tuple[str, ...]] = {
    "layers": (
        "unet", "vae", "trans_vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"
    ),
    "depth": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
}  # fmt: skip
"""Folders that are read."""

_ONLY_OF_LAYERS = set(PARTS["layers"]) - set(PARTS["depth"])


def family_of(names: Collection[str]) -> Family | None:
    """The family of a repository by the names at its top, None for another kind of repository."""
    if all(part in names for part in PARTS["layers"]):
        return "layers"
    if all(part in names for part in PARTS["depth"]) and _ONLY_OF_LAYERS.isdisjoint(names):
        return "depth"
    return None
