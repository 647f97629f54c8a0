"""What the reading order costs at scale: time and memory from a parsed manifest to a batch.

    python benchmarks/order_scale.py [--shards 100000] [--items 1000] [--repeats 7]

No data is needed: the manifests are made up, and nothing but the order is asked for. Each
repeat begins with a manifest and nothing else. `open`: the split, or the mix of splits, its
content digest and its epochs. `first`: the first batch. `late`: a batch at 90 % of another
epoch, by another object that was asked for nothing yet, as after a resume. `next`: the batch
after the first one. `locate`: in which position an item comes up. Times are medians in
milliseconds, with the least and the greatest. `kept` is what all objects hold after batches
of four epochs, in bytes a shard (tracemalloc), without the manifest.
"""

import argparse
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np

from clipshards.packer.format.manifest import Accounting, Manifest, ShardEntry
from clipshards.packer.storage import open_storage
from clipshards.readers import Concat, Split, Weighted
from clipshards.readers.batches import Batches
from clipshards.readers.mixing import Source, as_source
from clipshards.readers.order import Order

Make = Callable[[list[Split]], Source]

# Name to the parts that the shards are divided into, and what is made of them.
MIXES: dict[str, tuple[Sequence[float], Make]] = {
    "one split": ((1,), lambda splits: as_source(splits[0])),
    "Concat of 4": ((0.4, 0.3, 0.2, 0.1), Concat),
    "Weighted 3:1": ((0.5, 0.5), lambda splits: Weighted(splits, [3, 1], stop="all_exhausted")),
}
STEPS = ("open", "first", "next", "late", "locate")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=1000, help="of a shard")
    parser.add_argument("--batch", type=int, default=256, help="items of all ranks")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    print(
        f"{args.shards * args.items:,} items in {args.shards:,} shards, batches of {args.batch}; "
        f"medians of {args.repeats} repeats; Python {platform.python_version()}, "
        f"numpy {np.__version__}, {os.cpu_count()} CPUs\n"
    )
    print(f"| | {' | '.join(f'{step} ms' for step in STEPS)} | kept B/shard |")
    print(f"|---{'|---' * len(STEPS)}|---|")
    for name, (shares, make) in MIXES.items():
        manifests = [made_up(int(share * args.shards), args.items) for share in shares]
        times: dict[str, list[float]] = {step: [] for step in STEPS}
        for _ in range(args.repeats):
            for step, seconds in measured(manifests, make, args.batch):
                times[step].append(1000 * seconds)
        cells = [
            f"{statistics.median(of_step):.1f} ({min(of_step):.1f}-{max(of_step):.1f})"
            if (of_step := times[step])
            else ""
            for step in STEPS
        ]
        print(f"| {name} | {' | '.join(cells)} | {kept(manifests, make, args.batch):.0f} |")


def made_up(shards: int, items: int) -> Manifest:
    """Return a manifest as a packing of so many shards would leave it."""
    entries = tuple(
        ShardEntry(
            name=f"train-{number:06d}.tar",
            bytes=256_000_000,
            records=items,
            entries=items,
            samples=items,
            items=items,
            index_at="inside",
            index_offset=255_000_000,
            index_bytes=100_000,
            index_crc32c=number,
            sha256=f"{number:064x}",
            crc32c=number,
        )
        for number in range(shards)
    )
    manifest = Manifest(
        task="skeleton",
        split="train",
        labels="one",
        class_names=(),
        recipe={},
        run_length=8,
        request_digest="0" * 64,
        plan_digest="0" * 64,
        accounting=Accounting(shards * items, shards * items, 0, {}),
        rejects_sha256="0" * 64,
        made_with={},
        shards=entries,
    )
    # As it was read from a file.
    return Manifest.decode(manifest.encode(), where="manifest.json")


def opened(manifests: Sequence[Manifest], make: Make, batch: int) -> tuple[Source, Batches]:
    source = make([Split(open_storage("nowhere"), manifest) for manifest in manifests])
    return source, Batches(source.epochs(seed=1, repeat=1), batch, "pad")


def measured(manifests: Sequence[Manifest], make: Make, batch: int) -> list[tuple[str, float]]:
    """Return each step and its seconds, once through."""
    clock = time.perf_counter
    start = clock()
    _, batches = opened(manifests, make, batch)
    found = [("open", clock() - start)]
    count = batches.count
    assert count is not None
    for step, number in (("first", 0), ("next", 1)):
        start = clock()
        batches.take(0, number)
        found.append((step, clock() - start))
    _, late = opened(manifests, make, batch)
    start = clock()
    late.take(5, count * 9 // 10)
    found.append(("late", clock() - start))
    if len(manifests) == 1:
        order = Order([shard.items for shard in manifests[0].shards], seed=1, run_length=8)
        start = clock()
        order.position_of(len(order) // 2, number=3)
        found.append(("locate", clock() - start))
    return found


def kept(manifests: Sequence[Manifest], make: Make, batch: int) -> float:
    """Return the bytes a shard that stay after batches of four epochs."""
    tracemalloc.start()
    source, batches = opened(manifests, make, batch)
    count = batches.count
    assert count is not None
    for epoch in range(4):
        batches.take(epoch, count * epoch // 4)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source)
    return size / sum(len(manifest.shards) for manifest in manifests)


if __name__ == "__main__":
    main()
