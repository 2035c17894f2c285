"""Read one sample of the published on-disk layout.

With `base` the page's path without its suffix:

- `base.png`: the page, RGBA; RGB is the picture with its background, A the character's alpha.
- `base_ann.json`: `final_size` [height, width] and `tag_info`, per tag `exists` and `xyxy`.
- `base_<tag>.png`: one layer, RGBA, exactly as large as its `xyxy`.
- `base_<tag>_depth.png`, `base_depth.png`: depth levels, 8 or 16 bit; 0 is empty, larger nearer.
- `base.json`: run-length coded visible masks in the order of `STORED_MASK_ORDER`.
- `base.txt`, `base_<tag>.txt`: optional captions.

They lie in a folder, or in a shard (`seethrough.data.shards`), where they have paths too.

The published renderer writes layers with premultiplied colour and the published datasets read
them as straight. Here the annotation may say which one it is (`"layer_alpha"`: `"straight"` or
`"premultiplied"`); where it is silent the reader's caller says.
"""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import cv2
import numpy as np

from seethrough.data.pictures import as_rgba, broken, decode
from seethrough.data.shards import is_file, read_bytes
from seethrough.data.tags import STORED_MASK_ORDER, TAGS_V2, TRAINING_TAGS
from seethrough.errors import InputError

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the page; x2 and y2 are exclusive."""

LayerAlpha = Literal["straight", "premultiplied"]
"""How the colour of a stored layer relates to its alpha."""

KNOWN_TAGS = frozenset({*TAGS_V2, *TRAINING_TAGS})
"""What an annotation may name."""


_PLAIN_RGBA = b"\x89PNG\r\n\x1a\n" + b"IHDR" + b"\x08\x06"
"""A PNG's signature, the name of its first chunk, and therein 8 bit and RGBA."""


@attrs.frozen
class Sample:
    """What is known of a sample before any picture is decoded."""

    page_path: Path
    """The page's file."""
    size: tuple[int, int] | None
    """Height and width of the page in pixels; None if the sample has no annotation."""
    boxes: Mapping[str, Box]
    """The layers that exist, by tag, with their place on the page."""
    layer_alpha: LayerAlpha
    """How the layers are stored."""

    @property
    def name(self) -> str:
        """The page's file name without its suffix."""
        return self.page_path.stem

    def path(self, ending: str) -> Path:
        """Return a file of this sample: the page's path, its suffix replaced by `ending`."""
        return self.page_path.with_name(self.name + ending)

    def layer_path(self, tag: str) -> Path:
        """Return the file of a layer."""
        return self.path(f"_{tag}.png")

    def depth_path(self, tag: str | None = None) -> Path:
        """Return the file of a layer's depth, or of the page's."""
        return self.path("_depth.png" if tag is None else f"_{tag}_depth.png")

    def page(self) -> np.ndarray:
        """Decode the page: (H, W, 4) uint8 RGBA; a page without alpha is opaque."""
        pixels = _rgba(self.page_path, needs_alpha=False)
        if self.size is not None:
            _check_size(self.page_path, pixels, self.size, "final_size")
        return pixels

    def layer(self, tag: str) -> np.ndarray:
        """Decode a layer: (h, w, 4) uint8 RGBA with straight alpha, as large as its box."""
        path = self.layer_path(tag)
        pixels = _rgba(path, needs_alpha=True)
        _check_size(path, pixels, _extent(self.boxes[tag]), f"xyxy of '{tag}'")
        return straight(pixels) if self.layer_alpha == "premultiplied" else pixels

    def depth(self, tag: str | None = None) -> np.ndarray:
        """Decode a layer's depth, or the page's: (h, w) uint8 or uint16; 0 is empty.

        Larger is nearer. Levels count within the sample and are not normalised.
        """
        path = self.depth_path(tag)
        image = decode(path, _read_picture(path))
        if image.mode not in ("L", "I;16", "I"):
            raise InputError(
                f"{path}: a depth has one channel of 8 or 16 bit, but this is {image.mode}"
            )
        levels = np.asarray(image)
        if tag is not None:
            _check_size(path, levels, _extent(self.boxes[tag]), f"xyxy of '{tag}'")
        elif self.size is not None:
            _check_size(path, levels, self.size, "final_size")
        return levels if image.mode == "L" else levels.astype(np.uint16)

    def masks(self, tags: Collection[str] = STORED_MASK_ORDER) -> dict[str, np.ndarray]:
        """Decode the visible masks of some tags: (H, W) bool.

        They are looked up by name: stored with `head` last, while training lists have it first.
        The mask of `legwear` includes the footwear.
        """
        from pycocotools import mask as coco

        path = self.path(".json")
        stored = _read_json(path, "visible masks")
        if not isinstance(stored, list) or len(stored) != len(STORED_MASK_ORDER):
            found = f"{len(stored)} entries" if isinstance(stored, list) else "no list"
            raise InputError(
                f"{path}: expected a list of {len(STORED_MASK_ORDER)} masks (the V3 tags, then "
                f"head), found {found}"
            )
        masks: dict[str, np.ndarray] = {}
        for tag in tags:
            if tag not in STORED_MASK_ORDER:
                raise InputError(f"{path}: visible masks are those of the V3 tags, not of '{tag}'")
            try:
                masks[tag] = coco.decode(stored[STORED_MASK_ORDER.index(tag)]).astype(bool)
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise InputError(f"{path}: the mask of '{tag}' can't be read: {error}") from error
            if self.size is not None:
                _check_size(path, masks[tag], self.size, f"final_size, for the mask of '{tag}'")
        return masks

    def masks_hash(self) -> str:
        """Hash the bytes of the visible masks: 32 hex digits."""
        return hashlib.blake2b(_read_bytes(self.path(".json")), digest_size=16).hexdigest()

    def depths_hash(self) -> str:
        """Hash the bytes of the depths of the page and of every layer that has one."""
        paths = [self.depth_path(tag) for tag in (None, *sorted(self.boxes))]
        return _files_hash(path for path in paths if is_file(path))

    def bytes_hash(self) -> str:
        """Hash the bytes of the page, the annotation and every layer: 32 hex digits.

        `layer_alpha`, which says how the layers' bytes are read, is in it too.
        """
        annotation = () if self.size is None else (self.path("_ann.json"),)
        layers = map(self.layer_path, sorted(self.boxes))
        return _files_hash((self.page_path, *annotation, *layers), self.layer_alpha)


def read_sample(page_path: str | Path, layer_alpha: LayerAlpha = "straight") -> Sample:
    """Read a sample's annotation; no picture is decoded.

    `layer_alpha` tells how the layers are stored if the annotation doesn't. A page without
    annotation makes a sample without layers.

    Raises InputError if the annotation can't be read, names an unknown tag, or gives a box that
    does not lie on the page.
    """
    page_path = Path(page_path)
    path = page_path.with_name(page_path.stem + "_ann.json")
    if not is_file(path):
        return Sample(page_path, None, {}, layer_alpha)
    content = _read_json(path, "annotation")
    if not isinstance(content, dict) or not isinstance(content.get("tag_info"), dict):
        raise InputError(f"{path}: the annotation needs an object 'tag_info'")
    height, width = _whole_numbers(path, content, "final_size", 2)
    if height < 1 or width < 1:
        raise InputError(f"{path}: 'final_size' must be positive, found {[height, width]}")
    stored = content.get("layer_alpha", layer_alpha)
    if stored not in get_args(LayerAlpha):
        raise InputError(
            f"{path}: 'layer_alpha' must be 'straight' or 'premultiplied', found {stored!r}"
        )
    boxes = {
        tag: _box(path, tag, info, height, width)
        for tag, info in content["tag_info"].items()
        if _exists(path, tag, info)
    }
    return Sample(page_path, (height, width), boxes, stored)


def straight(premultiplied: np.ndarray) -> np.ndarray:
    """Divide the colour of (h, w, 4) uint8 RGBA by its alpha; 0 where alpha is 0."""
    alpha = cv2.extractChannel(premultiplied, 3)
    result = cv2.copyTo(premultiplied, alpha)
    # Most pixels are opaque or empty.
    partial = np.flatnonzero(cv2.inRange(alpha, 1, 254))
    pixels = result.reshape(-1, 4)[partial].astype(np.uint32)
    a = pixels[:, 3:]
    pixels[:, :3] = np.minimum((pixels[:, :3] * 255 + a // 2) // a, 255)
    result.reshape(-1, 4)[partial] = pixels
    return result


def check_tag(tag: str, source: str) -> None:
    """Raise InputError for a tag that no list has; `source` says where it was found."""
    if tag not in KNOWN_TAGS:
        near = difflib.get_close_matches(tag, sorted(KNOWN_TAGS), n=3)
        hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(KNOWN_TAGS))}"
        raise InputError(f"{source}: unknown tag '{tag}'; {hint}")


def _exists(path: Path, tag: str, info: Any) -> bool:
    check_tag(tag, str(path))
    if not isinstance(info, dict):
        raise InputError(f"{path}: 'tag_info' of '{tag}' must be an object, found {info!r}")
    return bool(info.get("exists", False))


def _box(path: Path, tag: str, info: dict[str, Any], height: int, width: int) -> Box:
    x1, y1, x2, y2 = _whole_numbers(path, info, "xyxy", 4, f" of '{tag}'")
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise InputError(
            f"{path}: 'xyxy' of '{tag}' is {[x1, y1, x2, y2]}, which is empty or not inside the "
            f"page of {width} x {height} pixels"
        )
    return x1, y1, x2, y2


def _whole_numbers(
    path: Path, content: dict[str, Any], key: str, count: int, of: str = ""
) -> list[int]:
    value = content.get(key)
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    ):
        raise InputError(f"{path}: '{key}'{of} must be {count} whole numbers, found {value!r}")
    return value


def _extent(box: Box) -> tuple[int, int]:
    x1, y1, x2, y2 = box
    return y2 - y1, x2 - x1


def _check_size(path: Path, pixels: np.ndarray, size: tuple[int, int], source: str) -> None:
    if pixels.shape[:2] != size:
        raise InputError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels, but the annotation says "
            f"{size[1]} x {size[0]} ({source}); render the sample again"
        )


def _files_hash(paths: Iterable[Path], start: str = "") -> str:
    """Hash a text, and the names and bytes of files: 32 hex digits."""
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for path in paths:
        content = _read_bytes(path)
        digest.update(f"{path.name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(_read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: the {what} can't be read: {error}") from error


def _read_picture(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, though its sample names it") from error
    except OSError as error:
        raise broken(path, error) from error


def _rgba(path: Path, needs_alpha: bool) -> np.ndarray:
    """Decode a picture as (h, w, 4) uint8 RGBA."""
    content = _read_picture(path)
    pixels = _plain_rgba(content)
    if pixels is not None:
        return pixels
    image = decode(path, content)
    if needs_alpha and not image.has_transparency_data:
        raise InputError(
            f"{path}: a layer needs an alpha channel, but this is {image.mode}; write it as RGBA"
        )
    return as_rgba(image, path)


def _plain_rgba(content: bytes) -> np.ndarray | None:
    """Decode a PNG of 8 bit RGBA by OpenCV, which is faster than Pillow.

    None if it is anything else, or damaged: OpenCV gives up at a wrong checksum.
    """
    if content[:8] + content[12:16] + content[24:26] != _PLAIN_RGBA:
        return None
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels)
