"""Draws: randomness is a function of the draw, and each epoch shows every row once."""

import random
import subprocess
import sys
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.draws import Draw, sample_order

SEED = st.integers(0, 2**63)
NAME = st.text(max_size=12)
DRAW = st.builds(
    Draw,
    seed=SEED,
    stage=NAME,
    step=st.integers(0, 10**6),
    index=st.integers(0, 10**4),
    sample=st.integers(0, 10**7),
)


def numbers(draw: Draw, stream: str) -> list[float]:
    return draw.numpy(stream).random(4).tolist()


@given(DRAW, NAME)
def test_equal_draws_give_equal_numbers_whatever_else_is_drawn(draw: Draw, stream: str):
    first = numbers(draw, stream)
    np.random.seed(7)
    torch.manual_seed(7)
    numbers(draw, stream + "another")
    assert numbers(attrs.evolve(draw), stream) == first


@given(DRAW, NAME)
def test_every_field_and_the_stream_change_the_numbers(draw: Draw, stream: str):
    others = [
        numbers(attrs.evolve(draw, seed=draw.seed + 1), stream),
        numbers(attrs.evolve(draw, stage=draw.stage + "x"), stream),
        numbers(attrs.evolve(draw, step=draw.step + 1), stream),
        numbers(attrs.evolve(draw, index=draw.index + 1), stream),
        numbers(attrs.evolve(draw, sample=draw.sample + 1), stream),
        numbers(draw, stream + "x"),
    ]
    assert len({tuple(n) for n in [numbers(draw, stream), *others]}) == 7


def test_fields_do_not_run_into_each_other():
    base = Draw(seed=1, stage="a", step=1, index=12, sample=3)
    assert numbers(base, "s") != numbers(attrs.evolve(base, index=1, sample=23), "s")
    assert numbers(base, "s") != numbers(attrs.evolve(base, stage="as"), "")


def test_numpy_integers_draw_what_python_integers_draw():
    plain = Draw(1, "a", 2, 3, 4)
    fields: list[Any] = [np.int64(1), "a", np.int64(2), np.int32(3), np.uint8(4)]
    loaded = Draw(*fields)
    assert numbers(plain, "s") == numbers(loaded, "s")


def test_torch_generator_is_reproducible_and_its_own():
    draw = Draw(1, "a", 2, 3, 4)
    first = torch.randn(8, generator=draw.torch("noise"))
    assert torch.equal(first, torch.randn(8, generator=draw.torch("noise")))
    assert not torch.equal(first, torch.randn(8, generator=draw.torch("timestep")))
    neighbour = attrs.evolve(draw, index=4)
    assert not torch.equal(first, torch.randn(8, generator=neighbour.torch("noise")))


def test_numbers_are_the_same_in_another_process():
    """Python salts hash() per process; a draw may not depend on it."""
    program = (
        "from seethrough.data.draws import Draw, sample_order\n"
        "d = Draw(3, 'train', 5, 1, 9)\n"
        "print(d.numpy('flip').random(), [sample_order(3, 'train', 7, p) for p in range(9)])"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert out[0] == out[1] != ""


def test_uniform_numbers_are_uniform_over_neighbouring_draws():
    values = [Draw(0, "t", s, i, 0).numpy("u").random() for s in range(100) for i in range(20)]
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert counts.min() > 140 and counts.max() < 260


@given(SEED, NAME, st.integers(1, 40), st.integers(0, 5))
def test_each_epoch_is_a_permutation(seed: int, stage: str, length: int, epoch: int):
    rows = [sample_order(seed, stage, length, epoch * length + place) for place in range(length)]
    assert sorted(rows) == list(range(length))


@given(SEED, st.integers(1, 30), st.randoms(use_true_random=False))
def test_order_does_not_depend_on_who_asks_and_when(seed: int, length: int, rng: random.Random):
    positions = list(range(3 * length))
    once = {p: sample_order(seed, "train", length, p) for p in positions}
    rng.shuffle(positions)
    assert all(sample_order(seed, "train", length, p) == once[p] for p in positions)


def test_epochs_seeds_and_stages_are_shuffled_differently():
    def epoch(seed: int, stage: str, number: int) -> tuple[int, ...]:
        return tuple(sample_order(seed, stage, 50, number * 50 + p) for p in range(50))

    orders = {epoch(0, "a", 0), epoch(0, "a", 1), epoch(1, "a", 0), epoch(0, "b", 0)}
    assert len(orders) == 4
    assert tuple(range(50)) not in orders


@pytest.mark.parametrize(("length", "position"), [(0, 0), (3, -1)])
def test_no_row_is_made_up(length: int, position: int):
    with pytest.raises(ValueError, match="no sample at position"):
        sample_order(0, "train", length, position)
