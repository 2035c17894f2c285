"""Downloads from a hub on this machine: whole or not at all, and going on where one stopped."""

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from seethrough.decompose.layout import PARTS
from tests.engine.hub import COMMIT, File, Files, Hub, Model, users
from tests.hub.conftest import MB, User, contents
from tests.processes import free_port

BIG = "unet/weights.safetensors"
SIZE = 24 * MB
NEWER = "1" * 40


def small(text: str) -> File:
    return File(len(text), text.encode())


@pytest.fixture
def files(hub: Hub) -> Files:
    """A public model of depth, `org/depth`, with one large file, and one that nothing reads."""
    content = os.urandom(SIZE)
    name = hashlib.sha256(content).hexdigest()
    hub.stored[name] = content
    found = {f"{part}/config.json": small(f'{{"part": "{part}"}}') for part in PARTS["depth"]}
    found |= {BIG: File(SIZE, sha256=name), "README.md": small("A model"), "old.bin": small("?")}
    hub.models["org/depth"] = Model(commits={COMMIT: found})
    return found


@pytest.fixture
def reader(hub: Hub, tmp_path: Path) -> User:
    return User(users(hub.address, tmp_path / "home"))


def expected(hub: Hub, files: Files) -> dict[str, bytes]:
    """What a folder holds that was filled with the files."""
    return {
        path: hub.stored[file.sha256] if file.sha256 else file.content or b""
        for path, file in files.items()
        if path != "old.bin"
    }


def test_a_killed_download_goes_on_and_mixes_no_commits(
    hub: Hub, files: Files, reader: User, tmp_path: Path
) -> None:
    line = ["download", "org/depth", str(tmp_path / "model")]
    hub.stall = (BIG, 23 * MB)
    begun = tmp_path / ".download-model" / f"{BIG}.{files[BIG].sha256}.partial"
    # It is written by the 10 MiB.
    reader.run_until_killed(hub, line, lambda: begun.stat().st_size >= 10 << 20)
    arrived = begun.stat().st_size
    assert not (tmp_path / "model").exists()
    hub.sent.clear()
    newer = {**files, "vae/config.json": small("{}")}
    del newer["README.md"]
    hub.models["org/depth"].commits[NEWER] = newer
    hub.models["org/depth"].branches["main"] = NEWER
    (said,) = reader.run(line)
    assert f"{tmp_path / 'model'}: org/depth@{NEWER}, 6 files, 24.0 MB" in said
    assert said.endswith(f"--depth=file:{tmp_path / 'model'} decomposes with it exit 0")
    assert contents(tmp_path / "model") == expected(hub, newer)
    assert hub.sent[BIG] == SIZE - arrived
    # Whole files aren't fetched again, and once all is there nothing is.
    hub.sent.clear()
    (again,) = reader.run(line)
    assert again == said and not hub.sent
    assert [path.name for path in tmp_path.iterdir() if "download" in path.name] == []


def test_a_full_disk_keeps_what_arrived(
    hub: Hub, files: Files, reader: User, tmp_path: Path
) -> None:
    line = ["download", "org/depth", str(tmp_path / "model"), f"--revision={COMMIT}"]
    (said,) = reader.run(line, largest_file=12 * MB)
    assert f"{tmp_path}: the disk is full" in said and said.endswith("exit 2")
    assert not (tmp_path / "model").exists()
    hub.sent.clear()
    (said,) = reader.run(line)
    assert said.endswith("exit 0")
    assert hub.sent[BIG] == SIZE - 12 * MB
    assert contents(tmp_path / "model") == expected(hub, files)


def test_other_bytes_than_the_hub_tells_are_refused(
    hub: Hub, files: Files, reader: User, tmp_path: Path
) -> None:
    line = ["download", "org/depth", str(tmp_path / "model")]
    hub.spoilt.add(BIG)
    (said,) = reader.run(line)
    assert said.startswith(f"hub model org/depth: {BIG} arrived damaged") and "exit 2" in said
    assert not (tmp_path / "model").exists()
    hub.spoilt.clear()
    (said,) = reader.run(line)
    assert said.endswith("exit 0")
    assert contents(tmp_path / "model") == expected(hub, files)


def test_two_downloads_into_a_folder_don_t_mix(files: Files, reader: User, tmp_path: Path) -> None:
    partial = tmp_path / ".download-model"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    (said,) = reader.run(["download", "org/depth", str(tmp_path / "model")])
    os.close(handle)
    assert f"{partial}: another process fills it" in said and said.endswith("exit 2")
    assert not list(partial.iterdir())


def test_what_can_t_be_downloaded_is_named(
    hub: Hub, files: Files, reader: User, tmp_path: Path
) -> None:
    hub.models["org/unsafe"] = Model(commits={COMMIT: {**files, "../../x.json": small("{}")}})
    huge = {**files, BIG: File(10**15, sha256="0" * 64)}
    hub.models["org/huge"] = Model(commits={COMMIT: huge})
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("kept")
    lines = {
        "private": "org/private",
        "absent": "org/nothing",
        "revision": "org/depth --revision=v9",
        "another kind": "org/open",
        "unsafe": "org/unsafe",
        "huge": "org/huge",
    }
    others = [["download", "org/depth", str(taken)]]
    others += [["download", "org/depth", str(taken / "mine.txt" / "new")]]
    said = dict(
        zip(
            [*lines, "taken", "no folder"],
            reader.run(
                *(f"download {line} {tmp_path / 'new'}".split() for line in lines.values()),
                *others,
            ),
            strict=True,
        )
    )
    assert all(line.endswith(" exit 2") for line in said.values())
    for name in ("private", "absent"):
        assert "was not found, or is private, and no token is there (HTTP 401)" in said[name]
    assert "hub model org/depth@v9 has no revision v9 (HTTP 404)" in said["revision"]
    assert "hub model org/open is no model of layers or depth" in said["another kind"]
    assert "../../x.json would lie outside of the folder" in said["unsafe"]
    assert f"{tmp_path}: org/huge needs 1000000.0 GB more there" in said["huge"]
    assert f"{taken}: there is something else already" in said["taken"]
    assert "mine.txt/new: can't be written (Not a directory)" in said["no folder"]
    assert contents(taken) == {"mine.txt": b"kept"} and not (tmp_path / "new").exists()
    nowhere = f"http://127.0.0.1:{free_port()}"
    user = User(users(nowhere, tmp_path / "home"))
    (offline,) = user.run(["download", "org/depth", str(tmp_path / "new")])
    assert f"can't be fetched from {nowhere} (ConnectError" in offline
