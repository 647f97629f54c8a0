"""What a job will take: a few of its samples made, and thrown away."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import sample_key
from clipshards.packer.making import Job
from clipshards.packer.media_bytes import Expected
from clipshards.packer.plan import shuffled
from clipshards.packer.record_kinds import RECORD_KINDS
from clipshards.packer.shards import ShardWriter

_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all samples of a job will take, by those that were tried."""

    tried: int
    """Samples that were made."""
    rejects: tuple[tuple[str, str], ...]
    """(origin, message) of those among them that cannot be packed."""
    bytes: int
    """Of all shards, about; 0 where no sample could be made."""
    seconds: float
    """Time of one processor for all of them, about; 0.0 where no sample could be made."""


def try_samples(
    job: Job, planned: Mapping[int, Entry], expected: Expected, *, limit_s: float
) -> Estimate:
    """Make samples drawn at random, up to 50 or for about `limit_s` seconds; write nothing.

    What they take goes by the bytes that were expected of them: a video of twice the size
    counts twice.

    Args:
        job: What all samples have in common.
        planned: The records by ordinal.
        expected: What they are expected to weigh.
        limit_s: Seconds after which no further sample is begun.
    """
    kind = RECORD_KINDS[job.record]
    known = [size for size in expected.sizes.values() if size]
    mean = sum(known) / len(known) if known else 1.0
    index = ShardIndex(kind.task, job.split, 0, job.plan_digest, job.recipe)
    written = 0

    def count(data: bytes) -> None:
        nonlocal written
        written += len(data)

    shard = ShardWriter(count, index)
    rejects = []
    tried = made = 0
    weights = took = 0.0
    started = time.monotonic()
    for ordinal in shuffled(planned, seed=0)[:_SAMPLES]:
        entry = planned[ordinal]
        begun = time.monotonic()
        if tried and begun - started > limit_s:
            break
        tried += 1
        try:
            sample = kind.make(entry.value, job.material)
        except MediaError as exc:
            rejects.append((str(entry.value.origin), str(exc)))
            continue
        shard.add(sample_key(job.split, ordinal), sample, entries=entry.entries)
        made += 1
        # The first one loads what all of them use.
        if made == 1 and time.monotonic() - begun < 1:
            begun = time.monotonic()
            kind.make(entry.value, job.material)
        took += time.monotonic() - begun
        weights += expected.sizes[ordinal] or mean
    if not made:
        return Estimate(tried, tuple(rejects), 0, 0.0)
    shard.finish(records=made)
    share = sum(size or mean for size in expected.sizes.values()) / weights
    return Estimate(tried, tuple(rejects), round(written * share), took * share)
