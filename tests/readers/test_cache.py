"""The cache of a node: fetched once, checked always, healed from the origin, never cleaned up."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from counted_storage import Near

from clipshards.packer import SkeletonRecord, pack
from clipshards.packer.format.errors import CorruptShardError, StorageError
from clipshards.readers import ShardDataset, open_dataset
from clipshards.readers.split import Split

SAMPLES = 96


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of 12 shards."""
    place = tmp_path_factory.mktemp("cached") / "data"
    pack(made(SAMPLES), place, split="train", shard_size=20_000)
    return place


def made(count: int, frames: int = 12) -> list[SkeletonRecord]:
    rng = np.random.default_rng(frames)
    return [
        SkeletonRecord(
            id=f"s{number}",
            labels=(number % 5,),
            keypoint=rng.random((1, frames, 17, 2), dtype=np.float32),
            keypoint_score=rng.random((1, frames, 17), dtype=np.float32),
            total_frames=frames,
        )
        for number in range(count)
    ]


def counted(place: Path, cache: Path, room: int | None = None) -> tuple[Split, Near]:
    split = open_dataset(place, cache_dir=cache, cache_bytes=room)
    storage = Near(str(place))
    split.storage = storage
    return split, storage


def epoch(split: Split, number: int = 0, **options: Any) -> list[np.ndarray]:
    """Return the keypoints of an epoch, batch by batch."""
    dataset = ShardDataset(split, batch_size=8, **options)
    dataset.set_epoch(number)
    return [np.asarray(batch["keypoint"]) for batch in dataset]


def taken(cache: Path) -> int:
    """Return the bytes that files of the cache take, but for the blocks that they begin."""
    files = [file.stat() for file in cache.rglob("*.tar")]
    return sum(file.st_blocks * 512 - 3 * 4096 for file in files)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(first, second) for first, second in zip(one, other, strict=True)
    )


def test_second_epoch_reads_nothing_of_the_origin(place: Path, tmp_path: Path) -> None:
    plain = open_dataset(place)
    split, storage = counted(place, tmp_path)
    assert same(epoch(split, 0), epoch(plain, 0))
    assert storage.bytes > 0
    for again in (split, counted(place, tmp_path)[0]):
        storage = Near(str(place))
        again.storage = storage
        assert same(epoch(again, 1), epoch(plain, 1))
        assert storage.bytes == 0


def test_what_fits_is_kept_however_epochs_are_shuffled(place: Path, tmp_path: Path) -> None:
    total = sum(shard.bytes for shard in open_dataset(place).manifest.shards)
    split, _ = counted(place, tmp_path, int(0.6 * total))
    epoch(split, 0)
    for number in (1, 2, 3):
        loader = ShardDataset(split, batch_size=8).loader(threads=0)
        loader.dataset.set_epoch(number)
        for _ in loader:
            pass
        account = loader.accounting()
        assert account.bytes_cached >= 0.58 * account.bytes_used
    assert taken(tmp_path) <= 0.6 * total


def test_no_room_keeps_nothing(place: Path, tmp_path: Path) -> None:
    split, _ = counted(place, tmp_path, 0)
    assert same(epoch(split), epoch(open_dataset(place)))
    assert not list(tmp_path.rglob("*.tar"))


def test_damaged_entries_heal_from_the_origin(place: Path, tmp_path: Path) -> None:
    plain = epoch(open_dataset(place))
    epoch(counted(place, tmp_path)[0])
    rng = np.random.default_rng(1)
    for file in tmp_path.rglob("*.tar"):
        data = bytearray(file.read_bytes())
        for spot in rng.integers(0, len(data) - 200, 40):
            data[spot] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
    split, storage = counted(place, tmp_path)
    assert same(epoch(split), plain)
    healed, storage.bytes = storage.bytes, 0
    assert healed > 0
    split, storage = counted(place, tmp_path)
    assert same(epoch(split), plain)
    assert storage.bytes == 0


@pytest.mark.parametrize("kept", [0, 1, 1000, 30_000])
def test_cut_files_heal(place: Path, tmp_path: Path, kept: int) -> None:
    plain = epoch(open_dataset(place))
    epoch(counted(place, tmp_path)[0])
    for file in tmp_path.rglob("*.tar"):
        os.truncate(file, min(kept, file.stat().st_size))
    assert same(epoch(counted(place, tmp_path)[0]), plain)
    split, storage = counted(place, tmp_path)
    assert same(epoch(split), plain)
    assert storage.bytes == 0


def test_damage_at_the_origin_is_still_named_and_never_cached(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    shard = sorted((copy / "train").glob("*.tar"))[3]
    data = bytearray(shard.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 2000] = bytes(2000)
    shard.write_bytes(data)
    split, _ = counted(copy, tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(CorruptShardError, match=shard.name):
            epoch(split, shuffle=False)


def test_foreign_files_in_the_folder_are_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "reserved").write_text("no number")
    epoch(counted(place, tmp_path)[0])
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / "other" / "reserved").read_text() == "no number"


def test_splits_share_the_room(place: Path, tmp_path: Path, caplog: Any) -> None:
    other = tmp_path / "other"
    pack(made(40, frames=9), other, split="val")
    total = sum(shard.bytes for shard in open_dataset(place).manifest.shards)
    cache = tmp_path / "cache"
    epoch(counted(place, cache, total)[0])
    split, storage = counted(other, cache, total)
    assert "are given to other data sets" in caplog.text
    epoch(split)
    assert epoch(split)
    assert storage.bytes > 0
    assert taken(cache) <= total


def folder_of(place: Path, cache: Path) -> Path:
    return cache / open_dataset(place).manifest.content_digest[:32]


def test_full_disk_is_told_once_and_costs_nothing_else(
    place: Path, tmp_path: Path, caplog: Any
) -> None:
    folder = folder_of(place, tmp_path)
    folder.mkdir()
    for shard in open_dataset(place).manifest.shards:
        (folder / shard.name).symlink_to("/dev/full")
    split, _ = counted(place, tmp_path)
    assert same(epoch(split), epoch(open_dataset(place)))
    assert caplog.text.count("nothing more is cached: No space left on device") == 1


def test_failure_that_passes_is_told_once_and_ends_no_caching(
    place: Path, tmp_path: Path, caplog: Any
) -> None:
    resource = pytest.importorskip("resource")
    plain = epoch(open_dataset(place))
    split, storage = counted(place, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert same(epoch(split), plain)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caplog.text.count("not all is cached") == 1
    assert same(epoch(split), plain)
    storage.bytes = 0
    assert same(epoch(split), plain)
    assert storage.bytes == 0


def test_full_disk_lets_a_data_set_be_opened(place: Path, tmp_path: Path, caplog: Any) -> None:
    folder = folder_of(place, tmp_path)
    folder.mkdir()
    (folder / "reserved.new").symlink_to("/dev/full")
    split, _ = counted(place, tmp_path)
    assert "no more is given to split train: No space left on device" in caplog.text
    assert same(epoch(split), epoch(open_dataset(place)))
    # Nothing was reserved, so nothing is kept.
    assert [file.name for file in folder.iterdir()] == ["reserved.new"]


def test_what_a_split_was_given_outlives_every_failure(
    place: Path, tmp_path: Path, caplog: Any
) -> None:
    total = sum(shard.bytes for shard in open_dataset(place).manifest.shards)
    epoch(counted(place, tmp_path, total // 2)[0])
    reserved = folder_of(place, tmp_path) / "reserved"
    before = reserved.stat()
    with reserved.open(encoding="ascii") as first:
        # As often as it is opened: what stays is not written.
        counted(place, tmp_path, total // 2)
        assert reserved.stat() == before
        # Nor is it where more cannot be written.
        (reserved.parent / "reserved.new").mkdir()
        split, storage = counted(place, tmp_path, total)
        assert "no more is given" in caplog.text
        storage.bytes = 0
        assert same(epoch(split), epoch(open_dataset(place)))
        assert storage.bytes < 0.6 * total
        (reserved.parent / "reserved.new").rmdir()
        # A new one takes the place of the old, which is never seen empty.
        counted(place, tmp_path, total)
        assert int(reserved.read_text()) > total // 2
        assert int(first.read()) == total // 2


@pytest.mark.parametrize("written", [False, True])
def test_what_others_were_given_is_taken_off_what_is_free_until_they_wrote_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    other, cache = tmp_path / "other", tmp_path / "cache"
    pack(made(40, frames=9), other, split="val")
    total, wanted = (
        sum(shard.index_offset + shard.index_bytes for shard in open_dataset(one).manifest.shards)
        for one in (place, other)
    )
    free = [1.2 * total]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    split, _ = counted(place, cache)
    assert int((folder_of(place, cache) / "reserved").read_text()) == total
    if written:
        # Of a disk that is larger by what is written now.
        epoch(split)
    counted(other, cache)
    room = int((folder_of(other, cache) / "reserved").read_text())
    assert room == (wanted if written else int(0.9 * free[0]) - total)
    assert int(0.9 * free[0]) - total < wanted


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_indexes_are_kept_as_far_as_the_room_goes(place: Path, tmp_path: Path, kept: int) -> None:
    plain = open_dataset(place)
    sizes = [shard.index_bytes for shard in plain.manifest.shards]
    split, _ = counted(place, tmp_path, sum(sizes[: kept + 1]) - 1)
    assert split.cache is not None
    assert same(epoch(split), epoch(plain))
    found = [split.cache.has(shard, 0, 1) for shard in range(len(sizes))]
    assert found == [b"\1"] * kept + [b"\0"] * (len(sizes) - kept)


def test_parts_that_the_kernel_gives_piece_by_piece_are_read_whole(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, storage = counted(place, tmp_path)
    expected = epoch(split)
    storage.bytes = 0
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: pread(file, min(size, 1000), at))
    assert same(epoch(split), expected)
    assert storage.bytes == 0


def test_what_is_only_read_is_not_opened_to_be_written(place: Path, tmp_path: Path) -> None:
    epoch(counted(place, tmp_path)[0])
    split, _ = counted(place, tmp_path)
    epoch(split)
    ways = [
        fcntl.fcntl(int(link.name), fcntl.F_GETFL) & os.O_ACCMODE
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and str(link.readlink()).startswith(f"{tmp_path}/")
    ]
    assert len(ways) >= len(split.manifest.shards)
    assert set(ways) == {os.O_RDONLY}


@pytest.mark.parametrize("kind", ["folder", "long"])
def test_foreign_reservations_that_say_nothing_count_nothing(
    place: Path, tmp_path: Path, kind: str
) -> None:
    foreign = tmp_path / "foreign" / "reserved"
    foreign.parent.mkdir()
    if kind == "folder":
        foreign.mkdir()
    else:
        foreign.write_text("9" * 10_000)
    split, storage = counted(place, tmp_path)
    epoch(split)
    storage.bytes = 0
    epoch(split)
    assert storage.bytes == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_while_threads_read_hangs_no_child(place: Path, tmp_path: Path) -> None:
    split, _ = counted(place, tmp_path)
    epoch(split)
    cache, ended = split.cache, threading.Event()
    assert cache is not None

    def read() -> None:
        while not ended.is_set():
            cache.has(0, 1, 1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(40):
            child = os.fork()
            if not child:
                signal.alarm(2)
                os._exit(0 if cache.has(0, 1, 1) == b"\1" else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        for reader in readers:
            reader.join()


def test_wrong_arguments_and_folders_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cache_bytes -1"):
        open_dataset(place, cache_dir=tmp_path, cache_bytes=-1)
    with pytest.raises(ValueError, match="expected a cache_dir"):
        open_dataset(place, cache_bytes=5)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StorageError, match="cannot be used as a cache"):
        open_dataset(place, cache_dir=file)


def test_threads_workers_and_processes_share_one_cache(place: Path, tmp_path: Path) -> None:
    plain = epoch(open_dataset(place))
    ways: list[Any] = [{"threads": 3}, {"workers": 2}]
    for way in ways:
        cache = tmp_path / next(iter(way))
        split = open_dataset(place, cache_dir=cache)
        loader = ShardDataset(split, batch_size=8).loader(**way)
        assert same([np.asarray(batch["keypoint"]) for batch in loader], plain)
        loader.close()
        again, storage = counted(place, cache)
        assert same(epoch(again), plain)
        assert storage.bytes == 0


_READ = """
import sys
from clipshards.readers import ShardDataset, open_dataset
split = open_dataset(sys.argv[1], cache_dir=sys.argv[2])
print("open", flush=True)
for number in range(1000):
    for batch in ShardDataset(split, batch_size=8, seed=number):
        print(number, flush=True)
"""


def test_killed_readers_leave_a_cache_that_serves(place: Path, tmp_path: Path) -> None:
    plain = epoch(open_dataset(place))
    for round_ in (0, 2):
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", _READ, str(place), str(tmp_path)], stdout=subprocess.PIPE
            )
            for _ in range(2)
        ]
        for reader in readers:
            assert reader.stdout is not None
            for _ in range(2 + 2 * round_):
                assert reader.stdout.readline()
            reader.kill()
        for reader in readers:
            reader.communicate()
    names = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert all(name == "reserved" or name.startswith("train-") for name in names)
    assert same(epoch(counted(place, tmp_path)[0]), plain)
    split, storage = counted(place, tmp_path)
    assert same(epoch(split), plain)
    assert storage.bytes == 0


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def no_leaks() -> Iterator[None]:
    before, threads = descriptors(), threading.active_count()
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and threading.active_count() > threads:
        time.sleep(0.01)
    assert descriptors() <= before


@pytest.mark.usefixtures("no_leaks")
def test_descriptors_go_with_the_split(place: Path, tmp_path: Path) -> None:
    epoch(counted(place, tmp_path)[0])
