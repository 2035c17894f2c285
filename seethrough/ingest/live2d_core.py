"""Asks Live2D's Cubism Core about a model, in a process of its own: a crash ends that one alone.

`python -m seethrough.ingest.live2d_core REQUEST.json ANSWER.npz` is that process; `ask` starts it.
The library is the one inside the wheel of live2d-py, called by its C interface; the package itself,
which wants a window, is never imported.

Source: https://docs.live2d.com/en/cubism-sdk-manual/cubism-core-api-reference/
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seethrough.errors import InputError

WHEEL = "live2d-py==1.0.0"
"""What the extra `[live2d]` installs."""

TIMEOUT = 120
"""Seconds after which a model counts as one on which the library hangs."""

MODULE = "seethrough.ingest.live2d_core"
"""What the process runs."""

MAGIC = b"MOC3"
_REFUSED = 3
"""Exit code of the process when it says in a sentence what is wrong."""

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_uint
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "csmGetVersion": (_SIZE, ()),
    "csmGetLatestMocVersion": (_SIZE, ()),
    "csmGetMocVersion": (_SIZE, (_POINTER, _SIZE)),
    "csmHasMocConsistency": (ctypes.c_int, (_POINTER, _SIZE)),
    "csmReviveMocInPlace": (_POINTER, (_POINTER, _SIZE)),
    "csmGetSizeofModel": (_SIZE, (_POINTER,)),
    "csmInitializeModelInPlace": (_POINTER, (_POINTER, _POINTER, _SIZE)),
    "csmReadCanvasInfo": (None, (_POINTER,) * 4),
    "csmUpdateModel": (None, (_POINTER,)),
}
"""Result and arguments; those of the tables below take the model and give a number or a table.
Without them ctypes would cut pointers to 32 bits."""

_COUNTS = {
    "drawable": "csmGetDrawableCount",
    "part": "csmGetPartCount",
    "parameter": "csmGetParameterCount",
    "offscreen": "csmGetOffscreenCount",
}
_IDS = {
    "drawable_ids": ("csmGetDrawableIds", "drawable"),
    "part_ids": ("csmGetPartIds", "part"),
    "parameter_ids": ("csmGetParameterIds", "parameter"),
}
_STATIC = {
    "texture": ("csmGetDrawableTextureIndices", "drawable", ctypes.c_int, 1),
    "flags": ("csmGetDrawableConstantFlags", "drawable", ctypes.c_ubyte, 1),
    "blend": ("csmGetDrawableBlendModes", "drawable", ctypes.c_int, 1),
    "part": ("csmGetDrawableParentPartIndices", "drawable", ctypes.c_int, 1),
    "part_parent": ("csmGetPartParentPartIndices", "part", ctypes.c_int, 1),
    "part_offscreen": ("csmGetPartOffscreenIndices", "part", ctypes.c_int, 1),
    "minimum": ("csmGetParameterMinimumValues", "parameter", ctypes.c_float, 1),
    "maximum": ("csmGetParameterMaximumValues", "parameter", ctypes.c_float, 1),
    "default": ("csmGetParameterDefaultValues", "parameter", ctypes.c_float, 1),
    "offscreen_blend": ("csmGetOffscreenBlendModes", "offscreen", ctypes.c_int, 1),
    "offscreen_flags": ("csmGetOffscreenConstantFlags", "offscreen", ctypes.c_ubyte, 1),
}
"""Tables that no pose changes: function, rows, type, columns."""
_RAGGED = {
    "mask": ("csmGetDrawableMasks", "csmGetDrawableMaskCounts", "drawable", ctypes.c_int, 1),
    "uv": ("csmGetDrawableVertexUvs", "csmGetDrawableVertexCounts", "drawable", ctypes.c_float, 2),
    "index": ("csmGetDrawableIndices", "csmGetDrawableIndexCounts", "drawable", ctypes.c_ushort, 1),
    "offscreen_mask": (
        "csmGetOffscreenMasks",
        "csmGetOffscreenMaskCounts",
        "offscreen",
        ctypes.c_int,
        1,
    ),
}
"""Tables whose rows differ in length: function, lengths, rows, type, columns."""
_POSED = {
    "opacity": ("csmGetDrawableOpacities", "drawable", ctypes.c_float, 1),
    "dynamic": ("csmGetDrawableDynamicFlags", "drawable", ctypes.c_ubyte, 1),
    "multiply": ("csmGetDrawableMultiplyColors", "drawable", ctypes.c_float, 4),
    "screen": ("csmGetDrawableScreenColors", "drawable", ctypes.c_float, 4),
    "order": ("csmGetRenderOrders", "drawable", ctypes.c_int, 1),
    "offscreen_opacity": ("csmGetOffscreenOpacities", "offscreen", ctypes.c_float, 1),
    "offscreen_multiply": ("csmGetOffscreenMultiplyColors", "offscreen", ctypes.c_float, 4),
    "offscreen_screen": ("csmGetOffscreenScreenColors", "offscreen", ctypes.c_float, 4),
}
"""Tables of a pose."""
_LIVE = ("csmGetParameterValues", "csmGetPartOpacities")
_POSITIONS = "csmGetDrawableVertexPositions"

Answer = dict[str, np.ndarray]
Pose = Mapping[str, Any]
"""`parameters`: [[id, value, "set" | "add" | "multiply"], ...], where a value may be "max";
`parts`: {id: opacity}. Ids that a model lacks are passed over."""


class _RefusedError(Exception):
    """What is wrong with the model, in a sentence."""


def library() -> Path:
    """The library inside the wheel, found without importing the package.

    Raises:
        InputError: when the extra isn't installed.
    """
    found = importlib.util.find_spec("live2d")
    for folder in (found and found.submodule_search_locations) or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / f"_live2d{suffix}"
            if path.exists():
                return path
    raise InputError(
        "Live2D models need the extra [live2d], which isn't installed:"
        f" pip install 'seethrough[live2d]' (that is {WHEEL})"
    )


def ask(moc: Path, poses: list[Pose]) -> Answer:
    """What a model consists of, and how it looks in each pose.

    Returns tables by their names in `_STATIC`, `_RAGGED` (with `<name>_count`) and `_IDS`, `canvas`
    (width, height, origin x and y in px, px a unit), `moc_version`, and of pose 0 the tables of
    `_POSED` as `0/<name>`, with `0/position`, x and y of all vertices in units, y up.

    Raises:
        InputError: when the extra isn't installed, or naming the file, when the library refuses
            it, crashes or hangs.
    """
    path = library()
    with tempfile.TemporaryDirectory(prefix="seethrough-") as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.npz")
        request.write_text(
            json.dumps({"library": str(path), "moc": str(moc.absolute()), "poses": poses})
        )
        command = [sys.executable, "-m", MODULE, str(request), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"{moc}: Live2D's library hung on it for {TIMEOUT} s: export the model again"
            ) from error
        if done.returncode == 0:
            with np.load(answer, allow_pickle=False) as tables:
                return dict(tables)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == _REFUSED:
        raise InputError(f"{moc}: {said[-1]}")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise InputError(
            f"{moc}: Live2D's library crashed on it ({name}); it is corrupt: export it again"
        )
    raise InputError(f"{moc}: reading it failed: {said[-1] if said else done.returncode}")


def _load(path: str) -> ctypes.CDLL:
    """Load the library, with the types of all that is called."""
    try:
        core = ctypes.CDLL(path)
    except OSError as error:
        raise _RefusedError(
            f"Live2D's library can't be loaded ({error}): it needs the system's X libraries"
            " (Debian: apt-get install libx11-6 libxext6)"
        ) from error
    functions = dict(_FUNCTIONS)
    functions |= {name: (ctypes.c_int, (_POINTER,)) for name in _COUNTS.values()}
    functions |= {name: (_table(ctypes.c_char_p), (_POINTER,)) for name, _ in _IDS.values()}
    for name, _, kind, _ in (*_STATIC.values(), *_POSED.values()):
        functions[name] = (_table(kind), (_POINTER,))
    for name, count, _, kind, _ in _RAGGED.values():
        functions[name] = (_table(_table(kind)), (_POINTER,))
        functions[count] = (_table(ctypes.c_int), (_POINTER,))
    functions[_POSITIONS] = (_table(_table(ctypes.c_float)), (_POINTER,))
    functions |= {name: (_table(ctypes.c_float), (_POINTER,)) for name in _LIVE}
    for name, (result, arguments) in functions.items():
        function = getattr(core, name, None)
        if function is None:
            raise _RefusedError(f"the installed live2d-py has no function {name}: install {WHEEL}")
        function.restype, function.argtypes = result, arguments
    return core


def _table(kind: Any) -> Any:
    return ctypes.POINTER(kind)


def _aligned(size: int, alignment: int) -> tuple[Any, int]:
    """Memory, to be kept as long as its address is used."""
    memory = ctypes.create_string_buffer(size + alignment)
    return memory, -(-ctypes.addressof(memory) // alignment) * alignment


class _Model:
    """A model in the library's memory."""

    def __init__(self, core: ctypes.CDLL, data: bytes) -> None:
        self.core = core
        self.moc_memory, moc = _aligned(len(data), 64)
        ctypes.memmove(moc, data, len(data))
        self.version = core.csmGetMocVersion(moc, len(data))
        if self.version > core.csmGetLatestMocVersion():
            raise _RefusedError(
                f"its format is version {self.version}; the library reads up to"
                f" {core.csmGetLatestMocVersion()}: export it for an older Cubism SDK"
            )
        # Anything else on an inconsistent file may write outside of its memory.
        if not core.csmHasMocConsistency(moc, len(data)):
            raise _RefusedError("the file is inconsistent, so it is corrupt: export it again")
        revived = core.csmReviveMocInPlace(moc, len(data))
        size = core.csmGetSizeofModel(revived) if revived else 0
        self.memory, model = _aligned(size, 16)
        self.model = core.csmInitializeModelInPlace(revived, model, size) if size else None
        if not self.model:
            raise _RefusedError("Live2D's library can't make a model of it: export it again")
        self.counts = {kind: max(self.call(name), 0) for kind, name in _COUNTS.items()}

    def call(self, name: str) -> Any:
        return getattr(self.core, name)(self.model)

    def table(self, name: str, rows: str, columns: int, live: bool = False) -> np.ndarray:
        """A table of one row each; a live one may be written to."""
        count = self.counts[rows]
        pointer = self.call(name)
        if not count or not pointer:
            return np.zeros((0, columns) if columns > 1 else 0, np.float32)
        if columns > 1:
            return np.ctypeslib.as_array(pointer, (count, columns)).copy()
        found = np.ctypeslib.as_array(pointer, (count,))
        return found if live else found.copy()

    def ragged(self, name: str, lengths: np.ndarray, columns: int) -> np.ndarray:
        """Rows of different lengths, one after the other."""
        rows = self.call(name)
        shape = (columns,) if columns > 1 else ()
        found = [
            np.ctypeslib.as_array(rows[at], (int(length), *shape))
            for at, length in enumerate(lengths)
            if length > 0
        ]
        return np.concatenate(found).copy() if found else np.zeros((0, *shape), np.float32)


def posed_values(
    ids: list[str],
    default: np.ndarray,
    minimum: np.ndarray,
    maximum: np.ndarray,
    changes: list[tuple[str, float | str, str]],
) -> np.ndarray:
    """Values of all parameters in a pose: their defaults, changed in turn, within their limits."""
    values = default.copy()
    places = {name: at for at, name in enumerate(ids)}
    for name, value, how in changes:
        at = places.get(name)
        if at is None:
            continue
        given = float(maximum[at] if value == "max" else value)
        if how == "add":
            values[at] += given
        elif how == "multiply":
            values[at] *= given
        else:
            values[at] = given
    return np.clip(values, minimum, maximum)


def _answer(model: _Model, poses: list[Pose]) -> Answer:
    canvas = [ctypes.c_float * 2, ctypes.c_float * 2, ctypes.c_float * 1]
    size, origin, unit = (kind() for kind in canvas)
    model.core.csmReadCanvasInfo(model.model, size, origin, unit)
    answer = {
        "moc_version": np.array(model.version),
        "canvas": np.array([*size, *origin, *unit], np.float64),
    }
    for name, (function, rows) in _IDS.items():
        pointer = model.call(function)
        texts = [pointer[at].decode(errors="replace") for at in range(model.counts[rows])]
        answer[name] = np.array(texts, dtype=np.str_)
    for name, (function, rows, _, columns) in _STATIC.items():
        answer[name] = model.table(function, rows, columns)
    for name, (function, count, rows, _, columns) in _RAGGED.items():
        lengths = np.maximum(model.table(count, rows, 1), 0).astype(np.int64)
        answer[f"{name}_count"] = lengths
        answer[name] = model.ragged(function, lengths, columns)
    parameters = model.table("csmGetParameterValues", "parameter", 1, live=True)
    parts = model.table("csmGetPartOpacities", "part", 1, live=True)
    at_rest = parts.copy()
    limits = (answer["default"], answer["minimum"], answer["maximum"])
    for number, pose in enumerate(poses):
        ids = answer["parameter_ids"].tolist()
        parameters[:] = posed_values(ids, *limits, pose["parameters"])
        parts[:] = at_rest
        for at, name in enumerate(answer["part_ids"].tolist()):
            parts[at] = pose["parts"].get(name, parts[at])
        model.core.csmUpdateModel(model.model)
        for name, (function, rows, _, columns) in _POSED.items():
            answer[f"{number}/{name}"] = model.table(function, rows, columns)
        answer[f"{number}/position"] = model.ragged(_POSITIONS, answer["uv_count"], 2)
    return answer


def main(request: str, answer: str) -> int:
    """Answer one request; returns the exit code."""
    asked = json.loads(Path(request).read_text())
    try:
        data = Path(asked["moc"]).read_bytes()
        if data[:4] != MAGIC:
            raise _RefusedError("no model of Live2D Cubism 3 or newer: its bytes don't begin so")
        tables = _answer(_Model(_load(asked["library"]), data), asked["poses"])
    except (_RefusedError, OSError) as problem:
        print(problem, file=sys.stderr)
        return _REFUSED
    np.savez(answer, allow_pickle=False, **tables)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
