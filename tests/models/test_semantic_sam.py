"""The published SemanticSam: its keys and numbers, and what it does beside them."""

from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from seethrough.models.semantic_sam import ARCHITECTURES, PromptAdapter, SemanticSam, normalised
from tests.data.parity.rule import normal, read_vector, weight
from tests.models.small_sam import SMALL, small_model


def pictures(count: int = 2) -> Tensor:
    return normal("pictures", (count, 3, SMALL.image_size, SMALL.image_size))


def parameters(model: SemanticSam, trained: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


def test_published_numbers_at_full_size() -> None:
    spec, expected = read_vector("partseg_b_hq")
    with torch.device("meta"):
        model = SemanticSam(class_num=24, model_type="b_hq").eval()
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == spec["keys"]
    model.load_state_dict({k: weight(k, shape) for k, shape in shapes.items()}, assign=True)
    picture = normal("input:partseg_b_hq:image", (1, 3, 1024, 1024))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        seen = (*model.img_adapter(picture), *model.prompt_adapter())
        logits, found["iou"] = model.mask_adapter(*seen, hq_token_only=False)
        only, _ = model.mask_adapter(*seen, hq_token_only=True)
    for name, value in (("logits_pooled_8", logits), ("logits_hq_only_pooled_8", only)):
        assert list(value.shape) == spec["low_res_shape"]
        found[name] = torch.nn.functional.avg_pool2d(value, 8)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        error = (value - expected[name]).norm() / expected[name].norm()
        assert float(error) < 1e-4, name


@pytest.mark.parametrize(
    ("model_type", "classes", "variant", "keys", "count"),
    [
        ("h_hq", 19, "mlp_variant", 817, 647_299_664),
        ("h_hq", 23, "mlp_variant", 865, 648_418_128),
        ("h_hq", 24, "mlp_variant", 877, 648_697_744),
        ("b_hq", 19, "mlp_variant", 537, 99_420_240),
        ("h", 19, "mlp_variant", 684, 643_187_728),
        ("h_hq", 19, "token_variant", 601, 642_275_024),
        ("h_hq", 23, "token_variant", 601, 642_277_072),
        ("h_hq", 24, "token_variant", 601, 642_277_584),
    ],
)
def test_published_sizes(model_type: str, classes: int, variant: Any, keys: int, count: int):
    with torch.device("meta"):
        model = SemanticSam(class_num=classes, model_type=model_type, mask_decoder=variant)
    assert (len(model.state_dict()), parameters(model)) == (keys, count)


@pytest.mark.parametrize(
    ("prompt", "image", "mask", "count"),
    [
        (False, False, False, 648_418_128),
        (True, False, False, 648_411_908),
        (True, True, False, 11_385_860),
        (True, True, True, 6_431_168),
    ],
)
def test_what_is_frozen(prompt: bool, image: bool, mask: bool, count: int) -> None:
    with torch.device("meta"):
        model = SemanticSam(23, fix_prompt_en=prompt, fix_img_en=image, fix_mask_de=mask)
    assert parameters(model, trained=True) == count
    taught = {(True, False, False): 648_279_296, (False, False, False): 648_279_552}
    if (prompt, image, mask) in taught:
        assert sum(p.numel() for p in model.taught()) == taught[prompt, image, mask]


@pytest.mark.parametrize("variant", ["mlp_variant", "token_variant"])
@pytest.mark.parametrize("hq", [True, False])
def test_masks_reach_what_is_taught_and_nothing_else(variant: Any, hq: bool) -> None:
    """Data parallel training waits for the gradient of every parameter that is trained."""
    model = small_model(model_type=attrs.evolve(SMALL, hq=hq), mask_decoder=variant)
    masks, ious = model(pictures())
    assert masks.shape == (2, 3, 32, 32) and ious.shape == (2, 4)
    masks.square().mean().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    taught = {id(p) for p in model.taught()}
    assert reached == {name for name, p in model.named_parameters() if id(p) in taught}


def test_a_picture_is_judged_alone() -> None:
    model, two = small_model(), pictures()
    with torch.no_grad():
        both, first = model(two)[0], model(two[:1])[0]
    assert torch.allclose(both[:1], first, atol=1e-5)


def test_each_class_has_mlps_of_its_own() -> None:
    model, one = small_model(), pictures(1)
    with torch.no_grad():
        before = model(one)[0]
        model.mask_adapter.output_hypernetworks_mlps[1].layers[-1].bias.add_(1.0)  # pyright: ignore
        change = (model(one)[0] - before).abs().amax((0, 2, 3))
    assert float(change[1]) > 0.1 and float(change[[0, 2]].max()) == 0


def test_each_class_has_tokens_of_its_own() -> None:
    """With their tokens two classes change places."""
    model, one = small_model(mask_decoder="token_variant"), pictures(1)
    with torch.no_grad():
        before = model(one)[0]
        for tokens in (model.mask_adapter.sem_mask_tokens, model.mask_adapter.hq_mask_tokens):
            tokens.weight.copy_(tokens.weight[[1, 0, 2]])
        after = model(one)[0]
    assert not torch.allclose(before[:, 0], before[:, 1], atol=1e-3)
    assert torch.allclose(after, before[:, [1, 0, 2]], atol=1e-5)


def test_hq_says_more_than_sam_alone() -> None:
    """With HQ's heads at zero SAM's own part is left; the HQ part alone is the difference."""
    model, two = small_model(), pictures(1)
    with torch.no_grad():
        whole, only = model(two)[0], model(two, hq_token_only=True)[0]
        for mlp in model.mask_adapter.hf_mlps:
            torch.nn.init.zeros_(mlp.layers[-1].weight)  # pyright: ignore
            torch.nn.init.zeros_(mlp.layers[-1].bias)  # pyright: ignore
        plain = model(two)[0]
    assert torch.allclose(whole, plain + only, atol=1e-5) and only.abs().max() > 0


def test_recomputed_blocks_give_the_same_gradients() -> None:
    gradients: list[list[Tensor]] = []
    for recompute in (False, True):
        model = small_model().train()
        if recompute:
            model.enable_gradient_checkpointing()
        model(pictures())[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_weights_of_half_precision_keep_positions() -> None:
    adapter = PromptAdapter(SMALL)
    expected = adapter.sam_prompt_encoder.get_dense_pe()
    assert torch.allclose(adapter()[1], expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(adapter()[1], expected, atol=1e-5)
    model = small_model().to(torch.bfloat16)
    with torch.no_grad():
        assert model(pictures().bfloat16())[0].dtype == torch.bfloat16


def test_pictures_are_normalised_as_sam_was_taught() -> None:
    black, white = normalised(torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2))[0].T[
        :, 0
    ]
    assert black.tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert white.tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)


def test_unknown_kinds_are_named() -> None:
    for options, said in (
        ({"model_type": "g_hq"}, "model_type='g_hq': known are b, b_hq"),
        ({"mask_decoder": "mlp"}, "mask_decoder='mlp': known are mlp_variant or token_variant"),
        ({"class_num": 0}, "at least one class"),
    ):
        with pytest.raises(ValueError, match=said):
            SemanticSam(**{"class_num": 2, **options})  # pyright: ignore[reportArgumentType]
    assert set(ARCHITECTURES) == {"b", "l", "h", "b_hq", "l_hq", "h_hq"}
