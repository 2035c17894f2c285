"""What comes with the package: a small model that needs no network, and a picture to try it on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from seethrough.errors import InputError

FOLDER = Path(str(files("seethrough"))) / "avatars_model"
"""Holds `layers` and, where there is a model of depth, `depth`, exported as
`python -m seethrough.hub export` does, and a picture."""

EXAMPLE = "example.png"


def packaged_model(folder: Path) -> tuple[Path, Path | None]:
    """The folders of the model of layers and, if there is one, of the model of depth.

    Raises:
        InputError: when the layers' is not there.
    """
    layers, depth = folder / "layers", folder / "depth"
    if not layers.is_dir():
        raise InputError(
            f"--model=avatars: {layers}: no such folder, so this installation lacks the model:"
            " install the package again, or choose another with --layers"
        )
    return layers, depth if depth.is_dir() else None


def packaged_example(folder: Path) -> Path:
    """The picture.

    Raises:
        InputError: when it is not there.
    """
    path = folder / EXAMPLE
    if not path.is_file():
        raise InputError(f"{path}: no such file, so this installation lacks the example")
    return path
