"""Layered samples that can't be read, on their way from disk to the network's batches."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from seethrough.engine.bad_samples import FILE
from seethrough.engine.loader import MicroBatches, Split, load_batches
from seethrough.errors import InputError
from seethrough.recipe import Local, evolve
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks.layerdiff2d import LayerDiff2D
from seethrough.tasks.layerdiff3d import LayerDiff3D
from seethrough.tasks.marigold import Marigold2D
from seethrough.tasks.task import Batch, Task
from seethrough.tasks.transparent_vae import TransparentVaeTask
from tests.samples import write_list, write_sample
from tests.tasks.small import Small, context, small_data, stage_2d, stage_3d, stage_depth_2d

STEPS = 6


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Six samples: one has a broken layer, one a broken page, one no readable annotation."""
    pages = [write_sample(tmp_path, name, tags=("topwear", "face")) for name in "abcdef"]
    for name in ("b_topwear.png", "b_face.png", "d.png", "e_ann.json"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:20])
    return write_list(tmp_path / "list.txt", pages)


def make(kind: str, small: Small, unet_3d: Path, samples: Path, folder: Path, policy: str) -> Any:
    """A task of each kind on the samples."""
    stage: Any = {
        "2d": stage_2d(small),
        "3d": stage_3d(small, unet_3d),
        "vae": TransparentVaeTrain(),
    }[kind]
    data = evolve(
        small_data(stage.data, small),
        sources=((Local(str(samples)), 1),),
        bad_samples=policy,
        global_batch=2,
    )
    stage = evolve(stage, data=data)
    task = {"2d": LayerDiff2D, "3d": LayerDiff3D, "vae": TransparentVaeTask}[kind]
    folder.mkdir(parents=True, exist_ok=True)
    return task(stage, context(stage, folder))


def batches(task: Task[Any], workers: int) -> list[Batch]:
    dataset: Any = task.dataset()
    order = MicroBatches(0, "train", len(dataset), Split(2, 2, 0, 1), 0, STEPS)
    return list(load_batches(task, dataset, order, workers, torch.device("cpu")))


def rows(found: list[Batch]) -> list[list[int]]:
    return [[draw.sample for draw in batch["draw"]] for batch in found]


@pytest.mark.parametrize("kind", ["2d", "3d", "vae"])
def test_other_samples_stand_in_whatever_the_workers(
    small: Small, unet_3d: Path, samples: Path, tmp_path: Path, kind: str
) -> None:
    found: dict[int, list[Batch]] = {}
    for workers in (0, 2):
        folder = tmp_path / f"{kind}-{workers}"
        task = make(kind, small, unet_3d, samples, folder, "skip")
        found[workers] = batches(task, workers)
        listed = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
        names = sorted(Path(entry["sample"]).name for entry in listed)
        assert names == ["b.png", "d.png", "e.png"]
        assert all(Path(entry["sample"]).stem in entry["error"] for entry in listed)
    assert rows(found[0]) == rows(found[2])
    assert {row for batch in rows(found[0]) for row in batch} <= {0, 2, 5}
    if kind == "vae":
        assert all(torch.equal(a["argb"], b["argb"]) for a, b in zip(*found.values(), strict=True))


def test_without_leave_the_file_is_named(
    small: Small, unet_3d: Path, samples: Path, tmp_path: Path
) -> None:
    task = make("2d", small, unet_3d, samples, tmp_path / "2d", "stop")
    with pytest.raises(InputError, match=r"(b_\w+\.png|d\.png|e_ann\.json): "):
        batches(task, 0)
    assert not (tmp_path / "2d" / FILE).exists()


def test_pictures_and_export_leave_them_out_too(
    small: Small, unet_3d: Path, samples: Path, tmp_path: Path
) -> None:
    task = make("2d", small, unet_3d, samples, tmp_path / "2d", "skip")
    said: list[str] = []
    task.context = attrs.evolve(task.context, report=said.append)
    with torch.no_grad():
        assert task.pictures(task.build().eval())
    assert {line.partition(".png: ")[0] for line in said} == {
        f"small: left out {samples.parent / name}" for name in "bde"
    }
    stage = TransparentVaeTrain()
    shapes = evolve(
        stage.model, vae_channels=(4, 4, 8, 8), vae_layers=1, vae_norm_groups=2,
        encoder_channels=(4, 4, 4, 4), decoder_channels=(4, 4, 8, 8, 8), decoder_layers=1,
    )  # fmt: skip
    vae = make("vae", small, unet_3d, samples, tmp_path / "vae", "skip")
    vae = TransparentVaeTask(evolve(vae.stage, model=shapes), vae.context)
    vae.export(vae.build().eval(), tmp_path / "vae")
    assert (tmp_path / "vae/transparent_vae").is_dir()


def test_the_validation_of_depth_leaves_them_out_too(
    small: Small, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seethrough.tasks.latent_diffusion.VALIDATION_PLACES", 6)
    stage = stage_depth_2d(small)
    data = evolve(stage.data, validation=Local(str(samples)), bad_samples="skip")
    stage = evolve(stage, data=data)
    said: list[str] = []
    where = attrs.evolve(context(stage, tmp_path), report=said.append)
    task = Marigold2D(stage, where)
    with torch.no_grad():
        assert task.validate(task.build().eval())["loss"] > 0
    # The broken layer is of no account to the depth of a page.
    assert {line.partition(".png: ")[0] for line in said} == {
        f"small: left out {samples.parent / name}" for name in "de"
    }
