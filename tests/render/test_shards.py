"""Shards: what each holds follows from what is rendered alone, and each is whole or absent."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.shards import is_file, read_bytes
from seethrough.errors import InputError
from seethrough.render.shards import (
    PARTIAL,
    Refusal,
    Shards,
    Target,
    Written,
    read_record,
    write_folder,
    write_record,
    write_tar,
)
from tests.render.stored import Stored, samples

NAMES = st.lists(st.text("abc", min_size=1), max_size=20, unique=True)


@given(NAMES, st.integers(1, 7), st.integers(1, 9))
def test_shards_hold_every_sample_once_in_order(names: list[str], count: int, size: int):
    shards = Shards(names, count, size)
    pairs = [pair for shard in shards for pair in shard.samples]
    assert pairs == [(name, index) for name in names for index in range(count)]
    assert shards.samples == len(pairs) == sum(shard.size for shard in shards)
    assert all(shard.size == size for shard in shards[:-1])
    assert [shard.name for shard in shards] == sorted({shard.name for shard in shards})


def test_ten_million_samples_are_cut_when_asked_for():
    shards = Shards([str(n) for n in range(1000)], 10_000, 256)
    assert len(shards) == 39_063
    assert shards[-1].samples[-1] == ("999", 9999)


def test_a_tar_is_a_webdataset_shard(tmp_path: Path):
    """The files of a sample follow each other, and share what stands before the first dot."""
    stored = list(samples(tmp_path / "in", "a", "b"))
    written = write_tar(Target(str(tmp_path / "out")), "000000", stored)
    with tarfile.open(tmp_path / "out/000000.tar") as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        contents = {name: file.read() for name, file in members.items() if file is not None}
    assert [name.partition(".")[0] for name in contents] == [
        sample.name for sample in stored for _ in sample.files()
    ]
    assert contents["a.front hair.png"] == (tmp_path / "in/a_front hair.png").read_bytes()
    assert contents["b.png"] == (tmp_path / "in/b.png").read_bytes()
    assert contents["b.ann.json"] == (tmp_path / "in/b_ann.json").read_bytes()
    content = (tmp_path / "out/000000.tar").read_bytes()
    assert written.bytes == len(content)
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert written.pages == ("000000.tar/a.png", "000000.tar/b.png")


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    stored = list(samples(tmp_path / "in", "a", "b"))
    for write in (write_tar, write_folder):
        one, two = (write(Target(str(tmp_path / name)), "000000", stored) for name in "12")
        assert one == two
    assert (tmp_path / "1/000000.tar").read_bytes() == (tmp_path / "2/000000.tar").read_bytes()


def test_a_folder_has_the_published_layout(tmp_path: Path):
    stored = list(samples(tmp_path / "in", "a", "b"))
    written = write_folder(Target(str(tmp_path / "out")), "000003", stored)
    assert written.pages == ("000003/a.png", "000003/b.png")
    names = {path.name for path in (tmp_path / "in").iterdir()}
    assert {path.name for path in (tmp_path / "out/000003").iterdir()} == names


def test_another_store_gets_the_same(tmp_path: Path):
    stored = list(samples(tmp_path / "in", "a", "b"))
    near = write_tar(Target(str(tmp_path / "out")), "000000", stored)
    far = write_tar(Target("memory://bucket/out"), "000000", stored)
    assert far == near
    store = fsspec.filesystem("memory")
    assert store.cat("/bucket/out/000000.tar") == (tmp_path / "out/000000.tar").read_bytes()
    assert is_file(Path("memory://bucket/out") / far.pages[0])
    assert read_bytes(Path("memory://bucket/out") / far.pages[1]) == stored[1].files()[".png"]


@pytest.mark.parametrize("write", [write_tar, write_folder])
def test_a_shard_that_breaks_off_is_not_there(tmp_path: Path, write):
    """What was there before stays."""
    stored = list(samples(tmp_path / "in", "a"))
    target = Target(str(tmp_path / "out"))
    before = write(target, "000000", stored)
    content = sorted(path for path in (tmp_path / "out").rglob("*"))

    def broken() -> Iterator[Stored]:
        yield stored[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space"):
        write(target, "000000", broken())
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == content
    assert write(target, "000000", stored) == before


def test_what_killed_workers_left_is_cleared(tmp_path: Path):
    (tmp_path / f"{PARTIAL}12345678-000000").mkdir()
    (tmp_path / f"{PARTIAL}12345678-000000/a.png").touch()
    (tmp_path / f"{PARTIAL}12345678-000001.tar").touch()
    (tmp_path / "000002.tar").touch()
    Target(str(tmp_path)).clear_partial()
    assert [path.name for path in tmp_path.iterdir()] == ["000002.tar"]


def test_names_that_a_tar_would_take_apart_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.b: a sample's name has no dot"):
        write_tar(Target(str(tmp_path)), "000000", [Stored("a.b", {".png": b""})])


def test_a_protocol_without_its_package_is_named():
    with pytest.raises(InputError, match=r"nowhere://x: fsspec can't open this"):
        Target("nowhere://x")


def test_records_are_read_back_or_do_not_count(tmp_path: Path):
    refused = (Refusal("名前", 3, "layers/0000.png: broken"),)
    written = Written("000000", "000000.tar", ("000000.tar/a.png",), 10240, "0" * 64, refused)
    write_record(tmp_path, written)
    assert read_record(tmp_path, "000000") == written
    (tmp_path / "000001.json").write_text('{"name": "000001"')
    assert read_record(tmp_path, "000001") is None
