import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers.order import permute

seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 2**40)

# The order of version 0.1.0: a change here is a change of every user's training run.
PINNED = [
    # seed, epoch, items, order
    (0, 0, 1, [0]),
    (0, 0, 2, [1, 0]),
    (0, 0, 10, [7, 5, 1, 8, 6, 3, 4, 0, 9, 2]),
    (0, 1, 10, [3, 9, 4, 0, 7, 8, 1, 2, 5, 6]),
    (1, 0, 10, [6, 0, 2, 1, 8, 9, 4, 7, 3, 5]),
    (7, 3, 17, [6, 12, 13, 11, 3, 5, 15, 0, 2, 16, 1, 14, 7, 4, 8, 9, 10]),
    (2**63 - 1, 2**31, 12, [11, 3, 7, 8, 10, 0, 4, 6, 5, 2, 9, 1]),
]
# Positions 0, 1, 2, items // 2 and items - 1 with seed 5 in epoch 2.
PINNED_LARGE = [
    (10**6, [571036, 198777, 866115, 486383, 989699]),
    (10**12, [637982193406, 894061539781, 104945680051, 157814154409, 615579654140]),
    (
        2**62,
        [
            726708231875257564,
            3354187031735600269,
            4350018418911728619,
            1620695730461865471,
            3992818643158295956,
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
def test_the_order_is_the_one_of_version_0(
    seed: int, epoch: int, items: int, order: list[int]
) -> None:
    assert whole(items, seed=seed, epoch=epoch) == order


@pytest.mark.parametrize(("items", "order"), PINNED_LARGE)
def test_the_order_of_many_items_is_the_one_of_version_0(items: int, order: list[int]) -> None:
    positions = np.array([0, 1, 2, items // 2, items - 1])
    assert permute(positions, items=items, seed=5, epoch=2).tolist() == order


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
