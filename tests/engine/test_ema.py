"""The average of weights."""

import torch
from torch import nn

from seethrough.engine.ema import Average


def test_average_of_known_weights() -> None:
    parameter, frozen = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2), False)
    average = Average([parameter, frozen], decay=0.5)
    for step, value in ((1, 4.0), (20, 8.0)):
        parameter.data.fill_(value)
        average.update(step)
    # Early on the decay is (1 + step) / (10 + step), here 2/11; then 0.5.
    expected = 0.5 * (4.0 * 9 / 11) + 0.5 * 8.0
    with average.applied():
        assert torch.allclose(parameter, torch.full((2,), expected))
        assert torch.equal(frozen, torch.ones(2))
    assert torch.equal(parameter, torch.full((2,), 8.0))
    other = Average([nn.Parameter(torch.zeros(2))], decay=0.5)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.values[0], average.values[0])
