"""Write embedded characters as samples in the published layout.

The layout is that of See-through's layer data: beside `base.png` lie `base_ann.json`, one crop
`base_<tag>.png` with `base_<tag>_depth.png` for each layer, `base_depth.png` and the visible masks
in `base.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from seethrough.data.avatars import Character, Layer, Split, draw_character, nearest
from seethrough.data.tags import HEAD, HEAD_PARTS, STORED_MASK_ORDER, TAGS_V2

_OPAQUE = 127
"""A layer hides what is behind it where its alpha is above this."""


def write_characters(folder: Path, split: Split, count: int, size: int, seed: int) -> Path:
    """Draw `count` characters, write them into `folder` and return the path of their sample list.

    The list is `<folder>/<split>.txt`: one page's path a line, relative to the list's folder.
    Character `index` is the same for any `count` above it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for index in range(count):
        digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest()
        character = draw_character(int.from_bytes(digest, "little"), split, size)
        base = folder / f"{split}_{index:05d}"
        write_sample(character, base)
        lines.append(f"{base.name}.png\n")
    sample_list = folder / f"{split}.txt"
    sample_list.write_text("".join(lines), encoding="utf-8")
    return sample_list


def write_sample(character: Character, base: Path) -> None:
    """Write one character's files; `base` is the page's path without extension."""
    layers = {layer.tag: layer for layer in character.layers}
    visible = visible_masks(character)
    if character.head is not None:
        layers[HEAD] = character.head
    annotation: dict[str, Any] = {tag: _absent() for tag in TAGS_V2}
    for tag, layer in layers.items():
        x1, y1, x2, y2 = _box(layer)
        crop = (slice(y1, y2), slice(x1, x2))
        _write(base, f"_{tag}.png", layer.rgba[crop])
        _write(base, f"_{tag}_depth.png", layer.depth[crop])
        annotation[tag] = {
            "valid": bool(visible[tag].any()),
            "exists": True,
            "xyxy": [x1, y1, x2, y2],
        }
    _write(base, ".png", character.page)
    _write(base, "_depth.png", nearest(character.layers))
    _write_json(
        base.with_name(f"{base.name}_ann.json"),
        {
            "cleaned": True,
            "is_incomplete": False,
            "final_size": [character.size, character.size],
            "layer_alpha": "straight",
            "tag_info": annotation,
        },
    )
    empty = np.zeros((character.size, character.size), dtype=bool)
    masks = [_run_lengths(visible.get(tag, empty)) for tag in STORED_MASK_ORDER]
    _write_json(base.with_name(f"{base.name}.json"), masks)


def visible_masks(character: Character) -> dict[str, NDArray[np.bool_]]:
    """What of each layer, and of `head`, is opaque and not behind an opaque pixel: (H, W) bool."""
    hidden = np.zeros((character.size, character.size), dtype=bool)
    masks: dict[str, NDArray[np.bool_]] = {}
    for layer in reversed(character.layers):
        opaque = layer.rgba[..., 3] > _OPAQUE
        masks[layer.tag] = opaque & ~hidden
        hidden |= opaque
    head = np.zeros_like(hidden)
    for tag in HEAD_PARTS:
        head |= masks.get(tag, False)
    return {**masks, HEAD: head}


def _absent() -> dict[str, Any]:
    return {"valid": False, "exists": False, "xyxy": [0, 0, 0, 0]}


def _box(layer: Layer) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the pixels with any alpha, ends excluded."""
    rows = np.flatnonzero(layer.rgba[..., 3].any(axis=1))
    columns = np.flatnonzero(layer.rgba[..., 3].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    height, width = (int(side) for side in encoded["size"])
    return {
        "size": [height, width],
        "counts": cast(bytes, encoded["counts"]).decode("ascii"),
        "is_valid": True,
    }


def _write(base: Path, suffix: str, picture: NDArray[np.uint8]) -> None:
    encoded = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", encoded)
    if not done:
        raise RuntimeError(f"{base}{suffix}: OpenCV encoded no PNG")
    base.with_name(base.name + suffix).write_bytes(data.tobytes())


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
