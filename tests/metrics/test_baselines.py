import numpy as np
import pytest

from seethrough.metrics.baselines import NearestCharacter, mean_layers


def layer(alpha: list[int], color: tuple[int, int, int]) -> np.ndarray:
    """One row of pixels."""
    return np.array([[(*color, a) for a in alpha]], np.uint8)


CHARACTERS = [
    {"face": layer([255, 255, 0], (200, 0, 0)), "tail": layer([255, 0, 0], (9, 9, 9))},
    {"face": layer([255, 0, 0], (100, 0, 0))},
    {"face": layer([0, 51, 0], (0, 60, 0)), "neck": layer([0, 0, 255], (1, 2, 3))},
    {"neck": layer([0, 255, 255], (1, 2, 3)), "face": layer([255, 0, 0], (0, 0, 0))},
]


def test_alpha_and_colour_are_averaged_over_those_who_have_the_tag():
    layers = mean_layers(CHARACTERS, ["face", "neck", "tail", "wings"])
    assert set(layers) == {"face"}
    face = layers["face"][0]
    assert face[:, 3].tolist() == [191, 76, 0]
    assert face[0].tolist() == [100, 0, 0, 191]
    # Weights 255 and 51 of red 200 and green 60.
    assert face[1, :3].tolist() == [167, 10, 0]
    # No alpha at all: the tag's mean colour, by weights 255, 255, 255, 51 and 255.
    assert face[2, :3].tolist() == [round(500 / 4.2), round(60 * 0.2 / 4.2), 0]


def test_presence_decides_what_is_predicted():
    assert set(mean_layers(CHARACTERS, ["face", "neck", "tail"], min_presence=0.3)) == {
        "face",
        "neck",
    }
    assert set(mean_layers(CHARACTERS, ["neck", "tail"], min_presence=0.0)) == {"neck", "tail"}
    assert mean_layers([], ["face"]) == {}


def test_the_nearest_page_wins_whatever_its_background():
    rng = np.random.default_rng(1)
    pages = rng.integers(0, 256, (5, 6, 6, 4), dtype=np.uint8)
    pages[..., 3] = np.where(pages[..., 3] > 80, 255, 0)
    nearest = NearestCharacter(pages)
    for index, page in enumerate(pages):
        assert nearest.index(page) == index
        other = page.copy()
        other[page[..., 3] == 0, :3] = rng.integers(0, 256, 3)
        assert nearest.index(other) == index


def test_the_distance_is_squared_and_premultiplied():
    # One pixel far off against three pixels a little off.
    far = layer([255, 255, 255], (100, 100, 100))
    far[0, 0] = (130, 100, 100, 255)
    near = layer([255, 255, 255], (112, 100, 100))
    page = layer([255, 255, 255], (100, 100, 100))
    assert NearestCharacter([far, near]).index(page) == 1
    # At a tenth of the alpha the same colours differ by a tenth.
    faint = layer([25, 25, 25], (255, 255, 255))
    assert (
        NearestCharacter([layer([255] * 3, (255, 255, 255)), faint]).index(
            layer([25, 25, 25], (0, 0, 0))
        )
        == 1
    )


def test_no_training_page_is_an_error():
    with pytest.raises(ValueError, match="no training page"):
        NearestCharacter([])
