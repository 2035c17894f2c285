"""The average of weights."""

import torch

from seethrough.engine.ema import Average


def test_average_of_known_weights() -> None:
    weight = torch.zeros(2)
    average = Average([weight], decay=0.5)
    for step, value in ((1, 4.0), (20, 8.0)):
        weight.fill_(value)
        average.update(step)
    # Early on the decay is (1 + step) / (10 + step), here 2/11; then 0.5.
    expected = 0.5 * (4.0 * 9 / 11) + 0.5 * 8.0
    with average.applied():
        assert torch.allclose(weight, torch.full((2,), expected))
    assert torch.equal(weight, torch.full((2,), 8.0))
    assert torch.allclose(average.values[0], torch.full((2,), expected))
