"""Models from the hub: what is said where one can't be had, as in a user's process.

The hub is one on this machine; huggingface_hub reads its variables when it is imported, so each
user is a process.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import CHAIN
from tests.engine.hub import (
    COMMIT,
    CONTENT,
    FILE,
    READER,
    STRANGER,
    File,
    Hub,
    Model,
    local_hub,
    running_hub,
    users,
)
from tests.processes import ROOT, command, free_port

INSTEAD = "or put its files in a folder and name that: file:FOLDER"
FETCH = """
import sys
from seethrough.engine.sources import fetch
from seethrough.errors import InputError
from seethrough.recipe import Hub

for text in sys.argv[1:]:
    repo, _, revision = text.partition("@")
    try:
        print(fetch(Hub(repo, revision or None), "train.base", {}))
    except InputError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with local_hub() as found:
        yield found


def fetched(environment: dict[str, str], *models: str) -> list[str]:
    """What one process prints for each: the folder, or the message after its path and name."""
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *models],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(models)
    found: list[str] = []
    for line, model in zip(lines, models, strict=True):
        named = line.removeprefix(f"train.base: hub model {model} ")
        found.append(named.removesuffix(f", {INSTEAD}"))
        assert Path(line).is_dir() or (named != line and line.endswith(INSTEAD)), line
    return found


def test_without_a_token(address: str, tmp_path: Path) -> None:
    gated, pinned, private, absent, revision, down, good = fetched(
        users(address, tmp_path),
        "org/gated",
        f"org/gated@{COMMIT}",
        "org/private",
        "org/nothing",
        "org/open@v9",
        "org/down",
        "org/open",
    )
    assert gated == pinned
    assert gated == (
        "is gated, and no token is there (HTTP 401: Access to org/gated is restricted): accept the "
        "terms at https://huggingface.co/org/gated, then `hf auth login`"
    )
    assert private == (
        "was not found, or is private, and no token is there (HTTP 401): check the name at "
        "https://huggingface.co/org/private, `hf auth login`"
    )
    assert absent == private.replace("org/private", "org/nothing")
    assert revision == (
        "has no revision v9 (HTTP 404): choose a branch, tag or commit of "
        "https://huggingface.co/org/open/commits/main"
    )
    assert down == (
        f"can't be fetched: {address} answers HTTP 503: the hub is being mended: try again later"
    )
    assert Path(good) == tmp_path / "hub/models--org--open/snapshots" / COMMIT
    assert (Path(good) / FILE).read_text() == "2.0"
    # Once in the cache, a hub that is down or out of reach is none that is missed.
    for variables in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": nowhere()}):
        assert fetched(users(address, tmp_path, **variables), "org/open") == [good]


def nowhere() -> str:
    """An address that nobody answers at."""
    return f"http://127.0.0.1:{free_port()}"


def test_with_a_token_that_may_not(address: str, tmp_path: Path) -> None:
    stranger = users(address, tmp_path, HF_TOKEN=STRANGER)
    gated, private = fetched(stranger, "org/gated", "org/private")
    assert gated == (
        "is gated, and the token has no access (HTTP 403: Access to org/gated is restricted): "
        "accept the terms at https://huggingface.co/org/gated with the token's account, set "
        "HF_TOKEN to another"
    )
    assert private == (
        "was not found, or is private and not for the token's account (HTTP 404): check the name "
        "at https://huggingface.co/org/private, set HF_TOKEN to another"
    )
    (tmp_path / "token").write_text("hf_expired")
    (gated,) = fetched(users(address, tmp_path), "org/gated")
    assert gated == (
        "is refused, as the token is not valid (HTTP 401: Invalid credentials in Authorization "
        "header): `hf auth login` with another"
    )


def test_with_a_token_that_may(address: str, tmp_path: Path) -> None:
    reader = users(address, tmp_path, HF_TOKEN=READER)
    folders = fetched(reader, "org/gated", "org/private", f"org/gated@{COMMIT}")
    assert all((Path(folder) / FILE).is_file() for folder in folders)


SD35 = (
    "model_index.json", "sd3.5_medium.safetensors", "text_encoders/t5xxl_fp16.safetensors",
    "tokenizer/merges.txt", "tokenizer_2/vocab.json", "tokenizer_3/spiece.model",
    "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
    "text_encoder_2/model.safetensors", "text_encoder_3/model-00001-of-00002.safetensors",
    "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip
"""Files as in the repository of Stable Diffusion 3.5 medium."""


FETCH_READ = """
import json
from seethrough.engine.sources import fetch
from seethrough.recipe import Hub
from seethrough.recipes.transparency import EmptyPrompt, TransparencyTrain

for stage, field in ((EmptyPrompt, "base"), (TransparencyTrain, "model.base")):
    folder = fetch(Hub("org/open"), field, {}, reads=stage.reads[field])
    print(*(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()))
"""


def test_of_a_base_only_what_a_stage_reads_is_fetched(tmp_path: Path) -> None:
    files = {name: File(len(CONTENT), CONTENT) for name in SD35}
    with running_hub(Hub(models={"org/open": Model(commits={COMMIT: files})})) as hub:
        done = subprocess.run(
            [sys.executable, "-c", FETCH_READ],
            env=users(hub.address, tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    of_prompt, of_both = (set(line.split()) for line in done.stdout.splitlines())
    assert of_prompt == {
        "tokenizer/merges.txt", "tokenizer_2/vocab.json", "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors", "transformer/config.json",
    }  # fmt: skip
    assert of_both - of_prompt == {
        "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_offline_and_out_of_reach(address: str, tmp_path: Path) -> None:
    (offline,) = fetched(users(address, tmp_path, HF_HUB_OFFLINE="1"), "org/open")
    assert offline == (
        f"is not in the cache {tmp_path}/hub, and HF_HUB_OFFLINE forbids to fetch it: unset that "
        "(environment.hf_hub_offline in the recipe)"
    )
    unknown = nowhere()
    (gone,) = fetched(users(unknown, tmp_path), "org/open")
    assert gone == (
        f"can't be fetched from {unknown} (ConnectError: [Errno 111] Connection refused): connect "
        "to it"
    )


def test_one_message_from_two_ranks_and_the_variables_of_the_recipe(
    address: str, tmp_path: Path
) -> None:
    """The ranks fetch their stage's model: from the recipe's hub, with the token in its home."""
    (tmp_path / "token").write_text(STRANGER)
    environment = users(address, tmp_path / "other")
    del environment["HF_HOME"], environment["HF_ENDPOINT"]
    arguments = command(
        CHAIN,
        f"--runs={tmp_path}/runs",
        "--only=train",
        "--train.hardware.processes=2",
        "--train.data.sources=((hub:org/gated, 1),)",
        f"--environment.hf_home={tmp_path}",
        f"--environment.hf_endpoint={address}",
    )
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("hub model") == 1
    message = "train.data.sources.0.0: hub model org/gated is gated, and the token has no access"
    assert message in done.stderr and "Traceback" not in done.stderr
    assert f"environment: HF_HOME={tmp_path}\nenvironment: HF_ENDPOINT={address}\n" in done.stdout
