"""Classes as colours of a mask's picture, and back."""

import pytest
import torch

from seethrough.data.class_colours import nearest_class, paint, palette


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_classes_survive_their_colours_and_some_noise(classes: int) -> None:
    colours = palette(classes)
    assert colours.shape == (classes, 3) and len(colours.unique(dim=0)) == classes
    assert colours[0].tolist() == [0, 0, 0]
    mask = torch.randint(classes, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    pictures = paint(mask.to(torch.uint8), colours)
    assert pictures.shape == (2, 3, 5, 4)
    noise = 0.2 * torch.rand(pictures.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(nearest_class(pictures + noise, colours), mask)


def test_published_colours() -> None:
    assert palette(2).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert palette(3).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1]]
