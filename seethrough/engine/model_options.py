"""How a model is used: the file that an export of a run lays beside it."""

import json
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs

from seethrough.engine.files import write_json
from seethrough.errors import InputError

Options = TypeVar("Options", bound=attrs.AttrsInstance)

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def write_options(file: Path, options: Any) -> None:
    """Write the options of an exported model, an instance of an attrs class."""
    write_json(file, attrs.asdict(options))


def read_options(file: Path, kind: type[Options]) -> Options:
    """The options of a model; the published ones, which are the defaults, if there is no file.

    Raises:
        InputError: when the file can't be read as such options.
    """
    try:
        return _CONVERTER.structure(json.loads(file.read_text(encoding="utf-8")), kind)
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise InputError(
            f"{file}: no options of a model ({error!r}): export the run again"
        ) from error
