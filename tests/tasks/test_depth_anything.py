"""Depth Anything: what a step computes, against the published computation written out."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from seethrough.errors import InputError
from seethrough.metrics.depth_losses import affine_invariant_loss, gradient_matching_loss
from seethrough.models.depth_anything_files import load_either
from seethrough.recipe import Local, evolve
from seethrough.recipes.depth_anything import (
    DepthAnythingAdapterTrain,
    DepthAnythingTrain,
    DepthScores,
)
from seethrough.tasks.depth_anything import DepthAnything, DepthAnythingAdapter, measure
from seethrough.tasks.depth_scores import depth_scores_stage
from tests.samples import annotation, write_json, write_list, write_png, write_sample
from tests.tasks.small import batch, context, draw

StageT = TypeVar("StageT", bound=DepthAnythingTrain)

SIZES: dict[str, Any] = {
    "weights": None,
    "width": 16,
    "depth": 4,
    "heads": 2,
    "patch": 8,
    "features": 8,
    "out_channels": (8, 8, 8, 8),
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    tags = ("back hair", "topwear", "face", "front hair")
    pages = [write_sample(folder, name, tags=tags) for name in ("one", "two")]
    return write_list(folder / "list.txt", pages)


def plain(samples: Path, directory: Path, **loss: Any) -> DepthAnything[Any]:
    stage = small(DepthAnythingTrain(), samples)
    stage = evolve(stage, loss=evolve(stage.loss, **loss))
    return DepthAnything(stage, context(stage, directory))


def adapted(
    samples: Path, directory: Path, model: dict[str, Any] | None = None, **loss: Any
) -> DepthAnythingAdapter:
    stage = small(DepthAnythingAdapterTrain(), samples)
    stage = evolve(
        stage,
        model=evolve(stage.model, control_widths=(8, 8, 8), **(model or {})),
        loss=evolve(stage.loss, **loss),
        data=evolve(stage.data, control_probability=1.0, tags=("hair",)),
    )
    return DepthAnythingAdapter(stage, context(stage, directory))


def small(stage: StageT, samples: Path) -> StageT:
    """Of a new network, on the samples."""
    source = Local(str(samples))
    return evolve(
        stage,
        model=evolve(stage.model, **SIZES),
        data=evolve(stage.data, sources=((source, 1),), validation=source, target_size=32),
    )


def test_the_published_loss_of_a_page(samples: Path, tmp_path: Path) -> None:
    """Raw levels, larger nearer; both divided by their maximum in the mask."""
    task = plain(samples, tmp_path)
    model, given = task.build(), batch(task, draw(0))
    mask = given["mask"]
    levels = 7 * (1 - given["depth"]) / 2
    with torch.no_grad():
        found = model(task.image(given))
        true = levels / (levels[mask].max() + 1e-6)
        found = found / (found[mask].max() + 1e-6)
        gradient, affine = (
            loss(found, true, mask) for loss in (gradient_matching_loss, affine_invariant_loss)
        )
    loss = task.loss(model, given)
    assert float(loss.terms["gradient_matching"]) == pytest.approx(float(gradient), rel=1e-4)
    assert float(loss.terms["affine_invariant"]) == pytest.approx(float(affine), rel=1e-4)
    assert float(loss.total.detach()) == pytest.approx(float(gradient + affine), rel=1e-4)
    loss.total.backward()
    (group,) = task.parameter_groups(model, 1e-3)
    # Data parallel training waits for the gradient of every parameter.
    assert all(value.grad is not None for value in group.parameters)


def test_a_batch_is_the_sum_of_its_samples(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every term, by its weight: so a step is the same however it is split."""
    weights = {
        "gradient_matching": 0.5,
        "affine_invariant": 0.25,
        "scale_invariant_log": 0.125,
        "scale_and_shift_invariant": 2.0,
    }
    task = plain(samples, tmp_path, **weights)
    told = torch.rand(2, 1, 32, 32)
    # A head may tell 0, whose logarithm is infinite.
    told[0, 0, :20] = 0
    monkeypatch.setattr(task, "predict", lambda _, given: told[[d.index for d in given["draw"]]])
    one, two, both = (
        task.loss(torch.nn.Identity(), batch(task, *draws))
        for draws in ([draw(0)], [draw(1)], [draw(0), draw(1)])
    )
    assert one.terms.keys() == weights.keys() and one.total.isfinite()
    assert task.weight(batch(task, draw(0), draw(1))) == 2
    assert float(both.total) == pytest.approx(float(one.total + two.total), rel=1e-5)
    total = sum(weights[name] * float(term) for name, term in one.terms.items())
    assert float(one.total) == pytest.approx(total, rel=1e-5)


def test_options_of_the_loss(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = 5 * torch.rand(1, 1, 32, 32)

    def loss(**options: Any) -> float:
        task = plain(samples, tmp_path, affine_invariant=0.0, **options)
        monkeypatch.setattr(task, "predict", lambda *_: told)
        return float(task.loss(torch.nn.Identity(), batch(task, draw(0))).total)

    given = batch(plain(samples, tmp_path), draw(0))
    true, mask = (1 - given["depth"]) / 2, given["mask"]
    scaled = gradient_matching_loss(told / told[mask].max(), true / true[mask].max(), mask)
    raw = gradient_matching_loss(told, true, mask)
    everywhere = gradient_matching_loss(told, true, torch.ones_like(mask))
    assert loss() == pytest.approx(float(scaled), rel=1e-4)
    assert loss(scale_before_loss=False) == pytest.approx(float(raw), rel=1e-4)
    found = loss(scale_before_loss=False, ignore_mask=True)
    assert found == pytest.approx(float(everywhere), rel=1e-4)
    assert len({round(float(value), 2) for value in (scaled, raw, everywhere)}) == 3


def test_the_control_reaches_the_network(samples: Path, tmp_path: Path) -> None:
    task = adapted(samples, tmp_path)
    model, given = task.build(), batch(task, draw(0))
    assert given["layer"] == ["hair"] and given["control"].any()
    torch.nn.init.normal_(model.head_adapter.controlnet.conv_out.weight)  # pyright: ignore
    with torch.no_grad():
        steered = task.predict(model, given)
        assert torch.equal(steered, model(task.image(given), given["control"]))
        assert not torch.allclose(steered, model(task.image(given)))


def test_a_control_tells_what_the_picture_does_not_show(tmp_path: Path) -> None:
    """White hair of two strands, their border at any height, whose left half a white face hides.

    The border is seen in the control alone; on samples not trained on it is told better with it.
    """
    pages = [strands(tmp_path, f"{border:02}", border) for border in range(3, 29)]
    lists = [write_list(tmp_path / f"{start}.txt", pages[start::2]) for start in (0, 1)]
    alone = dict.fromkeys(("gradient_matching", "affine_invariant"), 0.0)
    task = adapted(lists[0], tmp_path, **alone, scale_and_shift_invariant=1.0)
    model = task.build()
    optimizer = torch.optim.AdamW(task.parameter_groups(model, 1e-3)[0].parameters, lr=3e-3)
    for step in range(60):
        given = batch(task, *(draw(index, (4 * step + index) % 13, step) for index in range(4)))
        task.loss(model, given).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    other = adapted(lists[1], tmp_path)
    errors = [
        measure(
            lambda given, share=share: model(task.image(given), share * given["control"]),
            (batch(other, draw(index)) for index in range(13)),
        )["least_squares/rmse"]
        for share in (0.0, 1.0)
    ]
    assert errors[1] < 0.7 * errors[0]


def strands(folder: Path, name: str, border: int) -> Path:
    """A page of 32 px: hair of level 1 above the border, 3 below; a face of 2 over the left."""
    levels = np.ones((32, 32), np.uint8)
    levels[border:] = 3
    page = levels.copy()
    page[:border, :16] = 2
    white = np.full((32, 32, 4), 255, np.uint8)
    for ending in ("", "_hair"):
        write_png(folder / f"{name}{ending}.png", white)
    write_png(folder / f"{name}_depth.png", page)
    write_png(folder / f"{name}_hair_depth.png", levels)
    write_json(folder / f"{name}_ann.json", annotation((32, 32), {"hair": (0, 0, 32, 32)}))
    return folder / f"{name}.png"


def test_what_is_learnt(samples: Path, tmp_path: Path) -> None:
    task = adapted(samples, tmp_path, {"learn": "adapter"})
    model = task.build()
    (group,) = task.parameter_groups(model, 1e-3)
    assert group.name == "adapter"
    task.loss(model, batch(task, draw(0))).total.backward()
    assert all(value.grad is not None for value in group.parameters)
    (everything,) = adapted(samples, tmp_path).parameter_groups(model, 1e-3)
    assert {id(p) for p in group.parameters} < {id(p) for p in everything.parameters}


def test_measures_pictures_and_weights_to_go_on_from(samples: Path, tmp_path: Path) -> None:
    base = plain(samples, tmp_path / "base")
    network = base.build().eval()
    with torch.no_grad():
        found = base.validate(network)
    assert {"depth/least_squares/rmse", "depth/median/a1"} <= found.keys()
    (saved,) = base.export(network, tmp_path / "base").values()
    task = adapted(samples, tmp_path, {"weights": Local(str(saved))})
    model = task.build().eval()
    with torch.no_grad():
        measured = task.validate(model)
        (picture,) = task.pictures(model).values()
    # A new adapter has no effect.
    assert measured["depth/least_squares/rmse"] == found["depth/least_squares/rmse"]
    assert 0 <= measured["controlled_depth/least_squares/rmse"] < 1
    assert picture.size == (3 * 512, 2 * 512)
    (again,) = task.export(model, tmp_path / "adapted").values()
    state, other = model.state_dict(), load_either(again).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_a_side_that_does_not_fit_the_patches_is_refused(samples: Path, tmp_path: Path) -> None:
    base = plain(samples, tmp_path)
    (saved,) = base.export(base.build(), tmp_path).values()
    task = adapted(samples, tmp_path, {"weights": Local(str(saved))})
    stage = evolve(task.stage, data=evolve(task.stage.data, target_size=36))
    with pytest.raises(InputError, match=r"small\.data\.target_size: 36 is no multiple of 8"):
        DepthAnythingAdapter(stage, context(stage, tmp_path)).build()


def test_scores_stand_beside_the_mean_by_place(samples: Path, tmp_path: Path) -> None:
    task = adapted(samples, tmp_path)
    (saved,) = task.export(task.build(), tmp_path).values()
    source = Local(str(samples))
    stage = DepthScores(
        network=Local(str(saved)), pages=source, known=source, target_size=32, tags=("hair",)
    )
    said: list[str] = []
    result = depth_scores_stage(stage, context(stage, tmp_path, said))
    assert result.metrics.keys() == {
        "rmse", "mean_rmse", "controlled_rmse", "uncontrolled_rmse", "reached",
    }  # fmt: skip
    limit = (1 - stage.margin) * result.metrics["mean_rmse"]
    assert result.metrics["reached"] == float(result.metrics["rmse"] <= limit)
    assert result.metrics["controlled_rmse"] == result.metrics["uncontrolled_rmse"]
    assert result.artifacts["table"].read_text() == said[0]
    assert [line.split("  ")[0] for line in said[0].splitlines()[1:]] == [
        "pages: network", "pages: mean by place", "layers: with control", "layers: without",
    ]  # fmt: skip
