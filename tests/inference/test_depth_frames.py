"""Layers of either version as the frames that the model of depth looks at."""

import numpy as np
import pytest

from seethrough.inference.depth_frames import merge_frames
from tests.inference.grey_layers import LAYERS, layer


def test_v3_layers_become_v2_frames_in_their_order() -> None:
    parts = {
        "eyebrow": layer(1, (0, 0, 4, 4)),
        "eyewhite": layer(2, (2, 2, 8, 8)),
        "back hair": layer(3, (0, 0, 40, 40)),
        "front hair": layer(4, (0, 0, 40, 10)),
        "head": layer(5, (0, 0, 40, 40)),
        "face": layer(6, (0, 0, 9, 9)),
        "tail": layer(7, (0, 0, 0, 0)),
    }
    frames = merge_frames(parts, (40, 40))
    assert list(frames) == ["hair", "face", "eyes"]
    assert frames["hair"][[5, 20], 5].tolist() == [[4, 4, 4, 255], [3, 3, 3, 255]]
    assert frames["eyes"][[3, 5], [3, 5], 0].tolist() == [1, 2]
    assert (frames["face"] == parts["face"]).all()


def test_a_v2_layer_goes_before_v3_parts() -> None:
    hair = layer(9, (0, 0, 5, 5))
    frames = merge_frames({"hair": hair, "front hair": layer(4, (0, 0, 40, 10))}, (40, 40))
    assert (frames["hair"] == hair).all()


def test_faint_pixels_are_cleared() -> None:
    face = layer(9, (0, 0, 5, 5))
    face[..., 3] = np.minimum(face[..., 3], 14)
    assert merge_frames({"face": face}, (40, 40)) == {}
    face[0, 0, 3] = 15
    (frame,) = merge_frames({"face": face}, (40, 40)).values()
    assert frame[..., 3].sum() == 15
    assert face[0, 1, 3] == 14  # the caller's own layer stays as it was


def test_a_layer_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"shape \(40, 40, 4\), the page \(40, 30, 4\)"):
        merge_frames(LAYERS, (40, 30))
