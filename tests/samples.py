"""Write tiny valid samples in the published layout, for tests."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from seethrough.data.layout import Box
from seethrough.data.tags import HEAD, HEAD_PARTS, STORED_MASK_ORDER, TAGS_V2


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 or uint16 pixels as they are."""
    Image.fromarray(pixels).save(path)


def write_sample(
    folder: Path,
    name: str,
    size: tuple[int, int] = (48, 40),
    tags: Sequence[str] | Mapping[str, Box] = ("front hair", "head", "topwear", "legwear"),
    seed: int = 0,
) -> Path:
    """Write a character of soft-edged, coloured layers on a background; returns its page.

    `size` is (height, width). `tags` are drawn back to front, in boxes chosen by `seed` or given.
    Layers have straight alpha; the page shows them over each other, with the character's alpha.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *name.encode()])
    height, width = size
    boxes = dict(tags) if isinstance(tags, Mapping) else {t: _box(rng, size) for t in tags}
    colour = rng.integers(0, 256, (height, width, 3)) / 255.0
    cover = np.zeros((height, width, 1))
    depth = np.zeros((height, width), np.uint8)
    visible = {tag: np.zeros((height, width), bool) for tag in STORED_MASK_ORDER}
    for level, (tag, box) in enumerate(boxes.items(), start=1):
        x1, y1, x2, y2 = box
        layer = _layer(rng, y2 - y1, x2 - x1)
        write_png(folder / f"{name}_{tag}.png", layer)
        solid = layer[..., 3] > 25
        write_png(folder / f"{name}_{tag}_depth.png", (solid * level).astype(np.uint8))
        if tag == HEAD and any(part in boxes for part in HEAD_PARTS):
            continue  # The head is its parts; on the page they stand for it.
        rgb, alpha = layer[..., :3] / 255.0, layer[..., 3:] / 255.0
        here = np.s_[y1:y2, x1:x2]
        colour[here] = rgb * alpha + colour[here] * (1 - alpha)
        cover[here] = alpha + cover[here] * (1 - alpha)
        depth[here][solid] = level
        for other in visible.values():
            other[here] &= ~solid
        if tag in visible:
            visible[tag][here] |= solid
    page = np.rint(np.dstack([colour, cover]) * 255).astype(np.uint8)
    write_png(folder / f"{name}.png", page)
    write_png(folder / f"{name}_depth.png", depth)
    write_json(folder / f"{name}.json", [run_lengths(visible[t]) for t in STORED_MASK_ORDER])
    write_json(folder / f"{name}_ann.json", annotation(size, boxes))
    return folder / f"{name}.png"


def write_list(path: Path, pages: Iterable[Path]) -> Path:
    """Write a text list of pages, relative to the list's folder."""
    path.write_text("".join(f"{page.relative_to(path.parent)}\n" for page in pages))
    return path


def annotation(size: tuple[int, int], boxes: Mapping[str, Box]) -> dict[str, object]:
    """Make an annotation as the published renderer: all V2 tags are named, V3's if they exist."""
    info: dict[str, object] = {tag: {"valid": True, "exists": False} for tag in TAGS_V2}
    info |= {tag: {"valid": True, "exists": True, "xyxy": list(box)} for tag, box in boxes.items()}
    return {
        "cleaned": True,
        "is_incomplete": False,
        "final_size": list(size),
        "tag_info": info,
    }


def run_lengths(mask: np.ndarray) -> dict[str, object]:
    """Code a bool mask (H, W) as COCO does."""
    counts: Any = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return {"size": list(mask.shape), "counts": counts.decode()}


def write_json(path: Path, content: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content))


def _box(rng: np.random.Generator, size: tuple[int, int]) -> Box:
    height, width = size
    h, w = rng.integers(height // 3, height * 2 // 3), rng.integers(width // 3, width * 2 // 3)
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return int(x), int(y), int(x + w), int(y + h)


def _layer(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A soft ellipse whose colour runs along the diagonal, so that no mirroring is overlooked."""
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None]
    alpha = np.clip((1.1 - np.hypot(x, y)) * min(height, width) / 4, 0, 1)
    first, last = rng.integers(0, 256, (2, 3))
    share = (x + y + 2)[..., None] / 4
    rgb = np.broadcast_to(first * (1 - share) + last * share, (height, width, 3))
    layer = np.rint(np.dstack([rgb, alpha * 255])).astype(np.uint8)
    layer[layer[..., 3] == 0] = 0
    return layer
