"""Discriminators: published shapes, weights that start as they should, and their loss."""

import math

import pytest
import torch
from accelerate import init_empty_weights
from torch import nn

from seethrough.models.discriminators import (
    PatchDiscriminator,
    UNetDiscriminator,
    adaptive_weight,
    convolution_gradient_norms,
    discriminator_loss,
)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_published_sizes_and_keys() -> None:
    with init_empty_weights():
        sizes = [size(PatchDiscriminator(channels)) for channels in (3, 4, 7)]
        patch = PatchDiscriminator(4)
    assert sizes == [2_766_529, 2_767_553, 2_770_625]
    assert {key.split(".")[1] for key in patch.state_dict()} == {*"0235689", "11"}
    unet = UNetDiscriminator(4)
    assert size(unet) == 4_377_473
    assert {k for k in unet.state_dict() if k.startswith(("conv0", "conv1", "conv9"))} == {
        "conv0.weight", "conv0.bias", "conv1.weight_orig", "conv1.weight_u", "conv1.weight_v",
        "conv9.weight", "conv9.bias",
    }  # fmt: skip


def test_a_judgement_for_each_patch_or_pixel() -> None:
    with torch.device("meta"):
        patch = PatchDiscriminator(4)
        for side, patches in ((256, 30), (512, 62)):
            assert patch(torch.zeros(1, 4, side, side)).shape == (1, 1, patches, patches)
    assert UNetDiscriminator(4, channels=4)(torch.rand(2, 4, 16, 24)).shape == (2, 1, 16, 24)


@pytest.mark.parametrize("kind", [PatchDiscriminator, UNetDiscriminator])
def test_convolutions_start_small_also_under_spectral_normalisation(kind: type) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(4, channels=32)
    before = {k: v.detach().clone() for k, v in network.named_parameters() if v.dim() == 4}
    for name, weight in before.items():
        if weight.numel() > 1000:
            assert float(weight.std()) == pytest.approx(0.02, rel=0.1), name
    network(torch.rand(1, 4, 32, 32))
    assert all(torch.equal(dict(network.named_parameters())[k], v) for k, v in before.items())


def test_hinge_and_vanilla() -> None:
    true, decoded = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([[-2.0, 0.0, 1.0]])
    found = discriminator_loss(true[:, None, None], decoded[:, None, None], "hinge")
    assert found.tolist() == pytest.approx([0.9166666])
    found = discriminator_loss(true[:, None, None], decoded[:, None, None], "vanilla")
    assert found.tolist() == pytest.approx([0.6746006])


def test_the_adaptive_weight_is_a_ratio_of_gradients() -> None:
    found = adaptive_weight(torch.tensor([5.0, 1.0]), torch.tensor([1.0, 0.0]), 0.5)
    assert found.tolist() == pytest.approx([0.5 * 5 / 1.0001, 0.5 * 1e4])
    assert math.isclose(float(found[0]), 2.49975, abs_tol=1e-5)


def test_norms_of_each_sample_s_gradient_of_a_convolution() -> None:
    conv = nn.Conv2d(3, 2, 3, padding=1)
    inputs = torch.rand(2, 3, 8, 8)
    output = conv(inputs)
    (gradients,) = torch.autograd.grad((output**3).sum(), output, retain_graph=True)
    found = convolution_gradient_norms(inputs, gradients, conv)
    for row in range(2):
        loss = (output[row] ** 3).sum()
        (expected,) = torch.autograd.grad(loss, conv.weight, retain_graph=True)
        torch.testing.assert_close(found[row], expected.norm())
