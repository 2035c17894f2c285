"""Which latents are those of nothing: a frame that holds no layer is found without decoding it.

An absent layer's target in training is an empty picture, so its latents end near those that the
VAE gives an empty picture. How near is near enough is measured with the very networks that would
decode it: dots of several colours and opacities, half a latent wide, go through the VAE and back.
The nearest to nothing of those that still show sets the distance; half of it counts as nothing.

So a layer that is left out has no pixel that a part would keep. Small VAEs may show specks in the
empty picture itself: then what they show tells nothing, every dot counts, however faint, and the
specks of absent layers are gone.
"""

from __future__ import annotations

import attrs
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seethrough.inference.parts import ALPHA_THRESHOLD
from seethrough.models import TransparentVAE

SHARE = 0.5
"""What part of the distance of the nearest dot that shows counts as nothing."""
OPACITIES = (1 / 16, 1 / 8, 1 / 4, 1.0)
"""How opaque the dots are."""
PROBE = 64
"""Side in pixels of the pictures with a dot; the sums of the pixel decoder take 64."""


@attrs.frozen(eq=False)
class Nothing:
    """The latents of an empty picture, and how far from them a frame still is nothing."""

    latents: Tensor
    """(A, C, h, w) float32, unscaled: without the transparency offset, and with it if it has one.
    Training shows the network both."""
    radius: tuple[float, ...]
    """The largest difference of any value, for each; 0 when no dot shows."""

    def holds(self, latents: Tensor) -> list[bool]:
        """Which of unscaled latents (N, C, h, w) are nothing; waits for the device once."""
        nothing = self.latents.to(latents.device)
        distance = (latents.float()[:, None] - nothing).abs().amax(dim=(2, 3, 4))
        radius = torch.tensor(self.radius, device=latents.device)
        return (distance < radius).any(dim=1).tolist()


@torch.no_grad()
def find_nothing(vae: AutoencoderKL, trans_vae: TransparentVAE, side: int) -> Nothing:
    """The latents of an empty picture of `side` pixels, a multiple of the VAE's scale."""
    empty = torch.zeros(1, 4, side, side)
    probes = torch.cat([torch.zeros(1, 4, PROBE, PROBE), _dots(trans_vae.latent_scale)])
    found: list[tuple[Tensor, float]] = []
    offsets = (False, True) if bool(trans_vae.offset(empty).any()) else (False,)
    for use_offset in offsets:
        latents = trans_vae.encode(vae, empty, use_offset=use_offset).float()
        found.append((latents, _radius(vae, trans_vae, probes, use_offset)))
    return Nothing(torch.cat([latents for latents, _ in found]), tuple(r for _, r in found))


def _dots(scale: int) -> Tensor:
    """ARGB pictures (N, 4, PROBE, PROBE) in [0, 1]: a dot each, in the corners of the RGB cube."""
    levels = torch.tensor([0.0, 1.0])
    colors = torch.cartesian_prod(levels, levels, levels)
    argb = torch.cat(
        [torch.cat([torch.full((len(colors), 1), alpha), colors], dim=1) for alpha in OPACITIES]
    )
    width = max(scale // 2, 1)
    # Across the border of two latents, where it tells least of either.
    place = slice(PROBE // 2 - width // 2, PROBE // 2 - width // 2 + width)
    dots = torch.zeros(len(argb), 4, PROBE, PROBE)
    # The colour reaches under the transparency, as it does in training.
    dots[:, 1:] = argb[:, 1:, None, None]
    dots[:, 0, place, place] = argb[:, :1, None]
    return dots


def _radius(
    vae: AutoencoderKL, trans_vae: TransparentVAE, probes: Tensor, use_offset: bool
) -> float:
    """How far from nothing is nothing; the first of the probes is the empty picture."""
    latents = trans_vae.encode(vae, probes, use_offset=use_offset)
    alpha = trans_vae.decode(vae, latents)[:, 3].flatten(1).amax(dim=1)
    shows = alpha * 255 > ALPHA_THRESHOLD
    distance = (latents - latents[:1]).float().abs().flatten(1).amax(dim=1)[1:]
    seen = distance if shows[0] else distance[shows[1:].to(distance.device)]
    return SHARE * float(seen.min()) if len(seen) else 0.0
