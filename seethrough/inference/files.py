"""Writing results so that what was there before is never lost halfway."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seethrough.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, unless by an error.

    Makes the folder. The file is written beside its target, as `.partial-<name>`.

    Raises:
        InputError: when the operating system refuses; what was at `path` is still there.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({error.strerror or error}): make room or the folder"
            " writable, or choose another target"
        ) from error
