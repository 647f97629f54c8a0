"""Reading from S3: the same batches as from a folder, whoever makes them, in bounded memory."""

import gc
import multiprocessing
import os
import pickle
import re
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
import torch
import webdataset as wds
from fault_proxy import Fault, FaultProxy
from pack_inputs import small_skeletons
from s3_bucket import Bucket
from s3_server import S3Server
from torch.utils.data import DataLoader

from clipshards.packer import CorruptShardError, StorageError, VideoRecord, pack
from clipshards.packer.storage import s3_connection
from clipshards.packer.storage.s3 import S3Storage
from clipshards.readers import (
    Concat,
    DenseClip,
    Loader,
    ShardDataset,
    ShardMapDataset,
    Split,
    UniformClip,
    open_dataset,
    verify,
)
from clipshards.readers.lookahead import Lookahead
from clipshards.readers.lookup import Lookup
from clipshards.readers.webdataset import samples

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

KINDS = ("video", "skeleton")
BATCH = 4
CLIPS = {"video": DenseClip(4, 2), "skeleton": UniformClip(3)}
HIT = 1
"""The shard that is damaged."""


@dataclass(frozen=True)
class Place:
    """A data set in a folder, and the same one on S3."""

    folder: Path
    bucket: Bucket

    @property
    def url(self) -> str:
        return self.bucket.url


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> dict[str, Place]:
    """Data sets of videos and of skeletons, several shards each: look, do not write."""
    media = makers.write_media_root(tmp_path_factory.mktemp("media"), 18)
    videos = [VideoRecord(path, (n,)) for path, n in zip(media.paths, media.labels, strict=True)]
    records: dict[str, Any] = {"video": videos, "skeleton": small_skeletons(31)}
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("sets") / kind
        size = {"video": 60_000, "skeleton": 15_000}[kind]
        pack(records[kind], folder, split="train", media_root=media.root, shard_size=size)
        bucket = Bucket.of(s3_server, f"s3://videos/{secrets.token_hex(4)}/{kind} set")
        bucket.upload(folder)
        found[kind] = Place(folder, bucket)
        assert len(open_dataset(folder).manifest.shards) >= 4
    return found


@pytest.fixture(autouse=True)
def _store(s3_location: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    return places[request.param]


FIRST_KIND = pytest.mark.parametrize(
    "place", ["video", pytest.param("skeleton", marks=pytest.mark.deep)], indirect=True
)
"""Of what takes seconds and is the same for all kinds: the others in the thorough run only."""


@pytest.fixture
def videos(places: dict[str, Place]) -> Place:
    return places["video"]


@pytest.fixture
def copied(place: Place, tmp_path: Path, s3_location: str) -> Place:
    """The same data set once more, to be damaged."""
    folder = Path(shutil.copytree(place.folder, tmp_path / "copy"))
    bucket = Bucket(place.bucket.client, s3_location)
    bucket.upload(folder)
    return Place(folder, bucket)


def made(location: str | Path | Split, **options: Any) -> ShardDataset:
    split = location if isinstance(location, Split) else open_dataset(location)
    given: dict[str, Any] = {"batch_size": BATCH, "seed": 3, "clip": CLIPS[split.manifest.task]}
    return ShardDataset(split, **(given | options))


def plain(value: Any) -> Any:
    """Return a batch or an item as values that `==` compares to the last bit."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, torch.Tensor):
        return "tensor", plain(value.numpy())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, list):
        return list(map(plain, value))
    return value


def epochs_of(loader: Iterable[dict[str, Any]], epochs: int = 2) -> list[Any]:
    return [plain(batch) for _ in range(epochs) for batch in loader]


def expected_of(place: Place, epochs: int = 2, **options: Any) -> list[Any]:
    return epochs_of(made(place.folder, **options).loader(threads=0), epochs)


# The same batches


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 3}, {"workers": 2}], ids=str)
def test_batches_are_those_of_the_folder(place: Place, way: dict[str, int]) -> None:
    loader = made(place.url).loader(**way)  # type: ignore[arg-type]
    assert epochs_of(loader, 3) == expected_of(place, 3)
    account = loader.accounting()
    assert account.bytes_fetched >= account.bytes_used > 0
    loader.close()


@pytest.mark.parametrize("kind", ["video", pytest.param("skeleton", marks=pytest.mark.deep)])
def test_a_spawned_worker_gets_a_pickled_data_set(places: dict[str, Place], kind: str) -> None:
    place = places[kind]
    dataset = made(place.url)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    found = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        found += epochs_of(loader, 1)
    assert found == expected_of(place)


def test_a_data_set_that_was_read_from_can_be_pickled(place: Place) -> None:
    dataset = made(place.url)
    iterator = iter(dataset)
    next(iterator)
    data = pickle.dumps(dataset)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in data
    assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in data
    again = pickle.loads(data)
    again.set_epoch(0)
    assert epochs_of(again, 1) == expected_of(place, 1)


def test_ranks_share_the_batches_of_the_folder(place: Place) -> None:
    for rank in range(2):
        options = {"rank": rank, "world_size": 2, "batch_size": 3}
        loader = made(place.url, **options).loader(threads=2)
        assert epochs_of(loader) == expected_of(place, **options)


@pytest.mark.parametrize(
    "options",
    [{"repeat": 2, "tail": "drop"}, {"shuffle": False}, {"repeat": 0.5}],
    ids=str,
)
def test_epochs_of_other_kinds_are_those_of_the_folder(
    place: Place, options: dict[str, Any]
) -> None:
    found = epochs_of(made(place.url, **options).loader(threads=2))
    assert found == expected_of(place, **options)


def test_far_and_near_splits_can_be_mixed(place: Place) -> None:
    near, far = open_dataset(place.folder), open_dataset(place.url)
    options: dict[str, Any] = {"batch_size": 5, "clip": CLIPS[near.manifest.task]}
    expected = epochs_of(ShardDataset(Concat([near, near]), **options).loader(threads=0), 1)
    for threads in (0, 2):
        mixed = ShardDataset(Concat([near, far]), **options)
        assert epochs_of(mixed.loader(threads=threads), 1) == expected


def test_single_items_are_those_of_the_folder(place: Place) -> None:
    near, far = (
        ShardMapDataset(open_dataset(location), clip=UniformClip(3))
        for location in (place.folder, place.url)
    )
    assert len(far) == len(near)
    numbers = list(range(len(near)))
    for number in numbers[::-3] + numbers[:2]:
        assert plain(far[number]) == plain(near[number])
    again = pickle.loads(pickle.dumps(far))
    assert plain(again[-1]) == plain(near[-1])


def without_url(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: plain(one[name]) for name in one if name != "__url__"} for one in found]


def test_raw_samples_are_those_of_the_folder(place: Place) -> None:
    near, far = (samples(location, seed=4) for location in (place.folder, place.url))
    expected = without_url(near)
    found = list(far)
    assert without_url(found) == expected
    assert all(one["__url__"].startswith(f"{place.url}/train/train-0") for one in found)
    dataset = samples(place.url, seed=4, batched=2)
    pipeline = wds.DataPipeline(dataset, wds.batched(2, collation_fn=list))
    loader = DataLoader(pipeline, batch_size=None, num_workers=2)
    batches = list(loader)
    assert without_url(one for batch in batches for one in batch) == expected
    # And from the middle on.
    dataset.load_state_dict(dataset.state_after([one["__position__"] for one in batches[2]]))
    assert without_url(one for batch in loader for one in batch) == expected[6:]


def test_the_order_is_asked_as_of_the_folder(place: Place) -> None:
    near, far = (
        Lookup(open_dataset(location), global_batch=4, seed=3)
        for location in (place.folder, place.url)
    )
    for step in (0, 3, far.steps_per_epoch):
        rows = far.batch(step)
        assert rows == near.batch(step)
    key = rows[0].key
    assert list(far.comings(key, epochs=3)) == list(near.comings(key, epochs=3))


def test_verify_finds_it_whole(place: Place) -> None:
    near, far = verify(place.folder), verify(place.url)
    assert far.whole
    assert asdict(far) | {"location": ""} == asdict(near) | {"location": ""}


# Going on


@FIRST_KIND
@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"workers": 2}], ids=str)
def test_a_run_goes_on_in_the_middle_here_or_there(place: Place, way: dict[str, Any]) -> None:
    expected = expected_of(place)

    def begun(location: str | Path, batches: int) -> dict[str, Any]:
        loader = made(location).loader(**way)
        for _, _ in zip(range(batches), loader, strict=False):
            pass
        state = loader.state_dict()
        loader.close()
        return state

    def rest(location: str | Path, state: dict[str, Any]) -> list[Any]:
        loader = made(location).loader(**way)
        loader.load_state_dict(state)
        found = epochs_of(loader)
        loader.close()
        return found

    # What is left of the first epoch, and the second one.
    assert rest(place.url, begun(place.url, 3)) == expected[3:]
    # A data set that moves stays the same.
    assert rest(place.url, begun(place.folder, 2)) == expected[2:]


@FIRST_KIND
@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"workers": 2}], ids=str)
def test_a_loop_that_is_left_begins_its_epoch_anew(place: Place, way: dict[str, Any]) -> None:
    loader = made(place.url).loader(**way)
    for _ in loader:
        break
    assert epochs_of(loader) == expected_of(place)
    loader.close()


# Processes and threads


def test_a_fork_in_the_middle_reads_the_same_on_both_sides(place: Place) -> None:
    expected = expected_of(place)
    dataset = made(place.url)
    loader = dataset.loader(threads=2)
    iterator = iter(loader)
    found = [plain(next(iterator)) for _ in range(2)]

    def child_reads() -> None:
        fine = plain(dataset.read_batch(0, 3)) == expected[3]
        fine &= epochs_of(made(dataset.source.splits[0]), 1) == expected[: len(dataset)]
        os._exit(0 if fine else 1)

    child = multiprocessing.get_context("fork").Process(target=child_reads)
    child.start()
    found += map(plain, iterator)
    child.join(60)
    assert child.exitcode == 0
    assert found + epochs_of(loader, 1) == expected


def alive(prefix: str) -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(prefix)]


def test_threads_end_with_what_they_work_for(videos: Place) -> None:
    gc.collect()
    before = len(alive("clipshards"))
    for _ in range(3):
        loader = made(videos.url).loader(threads=2)
        for _ in loader:
            break
        loader.close()
        assert list(verify(videos.url).findings) == []
    assert alive("clipshards")
    del loader
    gc.collect()
    deadline = time.monotonic() + 10
    while len(alive("clipshards")) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(alive("clipshards")) <= before


# Memory


class Counted:
    """Bytes of reads that were begun, until nobody holds them any more."""

    def __init__(self) -> None:
        self.now = self.most = self.reads = 0
        self._lock = threading.Lock()

    def begin_read(self, storage: S3Storage, name: str, offset: int, size: int) -> Any:
        held: Any = _begin_read(storage, name, offset, size)
        with self._lock:
            self.reads += 1
            self.now += size
            self.most = max(self.most, self.now)
        weakref.finalize(held, self._let_go, size)
        return held

    def _let_go(self, size: int) -> None:
        with self._lock:
            self.now -= size


_begin_read = S3Storage.begin_read


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(S3Storage, "begin_read", lambda *arguments: counted.begin_read(*arguments))
    return counted


def batch_bytes(place: Place, **options: Any) -> list[int]:
    """Return the bytes that each batch of the first epoch reads."""
    dataset = made(place.url, **options)
    found = [dataset._maker.begin(0, number).bytes for number in range(len(dataset))]
    del dataset
    gc.collect()
    return found


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("batches", [0.01, 2])
def test_no_more_is_read_ahead_than_may_be(
    videos: Place,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    batches: float,
) -> None:
    largest = max(batch_bytes(videos, repeat=3))
    limit = int(batches * largest)
    defaults = Lookahead.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "most_bytes", limit)
    dataset = made(videos.url, repeat=3)
    # The indexes, read before the first batch, are no part of it.
    dataset.source.splits[0].load_columns(range(len(dataset.source.splits[0].manifest.shards)))
    counted.most = counted.now
    loader = dataset.loader(threads=threads)
    assert len(epochs_of(loader, 1)) == len(dataset)
    # Ahead: what may be and the batch that exceeds it. Beside it, those that are being made.
    assert counted.most <= limit + (1 + max(threads, 1)) * largest
    if threads == 0:
        assert counted.most >= limit
    loader.close()
    del loader
    gc.collect()
    # The thread that made the last read lets go of it a moment later.
    deadline = time.monotonic() + 5
    while counted.now and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counted.now == 0


def test_reads_are_under_way_before_their_batch_is_asked_for(
    videos: Place, counted: Counted
) -> None:
    sizes = batch_bytes(videos)
    dataset = made(videos.url)
    iterator = iter(dataset)
    next(iterator)
    # All fits: the whole epoch was begun.
    assert counted.now >= sum(sizes[1:])
    begun = counted.reads
    assert len(list(iterator)) == len(sizes) - 1
    assert counted.reads == begun


# Damage


def flip(place: Place, sample: int, part: str) -> str:
    """Flip a byte of a part, in the folder and on S3; return the sample's key."""
    index = open_dataset(place.folder).read_index(HIT)
    columns = index.parts[part]
    offset = columns.offset[sample] + columns.size[sample] // 2
    name = f"train/train-{HIT:06d}.tar"
    place.bucket.flip(name, offset)
    path = place.folder / name
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    return index.keys[sample]


MEDIA = {"video": "mp4", "skeleton": "keypoint.npy"}


def media_of(place: Place) -> str:
    return MEDIA[open_dataset(place.folder).manifest.task]


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"workers": 2}], ids=str)
def test_a_flipped_byte_is_read_again_and_then_named(
    copied: Place, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]
) -> None:
    part = media_of(copied)
    key = flip(copied, 1, part)
    reads: list[tuple[str, int, int]] = []
    read = S3Storage.read

    def noted(storage: S3Storage, name: str, offset: int, size: int) -> bytes:
        reads.append((name, offset, size))
        return read(storage, name, offset, size)

    monkeypatch.setattr(S3Storage, "read", noted)
    # Each sample once an epoch.
    loader = made(copied.url, shuffle=False).loader(**way)
    where = re.escape(f"{copied.url}/train/train-{HIT:06d}.tar: {key}.{part}: ")
    with pytest.raises(CorruptShardError, match=where):
        epochs_of(loader, 1)
    loader.close()
    if "workers" not in way:
        index = open_dataset(copied.folder).read_index(HIT).parts[part]
        alone = (f"train/train-{HIT:06d}.tar", index.offset[1], index.size[1])
        # Of small samples the first read had other parts with it.
        assert 2 <= reads.count(alone) <= 3


def test_verify_names_a_flipped_byte(copied: Place) -> None:
    part = media_of(copied)
    key = flip(copied, 1, part)
    near, far = verify(copied.folder), verify(copied.url)
    found = far.findings[0]
    assert (found.split, found.shard) == ("train", f"train-{HIT:06d}.tar")
    assert (found.key, found.part) == (key, part)
    assert far.findings == near.findings


def test_an_altered_index_is_named(copied: Place) -> None:
    shard = open_dataset(copied.folder).manifest.shards[HIT]
    copied.bucket.flip(f"train/{shard.name}", shard.index_offset + 40)
    where = re.escape(f"{copied.url}/train/{shard.name}: index: ")
    with pytest.raises(CorruptShardError, match=where):
        epochs_of(made(copied.url).loader(threads=2), 1)
    # No data set of this object keeps what it could not use.
    copied.bucket.put(f"train/{shard.name}", (copied.folder / "train" / shard.name).read_bytes())
    assert epochs_of(made(copied.url), 1) == expected_of(copied, 1)


def flipped(place: Place) -> None:
    flip(place, 0, "json")
    flip(place, 2, media_of(place))


def truncated(place: Place) -> None:
    name = f"train/train-{HIT:06d}.tar"
    data = (place.folder / name).read_bytes()[:3000]
    (place.folder / name).write_bytes(data)
    place.bucket.put(name, data)


def removed(place: Place) -> None:
    name = f"train/train-{HIT:06d}.tar"
    (place.folder / name).unlink()
    place.bucket.remove(name)


@FIRST_KIND
@pytest.mark.parametrize("damage", [flipped, truncated, removed])
def test_the_same_ones_stand_in_for_what_cannot_be_read(
    copied: Place, damage: Callable[[Place], None]
) -> None:
    damage(copied)
    expected = expected_of(copied, on_error="replace")
    assert any(any(np.frombuffer(batch["replaced"][1][2], bool)) for batch in expected)
    ways: list[dict[str, Any]] = [{"threads": 0}, {"threads": 2}]
    for way in ways:
        loader = made(copied.url, on_error="replace").loader(**way)
        assert epochs_of(loader) == expected
        assert loader.accounting().replaced > 0
        loader.close()
    loader = made(copied.url).loader(threads=2)
    where = re.escape(f"{copied.url}/train/train-{HIT:06d}.tar")
    with pytest.raises((CorruptShardError, StorageError), match=where):
        epochs_of(loader, 1)


def test_a_bit_that_the_network_changes_heals(
    videos: Place, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = expected_of(videos, 1)
    with FaultProxy(s3_server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        dataset = made(videos.url)
        # One of the first reads of media, and two of the indexes.
        proxy.faults = [
            Fault(method="GET", path=".tar", flip_at=100, skip=9),
            Fault(method="GET", path=".tar", flip_at=50, times=2),
        ]
        loader: Loader = dataset.loader(threads=2)
        assert epochs_of(loader, 1) == expected
        struck = [one for one in proxy.requests if one.fault is not None]
        assert len(struck) == 3
        loader.close()


# Whole epochs while the store or the way to it fails


@pytest.fixture
def proxy(s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """Return a proxy with some patience of its clients."""
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "20")
    monkeypatch.setattr(s3_connection, "READ_S", 1.0)
    return s3_proxy


PASSING: dict[str, list[Fault]] = {
    "503 once": [Fault("GET", ".tar", status=503)],
    "storm of 503": [Fault("GET", ".tar", times=12, status=503)],
    "500 now and then": [Fault("GET", ".tar", skip=n, status=500) for n in (0, 3, 7)],
    "dropped": [Fault("GET", ".tar", skip=2, times=4, drop=True)],
    "reset in the body": [Fault("GET", ".tar", skip=n, end_at=700, end="rst") for n in range(4)],
    "end in the body": [Fault("GET", ".tar", skip=n, end_at=700) for n in range(4)],
    "stall": [Fault("GET", ".tar", skip=2, end_at=300, end="stall")],
    "slow body": [Fault("GET", ".tar", skip=1, times=3, rate=40_000)],
    "late answers": [Fault("GET", ".tar", times=20, latency_s=0.2)],
    "flipped bits": [Fault("GET", ".tar", skip=n, flip_at=333) for n in (0, 5, 9)],
    "truncated answer": [Fault("GET", ".tar", skip=n, end_at=0) for n in (0, 4)],
    "head breaks off": [Fault("GET", ".tar", skip=n, head_bytes=40) for n in (1, 6)],
    "lost answer": [Fault("GET", ".tar", skip=3, lose=True)],
    "expired once": [Fault("GET", ".tar", skip=4, status=400, code="ExpiredToken")],
    "all at once": [
        Fault("GET", ".tar", skip=0, status=503),
        Fault("GET", ".tar", skip=3, end_at=400, end="rst"),
        Fault("GET", ".tar", skip=5, flip_at=99),
        Fault("GET", ".tar", skip=6, drop=True),
    ],
}


@FIRST_KIND
@pytest.mark.parametrize("fault", PASSING)
def test_epoch_through_a_fault_that_passes_has_exactly_its_samples(
    place: Place, proxy: FaultProxy, fault: str
) -> None:
    expected = epochs_of(made(place.folder).loader(threads=0), 1)
    dataset = made(place.url)
    faults = [replace(one) for one in PASSING[fault]]
    proxy.faults = faults
    loader = dataset.loader(threads=2)
    assert epochs_of(loader, 1) == expected
    loader.close()
    assert any(request.fault for request in proxy.requests), "no fault was met"


def test_epoch_goes_on_when_the_server_is_killed_and_comes_back(
    videos: Place, s3_server: S3Server, proxy: FaultProxy
) -> None:
    expected = epochs_of(made(videos.folder).loader(threads=0), 2)
    loader = made(videos.url).loader(threads=2)
    batches = []
    for number in range(2):
        for place, batch in enumerate(loader):
            batches.append(plain(batch))
            if (number, place) == (0, 1):
                s3_server.stop()
                back = threading.Timer(0.5, s3_server.start)
                back.start()
    back.join()
    assert batches == expected
    loader.close()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            Fault("GET", ".tar", times=None, status=503),
            r"train-\d+\.tar: .* SlowDown; given up",
        ),
        (
            Fault("GET", ".tar", times=None, status=400, code="ExpiredToken"),
            r"train-\d+\.tar: ExpiredToken: the credentials have expired",
        ),
        (Fault("GET", ".tar", times=None, drop=True), r"train-\d+\.tar: .*; given up after"),
        (Fault("GET", ".tar", times=None, end_at=10), r"train-\d+\.tar: .*; given up after"),
        (Fault("GET", ".tar", times=None, flip_at=60), r"train-\d+\.tar.* not what was packed"),
    ],
    ids=["storm", "expired", "dropped", "cut", "flipped"],
)
def test_epoch_through_a_fault_that_stays_is_an_error_in_time(
    place: Place, proxy: FaultProxy, fault: Fault, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = made(place.url)
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0.2")
    proxy.faults = [fault]
    started = time.monotonic()
    loader = dataset.loader(threads=2)
    with pytest.raises((StorageError, CorruptShardError), match=says):
        list(loader)
    assert time.monotonic() - started < 10
    loader.close()


def test_epoch_over_an_object_that_is_replaced_is_an_error_that_says_so(
    copied: Place, proxy: FaultProxy
) -> None:
    dataset = made(copied.url)
    list(dataset)
    for shard in sorted((copied.folder / "train").glob("*.tar")):
        copied.bucket.put(f"train/{shard.name}", shard.read_bytes()[:-1] + b"x")
    dataset.set_epoch(1)
    with pytest.raises(StorageError, match="it was replaced while it was being read"):
        list(dataset)
    assert proxy.requests
