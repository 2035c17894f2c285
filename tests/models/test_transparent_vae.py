"""The transparent VAE against the reference's numbers, and what its interface promises."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models import TransparentVAE
from seethrough.models.transparent_vae import OFFSET_SCALE
from tests.data.parity import rule

KEYS = Path(__file__).parents[1] / "data" / "layerdiff_state_dict_keys.tsv.gz"
SMALL: dict[str, Any] = {
    "encoder_channels": [4, 8, 8],
    "block_out_channels": [4, 8, 8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def small_transparent_vae() -> Any:
    model = TransparentVAE(**SMALL)
    rule.fill(model)
    return model.eval()


def small_vae() -> Any:
    config: dict[str, Any] = {
        "block_out_channels": [8, 8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "norm_num_groups": 4,
    }
    vae = AutoencoderKL(**config)
    rule.fill(vae)
    return vae.eval()


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 1e-4)], ids=str
)
def test_reference_vector(dtype: torch.dtype, tolerance: float) -> None:
    spec, tensors = rule.read_vector("transparent_vae")
    model: Any = TransparentVAE()
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == spec["keys"]
    rule.fill(model)
    model.to(dtype)
    argb = rule.normal("input:transparent_vae:argb", (1, 4, 64, 64)).to(dtype).sigmoid()
    rgb = rule.normal("input:transparent_vae:rgb", (1, 3, 64, 64)).to(dtype).sigmoid()
    latent = rule.normal("input:transparent_vae:latent", (1, 4, 8, 8)).to(dtype)
    with torch.no_grad():
        found = {
            "offset": model.encoder.model(argb),
            "decoder": model.decoder.model(rgb, latent),
        }
    for key, expected in tensors.items():
        error = (found[key].double() - expected.double()).norm() / expected.double().norm()
        assert error < tolerance, key


def test_key_census_at_published_size() -> None:
    with init_empty_weights():
        model = TransparentVAE()
    rows = [line.split("\t") for line in gzip.decompress(KEYS.read_bytes()).decode().splitlines()]
    published = {key: shape for component, key, shape in rows if component == "trans_vae"}
    state = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    assert state == published
    assert sum(p.numel() for p in model.encoder.parameters()) == 1_181_764
    assert sum(p.numel() for p in model.decoder.parameters()) == 104_104_804


def test_new_encoder_gives_no_offset() -> None:
    assert TransparentVAE(**SMALL).offset(picture(1, 4, 16, 16)).abs().max() == 0


def test_encode_is_mean_plus_std_times_noise_or_offset() -> None:
    model, vae = small_transparent_vae(), small_vae()
    argb = picture(2, 4, 16, 24)
    mean, std = model.posterior(vae, argb)
    assert mean.shape == std.shape == (2, 4, 4, 6)
    noise = torch.randn(mean.shape)
    assert torch.equal(model.encode(vae, argb), mean)
    torch.testing.assert_close(model.encode(vae, argb, noise=noise), mean + std * noise)
    offset = OFFSET_SCALE * model.encoder.model(argb)
    torch.testing.assert_close(model.encode(vae, argb, use_offset=True), mean + std * offset)
    assert OFFSET_SCALE == 300
    with pytest.raises(ValueError, match="give noise or use_offset"):
        model.encode(vae, argb, noise=noise, use_offset=True)


def test_vae_sees_colours_premultiplied_around_gray() -> None:
    model, vae = small_transparent_vae(), small_vae()
    argb = picture(1, 4, 16, 16)
    premultiplied = (2 * argb[:, 1:] - 1) * argb[:, :1]
    expected = vae.encode(premultiplied).latent_dist
    mean, std = model.posterior(vae, argb)
    assert torch.equal(mean, expected.mean)
    assert torch.equal(std, expected.std)


def decode_plainly(model: TransparentVAE, vae: Any, latents: Tensor) -> Tensor:
    pixels = vae.decode(latents).sample / 2 + 0.5
    argb = model.decoder.model(pixels, latents).clamp(0, 1)
    return torch.cat([argb[:, 1:], argb[:, :1]], dim=1)


def test_decode_gives_straight_rgba_and_masks_alpha() -> None:
    model, vae = small_transparent_vae(), small_vae()
    latents = torch.randn(2, 4, 4, 6)
    rgba = model.decode(vae, latents)
    torch.testing.assert_close(rgba, decode_plainly(model, vae, latents))
    assert rgba.shape == (2, 4, 16, 24)
    mask = picture(1, 1, 16, 24)
    masked = model.decode(vae, latents, mask=mask)
    assert torch.equal(masked[:, :3], rgba[:, :3])
    torch.testing.assert_close(masked[:, 3:], rgba[:, 3:] * mask)


def test_decode_pads_and_crops_sides_of_any_length() -> None:
    model, vae = small_transparent_vae(), small_vae()
    latents = torch.randn(1, 4, 5, 7)
    rgba = model.decode(vae, latents)
    assert rgba.shape == (1, 4, 20, 28)
    assert model.decoder.model.side_multiple == 8
    pixels = vae.decode(latents).sample / 2 + 0.5
    with pytest.raises(ValueError, match=r"multiples of 8, got 20 x 28"):
        model.decoder.model(pixels, latents)
    pixels = torch.nn.functional.pad(pixels, (0, 4, 0, 4), mode="replicate")
    latents = torch.nn.functional.pad(latents, (0, 1, 0, 1), mode="replicate")
    argb = model.decoder.model(pixels, latents).clamp(0, 1)[..., :20, :28]
    torch.testing.assert_close(rgba, torch.cat([argb[:, 1:], argb[:, :1]], dim=1))


def test_eight_passes_commute_with_flips_and_turns() -> None:
    """The median over the whole symmetry group turns with its input; a single pass does not."""
    model, vae = small_transparent_vae(), small_vae()
    rgb, latents = picture(1, 3, 16, 16), torch.randn(1, 4, 4, 4)
    for passes, commutes in ((8, True), (1, False)):
        straight = model._decode_pixels(rgb, latents, passes)
        for turn in (lambda x: torch.rot90(x, 1, (-2, -1)), lambda x: x.flip(-1)):
            turned = model._decode_pixels(turn(rgb), turn(latents), passes)
            assert torch.allclose(turned, turn(straight), atol=1e-5) is commutes
    assert model.decode(vae, latents, passes=8).shape == (1, 4, 16, 16)
    with pytest.raises(ValueError, match="passes is 1 or 8, got 4"):
        model.decode(vae, latents, passes=4)


def test_eight_passes_take_the_lower_median() -> None:
    """Of an even number of values, the smaller of the two in the middle."""
    model = small_transparent_vae()
    rgb, latents = picture(1, 3, 8, 8), torch.randn(1, 4, 2, 2)
    argb = []
    for flip in (False, True):
        for turns in range(4):
            x, z = (torch.rot90(v.flip(-1) if flip else v, turns, (2, 3)) for v in (rgb, latents))
            y = torch.rot90(model.decoder.model(x, z).clamp(0, 1), -turns, (2, 3))
            argb.append(y.flip(-1) if flip else y)
    lower_median = torch.stack(argb).sort(dim=0).values[3]
    torch.testing.assert_close(model._decode_pixels(rgb, latents, 8), lower_median)


def test_dtypes_of_vae_and_transparent_vae_are_kept_apart() -> None:
    model, vae = small_transparent_vae().to(torch.bfloat16), small_vae()
    argb = picture(1, 4, 16, 16)
    latents = model.encode(vae, argb, use_offset=True)
    assert latents.dtype == torch.float32
    assert model.decode(vae, latents).dtype == torch.bfloat16
    assert small_transparent_vae().encode(vae.to(torch.bfloat16), argb).dtype == torch.bfloat16


def test_gradients_reach_both_networks_with_checkpointing() -> None:
    model = small_transparent_vae().train()
    inputs = (picture(1, 4, 16, 16), picture(1, 3, 16, 16), torch.randn(1, 4, 4, 4))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        offset, argb = model(*inputs)
        (offset.square().mean() + argb.square().mean()).backward()
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    assert len(expected) == len(list(model.parameters()))
    model.enable_gradient_checkpointing()
    for key, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[key])


def test_saved_model_loads_the_same(tmp_path: Path) -> None:
    model = small_transparent_vae()
    model.save_pretrained(tmp_path)
    loaded = TransparentVAE.from_pretrained(tmp_path)
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key])


def test_layerdiffuse_files_have_no_prefix(tmp_path: Path) -> None:
    source, target = small_transparent_vae(), TransparentVAE(**SMALL)
    encoder, decoder = tmp_path / "encoder.safetensors", tmp_path / "decoder.safetensors"
    save_file(source.encoder.model.state_dict(), encoder)
    save_file(source.decoder.model.state_dict(), decoder)
    assert "blocks.0.weight" in source.encoder.model.state_dict()
    target.load_layerdiffuse(encoder, decoder)
    argb = picture(1, 4, 16, 16)
    assert torch.equal(source.offset(argb), target.offset(argb))
    with pytest.raises(InputError, match=r"decoder\.safetensors: .* this OffsetEncoder"):
        target.load_layerdiffuse(decoder, encoder)


@pytest.mark.parametrize("held", [(), ("trans_decoder",), ("trans_decoder", "trans_encoder")])
def test_combined_checkpoint(tmp_path: Path, held: tuple[str, ...]) -> None:
    """What a file doesn't hold stays: the pixel decoder where the VAE's decoder learnt alone."""
    source, vae = small_transparent_vae(), small_vae()
    file = tmp_path / "vae.safetensors"
    combined = source.combined_state(vae)
    save_file({k: v for k, v in combined.items() if k.startswith(("vae.", *held))}, file)
    target, target_vae = TransparentVAE(**SMALL), small_vae()
    torch.nn.init.zeros_(target_vae.decoder.conv_out.weight)
    before = target.combined_state(target_vae)
    before = {key: value.clone() for key, value in before.items()}
    target.load_vae_checkpoint(file, target_vae)
    for key, value in target.combined_state(target_vae).items():
        of_file = key.startswith(("vae.", *held))
        assert torch.equal(value, (combined if of_file else before)[key])
    first: Any = source.encoder.model.blocks[0]
    other: Any = target.encoder.model.blocks[0]
    assert torch.equal(first.weight, other.weight) is ("trans_encoder" in held)


def test_keys_of_a_combined_checkpoint_are_the_published_ones() -> None:
    """Each network's own, behind its name: what is left without it loads as saved alone."""
    model, vae = small_transparent_vae(), small_vae()
    combined = model.combined_state(vae)
    alone = {"vae": vae, "trans_decoder": model.decoder, "trans_encoder": model.encoder}
    for name, network in alone.items():
        start = f"{name}."
        found = {k.removeprefix(start): v for k, v in combined.items() if k.startswith(start)}
        assert found.keys() == network.state_dict().keys()
        network.load_state_dict(found)
    assert {"vae.decoder.conv_out.weight", "trans_decoder.model.latent_conv_in.weight"} <= (
        combined.keys()
    )
    assert "trans_encoder.model.blocks.0.weight" in combined
    assert sum(map(len, (n.state_dict() for n in alone.values()))) == len(combined)


def test_combined_checkpoint_with_a_foreign_key(tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    save_file({"unet.conv_in.weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"vae\.safetensors: key 'unet\.conv_in\.weight'"):
        small_transparent_vae().load_vae_checkpoint(file, small_vae())


def test_config_with_too_few_widths() -> None:
    with pytest.raises(ValueError, match="needs more widths than the 3 halvings"):
        TransparentVAE(encoder_channels=(4, 4, 4, 4), block_out_channels=(4, 4, 4))
