"""Masks as RGB pictures: what a network that gives pictures tells classes with.

The colours of version 1 are those of its mask files: black, a primary colour for things, white for
stuff. With merged classes, and so for any other mask of two classes, it is black and white.
"""

import itertools

import torch
from torch import Tensor

TWO = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
THREE = (TWO[0], (1.0, 0.0, 0.0), TWO[1])


def palette(classes: int) -> Tensor:
    """Colours of classes by index, (classes, 3) float32 in [0, 1], at most 27; 0 is black."""
    if classes <= 3:
        return torch.tensor(TWO if classes == 2 else THREE)
    # The corners of the cube of colours first, then points halfway between them.
    cube = sorted(itertools.product((0.0, 1.0, 0.5), repeat=3), key=lambda c: c.count(0.5))
    return torch.tensor(cube[:classes])


def paint(classes: Tensor, colours: Tensor) -> Tensor:
    """(B, H, W) class indices as pictures, (B, 3, H, W) float32 in [0, 1]."""
    return colours.to(classes.device)[classes.long()].permute(0, 3, 1, 2)


def nearest_class(pictures: Tensor, colours: Tensor) -> Tensor:
    """(B, 3, H, W) pictures as the class of the nearest colour, (B, H, W) int64."""
    rows = pictures.permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cdist(rows, colours.to(rows)).argmin(1).view(len(pictures), *pictures.shape[-2:])
