"""Nested data with tensors, to disk and back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from seethrough.engine.tensor_tree import load_tree, save_tree, tree_bytes

_TENSORS = hn.arrays(st.sampled_from(["<f4", "<i8", "u1"]), hn.array_shapes(min_dims=0)).map(
    lambda array: torch.from_numpy(array.copy())
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_TREES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES | _TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(0, 99), inner, min_size=1, max_size=3)
        | st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


@given(tree=_TREES)
def test_every_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    save_tree(tree, path)
    assert same(tree, load_tree(path))


def test_shared_tensors_other_types_and_sizes(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    save_tree([shared, shared, shared[:3]], tmp_path / "tree")
    assert same([shared, shared, shared[:3].clone()], load_tree(tmp_path / "tree"))
    assert tree_bytes({"a": [shared, (shared, 1)]}) == 48
    for bad in (object(), {1: 0, "1": 0}, {1.5: 0}):
        with pytest.raises(TypeError):
            save_tree(bad, tmp_path / "bad")
