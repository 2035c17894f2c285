"""The text table: encoded once, found again by caption."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextModel

from seethrough.errors import InputError
from seethrough.models import text_table
from seethrough.models.small_base import save_small_base
from seethrough.models.text_table import TextTable, cached_captions, encode_captions

CAPTIONS = ("head", "front hair", "")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    vae = tmp_path_factory.mktemp("vae")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(vae)
    save_small_base(folder, vae=vae, captions=CAPTIONS)
    return folder


def test_rows(base: Path) -> None:
    table = encode_captions(base, ["head", "front hair", "head", ""])
    assert table.captions == CAPTIONS
    assert table.hidden.shape == (3, 77, 64)
    assert table.pooled.shape == (3, 32)
    assert not table.hidden.requires_grad
    assert table.rows(["", "head", "head"]).tolist() == [2, 0, 0]
    with pytest.raises(InputError, match=r"caption 'tail' is not in the text table.*'head'"):
        table.rows(["tail"])


def test_a_row_does_not_depend_on_the_other_captions(base: Path) -> None:
    alone, together = encode_captions(base, ["front hair"]), encode_captions(base, CAPTIONS)
    torch.testing.assert_close(alone.hidden[0], together.hidden[1])
    torch.testing.assert_close(alone.pooled[0], together.pooled[1])
    assert not torch.allclose(together.pooled[0], together.pooled[1])


def test_captions_are_encoded_a_few_at_a_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the captions of many files take no more memory on the device than some tags."""
    captions = [f"hair {number}" for number in range(7)]
    together = encode_captions(base, captions)
    sizes: list[int] = []
    forward = CLIPTextModel.forward

    def counted(self: CLIPTextModel, input_ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(input_ids))
        return forward(self, input_ids, **options)

    monkeypatch.setattr(CLIPTextModel, "forward", counted)
    monkeypatch.setattr(text_table, "ENCODED_AT_ONCE", 3)
    few = encode_captions(base, captions)
    assert sizes == 2 * [3, 3, 1]  # by each of two encoders
    torch.testing.assert_close(few.hidden, together.hidden)
    torch.testing.assert_close(few.pooled, together.pooled)


def test_a_caption_that_a_long_table_lacks_is_told_without_all_others() -> None:
    table = TextTable(tuple(map(str, range(100))), torch.zeros(100, 1, 1), torch.zeros(100, 1))
    assert table.nbytes == 800
    with pytest.raises(InputError, match=r"'tail' .*'29' and 70 others; encode it") as told:
        table.rows(["tail"])
    assert "'30'" not in str(told.value)


def test_dtype(base: Path) -> None:
    table = encode_captions(base, CAPTIONS, dtype=torch.bfloat16)
    assert table.hidden.dtype == table.pooled.dtype == torch.bfloat16
    assert table.to("cpu", torch.float32).pooled.dtype == torch.float32


def test_saved_table_loads_the_same(base: Path, tmp_path: Path) -> None:
    table = encode_captions(base, CAPTIONS)
    table.save(tmp_path / "table")
    loaded = TextTable.load(tmp_path / "table")
    assert loaded.captions == CAPTIONS
    assert torch.equal(loaded.hidden, table.hidden)
    assert torch.equal(loaded.pooled, table.pooled)
    (tmp_path / "table" / "text_table.json").write_text('["head"]')
    with pytest.raises(InputError, match="1 captions, but 3 rows"):
        TextTable.load(tmp_path / "table")
    with pytest.raises(InputError, match="absent: not a readable text table"):
        TextTable.load(tmp_path / "absent")


def test_base_without_a_part(base: Path, tmp_path: Path) -> None:
    incomplete = tmp_path / "base"
    shutil.copytree(base, incomplete)
    (incomplete / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="tokenizer_2 or text_encoder_2 cannot be read"):
        encode_captions(incomplete, CAPTIONS)
    shutil.rmtree(incomplete / "text_encoder_2")
    with pytest.raises(InputError, match="no subfolder 'text_encoder_2'; it holds model_index"):
        encode_captions(incomplete, CAPTIONS)


def test_a_cached_table_needs_no_encoder_until_the_base_changes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    own = tmp_path / "base"
    shutil.copytree(base, own)
    first = cached_captions(cache, own, CAPTIONS)

    def encode(*given: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(text_table, "encode_captions", encode)
        again = cached_captions(cache, own, CAPTIONS)
        assert again.captions == CAPTIONS and torch.equal(again.hidden, first.hidden)
        for captions in (CAPTIONS[:2], CAPTIONS[::-1]):
            with pytest.raises(AssertionError, match="encoded again"):
                cached_captions(cache, own, captions)
        weights = own / "text_encoder" / "model.safetensors"
        os.utime(weights, ns=(0, 0))
        with pytest.raises(AssertionError, match="encoded again"):
            cached_captions(cache, own, CAPTIONS)


def test_a_broken_cached_table_is_made_again(base: Path, tmp_path: Path) -> None:
    first = cached_captions(tmp_path, base, CAPTIONS)
    (tensors,) = tmp_path.glob("*/text_table.safetensors")
    tensors.write_bytes(b"")
    assert torch.equal(cached_captions(tmp_path, base, CAPTIONS).pooled, first.pooled)
    assert torch.equal(TextTable.load(tensors.parent).pooled, first.pooled)
