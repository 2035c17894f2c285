from seethrough.recipe import draft, fingerprint, resolve, tracked_reads
from seethrough.recipe.report import show
from tests.recipe.family import Chain


def test_reads_are_counted_by_path_although_stages_share_defaults() -> None:
    chain = resolve(Chain()).experiment
    assert isinstance(chain, Chain)
    with tracked_reads(chain) as reads:
        assert chain.second.optim.lr == 1e-4
        assert chain.second.every.parts[1].rate == 2
    assert reads == {
        "second",
        "second.optim",
        "second.optim.lr",
        "second.every",
        "second.every.parts",
        "second.every.parts.1.rate",
    }
    with tracked_reads(chain) as later:
        pass
    chain.first.steps  # noqa: B018
    assert later == set()


def test_a_property_reads_its_fields() -> None:
    chain = resolve(Chain()).experiment
    with tracked_reads(chain) as reads:
        assert chain.stages()["first"].samples == 800  # pyright: ignore[reportAttributeAccessIssue]
    assert reads == {"first.batch", "first.steps"}


def test_the_language_itself_does_not_count() -> None:
    made = draft(Chain(), "x")
    resolved = made.resolve()
    with tracked_reads(resolved.experiment) as reads:
        resolved.resolve()
        resolved.rehearsal()
        fingerprint(resolved.experiment)
        assert resolved.experiment == made.experiment
        assert hash(resolved.experiment) == hash(made.experiment)
        assert repr(resolved.experiment)
        resolved.override([("first.steps", "3")])
    assert reads == set()
    assert "first.samples" in show(resolved)
