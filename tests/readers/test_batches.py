import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers.batches import batch_count, batch_items
from clipshards.readers.order import permute

counts = st.integers(0, 200)
sizes = st.integers(1, 20) | st.integers(1, 300)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 2**40)


@given(counts, sizes, seeds | st.none(), epochs)
def test_the_batches_of_an_epoch_hold_every_item_once(
    items: int, batch_size: int, seed: int | None, epoch: int
) -> None:
    batches = [
        batch_items(number, items=items, batch_size=batch_size, epoch=epoch, seed=seed)
        for number in range(batch_count(items, batch_size))
    ]
    assert sorted(item for batch in batches for item in batch.tolist()) == list(range(items))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert all((np.diff(batch) > 0).all() for batch in batches), "not in storage order"
    assert all(batch.dtype == np.int64 for batch in batches)


@given(st.integers(1, 120), sizes, seeds, epochs)
def test_a_batch_holds_its_positions_of_the_order(
    items: int, batch_size: int, seed: int, epoch: int
) -> None:
    order = permute(np.arange(items), items=items, seed=seed, epoch=epoch).tolist()
    for number in range(batch_count(items, batch_size)):
        batch = batch_items(number, items=items, batch_size=batch_size, epoch=epoch, seed=seed)
        positions = order[number * batch_size : (number + 1) * batch_size]
        assert batch.tolist() == sorted(positions)


def test_without_a_seed_batches_follow_the_storage() -> None:
    batches = [
        batch_items(number, items=7, batch_size=3, epoch=5, seed=None).tolist()
        for number in range(3)
    ]
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]


@given(counts, sizes)
def test_batches_are_as_many_as_it_takes(items: int, batch_size: int) -> None:
    count = batch_count(items, batch_size)
    assert count * batch_size >= items
    assert (count - 1) * batch_size < items
