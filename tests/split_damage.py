"""What may happen to the files of a split that is to be repaired; `damage.py` has all of it."""

import os
from collections.abc import Callable
from pathlib import Path


def tree(place: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def shard(split: Path, number: int) -> Path:
    """Return a shard of a split's folder."""
    return split / f"{split.name}-{number:06d}.tar"


def flip(path: Path, place: int | None = None) -> None:
    """Turn a bit of a file, by default in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


def _swap(split: Path) -> None:
    first, second = shard(split, 0), shard(split, 1)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda split: flip(shard(split, 1)),
    "index": lambda split: flip(shard(split, 1), shard(split, 1).stat().st_size - 1100),
    "cut": lambda split: os.truncate(shard(split, 1), 1024),
    "empty": lambda split: shard(split, 1).write_bytes(b""),
    "longer": lambda split: shard(split, 1).write_bytes(shard(split, 1).read_bytes() + b"\0"),
    "missing": lambda split: shard(split, 1).unlink(),
    "swapped": _swap,
    "rejects": lambda split: (split / "rejects.jsonl").write_bytes(b"x\n"),
    "no rejects": lambda split: (split / "rejects.jsonl").unlink(),
    "no wids": lambda split: split.with_name(f"{split.name}.wids.json").unlink(),
}
"""Name to what is done to a split's folder; to shard 1, where it is done to one."""

MADE = {"swapped": 2, "rejects": 0, "no rejects": 0, "no wids": 0}
"""Shards that a repair puts in place of others; 1 for all other damages."""
