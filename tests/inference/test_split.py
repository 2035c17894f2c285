import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seethrough.inference.composite import flatten_placed
from seethrough.inference.parts import ALPHA_THRESHOLD, Part, cut_parts
from seethrough.inference.split import split_depth, split_sides, two_means

SIZE = (260, 256)


def layer(*boxes: tuple[int, int, int, int], alpha: int = 255) -> np.ndarray:
    """Noise in boxes (left, top, right, bottom)."""
    rgba = np.zeros((*SIZE, 4), np.uint8)
    for left, top, right, bottom in boxes:
        rgba[top:bottom, left:right] = alpha
    rgba[..., :3] = np.random.default_rng(0).integers(0, 256, (*SIZE, 3))
    return rgba


def parts_of(tag: str, rgba: np.ndarray, depth: np.ndarray | float = 0.5) -> list[Part]:
    size = rgba.shape[:2]
    return cut_parts({tag: rgba}, {tag: np.broadcast_to(np.float32(depth), size)})


def test_the_left_of_the_picture_is_the_characters_right():
    hands = layer((20, 120, 60, 200), (200, 110, 240, 210))
    sides = split_sides(parts_of("handwear", hands))
    assert {side.name: side.box for side in sides} == {
        "handwear-r": (20, 120, 60, 200),
        "handwear-l": (200, 110, 240, 210),
    }
    assert {side.tag for side in sides} == {"handwear"}


def test_each_side_has_the_median_of_its_own_depth():
    depth = np.full(SIZE, 0.2, np.float32)
    depth[:, 128:] = 0.7
    sides = split_sides(parts_of("ears", layer((0, 9, 40, 99), (200, 9, 240, 99)), depth))
    assert {side.name: side.depth_median for side in sides} == pytest.approx(
        {"ears-r": 0.2, "ears-l": 0.7}
    )
    assert all((side.depth[side.rgba[..., 3] == 0] == 1).all() for side in sides)


def test_a_third_blob_goes_with_the_side_it_is_nearer_to():
    hands = layer((20, 120, 60, 200), (200, 110, 240, 210), (80, 80, 86, 86), (180, 80, 186, 86))
    boxes = {side.name: side.box for side in split_sides(parts_of("handwear", hands))}
    assert boxes == {"handwear-r": (20, 80, 86, 200), "handwear-l": (180, 80, 240, 210)}


def test_strokes_of_one_eye_stay_together():
    """The two largest blobs are both of the near eye."""
    lashes = layer((20, 50, 90, 60), (20, 70, 90, 78), (170, 50, 200, 58), (172, 70, 198, 74))
    boxes = {side.name: side.box for side in split_sides(parts_of("eyelash", lashes))}
    assert boxes == {"eyelash-r": (20, 50, 90, 78), "eyelash-l": (170, 50, 200, 74)}


@pytest.mark.parametrize(
    ("tag", "boxes"),
    [
        ("handwear", [(20, 20, 99, 99)]),
        ("handwear", [(20, 20, 99, 99), (200, 20, 203, 23)]),
        ("handwear", [(20, 20, 60, 60), (20, 100, 60, 140)]),
        ("handwear", [(at, at, at + 1, at + 1) for at in range(20, 200)]),
        ("topwear", [(20, 20, 60, 60), (120, 20, 160, 60)]),
    ],
    ids=["one blob", "and a speck", "one above the other", "a diagonal", "a tag without sides"],
)
def test_what_has_no_two_sides_stays_whole(tag: str, boxes: list[tuple[int, int, int, int]]):
    parts = parts_of(tag, layer(*boxes))
    assert split_sides(parts) == parts


blobs = st.tuples(st.integers(0, 27), st.integers(0, 27), st.integers(3, 9), st.integers(3, 9))


@given(blobs=st.lists(blobs, min_size=1, max_size=6), alpha=st.integers(11, 255))
def test_sides_share_out_every_pixel(blobs: list[tuple[int, int, int, int]], alpha: int):
    rgba = np.zeros((32, 32, 4), np.uint8)
    for x, y, width, height in blobs:
        rgba[y : y + height, x : x + width] = alpha
    sides = split_sides(parts_of("irides", rgba))
    count = np.zeros((32, 32), int)
    for side in sides:
        count[side.window] += side.rgba[..., 3] > ALPHA_THRESHOLD
    assert np.array_equal(count, rgba[..., 3] > ALPHA_THRESHOLD)


def test_what_is_too_transparent_for_a_blob_goes_with_the_nearest():
    ears = layer((20, 50, 60, 90), (180, 50, 220, 90))
    ears[60:70, 60:64, 3] = 5
    ears[55, 62, 3] = 255  # opens the left one's box
    left, right = split_sides(parts_of("ears", ears))
    assert left.box == (20, 50, 63, 90)
    assert (left.rgba[10:20, 40:43, 3] == 5).all()
    assert right.box == (180, 50, 220, 90)


def two_levels(alpha: int = 255) -> Part:
    """The left half is near and blue, the right half far and green."""
    rgba = layer((20, 20, 120, 120), alpha=alpha)
    rgba[:, :70, :3] = (0, 0, 250)
    rgba[:, 70:, :3] = (0, 250, 0)
    depth = np.full(SIZE, 0.2, np.float32)
    depth[:, 70:] = 0.7
    return parts_of("hair", rgba, depth)[0]


def test_near_and_far_are_told_apart_by_depth():
    far, near = split_depth([two_levels()])
    assert (near.name, far.name) == ("hair-0", "hair-1")
    assert (near.depth_median, far.depth_median) == pytest.approx((0.2, 0.7))
    assert (near.rgba[:, :50, 3] == 255).all()
    feathered = near.rgba[:, 50, 3]
    assert (feathered > 0).all() and (feathered < 128).all()
    assert near.box == (20, 20, 71, 120)
    assert far.box == (20, 20, 120, 120)


def test_an_outline_whose_depth_fades_is_no_far_half():
    """The depth of a part's outermost pixels is often that of what is behind it."""
    sharp = two_levels()
    depth = sharp.depth.copy()
    depth[:3], depth[-3:], depth[:, :3], depth[:, -3:] = 1, 1, 1, 1
    far, near = split_depth([attrs.evolve(sharp, depth=depth)])
    assert near.box == (20, 20, 71, 120)
    assert (near.depth_median, far.depth_median) == pytest.approx((0.2, 0.7))


def test_the_far_half_goes_on_behind_the_near_one_in_its_own_colour():
    far, _ = split_depth([two_levels()])
    assert (far.rgba[..., 3] == 255).all()
    assert np.abs(far.rgba[..., :3].astype(int) - (0, 250, 0)).max() <= 2
    assert far.depth == pytest.approx(0.7)


def test_a_nearly_opaque_far_half_has_no_hole():
    """Networks predict such an alpha inside a part."""
    far, _ = split_depth([two_levels(alpha=245)])
    assert (far.rgba[..., 3] == 245).all()


@pytest.mark.parametrize("alpha", [255, 128])
def test_near_over_far_looks_like_the_part(alpha: int):
    part = two_levels(alpha)
    noise = np.random.default_rng(1).integers(0, 256, part.rgba.shape, np.uint8)
    part = attrs.evolve(part, rgba=np.dstack([noise[..., :3], part.rgba[..., 3]]))
    before, after = (flatten_placed(parts, SIZE) for parts in ([part], split_depth([part])))
    assert np.abs(before.alpha - after.alpha).max() <= 1.5 / 255
    assert np.abs(before.color - after.color).max() <= 1.5 / 255


@given(
    alpha=arrays(np.uint8, (9, 11)),
    depth=arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32)),
)
def test_any_alpha_and_depth_look_the_same_split(alpha: np.ndarray, depth: np.ndarray):
    """Where the part is nearly opaque, it may become a little more so."""
    rgba = np.dstack([np.full((9, 11, 3), (20, 150, 220), np.uint8), alpha])
    parts = parts_of("hair", rgba, depth)
    before, after = (flatten_placed(each, (9, 11)) for each in (parts, split_depth(parts)))
    assert (before.alpha - after.alpha).max() <= 11.5 / 255  # cut to boxes of solid pixels
    assert (after.alpha - before.alpha).max() <= 0.1


def test_one_depth_is_not_split():
    flat, other = (
        parts_of("hair", layer((20, 20, 120, 120))),
        parts_of("topwear", layer((0, 0, 9, 9))),
    )
    assert split_depth(flat + other) == flat + other


def test_a_far_half_of_which_nothing_shows_is_not_split_off():
    """Single faint pixels, under a near half's feathered edge."""
    depth = np.full(SIZE, 0.2, np.float32)
    depth[40:100:4, 40:100:4] = 0.9
    parts = parts_of("hair", layer((20, 20, 120, 120), alpha=12), depth)
    assert split_depth(parts) == parts


def test_any_tag_can_be_asked_for():
    part = two_levels()
    assert [half.name for half in split_depth([part], ["hair"])] == ["hair-1", "hair-0"]
    assert split_depth([part], ["topwear"]) == [part]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.data())
def test_two_means_finds_the_best_cut(numbers: list[int], data: st.DataObject):
    values = np.sort(np.array(numbers, np.float64))
    weights = np.array([data.draw(st.integers(1, 5)) for _ in numbers], np.float64)

    def within(cut: int) -> float:
        total = 0.0
        for half in (slice(None, cut), slice(cut, None)):
            mean = np.average(values[half], weights=weights[half])
            total += float(weights[half] @ (values[half] - mean) ** 2)
        return total

    cut = two_means(values, weights)
    cuts = [at for at in range(1, len(values)) if values[at] > values[at - 1]]
    if not cuts:
        assert cut == 0
        return
    assert cut in cuts
    assert within(cut) == pytest.approx(min(map(within, cuts)), abs=1e-6)
