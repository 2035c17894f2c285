"""Run lengths, as pycocotools codes whole masks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.part_masks import encode_mask
from seethrough.render.files import run_lengths
from seethrough.render.visibility import Mask


def test_the_known_mask() -> None:
    mask = Mask((2, 1, 5, 3), np.ones((2, 3), bool))
    assert run_lengths(mask, (5, 7)) == {"size": [5, 7], "counts": ";230009"}


def test_no_mask_is_an_empty_one() -> None:
    assert run_lengths(None, (5, 7)) == encode_mask(np.zeros((5, 7), bool))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_a_mask_in_its_box_is_coded_as_the_whole(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 12, 2).tolist()
    x1, y1 = int(random.integers(width)), int(random.integers(height))
    x2, y2 = int(random.integers(x1, width)) + 1, int(random.integers(y1, height)) + 1
    whole = np.zeros((height, width), bool)
    whole[y1:y2, x1:x2] = inside = random.random((y2 - y1, x2 - x1)) < share
    assert run_lengths(Mask((x1, y1, x2, y2), inside), (height, width)) == encode_mask(whole)
