import json
import math

import numpy as np
import pytest

from seethrough.metrics.layers import (
    CharacterScores,
    LayerMetrics,
    Truth,
    load_truth,
    score_character,
    score_layer,
)

SIDE = 10


def block(left: int, right: int, color: tuple[int, int, int] = (100, 100, 100)) -> np.ndarray:
    """Full-height columns from `left` to `right`."""
    layer = np.zeros((SIDE, SIDE, 4), np.uint8)
    layer[:, left:right] = (*color, 255)
    return layer


def columns(left: int, right: int) -> np.ndarray:
    return block(left, right)[..., 3] > 0


def test_half_overlap():
    predicted = block(2, 6, (110, 100, 100))
    scores = score_layer(predicted, block(4, 8), visible=columns(4, 6))
    assert scores["iou"] == pytest.approx(2 / 6)
    assert scores["mae"] == pytest.approx(4 / 10)
    # Of the four true columns two have a red that is off by 10, and two are black.
    mse = (2 * (10**2 + 0 + 0) + 2 * 3 * 100**2) / (4 * 3)
    assert scores["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
    # Columns 6 and 7 are hidden in the page, and the prediction has neither.
    assert scores["hidden_recall"] == 0.0
    assert score_layer(block(2, 7), block(4, 8), columns(4, 6))["hidden_recall"] == 0.5


def test_alpha_is_cut_at_one_half():
    predicted = block(4, 8)
    predicted[..., 3] = np.where(predicted[..., 3] > 0, 127, 0)
    scores = score_layer(predicted, block(4, 8), visible=columns(4, 8))
    assert scores["iou"] == 0.0
    assert scores["mae"] == pytest.approx(0.4 * 128 / 255)
    predicted[..., 3] = np.where(predicted[..., 3] > 0, 128, 0)
    assert score_layer(predicted, block(4, 8), columns(4, 8))["iou"] == 1.0


def test_a_perfect_layer_has_the_psnr_of_rounding_and_nothing_hidden():
    scores = score_layer(block(4, 8), block(4, 8), visible=columns(4, 8))
    assert scores == {"iou": 1.0, "mae": 0.0, "psnr": pytest.approx(58.92, abs=0.01)}


def test_a_missing_layer_scores_as_an_empty_one():
    missing = score_layer(None, block(4, 8), columns(4, 8))
    assert missing == score_layer(block(0, 0), block(4, 8), columns(4, 8))
    assert missing["iou"] == 0.0


def test_a_faint_true_layer_has_only_an_alpha_error():
    faint = block(0, 10)
    faint[..., 3] = 100
    assert score_layer(block(0, 0), faint, columns(0, 10)) == {"mae": pytest.approx(100 / 255)}


def truth(**layers: np.ndarray) -> Truth:
    page = block(0, 10)
    return Truth(page, layers, {tag: layer[..., 3] > 127 for tag, layer in layers.items()})


def test_false_layers_count_by_area():
    tags = ["face", "neck", "tail"]
    speck = block(0, 0)
    speck[0, 0] = 255
    predicted = {"face": block(4, 8), "neck": block(0, 1), "tail": speck}
    scores = score_character(
        predicted, truth(face=block(4, 8)), tags, block(0, 10), false_area=0.01
    )
    assert scores.tags["neck"] == {"false_layers": 1.0}
    assert scores.tags["tail"] == {"false_layers": 0.0}
    assert scores.composite_error == 0.0
    assert scores.mean("iou") == 1.0
    assert scores.mean("hidden_recall") is None


def test_the_composite_error_sees_colour_only_where_something_shows():
    empty = np.zeros((SIDE, SIDE, 4), np.uint8)
    recomposition = block(0, 5)
    scores = score_character({}, truth(), [], recomposition)
    # Half of the page is missing: all of its alpha, and 100/255 of its three colours.
    assert scores.composite_error == pytest.approx(0.5 * (1 + 3 * 100 / 255) / 4)
    colored = empty + np.array([50, 60, 70, 0], np.uint8)
    on_empty = Truth(empty, {}, {})
    assert score_character({}, on_empty, [], colored).composite_error == 0.0


def character(iou: float | None, false: float | None, error: float) -> CharacterScores:
    face = {} if iou is None else {"iou": iou, "mae": iou / 10, "psnr": 20.0}
    tail = {"iou": 0.5, "mae": 0.1, "psnr": 10.0} if false is None else {"false_layers": false}
    return CharacterScores({"face": face or {"false_layers": 0.0}, "tail": tail}, error)


def test_each_character_counts_once_and_tags_are_averaged_last():
    metrics = LayerMetrics(["face", "tail"], big_tags=["face"])
    for scores in (character(0.2, 1.0, 0.1), character(0.4, 1.0, 0.2), character(0.9, None, 0.6)):
        metrics.update(scores)
    result = metrics.compute()
    assert result.characters == 3
    assert result.tags["face"]["iou"] == pytest.approx(0.5)
    assert result.tags["tail"]["iou"] == pytest.approx(0.5)
    assert result.tags["face"]["false_layers"] is None
    assert result.present == {"face": 3, "tail": 1}
    assert result.overall["iou"] == pytest.approx(0.5)
    assert result.overall["psnr"] == pytest.approx(15.0)
    assert result.overall["big_iou"] == pytest.approx(0.5)
    assert result.overall["hidden_recall"] is None
    assert result.overall["false_layers"] == 1.0
    assert result.overall["composite_error"] == pytest.approx(0.3)
    metrics.update(character(None, 0.0, 0.3))
    # Pooled over the absent (character, tag) pairs: tails 1, 1, 0 and one face 0.
    assert metrics.compute().overall["false_layers"] == pytest.approx(0.5)


def test_scores_are_json_without_nan():
    metrics = LayerMetrics(["face", "tail"])
    metrics.update(character(0.2, 1.0, 0.1))
    content = json.loads(metrics.compute().to_json(), parse_constant=pytest.fail)
    assert content["tags"]["tail"]["iou"] is None
    assert content["overall"]["iou"] == pytest.approx(0.2)


def test_big_tags_must_be_measured():
    with pytest.raises(ValueError, match="not measured: wings"):
        LayerMetrics(["face"], big_tags=["wings"])


def test_truth_of_an_embedded_character(tmp_path):
    from seethrough.data.avatars_samples import write_characters
    from seethrough.data.layout import read_sample
    from seethrough.data.tags import TAGS_V3
    from seethrough.inference.composite import flatten

    sample_list = write_characters(tmp_path, "test", count=1, size=64, seed=3)
    sample = read_sample(tmp_path / sample_list.read_text().split()[0])
    known = load_truth(sample, TAGS_V3, 64)
    assert known.page.shape == (64, 64, 4)
    assert set(known.layers) == set(sample.boxes) - {"head"}
    layers = known.layers
    # The true layers score perfectly, and all of a face that is seen is visible.
    order = sorted(layers, key=lambda tag: -int(known.visible[tag].sum()))
    recomposition = flatten([layers[tag] for tag in order], (64, 64)).straight()
    scores = score_character(layers, known, TAGS_V3, recomposition)
    assert scores.mean("iou") == 1.0
    assert scores.mean("false_layers") == 0.0
    assert scores.mean("hidden_recall") == 1.0
    half = load_truth(sample, TAGS_V3, 32)
    assert half.visible["face"].shape == (32, 32)
    assert half.visible["face"].mean() == pytest.approx(known.visible["face"].mean(), abs=0.03)
