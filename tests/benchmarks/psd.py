"""What writing a decomposition's PSD and depth PSD costs: CPU time, and memory.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.psd FOLDER [--json=PATH]

FOLDER holds a finished decomposition, whole or in its folder `infer/char`: `info.json` with the
tags of the layers, `<tag>.png` and `<tag>_depth.png`. What it is compared with is psd-tools saving
the same layers, with the preview that it renders itself.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from psd_tools import PSDImage

from seethrough.inference.composite import Placed
from seethrough.inference.parts import Part, cut_part, order_parts
from seethrough.inference.psd import write_parts

PAIRS = 7
"""Measured pairs, after one that warms up."""

MIB = 2**20


def read_parts(folder: Path) -> tuple[list[Part], tuple[int, int]]:
    """All layers of a finished decomposition, cut to their boxes, and the canvas' size."""
    parts: list[Part] = []
    size = (0, 0)
    for tag in json.loads((folder / "info.json").read_text())["parts"]:
        rgba = np.asarray(Image.open(folder / f"{tag}.png"))
        depth = np.asarray(Image.open(folder / f"{tag}_depth.png"), np.float32) / np.float32(255)
        size = rgba.shape[:2]
        box = (0, 0, size[1], size[0])
        # The benchmark's 24 layers have `head` among them, which has no place of its own.
        known = "face" if tag == "head" else tag
        parts.append(cut_part(Placed(name=tag, box=box, rgba=rgba), known, depth))
    return order_parts(parts), size


def save_with_psd_tools(folder: Path, parts: Sequence[Part], size: tuple[int, int]) -> None:
    """Save colour and depth as psd-tools does it on its own."""
    height, width = size
    for name, mode in (("psd_tools.psd", "RGBA"), ("psd_tools_depth.psd", "L")):
        document = PSDImage.new(mode, (width, height))
        for part in parts:
            depth = np.rint(part.depth * 255).astype(np.uint8)
            picture = Image.fromarray(part.rgba if mode == "RGBA" else depth)
            left, top = part.box[:2]
            document.create_pixel_layer(picture, name=part.name, top=top, left=left)
        document.save(folder / name)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all of the process's threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_mib(source: Path) -> float:
    """Peak RSS in MiB, above that of the imports, of a process that reads parts and writes them."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (source,))


def _peak(source: Path) -> float:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts, size = read_parts(source)
    with tempfile.TemporaryDirectory() as folder:
        write_parts(Path(folder), "character", parts, size)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024 / MIB


def measure(source: Path) -> dict[str, float | int]:
    """Both ways in turn: medians, and the median of the ratio."""
    parts, size = read_parts(source)
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(PAIRS + 1):
            ours = cpu_seconds(lambda: write_parts(folder, "character", parts, size))
            theirs = cpu_seconds(lambda: save_with_psd_tools(folder, parts, size))
            pairs.append((ours, theirs))
    pairs = pairs[1:]
    ratios = [theirs / ours for ours, theirs in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "layers": len(parts),
        "pairs": len(pairs),
        "cpu_s": statistics.median(ours for ours, _ in pairs),
        "psd_tools_cpu_s": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ratios),
        "ratio_low_quartile": low,
        "ratio_high_quartile": high,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.psd", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder of a finished decomposition")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    source: Path = options.folder
    if not (source / "info.json").exists():
        source = source / "infer" / "char"
    figures = {"peak_mib": peak_mib(source), **measure(source)}
    print(
        "{layers} layers: {cpu_s:.3f} s of CPU, psd-tools {psd_tools_cpu_s:.3f} s: {ratio:.1f}"
        " times (quartiles {ratio_low_quartile:.1f}, {ratio_high_quartile:.1f}); peak"
        " {peak_mib:.0f} MiB above the imports".format(**figures)
    )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
