"""Making the damaged files of a finished split anew from the sources, as the bytes they were."""

import time
from collections.abc import Callable, Sequence

from clipshards.packer.finish import made_with, read_rejects, settle
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import (
    CorruptShardError,
    FormatError,
    NotFoundError,
    PlanError,
    StorageError,
)
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import BUILD_FOLDER, REJECTS_NAME, sample_key
from clipshards.packer.format.rejects import RejectRow, encode_rejects
from clipshards.packer.making import Engine, Job, ShardTask, make_sample
from clipshards.packer.plan import Plan
from clipshards.packer.prepared import Prepared
from clipshards.packer.proving import Count, stored_index, whole_shards
from clipshards.packer.receipts import Receipt
from clipshards.packer.reports import RemakeReport
from clipshards.packer.standing import finished_split, original_plan
from clipshards.packer.storage import Storage
from clipshards.packer.storage.threads import Threads

# Refused shards of which the first other sample is looked for, which makes samples again.
_LOOKED_INTO = 3


class SourcesDifferError(CorruptShardError):
    """Files are damaged and the sources give other bytes now; nothing of those was written."""

    def __init__(self, message: str, report: RemakeReport) -> None:
        super().__init__(message)
        self.report = report
        """What was made anew, and all that could not be."""


def remake(
    storage: Storage,
    prepared: Prepared,
    engine: Engine,
    progress: Callable[[int], None] | None = None,
) -> RemakeReport:
    """Make anew what is damaged or missing of a finished split; see `Packing.repair`.

    Args:
        storage: The location.
        prepared: The job that made the split.
        engine: What makes the shards.
        progress: Called with the bytes that were checked or made since the call before.
    """
    started = time.monotonic()
    request = prepared.request
    split = request.split
    try:
        manifest = finished_split(storage, request)
    except FormatError as exc:
        raise FormatError(
            f"{exc}; without it nothing says which bytes the shards had: repair it from a copy "
            "(clipshards repair), or pack the split anew (--replan)"
        ) from exc
    if manifest is None:
        raise PlanError(
            f"{storage.url}/{split}: no finished split stands here to be repaired; run the same "
            "command without --repair to go on packing"
        )
    plan = original_plan(
        manifest, request, prepared.planned, prepared.families, where=f"{storage.url}/{split}"
    )
    tell = progress or (lambda _: None)
    whole = whole_shards(storage, manifest, Threads(), Count(tell))
    work = _Remaking(prepared, manifest, plan, prepared.job(storage, plan.digest))
    made, refused = work.make_shards(
        [number for number in range(len(plan.shards)) if number not in whole], engine, tell
    )
    refused += work.make_rejects()
    settle(storage, manifest)
    report = RemakeReport(
        location=storage.url,
        split=split,
        content_digest=manifest.content_digest,
        shards=len(manifest.shards),
        shards_made=len(made),
        bytes_made=sum(manifest.shards[number].bytes for number in made),
        refused=tuple(refused),
        seconds=time.monotonic() - started,
    )
    if refused:
        name, reason = refused[0]
        more = f"; {len(refused) - 1} more files cannot be made either" if len(refused) > 1 else ""
        raise SourcesDifferError(
            f"{storage.url}/{split}/{name}: {reason}{more}. They were left as they are: restore "
            "the media and run again, take the files from a copy (clipshards repair), or pack the "
            "split anew (--replan)",
            report,
        )
    return report


class _Remaking:
    """One split whose damaged files are made anew."""

    def __init__(self, prepared: Prepared, manifest: Manifest, plan: Plan, job: Job) -> None:
        self._prepared = prepared
        self._manifest = manifest
        self._plan = plan
        self._job = job
        self._split = manifest.split
        self._rejects = self._stored_rejects()

    def make_shards(
        self, numbers: Sequence[int], engine: Engine, tell: Callable[[int], None]
    ) -> tuple[list[int], list[tuple[str, str]]]:
        """Make shards; return those that are what they were, and why others are not."""
        tasks = [self._task(number) for number in numbers]
        receipts = {
            receipt.entry.name: receipt
            for receipt in engine.make(self._job, tasks, lambda _, size: tell(size))
        }
        made: list[int] = []
        refused: list[tuple[str, str]] = []
        for task in tasks:
            entry = self._manifest.shards[task.number]
            receipt = receipts[entry.name]
            if receipt.entry == entry:
                made.append(task.number)
            else:
                reason = self._reason(task, entry, receipt, look=len(refused) < _LOOKED_INTO)
                refused.append((entry.name, reason))
        return made, refused

    def make_rejects(self) -> list[tuple[str, str]]:
        """Make the list of rejects if it is damaged; return why it cannot be what it was."""
        if self._rejects is not None:
            return []
        rows = list(self._prepared.unusable)
        for number, shard in enumerate(self._manifest.shards):
            task = self._task(number)
            if shard.entries == sum(entry.entries for entry in task.entries):
                continue
            index = self._index(shard)
            if index is None:
                return [
                    (REJECTS_NAME, f"the index of {shard.name}, which lacks samples, is damaged")
                ]
            packed = dict(zip(index.keys, index.entries, strict=True))
            for entry in task.entries:
                if packed.get(sample_key(self._split, entry.ordinal)) != entry.entries:
                    rows += make_sample(self._job, entry)[1]
        data = encode_rejects(sorted(rows, key=lambda row: row.ordinal))
        if sha256_hex(data) != self._manifest.rejects_sha256:
            return [(REJECTS_NAME, f"made anew it has other bytes{self._other_tools()}")]
        name = f"{self._split}/{REJECTS_NAME}"
        self._job.storage.put(name, data, staging=f"{self._split}/{BUILD_FOLDER}")
        return []

    def _task(self, number: int) -> ShardTask:
        planned = self._prepared.planned
        entries = tuple(planned[ordinal] for ordinal in self._plan.shards[number])
        return ShardTask(number, entries, self._manifest.shards[number])

    def _stored_rejects(self) -> list[RejectRow] | None:
        """Return the rejects as they were packed, None where they are damaged or missing."""
        storage = self._job.storage
        try:
            return read_rejects(storage, self._manifest)
        except FormatError:
            return None
        except StorageError as exc:
            if storage.far and not isinstance(exc, NotFoundError):
                raise
            return None

    def _index(self, shard: ShardEntry) -> ShardIndex | None:
        """Return the index of a shard that stands there, None where it is damaged."""
        data = stored_index(self._job.storage, self._split, shard)
        return None if data is None else ShardIndex.decode(data, where=shard.name)

    def _reason(self, task: ShardTask, entry: ShardEntry, receipt: Receipt, *, look: bool) -> str:
        """Return why a shard is not what it was.

        Args:
            task: The shard.
            entry: What it was.
            receipt: What it is now.
            look: Whether to look for the first other sample, which makes samples again.
        """
        # Without the list, those that never could be packed are not told from the lost ones.
        known = {row.ordinal for row in self._rejects or ()}
        lost = [row for row in receipt.rejects if row.ordinal not in known]
        if receipt.entry.entries < entry.entries and lost and self._rejects is not None:
            return (
                f"sample {lost[0].key} cannot be made any more: {lost[0].origin}: {lost[0].message}"
            )
        words = "made anew it has other bytes"
        if receipt.entry.entries > entry.entries:
            words = f"{receipt.entry.entries - entry.entries} more entries can be packed now"
        elif look and (first := self._first_other(task, entry)):
            words += f", first in {first}"
        return words + self._other_tools()

    def _first_other(self, task: ShardTask, shard: ShardEntry) -> str:
        """Return the first sample that is not what it was, as far as the index tells it."""
        index = self._index(shard)
        if index is None:
            return ""
        rows = {key: row for row, key in enumerate(index.keys)}
        for entry in task.entries:
            key = sample_key(self._split, entry.ordinal)
            sample, _ = make_sample(self._job, entry)
            if sample is None or key not in rows:
                continue
            for name, data in sample.parts.items():
                columns = index.parts.get(name)
                if columns is None or columns.crc32c[rows[key]] != crc32c(data):
                    return f"{key}.{name} (id {sample.id!r}, {sample.origin})"
        return ""

    def _other_tools(self) -> str:
        """Return which tools have another version than those that packed, in words."""
        old, new = self._manifest.made_with, made_with(self._manifest.recipe)
        changed = [
            f"{name} {old.get(name, 'none')}, now {new.get(name, 'none')}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        return f" (packed with {'; '.join(changed)})" if changed else ""
