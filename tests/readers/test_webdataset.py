"""Raw samples in webdataset's pipelines: our order, each once, resumed on any topology."""

import gc
import json
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_inputs import moments, small_skeletons, write_videos
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from clipshards.packer import StateError, UnsupportedVersionError, pack
from clipshards.packer.format.errors import CorruptShardError
from clipshards.readers import ShardDataset, Split, open_dataset
from clipshards.readers.dealing import Dealing, RawTail
from clipshards.readers.webdataset import RawSamples, SamplePosition, samples

pytestmark = [
    # torchdata 0.11 with torch 2.13.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SAMPLES = 37


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    pack(small_skeletons(SAMPLES), out, split="train", shard_size=15_000)
    assert len(open_dataset(out).manifest.shards) > 5
    return out


@pytest.fixture(scope="module")
def split(location: Path) -> Split:
    return open_dataset(location)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()


def made(split: Split, **options: Any) -> RawSamples:
    return RawSamples(split, **{"seed": 5, **options})


def keys(found: Any) -> list[str]:
    return [sample["__key__"] for sample in found]


def whole(split: Split, epoch: int = 0, **options: Any) -> list[str]:
    """Return the keys of an epoch, from one process."""
    dataset = made(split, **options)
    dataset.set_epoch(epoch)
    return keys(dataset)


def test_samples_are_what_stands_in_the_shards(location: Path, split: Split) -> None:
    found = list(samples(location, split="train", seed=3))
    assert len(found) == SAMPLES
    for number, sample in enumerate(found):
        url = sample.pop("__url__")
        assert Path(url).parent == location / "train"
        assert sample.pop("__position__") == (0, number, number + 1)
        (place,) = split.find(sample["__key__"])
        assert url.endswith(split.manifest.shards[place.shard].name)
        raw = split.read_sample(place.shard, place.sample)
        assert sample == {"__key__": raw.key, **raw.parts}
        assert list(sample) == ["__key__", "json", "keypoint.npy"]


def test_a_pass_has_each_sample_once_in_the_order_of_the_items(split: Split) -> None:
    # Here each sample has one item: the two orders are one.
    items = ShardDataset(split, batch_size=1, seed=5, repeat=2)
    expected = [items.read_batch(0, number)["key"][0] for number in range(2 * SAMPLES)]
    assert whole(split, repeat=2) == expected
    assert len(set(expected[:SAMPLES])) == SAMPLES
    assert whole(split, 1) != whole(split, 0)
    assert whole(split, shuffle=False) == [f"train-{n:08d}" for n in packed_order(split)]


def packed_order(split: Split) -> list[int]:
    return [
        int(key[-8:])
        for shard in range(len(split.manifest.shards))
        for key in split.read_index(shard).keys
    ]


def test_a_sample_of_several_items_comes_once(tmp_path: Path) -> None:
    records = replace(moments(tmp_path), group="video")
    pack(records, tmp_path / "set", split="train", media_root=write_videos(tmp_path))
    split = open_dataset(tmp_path / "set")
    assert len(split) > 4
    dataset = RawSamples(split)
    assert len(dataset) == sum(shard.samples for shard in split.manifest.shards) < len(split)
    found = keys(dataset)
    assert len(found) == len(set(found)) == len(dataset)


def test_only_wanted_parts_are_read(split: Split) -> None:
    for sample in made(split, parts=["json"]):
        assert [name for name in sample if not name.startswith("__")] == ["json"]
    for wrong in ("json", ["mp4"]):
        with pytest.raises(ValueError, match=r"expected names among json, keypoint\.npy"):
            made(split, parts=wrong)


def test_an_altered_byte_is_named(location: Path, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for file in (location / "train").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    shard = folder / "train-000002.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptShardError, match=r"train-000002\.tar: train-.*crc32c differs"):
        list(samples(tmp_path))


def test_large_samples_are_read_one_by_one(split: Split) -> None:
    expected = whole(split)
    dataset = made(split)
    blocks: list[int] = []
    read = dataset._begin

    def counted(places: Any) -> Any:
        blocks.append(len(places))
        return read(places)

    dataset._begin = counted  # type: ignore[method-assign]
    for block, count in ((1, 37), (5, 8), (100, 1)):
        dataset._block = block
        assert keys(dataset) == expected
        assert len(blocks) == count
        assert sum(blocks) == SAMPLES
        blocks.clear()


# Ranks and workers, by arithmetic


@settings(max_examples=150)
@given(
    length=st.integers(0, 70),
    tail=st.sampled_from(["ragged", "drop"]),
    ranks=st.integers(1, 8),
    workers=st.integers(1, 4),
    turn=st.integers(1, 5),
    data=st.data(),
)
def test_all_ranks_and_workers_deal_out_each_position_once(
    length: int, tail: RawTail, ranks: int, workers: int, turn: int, data: st.DataObject
) -> None:
    dealing = Dealing(length, tail, ranks, turn)
    begin = data.draw(st.integers(0, length))
    limit = data.draw(st.integers(1, 20))
    rounds = []
    for rank in range(ranks):
        shares = [
            share_of(dealing, begin, rank=rank, worker=worker, workers=workers, limit=limit)
            for worker in range(workers)
        ]
        dealt = woven(shares, turn)
        assert dealt == list(range(begin + rank, begin + rank + ranks * len(dealt), ranks))
        assert len(dealt) == dealing.count(begin, rank=rank)
        rounds.append(dealt)
    end = begin + (length - begin) // ranks * ranks if tail == "drop" else length
    assert sorted(position for share in rounds for position in share) == list(range(begin, end))
    assert max(map(len, rounds)) - min(map(len, rounds)) <= (0 if tail == "drop" else 1)
    assert dealing.is_over(begin) == (not any(rounds))


def share_of(
    dealing: Dealing,
    begin: int,
    *,
    rank: int,
    worker: int,
    workers: int,
    limit: int = 7,
    taken: int = 0,
) -> list[int]:
    found: list[int] = []
    while True:
        more = dealing.positions(
            begin,
            rank=rank,
            worker=worker,
            workers=workers,
            taken=taken + len(found),
            limit=limit,
        ).tolist()
        if not more:
            return found
        found += more


def woven(shares: list[list[int]], turn: int) -> list[int]:
    """Return what a DataLoader gives of workers that make batches of `turn`."""
    batches = [[share[at : at + turn] for at in range(0, len(share), turn)] for share in shares]
    return [
        position
        for nth in range(max(map(len, batches)))
        for of_worker in batches
        if nth < len(of_worker)
        for position in of_worker[nth]
    ]


@settings(max_examples=60)
@given(
    ranks=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 9), min_size=5, max_size=5),
    repeat=st.sampled_from([1, 0.5, 1.5]),
    epoch=st.integers(0, 2),
)
def test_a_run_goes_on_with_other_ranks(
    split: Split, ranks: list[int], steps: list[int], repeat: float, epoch: int
) -> None:
    expected = whole(split, epoch, repeat=repeat)
    begin = made(split, repeat=repeat)
    begin.set_epoch(epoch)
    state, found = begin.state_dict(), list[str]()
    for world, count in zip(ranks, steps, strict=False):
        last = world == ranks[-1] and len(found) == len(expected)
        states, shares = [], []
        for rank in range(world):
            dataset = made(split, repeat=repeat, rank=rank, world_size=world)
            dataset.load_state_dict(state)
            iterator, share = iter(dataset), []
            for _ in range(count):
                sample = next(iterator, None)
                if sample is None:
                    break
                share.append(sample)
                assert dataset.state_dict() == dataset.state_after(sample["__position__"])
            states.append(dataset.state_dict())
            shares.append(keys(share))
        found += [share[nth] for nth in range(count) for share in shares if nth < len(share)]
        assert found == expected[: len(found)]
        state = states[0]
        if len(found) == len(expected) or last:
            break
        # All ranks stand at one place.
        assert states == [state] * world
        assert (state["epoch"], state["batch"]) == (epoch, len(found))
    if len(found) < len(expected):
        dataset = made(split, repeat=repeat)
        dataset.load_state_dict(state)
        assert found + keys(dataset) == expected


def test_dropping_gives_all_ranks_as_many(split: Split) -> None:
    for ranks in (1, 2, 5, 8, 40):
        datasets = [made(split, tail="drop", rank=n, world_size=ranks) for n in range(ranks)]
        assert [len(dataset) for dataset in datasets] == [SAMPLES // ranks] * ranks
        for dataset in datasets:
            assert len(keys(dataset)) == len(dataset)
            assert (dataset.state_dict()["epoch"], dataset.state_dict()["batch"]) == (1, 0)


def test_fewer_samples_than_ranks(split: Split) -> None:
    datasets = [made(split, repeat=0.1, rank=n, world_size=8) for n in range(8)]
    assert [len(dataset) for dataset in datasets] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert [key for dataset in datasets for key in keys(dataset)] == whole(split, repeat=0.1)


def test_an_empty_split(craft: Callable[..., Path]) -> None:
    dataset = samples(craft([[], []]))
    assert len(dataset) == 0
    assert list(dataset) == []
    assert dataset.state_dict()["epoch"] == 1


def test_an_endless_epoch_goes_through_all_passes(split: Split) -> None:
    dataset = made(split, repeat=None)
    with pytest.raises(TypeError, match="does not end"):
        len(dataset)
    iterator = iter(dataset)
    # Beyond what is looked up in the order at once.
    found = [next(iterator) for _ in range(40 * SAMPLES)]
    for number in range(40):
        assert len(set(keys(found[number * SAMPLES : (number + 1) * SAMPLES]))) == SAMPLES
    again = made(split, repeat=None)
    again.load_state_dict(dataset.state_after(found[1200]["__position__"]))
    rest = iter(again)
    assert [next(rest)["__key__"] for _ in range(50)] == keys(found[1201:1251])


# In pipelines of webdataset


def test_a_pipeline_in_process(location: Path, split: Split) -> None:
    pipeline = wds.DataPipeline(
        samples(location, seed=5),
        wds.decode(),
        wds.to_tuple("__key__", "keypoint.npy", "json", "__position__"),
        wds.batched(8),
    )
    batches = list(pipeline)
    assert [len(batch[0]) for batch in batches] == [8, 8, 8, 8, 5]
    assert [key for batch in batches for key in batch[0]] == whole(split)
    for _, keypoint, about, positions in batches:
        assert keypoint.shape[1:] == (1, 6, 5, 2)
        assert all(one["id"].startswith("s") for one in about)
        assert all(isinstance(position, SamplePosition) for position in positions)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_run_goes_on_behind_a_batch_of_a_pipeline(split: Split, workers: int) -> None:
    source = made(split, batched=4)
    pipeline = wds.DataPipeline(source, wds.decode(), wds.batched(4))
    source.set_epoch(1)
    expected = whole(split, 1)
    found: list[str] = []
    for number, batch in enumerate(wds.WebLoader(pipeline, batch_size=None, num_workers=workers)):
        found += batch["__key__"]
        state = source.state_after(batch["__position__"])
        if number == 4:
            break
    assert found == expected[:20]
    assert (state["epoch"], state["batch"]) == (1, 20)
    for others in (0, 2):
        again = made(split, batched=4)
        again.load_state_dict(state)
        assert again.epoch == 1
        loader = DataLoader(
            wds.DataPipeline(again, wds.batched(4)), batch_size=None, num_workers=others
        )
        batches = list(loader)
        assert [key for batch in batches for key in batch["__key__"]] == expected[20:]
        assert again.state_after(batches[-1]["__position__"])["epoch"] == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_data_loader_tell_their_place_too(split: Split, workers: int) -> None:
    source = made(split, batched=5)
    loader = DataLoader(source, batch_size=5, num_workers=workers)
    assert len(loader) == 8
    found: list[str] = []
    for batch in loader:
        found += batch["__key__"]
        state = source.state_after(batch["__position__"])
        assert state["batch"] == len(found) % SAMPLES
    assert found == whole(split)


def test_a_place_that_workers_leave_open_is_refused(split: Split) -> None:
    batches = DataLoader(made(split), batch_size=4, num_workers=2, collate_fn=list)
    positions = [sample["__position__"] for sample in next(iter(batches))]
    with pytest.raises(ValueError, match=r"do not follow each other .* samples\(batched=n\)"):
        made(split).state_after(positions)
    four = made(split, batched=4)
    for count in (1, 3):
        given = [SamplePosition(0, number, number + 1) for number in range(count)]
        with pytest.raises(ValueError, match=f"positions of 4 samples, got {count}"):
            four.state_after(given if count > 1 else given[0])
    with pytest.raises(ValueError, match="of a sample at least"):
        four.state_after([])


@pytest.mark.parametrize("piped", [False, True])
def test_workers_that_stay_follow_the_epoch(split: Split, piped: bool) -> None:
    dataset = made(split)
    source = wds.DataPipeline(dataset, wds.decode()) if piped else dataset
    loader = DataLoader(source, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in (0, 3, 1):
        dataset.set_epoch(epoch)
        found = list(loader)
        assert keys(found) == whole(split, epoch)
        assert dataset.state_after(found[10]["__position__"])["batch"] == 11
    # Unless another is set, the same comes again.
    assert keys(loader) == whole(split, 1)


def test_spawned_workers_know_their_place(split: Split) -> None:
    dataset = made(split, rank=1, world_size=2)
    expected = keys(dataset)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert keys(loader) == expected == whole(split)[1::2]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("world", [2, 3])
def test_the_environment_says_which_rank_this_is(
    split: Split, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    expected = whole(split)[1::world]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    assert whole(split) == expected
    alone = made(split, rank=0, world_size=1)
    assert len(alone) == SAMPLES
    dataset = made(split)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match=f"made for {world} ranks, there are 4 now"):
        next(iter(dataset))


# StatefulDataLoader


def stateful(dataset: RawSamples, workers: int, **options: Any) -> StatefulDataLoader[Any]:
    return StatefulDataLoader(dataset, num_workers=workers, **{"batch_size": None, **options})


def stored(loader: StatefulDataLoader[Any]) -> Any:
    return pickle.loads(pickle.dumps(loader.state_dict()))


@pytest.mark.parametrize(("workers", "stops"), [(0, (0, 1, 36)), (2, (0, 1, 6)), (3, (7,))])
@pytest.mark.parametrize("persistent", [False, True])
def test_torchdata_goes_on_behind_the_state(
    split: Split, workers: int, stops: tuple[int, ...], persistent: bool
) -> None:
    options = {"persistent_workers": True} if persistent and workers else {}
    for stop in stops:
        dataset = made(split, batched=2)
        loader = stateful(dataset, workers, **options)
        assert sorted(keys(loader)) == sorted(whole(split))
        dataset.set_epoch(1)
        iterator = iter(loader)
        found = [next(iterator)["__key__"] for _ in range(stop)]
        state = stored(loader)
        rest = keys(iterator)
        assert sorted(found + rest) == sorted(whole(split, 1))
        again = made(split, batched=2)
        loader = stateful(again, workers, **options)
        loader.load_state_dict(state)
        again.set_epoch(1)
        assert keys(loader) == rest, stop
        again.set_epoch(2)
        assert sorted(keys(loader)) == sorted(whole(split, 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_makes_batches_that_go_on(split: Split, workers: int) -> None:
    loader = stateful(made(split, batched=4), workers, batch_size=4)
    iterator = iter(loader)
    found = [key for _ in range(3) for key in next(iterator)["__key__"]]
    state = stored(loader)
    for _ in range(2):
        again = stateful(made(split, batched=4), workers, batch_size=4)
        again.load_state_dict(state)
        assert found + [key for batch in again for key in batch["__key__"]] == whole(split)


def test_the_state_of_a_worker_needs_the_same_ranks_and_workers(split: Split) -> None:
    loader = stateful(made(split), 2)
    iterator = iter(loader)
    next(iterator)
    state = stored(loader)
    del iterator
    text = json.dumps(state)
    assert '"workers": 2' in text
    own = next(find_states(state))
    with pytest.raises(StateError, match="world_size was 1, is 2"):
        made(split, rank=0, world_size=2).load_state_dict(own)
    with pytest.raises(StateError, match="batched was 1, is 3"):
        made(split, batched=3).load_state_dict(own)
    dataset = made(split)
    dataset.load_state_dict(own)
    with pytest.raises(StateError, match="of 2 loader workers, here are 1"):
        next(iter(dataset))
    dataset.load_state_dict(made(split).state_dict())
    assert keys(dataset) == whole(split)


def find_states(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("format") == "clipshards-position":
            yield value
        for inner in value.values():
            yield from find_states(inner)


# States


def test_the_data_set_itself_knows_what_it_gave(split: Split) -> None:
    dataset = made(split)
    iterator = iter(dataset)
    for number in range(SAMPLES):
        assert dataset.state_dict()["batch"] == number
        assert dataset.state_after(next(iterator)["__position__"]) == dataset.state_dict()
    assert list(iterator) == []
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["batch"]) == (1, 0)
    dataset.set_epoch(7)
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["batch"]) == (7, 0)


def test_the_end_of_an_epoch_is_one_place_for_all_ranks(split: Split) -> None:
    for rank in range(4):
        dataset = made(split, rank=rank, world_size=4)
        found = list(dataset)
        # 37 samples: the first rank has one more, which the others need not wait for.
        assert len(found) == len(dataset) == (10 if rank == 0 else 9)
        assert (dataset.state_dict()["epoch"], dataset.state_dict()["batch"]) == (1, 0)
        state = dataset.state_after(found[8]["__position__"])
        assert (state["epoch"], state["batch"]) == (0, 36)


def test_setting_the_epoch_of_a_loaded_state_keeps_the_place(split: Split) -> None:
    first = made(split)
    state = first.state_after(SamplePosition(1, 9, 10))
    second = made(split)
    second.load_state_dict(state)
    second.set_epoch(1)
    assert keys(second) == whole(split, 1)[10:]
    # The next one is whole.
    assert keys(second) == whole(split, 1)
    second.load_state_dict(state)
    assert second.state_dict() == state
    second.set_epoch(2)
    assert keys(second) == whole(split, 2)


def test_a_late_place_costs_what_an_early_one_costs(split: Split) -> None:
    dataset = made(split, repeat=1_000_000)
    dataset.load_state_dict(dataset.state_after(SamplePosition(0, 33_000_000, 33_000_001)))
    reads: list[int] = []
    fetch = split.fetch

    def counted(places: Any, **options: Any) -> Any:
        reads.append(len(places))
        return fetch(places, **options)

    dataset.split.fetch = counted  # type: ignore[method-assign]
    try:
        next(iter(dataset))
    finally:
        del dataset.split.fetch
    assert reads == [128]


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 6}, "seed was 5, is 6"),
    ({"repeat": 2}, "repeat was '1', is '2'"),
    ({"tail": "drop"}, "tail was 'ragged', is 'drop'"),
    ({"shuffle": False}, "shuffle was True, is False"),
]


@pytest.mark.parametrize(("options", "says"), OTHERS)
def test_a_position_of_another_order_is_refused(
    split: Split, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(StateError, match=says):
        made(split, **options).load_state_dict(made(split).state_dict())


def test_a_position_of_batches_is_refused(split: Split) -> None:
    state = ShardDataset(split, batch_size=1, seed=5).state_dict()
    with pytest.raises(StateError, match=r"order was '\d+', is 'samples, \d+'"):
        made(split).load_state_dict(state)


@pytest.mark.parametrize(
    "state", [None, {}, {"workers": 2}, "x", {"format": "clipshards-position"}]
)
def test_what_is_no_position_is_refused(split: Split, state: Any) -> None:
    with pytest.raises(StateError, match="not a position in a data set"):
        made(split).load_state_dict(state)


def test_positions_that_cannot_be_are_refused(split: Split) -> None:
    state = made(split).state_dict()
    with pytest.raises(StateError, match="position 38: an epoch has 37 samples"):
        made(split).load_state_dict(state | {"batch": 38})
    with pytest.raises(UnsupportedVersionError, match="version 2, expected 1"):
        made(split).load_state_dict(state | {"version": 2})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tail": "pad"}, "raw samples carry no mask"),
    ({"tail": "cut"}, "tail 'cut': expected one of"),
    ({"rank": 0}, "expected rank and world_size, or neither"),
    ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
    ({"repeat": 0}, "repeat 0: expected a number above 0"),
    ({"seed": -1}, "seed -1: expected 0 to"),
    ({"batched": 0}, "batched 0: expected at least 1"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_options_that_do_not_fit_are_refused(
    split: Split, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        made(split, **options)
    with pytest.raises(ValueError, match="epoch -1"):
        made(split).set_epoch(-1)
    with pytest.raises(TypeError, match="what open_dataset returns"):
        RawSamples("shards")  # type: ignore[arg-type]
