"""Watches the loss without making the host wait for the device at every step."""

import math

import attrs
import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.tasks.task import Loss, Parts


class DivergenceError(InputError):
    """The loss or the gradient became NaN or infinite at a step."""

    def __init__(self, text: str, step: int = 0) -> None:
        super().__init__(text)
        self.step = step


@attrs.frozen
class _Entry:
    step: int
    samples: list[int]
    total: Tensor
    terms: dict[str, Tensor]
    parts: Parts | None
    weight: Tensor


class LossWatch:
    """Collects losses and gradient norms on the device; `means` reads and checks them at once."""

    def __init__(self, accelerator: Accelerator, optim: str = "optim.") -> None:
        """`optim` is what messages write in front of the optimizer's options."""
        self.accelerator = accelerator
        self.optim = optim
        self.entries: list[_Entry] = []
        self.norms: list[tuple[int, Tensor]] = []

    def add(self, draws: list[Draw], loss: Loss, weight: Tensor) -> None:
        """Remember one micro-batch and the global weight of its step."""
        samples = [draw.sample for draw in draws]
        total = loss.total.detach()
        entry = _Entry(draws[0].step, samples, total, loss.terms, loss.parts, weight)
        self.entries.append(entry)

    def add_norm(self, step: int, norm: Tensor) -> None:
        """Remember the gradient's norm of a step, the same on every process."""
        self.norms.append((step, norm))

    def means(self) -> dict[str, float]:
        """Mean loss and terms per step since the last call, over all processes; the last norm.

        Also the mean of each part of the loss, over its terms in all these steps.

        Raises DivergenceError, on every process alike, with the first step whose loss is not
        finite and the samples of the micro-batches that gave it, or whose gradient is not.
        """
        entries, self.entries = self.entries, []
        norms, self.norms = self.norms, []
        names = sorted({name for entry in entries for name in entry.terms})
        zero = entries[0].total.new_zeros(())
        shares = torch.stack(
            [
                torch.stack([entry.total, *(entry.terms.get(name, zero) for name in names)])
                / entry.weight
                for entry in entries
            ]
        ).float()
        norm_values = torch.stack([norm for _, norm in norms]).tolist()
        self._check(entries, shares[:, 0].tolist(), [step for step, _ in norms], norm_values)
        means = shares.sum(dim=0) / len(norms)
        parts = [entry.parts for entry in entries if entry.parts is not None]
        part_names = parts[0].names if parts else ()
        part_sums = means.new_zeros(2, len(part_names))
        for part in parts:
            part_sums += torch.stack([part.sums, part.counts])
        # In one tensor, so that the processes add up and the host waits only once.
        together = torch.cat([means, part_sums.flatten()])
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(together)
        sizes = [1, len(names), len(part_names), len(part_names)]
        (total,), terms, sums, counts = (values.tolist() for values in together.cpu().split(sizes))
        result = {"loss": total}
        result |= {f"loss/{name}": value for name, value in zip(names, terms, strict=True)}
        for name, value, count in zip(part_names, sums, counts, strict=True):
            if count > 0:
                result[f"loss/{name}"] = value / count
        return {**result, "grad_norm": norm_values[-1]}

    def _check(
        self, entries: list[_Entry], totals: list[float], steps: list[int], norms: list[float]
    ) -> None:
        bad = [
            (entry.step, entry.samples)
            for entry, total in zip(entries, totals, strict=True)
            if not math.isfinite(total)
        ]
        if self.accelerator.num_processes > 1:
            bad = gather_object(bad)
        # fp16's scaler skips a step whose gradient overflows, and lowers the scale.
        scaled = self.accelerator.scaler is not None
        bad_norms = [
            step
            for step, norm in zip(steps, norms, strict=True)
            if not scaled and not math.isfinite(norm)
        ]
        first = min([step for step, _ in bad] + bad_norms, default=None)
        if first is None:
            return
        samples = sorted({sample for step, ids in bad if step == first for sample in ids})
        if samples:
            raise DivergenceError(
                f"the loss of step {first} (counted from 0) is not finite; samples {samples}. Look "
                f"at these samples, or lower {self.optim}lr or {self.optim}max_grad_norm.",
                first,
            )
        raise DivergenceError(
            f"the gradient of step {first} (counted from 0) is not finite although the loss is. "
            f"Lower {self.optim}lr, or use optim.precision=fp32.",
            first,
        )
