"""No loader ever gives a wrong batch: after errors, across copies, with several iterators."""

import copy
import pickle
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clipshards.packer import SkeletonRecord, pack
from clipshards.readers import ShardDataset, Split, open_dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 37
# Ways to make batches.
BOTH = [{"threads": 0}, {"threads": 3}, {"workers": 2}]
BATCHES = 5


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    records = [
        SkeletonRecord(
            id=f"s{number}",
            total_frames=1,
            keypoint=np.full((1, 1, 1, 2), number, np.float32),
            labels=(number % 4,),
        )
        for number in range(ITEMS)
    ]
    out = tmp_path_factory.mktemp("set")
    pack(records, out, split="train", shard_size=15_000)
    return open_dataset(out)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def made(split: Split, **options: Any) -> ShardDataset:
    return ShardDataset(split, **({"seed": 5, "global_batch": 8} | options))


def places(batches: Iterable[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return epoch and batch of each."""
    return [tuple(batch["position"][:2]) for batch in batches]


def epoch(number: int, first: int = 0) -> list[tuple[int, int]]:
    return [(number, batch) for batch in range(first, BATCHES)]


def state_at(split: Split, number: int, batch: int, **options: Any) -> dict[str, Any]:
    dataset = made(split, **options)
    return dataset.state_after(dataset.read_batch(number, batch - 1)["position"])


def place_of(state: dict[str, Any]) -> tuple[int, int]:
    return state["epoch"], state["batch"]


class Failing:
    """A transform that fails at one item while it is told to, in workers too."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.fails = torch.ones(1).share_memory_()  # type: ignore[no-untyped-call]

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        if self.fails[0] and item["key"] == self.key:
            raise KeyError(self.key)
        return item


@pytest.mark.parametrize("by", [*BOTH, {"workers": 1}, {"workers": 3}], ids=str)
@pytest.mark.parametrize("failing", [(0, 0), (0, 2), (1, 0), (1, 4)])
def test_a_run_goes_on_after_an_error_without_a_gap(
    split: Split, by: dict[str, Any], failing: tuple[int, int]
) -> None:
    transform = Failing(made(split).read_batch(*failing)["key"][3])
    loader = made(split, transform=transform).loader(**by)
    found: list[tuple[int, int]] = []

    def read() -> None:
        while len(found) < 2 * BATCHES:
            for batch in loader:
                found.extend(places([batch]))

    with pytest.raises(KeyError):
        read()
    # The same item is in the epoch before as well.
    transform.fails[0] = 0
    loader.load_state_dict(loader.state_dict())
    read()
    assert found == epoch(0) + epoch(1)


@pytest.mark.parametrize("by", BOTH, ids=str)
def test_an_epoch_begun_again_after_an_error_is_whole(split: Split, by: dict[str, Any]) -> None:
    loader = made(split, transform=(failing := Failing(""))).loader(**by)
    assert places(loader) == epoch(0)
    failing.key = made(split).read_batch(1, 0)["key"][0]
    del loader
    loader = made(split, transform=failing).loader(**by)
    loader.dataset.set_epoch(1)
    with pytest.raises(KeyError):
        list(loader)
    failing.fails[0] = 0
    assert places(loader) == epoch(1)
    assert places(loader) == epoch(2)


@pytest.mark.parametrize("by", BOTH, ids=str)
def test_an_error_in_the_first_batch_after_a_resume_keeps_the_place(
    split: Split, by: dict[str, Any]
) -> None:
    key = made(split).read_batch(0, 3)["key"][0]
    loader = made(split, transform=Failing(key)).loader(**by)
    loader.load_state_dict(state_at(split, 0, 3))
    with pytest.raises(KeyError):
        list(loader)
    assert place_of(loader.state_dict()) == (0, 3)
    dataset = made(split, transform=Failing(key))
    dataset.load_state_dict(state_at(split, 0, 3))
    with pytest.raises(KeyError):
        list(dataset)
    assert place_of(dataset.state_dict()) == (0, 3)


def test_a_state_says_what_was_set_or_loaded_last(split: Split) -> None:
    loader = made(split).loader()
    list(loader)
    assert place_of(loader.state_dict()) == (1, 0)
    loader.dataset.set_epoch(3)
    assert place_of(loader.state_dict()) == (3, 0)
    next(iter(loader))
    assert place_of(loader.state_dict()) == (3, 1)
    loader.dataset.load_state_dict(state_at(split, 2, 4))
    assert place_of(loader.state_dict()) == (2, 4)
    assert places(loader) == epoch(2, 4)


@pytest.mark.parametrize("by", BOTH, ids=str)
def test_what_is_loaded_in_a_running_epoch_comes_next(split: Split, by: dict[str, Any]) -> None:
    loader = made(split).loader(**by)
    found = []
    for batch in loader:
        found += places([batch])
        if len(found) == 2:
            loader.load_state_dict(state_at(split, 0, 4))
    assert found == epoch(0)
    assert places(loader) == epoch(0, 4)
    assert places(loader) == epoch(1)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_an_epoch_set_while_workers_start_is_the_next_one(split: Split, context: str) -> None:
    dataset = made(split)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=2,
        # The second worker begins a second later.
        worker_init_fn=time.sleep,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    iterator = iter(loader)
    found = places([next(iterator)])
    dataset.set_epoch(1)
    found += places(iterator)
    assert found == epoch(0)
    assert places(loader) == epoch(1)


@pytest.mark.parametrize("by", BOTH, ids=str)
def test_two_iterators_of_one_loader_do_not_disturb_each_other(
    split: Split, by: dict[str, Any]
) -> None:
    loader = made(split).loader(**by)
    pairs = [places(pair) for pair in zip(loader, loader, strict=True)]
    assert pairs == [[place, place] for place in epoch(0)]
    first, second = iter(loader), iter(loader)
    found = places([next(first), next(first), next(second)]) + places(first)
    number = found[0][0]
    assert found == [*epoch(number)[:2], (number, 0), *epoch(number, 2)]
    assert places(second) == epoch(number, 1)


def test_the_data_set_and_its_loader_can_take_turns(split: Split) -> None:
    loader = made(split).loader(workers=2)
    assert places(loader) == epoch(0)
    assert places(loader.dataset) == epoch(1)
    assert places(loader) == epoch(1)
    assert places(loader) == epoch(2)


COPIES = [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_workers_of_a_copy_see_the_epoch_that_is_set(split: Split, copied: Any) -> None:
    dataset = copied(made(split))
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for number in (0, 3, 1):
        dataset.set_epoch(number)
        assert places(loader) == epoch(number)


def test_a_copy_has_a_place_of_its_own(split: Split) -> None:
    dataset = made(split)
    other = copy.deepcopy(dataset)
    other.set_epoch(4)
    assert (dataset.epoch, other.epoch) == (0, 4)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_stay_follow_epochs_and_states(split: Split, context: str) -> None:
    dataset = made(split)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    assert places(loader) == epoch(0)
    dataset.load_state_dict(state_at(split, 2, 3))
    assert places(loader) == epoch(2, 3)
    dataset.set_epoch(3)
    assert places(loader) == epoch(3)


def ragged(split: Split, rank: int) -> ShardDataset:
    # The second batch has one item, which is the last rank's.
    return made(split, tail="ragged", global_batch=36, rank=rank, world_size=4)


def test_ranks_say_the_same_where_one_has_no_share_of_the_last_batch(split: Split) -> None:
    loaders = [ragged(split, rank).loader() for rank in range(4)]
    iterators = [iter(loader) for loader in loaders]
    for iterator in iterators:
        next(iterator)
    assert [loader.state_dict() for loader in loaders] == [loaders[3].state_dict()] * 4
    assert place_of(loaders[0].state_dict()) == (0, 1)
    assert [places(iterator) for iterator in iterators] == [[], [], [], [(0, 1)]]
    assert [place_of(loader.state_dict()) for loader in loaders] == [(1, 0)] * 4


@pytest.mark.parametrize("by", [{"workers": 1}, {"threads": 2}], ids=str)
def test_a_rank_without_a_rest_goes_on_with_the_next_epoch(
    split: Split, by: dict[str, Any]
) -> None:
    state = ragged(split, 3).state_after(ragged(split, 3).read_batch(0, 0)["position"])
    for rank, rest in ((0, []), (3, [(0, 1)])):
        loader = ragged(split, rank).loader(**by)
        loader.load_state_dict(state)
        assert places(loader) == rest
        assert places(loader)[0] == (1, 0)


def test_ranks_without_any_batch_count_their_epochs(split: Split) -> None:
    # One item for two ranks: the second one's.
    for rank in range(2):
        loader = made(split, tail="ragged", repeat=0.02, global_batch=2, rank=rank, world_size=2)
        epochs = []
        for _ in range(3):
            epochs.append(loader.epoch)
            taken: Iterator[dict[str, Any]] = iter(loader.loader())
            assert len(places(taken)) == rank
        assert epochs == [0, 1, 2]
