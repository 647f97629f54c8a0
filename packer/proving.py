"""Whether the bytes of a shard are those of the manifest, many shards at a time."""

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from functools import partial
from itertools import islice

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.storage import Storage
from clipshards.packer.storage.threads import Threads

PIECE = 1 << 20
# Shards that are read at a time from a disk, and shards that a store is asked about.
NEAR, _ASKED = 4, 32
_TOLD_S = 0.2
# Seconds for shards on the way that are no longer wanted.
_STOP_S = 15.0


class NotTheShard(Exception):  # noqa: N818 (a finding, which becomes a line of a report)
    """What came is not what the manifest promises; the message says how."""


class _Stopped(Exception):  # noqa: N818
    """The rest is no longer wanted."""


class Count:
    """Bytes that are done, counted by several threads and told by one.

    What a shard has come to counts once, however often it is tried.
    """

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}
        self._new = 0

    def reach(self, name: str, place: int) -> None:
        """Count all bytes of a file before `place`."""
        with self._lock:
            before = self._reached.get(name, 0)
            if place > before:
                self._reached[name] = place
                self._new += place - before

    def tell(self) -> None:
        """Tell what is new."""
        with self._lock:
            new, self._new = self._new, 0
        if new and self._progress is not None:
            self._progress(new)


def proved(
    pieces: Iterator[bytes],
    shard: ShardEntry,
    stop: threading.Event,
    reach: Callable[[int], None],
) -> Generator[bytes]:
    """Yield the pieces of a shard; at its end, raise if they are not what was packed.

    Args:
        pieces: Of the file, from front to back.
        shard: What the manifest says of it.
        stop: Set where they are no longer wanted.
        reach: Called with the bytes that came so far.

    Raises:
        NotTheShard: They are not.
    """
    sha256, crc, place = hashlib.sha256(), 0, 0
    for piece in pieces:
        if stop.is_set():
            raise _Stopped
        sha256.update(piece)
        crc = crc32c(piece, crc)
        place += len(piece)
        yield piece
        reach(min(place, shard.bytes))
    if place != shard.bytes:
        raise NotTheShard(f"{place} bytes, the manifest expects {shard.bytes}")
    if sha256.hexdigest() != shard.sha256:
        raise NotTheShard("sha256 of the file is not the manifest's")
    if crc != shard.crc32c:
        raise NotTheShard("crc32c of the file is not the manifest's")


def whole_shards(
    storage: Storage, manifest: Manifest, threads: Threads, count: Count
) -> frozenset[int]:
    """Return the numbers of the shards that stand at a location as the manifest has them.

    A shard is known by its size and the checksum that a store keeps of it, or read where none
    is kept. One on a disk that cannot be read is not whole.

    Args:
        storage: The location.
        manifest: Of the split.
        threads: That do it.
        count: Of the bytes that were found whole.

    Raises:
        StorageError: A store does not answer.
    """
    split, shards = manifest.split, manifest.shards
    standing = storage.sizes(split)
    same = [n for n, shard in enumerate(shards) if standing.get(shard.name) == shard.bytes]
    whole: set[int] = set()

    def look(number: int, stop: threading.Event) -> None:
        shard = shards[number]
        name = f"{split}/{shard.name}"
        try:
            _prove(storage, name, shard, stop, partial(count.reach, name))
        except NotTheShard:
            return
        except StorageError:
            if storage.far:
                raise
            return
        count.reach(name, shard.bytes)
        whole.add(number)

    each_shard(threads, same, look, at_a_time=_ASKED if storage.far else NEAR, tell=count.tell)
    return frozenset(whole)


def _prove(
    storage: Storage,
    name: str,
    shard: ShardEntry,
    stop: threading.Event,
    reach: Callable[[int], None],
) -> None:
    known = storage.stored(name)
    if known is None or known.bytes != shard.bytes:
        raise NotTheShard("missing, or of another size")
    if known.crc32c is None:
        with closing(proved(storage.pieces(name, PIECE), shard, stop, reach)) as pieces:
            for _ in pieces:
                pass
    elif known.crc32c != shard.crc32c:
        raise NotTheShard("the checksum that the store keeps is not the manifest's")


def stored_index(storage: Storage, split: str, shard: ShardEntry) -> bytes | None:
    """Return the index that a shard ends with, None where it is not the manifest's.

    Raises:
        StorageError: A store does not answer.
    """
    name = f"{split}/{shard.name}"
    try:
        data = storage.read(name, shard.index_offset, shard.index_bytes)
    except StorageError as exc:
        if storage.far and not isinstance(exc, NotFoundError):
            raise
        return None
    right = len(data) == shard.index_bytes and crc32c(data) == shard.index_crc32c
    return data if right else None


def each_shard(
    threads: Threads,
    numbers: Iterable[int],
    work: Callable[[int, threading.Event], None],
    *,
    at_a_time: int,
    tell: Callable[[], None],
) -> None:
    """Do some work for each shard, several at a time; the first error ends all of it.

    Args:
        threads: That do it.
        numbers: Of the shards.
        work: Called with each, and with what is set where it shall end at once.
        at_a_time: How many.
        tell: Called now and then, in this thread.
    """
    stop = threading.Event()
    left = iter(numbers)

    def one(number: int) -> bytes:
        work(number, stop)
        return b""

    def begun(most: int) -> set[Future[bytes]]:
        return {threads.submit(partial(one, number)) for number in islice(left, most)}

    under_way: set[Future[bytes]] = set()
    try:
        under_way = begun(at_a_time)
        while under_way:
            done, under_way = wait(under_way, _TOLD_S, return_when=FIRST_COMPLETED)
            tell()
            for future in done:
                future.result()
            under_way |= begun(len(done))
    except BaseException:
        # What is under way takes its unfinished files away.
        stop.set()
        wait(under_way, _STOP_S)
        raise
