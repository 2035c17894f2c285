"""Sources as local paths and as identities."""

from pathlib import Path

import pytest

from seethrough.engine.sources import (
    HashCache,
    fetch,
    hidden_notes,
    local_identity,
    snapshot_commit,
)
from seethrough.errors import InputError
from seethrough.recipe import Hub, Local
from tests.engine.chain import Rows


def test_a_hub_model_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--model"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = fetch(Hub("org/model"), "base", {})
    assert (path / "config.json").exists()
    assert snapshot_commit(path) == commit
    assert snapshot_commit(tmp_path) is None


def test_local_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a\.b: nowhere does not exist \(looked in the working"):
        fetch(Local("nowhere"), "a.b", {})
    with pytest.raises(InputError, match=r"^a\.b: /nowhere does not exist$"):
        fetch(Local("/nowhere"), "a.b", {}, ["roots"])
    assert fetch(Local(str(tmp_path)), "a.b", {}, ["roots"]) == tmp_path


def test_relative_paths_below_data_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots = ("one", str(tmp_path / "two"))
    with pytest.raises(InputError) as caught:
        fetch(Local("set/a"), "data", {}, roots)
    assert str(caught.value) == (
        f"data: set/a does not exist (looked in the working directory {tmp_path}, in one and in "
        f"{tmp_path}/two)"
    )
    for place in (tmp_path / "two", Path("one"), Path()):
        (place / "set").mkdir(parents=True)
        (place / "set/a").write_text("same")
        assert fetch(Local("set/a"), "data", {}, roots) == place / "set/a"
    stage = Rows(scale=Local("set/a"))
    assert list(hidden_notes(stage, roots)) == [
        f"scale: file:set/a is taken from set/a, not from one/set/a, {tmp_path}/two/set/a"
    ]
    assert not list(hidden_notes(stage, []))
    # One folder under two names hides nothing.
    (tmp_path / "three").symlink_to(tmp_path)
    assert not list(hidden_notes(stage, ["three", str(tmp_path)]))


def test_identity_is_content(tmp_path: Path) -> None:
    def identity(name: str) -> str | None:
        return local_identity(Local(str(tmp_path / name)), HashCache(tmp_path / "runs"))

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    first = identity("one")
    assert first is not None and first.startswith("sha256:")
    assert first == identity("two")
    (tmp_path / "two/file").write_text("else")
    assert first != identity("two")
    (tmp_path / "one/file").rename(tmp_path / "one/renamed")
    assert first != identity("one")
    assert identity("three") is None
    assert (tmp_path / "runs/.hashes.json").exists()


def test_identity_does_not_tell_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that moves from one root to another, and then the list of its samples."""
    monkeypatch.chdir(tmp_path)
    cache = HashCache(tmp_path / "runs")

    def identities(*roots: str) -> list[str | None]:
        return [local_identity(Local(name), cache, roots) for name in ("data", "lists/one.txt")]

    (tmp_path / "first/data").mkdir(parents=True)
    (tmp_path / "first/data/a.png").write_bytes(b"picture")
    (tmp_path / "first/lists").mkdir()
    (tmp_path / "first/lists/one.txt").write_text("data/a.png\n")
    before = identities("first", "second")
    assert None not in before
    (tmp_path / "second").mkdir()
    (tmp_path / "first/data").rename("second/data")
    assert identities("first", "second") == before
    (tmp_path / "first/lists").rename("second/lists")
    assert identities("first", "second") == before
    (tmp_path / "second").rename("elsewhere")
    assert identities("elsewhere") == before
    assert identities("first", "second") == [None, None]
