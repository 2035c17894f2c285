from seethrough.metrics.layers import CharacterScores, LayerMetrics, LayerScores
from seethrough.metrics.table import comparison_table, format_value


def scores(iou: float) -> LayerScores:
    metrics = LayerMetrics(["face", "tail"], big_tags=["face"])
    face = {"iou": iou, "mae": 0.05, "psnr": 17.26}
    metrics.update(CharacterScores({"face": face, "tail": {"false_layers": 1.0}}, 0.25))
    return metrics.compute()


SYSTEMS = {"chain": scores(0.4321), "mean alpha": scores(0.2)}

TABLE = """\
1 characters         chain  mean alpha
alpha IoU            0.432       0.200
alpha IoU, big tags  0.432       0.200
alpha MAE            0.050       0.050  (lower is better)
colour PSNR           17.3        17.3
hidden recall            -           -
false layers         1.000       1.000  (lower is better)
composite error      0.250       0.250  (lower is better)

              alpha IoU            alpha MAE            colour PSNR
         n    chain  mean alpha    chain  mean alpha    chain  mean alpha
face     1    0.432       0.200    0.050       0.050     17.3        17.3
tail     0        -           -        -           -        -           -

              hidden recall        false layers
         n    chain  mean alpha    chain  mean alpha
face     1        -           -        -           -
tail     0        -           -    1.000       1.000
"""


def test_the_table_has_all_measures_over_all_and_per_tag():
    assert comparison_table(SYSTEMS, width=80) == TABLE


def test_a_narrow_terminal_gets_one_measure_at_a_time():
    lines = comparison_table(SYSTEMS, width=20).splitlines()
    assert sum(line.startswith("face") for line in lines) == 5
    wide = comparison_table(SYSTEMS, width=400).splitlines()
    assert sum(line.startswith("face") for line in wide) == 1


def test_values_as_text():
    assert format_value("psnr", 13.649) == "13.6"
    assert format_value("iou", 0.12345) == "0.123"
    assert format_value("iou", None) == "-"
