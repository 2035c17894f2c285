"""Sample lists: what they name, in which order, and what is said of a bad one."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.sample_list import content_hash, read_sample_list, read_sources
from seethrough.errors import InputError
from tests.samples import write_sample


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"picture")
    return [folder / name for name in names]


def test_text_list_strips_lines_and_skips_blank_ones(tmp_path: Path):
    a, b = touch(tmp_path / "set", "a.png", "b with space.png")
    source = tmp_path / "list.txt"
    source.write_text("\ufeff  set/a.png \r\n\n\t\nset/b with space.png\n\n", encoding="utf-8")
    assert read_sample_list(source) == [a, b]


@pytest.mark.parametrize("name", ["list.json", "list.json.gz"])
def test_json_lists(tmp_path: Path, name: str):
    a, b = touch(tmp_path, "a.png", "b.png")
    text = json.dumps(["b.png", str(a)]).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert read_sample_list(tmp_path / name) == [b, a]


def test_directory_is_sorted_without_hidden_files_and_without_layers(tmp_path: Path):
    write_sample(tmp_path, "b", tags=("front hair", "head"))
    write_sample(tmp_path, "a_face", tags=("face",))
    touch(tmp_path, ".hidden.png", "C.JPG", "notes.txt")
    assert [p.name for p in read_sample_list(tmp_path)] == ["C.JPG", "a_face.png", "b.png"]


def test_entries_lie_beside_the_list_first_and_in_the_working_directory_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    beside, _ = touch(tmp_path / "lists", "both.png", "list only.png")
    touch(tmp_path / "work", "both.png", "work only.png")
    monkeypatch.chdir(tmp_path / "work")
    source = tmp_path / "lists" / "list.txt"
    source.write_text("both.png\nwork only.png\n")
    assert read_sample_list(source) == [beside, Path("work only.png")]


def test_entries_lie_in_the_data_roots_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the list's folder, in the order of the roots, before the working directory."""
    names = ("beside.png", "first.png", "second.png", "work.png")
    folders = ("lists", "one", "two", "work")
    for index, folder in enumerate(folders):
        touch(tmp_path / folder, *names[: index + 1])
    monkeypatch.chdir(tmp_path / "work")
    source = tmp_path / "lists" / "list.txt"
    source.write_text("\n".join(names))
    roots = ("../one", tmp_path / "two")
    found = read_sample_list(source, roots)
    assert [page.resolve().parent.name for page in found] == list(folders)
    assert read_sources([(source, 1)], roots) == found
    (tmp_path / "two/second.png").unlink()
    (tmp_path / "work/second.png").unlink()
    with pytest.raises(InputError) as caught:
        read_sample_list(source, roots)
    assert str(caught.value) == (
        f"{source}, line 3: no such file: second.png (looked in {tmp_path}/lists, in ../one, in "
        f"{tmp_path}/two and in the working directory {tmp_path}/work)"
    )


def test_rate_repeats_a_source(tmp_path: Path):
    """Number 27 of the parity tests: rate 2 and one path make two equal entries."""
    a, b, c = touch(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "two.txt").write_text("b.png\nc.png")
    assert read_sources([(a, 2)]) == [a, a]
    assert read_sources([(tmp_path / "two.txt", 2), (a, 1)]) == [b, c, b, c, a]


def message(source: Path) -> str:
    with pytest.raises(InputError) as error:
        read_sample_list(source)
    return str(error.value)


def test_absent_list_is_named(tmp_path: Path):
    text = message(tmp_path / "nowhere.txt")
    assert str(tmp_path / "nowhere.txt") in text and "no such sample list" in text


def test_empty_list_and_empty_directory_are_named(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "folder").mkdir()
    for name, what in [
        ("empty.txt", "sample list is empty"),
        ("empty.json", "sample list is empty"),
        ("folder", "directory has no image"),
    ]:
        text = message(tmp_path / name)
        assert str(tmp_path / name) in text and what in text


def test_absent_entry_is_told_with_list_line_and_path(tmp_path: Path):
    touch(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("a.png\n\ngone/b.png\n")
    text = message(tmp_path / "list.txt")
    assert str(tmp_path / "list.txt") in text and "line 3" in text and "gone/b.png" in text
    (tmp_path / "list.json").write_text('["a.png", "gone.png"]')
    assert "list.json, item 2: no such file: gone.png" in message(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.json", b"[1", "not valid JSON"),
        ("list.json", b'{"a": 1}', "must be a list of paths"),
        ("list.json", b"[1, 2]", "must be a list of paths"),
        ("list.json.gz", b"plain", "can't be read"),
        ("list.json.gz", gzip.compress(b"[]")[:-4], "can't be read"),
        ("list.txt", b"\xff\xfe\x80", "can't be read"),
        ("list.yaml", b"a.png", "not a sample list"),
    ],
)
def test_unreadable_lists(tmp_path: Path, name: str, content: bytes, told: str):
    (tmp_path / name).write_bytes(content)
    text = message(tmp_path / name)
    assert str(tmp_path / name) in text and told in text


def test_sources_need_a_list_and_a_rate(tmp_path: Path):
    (page,) = touch(tmp_path, "a.png")
    with pytest.raises(InputError, match="rate 0"):
        read_sources([(page, 0)])
    with pytest.raises(InputError, match="no sample list"):
        read_sources([])


@given(st.binary(max_size=60))
def test_any_bytes_give_a_list_or_one_clear_error(tmp_path_factory, content: bytes):
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("l.txt", "l.json", "l.json.gz"):
        (folder / name).write_bytes(content)
        try:
            assert all(page.is_file() for page in read_sample_list(folder / name))
        except InputError as error:
            assert str(folder / name) in str(error)


def dataset(folder: Path) -> Path:
    write_sample(folder, "a", seed=1)
    write_sample(folder, "b", seed=2)
    (folder / "list.txt").write_text("a.png\nb.png\n")
    return folder / "list.txt"


def test_hash_stays_when_the_data_moves_and_layers_are_untouched(tmp_path: Path):
    first = dataset(tmp_path / "here")
    before = content_hash(first)
    moved = dataset(tmp_path / "there")
    assert content_hash(moved) == before
    folder = tmp_path / "here"
    first.write_text(f"  {folder / 'a.png'}\n{folder / 'b.png'}")
    assert content_hash(first) == before
    assert content_hash(folder) == before


def test_hash_changes_with_the_order_the_annotation_and_the_page(tmp_path: Path):
    source = dataset(tmp_path)
    hashes = {content_hash(source)}
    source.write_text("b.png\na.png\n")
    hashes.add(content_hash(source))
    source.write_text("a.png\n")
    hashes.add(content_hash(source))
    annotation = tmp_path / "a_ann.json"
    annotation.write_text(annotation.read_text().replace("[48, 40]", "[40, 48]"))
    hashes.add(content_hash(source))
    with (tmp_path / "a.png").open("ab") as page:
        page.write(b"more")
    hashes.add(content_hash(source))
    annotation.unlink()
    hashes.add(content_hash(source))
    assert len(hashes) == 6


def test_hash_of_a_bad_list_is_the_same_error(tmp_path: Path):
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(InputError, match=r"line 1.*gone\.png"):
        content_hash(tmp_path / "list.txt")
