"""Reads a Live2D model as characters, one a pose, through Live2D's own Cubism Core.

The library comes with the extra `[live2d]`; it is Live2D's property, and its terms hold for whoever
uses it (`TERMS`). What it says of a model is drawn by `live2d_raster`, so no GPU is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seethrough.characters.write import NewLayer
from seethrough.errors import InputError
from seethrough.ingest.drawing import Budget, Drawing
from seethrough.ingest.live2d_core import Answer, ask, library
from seethrough.ingest.live2d_files import (
    ModelFiles,
    Pose,
    choose_poses,
    find_files,
    part_names,
    part_opacities,
)
from seethrough.ingest.live2d_layers import (
    Drawable,
    canvas_size,
    drawables,
    gather,
    layers,
)
from seethrough.ingest.live2d_raster import Texture, read_texture
from seethrough.ingest.settings import IngestSettings
from seethrough.recipe.errors import nearest

PACKAGE = "live2d-py"

TERMS = """\
Live2D models are read by Live2D Cubism Core, which live2d-py contains. It is proprietary:
  https://www.live2d.com/eula/live2d-proprietary-software-license-agreement_en.html
A business above its limits needs an agreement with Live2D Inc. The art of a model has terms of its
own, its artist's. If you accept Live2D's terms, say so with --accept_live2d_licence"""


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the characters of a `.model3.json` or a `.moc3`, one a pose.

    Raises:
        InputError: when Live2D's terms weren't accepted or the extra isn't installed; naming the
            file that is missing, corrupt or too large, or a pose that can't be.
    """
    if not settings.accept_live2d_licence:
        raise InputError(f"{path}: {TERMS}")
    library()
    files = find_files(path)
    poses = choose_poses(files, settings.live2d_poses)
    shown = part_opacities(files.pose)
    answer = ask(files.moc, [{"parameters": pose.changes, "parts": shown} for pose in poses])
    for pose in poses:
        _check_parameters(files, pose, answer)
    canvas = canvas_size(answer, settings.live2d_size)
    budget = Budget(path, settings)
    budget.canvas(*canvas)
    names = part_names(files.display)
    textures = _Textures(files)
    for at, pose in enumerate(poses):
        found, notes = drawables(files.moc, answer, at, names, canvas)
        gathered = gather(found, merge=not settings.live2d_pieces)
        budget.count(len(gathered))
        yield Drawing(
            name=files.name,
            canvas=canvas,
            files=[file for file in (*files.drawn(), pose.file) if file],
            layers=_layers(files, found, gathered, textures, canvas),
            tool=PACKAGE,
            notes=notes,
            variant=_variant(pose, settings),
        )


class _Textures:
    """A model's textures, read when a first pose is drawn and kept for the others."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._read: list[Texture] = []

    def read(self) -> list[Texture]:
        """All of them, by index."""
        if not self._read:
            self._read = [read_texture(path) for path in self._files.textures]
        return self._read


def _layers(
    files: ModelFiles,
    found: list[Drawable],
    gathered: list[list[int]],
    textures: _Textures,
    canvas: tuple[int, int],
) -> Iterator[NewLayer]:
    """Draw the layers; textures are read by the first, so not for a character that is there."""
    yield from layers(files.moc, found, gathered, textures.read(), canvas)


def _variant(pose: Pose, settings: IngestSettings) -> str:
    """The pose, and what else gives a model another content: one id has one content."""
    words = [pose.name]
    if settings.live2d_size != IngestSettings().live2d_size:
        words.append(f"{settings.live2d_size} px")
    if settings.live2d_pieces:
        words.append("pieces")
    return ", ".join(words)


def _check_parameters(files: ModelFiles, pose: Pose, answer: Answer) -> None:
    known = answer["parameter_ids"].tolist()
    for name, _, _ in pose.changes:
        if pose.strict and name not in known:
            raise InputError(
                f"{files.source}: pose {pose.name!r}: it has no parameter {name!r};"
                f" {nearest(name, known)}"
            )
