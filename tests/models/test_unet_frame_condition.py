"""The 3D UNet against the reference's numbers, and what its interface promises."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from accelerate import init_empty_weights
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from seethrough.models import UNetFrameConditionModel
from seethrough.models.unet_frame_condition import (
    CrossFrameTransformerBlock,
    GroupEmbedding,
    Transformer3DModel,
)
from tests.data.parity import rule

KEYS = Path(__file__).parents[1] / "data" / "layerdiff_state_dict_keys.tsv.gz"
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}

TINY: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossFrameAttnDownBlock", "CrossFrameAttnDownBlock"],
    "mid_block_type": "UNetMidBlockCrossFrameAttn",
    "up_block_types": ["CrossFrameAttnUpBlock", "CrossFrameAttnUpBlock", "UpBlock2D"],
    "block_out_channels": [8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "transformer_layers_per_block": [1, 1, 3],
    "attention_head_dim": [1, 2, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 34,
}
TINY_2D = TINY | {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
SDXL = TINY | {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD2: dict[str, Any] = {
    "sample_size": 96,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": [*["CrossFrameAttnDownBlock"] * 3, "DownBlock2D"],
    "mid_block_type": "UNetMidBlockCrossFrameAttn",
    "up_block_types": ["UpBlock2D", *["CrossFrameAttnUpBlock"] * 3],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def ramp(shape: tuple[int, ...], a: float, b: float) -> Tensor:
    return torch.sin(a + b * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape)


def fill_by_waves(module: nn.Module) -> None:
    """The weights on which the values of `test_values_of_the_reference` were computed."""
    state = module.state_dict()
    for index, key in enumerate(sorted(state)):
        value = state[key]
        is_scale = value.ndim == 1 and "norm" in key and key.endswith("weight")
        size = 0.1 if value.ndim == 1 else value[0].numel() ** -0.5
        waves = ramp(tuple(value.shape), 0.7 * index, 0.31)
        state[key] = float(is_scale) + size * waves
    module.load_state_dict(state)


def assert_summary(found: Tensor, mean: float, mean_abs: float, samples: list[float]) -> None:
    flat = found.flatten()
    picked = flat[[0, 1, flat.numel() // 2, flat.numel() - 1]]
    assert flat.mean().item() == pytest.approx(mean, abs=1e-7)
    assert flat.abs().mean().item() == pytest.approx(mean_abs, abs=1e-7)
    assert picked.tolist() == pytest.approx(samples, abs=1e-7)


def tiny_inputs(batch: int, frames: int, side: tuple[int, int] = (8, 8)) -> dict[str, Any]:
    rows = batch * frames
    generator = torch.Generator().manual_seed(7)
    return {
        "sample": torch.randn(batch, frames, 8, *side, generator=generator),
        "timestep": torch.arange(1, batch + 1) * 100,
        "encoder_hidden_states": torch.randn(rows, 5, 12, generator=generator),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(rows, 10, generator=generator),
            "time_ids": torch.tensor([64.0, 64, 0, 0, 64, 64]).expand(rows, -1),
        },
    }


def tiny_model(**changes: Any) -> Any:
    model = UNetFrameConditionModel(**(TINY | changes))
    rule.fill(model)
    return model.eval()


def spatial_part(model: UNetFrameConditionModel, **changes: Any) -> Any:
    """The 2D UNet with the model's weights, by diffusers' own class."""
    spatial: Any = UNet2DConditionModel(**(TINY_2D | changes))
    spatial.to(model.dtype)
    state = model.state_dict()
    spatial.load_state_dict({key: state[key] for key in spatial.state_dict()})
    return spatial


def vector_inputs(name: str, spec: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    config, names = spec["config"], spec["inputs"]
    batch, frames, size = spec["batch"], spec["frames"], spec["size"]
    rows = batch * frames
    sample_shape = (batch, frames, config["in_channels"], size, size)
    text_shape = (rows, spec["text_len"], config["cross_attention_dim"])
    inputs: dict[str, Any] = {
        "sample": rule.normal(names["sample"], sample_shape).to(dtype),
        "timestep": torch.tensor(spec["timesteps"]),
        "encoder_hidden_states": rule.normal(names["text"], text_shape).to(dtype),
        "group_index": spec["group_index"],
    }
    if names["pooled"]:
        inputs["added_cond_kwargs"] = {
            "text_embeds": rule.normal(names["pooled"], (rows, 1280)).to(dtype),
            "time_ids": torch.tensor([spec["time_ids"]] * rows, dtype=dtype),
        }
    return inputs


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["layerdiff3d_group0", "layerdiff3d_nogroup", "marigold3d"])
def test_reference_vectors(name: str, dtype: torch.dtype) -> None:
    spec, tensors = rule.read_vector(name)
    model: Any = UNetFrameConditionModel(**spec["config"])
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == spec["keys"]
    rule.fill(model)
    model.to(dtype)
    output = model(**vector_inputs(name, spec, dtype)).sample
    assert relative_error(output, tensors.pop("output")) < TOLERANCE[dtype]
    (output**2).mean().backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    for key, expected in tensors.items():
        assert relative_error(gradients[key.removeprefix("grad:")], expected) < TOLERANCE[dtype]
    for key, expected in spec.get("grad_norms", {}).items():
        assert gradients[key].double().norm().item() == pytest.approx(expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("shape", "mean", "mean_abs", "samples"),
    [
        ((3, 8), 0.071636675, 0.861817873, [1.666206597, -1.011445306, 1.740402410, -0.888070334]),
        (
            (3, 5, 8),
            0.077990654,
            0.838177088,
            [1.666206597, -1.011445306, 1.641352761, 0.962193553],
        ),
    ],
)
def test_group_embedding_values_of_the_reference(
    shape: tuple[int, ...], mean: float, mean_abs: float, samples: list[float]
) -> None:
    embedding = GroupEmbedding(3, 8).double()
    fill_by_waves(embedding)
    assert_summary(embedding(ramp(shape, 0.2, 0.5)), mean, mean_abs, samples)


@pytest.mark.parametrize(
    ("frames", "mean", "mean_abs", "samples"),
    [
        (
            3,
            -0.025129941,
            0.281702100,
            [0.060064110, -0.284772921, -0.417816440, 0.074712511],
        ),
        (
            1,
            -0.023036697,
            0.268280814,
            [0.006310144, -0.268135420, -0.346765411, 0.084269772],
        ),
        (
            6,
            -0.026636217,
            0.289514454,
            [0.058240394, -0.283587890, -0.421039954, 0.082653494],
        ),
    ],
)
def test_temporal_block_values_of_the_reference(
    frames: int, mean: float, mean_abs: float, samples: list[float]
) -> None:
    block = CrossFrameTransformerBlock(16, num_attention_heads=2, attention_head_dim=8).double()
    assert len(block.state_dict()) == 19
    fill_by_waves(block)
    assert_summary(block(ramp((6, 4, 16), 0.1, 0.37), frames), mean, mean_abs, samples)


def transformer(num_layers: int) -> Transformer3DModel:
    return Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=16,
        num_layers=num_layers,
        cross_attention_dim=12,
        norm_num_groups=4,
        use_linear_projection=True,
    )


@pytest.mark.parametrize(("spatial", "temporal"), [(1, 1), (2, 2), (3, 1), (4, 2), (10, 5)])
def test_number_of_temporal_blocks(spatial: int, temporal: int) -> None:
    assert len(transformer(spatial).temporal_transformer_blocks) == temporal


@pytest.mark.parametrize(
    ("layers", "mean", "mean_abs", "samples"),
    [
        (
            1,
            -0.025963325,
            0.641718921,
            [0.120606338, 0.493217193, -0.633314612, 0.582825789],
        ),
        (
            3,
            -0.015910806,
            0.656901983,
            [0.181722117, 0.552017017, -0.566526619, 0.751882681],
        ),
    ],
)
def test_transformer_values_of_the_reference(
    layers: int, mean: float, mean_abs: float, samples: list[float]
) -> None:
    model = transformer(layers).double()
    fill_by_waves(model)
    output = model(
        ramp((6, 16, 2, 2), 0.3, 0.41),
        encoder_hidden_states=ramp((6, 5, 12), 0.2, 0.29),
        cross_attention_kwargs={"num_frames": 3},
        return_dict=False,
    )[0]
    assert_summary(output, mean, mean_abs, samples)


def wave_inputs() -> dict[str, Any]:
    return {
        "sample": ramp((1, 3, 8, 8, 8), 0.15, 0.23),
        "timestep": torch.tensor([256]),
        "encoder_hidden_states": ramp((3, 5, 12), 0.2, 0.29),
        "added_cond_kwargs": {
            "text_embeds": ramp((3, 10), 0.4, 0.53),
            "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 3, dtype=torch.float64),
        },
    }


def test_unet_values_of_the_reference() -> None:
    model = UNetFrameConditionModel(**TINY).double()
    fill_by_waves(model)
    assert len(model.state_dict()) == 621
    assert sum(p.numel() for p in model.parameters()) == 205_420
    output = model(**wave_inputs()).sample
    assert output.shape == (1, 3, 4, 8, 8)
    assert_summary(
        output,
        0.077745397,
        1.147503295,
        [-0.532905347, -0.784481002, 0.345842425, -0.810339357],
    )


def test_after_init_weights_it_is_the_2d_network_per_frame() -> None:
    model = UNetFrameConditionModel(**TINY).double()
    fill_by_waves(model)
    model.init_weights()
    inputs = wave_inputs()
    output = model(**inputs).sample
    assert_summary(
        output,
        0.078393979,
        1.146190100,
        [-0.538054269, -0.792195016, 0.337385697, -0.824546746],
    )
    spatial = spatial_part(model)
    inputs["sample"] = inputs["sample"][0]
    assert torch.equal(spatial(**inputs).sample, output[0])


def test_frames_permute_without_group_embedding() -> None:
    model = tiny_model().double()
    inputs = wave_inputs()
    output = model(**inputs).sample
    order = [1, 0, 2]
    conditions = inputs["added_cond_kwargs"]
    inputs["sample"] = inputs["sample"][:, order]
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][order]
    conditions["text_embeds"] = conditions["text_embeds"][order]
    torch.testing.assert_close(model(**inputs).sample, output[:, order], rtol=0, atol=1e-12)


def test_frames_see_each_other() -> None:
    model = tiny_model()
    inputs = tiny_inputs(1, 3)
    output = model(**inputs).sample
    inputs["sample"][0, 2] += 1
    assert (model(**inputs).sample[0, :2] - output[0, :2]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("frames", "tensors", "parameters"),
    [(False, 2440, 4_059_539_204), (True, 2452, 4_071_291_140)],
)
def test_key_census_at_full_size(frames: bool, tensors: int, parameters: int) -> None:
    with init_empty_weights():
        model = UNetFrameConditionModel(**SDXL, group_embedding=frames)
    state = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    assert len(state) == tensors
    assert sum(p.numel() for p in model.parameters()) == parameters
    rows = [line.split("\t") for line in gzip.decompress(KEYS.read_bytes()).decode().splitlines()]
    published = {key: shape for component, key, shape in rows if component == "unet3d"}
    if not frames:
        published = {k: v for k, v in published.items() if not k.startswith("group_embeds")}
    assert state == published
    spatial = [key for key in state if "temporal" not in key and "group_embeds" not in key]
    assert len(spatial) == 1680


def test_key_census_of_marigold_at_full_size() -> None:
    """Number 17 of the parity tests: 2D tensors under the same names, 19 new ones at 16 places."""
    spatial_config = SD2 | {
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    }
    with init_empty_weights():
        models = UNetFrameConditionModel(**SD2), UNet2DConditionModel(**spatial_config)
        wide = UNetFrameConditionModel(**SD2 | {"in_channels": 12})
    frames, spatial = (
        {key: tuple(value.shape) for key, value in model.state_dict().items()} for model in models
    )
    assert (len(frames), len(spatial)) == (990, 686)
    assert spatial.items() <= frames.items()
    new = {key: math.prod(shape) for key, shape in frames.items() if key not in spatial}
    assert (len(new), sum(new.values())) == (304, 347_243_200)
    assert len({key.split(".temporal_transformer_blocks.0.")[0] for key in new}) == 16
    counts = [sum(p.numel() for p in model.parameters()) for model in (*models, wide)]
    assert counts == [1_213_165_444, 865_922_244, 1_213_176_964]


def test_any_batch_size_with_group_embeddings() -> None:
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2])
    inputs = tiny_inputs(2, 3)
    together = model(**inputs, group_index=0).sample
    for index in range(2):
        rows = slice(3 * index, 3 * index + 3)
        alone = model(
            inputs["sample"][index : index + 1],
            int(inputs["timestep"][index]),
            inputs["encoder_hidden_states"][rows],
            {key: value[rows] for key, value in inputs["added_cond_kwargs"].items()},
            torch.tensor([0]),
            False,
        )[0]
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-5)
    assert (model(**inputs).sample - together).abs().max() > 1e-3


def test_timestep_forms_agree() -> None:
    model = tiny_model()
    inputs = tiny_inputs(2, 3)
    outputs = [
        model(**(inputs | {"timestep": timestep})).sample
        for timestep in (256, 256.0, torch.tensor(256), torch.tensor([256]), torch.full((2,), 256))
    ]
    for output in outputs[1:]:
        assert torch.equal(output, outputs[0])
    assert not torch.equal(model(**inputs).sample, outputs[0])


@pytest.mark.parametrize("side", [(7, 7), (10, 13), (9, 8)])
def test_odd_sizes(side: tuple[int, int]) -> None:
    model = tiny_model()
    model.init_weights()
    inputs = tiny_inputs(2, 3, side)
    output = model(**inputs).sample
    assert output.shape == (2, 3, 4, *side)
    spatial = spatial_part(model)
    inputs["sample"] = inputs["sample"].flatten(0, 1)
    inputs["timestep"] = inputs["timestep"].repeat_interleave(3)
    assert torch.equal(spatial(**inputs).sample, output.flatten(0, 1))


def parameter_gradients(model: nn.Module, **inputs: Any) -> dict[str, Tensor]:
    model.zero_grad()
    model(**inputs).sample.square().mean().backward()
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_keeps_the_gradients() -> None:
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2]).train()
    inputs = tiny_inputs(2, 3) | {"group_index": 0}
    expected = parameter_gradients(model, **inputs)
    units: list[nn.Module] = []

    def recording_checkpoint(unit: nn.Module, *args: Any) -> Tensor:
        units.append(unit)
        return torch.utils.checkpoint.checkpoint(unit, *args, use_reentrant=False)

    model.enable_gradient_checkpointing(recording_checkpoint)
    found = parameter_gradients(model, **inputs)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-5, atol=1e-8)
    names = ("ResnetBlock2D", "BasicTransformerBlock", "CrossFrameTransformerBlock")
    whole = [module for module in model.modules() if type(module).__name__ in names]
    whole.remove(model.mid_block.resnets[0])
    assert len(units) == len(whole)
    assert set(map(id, units)) == set(map(id, whole))


@pytest.mark.parametrize("group", [0, 1])
def test_a_step_gives_the_embeddings_of_other_groups_a_gradient_of_zero(group: int) -> None:
    """In training alone, and without a change to the result."""
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2])
    inputs = tiny_inputs(2, 3 - group) | {"group_index": group}
    own = (f"group_embeds.{group}.", f"group_embeds2.{group}.")
    reached = parameter_gradients(model.eval(), **inputs)
    assert {key for key in reached if key.startswith("group_")} == {
        key for key, _ in model.named_parameters() if key.startswith(own)
    }
    expected = model(**inputs).sample
    model.train()
    assert torch.equal(model(**inputs).sample, expected)
    gradients = parameter_gradients(model, **inputs)
    assert gradients.keys() == {key for key, _ in model.named_parameters()}
    for key, gradient in gradients.items():
        assert torch.equal(gradient, reached.get(key, torch.zeros_like(gradient)))


def test_each_group_embedding_is_used_inside_its_own_list() -> None:
    """Where parameters are cut over processes they are whole only there."""
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2]).train()
    entered: list[str] = []
    used: list[str] = []
    for name in ("group_embeds", "group_embeds2"):
        part = model.get_submodule(name)
        part.register_forward_pre_hook(lambda *_, name=name: entered.append(name))
        part.register_forward_hook(lambda *_, name=name: entered.remove(name))
        for child in part.children():
            child.register_forward_hook(lambda *_, name=name: used.append(f"{name} in {entered}"))
    for group in (0, 1):
        used.clear()
        model(**tiny_inputs(1, 3 - group), group_index=group)
        assert set(used) == {f"{name} in ['{name}']" for name in ("group_embeds", "group_embeds2")}


def test_compiles_in_one_graph() -> None:
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2])
    inputs = tiny_inputs(2, 3) | {"group_index": 0}
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(**inputs).sample, model(**inputs).sample)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_linear_projection": False},
        {"transformer_layers_per_block": [1, 2, 4]},
        {"transformer_layers_per_block": 10},
        {"norm_num_groups": 8, "attention_head_dim": 4},
        {"layers_per_block": 2, "attention_head_dim": [2, 4, 8]},
    ],
)
def test_configs_start_as_the_2d_network(changes: dict[str, Any]) -> None:
    model = tiny_model(**changes)
    model.init_weights()
    inputs = tiny_inputs(1, 3)
    spatial = spatial_part(model, **changes)
    output = model(**inputs).sample
    inputs["sample"] = inputs["sample"][0]
    assert torch.equal(spatial(**inputs).sample, output[0])


def test_plain_blocks_have_no_temporal_part() -> None:
    model = tiny_model(down_block_types=TINY_2D["down_block_types"])
    temporal = {key.split(".temporal")[0] for key in model.state_dict() if "temporal" in key}
    assert temporal == {
        "mid_block.attentions.0",
        *(f"up_blocks.{block}.attentions.{i}" for block in (0, 1) for i in (0, 1)),
    }
    assert model(**tiny_inputs(1, 3)).sample.shape == (1, 3, 4, 8, 8)


@pytest.mark.parametrize("shard_size", ["10GB", "100KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_saved_model_loads_the_same(tmp_path: Path, shard_size: str, dtype: torch.dtype) -> None:
    model = tiny_model(group_embedding=True, group_embedding_num=[3, 2], tag_version="v3").to(dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "100KB")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == "UNetFrameConditionModel"
    assert config["group_embedding_num"] == [3, 2]
    for key, value in (TINY | {"group_embedding": True, "tag_version": "v3"}).items():
        assert config[key] == value
    loaded = UNetFrameConditionModel.from_pretrained(tmp_path, torch_dtype=dtype)
    assert loaded.dtype == dtype
    loaded_state = loaded.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded_state[key], value), key


def test_published_config_of_another_class_name_loads(tmp_path: Path) -> None:
    """The config shipped with LayerDiff names UNet2DConditionModel."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | {"_class_name": "UNet2DConditionModel"}
    for key in ("group_embedding", "group_embedding_num", "tag_version"):
        del config[key]
    file.write_text(json.dumps(config))
    loaded: Any = UNetFrameConditionModel.from_pretrained(tmp_path)
    assert loaded.config.tag_version == "v2"
    assert loaded.config.down_block_types == TINY["down_block_types"]
    assert not loaded.config.group_embedding


def call_with(changes: dict[str, Any], **kwargs: Any) -> Callable[[], Any]:
    inputs = tiny_inputs(1, 3) | kwargs
    return lambda: tiny_model(**changes)(**inputs)


GROUPS = {"group_embedding": True, "group_embedding_num": [3, 2]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (call_with({}, group_index=0), "no group_embedding"),
        (call_with(GROUPS, group_index=1), "group 1 has 2 frames, the sample has 3"),
        (call_with(GROUPS, group_index=2), "group_index 2: the model has 2 groups"),
        (call_with({}, encoder_hidden_states=torch.zeros(2, 5, 12)), "need 3, frames fastest"),
        (call_with({}, added_cond_kwargs=None), "text_embeds"),
        (call_with({"dual_cross_attention": True}), "no cross-frame form"),
        (call_with(GROUPS | {"addition_embed_type": None}), "needs addition_embed_type"),
    ],
)
def test_misuse(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
