"""Learning rates over steps."""

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.engine.schedules import in_steps, lr_share
from seethrough.errors import InputError
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


ONE_STEP = Schedule(
    max_steps=6751, lr_schedule="cosine_wave", warmup_epochs=1.0, warmup_steps=0, periods=3.5,
    floor=0.1,
)  # fmt: skip
"""The published schedule of transparency: of 5000 photos, 32 a step."""

ANCHORS = {
    0: 0.0,
    1: 4.0764e-7,
    78: 3.17962e-5,
    157: 6.4e-5,
    628: 3.52e-5,
    1000: 7.95554e-6,
    1099: 6.4e-6,
    3000: 6.44627e-6,
    5966: 6.014153e-5,
    6280: 3.52e-5,
    6750: 6.40016e-6,
}
"""Its learning rates, peak 6.4e-5, as its formula was run."""


def test_a_wave_as_published() -> None:
    schedule = in_steps(ONE_STEP, rows=5000, global_batch=32)
    assert schedule.warmup_steps == 157 and schedule.warmup_epochs is None
    for step, rate in ANCHORS.items():
        assert 6.4e-5 * lr_share(schedule, step) == pytest.approx(rate, rel=1e-5), step
    # A period is 12 epochs: the rate is at its peak, and at its floor, every 1884 steps.
    for period in range(4):
        assert lr_share(schedule, 157 + 1884 * period) == pytest.approx(1)
        assert lr_share(schedule, 1099 + 1884 * period) == pytest.approx(0.1)


@given(st.floats(0.5, 5), st.floats(0, 1), st.integers(0, 99))
def test_a_wave_has_no_jumps(periods: float, floor: float, step: int) -> None:
    schedule = Schedule(
        max_steps=100, warmup_steps=0, lr_schedule="cosine_wave", periods=periods, floor=floor
    )
    here, there = lr_share(schedule, step), lr_share(schedule, step + 1)
    assert floor - 1e-12 <= here <= 1 + 1e-12
    assert abs(there - here) <= math.pi * periods / 100 + 1e-12
    half = Schedule(max_steps=100, warmup_steps=0, lr_schedule="cosine", floor=floor)
    whole = Schedule(max_steps=100, warmup_steps=0, lr_schedule="cosine_wave", floor=floor)
    assert lr_share(whole, step) == pytest.approx(lr_share(half, step))


def test_warm_up_in_epochs() -> None:
    """Steps of an epoch are rounded up; warm-up that takes all of the run is refused."""
    schedule = Schedule(max_steps=100, warmup_steps=0, warmup_epochs=1.5)
    assert in_steps(schedule, rows=39, global_batch=2).warmup_steps == 30
    assert in_steps(schedule, rows=40, global_batch=2).warmup_steps == 30
    with pytest.raises(InputError, match=r"warmup_epochs=1.5 of 134 samples are 100 steps"):
        in_steps(schedule, rows=134, global_batch=2)


def test_a_forced_peak_keeps_the_schedules_place() -> None:
    plain = Schedule(max_steps=100, warmup_steps=10, lr_schedule="cosine_wave")
    forced = Schedule(
        max_steps=100, warmup_steps=10, lr_schedule="cosine_wave", peaks=((40, 0.5), (70, 2.0))
    )
    for step, peak in ((5, 1), (39, 1), (40, 0.5), (69, 0.5), (70, 2), (100, 2)):
        assert lr_share(forced, step) == pytest.approx(peak * lr_share(plain, step))


def test_an_annealed_end() -> None:
    schedule = Schedule(max_steps=100, warmup_steps=10, anneal_steps=20)
    found = [lr_share(schedule, step) for step in (10, 80, 81, 90, 99, 100, 101)]
    assert found == pytest.approx([1, 1, 0.95, 0.5, 0.05, 0, 0])
