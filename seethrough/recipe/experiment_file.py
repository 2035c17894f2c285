"""Imports an experiment's file and finds the one experiment class that it defines."""

import importlib
import importlib.util
import os
import sys
import traceback
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from seethrough.recipe.base import facts
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.experiment import Experiment
from seethrough.recipe.source import shown_path


def load_class(file: Path) -> type[Experiment]:
    """The experiment class of a file; raises `RecipeError` when there is none, or several."""
    shown = shown_path(str(file))
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise RecipeError(f"{shown}: {what}; give an experiment's Python file")
    if file.suffix != ".py":
        raise RecipeError(f"{shown}: is no Python file; an experiment's file ends in .py")
    module = _import(file.resolve(), shown)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Experiment)
        and value.__module__ == module.__name__
    ]
    if not found:
        raise RecipeError(
            f"{shown}: defines no experiment; write a class derived from Experiment with @recipe"
        )
    if len(found) > 1:
        names = ", ".join(f"{cls.__name__} (line {facts(cls).source.line})" for cls in found)
        raise RecipeError(
            f"{shown}: defines {len(found)} experiments, {names}; an experiment's file holds one, "
            f"so move the others to files of their own"
        )
    return found[0]


def module_name(file: Path) -> str:
    """The name under which other files import this one, the same whoever imports it first.

    Below the current folder it is the dotted path from there, else the file's stem.
    """
    return ".".join(file.relative_to(module_root(file)).with_suffix("").parts)


def module_root(file: Path) -> Path:
    """The folder from which the dotted name of `file` counts; it has to be on `sys.path`."""
    here = Path.cwd()
    if file.is_relative_to(here):
        parts = file.relative_to(here).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            return here
    return file.parent


def _import(file: Path, shown: str) -> ModuleType:
    name = module_name(file)
    root = str(module_root(file))
    if root not in sys.path:
        sys.path.append(root)
    try:
        if _finds(name, file):
            return importlib.import_module(name)
        # Another module has this name; the path makes one that stays the same from run to run.
        name = f"{file.stem}_{blake2b(os.fsencode(file), digest_size=4).hexdigest()}"
        return sys.modules.get(name) or _import_as(name, file)
    except RecipeError:
        raise
    except SyntaxError as problem:
        place = f"{shown_path(problem.filename or str(file))}:{problem.lineno}"
        raise RecipeError(f"{shown}: syntax error at {place}: {problem.msg}") from problem
    except Exception as problem:
        frames = traceback.extract_tb(problem.__traceback__)
        inside = [frame for frame in frames if Path(frame.filename) == file]
        line = inside[-1].lineno if inside else 1
        raise RecipeError(
            f"{shown}:{line}: cannot be imported: {type(problem).__name__}: {problem}"
        ) from problem


def _finds(name: str, file: Path) -> bool:
    """Whether importing `name` gives this very file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file


def _import_as(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
