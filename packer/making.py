"""Making the shards of a plan, each a pure function of plan, media and recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import BUILD_FOLDER, REJECTS_NAME, sample_key, shard_name
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.plan import Plan
from clipshards.packer.receipts import Receipt, load_receipt, store_receipt
from clipshards.packer.record_kinds import RecordKind
from clipshards.packer.samples.base import Material
from clipshards.packer.shards import ShardWriter
from clipshards.packer.storage import Storage

Progress = Callable[[int, int], None]
"""Called after each sample with (entries done, bytes packed), both since the last call."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that making the shards of a plan takes."""

    storage: Storage
    plan: Plan
    kind: RecordKind
    entries: Mapping[int, Entry]
    """The planned records by ordinal."""
    material: Material


def make_shards(job: Job, progress: Progress) -> tuple[list[Receipt], int]:
    """Return the receipts of all shards in order, and how many of them were made now."""
    storage, split = job.storage, job.plan.split
    names = [shard_name(split, number) for number in range(len(job.plan.shards))]
    stored = [load_receipt(storage, split, name, job.plan.digest) for name in names]
    # Rejects without a manifest: the last run ended over them, and the media may have been
    # mended since. A run that was killed has not written them, and tries nothing twice.
    retry = storage.size(f"{split}/{REJECTS_NAME}") is not None
    receipts = []
    made = 0
    for number, receipt in enumerate(stored):
        if receipt is None or (retry and receipt.rejects):
            receipt = make_shard(job, number, progress)
            store_receipt(storage, split, receipt)
            made += 1
        else:
            progress(sum(job.entries[ordinal].entries for ordinal in job.plan.shards[number]), 0)
        receipts.append(receipt)
    return receipts, made


def make_shard(job: Job, number: int, progress: Progress) -> Receipt:
    """Make one shard of a plan under its final name; return its receipt, not yet stored."""
    plan, kind, split = job.plan, job.kind, job.plan.split
    index = ShardIndex(
        task=kind.task,
        split=split,
        number=number,
        plan_digest=plan.digest,
        recipe=plan.request["recipe"],
    )
    rejects = []
    warnings = []
    name = f"{split}/{shard_name(split, number)}"
    with job.storage.writer(name, staging=f"{split}/{BUILD_FOLDER}") as write:
        shard = ShardWriter(write, index)
        for ordinal in plan.shards[number]:
            entry = job.entries[ordinal]
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
    return Receipt(plan.digest, shard_entry, tuple(rejects), tuple(warnings))
