"""The autoencoders' loss terms, that they learn, and what is exported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.inference.grid import CELL
from seethrough.models.checkpoints import load_model
from seethrough.recipe import Local, evolve
from seethrough.recipes.transparent_vae import (
    TransparentVaeLoss,
    TransparentVaeModel,
    TransparentVaeTrain,
)
from seethrough.tasks.latents import load_transparent_vae, network_input
from seethrough.tasks.task import Batch
from seethrough.tasks.transparent_vae import Autoencoders, TransparentVaeTask
from tests.tasks.small import Small, batch, context, draw, small_data

SIDE = 32
TERMS = (
    "alpha_l1", "alpha_mse", "alpha_dice", "color_l1", "color_mse", "base_l1", "base_mse", "kl",
    "identity",
)  # fmt: skip
ALL = TransparentVaeLoss(**dict.fromkeys(TERMS, 1.0))


def make(
    small: Small, folder: Path, loss: TransparentVaeLoss = ALL, **data: Any
) -> TransparentVaeTask:
    default = TransparentVaeTrain()
    stage = evolve(
        default,
        model=evolve(
            default.model,
            vae_channels=(4, 4, 8, 8),
            vae_layers=1,
            vae_norm_groups=2,
            encoder_channels=(4, 4, 4, 4),
            decoder_channels=(4, 4, 8, 8, 8),
            decoder_layers=1,
        ),
        data=evolve(small_data(default.data, small), **data),
        loss=loss,
    )
    return TransparentVaeTask(stage, context(stage, folder))


class Given(nn.Module):
    """Stands in the autoencoders' place with outputs that are known."""

    def __init__(self, **outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, argb: Tensor, noise: Tensor, with_offset: bool) -> dict[str, Tensor]:
        assert noise.shape == (len(argb), 4, SIDE // 8, SIDE // 8)
        names = [n for n in self.outputs if with_offset or n != "offset_picture"]
        return {name: self.outputs[name] for name in names}


def pictures() -> Tensor:
    """Two uint8 ARGB pictures of hard edges: half and a quarter covered."""
    generator = torch.Generator().manual_seed(0)
    argb = torch.randint(256, (2, 4, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    argb[:, 0] = 0
    argb[0, 0, : SIDE // 2] = 255
    argb[1, 0, : SIDE // 2, : SIDE // 2] = 255
    return argb


def perfect(argb: Tensor) -> dict[str, Tensor]:
    argb = network_input(argb)
    base = (2 * argb[:, 1:] - 1) * argb[:, :1]
    latents = torch.zeros(len(argb), 4, SIDE // 8, SIDE // 8)
    return {
        "argb": argb.clone(), "picture": base, "mean": latents, "std": torch.ones_like(latents),
        "offset_picture": base.clone(),
    }  # fmt: skip


def terms(task: TransparentVaeTask, argb: Tensor, outputs: dict[str, Tensor]) -> dict[str, float]:
    data: Batch = {"draw": [draw(i) for i in range(len(argb))], "argb": argb}
    loss = task.loss(Given(**outputs), data)
    return {name: float(value) for name, value in loss.terms.items()}


def test_every_term_is_zero_at_perfect_reconstruction(small: Small, tmp_path: Path) -> None:
    argb = pictures()
    found = terms(make(small, tmp_path), argb, perfect(argb))
    assert found == pytest.approx(dict.fromkeys(TERMS, 0.0), abs=1e-6)


def test_terms_are_sums_over_the_batch_of_their_formulas(small: Small, tmp_path: Path) -> None:
    argb = pictures()
    outputs = perfect(argb)
    outputs["argb"][:, 0] = 0.5  # half everywhere
    outputs["argb"][:, 1:] += 0.25  # colour off, also where it isn't seen
    outputs["picture"] = outputs["picture"] + 0.5
    outputs["mean"] = outputs["mean"] + 2.0
    outputs["std"] = outputs["std"] * 0.5
    found = terms(make(small, tmp_path), argb, outputs)
    dice = 0.0
    for covered in (0.5, 0.25):
        area = covered * SIDE**2
        dice += 1 - (2 * 0.5 * area + 1) / (area + 0.5 * SIDE**2 + 1)
    expected = {
        "alpha_l1": 2 * 0.5,
        "alpha_mse": 2 * 0.25,
        "alpha_dice": dice,
        # Of covered pixels alone, however few they are.
        "color_l1": 2 * 0.25,
        "color_mse": 2 * 0.0625,
        "base_l1": 2 * 0.5,
        "base_mse": 2 * 0.25,
        "kl": 2 * 0.5 * (4 + 0.25 - 1 - torch.tensor(0.25).log().item()),
        # Against the picture without offset, not against the truth.
        "identity": 2 * 0.25,
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_alpha_beyond_its_range_is_no_gain(small: Small, tmp_path: Path) -> None:
    argb = pictures()
    outputs = perfect(argb)
    outputs["argb"][:, 0] *= 5.0
    found = terms(make(small, tmp_path), argb, outputs)
    assert found["alpha_dice"] == pytest.approx(0, abs=1e-6)
    assert found["alpha_l1"] > 0.5


def test_an_empty_picture_has_finite_terms(small: Small, tmp_path: Path) -> None:
    argb = torch.zeros(1, 4, SIDE, SIDE, dtype=torch.uint8)
    outputs = perfect(argb)
    outputs["argb"] = torch.rand(1, 4, SIDE, SIDE)
    found = terms(make(small, tmp_path), argb, outputs)
    assert all(0 <= value < 100 for value in found.values())
    assert found["color_l1"] == found["color_mse"] == 0


def test_weights_scale_terms_and_zero_leaves_one_out(small: Small, tmp_path: Path) -> None:
    argb = pictures()
    outputs = perfect(argb)
    outputs["argb"] = outputs["argb"] * 0.5
    outputs["mean"] = outputs["mean"] + 1
    weights = TransparentVaeLoss(
        **{**dict.fromkeys(TERMS, 0.0), "alpha_l1": 3.0, "color_mse": 0.5, "kl": 0.1}
    )
    task = make(small, tmp_path, weights)
    data: Batch = {"draw": [draw(0), draw(1)], "argb": argb}
    loss = task.loss(Given(**outputs), data)
    assert loss.terms.keys() == {"alpha_l1", "color_mse", "kl"}
    plain = terms(make(small, tmp_path), argb, outputs)
    expected = 3 * plain["alpha_l1"] + 0.5 * plain["color_mse"] + 0.1 * plain["kl"]
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)
    assert task.weight(data) == 2


def test_the_identity_term_teaches_the_offset_encoder_alone(small: Small, tmp_path: Path) -> None:
    only = TransparentVaeLoss(**{**dict.fromkeys(TERMS, 0.0), "identity": 1.0})
    task = make(small, tmp_path, only)
    model: Any = task.build()
    task.loss(model, batch(task, draw(0), draw(1))).total.backward()
    encoder = model.transparent_vae.encoder.parameters()
    assert any(p.grad is not None and p.grad.any() for p in encoder)
    (everything,) = task.parameter_groups(model, 1e-3)
    assert len(everything.parameters) == len(list(model.parameters()))
    assert all(p.grad is None for p in model.transparent_vae.decoder.parameters())
    without = TransparentVaeLoss(**{**dict.fromkeys(TERMS, 1.0), "identity": 0.0})
    task = make(small, tmp_path, without)
    model = task.build()
    task.loss(model, batch(task, draw(0), draw(1))).total.backward()
    assert all(p.grad is None for p in model.transparent_vae.encoder.parameters())
    assert all(p.grad is not None for p in model.transparent_vae.decoder.parameters())
    assert all(p.grad is not None for p in model.vae.parameters())
    # What no term reaches isn't trained: data parallelism would wait for its gradient.
    (group,) = task.parameter_groups(model, 1e-3)
    assert (group.name, group.lr) == ("all", 1e-3)
    reached = {id(p) for p in model.parameters() if p.grad is not None}
    assert {id(p) for p in group.parameters} == reached


def test_a_few_steps_on_one_batch_lower_the_loss(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, TransparentVaeLoss())
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    data = batch(task, draw(0), draw(1), draw(2, sample=0), draw(3, sample=1))
    totals: list[float] = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = task.loss(model, data).total / task.weight(data)
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert totals[-1] < 0.7 * totals[0]


def test_networks_follow_from_the_seed_and_the_recipe(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    torch.manual_seed(1)
    first = task.build()
    torch.manual_seed(2)
    second = task.build().state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.state_dict().items())
    assert isinstance(first, Autoencoders)
    with torch.no_grad():
        mean, std = first.transparent_vae.posterior(first.vae, network_input(pictures()))
    # From log variance -4: the posterior's noise does not drown its mean.
    assert float(std.mean()) == pytest.approx(torch.tensor(-2.0).exp().item(), rel=0.3)
    assert mean.shape == (2, 4, SIDE // 8, SIDE // 8)
    other = make(small, tmp_path)
    other.stage = evolve(other.stage, seed=other.stage.seed + 1)
    assert any(not torch.equal(v, second[k]) for k, v in other.build().state_dict().items())


def test_the_posterior_noise_is_the_draw_s(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    model = task.build()
    data = batch(task, draw(0))
    torch.manual_seed(1)
    first = float(task.loss(model, data).total.detach())
    torch.manual_seed(2)
    assert float(task.loss(model, data).total.detach()) == first
    other = {**data, "draw": [draw(5, sample=0)]}
    assert float(task.loss(model, other).total.detach()) != first


def test_pages_are_shown_as_often_as_asked(small: Small, tmp_path: Path) -> None:
    for chance in (0.0, 1.0, 0.3):
        task = make(small, tmp_path, page_probability=chance)
        dataset: Any = task.dataset()
        draws = [draw(i, sample=i % 2) for i in range(60)]
        items = [dataset[where] for where in draws]
        argb: Tensor = task.collate(items)["argb"]
        shown = [bool(torch.equal(p, i["page"])) for p, i in zip(argb, items, strict=True)]
        for picture, item, is_page in zip(argb, items, shown, strict=True):
            assert is_page or torch.equal(picture, item["layer"])
        share = sum(shown) / len(shown)
        assert share == chance if chance in (0, 1) else 0.1 < share < 0.5


def test_a_silhouette_is_one_gray_on_another(small: Small, tmp_path: Path) -> None:
    """Or on white, or on the same."""
    task = make(small, tmp_path, page_probability=0.0, silhouette_probability=1.0)
    dataset: Any = task.dataset()
    draws = [draw(i, sample=i % 2) for i in range(24)]
    items = [dataset[where] for where in draws]
    grays: set[int] = set()
    around: list[str] = []
    for picture, item in zip(task.collate(items)["argb"], items, strict=True):
        layer = item["layer"][0] > 0
        assert (picture[0] == 255).all()
        (gray,) = picture[1:, layer].unique().tolist()
        (other,) = picture[1:, ~layer].unique().tolist()
        grays.add(gray)
        around.append({gray: "same", 255: "white"}.get(other, "other"))
    assert len(grays) > 12
    assert set(around) == {"same", "white", "other"}


def test_an_empty_picture_is_shown_in_place_of_a_layer(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, page_probability=0.0, empty_probability=0.5)
    dataset: Any = task.dataset()
    items = [dataset[draw(i, sample=i % 2)] for i in range(40)]
    empty = [not picture.any() for picture in task.collate(items)["argb"]]
    assert 0.25 < sum(empty) / len(empty) < 0.75


def test_decoders_go_on_from_trained_networks_whose_latents_stay(
    small: Small, tmp_path: Path
) -> None:
    task = make(small, tmp_path, evolve(ALL, identity=0.0))
    task.stage = evolve(
        task.stage,
        model=TransparentVaeModel(
            vae=Local(str(small.base / "vae")),
            transparent_vae=small.source("transparent_vae"),
            learn="decoders",
        ),
    )
    task.context = context(task.stage, tmp_path)
    model: Any = task.build()
    (group,) = task.parameter_groups(model, 1e-3)
    trained = {id(parameter) for parameter in group.parameters}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in trained}
    assert {".".join(name.split(".")[:2]) for name in names} == {
        "vae.decoder", "vae.post_quant_conv", "transparent_vae.decoder",
    }  # fmt: skip
    argb = network_input(pictures())
    before = model.transparent_vae.encode(model.vae, argb)
    data = batch(task, draw(0), draw(1))
    optimizer = torch.optim.AdamW(group.parameters, 1e-2)
    task.loss(model, data).total.backward()
    optimizer.step()
    assert torch.equal(model.transparent_vae.encode(model.vae, argb), before)
    task.export(model, tmp_path)
    saved = load_model(AutoencoderKL, tmp_path / "vae", torch.float32)
    given = load_model(AutoencoderKL, small.base / "vae", torch.float32)
    assert saved.config["scaling_factor"] == given.config["scaling_factor"]
    assert not torch.equal(saved.decoder.conv_out.weight, given.decoder.conv_out.weight)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"vae": Local("vae")}, "transparent_vae"),
        ({"learn": "decoders"}, "learn"),
    ],
)
def test_networks_to_go_on_from_are_given_together(values: dict[str, Any], field: str) -> None:
    assert [name for name, _ in TransparentVaeModel(**values).check()] == [field]


@pytest.mark.parametrize("scaled_std", [1.0, 0.6])
def test_exported_latents_have_the_deviation_asked_for(
    small: Small, tmp_path: Path, scaled_std: float
) -> None:
    task = make(small, tmp_path)
    stage = evolve(task.stage, model=evolve(task.stage.model, scaled_std=scaled_std))
    task = TransparentVaeTask(stage, task.context)
    model = task.build().eval()
    artifacts = task.export(model, tmp_path / "stage")
    assert set(artifacts) == set(type(task.stage).outputs)
    vae = load_model(AutoencoderKL, artifacts["vae"])
    transparent_vae = load_transparent_vae(artifacts["transparent_vae"])
    saved = {
        **{f"vae.{k}": v for k, v in vae.state_dict().items()},
        **{f"transparent_vae.{k}": v for k, v in transparent_vae.state_dict().items()},
    }
    expected = model.state_dict()
    assert saved.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in saved.items())
    dataset = task.dataset()
    draws = [Draw(0, "scale", 0, index, index % len(dataset)) for index in range(4 * len(dataset))]
    with torch.no_grad():
        items = [dataset[where] for where in draws]
        pictures = torch.stack([item[kind] for item in items for kind in ("layer", "page")])
        mean, _ = transparent_vae.posterior(vae, network_input(pictures))
    deviation = float(mean.std() * vae.config["scaling_factor"])
    assert deviation == pytest.approx(scaled_std, rel=1e-3)


def test_validation_and_pictures(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, validation=small.source("samples"))
    model: Any = task.build().eval()
    assert make(small, tmp_path).validate(model) == {}  # no held-out samples
    with torch.no_grad():
        values = task.validate(model)
        assert values.keys() == {"alpha_mae", "alpha_iou"}
        shown = task.pictures(model)["reconstructions"]
        assert shown.size == (2 * CELL, 8 * CELL)
        # A decoder of alpha 1 everywhere: its IoU is the layers' share of the picture.
        nn.init.zeros_(model.transparent_vae.decoder.model.conv_out.weight)
        nn.init.constant_(model.transparent_vae.decoder.model.conv_out.bias, 1.0)
        values = task.validate(model)
    dataset = task.dataset()
    draws = [
        Draw(0, "validation", 0, index, index % len(dataset)) for index in range(4 * len(dataset))
    ]
    alphas = torch.stack([dataset[where]["layer"][0] for where in draws]) / 255
    assert values["alpha_mae"] == pytest.approx(float((1 - alphas).mean()), abs=1e-4)
    assert values["alpha_iou"] == pytest.approx(float((alphas > 0.5).float().mean()), abs=1e-4)
