"""Training of depth against its loss written out by hand; what counts, what is encoded once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.data.padding import bleed_batch
from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from seethrough.inference.grid import CELL
from seethrough.metrics.depth import ALIGNMENTS, DEPTH_MEASURES
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model
from seethrough.models.empty_prompt import encode_empty_prompt
from seethrough.recipe import Local, evolve
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.marigold import BODY_TAGS, HEAD_TAGS, DepthFrames
from seethrough.tasks.inflate import inflate_stage
from seethrough.tasks.marigold import Marigold2D, Marigold3D
from seethrough.tasks.marigold_depths import predicted
from seethrough.tasks.noise import depth_noise
from tests.tasks.small import (
    SCALING,
    SIDE,
    Small,
    batch,
    context,
    draw,
    stage_depth_2d,
    stage_depth_3d,
)

HEAD, BODY, ALL = draw(0, sample=1), draw(1, sample=0), draw(2, sample=1)
"""A draw of each group, in the order of the recipe's groups."""


def changed(stage: Any, **sections: dict[str, Any]) -> Any:
    """The stage with other fields of its sections."""
    new = {name: evolve(getattr(stage, name), **fields) for name, fields in sections.items()}
    return evolve(stage, **new)


def make_2d(small: Small, folder: Path, **sections: dict[str, Any]) -> Marigold2D:
    stage = changed(stage_depth_2d(small), **sections)
    return Marigold2D(stage, context(stage, folder))


def make_3d(small: Small, unet: Path, folder: Path, **sections: dict[str, Any]) -> Marigold3D:
    stage = changed(stage_depth_3d(small, unet), **sections)
    return Marigold3D(stage, context(stage, folder))


@pytest.fixture(scope="module")
def converted(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base's UNet as a conversion of a recipe leaves it."""
    stage = Inflate(
        unet=Local(str(small.marigold)), tag_version="v2", group_embedding=False, group_sizes=(20,)
    )
    folder = tmp_path_factory.mktemp("converted")
    result = inflate_stage(stage, context(stage, folder))
    assert result.metrics == {"max_difference": 0.0}
    return result.artifacts["unet"]


@pytest.fixture(scope="module")
def unet_3d(small: Small, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with inputs for the page; what is new isn't zero any more."""
    folder = tmp_path_factory.mktemp("unet_3d")
    task = make_3d(small, converted, folder)
    model = task.build()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        model.unet.conv_in.weight[:, :4].normal_(std=0.1)
        for value in model.parameters():
            if not value.any():
                value.normal_(std=0.1)
    return task.export(model, folder)["unet"]


@pytest.fixture
def task_2d(small: Small, tmp_path: Path) -> Marigold2D:
    return make_2d(small, tmp_path)


@pytest.fixture
def task_3d(small: Small, unet_3d: Path, tmp_path: Path) -> Marigold3D:
    return make_3d(small, unet_3d, tmp_path)


def schedule() -> Tensor:
    """The share of the latents' variance that is left at each timestep: none at the last."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = torch.cumprod(1 - betas, 0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * first / (first - last)) ** 2


def mean_latents(small: Small, rgb: Tensor) -> Tensor:
    vae = AutoencoderKL.from_pretrained(small.marigold / "vae")
    with torch.no_grad():
        return vae.encode(rgb, return_dict=False)[0].mean * SCALING


def of_pictures(small: Small, argb: Tensor) -> Tensor:
    return mean_latents(small, 2 * bleed_batch(argb / 255)[:, 1:] - 1)


def of_depths(small: Small, depth: Tensor) -> Tensor:
    return mean_latents(small, depth.expand(-1, 3, -1, -1))


@attrs.frozen
class Noisy:
    """What a draw makes of depth latents."""

    timestep: int
    latents: Tensor
    velocity: Tensor


def noisy(task: Any, where: Draw, latents: Tensor) -> Noisy:
    """By the formulas: at the draw's uniform timestep, with its noise."""
    timestep = int(where.numpy("timestep").random() * 1000)
    kept = schedule()[timestep]
    signal, sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
    at, objective = torch.tensor([timestep]), task.stage.objective
    (noise,) = depth_noise([where], latents.shape, objective, at, 1000)
    return Noisy(timestep, signal * latents + sigma * noise, signal * noise - sigma * latents)


# 2D


def errors_by_hand(small: Small, task: Marigold2D, where: Draw) -> tuple[float, int]:
    """Sum of the squared errors over the cells that count, and their number."""
    item = task.layers[where]
    page, depth = of_pictures(small, item["page"][None]), of_depths(small, item["depth"][None])
    made = noisy(task, where, depth[0])
    unet = UNet2DConditionModel.from_pretrained(small.marigold / "unet")
    prompt = encode_empty_prompt(small.marigold)[None]
    with torch.no_grad():
        sample = torch.cat([page, made.latents[None]], 1)
        prediction = unet(sample, made.timestep, prompt).sample[0]
    inside = item["mask"].view(SIDE // 8, 8, SIDE // 8, 8).all(3).all(1)
    errors = ((prediction - made.velocity) ** 2).mean(0)
    return float(errors[inside].sum()), int(inside.sum())


def test_the_2d_loss_is_the_mean_over_all_cells_inside_the_mask(
    small: Small, task_2d: Marigold2D
) -> None:
    model = task_2d.build().eval()
    draws = [draw(0), draw(1), draw(5, sample=0)]
    by_hand = [errors_by_hand(small, task_2d, where) for where in draws]
    assert all(0 < count < (SIDE // 8) ** 2 for _, count in by_hand)
    data = batch(task_2d, *draws)
    loss = task_2d.loss(model, data)
    assert task_2d.weight(data) == sum(count for _, count in by_hand)
    total = sum(error for error, _ in by_hand)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert loss.parts is not None
    assert float(loss.parts.counts.sum()) == task_2d.weight(data)
    assert loss.total.requires_grad and not loss.terms["latent"].requires_grad


def test_a_page_without_any_cell_has_a_loss_of_zero(task_2d: Marigold2D) -> None:
    """The published loss is not a number then."""
    model = task_2d.build()
    data = batch(task_2d, draw(0))
    (item,) = data["items"]
    item["cells"], item["count"] = torch.zeros_like(item["cells"]), 0
    loss = task_2d.loss(model, data)
    loss.total.backward()
    assert task_2d.weight(data) == 0 and loss.total.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_2d_micro_batches_add_up(task_2d: Marigold2D) -> None:
    """With other numbers of cells each: the same loss and gradients to rounding."""
    model = task_2d.build()
    draws = [draw(0), draw(1)]
    totals: list[float] = []
    gradients: list[Tensor] = []
    for micro_batches in ([draws], [[where] for where in draws]):
        model.zero_grad()
        losses = [task_2d.loss(model, batch(task_2d, *places)).total for places in micro_batches]
        sum(losses, torch.zeros(())).backward()
        totals.append(sum(loss.item() for loss in losses))
        parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(parts))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-4


def test_a_step_is_a_function_of_its_draws(task_2d: Marigold2D) -> None:
    model = task_2d.build().eval()
    with torch.no_grad():
        torch.manual_seed(1)
        first = task_2d.loss(model, batch(task_2d, draw(0))).total.item()
        torch.manual_seed(2)
        assert task_2d.loss(model, batch(task_2d, draw(0))).total.item() == first
        assert task_2d.loss(model, batch(task_2d, draw(0, step=1))).total.item() != first


# 3D


def frames_by_hand(small: Small, task: Marigold3D, unet: Path, where: Draw) -> Tensor:
    """The loss of each frame of a sample by the formulas: (F,)."""
    item = task.layers[where]
    frames, page = of_pictures(small, item["frames"]), of_pictures(small, item["page"][None])
    made = noisy(task, where, of_depths(small, item["depths"]))
    sample = torch.cat([page.expand_as(frames), frames, made.latents], 1)[None]
    model = load_model(UNetFrameConditionModel, unet)
    prompt = encode_empty_prompt(small.marigold).expand(len(frames), -1, -1)
    with torch.no_grad():
        prediction = model(sample, torch.tensor([made.timestep]), prompt).sample[0]
    return ((prediction - made.velocity) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize(
    ("where", "frames"), [(HEAD, 12), (BODY, 9), (ALL, 20)], ids=["head", "body", "all"]
)
def test_the_3d_loss_is_the_sum_over_frames_by_hand(
    small: Small, task_3d: Marigold3D, unet_3d: Path, where: Draw, frames: int
) -> None:
    """The page is the last of them; absent ones count, black and far."""
    model = task_3d.build().eval()
    expected = frames_by_hand(small, task_3d, unet_3d, where)
    data = batch(task_3d, where)
    loss = task_3d.loss(model, data)
    assert loss.total.item() == pytest.approx(float(expected.sum()), rel=1e-4)
    assert task_3d.weight(data) == len(expected) == frames


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_absent_frames_weigh_what_the_recipe_says(
    small: Small, unet_3d: Path, tmp_path: Path, weight: float
) -> None:
    task = make_3d(small, unet_3d, tmp_path, objective={"absent_weight": weight})
    losses = frames_by_hand(small, task, unet_3d, BODY)
    tags = (*BODY_TAGS, "page")
    present = torch.tensor([tag in ("topwear", "legwear", "page") for tag in tags])
    data = batch(task, BODY)
    expected = losses[present].sum() + weight * losses[~present].sum()
    found = task.loss(task.build().eval(), data).total
    assert found.item() == pytest.approx(float(expected), rel=1e-4)
    assert task.weight(data) == 3 + 6 * weight


@pytest.mark.parametrize("absent", [True, False])
def test_groups_in_one_micro_batch_add_up(
    small: Small, unet_3d: Path, tmp_path: Path, absent: bool
) -> None:
    """And so do characters of different numbers of layers."""
    task = make_3d(small, unet_3d, tmp_path, data={"frames": DepthFrames(absent=absent)})
    model = task.build().eval()
    draws = [HEAD, BODY, draw(3, sample=0), draw(5, sample=1), ALL]
    frames = [len(batch(task, where)["items"][0]["frames"]) for where in draws]
    assert frames == ([12, 9, 12, 20, 20] if absent else [3, 3, 2, 4, 4])
    with torch.no_grad():
        together = task.loss(model, batch(task, *draws)).total.item()
        alone = [task.loss(model, batch(task, where)).total.item() for where in draws]
    assert together == pytest.approx(sum(alone), rel=1e-5)


def test_every_parameter_has_a_gradient(task_3d: Marigold3D) -> None:
    """Data parallelism fails on a parameter that a step doesn't reach."""
    model = task_3d.build().train()
    model.enable_gradient_checkpointing()
    task_3d.loss(model, batch(task_3d, BODY)).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_page_and_what_is_absent_are_encoded_once(task_3d: Marigold3D) -> None:
    model = task_3d.build().eval()
    encoded: list[int] = []
    task_3d.encoder.vae.encoder.register_forward_pre_hook(
        lambda module, arguments: encoded.append(len(arguments[0]))
    )
    with torch.no_grad():
        task_3d.loss(model, batch(task_3d, BODY))
        # Topwear, legwear and the page with their depths; an absent layer and its depth.
        assert sum(encoded) == 2 * 3 + 2
        task_3d.loss(model, batch(task_3d, BODY))
    assert sum(encoded) == 2 * 3 + 2 + 2 * 3


def test_the_page_is_a_condition_that_a_conversion_does_not_see_yet(
    small: Small, converted: Path, tmp_path: Path
) -> None:
    """Its channels come first and begin at zero: frame by frame it is the 2D network."""
    task = make_3d(small, converted, tmp_path)
    model = task.build().eval()
    assert model.unet.config["in_channels"] == 12
    spatial: Any = UNet2DConditionModel.from_pretrained(small.marigold / "unet")
    frames, latents, page = task.latents(batch(task, BODY)["items"][0])
    prompt = task.text(len(frames))
    with torch.no_grad():
        sample = torch.cat([page.expand_as(frames), frames, latents], 1)
        (found,) = model(
            [(0, {"sample": sample[None], "timestep": 9, "encoder_hidden_states": prompt})]
        )
        expected = spatial(torch.cat([frames, latents], 1), 9, prompt).sample
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


# Weights to start from


def test_what_was_trained_goes_on_as_it_is(
    small: Small, task_3d: Marigold3D, unet_3d: Path, tmp_path: Path
) -> None:
    saved = load_model(UNetFrameConditionModel, unet_3d).state_dict()
    found = task_3d.build().unet.state_dict()
    assert found.keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in found.items())
    task = make_2d(small, tmp_path)
    model = task.build()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.01
    unet = task.export(model, tmp_path / "stage")["unet"]
    again = make_2d(small, tmp_path, model={"unet": Local(str(unet.parent))}).build().state_dict()
    assert all(torch.equal(v, again[key]) for key, v in model.state_dict().items())


def test_networks_of_another_family_are_refused(
    small: Small, unet_2d: Path, tmp_path: Path
) -> None:
    """SDXL's UNet with 8 channels, and a 2D UNet of Marigold for 3D, would load."""
    unet = {"unet": Local(str(unet_2d))}
    with pytest.raises(InputError, match=r"unet: this UNet has cross_attention_dim=20.* needs 12"):
        make_2d(small, tmp_path, model=unet).build()
    with pytest.raises(InputError, match=r"no blocks across frames.*inflate"):
        make_3d(small, small.marigold, tmp_path).build()
    plain = tmp_path / "plain"
    config = {**load_model(UNet2DConditionModel, small.marigold / "unet").config, "in_channels": 4}
    network: Any = UNet2DConditionModel.from_config(config)
    network.save_pretrained(plain)
    with pytest.raises(InputError, match=r"plain: this UNet has in_channels=4, .* needs 8:"):
        make_2d(small, tmp_path, model={"unet": Local(str(plain))}).build()
    with pytest.raises(InputError, match=r"has in_channels=4, .* needs 8 or 12:"):
        make_3d(small, plain, tmp_path).build()


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler", "text_encoder", "tokenizer"])
def test_a_base_without_a_part_is_refused_by_name(small: Small, tmp_path: Path, part: str) -> None:
    shutil.copytree(small.marigold, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / part)
    with pytest.raises(InputError, match=rf"base: this base has no subfolder '{part}'; it holds"):
        make_2d(small, tmp_path, model={"base": Local(str(tmp_path / "base"))}).build()


# Data


def test_the_options_of_the_recipes_reach_the_datasets(
    small: Small, converted: Path, tmp_path: Path
) -> None:
    alike: dict[str, Any] = {
        "sources": ((small.source("samples"), 3),), "random_flip": 0.3, "random_crop": 0.4,
        "random_crop_ratio": 0.2, "random_hsv": 0.1, "layer_alpha": "premultiplied",
        "crop_to": "character",
    }  # fmt: skip
    own_2d = {"flip_horizontal": 0.6, "flip_vertical": 0.7}
    own_3d: dict[str, Any] = {
        "random_pad": 0.8, "groups": (TAGS_V2[:2], BODY_TAGS), "page_frame": False,
        "crop_tags": (HEAD_TAGS, BODY_TAGS), "crop_skip_tags": ("hair",), "ngroup_iters": 2,
    }  # fmt: skip
    page = make_2d(small, tmp_path, data=alike | own_2d).layers
    frames = make_3d(small, converted, tmp_path, data=alike | own_3d).layers
    renamed = {"random_pad": "random_pad_prob"}
    for dataset, options in ((page, alike | own_2d), (frames, alike | own_3d)):
        assert len(dataset) == 3 * 2 and dataset.target_size == SIDE
        for name, value in options.items():
            if name != "sources":
                assert getattr(dataset, renamed.get(name, name)) == value


@pytest.fixture(params=["2d", "3d"])
def make(
    request: pytest.FixtureRequest, small: Small, unet_3d: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Makes tasks of both kinds, with other fields of their data."""

    def task(**data: Any) -> Any:
        if request.param == "2d":
            return make_2d(small, tmp_path, data=data)
        return make_3d(small, unet_3d, tmp_path, data=data)

    return task


def test_validation_is_of_held_out_pages_as_they_are(
    small: Small, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their loss, and the measures of depth that was predicted from noise."""
    monkeypatch.setattr("seethrough.tasks.latent_diffusion.VALIDATION_PLACES", 4)
    held_out = {"validation": small.source("samples")}
    random = {"random_flip": 1.0, "random_crop": 1.0, "random_hsv": 1.0}
    model = make().build().eval()
    with torch.no_grad():
        found = make(**held_out).validate(model)
        assert make(**held_out, **random).validate(model) == found
        assert make().validate(model) == {}
    measures = {f"depth/{kind}/{name}" for kind in ALIGNMENTS for name in DEPTH_MEASURES}
    losses = {name for name in found if name.startswith("loss")}
    assert found.keys() == losses | measures and "loss" in losses
    assert all(np.isfinite(value) for value in found.values())


def test_a_network_that_knows_the_depth_is_measured_as_one(
    small: Small, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predicted latents are decoded and compared frame for frame: the true ones come out right.

    The decoder stands aside: latents are read as the depth that they were made of.
    """
    task = make(validation=small.source("samples"))
    model = task.build().eval()

    def as_latents(depth: Tensor) -> Tensor:
        latents = torch.nn.functional.interpolate(depth[None], scale_factor=1 / 8, mode="area")
        return latents.expand(-1, 4, -1, -1) / SCALING

    monkeypatch.setattr(task.encoder.vae, "decode", unscaled_depth)
    scenes = list(task.scenes(model, task.held_out, "depth", 2))
    for scene, noise in scenes:
        exact = SCALING * torch.cat([as_latents(depth) for depth in scene.true])
        start = torch.zeros(scene.latents)
        start[list(scene.places)] = exact

        def velocity(latents: Tensor, timestep: int, start: Tensor = start) -> Tensor:
            share = schedule()[timestep]
            sigma = (1 - share).sqrt().float()
            noise = (latents - share.sqrt().float() * start) / sigma
            return share.sqrt().float() * noise - sigma * start

        known = attrs.evolve(scene, predict=velocity)
        found = predicted(task, known, noise)
        coarse = torch.nn.functional.interpolate(scene.true, scale_factor=1 / 8, mode="area")
        expected = torch.nn.functional.interpolate(coarse, scale_factor=8.0)
        # The published schedule leaves 3% of noise behind its last step.
        assert (found - (expected + 1) / 2).abs().max() < 0.06
        others = (found - (expected.flip(-2) + 1) / 2).abs().max()
        assert others > 0.2


def test_the_network_sees_the_same_in_training_and_in_prediction(
    small: Small, make: Callable[..., Any]
) -> None:
    """Page, frame and noisy depth at the same channels, and the same text."""
    task = make(validation=small.source("samples"))
    model = task.build().eval()
    unet = getattr(model, "unet", model)
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        sample = keywords["sample"] if keywords.keys() > {"sample"} else arguments[0]
        text = keywords["encoder_hidden_states"] if len(arguments) < 3 else arguments[2]
        seen.append((sample, text))

    unet.register_forward_pre_hook(keep, with_kwargs=True)
    where = task.fixed_draws("depth", 0, 1)[-1]
    with torch.no_grad():
        item = task.items(task.held_out)[where]
        task.loss_at(model, task.collate([item]), torch.tensor([700]))
        (_, _), (scene, _) = task.scenes(model, task.held_out, "depth", 2)
        noisy = seen[0][0][..., -4:, :, :].reshape(scene.latents)
        scene.predict(noisy, 700)
    (trained, text), (shown, same_text) = seen
    torch.testing.assert_close(shown, trained)
    assert torch.equal(text, same_text)
    if unet is not model:
        assert [TAGS_V2[place] for place in scene.places] == scene.names
        assert scene.names == ["face", "mouth", "topwear"]


def unscaled_depth(latents: Tensor, return_dict: bool) -> tuple[Tensor]:
    """A decoder for latents that are depths."""
    assert not return_dict
    pictures = torch.nn.functional.interpolate(latents[:, :3] * SCALING, scale_factor=8.0)
    return (pictures,)


def test_pictures_show_each_frame_with_its_depths(make: Callable[..., Any]) -> None:
    task = make()
    with torch.no_grad():
        (picture,) = task.pictures(task.build().eval()).values()
        (again,) = task.pictures(task.build().eval()).values()
    assert picture.tobytes() == again.tobytes()
    # Of two pages a row of three each; of one character's layers two in a row of six.
    columns = 3 if isinstance(task, Marigold2D) else 6
    assert picture.width == columns * CELL and picture.height == 2 * CELL


def test_characters_without_any_layer_have_no_picture(
    small: Small, converted: Path, tmp_path: Path
) -> None:
    data = {"groups": (("wings",),), "crop_tags": (), "validation": small.source("samples")}
    task = make_3d(small, converted, tmp_path, data=data)
    model = task.build().eval()
    with torch.no_grad():
        assert task.pictures(model) == {}
        assert not any(name.startswith("depth") for name in task.validate(model))
