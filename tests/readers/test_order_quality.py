"""How well classes are mixed, beside a uniform shuffle: neighbours, and whole batches.

Both measures are z: the distance from what a uniform shuffle gives on average, in standard
deviations of a uniform shuffle. Of a good order it looks like a draw from N(0, 1).
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer import SkeletonRecord, pack
from clipshards.readers import ShardDataset, Split, open_dataset
from clipshards.readers.batches import Batches
from clipshards.readers.epochs import Epochs, PassEpochs
from clipshards.readers.mixing import as_source
from clipshards.readers.order import Order

Classes = npt.NDArray[np.int64]

# Ten classes, rare ones and frequent ones; a multiple of the batch.
COUNTS = [100, 156, 200, 300, 400, 440, 500, 600, 700, 700]
ITEMS = sum(COUNTS)
BATCH = 64


class Mixing(NamedTuple):
    """z of one order; large and positive where classes stand together."""

    pairs: float
    batches: float


def pairs_z(found: Classes) -> float:
    """Return z of the number of neighbours of one class."""
    n = len(found)
    counts = np.bincount(found).astype(float)
    # Chances that two, three in a row, and two pairs that share no item are of one class.
    two = (counts * (counts - 1)).sum() / (n * (n - 1))
    three = (counts * (counts - 1) * (counts - 2)).sum() / (n * (n - 1) * (n - 2))
    ordered = counts * (counts - 1)
    four = (ordered * (counts - 2) * (counts - 3)).sum() + ordered.sum() ** 2 - (ordered**2).sum()
    four /= n * (n - 1) * (n - 2) * (n - 3)
    mean = (n - 1) * two
    variance = mean + 2 * (n - 2) * three + (n - 2) * (n - 3) * four - mean**2
    return float(((found[1:] == found[:-1]).sum() - mean) / np.sqrt(variance))


def batches_z(batches: npt.NDArray[np.int64]) -> float:
    """Return z of the chi-square of (classes) x (batches), shape (batches, items of one)."""
    table = np.array([np.bincount(batch, minlength=batches.max() + 1) for batch in batches])
    n = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    chi_square = ((table - expected) ** 2 / expected).sum()
    # Both sums of the table are given: hypergeometric, and not multinomial.
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((chi_square - freedom * n / (n - 1)) / np.sqrt(2 * freedom))


def mixing_of(
    classes: Classes, epochs: Order | Epochs, *, number: int = 0, batch: int = BATCH
) -> Mixing:
    """Return how well items of these classes are mixed, in one pass of an order."""
    epochs = PassEpochs(epochs, 1) if isinstance(epochs, Order) else epochs
    found = epochs.locate(number, np.arange(len(classes), dtype=np.int64)).items
    taken = Batches(epochs, batch, "drop")
    batches = [taken.take(number, t).items for t in range(taken.count or 0)]
    return Mixing(pairs_z(classes[found]), batches_z(classes[np.array(batches)]))


def test_the_measures_are_those_of_a_uniform_shuffle() -> None:
    # All orders of a small set: mean 0, variance 1.
    small = [0, 0, 0, 1, 1, 2]
    found = [pairs_z(np.array(order)) for order in itertools.permutations(small)]
    assert abs(np.mean(found)) < 1e-9
    assert abs(np.var(found) - 1) < 1e-9
    draw = np.random.default_rng(0)
    classes = np.repeat(np.arange(10), COUNTS)
    drawn = [draw.permutation(classes) for _ in range(400)]
    for measured in (
        [pairs_z(order) for order in drawn],
        [batches_z(order.reshape(-1, BATCH)) for order in drawn],
    ):
        assert abs(np.mean(measured)) < 4 / np.sqrt(400)
        assert abs(np.std(measured) - 1) < 4 / np.sqrt(800)


# Orders as bad as those that readers of tar streams give, of a pack in the order of classes.
BAD = {
    "order of storage": {"seed": None},
    "one shard at a time": {"seed": 1, "window_shards": 1},
    "two shards at a time": {"seed": 1, "window_shards": 2},
    "runs of 2": {"seed": 1, "run_length": 2},
    "runs of 8": {"seed": 1, "run_length": 8},
}


@pytest.mark.parametrize("name", BAD)
def test_the_measures_tell_bad_orders(name: str) -> None:
    classes = np.repeat(np.arange(10), COUNTS)
    found = mixing_of(classes, Order([128] * 32, **BAD[name]))  # type: ignore[arg-type]
    assert found.pairs > 20
    assert found.batches > 8


def test_a_shuffle_buffer_would_be_told_from_this_order() -> None:
    # What is common elsewhere: a buffer of a tenth of all items, filled from shards in turn.
    classes = np.repeat(np.arange(10), COUNTS)
    draw = np.random.default_rng(0)
    shards = classes.reshape(32, 128)[draw.permutation(32)].ravel()
    buffer = list(shards[: ITEMS // 10])
    found = []
    for item in shards[ITEMS // 10 :]:
        place = draw.integers(len(buffer))
        found.append(buffer[place])
        buffer[place] = item
    found += draw.permutation(buffer).tolist()
    measured = np.array(found)
    assert pairs_z(measured) > 5
    assert batches_z(measured.reshape(-1, BATCH)) > 5


def packed(out: Path, *, seed: int | None) -> Split:
    """Return a split of tiny skeletons, whose annotation is sorted by class."""
    keypoint = np.zeros((1, 1, 1, 2), np.float32)
    labels = np.repeat(np.arange(10), COUNTS).tolist()
    records = [
        SkeletonRecord(id=f"{n}", total_frames=1, keypoint=keypoint, labels=(label,))
        for n, label in enumerate(labels)
    ]
    pack(records, out, split="train", seed=seed, shard_size=1_000_000)
    return open_dataset(out, split="train")


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return packed(tmp_path_factory.mktemp("shuffled"), seed=0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return packed(tmp_path_factory.mktemp("kept"), seed=None)


def classes_of(split: Split) -> Classes:
    shards = range(len(split.manifest.shards))
    return np.array([label for shard in shards for (label,) in split.class_ids(shard)])


def mixing_of_split(split: Split, *, seed: int, number: int) -> Mixing:
    """Return what training on a split would see in one epoch."""
    epochs = as_source(split).epochs(seed=seed, repeat=1)
    return mixing_of(classes_of(split), epochs, number=number)


def test_packs_of_the_test_are_what_they_should_be(shuffled: Split, kept: Split) -> None:
    assert len(shuffled) == len(kept) == ITEMS
    assert len(shuffled.manifest.shards) > 10
    assert shuffled.manifest.run_length == 4
    assert kept.manifest.run_length == 1
    assert classes_of(kept).tolist() == sorted(classes_of(kept))
    assert abs(pairs_z(classes_of(shuffled))) < 4


@pytest.mark.parametrize("run_length", [None, 1, 2, 8, 16, 64])
def test_a_default_pack_is_mixed_as_by_chance(shuffled: Split, run_length: int | None) -> None:
    split = shuffled
    if run_length is not None:
        manifest = replace(shuffled.manifest, run_length=run_length)
        split = Split(shuffled.storage, manifest)
    for seed, number in ((0, 0), (0, 1), (5, 7)):
        found = mixing_of_split(split, seed=seed, number=number)
        assert max(map(abs, found)) < 4


def test_a_pack_in_the_order_of_classes_is_mixed_as_by_chance(kept: Split) -> None:
    found = [mixing_of_split(kept, seed=n, number=n % 3) for n in range(12)]
    assert np.abs(found).max() < 4
    # All of these are fresh draws, so their means are those of a uniform shuffle too.
    assert np.abs(np.mean(found, axis=0)).max() < 4 / np.sqrt(12)


def test_each_rank_gets_of_all_classes(kept: Split) -> None:
    # Also of a pack that stands in the order of classes.
    classes = classes_of(kept)
    taken = Batches(as_source(kept).epochs(seed=2, repeat=1), BATCH * 4, "drop")
    for rank in range(4):
        batches = [taken.take(0, t, rank=rank, ranks=4).items for t in range(taken.count or 0)]
        found = np.bincount(classes[np.concatenate(batches)], minlength=10)
        share = np.array(COUNTS) / ITEMS
        expected = share * len(batches) * BATCH
        # Four standard deviations of a draw without replacement.
        assert (abs(found - expected) < 4 * np.sqrt(expected * (1 - share) * 0.75)).all()
        assert abs(batches_z(classes[np.array(batches)])) < 4


def test_a_class_ordered_pack_in_runs_would_fail(kept: Split) -> None:
    split = Split(kept.storage, replace(kept.manifest, run_length=4))
    found = mixing_of_split(split, seed=0, number=0)
    assert found.pairs > 20
    assert found.batches > 8


def test_batches_as_they_are_read_have_these_classes(shuffled: Split) -> None:
    classes = classes_of(shuffled)
    taken = Batches(as_source(shuffled).epochs(seed=3, repeat=1), BATCH, "pad")
    dataset = ShardDataset(shuffled, batch_size=BATCH, seed=3)
    for batch in (0, 40):
        assert (
            dataset.read_batch(2, batch)["label"].numpy() == classes[taken.take(2, batch).items]
        ).all()


@pytest.mark.parametrize("run_length", [1, 4, 8])
@pytest.mark.parametrize(("shards", "window_shards"), [(64, 1024), (64, 16)])
def test_over_many_shuffled_packs_the_measures_spread_as_by_chance(
    run_length: int, shards: int, window_shards: int
) -> None:
    draw = np.random.default_rng(run_length)
    classes = np.repeat(np.arange(10), COUNTS)
    sizes = [ITEMS // shards] * shards
    found = []
    for seed in range(24):
        order = Order(sizes, seed=seed, run_length=run_length, window_shards=window_shards)
        found.append(mixing_of(draw.permutation(classes), order, number=seed % 4))
    assert np.abs(np.mean(found, axis=0)).max() < 4 / np.sqrt(24)
    assert np.abs(np.std(found, axis=0) - 1).max() < 4 / np.sqrt(48)


@pytest.mark.parametrize("batch", [80, 1000])
def test_a_large_pack_in_the_order_of_classes_is_mixed_as_by_chance(batch: int) -> None:
    # 50,000 items of 200 classes in 1000 shards, which are a window.
    classes = np.repeat(np.arange(200), 250)
    found = mixing_of(classes, Order([50] * 1000, seed=9), number=2, batch=batch)
    assert max(map(abs, found)) < 4


def share_that_meets_again(order: Order, batch: int) -> float:
    """Return the share of pairs of one batch that are in one batch in the next pass too."""
    batches = np.empty((2, len(order)), np.int64)
    for number in (0, 1):
        found = order.items_at(np.arange(len(order), dtype=np.int64), number=number)
        batches[number, found] = np.arange(len(order)) // batch
    both = np.unique(batches, axis=1, return_counts=True)[1]
    first = np.bincount(batches[0])
    return float((both * (both - 1)).sum() / (first * (first - 1)).sum())


@pytest.mark.parametrize(("run_length", "batch"), [(1, 64), (2, 64), (8, 64), (8, 256), (8, 16)])
def test_of_the_pairs_in_a_batch_those_of_a_run_meet_again(run_length: int, batch: int) -> None:
    # What a run costs, as docs/decisions/0012 states it.
    order = Order([512] * 32, seed=3, run_length=run_length)
    always = (run_length - 1) / (batch - 1)
    by_chance = (1 - always) * (batch - run_length) / (len(order) - run_length)
    assert share_that_meets_again(order, batch) == pytest.approx(
        always + by_chance, abs=0.1 * by_chance + 0.001
    )
