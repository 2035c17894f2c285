"""The autoencoders judged as they are seen: what learns, the discriminator, the codebook."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.models.discriminators import PatchDiscriminator, UNetDiscriminator
from seethrough.models.perceptual_networks import PictureDistance
from seethrough.recipe import Local, evolve
from seethrough.recipes.perceptual_vae import (
    Adversarial,
    Kepler,
    LatentNoise,
    PerceptualVaeTrain,
)
from seethrough.tasks.perceptual_vae import PerceptualVaeTask
from seethrough.tasks.task import Loss
from tests.tasks.small import Small, batch, context, draw, small_data

PIXELS: dict[str, Any] = {"lpips": 0.0, "convnext": 0.0, "composite_l1": 0.375}
"""Loss terms that need no network."""


def make(
    small: Small,
    folder: Path,
    learn: str = "pixel_decoder",
    loss: dict[str, Any] | None = None,
    **sections: Any,
) -> PerceptualVaeTask:
    default = PerceptualVaeTrain()
    stage = evolve(
        default,
        model=evolve(
            default.model,
            vae=Local(str(small.base)),
            transparent_vae=small.source("transparent_vae"),
            learn=learn,
        ),
        data=small_data(default.data, small),
        loss=evolve(default.loss, **(PIXELS | (loss or {}))),
        **sections,
    )
    assert list(stage.check()) == []
    return PerceptualVaeTask(stage, context(stage, folder))


def trained(task: PerceptualVaeTask, model: nn.Module) -> set[str]:
    groups = task.parameter_groups(model, 1e-3)
    chosen = {id(p) for group in groups for p in group.parameters}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    return {".".join(name.split(".")[:2]) for name in names}


@pytest.mark.parametrize(
    ("learn", "loss", "parts"),
    [
        ("pixel_decoder", {}, {"transparent_vae.decoder"}),
        ("vae_decoder", {}, {"vae.decoder", "vae.post_quant_conv"}),
        (
            "transparent_vae",
            {"offset_probability": 0.5, "identity": 1.0},
            {"transparent_vae.encoder", "transparent_vae.decoder"},
        ),
        ("transparent_vae", {}, {"transparent_vae.decoder"}),
    ],
)
def test_what_learns_is_what_gradients_reach(
    small: Small, tmp_path: Path, learn: str, loss: dict[str, Any], parts: set[str]
) -> None:
    task = make(small, tmp_path, learn, loss)
    model = task.build()
    assert trained(task, model) == parts
    chosen = {id(p) for group in task.parameter_groups(model, 1e-3) for p in group.parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    # Of these samples none, or some, has the offset: data parallelism waits for all in any case.
    task.loss(model, batch(task, draw(0), draw(1))).total.backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == chosen


def test_the_identity_term_compares_with_latents_without_offset(
    small: Small, tmp_path: Path
) -> None:
    """However many samples have the offset, whose own picture is no measure of it."""
    found: list[float] = []
    for probability in (0.0, 1.0):
        loss = {"identity": 1.0, "offset_probability": probability}
        task = make(small, tmp_path, "transparent_vae", loss)
        terms = task.loss(task.build(), batch(task, draw(0), draw(1))).terms
        found.append(float(terms["identity"]))
    assert found[0] > 0 and found[1] == pytest.approx(found[0])


def test_decoders_learn_from_noisy_latents(small: Small, tmp_path: Path) -> None:
    """A sample's own noise, whichever others are beside it; neither the offset's term nor the
    codebook sees it."""
    noise = LatentNoise(probability=0.5, below_step=1000)
    sections: dict[str, Any] = {
        "learn": "transparent_vae",
        "loss": {"identity": 1.0},
        "kepler": Kepler(weight=1.0, codes=32, groups=2),
    }
    task = make(small, tmp_path, **sections, latent_noise=noise)
    model, draws = task.build(), [draw(index % 2, step=index) for index in range(8)]
    assert task.latent_noise is not None
    noisy = [one for one in draws if task.latent_noise.step(one)]
    clean = [one for one in draws if not task.latent_noise.step(one)]
    assert noisy and clean
    plain = make(small, tmp_path, **sections)
    plain.build()

    def terms(task: PerceptualVaeTask, *draws: Draw) -> dict[str, float]:
        found = task.loss(model, batch(task, *draws)).terms
        return {name: float(value) for name, value in found.items()}

    for one in clean:
        assert terms(task, one) == pytest.approx(terms(plain, one))
    for one in noisy:
        found, without = terms(task, one), terms(plain, one)
        assert found.pop("argb_mse") != pytest.approx(without.pop("argb_mse"), rel=1e-4)
        assert found.pop("composite_l1") != pytest.approx(without.pop("composite_l1"), rel=1e-4)
        assert found == pytest.approx(without)
    together = terms(task, clean[0], noisy[0])["argb_mse"]
    apart = [terms(task, one)["argb_mse"] for one in (clean[0], noisy[0])]
    assert together == pytest.approx(sum(apart), rel=1e-4)


def test_both_players_weigh_judgements_by_the_true_alpha(small: Small, tmp_path: Path) -> None:
    """A layer that is nowhere opaque teaches neither of them anything."""
    task = make(small, tmp_path, loss={"alpha_reweight": 2.0}, adversarial=adversarial())
    model, discriminator = task.build(), task.opponent()
    assert discriminator is not None
    data = batch(task, draw(0, step=1))
    first = task.loss(model, data)
    assert float(first.terms["adversarial"]) != 0
    true, _ = first.shown
    logits = discriminator(true)
    alpha = torch.nn.functional.interpolate(true[:, :1], logits.shape[-2:], mode="bilinear")
    found = task.opponent_loss(discriminator, data, Loss(first.total, {}, shown=(true, true)))
    expected = (2 * alpha * (torch.relu(1 - logits) + torch.relu(1 + logits))).mean() / 2
    assert float(found.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    data["argb"] = torch.zeros_like(data["argb"])
    empty = task.loss(model, data)
    assert float(empty.terms["adversarial"]) == 0
    assert float(task.opponent_loss(discriminator, data, empty).total.detach()) == 0


class Red(PictureDistance):
    """Stands in for a network of perception: compares the red of composites."""

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        return (pictures[:, 0] - targets[:, 0]).abs().mean((1, 2))


def test_networks_of_perception_see_composites(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    task.stage = evolve(task.stage, loss=evolve(task.stage.loss, lpips=2.0))
    task.distances["lpips"] = Red().eval()
    model, data = task.build(), batch(task, draw(0), draw(1))
    found = task.loss(model, data)
    terms = {name: float(value) for name, value in found.terms.items()}
    assert terms.keys() == {"argb_mse", "composite_l1", "lpips"}
    assert 0 < terms["lpips"] < 2
    expected = 0.125 * terms["argb_mse"] + 0.375 * terms["composite_l1"] + 2 * terms["lpips"]
    assert float(found.total.detach()) == pytest.approx(expected)


def adversarial(**values: Any) -> Adversarial:
    return Adversarial(**{"weight": 0.5, "channels": 32, "layers": 1, **values})


@pytest.mark.parametrize("learn", ["pixel_decoder", "vae_decoder"])
def test_the_discriminator_pulls_half_as_hard_as_the_rest_at_the_last_layer(
    small: Small, tmp_path: Path, learn: str
) -> None:
    task = make(small, tmp_path, learn, adversarial=adversarial())
    model, discriminator = task.build(), task.opponent()
    assert isinstance(discriminator, PatchDiscriminator)
    first_layer: Any = discriminator.main[0]
    assert first_layer.in_channels == (4 if learn == "pixel_decoder" else 3)
    weight = model.last_layer.weight
    sample = batch(task, draw(0, step=1))

    def gradient(task: PerceptualVaeTask) -> Tensor:
        return torch.autograd.grad(task.loss(model, sample).total, weight)[0]

    both = gradient(task)
    task.loss(model, sample).total.backward()
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    alone = gradient(make(small, tmp_path, learn))
    assert float((both - alone).norm()) == pytest.approx(0.5 * float(alone.norm()), rel=0.05)
    first = task.loss(model, batch(task, draw(0, step=0)))
    assert "adversarial" not in first.terms  # before start_step


def test_a_sample_s_adversarial_share_is_its_own(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, adversarial=adversarial(discriminator="unet_sn"))
    model, discriminator = task.build(), task.opponent()
    assert isinstance(discriminator, UNetDiscriminator)
    discriminator.eval()  # in training each look refines the norms of its weights
    draws = [draw(0, step=3), draw(1, step=3)]
    together = task.loss(model, batch(task, *draws))
    apart = [task.loss(model, batch(task, one)) for one in draws]
    for name in ("adversarial", "adversarial_weight"):
        each = sum(float(loss.terms[name]) for loss in apart)
        assert float(together.terms[name]) == pytest.approx(each, rel=1e-3)
    assert float(together.total.detach()) == pytest.approx(
        sum(float(a.total.detach()) for a in apart), rel=1e-4
    )


def test_the_discriminator_learns_to_tell_decoded_layers(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, adversarial=adversarial())
    model, discriminator = task.build(), task.opponent()
    assert discriminator is not None
    data = batch(task, draw(0), draw(1))
    first = task.loss(model, data)
    optimizer = torch.optim.AdamW(discriminator.parameters(), 1e-3)
    losses: list[float] = []
    loss = task.opponent_loss(discriminator, data, first)
    for _ in range(15):
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(float(loss.total.detach()))
        loss = task.opponent_loss(discriminator, data, first)
    assert losses[0] == pytest.approx(2.0, abs=0.1)  # logits near 0: a hinge of 1 a sample
    assert losses[-1] < 0.5 * losses[0]
    assert loss.terms["logits_true"] > loss.terms["logits_decoded"]
    assert all(p.grad is None for p in model.parameters())


def test_a_codebook_learns_what_latents_are_like(small: Small, tmp_path: Path) -> None:
    kepler = Kepler(weight=1.0, codes=32, groups=2)
    task = make(small, tmp_path, kepler=kepler)
    model = task.build()
    assert trained(task, model) == {"transparent_vae.decoder", "quantizer.embedding"}
    codebook = task.parameter_groups(model, 1e-3)[1]
    assert codebook.name == "codebook"
    data = batch(task, draw(0), draw(1))
    optimizer = torch.optim.AdamW(codebook.parameters, 3e-2)
    seen: list[dict[str, float]] = []
    for _ in range(15):
        loss = task.loss(model, data)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        seen.append({name: float(value) for name, value in loss.terms.items()})
    assert seen[-1]["kepler"] < 0.8 * seen[0]["kepler"]
    assert all(0 < terms["codes_used"] / 2 <= 1 for terms in seen)
    # Decoders get latents as they are.
    plain = make(small, tmp_path).loss(make(small, tmp_path).build(), data)
    assert float(plain.terms["argb_mse"]) == pytest.approx(seen[0]["argb_mse"])


def test_the_identity_test_measures_what_the_offset_does(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    task.stage = evolve(
        task.stage, data=evolve(task.stage.data, validation=small.source("samples"))
    )
    task.context = context(task.stage, tmp_path)
    model: Any = task.build().eval()
    with torch.no_grad():
        moved = task.validate(model)
        assert moved.keys() >= {"alpha_mae", "composite_mae", "identity_mae"}
        assert moved["identity_mae"] > 0
        nn.init.zeros_(model.transparent_vae.encoder.model.blocks[-1].weight)
        nn.init.zeros_(model.transparent_vae.encoder.model.blocks[-1].bias)
        assert task.validate(model)["identity_mae"] == 0


def test_what_does_not_go_together_is_named() -> None:
    default = PerceptualVaeTrain()

    def named(**changes: Any) -> list[str]:
        return [field for field, _ in evolve(default, **changes).check()]

    assert named() == []
    nothing = dict.fromkeys(("argb_mse", "lpips", "convnext"), 0.0)
    assert named(loss=evolve(default.loss, **nothing)) == ["loss"]
    alone = evolve(default.model, learn="vae_decoder")
    assert named(model=alone, loss=evolve(default.loss, alpha_l1=1.0)) == ["loss.alpha_l1"]
    assert named(loss=evolve(default.loss, identity=1.0)) == ["loss.identity"]
    assert named(kepler=Kepler(weight=1.0, groups=3)) == ["kepler.groups"]
    weighed = evolve(default.loss, alpha_reweight=1.0)
    assert named(loss=weighed) == []
    assert named(loss=weighed, model=alone) == ["loss.alpha_reweight"]
    without = evolve(weighed, argb_mse=0.0)
    assert named(loss=without) == ["loss.alpha_reweight"]
    assert named(loss=without, adversarial=Adversarial(weight=0.5)) == []
    new = evolve(default.model, vae=None, transparent_vae=None, learn="all")
    noise = LatentNoise(probability=1.0, below_step=100)
    assert named(latent_noise=noise, model=new) == ["latent_noise.probability"]
    assert named(latent_noise=noise) == []
    cut = evolve(default.deepspeed, zero_stage=1)
    assert named(deepspeed=cut, adversarial=Adversarial(weight=0.5)) == ["deepspeed.zero_stage"]
    assert named(deepspeed=cut) == []
    assert [field for field, _ in Adversarial(channels=48).check()] == ["channels"]
