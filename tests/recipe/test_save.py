import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seethrough.recipe import (
    Draft,
    RecipeError,
    as_code,
    base_draft,
    differences,
    load,
    save_as,
)
from seethrough.recipe.paths import walk
from seethrough.recipe.text import write
from tests.recipe.files import ROOT, load_text, values_of
from tests.recipe.pyright import check

_numbers = itertools.count()


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """An experiment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    # A name of its own: Python imports a module of one name once in a process.
    name = f"chain_{next(_numbers)}.py"
    shutil.copy(ROOT / "tests" / "recipe" / "chain.py", tmp_path / name)
    return load(name)


LEAVES = [
    node
    for node in walk(load(ROOT / "tests/recipe/chain.py").experiment)
    if node.is_leaf and not node.path.startswith("second.every.parts")
]


@given(data=st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_saved_file_loads_to_the_equal_experiment(chain: Draft, data: st.DataObject) -> None:
    nodes = data.draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=5, unique=True))
    flags = [(n.path, write(n.field.kind, data.draw(values_of(n.field.kind)))) for n in nodes]
    changed = chain.override(flags)
    path = Path(f"saved_{next(_numbers)}.py")
    saved = save_as(changed, path)
    assert differences(load(path).experiment, changed.experiment) == []
    assert isinstance(saved.experiment, type(chain.experiment))


FLAGS = [
    ("first.optim", "Adafactor"),
    ("first.optim.lr", "1e-5"),
    ("second.optim.betas", "0.8,0.99"),
    ("first.every.mode", "slow"),
    ("first.every.colour", "RGB"),
    ("first.every.sources", "((hub:org/a_rather_long_name, 1), (file:/a/long/path/to/a/list, 2))"),
    ("first.every.parts.0.rate", "5"),
    ("second.every.tags", "[\"it's\", 'say \"x\"', 'a, b']"),
    ("second.every.base", "stage:first/unet"),
    ("second.every.title", "none"),
    ("second.workers", "0"),
]


def test_a_saved_file_is_the_idiom_and_passes_pyright_and_ruff(chain: Draft) -> None:
    path = Path("other_values.py")
    saved = save_as(chain.override(FLAGS), path)
    text = path.read_text()
    assert "optim=change(Adafactor, lr=1e-05)" in text
    assert "first: Train = change(\n" in text
    assert type(saved.experiment).__name__ == "OtherValues"
    assert check(path) == []
    for arguments in (["check"], ["format", "--check"]):
        # Both folders are the user's own, as they are where an experiment truly lies.
        ours = f'src = ["{ROOT}", "{Path.cwd()}"]'
        config = ["--config", str(ROOT / "pyproject.toml"), "--config", ours]
        command = [sys.executable, "-m", "ruff", *arguments, *config, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_saved_file_is_loaded_by_a_fresh_process(chain: Draft) -> None:
    save_as(chain.override([("first.steps", "11")]), "fresh.py")
    program = "from seethrough.recipe import load; print(load('fresh.py').experiment.first.steps)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "11\n"


def test_a_value_set_back_to_its_base_is_no_change(chain: Draft) -> None:
    saved = save_as(chain.override([("first.steps", "200")]), "same.py")
    assert differences(saved.experiment, chain.experiment) == []
    assert "steps" not in Path("same.py").read_text()


def test_nothing_is_overwritten_and_nothing_left_behind(chain: Draft) -> None:
    changed = chain.override([("first.steps", "11")])
    Path("mine.py").write_text("# mine\n")
    with pytest.raises(RecipeError, match=r"mine\.py: exists"):
        save_as(changed, "mine.py")
    assert Path("mine.py").read_text() == "# mine\n"


def test_a_new_class_is_asked_for_its_own_default_by_name(chain: Draft) -> None:
    flags = [("first.optim", "Adafactor"), ("first.optim.lr", "1e-3")]
    save_as(chain.override(flags), "asked.py")
    assert "optim=change(Adafactor, lr=0.001)" in Path("asked.py").read_text()


def test_a_file_that_does_not_load_is_removed(tmp_path: Path, chain: Draft) -> None:
    final = load_text(
        tmp_path,
        '''
        @recipe
        class Made(Chain):
            """An experiment that wants no subclass."""
            def __init_subclass__(cls) -> None:
                raise TypeError("final")
        ''',
    )
    with pytest.raises(RecipeError, match="TypeError: final"):
        save_as(final.override([("first.steps", "3")]), "derived.py")
    assert not Path("derived.py").exists()


def test_a_file_that_could_not_import_its_base_is_refused(
    chain: Draft, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    with pytest.raises(RecipeError, match="could not import its base"):
        save_as(chain.override([("first.steps", "11")]), path)
    assert not path.exists()


def test_a_difference_as_code_makes_the_experiment_from_its_base(chain: Draft) -> None:
    code = as_code(chain, base_draft(chain))
    Path("coded.py").write_text(code)
    assert "first: Train = change(Train, steps=200)" in code
    assert differences(load("coded.py").experiment, chain.experiment) == []
    assert check(Path("coded.py")) == []
