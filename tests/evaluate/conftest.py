"""The small model of segmentation's tests."""

from tests.segment.conftest import model, own_machine

__all__ = ["model", "own_machine"]
