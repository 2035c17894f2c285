"""Grids of pictures: the board, scaling, labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seethrough.inference.grid import picture_grid


def plain(color: tuple[float, float, float, float], side: int = 16) -> Tensor:
    """A picture of one RGBA colour."""
    return torch.tensor(color)[:, None, None].expand(4, side, side)


def test_nothing_shows_the_board_of_the_published_pictures() -> None:
    shown = np.asarray(picture_grid([plain((1, 0, 0, 0), 512)], columns=1))
    squares = np.indices((8, 8)).sum(0) % 2
    levels = np.where(squares, 0.55, 0.45).repeat(64, 0).repeat(64, 1) * 255
    assert np.abs(shown - levels[..., None]).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("side", [1, 8, 63, 64, 100])
def test_pictures_and_cells_of_any_size(side: int) -> None:
    pictures = [plain((0.2, 0.4, 0.6, 1.0), side)] * 3
    for cell in (512, side):
        shown = picture_grid(pictures, columns=2, side=cell)
        assert shown.size == (2 * cell, 2 * cell)
        assert np.unique(np.asarray(shown)[:cell].reshape(-1, 3), axis=0).tolist() == [
            [51, 102, 153]
        ]
        assert np.asarray(shown)[cell:, cell:].min() == 255  # no fourth picture


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0, 1), level=st.floats(0, 1))
def test_a_picture_lies_over_the_board(alpha: float, level: float) -> None:
    shown = np.asarray(picture_grid([plain((level, level, level, alpha))], columns=1, side=16))
    for place, board in (((0, 0), 0.45), ((0, 2), 0.55)):
        expected = 255 * (level * alpha + board * (1 - alpha))
        assert np.abs(shown[place] - expected).max() <= 0.51


def test_hidden_colour_stays_hidden_when_a_picture_is_scaled() -> None:
    picture = plain((0, 1, 0, 0), 32).clone()
    picture[:, :, :16] = plain((1, 0, 0, 1), 32)[:, :, :16]
    shown = np.asarray(picture_grid([picture], columns=1, side=64)).astype(int)
    assert (shown[..., 1] - shown[..., 2]).max() <= 1  # nowhere greenish


def test_labels_stand_at_the_top_left_in_lines_that_fit() -> None:
    pictures = [plain((0.5, 0.5, 0.5, 1.0))] * 2
    blank = np.asarray(picture_grid(pictures, columns=2)).astype(int)
    labels = ["face", ""]
    written = np.argwhere((np.asarray(picture_grid(pictures, 2, labels)) != blank).any(-1))
    (top, left), (bottom, right) = written.min(0), written.max(0)
    assert top < 20 and left < 20 and bottom < 50 and 60 < right < 120
    long = ["legwear with a word for every line and then some more words", "second"]
    changed = (np.asarray(picture_grid(pictures, 2, long)) != blank).any(-1)
    first = np.argwhere(changed[:, :512])
    assert 60 < first.max(0)[0] < 512 and 300 < first.max(0)[1] < 512
    assert changed[:, 512:].any()
