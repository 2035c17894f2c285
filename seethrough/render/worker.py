"""What a worker does with a shard: reads its characters, renders their samples, writes them."""

import traceback
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import cv2

from seethrough.characters.form import read_character
from seethrough.characters.labels import read_labels
from seethrough.errors import InputError
from seethrough.recipes.render import RenderOptions
from seethrough.render.sample import RenderedSample, Renderer
from seethrough.render.shards import Refusal, Shard, Target, Written, write_folder, write_tar

SampleForm: TypeAlias = Literal["folder", "shards"]


@attrs.frozen
class RenderShard:
    """Renders shards: all that a worker has to know, in plain values."""

    characters: str
    """The folder of characters."""
    target: str
    """Where the samples go: a folder, or an address that fsspec opens."""
    form: SampleForm
    options: RenderOptions
    """How samples are drawn."""
    backgrounds: tuple[Path, ...]
    """Pictures to put behind them; without any, backgrounds are drawn."""
    seed: int

    def __call__(self, shard: Shard) -> Written:
        """Render and write a shard; what can't be rendered is refused, with the reason."""
        # Workers share the cores by their number.
        cv2.setNumThreads(1)
        refused: list[Refusal] = []
        write = write_tar if self.form == "shards" else write_folder
        written = write(Target(self.target), shard.name, self._samples(shard, refused))
        return attrs.evolve(written, refused=tuple(refused))

    def _samples(self, shard: Shard, refused: list[Refusal]) -> Iterator[RenderedSample]:
        for name, pairs in groupby(shard.samples, key=lambda pair: pair[0]):
            indices = [index for _, index in pairs]
            given = 0
            try:
                folder = Path(self.characters) / name
                character, labels = read_character(folder), read_labels(folder)
                if labels is None:
                    raise InputError(f"{folder}: no labels: python -m seethrough.label makes them")
                renderer = Renderer(character, labels, self.backgrounds, self.options)
                for index in indices:
                    sample = renderer.sample(self.seed, index)
                    given += 1
                    yield sample
            except Exception as error:
                refused.append(Refusal(name, len(indices) - given, _reason(error)))


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
