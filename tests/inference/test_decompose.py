import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from seethrough.data.crops import fit_page
from seethrough.data.tags import BODY_GROUP, HEAD_GROUP, TAGS_V2, TAGS_V3, TRAINING_TAGS
from seethrough.errors import InputError
from seethrough.inference.composite import flatten
from seethrough.inference.decompose import (
    NO_HEAD,
    DecomposeOptions,
    LayerDiff,
    decode_layers,
    decompose_group,
    decompose_page,
    decompose_pages,
    page_work,
)
from seethrough.inference.head_crop import Square, head_box, head_rect, paste, paste_box
from seethrough.models import UNetFrameConditionModel
from tests.inference.small import small_models, small_unet

SIDE = 32
OPTIONS = DecomposeOptions(resolution=SIDE, steps=2, page_batch=2, decode_batch=8)


@pytest.fixture(scope="module")
def models() -> LayerDiff:
    return small_models()


@pytest.fixture(scope="module")
def models_v2(models: LayerDiff) -> LayerDiff:
    """The same with a UNet of the V2 flow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return attrs.evolve(models, unet=small_unet(tag_version="v2"))


@pytest.fixture
def opaque_models(models: LayerDiff) -> LayerDiff:
    """The same, but every decoded alpha is 1: layers end where the page ends."""
    return _with_alpha(models, 50.0)


def _with_alpha(models: LayerDiff, bias: float) -> LayerDiff:
    trans_vae = copy.deepcopy(models.trans_vae)
    convolution = trans_vae.decoder.model.conv_out
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.bias[0] = bias
    return attrs.evolve(models, trans_vae=trans_vae)


def make_page(height: int, width: int, seed: int = 0, channels: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    page = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    page[..., 3:] = 255
    return page


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(models: LayerDiff):
    page = make_page(40, 56)
    first, again, other = (decompose_page(models, page, seed, OPTIONS) for seed in (7, 7, 8))
    assert list(first.layers) == [*BODY_GROUP, *HEAD_GROUP]
    assert set(first.drawn()) == set(TAGS_V3)
    for tag, layer in first.layers.items():
        assert layer.shape == (SIDE, SIDE, 4) and layer.dtype == np.uint8
        assert np.array_equal(layer, again.layers[tag])
    assert any(not np.array_equal(first.layers[tag], other.layers[tag]) for tag in first.layers)
    assert first.head_box == again.head_box


@pytest.mark.parametrize("skip_absent", [False, True])
def test_all_work_on_a_page_is_told(models: LayerDiff, skip_absent: bool):
    told: list[tuple[str, float]] = []
    options = attrs.evolve(OPTIONS, skip_absent=skip_absent, steps=3)
    page = make_page(40, 56)
    decompose_page(models, page, 7, options, lambda work, amount: told.append((work, amount)))
    assert sum(amount for _, amount in told) == pytest.approx(page_work(models, options))
    assert [work for work, amount in told if amount == 1].count("denoising") == 2 * 3


def test_the_global_generators_play_no_part(models: LayerDiff):
    page = make_page(32, 32)
    torch.manual_seed(1)
    first = decompose_page(models, page, 7, OPTIONS)
    torch.manual_seed(2)
    again = decompose_page(models, page, 7, attrs.evolve(OPTIONS, sample_condition=False))
    assert all(np.array_equal(first.layers[tag], again.layers[tag]) for tag in first.layers)


def test_a_page_has_the_same_layers_alone_and_in_a_batch(models: LayerDiff):
    pages = [make_page(40, 56, seed) for seed in range(3)]
    seeds = [4, 5, 6]
    batched = decompose_pages(models, pages, seeds, OPTIONS)
    alone = attrs.evolve(OPTIONS, page_batch=1, decode_batch=1)
    for page, seed, together in zip(pages, seeds, batched, strict=True):
        single = decompose_page(models, page, seed, alone)
        assert single.head_box == together.head_box
        for tag, layer in single.layers.items():
            difference = np.abs(layer.astype(int) - together.layers[tag])
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (9, 70), (3000, 200), (64, 32), (31, 33), (1, 50)])
def test_pages_of_any_size(models: LayerDiff, size: tuple[int, int], channels: int):
    page = make_page(*size, channels=channels)
    crop_to = "page" if channels == 3 else "character"
    options = attrs.evolve(OPTIONS, crop_to=crop_to, head_area=0.0)
    result = decompose_page(models, page, 0, options)
    assert result.page.shape == (SIDE, SIDE, 4)
    padding = result.page[..., 3] == 0
    for layer in result.layers.values():
        assert layer.shape == (SIDE, SIDE, 4) and layer.dtype == np.uint8
        assert (layer[padding, 3] == 0).all()
    for tag in ("topwear", "face"):
        assert result.on_page(tag).shape == (*size, 4)


def test_layers_come_back_to_the_page_where_they_were(opaque_models: LayerDiff):
    """Every layer is opaque where the page is: on the page, its alpha is the page's."""
    for height, width in ((64, 96), (200, 40), (20, 33)):
        page = make_page(height, width)
        page[..., 3] = 0
        page[height // 4 : height // 2, width // 4 : width // 2, 3] = 255
        result = decompose_page(opaque_models, page, 0, OPTIONS)
        left, top, right, bottom = result.canvas.content
        assert max(right - left, bottom - top) == SIDE
        for tag in ("topwear", "face"):
            alpha = result.on_page(tag)[..., 3].astype(float)
            cover, expected = alpha.sum(), page[..., 3].astype(float).sum()
            assert cover == pytest.approx(expected, rel=0.15)
            pixel = max(height, width) / SIDE
            for axis in (0, 1):
                places = np.arange(alpha.shape[axis])
                centre = (alpha.sum(1 - axis) @ places) / cover
                true = (page[..., 3].astype(float).sum(1 - axis) @ places) / expected
                assert abs(centre - true) < pixel / 2


def test_a_page_in_the_canvas_s_size_is_the_canvas(models: LayerDiff):
    result = decompose_page(models, make_page(SIDE, SIDE), 0, OPTIONS)
    for tag, layer in result.layers.items():
        shown = layer[..., 3] > 0
        assert np.array_equal(result.on_page(tag)[shown], layer[shown])


def test_an_empty_page_has_empty_layers(models: LayerDiff, models_v2: LayerDiff):
    page = make_page(40, 30)
    page[..., 3] = 0
    for crop_to in ("page", "character"):
        options = attrs.evolve(OPTIONS, crop_to=crop_to)
        result = decompose_page(models, page, 0, options)
        assert not any(layer[..., 3].any() for layer in result.layers.values())
        assert result.note == NO_HEAD
        flat = decompose_page(models_v2, page, 0, options)
        assert not flat.recomposition().any() and flat.note is None


@contextmanager
def watched(unet: UNetFrameConditionModel) -> Iterator[list[dict[str, Any]]]:
    """Collect what the network is called with."""
    calls: list[dict[str, Any]] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample, timesteps, text = args
        calls.append({**kwargs, "sample": sample, "timesteps": timesteps, "text": text})

    handle = unet.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def test_the_network_sees_noise_then_the_page_then_text(models: LayerDiff):
    page = make_page(SIDE, SIDE)
    page[:16, :, 3] = 0
    with watched(models.unet) as seen:
        decompose_group(models, [page, make_page(SIDE, SIDE, 1)], 1, [0, 1], OPTIONS)
    assert [call["timesteps"].tolist() for call in seen] == [[667, 667], [334, 334]]
    call = seen[0]
    frames = len(HEAD_GROUP)
    assert call["sample"].shape == (2, frames, 8, 4, 4)
    # The page counts as opaque, its colours under transparency included.
    argb = torch.ones(1, 4, SIDE, SIDE)
    argb[0, 1:] = torch.from_numpy(page[..., :3]).permute(2, 0, 1).float() / 255
    mean, _ = models.trans_vae.posterior(models.vae, argb)
    for frame in range(frames):
        torch.testing.assert_close(call["sample"][0, frame, 4:], 0.13025 * mean[0])
    assert call["group_index"] == 1
    row = models.text.rows(["eyewear"])
    place = HEAD_GROUP.index("eyewear")
    for page_index in range(2):
        assert torch.equal(call["text"][page_index * frames + place], models.text.hidden[row][0])
    pooled = call["added_cond_kwargs"]["text_embeds"]
    assert torch.equal(pooled[place], models.text.pooled[row][0])
    assert call["added_cond_kwargs"]["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 2 * frames


def test_each_pass_starts_from_noise_of_its_own(models: LayerDiff):
    with watched(models.unet) as seen:
        for group_index in (0, 1):
            decompose_group(models, [make_page(SIDE, SIDE)], group_index, [0], OPTIONS)
    body, head = (seen[call]["sample"][0, 0, :4] for call in (0, 2))
    assert not torch.equal(body, head)


def test_the_head_is_found_cropped_and_pasted_back(opaque_models: LayerDiff):
    # A layer is opaque wherever the page is: the head is found as the page's opaque block.
    page = make_page(48, 64)
    page[..., 3] = 0
    page[12:24, 30:46, 3] = 255
    result = decompose_page(opaque_models, page, 0, OPTIONS)
    rect = head_rect(result.page[..., 3])
    assert rect is not None
    canvas = Square(64, 48, SIDE)
    assert result.head_box == head_box(rect, canvas) and result.note is None
    face, head = result.layers["face"], result.layers["head"]
    assert np.array_equal(head[..., 3], result.page[..., 3])
    # The head pass saw the block enlarged; back on the canvas it covers what the body pass does.
    assert np.abs(face[..., 3].astype(int) - head[..., 3]).max() <= 64
    assert np.array_equal(face[..., 3] > 127, head[..., 3] > 127)


def test_the_head_is_cut_from_the_page_in_its_own_resolution(opaque_models: LayerDiff):
    # A fine pattern that a page resized to the canvas would have lost.
    page = make_page(256, 256)
    page[..., 3] = 0
    page[32:64, 64:96, 3] = 255
    page[..., :3] = 255 * (np.indices((256, 256)).sum(axis=0) % 2)[..., None]
    with watched(opaque_models.unet) as seen:
        result = decompose_page(opaque_models, page, 0, OPTIONS)
    crop = result.head_box
    assert crop is not None and crop[2] - crop[0] < 64
    picture = torch.from_numpy(fit_page(page, crop, SIDE, flip=False)).permute(2, 0, 1) / 255
    argb = torch.cat([torch.ones(1, SIDE, SIDE), picture[:3]])[None]
    mean, _ = opaque_models.trans_vae.posterior(opaque_models.vae, argb)
    assert seen[-1]["group_index"] == 1
    torch.testing.assert_close(seen[-1]["sample"][0, 0, 4:], 0.13025 * mean[0])


def test_no_head_sends_the_whole_page_to_the_head_pass(models: LayerDiff):
    page = make_page(48, 64)
    blank = _with_alpha(models, -50.0)
    result = decompose_page(blank, page, 0, OPTIONS)
    assert result.head_box is None and result.note == NO_HEAD
    assert not any(layer[..., 3].any() for layer in result.layers.values())
    assert not result.recomposition().any()


def test_specks_are_no_head(opaque_models: LayerDiff):
    # Layers are opaque where the page is, here on two canvas pixels of 1,024.
    page = make_page(SIDE, SIDE)
    page[..., 3] = 0
    page[3, 4, 3] = page[20, 25, 3] = 255
    options = attrs.evolve(OPTIONS, head_area=0.002)
    result = decompose_page(opaque_models, page, 0, options)
    assert result.head_box is None and result.note == NO_HEAD
    body = decompose_page(opaque_models, page, 0, attrs.evolve(options, head_pass="body"))
    assert body.note is None
    for tag, layer in result.layers.items():
        assert np.array_equal(layer, body.layers[tag])
    found = decompose_page(opaque_models, page, 0, attrs.evolve(options, head_area=0.0))
    assert found.head_box is not None and found.note is None


def test_v2_is_one_pass_over_its_tags(models_v2: LayerDiff):
    page = make_page(40, 56)
    with watched(models_v2.unet) as seen:
        result = decompose_page(models_v2, page, 7, OPTIONS)
    assert len(seen) == OPTIONS.steps
    assert all(call["sample"].shape[1] == len(TAGS_V2) for call in seen)
    assert all(call["group_index"] is None for call in seen)
    assert tuple(result.layers) == TAGS_V2
    assert (result.head_box, result.note) == (None, None)
    rows = models_v2.text.rows(TAGS_V2)
    assert torch.equal(seen[0]["text"], models_v2.text.hidden[rows])
    again, other = (decompose_page(models_v2, page, seed, OPTIONS) for seed in (7, 8))
    assert all(np.array_equal(result.layers[tag], again.layers[tag]) for tag in TAGS_V2)
    assert any(not np.array_equal(result.layers[tag], other.layers[tag]) for tag in TAGS_V2)
    # All of them are drawn, and none is left over.
    assert set(result.drawn()) == set(TAGS_V2)
    options = attrs.evolve(OPTIONS, head_pass="body")
    whole = decompose_page(models_v2, page, 7, options)
    assert all(np.array_equal(result.layers[tag], whole.layers[tag]) for tag in TAGS_V2)


def test_a_unet_of_no_flow_is_refused_by_its_file(models: LayerDiff):
    strange = attrs.evolve(models, unet=small_unet(tag_version="v9"), config_file="x/config.json")
    with pytest.raises(InputError, match=r"x/config\.json: tag_version 'v9'"):
        decompose_page(strange, make_page(8, 8), 0, OPTIONS)


def test_the_head_pass_may_see_the_page(models: LayerDiff):
    page = make_page(48, 64)
    options = attrs.evolve(OPTIONS, head_pass="body")
    result = decompose_page(models, page, 3, options)
    canvas = fit_page(page, (0, 0, 64, 48), SIDE, flip=False)
    layers = decompose_group(models, [canvas], 1, [3], options)[0]
    assert result.head_box is None
    for tag, layer in zip(HEAD_GROUP, layers, strict=True):
        assert np.array_equal(result.layers[tag], layer)


def test_recomposition_follows_the_order(models: LayerDiff):
    result = decompose_page(models, make_page(32, 32), 0, OPTIONS)
    order = TAGS_V3[::-1]
    expected = flatten([result.layers[tag] for tag in order], (SIDE, SIDE)).straight()
    assert list(result.drawn(order)) == list(order)
    assert np.array_equal(result.recomposition(order), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_condition": True},
        {"shared_init_noise": False},
        {"steps": 3},
        {"page_alpha": False},
        {"decode_passes": 8},
    ],
)
def test_every_option_has_an_effect(models: LayerDiff, change: dict[str, Any]):
    page = make_page(32, 32)
    page[:8, :, 3] = 0
    plain = decompose_group(models, [page], 0, [5], OPTIONS)
    changed = decompose_group(models, [page], 0, [5], attrs.evolve(OPTIONS, **change))
    assert not np.array_equal(plain, changed)


def test_a_sampled_condition_is_repeatable(models: LayerDiff):
    options = attrs.evolve(OPTIONS, sample_condition=True)
    first, again = (decompose_group(models, [make_page(32, 32)], 0, [5], options) for _ in "ab")
    assert np.array_equal(first, again)


def test_a_mask_row_serves_its_own_frames(opaque_models: LayerDiff):
    masks = torch.stack([torch.full((1, SIDE, SIDE), value) for value in (1.0, 0.2)])
    latents = torch.zeros(6, 4, 4, 4)
    layers = decode_layers(opaque_models, latents, masks, attrs.evolve(OPTIONS, decode_batch=4))
    assert layers[..., 3].reshape(6, -1).max(axis=1).tolist() == [255] * 3 + [51] * 3


def test_a_network_without_group_embeddings_runs_too(models: LayerDiff):
    plain = attrs.evolve(models, unet=small_unet(tag_version="v3"))
    layers = decompose_group(plain, [make_page(32, 32)], 0, [0], OPTIONS)
    assert layers.shape == (1, 13, SIDE, SIDE, 4)


@pytest.mark.parametrize(
    "page", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4)), np.zeros((0, 4, 4), np.uint8)]
)
def test_a_picture_of_another_kind_is_refused(models: LayerDiff, page: np.ndarray):
    with pytest.raises(InputError, match="convert the picture"):
        decompose_page(models, page, 0, OPTIONS)


@pytest.mark.parametrize(("resolution", "advice"), [(36, "take 32"), (4, "take 8")])
def test_a_resolution_that_latents_cannot_tile_is_refused(
    models: LayerDiff, resolution: int, advice: str
):
    options = attrs.evolve(OPTIONS, resolution=resolution)
    with pytest.raises(InputError, match=f"resolution={resolution}.*{advice}"):
        decompose_page(models, make_page(32, 32), 0, options)


def test_the_body_pass_may_see_the_character_alone(models: LayerDiff):
    """What lies beside the character has no part in its layers, which come back to their place."""
    rng = np.random.default_rng(5)
    page = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    page[..., 3] = 0
    page[16:48, 24:56, 3] = 255
    options = attrs.evolve(OPTIONS, crop_to="character", head_pass="body")
    result = decompose_page(models, page, 3, options)
    cut = page[16:48, 24:56]
    alone = decompose_page(models, cut, 3, attrs.evolve(OPTIONS, head_pass="body"))
    assert result.head_box is None
    place = paste_box((24, 16, 56, 48), Square(64, 64, SIDE))
    for tag in TRAINING_TAGS:
        outside = result.layers[tag].copy()
        outside[8:24, 12:28] = 0
        assert not outside.any()
        assert np.array_equal(result.layers[tag], paste(alone.layers[tag], place))
    assert any(layer.any() for layer in result.layers.values())
