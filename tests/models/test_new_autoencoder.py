"""New autoencoders: their shape, and how little noise their posterior begins with."""

from typing import Any

import pytest
import torch

from seethrough.models.new_autoencoder import new_autoencoder


@pytest.mark.parametrize("quant_conv", [True, False])
def test_a_posterior_begins_with_the_log_variance_asked_for(quant_conv: bool) -> None:
    torch.manual_seed(0)
    vae = new_autoencoder(
        (4, 8, 8),
        layers=1,
        norm_groups=2,
        latent_channels=6,
        side=32,
        initial_log_variance=-4.0,
        quant_conv=quant_conv,
    )
    assert (vae.quant_conv is not None) == (vae.post_quant_conv is not None) == quant_conv
    with torch.no_grad():
        encoded: Any = vae.encode(torch.zeros(1, 3, 32, 32), return_dict=False)  # pyright: ignore[reportArgumentType]
    posterior = encoded[0]
    assert posterior.mean.shape == (1, 6, 8, 8)
    assert posterior.logvar.mean().item() == pytest.approx(-4.0, abs=0.5)
    assert vae.config["sample_size"] == 32
