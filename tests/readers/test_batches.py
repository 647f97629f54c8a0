from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipshards.readers.batches import Batches, Tail
from clipshards.readers.epochs import PassEpochs, Repeat
from clipshards.readers.order import Order

shards = st.lists(st.integers(0, 12), min_size=1, max_size=8)
orders = st.builds(
    Order,
    shards,
    seed=st.integers(0, 2**63 - 1) | st.none(),
    run_length=st.integers(1, 5),
    window_shards=st.integers(1, 9),
)
repeats = st.integers(1, 3) | st.sampled_from([0.25, 0.5, 1.5, Fraction(1, 3)]) | st.floats(0.01, 3)
tails = st.sampled_from(["pad", "drop", "ragged"])
epoch_numbers = st.integers(0, 40)

Triple = tuple[int, int, bool]


def taken(batches: Batches, epoch: int, batch: int, rank: int = 0, ranks: int = 1) -> list[Triple]:
    found = batches.take(epoch, batch, rank=rank, ranks=ranks)
    assert found.items.dtype == found.passes.dtype == np.int64
    return list(zip(found.items.tolist(), found.passes.tolist(), found.valid.tolist(), strict=True))


@given(orders, repeats, st.integers(1, 9), tails, epoch_numbers)
@example(Order([0, 0], seed=1), 1, 3, "pad", 0)
@example(Order([1], seed=1), 1, 8, "pad", 5)
@example(Order([3], seed=None), 0.01, 2, "ragged", 0)
def test_an_epoch_is_its_passes_cut_into_batches(
    order: Order, repeat: Repeat, size: int, tail: Tail, epoch: int
) -> None:
    epochs = PassEpochs(order, repeat)
    batches = Batches(epochs, size, tail)
    length, count = epochs.length, batches.count
    assert length is not None
    assert count is not None
    # What the epoch is as one sequence, told by the order alone.
    n = len(order)
    assert repeat is not None
    whole = max(int(Fraction(repeat) * n + Fraction(1, 2)), min(n, 1))
    assert length == whole
    first = epoch * int(np.ceil(float(repeat)))
    sequence = [
        (int(order.items_at(np.array([p % n]), number=first + p // n)[0]), first + p // n)
        for p in range(length)
    ]
    for batch in range(count):
        part = sequence[batch * size : (batch + 1) * size]
        found = taken(batches, epoch, batch)
        valid = [(item, number) for item, number, real in found if real]
        assert valid == sorted(part)
        pads = [(item, number) for item, number, real in found if not real]
        assert len(found) == (len(part) if tail == "ragged" else size)
        filled = [sequence[p % length] for p in range(batch * size + len(part), (batch + 1) * size)]
        assert Counter(pads) == Counter(filled if tail == "pad" else [])
        assert [pair[:2] for pair in found] == sorted(pair[:2] for pair in found)
    left = length % size
    assert count == length // size + (tail != "drop" and left > 0)


@given(orders, st.integers(1, 3), st.integers(1, 8), st.integers(1, 4), tails, epoch_numbers)
def test_ranks_share_each_batch_without_loss(
    order: Order, repeat: int, ranks: int, each: int, tail: Tail, epoch: int
) -> None:
    batches = Batches(PassEpochs(order, repeat), ranks * each, tail)
    count = batches.count
    assert count is not None
    counts = [batches.count_of(rank, ranks) for rank in range(ranks)]
    assert set(counts) <= ({count} if tail != "ragged" else {count, count - 1})
    for batch in range(count):
        shares = [taken(batches, epoch, batch, rank, ranks) for rank in range(ranks)]
        whole = taken(batches, epoch, batch)
        assert sorted(row for share in shares for row in share) == sorted(whole)
        # Each reads forward, and what fills up is dealt out evenly.
        for share in shares:
            assert share == sorted(share, key=lambda row: row[:2])
        valid = [sum(row[2] for row in share) for share in shares]
        assert max(valid) - min(valid) <= 1
        sizes = {len(share) for share in shares}
        if tail != "ragged":
            assert sizes == {each}
        else:
            assert max(sizes) - min(sizes) <= 1
        # Who has nothing is told so beforehand.
        for share, number in zip(shares, counts, strict=True):
            assert number is not None
            assert bool(share) == (batch < number)


@given(orders, st.integers(1, 9))
def test_an_endless_epoch_is_pass_after_pass(order: Order, size: int) -> None:
    batches = Batches(PassEpochs(order, None), size, "pad")
    assert batches.count is None
    assert batches.count_of(0, 1) is None
    if not len(order):
        return
    count = -(-2 * len(order) // size)
    rows = [row for batch in range(count) for row in taken(batches, 0, batch)]
    assert all(real for _, _, real in rows)
    for number in range(2):
        items = [item for item, own, _ in rows if own == number]
        assert sorted(items) == list(range(len(order)))


@given(orders, st.integers(1, 3))
def test_every_pass_of_a_run_has_its_own_number(order: Order, repeat: int) -> None:
    epochs = PassEpochs(order, repeat)
    positions = np.arange(epochs.length or 0, dtype=np.int64)
    seen: set[int] = set()
    for epoch in range(3):
        passes = set(epochs.locate(epoch, positions).passes.tolist())
        assert not passes & seen
        seen |= passes
    assert seen == (set(range(3 * repeat)) if len(order) else set())


@pytest.mark.parametrize("repeat", [0, -1, float("inf"), float("nan")])
def test_a_repeat_that_is_no_epoch_is_refused(repeat: Any) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        PassEpochs(Order([3], seed=0), repeat)
