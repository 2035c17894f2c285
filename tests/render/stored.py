"""Samples as a render hands them to whoever writes shards."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from seethrough.render.shards import Target, write_tar
from tests.samples import write_sample


@attrs.frozen
class Stored:
    """A sample of which the files are there."""

    name: str
    content: Mapping[str, bytes]

    def files(self) -> Mapping[str, bytes]:
        return self.content


def samples(folder: Path, *names: str) -> Iterator[Stored]:
    """Write samples into a folder, with a caption each."""
    for name in names:
        page = write_sample(folder, name, seed=len(name))
        page.with_suffix(".txt").write_text("1girl, blue hair")
        paths = [page, *folder.glob(f"{name}[._]*")]
        yield Stored(name, {path.name.removeprefix(name): path.read_bytes() for path in paths})


def packed(target: Path, shard: str, *stored: Stored) -> tuple[str, ...]:
    """Write a shard; returns its pages."""
    return write_tar(Target(str(target)), shard, stored).pages
