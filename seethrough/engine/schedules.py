"""Learning rate over optimizer steps, as a share of the peak: a pure function of the step."""

import math

from seethrough.recipes.training import Schedule


def lr_share(schedule: Schedule, step: int) -> float:
    """Share of the peak learning rate for the update with index `step` (from 0), in [0, 1].

    A piecewise schedule may pass 1. Steps past `max_steps` keep the last value.
    """
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
    else:
        # The end of the run is the end of the last cycle, not the start of a new one.
        phase = 1.0 if progress == 1.0 else (progress * schedule.cycles) % 1.0
        decay = 0.5 * (1.0 + math.cos(math.pi * phase))
    return schedule.floor + (1.0 - schedule.floor) * decay
