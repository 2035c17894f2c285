"""OKLab, a colour space in which equal distances look equally large (Ottosson, 2020)."""

import torch
from torch import Tensor

TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
"""From linear sRGB to the responses of the eye's cones."""

FROM_ROOTS = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""From the cube roots of these to lightness and the two axes of colour."""

TOE = 6e-4
"""Below it a straight line stands in for the cube root, whose slope at 0 is infinite."""


def oklab(rgb: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) in [0, 1] to OKLab (N, 3, H, W): white is (1, 0, 0).

    Values beyond [0, 1] keep a gradient: they go on below 0 as a line, above 1 by the formula.
    """
    curved = ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    linear = torch.where(rgb > 0.04045, curved, rgb / 12.92)
    lms = torch.einsum("ij,njhw->nihw", linear.new_tensor(TO_LMS), linear)
    roots = torch.where(lms > TOE, lms.clamp_min(TOE) ** (1 / 3), lms * TOE ** (1 / 3 - 1))
    return torch.einsum("ij,njhw->nihw", linear.new_tensor(FROM_ROOTS), roots)
