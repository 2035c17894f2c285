"""Samples of a benchmark, and predictions of them in the layouts that are read."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from seethrough.benchmark.__main__ import main
from seethrough.data.layout import Sample, read_sample
from seethrough.data.tags import HEAD
from seethrough.inference.composite import DRAWING_ORDER, place
from seethrough.inference.psd import write_psd
from tests.samples import write_list, write_sample

SIZE = (48, 40)
"""Height and width of the pages."""

TAGS = {
    "one": ("back hair", "topwear", "face", "front hair"),
    "two": ("topwear", "face"),
    "three": ("legwear", "topwear", "face"),
}
"""The layers of each sample, back to front."""


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of three samples."""
    folder = tmp_path_factory.mktemp("samples")
    pages = [write_sample(folder, name, SIZE, tags, seed=1) for name, tags in TAGS.items()]
    return write_list(folder / "list.txt", pages)


def read_samples(samples: Path) -> list[Sample]:
    return [read_sample(samples.parent / line) for line in samples.read_text().split()]


def true_layers(sample: Sample) -> dict[str, np.ndarray]:
    """The sample's layers on its page, back to front."""
    layers: dict[str, np.ndarray] = {}
    for tag in sorted(sample.boxes.keys() - {HEAD}, key=DRAWING_ORDER.index):
        x1, y1, x2, y2 = sample.boxes[tag]
        layers[tag] = np.zeros((*SIZE, 4), np.uint8)
        layers[tag][y1:y2, x1:x2] = sample.layer(tag)
    return layers


def write_predictions(
    samples: Path,
    folder: Path,
    change: Callable[[str, dict[str, np.ndarray]], Mapping[str, np.ndarray]] = lambda _, same: same,
) -> Path:
    """The true layers, or what a change makes of them, as `seethrough.decompose` writes PSDs."""
    for sample in read_samples(samples):
        (folder / sample.name).mkdir(parents=True)
        layers = change(sample.name, true_layers(sample))
        write_psd(folder / sample.name / f"{sample.name}.psd", place(layers), SIZE)
    return folder


def benchmark(*words: object, code: int = 0) -> None:
    """Run a command line that ends with a code."""
    assert main([str(word) for word in words]) == code


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
