"""Finds body parts on a character's picture with a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seethrough.characters.form import Character, flatten
from seethrough.engine.record import read_record
from seethrough.inference.partseg import PartSegModel, predict_parts
from seethrough.label.settings import LabelSettings
from seethrough.label.votes import PartMap
from seethrough.partseg.models import Choice, choose
from seethrough.partseg.settings import ModelSettings
from seethrough.recipe import Hub, Local
from seethrough.segment.photos import join


class PartFinder:
    """The model of `--sam`, loaded when it is first needed."""

    def __init__(self, settings: LabelSettings) -> None:
        assert settings.sam is not None
        self._device = join(settings.device)
        run = _run(settings.sam)
        model = ModelSettings(
            model=None if run else settings.sam,
            precision=settings.precision,
            device=settings.device,
        )
        self._choice: Choice = choose(model, run, self._device)
        self._model: PartSegModel | None = None

    @property
    def identity(self) -> str:
        """What the masks depend on: the weights and the type they compute in."""
        return f"{self._choice.identity} {self._choice.precision}"

    def find(self, character: Character) -> PartMap:
        """The parts of a character's picture, on black and cut to what is drawn, as published."""
        if self._model is None:
            self._model = self._choice.load(self._device)
        picture = flatten(character)
        bits = np.zeros(picture.shape[:2], np.uint32)
        drawn = picture[..., 3] > 0
        if drawn.any():
            rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            cut = picture[window]
            page = np.rint(cut[..., :3] * (cut[..., 3:] / np.float32(255))).astype(np.uint8)
            for bit, mask in enumerate(predict_parts(self._model, page)):
                bits[window] |= mask.astype(np.uint32) << np.uint32(bit)
        return PartMap(bits, self._model.tags)


def _run(source: Hub | Local) -> Path | None:
    """The folder of a run, if that is what was given: its stages lie in it with their records."""
    if isinstance(source, Hub):
        return None
    folder = Path(source.path)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return folder if any(read_record(item) is not None for item in inside) else None
