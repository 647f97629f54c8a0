"""Whoever makes the batches: the same ones, no more than agreed, and an end to every wait."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pack_inputs import small_skeletons
from torch.utils.data import DataLoader

from clipshards.packer import pack
from clipshards.packer.format.errors import WorkerError
from clipshards.readers import DenseClip, ShardDataset, Weighted, open_dataset
from clipshards.readers.split import Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 61
BATCH = 4
BATCHES = 16
WAYS: list[dict[str, int]] = [
    {"threads": 0},
    {"threads": 1},
    {"threads": 3},
    {"workers": 1},
    {"workers": 2},
]
BESIDE: list[dict[str, int]] = [{"threads": 2}, {"workers": 2}]

Item = dict[str, Any]


class OddError(Exception):
    """One that cannot be made from a message alone."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.two = two


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    pack(small_skeletons(ITEMS), out, split="train", shard_size=30_000)
    return out


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Any:
    OTHERS.clear()
    OTHERS.update(threading.enumerate())
    yield
    gc.collect()
    assert soon(lambda: not own_threads())


OTHERS: set[threading.Thread] = set()
"""Threads of tests before: a store's end when they have waited long enough."""


def made(place: Path | Split | Weighted, **options: Any) -> ShardDataset:
    split = open_dataset(place) if isinstance(place, Path) else place
    set_up: dict[str, Any] = {"batch_size": BATCH, "seed": 5, "clip": DenseClip(3)}
    return ShardDataset(split, **(set_up | options))


def own_threads() -> list[str]:
    threads = set(threading.enumerate()) - OTHERS
    return [thread.name for thread in threads if "clipshards" in thread.name]


def soon(holds: Callable[[], bool], *, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def assert_same(one: Item, other: Item) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name]


def places(batches: Any) -> list[tuple[int, int]]:
    return [tuple(batch["position"][:2]) for batch in batches]


# The same batches


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_all_ways_make_the_batches_that_can_be_read_one_by_one(
    place: Path, way: dict[str, int]
) -> None:
    dataset, plain = made(place), made(place)
    loader = dataset.loader(**way)  # type: ignore[arg-type]
    for epoch in range(2):
        batches = list(loader)
        assert places(batches) == [(epoch, number) for number in range(BATCHES)]
        for number, batch in enumerate(batches):
            assert_same(batch, plain.read_batch(epoch, number))


def test_videos_decoded_in_threads_are_those_decoded_alone(location: Path) -> None:
    split = open_dataset(location, split="train")
    options: dict[str, Any] = {"clip": DenseClip(4, 2), "repeat": 3}
    plain = made(split, **options)
    for number, batch in enumerate(made(split, **options).loader(threads=4, prefetch=3)):
        assert_same(batch, plain.read_batch(0, number))


@pytest.mark.parametrize("way", BESIDE, ids=str)
def test_epochs_that_do_not_end_go_on(place: Path, way: dict[str, int]) -> None:
    loader = made(place, repeat=None).loader(**way)  # type: ignore[arg-type]
    batches = list(islice(loader, 3 * BATCHES))
    assert places(batches) == [(0, number) for number in range(3 * BATCHES)]
    assert_same(batches[-1], made(place, repeat=None).read_batch(0, 3 * BATCHES - 1))
    loader.close()


@pytest.mark.parametrize("way", BESIDE, ids=str)
def test_a_rank_without_any_share_has_epochs_of_no_batch(place: Path, way: dict[str, int]) -> None:
    shares = []
    for rank in (0, 1):
        # One item for two ranks.
        dataset = made(place, tail="ragged", repeat=1 / ITEMS, rank=rank, world_size=2)
        loader = dataset.loader(**way)  # type: ignore[arg-type]
        shares.append([[batch["key"] for batch in loader] for _ in range(3)])
        assert loader.state_dict()["epoch"] == 3
        loader.close()
    assert [list(map(len, share)) for share in shares] == [[0, 0, 0], [1, 1, 1]]


def test_two_loaders_at_once_do_not_mix(place: Path) -> None:
    split = open_dataset(place)
    ways: list[dict[str, int]] = [{"threads": 2}, {"threads": 3}, {"workers": 1}]
    sets = [made(split, seed=seed) for seed in range(3)]
    loaders = [dataset.loader(**way) for dataset, way in zip(sets, ways, strict=True)]  # type: ignore[arg-type]
    for number, batches in enumerate(zip(*loaders, strict=True)):
        for seed, batch in enumerate(batches):
            assert_same(batch, made(split, seed=seed).read_batch(0, number))


def test_workers_can_start_while_threads_run(place: Path) -> None:
    split = open_dataset(place)
    running = iter(made(split, repeat=None, transform=slowly).loader(threads=3))
    next(running)
    for _ in range(3):
        loader = made(split).loader(workers=2, timeout_s=60)
        for number, batch in enumerate(loader):
            assert_same(batch, made(split).read_batch(0, number))
            next(running)
        loader.close()


def slowly(item: Item) -> Item:
    time.sleep(0.001)
    return item


def test_a_data_set_in_use_can_be_sent_to_spawned_workers(place: Path) -> None:
    dataset = made(place)
    loader = dataset.loader(threads=2)
    assert places(islice(loader, 3)) == [(0, 0), (0, 1), (0, 2)]
    copied = pickle.loads(pickle.dumps(dataset))
    assert_same(copied.read_batch(0, 1), dataset.read_batch(0, 1))
    spawned = DataLoader(
        copied, batch_size=None, num_workers=1, multiprocessing_context="spawn", timeout=120
    )
    for number, batch in enumerate(spawned):
        assert_same(batch, made(place).read_batch(0, number))


# Errors


class Failing:
    """Fails at one key while it is told to."""

    def __init__(self, key: str) -> None:
        self.key, self.fails = key, True

    def __call__(self, item: Item) -> Item:
        return self.at_the_key(item)

    def at_the_key(self, item: Item) -> Item:
        if self.fails and item["key"] == self.key:
            raise OddError(1, 2)
        return item


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_in_a_transform_comes_as_it_was_raised(place: Path, threads: int) -> None:
    key = made(place).read_batch(0, 6)["key"][1]
    transform = Failing(key)
    loader = made(place, transform=transform).loader(threads=threads)
    iterator = iter(loader)
    found = places(islice(iterator, 6))
    with pytest.raises(OddError, match="1 and 2") as caught:
        next(iterator)
    assert found == [(0, number) for number in range(6)]
    assert caught.value.two == 2
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "at_the_key"
    # And it goes on where it failed.
    transform.fails = False
    loader.load_state_dict(loader.state_dict())
    assert places(loader) == [(0, number) for number in range(6, BATCHES)]
    assert places(loader)[0] == (1, 0)


# How far ahead


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (2, 3), (3, 2)])
def test_no_more_is_made_ahead_than_agreed(place: Path, threads: int, prefetch: int) -> None:
    lock, seen = threading.Lock(), [0]

    def count(item: Item) -> Item:
        with lock:
            seen[0] += 1
        return item

    loader = made(place, transform=count, repeat=None).loader(threads=threads, prefetch=prefetch)
    most = threads * prefetch
    for taken, _ in enumerate(islice(loader, 12)):
        wanted = (taken + most) * BATCH
        assert soon(lambda: seen[0] >= wanted)  # noqa: B023
        time.sleep(0.02)
        assert seen[0] == wanted


# An end


def test_threads_end_with_a_loader_that_is_dropped(place: Path) -> None:
    loader = made(place, transform=slowly).loader(threads=3)
    for _ in loader:
        break
    assert len(own_threads()) == 3
    del loader, _
    gc.collect()
    assert soon(lambda: not own_threads(), within_s=5)


@pytest.mark.parametrize("way", BESIDE, ids=str)
def test_a_closed_loader_goes_on_where_it_stood(place: Path, way: dict[str, int]) -> None:
    loader = made(place).loader(**way)  # type: ignore[arg-type]
    loader.close()
    iterator = iter(loader)
    found = places(islice(iterator, 3))
    loader.close()
    assert not own_threads()
    found += places(iterator)
    assert found == [(0, number) for number in range(BATCHES)]
    loader.close()
    loader.close()
    assert places(loader) == [(1, number) for number in range(BATCHES)]
    loader.close()


class Hanging:
    """Keeps whoever comes to one key, until it is let go."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.go = threading.Event()

    def __call__(self, item: Item) -> Item:
        if item["key"] == self.key:
            self.go.wait(120)
        return item


class Sleeping:
    """The same for a process."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, item: Item) -> Item:
        if item["key"] == self.key:
            time.sleep(120)
        return item


def where(place: Path, key: str) -> str:
    """Return how messages call a sample."""
    split = open_dataset(place)
    (found,) = split.find(key)
    return f"{place}/train/{split.manifest.shards[found.shard].name}: {key}"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_that_hangs_is_named_by_its_sample(place: Path, threads: int) -> None:
    key = made(place).read_batch(0, 5)["key"][2]
    transform = Hanging(key)
    loader = made(place, transform=transform).loader(threads=threads, timeout_s=0.5)
    iterator = iter(loader)
    try:
        assert places(islice(iterator, 5)) == [(0, number) for number in range(5)]
        begun = time.monotonic()
        with pytest.raises(WorkerError) as caught:
            next(iterator)
        took_s = time.monotonic() - begun
    finally:
        transform.go.set()
    said = str(caught.value)
    assert said.startswith("batch 5 of epoch 0: it did not come within 0.5 s; ")
    assert said.endswith(f"is at {where(place, key)}")
    # Who hangs is not waited for.
    assert 0.5 <= took_s < 10
    assert loader.state_dict()["batch"] == 5
    loader.load_state_dict(loader.state_dict())
    assert places(loader) == [(0, number) for number in range(5, BATCHES)]


def test_a_process_that_hangs_is_named_by_its_sample(place: Path) -> None:
    key = made(place).read_batch(0, 1)["key"][3]
    loader = made(place, transform=Sleeping(key)).loader(workers=2, timeout_s=1.5)
    with pytest.raises(WorkerError) as caught:
        list(loader)
    said = str(caught.value)
    assert said.startswith("batch 1 of epoch 0: it did not come within 1.5 s; ")
    assert said.endswith(f"is at {where(place, key)}")


def test_in_a_mix_the_sample_is_named_by_its_own_split(place: Path, location: Path) -> None:
    splits = [open_dataset(location, split=name) for name in ("train", "gaps")]
    both = Weighted(splits, [1, 1], stop="all_exhausted")
    plain = made(both, seed=1)
    batch = plain.read_batch(0, 1)
    row = batch["source"].tolist().index(1)
    key = batch["key"][row]
    transform = Hanging(key)
    loader = made(both, seed=1, transform=transform).loader(threads=1, timeout_s=2.0)
    try:
        with pytest.raises(WorkerError, match=rf"is at .*/gaps/gaps-\d+\.tar: {key}$"):
            list(loader)
    finally:
        transform.go.set()


class Dying:
    """Kills its process at one key; is slow at another one."""

    def __init__(self, key: str, slow: str = "") -> None:
        self.key, self.slow = key, slow

    def __call__(self, item: Item) -> Item:
        if item["key"] == self.slow:
            time.sleep(3)
        if item["key"] == self.key:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def test_a_process_that_dies_is_named_by_its_sample(place: Path) -> None:
    key = made(place).read_batch(0, 0)["key"][2]
    transform = Dying(key)
    loader = made(place, transform=transform).loader(workers=1)
    with pytest.raises(WorkerError) as caught:
        list(loader)
    said = str(caught.value)
    assert said.startswith("batch 0 of epoch 0: DataLoader worker (pid")
    assert "killed by signal: Killed" in said
    assert f" at {where(place, key)}" in said
    # The loader is as good as new.
    transform.key = ""
    loader.load_state_dict(loader.state_dict())
    assert places(loader) == [(0, number) for number in range(BATCHES)]
    loader.close()


def test_the_process_that_died_is_named_and_not_the_one_that_is_waited_for(place: Path) -> None:
    plain = made(place)
    innocent, key = plain.read_batch(0, 0)["key"][0], plain.read_batch(0, 1)["key"][1]
    assert key not in plain.read_batch(0, 0)["key"]
    loader = made(place, transform=Dying(key, innocent)).loader(workers=2)
    with pytest.raises(WorkerError, match="killed by signal: Killed") as caught:
        list(loader)
    assert where(place, key) in str(caught.value)
    assert where(place, innocent) not in str(caught.value)


# A program whose threads hang, and one whose child inherits a loader.
PROGRAM = """
import gc, os, sys, threading, time
from clipshards.packer.format.errors import WorkerError
from clipshards.readers import ShardDataset, makers, open_dataset

location, how = sys.argv[1:]
makers._ENDING_S = 1.5

def hang(item):
    if how == "fork":
        return item
    time.sleep(600)

def main():
    dataset = ShardDataset(open_dataset(location), batch_size=4, transform=hang)
    loader = dataset.loader(threads=6, timeout_s=600 if how == "ahead" else 1)
    if how == "late":
        try:
            next(iter(loader))
        except WorkerError as exc:
            print("late", flush=True)
    elif how == "ahead":
        threading.Thread(target=lambda: next(iter(loader)), daemon=True).start()
        time.sleep(1)
    else:
        running = iter(loader)
        next(running)
        for _ in range(5):
            pid = os.fork()
            if not pid:
                # Ends as a program does, and not by os._exit.
                del running, loader
                gc.collect()
                return
            assert os.waitpid(pid, 0)[1] == 0
            next(running)
    print("ends", flush=True)

main()
"""


@pytest.mark.parametrize("how", ["late", "ahead", "fork"])
def test_threads_do_not_keep_a_process_from_ending(place: Path, how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, place, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in iter(process.stdout.readline, "ends\n"):
            assert line == "late\n"
        ended = time.monotonic()
        _, errors = process.communicate(timeout=60)
        took_s = time.monotonic() - ended
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")
    # Six that hang are not waited for one after the other.
    assert took_s < 6


# What is asked for

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"threads": -1}, "expected one above 0 at most"),
    ({"workers": -1}, "expected one above 0 at most"),
    ({"workers": 1, "threads": 1}, "expected one above 0 at most"),
    ({"prefetch": 0}, "prefetch 0: expected at least 1"),
    ({"timeout_s": 0}, "timeout_s 0: expected above 0"),
    ({"timeout_s": float("nan")}, "timeout_s nan: expected above 0"),
]


@pytest.mark.parametrize(("options", "says"), WRONG, ids=str)
def test_arguments_out_of_range_are_refused(
    place: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        made(place).loader(**options)


def test_threads_at_two_epochs_of_mmengines_order_do_not_mix_them(place: Path) -> None:
    dataset = made(place, same_order=True, clip=None)
    expected = [
        [dataset.read_batch(epoch, n)["key"] for n in range(len(dataset))] for epoch in range(6)
    ]
    loader = made(place, same_order=True, clip=None).loader(threads=4, prefetch=4)
    assert [[batch["key"] for batch in loader] for _ in range(6)] == expected


def test_as_many_threads_as_processors_unless_told_otherwise(
    place: Path, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = open_dataset(location, split="train")
    processors = len(os.sched_getaffinity(0))
    # Decoding runs beside Python; of skeletons most of the work is Python's own.
    assert made(videos).loader().accounting().threads == processors
    assert made(place).loader().accounting().threads == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processors))
    assert made(videos).loader().accounting().threads == 1
    account = made(place).loader(workers=2).accounting()
    assert (account.workers, account.threads) == (2, 0)
    assert made(place).loader(threads=0).accounting().threads == 0
