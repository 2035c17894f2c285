"""The codebook: nearest codes, its losses, and its prior."""

import pytest
import torch

from seethrough.models.kepler import KeplerQuantizer, binary_prior, codes_used


def quantizer(channels: int = 4, codes: int = 8, groups: int = 2) -> KeplerQuantizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return KeplerQuantizer(channels, codes, groups, beta=0.25)


def test_each_vector_has_its_nearest_code() -> None:
    network, latents = quantizer(), 0.1 * torch.randn(3, 4, 2, 5)
    found = network(latents)
    assert found.nearest.shape == latents.shape and found.codes.shape == (3, 2 * 2 * 5)
    table = network.embedding.weight
    for row, group, y, x in ((0, 0, 0, 0), (2, 1, 1, 4)):
        vector = latents[row, 2 * group : 2 * group + 2, y, x]
        best = int((table - vector).square().sum(1).argmin())
        assert int(found.codes[row, (group * 2 + y) * 5 + x]) == best
        assert torch.equal(found.nearest[row, 2 * group : 2 * group + 2, y, x], table[best])


def test_the_loss_pulls_latents_to_codes_and_codes_a_quarter_as_much_to_latents() -> None:
    network, latents = quantizer(), torch.randn(2, 4, 3, 3).requires_grad_()
    found = network(latents)
    error = (found.nearest - latents).square().mean((1, 2, 3))
    torch.testing.assert_close(found.loss, 1.25 * error)
    found.loss.sum().backward()
    assert latents.grad is not None
    torch.testing.assert_close(latents.grad, 2 * (latents - found.nearest) / 36)
    assert network.embedding.weight.grad is not None


def test_the_prior_counts_in_binary() -> None:
    prior = binary_prior(10, 5)
    assert prior.shape == (10, 64) and set(prior.unique().tolist()) == {0.0, 1.0}
    for row, digits in enumerate(prior[:, :16].tolist()):
        assert int("".join(str(int(digit)) for digit in digits), 2) == 5 + row
    assert torch.equal(prior[:, 16:32], prior[:, :16])
    assert torch.equal(binary_prior(3, 2**16 - 1)[1], torch.zeros(64))  # begins anew
    assert "prior" in quantizer().state_dict()


def test_codes_are_compared_with_the_prior_however_large_the_latents_are() -> None:
    network = quantizer()  # 8 rows of 64: fewer numbers than these latents have
    found = network(torch.randn(2, 4, 16, 16))
    assert found.prior_loss.shape == (2,) and (found.prior_loss > 0).all()
    found.prior_loss.sum().backward()
    assert network.embedding.weight.grad is not None


def test_usage() -> None:
    assert float(codes_used(torch.tensor([[0, 1], [1, 3]]), 8)) == 3 / 8
    with pytest.raises(ValueError, match="3 channels can't be cut into 2 groups"):
        KeplerQuantizer(3, 8, 2, 0.25)
