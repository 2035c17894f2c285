"""How closely a Live2D model's layers over each other agree with the engine's own picture.

    EGL_PLATFORM=surfaceless OMP_NUM_THREADS=1 python -m tests.benchmarks.live2d FOLDER [--size=PX]

FOLDER holds a model, with its `.model3.json`. The picture is drawn by live2d-py, with Live2D's own
renderer, through OpenGL without a screen (Mesa's libEGL and libGL). CPU time is that of reading the
model and writing its characters, with that of the process that asks the Cubism Core; median of
three. Whoever runs it accepts Live2D's terms.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Without shortcuts in the choice of mipmaps, which other drivers don't take.
os.environ.setdefault("GALLIVM_PERF", "no_brilinear,no_rho_approx")

from seethrough.characters.form import Image8, flatten, read_character, straight_rgba
from seethrough.ingest.compare import agreement
from seethrough.ingest.live2d_core import ask
from seethrough.ingest.live2d_files import OPEN, REST, choose_poses, find_files
from seethrough.ingest.live2d_layers import canvas_size
from seethrough.ingest.run import ingest
from seethrough.ingest.settings import IngestSettings

RUNS = 3
POSES = (REST, OPEN)
_SURFACELESS = 0x31DD
_OPENGL = 0x30A2
_NONE = 0x3038
_CONFIG = (0x3033, 0x1, 0x3024, 8, 0x3023, 8, 0x3022, 8, 0x3021, 8, _NONE)
"""Off-screen surfaces, 8 bits of red, green, blue and alpha."""
_RGBA, _BYTES = 0x1908, 0x1401


def make_context(size: tuple[int, int]) -> None:
    """Make OpenGL draw into memory of a size, width and height."""
    egl = ctypes.CDLL("libEGL.so.1")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, arguments in (
        ("eglGetPlatformDisplay", (ctypes.c_uint, pointer, pointer)),
        ("eglCreatePbufferSurface", (pointer, pointer, pointer)),
        ("eglCreateContext", (pointer, pointer, pointer, pointer)),
    ):
        getattr(egl, name).restype, getattr(egl, name).argtypes = pointer, arguments
    egl.eglInitialize.argtypes = (pointer, pointer, pointer)
    egl.eglChooseConfig.argtypes = (pointer, pointer, pointer, number, pointer)
    egl.eglMakeCurrent.argtypes = (pointer, pointer, pointer, pointer)
    display = egl.eglGetPlatformDisplay(_SURFACELESS, None, None)
    config, found = pointer(), number()
    wanted = (number * len(_CONFIG))(*_CONFIG)
    if (
        not egl.eglInitialize(display, None, None)
        or not egl.eglBindAPI(_OPENGL)
        or not egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(found))
    ):
        raise SystemExit("no OpenGL without a screen here: Debian: apt-get install libegl-mesa0")
    sides = (number * 5)(0x3057, size[0], 0x3056, size[1], _NONE)
    surface = egl.eglCreatePbufferSurface(display, config, sides)
    context = egl.eglCreateContext(display, config, None, None)
    if not egl.eglMakeCurrent(display, surface, surface, context):
        raise SystemExit("OpenGL's context can't be made the current one")


def engine_pictures(
    source: Path, size: tuple[int, int], values: list[dict[str, float]]
) -> list[Image8]:
    """The engine's own pictures, straight RGBA, of poses given by the values of all parameters."""
    # Its C++ library has functions of the system's C++ library in it, and must call its own.
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    live2d: Any = importlib.import_module("live2d")

    stored = json.loads(source.read_text("utf-8-sig"))
    # What moves the model, which samples often come without.
    for name in ("Motions", "Physics", "UserData", "Expressions"):
        stored["FileReferences"].pop(name, None)
    gl = ctypes.CDLL("libGL.so.1")
    live2d.init()
    live2d.enableLog(False)
    live2d.glInit()
    pictures: list[Image8] = []
    for pose in values:
        model = live2d.Model()
        model.LoadFromJsonString(json.dumps(stored, indent=1), True, f"{source.parent.absolute()}/")
        model.Resize(*size)
        model.SetAutoBreath(False)
        model.SetAutoBlink(False)
        for at, name in enumerate(model.GetParamIds()):
            model.SetParamByIndex(at, pose[name])
        model.SaveParameters()
        # No time passes, so that neither motions nor physics move it.
        model.Update(0.0)
        ids = model.GetParamIds()
        moved = {name: model.GetParamValueByIndex(at) for at, name in enumerate(ids)}
        away = max(abs(moved[name] - pose[name]) for name in ids)
        live2d.clearBuffer(0.0, 0.0, 0.0, 0.0)
        model.Draw()
        pixels = np.empty((size[1], size[0], 4), np.uint8)
        gl.glReadPixels(0, 0, *size, _RGBA, _BYTES, ctypes.c_void_p(pixels.ctypes.data))
        if away > 1e-3:
            raise SystemExit(f"the engine moved a parameter by {away:g}: another pose is compared")
        # OpenGL's first row is the lowest.
        planes = pixels[::-1].astype(np.float32) / 255
        pictures.append(straight_rgba(planes[..., :3], planes[..., 3]))
    return pictures


def cpu_seconds() -> float:
    """CPU time of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Print the agreement of each pose, and the CPU time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=IngestSettings().live2d_size)
    parser.add_argument("--keep", type=Path, help="folder for the characters and the pictures")
    given = parser.parse_args()
    (source,) = given.folder.glob("*.model3.json")
    settings = IngestSettings(
        accept_live2d_licence=True, live2d_poses=POSES, live2d_size=given.size
    )
    files = find_files(source)
    poses = choose_poses(files, POSES)
    answer = ask(files.moc, [])
    size = canvas_size(answer, given.size)
    ids = answer["parameter_ids"].tolist()
    values = []
    for pose in poses:
        wide = {name for name, _, _ in pose.changes}
        rows = zip(ids, answer["default"], answer["maximum"], strict=True)
        values.append({name: float(top if name in wide else rest) for name, rest, top in rows})
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, str(run)) for run in range(RUNS)]
        for out in outs:
            before = cpu_seconds()
            if failed := ingest([source], settings, out):
                raise SystemExit("\n".join(failed))
            seconds.append(cpu_seconds() - before)
        characters = [read_character(path.parent) for path in outs[0].glob("*/character.json")]
        by_pose = {str(item.provenance.variant).split(",")[0]: item for item in characters}
        flat = [flatten(by_pose[name]) for name in POSES]
        count = sum(len(item.layers) for item in characters)
    make_context(size)
    for name, ours, theirs in zip(POSES, flat, engine_pictures(source, size, values), strict=True):
        print(f"{source.name} {name}, {size[0]} x {size[1]} px: {agreement(ours, theirs)}")
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            for kind, picture in (("ours", ours), ("engine", theirs)):
                path = given.keep / f"{source.name}_{name}_{kind}.png"
                cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    print(f"{count} layers, {statistics.median(seconds):.2f} s of CPU for both characters")


if __name__ == "__main__":
    main()
