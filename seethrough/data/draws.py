"""Where randomness comes from: a draw is one sample's place in a run.

The order of samples and every random number are pure functions of a draw's fields. No sampler or
generator state lives between steps, so nothing is lost when a run is killed, and nothing depends
on the rank or the data loader's worker that happens to handle the draw.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    import torch


@attrs.frozen
class Draw:
    """One sample's place in a run."""

    seed: int
    """The run's seed."""
    stage: str
    """The stage's name, so that stages of one run draw independently."""
    step: int
    """The optimizer step, from 0."""
    index: int
    """The place in the global batch of that step, over all micro-batches and ranks, from 0."""
    sample: int
    """The dataset's row."""

    def numpy(self, stream: str) -> np.random.Generator:
        """Make the NumPy generator of this draw for one purpose.

        `stream` names the purpose ("flip", "noise", ...). Equal fields and an equal stream give
        the same numbers; any difference gives independent ones.
        """
        return generator(*self._fields(), stream)

    def torch(self, stream: str) -> torch.Generator:
        """Make the CPU torch generator of this draw for one purpose, likewise.

        Torch seeds its CPU generator with 32 bits, so two of some 10^5 draws may share their
        numbers by chance; `numpy` keys with 128 bits.
        """
        import torch

        seed = int.from_bytes(_digest(*self._fields(), stream)[:4], "little")
        return torch.Generator().manual_seed(seed)

    def _fields(self) -> tuple[int | str, ...]:
        return (self.seed, self.stage, self.step, self.index, self.sample)


def sample_order(seed: int, stage: str, length: int, position: int) -> int:
    """Return the dataset row of the `position`-th sample of a stage (step * batch + index).

    Each epoch (`length` consecutive positions) is a fresh permutation of the rows. A batch that
    straddles two epochs is as good as any: no position is dropped.
    """
    if length < 1 or position < 0:
        raise ValueError(f"no sample at position {position} of {length} rows")
    epoch, place = divmod(position, length)
    return int(_permutation(seed, stage, length, epoch)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, stage: str, length: int, epoch: int) -> np.ndarray:
    # A batch may straddle two epochs, and a run trains and validates: four are in use at most.
    return generator(seed, stage, length, epoch, "sample order").permutation(length)


def generator(*fields: int | str) -> np.random.Generator:
    """Make the NumPy generator of these fields: equal fields give the same numbers."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(*fields), "<u8")))


def _digest(*fields: int | str) -> bytes:
    # repr quotes strings, so no two different tuples of fields read alike; int() because NumPy's
    # integers are equal to Python's but print otherwise.
    plain = tuple(field if isinstance(field, str) else int(field) for field in fields)
    return hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
