"""Loss terms of the autoencoders that carry transparency, each a number a sample."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.models.oklab import oklab
from seethrough.recipe import Section
from seethrough.recipes.perceptual_vae import PerceptualVaeLoss
from seethrough.tasks.noise import normal
from seethrough.tasks.transfer import on_device

GRAY = 0.5


def reconstruction_terms(out: Mapping[str, Tensor], argb: Tensor) -> dict[str, Tensor]:
    """Errors (N,) of what `Autoencoders` gives for pictures (N, 4, H, W) ARGB in [0, 1], by the
    names of `TransparentVaeLoss`; those of the layer are left out where it was not decoded."""
    alpha, rgb = argb[:, :1], argb[:, 1:]
    base = (2 * rgb - 1) * alpha
    variance = out["std"] ** 2
    terms = {
        "base_l1": _mean(abs(out["picture"] - base)),
        "base_mse": _mean((out["picture"] - base) ** 2),
        "kl": 0.5 * _mean(out["mean"] ** 2 + variance - 1 - variance.log()),
    }
    if "argb" in out:
        terms = _layer_terms(out["argb"], alpha, rgb) | terms
    if "offset_picture" in out:
        plain = out.get("plain_picture", out["picture"]).detach()
        terms["identity"] = _mean((out["offset_picture"] - plain) ** 2)
    return terms


def _layer_terms(argb_out: Tensor, alpha: Tensor, rgb: Tensor) -> dict[str, Tensor]:
    alpha_out, rgb_out = argb_out[:, :1], argb_out[:, 1:]
    # Within [0, 1]: beyond it, overlap would be rewarded without bound.
    bounded = alpha_out.clamp(0, 1)
    overlap = (alpha * bounded).sum((1, 2, 3))
    areas = alpha.sum((1, 2, 3)) + bounded.sum((1, 2, 3))
    covered = alpha.mean((1, 2, 3)).clamp_min(1e-3)
    return {
        "alpha_l1": _mean(abs(alpha_out - alpha)),
        "alpha_mse": _mean((alpha_out - alpha) ** 2),
        "alpha_dice": 1 - (2 * overlap + 1) / (areas + 1),
        "color_l1": _mean(abs(rgb_out - rgb) * alpha) / covered,
        "color_mse": _mean((rgb_out - rgb) ** 2 * alpha) / covered,
    }


def weighted(terms: Mapping[str, Tensor], weights: Section) -> dict[str, Tensor]:
    """Sums over the batch of the terms that have a weight."""
    return {name: term.sum() for name, term in terms.items() if getattr(weights, name) > 0}


def total(terms: Mapping[str, Tensor], weights: Section) -> Tensor:
    """The weighted sum of these terms."""
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def compared(out: Mapping[str, Tensor], argb: Tensor) -> tuple[Tensor, Tensor]:
    """What was decoded and what it should be, in about [0, 1]: layers (N, 4, H, W) ARGB, or, where
    none was decoded, the autoencoder's pictures (N, 3, H, W) over mid-gray."""
    if "argb" in out:
        return out["argb"], argb
    alpha, rgb = argb[:, :1], argb[:, 1:]
    return out["picture"] * 0.5 + GRAY, GRAY + (rgb - GRAY) * alpha


def pixel_terms(
    pictures: Tensor, targets: Tensor, background: Tensor, weights: PerceptualVaeLoss
) -> dict[str, Tensor]:
    """Errors (N,) of pictures or layers, and of their composites over `background`, a channel.

    With `weights.alpha_reweight` the colour of layers counts by the true alpha.
    """
    share = channel_weights(targets, weights.alpha_reweight)
    shown, wanted = composite(pictures, background), composite(targets, background)
    if weights.color_space == "oklab":
        pictures, targets = _as_seen(pictures), _as_seen(targets)
        shown, wanted = oklab(shown), oklab(wanted)
    return {
        "argb_l1": _mean(abs(pictures - targets) * share),
        "argb_mse": _mean((pictures - targets) ** 2 * share),
        "argb_huber": _mean(F.huber_loss(pictures, targets, reduction="none") * share),
        "composite_l1": _mean(abs(shown - wanted)),
        "composite_mse": _mean((shown - wanted) ** 2),
    }


def channel_weights(targets: Tensor, reweight: float | None) -> Tensor | float:
    """Weights of the errors of layers (N, 4, H, W): 1 for alpha, `reweight` times the true alpha
    for colour; 1 for all without it."""
    if reweight is None:
        return 1.0
    alpha = targets[:, :1].clamp(0, 1)
    return torch.cat([torch.ones_like(alpha), (alpha * reweight).expand(-1, 3, -1, -1)], 1)


def judgement_weights(targets: Tensor, logits: Tensor, reweight: float | None) -> Tensor | float:
    """Weights of a discriminator's logits (N, 1, h, w) of layers (N, 4, H, W): `reweight` times
    the true alpha there; 1 for all without it."""
    if reweight is None:
        return 1.0
    alpha = targets[:, :1].clamp(0, 1) * reweight
    size = (logits.shape[-2], logits.shape[-1])
    return F.interpolate(alpha, size, mode="bilinear", align_corners=False)


def composite(pictures: Tensor, background: Tensor) -> Tensor:
    """Layers (N, 4, H, W) ARGB over a background (N, 3, H, W); alpha counts within [0, 1].

    Pictures without alpha, (N, 3, H, W), hide it.
    """
    if pictures.shape[1] == 3:
        return pictures
    alpha = pictures[:, :1].clamp(0, 1)
    return background * (1 - alpha) + pictures[:, 1:] * alpha


def backgrounds(
    draws: Sequence[Draw],
    kinds: Sequence[Literal["noise", "color"]],
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """A background (N, 3, H, W) in [0, 1] for each draw, of one of these kinds.

    Noise is normal around mid-gray, one deviation from black and from white, cut off there: in the
    range from -1 to 1, which networks of perception know, it is standard normal.
    """
    rows: list[Tensor] = []
    for draw in draws:
        random = draw.numpy("background")
        if kinds[int(random.integers(len(kinds)))] == "color":
            color = torch.from_numpy(random.random((1, 3, 1, 1), dtype="float32"))
            rows.append(on_device(color, device).expand(1, 3, *size))
        else:
            noise = normal([draw], "background noise", (3, *size), device)
            rows.append((GRAY + GRAY * noise).clamp(0, 1))
    return torch.cat(rows)


def _as_seen(pictures: Tensor) -> Tensor:
    """Pictures or layers with their colour in OKLab."""
    return torch.cat([pictures[:, :-3], oklab(pictures[:, -3:])], 1)


def _mean(values: Tensor) -> Tensor:
    """Mean over all axes but the first, (N,)."""
    return values.flatten(1).mean(1)
