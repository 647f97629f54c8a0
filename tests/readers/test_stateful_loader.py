"""torchdata's StatefulDataLoader goes on where it stood, with the data set's own state."""

import gc
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import small_skeletons
from torchdata.stateful_dataloader import StatefulDataLoader

from clipshards.packer import pack
from clipshards.readers import DenseClip, ShardDataset, Split, open_dataset

pytestmark = [
    # torchdata 0.11 with torch 2.13.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 37
BATCHES = 5

Seen = tuple[int, int, list[str], int, list[bool]]

# Prints what a process gets that has the split and a state, and sets the epoch as it goes.
OTHER_PROCESS = """
import pickle, sys
from torchdata.stateful_dataloader import StatefulDataLoader
from clipshards.readers import DenseClip, ShardDataset, open_dataset

if __name__ == "__main__":
    location, state, workers = sys.argv[1:]
    dataset = ShardDataset(open_dataset(location), seed=5, clip=DenseClip(2), global_batch=8)
    loader = StatefulDataLoader(dataset, batch_size=None, num_workers=int(workers))
    with open(state, "rb") as file:
        loader.load_state_dict(pickle.load(file))
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        for batch in loader:
            print(*batch["position"][:2], *batch["key"], flush=True)
"""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    out = tmp_path_factory.mktemp("set")
    pack(small_skeletons(ITEMS), out, split="train", shard_size=15_000)
    return open_dataset(out)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    # Their iterators stand in cycles; what a later fork inherits of them complains.
    gc.collect()


def made(split: Split) -> ShardDataset:
    return ShardDataset(split, seed=5, clip=DenseClip(2), global_batch=8)


def stateful(
    dataset: ShardDataset, workers: int, **options: Any
) -> StatefulDataLoader[dict[str, Any]]:
    return StatefulDataLoader(dataset, batch_size=None, num_workers=workers, **options)


def seen(batch: dict[str, Any]) -> Seen:
    position, keypoint = batch["position"], batch["keypoint"]
    valid = batch["valid"].tolist()
    return (*position[:2], batch["key"], zlib.crc32(keypoint.numpy().tobytes()), valid)


def expected(split: Split, epoch: int) -> list[Seen]:
    dataset = made(split)
    assert len(dataset) == BATCHES
    return [seen(dataset.read_batch(epoch, number)) for number in range(BATCHES)]


def take(iterator: Iterator[dict[str, Any]], count: int) -> list[Seen]:
    return [seen(next(iterator)) for _ in range(count)]


def stored(loader: StatefulDataLoader[dict[str, Any]]) -> Any:
    """Return a state as it comes out of a checkpoint."""
    return pickle.loads(pickle.dumps(loader.state_dict()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(BATCHES))
def test_a_new_loader_goes_on_behind_the_state(split: Split, workers: int, stop: int) -> None:
    dataset = made(split)
    loader = stateful(dataset, workers)
    dataset.set_epoch(1)
    assert take(iter(loader), stop) == expected(split, 1)[:stop]
    state = stored(loader)
    again = made(split)
    loader = stateful(again, workers)
    loader.load_state_dict(state)
    # A training script sets the epoch, whatever else it does.
    again.set_epoch(1)
    assert [seen(batch) for batch in loader] == expected(split, 1)[stop:]
    again.set_epoch(2)
    assert [seen(batch) for batch in loader] == expected(split, 2)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("second", [0, 1])
def test_a_run_that_went_on_can_go_on_again(split: Split, workers: int, second: int) -> None:
    loader = stateful(made(split), workers)
    found = take(iter(loader), 2)
    for count in (second, 1):
        state = stored(loader)
        loader = stateful(made(split), workers)
        loader.load_state_dict(state)
        found += take(iter(loader), count)
    state = stored(loader)
    loader = stateful(made(split), workers)
    loader.load_state_dict(state)
    assert found + [seen(batch) for batch in loader] == expected(split, 0)


@pytest.mark.parametrize("stop", range(BATCHES + 1))
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_stay_know_their_place_in_the_next_epoch(
    split: Split, workers: int, stop: int
) -> None:
    dataset = made(split)
    loader = stateful(dataset, workers, persistent_workers=True)
    assert [seen(batch) for batch in loader] == expected(split, 0)
    dataset.set_epoch(1)
    assert take(iter(loader), stop) == expected(split, 1)[:stop]
    state = stored(loader)
    again = made(split)
    loader = stateful(again, workers, persistent_workers=True)
    loader.load_state_dict(state)
    for epoch, first in ((1, stop), (2, 0), (3, 0)):
        again.set_epoch(epoch)
        assert [seen(batch) for batch in loader] == expected(split, epoch)[first:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_at_the_end_of_an_epoch_begins_the_next(split: Split, workers: int) -> None:
    loader = stateful(made(split), workers)
    assert [seen(batch) for batch in loader] == expected(split, 0)
    state = stored(loader)
    dataset = made(split)
    loader = stateful(dataset, workers)
    loader.load_state_dict(state)
    dataset.set_epoch(1)
    assert [seen(batch) for batch in loader] == expected(split, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_of_the_beginning_holds_nothing_up(split: Split, workers: int) -> None:
    loader = stateful(made(split), workers)
    state = stored(loader)
    assert [seen(batch) for batch in loader] == expected(split, 0)
    loader = stateful(made(split), workers)
    loader.load_state_dict(state)
    assert [seen(batch) for batch in loader] == expected(split, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_data_sets_own_state_goes_on_with_any_number(split: Split, workers: int) -> None:
    dataset = made(split)
    loader = stateful(dataset, workers)
    iterator = iter(loader)
    batch = [next(iterator) for _ in range(3)][-1]
    state = dataset.state_after(batch["position"])
    for other in (0, 1, 3):
        again = made(split)
        again.load_state_dict(state)
        assert [seen(one) for one in stateful(again, other)] == expected(split, 0)[3:]


@pytest.mark.parametrize("workers", [0, 2])
def test_another_process_goes_on(split: Split, tmp_path: Path, workers: int) -> None:
    dataset = made(split)
    loader = stateful(dataset, workers)
    dataset.set_epoch(1)
    take(iter(loader), 3)
    (tmp_path / "state").write_bytes(pickle.dumps(loader.state_dict()))
    location = split.storage.url
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, location, tmp_path / "state", str(workers)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rest = expected(split, 1)[3:] + expected(split, 2)
    assert done.stdout.splitlines() == [
        " ".join(map(str, (epoch, number, *keys))) for epoch, number, keys, _, _ in rest
    ]
