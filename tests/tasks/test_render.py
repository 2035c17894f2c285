"""The render stage: the same bytes however it is run, nothing made twice, nothing lost."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seethrough.characters.form import Provenance
from seethrough.characters.labels import Label, Labels, read_labels, write_labels
from seethrough.characters.write import NewLayer, write_character
from seethrough.data.layout import read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.engine.runner import run
from seethrough.errors import InputError
from seethrough.recipe import Local, load
from seethrough.recipes.render import PageGeometry, Render, RenderOptions
from seethrough.render.shards import Written, write_record
from seethrough.tasks.render import RECORDS, REFUSED, render
from seethrough.tasks.task import StageContext, StageResult

EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments/render_v3.py"
OPTIONS = RenderOptions(geometry=PageGeometry(long_side=(32, 32)))
TAGS = ("back hair", "face", "topwear")


def draw_character(root: Path, number: int) -> Path:
    """Write a labelled character of three soft discs; returns its folder."""
    y, x = np.mgrid[:24, :24]
    alpha = np.clip((11 - np.hypot(x - 11.5, y - 11.5)) * 80, 0, 255)
    layers = []
    for place, tag in enumerate(TAGS):
        colour = np.array([number * 40, place * 80, 200])
        pixels = np.dstack([np.broadcast_to(colour, (24, 24, 3)), alpha]).astype(np.uint8)
        layers.append(NewLayer(path=(tag,), corner=(4 * place, 6 * place), rgba=pixels))
    folder = write_character(
        root,
        name=f"character {number}",
        canvas=(40, 44),
        layers=layers,
        provenance=Provenance(
            source="drawn", sha256=f"{number:064x}", tool="test", version="1", licence="CC0"
        ),
    )
    labels = {tag: Label(tag, 1.0, "person") for tag in TAGS}
    write_labels(folder, Labels(tag_set="v3", layers=labels))
    return folder


@pytest.fixture
def characters(tmp_path: Path) -> list[Path]:
    return sorted(draw_character(tmp_path / "characters", number) for number in range(3))


class Run:
    """Runs the stage in a folder, as the engine does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.characters = Local(str(folder / "characters"))
        self.directory = folder / name
        self.lines: list[str] = []

    def __call__(self, **options: Any) -> StageResult:
        self.directory.mkdir(exist_ok=True)
        given = {"samples_each": 3, "shard_size": 2, "workers": 1, "options": OPTIONS, **options}
        stage = Render(characters=self.characters, **given)
        context = StageContext(
            name="render",
            directory=self.directory,
            paths={self.characters: Path(self.characters.path)},
            device=torch.device("cpu"),
            report=self.lines.append,
        )
        return render(stage, context)

    def hashes(self) -> dict[str, str]:
        """Of every file that was made, by its path."""
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }


def test_one_worker_two_workers_and_ray_make_the_same_bytes(tmp_path: Path, characters: list[Path]):
    pytest.importorskip("ray")
    one, two, ray = (Run(tmp_path, name) for name in ("one", "two", "ray"))
    one(form="shards")
    two(form="shards", workers=2)
    ray(form="shards", workers=2, on="ray")
    assert one.hashes() == two.hashes() == ray.hashes()
    assert "samples/000004.tar" in one.hashes() and "samples/shards.json" in one.hashes()


def test_both_forms_hold_the_same_samples(tmp_path: Path, characters: list[Path]):
    folder, shards = Run(tmp_path, "folder"), Run(tmp_path, "shards")
    results = [folder(workers=2), shards(form="shards", workers=2)]
    pages = [read_sample_list(result.artifacts["samples"]) for result in results]
    assert len(pages[0]) == 9
    assert [page.name for page in pages[0]] == [page.name for page in pages[1]]
    for one, two in zip(*pages, strict=True):
        assert read_sample(one).bytes_hash() == read_sample(two).bytes_hash()
        assert set(read_sample(one).boxes) >= set(TAGS)
    assert len({read_sample(page).bytes_hash() for page in pages[0]}) == 9
    assert results[0].metrics["samples"] == 9 and results[0].metrics["refused"] == 0


def test_an_interrupted_render_goes_on_and_makes_nothing_twice(
    tmp_path: Path, characters: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """Interrupted when a third shard lies in its place, before its record is written."""
    whole, broken = Run(tmp_path, "whole"), Run(tmp_path, "broken")
    whole(form="shards")
    records = broken.directory / RECORDS

    def interrupted(folder: Path, written: Written) -> None:
        if len(list(folder.glob("*.json"))) == 2:
            raise KeyboardInterrupt
        write_record(folder, written)

    with monkeypatch.context() as patch:
        patch.setattr("seethrough.tasks.render.write_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            broken(form="shards")
    first = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    assert len(first) == 2 and not (broken.directory / "samples/shards.json").exists()
    (broken.directory / "samples/.partial-12345678-000004.tar").write_bytes(b"of a killed worker")
    broken(form="shards", workers=2)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert broken.hashes() == whole.hashes()
    assert "3 shards made and 2 kept" in broken.lines[-1]


def test_the_engine_goes_on_with_what_is_there(
    tmp_path: Path,
    characters: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Other values than those it was begun with stop it; where work is done they don't."""
    flags = {"characters": f"file:{characters[0].parent}", "samples_each": "2", "shard_size": "2"}
    flags |= {"options.geometry.long_side": "(32, 32)", "form": "shards", "workers": "1"}

    def go(**more: str) -> None:
        pairs = [(f"render.{path}", text) for path, text in {**flags, **more}.items()]
        resolved = load(str(EXPERIMENT)).override(pairs).resolve()
        run(resolved, tmp_path / "runs")

    def interrupted(folder: Path, written: Written) -> None:
        write_record(folder, written)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("seethrough.tasks.render.write_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go()
    with pytest.raises(InputError, match=r"seed: made with 42, now 43"):
        go(seed="43")
    go(workers="2")
    assert "2 shards made and 1 kept" in capsys.readouterr().out
    record = json.loads((tmp_path / "runs/render_v3/render/record.json").read_text())
    assert record["artifacts"]["samples"]["path"] == "samples/shards.json"
    assert record["metrics"]["samples"] == 6
    go(on="ray")
    assert "render: done" in capsys.readouterr().out


def test_a_bad_character_is_told_and_the_others_are_made(tmp_path: Path, characters: list[Path]):
    run = Run(tmp_path, "run")
    broken = characters[1] / "layers/0001.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    with pytest.raises(InputError, match=r"3 samples are refused.*\n.*0001\.png"):
        run()
    told = [json.loads(line) for line in (run.directory / REFUSED).read_text().splitlines()]
    assert {line["character"] for line in told} == {characters[1].name}
    assert sum(line["samples"] for line in told) == 3
    assert "6 samples" in run.lines[-1] and "3 samples refused" in run.lines[-1]

    before = {path: path.stat().st_mtime_ns for path in (run.directory / RECORDS).iterdir()}
    result = run(refused="leave_out")
    assert len(read_sample_list(result.artifacts["samples"])) == 6
    assert result.metrics["refused"] == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before

    broken.write_bytes(content)
    result = run()
    assert len(read_sample_list(result.artifacts["samples"])) == 9
    kept = [p for p, time in before.items() if p.stat().st_mtime_ns == time]
    assert len(kept) == 3
    fresh = Run(tmp_path, "fresh")
    fresh()
    assert run.hashes() == fresh.hashes()


def test_labels_decide_who_is_rendered(tmp_path: Path, characters: list[Path]):
    labels = read_labels(characters[0])
    assert labels is not None
    write_labels(characters[0], Labels(tag_set="v3", layers=labels.layers, valid=False))
    (characters[1] / "labels.json").unlink()
    run = Run(tmp_path, "run")
    with pytest.raises(InputError, match=r"no labels: python -m seethrough.label makes them"):
        run()
    assert "1 characters are left out by their labels" in run.lines[0]
    assert "3 samples of" in run.lines[-1]


def test_samples_may_go_elsewhere(tmp_path: Path, characters: list[Path]):
    """What the stage keeps names them; the target can be read by itself."""
    here = Run(tmp_path, "here")(form="shards")
    run = Run(tmp_path, "run")
    elsewhere = tmp_path / "elsewhere"
    result = run(form="shards", target=f"file://{elsewhere}")
    pages = read_sample_list(result.artifacts["samples"])
    assert result.artifacts["samples"].parent == run.directory
    assert [page.parent.parent for page in pages] == [elsewhere] * 9
    assert read_sample_list(elsewhere) == pages
    near = read_sample_list(here.artifacts["samples"])
    assert [read_sample(p).bytes_hash() for p in pages] == [
        read_sample(p).bytes_hash() for p in near
    ]
    with pytest.raises(InputError, match="holds samples that this stage has not made"):
        Run(tmp_path, "other")(form="shards", target=str(elsewhere))


def test_a_folder_without_characters_says_how_to_get_some(tmp_path: Path):
    (tmp_path / "characters").mkdir()
    with pytest.raises(InputError, match=r"no character to render: python -m seethrough\.ingest"):
        Run(tmp_path, "run")()
