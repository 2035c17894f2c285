"""Two sets of weights side by side: which tensors only one has, and how far the others differ."""

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from seethrough.checkpoint.settings import Compare
from seethrough.checkpoint.source import Weights, open_weights
from seethrough.checkpoint.summary import packed_layers, summary
from seethrough.models.quantized import unpack


@attrs.frozen
class Difference:
    """How a tensor that both have differs."""

    key: str
    largest: float
    """Largest absolute difference; infinite where shapes differ or one side is not finite."""
    relative: float
    """Length of the difference over that of the first."""
    note: str


def compare(first: str, second: str, settings: Compare) -> tuple[list[str], bool]:
    """Lines that tell what differs, and whether anything does.

    Packed weights are unpacked, and all are compared in float32, or float64 where one side is.

    Raises:
        InputError: when one of them can't be read.
    """
    a, b = _plain(open_weights(first)), _plain(open_weights(second))
    lines = [f"A  {a.where}: {summary(a.tensors)}", f"B  {b.where}: {summary(b.tensors)}", ""]
    only = [
        (name, [key for key in mine.tensors if key not in other.tensors])
        for name, mine, other in (("A", a, b), ("B", b, a))
    ]
    for name, keys in only:
        lines += _names(f"only in {name}", keys, settings.rows)
    shared = [key for key in a.tensors if key in b.tensors]
    found = [_difference(key, a.tensors[key], b.tensors[key]) for key in shared]
    differing = [one for one in found if one.largest > settings.tolerance]
    differing.sort(key=lambda one: one.largest, reverse=True)
    lines += _table(differing, settings.rows)
    kinds = sum(a.tensors[key].dtype != b.tensors[key].dtype for key in shared)
    if kinds:
        lines.append(f"{kinds} of {len(shared)} shared tensors have another type")
    limit = f" by more than {settings.tolerance:g}" if settings.tolerance else ""
    lines.append(f"{len(differing)} of {len(shared)} shared tensors differ{limit}")
    return lines, bool(differing) or any(keys for _, keys in only)


def _plain(weights: Weights) -> Weights:
    if not packed_layers(weights.tensors):
        return weights
    return attrs.evolve(weights, tensors=unpack(weights.tensors, weights.where))


def _names(title: str, keys: list[str], rows: int) -> Iterator[str]:
    if keys:
        yield f"{title}: {len(keys)} tensors"
        yield from (f"  {key}" for key in keys[:rows])
        if len(keys) > rows:
            yield f"  and {len(keys) - rows} more"
        yield ""


def _table(found: list[Difference], rows: int) -> Iterator[str]:
    if found:
        shown = found[:rows]
        width = max(len(one.key) for one in shown)
        yield f"{'':<{width}}  {'largest':>10}  {'relative':>10}"
        for one in shown:
            yield f"{one.key:<{width}}  {one.largest:>10.3g}  {one.relative:>10.3g}{one.note}"
        if len(found) > rows:
            yield f"and {len(found) - rows} more"
        yield ""


def _difference(key: str, a: Tensor, b: Tensor) -> Difference:
    if a.shape != b.shape:
        shapes = " and ".join("x".join(map(str, one.shape)) or "scalar" for one in (a, b))
        return Difference(key, float("inf"), float("inf"), f"  shapes {shapes}")
    if a.numel() == 0:
        return Difference(key, 0.0, 0.0, "")
    wide = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    x, y = a.to(wide), b.to(wide)
    # The same infinite or undefined number on both sides is no difference.
    change = torch.where((x == y) | (x.isnan() & y.isnan()), 0.0, x - y)
    if not change.isfinite().all():
        return Difference(key, float("inf"), float("inf"), "  not finite on one side")
    length = x[x.isfinite()].norm()
    relative = change.norm() / length if length > 0 else torch.tensor(float("inf"))
    largest = change.abs().max().item()
    return Difference(key, largest, relative.item() if largest else 0.0, "")
