"""Uploads to a hub on this machine: what arrives, what is sent again, and what is refused."""

import hashlib
import shutil
from pathlib import Path

from tests.engine.hub import COMMIT, READER, WRITER, File, Hub, Model, users
from tests.hub.conftest import MB, User, contents
from tests.processes import free_port


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def on_the_hub(hub: Hub, repo: str, branch: str = "main") -> dict[str, bytes]:
    model = hub.models[repo]
    files = model.commits[model.branches[branch]]
    return {
        path: hub.stored[file.sha256] if file.sha256 else file.content or b""
        for path, file in files.items()
        if path != ".gitattributes"
    }


def test_a_folder_becomes_a_commit_and_the_next_one_replaces_the_model(
    hub: Hub, writer: User, model: Path
) -> None:
    (model / "notes.log").write_text("of no model")
    (line,) = writer.run(["upload", str(model), "org/new", "--private", "--message=First"])
    commit = hub.models["org/new"].branches["main"]
    address = f"{hub.address}/org/new/commit/{commit}"
    assert line == f"{model} is {address}, as its hashes say; --layers=hub:org/new exit 0"
    assert hub.models["org/new"].private
    (model / "notes.log").unlink()
    assert on_the_hub(hub, "org/new") == contents(model)

    hub.models["org/new"].files["picture.png"] = File(3, b"png")
    hub.received.clear()
    (model / "unet" / "weights.safetensors").rename(model / "unet" / "one.safetensors")
    (model / "vae" / "weights.safetensors").write_bytes(bytes(MB))
    (line,) = writer.run(["upload", str(model), "org/new", "--private"])
    assert line.endswith("exit 0")
    # What is the same isn't sent, what the model no longer has is gone, other files stay.
    assert hub.received == {sha256(model / "vae" / "weights.safetensors"): MB}
    assert on_the_hub(hub, "org/new") == {**contents(model), "picture.png": b"png"}
    assert hub.models["org/new"].messages == ["First", "Model of layers"]


def test_a_killed_upload_sends_no_whole_file_again(hub: Hub, writer: User, model: Path) -> None:
    first, second = (sha256(model / part / "weights.safetensors") for part in ("vae", "unet"))
    before = hub.models["org/new"] = Model(commits={COMMIT: {}})
    hub.stall = (second, 2 * MB)
    line = ["upload", str(model), "org/new", "--revision=tries"]
    writer.run_until_killed(hub, line)
    assert hub.received[first] == MB and 2 * MB <= hub.received[second] < 3 * MB
    assert not before.files and before.messages == []
    received = hub.received.copy()
    (said,) = writer.run(line)
    assert said.endswith("exit 0")
    assert on_the_hub(hub, "org/new", "tries") == contents(model)
    assert not before.files
    again = {name: hub.received[name] - received[name] for name in (first, second)}
    assert again == {first: 0, second: 3 * MB}


def test_with_xet_nothing_that_was_stored_is_stored_again(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    hub.xet = tmp_path / "xet"
    hub.stall = ("commit", 0)
    writer = User(users(hub.address, tmp_path / "home", HF_TOKEN=WRITER))
    line = ["upload", str(model), "org/new"]
    writer.run_until_killed(hub, line)
    stored = sum(path.stat().st_size for path in hub.xet.rglob("default.*") if path.is_file())
    assert stored >= 4 * MB
    assert list(hub.models["org/new"].files) == [".gitattributes"]
    (said,) = writer.run(line)
    assert said.endswith("exit 0")
    again = sum(path.stat().st_size for path in hub.xet.rglob("default.*") if path.is_file())
    assert again == stored
    files = hub.models["org/new"].files
    assert files["unet/weights.safetensors"].sha256 == sha256(model / "unet/weights.safetensors")


def test_what_can_t_be_uploaded_is_named(
    hub: Hub, writer: User, model: Path, tmp_path: Path
) -> None:
    depth = tmp_path / "depth"
    shutil.copytree(model, depth)
    for part in ("trans_vae", "text_encoder_2", "tokenizer_2"):
        shutil.rmtree(depth / part)
    (depth / "scheduler").mkdir()
    (done,) = writer.run(["upload", str(model), "org/layers"])
    assert done.endswith("exit 0")
    before = dict(hub.models["org/layers"].commits)
    lines = {
        "org/open": f"upload {model} org/open",
        "another family": f"upload {depth} org/layers",
        "new branch": f"upload {depth} org/layers --revision=depth",
        "public": f"upload {model} org/layers --private",
        "dataset": f"upload {model} org/pictures",
        "commit": f"upload {model} org/new --revision={'0' * 40}",
        "exported": f"upload {model} org/new --precision=fp32",
        "name": f"upload {model} datasets/org/new",
    }
    said = dict(zip(lines, writer.run(*(line.split() for line in lines.values())), strict=True))
    assert all(line.endswith(" exit 2") for line in said.values())
    assert "hub model org/open holds number.txt, which is no model of layers" in said["org/open"]
    assert "hub model org/layers holds" in said["another family"]
    assert "which is no model of depth" in said["another family"]
    # A new branch begins with what the main one holds.
    assert "which is no model of depth" in said["new branch"]
    assert "--private: hub model org/layers is public already" in said["public"]
    assert "org/pictures is a dataset of the hub" in said["dataset"]
    assert "is a commit: give a branch's name" in said["commit"]
    assert f"--precision: {model} is exported already" in said["exported"]
    assert "hub model datasets/org/new can't be written" in said["name"]
    assert hub.models["org/layers"].commits == before and "org/new" not in hub.models


def test_without_a_right_or_a_network_nothing_is_sent(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    expected = (
        ({}, "can't be written without a token: `hf auth login` with one that has the right to"),
        ({"HF_TOKEN": "hf_expired"}, "is refused, as the token is not valid (HTTP 401: Invalid"),
        ({"HF_TOKEN": READER}, "is refused to the token (HTTP 403: You don't have the rights to"),
        ({"HF_TOKEN": WRITER, "HF_ENDPOINT": nowhere}, f"can't be written at {nowhere} (Connect"),
        ({"HF_TOKEN": WRITER, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids to reach the hub"),
    )
    for variables, message in expected:
        user = User(users(hub.address, tmp_path / "home", **variables))
        (said,) = user.run(["upload", str(model), "org/new"])
        assert message in said and said.endswith(" exit 2"), said
    assert "org/new" not in hub.models and not hub.received
    # No token is kept anywhere.
    assert not [path for path in (tmp_path / "home").rglob("token*")]
