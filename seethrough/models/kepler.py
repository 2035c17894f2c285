"""A codebook that draws latents towards few values, as a regulariser: KeplerQuantizer's idea.

Latents are cut into groups of channels; each group's vector is compared with the nearest of a
codebook's, and what the codes look like in all with a prior whose numbers are 0 and 1.
"""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16
"""The prior's rows are the binary numbers of so many digits."""

PRIOR_WIDTH = 64


@attrs.frozen
class Quantized:
    """What a codebook finds in latents.

    `nearest` (N, C, h, w) has each vector's nearest code in its place. `loss` and `prior_loss`,
    (N,), are means a sample. `codes` (N, groups * h * w) are the numbers of the codes.
    """

    nearest: Tensor
    loss: Tensor
    prior_loss: Tensor
    codes: Tensor


class KeplerQuantizer(nn.Module):
    """The codebook, `embedding.weight` (codes, channels / groups), and the prior."""

    def __init__(
        self, channels: int, codes: int, groups: int, beta: float, prior_start: int = 0
    ) -> None:
        """Make a new codebook.

        Args:
            channels: of the latents.
            codes: in the codebook.
            groups: of channels; must divide them.
            beta: share of the codes' pull in the loss, beside the latents' of 1.
            prior_start: first row of the binary numbers that make the prior.
        """
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels can't be cut into {groups} groups")
        self.groups = groups
        self.beta = beta
        self.embedding = nn.Embedding(codes, channels // groups)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)
        self.prior: Tensor
        # In the state dict, so that a run that is resumed compares with the same one.
        self.register_buffer("prior", binary_prior(codes, prior_start))

    def forward(self, latents: Tensor) -> Quantized:
        """Compare latents (N, C, h, w) with the codebook."""
        batch, channels, height, width = latents.shape
        grouped = latents.view(batch, self.groups, channels // self.groups, height, width)
        vectors = grouped.permute(0, 1, 3, 4, 2).flatten(1, 3)
        flat = vectors.reshape(-1, vectors.shape[-1])
        codes = torch.cdist(flat.detach(), self.embedding.weight.detach()).argmin(1)
        found = self.embedding(codes).view_as(vectors)
        loss = ((found.detach() - vectors) ** 2).mean((1, 2))
        loss = loss + self.beta * ((found - vectors.detach()) ** 2).mean((1, 2))
        shape = (batch, self.groups, height, width, channels // self.groups)
        nearest = found.view(shape).permute(0, 1, 4, 2, 3).reshape(latents.shape)
        return Quantized(nearest, loss, self._prior_loss(found), codes.view(batch, -1))

    def _prior_loss(self, found: Tensor) -> Tensor:
        """Divergence (N,) of each sample's codes, as a distribution over places, from the prior's.

        The prior is repeated until it is as long as the sample.
        """
        values = found.flatten(1)
        length = values.shape[1]
        prior = self.prior.flatten()
        prior = prior.repeat(-(-length // len(prior)))[:length]
        wanted = F.log_softmax(_standardized(prior[None]), 1).expand_as(values)
        given = F.log_softmax(_standardized(values), 1)
        return F.kl_div(wanted, given, reduction="none", log_target=True).sum(1)


def binary_prior(codes: int, start: int) -> Tensor:
    """Rows (codes, 64) of the binary numbers from `start` on, four times each side by side."""
    numbers = (torch.arange(codes) + start) % 2**BITS
    digits = (numbers[:, None] >> torch.arange(BITS - 1, -1, -1)) & 1
    return digits.float().repeat(1, PRIOR_WIDTH // BITS)


def codes_used(codes: Tensor, count: int) -> Tensor:
    """Share of the `count` codes that any of these numbers names, a scalar on their device."""
    used = torch.zeros(count, device=codes.device)
    return used.index_fill_(0, codes.flatten(), 1.0).mean()


def _standardized(values: Tensor) -> Tensor:
    """Rows of mean 0 and deviation 1; constant ones of 0."""
    deviation = values.std(1, keepdim=True).clamp_min(1e-6)
    return (values - values.mean(1, keepdim=True)) / deviation
