"""A YAML file as values by dotted key, each with its line. Nothing but plain data is made of it."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from seethrough.recipe import RecipeError


@attrs.frozen
class Entry:
    """A value and where it stands."""

    value: Any
    line: int


@attrs.frozen
class Document:
    """One configuration."""

    name: str
    """What messages call it."""
    entries: tuple[tuple[str, yaml.Node, int], ...]
    """Its top keys, their values unread, and their lines."""

    @property
    def keys(self) -> set[str]:
        """Its top keys."""
        return {key for key, _, _ in self.entries}

    def flat(self, whole: Collection[str]) -> dict[str, Entry]:
        """Values by dotted key; below those in `whole` nothing is taken apart.

        Raises RecipeError for a key that stands twice in one place.
        """
        return dict(self._flat("", self.entries, whole))

    def _flat(
        self, start: str, entries: Collection[tuple[str, yaml.Node, int]], whole: Collection[str]
    ) -> Iterator[tuple[str, Entry]]:
        seen: dict[str, int] = {}
        for key, node, line in entries:
            if key in seen:
                raise RecipeError(
                    f"{self.name}:{line}: {start + key} stands in line {seen[key]} already"
                )
            seen[key] = line
            path = start + key
            if isinstance(node, yaml.MappingNode) and node.value and path not in whole:
                yield from self._flat(f"{path}.", _pairs(self.name, node), whole)
            else:
                value = _read(self.name, node)
                # Arguments in groups, each with its type and help.
                described = isinstance(value, Mapping) and "default" in value
                yield path, Entry(value["default"] if described else value, line)


def read_documents(file: Path) -> list[Document]:
    """The configurations of a file.

    A top key that stands a second time begins another one: a published file is two, one pasted
    below the other.

    Raises:
        RecipeError: when the file is absent or no YAML with keys at its top.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            node = yaml.compose(opened, Loader=yaml.SafeLoader)
    except OSError as error:
        raise RecipeError(f"{file}: can't be read ({error.strerror}); give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise RecipeError(f"{file}: has no keys at its top; a training configuration is expected")
    documents: list[list[tuple[str, yaml.Node, int]]] = [[]]
    for pair in _pairs(str(file), node):
        if pair[0] in {key for key, _, _ in documents[-1]}:
            documents.append([])
        documents[-1].append(pair)
    return [Document(str(file), tuple(entries)) for entries in documents]


def _pairs(name: str, node: yaml.MappingNode) -> list[tuple[str, yaml.Node, int]]:
    return [
        (str(_read(name, key)), value, key.start_mark.line + 1)
        for key, value in node.value  # pyright: ignore[reportUnknownVariableType]
    ]


def _read(name: str, node: yaml.Node) -> Any:
    """The plain data of a node, by YAML's safe rules."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"{name}:{node.start_mark.line + 1}: no plain data ({said})") from error
    finally:
        loader.dispose()
