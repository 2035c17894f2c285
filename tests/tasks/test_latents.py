"""Latents: the formulas of the posterior and of the offset, and a store that can't go stale."""

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from seethrough.data.items import PAGE
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.layout import Sample
from seethrough.data.padding import bleed_batch
from seethrough.data.sample_dataset import LayerDataset
from seethrough.data.tags import TAG_GROUPS
from seethrough.errors import InputError
from seethrough.models import TransparentVAE
from seethrough.models.checkpoints import read_state_dict
from seethrough.recipes.objective import Objective
from seethrough.tasks.latents import (
    LAYERDIFFUSE_DECODER,
    LAYERDIFFUSE_ENCODER,
    LatentEncoder,
    LatentStore,
    PictureItems,
    load_transparent_vae,
    load_vae,
)
from seethrough.tasks.layerdiff2d import LayerDiff2D
from seethrough.tasks.layerdiff3d import LayerDiff3D
from tests.samples import write_list, write_sample
from tests.tasks.small import SCALING, SIDE, Small, batch, context, draw, stage_2d, stage_3d

SAMPLE_MEAN = Objective(offset_probability=0.0, posterior="mean")
SAMPLED = Objective(offset_probability=0.0, posterior="sample")


def encoder(small: Small, objective: Objective) -> LatentEncoder:
    vae, transparent_vae = load_vae(small.base), load_transparent_vae(small.transparent_vae)
    return LatentEncoder(vae, transparent_vae, objective)


def pictures(count: int, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    argb = torch.randint(256, (count, 4, side, side), dtype=torch.uint8, generator=generator)
    argb[:, 0, : side // 2] = 0  # a transparent part, to be filled
    return argb


def posteriors(encode: LatentEncoder, argb: Tensor) -> Tensor:
    """Of each picture, (P, parts, C, h, w)."""
    return torch.stack([encode.posterior(picture) for picture in argb])


def formula(small: Small, argb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and offset, from diffusers' own class and the bare CNN."""
    vae = AutoencoderKL.from_pretrained(small.base / "vae")
    transparent_vae = TransparentVAE.from_pretrained(small.transparent_vae)
    argb = bleed_batch(argb / 255)
    with torch.no_grad():
        distribution = vae.encode((2 * argb[:, 1:] - 1) * argb[:, :1], return_dict=False)[0]
        offset = 300 * transparent_vae.encoder.model(argb)
    return distribution.mean, distribution.std, offset


def test_latents_are_the_posterior_mean_a_sample_of_it_or_the_offset(small: Small) -> None:
    argb = pictures(3)
    mean, std, offset = formula(small, argb)
    assert offset.std() > 0.1  # else the offset could not be told from the mean
    where = draw(0)
    noise = torch.from_numpy(where.numpy("posterior").standard_normal(mean.shape, dtype="float32"))
    for objective, expected in (
        (SAMPLE_MEAN, mean),
        (SAMPLED, mean + std * noise),
        (Objective(offset_probability=1.0), mean + std * offset),
        (Objective(offset_probability=1.0, posterior="mean"), mean + std * offset),
    ):
        encode = encoder(small, objective)
        posterior = posteriors(encode, argb)
        assert posterior.shape == (3, 3 if objective.offset_probability else 2, *mean.shape[1:])
        assert posterior.dtype == torch.float32
        latents = encode.sample(posterior, where)
        torch.testing.assert_close(latents, SCALING * expected, rtol=1e-4, atol=1e-5)


def test_the_draw_decides_for_all_pictures_of_a_sample_alike(small: Small) -> None:
    argb = pictures(2)
    encode = encoder(small, Objective(offset_probability=0.25, posterior="mean"))
    posterior = posteriors(encode, argb)
    mean, std, offset = posterior.unbind(1)
    kinds: list[bool] = []
    for index in range(200):
        latents = encode.sample(posterior, draw(index))
        assert torch.equal(latents, encode.sample(posterior, draw(index)))
        with_offset = torch.equal(latents, (mean + std * offset) * SCALING)
        assert with_offset or torch.equal(latents, mean * SCALING)
        kinds.append(with_offset)
    assert 0.15 < sum(kinds) / len(kinds) < 0.35


def test_posterior_noise_differs_from_draw_to_draw_and_picture_to_picture(small: Small) -> None:
    encode = encoder(small, SAMPLED)
    posterior = posteriors(encode, pictures(1).repeat(2, 1, 1, 1))
    first, second = encode.sample(posterior, draw(0)), encode.sample(posterior, draw(1))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_absent_layers_are_encoded_once_and_as_empty_pictures(small: Small) -> None:
    encode = encoder(small, Objective())
    seen: list[int] = []
    encode.vae.encoder.register_forward_hook(lambda *_: seen.append(1))
    empty = encode.empty(SIDE)
    assert encode.empty(SIDE) is empty and len(seen) == 1
    nothing = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    assert torch.equal(empty, encode.posterior(nothing))
    assert encode.empty(2 * SIDE).shape[-1] == 2 * empty.shape[-1]


def test_latents_stay_float32_under_autocast(small: Small) -> None:
    encode = encoder(small, Objective())
    argb = pictures(1)
    plain = encode.posterior(argb[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode.posterior(argb[0]), plain)


def test_frozen_networks_train_nothing(small: Small) -> None:
    encode = encoder(small, Objective())
    for network in (encode.vae, encode.transparent_vae):
        assert not network.training
        assert not any(value.requires_grad for value in network.parameters())


# Checkpoints of the transparent VAE


def test_saved_folders_and_the_published_subfolder_load(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.transparent_vae, tmp_path / "trans_vae")
    plain, nested = load_transparent_vae(small.transparent_vae), load_transparent_vae(tmp_path)
    expected = read_state_dict(small.transparent_vae)
    for model in (plain, nested):
        state = model.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_the_two_files_of_layerdiffuse_load(tmp_path: Path) -> None:
    """At the published size, their tensors under the names that they have there."""
    published = TransparentVAE()
    for part, name in (("encoder", LAYERDIFFUSE_ENCODER), ("decoder", LAYERDIFFUSE_DECODER)):
        save_file(getattr(published, part).model.state_dict(), tmp_path / name)
    loaded = load_transparent_vae(tmp_path)
    expected = published.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    (tmp_path / LAYERDIFFUSE_DECODER).unlink()
    with pytest.raises(InputError, match=LAYERDIFFUSE_DECODER):
        load_transparent_vae(tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.transparent_vae, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["encoder_channels"] = [4, 4, 4, 6]
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"other: .*has shape .* needs .*another config"):
        load_transparent_vae(tmp_path / "other")
    with pytest.raises(InputError, match=r"config\.json: not found"):
        load_transparent_vae(tmp_path)


# The store


def cached_task(
    small: Small, unet: Path | None, folder: Path, objective: Objective, masked: bool = False
) -> Any:
    """2D, or 3D from a UNet."""
    if unet is None:
        stage: Any = attrs.evolve(stage_2d(small), objective=objective)
        stage = attrs.evolve(stage, data=attrs.evolve(stage.data, mask_condition=masked))
    else:
        stage = stage_3d(small, unet)
        fields = {name: getattr(objective, name) for name in ("offset_probability", "posterior")}
        stage = attrs.evolve(stage, objective=attrs.evolve(stage.objective, **fields))
    stage = attrs.evolve(stage, data=attrs.evolve(stage.data, cache_latents=True))
    return (LayerDiff2D if unet is None else LayerDiff3D)(stage, context(stage, folder / "train"))


@pytest.mark.parametrize("family", ["2d", "masked", "3d"])
@pytest.mark.parametrize("objective", [Objective(), SAMPLED], ids=["offset", "no offset"])
def test_a_stored_item_trains_with_the_same_bits_as_a_fresh_one(
    small: Small, unet_3d: Path, tmp_path: Path, family: str, objective: Objective
) -> None:
    unet = unet_3d if family == "3d" else None
    task = cached_task(small, unet, tmp_path, objective, masked=family == "masked")
    model = task.build().eval()
    draws = [draw(0), draw(1)]
    fresh = batch(task, *draws)
    assert all(item["pictures"] and not item["posteriors"] for item in fresh["items"])
    first, weight = task.loss(model, fresh).total, task.weight(fresh)
    files = sorted((tmp_path / "latents").rglob("*.safetensors"))
    assert len(files) == sum(len(item["pictures"]) for item in fresh["items"])
    stored = batch(task, *draws)
    for before, item in zip(fresh["items"], stored["items"], strict=True):
        assert not item["pictures"] and item["posteriors"].keys() == before["pictures"].keys()
    assert torch.equal(task.loss(model, stored).total, first)
    assert task.weight(stored) == weight
    assert sorted(p for p in (tmp_path / "latents").rglob("*") if p.is_file()) == files


def test_a_half_stored_item_is_completed(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    task = cached_task(small, unet_3d, tmp_path, SAMPLED)
    model = task.build().eval()
    first = task.loss(model, batch(task, draw(0))).total
    files = sorted((tmp_path / "latents").rglob("*.safetensors"))
    files[0].unlink()
    again = batch(task, draw(0))
    (item,) = again["items"]
    assert len(item["pictures"]) == 1 and len(item["posteriors"]) == len(files) - 1
    assert torch.equal(task.loss(model, again).total, first)
    assert sorted((tmp_path / "latents").rglob("*.safetensors")) == files


def test_without_a_store_nothing_is_written(small: Small, unet_3d: Path, tmp_path: Path) -> None:
    stage = stage_3d(small, unet_3d)
    task = LayerDiff3D(stage, context(stage, tmp_path / "train"))
    task.loss(task.build().eval(), batch(task, draw(0)))
    assert not any(tmp_path.iterdir())


def places(
    data: LayerDataset, store: LatentStore, index: int = 0, sample: int = 0
) -> dict[str, Path]:
    """Where the pictures of a sample lie, by name."""
    return PictureItems(data, store)[draw(index, sample=sample)]["places"]


def frames(small: Small, **options: Any) -> LayerDiff3DDataset:
    given: dict[str, Any] = {
        "sources": [(small.samples, 1)], "target_size": SIDE, "groups": TAG_GROUPS,
        "global_batch": 4,
    }  # fmt: skip
    return LayerDiff3DDataset(**{**given, **options})


def test_the_key_tells_all_that_latents_depend_on(small: Small, tmp_path: Path) -> None:
    """Files of the sample, tag, crop, mirroring, options and weights; not the draw as such."""
    store = LatentStore(tmp_path, "weights")
    plain = places(frames(small), store)
    assert plain.keys() == {"back hair", "topwear", "legwear", PAGE}
    assert len(set(plain.values())) == len(plain)
    assert places(frames(small), store, index=2) == plain  # the same group, another draw
    # Nothing of the other group is there, so that its crop is the whole page.
    elsewhere = places(frames(small), store, index=1)
    assert elsewhere.keys() == {PAGE} and elsewhere[PAGE] != plain[PAGE]
    others = [
        places(frames(small, random_flip=1.0), store),
        places(frames(small, random_pad_prob=1.0), store),
        places(frames(small, target_size=2 * SIDE), store),
        places(frames(small, layer_alpha="premultiplied"), store),
        places(frames(small), LatentStore(tmp_path, "other weights")),
    ]
    found = [place for paths in (plain, *others) for place in paths.values()]
    assert len(set(found)) == len(found)
    # The page alone depends on what its alpha is.
    character = places(frames(small, page_alpha="character"), store)
    assert character.pop(PAGE) not in found
    assert character.items() < plain.items()
    # Of a sample with layers of both groups, a group's crop is not the character's.
    parts, whole = (
        places(frames(small, crop_to=crop), store, index=1, sample=1)
        for crop in ("layers", "character")
    )
    assert parts.keys() == whole.keys() and not set(parts.values()) & set(whole.values())


def test_models_share_the_pictures_that_they_have_in_common(small: Small, tmp_path: Path) -> None:
    store = LatentStore(tmp_path, "")
    layers = LayerDiff2DDataset(sources=[(small.samples, 1)], target_size=SIDE, crop_to="character")
    alone = places(layers, store)
    together = places(frames(small, crop_to="character"), store)
    assert len(alone) == 2 and alone.items() <= together.items()


def test_a_repeated_sample_is_hashed_once(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    bytes_hash = Sample.bytes_hash

    def counted(sample: Sample) -> str:
        hashed.append(sample.page_path)
        return bytes_hash(sample)

    monkeypatch.setattr(Sample, "bytes_hash", counted)
    items = PictureItems(frames(small, sources=[(small.samples, 3)]), LatentStore(tmp_path, ""))
    for row in range(len(items)):
        items[draw(0, sample=row)]
    assert len(items) == 6 and len(hashed) == len(set(hashed)) == 2


def test_a_changed_byte_of_a_sample_changes_its_key(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "one")
    samples = write_list(tmp_path / "list.txt", [page])

    def key() -> Path:
        data = LayerDiff3DDataset(
            sources=[(samples, 1)], target_size=SIDE, groups=TAG_GROUPS, global_batch=1
        )
        return places(data, LatentStore(tmp_path, ""))[PAGE]

    before = key()
    assert key() == before
    for name in ("one.png", "one_topwear.png", "one_ann.json"):
        file = tmp_path / name
        content = file.read_bytes()
        if name.endswith(".json"):
            file.write_bytes(content + b" ")
        else:
            # A comment before the end chunk: other bytes, the same pixels.
            file.write_bytes(content[:-12] + png_text(b"Comment\0other") + content[-12:])
        assert key() != before
        file.write_bytes(content)
    assert key() == before


def png_text(content: bytes) -> bytes:
    """A PNG chunk of text."""
    import struct
    import zlib

    body = b"tEXt" + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def test_the_fingerprint_tells_weights_and_offset(small: Small) -> None:
    fingerprints = [encoder(small, o).fingerprint() for o in (Objective(), SAMPLED)]
    assert len(set(fingerprints)) == 2
    # Latents without offset are the same posterior, sampled or not.
    assert encoder(small, SAMPLE_MEAN).fingerprint() == fingerprints[1]
    for name in ("vae.encoder.conv_in", "vae.quant_conv", "transparent_vae.encoder.model.blocks.0"):
        changed = encoder(small, Objective())
        part: Any = changed
        for attribute in name.split("."):
            part = part[int(attribute)] if attribute.isdigit() else getattr(part, attribute)
        with torch.no_grad():
            part.weight.view(-1)[0] += 1e-3
        assert changed.fingerprint() != fingerprints[0]
    # What only decodes plays no part.
    decoder = encoder(small, Objective())
    with torch.no_grad():
        decoder.vae.decoder.conv_in.weight += 1
        decoder.transparent_vae.decoder.model.conv_in.weight += 1
    assert decoder.fingerprint() == fingerprints[0]


def test_posteriors_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LatentStore(tmp_path, "")
    path = store.path("key")
    posterior = torch.randn(2, 4, 2, 2)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("seethrough.tasks.latents.os.replace", no_space)
        with pytest.raises(OSError, match="No space"):
            store.write(path, posterior)
        assert not path.exists()
    store.write(path, posterior.permute(1, 0, 2, 3).permute(1, 0, 2, 3))
    assert torch.equal(store.read(path), posterior)
    assert [p for p in tmp_path.rglob("*.safetensors") if p.name[0] != "."] == [path]
