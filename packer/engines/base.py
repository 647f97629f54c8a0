"""What all engines share: their patience, and the end of it."""

from clipshards.packer.format.errors import WorkerError
from clipshards.packer.format.names import sample_key, shard_name
from clipshards.packer.making import Job, ShardTask
from clipshards.packer.record_kinds import RECORD_KINDS

TRIES = 3
"""Processes that one shard may cost."""
STALL_S = 1800
"""Seconds that a process may do nothing over one sample."""


def worker_error(job: Job, task: ShardTask, how: str, *, done: int | None = None) -> WorkerError:
    """Return the error of a shard over which too many processes ended.

    Args:
        job: What all shards have in common.
        task: The shard.
        how: How the last process ended.
        done: Samples that it had made, where that is known.
    """
    place = ""
    if done is not None and done < len(task.entries):
        entry = task.entries[done]
        name = RECORD_KINDS[job.record].name(entry.value)
        place = f", at {sample_key(job.split, entry.ordinal)} ({entry.value.origin}: {name!r})"
    return WorkerError(
        f"{job.split}/{shard_name(job.split, task.number)}: {TRIES} processes ended before it was "
        f"made, the last one by {how}{place}; what is finished is kept. Look at that entry and at "
        "the memory (fewer --workers need less), and run the same command again"
    )
