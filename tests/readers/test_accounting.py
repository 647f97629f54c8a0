"""The time of a run goes to the account that it belongs to, and the advice follows it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_inputs import skeletons

from clipshards.packer import pack
from clipshards.packer.storage.local import LocalStorage
from clipshards.readers import ShardDataset, open_dataset
from clipshards.readers.accounting import Accounting, Costs
from clipshards.readers.ranks import usable_processors
from clipshards.readers.split import Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 48
BATCH = 8
BATCHES = 6

Item = dict[str, Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    pack(skeletons(ITEMS, shape=(6, 5, 2), classes=4), out, split="train", shard_size=8_000)
    assert len(open_dataset(out).manifest.shards) > 10
    return out


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


class Slow(LocalStorage):
    """A folder that takes its time over the bytes of samples, or over those of indexes."""

    def __init__(self, url: str, pause_s: float, *, indexes: set[int] | None = None) -> None:
        super().__init__(url)
        self._pause_s, self._indexes = pause_s, indexes

    def read(self, name: str, offset: int, size: int) -> bytes:
        if self._indexes is None or offset in self._indexes:
            time.sleep(self._pause_s)
        return super().read(name, offset, size)


def slow_transform(item: Item) -> Item:
    time.sleep(0.01)
    return item


class SlowToTake:
    """What takes long where it is taken out of the memory that processes share."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, ()


def _taken() -> str:
    time.sleep(0.1)
    return "taken"


def slow_to_take(items: Any) -> Item:
    return {"key": [item["key"] for item in items], "odd": SlowToTake()}


def made(source: Path | Split, **options: Any) -> ShardDataset:
    split = open_dataset(source) if isinstance(source, Path) else source
    return ShardDataset(split, **({"batch_size": BATCH, "seed": 4} | options))


def account_of(
    dataset: ShardDataset, *, epochs: int = 2, consumer_s: float = 0.0, **way: int
) -> tuple[Accounting, float]:
    """Return the account of some epochs, and the seconds that they took."""
    loader = dataset.loader(**way)  # type: ignore[arg-type]
    begun = time.monotonic()
    for _ in range(epochs):
        for _ in loader:
            time.sleep(consumer_s)
    took = time.monotonic() - begun
    account = loader.accounting()
    loader.close()
    return account, took


def check(account: Accounting, took: float, consumer_s: float = 0.0) -> None:
    """All seconds are there, the consumer's last ones aside, and none twice."""
    assert (account.batches, account.items, account.replaced) == (2 * BATCHES, 2 * ITEMS, 0)
    parts = [account.consumer_s, account.storage_s, account.decode_s, account.hand_over_s]
    assert min(parts) >= 0
    assert account.seconds == pytest.approx(sum(parts))
    assert took * 0.8 - consumer_s - 0.1 <= account.seconds <= took
    assert account.items_per_s == pytest.approx(2 * ITEMS / account.seconds)
    json.loads(json.dumps(account.as_json(), allow_nan=False))


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 1}, {"workers": 1}], ids=str)
def test_a_slow_transform_counts_as_decode(place: Path, way: dict[str, int]) -> None:
    account, took = account_of(made(place, transform=slow_transform), **way)
    check(account, took)
    assert account.decode_s > 0.6 * account.seconds
    assert account.making_decode_s >= 0.01 * 2 * ITEMS
    assert account.storage_s < 0.2 * account.seconds
    assert account.advice.startswith("decode is the limit (")
    processors = len(os.sched_getaffinity(0))
    if processors > 1:
        (makers,) = way.values()
        assert f"{makers} of {processors} processors make batches" in account.advice


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 1}], ids=str)
def test_a_slow_storage_counts_as_storage(place: Path, way: dict[str, int]) -> None:
    manifest = open_dataset(place).manifest
    account, took = account_of(made(Split(Slow(str(place), 0.01), manifest)), **way)
    check(account, took)
    assert account.storage_s > 0.6 * account.seconds
    assert account.making_storage_s >= 0.01 * 2 * BATCHES
    assert account.advice.startswith("storage is the limit (")
    assert "or media nearer to the machine" in account.advice


def test_reading_indexes_counts_as_storage(place: Path) -> None:
    manifest = open_dataset(place).manifest
    storage = Slow(str(place), 0.03, indexes={shard.index_offset for shard in manifest.shards})
    account, took = account_of(made(Split(storage, manifest)), threads=0)
    check(account, took)
    assert account.storage_s > 0.6 * account.seconds


@pytest.mark.parametrize("way", [{"threads": 2}, {"workers": 1}], ids=str)
def test_a_slow_training_counts_as_consumer(place: Path, way: dict[str, int]) -> None:
    dataset = made(place)
    loader = dataset.loader(**way)  # type: ignore[arg-type]
    for _ in loader:  # who makes them has to start
        pass
    before = loader.accounting()
    begun = time.monotonic()
    for _ in loader:
        time.sleep(0.08)
    took = time.monotonic() - begun
    account = loader.accounting().since(before)
    loader.close()
    assert account.batches == BATCHES
    assert account.consumer_s > 0.6 * account.seconds
    assert account.consumer_s >= 0.08 * (BATCHES - 1)
    assert account.seconds <= took + 0.1
    if account.consumer_s > 0.95 * account.seconds:
        assert account.advice.startswith("the training is the limit (")
        assert account.advice.endswith("nothing to turn here")


def test_what_is_slow_to_hand_over_counts_as_hand_over(place: Path) -> None:
    account, took = account_of(made(place, collate=slow_to_take), workers=1, epochs=2)
    check(account, took)
    assert account.hand_over_s >= 0.1 * 2 * BATCHES * 0.9
    assert account.hand_over_s > 0.5 * account.seconds
    assert account.advice.startswith("hand-over is the limit (")
    assert account.advice.endswith("take threads= instead of workers=")


def test_bytes_are_those_of_the_samples(place: Path) -> None:
    split = open_dataset(place)
    used = 0
    for shard in range(len(split.manifest.shards)):
        used += sum(sum(columns.size) for columns in split.read_index(shard).parts.values())
    account, _ = account_of(made(place), threads=2, epochs=3)
    assert account.bytes_used == 3 * used
    assert account.bytes_fetched >= account.bytes_used


def test_what_came_since_is_the_difference(place: Path) -> None:
    loader = made(place).loader(threads=2)
    list(loader)
    before = loader.accounting()
    list(loader)
    after = loader.accounting()
    came = after.since(before)
    assert (came.batches, came.items, came.threads, came.ranks) == (BATCHES, ITEMS, 2, 1)
    assert came.seconds == pytest.approx(after.seconds - before.seconds)
    nothing = after.since(after)
    assert (nothing.seconds, nothing.items_per_s) == (0, 0)
    assert nothing.line == "nothing was read"
    json.dumps(nothing.as_json(), allow_nan=False)
    loader.close()


TIMES = st.floats(0, 1e6)


@given(storage=TIMES, decode=TIMES, asked=TIMES, took=TIMES, finished=TIMES)
def test_a_wait_is_shared_out_whole(
    storage: float, decode: float, asked: float, took: float, finished: float
) -> None:
    costs = Costs(3, 1, storage, decode, 100, 60, finished)
    account = Accounting(threads=2).with_batch(costs, asked_s=asked, got_s=asked + took)
    waited = account.storage_s + account.decode_s + account.hand_over_s
    assert waited == pytest.approx((asked + took) - asked, abs=1e-6)
    assert min(account.storage_s, account.decode_s, account.hand_over_s) >= -1e-9
    if finished <= asked:
        assert account.storage_s == account.decode_s == 0
    elif storage and decode:
        share = account.storage_s * decode - account.decode_s * storage
        assert share == pytest.approx(0, abs=1e-6 * max(storage, decode, 1) * max(waited, 1))
    assert (account.batches, account.items, account.replaced) == (1, 3, 1)
    assert (account.bytes_fetched, account.bytes_used, account.threads) == (100, 60, 2)


ONE = Accounting(
    batches=10,
    items=80,
    replaced=2,
    consumer_s=1.0,
    storage_s=2.0,
    decode_s=3.0,
    hand_over_s=4.0,
    making_storage_s=5.0,
    making_decode_s=6.0,
    bytes_fetched=4_000_000,
    bytes_used=3_000_000,
    workers=2,
    processors=4,
)


def test_several_ranks_add_up() -> None:
    both = Accounting.sum([ONE, replace(ONE, consumer_s=11.0, items=40)])
    kept = {"workers": 2, "threads": 0, "processors": 4, "consumer_s": 12.0, "items": 120}
    assert asdict(both) == {name: 2 * value for name, value in asdict(ONE).items()} | kept
    # 120 items in the time that each rank took, 15 s in the mean.
    assert both.items_per_s == pytest.approx(120 / 15)
    assert Accounting.sum([ONE]) == ONE


def test_the_line_says_all_of_it() -> None:
    assert ONE.line == (
        "8.0 items/s; consumer 10%, storage 20%, decode 30%, hand-over 40% of 10.0 s; "
        "4.0 MB fetched in 0 reads, 75% used; 2 replaced"
    )


ADVICE = [
    ({"consumer_s": 500.0}, "the training is the limit (98%): nothing to turn here"),
    ({"storage_s": 30.0}, "storage is the limit (79% of the time): more workers=, 2 so far, or"),
    ({"decode_s": 30.0, "workers": 4}, "on all 4 processors: take fewer frames, a cheaper tr"),
    ({"decode_s": 30.0, "workers": 0, "threads": 1}, ", and 1 of 4 processors make batches: clip"),
    ({"batches": 0}, "nothing was read"),
    ({"hand_over_s": 30.0}, "hand-over is the limit (83% of the time): take threads= instead of"),
    ({"hand_over_s": 30.0, "workers": 0, "threads": 3}, "take fewer threads="),
    ({"hand_over_s": 30.0, "workers": 0, "threads": 1}, "of the time): nothing to turn here"),
]


@pytest.mark.parametrize(("change", "says"), ADVICE)
def test_the_advice_is_about_the_longest_wait(change: dict[str, Any], says: str) -> None:
    account = replace(ONE, **change)
    assert says in account.advice
    assert account.as_json()["advice"] == account.advice
    assert "\n" not in account.advice


def test_a_rank_has_its_share_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    processors = len(os.sched_getaffinity(0))
    assert usable_processors() == processors
    for ranks, usable in ((1, processors), (processors, 1), (10**6, 1), (0, processors)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        assert usable_processors() == usable
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "many")
    assert usable_processors() == processors


# Two ranks, the second of which trains slowly.
RANKS = """
import json, os, signal, sys, time
import torch
from clipshards.readers import ShardDataset, open_dataset

def main(location, store):
    rank = 0 if (child := os.fork()) else 1
    signal.alarm(90)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    loader = ShardDataset(open_dataset(location), batch_size=4).loader(threads=1)
    for _ in loader:
        time.sleep(0.1 * rank)
    own, both = loader.accounting(), loader.accounting(all_ranks=True)
    # At once: both ranks write to one pipe.
    sys.stdout.write(json.dumps([rank, own.as_json(), both.as_json()]) + os.linesep)
    sys.stdout.flush()
    loader.close()
    torch.distributed.barrier()
    if child:
        assert os.waitpid(child, 0)[1] == 0
    torch.distributed.destroy_process_group()

main(*sys.argv[1:])
"""


def test_real_ranks_give_one_account(place: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RANKS, place, tmp_path / "store"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranks = sorted(map(json.loads, done.stdout.splitlines()))
    assert [rank for rank, _, _ in ranks] == [0, 1]
    (_, first, both), (_, second, same) = ranks
    assert both == same
    assert (both["ranks"], both["items"], both["threads"]) == (2, ITEMS, 1)
    for name in ("batches", "items", "consumer_s", "decode_s", "bytes_used"):
        assert both[name] == pytest.approx(first[name] + second[name])
    assert second["consumer_s"] > 0.1 * (BATCHES - 1) > first["consumer_s"]
