"""Meshes are drawn as a GPU draws them; OpenCV's affine warp is the reference."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seethrough.errors import InputError
from seethrough.ingest.live2d_raster import draw_mesh, make_texture, read_texture, sample

CANVAS = (64, 48)
QUAD = np.array([[0, 1, 2], [0, 2, 3]])
"""A rectangle's triangles; counter-clockwise where its corners are so with y up."""
SMOOTH = np.asarray(
    cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8), (64, 64)), np.uint8
)
"""(64, 64, 4) straight RGBA without edges."""


def draw(corners, texture=None, uvs=None, triangles=QUAD, **options):
    corners = np.array(corners, float)
    uvs = corners / (64, 64) if uvs is None else np.array(uvs, float)
    return draw_mesh(corners, uvs, triangles, texture or make_texture(SMOOTH), CANVAS, **options)


def coverage(corners, triangles=QUAD):
    """Which pixels of the canvas each triangle draws, counted."""
    opaque = make_texture(np.full((2, 2, 4), 255, np.uint8))
    counted = np.zeros(CANVAS[::-1], int)
    for triangle in triangles:
        drawn = draw(corners, opaque, triangles=triangle[None])
        if drawn is not None:
            x, y = drawn.corner
            height, width = drawn.rgba.shape[:2]
            counted[y : y + height, x : x + width] += drawn.rgba[..., 3] > 0.5
    return counted


def test_an_affine_mesh_is_the_affine_warp_of_its_texture():
    to_texels = np.array([[0.9, 0.2, 3.0], [-0.15, 0.8, 9.0]])
    corners = np.array([[4, 4], [4, 40], [52, 40], [52, 4]], float)
    uvs = (corners @ to_texels[:, :2].T + to_texels[:, 2]) / 64

    drawn = draw(corners, uvs=uvs)

    # OpenCV's pixel centres are whole numbers, ours lie at halves.
    to_texels[:, 2] += to_texels[:, :2] @ (0.5, 0.5) - 0.5
    straight = SMOOTH.astype(np.float32) / 255
    premultiplied = straight * np.concatenate(
        [straight[..., 3:]] * 3 + [1 + 0 * straight[..., 3:]], 2
    )
    expected = cv2.warpAffine(
        premultiplied,
        to_texels,
        CANVAS,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    assert drawn is not None
    assert drawn.corner == (4, 4) and drawn.rgba.shape == (36, 48, 4)
    np.testing.assert_allclose(drawn.rgba, expected[4:40, 4:52], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        # Halves: many edges run through centres of pixels.
        st.tuples(st.integers(-20, 150), st.integers(-20, 110)),
        min_size=4,
        max_size=4,
    )
)
def test_triangles_that_share_an_edge_draw_each_pixel_once(points):
    corners = np.array(points) / 2
    one, other = (corners[triangle] for triangle in QUAD)

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    # They lie on two sides of the edge from corner 0 to corner 2.
    if side(one[0], one[2], one[1]) * side(one[0], one[2], other[2]) >= 0:
        return
    assert coverage(corners).max() <= 1


def test_centres_on_a_shared_edge_are_drawn_by_one_triangle():
    counted = coverage([[4.5, 4.5], [4.5, 20.5], [20.5, 20.5], [20.5, 4.5]])
    # The left and the top edge are the square's, the right and the lower one its neighbours'.
    assert (counted[4:20, 4:20] == 1).all() and counted.sum() == 256


def test_a_pixel_is_drawn_where_its_centre_lies_inside():
    y, x = np.mgrid[: CANVAS[1], : CANVAS[0]] + 0.5
    corners = [[10.3, 5.2], [40.7, 20.1], [18.9, 44.6], [0, 0]]
    (ax, ay), (bx, by), (cx, cy) = corners[:3]

    def left_of(ax, ay, bx, by):
        return (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0

    inside = left_of(ax, ay, bx, by) & left_of(bx, by, cx, cy) & left_of(cx, cy, ax, ay)
    assert np.array_equal(coverage(corners, QUAD[:1]) > 0, inside)


def test_what_lies_beyond_the_canvas_is_cut_off():
    drawn = draw([[-30, -30], [-30, 200], [200, 200], [200, -30]])
    assert drawn is not None
    assert drawn.corner == (0, 0) and drawn.rgba.shape == (48, 64, 4)
    assert draw([[70, 0], [70, 9], [80, 9], [80, 0]]) is None


def test_a_triangle_seen_from_behind_is_drawn_unless_it_is_culled():
    corners = [[4, 4], [4, 40], [52, 40], [52, 4]]
    back = QUAD[:, ::-1]
    assert draw(corners, cull=True) is not None
    assert draw(corners, triangles=back) is not None
    assert draw(corners, triangles=back, cull=True) is None


def test_triangles_without_area_draw_nothing():
    assert draw([[4, 4], [20, 20], [30, 30], [4, 4]]) is None


def test_mipmaps_average_premultiplied_colours():
    texels = np.zeros((2, 2, 4), np.uint8)
    texels[0, 0] = 255, 0, 0, 255
    texels[1, 1] = 0, 255, 0, 0

    texture = make_texture(texels)

    # What is transparent gives no green.
    assert [level.shape[:2] for level in texture.levels] == [(2, 2), (1, 1)]
    np.testing.assert_allclose(texture.levels[1][0, 0] / 65535, [0.25, 0, 0, 0.25], atol=1e-4)


def test_a_shrunk_mesh_takes_the_level_of_its_size():
    checks = np.zeros((64, 64, 4), np.uint8)
    checks[..., 3] = 255
    checks[::2, ::2, :3] = checks[1::2, 1::2, :3] = 255
    corners = [[0, 0], [0, 16], [16, 16], [16, 0]]

    drawn = draw(corners, make_texture(checks), uvs=[[0, 0], [0, 1], [1, 1], [1, 0]])

    assert drawn is not None
    np.testing.assert_allclose(drawn.rgba[..., :3], 0.5, atol=0.01)


def test_between_levels_colours_are_mixed():
    texture = make_texture(SMOOTH)
    place = np.array([[20.0, 30.0]])
    levels = [sample(texture, place, np.array([level])) for level in (1.0, 2.0, 1.25)]
    np.testing.assert_allclose(levels[2], 0.75 * levels[0] + 0.25 * levels[1], atol=1e-5)


def test_where_triangles_overlap_the_last_shows():
    texture = make_texture(np.array([[[255, 0, 0, 255], [0, 0, 255, 255]]], np.uint8))
    corners = [[4, 4], [4, 40], [52, 40]] * 2
    uvs = [[0.25, 0.5]] * 3 + [[0.75, 0.5]] * 3
    drawn = draw(corners, texture, uvs=uvs, triangles=np.array([[0, 1, 2], [3, 4, 5]]))
    assert drawn is not None
    shown = drawn.rgba[drawn.rgba[..., 3] > 0]
    np.testing.assert_allclose(shown, [[0, 0, 1, 1]] * len(shown))


def test_textures_are_read_and_bad_ones_named(tmp_path: Path):
    path = tmp_path / "texture_00.png"
    Image.fromarray(SMOOTH[..., :3]).save(path)
    assert read_texture(path).size == (64, 64)
    assert (read_texture(path).levels[0][..., 3] == 65535).all()

    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"texture_00\.png: no picture"):
        read_texture(path)
    with pytest.raises(InputError, match=r"missing\.png: the texture can't be read"):
        read_texture(tmp_path / "missing.png")
    Image.new("L", (16_385, 1)).save(path)
    with pytest.raises(InputError, match="16385 x 1 px"):
        read_texture(path)
