"""Watches the loss without making the host wait for the device at every step."""

import attrs
import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.tasks.task import Loss


class DivergenceError(InputError):
    """The loss or the gradient became NaN or infinite."""


@attrs.frozen
class _Entry:
    step: int
    samples: list[int]
    total: Tensor
    terms: dict[str, Tensor]
    weight: Tensor


class LossWatch:
    """Collects losses on the device; `means` reads them all at once and checks them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.entries: list[_Entry] = []

    def add(self, step: int, draws: list[Draw], loss: Loss, weight: Tensor) -> None:
        """Remember one micro-batch of the update with index `step`."""
        self.entries.append(
            _Entry(
                step=step,
                samples=[draw.sample for draw in draws],
                total=loss.total.detach(),
                terms=loss.terms,
                weight=weight,
            )
        )

    def means(self) -> dict[str, float]:
        """Mean loss and terms per step since the last call, over all processes.

        Raises DivergenceError, on every process alike, with the first step whose loss is not
        finite and the samples of the micro-batches that gave it.
        """
        entries, self.entries = self.entries, []
        if not entries:
            return {}
        names = sorted({name for entry in entries for name in entry.terms})
        zero = entries[0].total.new_zeros(())
        shares = torch.stack(
            [
                torch.stack([entry.total, *(entry.terms.get(name, zero) for name in names)])
                / entry.weight
                for entry in entries
            ]
        ).float()
        self._check(entries, shares[:, 0].cpu())
        steps = len({entry.step for entry in entries})
        sums = shares.sum(dim=0) / steps
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(sums)
        values = sums.tolist()
        return {"loss": values[0], **{f"loss/{n}": v for n, v in zip(names, values[1:], strict=True)}}

    def _check(self, entries: list[_Entry], totals: Tensor) -> None:
        finite = torch.isfinite(totals).tolist()
        bad = [
            (entry.step, entry.samples)
            for entry, good in zip(entries, finite, strict=True)
            if not good
        ]
        if self.accelerator.num_processes > 1:
            bad = gather_object(bad)
        if bad:
            first = min(step for step, _ in bad)
            samples = sorted({sample for step, ids in bad if step == first for sample in ids})
            raise DivergenceError(
                f"the loss of step {first} is not finite; samples {samples}. The last checkpoint "
                "is from before. Look at these samples, or lower optim.lr or optim.max_grad_norm."
            )

    def check_norm(self, step: int, norm: Tensor) -> None:
        """Stop on a gradient norm that is not finite (fp16's scaler handles its own)."""
        if self.accelerator.scaler is None and not torch.isfinite(norm).item():
            raise DivergenceError(
                f"the gradient norm of step {step - 1} is not finite although the loss is. The "
                "last checkpoint is from before. Lower optim.lr or use optim.precision=fp32."
            )
