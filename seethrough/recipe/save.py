"""`diff --as_code` and `--save_as`: an experiment as the text and the file of a subclass."""

import sys
from pathlib import Path

from seethrough.recipe.base import Recipe, facts
from seethrough.recipe.code import subclass_code
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.experiment import Experiment
from seethrough.recipe.experiment_file import module_name, module_root
from seethrough.recipe.load import Draft, load
from seethrough.recipe.report import differences
from seethrough.recipe.source import shown_path


def base_draft(draft: Draft) -> Draft:
    """The experiment class that a draft's class derives from, with its defaults."""
    for cls in type(draft.experiment).__mro__[1:]:
        if issubclass(cls, Experiment):
            table = facts(cls)
            default = table.default
            assert isinstance(default, Experiment)
            return Draft(default, cls.__name__, Path(table.source.file), table.origins)
    raise RecipeError(f"{draft.name}: has no base")


def as_code(draft: Draft, base: Draft) -> str:
    """A Python file that makes `draft` as a subclass of the class of `base`."""
    default = facts(type(base.experiment)).default
    assert isinstance(default, Experiment)
    title = f"{type(base.experiment).__name__} changed into {draft.name}."
    return subclass_code(default, draft.experiment, _class_name(draft.name, default), title)


def save_as(draft: Draft, path: str | Path) -> Draft:
    """Write an overridden experiment as a subclass file, and load it again.

    Raises `RecipeError` when the file exists, when it could not import its base, and when it
    would not load to equal values (it is removed then).
    """
    path = Path(path)
    shown = shown_path(str(path))
    _check_free(path)
    if not draft.flags or draft.file is None:
        raise RecipeError(f"{shown}: nothing to save; change the experiment with --path=value")
    default = facts(type(draft.experiment)).default
    assert isinstance(default, Experiment)
    _check_importable(draft.file.resolve(), type(draft.experiment), path.resolve())
    changed = [d.path for d in differences(default, draft.experiment)]
    title = (
        f"{draft.name} with values changed on the command line.\n\n"
        f"Base: {draft.name}. Changed:\n" + "".join(f"- {p}\n" for p in changed)
    )
    return save_subclass(draft.experiment, path, title)


def save_subclass(experiment: Experiment, path: Path, title: str) -> Draft:
    """Write an experiment as a subclass of its class in a new file, and load that.

    `title` is the file's docstring. Raises `RecipeError` as `save_as`.
    """
    _check_free(path)
    default = facts(type(experiment)).default
    assert isinstance(default, Experiment)
    text = subclass_code(default, experiment, _class_name(path.stem, default), title)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    try:
        saved = load(path)
        left = differences(saved.experiment, experiment)
        if left:
            paths = ", ".join(d.path for d in left)
            raise RecipeError(
                f"{shown_path(str(path))}: would load with other values of {paths}; not saved"
            )
    except BaseException:
        path.unlink()
        raise
    return saved


def _check_free(path: Path) -> None:
    shown = shown_path(str(path))
    if path.exists():
        raise RecipeError(f"{shown}: exists; remove it first, or save under another name")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise RecipeError(f"{shown}: give the path of a Python file, such as experiments/my_try.py")


def _check_importable(base: Path, cls: type[Recipe], path: Path) -> None:
    module = sys.modules[cls.__module__]
    ours = cls.__module__ == module_name(base) and module_root(base) == module_root(path)
    if not ours or not all(part.isidentifier() for part in module.__name__.split(".")):
        raise RecipeError(
            f"{shown_path(str(path))}: could not import its base {shown_path(str(base))}; "
            f"save it beside its base, which needs a name that Python can import"
        )


def _class_name(stem: str, base: Experiment) -> str:
    name = "".join(part[:1].upper() + part[1:] for part in stem.replace("-", "_").split("_"))
    if not name.isidentifier() or name == type(base).__name__:
        name = f"{type(base).__name__}Changed"
    return name
