"""Captions of layers: a tag's name, or what a text file beside the sample says."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from seethrough.data.layout import Sample
from seethrough.data.shards import file_names, read_bytes
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR
from seethrough.errors import InputError

UNTOLD_WORDS = frozenset(
    {
        "1girl",
        "smile",
        "simple_background",
        "white_background",
        "solo",
        "closed_mouth",
        "looking_at_viewer",
        "standing",
        "full_body",
        "virtual_youtuber",
        "tachi-e",
        "elf",
        "transparent_background",
        "blush",
        "straight-on",
        "looking_to_the_side",
        "expressionless",
        "holding",
    }
)
"""Words left out of a caption file: they say nothing of a layer."""


def tag_caption(sample: Sample, tag: str) -> str:
    """Return the caption a tag gets: its name; legwear without footwear names both."""
    if tag == "legwear" and "footwear" not in sample.boxes:
        return LEGWEAR_WITH_FOOTWEAR
    return tag


def filter_caption(text: str) -> str:
    """Take out of a comma-separated caption what says nothing of a layer; lower case."""
    words = [word.strip().lower() for word in text.split(",")]
    told = [word for word in words if word and word not in UNTOLD_WORDS]
    return ",".join(w for w in told if "commentary" not in w and "background" not in w)


def read_caption(path: Path) -> str | None:
    """Read and filter a caption file; None where there is none.

    Raises InputError naming the file if it can't be read.
    """
    try:
        return filter_caption(read_bytes(path).decode())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the caption can't be read: {error}") from error


def caption_file(page: Path, tag: str) -> Path:
    """Return where the caption of a tag would lie; of the whole character if the tag is ''."""
    return page.with_name(f"{page.stem}_{tag}.txt" if tag else f"{page.stem}.txt")


def caption_files(pages: Iterable[Path], tags: Collection[str]) -> Iterator[Path]:
    """Find the caption files of pages, for these tags and the whole character.

    Lists each folder once, however many pages it holds.
    """
    by_folder: defaultdict[Path, set[Path]] = defaultdict(set)
    for page in pages:
        by_folder[page.parent].add(page)
    for folder, inside in by_folder.items():
        names = {name for name in file_names(folder) if name.endswith(".txt")}
        if names:
            files = (caption_file(page, tag) for page in inside for tag in ("", *tags))
            yield from (file for file in files if file.name in names)
