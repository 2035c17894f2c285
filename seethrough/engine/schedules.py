"""Learning rate over optimizer steps, as a share of the peak: a pure function of the step."""

import math

from seethrough.errors import InputError
from seethrough.recipe import evolve
from seethrough.recipes.training import Schedule


def in_steps(schedule: Schedule, rows: int, global_batch: int) -> Schedule:
    """The schedule with its warm-up in steps alone, given the rows that an epoch has.

    Raises InputError when warm-up is not over before the last steps.
    """
    if schedule.warmup_epochs is None:
        return schedule
    epoch = math.ceil(rows / global_batch)
    warmup = round(schedule.warmup_epochs * epoch)
    if warmup > schedule.max_steps - max(schedule.anneal_steps, 1):
        raise InputError(
            f"schedule.warmup_epochs={schedule.warmup_epochs:g} of {rows} samples are {warmup} "
            f"steps: warm-up must end before max_steps={schedule.max_steps} and before annealing"
        )
    return evolve(schedule, warmup_steps=warmup, warmup_epochs=None)


def lr_share(schedule: Schedule, step: int) -> float:
    """Share of the peak learning rate for the update with index `step` (from 0), in [0, 1].

    `warmup_epochs` is not read: see `in_steps`. Pieces and peaks may pass 1. Steps past
    `max_steps` keep the last value.
    """
    share = _shape(schedule, step)
    for first, peak in reversed(schedule.peaks):
        if first <= step:
            share *= peak
            break
    left = schedule.max_steps - step
    if schedule.anneal_steps and left < schedule.anneal_steps:
        share *= max(left, 0) / schedule.anneal_steps
    return share


def _shape(schedule: Schedule, step: int) -> float:
    if step < schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.lr_schedule == "constant":
        return 1.0
    if schedule.lr_schedule == "piecewise":
        shares = [share for first, share in schedule.pieces if first <= step]
        return shares[-1] if shares else 1.0
    span = schedule.max_steps - schedule.warmup_steps
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    if schedule.lr_schedule == "linear":
        decay = 1.0 - progress
    elif schedule.lr_schedule == "polynomial":
        decay = (1.0 - progress) ** schedule.power
    elif schedule.lr_schedule == "cosine_wave":
        decay = 0.5 * (1.0 + math.cos(2 * math.pi * schedule.periods * progress))
    else:
        # The end of the run is the end of the last cycle, not the start of a new one.
        phase = 1.0 if progress == 1.0 else (progress * schedule.cycles) % 1.0
        decay = 0.5 * (1.0 + math.cos(math.pi * phase))
    return schedule.floor + (1.0 - schedule.floor) * decay
