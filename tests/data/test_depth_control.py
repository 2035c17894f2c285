"""Depth with a control: what is seen of a layer, and what of it is to be told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seethrough.data.depth_control import ControlledDepthDataset, nearness
from seethrough.errors import InputError
from tests.data.layers import at
from tests.samples import annotation, write_json, write_png, write_sample


@pytest.fixture
def covered(tmp_path: Path) -> Path:
    """Hair of two levels, 1 above and 3 below; a face of level 2 lies over its left half.

    The page is 16 x 16; all are opaque, so that a pixel is a level.
    """
    levels = np.zeros((16, 16), np.uint8)
    levels[:8], levels[8:] = 1, 3
    face = np.full((16, 8), 2, np.uint8)
    page = levels.copy()
    # The lower strand lies over the face.
    page[:8, :8] = 2
    opaque = np.full((16, 16, 4), 255, np.uint8)
    write_png(tmp_path / "a.png", opaque)
    write_png(tmp_path / "a_depth.png", page)
    for tag, found in (("hair", levels), ("face", face)):
        height, width = found.shape
        write_png(tmp_path / f"a_{tag}.png", opaque[:height, :width])
        write_png(tmp_path / f"a_{tag}_depth.png", found)
    boxes = {"hair": (0, 0, 16, 16), "face": (0, 0, 8, 16)}
    write_json(tmp_path / "a_ann.json", annotation((16, 16), boxes))
    return tmp_path / "a.png"


def dataset(source: Path, **options: Any) -> ControlledDepthDataset:
    defaults = {"target_size": 16, "control_probability": 1.0, "tags": ("hair",)}
    return ControlledDepthDataset(sources=((source, 1),), **{**defaults, **options})


def test_what_is_seen_of_a_layer_is_known_and_all_of_it_is_to_be_told(covered: Path) -> None:
    item = dataset(covered)[at(0)]
    assert item["layer"] == "hair" and item["mask"].all()
    told = nearness(item["depth"])[0]
    assert torch.allclose(told[:8], torch.tensor(1 / 3), atol=1e-5)
    assert torch.allclose(told[8:], torch.tensor(1.0), atol=1e-5)
    known, seen = item["control"]
    expected = torch.ones(16, 16)
    expected[:8, :8] = 0
    assert torch.equal(seen, expected)
    assert torch.equal(known, told * seen)


def test_a_page_has_no_control(covered: Path) -> None:
    for item in (
        dataset(covered, control_probability=0.0)[at(0)],
        # No layer of these; and one whose depth has a single level.
        dataset(covered, tags=("tail",))[at(0)],
        dataset(covered, tags=("face",))[at(0)],
    ):
        assert item["layer"] is None and not item["control"].any()
        assert nearness(item["depth"])[0, 0, 0] == pytest.approx(2 / 3, abs=1e-5)


def test_changes_at_random_hold_for_picture_depth_and_control_alike(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "a", tags=("back hair", "face", "front hair"))
    options = {"tags": ("hair", "face"), "target_size": 32, "control_probability": 0.7}
    changed = dataset(page, **options, random_flip=1.0, flip_horizontal=1.0, random_crop=0.5)
    plain = dataset(page, **options)
    layers = 0
    for index in range(12):
        draw = at(index)
        one, other = changed[draw], plain[draw]
        assert one["layer"] == other["layer"]
        if one["layer"] is None:
            continue
        layers += 1
        assert one["layer"] == "hair"
        seen = one["control"][1].bool()
        assert seen.any() and not seen[~one["mask"][0]].any()
        again = changed[draw]
        assert all(torch.equal(one[key], again[key]) for key in ("picture", "depth", "control"))
        # Nothing but mirroring changes a layer; resized levels may differ at their edges.
        differs = sum(
            abs(one["control"].flip(dims) - other["control"]).mean() < 0.05
            for dims in ((-1,), (-1, -2))
        )
        assert differs
    assert layers > 2


def test_unknown_layers_are_refused(covered: Path) -> None:
    with pytest.raises(InputError, match="tags: unknown tag 'hairs'; nearest: hair"):
        dataset(covered, tags=("hairs",))
