"""What a step would pay for the work of the public implementation that is gone, in bare steps."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from seethrough.bench.setting import SIZES, made
from seethrough.bench.step import BareLoop, prepare
from seethrough.bench.timing import Ratio, cpu_times, ratio
from seethrough.tasks.latents import PictureItems
from seethrough.tasks.layerdiff3d import LayerDiff3D
from seethrough.tasks.task import Batch

BARE = "bare step"

PARTS = {
    "encode text": "both text encoders on the captions of all frames",
    "look text up": "rows of the table instead",
    "encode pictures": "autoencoder on all frames and the page",
    "read latents": "their posteriors from the disk instead",
    "checkpointed step": "the bare step with gradient checkpointing",
}


@attrs.frozen
class Part:
    """What one piece of work costs."""

    name: str
    """A key of `PARTS`, or the bare step."""
    cpu_s: float
    """Median CPU seconds."""
    to_bare: Ratio
    """In units of the bare step."""


@attrs.frozen
class PartFigures:
    """All parts, measured in turn."""

    size: str
    """Name of the size."""
    parameters: int
    """Of the network."""
    frames: int
    """Frames of a step, without the page."""
    rounds: int
    """How often each ran."""
    parts: list[Part]
    """The bare step and the rest."""

    def text(self) -> str:
        """For a person."""
        head = (
            f"{self.size}: {self.parameters / 1e6:.1f} million parameters, {self.frames} frames, "
            f"{self.rounds} rounds"
        )
        rows = [
            f"{part.name:<18} {part.cpu_s:9.4f} CPU s  {part.to_bare}  {PARTS.get(part.name, '')}"
            for part in self.parts
        ]
        return "\n".join([head, *rows])


class TextEncoders:
    """The base's tokenizers and text encoders, held in memory as the public code does."""

    def __init__(self, base: Path) -> None:
        classes: dict[str, Any] = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
        self.pairs = [
            (
                CLIPTokenizer.from_pretrained(base / f"tokenizer{suffix}"),
                encoder_class.from_pretrained(base / f"text_encoder{suffix}").eval(),
            )
            for suffix, encoder_class in classes.items()
        ]

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> None:
        """Encode captions with both."""
        for tokenizer, encoder in self.pairs:
            tokens = tokenizer(
                list(captions), padding="max_length", truncation=True, return_tensors="pt"
            )
            encoder(tokens.input_ids, output_hidden_states=True)


def works(task: LayerDiff3D) -> dict[str, Callable[[], object]]:
    """Each part as something to call, on the first sample."""
    (draw, *_) = task.fixed_draws("bench", place=0, row=0)
    stored = task.dataset()
    shown: Batch = PictureItems(task.layers, None)[draw]
    side = task.stage.data.target_size
    nothing = torch.zeros(4, side, side, dtype=torch.uint8)
    pictures = [shown["pictures"].get(name, nothing) for name in (*shown["frames"], "page")]
    encoders = TextEncoders(task.context.path(task.stage.model.base))
    bare, checkpointed = BareLoop(task), BareLoop(task, gradient_checkpointing=True)
    prepared = prepare(task, task.collate([stored[draw]]))  # which puts latents on disk
    captions = shown["captions"]
    return {
        BARE: lambda: bare.step(prepared),
        "encode text": lambda: encoders(captions),
        "look text up": lambda: task.text_conditions([captions]),
        "encode pictures": lambda: [task.encoder.posterior(picture) for picture in pictures],
        "read latents": lambda: task.latents(stored[draw]),
        "checkpointed step": lambda: checkpointed.step(prepared),
    }


def measure_parts(size: str, rounds: int) -> PartFigures:
    """All parts in turn, after one round to warm up."""
    with made(SIZES[size], steps=rounds) as task:
        todo = works(task)
        cpu_times(todo, 1)
        times = cpu_times(todo, rounds)
        network = task.build()
        return PartFigures(
            size=size,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            frames=len(task.stage.data.groups[0]),
            rounds=rounds,
            parts=[
                Part(name, statistics.median(taken), ratio(taken, times[BARE]))
                for name, taken in times.items()
            ],
        )
