"""Files of SemanticSam: published ones, ours, those of a SAM to start from, and bad ones."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from seethrough.models.semantic_sam import ARCHITECTURES, SemanticSam
from seethrough.models.semantic_sam_weights import (
    architecture_of,
    load_semantic_sam,
    read_tags,
    save_new_sam,
    save_semantic_sam,
    semantic_sam_from_sam,
)
from tests.models.small_sam import SMALL, small_model


@pytest.fixture
def sam(tmp_path: Path) -> Path:
    path = tmp_path / "sam.safetensors"
    save_new_sam(path, SMALL, seed=3)
    return path


@pytest.mark.parametrize("name", ["h_hq", "b"])
def test_a_file_says_itself_what_it_is(name: str) -> None:
    with torch.device("meta"):
        state = SemanticSam(19, model_type=name).state_dict()
    found = architecture_of(
        state, "a file", "img_adapter.sam_img_encoder.", "mask_adapter.sam_mask_decoder."
    )
    assert found == ARCHITECTURES[name]


@pytest.mark.parametrize("variant", ["mlp_variant", "token_variant"])
@pytest.mark.parametrize("hq", [True, False])
def test_published_files_are_read_whole(tmp_path: Path, variant: Any, hq: bool) -> None:
    shape = attrs.evolve(SMALL, hq=hq)
    model = small_model(19, model_type=shape, mask_decoder=variant)
    path = tmp_path / "checkpoint-18000.pt"
    torch.save(model.state_dict(), path)
    again = load_semantic_sam(path)
    assert (again.architecture, again.mask_decoder, again.training) == (shape, variant, False)
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert read_tags(path, again) == TAGS_V2
    assert load_semantic_sam(path, torch.bfloat16).img_adapter.sam_img_encoder.pos_embed.dtype == (  # pyright: ignore
        torch.bfloat16
    )


def test_ours_are_read_with_the_names_of_their_classes(tmp_path: Path) -> None:
    model = small_model(2)
    save_semantic_sam(model, ("face", "hair"), tmp_path / "model")
    again = load_semantic_sam(tmp_path / "model")
    assert read_tags(tmp_path / "model", again) == ("face", "hair")
    # Others read ours by the published keys.
    assert load_file(tmp_path / "model/model.safetensors").keys() == model.state_dict().keys()
    config = tmp_path / "model/config.json"
    config.write_text(json.dumps({"tags": ["face"]}))
    with pytest.raises(InputError, match="names 1 tags, but the model has 2 classes"):
        read_tags(tmp_path / "model", again)


@pytest.mark.parametrize("variant", ["mlp_variant", "token_variant"])
def test_all_classes_start_from_the_same_head(sam: Path, variant: Any) -> None:
    model = semantic_sam_from_sam(sam, 3, variant, fix_prompt_en=True).eval()
    with torch.no_grad():
        masks, _ = model(torch.randn(1, 3, SMALL.image_size, SMALL.image_size))
    assert torch.equal(masks[:, 0], masks[:, 1]) and torch.equal(masks[:, 0], masks[:, 2])
    assert not any(p.requires_grad for p in model.prompt_adapter.parameters())
    source = load_file(sam)
    state = model.state_dict()
    taken = (
        ("img_adapter.sam_img_encoder.neck.0.weight", "image_encoder.neck.0.weight"),
        (
            "prompt_adapter.sam_prompt_encoder.no_mask_embed.weight",
            "prompt_encoder.no_mask_embed.weight",
        ),
        ("mask_adapter.sam_mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
    )
    assert all(torch.equal(state[ours], source[theirs]) for ours, theirs in taken)
    own = "output_hypernetworks_mlps.2" if variant == "mlp_variant" else "output_hypernetworks_mlp"
    head = "mask_decoder.output_hypernetworks_mlps.1.layers.0.weight"
    assert torch.equal(state[f"mask_adapter.{own}.layers.0.weight"], source[head])


def test_missing_parts_are_named(tmp_path: Path, sam: Path) -> None:
    state = small_model(2).state_dict()
    path = tmp_path / "model.safetensors"

    def refused(drop: str, said: str) -> None:
        save_file({k: v.clone() for k, v in state.items() if drop not in k}, path)
        with pytest.raises(InputError, match=said):
            load_semantic_sam(path)

    refused("neck.0", "lacks tensors for this SemanticSam: '.*neck.0.weight'")
    refused("hf_mlps.1.", "lacks tensors for this SemanticSam: '.*hf_mlps.1")
    refused("pos_embed", "pos_embed' of a SAM")
    with pytest.raises(InputError, match="so it is no SemanticSam; it begins with 'image_encoder"):
        load_semantic_sam(sam)
    with pytest.raises(InputError, match="of a SAM: give a whole file"):
        save_file({k: v.clone() for k, v in state.items()}, path)
        semantic_sam_from_sam(path, 2, "mlp_variant")
    with pytest.raises(InputError, match="has 2 classes and doesn't name them"):
        read_tags(path, load_semantic_sam(path))


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": Path("/etc")}, path)
    with pytest.raises(InputError, match="it is refused"):
        load_semantic_sam(path)
    torch.save({"step": 3}, path)
    with pytest.raises(InputError, match="no state dict"):
        load_semantic_sam(path)
    with pytest.raises(InputError, match="no such file"):
        load_semantic_sam(tmp_path / "absent.pt")
