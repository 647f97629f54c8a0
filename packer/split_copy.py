"""One split copied shard by shard, every byte checked on the way."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from clipshards.packer.finish import settle
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import sha256_hex
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
from clipshards.packer.proving import (
    NEAR,
    PIECE,
    Count,
    NotTheShard,
    each_shard,
    proved,
    whole_shards,
)
from clipshards.packer.standing import copy_mark_name, stored_manifest, stored_plan
from clipshards.packer.storage import Storage
from clipshards.packer.storage.threads import Threads

Progress = Callable[[int], None]
"""Called with the bytes that were copied, or found to stand already, since the last call."""

# Shards on the way at a time where a store is involved. An upload to S3 holds some 64 MB of its
# shard.
_FAR = 8
# Of what comes damaged from afar: a network now and then changes a bit.
_TRIES = 3


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
        whole = whole_shards(there, self._manifest, self._threads, self._count)
        sizes = here.sizes(self._split) if len(whole) < len(shards) else {}
        found: dict[int, Damage] = {}

        def bring(number: int, stop: threading.Event) -> None:
            try:
                self._copy_shard(number, sizes.get(shards[number].name), stop)
                self._copied.add(number)
            except NotTheShard as exc:
                found[number] = Damage(self._split, shards[number].name, str(exc))

        each_shard(
            self._threads,
            (number for number in range(len(shards)) if number not in whole),
            bring,
            at_a_time=_FAR if here.far or there.far else NEAR,
            tell=self._count.tell,
        )
        return [found[number] for number in sorted(found)]

    def _copy_shard(self, number: int, size: int | None, stop: threading.Event) -> None:
        """Copy one shard.

        Args:
            number: Of the shard.
            size: At the source; None where it is missing.
            stop: Set where it is no longer wanted.

        Raises:
            NotTheShard: It is damaged at the source.
        """
        shard = self._manifest.shards[number]
        name = f"{self._split}/{shard.name}"
        if size is None:
            raise NotTheShard("missing")
        if size != shard.bytes:
            raise NotTheShard(f"{size} bytes, the manifest expects {shard.bytes}")
        about = about_shard(self._manifest.plan_digest, number)
        reach = partial(self._count.reach, name)
        for left in reversed(range(_TRIES if self._here.far else 1)):
            try:
                with (
                    closing(proved(self._pieces(name), shard, stop, reach)) as pieces,
                    self._there.writer(
                        name, staging=self._staging, about=about, replaces=self._replaces
                    ) as write,
                ):
                    for piece in pieces:
                        write(piece)
                return
            except NotTheShard:
                if not left or self._is_stored_damaged(name, shard):
                    raise

    def _is_stored_damaged(self, name: str, shard: ShardEntry) -> bool:
        """Return whether the source itself says that it holds other bytes."""
        known = self._here.stored(name)
        return known is not None and known.crc32c not in (None, shard.crc32c)

    def _pieces(self, name: str) -> Iterator[bytes]:
        """Yield a file of the source."""
        try:
            yield from self._here.pieces(name, PIECE)
        except StorageError as exc:
            # A store that is away is no damage, and would be asked in vain for all others.
            if self._here.far and not isinstance(exc, NotFoundError):
                raise
            raise NotTheShard(f"cannot be read: {exc}") from exc

    def _copy_rejects(self) -> list[Damage]:
        """Copy the list of rejects, if it does not stand at the target; return its damage."""
        here, there, name = self._here, self._there, f"{self._split}/{REJECTS_NAME}"
        expected = self._manifest.rejects_sha256
        if there.size(name) is not None and sha256_hex(there.read_all(name)) == expected:
            return []
        try:
            if here.size(name) is None:
                raise NotTheShard("missing")
            try:
                data = here.read_all(name)
            except StorageError as exc:
                if here.far:
                    raise
                raise NotTheShard(f"cannot be read: {exc}") from exc
            if sha256_hex(data) != expected:
                raise NotTheShard("sha256 is not the manifest's")
        except NotTheShard as exc:
            return [Damage(self._split, REJECTS_NAME, str(exc))]
        there.put(name, data, staging=self._staging)
        return []
