"""What a packing job has come to, for whoever looks at its location from outside."""

import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError, NotFoundError, StorageError
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    REJECTS_NAME,
    check_split,
    is_split,
)
from clipshards.packer.notes import load_notes
from clipshards.packer.receipts import load_receipts
from clipshards.packer.standing import is_begun, stored_manifest, stored_plan
from clipshards.packer.storage import Storage, open_storage

# Seconds between two signs of life, and how old the last one of a run on another machine can
# be: a long video can be decoded between two of them.
_BEAT_S = 5.0
_ALIVE_S = 1800.0


@dataclass(frozen=True, slots=True)
class Run:
    """One process that makes shards of a split, by its own last word."""

    host: str
    pid: int
    part: int
    """Number of the part that it makes, from 1."""
    parts: int
    workers: int
    started_s: float
    """Seconds since the epoch."""
    told_s: float
    """When it last gave a sign of life."""
    entries: int
    """Entries of the annotation that it has done, of those in `entries_due`."""
    entries_before: int
    """Those that stood in finished shards when it began."""
    entries_due: int
    bytes: int
    """Of the samples that it has made."""

    @property
    def alive(self) -> bool:
        """Whether its process is there; on another machine, whether it was heard of lately."""
        if self.host != socket.gethostname():
            return time.time() - self.told_s <= _ALIVE_S
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody else's
        return True

    @property
    def seconds_left(self) -> float | None:
        """About how long it will still take; None where nothing has been done yet."""
        took = self.told_s - self.started_s
        done = self.entries - self.entries_before
        if done <= 0 or took <= 0:
            return None
        return took / done * (self.entries_due - self.entries)


@dataclass(frozen=True, slots=True)
class Status:
    """How far the packing of a split has come."""

    split: str
    state: Literal["running", "stopped", "finished"]
    """`stopped`: no run is at work, or none on another machine was heard of for half an hour."""
    entries: int
    """Entries of the annotation."""
    shards: int
    shards_made: int
    samples: int
    """In the shards that are made."""
    bytes: int
    """Of the shards that are made."""
    rejects: int
    """Entries that cannot be packed, as far as is known."""
    too_many_rejects: bool
    """The last run ended over its rejects: all shards are made, and there is no manifest."""
    runs: tuple[Run, ...]
    """Those at work, and those that were killed."""


def read_status(location: str | os.PathLike[str], *, split: str) -> Status:
    """Return how far the packing of a split has come.

    Raises:
        NotFoundError: Nothing was packed there.
        FormatError: A plan, receipt or manifest is damaged.
        StorageError: The location cannot be read.
    """
    check_split(split)
    return status_of(open_storage(location), split)


def status_of(storage: Storage, split: str) -> Status:
    """Return the same of an opened location."""
    manifest = stored_manifest(storage, split)
    if manifest is None:
        try:
            return _unfinished(storage, split)
        except StorageError:
            # It can have ended between the looks.
            manifest = stored_manifest(storage, split)
            if manifest is None:
                raise
    return Status(
        split=split,
        state="finished",
        entries=manifest.accounting.entries,
        shards=len(manifest.shards),
        shards_made=len(manifest.shards),
        samples=manifest.samples,
        bytes=manifest.size_bytes,
        rejects=manifest.accounting.rejected,
        too_many_rejects=False,
        runs=(),
    )


def _unfinished(storage: Storage, split: str) -> Status:
    plan = stored_plan(storage, split)
    if plan is None:
        raise NotFoundError(f"{storage.url}/{split}: no split and no plan of one stands here")
    receipts, missing = load_receipts(storage, plan)
    runs = _runs(storage, split)
    rows = [row for receipt in receipts for row in receipt.rejects]
    rejects_stand = storage.size(f"{split}/{REJECTS_NAME}") is not None
    return Status(
        split=split,
        state="running" if any(run.alive for run in runs) else "stopped",
        entries=plan.entries,
        shards=len(plan.shards),
        shards_made=len(receipts),
        samples=sum(receipt.entry.samples for receipt in receipts),
        bytes=sum(receipt.entry.bytes for receipt in receipts),
        rejects=sum(row.entries for row in (*load_notes(storage, plan).rejects, *rows)),
        too_many_rejects=rejects_stand and not missing,
        runs=runs,
    )


def packed_splits(location: str | os.PathLike[str]) -> list[str]:
    """Return the names of all splits at a location, finished or not, sorted.

    Raises:
        NotFoundError: There is none.
        StorageError: The location cannot be read.
    """
    storage = open_storage(location)
    names = [name for name in storage.folders() if is_split(name) and is_begun(storage, name)]
    if not names:
        raise NotFoundError(f"{storage.url}: nothing was packed here")
    return names


def _runs(storage: Storage, split: str) -> tuple[Run, ...]:
    runs = []
    for name in storage.sizes(f"{split}/{BUILD_FOLDER}"):
        if name.startswith("run-"):
            # One that ends in this moment takes its file away.
            with suppress(StorageError, FormatError):
                value = decode_json(storage.read_all(f"{split}/{BUILD_FOLDER}/{name}"), where=name)
                check_schema(value, _RUN_SCHEMA, where=name)
                runs.append(Run(**value))
    return tuple(sorted(runs, key=lambda run: (run.part, run.started_s)))


_RUN_SCHEMA = {
    "host": str,
    "pid": int,
    "part": int,
    "parts": int,
    "workers": int,
    "started_s": float,
    "told_s": float,
    "entries": int,
    "entries_before": int,
    "entries_due": int,
    "bytes": int,
}


class SignsOfLife:
    """A small file beside the plan that says every few seconds how far a run has come.

    A context; the file goes with its end. What cannot be written is not worth an error here:
    the shards themselves will say so.
    """

    def __init__(
        self, storage: Storage, split: str, part: tuple[int, int], *, workers: int, entries_due: int
    ) -> None:
        now = time.time()
        self._storage = storage
        self._folder = f"{split}/{BUILD_FOLDER}"
        self._name = f"{self._folder}/run-{secrets.token_hex(8)}.json"
        self._run = Run(
            host=socket.gethostname(),
            pid=os.getpid(),
            part=part[0],
            parts=part[1],
            workers=workers,
            started_s=now,
            told_s=now,
            entries=0,
            entries_before=0,
            entries_due=entries_due,
            bytes=0,
        )
        self._due = 0.0

    def __enter__(self) -> Self:
        self._tell()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(StorageError):
            self._storage.remove(self._name)

    def count(self, entries: int, size: int) -> None:
        """Count what was done; write now and then."""
        run = self._run
        done, made = run.entries + entries, run.bytes + size
        before = run.entries_before if made else done
        self._run = replace(run, entries=done, entries_before=before, bytes=made)
        if time.monotonic() >= self._due:
            self._tell()
            self._due = time.monotonic() + _BEAT_S

    def _tell(self) -> None:
        self._run = replace(self._run, told_s=time.time())
        value: dict[str, Any] = asdict(self._run)
        with suppress(StorageError):
            self._storage.put(self._name, encode_json(value), staging=self._folder)
