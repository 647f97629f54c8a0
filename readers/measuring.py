"""How fast a data set can be read on this machine: its bytes alone, and as batches."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clipshards.packer.format.errors import WorkerError
from clipshards.readers.accounting import Accounting
from clipshards.readers.batches import Batches, longest_run
from clipshards.readers.clips import Clip
from clipshards.readers.collate import collate_items
from clipshards.readers.data import ShardDataset
from clipshards.readers.mixing import Whole
from clipshards.readers.ranks import usable_processors
from clipshards.readers.split import Split


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of reading, measured."""

    how: str
    """`bytes`, or the arguments of `loader`."""
    account: Accounting
    """From the first batch on."""
    first_s: float
    """Seconds to the first batch."""
    cpu_s: float
    """CPU seconds of all processes, per 1,000 items."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """All ways of reading, and what to do."""

    rows: tuple[Measured, ...]
    stacked: bool
    """Whether items could be collated; else batches are lists."""
    impossible: tuple[str, ...] = ()
    """Ways that cannot be gone on this machine, and why."""

    @property
    def advice(self) -> str:
        """The fastest way, and what limits it, in one sentence."""
        best = max(self.rows[1:], key=lambda row: row.account.items_per_s)
        alone = self.rows[0].account.items_per_s
        account = best.account
        waits = {
            "storage": account.making_storage_s,
            "decoding": account.making_decode_s,
        }
        limit = max(waits, key=waits.__getitem__)
        more = (
            "media nearer to the machine would help"
            if limit == "storage"
            else "fewer frames, a cheaper transform or, of videos, an encode recipe would help"
        )
        return (
            f"the fastest is loader({best.how}), {account.items_per_s:,.1f} items/s, "
            f"{account.items_per_s / alone:.0%} of what reading alone gives; {limit} is the "
            f"limit: {more}"
        )


def ways() -> list[dict[str, int]]:
    """Return the arguments of `loader` that are tried."""
    processors = usable_processors()
    threads = [{"threads": count} for count in sorted({0, 1, processors})]
    return [*threads, {"workers": processors}]


def measure(
    split: Split,
    *,
    batch_size: int,
    clip: Clip | None,
    seed: int,
    seconds: float,
    told: Callable[[str], None],
) -> Measurement:
    """Return how fast the batches of a split come, in the ways of `ways`.

    Args:
        split: With at least one item.
        batch_size: Items of a batch.
        clip: As for `ShardDataset`.
        seed: Of the order, which is shuffled.
        seconds: For which each way is measured.
        told: Called with each way before it begins.

    Raises:
        ValueError: The split is empty.
        DecodeError, FormatError, StorageError: A sample cannot be had.
    """
    if not len(split):
        raise ValueError(f"{split!r}: there is nothing to read")

    def dataset(collate: Any) -> ShardDataset:
        return ShardDataset(
            split,
            batch_size=batch_size,
            clip=clip,
            seed=seed,
            repeat=None,
            rank=0,
            world_size=1,
            collate=collate,
        )

    told("bytes")
    alone = _bytes(split, batch_size, seed, seconds)

    def batches(collate: Any, *, stacked: bool) -> Measurement:
        rows, impossible = [alone], []
        for way in ways():
            how = ", ".join(f"{name}={count}" for name, count in way.items())
            told(how)
            try:
                rows.append(_batches(dataset(collate), way, how, seconds))
            except WorkerError as exc:  # no room to hand batches over, as a rule
                impossible.append(f"{how}: {exc}")
        return Measurement(tuple(rows), stacked=stacked, impossible=tuple(impossible))

    try:
        dataset(collate_items).read_batch(0, 0)
        return batches(collate_items, stacked=True)
    except ValueError:
        # Of several sizes, perhaps in a later batch only; a transform of the user's would make
        # them one.
        return batches(as_lists, stacked=False)


def as_lists(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return items as one dict of lists."""
    return {
        name: [
            torch.from_numpy(np.ascontiguousarray(item[name]))
            if isinstance(item[name], np.ndarray)
            else item[name]
            for item in items
        ]
        for name in items[0]
    }


def _bytes(split: Split, batch_size: int, seed: int, seconds: float) -> Measured:
    """Measure the reading and checking of whole samples, in the order of training."""
    batches = Batches(
        Whole(split).epochs(seed=seed, repeat=None, longest_run=longest_run(batch_size)),
        batch_size,
        "drop",
    )

    def read() -> Iterator[tuple[int, float, int, int]]:
        batch = 0
        while True:
            taken = batches.take(0, batch)
            places = [place[:2] for place in split.places_of(taken.items.tolist())]
            fetch = split.fetch(places)
            for place in places:
                fetch.sample(place)
            yield len(places), fetch.seconds, fetch.bytes_fetched, fetch.bytes_used
            batch += 1

    begun, cpu = time.monotonic(), _cpu_s()
    reading = read()
    items = next(reading)[0]
    first = time.monotonic()
    account = Accounting()
    while time.monotonic() < first + seconds:
        before = time.monotonic()
        count, storage_s, fetched, used = next(reading)
        took = time.monotonic() - before
        account = Accounting(
            batches=account.batches + 1,
            items=account.items + count,
            storage_s=account.storage_s + storage_s,
            decode_s=account.decode_s + took - storage_s,
            bytes_fetched=account.bytes_fetched + fetched,
            bytes_used=account.bytes_used + used,
        )
    return Measured("bytes", account, first - begun, _per_1000(cpu, items + account.items))


def _batches(dataset: ShardDataset, way: dict[str, int], how: str, seconds: float) -> Measured:
    begun, cpu = time.monotonic(), _cpu_s()
    loader = dataset.loader(**way)  # type: ignore[arg-type]
    batches = iter(loader)
    next(batches)
    first, before = time.monotonic(), loader.accounting()
    while time.monotonic() < first + seconds:
        next(batches)
    whole = loader.accounting()
    account = whole.since(before)
    loader.close()
    return Measured(how, account, first - begun, _per_1000(cpu, whole.items))


def _per_1000(cpu_before_s: float, items: int) -> float:
    return (_cpu_s() - cpu_before_s) / items * 1000


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
