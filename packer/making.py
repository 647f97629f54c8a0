"""Making the shards of a plan, each a pure function of plan, media and recipe."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import ShardEntry
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    REJECTS_NAME,
    about_shard,
    sample_key,
    shard_name,
)
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.plan import Plan
from clipshards.packer.receipts import Receipt, find_receipts, store_receipt
from clipshards.packer.record_kinds import RECORD_KINDS
from clipshards.packer.samples.base import Material, Sample
from clipshards.packer.shards import ShardWriter
from clipshards.packer.storage import Storage

Progress = Callable[[int, int], None]
"""Called with (entries done, bytes packed), both since the last call."""


@dataclass(frozen=True, slots=True)
class Job:
    """What making any shard of a split takes, beside its records; small, to be sent about."""

    storage: Storage
    split: str
    plan_digest: str
    recipe: dict[str, Any]
    """As the plan tells it."""
    record: type
    """Class of the records."""
    material: Material


class ShardTask(NamedTuple):
    """One shard to be made."""

    number: int
    entries: tuple[Entry, ...]
    """Its records, in its order."""
    original: ShardEntry | None = None
    """What stood there: the shard is written only if it has these bytes, and has no receipt."""


class Engine(Protocol):
    """Makes shards, somewhere, in any order; `make_shard` is what it runs there."""

    @property
    def workers(self) -> int:
        """Shards that it makes at a time."""

    def make(self, job: Job, tasks: Iterable[ShardTask], progress: Progress) -> Iterator[Receipt]:
        """Make all shards and store their receipts; yield those as they come.

        A process that dies or hangs loses its shard to another, a bounded number of times.
        What `make_shard` raises is raised here, and the other shards are let go.

        Args:
            job: What all have in common.
            tasks: The shards; each is asked for when there is a place for it.
            progress: Called now and then, in this process.

        Raises:
            WorkerError: Processes died or hung over one shard, again and again.
        """


def make_shards(
    job: Job,
    plan: Plan,
    entries: Mapping[int, Entry],
    *,
    engine: Engine,
    progress: Progress,
    part: tuple[int, int] = (1, 1),
) -> tuple[list[Receipt], int]:
    """Return the receipts of a part's shards in order, and how many of them were made now.

    Args:
        job: What all have in common.
        plan: Which records stand in which shard.
        entries: The planned records by ordinal.
        engine: Makes them.
        progress: Called now and then.
        part: Number of the part, from 1, and number of parts: shard i belongs to part
            i % parts + 1.

    Raises:
        WorkerError: Processes died or hung over one shard, again and again.
    """
    storage, split = job.storage, job.split
    # Rejects without a manifest: the last run ended over them, and the media may have been
    # mended since. A run that was killed has not written them, and tries nothing twice.
    retry = storage.size(f"{split}/{REJECTS_NAME}") is not None
    numbers = range(part[0] - 1, len(plan.shards), part[1])
    names = {number: shard_name(split, number) for number in numbers}
    receipts = {
        name: receipt
        for name, receipt in find_receipts(storage, split, names.values(), plan.digest).items()
        if not (retry and receipt.rejects)
    }
    for number, name in names.items():
        if name in receipts:
            progress(sum(entries[ordinal].entries for ordinal in plan.shards[number]), 0)
    due = [number for number, name in names.items() if name not in receipts]
    tasks = (
        ShardTask(number, tuple(entries[ordinal] for ordinal in plan.shards[number]))
        for number in due
    )
    for receipt in engine.make(job, tasks, progress):
        receipts[receipt.entry.name] = receipt
    return [receipts[name] for name in names.values()], len(due)


def make_shard(job: Job, task: ShardTask, progress: Progress) -> Receipt:
    """Make one shard under its final name; store and return its receipt.

    One that is to be an original again is written, as a whole, only if it is: its receipt says
    whether.
    """
    kind, split = RECORD_KINDS[job.record], job.split
    index = ShardIndex(
        task=kind.task,
        split=split,
        number=task.number,
        plan_digest=job.plan_digest,
        recipe=job.recipe,
    )
    rejects: list[RejectRow] = []
    warnings = []
    name = f"{split}/{shard_name(split, task.number)}"
    about = about_shard(job.plan_digest, task.number)
    original = task.original
    staging = f"{split}/{BUILD_FOLDER}"
    try:
        with job.storage.writer(
            name, staging=staging, about=about, replaces=original is not None
        ) as write:
            shard = ShardWriter(write, index)
            for entry in task.entries:
                size = 0
                sample, unusable = make_sample(job, entry)
                rejects += unusable
                if sample is not None:
                    lost = sum(row.entries for row in unusable)
                    key = sample_key(split, entry.ordinal)
                    shard.add(key, sample, entries=entry.entries - lost)
                    if sample.warning:
                        warnings.append((sample.origin, sample.warning))
                    size = sum(map(len, sample.parts.values()))
                progress(entry.entries, size)
            shard_entry = shard.finish(records=len(task.entries))
            if original not in (None, shard_entry):
                raise _OtherBytes
    except _OtherBytes:
        pass
    receipt = Receipt(job.plan_digest, shard_entry, tuple(rejects), tuple(warnings))
    if original is None:
        store_receipt(job.storage, split, receipt)
    return receipt


def make_sample(job: Job, entry: Entry) -> tuple[Sample | None, list[RejectRow]]:
    """Return the sample of a record, None where there can be none, and all that it lacks."""
    kind, ordinal, value = RECORD_KINDS[job.record], entry.ordinal, entry.value
    key = sample_key(job.split, ordinal)
    try:
        sample = kind.make(value, job.material)
    except MediaError as exc:
        row = RejectRow(
            ordinal=ordinal,
            entries=entry.entries,
            key=key,
            id=kind.name(value),
            origin=str(value.origin),
            error=type(exc).__name__,
            message=str(exc),
        )
        return None, [row]
    return sample, [
        RejectRow(
            ordinal=ordinal + item.place,
            entries=item.entries,
            key=key,
            id=item.id,
            origin=item.origin,
            error=MediaError.__name__,
            message=item.message,
        )
        for item in sample.left_out
    ]


class _OtherBytes(Exception):  # noqa: N818 (no error: it ends the writing)
    """What was made is not what stood there."""
