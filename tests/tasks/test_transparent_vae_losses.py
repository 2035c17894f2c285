"""Terms that compare pictures: values by hand, composites, backgrounds, colour spaces."""

import pytest
import torch

from seethrough.models.oklab import oklab
from seethrough.recipes.perceptual_vae import PerceptualVaeLoss
from seethrough.tasks.transparent_vae_losses import (
    backgrounds,
    compared,
    composite,
    judgement_weights,
    pixel_terms,
    total,
    weighted,
)
from tests.tasks.small import draw


def test_constant_pictures_have_known_errors() -> None:
    targets, pictures = torch.full((1, 4, 4, 4), 0.5), torch.full((1, 4, 4, 4), 0.3)
    terms = pixel_terms(pictures, targets, torch.zeros(1, 3, 4, 4), PerceptualVaeLoss())
    found = {name: float(value) for name, value in terms.items()}
    # Over black: 0.5 * 0.5 and 0.3 * 0.3.
    assert found == pytest.approx(
        {
            "argb_l1": 0.2, "argb_mse": 0.04, "argb_huber": 0.02,
            "composite_l1": 0.16, "composite_mse": 0.0256,
        }
    )  # fmt: skip
    quarter = PerceptualVaeLoss(argb_mse=0.25)
    assert float(total(weighted({"argb_mse": terms["argb_mse"]}, quarter), quarter)) == (
        pytest.approx(0.01)
    )


def test_both_lie_over_the_same_background_by_their_own_alpha() -> None:
    pictures, background = 3 * torch.rand(2, 4, 5, 5) - 1, torch.rand(2, 3, 5, 5)
    alpha = pictures[:, :1].clamp(0, 1)
    expected = background * (1 - alpha) + pictures[:, 1:] * alpha
    assert torch.equal(composite(pictures, background), expected)
    assert torch.equal(composite(pictures[:, 1:], background), pictures[:, 1:])


@pytest.mark.parametrize("kind", ["noise", "color"])
def test_backgrounds_are_the_draw_s_and_pictures(kind: str) -> None:
    kinds: tuple[str, ...] = (kind,)
    found = backgrounds([draw(0), draw(1)], kinds, (48, 32), torch.device("cpu"))  # type: ignore[arg-type]
    assert found.shape == (2, 3, 48, 32) and found.min() >= 0 and found.max() <= 1
    alone = backgrounds([draw(1)], kinds, (48, 32), torch.device("cpu"))  # type: ignore[arg-type]
    assert torch.equal(found[1:], alone) and not torch.equal(found[0], found[1])
    varies = float(found[0].flatten(1).std(1).max())
    if kind == "color":
        assert varies == 0
    else:
        assert float(found.mean()) == pytest.approx(0.5, abs=0.02) and varies > 0.3


def test_kinds_of_backgrounds_are_drawn_as_often() -> None:
    found = backgrounds(
        [draw(i) for i in range(60)], ("noise", "color"), (4, 4), torch.device("cpu")
    )
    flat = found.flatten(2).std(2).max(1).values == 0
    assert 15 < int(flat.sum()) < 45


def test_colours_as_they_look() -> None:
    pictures, targets = torch.rand(2, 4, 5, 5), torch.rand(2, 4, 5, 5)
    background = torch.rand(2, 3, 5, 5)
    seen = PerceptualVaeLoss(color_space="oklab")
    terms = pixel_terms(pictures, targets, background, seen)
    error = oklab(pictures[:, 1:]) - oklab(targets[:, 1:])
    alpha_error = pictures[:, 0] - targets[:, 0]
    expected = (error.square().sum(1) + alpha_error.square()).mean((1, 2)) / 4
    torch.testing.assert_close(terms["argb_mse"], expected)
    shown = oklab(composite(pictures, background)) - oklab(composite(targets, background))
    torch.testing.assert_close(terms["composite_l1"], shown.abs().mean((1, 2, 3)))


def test_without_layers_pictures_are_compared_as_the_autoencoder_saw_them() -> None:
    argb, picture = torch.rand(1, 4, 4, 4), torch.rand(1, 3, 4, 4)
    shown, wanted = compared({"picture": picture}, argb)
    torch.testing.assert_close(shown, (picture + 1) / 2)
    torch.testing.assert_close(wanted, ((2 * argb[:, 1:] - 1) * argb[:, :1] + 1) / 2)
    assert compared({"argb": argb, "picture": picture}, argb)[0] is argb


def test_colour_weighs_by_the_true_alpha() -> None:
    """In the terms of all channels: a quarter is the error of alpha, the rest that of colour."""
    pictures, targets = torch.rand(2, 4, 5, 5), torch.rand(2, 4, 5, 5)
    background = torch.rand(2, 3, 5, 5)
    plain = pixel_terms(pictures, targets, background, PerceptualVaeLoss())
    terms = pixel_terms(pictures, targets, background, PerceptualVaeLoss(alpha_reweight=2.0))
    errors = abs(pictures - targets)
    of_alpha = errors[:, 0].mean((1, 2))
    of_colour = (2 * targets[:, :1] * errors[:, 1:]).mean((1, 2, 3))
    torch.testing.assert_close(terms["argb_l1"], of_alpha / 4 + 3 / 4 * of_colour)
    assert torch.equal(terms["composite_l1"], plain["composite_l1"])
    assert not torch.allclose(terms["argb_mse"], plain["argb_mse"])


def test_judgements_weigh_by_the_alpha_at_their_place() -> None:
    targets = torch.zeros(1, 4, 8, 8)
    targets[:, 0, :, 4:] = 1.0
    weights = judgement_weights(targets, torch.zeros(1, 1, 2, 2), 3.0)
    assert isinstance(weights, torch.Tensor) and weights.tolist() == [[[[0, 3], [0, 3]]]]
    assert judgement_weights(targets, torch.zeros(1, 1, 2, 2), None) == 1.0
