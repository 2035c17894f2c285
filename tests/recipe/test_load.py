import sys
from pathlib import Path

import pytest

from seethrough.recipe import Hub, Origin, RecipeError, draft, load, reload_recorded, resolve
from seethrough.recipe import to_record as record_of
from seethrough.recipe.base import facts
from seethrough.recipe.paths import walk
from tests.recipe import family
from tests.recipe.family import AdamW, Chain, Incomplete, Train
from tests.recipe.files import ROOT, load_text, write_file

FAMILY = Path(family.__file__)


def line_of(file: Path, text: str) -> int:
    """The number of the one line that holds `text`."""
    found = [i for i, line in enumerate(file.read_text().splitlines(), 1) if text in line]
    assert len(found) == 1, found
    return found[0]


def test_all_problems_are_reported_by_path() -> None:
    with pytest.raises(RecipeError) as error:
        resolve(Incomplete(), "incomplete")
    lines = str(error.value).splitlines()
    assert lines[0] == "incomplete: 4 problems"
    assert lines[1].startswith("  first.model: REQUIRED has no value yet; accepted: hub:")
    assert lines[2:] == [
        "  second.model: stage:third/unet does not run before second; earlier stages: first",
        "  third.model: stage:first/weights is no output; known: unet, log",
        "  second.every.count: 4 divides the 100 steps",
    ]


def test_a_resolved_experiment_holds_every_section_once() -> None:
    chain = Chain()
    assert chain.first.every is chain.second.every
    resolved = resolve(chain)
    assert resolved.experiment == chain
    places = [id(n.value) for n in walk(resolved.experiment) if not n.is_leaf and not n.is_tuple]
    assert len(places) == len(set(places))


def test_origins_name_class_and_line_of_each_value(tmp_path: Path) -> None:
    file = write_file(
        tmp_path,
        '''
        @recipe
        class Made(Chain):
            """Changes on several lines."""
            first: Train = change(
                Train,
                optim=change(
                    AdamW,
                    eps=1e-6,
                ),
                steps=7,
            )
        ''',
    )
    origins = load(file).origins
    made = {path: o for path, o in origins.items() if o.by == "Made"}
    assert made == {
        "first.optim.eps": Origin("Made", str(file), line_of(file, "eps=1e-6")),
        "first.steps": Origin("Made", str(file), line_of(file, "steps=7")),
    }
    lr = origins["first.optim.lr"]
    assert lr == Origin("Chain", str(FAMILY), line_of(FAMILY, "Train(optim=AdamW(lr=3e-4))"))
    assert origins["second.optim.lr"] == Origin(
        "AdamW", str(FAMILY), line_of(FAMILY, "lr: PositiveFloat = 1e-4")
    )
    assert set(origins) == {node.path for node in walk(load(file).experiment)}


def test_origins_of_another_class_are_its_own_save_what_is_carried_over(tmp_path: Path) -> None:
    loaded = load_text(
        tmp_path,
        '''
        @recipe
        class Made(Chain):
            """Another optimizer."""
            first: Train = change(Train, optim=change(Adafactor, lr=1e-3))
        ''',
    )
    by = {path: origin.by for path, origin in loaded.origins.items()}
    assert by["first.optim"] == by["first.optim.lr"] == "Made"
    assert by["first.optim.scale"] == "Adafactor"
    assert by["first.steps"] == "Train"


def test_flags_are_the_origin_of_what_they_set_alone() -> None:
    flags = [("first.optim.lr", "1e-3"), ("second.optim", "Adafactor")]
    made = draft(Chain(), "chain").override(flags)
    assert {p for p, o in made.origins.items() if o.file is None} == {
        "first.optim.lr",
        "second.optim",
    }
    assert str(made.origins["first.optim.lr"]) == "--first.optim.lr (command line)"
    assert made.origins["second.optim.lr"].by == "Adafactor"


def test_a_rehearsal_names_the_lines_of_its_rule() -> None:
    full = draft(Chain(), "chain").override([("first.batch", "2")])
    twin = full.rehearsal()
    assert twin.name == "chain-rehearsal"
    changed = {p for p, o in twin.origins.items() if o != full.origins.get(p)}
    assert changed == {"first.steps", "first.every.count", "second.steps", "second.every.count"}
    assert twin.origins["first.steps"] == Origin(
        "small", str(FAMILY), line_of(FAMILY, "return evolve(stage, steps=1)")
    )
    assert twin.origins["second.steps"].by == "Chain.rehearsal"
    assert twin.origins["first.batch"].by == "--first.batch"


def test_an_experiment_without_a_rule_says_so() -> None:
    with pytest.raises(RecipeError, match="Incomplete has no rehearsal"):
        draft(Incomplete(), "x").rehearsal()


def test_an_override_of_a_section_in_a_tuple() -> None:
    made = draft(Chain(), "x").override([("first.every.parts.1.source", "file:a/b")])
    assert isinstance(made.experiment, Chain)
    assert [str(part.source) for part in made.experiment.first.every.parts] == [
        "hub:org/samples",
        "file:a/b",
    ]
    assert made.origins["first.every.parts.1.source"].file is None


def test_an_override_chooses_a_class_and_sets_its_fields() -> None:
    flags = [("second.optim.scale", "true"), ("second.optim", "Adafactor")]
    made = draft(Chain(), "x").override(flags).experiment
    assert isinstance(made, Chain)
    assert made.second.optim == family.Adafactor(scale=True)
    assert made.first.optim == AdamW(lr=3e-4)


def test_an_ablation_and_its_base_share_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    chain = load("tests/recipe/chain.py")
    assert type(chain.experiment).__module__ == "tests.recipe.chain"
    assert type(load(ROOT / "tests/recipe/chain.py").experiment) is type(chain.experiment)
    assert chain.name == "chain"


def test_files_of_one_name_get_modules_of_their_own(tmp_path: Path) -> None:
    body = '@recipe\nclass Made(Chain):\n    """One."""\n'
    loaded: list[type] = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "twice.py"
        file.write_text(f"from seethrough.recipe import *\nfrom {family.__name__} import *\n{body}")
        loaded.append(type(load(file).experiment))
    assert loaded[0] is not loaded[1]
    assert len({cls.__module__ for cls in loaded}) == 2
    assert all(sys.modules[cls.__module__] for cls in loaded)


def test_a_record_is_reloaded_with_its_file(tmp_path: Path) -> None:
    file = write_file(tmp_path, '@recipe\nclass Made(Chain):\n    """One."""\n')
    made = load(file).override([("first.model", "hub:x/y@z")]).resolve()
    again = reload_recorded(record_of(made.experiment), made.name, file)
    assert again.experiment == made.experiment
    assert again.stages["first"] == Train(model=Hub("x/y", "z"), optim=AdamW(lr=3e-4))
    with pytest.raises(RecipeError, match="holds AdamW, which is no experiment"):
        reload_recorded(record_of(AdamW()), "x", None)


def test_facts_of_a_class_are_made_with_it() -> None:
    assert facts(AdamW).default == AdamW()
    assert facts(AdamW).source.file == str(FAMILY)
