"""Sample lists: which images a run trains on.

A source is a path and a rate. The path is a directory of images, one image, a list of images (a
text file with one path a line, or a JSON list: `.json`, `.json.gz`), or a folder of shards or its
manifest (`seethrough.data.shards`). The rate repeats the whole source; repeating is how sources are
mixed.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from seethrough.data.roots import find_file, looked_in
from seethrough.data.shards import file_size, find_manifest, is_file, read_bytes
from seethrough.data.tags import TAGS_V2, TRAINING_TAGS
from seethrough.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""What counts as an image in a directory."""

_TAGS = {*TAGS_V2, *TRAINING_TAGS}
_PARTS = {"depth", "faceseg", *_TAGS, *(f"{tag}_depth" for tag in _TAGS)}


def read_sources(
    sources: Iterable[tuple[str | Path, int]], roots: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the page of every sample of all sources, each source repeated `rate` times.

    `roots` are the data roots. Raises InputError for a source that `read_sample_list` can't read,
    a rate below 1, and when there is no source.
    """
    pages: list[Path] = []
    for path, rate in sources:
        if rate < 1:
            raise InputError(f"{path}: rate {rate} of a sample list; give a whole number from 1")
        pages += read_sample_list(path, roots) * rate
    if not pages:
        raise InputError("no sample list is given; name at least one")
    return pages


def read_sample_list(path: str | Path, roots: Sequence[str | Path] = ()) -> list[Path]:
    """Return the pages that a directory, an image, a list file or shards name, in their order.

    Relative entries of a list are looked up in the list's folder first, then in the data roots,
    then in the working directory. A directory's samples are its images in the order of their
    names, without hidden files and without the layers, depths and label maps that belong to another
    image of the directory.

    Raises InputError if the path is absent, can't be read or holds no sample, and if a listed
    file is absent (with the list, the line and the path).
    """
    path = Path(path)
    manifest = find_manifest(path)
    if manifest is not None:
        return manifest.pages()
    return [_resolve(path, place, text, roots) for place, text in _entries(path)]


def content_hash(path: str | Path, roots: Sequence[str | Path] = ()) -> str:
    """Hash what a sample list stands for, cheaply: 32 hex digits.

    It covers the entries as the list writes them (absolute ones relative to the list's folder, so
    that data may move), each page's size in bytes and each sample's annotation. The pixels are
    not read. Of shards it covers what their manifest says: the hash of each.
    """
    path = Path(path)
    manifest = find_manifest(path)
    if manifest is not None:
        return manifest.content_hash()
    folder = path if path.is_dir() else path.parent
    digest = hashlib.blake2b(digest_size=16)
    for place, text in _entries(path):
        page = _resolve(path, place, text, roots)
        name = os.path.relpath(text, folder.resolve()) if os.path.isabs(text) else text
        annotation = page.with_name(page.stem + "_ann.json")
        content = read_bytes(annotation) if is_file(annotation) else b""
        size = file_size(page)
        digest.update(f"{len(name.encode())} {size} {len(content)} ".encode())
        digest.update(name.encode() + content)
    return digest.hexdigest()


def _entries(path: Path) -> list[tuple[str, str]]:
    """List (place in the source, path as written) of every entry."""
    if path.is_dir():
        entries = [("", name) for name in _images(path)]
    elif not path.is_file():
        raise InputError(
            f"{path}: no such sample list; give a directory, an image, or a .txt, .json or "
            f".json.gz list (working directory: {Path.cwd()})"
        )
    elif path.suffix == ".txt":
        lines = enumerate(_text(path).splitlines(), start=1)
        entries = [(f"line {n}", line.strip()) for n, line in lines if line.strip()]
    elif path.name.endswith((".json", ".json.gz")):
        entries = [(f"item {n}", text) for n, text in enumerate(_json_list(path), start=1)]
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        entries = [("", path.name)]
    else:
        raise InputError(
            f"{path}: not a sample list; give a directory, an image, or a .txt, .json or "
            ".json.gz list"
        )
    if not entries:
        what = "directory has no image" if path.is_dir() else "sample list is empty"
        raise InputError(f"{path}: the {what}")
    return entries


def _images(folder: Path) -> list[str]:
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and entry.name.lower().endswith(IMAGE_SUFFIXES)
    )
    stems = {Path(name).stem for name in names}
    parts = {f"{stem}_{part}" for stem in stems for part in _PARTS}
    return [name for name in names if Path(name).stem not in parts]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path}: the sample list can't be read: {error}") from error


def _json_list(path: Path) -> list[str]:
    try:
        items = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: the sample list is not valid JSON: {error}") from error
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InputError(f"{path}: a JSON sample list must be a list of paths")
    return items


def _resolve(source: Path, place: str, text: str, roots: Sequence[str | Path]) -> Path:
    if source.is_dir():
        return source / text
    folders = (source.parent, *roots, Path())
    page = find_file(text, folders)
    if page is None:
        where = f", {place}" if place else ""
        raise InputError(f"{source}{where}: no such file: {text} ({looked_in(folders)})")
    return page
