"""How well pictures fit a text or other pictures, in CLIP's features (Hessel et al., 2021).

torchmetrics' own metric takes what transformers 5 answers for the features themselves, and fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from seethrough.errors import InputError

PUBLISHED = "openai/clip-vit-large-patch14"
"""The repository of the published scores; numbers of others do not compare."""

CLIP_MEASURES = {"clip_score": "CLIP score", "clip_similarity": "CLIP similarity"}
"""What is measured, with its name for people: of the picture and its text, and of it and the true
picture. 100 times the cosine of their features, at least 0; more is better."""


class Clip:
    """CLIP with its tokenizer and preprocessing, from a folder in transformers' layout."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model in float32.

        Raises:
            InputError: when a part is absent or can't be read.
        """
        try:
            self.model: Any = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
            self.tokenizer: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self.processor: Any = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{folder}: can't be read as CLIP with tokenizer and preprocessing ({error})"
            ) from error
        self.device = device
        self.model = self.model.to(device).eval()

    @torch.no_grad()
    def picture_features(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, D), of length 1."""
        levels = (pictures * 255).round().to("cpu", torch.uint8)
        pixels = self.processor(list(levels), return_tensors="pt")["pixel_values"]
        answer = self.model.get_image_features(pixel_values=pixels.to(self.device))
        return functional.normalize(answer.pooler_output, dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """(B, D), of length 1; a text is cut where the model's positions end."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        answer = self.model.get_text_features(**tokens)
        return functional.normalize(answer.pooler_output, dim=-1)


def clip_scores(
    clip: Clip, predicted: Tensor, true: Tensor, texts: Sequence[str]
) -> dict[str, Tensor]:
    """`CLIP_MEASURES` of pictures (B, 3, H, W) RGB in [0, 1] and a text for each, (B,) each."""
    found = clip.picture_features(predicted)
    wanted = (clip.text_features(texts), clip.picture_features(true))
    values = [100 * (found * other).sum(-1).clamp(min=0) for other in wanted]
    return dict(zip(CLIP_MEASURES, values, strict=True))
