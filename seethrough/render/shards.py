"""The work of a render, cut into shards, and how a shard is written: as a tar or as a folder.

What a shard holds follows from what is rendered alone, so that any worker makes the same bytes. It
has its name in its place once it is whole, and is finished once its record is written.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Protocol, cast, overload

import attrs

from seethrough.data.shards import TAR_BLOCK, index_line, member_name, padded
from seethrough.engine.files import sync_file, sync_folder
from seethrough.errors import InputError

PARTIAL = ".partial-"
"""How the names of files begin that are being written."""


class Rendered(Protocol):
    """A sample that is rendered."""

    @property
    def name(self) -> str:
        """Its page's file name without suffix; no dot is in it."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """Its files by what follows the name in their names, such as `.png` and `_ann.json`."""
        ...


@attrs.frozen
class Shard:
    """A piece of work: samples by character (its folder's name) and index."""

    name: str
    samples: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """How many samples it has."""
        return len(self.samples)


@attrs.frozen
class Shards(Sequence[Shard]):
    """All samples of some characters, `samples_each` of each, `shard_size` a shard.

    A shard is made when it is asked for: ten million samples take no memory.
    """

    characters: Sequence[str]
    samples_each: int
    shard_size: int

    def __len__(self) -> int:
        return -(-self.samples // self.shard_size)

    @property
    def samples(self) -> int:
        """How many samples all shards have."""
        return len(self.characters) * self.samples_each

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        first = range(len(self))[index] * self.shard_size
        rows = range(first, min(first + self.shard_size, self.samples))
        pairs = (divmod(row, self.samples_each) for row in rows)
        return Shard(f"{index:06}", tuple((self.characters[c], i) for c, i in pairs))


@attrs.frozen
class Refusal:
    """Samples that a character has not given."""

    character: str
    samples: int
    reason: str


@attrs.frozen
class Written:
    """A shard that is written: what a record and the manifest say of it."""

    name: str
    file: str
    """The tar or the folder, relative to where the samples go."""
    pages: tuple[str, ...]
    """The page of each sample, likewise."""
    bytes: int
    sha256: str
    """Of the tar's bytes, or of the names and bytes of a folder's files in their order."""
    refused: tuple[Refusal, ...] = ()


class Target:
    """Where samples go: a folder of this machine, or any that fsspec opens."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        try:
            self.files, self.root = url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{address}: fsspec can't open this: {error}. Install the package of its protocol,"
                " such as s3fs for s3://"
            ) from error
        self.folder = Path(self.root) if isinstance(self.files, LocalFileSystem) else None
        """The folder of this machine, None for any other."""
        self.address = address if self.folder is None else str(self.folder)
        """The same from any working directory."""

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file: it has its name when all of it is on the disk, or is not there.

        Another store than this machine's disk is given the whole file at once.
        """
        if self.folder is None:
            with tempfile.TemporaryDirectory() as spool:
                path = Path(spool) / name
                with path.open("wb") as file:
                    yield file
                self.files.makedirs(self.root, exist_ok=True)
                self.files.put_file(str(path), f"{self.root}/{name}")
            return
        with self.partial(name) as path, path.open("wb") as file:
            yield file

    @contextlib.contextmanager
    def partial(self, name: str) -> Iterator[Path]:
        """A path to write a file or folder of this machine at, which then takes its name."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        # Of its own: a worker that was thought dead may still be writing.
        path = self.folder / f"{PARTIAL}{uuid.uuid4().hex[:8]}-{name}"
        try:
            yield path
            for file in sorted(path.iterdir()) if path.is_dir() else (path,):
                sync_file(file)
            if path.is_dir():
                sync_folder(path)
                shutil.rmtree(self.folder / name, ignore_errors=True)
            os.replace(path, self.folder / name)
            sync_folder(self.folder)
        except BaseException:
            # On a full disk this room is wanted.
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
            raise

    def clear_partial(self) -> None:
        """Delete what killed workers left."""
        if self.folder is not None:
            for path in self.folder.glob(f"{PARTIAL}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_tar(target: Target, shard: str, samples: Iterable[Rendered]) -> Written:
    """Write samples as a WebDataset shard, with its index before it.

    The same samples give the same bytes: a file's owner, rights and time are fixed.
    """
    pages: list[str] = []
    lines: list[str] = []
    with target.new_file(f"{shard}.tar") as file:
        hashed = _Hashed(file)
        stream = cast(IO[bytes], hashed)  # a stream is only written
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            offset = 0
            for sample in samples:
                sizes: dict[str, int] = {}
                start = offset
                for ending, content in _files(sample):
                    info = tarfile.TarInfo(member_name(sample.name, ending))
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
                    sizes[ending] = len(content)
                    offset += TAR_BLOCK + padded(len(content))
                lines.append(index_line(sample.name, start, sizes))
                pages.append(f"{shard}.tar/{sample.name}.png")
        # The index first: a tar is never there without it.
        with target.new_file(f"{shard}.jsonl") as index:
            index.write("".join(lines).encode())
    return Written(shard, f"{shard}.tar", tuple(pages), hashed.size, hashed.sha256())


def write_folder(target: Target, shard: str, samples: Iterable[Rendered]) -> Written:
    """Write samples as files in a folder of their shard."""
    pages: list[str] = []
    total, digest = 0, hashlib.sha256()
    with target.partial(shard) as folder:
        folder.mkdir()
        for sample in samples:
            for ending, content in _files(sample):
                name = sample.name + ending
                (folder / name).write_bytes(content)
                digest.update(f"{name} {len(content)} ".encode() + content)
                total += len(content)
            pages.append(f"{shard}/{sample.name}.png")
    return Written(shard, shard, tuple(pages), total, digest.hexdigest())


def record_path(folder: Path, shard: str) -> Path:
    """Where the record of a shard lies."""
    return folder / f"{shard}.json"


def write_record(folder: Path, written: Written) -> None:
    """Write that a shard is finished, at once or not at all."""
    path = record_path(folder, written.name)
    partial = path.with_name(f"{PARTIAL}{path.name}")
    partial.write_text(json.dumps(attrs.asdict(written), ensure_ascii=False), encoding="utf-8")
    sync_file(partial)
    os.replace(partial, path)


def read_record(folder: Path, shard: str) -> Written | None:
    """Read a finished shard's record; None if there is none that can be read."""
    try:
        content = json.loads(record_path(folder, shard).read_text(encoding="utf-8"))
        refused = tuple(Refusal(**one) for one in content.pop("refused"))
        return Written(**{**content, "pages": tuple(content["pages"]), "refused": refused})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _files(sample: Rendered) -> list[tuple[str, bytes]]:
    """A sample's files by their endings, in the order of these."""
    if "." in sample.name or "/" in sample.name:
        raise InputError(f"{sample.name}: a sample's name has no dot and no slash")
    return sorted(sample.files().items())


class _Hashed:
    """A file that is written from its beginning to its end, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.size += len(content)
        return self._file.write(content)

    def sha256(self) -> str:
        return self._digest.hexdigest()
