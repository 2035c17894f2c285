import math

import pytest
import torch

from seethrough.metrics.pictures import LEAST_SIDE, PICTURE_MEASURES, picture_scores


def noise(seed: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, LEAST_SIDE, LEAST_SIDE, generator=generator)


def test_equal_pictures_are_as_good_as_can_be():
    scores = picture_scores(noise(0), noise(0))
    assert scores.keys() == PICTURE_MEASURES.keys()
    # The PSNR is that of rounding to 8 bits, as of layers.
    assert scores["picture_psnr"].item() == pytest.approx(10 * math.log10(12 * 255**2), abs=1e-3)
    assert scores["ssim"].item() == pytest.approx(1, abs=1e-5)
    assert scores["ms_ssim"].item() == pytest.approx(1, abs=1e-5)


def test_constant_pictures_differ_by_their_luminance_alone():
    dark, light = (torch.full((1, 3, LEAST_SIDE, LEAST_SIDE), v / 255) for v in (100, 120))
    scores = picture_scores(dark, light)
    constant = (0.01 * 255) ** 2
    luminance = (2 * 100 * 120 + constant) / (100**2 + 120**2 + constant)
    assert scores["ssim"].item() == pytest.approx(luminance, abs=2e-4)
    # The standard exponent of the last scale; the published program has four times that.
    assert scores["ms_ssim"].item() == pytest.approx(luminance**0.1333, abs=2e-4)
    assert scores["picture_psnr"].item() == pytest.approx(20 * math.log10(255 / 20), abs=1e-3)


def test_psnr_of_a_constant_difference():
    half, less = (torch.full((1, 3, LEAST_SIDE, LEAST_SIDE), v) for v in (0.75, 0.65))
    # A range of 2 and twice the difference give the same 20 dB.
    assert picture_scores(half, less)["picture_psnr"].item() == pytest.approx(20, abs=1e-3)


def test_each_pair_has_values_of_its_own():
    true = noise(0, 2)
    predicted = torch.stack([true[0], 1 - true[1]])
    both = picture_scores(predicted, true)
    for measure in PICTURE_MEASURES:
        assert both[measure].shape == (2,)
        assert both[measure][0] > both[measure][1]
        alone = picture_scores(predicted[1:], true[1:])[measure]
        assert alone.item() == pytest.approx(both[measure][1].item(), abs=1e-5)
    # A negative of the truth is worse than nothing alike, and MS-SSIM stops at 0.
    assert both["ssim"][1] < 0
    assert both["ms_ssim"][1] == 0


def test_pictures_that_cannot_be_compared():
    with pytest.raises(ValueError, match="shapes differ"):
        picture_scores(noise(0), noise(0, 2))
    small = torch.zeros(1, 3, LEAST_SIDE - 1, LEAST_SIDE)
    with pytest.raises(ValueError, match="the sides need 176 px"):
        picture_scores(small, small)
