"""Looks for pairs of Trans10K that are broken or turned, and writes a corrected copy.

A few of the published masks are turned by 90 degrees to their photos. Which way is told by the
photo: glass has edges, so the right way puts the mask's outline where the photo's edges are.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import cv2
import numpy as np
from PIL import Image

from seethrough.data.pictures import decode
from seethrough.data.trans10k import (
    MASK_SUFFIX,
    SPLITS,
    Pair,
    expected_pairs,
    read_mask,
    read_photo,
    size_text,
)
from seethrough.errors import InputError

Turn = Image.Transpose

ORIENTATIONS: dict[int, Turn] = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
"""What brings a stored photo upright, by the orientation that its camera noted (EXIF)."""

_SURE = 1.1
"""One way of turning a mask is right if it puts the outline on edges this many times stronger."""

_EDGE_SIDE = 512
"""Longer side in pixels at which edges are compared."""


@attrs.frozen
class Finding:
    """What is wrong with a pair."""

    pair: Pair
    problem: str
    turn: Turn | None = None
    """What brings the mask onto the photo; None where nothing is known to."""


def check(root: str | Path) -> tuple[list[Pair], list[Finding], list[Path]]:
    """Open every pair of all splits: the pairs, what is wrong, and masks that no photo has.

    Raises InputError if the folder is absent or has no photo at all.
    """
    pairs = [pair for split in SPLITS for pair in expected_pairs(root, split)]
    if not pairs:
        raise InputError(
            f"{root}: no split has a photo; lay the folder out as Trans10K: "
            "python -m seethrough.trans10k --help"
        )
    expected = {pair.mask for pair in pairs}
    folders = {pair.mask.parent for pair in pairs}
    lonely = [
        mask
        for folder in sorted(folders)
        for mask in sorted(folder.glob(f"*{MASK_SUFFIX}"))
        if mask not in expected
    ]
    # Decoding lets other threads run.
    with ThreadPoolExecutor() as pool:
        findings = [finding for finding in pool.map(check_pair, pairs) if finding is not None]
    return pairs, findings, lonely


def check_pair(pair: Pair) -> Finding | None:
    """Open a pair and say what is wrong with it, if anything is."""
    try:
        photo, mask = read_photo(pair.photo), read_mask(pair.mask, pair.version)
        orientation = _orientation(pair.photo)
    except InputError as error:
        return Finding(pair, str(error))
    noted = ORIENTATIONS.get(orientation)
    sizes = f"{size_text(photo)} px and {size_text(mask)} px"
    if photo.shape[:2] == mask.shape:
        if noted is None or (_swaps(noted) and mask.shape[0] != mask.shape[1]):
            return None
        as_it_is, turned = _edges_under(photo, mask), _edges_under(photo, turned_by(mask, noted))
        if turned <= _SURE * as_it_is:
            return None
        return Finding(pair, _as_stored(orientation), noted)
    if photo.shape[:2] != mask.shape[::-1]:
        return Finding(pair, f"{sizes}: neither equal nor turned")
    if noted is not None and _swaps(noted):
        return Finding(pair, f"{sizes}: {_as_stored(orientation)}", noted)
    ways = {turn: turned_by(mask, turn) for turn in (Turn.ROTATE_90, Turn.ROTATE_270)}
    edges = {turn: _edges_under(photo, way) for turn, way in ways.items()}
    best, other = sorted(edges, key=lambda turn: edges[turn], reverse=True)
    if edges[best] <= _SURE * edges[other]:
        return Finding(pair, f"{sizes}: turned by 90 degrees, which way can't be told")
    way = "counter-clockwise" if best is Turn.ROTATE_90 else "clockwise"
    return Finding(pair, f"{sizes}: the mask fits when it is turned {way} by 90 degrees", best)


def write_corrected(
    root: str | Path, pairs: Iterable[Pair], findings: Iterable[Finding], folder: str | Path
) -> int:
    """Copy all pairs that are right or can be corrected; returns how many.

    Photos are copied byte by byte, so one with a camera's orientation keeps it; masks lie as
    photos are seen. Raises InputError if `folder` exists and isn't empty.
    """
    root, folder = Path(root), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not an empty folder; name a new one for the corrected copy")
    found = {finding.pair: finding for finding in findings}
    copied = 0
    for pair in pairs:
        finding = found.get(pair)
        if finding is not None and finding.turn is None:
            continue
        photo, mask = (folder / path.relative_to(root) for path in (pair.photo, pair.mask))
        for path in (photo, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pair.photo, photo)
        if finding is None or finding.turn is None:
            shutil.copyfile(pair.mask, mask)
        else:
            # Pillow keeps a palette, and so the classes of version 2.
            decode(pair.mask, pair.mask.read_bytes()).transpose(finding.turn).save(mask)
        copied += 1
    return copied


def report(
    root: str | Path, pairs: list[Pair], findings: list[Finding], lonely: list[Path]
) -> Iterator[str]:
    """What was found, line by line, for a person."""
    for finding in findings:
        photo, mask = (path.relative_to(root) for path in (finding.pair.photo, finding.pair.mask))
        yield f"{photo} and {mask}: {finding.problem}"
    for mask in lonely:
        yield f"{mask.relative_to(root)}: no photo has this mask"
    kinds = Counter("mend" if finding.turn else "broken" for finding in findings)
    yield (
        f"{len(pairs)} pairs: {len(pairs) - len(findings)} right, {kinds['mend']} that a corrected "
        f"copy mends, {kinds['broken']} that it leaves out; {len(lonely)} masks without a photo"
    )


def turned_by(mask: np.ndarray, turn: Turn) -> np.ndarray:
    """A mask (H, W) uint8, turned."""
    return np.asarray(Image.fromarray(mask).transpose(turn))


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(0x0112, 1))


def _swaps(turn: Turn) -> bool:
    return turn in (Turn.ROTATE_90, Turn.ROTATE_270, Turn.TRANSPOSE, Turn.TRANSVERSE)


def _as_stored(orientation: int) -> str:
    return f"the mask lies as the photo is stored, but its camera noted orientation {orientation}"


def _edges_under(photo: np.ndarray, mask: np.ndarray) -> float:
    """How strong a photo's edges are where a mask has its outline, on average; 0 without one."""
    scale = min(_EDGE_SIDE / max(mask.shape), 1)
    size = tuple(max(round(side * scale), 1) for side in mask.shape[::-1])
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    slopes = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # Hands draw outlines a little off: the strongest edge near a pixel counts.
    near = cv2.dilate(slopes, np.ones((5, 5), np.uint8))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    outline = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    # A picture's border is no outline of an object, nor an edge.
    outline[[0, -1]] = outline[:, [0, -1]] = False
    return float(near[outline].mean()) if outline.any() else 0.0
