"""The page of labels as a person uses it, in Debian's Chromium, and what its server refuses."""

import http.client
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from seethrough.characters.form import Character
from seethrough.characters.labels import FILE_NAME, Label, Labels, read_labels, write_labels
from seethrough.errors import InputError
from seethrough.label.server import ADDRESS, LabelServer
from tests.label.drawn import STACK, Plain, draw

PATIENCE = 60_000
"""Milliseconds: a busy machine is no failure."""
expect.set_options(timeout=PATIENCE)
SIZE = {"width": 1000, "height": 680}
LABELS = Labels(
    tag_set="v3",
    layers={
        "PartHair/HairBack1": Label("back hair", 0.9, "split"),
        "PartFace/Face1": Label("face", 0.95, "name"),
        "PartFace/EyeL": Label("eyelash", 0.15, "split"),
        "PartHair/HairFront1": Label("front hair", 0.4, "votes"),
    },
    made_with="names",
)


@pytest.fixture
def stack(tmp_path: Path) -> Character:
    """One that has five layers to look at, beside one that has a single layer."""
    draw(tmp_path / "all", [Plain("尾", (0, 0, 20, 20))], name="<b>Second</b>")
    character = draw(tmp_path / "all")
    write_labels(character.folder, LABELS)
    return character


@pytest.fixture
def server(stack: Character) -> Iterator[LabelServer]:
    with LabelServer(stack.folder.parent) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, server: LabelServer) -> Iterator[Page]:
    """The open page; at the end its console must be clean."""
    context = browser.new_context(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#rows li")).to_have_count(len(STACK))
    # What a click meets are their pixels.
    page.evaluate(
        "() => Promise.all([...document.querySelectorAll('.part img')].map((i) => i.decode()))"
    )
    yield page
    # What a refused request leaves in the console is Chromium's own line.
    assert [text for text in said if not text.startswith("Failed to load resource")] == []
    context.close()


def on_disk(character: Character) -> Labels:
    labels = read_labels(character.folder)
    assert labels is not None
    return labels


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_text(re.compile("^Saved "))
    page.evaluate("() => saving.running")


def current(page: Page) -> str:
    return page.locator("#rows li.current small").inner_text()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_labels_are_given_by_keyboard_and_lie_on_the_disk(page: Page, stack: Character):
    names = page.locator("#rows li small").all_inner_texts()
    # What has no tag, then the least sure.
    assert set(names[:3]) == {"PartBody / Body1", "PartBody / Legs-x", "PartHair / HairFront2"}
    assert names[3:5] == ["PartFace / EyeL", "PartHair / HairFront1"]
    press(page, "ArrowDown", "ArrowDown", "j", "k", "j")
    assert current(page) == "PartFace / EyeL"
    press(page, "Enter")
    page.keyboard.type("lash")
    expect(page.locator("#tags li")).to_have_text(["eyelash"])
    page.keyboard.press("Control+A")
    page.keyboard.type("brow")
    press(page, "Enter")
    saved(page)
    mine = Label("eyebrow", 1.0, "person")
    assert on_disk(stack) == attrs.evolve(LABELS, layers={**LABELS.layers, "PartFace/EyeL": mine})
    assert list(on_disk(stack).layers) == list(LABELS.layers)
    press(page, "z")
    expect(page.locator("li.current .given b")).to_have_text("eyelash")
    saved(page)
    assert on_disk(stack) == LABELS
    press(page, "Shift+Z", "n", "y", "3")
    saved(page)
    now = on_disk(stack)
    assert now.checked and now.layers["PartFace/EyeL"] == mine
    assert now.layers["PartHair/HairFront1"] == Label("front hair", 1.0, "person")
    press(page, "x")
    left_out = current(page).replace(" / ", "/")
    press(page, "j", ".", "Delete")
    saved(page)
    assert on_disk(stack).layers[left_out] == Label(None, 1.0, "person")
    assert len(on_disk(stack).layers) == 5


def test_a_click_takes_the_topmost_layer_that_is_shown(page: Page):
    def click(x: int, y: int) -> str:
        place = page.evaluate(
            "([x, y]) => { const { scale, left, top } = layOut();"
            " const box = stage.getBoundingClientRect();"
            " return [box.left + left + x * scale, box.top + top + y * scale]; }",
            [x, y],
        )
        page.mouse.click(*place)
        return current(page)

    assert click(100, 35) == "PartHair / HairFront2"
    press(page, "v")
    assert click(100, 35) == "PartHair / HairFront1"
    press(page, "v")
    assert click(100, 50) == "PartFace / Face1"
    assert click(85, 65) == "PartFace / EyeL"
    press(page, "s")
    assert page.locator(".part:not(.off)").count() == 1
    assert click(100, 100) == "PartFace / EyeL"  # Nothing else is shown there.
    press(page, "f")
    framed = page.locator(".frame").bounding_box()
    assert framed is not None and framed["height"] > 200
    press(page, "a", "r", "+", "+")
    assert click(100, 100) == "PartFace / Face1"


def test_what_cannot_be_saved_is_told_and_kept(page: Page, server: LabelServer, stack: Character):
    address = re.compile("/characters/m-")

    def refuse(route: Route) -> None:
        if route.request.method == "PUT":
            route.abort()
        else:
            route.continue_()

    page.route(address, refuse)
    press(page, "2")
    expect(page.locator("#saved")).to_have_text(re.compile("^Not saved: "))
    press(page, "]")
    expect(page.locator("#status")).to_contain_text("Not saved yet")
    expect(page.locator("#name")).to_have_text("M")
    assert not on_disk(stack).incomplete
    page.unroute(address)
    page.get_by_role("button", name="Try again").click()
    saved(page)
    assert on_disk(stack).incomplete
    expect(page.locator("#retry")).to_be_hidden()


def test_a_file_that_another_changed_is_not_overwritten_unasked(page: Page, stack: Character):
    theirs = attrs.evolve(LABELS, valid=False)
    write_labels(stack.folder, theirs)
    press(page, "2")
    expect(page.locator("#saved")).to_contain_text("changed by another program")
    assert on_disk(stack) == theirs
    page.get_by_role("button", name="Keep mine").click()
    saved(page)
    assert on_disk(stack) == attrs.evolve(LABELS, incomplete=True)
    write_labels(stack.folder, theirs)
    press(page, "2")
    page.get_by_role("button", name="Load the file").click()
    expect(page.locator("#valid")).not_to_be_checked()
    assert on_disk(stack) == theirs


def test_from_one_character_to_the_next_and_back_to_its_history(page: Page, stack: Character):
    press(page, "2", "]")
    expect(page.locator("#name")).to_have_text("<b>Second</b>")
    expect(page.locator("#rows li")).to_have_count(1)
    assert on_disk(stack).incomplete
    press(page, "]")
    expect(page.locator("#status")).to_have_text("This is the last character")
    press(page, "[")
    expect(page.locator("#name")).to_have_text("M")
    press(page, "Control+z")
    expect(page.locator("#incomplete")).not_to_be_checked()
    saved(page)
    assert on_disk(stack) == LABELS


def test_nothing_sticks_out_at_any_width_and_the_keys_are_told(page: Page):
    for width in (360, 800, 1440):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for control in page.locator("body > :not(dialog) :is(button, select, input):visible").all():
            box = control.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
        stage, rows = (page.locator(place).bounding_box() for place in ("#stage", "#rows"))
        assert stage is not None and stage["height"] > 200
        assert rows is not None and rows["height"] > 100
    press(page, "?")
    told = set(page.locator("dialog kbd").all_inner_texts())
    keys = page.evaluate("Object.keys(KEYS)")
    names = {"arrowup": "↑", "arrowdown": "↓", "delete": "Del", "enter": "Enter", "-": "\u2212"}
    documented = {names.get(key, key.upper()) for key in keys} - {"BACKSPACE", "=", "?"}
    assert documented <= told
    press(page, "x")
    assert page.locator("#saved").inner_text() == ""  # Keys act on nothing behind the dialog.


def ask(
    server: LabelServer, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, server.server_port)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_only_the_page_itself_is_answered(server: LabelServer):
    assert server.server_address[0] == "127.0.0.1"
    home = f"/{server.token}/"
    assert ask(server, home)[0] == 200
    for path in ("/", "/characters", f"/{server.token[:-1]}x/", "//", f"/x{home}"):
        assert ask(server, path) == (403, b"")
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": f"evil.example:{server.server_port}"},
    ):
        assert ask(server, f"{home}characters", **headers) == (403, b"")
        assert ask(server, f"{home}characters/x", "PUT", {}, **headers) == (403, b"")


def test_no_path_leaves_the_folder(server: LabelServer, stack: Character, tmp_path: Path):
    outside = draw(tmp_path / "outside", name="Secret")
    home = f"/{server.token}/characters"
    (tmp_path / "all" / outside.id).symlink_to(outside.folder)
    for name in ("..", "..%2Foutside%2F" + outside.id, "%2Fetc", outside.id, "%00"):
        for path in (f"{home}/{name}", f"{home}/{name}/0"):
            status, said = ask(server, path)
            assert status in (400, 404) and b'layers":' not in said and b"PNG" not in said
    assert ask(server, f"{home}/{stack.id}/0")[1].startswith(b"\x89PNG")
    layer = stack.layers[0].file
    layer.unlink()
    layer.symlink_to(outside.layers[0].file)
    assert ask(server, f"{home}/{stack.id}/0")[0] == 400
    assert b"leads out of" in ask(server, home)[1]


def test_labels_that_are_none_are_refused_and_nothing_is_lost(
    server: LabelServer, stack: Character
) -> None:
    home = f"/{server.token}/characters/{stack.id}"
    read = json.loads(ask(server, home)[1])
    stray = {"no": {"tag": None, "confidence": 1, "by": "person"}}
    for labels, said in (
        ({**read["labels"], "tag_set": "v9"}, b"no tag set 'v9'"),
        ({**read["labels"], "layers": stray}, b"no layer 'no'"),
        ([], b"expected an object"),
    ):
        status, answer = ask(server, home, "PUT", {"labels": labels, "revision": read["revision"]})
        assert status == 400 and said in answer
    assert ask(server, home, "PUT", {"labels": read["labels"]})[0] == 400
    old = {"labels": read["labels"], "revision": "old"}
    assert ask(server, home, "PUT", old)[0] == 409
    assert ask(server, home, "PUT", {}, Content_Length="99999999999")[0] == 400
    assert on_disk(stack) == LABELS
    assert sorted(os.listdir(stack.folder)) == ["character.json", FILE_NAME, "layers"]


def test_a_clipped_layer_is_shown_as_clipped_and_a_broken_character_is_told(
    server: LabelServer, tmp_path: Path
) -> None:
    base = Plain("base", (0, 0, 10, 10))
    character = draw(
        tmp_path / "all", [base, Plain("top", (5, 0, 15, 10), more={"clip": (0,)})], name="C"
    )
    home = f"/{server.token}/characters"
    png = ask(server, f"{home}/{character.id}/1")[1]
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    alpha = pixels[..., 3]
    assert np.all(alpha[:, :5] == 255) and not alpha[:, 5:].any()
    (character.folder / FILE_NAME).write_text("{")
    listed = json.loads(ask(server, home)[1])
    assert "is no JSON" in listed[-1]["problem"] and listed[-1]["id"] == character.id
    assert [one["unsure"] for one in listed[:2]] == [5, 1]


def test_a_folder_without_characters_and_a_port_that_is_taken(
    server: LabelServer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no character is in it"):
        LabelServer(tmp_path)
    with pytest.raises(InputError, match=r"port: \d+ can't be had"):
        LabelServer(server.store.root, server.server_port)
