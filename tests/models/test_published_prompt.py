"""The empty prompt as the published model keeps it."""

import pickle
from pathlib import Path

import pytest
import torch

from seethrough.errors import InputError
from seethrough.models.empty_prompt_sd3 import PromptEmbeddings
from seethrough.models.published_prompt import (
    EMBEDS_FILE,
    POOLED_FILE,
    read_published_prompt,
    write_published_prompt,
)


@pytest.fixture
def prompt() -> PromptEmbeddings:
    """The published shapes and zeros: 77 tokens of CLIP, 77 of T5, 2048 of 4096 features."""
    embeds = torch.zeros(1, 154, 4096, dtype=torch.bfloat16)
    embeds[:, :77, :2048] = torch.randn(77, 2048)
    return PromptEmbeddings(embeds, torch.randn(1, 2048).bfloat16())


def test_what_is_written_is_read_with_torch_s_restricted_reader(
    prompt: PromptEmbeddings, tmp_path: Path
) -> None:
    folder = tmp_path / "prompt"
    write_published_prompt(folder, prompt)
    assert {path.name for path in folder.iterdir()} == {EMBEDS_FILE, POOLED_FILE}
    read = read_published_prompt(folder)
    for stored, given in zip(read, prompt, strict=True):
        assert stored.dtype == torch.bfloat16 and torch.equal(stored, given)
    # A view is stored without what it is a view of.
    assert (folder / POOLED_FILE).stat().st_size < 8000


class Code:
    """Runs a program when it is unpickled without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("absent", f"{POOLED_FILE}: no such file; the published folder"),
        ("damaged", f"{POOLED_FILE}: not a stored tensor of torch"),
        ("code", f"{POOLED_FILE}: not a stored tensor of torch"),
        ("list", f"{POOLED_FILE}: holds list, a tensor is expected"),
        ("shape", "pooled_prompt_embeds has shape"),
        ("text", "tokens from 77 on, which stand for T5's, are not zero"),
        ("wide", "features from 2048 on, beyond those of CLIP, are not zero"),
    ],
)
def test_what_is_no_stored_prompt_is_named(
    problem: str,
    message: str,
    prompt: PromptEmbeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "prompt"
    if problem == "text":
        prompt.embeds[0, 100, 3] = 1
    elif problem == "wide":
        prompt.embeds[0, 3, 3000] = 1
    elif problem == "shape":
        prompt = PromptEmbeddings(prompt.embeds, prompt.pooled[0])
    write_published_prompt(folder, prompt)
    pooled = folder / POOLED_FILE
    if problem == "absent":
        pooled.unlink()
    elif problem == "damaged":
        pooled.write_bytes(pooled.read_bytes()[:500])
    elif problem == "code":
        pooled.write_bytes(pickle.dumps(Code()))
    elif problem == "list":
        torch.save([1, 2], pooled)
    with pytest.raises(InputError, match=message):
        read_published_prompt(folder)
    assert not (tmp_path / "ran").exists()
