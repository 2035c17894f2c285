"""The transformer of Stable Diffusion 3.5: its size, its timestep, and its folded modulation."""

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import nn

from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.sd3 import fold_modulation, load_transformer, predict
from seethrough.recipes.transparency import (
    ATTENTION_LAYERS,
    PARAMETERS,
    SD35_MEDIUM,
    WIDTH,
    TransparencyLoraTrain,
)
from tests.tasks.small_sd3 import SmallSD3, write_small_sd3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallSD3:
    return write_small_sd3(tmp_path_factory.mktemp("sd3"))


def test_parameters_of_medium_and_of_its_updates() -> None:
    """As its published config makes it, on no device."""
    with torch.device("meta"):
        model = SD3Transformer2DModel(
            sample_size=128,
            num_layers=24,
            attention_head_dim=64,
            num_attention_heads=24,
            joint_attention_dim=4096,
            caption_projection_dim=1536,
            pooled_projection_dim=2048,
            pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)),
            qk_norm="rms_norm",
        )
    assert sum(value.numel() for value in model.parameters()) == PARAMETERS == 2_243_171_520
    targets = tuple(f".{name}" for name in ATTENTION_LAYERS)
    layers = [m for name, m in model.named_modules() if f".{name}".endswith(targets)]
    assert len(layers) == sum(ATTENTION_LAYERS.values())
    sizes = [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]
    assert sizes == [(WIDTH, WIDTH)] * len(layers)
    stage = TransparencyLoraTrain()
    assert stage.model.base == SD35_MEDIUM
    assert stage.trained_parameters == len(layers) * stage.lora.rank * 2 * WIDTH


def test_the_timestep_that_training_tells(small: SmallSD3) -> None:
    """1000 is no index of a noise schedule, whose last is 999: the two are told apart."""
    model: Any = load_transformer(small.base)
    (waves,) = model.time_text_embed.time_proj(torch.tensor([1000.0]))
    cosines, sines = waves.double().chunk(2)
    found = [*cosines[:4].tolist(), *sines[:4].tolist(), float(cosines[-1]), float(sines[-1])]
    expected = [
        0.56237906, 0.78962666, 0.43992788, -0.02364524,
        0.82687956, 0.61358762, -0.89803308, 0.99972039, 0.99423164, 0.10725406,
    ]  # fmt: skip
    assert found == pytest.approx(expected, abs=2e-4)
    (before,) = model.time_text_embed.time_proj(torch.tensor([999.0]))
    assert float((waves - before).abs().max()) == pytest.approx(0.880, abs=1e-3)


def test_positions_are_those_of_the_middle(small: SmallSD3) -> None:
    model: Any = load_transformer(small.base)
    side, width = model.config["pos_embed_max_size"], model.inner_dim
    table = model.pos_embed.pos_embed.view(side, side, width)
    first = (side - 4) // 2
    found = model.pos_embed.cropped_pos_embed(8, 8).view(4, 4, width)
    assert torch.equal(found, table[first : first + 4, first : first + 4])


def test_folded_modulation_predicts_the_same(small: SmallSD3) -> None:
    embeds, pooled = read_prompt(small.prompt)
    at, latents = torch.tensor([1000.0]), torch.randn(1, 16, 8, 8)
    whole, folded = load_transformer(small.base), load_transformer(small.base)
    parameters = sum(value.numel() for value in whole.parameters())
    fold_modulation(folded, 1000.0, pooled)
    with torch.no_grad():
        expected = predict(whole, latents, at, embeds, pooled)
        assert torch.equal(predict(folded, latents, at, embeds, pooled), expected)
        # Rows of a batch are multiplied together, and added in another order then.
        three = latents.expand(3, -1, -1, -1)
        rows = predict(folded, three, at.expand(3), embeds, pooled)
        assert torch.allclose(rows, expected.expand_as(rows), atol=1e-5)
    assert sum(value.numel() for value in folded.parameters()) < 0.7 * parameters
