"""100 million items in 100,000 shards, from a parsed manifest to a batch: memory."""

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clipshards.packer.format.manifest import Accounting, Manifest, ShardEntry
from clipshards.packer.storage import open_storage
from clipshards.readers import Concat, Split, Weighted
from clipshards.readers.batches import Batches
from clipshards.readers.mixing import Source, as_source

SHARDS = 100_000
ITEMS_OF_SHARD = 1000


def manifest_of(shards: int, *, run_length: int = 8, items: int = ITEMS_OF_SHARD) -> Manifest:
    entries = tuple(
        ShardEntry(
            name=f"train-{number:06d}.tar",
            bytes=256_000_000,
            records=items,
            entries=items,
            # Of unequal size, as in life.
            samples=items + number % 7 - 3,
            items=items + number % 7 - 3,
            index_at="inside",
            index_offset=255_000_000,
            index_bytes=100_000,
            index_crc32c=number,
            sha256="0" * 64,
            crc32c=number,
        )
        for number in range(shards)
    )
    return Manifest(
        task="skeleton",
        split="train",
        labels="one",
        class_names=(),
        recipe={},
        run_length=run_length,
        request_digest="0" * 64,
        plan_digest="0" * 64,
        accounting=Accounting(0, 0, 0, {}),
        rejects_sha256="0" * 64,
        made_with={},
        shards=entries,
    )


def opened(folder: Path, *manifests: Manifest) -> list[Split]:
    return [Split(open_storage(folder), manifest) for manifest in manifests]


def concat(splits: list[Split]) -> Source:
    return Concat(splits)


def weighted(splits: list[Split]) -> Source:
    return Weighted(splits, [3, 1], stop="all_exhausted")


def single(splits: list[Split]) -> Source:
    return as_source(splits[0])


def kept_bytes(folder: Path, manifests: list[Manifest], make: Callable[..., Source]) -> int:
    """Return what is kept of a stream that gave batches of four passes."""
    tracemalloc.start()
    source = make(opened(folder, *manifests))
    epochs = source.epochs(seed=1, repeat=1)
    batches = Batches(epochs, 256, "pad")
    count = batches.count
    assert count is not None
    # The first one, one at 90 % of another epoch, and the last, which wraps.
    for epoch, batch in ((0, 0), (1, count * 9 // 10), (2, count - 1), (3, 0)):
        taken = batches.take(epoch, batch)
        assert len(set(zip(taken.items.tolist(), taken.passes.tolist(), strict=True))) == 256
        assert taken.items.max() < len(source)
        del taken
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept


@pytest.fixture(scope="module")
def large() -> Manifest:
    return manifest_of(SHARDS)


def test_a_stream_of_100_million_items_keeps_100_bytes_a_shard(
    large: Manifest, tmp_path: Path
) -> None:
    assert large.items > 0.99 * SHARDS * ITEMS_OF_SHARD
    assert kept_bytes(tmp_path, [large], single) < 100 * SHARDS


@pytest.mark.parametrize("make", [concat, weighted])
def test_mixed_splits_keep_100_bytes_a_shard(make: Callable[..., Source], tmp_path: Path) -> None:
    parts = [manifest_of(SHARDS // 8), manifest_of(SHARDS // 4, run_length=1)]
    assert kept_bytes(tmp_path, parts, make) < 100 * sum(len(part.shards) for part in parts)


@pytest.mark.parametrize("make", [single, concat, weighted])
def test_nothing_is_kept_for_an_item(make: Callable[..., Source], tmp_path: Path) -> None:
    few, many = (
        kept_bytes(tmp_path, [manifest_of(2000, items=items)] * 2, make)
        for items in (1000, 1_000_000)
    )
    # A pass more or less may be remembered, 16 bytes a shard.
    assert abs(many - few) < 100_000


def test_a_fraction_of_an_epoch_and_an_endless_one_keep_no_more(
    large: Manifest, tmp_path: Path
) -> None:
    source = as_source(opened(tmp_path, large)[0])
    for repeat in (Fraction(1, 1000), None, 7):
        tracemalloc.start()
        batches = Batches(source.epochs(seed=1, repeat=repeat), 256, "drop")
        taken = batches.take(40, 380).items
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(np.unique(taken)) == 256
        assert kept < 70 * SHARDS
        assert peak < 200 * SHARDS
