"""Reads the file that wandb writes offline: a LevelDB log of protobuf records."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file; what a kill cut short at the end is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, pieces = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + HEADER : place + HEADER + length]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(piece) < length:
            return
        pieces = piece if kind in (FULL, FIRST) else pieces + piece
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(pieces)
            yield record
        place += HEADER + length
