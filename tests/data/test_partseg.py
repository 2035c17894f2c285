"""Pages and their parts: cut, mirrored and changed alike."""

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

from seethrough.data.draws import Draw
from seethrough.data.part_masks import encode_mask
from seethrough.data.partseg import WHOLE, PartSegDataset, View
from seethrough.data.tags import TAGS_V3
from seethrough.errors import InputError
from seethrough.models.semantic_sam import normalised

SIDE = 64


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A wide page, 40 x 60: each of three parts has a colour of its own."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    masks = np.zeros((len(TAGS_V3), 40, 60), bool)
    for plane, (rows, columns) in enumerate(((8, 20), (12, 44), (28, 30))):
        where = np.s_[rows : rows + 8, columns : columns + 8]
        masks[plane][where] = True
        pixels[where] = np.eye(3, dtype=np.uint8)[plane] * 200
    Image.fromarray(pixels).save(tmp_path / "page.png")
    entries = [encode_mask(mask) | {"is_valid": place != 19} for place, mask in enumerate(masks)]
    (tmp_path / "page.json").write_text(json.dumps(entries))
    return tmp_path / "page.png"


def dataset(page: Path, **options: Any) -> PartSegDataset:
    return PartSegDataset(
        **{"sources": [(page, 1)], "tags": TAGS_V3, "target_size": SIDE, **options}
    )


def at(index: int) -> Draw:
    return Draw(seed=0, stage="train", step=0, index=index, sample=0)


def agrees(item: dict[str, Any]) -> float:
    """Share of pixels at which the parts' colours are where their masks are."""
    picture, masks = item["picture"].numpy(), item["masks"][:3].numpy()
    return float(((picture > 100) == masks).mean())


def test_a_page_lies_in_the_middle_of_its_square(page: Path) -> None:
    item = dataset(page)[at(0)]
    assert item["picture"].shape == (3, SIDE, SIDE) and item["masks"].shape == (23, SIDE, SIDE)
    assert item["valid"].tolist() == [place != 19 for place in range(23)]
    rows = np.flatnonzero(item["picture"].numpy().any((0, 2)))
    # 40 of 60 rows are the page: 10 are black above it, and 8 more above the first part.
    assert rows[0] == pytest.approx(18 * SIDE / 60, abs=1)
    padding = normalised(item["picture"][None])[0, :, -1, 0]
    assert padding.tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert agrees(item) > 0.99


def test_parts_go_where_the_picture_goes(page: Path) -> None:
    changed = dataset(page, random_flip=1.0, random_crop=1.0, random_crop_ratio=0.3)
    views = {changed.view(at(index)) for index in range(20)}
    assert len({view.shrinkage for view in views}) == 20
    flips = {(view.flip_horizontal, view.flip_vertical) for view in views}
    assert flips == {(False, False), (True, False), (False, True), (True, True)}
    for index in range(20):
        assert agrees(changed[at(index)]) > 0.98


def test_mirroring_is_mirroring(page: Path) -> None:
    pixels = np.asarray(Image.open(page))
    whole = WHOLE.picture(pixels, 60)
    for horizontal, vertical, axes in ((True, False, 2), (False, True, 1), (True, True, (1, 2))):
        view = attrs.evolve(WHOLE, flip_horizontal=horizontal, flip_vertical=vertical)
        assert np.array_equal(view.picture(pixels, 60), np.flip(whole, axes))


def test_the_left_eye_of_a_mirrored_face_is_on_the_left(tmp_path: Path) -> None:
    """Its classes are told apart by sides of the picture."""
    labels = np.zeros((8, 8), np.uint8)
    labels[2, 1], labels[2, 6], labels[5, 3] = 4, 5, 10
    Image.fromarray(labels).save(tmp_path / "page_faceseg.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "page.png")
    faces = dataset(
        tmp_path,
        tags=("l_eye", "r_eye", "nose"),
        target_size=8,
        random_flip=1.0,
        flip_horizontal=1.0,
        flip_vertical=0.0,
    )
    # The label map of a page is no page.
    assert len(faces) == 1
    places = [np.argwhere(mask).tolist() for mask in faces[at(0)]["masks"].numpy()]
    assert places == [[[2, 1]], [[2, 6]], [[5, 4]]]


def test_detail_and_colour_change_the_picture_alone(page: Path) -> None:
    plain = dataset(page)[at(0)]
    for option in ({"random_hsv": 1.0}, {"random_downscale": 1.0, "downscale_sizes": (16,)}):
        item = dataset(page, **option)[at(0)]
        assert not np.array_equal(item["picture"], plain["picture"])
        assert np.array_equal(item["masks"], plain["masks"])


def test_an_item_follows_from_its_draw(page: Path) -> None:
    options = {"random_flip": 0.5, "random_crop": 0.5, "random_hsv": 0.5, "random_downscale": 0.5}
    one, again = dataset(page, **options), dataset(page, **options)
    assert all(np.array_equal(one[at(i)]["picture"], again[at(i)]["picture"]) for i in range(8))
    chosen = [one.view(at(index)) for index in range(400)]
    for used in (
        lambda view: view.shrinkage is not None,
        lambda view: view.hsv_change is not None,
        lambda view: view.small_side is not None,
    ):
        assert sum(map(used, chosen)) / 400 == pytest.approx(0.5, abs=0.1)
    # Half may be mirrored, and of these 0.2 * 0.7 are not after all.
    still = sum(not (view.flip_horizontal or view.flip_vertical) for view in chosen) / 400
    assert still == pytest.approx(0.57, abs=0.1)


def test_a_mask_of_no_pixel_costs_nothing_and_stays_empty(page: Path) -> None:
    masks = View(None, True, True, None, None).masks(np.zeros((2, 5, 7), bool), 9)
    assert masks.shape == (2, 9, 9) and not masks.any()


def test_bad_input_is_named(page: Path) -> None:
    with pytest.raises(InputError, match="'hairs' is no part; known are hair"):
        dataset(page, tags=("hairs",))
    page.with_name("page.json").unlink()
    with pytest.raises(InputError, match=r"page\.png: has no masks"):
        dataset(page)[at(0)]
