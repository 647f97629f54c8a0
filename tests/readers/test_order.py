import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers.order import Order, permute

seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 2**40)

# The order of version 2: a change here is a change of every user's training run. The numbers are
# those of a second implementation, in Python's own integers.
PINNED = [
    # seed, epoch, items, order
    (0, 0, 1, [0]),
    (0, 0, 2, [1, 0]),
    (0, 0, 10, [9, 0, 8, 6, 2, 4, 5, 7, 3, 1]),
    (0, 1, 10, [1, 0, 6, 9, 2, 8, 5, 4, 7, 3]),
    (1, 0, 10, [5, 4, 7, 0, 9, 6, 8, 2, 1, 3]),
    (7, 3, 17, [6, 11, 4, 10, 7, 5, 14, 12, 3, 15, 16, 0, 1, 2, 9, 8, 13]),
    (2**63 - 1, 2**31, 12, [4, 8, 6, 11, 2, 7, 1, 5, 3, 9, 0, 10]),
]
# Positions 0, 1, 2, items // 2 and items - 1 with seed 5 in epoch 2.
PINNED_LARGE = [
    (10**6, [620441, 379953, 656964, 154753, 454827]),
    (10**12, [175695113014, 712229798078, 14045292059, 307361520427, 660075114338]),
    (
        2**62,
        [
            1990521894354565571,
            2236565466235925363,
            116858149906442378,
            1419492088581428254,
            2464510668923916836,
        ],
    ),
]


def whole(items: int, *, seed: int, epoch: int) -> list[int]:
    positions = np.arange(items, dtype=np.int64)
    order: list[int] = permute(positions, items=items, seed=seed, epoch=epoch).tolist()
    return order


@given(st.integers(1, 3000), seeds, epochs)
def test_every_item_stands_at_exactly_one_position(items: int, seed: int, epoch: int) -> None:
    assert sorted(whole(items, seed=seed, epoch=epoch)) == list(range(items))


@given(st.integers(1, 600), seeds, epochs, st.data())
def test_a_position_has_its_item_whoever_else_is_asked_for(
    items: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    asked = data.draw(st.lists(st.integers(0, items - 1)))
    positions = np.array(asked, dtype=np.int64)
    found = permute(positions, items=items, seed=seed, epoch=epoch)
    order = whole(items, seed=seed, epoch=epoch)
    assert found.dtype == np.int64
    assert found.tolist() == [order[position] for position in asked]
    assert positions.tolist() == asked, "the positions were changed"


@pytest.mark.parametrize(("seed", "epoch", "items", "order"), PINNED)
def test_the_order_is_the_one_of_version_2(
    seed: int, epoch: int, items: int, order: list[int]
) -> None:
    assert whole(items, seed=seed, epoch=epoch) == order


@pytest.mark.parametrize(("items", "order"), PINNED_LARGE)
def test_the_order_of_many_items_is_the_one_of_version_2(items: int, order: list[int]) -> None:
    positions = np.array([0, 1, 2, items // 2, items - 1])
    assert permute(positions, items=items, seed=5, epoch=2).tolist() == order


@pytest.mark.parametrize("items", [2, 3, 4, 5])
def test_all_permutations_of_a_few_items_come_alike(items: int) -> None:
    drawn = 25 * math.factorial(items)
    found = Counter(tuple(whole(items, seed=seed, epoch=3)) for seed in range(drawn))
    permutations = math.factorial(items)
    each = drawn / permutations
    # Those that never came are missing in `found`, with (0 - each)^2 / each.
    chi_square = sum((count - each) ** 2 / each for count in found.values())
    chi_square += (permutations - len(found)) * each
    freedom = permutations - 1
    assert abs(chi_square - freedom) / math.sqrt(2 * freedom) < 4


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(whole(50, seed=seed, epoch=epoch)) for seed in range(30) for epoch in range(30)]
    assert len(set(orders)) == len(orders)


def test_small_sets_come_in_every_order() -> None:
    orders = {tuple(whole(4, seed=seed, epoch=seed % 7)) for seed in range(600)}
    assert len(orders) == 24


@pytest.mark.parametrize("items", [1000, 1024, 1025, 4095])
def test_the_order_looks_like_chance(items: int) -> None:
    storage = np.arange(items)
    orders = np.array([whole(items, seed=n // 10, epoch=n % 10) for n in range(60)])
    # Chance gives 1 item in its own place and 2 pairs of neighbours, with deviations of
    # about 1 and 1.4 for one order, an eighth of that for the mean of sixty.
    assert 0.4 < (orders == storage).sum(axis=1).mean() < 1.8
    assert (np.abs(np.diff(orders)) == 1).sum(axis=1).mean() < 3.5
    correlations = [np.corrcoef(order, storage)[0, 1] for order in orders]
    assert np.abs(correlations).max() < 5 / np.sqrt(items)
    # The same of one epoch against the next.
    assert 0.4 < (orders[:-1] == orders[1:]).sum(axis=1).mean() < 1.8
    # The first tenth of an epoch comes from all tenths of the split.
    tenths = orders[:, : items // 10] * 10 // items
    counts = np.bincount(tenths.ravel(), minlength=10)
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_each_item_comes_first_equally_often() -> None:
    start = np.zeros(1, dtype=np.int64)
    first = [int(permute(start, items=8, seed=3, epoch=epoch)[0]) for epoch in range(1600)]
    counts = np.bincount(first, minlength=8)
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_memory_does_not_grow_with_the_items() -> None:
    positions = np.arange(1000, dtype=np.int64) + 10**11
    tracemalloc.start()
    found = permute(positions, items=10**12, seed=1, epoch=1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0
    assert found.max() < 10**12
    assert peak_bytes < 1_000_000


def test_no_positions_give_no_items() -> None:
    assert whole(0, seed=0, epoch=0) == []


shard_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=20)


@given(shard_sizes, seeds, epochs, st.integers(1, 8), st.integers(1, 21))
def test_every_item_comes_once_a_pass(
    sizes: list[int], seed: int, number: int, run_length: int, window_shards: int
) -> None:
    order = Order(sizes, seed=seed, run_length=run_length, window_shards=window_shards)
    assert len(order) == sum(sizes)
    found = order.items_at(np.arange(len(order)), number=number)
    assert found.dtype == np.int64
    assert sorted(found.tolist()) == list(range(len(order)))
    # A position has its item whoever else is asked for, and in any order of asking.
    other = Order(sizes, seed=seed, run_length=run_length, window_shards=window_shards)
    for position in range(len(order) - 1, -1, -7):
        alone = other.items_at(np.array([position]), number=number)
        assert alone.tolist() == [found[position]]


@given(st.integers(1, 200), seeds, st.integers(1, 8))
def test_neighbours_of_a_run_stay_together(items: int, seed: int, run_length: int) -> None:
    order = Order([items], seed=seed, run_length=run_length)
    found = order.items_at(np.arange(items), number=0).tolist()
    starts = [place for place, item in enumerate(found) if item % run_length == 0]
    for start in starts:
        length = min(run_length, items - found[start])
        assert found[start : start + length] == list(range(found[start], found[start] + length))


@given(shard_sizes, seeds, st.integers(1, 8))
def test_a_window_is_read_before_the_next_one(
    sizes: list[int], seed: int, window_shards: int
) -> None:
    order = Order(sizes, seed=seed, window_shards=window_shards)
    first = np.concatenate(([0], np.cumsum(sizes)))
    found = order.items_at(np.arange(len(order)), number=3)
    shards = (np.searchsorted(first, found, side="right") - 1).tolist()
    # Shards without items are in windows too, and not to be seen here.
    seen: list[int] = []
    for shard in shards:
        if shard not in seen:
            seen.append(shard)
    left = {shard: sizes[shard] for shard in seen}
    open_at_once = 0
    begun: set[int] = set()
    for shard in shards:
        begun.add(shard)
        left[shard] -= 1
        open_at_once = max(open_at_once, sum(1 for other in begun if left[other] >= 0))
        begun = {other for other in begun if left[other] > 0}
    assert open_at_once <= window_shards


def test_the_order_of_storage_without_a_seed() -> None:
    order = Order([3, 0, 2], seed=None, run_length=4)
    assert order.items_at(np.arange(5), number=9).tolist() == [0, 1, 2, 3, 4]


PINNED_PASSES = [[5, 6, 7, 0, 1, 2, 3, 4, 10, 11, 8, 9], [5, 6, 3, 4, 7, 2, 8, 0, 1, 11, 9, 10]]


def test_the_order_of_a_pass_is_the_one_of_version_2() -> None:
    order = Order([3, 0, 5, 4], seed=11, run_length=2, window_shards=2)
    assert [order.items_at(np.arange(12), number=n).tolist() for n in (0, 1)] == PINNED_PASSES


@pytest.mark.parametrize("positions", [[-1], [5], [0, 99]])
def test_positions_outside_are_refused(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="of 5 items"):
        Order([3, 2], seed=0).items_at(np.array(positions), number=0)


@pytest.mark.parametrize("options", [{"run_length": 0}, {"window_shards": 0}])
def test_lengths_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        Order([3], seed=0, **options)


@pytest.mark.parametrize(("run_length", "window_shards"), [(1, 1024), (1, 10), (8, 1024)])
def test_classes_are_mixed_as_by_chance(run_length: int, window_shards: int) -> None:
    # A shuffled pack: neighbours are of any class.
    draw = np.random.default_rng(0)
    sizes = [50] * 40
    pairs, spread = [], []
    for seed in range(12):
        classes = draw.permutation(np.repeat(np.arange(20), 100))
        order = Order(sizes, seed=seed, run_length=run_length, window_shards=window_shards)
        found = classes[order.items_at(np.arange(2000), number=seed)]
        pairs.append((found[1:] == found[:-1]).mean())
        spread.append([len(set(batch)) for batch in found.reshape(-1, 25)])
    # By chance a pair is of one class with 99 / 1999, and 25 items are of 14.4 classes.
    assert abs(np.mean(pairs) - 99 / 1999) < 4 * np.sqrt(0.05 * 0.95 / (12 * 1999))
    expected = 20 * (1 - np.prod([(1900 - n) / (2000 - n) for n in range(25)]))
    assert abs(np.mean(spread) - expected) < 0.15


def test_a_pack_in_the_order_of_classes_is_mixed_by_runs_of_one() -> None:
    classes = np.repeat(np.arange(20), 100)
    pairs = []
    for seed in range(12):
        found = classes[Order([50] * 40, seed=seed).items_at(np.arange(2000), number=0)]
        pairs.append((found[1:] == found[:-1]).mean())
    assert abs(np.mean(pairs) - 99 / 1999) < 4 * np.sqrt(0.05 * 0.95 / (12 * 1999))


def test_a_hundred_million_items_in_a_hundred_thousand_shards() -> None:
    sizes = np.full(100_000, 1000, dtype=np.int64)
    positions = np.arange(64, dtype=np.int64) + 90_000_000
    tracemalloc.start()
    order = Order(sizes, seed=1)
    found = order.items_at(positions, number=5)
    kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(found.tolist())) == 64
    assert kept_bytes < 100 * len(sizes)
    assert peak_bytes < 200 * len(sizes)


@given(shard_sizes, seeds | st.none(), epochs, st.integers(1, 8), st.integers(1, 21))
def test_an_item_stands_where_it_is_found(
    sizes: list[int], seed: int | None, number: int, run_length: int, window_shards: int
) -> None:
    order = Order(sizes, seed=seed, run_length=run_length, window_shards=window_shards)
    found = order.items_at(np.arange(len(order)), number=number).tolist()
    for position, item in enumerate(found):
        assert order.position_of(item, number=number) == position
    for outside in (-1, len(order)):
        with pytest.raises(IndexError, match="of "):
            order.position_of(outside, number=number)
