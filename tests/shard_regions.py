"""What each byte of a shard is for."""

from pathlib import Path
from typing import NamedTuple

from clipshards.readers import open_dataset

BLOCK = 512


class Region(NamedTuple):
    """A stretch of a shard."""

    kind: str
    key: str
    part: str
    start: int
    stop: int


def regions(location: Path, number: int) -> list[Region]:
    """Return what each byte of a shard is for, by the index of the intact shard."""
    split = open_dataset(location)
    index, entry = split.read_index(number), split.manifest.shards[number]
    found = []
    for row, key in enumerate(index.keys):
        for part, columns in index.parts.items():
            if columns.offset[row] < 0:
                continue
            start, stop = columns.offset[row], columns.offset[row] + columns.size[row]
            end = stop + -stop % BLOCK
            found.append(Region("header", key, part, start - BLOCK, start))
            found.append(Region("payload", key, part, start, stop))
            found.append(Region("padding", key, part, stop, end))
    start, stop = entry.index_offset, entry.index_offset + entry.index_bytes
    end = stop + -stop % BLOCK
    found.append(Region("index header", "", "", start - BLOCK, start))
    found.append(Region("index", "", "", start, stop))
    found.append(Region("index padding", "", "", stop, end))
    found.append(Region("trailer", "", "", end, end + 2 * BLOCK))
    return [region for region in found if region.start < region.stop]
