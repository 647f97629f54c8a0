"""What each byte of a shard is for, and what damages a data set in ways that files are damaged."""

import os
import shutil
from collections.abc import Callable
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


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Turn one bit of a file; again, and it is what it was."""
    with path.open("r+b", buffering=0) as file:
        value = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([value ^ 1 << bit]), place)


def _lengthen(path: Path, more: int) -> None:
    os.truncate(path, path.stat().st_size + more)


def _swap(shards: list[Path]) -> None:
    data = shards[1].read_bytes()
    shards[1].write_bytes(shards[2].read_bytes())
    shards[2].write_bytes(data)


def _one_more(shards: list[Path]) -> None:
    stem = shards[-1].stem
    shutil.copy(shards[1], shards[1].with_name(f"{stem[:-6]}{int(stem[-6:]) + 1:06d}.tar"))


def _folder(shards: list[Path]) -> None:
    shards[1].unlink()
    shards[1].mkdir()


def _pipe(shards: list[Path]) -> None:
    shards[1].unlink()
    os.mkfifo(shards[1])


def _lead_nowhere(shards: list[Path]) -> None:
    shards[1].unlink()
    shards[1].symlink_to("nowhere")


def _double(shards: list[Path]) -> None:
    shards[2].write_bytes(shards[1].read_bytes())


class Damage(NamedTuple):
    """What happens to the files of a split."""

    do: Callable[[list[Path]], object]
    """Called with its shards, by number; shard 1 is damaged in any case."""
    level: str
    """The lowest one that sees it in a folder, where the sizes of all shards differ."""
    shards: tuple[int, ...] = (1,)
    """Which are to be named; -1 for one more than there are."""
    readable: bool = False
    """Whether the samples stand there, and may be read."""


DAMAGE: dict[str, Damage] = {
    "missing": Damage(lambda shards: shards[1].unlink(), "quick"),
    "empty": Damage(lambda shards: shards[1].write_bytes(b""), "quick"),
    "cut at a block": Damage(lambda shards: os.truncate(shards[1], 3 * BLOCK), "quick"),
    "longer": Damage(lambda shards: _lengthen(shards[1], 1), "quick", readable=True),
    "more blocks": Damage(lambda shards: _lengthen(shards[1], BLOCK), "quick", readable=True),
    "zeros": Damage(lambda shards: shards[1].write_bytes(bytes(shards[1].stat().st_size)), "full"),
    "swapped": Damage(_swap, "quick or full", (1, 2)),
    "another in its place": Damage(_double, "quick or full", (2,)),
    "one too many": Damage(_one_more, "quick", (-1,)),
    "a folder": Damage(_folder, "quick"),
    "a pipe": Damage(_pipe, "quick"),
    "a link to nowhere": Damage(_lead_nowhere, "quick"),
}
