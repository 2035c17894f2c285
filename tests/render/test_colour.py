"""Changes of colour."""

import numpy as np
import pytest

from seethrough.data.colours import HsvChange
from seethrough.recipe import evolve
from seethrough.recipes.render import PageColour
from seethrough.render.colour import (
    Light,
    find_palette,
    hsv_changed,
    match_histogram,
    plan_colour,
    quantised,
)


def gradient(values: int) -> np.ndarray:
    """Opaque grays, each as often."""
    grays = np.tile(np.arange(values, dtype=np.uint8), (4, 1))
    return np.dstack([grays, grays, grays, np.full_like(grays, 255)])


def test_a_dark_background_is_brought_to_the_characters_histogram() -> None:
    background = np.random.default_rng(0).integers(0, 51, (60, 60, 3), np.uint8)
    for compat, mean in ((False, 130), (True, 129)):
        matched = match_histogram(background, gradient(256), 128, compat)
        assert matched.mean() == pytest.approx(mean, abs=1.5)
        assert matched.shape == background.shape and matched.dtype == np.uint8


def test_a_character_of_few_colours_changes_no_background() -> None:
    background = np.random.default_rng(0).integers(0, 51, (60, 60, 3), np.uint8)
    assert match_histogram(background, gradient(100), 128) is background
    transparent = gradient(256)
    transparent[:, 100:, 3] = 0
    assert match_histogram(background, transparent, 128) is background


def test_matching_is_that_of_scikit_image() -> None:
    from skimage.exposure import match_histograms

    random = np.random.default_rng(1)
    background = random.integers(20, 90, (40, 40, 3), np.uint8)
    character = np.dstack([random.integers(0, 256, (40, 40, 3)), np.full((40, 40), 255)])
    wanted = match_histograms(background, character[..., :3].astype(np.uint8), channel_axis=-1)
    found = match_histogram(background, character.astype(np.uint8), 0)
    assert np.abs(found - wanted.astype(float)).max() <= 1


def test_few_colours_are_common_to_character_and_background() -> None:
    random = np.random.default_rng(2)
    background = random.integers(0, 256, (30, 30, 3), np.uint8)
    palette = find_palette(random, gradient(256), background, 12)
    few = quantised(background, palette), quantised(gradient(256)[..., :3].copy(), palette)
    colours = {tuple(colour) for picture in few for colour in picture.reshape(-1, 3).tolist()}
    assert 6 <= len(colours) <= 12


def test_light_runs_from_one_side_to_the_other_through_pieces_too() -> None:
    light = Light(0.0, (0.5, 0.5, 0.5), (1.0, 1.0, 2.0), (4, 100))
    page = light(np.full((4, 100, 3), 100, np.uint8), (0, 0))
    assert page[0, 0].tolist() == [50, 50, 51] and page[3, -1].tolist() == [100, 100, 199]
    part = light(np.full((2, 10, 3), 100, np.uint8), (70, 1))
    assert np.array_equal(part, page[1:3, 70:80])


def test_hue_is_turned() -> None:
    red = np.full((2, 3, 3), (255, 0, 0), np.uint8)
    assert (hsv_changed(red, HsvChange(1 / 3, 0.0, 0.0)) == (0, 255, 0)).all()


def test_published_shares_of_changes() -> None:
    def plans(options: PageColour) -> list:
        return [plan_colour(np.random.default_rng(at), (8, 8), options) for at in range(600)]

    published = plans(PageColour())
    assert np.mean([plan.match for plan in published]) == pytest.approx(0.35, abs=0.05)
    assert not any(plan.quantise or plan.hsv or plan.light for plan in published)
    some = plans(evolve(PageColour(), quantise=0.25, hsv=0.5, light=0.5))
    assert np.mean([plan.quantise is not None for plan in some]) == pytest.approx(0.25, abs=0.05)
    assert not any(plan.match and plan.quantise for plan in some)
    assert {plan.quantise for plan in some} == {None, 12, 16, 32}
    assert np.mean([plan.hsv is not None for plan in some]) == pytest.approx(0.5, abs=0.06)
    assert all(abs(plan.hsv.hue) <= 0.015 for plan in some if plan.hsv)
