"""3D training against its loss written out by hand; absent frames, groups, what is learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.data.padding import bleed_batch
from seethrough.data.tags import BODY_GROUP, HEAD_GROUP
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model
from seethrough.models.text_table import encode_captions
from seethrough.models.unet import extend_input_channels
from seethrough.recipe import Local, evolve
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.objective import Objective3D
from seethrough.tasks.inflate import inflate_stage
from seethrough.tasks.layerdiff3d import LayerDiff3D
from tests.tasks.small import SCALING, SIDE, Small, batch, context, draw, stage_3d
from tests.tasks.test_layerdiff2d import kept_signal

MEAN = Objective3D(offset_probability=0.0, posterior="mean")
BODY, HEAD = draw(0, sample=0), draw(1, sample=1)
"""A draw of each group: the body's has 3 of its 13 layers, the head's 2 of 11."""


def make(
    small: Small,
    unet: Path,
    folder: Path,
    *,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **objective: Any,
) -> LayerDiff3D:
    stage = stage_3d(small, unet, evolve(MEAN, **objective))
    stage = evolve(
        stage,
        model=evolve(stage.model, **(model or {})),
        data=evolve(stage.data, **(data or {})),
    )
    return LayerDiff3D(stage, context(stage, folder))


@pytest.fixture
def task(small: Small, unet_3d: Path, tmp_path: Path) -> LayerDiff3D:
    return make(small, unet_3d, tmp_path)


def frame_losses(small: Small, task: LayerDiff3D, unet: Path, where: Draw) -> Tensor:
    """The loss of each frame of a sample by the formulas: (F,)."""
    pictures: Any = task.layers[where]
    vae = AutoencoderKL.from_pretrained(small.base / "vae")
    model = load_model(UNetFrameConditionModel, unet)
    argb = bleed_batch(torch.cat([pictures["layers"], pictures["page"][None]]) / 255)
    frames = len(argb) - 1
    timestep = int(where.numpy("timestep").random() * 1000)
    kept = kept_signal(timestep)
    text = encode_captions(small.base, sorted(set(pictures["captions"])))
    rows = text.rows(pictures["captions"])
    with torch.no_grad():
        seen = (2 * argb[:, 1:] - 1) * argb[:, :1]
        mean = vae.encode(seen, return_dict=False)[0].mean * SCALING
        latents, page = mean[:-1], mean[-1:]
        noise = where.numpy("noise").standard_normal(tuple(latents.shape), dtype="float32")
        noise = torch.from_numpy(noise)
        noisy = kept.sqrt().float() * latents + (1 - kept).sqrt().float() * noise
        prediction = model(
            torch.cat([noisy, page.expand_as(noisy)], 1)[None],
            torch.tensor([timestep]),
            text.hidden[rows],
            added_cond_kwargs={
                "text_embeds": text.pooled[rows],
                "time_ids": torch.tensor([[SIDE, SIDE, 0.0, 0.0, SIDE, SIDE]]).repeat(frames, 1),
            },
            group_index=pictures["group_index"],
        ).sample[0]
    snr = float(kept / (1 - kept))
    return ((prediction - noise) ** 2).mean((1, 2, 3)) * (min(snr, 5.0) / snr)


@pytest.mark.parametrize("where", [BODY, HEAD], ids=["body", "head"])
def test_the_loss_is_the_sum_over_frames_by_hand(
    small: Small, task: LayerDiff3D, unet_3d: Path, where: Draw
) -> None:
    model = task.build().eval()
    expected = frame_losses(small, task, unet_3d, where)
    data = batch(task, where)
    loss = task.loss(model, data)
    torch.testing.assert_close(loss.total, expected.sum(), rtol=1e-4, atol=1e-5)
    assert task.weight(data) == len(expected) == (13 if where is BODY else 11)
    assert loss.total.requires_grad and not loss.terms["latent"].requires_grad


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_absent_frames_weigh_what_the_recipe_says(
    small: Small, unet_3d: Path, tmp_path: Path, weight: float
) -> None:
    task = make(small, unet_3d, tmp_path, absent_weight=weight)
    model = task.build().eval()
    losses = frame_losses(small, task, unet_3d, BODY)
    present = torch.tensor([tag in ("back hair", "topwear", "legwear") for tag in BODY_GROUP])
    data = batch(task, BODY)
    expected = losses[present].sum() + weight * losses[~present].sum()
    torch.testing.assert_close(task.loss(model, data).total, expected, rtol=1e-4, atol=1e-5)
    assert task.weight(data) == 3 + 10 * weight


def test_a_group_without_any_layer_gives_a_loss_of_zero_when_dropped(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    task = make(small, unet_3d, tmp_path, absent_weight=0.0)
    model = task.build()
    data = batch(task, draw(1, sample=0))  # the head group of a sample that has none of it
    loss = task.loss(model, data).total
    assert float(loss.detach()) == 0 and task.weight(data) == 0
    loss.backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def gradients(
    task: LayerDiff3D, model: Any, micro_batches: list[list[Draw]]
) -> tuple[float, Tensor]:
    model.zero_grad()
    total = 0.0
    for micro_batch in micro_batches:
        loss = task.loss(model, batch(task, *micro_batch)).total
        loss.backward()
        total += float(loss.detach())
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return total, torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize(
    "draws", [[BODY, HEAD], [BODY, draw(2, sample=1)]], ids=["mixed groups", "one group"]
)
def test_micro_batches_add_up(task: LayerDiff3D, draws: list[Draw]) -> None:
    """Together or one after the other: the same loss, weight and gradients to rounding."""
    model = task.build()
    one, one_gradient = gradients(task, model, [draws])
    two, two_gradient = gradients(task, model, [[where] for where in draws])
    assert one == pytest.approx(two, rel=1e-5)
    assert one_gradient.norm() > 0
    assert (one_gradient - two_gradient).norm() / one_gradient.norm() < 1e-4
    weight = sum(task.weight(batch(task, where)) for where in draws)
    assert task.weight(batch(task, *draws)) == weight


def test_every_parameter_has_a_gradient_whatever_the_group(task: LayerDiff3D) -> None:
    """Data parallelism fails on a parameter that a step doesn't reach."""
    model: Any = task.build().train()
    task.loss(model, batch(task, BODY)).total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(p.grad.any() for p in model.unet.group_embeds[1].parameters())


def test_all_frames_of_a_sample_share_its_timestep_but_not_its_noise(task: LayerDiff3D) -> None:
    model = task.build().eval()
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append((keywords["sample"], keywords["timestep"]))

    model.unet.register_forward_pre_hook(keep, with_kwargs=True)
    two = [BODY, draw(2, sample=1)]
    task.loss(model, batch(task, *two))
    ((sample, timesteps),) = seen
    assert sample.shape == (2, 13, 8, 4, 4)
    assert timesteps.tolist() == [int(where.numpy("timestep").random() * 1000) for where in two]
    # The page is in the last channels, one for all frames; noise is each frame's own.
    assert torch.equal(sample[:, :, 4:], sample[:, :1, 4:].expand(-1, 13, -1, -1, -1))
    absent = [frame for frame, tag in enumerate(BODY_GROUP) if tag in ("wings", "tail", "objects")]
    noisy = sample[0, absent, :4]
    assert not torch.equal(noisy[0], noisy[1])


def test_a_sample_loses_all_its_captions_or_none(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    task = make(small, unet_3d, tmp_path, empty_prompt_probability=0.5)
    model = task.build().eval()
    texts: list[Tensor] = []

    def keep(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        texts.append(keywords["encoder_hidden_states"])

    model.unet.register_forward_pre_hook(keep, with_kwargs=True)
    table = encode_captions(small.base, ["", "legwear,footwear", *BODY_GROUP])
    captions = ["legwear,footwear" if tag == "legwear" else tag for tag in BODY_GROUP]
    told, empty = (
        table.hidden[table.rows(captions)],
        table.hidden[table.rows([""])].expand(13, -1, -1),
    )
    draws = [draw(2 * i, sample=0) for i in range(6)]
    task.loss(model, batch(task, *draws))
    kinds: set[str] = set()
    for text in texts[0].unflatten(0, (6, 13)):
        is_empty = torch.allclose(text, empty, atol=1e-5)
        assert is_empty or torch.allclose(text, told, atol=1e-5)
        kinds.add("empty" if is_empty else "told")
    assert kinds == {"empty", "told"}


def test_what_is_learned(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    names: dict[str, set[str]] = {}
    for learn in ("temporal", "spatial"):
        task = make(small, unet_3d, tmp_path, model={"learn": learn})
        model = task.build()
        (group,) = task.parameter_groups(model, 3e-5)
        assert (group.name, group.lr) == (learn, 3e-5)
        chosen = {id(parameter) for parameter in group.parameters}
        names[learn] = {name for name, p in model.named_parameters() if id(p) in chosen}
        assert len(group.parameters) == len(names[learn])
    assert names["temporal"] | names["spatial"] == {name for name, _ in model.named_parameters()}
    assert not names["temporal"] & names["spatial"]
    assert all(".temporal_transformer_blocks." in name for name in names["temporal"])
    assert not any(".temporal_transformer_blocks." in name for name in names["spatial"])
    assert names["temporal"] and "unet.conv_in.weight" in names["spatial"]
    # As published, the group embeddings go with the spatial part.
    assert any(name.startswith("unet.group_embeds.") for name in names["spatial"])


@pytest.mark.parametrize(("temporal_lr", "expected"), [(None, 3e-5), (7e-6, 7e-6)])
def test_the_blocks_across_frames_have_a_learning_rate_of_their_own(
    small: Small, unet_3d: Path, tmp_path: Path, temporal_lr: float | None, expected: float
) -> None:
    task = make(small, unet_3d, tmp_path, model={"temporal_lr": temporal_lr})
    model = task.build()
    groups = task.parameter_groups(model, 3e-5)
    assert [(group.name, group.lr) for group in groups] == [
        ("temporal", expected), ("spatial", 3e-5),
    ]  # fmt: skip
    all_ids = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(all_ids) == sorted(id(parameter) for parameter in model.parameters())
    only = make(
        small, unet_3d, tmp_path, model={"temporal_lr": temporal_lr, "learn": "temporal"}
    ).parameter_groups(model, 3e-5)
    assert [(group.name, group.lr) for group in only] == [("temporal", expected)]


@pytest.mark.parametrize("learn", ["temporal", "spatial"])
def test_frozen_parameters_get_no_gradient(
    small: Small, unet_3d: Path, tmp_path: Path, learn: str
) -> None:
    """The published program computes, keeps and clips by the gradients of what it doesn't train."""
    task = make(small, unet_3d, tmp_path, model={"learn": learn})
    model = task.build().train()
    (group,) = task.parameter_groups(model, 3e-5)
    trained = {id(parameter) for parameter in group.parameters}
    for parameter in model.parameters():  # as the loop does
        parameter.requires_grad_(id(parameter) in trained)
    task.loss(model, batch(task, BODY)).total.backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == trained


def test_weights_are_taken_as_they_are(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    """Also those that a conversion would have made zero: a warm start keeps what it learned."""
    task = make(small, unet_3d, tmp_path)
    model = task.build()
    saved = load_model(UNetFrameConditionModel, unet_3d).state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in model.unet.state_dict().items())
    assert all(value.any() for value in saved.values())
    exported = task.export(model, tmp_path / "stage")["unet"]
    again = load_model(UNetFrameConditionModel, exported).state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in again.items())


@pytest.mark.parametrize("layout", ["conversion", "stage", "published"])
def test_training_starts_from_every_layout_with_its_weights(
    small: Small, unet_2d: Path, unet_3d: Path, tmp_path: Path, layout: str
) -> None:
    """The published program makes what was learned across frames zero whatever it starts from."""
    saved: Any = load_model(UNetFrameConditionModel, unet_3d)
    if layout == "conversion":
        # The folder of the UNet itself, fresh: blocks across frames are zero at their end.
        stage = Inflate(unet=Local(str(unet_2d)))
        folder = inflate_stage(stage, context(stage, tmp_path)).artifacts["unet"]
        saved = load_model(UNetFrameConditionModel, folder)
    elif layout == "stage":
        # What a stage leaves: its folder has the UNet in `unet`.
        task = make(small, unet_3d, tmp_path)
        folder = task.export(task.build(), tmp_path / "runs/train_3d")["unet"].parent
    else:
        # Other parts beside it, in shards, in bfloat16.
        folder = tmp_path / "published"
        saved.to(torch.bfloat16).save_pretrained(folder / "unet", max_shard_size="20KB")
        assert len(list((folder / "unet").glob("*.safetensors"))) > 1
        (folder / "vae").mkdir()
        (folder / "model_index.json").write_text("{}")
    task = make(small, folder, tmp_path)
    found = task.build().unet.state_dict()
    expected = saved.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key].float()) for key, value in found.items())
    assert all(value.dtype == torch.float32 for value in found.values())
    last = "temporal_transformer_blocks.0.ff.net.2.weight"
    learned = [value for key, value in found.items() if key.endswith(last)]
    assert learned and all(bool(value.any()) == (layout != "conversion") for value in learned)


def test_a_unet_with_the_mask_condition_is_refused(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    model: Any = load_model(UNetFrameConditionModel, unet_3d)
    model.register_to_config(in_channels=12)
    model.conv_in.weight = torch.nn.Parameter(extend_input_channels(model.conv_in.weight, 12))
    model.save_pretrained(tmp_path / "unet")
    with pytest.raises(InputError, match=r"takes 12 input channels, but .* make 8"):
        make(small, tmp_path / "unet", tmp_path).build()


def test_a_2d_unet_is_refused(small: Small, unet_2d: Path, tmp_path: Path) -> None:
    """It would load, without blocks across frames."""
    with pytest.raises(InputError, match=f"{unet_2d}: .*no blocks across frames.*inflate"):
        make(small, unet_2d, tmp_path).build()


def test_groups_of_other_sizes_are_refused(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    task = make(small, unet_3d, tmp_path, data={"groups": (HEAD_GROUP, BODY_GROUP)})
    with pytest.raises(InputError, match=r"\[13, 11\] frames.*make \[11, 13\]"):
        task.build()
    task = make(small, unet_3d, tmp_path, data={"pad_frames": 13})
    with pytest.raises(InputError, match=r"\[13, 11\] frames.*pad_frames make \[13, 13\]"):
        task.build()


def test_a_network_without_group_embeddings_trains_too(
    small: Small, unet_2d: Path, tmp_path: Path
) -> None:
    stage = Inflate(unet=Local(str(unet_2d)), group_embedding=False)
    unet = inflate_stage(stage, context(stage, tmp_path / "inflate")).artifacts["unet"]
    task = make(small, unet, tmp_path)
    model = task.build()
    assert not any("group_embeds" in name for name, _ in model.named_parameters())
    total, gradient = gradients(task, model, [[BODY, HEAD]])
    assert total > 0 and gradient.norm() > 0
    # Its groups may have further frames, which count as absent ones do.
    padded = make(small, unet, tmp_path, data={"pad_frames": 13}, absent_weight=0.5)
    data = batch(padded, HEAD)
    assert padded.weight(data) == 2 + 0.5 * 11
    assert padded.latents(data["items"][0]).shape[0] == 13 + 1
    assert float(padded.loss(model, data).total.detach()) > 0


def test_the_options_of_the_recipe_reach_the_dataset(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "sources": ((small.source("samples"), 3),), "random_flip": 0.3, "random_pad": 0.4,
        "crop_to": "character", "layer_alpha": "premultiplied", "ngroup_iters": 2,
        "global_batch": 6, "page_alpha": "character",
        "groups": (HEAD_GROUP, BODY_GROUP), "crop_tags": (("head",), ()),
        "crop_skip_tags": ("objects",), "pad_frames": 12,
    }  # fmt: skip
    layers: Any = make(small, unet_3d, tmp_path, data=options).layers
    assert len(layers) == 3 * 2
    assert layers.target_size == SIDE
    assert (layers.random_flip, layers.random_pad_prob) == (0.3, 0.4)
    assert layers.crop_to == "character" and layers.layer_alpha == "premultiplied"
    assert layers.groups == (HEAD_GROUP, BODY_GROUP)
    assert layers.crop_tags == (("head",), ()) and layers.crop_skip_tags == ("objects",)
    assert (layers.ngroup_iters, layers.global_batch, layers.pad_frames) == (2, 6, 12)
    assert layers.page_alpha == "character"
    assert [layers.group(draw(i)) for i in range(6)] == [0, 0, 1, 1, 0, 0]
