"""Who wants to know how far a decomposition is."""

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Is told of work as it is done: what it was, and how much.

The unit is a denoising step; decoding all frames of a pass, which takes about as long, counts as
one too.
"""


def silent(work: str, amount: float) -> None:
    """Tell nobody."""
    del work, amount
