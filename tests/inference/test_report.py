import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from seethrough.inference.composite import flatten
from seethrough.inference.report import report_character, write_report
from seethrough.metrics.layers import LayerMetrics, Truth, score_character

SIDE = 24
TAGS = ("back hair", "face", "tail", "wings")
TITLE = "Layers & <numbers>"


def disc(x: int, radius: int, color: tuple[int, int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    layer = np.zeros((SIDE, SIDE, 4), np.uint8)
    layer[(rows - 12) ** 2 + (columns - x) ** 2 < radius**2] = (*color, 255)
    return layer


def make_report(path: Path, picture_side: int = 256, **options: int) -> None:
    """Two characters of known truth, of which one has a false layer, and one of unknown truth."""
    nothing = np.zeros((SIDE, SIDE, 4), np.uint8)
    true = {"back hair": disc(12, 10, (90, 40, 10)), "face": disc(13, 6, (250, 220, 200))}
    page = flatten(true.values(), (SIDE, SIDE)).straight()
    page[page[..., 3] == 0, :3] = (0, 90, 200)
    visible = {tag: layer[..., 3] > 0 for tag, layer in true.items()}
    truth = Truth(page, true, visible)
    predicted = {
        "back hair": disc(11, 10, (80, 40, 10)),
        "face": disc(12, 6, (240, 220, 200)),
        "tail": nothing,
        "wings": disc(4, 3, (255, 255, 255)),
    }
    recomposition = flatten(predicted.values(), (SIDE, SIDE)).straight()
    scores = score_character(predicted, truth, TAGS, recomposition)
    metrics = LayerMetrics(TAGS, big_tags=["face"])
    metrics.update(scores)
    characters = [
        report_character(
            name=f"test {index}",
            page=page,
            layers=predicted,
            recomposition=recomposition,
            truth=truth,
            scores=scores,
            psd=f"test {index}.psd",
            picture_side=picture_side,
        )
        for index in range(2)
    ]
    characters.append(
        report_character(
            name="own",
            page=page,
            layers=predicted,
            recomposition=recomposition,
            note="No <head> found.",
            picture_side=picture_side,
        )
    )
    write_report(
        path,
        title=TITLE,
        introduction="What <this> is.",
        characters=characters,
        facts={"steps": "10"},
        systems={"chain": metrics.compute(), "mean alpha": metrics.compute()},
        **options,
    )


class Page(HTMLParser):
    """What a test asks about: tags with their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def picture(self, alt: str) -> np.ndarray:
        source = next(image["src"] for image in self.all("img") if image["alt"] == alt)
        assert source is not None
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    make_report(tmp_path / "report.html", open_characters=1)
    return tmp_path / "report.html"


def test_nothing_is_loaded_from_outside(report: Path):
    page = Page(report)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        if source := attributes.get("src"):
            assert source.startswith("data:image/png;base64,")
    style = report.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_pictures_are_embedded_as_they_are(report: Path):
    page = Page(report)
    assert np.array_equal(page.picture("face, true"), disc(13, 6, (250, 220, 200)))
    assert np.array_equal(page.picture("face, predicted"), disc(12, 6, (240, 220, 200)))
    assert page.picture("Input page of test 0")[0, 0].tolist() == [0, 90, 200]
    # Two pictures a character; of the known ones two layers with their truth and a false one
    # without, of the other three layers.
    assert len(page.all("img")) == 3 * 2 + 2 * 5 + 3


def test_large_pictures_are_embedded_smaller(tmp_path: Path):
    make_report(tmp_path / "small.html", picture_side=8)
    assert Page(tmp_path / "small.html").picture("face, true").shape == (8, 8, 4)


def test_numbers_names_and_notes_are_there(report: Path):
    page = Page(report)
    for text in (TITLE, "What <this> is.", "test 0", "false layer", "mean alpha", "steps"):
        assert text in page.text
    assert page.text.count("No <head> found.") == 1
    assert page.text.count("Neither predicted nor there: tail.") == 2
    assert page.text.count("Not predicted: tail.") == 1
    assert [link["href"] for link in page.all("a")] == ["test 0.psd", "test 1.psd"]
    assert ["open" in attributes for attributes in page.all("details")] == [True, False, False]
    face = np.logical_and(disc(12, 6, (1, 1, 1))[..., 3], disc(13, 6, (1, 1, 1))[..., 3]).sum()
    union = 2 * (disc(12, 6, (1, 1, 1))[..., 3] > 0).sum() - face
    assert f"IoU {face / union:.2f}" in page.text


def test_the_same_arguments_give_the_same_bytes(report: Path, tmp_path: Path):
    make_report(tmp_path / "again.html", open_characters=1)
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_a_report_without_truth_or_comparison(tmp_path: Path):
    picture = disc(12, 5, (1, 2, 3))
    character = report_character(
        name="own", page=picture, layers={"face": picture}, recomposition=picture
    )
    path = tmp_path / "own.html"
    write_report(path, title="Own", introduction="", characters=[character])
    page = Page(path)
    assert not page.all("table")
    assert "true" not in page.text
    assert len(page.all("img")) == 3


def test_a_browser_shows_it_without_asking_for_more(report: Path, browser: Browser):
    for width in (420, 1300):
        page = browser.new_page(viewport={"width": width, "height": 900})
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        page.on("console", lambda message, seen=complaints: seen.append(message.text))
        page.goto(report.as_uri())
        assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
        assert complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        broken = "images => images.filter(image => !image.naturalWidth).length"
        assert page.eval_on_selector_all("img", broken) == 0
        layers = page.locator("details .layers")
        assert [layer.is_visible() for layer in layers.all()] == [True, False, False]
        page.locator("summary").nth(1).click()
        assert layers.nth(1).is_visible()
