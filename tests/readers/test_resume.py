"""A run goes on where it stood: at any batch, on other ranks and workers, in any face."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_inputs import small_skeletons
from torch.utils.data import DataLoader

from clipshards.packer import SkeletonRecord, StateError, UnsupportedVersionError, pack
from clipshards.readers import ShardDataset, Split, open_dataset
from clipshards.readers.loader import Loader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 37

Seen = list[tuple[str, float, bool]]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    out = tmp_path_factory.mktemp("set")
    pack(small_skeletons(ITEMS), out, split="train", shard_size=15_000)
    opened = open_dataset(out)
    assert len(opened.manifest.shards) > 5
    return opened


@pytest.fixture(autouse=True)
def _no_ranks_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def seen(batch: dict[str, Any]) -> Seen:
    valid = batch.get("valid", torch.ones(len(batch["key"]), dtype=torch.bool)).tolist()
    # The draws show in which frames come, the keypoints of which are all different.
    return list(zip(batch["key"], batch["keypoint"].sum((1, 2, 3, 4)).tolist(), valid, strict=True))


def made(split: Split, **options: Any) -> ShardDataset:
    from clipshards.readers import DenseClip

    given: dict[str, Any] = {"seed": 5, "clip": DenseClip(2), "global_batch": 8}
    return ShardDataset(split, **given | options)


def whole_run(split: Split, epochs: int, **options: Any) -> list[list[Seen]]:
    """Return the global batches of some epochs, made by one process."""
    dataset = made(split, **options)
    return [
        [seen(dataset.read_batch(epoch, n)) for n in range(len(dataset))] for epoch in range(epochs)
    ]


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.sampled_from([1, 2, 3, 4, 6, 8]),
    each=st.integers(1, 5),
    repeat=st.sampled_from([1, 2, 0.5, 1.5]),
    tail=st.sampled_from(["pad", "drop", "ragged"]),
    epoch=st.integers(0, 3),
)
def test_global_batches_are_the_same_on_any_number_of_ranks(
    split: Split, ranks: int, each: int, repeat: float, tail: str, epoch: int
) -> None:
    options = {"repeat": repeat, "tail": tail, "global_batch": ranks * each}
    one = made(split, **options)
    datasets = [made(split, rank=rank, world_size=ranks, **options) for rank in range(ranks)]
    for number in range(len(one)):
        shares = [
            seen(dataset.read_batch(epoch, number)) for dataset in datasets if number < len(dataset)
        ]
        whole = seen(one.read_batch(epoch, number))
        assert sorted(row for share in shares for row in share) == sorted(whole)
    assert {dataset.batch_size for dataset in datasets} == {each}


def test_a_pass_has_each_item_once_and_pads_are_marked(split: Split) -> None:
    dataset = made(split, repeat=2)
    rows = [row for batch in whole_run(split, 1, repeat=2)[0] for row in batch]
    assert len(rows) == len(dataset) * 8 == 80
    real = [key for key, _, valid in rows if valid]
    assert sorted(real) == sorted([f"train-{n:08d}" for n in range(ITEMS)] * 2)
    assert sum(not valid for _, _, valid in rows) == 80 - 2 * ITEMS


@pytest.mark.parametrize("repeat", [1, 0.5, 2, None])
@pytest.mark.parametrize("before", [{"threads": 0}, {"threads": 3}, {"workers": 2}], ids=str)
@pytest.mark.parametrize("after", [{"threads": 0}, {"threads": 2}, {"workers": 1}], ids=str)
def test_a_loader_goes_on_behind_what_it_handed_out(
    split: Split, repeat: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    batches = {1: 5, 0.5: 3, 2: 10, None: 12}[repeat]
    expected = [
        [seen(made(split, repeat=repeat).read_batch(epoch, n)) for n in range(batches)]
        for epoch in range(2)
    ]
    for stop in {0, 1, batches - 1, batches} - ({batches} if repeat is None else set()):
        first = made(split, repeat=repeat).loader(**before)
        found = take(first, stop)
        state = first.state_dict()
        del first
        second = made(split, repeat=repeat).loader(**after)
        second.load_state_dict(state)
        found += take(second, batches - stop)
        if repeat is None:
            assert found == expected[0]
            continue
        if stop == batches:
            assert state["epoch"] == 1
        found += take(second, batches)
        assert found == expected[0] + expected[1], stop


def take(loader: Any, count: int) -> list[Seen]:
    """Return the next batches, of more than one iteration where the first one ends."""
    found: list[Seen] = []
    while len(found) < count:
        for batch in loader:
            found.append(seen(batch))
            if len(found) == count:
                break
    return found


def test_a_state_between_epochs_begins_the_next(split: Split) -> None:
    loader = made(split).loader(workers=1)
    list(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 0)
    other = made(split).loader()
    other.load_state_dict(state)
    assert [seen(batch) for batch in other] == whole_run(split, 2)[1]


def test_epochs_follow_each_other_unless_they_are_set(split: Split) -> None:
    loader = made(split).loader(workers=1)
    expected = whole_run(split, 4)
    assert [seen(batch) for batch in loader] == expected[0]
    assert [seen(batch) for batch in loader] == expected[1]
    loader.dataset.set_epoch(3)
    assert [seen(batch) for batch in loader] == expected[3]
    loader.dataset.set_epoch(0)
    assert [seen(batch) for batch in loader] == expected[0]


def test_setting_the_epoch_of_a_loaded_state_keeps_the_place(split: Split) -> None:
    first = made(split).loader()
    for number, _ in enumerate(first):
        if number == 2:
            break
    second = made(split).loader()
    second.load_state_dict(first.state_dict())
    second.dataset.set_epoch(0)
    assert [seen(batch) for batch in second] == whole_run(split, 1)[0][3:]
    # The next one is whole.
    second.dataset.set_epoch(1)
    assert [seen(batch) for batch in second] == whole_run(split, 2)[1]


@pytest.mark.parametrize("by", [{"workers": 1}, {"threads": 2}], ids=str)
def test_the_next_epoch_is_prepared_while_one_ends(
    split: Split, by: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = made(split).loader(**by, prefetch=2)
    begun: list[Any] = []
    begin = loader._makers.begin

    def noted(*place: Any) -> None:
        begun.append(place)
        begin(*place)

    monkeypatch.setattr(loader._makers, "begin", noted)
    for _ in range(3):
        list(loader)
    assert [place[:2] for place in begun] == [(0, 0)], "it began anew"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_data_loader_goes_on_behind_a_position(split: Split, workers: int) -> None:
    expected = whole_run(split, 2)
    dataset = made(split)
    dataset.set_epoch(1)
    for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
        if batch["position"].batch == 1:
            break
    state = dataset.state_after(batch["position"])
    again = made(split)
    again.load_state_dict(state)
    for count in (1, 3):
        loader = DataLoader(again, batch_size=None, num_workers=count)
        assert [seen(batch) for batch in loader] == expected[1][2:]
        again.load_state_dict(state)


def test_the_data_set_itself_knows_what_it_gave(split: Split) -> None:
    dataset = made(split)
    iterator = iter(dataset)
    assert dataset.state_dict() == dataset.state_after(made_position(0, -1))
    for number in range(len(dataset)):
        batch = next(iterator)
        assert dataset.state_dict() == dataset.state_after(batch["position"])
        assert dataset.state_dict()["batch"] == (number + 1) % len(dataset)
    assert list(iterator) == []
    dataset.set_epoch(7)
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["batch"]) == (7, 0)


def made_position(epoch: int, batch: int) -> Any:
    from clipshards.readers.batches import BatchPosition

    return BatchPosition(epoch, batch, 0)


def test_other_ranks_go_on_too(split: Split) -> None:
    expected = whole_run(split, 1)[0]
    first = made(split, rank=1, world_size=4).loader()
    for number, _ in enumerate(first):
        if number == 1:
            break
    state = first.state_dict()
    shares: list[list[Seen]] = []
    for rank in range(2):
        loader = made(split, rank=rank, world_size=2).loader(workers=rank)
        loader.load_state_dict(state)
        shares.append([seen(batch) for batch in loader])
    for left, right, whole in zip(*shares, expected[2:], strict=True):
        assert sorted(left + right) == sorted(whole)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 6}, "seed was 5, is 6"),
    ({"global_batch": 16}, "global_batch was 8, is 16"),
    ({"repeat": 2}, "repeat was '1', is '2'"),
    ({"tail": "drop"}, "tail was 'pad', is 'drop'"),
    ({"shuffle": False, "tail": "pad"}, "shuffle was True, is False"),
]


@pytest.mark.parametrize(("options", "says"), OTHERS)
def test_a_position_of_another_order_is_refused(
    split: Split, options: dict[str, Any], says: str
) -> None:
    state = made(split).state_dict()
    with pytest.raises(StateError, match="another sequence of batches") as caught:
        made(split, **options).load_state_dict(state)
    assert says in str(caught.value)


def test_a_position_of_other_data_is_refused(split: Split, tmp_path: Path) -> None:
    pack(
        [SkeletonRecord(id="s", total_frames=1, keypoint=np.ones((1, 1, 1, 2), "f4"), labels=(0,))],
        tmp_path, split="train",
    )  # fmt: skip
    with pytest.raises(StateError, match=r"content_digest was '[0-9a-f]{12}', is '[0-9a-f]"):
        made(open_dataset(tmp_path)).load_state_dict(made(split).state_dict())


@pytest.mark.parametrize("state", [None, {}, {"epoch": 3}, "x", {"format": "clipshards-position"}])
def test_what_is_no_position_is_refused(split: Split, state: Any) -> None:
    with pytest.raises(StateError, match="not a position in a data set"):
        made(split).load_state_dict(state)


def test_a_position_of_a_later_release_is_refused(split: Split) -> None:
    state = made(split).state_dict() | {"version": 2, "more": 1}
    with pytest.raises(UnsupportedVersionError, match="version 2, expected 1"):
        made(split).load_state_dict(state)


@pytest.fixture
def ranks_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "RANK", "1")
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "3")


@pytest.mark.usefixtures("ranks_in_environment")
def test_the_environment_says_which_rank_this_is(split: Split) -> None:
    expected = made(split, global_batch=9, rank=1, world_size=3)
    found = made(split, global_batch=9)
    assert seen(found.read_batch(0, 0)) == seen(expected.read_batch(0, 0))
    for workers in (0, 2):
        loader = found.loader(workers=workers)
        found.set_epoch(0)
        assert [seen(batch) for batch in loader] == [
            seen(expected.read_batch(0, number)) for number in range(len(expected))
        ]
    # What is given goes before.
    alone = made(split, global_batch=9, rank=0, world_size=1)
    assert len(seen(alone.read_batch(0, 0))) == 9


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"global_batch": None}, "expected one of batch_size and global_batch"),
    ({"batch_size": 4}, "expected one of batch_size and global_batch"),
    ({"global_batch": 0}, "global_batch 0: expected at least 1"),
    ({"rank": 0}, "expected rank and world_size, or neither"),
    ({"rank": 2, "world_size": 2}, "rank 2 of 2: expected a rank from 0 on"),
    ({"rank": 0, "world_size": 3}, "global_batch 8: expected at least 1, and a multiple of 3"),
    ({"tail": "cut"}, "tail 'cut': expected one of"),
    ({"repeat": 0}, "repeat 0: expected a number above 0"),
    ({"repeat": 0, "same_order": True}, "repeat 0: expected a number above 0"),
    ({"repeat": 1e300}, "repeat 1e\\+300: expected"),
    ({"seed": -1}, "seed -1: expected 0 to"),
    ({"rank": 0, "world_size": 0}, "rank 0 of 0: expected a rank from 0 on"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_options_that_do_not_fit_are_refused(
    split: Split, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        made(split, **options)


def test_fewer_items_than_ranks(split: Split, tmp_path: Path) -> None:
    keypoint = np.ones((1, 1, 1, 2), "f4")
    records = [
        SkeletonRecord(id=f"s{n}", total_frames=1, keypoint=keypoint, labels=(0,)) for n in range(2)
    ]
    pack(records, tmp_path, split="train")
    few = open_dataset(tmp_path)
    for tail, lengths in {"pad": [1] * 4, "drop": [0] * 4, "ragged": [0, 1, 0, 1]}.items():
        datasets = [
            ShardDataset(few, batch_size=1, rank=rank, world_size=4, tail=tail)  # type: ignore[arg-type]
            for rank in range(4)
        ]
        assert [len(dataset) for dataset in datasets] == lengths
        batches = [list(dataset.loader()) for dataset in datasets]
        assert [len(found) for found in batches] == lengths
        real = [
            key for found in batches for batch in found for key, _, valid in seen(batch) if valid
        ]
        assert sorted(set(real)) == ([] if tail == "drop" else ["train-00000000", "train-00000001"])
        assert len(real) == (0 if tail == "drop" else 2)


def test_an_endless_epoch_has_no_length(split: Split) -> None:
    dataset = made(split, repeat=None)
    with pytest.raises(TypeError, match="does not end"):
        len(dataset)
    keys = [row[0] for batch in take(dataset.loader(workers=2), 10) for row in batch]
    # The fifth batch holds the end of a pass and the beginning of the next.
    assert len(set(keys[:40])) == ITEMS


def test_a_resume_late_in_an_epoch_costs_what_a_beginning_costs(split: Split) -> None:
    # Only the batches asked for are read, whatever comes before them.
    reads: list[str] = []

    def counted(item: dict[str, Any]) -> dict[str, Any]:
        reads.append(item["key"])
        return item

    dataset = made(split, repeat=1000, transform=counted)
    dataset.load_state_dict(dataset.state_after(made_position(0, len(dataset) * 9 // 10)))
    next(iter(dataset))
    assert len(reads) == 8


def test_loaders_can_be_dropped_at_any_moment(split: Split) -> None:
    for stop in (0, 1, 3):
        loader: Loader = made(split).loader(workers=2)
        take(loader, stop)
        del loader


def test_a_position_of_one_worker_is_not_taken_for_that_of_all(split: Split) -> None:
    dataset = made(split)
    dataset.load_state_dict(made(split).state_dict() | {"workers": 2})
    with pytest.raises(StateError, match="of 2 loader workers, here are 1"):
        next(iter(dataset))


@pytest.mark.parametrize(
    "options", [{"repeat": "2"}, {"repeat": True}, {"seed": 1.5}, {"rank": 0.5, "world_size": 1}]
)
def test_options_of_another_type_are_refused(split: Split, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        made(split, **options)


def test_numbers_of_numpy_leave_a_state_that_can_be_stored(split: Split) -> None:
    given: dict[str, Any] = {
        "seed": np.int64(5),
        "global_batch": np.int32(8),
        "repeat": np.float32(0.5),
    }
    dataset = made(split, **given)
    dataset.set_epoch(np.int64(3))
    state = dataset.state_dict()
    again = made(split, **given)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert seen(next(iter(again))) == seen(made(split, repeat=0.5).read_batch(3, 0))
    made(split, seed=np.int64(5), same_order=True)
    position = dataset.read_batch(np.int64(1), np.int64(1))["position"]  # type: ignore[arg-type]
    again.load_state_dict(json.loads(json.dumps(dataset.state_after(position))))


@pytest.mark.parametrize(
    "changes", [{"batch": 10**6}, {"epoch": 2**40}, {"workers": -1}, {"epoch": -1}]
)
def test_positions_out_of_range_are_refused(split: Split, changes: dict[str, int]) -> None:
    with pytest.raises(StateError):
        made(split).load_state_dict(made(split).state_dict() | changes)


def test_a_loader_prepares_something(split: Split) -> None:
    with pytest.raises(ValueError, match="prefetch 0: expected at least 1"):
        made(split).loader(workers=1, prefetch=0)
