"""Samples in shards are read as those in folders are: by every dataset, to the same bits."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from torch.utils.data import DataLoader

from seethrough.data.captions import caption_files
from seethrough.data.depth import DepthDataset2D, DepthDataset3D
from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.layout import read_sample
from seethrough.data.partseg import PartSegDataset
from seethrough.data.sample_list import content_hash, read_sample_list
from seethrough.data.shards import (
    MANIFEST,
    SAMPLES,
    Manifest,
    ShardEntry,
    file_size,
    is_file,
    read_bytes,
)
from seethrough.data.tags import BODY_GROUP, HEAD_GROUP, TAGS_V3
from seethrough.engine.drift import HashCache, local_identity
from seethrough.errors import InputError
from seethrough.recipe import Local
from tests.render.stored import packed, samples

NAMES = ("a", "a_face", "b with space", "名前")
"""One is the beginning of another, which also ends as a layer would."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The samples, and beside them the same in shards with a manifest."""
    first, *rest = samples(tmp_path / "folder", *NAMES)
    target = tmp_path / "shards"
    shards = {"000000": (first, rest[0]), "000001": tuple(rest[1:])}
    pages = [page for name, stored in shards.items() for page in packed(target, name, *stored)]
    write_manifest(target, pages, *shards)
    return tmp_path


def write_manifest(target: Path, pages: list[str], *shards: str) -> None:
    text = "".join(f"{page}\n" for page in pages).encode()
    (target / SAMPLES).write_bytes(text)
    entries = []
    for shard in shards:
        content = (target / f"{shard}.tar").read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(ShardEntry(f"{shard}.tar", 2, len(content), sha256))
    manifest = Manifest(str(target), tuple(entries), hashlib.sha256(text).hexdigest())
    (target / MANIFEST).write_text(manifest.text(None))


def pages_of(folder: Path, name: str) -> list[Path]:
    return sorted(read_sample_list(folder / name), key=lambda page: page.name)


def test_every_file_of_a_sample_is_found_in_its_shard(folder: Path):
    stored = pages_of(folder, "shards")
    assert [page.stem for page in stored] == sorted(NAMES)
    for page in stored:
        beside = folder / "folder" / page.name
        for path in (beside, beside.with_suffix(".json"), *beside.parent.glob(f"{page.stem}_*")):
            inside = page.with_name(path.name)
            assert is_file(inside) and read_bytes(inside) == path.read_bytes()
            assert file_size(inside) == path.stat().st_size
        absent = page.with_name(f"{page.stem}_tail.png")
        assert not is_file(absent)
        with pytest.raises(FileNotFoundError):
            read_bytes(absent)


def test_a_sample_is_the_same_from_a_shard(folder: Path):
    """So are the keys of its latents in the cache."""
    for inside in pages_of(folder, "shards"):
        one, two = read_sample(inside), read_sample(folder / "folder" / inside.name)
        assert one.boxes == two.boxes and one.size == two.size
        assert one.bytes_hash() == two.bytes_hash()
        assert one.masks_hash() == two.masks_hash()
        assert one.depths_hash() == two.depths_hash()


DATASETS: dict[str, Callable[[Path], Any]] = {
    "LayerDiff 2D": lambda source: LayerDiff2DDataset(sources=((source, 1),), target_size=32),
    "LayerDiff 3D": lambda source: LayerDiff3DDataset(
        sources=((source, 1),), target_size=32, groups=(BODY_GROUP, HEAD_GROUP), global_batch=2
    ),
    "depth 2D": lambda source: DepthDataset2D(sources=((source, 1),), target_size=32),
    "depth 3D": lambda source: DepthDataset3D(
        sources=((source, 1),), target_size=32, groups=(HEAD_GROUP,), global_batch=2
    ),
    "parts": lambda source: PartSegDataset(sources=((source, 1),), target_size=32, tags=TAGS_V3),
}


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_reads_both(folder: Path, name: str):
    """From shards also in a loader's worker, to which the dataset is pickled."""
    listed = folder / "list.txt"
    listed.write_text("".join(f"folder/{p.name}\n" for p in read_sample_list(folder / "shards")))
    one, two = DATASETS[name](listed), DATASETS[name](folder / "shards" / MANIFEST)
    two = pickle.loads(pickle.dumps(two))
    assert len(one) == len(two) == len(NAMES)
    for sample in range(len(NAMES)):
        draw = Draw(seed=0, stage="train", step=0, index=sample, sample=sample)
        of_folder, of_shard = one[draw], two[draw]
        assert of_folder.keys() == of_shard.keys()
        for key, value in of_folder.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, of_shard[key])


def test_loader_workers_read_shards_that_their_parent_has_opened(folder: Path):
    dataset = DATASETS["parts"](folder / "shards")
    draws = [Draw(seed=0, stage="train", step=0, index=i, sample=i) for i in range(4)]
    here = [dataset[draw]["picture"] for draw in draws]
    loader = DataLoader(dataset, sampler=draws, batch_size=None, num_workers=2)  # pyright: ignore
    assert all(torch.equal(a, item["picture"]) for a, item in zip(here, loader, strict=True))


def test_a_list_may_name_pages_in_shards(folder: Path):
    """So a set is split without being written again."""
    listed = folder / "shards" / "test.txt"
    listed.write_text("000001.tar/名前.png\n")
    assert read_sample_list(listed) == [folder / "shards/000001.tar/名前.png"]
    assert len(content_hash(listed)) == 32
    listed.write_text("000001.tar/nobody.png\n")
    with pytest.raises(InputError, match=r"test.txt, line 1: no such file: 000001.tar/nobody.png"):
        read_sample_list(listed)


def test_captions_lie_in_shards_too(folder: Path):
    found = caption_files(read_sample_list(folder / "shards"), ())
    assert sorted(path.stem for path in found) == sorted(NAMES)


def test_shards_are_known_by_the_hashes_of_their_manifest(folder: Path):
    """Wherever they lie, and without being read."""
    cache = HashCache(folder / "runs")
    moved = folder / "elsewhere"
    (folder / "shards").rename(moved)
    before = content_hash(moved / MANIFEST)
    assert local_identity(Local(str(moved)), cache) == f"samples:{before}"
    assert local_identity(Local(str(moved / MANIFEST)), cache) == f"samples:{before}"
    content = json.loads((moved / MANIFEST).read_text())
    content["shards"][1]["sha256"] = "0" * 64
    (moved / MANIFEST).write_text(json.dumps(content))
    assert content_hash(moved) != before


def test_shards_are_read_from_another_store(folder: Path):
    """The manifest says where they lie: an address that fsspec opens."""
    store = fsspec.filesystem("memory")
    store.put(f"{folder}/shards/", "/bucket/set/", recursive=True)
    content = json.loads((folder / "shards" / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({"folder": "memory://bucket/set", **content}))
    far = pages_of(folder, MANIFEST)
    near = pages_of(folder, "shards")
    assert [read_bytes(page) for page in far] == [read_bytes(page) for page in near]
    assert read_sample(far[0]).bytes_hash() == read_sample(near[0]).bytes_hash()
    assert content_hash(folder / MANIFEST) == content_hash(folder / "shards")


def test_what_is_broken_is_named(folder: Path):
    shards = folder / "shards"
    (shards / SAMPLES).write_text("000000.tar/a.png\n")
    with pytest.raises(InputError, match=r"samples.txt: not the list that shards.json"):
        read_sample_list(shards)
    (shards / SAMPLES).unlink()
    with pytest.raises(InputError, match=r"samples.txt: the list of the shards' samples"):
        read_sample_list(shards)
    (shards / MANIFEST).write_text('{"shards": [{"file": "000000.tar"}]}')
    with pytest.raises(InputError, match=r"shards.json: not a manifest of shards .TypeError"):
        read_sample_list(shards)


def test_a_shard_that_is_cut_off_is_named(folder: Path):
    path = folder / "shards" / "000001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"000001.tar is cut off"):
        read_sample(path / "名前.png").page()
    (folder / "shards/000000.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"000000.tar: its index is broken"):
        read_sample(folder / "shards/000000.tar/a.png").page()
