"""Parts of pages of any size, and the picture of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seethrough.inference.part_picture import part_colour, part_picture
from seethrough.inference.partseg import load_partseg, page_masks, predict_parts
from seethrough.models.semantic_sam_weights import save_semantic_sam
from tests.models.small_sam import small_model


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (64, 64), (7, 200)])
def test_masks_have_the_pages_size(tmp_path: Path, size: tuple[int, int]) -> None:
    save_semantic_sam(small_model(2), ("face", "hair"), tmp_path)
    model = load_partseg(tmp_path, torch.device("cpu"), torch.float32)
    page = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    masks = predict_parts(model, page)
    assert masks.shape == (2, *size) and masks.dtype == bool
    half = load_partseg(tmp_path, torch.device("cpu"), torch.bfloat16)
    assert (predict_parts(half, page) == masks).mean() > 0.9


def test_masks_lie_where_the_page_lies_in_its_square() -> None:
    """A disc of the square is a disc of the page, at its place."""
    side, (height, width) = 64, (40, 80)
    y, x = np.mgrid[:side, :side] + 0.5
    logits = torch.from_numpy(10.0 - np.hypot(y - 32, x - 16))[None]
    (mask,) = page_masks(logits, (height, width)).numpy()
    y, x = np.mgrid[:height, :width] + 0.5
    # The page's 80 pixels are the square's 64; its middle row is the square's.
    true = np.hypot(y - 20, x - 20) < 12.5
    assert (mask & true).sum() / (mask | true).sum() > 0.97


def test_the_legend_names_what_is_there() -> None:
    page = np.full((64, 48, 3), 200, np.uint8)
    masks = np.zeros((3, 64, 48), bool)
    masks[1, :32] = True
    shown = part_picture(page, masks, ("face", "hair", "tail"))
    assert shown.shape[0] == 64 and shown.shape[1] > 48
    assert (shown[32:, :48] == 200).all()
    mixed = 0.3 * 200 + 0.7 * np.array(part_colour(1))
    assert np.abs(shown[:32, :48] - mixed).max() <= 0.5
    legend = shown[:, 48:].reshape(-1, 3)
    assert (legend == part_colour(1)).all(1).any()
    assert not any((legend == part_colour(other)).all(1).any() for other in (0, 2))
    alone = part_picture(page, masks, ("face", "hair", "tail"), page_share=0.0)
    assert (alone[32:, :48] == 255).all() and (alone[0, 0] == part_colour(1)).all()


def test_a_small_page_has_a_legible_legend() -> None:
    page, tags = np.zeros((20, 30, 3), np.uint8), [f"part {index}" for index in range(9)]
    shown = part_picture(page, np.ones((9, 20, 30), bool), tags, page_share=1.0)
    assert shown.shape[0] == 9 * 12
    assert (shown[:20, :30] == 0).all() and (shown[20:, :30] == 255).all()
    for index in range(9):
        row = shown[12 * index : 12 * (index + 1), 30:].reshape(-1, 3)
        assert (row == part_colour(index)).all(1).any()


def test_classes_have_colours_of_their_own() -> None:
    assert len({part_colour(index) for index in range(24)}) == 24
    assert part_colour(0) == (0x43, 0x63, 0xD8)
    empty = part_picture(np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 9), bool), ("face",))
    assert (empty[:, :9] == 0).all()
