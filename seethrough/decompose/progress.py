"""What is told while images are decomposed: a line for each, and a bar within one."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator

import attrs
import torch
from tqdm import tqdm

from seethrough.decompose.images import Image
from seethrough.errors import InputError
from seethrough.inference.progress import Tell


@attrs.define
class Progress:
    """Tells what is done, what failed, and how long the rest may take."""

    total: int
    started: float = attrs.field(init=False, factory=time.monotonic)
    finished: int = attrs.field(init=False, default=0)
    failures: list[str] = attrs.field(init=False, factory=list)
    """A line for each image that failed: which, and why."""

    def done(self, line: str) -> None:
        """An image is decomposed."""
        self.finished += 1
        print(f"{self.finished} of {self.total}: {line}{self._left()}", flush=True)

    @contextlib.contextmanager
    def image(self, image: Image) -> Iterator[None]:
        """Tell an error of the block as the image's failure; the others go on."""
        try:
            yield
        except BrokenPipeError:
            raise  # nobody reads any more what is told
        except Exception as error:
            if not isinstance(error, InputError | OSError | MemoryError | torch.OutOfMemoryError):
                traceback.print_exception(error)
            reason = _reason(error)
            shown = reason if str(image.path) in reason else f"{image.path}: {reason}"
            self.finished += 1
            self.failures.append(shown)
            line = f"{self.finished} of {self.total}: failed: {shown}{self._left()}"
            print(line, file=sys.stderr, flush=True)

    def _left(self) -> str:
        rest = self.total - self.finished
        if not rest:
            return ""
        seconds = (time.monotonic() - self.started) / self.finished * rest
        return f"; about {_duration(seconds)} left"


@contextlib.contextmanager
def bar(title: str, work: float) -> Iterator[Tell]:
    """A bar for as much `work`, with the time left, while the block lasts; on a terminal alone."""
    with tqdm(
        total=work,
        desc=title,
        disable=None,
        leave=False,
        dynamic_ncols=True,
        miniters=0,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    ) as shown:

        def tell(what: str, amount: float) -> None:
            shown.set_postfix_str(what, refresh=False)
            shown.update(amount)

        yield tell


def _reason(error: Exception) -> str:
    """Why an image failed, in a line."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory: --plan tells what needs less; or take a smaller --resolution"
    return f"{type(error).__name__}: {error}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
