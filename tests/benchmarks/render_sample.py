"""What a rendered sample costs: CPU time, and memory of a worker.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.render_sample [--json=PATH]

Draws a character of 66 layers on a canvas of 2048 px and a photo-like background, writes them as
ingest does, and renders samples of it with the published options. A reference beside it composites
the same layers in the plainest way: whole canvases, float64.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from seethrough.characters.form import Character, Provenance, read_character
from seethrough.characters.labels import Label, Labels
from seethrough.characters.write import NewLayer, write_character
from seethrough.recipes.render import RenderOptions
from seethrough.render.sample import Renderer, render_sample

SIDE = 2048
SAMPLES = 9
MIB = 2**20

PARTS = (
    ("back hair", 8, 0.30, 0.27, 0.06, 0.24),
    ("neck", 2, 0.28, 0.03, 0.04, 0.05),
    ("legwear", 4, 0.72, 0.06, 0.05, 0.14),
    ("footwear", 4, 0.93, 0.07, 0.06, 0.03),
    ("bottomwear", 5, 0.58, 0.10, 0.08, 0.12),
    ("handwear", 6, 0.44, 0.17, 0.04, 0.09),
    ("topwear", 8, 0.40, 0.06, 0.10, 0.13),
    ("face", 2, 0.19, 0.0, 0.10, 0.10),
    ("eyewhite", 2, 0.185, 0.04, 0.025, 0.016),
    ("irides", 4, 0.187, 0.04, 0.014, 0.015),
    ("eyelash", 4, 0.175, 0.04, 0.025, 0.006),
    ("eyebrow", 2, 0.150, 0.04, 0.025, 0.005),
    ("nose", 1, 0.212, 0.0, 0.006, 0.006),
    ("mouth", 3, 0.236, 0.005, 0.018, 0.007),
    ("front hair", 8, 0.13, 0.10, 0.03, 0.08),
    ("headwear", 3, 0.075, 0.07, 0.08, 0.04),
)
"""Tag, layers, height of their centres, spread to the sides, and half axes, in canvas sides."""


def shape(random: np.random.Generator, half: tuple[int, int]) -> np.ndarray:
    """An ellipse with a soft edge, shading, lines and grain: straight RGBA."""
    width, height = 2 * half[0] + 8, 2 * half[1] + 8
    alpha = np.zeros((height, width), np.uint8)
    centre = (width // 2, height // 2)
    cv2.ellipse(alpha, centre, half, 0, 0, 360, 255, -1, cv2.LINE_AA)
    colour = random.integers(40, 230, 3)
    shade = np.linspace(1.1, 0.8, height)[:, None, None] * colour
    rgb = np.broadcast_to(shade, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(16):
        ends = random.integers(0, max(width, height), (2, 2)).tolist()
        cv2.line(rgb, ends[0], ends[1], (colour * 0.6).tolist(), 2, cv2.LINE_AA)
    grain = random.integers(-2, 3, (height, width, 1)) * (random.random((height, width, 1)) < 0.25)
    rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
    return np.dstack([rgb, cv2.GaussianBlur(alpha, (3, 3), 0.6)])


def make_character(root: Path) -> tuple[Character, Labels]:
    """Write a character of 66 layers."""
    random = np.random.default_rng(0)
    layers: list[NewLayer] = []
    labels: dict[str, Label] = {}
    for tag, count, y, spread, half_width, half_height in PARTS:
        for at in range(count):
            aside = spread * (2 * (at + 0.5) / count - 1)
            half = round(half_width * SIDE), round(half_height * SIDE)
            corner = round((0.5 + aside) * SIDE) - half[0], round(y * SIDE) - half[1]
            path = (tag, str(at))
            layers.append(NewLayer(path=path, corner=corner, rgba=shape(random, half)))
            labels["/".join(path)] = Label(tag, 1.0, "name")
    provenance = Provenance(source="drawn", sha256="0" * 64, tool="benchmark", version="1")
    folder = write_character(
        root, name="drawn", canvas=(SIDE, SIDE), layers=layers, provenance=provenance
    )
    return read_character(folder), Labels(tag_set="v3", layers=labels)


def make_background(path: Path) -> Path:
    """Write a JPEG with the detail and the grain of a photograph."""
    random = np.random.default_rng(1)
    picture = np.zeros((1400, 2100, 3))
    for cells in (6, 24, 96, 400):
        field = random.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(field, (2100, 1400), interpolation=cv2.INTER_CUBIC) * 100 / cells**0.6
    picture += 128 + random.normal(0, 2, (1400, 2100, 1))
    cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8), (cv2.IMWRITE_JPEG_QUALITY, 92))
    return path


def reference(character: Character, labels: Labels, side: int = 1280) -> np.ndarray:
    """Composite page, layers and visible masks on whole canvases in float64: (H, W, 4)."""
    tags = [labels.tag(layer.id) for layer in character.layers]
    layers: list[np.ndarray] = []
    for layer in character.layers:
        x1, y1, x2, y2 = layer.box
        canvas = np.zeros((SIDE, SIDE, 4))
        canvas[y1:y2, x1:x2] = layer.rgba()
        canvas[..., :3] *= canvas[..., 3:] / 255
        layers.append(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA))
    pages = {tag: np.zeros((side, side, 4)) for tag in (None, *tags)}
    cover, seen = np.zeros((side, side)), {tag: np.zeros((side, side), bool) for tag in tags}
    for tag, layer in zip(tags, layers, strict=True):
        for target in (None, tag):
            pages[target] = layer + pages[target] * (1 - layer[..., 3:] / 255)
    for tag, layer in zip(reversed(tags), reversed(layers), strict=True):
        seen[tag] |= (layer[..., 3] > 25) & (cover <= 0.9)
        cover = cover + (1 - cover) * layer[..., 3] / 255
    for picture in pages.values():
        cv2.imencode(".png", np.rint(picture).astype(np.uint8))
    return pages[None]


def cpu_seconds(run: Callable[[], object]) -> float:
    """What a call costs."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def measure(folder: Path) -> dict[str, float]:
    """Median costs in seconds; memory in MiB."""
    cv2.setNumThreads(1)
    character, labels = make_character(folder / "characters")
    pictures = [make_background(folder / "photo.jpg")]
    options = RenderOptions()

    def alone(index: int) -> object:
        return render_sample(character, labels, pictures, options, 0, index).files()

    first = [cpu_seconds(partial(alone, index)) for index in range(SAMPLES)]
    renderer = Renderer(character, labels, pictures, options)
    renderer.sample(0, 0)
    more = [cpu_seconds(lambda: renderer.sample(0, 1).files()) for _ in range(SAMPLES)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    files = renderer.sample(0, 0).files()
    plain = cpu_seconds(lambda: reference(character, labels))
    return {
        "layers": len(character.layers),
        "files": len(files),
        "megabytes": sum(map(len, files.values())) / 1e6,
        "cpu_seconds": statistics.median(first),
        "cpu_seconds_decoded_before": statistics.median(more),
        "reference_cpu_seconds": plain,
        "peak_mib": peak,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a rendered sample costs.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    ratio = found["reference_cpu_seconds"] / found["cpu_seconds"]
    print(f"{found['layers']} layers, {found['files']} files, {found['megabytes']:.1f} MB")
    print(f"one sample: {found['cpu_seconds']:.2f} s of CPU")
    print(f"one more of the same character: {found['cpu_seconds_decoded_before']:.2f} s")
    print(
        f"plain float64 compositor: {found['reference_cpu_seconds']:.2f} s,"
        f" {ratio:.1f} times as much"
    )
    torch = "loaded" if "torch" in sys.modules else "not loaded"
    print(f"peak memory {found['peak_mib']:.0f} MiB, with drawing the character; torch {torch}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
