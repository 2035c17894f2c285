"""Sources as local paths and as identities."""

from pathlib import Path

import pytest

from seethrough.engine.sources import HashCache, fetch, local_identity, snapshot_commit
from seethrough.errors import InputError
from seethrough.recipe import Hub, Local


def test_a_hub_model_that_is_not_here_offline() -> None:
    with pytest.raises(InputError) as caught:
        fetch(Hub("nobody/no-such-model", "v1"), "train_2d.model.base", {})
    assert str(caught.value) == (
        "train_2d.model.base: hub model nobody/no-such-model@v1 is not in the local cache, and "
        "HF_HUB_OFFLINE forbids to fetch it: unset it, or put its files in a folder and name that "
        "there: file:FOLDER"
    )


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
    with pytest.raises(InputError, match=r"^a\.b: nowhere does not exist \(from /"):
        fetch(Local("nowhere"), "a.b", {})
    assert fetch(Local(str(tmp_path)), "a.b", {}) == tmp_path


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
