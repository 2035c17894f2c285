"""A stage finds the pages of its sample list where the experiment's data roots have them."""

from pathlib import Path
from typing import ClassVar

from seethrough.engine.runner import run
from seethrough.recipe import REQUIRED, Execution, Experiment, Local, Source, Stage, recipe, resolve
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import Device
from seethrough.tasks.task import StageContext, StageResult


@recipe
class Listing(Stage):
    """Writes down the pages of a sample list."""

    implementation: ClassVar[str] = "tests.engine.test_pages:write_pages"
    outputs: ClassVar[tuple[str, ...]] = ("pages",)

    samples: Source = REQUIRED
    """The list."""

    hardware: Execution[Device] = Device(device="cpu")
    """Where."""


@recipe
class Listed(Experiment):
    """One list."""

    listing: Listing = Listing()
    """The stage."""

    environment: Execution[Environment] = Environment()
    """Data roots."""


def write_pages(stage: Listing, context: StageContext) -> StageResult:
    """One page a line."""
    pages = context.pages(stage.samples)
    (context.directory / "pages").write_text("\n".join(map(str, pages)))
    return StageResult({"pages": context.directory / "pages"})


def test_the_list_and_its_pages_lie_in_two_data_roots(tmp_path: Path) -> None:
    lists, pages = tmp_path / "lists", tmp_path / "pages"
    (lists / "sets").mkdir(parents=True)
    (pages / "girls").mkdir(parents=True)
    (lists / "sets/few.txt").write_text("girls/a.png\ngirls/b.png\n")
    for name in ("a.png", "b.png"):
        (pages / "girls" / name).touch()
    experiment = Listed(
        listing=Listing(samples=Local("sets/few.txt")),
        environment=Environment(data_roots=(str(lists), str(pages))),
    )
    run(resolve(experiment, "listed"), tmp_path / "runs")
    written = (tmp_path / "runs/listed/listing/pages").read_text()
    assert written.splitlines() == [f"{pages}/girls/a.png", f"{pages}/girls/b.png"]
