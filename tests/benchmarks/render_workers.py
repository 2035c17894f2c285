"""What rendering costs on one worker and on two, and what ten million samples would.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.render_workers CHARACTERS [--json=PATH]

CHARACTERS holds labelled characters. Both runs make the same shards, in turn. Other programs on the
machine make wall-clock times longer; then CPU times, and the share of a core that workers had, say
how far one worker is in another's way.
"""

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path

import attrs

from seethrough.characters.form import list_characters
from seethrough.engine.executor import run_tasks
from seethrough.recipes.render import RenderOptions
from seethrough.render.shards import Shards, Written
from seethrough.render.worker import RenderShard

PAIRS = 3
TOTAL = 10_000_000
CORES = 64
"""Cores of the machine that the estimate is told in."""


@attrs.frozen
class Cost:
    """One run."""

    wall: float
    cpu: float
    """Seconds of all workers, their start included."""
    samples: int
    bytes: int


def render(characters: Path, samples: int, workers: int) -> Cost:
    """Render samples into a folder that is deleted."""
    names = [path.name for path in list_characters(characters)]
    each = -(-samples // len(names))
    shards = Shards(names, each, max(1, len(names) * each // 8))
    made: list[Written] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(dir=characters.parent) as target:
        summary = run_tasks(
            RenderShard(
                characters=str(characters.resolve()),
                target=target,
                form="shards",
                options=RenderOptions(),
                backgrounds=(),
                seed=42,
            ),
            shards,
            on="local",
            workers=workers,
            done=lambda shard: False,
            finished=lambda shard, written: made.append(written),
            report=print,
            unit="samples",
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    refused = [one for shard in made for one in shard.refused]
    assert not refused and not summary.failed, (refused, summary.failed)
    count, size = sum(len(one.pages) for one in made), sum(one.bytes for one in made)
    return Cost(summary.seconds, cpu, count, size)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("characters", type=Path)
    parser.add_argument("--samples", type=int, default=48, help="samples of a run, at least")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = [[render(given.characters, given.samples, n) for n in (1, 2)] for _ in range(PAIRS)]
    ones, twos = zip(*pairs, strict=True)
    samples, size = ones[0].samples, ones[0].bytes / ones[0].samples
    cpu = statistics.median(cost.cpu / samples for cost in ones)
    figures = {
        "samples of a run": samples,
        "one worker, CPU s a sample": cpu,
        "two workers, CPU s a sample": statistics.median(cost.cpu / samples for cost in twos),
        "one worker, wall s": statistics.median(cost.wall for cost in ones),
        "two workers, wall s": statistics.median(cost.wall for cost in twos),
        "two workers, times as fast": statistics.median(a.wall / b.wall for a, b in pairs),
        "one worker, share of a core had": statistics.median(c.cpu / c.wall for c in ones),
        "two workers, share of a core had": statistics.median(c.cpu / c.wall / 2 for c in twos),
        "largest worker, MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10,
        "MB a sample": size / 1e6,
        f"{TOTAL:,} samples, TB": TOTAL * size / 1e12,
        f"{TOTAL:,} samples, CPU hours": TOTAL * cpu / 3600,
        f"{TOTAL:,} samples, hours of {CORES} cores": TOTAL * cpu / 3600 / CORES,
    }
    for name, value in figures.items():
        print(f"{name:<45} {value:.4g}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
