"""The labels of a character: `labels.json` in its folder, one line a layer, for people to edit.

    {
     "tag_set": "v3",
     "valid": true, "incomplete": false, "checked": false,
     "made_with": "names 1f2e...",
     "layers": {
      "Head/Hair/Fringe": {"tag": "front hair", "confidence": 0.95, "by": "name"},
      "Guide": {"tag": null, "confidence": 1, "by": "person"}
     }
    }

A layer that is not listed has no label yet; a tag of null leaves the layer out on purpose.
Neither is rendered.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import attrs

from seethrough.data.tag_sets import TAG_SETS, check_tag, check_tag_set, read_tag
from seethrough.engine.files import clear_disk_errors, write_text
from seethrough.errors import InputError
from seethrough.recipe.errors import nearest

FILE_NAME = "labels.json"

By = Literal["name", "votes", "split", "parent", "person"]
"""What gave a label: the layer's name, masks of parts on the picture, the split of hair or eyes,
the labels beside it, or a person."""


@attrs.frozen
class Label:
    """What a layer is."""

    tag: str | None
    """None leaves the layer out of what is rendered."""
    confidence: float
    """0 to 1: how sure it is."""
    by: By


@attrs.frozen(kw_only=True)
class Labels:
    """The labels of one character."""

    tag_set: str
    layers: Mapping[str, Label]
    """By the layer's id."""
    valid: bool = True
    """False keeps the character out of every render."""
    incomplete: bool = False
    """Whether layers are missing that the picture shows; it is rendered, and marked so."""
    checked: bool = False
    """Whether a person has looked through all of it."""
    made_with: str | None = None
    """What the automatic labels depend on: rules and model."""

    def tag(self, layer: str) -> str | None:
        """The tag of a layer, by its id; None if it has none or is left out."""
        label = self.layers.get(layer)
        return None if label is None else label.tag

    def in_tag_set(self, name: str) -> "Labels":
        """These labels in the words of another set.

        Raises:
            InputError: when that set splits a tag that is used, or has none like it; it names
                every layer that stands in the way.
        """
        check_tag_set(name, "tag_set")
        layers: dict[str, Label] = {}
        problems: list[str] = []
        for layer, label in self.layers.items():
            try:
                tag = None if label.tag is None else read_tag(label.tag, self.tag_set, name)
            except InputError as problem:
                problems.append(f"{layer}: {problem}")
            else:
                layers[layer] = attrs.evolve(label, tag=tag)
        if problems:
            raise InputError(
                f"labels of {self.tag_set} can't be read in {name}: label these layers anew, as "
                f"`python -m seethrough.label --tag_set={name}` does, or by hand:\n  "
                + "\n  ".join(problems)
            )
        return attrs.evolve(self, tag_set=name, layers=layers)

    def check_layers(self, ids: Iterable[str], where: Path | str) -> None:
        """Raise InputError for a label of a layer that is none of the character's `ids`."""
        known = set(ids)
        for layer in self.layers:
            if layer not in known:
                raise InputError(f"{where}: layers: no layer {layer!r}; {nearest(layer, known)}")


def read_labels(folder: Path) -> Labels | None:
    """The labels in a character's folder; None if it has none.

    Old names of tags (hairf, hairb, eyebg) are read as those of today.

    Raises:
        InputError: when the file can't be read, lacks a key or has one too many, or a value is
            none that may be there; it names the file and the key.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    return parse_labels(text, path)


def parse_labels(text: str, where: Path | str) -> Labels:
    """The labels that a file's text says; raises InputError as `read_labels`."""
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON: {error}") from error
    names = [field.name for field in attrs.fields(Labels)]
    content = _object(content, names, ("tag_set", "layers"), str(where))
    tag_set = content["tag_set"]
    if not isinstance(tag_set, str):
        raise InputError(f"{where}: tag_set: expected one of {', '.join(TAG_SETS)}, not {tag_set}")
    check_tag_set(tag_set, f"{where}: tag_set")
    layers = content["layers"]
    if not isinstance(layers, dict):
        raise InputError(f"{where}: layers: expected an object, found {str(layers)[:60]}")
    for flag in ("valid", "incomplete", "checked"):
        if not isinstance(content.get(flag, True), bool):
            raise InputError(f"{where}: {flag}: expected true or false, found {content[flag]!r}")
    if not isinstance(content.get("made_with"), str | None):
        raise InputError(f"{where}: made_with: expected text, found {content['made_with']!r}")
    read = {layer: _label(entry, tag_set, f"{where}: {layer}") for layer, entry in layers.items()}
    return Labels(**{**content, "layers": read})


def write_labels(folder: Path, labels: Labels) -> None:
    """Write the labels into a character's folder: the old file or the new one is there, whole.

    Raises:
        InputError: when a label can't be read back, or the disk is full; the old file stays.
    """
    text = labels_text(labels)
    path = folder / FILE_NAME
    parse_labels(text, path)
    with clear_disk_errors(folder):
        write_text(path, text)


def labels_text(labels: Labels) -> str:
    """What `write_labels` writes: JSON with one line a layer."""

    def line(key: str, value: Any) -> str:
        return f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"

    heads = [
        line(name, value)
        for name, value in attrs.asdict(labels, recurse=False).items()
        if name != "layers" and value is not None
    ]
    rows = [
        f"  {json.dumps(layer, ensure_ascii=False)}: "
        + json.dumps(attrs.asdict(label), ensure_ascii=False)
        for layer, label in labels.layers.items()
    ]
    inner = "{\n" + ",\n".join(rows) + "\n }" if rows else "{}"
    return "{\n " + ",\n ".join([*heads, f'"layers": {inner}']) + "\n}\n"


def _label(entry: Any, tag_set: str, where: str) -> Label:
    keys = [field.name for field in attrs.fields(Label)]
    entry = _object(entry, keys, keys, where)
    tag, confidence, by = (entry[key] for key in keys)
    if not isinstance(tag, str | None):
        raise InputError(f"{where}: tag: expected a tag of {tag_set} or null, found {tag!r}")
    # JSON's NaN is a number that is in no range.
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise InputError(f"{where}: confidence: expected a number, found {confidence!r}")
    if not 0 <= confidence <= 1:
        raise InputError(f"{where}: confidence: expected 0 to 1, found {confidence}")
    if by not in get_args(By):
        raise InputError(f"{where}: by: found {by!r}; {nearest(str(by), get_args(By))}")
    if tag is not None:
        tag = check_tag(tag, tag_set, f"{where}: tag")
    return Label(tag, float(confidence), cast(By, by))


def _object(value: Any, known: Iterable[str], needed: Iterable[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {str(value)[:60]}")
    for key in value:
        if key not in known:
            raise InputError(f"{where}: no key {key!r}; {nearest(key, known)}")
    for key in needed:
        if key not in value:
            raise InputError(f"{where}: lacks the key {key!r}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; the standard library would keep the last of two equal keys in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found
