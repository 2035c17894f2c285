"""What the hub has, and chosen files of repositories that are no model of ours."""

import json
from pathlib import Path

from tests.engine.hub import COMMIT, Hub, users
from tests.hub.conftest import User, contents


def told(user: User, *lines: list[str]) -> str:
    """All that command lines print; no token among it."""
    process = user.start(*lines)
    out, err = process.communicate(timeout=200)
    token = user.environment.get("HF_TOKEN")
    assert token is None or token not in out + err
    return out + err


def test_files_chosen_by_pattern_and_what_is_listed(hub: Hub, writer: User, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    (folder / "old").mkdir(parents=True)
    (folder / "checkpoint-18000.pt").write_bytes(b"weights")
    (folder / "old" / "checkpoint-9000.pt").write_bytes(b"earlier")
    (folder / "tags.json").write_text(json.dumps(["hair"]))
    (folder / "notes.txt").write_text("mine")
    new, again = tmp_path / "new", tmp_path / "again"
    said = told(
        writer,
        ["upload", str(folder), "org/parts", "--files=*.pt,tags.json", "--private"],
        ["list", "org/parts"],
        ["list", "org"],
        ["download", "org/parts", str(new), "--files=checkpoint-18000.pt"],
        ["download", "org/parts", str(again), "--files=*.bin"],
        ["upload", str(folder), "org/parts", "--files=*.bin"],
        ["list", "org/nothing"],
    )
    commit = hub.models["org/parts"].branches["main"]
    assert hub.models["org/parts"].messages == ["Files"]
    assert f"org/parts@{commit}: 4 files, 0.0 MB" in said
    lines = {line.split()[-1]: line.split() for line in said.splitlines() if line}
    assert lines["old/checkpoint-9000.pt"][0] == "7" and len(lines["tags.json"][1]) == 12
    assert "notes.txt" not in said
    assert "org: 4 models" in said and "org/parts  private" in said and "org/open" in said
    assert contents(new) == {"checkpoint-18000.pt": b"weights"}
    assert f"{new}: org/parts@{commit}, 1 files, 0.0 MB, as the hub's hashes say\n" in said
    assert "hub model org/parts has no file like *.bin: `python -m seethrough.hub list" in said
    assert f"{folder}: holds no file like *.bin" in said and not again.exists()
    assert "hub model org/nothing was not found" in said
    # Who has no token sees no private one.
    reader = User(users(hub.address, tmp_path / "other"))
    said = told(reader, ["list", "org"], ["list", "org/open"], ["list", "org/parts"])
    assert "org: 2 models" in said and f"org/open@{COMMIT}: 1 files" in said
    assert "hub model org/parts was not found, or is private" in said
