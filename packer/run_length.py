"""How many neighbours the reading order keeps together, so that they are worth a request."""

from collections.abc import Sequence
from typing import Any

from clipshards.packer.format.manifest import ShardEntry
from clipshards.packer.format.tasks import TASKS

LONGEST_RUN = 8
"""More would save little, and make small batches alike from pass to pass."""

# A request to S3 costs as much as this many bytes on the way: docs/decisions/0012.
_WORTH_BYTES = 2_000_000
# Fewer runs would make the spread of batches depend on how the pack was shuffled.
_LEAST_RUNS = 1024


def run_length(request: dict[str, Any], shards: Sequence[ShardEntry]) -> int:
    """Return the run length of a split: 1, 2, 4 or 8.

    It is 1 where neighbours have to do with each other (the order of the annotation, samples
    of several items), and where a sample is worth a request of its own, as any video is.

    Args:
        request: What the user asked for, `Plan.request`.
        shards: All shards of the split.
    """
    task = TASKS[request["task"]]
    video = "frames.npy" in (*task.required, *request["optional_parts"])
    items = sum(shard.items for shard in shards)
    if request["order"] == "kept" or not task.one_item or video or not items:
        return 1
    worth = _WORTH_BYTES * items // sum(shard.bytes for shard in shards)
    longest = min(LONGEST_RUN, worth, items // _LEAST_RUNS)
    # A power of two, as batches are: else most of them would end inside a run.
    return 1 << max(longest.bit_length() - 1, 0)
