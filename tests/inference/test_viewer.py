"""The page is tried as a person would: in Debian's Chromium, by pointer, touch and keyboard."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from seethrough.errors import InputError
from seethrough.inference.composite import flatten
from seethrough.inference.parts import Part
from seethrough.inference.viewer import write_page

NAME = 'Ann <script>alert("1")</script>'
SIZE = {"width": 900, "height": 640}
SIDE = 500
FILLED = 0.94
"""Share of the view's height that a square page fills."""
BESIDE = {"PSD": "Ann.psd", "Depth PSD": "Ann_depth.psd", "JSON": "Ann.psd.json"}
NAMES = ("back hair", "face <b>", "eyes-l", "front hair")
DEPTHS = (0.8, 0.6, 0.4, 0.2)
SLACK = 5
"""Levels beside the exact composite: a browser rounds after each of four layers and the ground."""

Open = Callable[..., Page]


def soft_disc(side: int, color: tuple[int, int, int], softness: int) -> np.ndarray:
    """A disc that fills a square, its alpha falling from 255 to 0 over `softness` pixels."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip((side / 2 - np.hypot(rows, columns)) / softness, 0, 1)
    picture = np.empty((side, side, 4), np.uint8)
    picture[..., :3] = color
    picture[..., 3] = np.rint(255 * alpha)
    return picture


def make_parts(side: int = SIDE) -> list[Part]:
    """Four soft discs of which each lies partly over the one before."""
    unit = side // 10
    places = ((1, 1, 8), (2, 2, 6), (3, 4, 2), (2, 2, 3))
    colors = ((90, 40, 10), (250, 220, 200), (20, 60, 200), (200, 40, 90))
    parts = []
    for name, depth, place, color in zip(NAMES, DEPTHS, places, colors, strict=True):
        left, top, length = (unit * number for number in place)
        picture = soft_disc(length, color, softness=length // 3)
        depths = np.where(picture[..., 3] > 0, depth, 1).astype(np.float32)
        box = (left, top, left + length, top + length)
        part = Part(
            tag=name.split("-")[0],
            name=name,
            box=box,
            rgba=picture,
            depth=depths,
            depth_median=depth,
        )
        parts.append(part)
    return parts


def make_original(side: int = SIDE) -> np.ndarray:
    """Opaque but for a band."""
    original = np.full((side, side, 4), 255, np.uint8)
    original[..., 0] = np.linspace(0, 255, side)
    original[side // 4 : side // 3] = 0
    return original


def recomposition(parts: list[Part], ground: int, side: int = SIDE) -> np.ndarray:
    """(side, side, 3) levels: the parts over each other on a grey ground."""
    layers = []
    for part in parts:
        left, top, right, bottom = part.box
        layer = np.zeros((side, side, 4), np.uint8)
        layer[top:bottom, left:right] = part.rgba
        layers.append(layer)
    flat = flatten(layers, (side, side))
    return 255 * flat.color + ground * (1 - flat.alpha[..., None])


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer")
    return write_page(folder, NAME, make_original(), make_parts(), BESIDE)


def data_uris(path: Path) -> list[str]:
    return re.findall(r'src="data:image/webp;base64,([^"]+)"', path.read_text(encoding="utf-8"))


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGBA"))


def test_each_picture_is_embedded_once_and_without_loss(viewer: Path):
    uris = data_uris(viewer)
    assert len(uris) == len(set(uris)) == 2 * len(NAMES) + 1
    for picture, part in zip(uris[:-1:2], make_parts(), strict=True):
        seen = part.rgba[..., 3] > 0
        assert np.array_equal(decode(picture)[seen], part.rgba[seen])
    for depth, part in zip(uris[1:-1:2], make_parts(), strict=True):
        assert np.array_equal(decode(depth)[..., 0], np.rint(255 * part.depth))
    assert np.array_equal(decode(uris[-1]), make_original())


def test_the_same_arguments_give_the_same_bytes(viewer: Path, tmp_path: Path):
    again = write_page(tmp_path, NAME, make_original(), make_parts(), BESIDE)
    assert again == tmp_path / "index.html"
    assert again.read_bytes() == viewer.read_bytes()


def test_depth_is_left_out_where_there_is_none(tmp_path: Path):
    part = make_parts()[0]
    nowhere = attrs.evolve(part, depth=np.ones_like(part.depth), depth_median=1.0)
    path = write_page(tmp_path, NAME, make_original(), [nowhere])
    assert len(data_uris(path)) == 2
    assert 'value="depth"' not in path.read_text(encoding="utf-8")


def test_pictures_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"page_rgba: found \(500, 500, 3\)"):
        write_page(tmp_path, NAME, make_original()[..., :3], [])
    with pytest.raises(InputError, match="'back hair' is empty or leaves the page of 100 x 100"):
        write_page(tmp_path, NAME, make_original(100), make_parts())
    part = make_parts()[0]
    cut = attrs.evolve(part, rgba=part.rgba[1:])
    with pytest.raises(InputError, match=r"'back hair' has pictures of .* the size of the box"):
        write_page(tmp_path, NAME, make_original(), [cut])
    assert not (tmp_path / "index.html").exists()


@pytest.fixture
def open_viewer(browser: Browser, viewer: Path) -> Iterator[Open]:
    """Opens the page; at the end nothing was requested, and the console is clean."""
    contexts = []
    opened: list[str] = []
    requests: list[str] = []
    complaints: list[str] = []

    def open_it(path: Path = viewer, **options: object) -> Page:
        settings = {"viewport": SIZE, "reduced_motion": "reduce", "color_scheme": "light"}
        context = browser.new_context(**(settings | options))  # pyright: ignore[reportArgumentType]
        contexts.append(context)
        opened.append(path.as_uri())
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith("data:")] == opened
    assert complaints == []


def settle(page: Page) -> None:
    """Wait until what was done is laid out."""
    frame = "requestAnimationFrame"
    page.evaluate(f"new Promise(done => {frame}(() => {frame}(done)))")


def screenshot(page: Page) -> np.ndarray:
    """What is seen of the page in the viewer, one pixel for one: (SIDE, SIDE, 3) levels."""
    stage = page.locator("#stage").bounding_box()
    window = page.viewport_size
    assert stage is not None and window is not None
    height = window["height"] + SIDE / FILLED - stage["height"]  # Fonts say how tall controls are.
    page.set_viewport_size({"width": window["width"], "height": round(height)})
    settle(page)
    box = page.locator("#plane").bounding_box()
    assert box is not None and (box["width"], box["height"]) == (SIDE, SIDE)
    image = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")  # pyright: ignore[reportArgumentType]
    return np.asarray(image, np.float64)


def assert_close(picture: np.ndarray, expected: np.ndarray) -> None:
    """But at the edges: an outline lies there, and labels over the lower one."""
    difference = np.abs(picture - expected)[2:-60, 2:-2]
    assert difference.max() <= SLACK and difference.mean() <= 1


def row(page: Page, name: str) -> Locator:
    return page.locator("#rows li").nth(len(NAMES) - 1 - NAMES.index(name))


def shown(page: Page) -> list[str]:
    """Names of the layers that the view shows, back to front."""
    visible = page.locator(".layer").evaluate_all(
        "plates => plates.map(plate => getComputedStyle(plate).visibility === 'visible')"
    )
    return [name for name, is_visible in zip(NAMES, visible, strict=True) if is_visible]


def current(page: Page) -> str:
    return page.locator("#rows li.current b").inner_text()


def center(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize(("key", "ground"), [("g", 255), ("gg", 0)])
def test_layers_over_each_other_are_the_recomposition(open_viewer: Open, key: str, ground: int):
    page = open_viewer()
    for letter in key:
        page.keyboard.press(letter)
    assert_close(screenshot(page), recomposition(make_parts(), ground))


def test_names_are_text_and_front_is_first(open_viewer: Open):
    page = open_viewer()
    assert page.locator("h1").inner_text() == NAME
    assert page.locator("#rows b").all_inner_texts() == list(reversed(NAMES))
    assert row(page, "eyes-l").locator("small").inner_text() == "depth 0.40"


def test_a_layer_is_hidden_and_shown(open_viewer: Open):
    page = open_viewer()
    page.keyboard.press("g")
    eye = row(page, "face <b>").get_by_role("checkbox", name="Show face <b>")
    eye.uncheck()
    assert page.locator("#status").inner_text() == "face <b> hidden"
    assert shown(page) == ["back hair", "eyes-l", "front hair"]
    rest = [part for part in make_parts() if part.name != "face <b>"]
    assert_close(screenshot(page), recomposition(rest, 255))
    page.keyboard.press("v")
    assert shown(page) == list(NAMES) and eye.is_checked()
    page.get_by_role("button", name="Hide all").click()
    assert shown(page) == []
    page.get_by_role("button", name="Show all").click()
    assert shown(page) == list(NAMES)


def test_solo_shows_one_layer_and_walks_through_them(open_viewer: Open):
    page = open_viewer()
    solo = row(page, "face <b>").get_by_role("button", name="Solo face <b>")
    solo.click()
    assert solo.get_attribute("aria-pressed") == "true"
    assert shown(page) == ["face <b>"]
    page.keyboard.press("k")
    assert shown(page) == ["eyes-l"] and current(page) == "eyes-l"
    for _ in range(5):
        page.keyboard.press("j")
    assert shown(page) == ["back hair"]
    page.keyboard.press("s")
    assert shown(page) == list(NAMES)


def test_alpha_view_shows_alpha_as_grey(open_viewer: Open):
    page = open_viewer()
    row(page, "back hair").locator(".solo").click()
    page.get_by_text("Alpha", exact=True).click()
    part = make_parts()[0]
    left, top, right, bottom = part.box
    alpha = np.zeros((SIDE, SIDE, 1))
    alpha[top:bottom, left:right, 0] = part.rgba[..., 3]
    assert_close(screenshot(page), np.broadcast_to(alpha, (SIDE, SIDE, 3)))


def test_depth_view_is_lighter_the_nearer(open_viewer: Open):
    page = open_viewer()
    page.keyboard.press("3")
    assert page.get_by_role("radio", name="Depth").is_checked()
    lightness = []
    for name in NAMES:
        row(page, name).locator(".solo").click()
        left, top, right, bottom = make_parts()[NAMES.index(name)].box
        lightness.append(screenshot(page)[(top + bottom) // 2, (left + right) // 2].mean())
    assert lightness == sorted(lightness) and len(set(lightness)) == len(NAMES)


def test_the_wipe_has_the_original_left_and_the_layers_right(open_viewer: Open):
    page = open_viewer()
    page.keyboard.press("g")
    page.keyboard.press("w")
    original = make_original()
    flat = np.where(original[..., 3:] > 0, original[..., :3], 255)
    for share in (0.5, 0.3):
        line = round(share * SIDE)
        picture = screenshot(page)
        left, right = np.s_[60:220, : line - 25], np.s_[60:220, line + 25 :]
        assert_close(picture[left], flat[left])
        assert_close(picture[right], recomposition(make_parts(), 255)[right])
        # Then the line is dragged to the next place.
        x, y = center(page, ".divider i")
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 0.2 * SIDE, y, steps=4)
        page.mouse.up()
    assert page.locator("#wipe").input_value() == "10"
    page.locator("#wipe").press("Home")
    assert not page.locator(".divider").is_visible()


def spans(page: Page) -> list[float]:
    """Heights of the plates on the screen, back to front: what is nearer is larger."""
    return page.locator(".layer").evaluate_all(
        "plates => plates.map(plate => plate.getBoundingClientRect().height)"
    )


@pytest.mark.parametrize("window", [SIZE, {"width": 700, "height": 900}])
def test_exploded_layers_stand_apart_in_drawing_order(open_viewer: Open, window: dict[str, int]):
    page = open_viewer(viewport=window)
    assert len(set(spans(page))) == 1
    page.locator("#explode").focus()
    page.keyboard.press("End")
    heights = spans(page)
    assert heights == sorted(heights) and heights[-1] > 1.2 * heights[0]
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    for plate in page.locator(".layer").all():
        box = plate.bounding_box()
        assert box is not None
        assert box["x"] >= stage["x"] and box["y"] >= stage["y"]
        assert box["x"] + box["width"] <= stage["x"] + stage["width"]
        assert box["y"] + box["height"] <= stage["y"] + stage["height"]
    page.keyboard.press("w")
    assert len(set(spans(page))) == 1 and page.locator("#explode").input_value() == "0"
    page.keyboard.press("e")
    assert page.locator("#wipe").input_value() == "0"
    page.get_by_role("button", name="Reset view").click()
    assert "rotate" not in page.locator("#plane").evaluate("plane => plane.style.transform")
    assert page.locator("#stage").evaluate("stage => stage === document.activeElement")


def test_tilt_by_pointer_and_by_keys(open_viewer: Open):
    page = open_viewer()
    transform = "plane => plane.style.transform"
    x, y = center(page, "#stage")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=5)
    page.mouse.up()
    assert "rotateX(0deg) rotateY(35deg)" in page.locator("#plane").evaluate(transform)
    assert current(page) == "front hair"  # A drag chooses nothing.
    page.locator("#stage").press("ArrowUp")
    assert "rotateX(5deg)" in page.locator("#plane").evaluate(transform)
    for _ in range(30):
        page.locator("#stage").press("ArrowRight")
    assert "rotateY(75deg)" in page.locator("#plane").evaluate(transform)


def test_zoom_stays_at_the_pointer(open_viewer: Open):
    page = open_viewer()
    before = page.locator("#plane").bounding_box()
    assert before is not None
    page.mouse.move(before["x"], before["y"])
    page.mouse.wheel(0, -400)
    settle(page)
    after = page.locator("#plane").bounding_box()
    assert after is not None
    assert after["width"] > 2 * before["width"]
    assert after["x"] == pytest.approx(before["x"], abs=1)
    assert after["y"] == pytest.approx(before["y"], abs=1)


@pytest.mark.parametrize("exploded", [False, True])
def test_a_click_chooses_what_is_seen_there(open_viewer: Open, exploded: bool):
    page = open_viewer()
    if exploded:
        page.keyboard.press("e")
    # Each is chosen once those in front of it are hidden, while another is the current one.
    for name, before in zip(reversed(NAMES), ["back hair", *reversed(NAMES[1:])], strict=True):
        row(page, before).locator(".pick").click()
        x, y = center(page, f".layer >> nth={NAMES.index(name)} >> .part")
        page.mouse.click(x, y)
        assert current(page) == name
        row(page, name).locator(".eye input").uncheck()
    row(page, "eyes-l").locator(".pick").click()
    page.mouse.click(*center(page, "#stage"))
    assert current(page) == "eyes-l"  # Nothing is shown there any more.


def test_everything_is_reached_by_tab_with_focus_in_sight(open_viewer: Open):
    page = open_viewer()
    # An invisible control shows its focus on what follows it.
    focused = """() => {
        const element = document.activeElement;
        const outlined = [element, element.nextElementSibling].some(one => one
            && getComputedStyle(one).opacity > 0 && getComputedStyle(one).outlineStyle === "solid");
        const inRow = element.closest("li") && (element.className || "eye");
        return [inRow || element.id || element.name || element.textContent, outlined];
    }"""
    for expected in (
        *(
            "PSD",
            "Depth PSD",
            "JSON",
            "open-help",
            "stage",
            "explode",
            "wipe",
            "view",
            "ground",
            "all",
        ),
        *("eye", "pick", "solo"),  # Of one row: the tab key takes the list as one.
    ):
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == [expected, True]


def test_arrows_move_in_the_list_and_keep_to_the_kind_of_control(open_viewer: Open):
    page = open_viewer()
    row(page, "front hair").locator(".solo").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert shown(page) == ["eyes-l"]
    page.keyboard.press("End")
    assert shown(page) == ["back hair"]
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Solo back hair"
    row(page, "back hair").locator(".eye input").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    assert shown(page) == ["back hair", "face <b>", "eyes-l"]


def test_help_lists_the_keys_and_can_turn_them_off(open_viewer: Open):
    page = open_viewer()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard and touch")
    assert dialog.is_visible()
    keys = set("".join(dialog.locator("kbd").all_inner_texts()).upper())
    assert set("KJVSAEW123G+R") <= keys
    page.keyboard.press("s")
    assert shown(page) == list(NAMES)  # Keys act on nothing behind the dialog.
    dialog.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.keyboard.press("s")
    assert shown(page) == list(NAMES)


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_nothing_sticks_out(open_viewer: Open, width: int):
    page = open_viewer(viewport={"width": width, "height": 700}, has_touch=width == 360)
    for key in ("", "e", "w", "3"):
        if key:
            page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for control in page.locator("button:visible, input:visible").all():
        box = control.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_touch_at_phone_width(open_viewer: Open):
    page = open_viewer(viewport={"width": 360, "height": 700}, has_touch=True)
    row(page, "back hair").locator(".eye").tap()
    assert shown(page) == ["face <b>", "eyes-l", "front hair"]
    # The view stays in sight while the list is scrolled.
    row(page, "back hair").scroll_into_view_if_needed()
    stage = page.locator("#stage").bounding_box()
    assert stage is not None and stage["y"] >= 0
    page.touchscreen.tap(*center(page, ".layer >> nth=2 >> .part"))
    assert current(page) == "eyes-l"


def test_two_fingers_zoom_and_move(open_viewer: Open):
    page = open_viewer(viewport={"width": 360, "height": 700}, has_touch=True)
    before = page.locator("#plane").bounding_box()
    x, y = center(page, "#stage")
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        named = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": named})

    touch("touchStart", (x - 40, y), (x + 40, y))
    for step in range(1, 5):
        touch("touchMove", (x - 40 - 5 * step, y), (x + 40 + 15 * step, y))
    touch("touchEnd")
    settle(page)
    after = page.locator("#plane").bounding_box()
    assert before is not None and after is not None
    # Twice as far apart, about a middle that went 20 pixels to the right.
    assert after["width"] == pytest.approx(2 * before["width"], rel=0.05)
    assert after["x"] + after["width"] / 2 == pytest.approx(x + 20, abs=8)
    assert current(page) == "front hair"


def test_settings_of_the_reader_are_respected(open_viewer: Open):
    explode = """() => {
        document.dispatchEvent(new KeyboardEvent("keydown", {key: "e"}));
        return document.getAnimations().length > 0;
    }"""
    for reduced in ("reduce", "no-preference"):
        page = open_viewer(reduced_motion=reduced)
        assert page.evaluate(explode) == (reduced == "no-preference")
    color = "getComputedStyle(document.body).backgroundColor"
    light, dark = (open_viewer(color_scheme=scheme).evaluate(color) for scheme in ("light", "dark"))
    assert light != dark


def test_a_page_without_layers_knows_its_keys(open_viewer: Open, tmp_path: Path):
    page = open_viewer(write_page(tmp_path, "empty", make_original(40), []))
    for key in "kjvsaew12g+-r":
        page.keyboard.press(key)
    assert page.locator(".title p").inner_text().startswith("0 layers")
