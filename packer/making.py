"""Making the shards of a plan, each a pure function of plan, media and recipe."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError, WorkerError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import BUILD_FOLDER, REJECTS_NAME, sample_key, shard_name
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.plan import Plan
from clipshards.packer.processes import Counters, run_tasks
from clipshards.packer.receipts import Receipt, load_receipt, store_receipt
from clipshards.packer.record_kinds import RECORD_KINDS
from clipshards.packer.samples.base import Material
from clipshards.packer.shards import ShardWriter
from clipshards.packer.storage import Storage

Progress = Callable[[int, int], None]
"""Called with (entries done, bytes packed), both since the last call."""

# Processes that one shard may cost, and how long one may take for one sample.
_TRIES = 3
_STALL_S = 1800


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


def make_shards(
    job: Job, plan: Plan, entries: Mapping[int, Entry], *, workers: int, progress: Progress
) -> tuple[list[Receipt], int]:
    """Return the receipts of all shards in order, and how many of them were made now.

    Args:
        job: What all have in common.
        plan: Which records stand in which shard.
        entries: The planned records by ordinal.
        workers: Processes that make shards; 1 for this process alone.
        progress: Called now and then.

    Raises:
        WorkerError: Processes died or hung over one shard, again and again.
    """
    storage, split = job.storage, job.split
    names = [shard_name(split, number) for number in range(len(plan.shards))]
    stored = [load_receipt(storage, split, name, plan.digest) for name in names]
    # Rejects without a manifest: the last run ended over them, and the media may have been
    # mended since. A run that was killed has not written them, and tries nothing twice.
    retry = storage.size(f"{split}/{REJECTS_NAME}") is not None
    receipts = {}
    for number, receipt in enumerate(stored):
        if receipt is not None and not (retry and receipt.rejects):
            receipts[number] = receipt
            progress(sum(entries[ordinal].entries for ordinal in plan.shards[number]), 0)
    due = [number for number in range(len(names)) if number not in receipts]
    tasks = (
        ShardTask(number, tuple(entries[ordinal] for ordinal in plan.shards[number]))
        for number in due
    )
    if min(workers, len(due)) > 1:
        receipts |= _in_processes(job, tasks, min(workers, len(due)), progress)
    else:
        receipts |= {task.number: make_shard(job, task, progress) for task in tasks}
    return [receipts[number] for number in range(len(names))], len(due)


def _in_processes(
    job: Job, tasks: Iterable[ShardTask], workers: int, progress: Progress
) -> dict[int, Receipt]:
    """Make shards in several processes at a time; return their receipts."""
    given: list[ShardTask] = []

    def noted() -> Iterator[ShardTask]:
        for task in tasks:
            given.append(task)
            yield task

    receipts = {}
    ended = told = (0, 0)

    def watch(counters: Iterable[tuple[int, ...]]) -> None:
        nonlocal told
        # What a process had done that died is done again, and told once.
        rows = [ended, *(found[:2] for found in counters)]
        entries, size = sum(row[0] for row in rows), sum(row[1] for row in rows)
        if entries >= told[0] and size >= told[1] and (entries, size) != told:
            progress(entries - told[0], size - told[1])
            told = (entries, size)

    outcomes = run_tasks(
        partial(_make_for_parent, job),
        noted(),
        workers=workers,
        counters=3,
        tries=_TRIES,
        stall_s=_STALL_S,
        watch=watch,
    )
    with closing(outcomes):
        for outcome in outcomes:
            task = given[outcome.number]
            if outcome.lost:
                raise _worker_error(job, task, outcome.lost, done=outcome.counters[2])
            receipts[task.number] = outcome.value
            ended = ended[0] + outcome.counters[0], ended[1] + outcome.counters[1]
            # The receipt has what is needed of it.
            given[outcome.number] = ShardTask(task.number, ())
    watch([])
    return receipts


def _make_for_parent(job: Job, task: ShardTask, counters: Counters) -> Receipt:
    def progress(entries: int, size: int) -> None:
        counters[0] += entries
        counters[1] += size
        counters[2] += 1

    return make_shard(job, task, progress)


def _worker_error(job: Job, task: ShardTask, how: str, *, done: int) -> WorkerError:
    place = ""
    if done < len(task.entries):
        entry = task.entries[done]
        name = RECORD_KINDS[job.record].name(entry.value)
        place = f", at {sample_key(job.split, entry.ordinal)} ({entry.value.origin}: {name!r})"
    return WorkerError(
        f"{job.split}/{shard_name(job.split, task.number)}: {_TRIES} processes ended before it was "
        f"made, the last one by {how}{place}; what is finished is kept. Look at that entry, or "
        "give the processes more memory by fewer --workers, and run the same command again"
    )


def make_shard(job: Job, task: ShardTask, progress: Progress) -> Receipt:
    """Make one shard under its final name; store and return its receipt."""
    kind, split = RECORD_KINDS[job.record], job.split
    index = ShardIndex(
        task=kind.task,
        split=split,
        number=task.number,
        plan_digest=job.plan_digest,
        recipe=job.recipe,
    )
    rejects = []
    warnings = []
    name = f"{split}/{shard_name(split, task.number)}"
    with job.storage.writer(name, staging=f"{split}/{BUILD_FOLDER}") as write:
        shard = ShardWriter(write, index)
        for entry in task.entries:
            ordinal = entry.ordinal
            key = sample_key(split, ordinal)
            size = 0
            try:
                sample = kind.make(entry.value, job.material)
            except MediaError as exc:
                rejects.append(
                    RejectRow(
                        ordinal=ordinal,
                        entries=entry.entries,
                        key=key,
                        id=kind.name(entry.value),
                        origin=str(entry.value.origin),
                        error=type(exc).__name__,
                        message=str(exc),
                    )
                )
            else:
                rejects += [
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
                lost = sum(item.entries for item in sample.left_out)
                shard.add(key, sample, entries=entry.entries - lost)
                if sample.warning:
                    warnings.append((sample.origin, sample.warning))
                size = sum(map(len, sample.parts.values()))
            progress(entry.entries, size)
        shard_entry = shard.finish()
    receipt = Receipt(job.plan_digest, shard_entry, tuple(rejects), tuple(warnings))
    store_receipt(job.storage, split, receipt)
    return receipt
