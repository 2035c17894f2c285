"""2D training against its loss written out by hand, and where its weights come from."""

import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.data.padding import bleed_batch
from seethrough.errors import InputError
from seethrough.models.checkpoints import read_state_dict
from seethrough.models.text_table import encode_captions
from seethrough.recipe import Local, evolve
from seethrough.recipes.objective import Objective
from seethrough.tasks import layerdiff
from seethrough.tasks.layerdiff2d import UNET_DELTA, LayerDiff2D
from tests.tasks.small import SCALING, SIDE, Small, batch, context, draw, stage_2d

MEAN = Objective(offset_probability=0.0, posterior="mean")


def make(small: Small, folder: Path, **changes: Any) -> LayerDiff2D:
    """The task with other fields of its objective, or of `model` and `data` as a dict."""
    sections = {name: changes.pop(name, {}) for name in ("model", "data")}
    stage = stage_2d(small, evolve(MEAN, **changes))
    stage = evolve(
        stage,
        model=evolve(stage.model, **sections["model"]),
        data=evolve(stage.data, **sections["data"]),
    )
    return LayerDiff2D(stage, context(stage, folder))


@pytest.fixture
def task(small: Small, unet_2d: Path, tmp_path: Path) -> LayerDiff2D:
    return make(small, tmp_path, model={"unet": Local(str(unet_2d))})


def kept_signal(timestep: int) -> Tensor:
    """The share of the latents' variance that is left, from SDXL's published schedule."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, 0)[timestep]


def loss_by_hand(small: Small, task: LayerDiff2D, unet: Path, where: Draw) -> float:
    """One sample's loss from diffusers' classes and the formulas of the papers."""
    item = task.layers[where]
    vae = AutoencoderKL.from_pretrained(small.base / "vae")
    model = UNet2DConditionModel.from_pretrained(unet)
    seen = [item[name] for name in ("page", "visible") if name in item]
    argb = bleed_batch(torch.stack([item["layer"], *seen]) / 255)
    timestep = int(where.numpy("timestep").random() * 1000)
    kept = kept_signal(timestep)
    text = encode_captions(small.base, [item["caption"]])
    with torch.no_grad():
        seen = (2 * argb[:, 1:] - 1) * argb[:, :1]
        mean = vae.encode(seen, return_dict=False)[0].mean * SCALING
        latents, conditions = mean[:1], mean[1:].flatten(0, 1)[None]
        noise = where.numpy("noise").standard_normal(latents.shape[1:], dtype="float32")
        noise = torch.from_numpy(noise)[None]
        noisy = kept.sqrt().float() * latents + (1 - kept).sqrt().float() * noise
        prediction = model(
            torch.cat([noisy, conditions], 1),
            timestep,
            text.hidden,
            added_cond_kwargs={
                "text_embeds": text.pooled,
                "time_ids": torch.tensor([[SIDE, SIDE, 0.0, 0.0, SIDE, SIDE]]),
            },
        ).sample
    snr = float(kept / (1 - kept))
    return float(((prediction - noise) ** 2).mean()) * min(snr, 5.0) / snr


def test_the_loss_is_the_sum_of_what_each_sample_gives_by_hand(
    small: Small, task: LayerDiff2D, unet_2d: Path
) -> None:
    model = task.build().eval()
    draws = [draw(0), draw(1), draw(2, sample=0)]
    expected = [loss_by_hand(small, task, unet_2d, where) for where in draws]
    for where, value in zip(draws, expected, strict=True):
        assert float(task.loss(model, batch(task, where)).total) == pytest.approx(value, rel=1e-4)
    together = batch(task, *draws)
    loss = task.loss(model, together)
    assert float(loss.total) == pytest.approx(sum(expected), rel=1e-4)
    assert task.weight(together) == 3
    assert loss.total.requires_grad and not loss.terms["latent"].requires_grad
    assert loss.terms["latent"] == loss.total


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_each_prediction_type_has_its_target(
    small: Small, unet_2d: Path, tmp_path: Path, kind: str
) -> None:
    """A network that predicts zeros errs by the target itself."""
    model_source = {"unet": Local(str(unet_2d))}
    task = make(small, tmp_path, prediction_type=kind, snr_gamma=None, model=model_source)
    model: Any = task.build().eval()
    torch.nn.init.zeros_(model.conv_out.weight)
    torch.nn.init.zeros_(model.conv_out.bias)
    where = draw(0)
    data = batch(task, where)
    latents = task.latents(data["items"][0])[:1]
    noise = torch.from_numpy(where.numpy("noise").standard_normal(latents.shape[1:], "float32"))
    kept = kept_signal(int(where.numpy("timestep").random() * 1000)).float()
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    target = {"epsilon": noise, "v_prediction": velocity, "sample": latents}[kind]
    total = float(task.loss(model, data).total)
    assert total == pytest.approx(float((target**2).mean()), rel=1e-4)


def test_micro_batches_add_up(task: LayerDiff2D) -> None:
    """Two samples together, or one after the other: the same loss and gradients to rounding."""
    model = task.build()
    draws = [draw(0), draw(1)]
    sums: list[tuple[float, Tensor]] = []
    for micro_batches in ([draws], [[draws[0]], [draws[1]]]):
        model.zero_grad()
        total = 0.0
        for micro_batch in micro_batches:
            loss = task.loss(model, batch(task, *micro_batch)).total
            loss.backward()
            total += float(loss.detach())
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        sums.append((total, torch.cat(gradients)))
    (one, one_gradient), (two, two_gradient) = sums
    assert one == pytest.approx(two, rel=1e-5)
    assert one_gradient.norm() > 0
    assert (one_gradient - two_gradient).norm() / one_gradient.norm() < 1e-4


def test_a_step_is_a_function_of_its_draws(task: LayerDiff2D) -> None:
    model = task.build().eval()
    data = batch(task, draw(0))
    torch.manual_seed(1)
    first = float(task.loss(model, data).total)
    torch.manual_seed(2)
    assert float(task.loss(model, batch(task, draw(0))).total) == first
    assert float(task.loss(model, batch(task, draw(0, step=1))).total) != first


def test_prompts_are_dropped_sample_by_sample(small: Small, tmp_path: Path) -> None:
    draws = [draw(i, sample=0) for i in range(40)]
    captions = [["topwear", "face"]] * len(draws)
    never, half, always = (
        make(small, tmp_path, empty_prompt_probability=p).dropped(captions, draws)
        for p in (0.0, 0.5, 1.0)
    )
    assert never == captions
    assert always == [["", ""]] * len(draws)
    assert 8 < half.count(["", ""]) < 32
    assert all(row in (["", ""], ["topwear", "face"]) for row in half)
    task = make(small, tmp_path, empty_prompt_probability=0.5)
    assert task.dropped(captions[:1], draws[7:8]) == half[7:8]


def test_the_network_sees_the_captions_that_are_left(small: Small, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def keep(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append(arguments[2])

    table = encode_captions(small.base, ["", "topwear", "back hair", "legwear,footwear"])
    for probability in (0.0, 1.0):
        task = make(small, tmp_path, empty_prompt_probability=probability)
        model = task.build().eval()
        model.register_forward_pre_hook(keep, with_kwargs=True)
        data = batch(task, draw(0))
        task.loss(model, data)
        caption = "" if probability else data["items"][0]["caption"]
        torch.testing.assert_close(seen[-1], table.hidden[table.rows([caption])])


@pytest.mark.parametrize(("bytes_on_device", "kind"), [(2**30, "meta"), (0, "cpu")])
def test_text_embeddings_of_many_captions_stay_on_the_host(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_on_device: int, kind: str
) -> None:
    """Their rows come to the device; PyTorch's device without memory stands for a GPU."""
    monkeypatch.setattr(layerdiff, "TEXT_ON_DEVICE", bytes_on_device)
    task = make(small, tmp_path)
    task.context = attrs.evolve(task.context, device=torch.device("meta"))
    task.prepare()
    hidden, added = task.text_conditions([["topwear"], [""]])
    assert task.text.hidden.device.type == kind
    assert hidden.device.type == added["text_embeds"].device.type == "meta"
    assert hidden.shape == (2, *task.text.hidden.shape[1:])


@pytest.mark.parametrize(
    "objective",
    [
        {"noise_offset": 0.3},
        {"offset_probability": 1.0},
        {"timestep_bias": "later", "timestep_bias_multiplier": 1e6, "timestep_bias_portion": 0.1},
        {"posterior": "sample"},
    ],
)
def test_the_network_sees_what_the_objective_asks_for(
    small: Small, unet_2d: Path, tmp_path: Path, objective: dict[str, Any]
) -> None:
    """Noise offset, transparency offset and chosen timesteps reach its input."""
    task = make(small, tmp_path, model={"unet": Local(str(unet_2d))}, **objective)
    model = task.build().eval()
    seen: list[tuple[Any, ...]] = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    where = draw(0)
    data = batch(task, where)
    task.loss(model, data)
    sample, timesteps = seen[0][:2]
    latents = task.latents(data["items"][0])
    noise = where.numpy("noise").standard_normal(latents.shape[1:], dtype="float32")
    if "noise_offset" in objective:
        constant = where.numpy("noise offset").standard_normal((4, 1, 1), dtype="float32")
        noise = noise + 0.3 * constant
    (timestep,) = timesteps.tolist()
    if "timestep_bias" in objective:
        assert timestep >= 900
    else:
        assert timestep == int(where.numpy("timestep").random() * 1000)
    kept = kept_signal(timestep).float()
    noisy = kept.sqrt() * latents[0] + (1 - kept).sqrt() * torch.from_numpy(noise)
    torch.testing.assert_close(sample[0], torch.cat([noisy, latents[1]]), rtol=1e-4, atol=1e-5)
    plain = make(small, tmp_path).latents(data["items"][0])
    differs = "offset_probability" in objective or "posterior" in objective
    # Of the layer and the page alike.
    assert [torch.equal(one, other) for one, other in zip(latents, plain, strict=True)] == [
        not differs
    ] * 2


# Weights to start from


def test_the_base_is_extended_with_zeros(small: Small, tmp_path: Path) -> None:
    base = read_state_dict(small.base / "unet")
    state = make(small, tmp_path).build().state_dict()
    assert state.keys() == base.keys()
    assert state["conv_in.weight"].shape[1] == 8
    assert not state["conv_in.weight"][:, 4:].any()
    assert torch.equal(state["conv_in.weight"][:, :4], base["conv_in.weight"])
    others = base.keys() - {"conv_in.weight"}
    assert all(torch.equal(state[key], base[key]) for key in others)
    assert all(value.dtype == torch.float32 for value in state.values())


def test_the_delta_is_added(small: Small, tmp_path: Path) -> None:
    base = read_state_dict(small.base / "unet")
    keys = sorted(key for key in base if ".attn1.to_q" in key)
    delta = {key: torch.full_like(base[key], 0.25) for key in keys}
    save_file(delta, tmp_path / UNET_DELTA)
    task = make(small, tmp_path, model={"unet_delta": Local(str(tmp_path))})
    state = task.build().state_dict()
    assert keys
    for key in base.keys() - {"conv_in.weight"}:
        torch.testing.assert_close(state[key], base[key] + (0.25 if key in delta else 0.0))
    assert not state["conv_in.weight"][:, 4:].any()


def test_a_missing_delta_is_named(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, model={"unet_delta": Local(str(tmp_path))})
    with pytest.raises(InputError, match=rf"{UNET_DELTA}: no such file.*model\.unet_delta"):
        task.build()


def test_training_goes_on_from_a_saved_unet(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    model = task.build()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.01
    exported = task.export(model, tmp_path / "stage")["unet"]
    assert exported == tmp_path / "stage" / "unet"
    again = make(small, tmp_path, model={"unet": Local(str(exported))}).build()
    expected = model.state_dict()
    assert all(torch.equal(v, expected[key]) for key, v in again.state_dict().items())
    stage = make(small, tmp_path, model={"unet": Local(str(exported.parent))}).build()
    assert all(torch.equal(v, expected[key]) for key, v in stage.state_dict().items())
    # A saved UNet has the delta in it: it is not added twice.
    again = make(
        small, tmp_path, model={"unet": Local(str(exported)), "unet_delta": Local(str(tmp_path))}
    )
    assert torch.equal(again.build().state_dict()["conv_in.weight"], expected["conv_in.weight"])


@pytest.mark.parametrize(
    "part", ["unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer_2"]
)
def test_a_base_without_a_part_is_refused_by_name(small: Small, tmp_path: Path, part: str) -> None:
    shutil.copytree(small.base, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / part)
    with pytest.raises(InputError, match=rf"base: this base has no subfolder '{part}'; it holds"):
        make(small, tmp_path, model={"base": Local(str(tmp_path / "base"))}).build()


def test_a_unet_of_another_shape_is_refused(small: Small, unet_2d: Path, tmp_path: Path) -> None:
    shutil.copytree(unet_2d, tmp_path / "unet")
    state = read_state_dict(unet_2d)
    state["conv_out.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    task = make(small, tmp_path, model={"unet": Local(str(tmp_path / "unet"))})
    with pytest.raises(InputError, match=r"'conv_out\.bias' has shape \(5,\).* needs \(4,\)"):
        task.build()


# The mask condition


@pytest.fixture
def masked(small: Small, unet_2d: Path, tmp_path: Path) -> LayerDiff2D:
    """From a trained UNet, with weights of their own for the new channels."""
    options = {"model": {"unet": Local(str(unet_2d))}, "data": {"mask_condition": True}}
    start = make(small, tmp_path, **options)
    model: Any = start.build()
    torch.nn.init.normal_(model.conv_in.weight[:, 8:], std=0.1)
    unet = start.export(model, tmp_path / "start")["unet"]
    options["model"] = {"unet": Local(str(unet))}
    return make(small, tmp_path, **options)


def test_the_visible_part_has_input_channels_of_its_own(small: Small, tmp_path: Path) -> None:
    """They start at zero, so that the network starts as the one without them."""
    base = read_state_dict(small.base / "unet")
    model: Any = make(small, tmp_path, data={"mask_condition": True}).build()
    weight = model.state_dict()["conv_in.weight"]
    assert model.config.in_channels == weight.shape[1] == 12
    assert not weight[:, 4:].any() and torch.equal(weight[:, :4], base["conv_in.weight"])


def test_the_loss_with_the_mask_condition_by_hand(small: Small, masked: LayerDiff2D) -> None:
    model = masked.build().eval()
    unet = masked.context.path(masked.stage.model.unet)  # pyright: ignore[reportArgumentType]
    draws = [draw(0), draw(3, sample=1)]
    expected = [loss_by_hand(small, masked, unet, where) for where in draws]
    data = batch(masked, *draws)
    assert [list(item["pictures"]) for item in data["items"]] == [
        [item["frames"][0], "page", "visible"] for item in data["items"]
    ]
    assert float(masked.loss(model, data).total) == pytest.approx(sum(expected), rel=1e-4)


def test_a_masked_character_sees_its_page_twice(small: Small, masked: LayerDiff2D) -> None:
    data = evolve(masked.stage.data, tags=("wings",), random_mask=1.0)
    stage = evolve(masked.stage, data=data)
    task = LayerDiff2D(stage, masked.context)
    latents = task.latents(batch(task, draw(0))["items"][0])
    assert len(latents) == 3 and torch.equal(latents[1], latents[2])
    assert not torch.equal(latents[0], latents[1])


def test_a_unet_with_the_mask_condition_is_no_start_without(
    small: Small, masked: LayerDiff2D, tmp_path: Path
) -> None:
    """Nor would the 3D model take it."""
    task = make(small, tmp_path, model={"unet": masked.stage.model.unet})
    with pytest.raises(InputError, match="takes 12 input channels, more than the 8 asked for"):
        task.build()


# Data


def test_the_options_of_the_recipe_reach_the_dataset(small: Small, tmp_path: Path) -> None:
    sources = ((small.source("samples"), 3),)
    options: dict[str, Any] = {
        "sources": sources, "random_flip": 0.3, "random_pad": 0.4, "crop_to": "character",
        "layer_alpha": "premultiplied", "size_groups": (("face",),), "own_box": False,
        "load_objects": False, "tags": ("face", "topwear"), "caption_files": False,
        "mask_condition": True, "random_mask": 0.2,
    }  # fmt: skip
    layers: Any = make(small, tmp_path, data=options).layers
    assert len(layers) == 3 * 2
    assert layers.target_size == SIDE
    assert (layers.random_flip, layers.random_pad_prob) == (0.3, 0.4)
    assert layers.crop_to == "character" and not layers.own_box and not layers.load_objects
    assert layers.layer_alpha == "premultiplied"
    assert layers.target_size_groups == (("face",),)
    assert layers.tag_list == ("face", "topwear") and not layers.caption_files
    assert layers.mask_condition and layers.random_mask == 0.2
    layers = make(small, tmp_path, data={"page_alpha": "character"}).layers
    assert layers.page_alpha == "character"
