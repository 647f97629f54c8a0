"""One split copied shard by shard, every byte checked on the way."""

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from clipshards.packer.finish import settle
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import (
    NotFoundError,
    PlanError,
    StorageError,
)
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    about_shard,
)
from clipshards.packer.standing import copy_mark_name, stored_manifest, stored_plan
from clipshards.packer.storage import Storage
from clipshards.packer.storage.threads import Threads

Progress = Callable[[int], None]
"""Called with the bytes that were copied, or found to stand already, since the last call."""

_PIECE = 1 << 20
# Shards on the way at a time. An upload to S3 holds some 64 MB of its shard.
_NEAR, _FAR = 4, 8
# Questions to a store that cost it nothing.
_ASKED_AT_A_TIME = 32
# Of what comes damaged from afar: a network now and then changes a bit.
_TRIES = 3
_TOLD_S = 0.2
# Seconds for shards on the way that are no longer wanted.
_STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Damage:
    """One file at the source that is not what its manifest promises."""

    split: str
    file: str
    """Name in the split's folder."""
    message: str
    """What was expected, and what was found."""

    def __str__(self) -> str:
        return f"{self.split}/{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class SplitCopy:
    """What became of one split."""

    split: str
    content_digest: str
    finished: bool
    """Whether it stands at the target whole, with its manifest."""
    shards: int
    shards_copied: int
    """Shards copied by this run; the others stood already, or are damaged at the source."""
    bytes: int
    """Of all shards."""
    bytes_copied: int


def check_no_plan(storage: Storage, split: str) -> None:
    """Raise PlanError where a packing job stands that has not ended."""
    if stored_plan(storage, split) is not None:
        raise PlanError(
            f"{storage.url}/{split}: a packing job that has not ended stands here; give its pack "
            "command again, or choose another location"
        )


def mark_of(manifest: Manifest) -> bytes:
    """Return what says, at a target, whose shards stand there until the manifest does."""
    return encode_json({"content_digest": manifest.content_digest})


class Count:
    """Bytes that are done, counted by several threads and told by one.

    What a shard has come to counts once, however often it is tried.
    """

    def __init__(self, progress: Progress | None) -> None:
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


class _Damaged(Exception):  # noqa: N818 (a finding, which becomes a line of the report)
    """What came is not what the manifest promises; the message says how."""


class _Stopped(Exception):  # noqa: N818
    """The rest is no longer wanted."""


class SplitCopying:
    """One split on its way."""

    def __init__(
        self,
        here: Storage,
        there: Storage,
        manifest: Manifest,
        data: bytes,
        count: Count,
        *,
        replaces: bool,
    ) -> None:
        self.damaged: list[Damage] = []
        self._here = here
        self._there = there
        self._manifest = manifest
        self._data = data
        """The bytes of the manifest."""
        self._count = count
        self._replaces = replaces
        self._split = manifest.split
        self._staging = f"{manifest.split}/{BUILD_FOLDER}"
        self._copied: set[int] = set()
        self._threads = Threads()

    def run(self) -> SplitCopy:
        """Copy all that is missing, then the manifest; safe to do again."""
        stood = self._stands_finished()
        try:
            self._once(stood=stood)
        except (StorageError, PlanError):
            # Another copy of this very split can have ended in the meantime, and have tidied
            # away what this one had begun.
            if stood or not self._stands_finished():
                raise
            self._once(stood=True)
        shards = self._manifest.shards
        return SplitCopy(
            split=self._split,
            content_digest=self._manifest.content_digest,
            finished=not self.damaged,
            shards=len(shards),
            shards_copied=len(self._copied),
            bytes=self._manifest.size_bytes,
            bytes_copied=sum(shards[number].bytes for number in self._copied),
        )

    def _stands_finished(self) -> bool:
        standing = stored_manifest(self._there, self._split)
        return standing is not None and (standing.content_digest == self._manifest.content_digest)

    def _once(self, *, stood: bool) -> None:
        there, name = self._there, f"{self._split}/{MANIFEST_NAME}"
        if not stood:
            self._mark_place()
        self.damaged = [*self._copy_shards(), *self._copy_rejects()]
        if self.damaged:
            return
        if not stood:
            # Local shards of a job that began in the meantime may have replaced ours.
            check_no_plan(there, self._split)
            made = there.put_new(name, self._data, staging=self._staging)
            if not made and there.read_all(name) != self._data:
                raise PlanError(
                    f"{there.url}/{name}: another split was made here in the meantime; choose "
                    "another location"
                )
        settle(there, self._manifest)

    def _mark_place(self) -> None:
        """Say at the target what is being copied there, so that nothing else is."""
        there, name, data = self._there, copy_mark_name(self._split), mark_of(self._manifest)
        if not there.put_new(name, data, staging=self._staging) and there.read_all(name) != data:
            raise PlanError(
                f"{there.url}/{self._split}: another split is being copied here; choose another "
                "location"
            )

    def _copy_shards(self) -> list[Damage]:
        """Copy the shards that do not stand at the target whole; return what is damaged."""
        here, there, shards = self._here, self._there, self._manifest.shards
        standing = there.sizes(self._split)
        same = [n for n, shard in enumerate(shards) if standing.get(shard.name) == shard.bytes]
        whole: set[int] = set()

        def look(number: int, stop: threading.Event) -> None:
            if self._is_whole(shards[number], stop):
                whole.add(number)

        self._each(same, look, at_a_time=_ASKED_AT_A_TIME if there.far else _NEAR)
        sizes = here.sizes(self._split) if len(whole) < len(shards) else {}
        found: dict[int, Damage] = {}

        def bring(number: int, stop: threading.Event) -> None:
            try:
                self._copy_shard(number, sizes.get(shards[number].name), stop)
                self._copied.add(number)
            except _Damaged as exc:
                found[number] = Damage(self._split, shards[number].name, str(exc))

        missing = (number for number in range(len(shards)) if number not in whole)
        self._each(missing, bring, at_a_time=_FAR if here.far or there.far else _NEAR)
        return [found[number] for number in sorted(found)]

    def _each(
        self,
        numbers: Iterable[int],
        work: Callable[[int, threading.Event], None],
        *,
        at_a_time: int,
    ) -> None:
        """Do some work for each shard, several at a time; the first error ends all of it."""
        stop = threading.Event()
        left = iter(numbers)

        def one(number: int) -> bytes:
            work(number, stop)
            return b""

        def begun(most: int) -> set[Future[bytes]]:
            return {self._threads.submit(partial(one, n)) for n in islice(left, most)}

        under_way: set[Future[bytes]] = set()
        try:
            under_way = begun(at_a_time)
            while under_way:
                done, under_way = wait(under_way, _TOLD_S, return_when=FIRST_COMPLETED)
                self._count.tell()
                for future in done:
                    future.result()
                under_way |= begun(len(done))
        except BaseException:
            # What is under way takes its unfinished files away.
            stop.set()
            wait(under_way, _STOP_S)
            raise

    def _is_whole(self, shard: ShardEntry, stop: threading.Event) -> bool:
        """Return whether a shard stands at the target as the manifest has it."""
        there, name = self._there, f"{self._split}/{shard.name}"
        try:
            known = there.stored(name)
            if known is None or known.bytes != shard.bytes:
                return False
            if known.crc32c is None:
                with closing(self._checked(there.pieces(name, _PIECE), shard, stop)) as pieces:
                    for _ in pieces:
                        pass
            elif known.crc32c != shard.crc32c:
                return False
        except _Damaged:
            return False
        except StorageError:
            # What cannot be read on a disk can yet be replaced.
            if there.far:
                raise
            return False
        self._count.reach(name, shard.bytes)
        return True

    def _copy_shard(self, number: int, size: int | None, stop: threading.Event) -> None:
        """Copy one shard.

        Args:
            number: Of the shard.
            size: At the source; None where it is missing.
            stop: Set where it is no longer wanted.

        Raises:
            _Damaged: It is damaged at the source.
        """
        shard = self._manifest.shards[number]
        name = f"{self._split}/{shard.name}"
        if size is None:
            raise _Damaged("missing")
        if size != shard.bytes:
            raise _Damaged(f"{size} bytes, the manifest expects {shard.bytes}")
        about = about_shard(self._manifest.plan_digest, number)
        for left in reversed(range(_TRIES if self._here.far else 1)):
            try:
                if self._replaces and self._there.far and self._there.stored(name) is not None:
                    # A store replaces nothing of another's; what is removed must be there again.
                    with closing(self._checked(self._pieces(name), shard, stop)) as pieces:
                        for _ in pieces:
                            pass
                    self._there.remove(name)
                with (
                    closing(self._checked(self._pieces(name), shard, stop)) as pieces,
                    self._there.writer(name, staging=self._staging, about=about) as write,
                ):
                    for piece in pieces:
                        write(piece)
                return
            except _Damaged:
                if not left or self._is_stored_damaged(name, shard):
                    raise

    def _is_stored_damaged(self, name: str, shard: ShardEntry) -> bool:
        """Return whether the source itself says that it holds other bytes."""
        known = self._here.stored(name)
        return known is not None and known.crc32c not in (None, shard.crc32c)

    def _pieces(self, name: str) -> Iterator[bytes]:
        """Yield a file of the source."""
        try:
            yield from self._here.pieces(name, _PIECE)
        except StorageError as exc:
            # A store that is away is no damage, and would be asked in vain for all others.
            if self._here.far and not isinstance(exc, NotFoundError):
                raise
            raise _Damaged(f"cannot be read: {exc}") from exc

    def _checked(
        self, pieces: Iterator[bytes], shard: ShardEntry, stop: threading.Event
    ) -> Generator[bytes]:
        """Yield the pieces of a shard; at its end, raise if they are not what was packed.

        Raises:
            _Damaged: They are not.
            _Stopped: They are no longer wanted.
        """
        sha256, crc, place = hashlib.sha256(), 0, 0
        for piece in pieces:
            if stop.is_set():
                raise _Stopped
            sha256.update(piece)
            crc = crc32c(piece, crc)
            place += len(piece)
            yield piece
            self._count.reach(f"{self._split}/{shard.name}", min(place, shard.bytes))
        if place != shard.bytes:
            raise _Damaged(f"{place} bytes, the manifest expects {shard.bytes}")
        if sha256.hexdigest() != shard.sha256:
            raise _Damaged("sha256 of the file is not the manifest's")
        if crc != shard.crc32c:
            raise _Damaged("crc32c of the file is not the manifest's")

    def _copy_rejects(self) -> list[Damage]:
        """Copy the list of rejects, if it does not stand at the target; return its damage."""
        here, there, name = self._here, self._there, f"{self._split}/{REJECTS_NAME}"
        expected = self._manifest.rejects_sha256
        if there.size(name) is not None and sha256_hex(there.read_all(name)) == expected:
            return []
        try:
            if here.size(name) is None:
                raise _Damaged("missing")
            try:
                data = here.read_all(name)
            except StorageError as exc:
                if here.far:
                    raise
                raise _Damaged(f"cannot be read: {exc}") from exc
            if sha256_hex(data) != expected:
                raise _Damaged("sha256 is not the manifest's")
        except _Damaged as exc:
            return [Damage(self._split, REJECTS_NAME, str(exc))]
        there.put(name, data, staging=self._staging)
        return []
