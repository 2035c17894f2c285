"""Depth Anything V2 against the reference's numbers and transformers' class, and its files."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from seethrough.errors import InputError
from seethrough.models.checkpoints import load_into, read_state_dict
from seethrough.models.depth_anything import ENCODERS, DepthAnythingV2
from seethrough.models.depth_anything_adapter import ControlNet, unused_parameters, with_adapter
from seethrough.models.depth_anything_files import (
    from_transformers,
    load_adapter,
    load_depth_anything,
    load_either,
)
from tests.data.parity import rule


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_reference_vector(dtype: torch.dtype) -> None:
    spec, numbers = rule.read_vector("depth_anything_vits")
    model: Any = DepthAnythingV2(spec["encoder"], spec["features"], spec["out_channels"])
    assert {key: list(v.shape) for key, v in model.state_dict().items()} == spec["keys"]
    rule.fill(model)
    image = rule.normal("input:depth_anything_vits:image", (1, 3, 56, 56))
    with torch.no_grad():
        found = model.to(dtype).eval()(image.to(dtype))
    tolerance = 1e-5 if dtype == torch.float64 else 1e-4
    assert relative_error(found, numbers["depth"]) < tolerance


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


SMALL: dict[str, Any] = {
    "encoder": {
        "width": 32, "depth": 4, "heads": 2, "taps": [0, 1, 2, 3], "patch": 14, "grid": 3,
    },
    "features": 8,
    "out_channels": [8, 8, 16, 16],
}  # fmt: skip


def small() -> DepthAnythingV2:
    model = DepthAnythingV2(**SMALL)
    rule.fill(model)
    return model.eval()


def image(height: int = 42, width: int = 42) -> Tensor:
    return rule.normal("image", (2, 3, height, width))


@pytest.mark.parametrize(
    ("encoder", "features", "out_channels", "tensors", "parameters"),
    [
        ("vitl", 256, (256, 512, 1024, 1024), 407, 335_315_649),
        ("vitb", 128, (96, 192, 384, 768), 239, None),
        ("vitg", 384, (1536,) * 4, 631, None),
    ],
)
def test_published_sizes(
    encoder: str, features: int, out_channels: Any, tensors: int, parameters: int | None
) -> None:
    with init_empty_weights():
        model = DepthAnythingV2(encoder, features, out_channels)
    state = model.state_dict()
    assert len(state) == tensors
    if parameters is not None:
        assert sum(value.numel() for value in state.values()) == parameters
    if encoder == "vitg":
        assert state["pretrained.blocks.39.mlp.w12.weight"].shape == (8192, 1536)
        assert state["pretrained.blocks.39.mlp.w3.weight"].shape == (1536, 4096)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="no backbone 'vitx'; there are vits, vitb, vitl, vitg"):
        DepthAnythingV2("vitx")


def test_pictures_of_any_multiple_of_the_patch() -> None:
    assert small()(image(28, 56)).shape == (2, 1, 28, 56)


def test_new_weights_learn_from_everywhere() -> None:
    """But from what no forward pass reads; and recomputed activations give the same gradients."""
    torch.manual_seed(0)
    model = DepthAnythingV2(**SMALL)
    gradients: list[dict[str, Tensor]] = []
    for _ in range(2):
        model.zero_grad()
        depth = model(image())
        assert (depth > 0).any()
        depth.mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        model.enable_gradient_checkpointing()
    names = {name for name, _ in model.named_parameters()}
    assert names - gradients[0].keys() == unused_parameters(model)
    assert all(torch.allclose(gradients[0][n], g, atol=1e-6) for n, g in gradients[1].items())


# --- The adapter --------------------------------------------------------------------------------


def test_the_adapter_has_the_published_parameters() -> None:
    """16,223,424 for the published four channels of control."""
    with init_empty_weights():
        state = ControlNet(4, (128, 256, 512), 256).state_dict()
    assert len(state) == 63
    assert sum(value.numel() for value in state.values()) == 16_223_424
    expected = {
        "embedding.0.weight": (64, 4, 7, 7),
        "embedding.6.weight": (128, 64, 3, 3),
        "embedding.9.weight": (128, 128, 3, 3),
        "res_block.1.conv_shortcut.weight": (256, 128, 1, 1),
        "down_sample.2.conv.weight": (512, 512, 3, 3),
        "out_convs.0.weight": (256, 128, 3, 3),
        "mid_convs.0.conv2.weight": (512, 512, 3, 3),
        "conv_out.weight": (256, 512, 3, 3),
    }
    assert {key: tuple(state[key].shape) for key in expected} == expected


def test_signals_are_of_the_published_sides_and_start_as_zero() -> None:
    control = rule.normal("control", (1, 2, 296, 296))
    signals = ControlNet(2, (8, 8, 8), 4)(control)
    assert [tuple(signal.shape) for signal in signals] == [
        (1, 4, side, side) for side in (74, 37, 19, 10)
    ]
    assert not any(signal.any() for signal in signals)


def test_an_adapter_starts_without_effect_and_steers_once_it_has_learnt() -> None:
    plain = small()
    expected = plain(image())
    extended = with_adapter(plain, 2, (8, 8, 8)).eval()
    control = rule.normal("control", (2, 2, 42, 42))
    assert torch.equal(extended(image(), control), expected)
    rule.fill(extended)
    steered = extended(image(), control)
    assert not torch.allclose(steered, extended(image()))
    assert torch.equal(extended(image()), extended(image(), torch.zeros_like(control)))
    for signal in range(4):
        name = "conv_out" if signal == 3 else f"out_convs.{signal}"
        state = extended.state_dict()
        state[f"head_adapter.controlnet.{name}.weight"].mul_(2)
        assert not torch.allclose(extended(image(), control), steered), name
        state[f"head_adapter.controlnet.{name}.weight"].div_(2)


# --- Files --------------------------------------------------------------------------------------


def test_a_network_of_transformers_tells_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 42,
        "out_features": ["stage3", "stage6", "stage9", "stage12"], "reshape_hidden_states": False,
    }  # fmt: skip
    backbone = Dinov2Config(patch_size=14, **sizes)
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=384, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=32,
    )  # fmt: skip
    model: Any = DepthAnythingForDepthEstimation(config).eval()
    torch.nn.init.ones_(model.head.conv3.bias)
    model.save_pretrained(tmp_path)
    # The published grid is 37 patches wide; this is made of 3, to be small.
    state = from_transformers(read_state_dict(tmp_path))
    encoder = attrs.asdict(attrs.evolve(ENCODERS["vits"], grid=3))
    ours = DepthAnythingV2(encoder, 8, [8, 8, 16, 16]).eval()
    load_into(ours, state, tmp_path)
    with torch.no_grad():
        expected = model(pixel_values=image()).predicted_depth
        assert expected.std() > 0
        assert relative_error(ours(image())[:, 0], expected) < 1e-5


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as published, of the narrowest backbone."""
    file = tmp_path_factory.mktemp("weights") / "depth_anything_v2_vits.pth"
    with init_empty_weights():
        model = DepthAnythingV2("vits", 8, (8, 8, 8, 8))
    torch.save({key: torch.zeros(v.shape) for key, v in model.state_dict().items()}, file)
    return file


def test_a_published_file_tells_its_sizes(published: Path) -> None:
    for path in (published, published.parent):
        model: Any = load_depth_anything(path)
        assert (model.config["encoder"], model.config["features"]) == ("vits", 8)
        assert tuple(model.config["out_channels"]) == (8, 8, 8, 8)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    plain = small()
    extended = with_adapter(small(), 2, (8, 8, 8))
    rule.fill(extended)
    plain.save_pretrained(tmp_path / "plain")
    extended.save_pretrained(tmp_path / "extended")
    for path, saved in ((tmp_path / "plain", plain), (tmp_path / "extended", extended)):
        assert_same(load_either(path), saved)
    assert_same(load_adapter(tmp_path / "extended", 2, (16, 16, 16)), extended)
    again = load_depth_anything(tmp_path / "extended")
    assert_same(again.pretrained, extended.backbone_ori)
    assert_same(again.depth_head, extended.head_ori)
    assert_same(load_adapter(tmp_path / "plain", 2, (8, 8, 8)).head_ori, plain.depth_head)


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_bad_files_are_refused(published: Path, tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            load_depth_anything(path)
        return str(caught.value)

    code = tmp_path / "code.pth"
    torch.save({"model": Path("a")}, code)
    assert "reading it would run code; it is refused" in message(code)
    state = torch.load(published, weights_only=True)
    torch.save({k: v for k, v in state.items() if "ls1" not in k}, tmp_path / "part.pth")
    assert "lacks tensors for this DepthAnythingV2" in message(tmp_path / "part.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "these are no weights of Depth Anything V2" in message(tmp_path / "other.pth")
    torch.save(state | {"pretrained.cls_token": torch.zeros(1, 1, 48)}, tmp_path / "wide.pth")
    assert "the backbone is 48 wide, the published ones are 384" in message(tmp_path / "wide.pth")
    assert "one file of weights is expected, there are: code.pth" in message(tmp_path)
    extended = with_adapter(small(), 3, (8, 8, 8))
    extended.save_pretrained(tmp_path / "extended")
    with pytest.raises(InputError, match="a control of 3 channels, but there are 2"):
        load_adapter(tmp_path / "extended", 2, (8, 8, 8))
    with pytest.raises(InputError, match="holds no saved model, not one of DepthAnythingV2"):
        load_either(tmp_path)
    metric = tmp_path / "metric"
    metric.mkdir()
    (metric / "config.json").write_text('{"depth_estimation_type": "metric"}')
    assert "tells metric depth, whose head ends otherwise" in message(metric)
