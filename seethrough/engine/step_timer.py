"""How fast training goes, and what it waits for."""

import contextlib
import resource
import time
from collections.abc import Iterator

import torch


class StepTimer:
    """Speed, memory and the share of time spent waiting for data, since the last reading."""

    def __init__(self, global_batch: int, device: torch.device) -> None:
        self.global_batch = global_batch
        self.device = device
        self.steps = 0
        self.waited = 0.0
        self.since = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside doesn't count."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Samples/s (global) and waiting share since the last call; peak memory so far in GiB."""
        now = time.perf_counter()
        elapsed = max(now - self.since, 1e-9)
        values = {
            "samples_per_second": self.steps * self.global_batch / elapsed,
            "data_wait_share": self.waited / elapsed,
            "peak_memory_gib": _peak_memory(self.device) / 2**30,
        }
        self.steps, self.waited, self.since = 0, 0.0, now
        return values


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of the allocator on CUDA, of the process (RSS) on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
