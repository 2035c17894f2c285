"""Samples in shards: tar files whose every file can be read by itself.

A folder of shards holds

- `000000.tar`, `000001.tar`, ...: WebDataset shards. The files of a sample follow each other and
  share what stands before the first dot: `name_face.png` of a folder is `name.face.png` there.
- `000000.jsonl`, ...: the index of each, a line a sample: its name, where it begins in the tar, and
  the sizes of its files in their order, by what follows the name in a folder.
- `samples.txt`: the pages of all, one a line, `000000.tar/name.png`.
- `shards.json`: the manifest, written last: of each shard and of the list the hash and how much it
  holds, and where they lie when that is not the manifest's folder.

A file in a shard has a path as any other: `FOLDER/000000.tar/name_face.png`. `read_bytes` and
`is_file` read such paths and all others, so that what reads samples need not tell them apart.
A folder may lie wherever fsspec reaches: `s3://bucket/folder` is then written as a path too.
"""

import errno
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from seethrough.errors import InputError

MANIFEST = "shards.json"
SAMPLES = "samples.txt"
TAR_BLOCK = 512
"""A tar has a header of one block before each file, and fills the file's last block."""

_OPEN_SHARDS = 64
"""Indexes that a process keeps: one of 256 samples takes about 1 MB."""


@attrs.frozen
class ShardEntry:
    """What a manifest says of a shard."""

    file: str
    samples: int
    bytes: int
    sha256: str


@attrs.frozen
class Manifest:
    """What a folder of shards holds."""

    folder: str
    """Where the shards lie: a folder, or an address that fsspec opens."""
    shards: tuple[ShardEntry, ...]
    samples_sha256: str
    """Hash of the list of all samples."""

    def pages(self) -> list[Path]:
        """The page of every sample, as a path in its shard.

        Raises InputError if the list is absent, or not the one that the manifest was written with.
        """
        text = self._list()
        if hashlib.sha256(text).hexdigest() != self.samples_sha256:
            raise InputError(
                f"{self.folder}/{SAMPLES}: not the list that {MANIFEST} was written with: copy the "
                "folder again, or render it again"
            )
        folder = Path(self.folder)
        return [folder / line for line in text.decode().splitlines()]

    def content_hash(self) -> str:
        """Hash of what the shards hold, wherever they lie: 32 hex digits."""
        digest = hashlib.blake2b(self.samples_sha256.encode(), digest_size=16)
        for shard in self.shards:
            digest.update(f"{shard.file} {shard.sha256}\n".encode())
        return digest.hexdigest()

    def text(self, folder: str | None) -> str:
        """The manifest as JSON; `folder` is said in it when it is not None."""
        content: dict[str, Any] = {} if folder is None else {"folder": folder}
        content["samples"] = sum(shard.samples for shard in self.shards)
        content["samples_sha256"] = self.samples_sha256
        content["shards"] = [attrs.asdict(shard) for shard in self.shards]
        return json.dumps(content, indent=1) + "\n"

    def _list(self) -> bytes:
        try:
            return _read(f"{self.folder}/{SAMPLES}")
        except OSError as error:
            raise InputError(
                f"{self.folder}/{SAMPLES}: the list of the shards' samples can't be read: {error}"
            ) from error


def find_manifest(path: Path) -> Manifest | None:
    """Read the manifest that a path is, or that lies in the folder that it is; None if neither.

    Raises InputError for one that can't be read.
    """
    if path.is_dir():
        path = path / MANIFEST
    if path.name != MANIFEST or not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        return Manifest(
            folder=content.get("folder", str(path.parent)),
            shards=tuple(ShardEntry(**entry) for entry in content["shards"]),
            samples_sha256=content["samples_sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a manifest of shards ({type(error).__name__}: {error}): copy it again, "
            "or render the samples again"
        ) from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, in a shard or not.

    Raises OSError as `Path.read_bytes`, FileNotFoundError when it is absent, and InputError for a
    shard whose index is broken.
    """
    if not _in_shard(path):
        return path.read_bytes()
    return _shard(path).read(path)


def is_file(path: Path) -> bool:
    """Whether there is a file at a path, in a shard or not."""
    if not _in_shard(path):
        return path.is_file()
    try:
        return _shard(path).place(path) is not None
    except FileNotFoundError:
        return False


def file_size(path: Path) -> int:
    """Size of a file in bytes; raises OSError when it is absent."""
    if not _in_shard(path):
        return path.stat().st_size
    start, end = _shard(path).existing_place(path)
    return end - start


def file_names(folder: Path) -> set[str]:
    """The files in a folder, or in a shard."""
    if folder.suffix != ".tar" or folder.is_dir():
        return {entry.name for entry in os.scandir(folder)}
    shard = _shard(folder / "_")
    return {name + ending for name, (_, sizes) in shard.samples.items() for ending in sizes}


def member_name(name: str, ending: str) -> str:
    """What a sample's file is called in a tar; `ending` is what follows its name in a folder."""
    return name + re.sub("^_", ".", ending)


def index_line(name: str, offset: int, sizes: dict[str, int]) -> str:
    """A sample's line of an index: `sizes` of its files by ending, in their order in the tar."""
    return json.dumps({"name": name, "offset": offset, "files": sizes}, ensure_ascii=False) + "\n"


def padded(size: int) -> int:
    """The bytes that a file of `size` takes in a tar, without its header."""
    return -(-size // TAR_BLOCK) * TAR_BLOCK


class _Shard:
    """An opened shard: its index, and where to read."""

    def __init__(self, address: str) -> None:
        self.address = address
        lines = _read(f"{address.removesuffix('.tar')}.jsonl").decode().splitlines()
        try:
            samples = [json.loads(line) for line in lines]
            self.samples = {one["name"]: (one["offset"], one["files"]) for one in samples}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{address}: its index is broken ({type(error).__name__}: {error}): copy it again"
            ) from error

    def read(self, path: Path) -> bytes:
        start, end = self.existing_place(path)
        content = _read(self.address, start, end)
        if len(content) != end - start:
            raise OSError(errno.EIO, f"{self.address} is cut off before {path.name}: copy it again")
        return content

    def existing_place(self, path: Path) -> tuple[int, int]:
        place = self.place(path)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return place

    def place(self, path: Path) -> tuple[int, int] | None:
        """First byte of a file in the tar and the one after its last; None if it isn't there."""
        # A sample's name has no dot, but may be the beginning of another's.
        for name, ending in _splits(path.name):
            if name in self.samples:
                offset, sizes = self.samples[name]
                for other, size in sizes.items():
                    offset += TAR_BLOCK
                    if other == ending:
                        return offset, offset + size
                    offset += padded(size)
        return None


def _splits(file: str) -> Iterator[tuple[str, str]]:
    """The ways to take a file's name apart into a sample's name and an ending."""
    stem = file.partition(".")[0]
    for at in (len(stem), *(m.start() for m in re.finditer("_", stem))):
        yield file[:at], file[at:]


def _in_shard(path: Path) -> bool:
    return path.parent.suffix == ".tar"


def _shard(path: Path) -> _Shard:
    # Connections of fsspec don't live on in a process that was forked.
    return _opened(_address(path.parent), os.getpid())


@functools.lru_cache(_OPEN_SHARDS)
def _opened(address: str, process: int) -> _Shard:
    del process
    return _Shard(address)


def _address(path: Path) -> str:
    """The path as fsspec takes it: of `s3://bucket`, a path keeps one slash."""
    return re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", path.as_posix())


def _read(address: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes of a file wherever fsspec reaches, all or from `start` to before `end`."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(address)
    return files.cat_file(path, start=start, end=end)
