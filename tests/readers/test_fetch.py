"""Joined reads give every sample as it stands in the shard, and no byte is read or kept twice."""

import random
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer import SkeletonRecord, pack
from clipshards.packer.format.errors import CorruptShardError, StorageError
from clipshards.packer.storage.local import LocalStorage
from clipshards.readers import open_dataset
from clipshards.readers.split import Split

PARTS = ("json", "keypoint.npy", "keypoint_score.npy")
SAMPLES = 44
# Of so many frames, the keypoints are read alone.
LARGE = 300
LARGE_BYTES = 32 * 2**10
GAP_BYTES = 8 * 2**10


class At(NamedTuple):
    """Where a sample stands."""

    shard: int
    sample: int


@dataclass(frozen=True)
class Member:
    """A part as a plain reader of tars finds it."""

    data: bytes = field(repr=False)
    offset: int


class Counted(LocalStorage):
    """A folder that notes down what is read of it."""

    def __init__(self, url: str, *, pause_s: float = 0.0) -> None:
        super().__init__(url)
        self.reads: list[tuple[str, int, int]] = []
        self._pause_s = pause_s

    def read(self, name: str, offset: int, size: int) -> bytes:
        self.reads.append((name, offset, size))
        time.sleep(self._pause_s)
        return super().read(name, offset, size)


class Tracked(bytes):
    """Bytes of which it is known whether they are still there."""

    alive: ClassVar[Counter[tuple[int, int]]] = Counter()
    span: tuple[int, int]

    def __del__(self) -> None:
        Tracked.alive[self.span] -= 1


class Tracking(LocalStorage):
    """A folder that knows which ranges of it are held."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = Tracked(super().read(name, offset, size))
        data.span = (offset, offset + size)
        Tracked.alive[data.span] += 1
        return data


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of 1 to 40 frames, every eleventh with a large part."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(SAMPLES):
        frames = LARGE if number % 11 == 5 else 1 + number * 7 % 40
        records.append(
            SkeletonRecord(
                id=f"s{number}",
                total_frames=frames,
                keypoint=rng.random((1, frames, 17, 2)).astype(np.float32),
                keypoint_score=rng.random((1, frames, 17)).astype(np.float32),
                labels=(number % 4,),
            )
        )
    out = tmp_path_factory.mktemp("set")
    pack(records, out, split="train", shard_size=100_000)
    return out


@pytest.fixture(scope="module")
def members(location: Path) -> dict[At, dict[str, Member]]:
    """All samples as tarfile reads them."""
    return members_of(location)


def members_of(location: Path) -> dict[At, dict[str, Member]]:
    found: dict[At, dict[str, Member]] = {}
    for shard, path in enumerate(sorted((location / "train").glob("*.tar"))):
        with tarfile.open(path) as tar:
            keys: list[str] = []
            for info in tar:
                if info.name == "__index__":
                    continue
                key, part = info.name.split(".", 1)
                if key not in keys:
                    keys.append(key)
                payload = tar.extractfile(info)
                assert payload is not None
                place = At(shard, len(keys) - 1)
                found.setdefault(place, {})[part] = Member(payload.read(), info.offset_data)
    assert len(found) == SAMPLES
    return found


def key_of(location: Path, place: At) -> str:
    return open_dataset(location).read_index(place.shard).keys[place.sample]


def opened(location: Path, storage: LocalStorage | None = None) -> Split:
    """Return the split with all indexes read, from this storage."""
    split = open_dataset(location)
    if storage is not None:
        split = Split(storage, split.manifest)
    for shard in range(len(split.manifest.shards)):
        split.columns_of(shard)
    if isinstance(storage, Counted):
        storage.reads.clear()
    return split


@pytest.fixture
def copied(location: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(location, tmp_path / "copied"))


def shard_path(location: Path, shard: int) -> Path:
    return location / "train" / f"train-{shard:06d}.tar"


def overlap(reads: list[tuple[str, int, int]]) -> bool:
    """Return whether a byte was read twice."""
    return any(
        first[0] == second[0] and first[1] + first[2] > second[1]
        for first, second in zip(sorted(reads), sorted(reads)[1:], strict=False)
    )


@given(
    numbers=st.lists(st.integers(0, SAMPLES - 1), max_size=30),
    seed=st.integers(0, 2**32 - 1),
    without=st.sets(st.sampled_from(PARTS)),
)
def test_samples_come_as_they_stand_in_the_tar(
    location: Path,
    members: dict[At, dict[str, Member]],
    numbers: list[int],
    seed: int,
    without: set[str],
) -> None:
    wanted = [sorted(members)[number] for number in numbers]
    asked = random.Random(seed).sample(wanted, len(wanted))
    storage = Counted(str(location))
    split = opened(location, storage)
    fetch = split.fetch(wanted, without=without)
    assert storage.reads == []
    for place in asked:
        raw = fetch.sample(place)
        expected = {
            part: member.data for part, member in members[place].items() if part not in without
        }
        assert list(raw.parts.items()) == list(expected.items())
        assert raw.key == split.read_index(place.shard).keys[place.sample]
        assert raw.where.endswith(f"/train/{shard_path(location, place.shard).name}: {raw.key}")
        assert raw.unread == tuple(part for part in PARTS if part in without)
        alone = open_dataset(location).read_sample(*place, without=without)
        assert (alone.key, alone.parts) == (raw.key, raw.parts)
    ranges = [read for read in storage.reads if read[1:] not in index_ranges(split)]
    assert not overlap(ranges)
    assert fetch.bytes_fetched == sum(size for _, _, size in ranges)
    assert fetch.bytes_used == sum(
        len(member.data)
        for place in set(wanted)
        for part, member in members[place].items()
        if part not in without
    )


def index_ranges(split: Split) -> set[tuple[int, int]]:
    return {(entry.index_offset, entry.index_bytes) for entry in split.manifest.shards}


def test_small_parts_that_stand_near_are_read_at_once(
    location: Path, members: dict[At, dict[str, Member]]
) -> None:
    storage = Counted(str(location))
    fetch = opened(location, storage).fetch(members)
    for place in members:
        fetch.sample(place)
    large = {
        (shard_path(location, place.shard).name, member.offset, len(member.data))
        for place, of_sample in members.items()
        for member in of_sample.values()
        if len(member.data) >= LARGE_BYTES
    }
    shards = {place.shard for place in members}
    assert len(large) == SAMPLES // 11
    reads = {(name.rpartition("/")[2], offset, size) for name, offset, size in storage.reads}
    # A large part stands alone, and parts the ranges before and behind it.
    assert large <= reads
    assert len(storage.reads) <= len(shards) + 2 * len(large)
    assert len(storage.reads) < len(members) // 2


def test_parts_that_stand_apart_are_not_read_at_once(
    location: Path, members: dict[At, dict[str, Member]]
) -> None:
    joined = apart = 0
    for first in members:
        for second in members:
            if first.shard != second.shard or first >= second:
                continue
            storage = Counted(str(location))
            fetch = opened(location, storage).fetch([second, first], without=PARTS[1:])
            fetch.sample(first)
            begin, end = members[first]["json"], members[second]["json"]
            gap = end.offset - begin.offset - len(begin.data)
            assert len(storage.reads) == 1
            fetch.sample(second)
            assert len(storage.reads) == (1 if gap <= GAP_BYTES else 2)
            joined, apart = joined + (gap <= GAP_BYTES), apart + (gap > GAP_BYTES)
    assert joined > 10
    assert apart > 10


def test_no_range_is_longer_than_a_mebibyte_unless_a_part_is(tmp_path: Path) -> None:
    records = [
        SkeletonRecord(
            id=f"s{number}",
            total_frames=200,
            keypoint=np.full((1, 200, 17, 2), number, np.float32),
            labels=(0,),
        )
        for number in range(90)
    ]
    pack(records, tmp_path, split="train")
    storage = Counted(str(tmp_path))
    split = opened(tmp_path, storage)
    places = [At(0, sample) for sample in range(90)]
    fetch = split.fetch(places)
    for place in places:
        fetch.sample(place)
    sizes = [size for _, _, size in storage.reads]
    assert sum(sizes) > 2 * 2**20
    assert max(sizes) <= 2**20
    assert len(sizes) == -(-sum(sizes) // 2**20)


def test_nothing_is_read_before_it_is_asked_for(
    location: Path, members: dict[At, dict[str, Member]]
) -> None:
    storage = Counted(str(location))
    fetch = opened(location, storage).fetch(members)
    last = max(members)
    fetch.sample(last)
    assert {name for name, _, _ in storage.reads} == {f"train/train-{last.shard:06d}.tar"}
    assert fetch.bytes_used == sum(len(member.data) for member in members[last].values())


def needed(members: dict[At, dict[str, Member]], places: list[At]) -> Iterator[tuple[int, int]]:
    for place in places:
        for member in members[place].values():
            yield member.offset, member.offset + len(member.data)


@pytest.mark.parametrize("damaged", [False, True])
def test_ranges_are_let_go_with_their_last_sample(
    copied: Path, members: dict[At, dict[str, Member]], damaged: bool
) -> None:
    # Of one shard, so that a range is known by its bytes.
    shard = next(place.shard for place, parts in members.items() if is_large(parts))
    places = [place for place in members if place.shard == shard]
    if damaged:
        flip(copied, shard, members[places[len(places) // 2]]["json"].offset)
    fetch = opened(copied, Tracking(str(copied))).fetch(places)
    Tracked.alive.clear()
    failed = 0
    for number, place in enumerate(places):
        try:
            fetch.sample(place)
        except CorruptShardError:
            failed += 1
        left = list(needed(members, places[number:]))
        for start, stop in +Tracked.alive:
            assert any(start <= first and last <= stop for first, last in left), (start, stop)
    assert failed == damaged
    held = sum(stop - start for start, stop in +Tracked.alive)
    assert held <= sum(len(member.data) for member in members[places[-1]].values())


def is_large(parts: dict[str, Member]) -> bool:
    return any(len(member.data) >= LARGE_BYTES for member in parts.values())


def flip(location: Path, shard: int, place: int) -> None:
    data = bytearray(shard_path(location, shard).read_bytes())
    data[place] ^= 0x10
    shard_path(location, shard).write_bytes(data)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("at", ["first", "last"])
def test_a_flipped_byte_fails_its_sample_and_no_neighbour(
    copied: Path, members: dict[At, dict[str, Member]], part: str, at: str
) -> None:
    places = [place for place in members if place.shard == 1]
    hit = next(place for place in places[1:-1] if not is_large(members[place]))
    member = members[hit][part]
    flip(copied, 1, member.offset + (len(member.data) - 1 if at == "last" else 0))
    key = key_of(copied, hit)
    storage = Counted(str(copied))
    fetch = opened(copied, storage).fetch([*places, hit])
    failed = []
    for place in [*places, hit]:
        try:
            assert fetch.sample(place).parts == {
                name: member.data for name, member in members[place].items()
            }
        except CorruptShardError as exc:
            failed.append(place)
            said = str(exc)
            assert f"{copied}/train/train-000001.tar: {key}.{part}: " in said
            assert f"{len(member.data)} bytes at {member.offset} are not what was packed" in said
            assert "crc32c differs" in said
    # Each time that it is asked for.
    assert failed == [hit, hit]
    assert len(storage.reads) < len(places)


def test_samples_before_the_end_of_a_truncated_shard_can_be_read(
    copied: Path, members: dict[At, dict[str, Member]]
) -> None:
    places = [place for place in members if place.shard == 0]
    split = opened(copied)
    cut = members[places[len(places) // 2]]["keypoint.npy"]
    path = shard_path(copied, 0)
    with path.open("r+b") as file:
        file.truncate(cut.offset + 10)
    fetch = split.fetch(places)
    for place in places:
        parts = members[place]
        if max(member.offset + len(member.data) for member in parts.values()) <= cut.offset:
            assert fetch.sample(place).parts["json"] == parts["json"].data
            continue
        with pytest.raises(CorruptShardError, match=r"train-000000\.tar: .* bytes there") as caught:
            fetch.sample(place)
        assert key_of_columns(split, place) in str(caught.value)
    # Who opens it now finds no index either.
    with pytest.raises(CorruptShardError, match=r"train-000000\.tar: index: "):
        open_dataset(copied).fetch(places)


def key_of_columns(split: Split, place: At) -> str:
    return str(split.columns_of(place.shard).keys[place.sample].decode())


def test_a_shard_that_is_gone_is_named(copied: Path) -> None:
    split = opened(copied)
    shard_path(copied, 2).unlink()
    # What was opened stays readable, another one finds nothing.
    split = Split(LocalStorage(str(copied)), split.manifest)
    with pytest.raises(StorageError, match=r"train/train-000002\.tar: No such file"):
        split.fetch([At(2, 0)])
    assert split.fetch([At(1, 0)]).sample(At(1, 0)).parts


def test_a_sample_that_was_not_planned_is_not_given(location: Path) -> None:
    fetch = opened(location).fetch([At(0, 0)])
    with pytest.raises(KeyError):
        fetch.sample(At(0, 1))


def test_the_time_of_reads_is_counted(location: Path, members: dict[At, dict[str, Member]]) -> None:
    storage = Counted(str(location), pause_s=0.01)
    split = opened(location, storage)
    fetch = split.fetch(members)
    assert fetch.seconds == 0
    begun = time.perf_counter()
    for place in members:
        fetch.sample(place)
    assert 0.01 * len(storage.reads) <= fetch.seconds <= time.perf_counter() - begun


def test_no_place_is_nothing(location: Path) -> None:
    fetch = open_dataset(location).fetch([])
    assert (fetch.bytes_fetched, fetch.bytes_used, fetch.seconds) == (0, 0, 0.0)
