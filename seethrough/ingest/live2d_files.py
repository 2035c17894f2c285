"""The files of a Live2D model: `.model3.json` and what it names. JSON alone, no native library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from seethrough.errors import InputError
from seethrough.recipe.errors import nearest

MODEL_SUFFIX = ".model3.json"

EYES = ("ParamEyeLOpen", "ParamEyeROpen", "PARAM_EYE_L_OPEN", "PARAM_EYE_R_OPEN")
MOUTH = ("ParamMouthOpenY", "PARAM_MOUTH_OPEN_Y")
"""Parameters' usual names in models of Cubism 3 and newer, and in those brought over from 2.

Source: https://docs.live2d.com/en/cubism-editor-manual/standard-parameter-list/
"""

REST = "rest"
OPEN = "open"
EXPRESSIONS = "expressions"
EXPRESSION = "expression:"

Change = tuple[str, float | str, str]
"""Parameter, value or "max", and "set", "add" or "multiply"."""


@attrs.frozen(kw_only=True)
class ModelFiles:
    """A model's files, all checked to lie in its folder."""

    source: Path
    """What was named: the `.model3.json`, or a `.moc3` without one."""
    name: str
    moc: Path
    textures: tuple[Path, ...]
    pose: Path | None
    """`.pose3.json`: which parts never show together."""
    display: Path | None
    """`.cdi3.json`: names for people."""
    expressions: dict[str, Path]
    """`.exp3.json` by name."""
    opening: tuple[str, ...]
    """Parameters of the eyelids and of the mouth."""

    def drawn(self) -> list[Path | None]:
        """All that a character in any pose is made of."""
        return [self.moc, *self.textures, self.pose, self.display]


@attrs.frozen(kw_only=True)
class Pose:
    """How a model stands."""

    name: str
    changes: tuple[Change, ...] = ()
    """What differs from the parameters' defaults, in turn."""
    strict: bool = False
    """Parameters that the model lacks are an error: a person named them."""
    file: Path | None = None
    """Where the changes come from, if from a file of the model."""


def find_files(source: Path) -> ModelFiles:
    """A model's files, from its `.model3.json` or its `.moc3`.

    The textures of a `.moc3` alone are `texture_*.png` in a folder beside it whose name begins with
    its own.

    Raises:
        InputError: naming the file and field, when one is missing, unreadable, or outside of the
            model's folder.
    """
    if source.name.endswith(MODEL_SUFFIX):
        return _by_model(source)
    textures = sorted(source.parent.glob(f"{source.stem}*/texture_*.png"))
    if not textures:
        raise InputError(
            f"{source}: found no textures {source.stem}*/texture_*.png beside it: copy the model's"
            " whole folder"
        )
    return ModelFiles(
        source=source,
        name=source.stem,
        moc=source,
        textures=tuple(textures),
        pose=None,
        display=None,
        expressions={},
        opening=EYES + MOUTH,
    )


def _by_model(source: Path) -> ModelFiles:
    stored = _json(source)
    references = _of_kind(source, "FileReferences", stored.get("FileReferences"), dict)

    def file(field: str, value: Any) -> Path:
        return _inside(source, f"FileReferences.{field}", value)

    def optional(field: str) -> Path | None:
        return file(field, references[field]) if references.get(field) else None

    textures = _of_kind(source, "FileReferences.Textures", references.get("Textures"), list)
    listed = _of_kind(
        source, "FileReferences.Expressions", references.get("Expressions") or [], list
    )
    expressions = {}
    for at, entry in enumerate(listed):
        field = f"Expressions[{at}]"
        entry = _of_kind(source, f"FileReferences.{field}", entry, dict)
        path = file(f"{field}.File", entry.get("File"))
        expressions[str(entry.get("Name") or path.name.removesuffix(".exp3.json"))] = path
    groups = _of_kind(source, "Groups", stored.get("Groups") or [], list)
    opening = [
        str(name)
        for group in groups
        if isinstance(group, dict) and group.get("Name") in ("EyeBlink", "LipSync")
        for name in group.get("Ids") or ()
    ]
    return ModelFiles(
        source=source,
        name=source.name.removesuffix(MODEL_SUFFIX),
        moc=file("Moc", references.get("Moc")),
        textures=tuple(file(f"Textures[{at}]", name) for at, name in enumerate(textures)),
        pose=optional("Pose"),
        display=optional("DisplayInfo"),
        expressions=expressions,
        opening=tuple(dict.fromkeys([*opening, *EYES, *MOUTH])),
    )


def part_names(display: Path | None) -> dict[str, str]:
    """Names for people of parts, by id."""
    if display is None:
        return {}
    parts = _of_kind(display, "Parts", _json(display).get("Parts") or [], list)
    return {
        str(part["Id"]): str(part["Name"])
        for part in parts
        if isinstance(part, dict) and "Id" in part and "Name" in part
    }


def part_opacities(pose: Path | None) -> dict[str, float]:
    """Opacity of parts that never show together: of each group the first shows.

    Linked parts follow theirs, as in Live2D's own players.
    """
    if pose is None:
        return {}
    opacities: dict[str, float] = {}
    for at, group in enumerate(_of_kind(pose, "Groups", _json(pose).get("Groups") or [], list)):
        for place, part in enumerate(_of_kind(pose, f"Groups[{at}]", group, list)):
            field = f"Groups[{at}][{place}]"
            part = _of_kind(pose, field, part, dict)
            name = _of_kind(pose, f"{field}.Id", part.get("Id"), str)
            for follower in (name, *(part.get("Link") or ())):
                opacities[str(follower)] = float(place == 0)
    return opacities


def choose_poses(files: ModelFiles, words: tuple[str, ...]) -> list[Pose]:
    """Poses by what a person asked for.

    Args:
        files: the model's.
        words: `rest`; `open`: mouth open and eyes wide; `expressions`: each of the model's own;
            `expression:NAME`; or values, such as `ParamAngleX=30+ParamAngleY=-10`.

    Raises:
        InputError: for a word that is none of these, an expression that the model lacks or that
            can't be read.
    """
    poses: list[Pose] = []
    for word in words:
        if word == REST:
            poses.append(Pose(name=REST))
        elif word == OPEN:
            changes = tuple((name, "max", "set") for name in files.opening)
            poses.append(Pose(name=OPEN, changes=changes))
        elif word == EXPRESSIONS:
            poses += [_expression(files, name) for name in files.expressions]
        elif word.startswith(EXPRESSION):
            poses.append(_expression(files, word.removeprefix(EXPRESSION)))
        else:
            poses.append(Pose(name=word, changes=_values(files, word), strict=True))
    return list({pose.name: pose for pose in poses}.values())


def _expression(files: ModelFiles, name: str) -> Pose:
    path = files.expressions.get(name)
    if path is None:
        raise InputError(
            f"{files.source}: it has no expression {name!r}; {nearest(name, files.expressions)}"
        )
    changes: list[Change] = []
    for at, entry in enumerate(_of_kind(path, "Parameters", _json(path).get("Parameters"), list)):
        field = f"Parameters[{at}]"
        entry = _of_kind(path, field, entry, dict)
        how = {"Add": "add", "Multiply": "multiply", "Overwrite": "set"}.get(
            entry.get("Blend", "Add")
        )
        value = entry.get("Value")
        if how is None or isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"{path}: {field} is {entry!r}: expected a number as Value and Add, Multiply or"
                " Overwrite as Blend: export the expression again"
            )
        changes.append((_of_kind(path, f"{field}.Id", entry.get("Id"), str), float(value), how))
    return Pose(name=f"{EXPRESSION}{name}", changes=tuple(changes), file=path)


def _values(files: ModelFiles, word: str) -> tuple[Change, ...]:
    changes: list[Change] = []
    for term in word.split("+"):
        name, _, text = term.partition("=")
        try:
            changes.append((name.strip(), float(text), "set"))
        except ValueError as error:
            raise InputError(
                f"{files.source}: no pose {word!r}: expected {REST}, {OPEN}, {EXPRESSIONS},"
                f" {EXPRESSION}NAME, or values such as ParamAngleX=30+ParamAngleY=-10"
            ) from error
    return tuple(changes)


def _json(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin the file with a byte order mark.
        stored = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror}): copy the model's whole folder"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}): export the model again") from error
    return _of_kind(path, "the file", stored, dict)


def _of_kind(path: Path, field: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list", str: "a text"}[kind]
        raise InputError(
            f"{path}: {field} is {value!r}, expected {expected}: export the model again"
        )
    return value


def _inside(source: Path, field: str, value: Any) -> Path:
    """The file that a field names, which lies in the folder of the file that names it."""
    path = source.parent / _of_kind(source, field, value, str)
    if not path.resolve().is_relative_to(source.parent.resolve()):
        raise InputError(f"{source}: {field} is {value!r}, which leaves the model's folder")
    if not path.is_file():
        raise InputError(
            f"{source}: {field} is {value!r}, but there is no such file: copy it there"
        )
    return path
