"""Labels all characters of a folder: what is done is skipped, what fails is told."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seethrough.characters.form import list_characters, read_character
from seethrough.characters.labels import FILE_NAME, Labels, read_labels, write_labels
from seethrough.engine.ranks import rank, world
from seethrough.errors import InputError
from seethrough.label.rules import automatic_labels, by_person, made_with

if TYPE_CHECKING:
    from seethrough.label.masks import PartFinder

UNSURE = 0.5
"""Confidence below which a person should look at a label."""


@attrs.define
class Totals:
    """What was done."""

    characters: Counter[str] = attrs.field(factory=Counter)
    """By `labelled` and `done before`."""
    layers: Counter[str] = attrs.field(factory=Counter)
    """Layers of the characters that were labelled now, by what gave the label."""
    tags: Counter[str] = attrs.field(factory=Counter)
    unsure: int = 0
    failures: list[str] = attrs.field(factory=list)

    def add(self, other: Totals) -> None:
        """Count another's in."""
        self.characters += other.characters
        self.layers += other.layers
        self.tags += other.tags
        self.unsure += other.unsure
        self.failures += other.failures

    def lines(self) -> list[str]:
        """What to tell at the end."""
        said = [*(f"{count} {what}" for what, count in self.characters.items())]
        said.append(f"{len(self.failures)} failed")
        told = [f"characters: {', '.join(said)}"]
        if self.layers:
            told.append(f"layers: {_counts(self.layers)}; {self.unsure} unsure (below {UNSURE})")
            told.append(f"tags: {_counts(self.tags)}")
        return told


def label_characters(root: Path, tag_set: str, finder: PartFinder | None) -> list[str]:
    """Label all characters that are not done, with the other processes if there are any.

    Prints a line for each and totals at the end. Returns those of the characters that failed.

    Raises:
        InputError: when there is no such folder, or no character in it.
    """
    folders = list_characters(root)
    if not folders:
        raise InputError(f"{root}: no character is in it: make some: python -m seethrough.ingest")
    totals = Totals()
    shared = world() if finder is not None else 1
    own = folders[rank() :: shared]
    for number, folder in enumerate(own, 1):
        try:
            said = label_character(folder, tag_set, finder, totals)
        except Exception as error:
            if not isinstance(error, InputError | OSError | MemoryError):
                traceback.print_exception(error)
            reason = str(error) if isinstance(error, InputError) else f"{error!r}"
            shown = reason if str(folder) in reason else f"{folder}: {reason}"
            totals.failures.append(shown)
            print(f"{number} of {len(own)}: failed: {shown}", file=sys.stderr, flush=True)
        else:
            if said is not None:
                print(f"{number} of {len(own)}: {said}", flush=True)
    if shared > 1:
        from seethrough.segment.photos import gathered

        parts, totals = gathered([totals]), Totals()
        for part in parts:
            totals.add(part)
    if rank() == 0:
        print(*totals.lines(), sep="\n", flush=True)
    return totals.failures


def label_character(
    folder: Path, tag_set: str, finder: PartFinder | None, totals: Totals
) -> str | None:
    """Label one character, and count it; returns what to tell, None if it was done before.

    What a person labelled stays, also what one labels in the meantime. One that a person has
    looked through is not labelled again; its labels are brought to the tag set.

    Raises:
        InputError: when the character or its labels can't be read, or a person's label can't be
            read in the tag set.
    """
    character = read_character(folder)
    maker = made_with(None if finder is None else finder.identity)
    stored = read_labels(folder)
    before = _in_tag_set(stored, tag_set)
    if before is not None:
        before.check_layers([layer.id for layer in character.layers], folder / FILE_NAME)
        # Names alone say less than names and masks did.
        made = before.made_with or ""
        if before.checked or made == maker or (finder is None and made.startswith(f"{maker}, ")):
            if before != stored:
                write_labels(folder, before)
            totals.characters["done before"] += 1
            return None
    parts = None if finder is None else finder.find(character)
    layers = automatic_labels(character, tag_set, before, parts)
    now = _in_tag_set(read_labels(folder), tag_set) or Labels(tag_set=tag_set, layers={})
    if not now.checked:
        layers |= by_person(now)
        write_labels(folder, attrs.evolve(now, layers=layers, made_with=maker))
    made_by = Counter(label.by for label in layers.values())
    made_by["unlabelled"] = len(character.layers) - len(layers)
    unsure = sum(label.confidence < UNSURE for label in layers.values())
    totals.characters["labelled"] += 1
    totals.layers += made_by
    totals.tags.update(label.tag or "left out" for label in layers.values())
    totals.unsure += unsure
    return f"{folder.name}: {len(character.layers)} layers: {_counts(made_by)}; {unsure} unsure"


def _in_tag_set(labels: Labels | None, tag_set: str) -> Labels | None:
    """Labels in the tag set. Of what rules made in another nothing stays, unless it is checked."""
    if labels is None or labels.tag_set == tag_set:
        return labels
    if not labels.checked:
        labels = attrs.evolve(labels, layers=by_person(labels), made_with=None)
    return labels.in_tag_set(tag_set)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common() if count)
