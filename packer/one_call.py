"""Packing in one call, on this machine."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from clipshards.packer.engines.local import LocalEngine
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.making import Progress
from clipshards.packer.packing import DEFAULT_SHARD_SIZE, Packing
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Excluded, Record, Reject
from clipshards.packer.reports import PackReport, PlanSummary


def pack(
    records: Iterable[Record | Reject | Excluded],
    out: str | os.PathLike[str],
    *,
    split: str,
    media_root: str | os.PathLike[str] | None = None,
    labels: LabelMode | None = None,
    class_names: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    seed: int | None = 0,
    shard_size: int = DEFAULT_SHARD_SIZE,
    max_rejects: int | None = None,
    allow_outside: bool = False,
    replan: bool = False,
    retry_rejects: bool = False,
    workers: int = 1,
    planning: Callable[[PlanSummary], None] | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack records and their media into one split of a data set, on this machine.

    The same call with the same media gives the same bytes. After a crash the same call
    goes on where the killed one was; after its end it finds all done. `Packing` does it in
    parts, or on other machines.

    Args:
        records: As for `Packing`, like all others down to `allow_outside`.
        out: Folder of the data set.
        split: Name of the split.
        media_root: Folder that record paths start from.
        labels: Labels of each item.
        class_names: Names of the classes.
        recipe: How media become parts.
        seed: Of the order in the shards.
        shard_size: Bytes a shard should have, about.
        max_rejects: Rejects up to which the manifest is still written.
        allow_outside: Let record paths lead out of the media root.
        replan: As for `Packing.run`, like those that follow.
        retry_rejects: Make shards anew that lack samples.
        workers: Processes that make shards, whose bytes do not depend on it; 1 for this one
            alone. A script that asks for more must guard itself by `if __name__ == "__main__":`.
        planning: Called with a new plan.
        progress: Called after each sample.

    Returns:
        The report; `report.rejects` lists what could not be packed and why.

    Raises:
        Exception: As for `Packing` and `Packing.run`.
    """
    started = time.monotonic()
    job = Packing(
        records,
        out,
        split=split,
        media_root=media_root,
        labels=labels,
        class_names=class_names,
        recipe=recipe,
        seed=seed,
        shard_size=shard_size,
        max_rejects=max_rejects,
        allow_outside=allow_outside,
    )
    report = job.run(
        engine=LocalEngine(workers),
        replan=replan,
        retry_rejects=retry_rejects,
        planning=planning,
        progress=progress,
    )
    return replace(report, seconds=time.monotonic() - started)
