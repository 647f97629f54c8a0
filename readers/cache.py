"""Bytes of a far data set kept on a disk of this node, for all ranks and workers on it.

    cache_dir/<content digest>/reserved             bytes that this split may take
    cache_dir/<content digest>/train-000000.tar     what was read of a shard, at its own place

A shard's file is sparse. Behind the last byte of the shard stands one byte for its index, then
one for each part of each sample: 1 where the part was written. Every part is checked against its
checksum before it is written and again whenever it is used, so that a file that a crash or a bad
disk left wrong is a part that is read from the origin once more, and nothing is ever to be
cleaned up.

What is kept is decided once, by place: the indexes, then the shards from the first one on, as
far as the room goes. So what is in the cache stays there; with a new order in each epoch, giving
up what was used last would give up what comes next.
"""

import errno
import fcntl
import logging
import os
import shutil
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from clipshards.packer.format.errors import StorageError
from clipshards.packer.format.manifest import Manifest

_LOG = logging.getLogger("clipshards")
_RESERVED = "reserved"
# Below the customary limit of 1,024 open files.
_KEPT_OPEN = 256
# Of the free disk, where nobody says how much: others write there too.
_SHARE = 0.9
# What no later write will find better.
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class SplitCache:
    """What a node keeps of one split. For several threads, across forks; can be pickled."""

    def __init__(self, folder: Path, manifest: Manifest, room: int) -> None:
        """Set up.

        Args:
            folder: Of the split, which exists.
            manifest: Of the split.
            room: Bytes that it may take.
        """
        self._folder = folder
        self._names = [shard.name for shard in manifest.shards]
        self._sizes = [shard.bytes for shard in manifest.shards]
        # Of how many shards, from the first one on, the indexes are kept.
        indexes = list(accumulate(shard.index_bytes for shard in manifest.shards))
        self._indexes = bisect_right(indexes, room)
        # Up to which byte the parts of each shard are kept; its index stands behind them.
        self._kept: list[int] = []
        left = room - indexes[-1] if indexes else 0
        for shard in manifest.shards:
            self._kept.append(max(min(left, shard.index_offset), 0))
            left -= shard.index_offset
        self.keeps_indexes = self._indexes > 0
        self._is_full = self._has_told = False
        # By shard, and whether to write. Threads share it without a lock, which would be held for
        # ever in a process forked meanwhile: to take one out, or put it back, is a single step.
        self._open: OrderedDict[tuple[int, bool], int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self.__dict__.pop("_open", {}).values():
            os.close(descriptor)

    def keeps(self, shard: int, stop: int) -> bool:
        """Return whether a part that ends there belongs into the cache."""
        return stop <= self._kept[shard]

    def has(self, shard: int, first: int, count: int) -> bytes:
        """Return a byte for each of several slots of a shard: 1 where it was written.

        Slot 0 is the index, slot 1 + n the n-th part, sample by sample.
        """
        try:
            with self._file(shard) as descriptor:
                found = os.pread(descriptor, count, self._sizes[shard] + first)
        except OSError:
            found = b""
        return found.ljust(count, b"\0")

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return what stands there, right or wrong; fewer bytes where it cannot be read."""
        try:
            with self._file(shard) as descriptor:
                data = os.pread(descriptor, size, offset)
                # The kernel gives 2 GiB at a time.
                while 0 < len(data) < size:
                    more = os.pread(descriptor, size - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
                return data
        except OSError:
            return b""

    def store(self, shard: int, slot: int, offset: int, data: bytes) -> None:
        """Write a part, or the index if there is room. A full disk is left alone from then on."""
        if self._is_full or (slot == 0 and shard >= self._indexes):
            return
        try:
            with self._file(shard, writes=True) as descriptor:
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
                os.pwrite(descriptor, b"\1", self._sizes[shard] + slot)
        except OSError as exc:
            self._is_full = exc.errno in _LASTING
            if self._is_full:
                _LOG.warning("%s: nothing more is cached: %s", self._folder, exc.strerror)
            elif not self._has_told:
                _LOG.warning("%s: not all is cached: %s", self._folder, exc.strerror)
            self._has_told = True

    @contextmanager
    def _file(self, shard: int, *, writes: bool = False) -> Iterator[int]:
        """Return a context with the shard's open file, which no other thread closes in it."""
        descriptor = self._open.pop((shard, writes), None)
        if descriptor is None:
            path = self._folder / self._names[shard]
            # What another user keeps there may often be read, and not be written.
            flags = os.O_WRONLY | os.O_CREAT if writes else os.O_RDONLY
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
        finally:
            if self._open.setdefault((shard, writes), descriptor) != descriptor:
                os.close(descriptor)
            if len(self._open) > _KEPT_OPEN:
                os.close(self._open.popitem(last=False)[1])


def open_cache(
    cache_dir: str | os.PathLike[str], manifest: Manifest, *, cache_bytes: int | None
) -> SplitCache:
    """Return the cache of a split in a folder that all splits on this node may share.

    Args:
        cache_dir: On a disk of this node; made if missing.
        manifest: Of the split.
        cache_bytes: That all splits in the folder may take together; None for nine tenths of
            what the disk has free. What a split was once given, it keeps, also where no more
            can be written.

    Raises:
        ValueError: `cache_bytes` is below 0.
        StorageError: The folder cannot be used.
    """
    if cache_bytes is not None and cache_bytes < 0:
        raise ValueError(f"cache_bytes {cache_bytes}: expected at least 0")
    root = Path(cache_dir).absolute()
    folder = root / manifest.content_digest[:32]
    wanted = sum(shard.index_offset + shard.index_bytes for shard in manifest.shards)
    mine, reserved = 0, dict[Path, int]()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            reserved = {path.parent: _number(path) for path in root.glob(f"*/{_RESERVED}")}
            mine = reserved.pop(folder, 0)
            if cache_bytes is None:
                free = int(_SHARE * shutil.disk_usage(root).free) + _held(folder)
                # What the others have written is no more among what is free.
                left = free - sum(max(given - _held(one), 0) for one, given in reserved.items())
            else:
                left = cache_bytes - sum(reserved.values())
            room = max(mine, min(wanted, left))
            folder.mkdir(exist_ok=True)
            if room != mine:
                _write_whole(folder / _RESERVED, f"{room}\n")
    except OSError as exc:
        if not mine and exc.errno not in _LASTING:
            raise StorageError(f"{root}: cannot be used as a cache: {exc.strerror}") from exc
        _LOG.warning("%s: no more is given to split %s: %s", root, manifest.split, exc.strerror)
        room = mine
    others = sum(reserved.values())
    if room < wanted and others:
        _LOG.warning(
            "%s: %d of %d bytes of split %s are kept; %d are given to other data sets in %s, which "
            "may be removed there",
            root,
            room,
            wanted,
            manifest.split,
            others,
            ", ".join(sorted(p.name for p in reserved)),
        )
    return SplitCache(folder, manifest, room)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself against other processes; the kernel lets go when one dies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _number(path: Path) -> int:
    """Return what a file says; 0 for one that says nothing: folders there may be of others."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
        return int(text) if text.isdecimal() else 0
    except (OSError, ValueError):
        return 0


def _held(folder: Path) -> int:
    """Return the bytes that files of a split take on the disk; others may remove it meanwhile."""
    held = 0
    with suppress(OSError):
        for path in folder.glob("*.tar"):
            held += path.stat().st_blocks * 512
    return held


def _write_whole(path: Path, text: str) -> None:
    """Write a file, or leave what stood there: none is ever half written, or empty."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(path)
