"""The page of the worst cases is looked at as a person would: in Debian's Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from seethrough.data.part_masks import encode_mask
from seethrough.data.tags import TAGS_V2
from tests.benchmark.conftest import benchmark

PHONE = {"width": 390, "height": 800}
DESK = {"width": 1300, "height": 900}
NAMES = ("Ann & <i>", "n" * 100)
"""Of the pages; the last has no prediction."""
SIZE = (60, 400)
"""Height and width of the pages: wider than a phone when they are as tall as pictures are."""


@pytest.fixture(scope="module")
def worst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that a benchmark of part segmentation writes."""
    folder = tmp_path_factory.mktemp("worst")
    half = np.zeros(SIZE, bool)
    half[:, :200] = True
    for name in NAMES:
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(folder / f"{name}.png")
        (folder / f"{name}.json").write_text(json.dumps([encode_mask(half)] * len(TAGS_V2)))
    found = [encode_mask(np.roll(half, 10 * place, axis=1)) for place in range(len(TAGS_V2))]
    (folder / "found").mkdir()
    (folder / "found" / f"{NAMES[0]}_masks.json").write_text(json.dumps(found))
    benchmark("partseg", folder, folder / "found", f"--out={folder / 'out'}", "--worst=4", code=1)
    return folder / "out" / "worst.html"


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def page(browser: Browser, worst: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page in a browser; at the end nothing was requested, and the console is clean."""
    context = browser.new_context(viewport=request.param, color_scheme="dark")
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(worst.as_uri())
    yield page
    context.close()
    assert [url for url in requests if not url.startswith("data:")] == [worst.as_uri()]
    assert complaints == []


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    window = page.viewport_size
    assert window is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= window["width"]
    for picture in page.locator("img").all():
        box = picture.bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 100
        assert box["x"] >= 0 and box["x"] + box["width"] <= window["width"]


def test_text_is_large_enough_to_read(page: Page) -> None:
    sizes = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one => one.innerText)"
        ".map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert len(sizes) > 100 and min(sizes) >= 12


def test_the_table_is_scrolled_by_keys_and_keeps_its_names_in_sight(page: Page) -> None:
    table = page.get_by_role("region", name="Means over all samples")
    names = table.locator("tbody th")
    assert names.all_inner_texts() == ["all", *TAGS_V2]
    table.focus()
    if page.viewport_size == PHONE:
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 100")
    box, name = table.bounding_box(), names.first.bounding_box()
    assert box is not None and name is not None
    assert name["x"] == pytest.approx(box["x"], abs=2)


def test_the_worst_come_first_with_their_pictures(page: Page) -> None:
    cases = page.locator("article")
    assert cases.count() == 4
    assert cases.first.locator("h3").inner_text() == f"{NAMES[0]}: objects"
    # Of 200 columns those that were found lie 180 beside.
    assert cases.first.locator("dd").inner_text() == "0.053"
    pictures = cases.first.get_by_role("img")
    assert [picture.get_attribute("alt") for picture in pictures.all()] == [
        f"{what} of {NAMES[0]}: objects" for what in ("page", "true", "predicted")
    ]
    shown = "images => images.every(image => image.complete && image.naturalWidth)"
    assert page.locator("img").evaluate_all(shown)


def test_what_failed_is_told_whole(page: Page) -> None:
    failed = page.get_by_text("Failed, and in no mean:")
    assert f"{NAMES[1]}: no prediction of this page" in failed.inner_text()
