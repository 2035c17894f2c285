"""Transparency: what a step computes, against the published computation written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models.empty_prompt_sd3 import EMBEDS, POOLED, PromptEmbeddings, save_prompt
from seethrough.models.sd3 import load_transformer, predict, shifted
from seethrough.recipe import Local, evolve
from seethrough.recipes.transparency import TransparencyLoraTrain, TransparencyTrain
from seethrough.tasks.empty_prompt import empty_prompt_stage
from seethrough.tasks.transparency import (
    Transparency,
    TransparencyLora,
    noise_shares,
)
from tests.tasks.small import batch, context, draw
from tests.tasks.small_sd3 import SIDE, SmallSD3, small_stage, write_small_sd3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallSD3:
    return write_small_sd3(tmp_path_factory.mktemp("sd3"))


def make(small: SmallSD3, directory: Path, **objective: Any) -> Transparency:
    stage = small_stage(small, TransparencyTrain(), **objective)
    return Transparency(stage, context(stage, directory))


def latents_of(task: Transparency, pictures: Tensor) -> Tensor:
    """Mean latents of (B, 3, T, T) in [-1, 1], scaled as Stable Diffusion 3 scales them."""
    encoded: Any = task.vae.encode(pictures)  # pyright: ignore[reportArgumentType]
    return (encoded.latent_dist.mean - 0.0609) * 1.5305


def test_one_step_from_the_photo_to_the_mask(small: SmallSD3, tmp_path: Path) -> None:
    task = make(small, tmp_path, posterior="mean")
    model, given = task.build(), batch(task, draw(0), draw(1))
    with torch.no_grad():
        photos = latents_of(task, given["photo"] / 127.5 - 1)
        masks = latents_of(task, 2 * given["mask"][:, None].float().expand(-1, 3, -1, -1) - 1)
        stored = load_file(small.prompt)
        output: Any = model(
            hidden_states=photos,
            timestep=torch.tensor([1000.0, 1000.0]),  # pyright: ignore[reportArgumentType]
            encoder_hidden_states=stored[EMBEDS].expand(2, -1, -1),
            pooled_projections=stored[POOLED].expand(2, -1),
        )
        expected = ((output.sample - masks) ** 2).mean()
    loss = task.loss(model, given)
    # The sum over samples: the loop divides by their number.
    assert float(loss.total.detach()) / task.weight(given) == pytest.approx(
        float(expected), rel=1e-5
    )
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    # Data parallel training waits for the gradient of every parameter.
    assert all(value.grad is not None for value in model.parameters())


def test_latents_are_drawn_or_the_mean(small: SmallSD3, tmp_path: Path) -> None:
    """Draws of photo and mask are independent, and follow from the place in the run alone."""
    drawn, mean = make(small, tmp_path), make(small, tmp_path, posterior="mean")
    pictures = torch.rand(1, 3, SIDE, SIDE)
    one, again = (drawn.encode(pictures, [draw(0)], "photo") for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, drawn.encode(pictures, [draw(1)], "photo"))
    assert not torch.equal(one, drawn.encode(pictures, [draw(0)], "mask"))
    fixed = mean.encode(pictures, [draw(0)], "photo")
    assert torch.equal(fixed, mean.encode(pictures, [draw(1)], "photo"))
    assert torch.allclose(fixed, latents_of(mean, 2 * pictures - 1))


def test_latents_survive_their_scale(small: SmallSD3, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    expected: Any = task.vae.decode(latents)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(task.decode((latents - 0.0609) * 1.5305), expected.sample, atol=1e-4)


def test_decoded_pixels_teach_too(small: SmallSD3, tmp_path: Path) -> None:
    """Each term reaches the transformer through the frozen decoder."""
    task = make(small, tmp_path, latent_mse=0.0, bce=1.0, dice=0.5, boundary=0.25)
    model, given = task.build(), batch(task, draw(0))
    loss = task.loss(model, given)
    weighted = {"latent_mse": 0.0, "bce": 1.0, "dice": 0.5, "boundary": 0.25}
    assert loss.terms.keys() == weighted.keys()
    total = sum(weighted[name] * float(term) for name, term in loss.terms.items())
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    loss.total.backward()
    assert float(model.proj_out.weight.grad.abs().max()) > 0  # pyright: ignore[reportOptionalMemberAccess]
    assert all(value.grad is None for value in task.vae.parameters())


def test_diffusion_beside_the_photo(small: SmallSD3, tmp_path: Path) -> None:
    """The flow's velocity at the draw's share of noise; the base starts blind to the photo."""
    task = make(small, tmp_path, method="diffusion", posterior="mean")
    model, given = task.build(), batch(task, draw(0))
    base = load_transformer(small.base)
    photos, masks, noise = torch.randn(3, 1, 16, 4, 4)
    at = torch.tensor([600.0])
    both = torch.cat([photos, masks], dim=1)
    assert torch.allclose(
        predict(model, both, at, task.embeds, task.pooled),
        predict(base, masks, at, task.embeds, task.pooled),
        atol=1e-6,
    )
    sigma = float(shifted(noise_shares([draw(0)], 0.0, 1.0), 3.0))
    assert 0 < sigma <= 1
    seen: dict[str, Tensor] = {}

    def record(**arguments: Any) -> tuple[Tensor]:
        seen.update(arguments)
        return (noise,)

    loss = task.loss(record, given)  # pyright: ignore[reportArgumentType]
    assert seen["hidden_states"].shape == (1, 32, 4, 4)
    assert float(seen["timestep"]) == pytest.approx(1000 * sigma)
    mask = latents_of(task, 2 * given["mask"][:, None].float().expand(-1, 3, -1, -1) - 1)
    white = (seen["hidden_states"][:, 16:] - (1 - sigma) * mask) / sigma
    assert float(loss.total) == pytest.approx(float(((noise - (white - mask)) ** 2).mean()), 1e-4)


def test_shares_of_noise_are_shifted_thousandths() -> None:
    shares = noise_shares([draw(index) for index in range(2000)], 0.0, 1.0)
    assert torch.equal(shares, (1000 * shares).round() / 1000)
    assert float(shares.min()) >= 0.001 and float(shares.max()) <= 1
    assert float(shares.median()) == pytest.approx(0.5, abs=0.03)
    assert shifted(torch.tensor([0.0, 0.25, 0.5, 1.0]), 3.0).tolist() == [0, 0.5, 0.75, 1]


def test_masks_of_the_photos_size_and_their_measures(small: SmallSD3, tmp_path: Path) -> None:
    for method in ("one_step", "diffusion"):
        stage = small_stage(small, TransparencyTrain(), method=method)
        stage = evolve(stage, sampler=evolve(stage.sampler, steps=2))
        task = Transparency(stage, context(stage, tmp_path))
        model = task.build().eval()
        with torch.no_grad():
            soft = task.soft_masks(
                model, torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), [draw(0)]
            )
            found = task.validate(model)
            (picture,) = task.pictures(model).values()
        assert soft.shape == (1, SIDE, SIDE) and 0 <= float(soft.min()) <= float(soft.max()) <= 1
        assert {f"{which}/iou" for which in ("easy", "hard", "mix")} <= found.keys()
        assert found["mix/images"] == 2
        assert picture.size == (3 * 512, 3 * 512)


def test_classes_apart_have_colours(small: SmallSD3, tmp_path: Path) -> None:
    stage = small_stage(small, TransparencyTrain(), posterior="mean")
    stage = evolve(stage, data=evolve(stage.data, classes="apart"))
    task = Transparency(stage, context(stage, tmp_path))
    assert task.colours.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1]]
    given = batch(task, draw(0))
    assert torch.isfinite(task.loss(task.build(), given).total)


def test_a_trained_transformer_is_read_back(small: SmallSD3, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    model = task.build()
    (folder,) = task.export(model, tmp_path / "out").values()
    stage = evolve(task.stage, model=evolve(task.stage.model, transformer=Local(str(folder))))
    again = Transparency(stage, context(stage, tmp_path)).build()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_parts_of_different_bases_are_refused(small: SmallSD3, tmp_path: Path) -> None:
    other = tmp_path / "prompt.safetensors"
    save_prompt(other, PromptEmbeddings(torch.eye(8, 24)[None], torch.ones(1, 8)))
    stage = small_stage(small, TransparencyTrain())
    stage = evolve(stage, model=evolve(stage.model, prompt=Local(str(other))))
    with pytest.raises(InputError, match="this is no empty prompt"):
        Transparency(stage, context(stage, tmp_path))
    embeds = torch.zeros(1, 8, 24)
    embeds[0, 0, 0] = 1
    save_prompt(other, PromptEmbeddings(embeds, torch.ones(1, 8)))
    with pytest.raises(InputError, match=r"joint_attention_dim=40, but .* 24 is needed"):
        Transparency(stage, context(stage, tmp_path)).build()


def test_the_stage_stores_what_training_reads(small: SmallSD3, tmp_path: Path) -> None:
    from seethrough.recipes.transparency import EmptyPrompt

    stage = EmptyPrompt(base=Local(str(small.base)), dtype="float32")
    said: list[str] = []
    result = empty_prompt_stage(stage, context(stage, tmp_path, said))
    stored, again = load_file(small.prompt), load_file(result.artifacts["prompt"])
    assert all(torch.equal(stored[name], again[name]) for name in (EMBEDS, POOLED))
    assert said == ["small: embeddings (1, 8, 40) and pooled (1, 32)"]


def test_updates_begin_as_nothing_and_are_merged_at_the_end(
    small: SmallSD3, tmp_path: Path
) -> None:
    stage = small_stage(small, TransparencyLoraTrain(), posterior="mean")
    stage = evolve(stage, lora=evolve(stage.lora, rank=2, alpha=4.0))
    task = TransparencyLora(stage, context(stage, tmp_path))
    model, base = task.build(), load_transformer(small.base)
    (group,) = task.parameter_groups(model, 1e-3)
    # 2 blocks of attention, one of them twice; the last gives no text.
    assert len(group.parameters) == 2 * (2 * 4 + 4 + 2 * 3 + 1)
    latents, at = torch.randn(1, 16, 4, 4), torch.tensor([1000.0])
    with torch.no_grad():
        start = predict(model, latents, at, task.embeds, task.pooled)
        assert torch.equal(start, predict(base, latents, at, task.embeds, task.pooled))
        for parameter in group.parameters:
            parameter += 0.1 * torch.randn_like(parameter)
        trained = predict(model, latents, at, task.embeds, task.pooled)
        found = task.export(model, tmp_path / "out")
        whole = load_transformer(found["transformer"])
        merged = predict(whole, latents, at, task.embeds, task.pooled)
        assert torch.allclose(merged, trained, atol=1e-5) and not torch.allclose(merged, start)
        # The adapter's keys have no prefix, which diffusers' annotation doesn't foresee.
        no_prefix: Any = None
        base.load_lora_adapter(found["lora"], prefix=no_prefix, use_safetensors=True)
        applied = predict(base, latents, at, task.embeds, task.pooled)
    assert torch.allclose(applied, trained, atol=1e-5)
    assert not any("lora" in key for key in whole.state_dict())


def test_updates_of_no_layer_are_refused(small: SmallSD3, tmp_path: Path) -> None:
    stage = small_stage(small, TransparencyLoraTrain())
    stage = evolve(stage, lora=evolve(stage.lora, targets=("to_nothing",)))
    with pytest.raises(InputError, match="has no layer named to_nothing"):
        TransparencyLora(stage, context(stage, tmp_path)).build()
