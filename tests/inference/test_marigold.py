"""Depth of frames: what the network sees, what is computed, and that the numbers come back right.

Small networks of the production classes show the flow. Doubles whose answer is known show that no
pixel moves on the way: their latents are averages of 8 x 8 pixels, and their depth is a frame's
own brightness.
"""

import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.depth_frames import merge_frames
from seethrough.inference.marigold import (
    DepthOptions,
    Marigold,
    depth_work,
    frame_depths,
    load_marigold,
    load_scheduler,
    reconstruct_depths,
)
from seethrough.models import UNetFrameConditionModel
from seethrough.models.small_base import save_small_marigold
from tests.inference.grey_layers import LAYERS, layer
from tests.inference.small import small_unet
from tests.models.packed import save_packed

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The schedule of prs-eth/marigold-depth-v1-1."""


def ddim(**changes: Any) -> DDIMScheduler:
    config: dict[str, Any] = SCHEDULE | changes
    return DDIMScheduler(**config)


SMALL = DepthOptions(resolution=32, steps=2)


def depth_unet(**config: Any) -> UNetFrameConditionModel:
    """A small SD2-shaped 3D UNet; `config` adds to its config."""
    given: dict[str, Any] = {
        "in_channels": 12,
        "cross_attention_dim": 64,
        "addition_embed_type": None,
        "tag_version": "v2",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return small_unet(**(given | config))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository as the released one is laid out."""
    folder = tmp_path_factory.mktemp("marigold")
    vae_config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 4, 8, 8),
        "norm_num_groups": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKL(**vae_config).save_pretrained(folder / "own vae")
    save_small_marigold(folder, vae=folder / "own vae", text_width=64)
    shutil.rmtree(folder / "unet")
    depth_unet().save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module")
def models(repository: Path) -> Marigold:
    return load_marigold(repository, repository, dtype=torch.float32)


def picture(seed: int, height: int = 40, width: int = 40) -> Image8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)


class TestScheduler:
    def test_published_schedule(self, repository: Path) -> None:
        scheduler = load_scheduler(repository)
        found = scheduler.alphas_cumprod[[0, 1, 249, 499, 749]].tolist()
        expected = [0.99914998, 0.99823350, 0.65418869, 0.24235900, 0.03317146]
        assert found == pytest.approx(expected, rel=1e-6)
        assert scheduler.alphas_cumprod[999] == 0
        assert scheduler.final_alpha_cumprod.item() == pytest.approx(0.99914998)
        for steps, timesteps in {1: [999], 2: [999, 499], 4: [999, 749, 499, 249]}.items():
            scheduler.set_timesteps(steps)
            assert scheduler.timesteps.tolist() == timesteps

    def test_timesteps_trail_whatever_the_file_says(self, tmp_path: Path) -> None:
        ddim(timestep_spacing="leading", clip_sample=True).save_pretrained(tmp_path / "scheduler")
        scheduler = load_scheduler(tmp_path)
        scheduler.set_timesteps(4)
        assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
        assert not scheduler.config["clip_sample"]

    def test_a_schedule_without_first_step(self, tmp_path: Path) -> None:
        ddim(prediction_type="epsilon").save_pretrained(tmp_path / "scheduler")
        with pytest.raises(InputError, match="prediction_type can't be 'epsilon'"):
            load_scheduler(tmp_path)

    def test_a_broken_file(self, tmp_path: Path) -> None:
        (tmp_path / "scheduler").mkdir()
        (tmp_path / "scheduler/scheduler_config.json").write_text("{")
        with pytest.raises(InputError, match="scheduler's config cannot be read"):
            load_scheduler(tmp_path)


class TestLoad:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_all_parts(self, repository: Path, dtype: torch.dtype) -> None:
        models = load_marigold(repository / "unet", repository, dtype=dtype)
        assert {models.unet.dtype, models.vae.dtype, models.prompt.dtype} == {dtype}
        assert models.prompt.shape == (2, 64)
        assert models.pixels_per_latent == 8
        assert not any(p.requires_grad for p in models.unet.parameters())

    def test_a_unet_of_4_bits(self, repository: Path, tmp_path: Path) -> None:
        wide = depth_unet(block_out_channels=(64, 64))
        wide.save_pretrained(tmp_path / "whole")
        save_packed(wide, tmp_path)
        packed, whole = (load_marigold(unet, repository) for unet in (tmp_path, tmp_path / "whole"))
        expected = frame_depths(whole, picture(0), LAYERS, options=SMALL)
        for tag, depth in frame_depths(packed, picture(0), LAYERS, options=SMALL).items():
            assert 0 < np.abs(depth - expected[tag]).mean() < 0.2 * expected[tag].std()

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"in_channels": 8}, "in_channels is 8, .* has 12"),
            ({"cross_attention_dim": 12}, "cross_attention_dim is 12, .* has 64"),
            ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time'"),
        ],
        ids=["2D or LayerDiff", "another text encoder", "SDXL"],
    )
    def test_a_unet_of_another_family(
        self, repository: Path, tmp_path: Path, config: dict[str, Any], message: str
    ) -> None:
        depth_unet(**config).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=message):
            load_marigold(tmp_path, repository)

    @pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
    def test_a_missing_part(self, repository: Path, tmp_path: Path, part: str) -> None:
        shutil.copytree(repository, tmp_path / "base")
        shutil.rmtree(tmp_path / "base" / part)
        with pytest.raises(InputError, match=f"no subfolder '{part}'"):
            load_marigold(repository, tmp_path / "base")


class TestFrameDepths:
    def test_present_frames_get_a_depth(self, models: Marigold) -> None:
        told: list[float] = []
        depths = frame_depths(
            models, picture(0), LAYERS, options=SMALL, tell=lambda work, amount: told.append(amount)
        )
        assert sum(told) == depth_work(SMALL)
        assert list(depths) == ["hair", "face", "topwear"]
        for depth in depths.values():
            assert depth.shape == (40, 40)
            assert depth.dtype == np.float32
            assert depth.min() >= 0 and depth.max() <= 1 and depth.std() > 0
        assert frame_depths(models, picture(0), {"tail": LAYERS["tail"]}, options=SMALL) == {}

    def test_the_same_input_gives_the_same_bytes(self, models: Marigold) -> None:
        def bytes_of(page: int = 0, seed: int = 42, **options: Any) -> bytes:
            values: dict[str, Any] = {"resolution": 32, "steps": 2} | options
            given = DepthOptions(**values)
            depths = frame_depths(models, picture(page), LAYERS, seed, given)
            return b"".join(depth.tobytes() for depth in depths.values())

        first = bytes_of()
        torch.manual_seed(99)  # no global random number has a part in it
        np.random.seed(99)
        assert bytes_of() == first
        others = [bytes_of(seed=1), bytes_of(page=1), bytes_of(ensemble=3), bytes_of(steps=3)]
        assert len({first, *others}) == 5

    def test_the_page_counts_by_its_colour_where_a_layer_is(self, models: Marigold) -> None:
        seen = encoded(models, picture(0), LAYERS)
        other = picture(0)
        other[..., 3] = 7  # alpha
        other[:2] = 9  # above all layers
        assert torch.equal(seen[-2], encoded(models, other, LAYERS)[-2])
        other[10, 10] = 255 - other[10, 10]
        assert not torch.equal(seen[-2], encoded(models, other, LAYERS)[-2])

    def test_noise_follows_from_the_pages_bytes(self, models: Marigold) -> None:
        """What the network sees is the same here: alpha alone differs."""
        pages = [picture(0), picture(0)]
        pages[1][..., 3] = 7
        one, other = (frame_depths(models, page, LAYERS, options=SMALL) for page in pages)
        assert all((one[tag] != other[tag]).any() for tag in one)

    def test_zeros_in_place_of_noise(self, models: Marigold) -> None:
        """The network sees zeros beside the page and the frame; the seed makes no difference."""
        seen: list[Tensor] = []
        handle = models.unet.register_forward_pre_hook(
            lambda _, arguments: seen.append(arguments[0][0, :, 8:])
        )
        options = DepthOptions(resolution=32, steps=1, noise="zeros")
        one, other = (
            frame_depths(models, picture(0), LAYERS, seed, options=options) for seed in (1, 2)
        )
        handle.remove()
        assert len(seen) == 2 and not any(latents.any() for latents in seen)
        assert all(np.array_equal(one[tag], other[tag]) for tag in one)

    def test_a_character_with_all_frames(self, models: Marigold) -> None:
        layers = {tag: layer(9 * place, (4, 4, 36, 36)) for place, tag in enumerate(TAGS_V2)}
        assert len(encoded(models, picture(0), layers)) == 19 + 1
        assert list(frame_depths(models, picture(0), layers, options=SMALL)) == list(TAGS_V2)

    def test_absent_frames_are_encoded_once_and_not_decoded(self, models: Marigold) -> None:
        assert len(encoded(models, picture(0), LAYERS)) == 3 + 1 + 1  # frames, page, nothing
        sizes: list[int] = []
        vae = spied(models.vae, "decode", lambda latents: sizes.append(len(latents)))
        options = DepthOptions(resolution=32, steps=1, ensemble=2, vae_batch=2)
        frame_depths(attrs.evolve(models, vae=vae), picture(0), LAYERS, options=options)
        assert sizes == [2, 1] * 2

    def test_absent_frames_can_be_left_out(self, models: Marigold) -> None:
        """The network runs over what there is; a whole character is the same either way."""
        seen: list[int] = []
        handle = models.unet.register_forward_pre_hook(
            lambda _, arguments: seen.append(arguments[0].shape[1])
        )
        options = DepthOptions(resolution=32, steps=1, absent_frames=False)
        depths = frame_depths(models, picture(0), LAYERS, options=options)
        handle.remove()
        assert seen == [3 + 1] and len(depths) == 3
        whole = {tag: layer(9 * place, (4, 4, 36, 36)) for place, tag in enumerate(TAGS_V2)}
        one, other = (
            frame_depths(models, picture(0), whole, options=attrs.evolve(options, absent_frames=a))
            for a in (True, False)
        )
        assert all(np.array_equal(one[tag], other[tag]) for tag in TAGS_V2)

    def test_chunks_of_the_vae_change_nothing_but_rounding(self, models: Marigold) -> None:
        one, many = (
            frame_depths(
                models,
                picture(0),
                LAYERS,
                options=DepthOptions(resolution=32, steps=2, vae_batch=batch),
            )
            for batch in (1, 9)
        )
        for tag, depth in one.items():
            assert np.allclose(depth, many[tag], atol=1e-5)

    def test_the_walk_is_ddims(self, models: Marigold) -> None:
        """Each step by the formulas of DDIM and v-prediction, from the network's own answers."""
        calls: list[tuple[Tensor, float, Tensor]] = []

        class Noted:
            device, dtype = torch.device("cpu"), torch.float32

            def __call__(self, noisy: Tensor, timestep: float, text: Tensor, **_: Any) -> Any:
                (velocity,) = models.unet(noisy, timestep, text, return_dict=False)
                calls.append((noisy[0], timestep, velocity[0]))
                return (velocity,)

        unet: Any = Noted()
        options = DepthOptions(resolution=32, steps=4)
        frame_depths(attrs.evolve(models, unet=unet), picture(0), LAYERS, options=options)
        cumulative = models.scheduler.alphas_cumprod
        assert [timestep for _, timestep, _ in calls] == [999, 749, 499, 249]
        assert all(noisy.shape == (20, 12, 4, 4) for noisy, _, _ in calls)
        for (noisy, timestep, velocity), (following, after, _) in pairwise(calls):
            assert torch.equal(noisy[:, :8], following[:, :8])
            a, b = cumulative[int(timestep)], cumulative[int(after)]
            latents, noise = (
                a.sqrt() * noisy[:, 8:] - (1 - a).sqrt() * velocity,
                a.sqrt() * velocity + (1 - a).sqrt() * noisy[:, 8:],
            )
            expected = b.sqrt() * latents + (1 - b).sqrt() * noise
            assert torch.allclose(following[:, 8:], expected, atol=1e-5)
        first = calls[0][0]
        assert torch.equal(first[:, :4], first[-1:, :4].expand(20, -1, -1, -1))
        assert torch.equal(first[-1, :4], first[-1, 4:8])  # the page is the last frame
        assert len({row.numpy().tobytes() for row in first[:, 8:]}) == 20  # noise of its own

    def test_half_precision(self, repository: Path) -> None:
        half = load_marigold(repository, repository, dtype=torch.bfloat16)
        depths = frame_depths(half, picture(0), LAYERS, options=SMALL)
        assert {depth.dtype for depth in depths.values()} == {np.dtype(np.float32)}
        assert all(np.isfinite(depth).all() for depth in depths.values())

    def test_an_ensemble_spans_its_layers(self, models: Marigold) -> None:
        options = DepthOptions(resolution=40, steps=1, ensemble=3)
        depths = frame_depths(models, picture(0), LAYERS, options=options)
        frames = merge_frames(LAYERS, (40, 40))
        inside = np.concatenate([depths[tag][frames[tag][..., 3] > 0] for tag in depths])
        assert (inside.min(), inside.max()) == (0, 1)

    def test_a_resolution_that_does_not_fit(self, models: Marigold) -> None:
        with pytest.raises(InputError, match=r"resolution=770 is no multiple of 8.*: take 768"):
            frame_depths(models, picture(0), LAYERS, options=DepthOptions(resolution=770))


class TestGeometry:
    @pytest.mark.parametrize("size", [(64, 64), (96, 70), (53, 90)], ids=str)
    @pytest.mark.parametrize("resolution", [None, 48, 96, 128], ids=str)
    def test_depth_lies_where_its_layer_does(
        self, size: tuple[int, int], resolution: int | None
    ) -> None:
        """A layer as bright as it is far: its depth must be its brightness, pixel by pixel."""
        height, width = size
        y, x = np.mgrid[:height, :width]
        ramp = np.rint(40 + 120 * x / width + 60 * y / height).astype(np.uint8)
        face = np.dstack([ramp, ramp, ramp, np.full_like(ramp, 255)])
        options = DepthOptions(resolution=resolution, steps=2)
        depths = frame_depths(echo(), picture(0, height, width), {"face": face}, options=options)
        error = np.abs(depths["face"] - ramp / 255)[16:-16, 16:-16]
        assert error.max() < 0.02

    @pytest.mark.parametrize("corner", [(60, 20), (0, 0), (80, 40)], ids=str)
    def test_cropped_to_the_character_it_is_as_if_the_page_were_cut(
        self, corner: tuple[int, int]
    ) -> None:
        x, y = corner
        part = np.s_[y : y + 50, x : x + 40]
        page, face = picture(0, 90, 120), np.zeros((90, 120, 4), np.uint8)
        face[part] = picture(1, 50, 40)
        face[part][..., 3] = 255
        cropped = DepthOptions(resolution=48, steps=1, crop_to="character")
        depth = frame_depths(echo(), page, {"face": face}, options=cropped)["face"]
        whole = attrs.evolve(cropped, crop_to="page")
        cut = frame_depths(echo(), page[part], {"face": face[part]}, options=whole)["face"]
        assert depth.shape == (90, 120)
        np.testing.assert_allclose(depth[part], cut, atol=1e-5)
        # The square is 50 px wide, 5 px more than the character on either side.
        assert not depth[:y].any() and not depth[y + 50 :].any()
        assert not depth[:, : max(x - 5, 0)].any() and not depth[:, x + 45 :].any()


def echo() -> Marigold:
    """Doubles of the networks: the depth of a frame is its brightness."""
    scheduler = ddim(set_alpha_to_one=True)

    class Unet:
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, noisy: Tensor, timestep: int, text: Tensor, **_: Any) -> Any:
            a = scheduler.alphas_cumprod[timestep]
            return ((a.sqrt() * noisy[:, :, 8:] - noisy[:, :, 4:8]) / (1 - a).sqrt(),)

    class Vae:
        dtype = torch.float32
        config = {"scaling_factor": 1.0, "block_out_channels": (1,) * 4, "latent_channels": 4}  # noqa: RUF012

        def encode(self, rgb: Tensor) -> Any:
            latents = nn.functional.avg_pool2d(torch.cat([rgb, rgb[:, :1]], dim=1), 8)
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

        def decode(self, latents: Tensor, return_dict: bool) -> Any:
            return (nn.functional.interpolate(latents[:, :3], scale_factor=8, mode="bilinear"),)

    unet: Any = Unet()
    vae: Any = Vae()
    return Marigold(unet, vae, torch.zeros(2, 4), scheduler)


def spied(vae: AutoencoderKL, method: str, note: Any) -> Any:
    """The autoencoder, with `note` called on what a method is given."""

    def noted(value: Tensor, **options: Any) -> Any:
        note(value)
        return getattr(vae, method)(value, **options)

    parts = {"config": vae.config, "dtype": vae.dtype, "encode": vae.encode, "decode": vae.decode}
    return SimpleNamespace(**(parts | {method: noted}))


def encoded(models: Marigold, page: Image8, layers: dict[str, Image8]) -> Tensor:
    """All pictures that the autoencoder sees, in their order: frames, the page, an empty one."""
    seen: list[Tensor] = []
    vae = spied(models.vae, "encode", seen.append)
    options = DepthOptions(resolution=40, steps=1)
    frame_depths(attrs.evolve(models, vae=vae), page, layers, options=options)
    return torch.cat(seen)


def test_true_depths_come_back_through_the_autoencoder() -> None:
    """One that loses a quarter of the range and nothing else: all lies where it lay."""
    encoded: list[Tensor] = []

    def encode(gray: Tensor) -> Any:
        encoded.append(gray)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: gray))

    vae = SimpleNamespace(
        encode=encode,
        decode=lambda latents, return_dict: (0.75 * latents,),
        config={"scaling_factor": 0.5},
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    models: Any = SimpleNamespace(vae=vae, pixels_per_latent=8)
    levels = np.zeros((24, 40), np.uint16)
    levels[4:20, 10:30] = 300
    levels[8:12, 12:16] = 400
    for resolution in (40, 80):
        options = DepthOptions(resolution=resolution)
        (depth,) = reconstruct_depths(models, {"face": levels}, 400, options).values()
        # In [-1, 1] far is 1 and level 300 of 400 is -0.5.
        expected = (0.75 * np.select([levels == 400, levels == 300], [-1.0, -0.5], 1.0) + 1) / 2
        assert depth.shape == (24, 40) and np.allclose(depth, expected, atol=1e-5)
        assert encoded[-1].shape == (1, 3, resolution, resolution)
