"""Folders as CubismPartExtr writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.ingest.command import Image8, block, ellipse, ingest, ingested, own_agreement

CANVAS = (60, 50)
CROP = [10, 5, 50, 45]
PARTS = {
    0: ("PartBody/0-Body-400.png", [12, 20, 32, 36], block((0, 0, 200))),
    1: ("PartBody/Legs/1-Legs-x-400.png", [20, 28, 40, 44], ellipse((0, 150, 0))),
    3: ("3-Root1-500.png", [14, 8, 34, 24], ellipse((250, 160, 70))),
}


def premultiplied(rgba: Image8) -> Image8:
    color = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255)).astype(np.uint8)
    return np.dstack([color, rgba[..., 3]])


def extraction(folder: Path) -> Path:
    """Write an extraction of three drawables; order 2 is missing, as where one has no pixels."""
    whole = np.zeros((CANVAS[1], CANVAS[0], 4))
    drawables = {}
    for order, (name, (x1, y1, x2, y2), rgba) in PARTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = premultiplied(rgba)
        Image.fromarray(stored).save(path)
        window = whole[y1:y2, x1:x2]
        window[:] = stored + window * (1 - stored[..., 3:] / 255)
        drawables[order] = {
            "drawable_index": order,
            "drawable_id": path.stem.split("-", 1)[1].rsplit("-", 1)[0],
            "vertex_indices": [0, 1, 2],
            "vertex_pos": [0.5, -0.25, 1e-3, 2, 3, 4],
            "crop_xyxy": [x1, y1, x2, y2],
        }
    drawables[2] = {"drawable_index": 2, "drawable_id": "Empty", "crop_xyxy": [0, 0, 0, 0]}
    x1, y1, x2, y2 = CROP
    Image.fromarray(np.rint(whole[y1:y2, x1:x2]).astype(np.uint8)).save(folder / "final.png")
    meta = {"crop_xyxy": CROP, "canvas_size": [*CANVAS], "drawables": drawables}
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta, default_flow_style=True, width=10**9))
    return folder


def change(folder: Path, field: str, value: object) -> None:
    """Change what the meta says; None removes it."""
    path = folder / "meta.yaml"
    meta = yaml.safe_load(path.read_text())
    *way, last = (int(step) if step.isdigit() else step for step in field.split("."))
    target = meta
    for step in way:
        target = target[step]
    target[last] = value
    if value is None:
        del target[last]
    path.write_text(yaml.safe_dump(meta, default_flow_style=True))


def test_order_places_ids_and_straight_colours(tmp_path: Path, capsys) -> None:
    character = ingested(tmp_path / "out", extraction(tmp_path / "モデル"))
    assert (character.name, character.canvas) == ("モデル", CANVAS)
    assert [layer.path for layer in character.layers] == [
        ("PartBody", "Body"),
        ("PartBody", "Legs", "Legs-x"),
        ("Root1",),
    ]
    for layer, (_, box, rgba) in zip(character.layers, PARTS.values(), strict=True):
        x, y = layer.box[0] - box[0], layer.box[1] - box[1]
        own = rgba[y : y + layer.size[0], x : x + layer.size[1]]
        shown = layer.rgba()
        assert np.array_equal(shown[..., 3], own[..., 3])
        solid = own[..., 3] == 255
        assert np.array_equal(shown[solid], own[solid])
        soft = own[..., 3] > 128
        assert np.abs(shown[soft].astype(int) - own[soft]).max() <= 2
    assert own_agreement(character).psnr > 45
    assert "1 drawables of meta.yaml have no picture" in capsys.readouterr().out


def test_labels_beside_the_pictures_change_no_identity(tmp_path: Path, capsys) -> None:
    folder = extraction(tmp_path / "model")
    ingested(tmp_path / "out", folder)
    (folder / "body_parsing.json").write_text("{}")
    ingested(tmp_path / "out", folder)
    assert "made 0, there already 1" in capsys.readouterr().out


def test_places_of_an_old_extraction_without_meta(tmp_path: Path) -> None:
    folder = extraction(tmp_path / "model")
    boxes = {order: [x1, y1, x2 - x1, y2 - y1] for order, (_, (x1, y1, x2, y2), _) in PARTS.items()}
    stats = {str(order): {"bbox": box} for order, box in boxes.items()}
    (folder / "transform_stats.json").write_text(json.dumps(stats))
    (folder / "meta.yaml").unlink()
    character = ingested(tmp_path / "out", folder)
    assert character.canvas == (40, 40), "the whole picture's size"
    assert character.layers[0].box == (12, 20, 32, 36)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("canvas_size", [60], "canvas_size is [60]"),
        ("canvas_size", None, "canvas_size is None"),
        ("crop_xyxy", [0, 0, 10, 10], "but the whole picture is 40 x 40 px"),
        ("crop_xyxy", [40, 5, 80, 45], "beyond its canvas"),
        ("drawables.1.crop_xyxy", [0, 0, 5, 5], "is 20 x 16 px, but its box is [0, 0, 5, 5]"),
        ("drawables.1.crop_xyxy", "x", "drawables[1].crop_xyxy is 'x'"),
        ("drawables.1", None, "no box is known of render order 1"),
        ("drawables.1", 7, "drawables[1] is no drawable"),
    ],
)
def test_a_meta_that_disagrees_is_named(tmp_path, capsys, field, value, message) -> None:
    folder = extraction(tmp_path / "model")
    change(folder, field, value)
    assert ingest(tmp_path / "out", folder) == 1
    assert message in capsys.readouterr().err


def test_broken_extractions_are_named_and_the_rest_goes_on(tmp_path: Path, capsys) -> None:
    models = tmp_path / "models"
    whole = extraction(models / "whole")
    for name in ("no meta", "yaml", "twice", "nothing", "broken"):
        shutil.copytree(whole, models / name)
    (models / "no meta" / "meta.yaml").unlink()
    (models / "yaml" / "meta.yaml").write_text("{canvas_size: [60, 50\n")
    shutil.copy(models / "twice" / "3-Root1-500.png", models / "twice" / "3-Other-500.png")
    for file in models.glob("nothing/**/*-*.png"):
        file.unlink()
    (models / "broken" / "3-Root1-500.png").write_bytes(b"no picture")
    assert ingest(tmp_path / "out", models) == 1
    told = capsys.readouterr()
    assert "made 1, there already 0, failed 5" in told.out
    for message in (
        "no meta/meta.yaml: missing",
        "yaml/meta.yaml: no YAML that can be read in line",
        "have the same render order",
        "nothing: has no picture of a drawable",
        "3-Root1-500.png is no picture that can be read",
    ):
        assert message in told.err
