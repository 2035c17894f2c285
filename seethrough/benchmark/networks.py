"""The networks that some measures of layers need: looked for first, to say what lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchvision.models.vgg import VGG16_Weights

from seethrough.benchmark.settings import LayersSettings
from seethrough.engine.files import tree_sha256
from seethrough.engine.sources import fetch
from seethrough.errors import InputError
from seethrough.metrics.clip_score import CLIP_MEASURES, PUBLISHED, Clip, clip_scores
from seethrough.metrics.inception import SET_MEASURES, inception_features, load_inception
from seethrough.models.perceptual_networks import lpips, weights_file
from seethrough.recipe import Hub, Local

OF_HUB = " or --lpips=hub:timm/vgg16.tv_in1k"
"""Where the hub has VGG16 of torchvision too."""

TOGETHER = 8
"""Pictures that go through a network together."""


@attrs.frozen
class Found:
    """Where the networks lie; None where one is not there."""

    lpips: Path | None
    inception: Path | None
    clip: Path | None
    missing: tuple[str, ...]
    """What can't be measured without, and what to do."""
    identity: dict[str, str | None]
    """What results depend on: hashes."""

    @property
    def measures(self) -> tuple[str, ...]:
        """What `Networks.scores` tells."""
        return (
            *(("lpips",) if self.lpips else ()),
            *(CLIP_MEASURES if self.clip else ()),
        )


def find_networks(settings: LayersSettings) -> Found:
    """Look for the networks' weights; what a flag names must be there.

    Raises:
        InputError: when it is not.
    """
    if settings.without_networks:
        line = f"LPIPS, {', '.join([*SET_MEASURES.values(), *CLIP_MEASURES.values()])}: left out"
        return Found(None, None, None, (line,), {})
    missing: list[str] = []
    files: dict[str, Path | None] = {}
    for name, flag, given, url, what, instead in (
        ("lpips", "--lpips", settings.lpips, VGG16_Weights.IMAGENET1K_V1.url, "LPIPS", OF_HUB),
        ("inception", "--inception", settings.inception, URL_INCEPTION_V3, "FID and KID", ""),
    ):
        files[name] = None
        try:
            files[name] = weights_file(_local(given, flag), url, what)
        except InputError as error:
            if given is not None:
                raise
            missing.append(f"{what}: {error}, with {flag}=file:FILE{instead}")
    if settings.clip is None:
        missing.append(f"{', '.join(CLIP_MEASURES.values())}: give --clip=hub:{PUBLISHED}")
    else:
        files["clip"] = fetch(settings.clip, "--clip", {})
    return Found(
        lpips=files["lpips"],
        inception=files["inception"],
        clip=files.get("clip"),
        missing=tuple(missing),
        identity={name: tree_sha256(file) for name, file in files.items() if file is not None},
    )


def _local(given: Local | Hub | None, flag: str) -> Path | None:
    return None if given is None else fetch(given, flag, {})


class Networks:
    """The networks that were found, on a device."""

    def __init__(self, found: Found, device: torch.device) -> None:
        """Load them.

        Raises:
            InputError: when one can't be read, or is another network.
        """
        self.device = device
        self._lpips = lpips(found.lpips).to(device) if found.lpips else None
        self._inception = load_inception(found.inception).to(device) if found.inception else None
        self._clip = Clip(found.clip, device) if found.clip else None

    @torch.no_grad()
    def scores(self, predicted: Tensor, true: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
        """LPIPS and CLIP's scores, (B,) each, of pictures (B, 3, S, S) RGB in [0, 1]."""
        rows: dict[str, list[Tensor]] = {}
        for start in range(0, len(true), TOGETHER):
            part = slice(start, start + TOGETHER)
            found, wanted = predicted[part], true[part]
            values: dict[str, Tensor] = {}
            if self._lpips is not None:
                values["lpips"] = self._lpips(found, wanted)
            if self._clip is not None:
                values |= clip_scores(self._clip, found, wanted, texts[part])
            for name, value in values.items():
                rows.setdefault(name, []).append(value)
        return {name: torch.cat(values) for name, values in rows.items()}

    @torch.no_grad()
    def features(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Features of both sets for FID and KID, (B, 2048) each on the CPU, by `predicted` and
        `true`; none without the network."""
        if self._inception is None:
            return {}
        sets: dict[str, Any] = {"predicted": predicted, "true": true}
        return {
            name: torch.cat(
                [inception_features(self._inception, part) for part in pictures.split(TOGETHER)]
            ).cpu()
            for name, pictures in sets.items()
        }
