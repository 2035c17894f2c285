"""Learning rates over steps."""

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.engine.schedules import lr_share
from seethrough.recipes.training import Schedule

Shape = Literal["constant", "linear", "cosine", "polynomial"]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    warmup = draw(st.integers(0, 50))
    return Schedule(
        max_steps=warmup + draw(st.integers(1, 500)),
        warmup_steps=warmup,
        lr_schedule=draw(st.sampled_from(["constant", "linear", "cosine", "polynomial"])),
        cycles=draw(st.integers(1, 4)),
        floor=draw(st.floats(0, 1)),
        power=draw(st.floats(0.1, 4)),
    )


@given(schedules(), st.integers(0, 1000))
def test_bounds_and_warm_up(schedule: Schedule, step: int) -> None:
    share = lr_share(schedule, step)
    if step < schedule.warmup_steps:
        assert share == step / schedule.warmup_steps
    else:
        assert schedule.floor - 1e-12 <= share <= 1 + 1e-12 or schedule.lr_schedule == "constant"
        assert lr_share(schedule, schedule.warmup_steps) == 1
    if step >= schedule.max_steps:
        end = 1.0 if schedule.lr_schedule == "constant" else schedule.floor
        assert share == pytest.approx(end)


@given(schedules(), st.integers(0, 500))
def test_it_falls_after_warm_up_but_where_a_cycle_starts(schedule: Schedule, step: int) -> None:
    here, there = (lr_share(schedule, schedule.warmup_steps + step + i) for i in (0, 1))
    if schedule.lr_schedule != "cosine" or schedule.cycles == 1:
        assert there <= here + 1e-12


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_half_way(shape: Shape) -> None:
    schedule = Schedule(max_steps=110, warmup_steps=10, lr_schedule=shape, floor=0.2)
    assert lr_share(schedule, 60) == pytest.approx(0.6)
    assert lr_share(schedule, 110) == pytest.approx(0.2)


def test_shapes() -> None:
    square = Schedule(max_steps=100, warmup_steps=0, lr_schedule="polynomial", power=2.0)
    assert lr_share(square, 50) == pytest.approx(0.25)
    cosine = Schedule(max_steps=100, warmup_steps=0, lr_schedule="cosine", cycles=2)
    assert lr_share(cosine, 25) == pytest.approx(0.5)
    assert lr_share(cosine, 49) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.98)))
    assert lr_share(cosine, 50) == 1.0 and lr_share(cosine, 100) == pytest.approx(0.0)


def test_pieces() -> None:
    schedule = Schedule(
        max_steps=100, warmup_steps=4, lr_schedule="piecewise", pieces=((10, 0.5), (20, 2.0))
    )
    steps = (2, 4, 9, 10, 19, 20, 99, 1000)
    assert [lr_share(schedule, step) for step in steps] == [0.5, 1, 1, 0.5, 0.5, 2, 2, 2]
