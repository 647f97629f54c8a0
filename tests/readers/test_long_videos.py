"""Of long videos only the packets that clips need are read: the same pixels, each one checked."""

import io
import re
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from counted_storage import Far, Near

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, StorageError
from clipshards.packer.frames import scan
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.one_call import pack
from clipshards.packer.recipe import Recipe
from clipshards.readers import (
    Clip,
    DenseClip,
    ShardDataset,
    Span,
    UniformClip,
    byte_ranges,
    open_dataset,
)
from clipshards.readers.integrity import verify
from clipshards.readers.lookahead import Lookahead
from clipshards.readers.split import Split

CLIPS: dict[str, Clip] = {"sparse": UniformClip(3), "dense": DenseClip(4, stride=2)}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with videos and their list."""
    folder = tmp_path_factory.mktemp("long")
    lines = []
    for number in range(6):
        write_video(
            folder / f"{number}.mp4", frames=150 + number, width=160, height=120, seed=number
        )
        lines.append(f"{number}.mp4 {number % 3}\n")
    (folder / "list.txt").write_text("".join(lines))
    return folder


def packed(media: Path, name: str, recipe: Recipe) -> Path:
    source = VideoList(media / "list.txt")
    options: dict[str, Any] = {"media_root": media, "shard_size": 100_000, "recipe": recipe}
    pack(source, media / name, split="train", **options)
    return media / name


@pytest.fixture(scope="module")
def place(media: Path) -> Path:
    """Return a data set of videos with a group of pictures every 12 frames."""
    return packed(media, "set", Recipe())


@pytest.fixture(scope="module")
def untold(media: Path) -> Path:
    """Return the same one without frame tables."""
    return packed(media, "untold", Recipe(frame_table="none"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small videos count as long, and ranges as worth a request."""
    for name in ("NEAR", "FAR"):
        joining = getattr(byte_ranges, name)
        monkeypatch.setattr(byte_ranges, name, joining._replace(long=1000, gap=256))


def epoch(split: Split, clip: Any, **options: Any) -> list[dict[str, Any]]:
    return list(ShardDataset(split, batch_size=2, clip=clip, seed=5, **options))


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a["frames"], b["frames"]) and a["key"] == b["key"]
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", [Near, Far])
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.usefixtures("short")
def test_clips_are_the_same_and_less_is_read(place: Path, name: str, kind: type[Near]) -> None:
    clip = CLIPS[name]
    whole = open_dataset(place)
    whole.storage = Near(str(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_ranges, "NEAR", byte_ranges.NEAR._replace(long=2**40))
        expected = epoch(whole, clip)
    split = open_dataset(place)
    split.storage = kind(str(place))
    assert same(epoch(split, clip), expected)
    assert split.storage.bytes < 0.7 * whole.storage.bytes


@pytest.mark.usefixtures("short")
def test_without_a_clip_all_is_read(place: Path) -> None:
    split = open_dataset(place)
    split.storage = storage = Near(str(place))
    items = list(ShardDataset(split, batch_size=1))
    assert storage.bytes > 0.9 * split.manifest.size_bytes / 2
    assert len(items) == 6


@pytest.mark.parametrize("kind", [Near, Far])
@pytest.mark.usefixtures("short")
def test_damaged_packet_is_named_or_read_again(place: Path, kind: type[Near]) -> None:
    class Flipping(kind):  # type: ignore[misc,valid-type]
        """Alters one byte of each large read, as often as it is told to."""

        times = 0

        def read(self, name: str, offset: int, size: int) -> bytes:
            data: bytes = super().read(name, offset, size)
            if size > 400 and offset % 512 and self.times:
                self.times -= 1
                return data[:-1] + bytes((data[-1] ^ 1,))
            return data

    expected = epoch(open_dataset(place), CLIPS["sparse"])
    split = open_dataset(place)
    split.storage = storage = Flipping(str(place))
    storage.times = 2 if storage.far else 0
    assert same(epoch(split, CLIPS["sparse"]), expected)
    storage.times = 10**9
    with pytest.raises(CorruptShardError, match=r"train-\d+\.mp4: .* are not what was packed"):
        epoch(split, CLIPS["sparse"])


@pytest.mark.usefixtures("short")
def test_storage_that_fails_in_the_second_stage_says_so(place: Path) -> None:
    class Failing(Far):
        fails = False

        def read(self, name: str, offset: int, size: int) -> bytes:
            if self.fails and offset % 512:
                raise StorageError(f"{name}: gone")
            return super().read(name, offset, size)

    split = open_dataset(place)
    split.storage = storage = Failing(str(place))
    epoch(split, CLIPS["sparse"])
    storage.fails = True
    with pytest.raises(StorageError, match="gone"):
        epoch(split, CLIPS["sparse"])


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"workers": 2}])
@pytest.mark.usefixtures("short")
def test_every_way_to_make_batches_reads_them(place: Path, way: Any) -> None:
    expected = epoch(open_dataset(place), CLIPS["dense"])
    split = open_dataset(place)
    split.storage = Far(str(place))
    loader = ShardDataset(split, batch_size=2, clip=CLIPS["dense"], seed=5).loader(**way)
    for _ in range(2):
        loader.dataset.set_epoch(0)
        assert same(list(loader), expected)
    loader.close()


class Held(Far):
    """A far folder that answers late and knows what bytes are under way, or had and kept."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.now = self.most = self.begun = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4)

    def begin_read(self, name: str, offset: int, size: int) -> Future[bytes]:
        def late() -> bytes:
            time.sleep(0.002)
            return self.read(name, offset, size)

        with self._lock:
            self.begun += 1
            self.now += size
            self.most = max(self.most, self.now)
        future = self._pool.submit(late)
        weakref.finalize(future, self._let_go, size)
        return future

    def _let_go(self, size: int) -> None:
        with self._lock:
            self.now -= size


@pytest.mark.parametrize("known", [True, False], ids=["all is needed", "no frame tables"])
def test_long_videos_keep_to_what_may_be_under_way_and_fill_it(
    place: Path, untold: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far shorter than what is read, as 8 MiB are beside a film.
    far = byte_ranges.FAR._replace(long=1000, gap=256, large=1000, most=1000)
    monkeypatch.setattr(byte_ranges, "FAR", far)
    split = open_dataset(place if known else untold)
    split.storage = storage = Held(str(place if known else untold))
    largest = max(file.stat().st_size for file in place.parent.glob("*.mp4"))
    limit = 4 * largest
    defaults = Lookahead.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "most_bytes", limit)
    dataset = ShardDataset(split, batch_size=2, clip=DenseClip(150), repeat=4)
    ahead = []
    for _ in dataset:
        # The small parts come; what else is under way was begun before this batch was made.
        ahead.append(storage.now)
        time.sleep(0.01)
    assert len(ahead) == 12
    # Beside two videos that are being made, and one that an idle thread has not let go.
    assert storage.most <= limit + (1 + 2 + 1) * largest
    assert all(now >= limit - largest for now in ahead[3:-4]), ahead


@pytest.mark.usefixtures("short")
def test_packets_are_under_way_before_their_batch_is_asked_for(place: Path) -> None:
    split = open_dataset(place)
    split.storage = storage = Held(str(place))
    batches = iter(ShardDataset(split, batch_size=2, clip=CLIPS["sparse"], repeat=4))
    for _ in range(2):
        next(batches)
        time.sleep(0.05)
    next(batches)
    begun = storage.begun
    assert len(list(batches)) == 9
    assert storage.begun == begun


@pytest.mark.usefixtures("short")
def test_clip_that_cannot_be_chosen_fails_in_its_own_batch(place: Path) -> None:
    class Picky(UniformClip):
        def choose(self, span: Span, generator: np.random.RandomState) -> Any:
            if span.total_frames == 152:
                raise ValueError("so long")
            return super().choose(span, generator)

    had: list[list[str]] = []
    for kind in (Near, Far):
        split = open_dataset(place)
        split.storage = kind(str(place))
        batches = iter(ShardDataset(split, batch_size=1, clip=Picky(3), shuffle=False))
        keys: list[str] = []
        with pytest.raises(ValueError, match="so long") as caught:
            keys.extend(key for batch in batches for key in batch["key"])
        (note,) = caught.value.__notes__
        given = r"Span\(total_frames=152, .*\) of item \d+ of .*"
        assert re.fullmatch(rf"in .*Picky\(length=3, jitter=True\), given {given}", note)
        had.append(keys)
    assert had[0] == had[1]
    # It was looked at ahead, with those that come before it.
    assert len(had[0]) > 1


def test_batches_behind_one_that_cannot_be_begun_are_not_begun(place: Path) -> None:
    class Failing(Far):
        files: ClassVar[list[str]] = []

        def read(self, name: str, offset: int, size: int) -> bytes:
            self.files.append(name)
            if name != self.files[0]:
                raise StorageError(f"{name}: gone")
            return super().read(name, offset, size)

    split = open_dataset(place)
    split.storage = storage = Failing(str(place))
    assert len(split.manifest.shards) > 3
    batches = iter(ShardDataset(split, batch_size=1, shuffle=False))
    next(batches)
    assert len(set(storage.files)) == 2
    with pytest.raises(StorageError, match="gone"):
        list(batches)
    assert len(set(storage.files)) == 2


@pytest.mark.usefixtures("short")
def test_what_the_cache_is_to_have_is_read_whole(place: Path, tmp_path: Path) -> None:
    expected = epoch(open_dataset(place), CLIPS["sparse"])
    split = open_dataset(place, cache_dir=tmp_path)
    split.storage = storage = Far(str(place))
    assert same(epoch(split, CLIPS["sparse"]), expected)
    storage.bytes = 0
    epoch(split, CLIPS["dense"])
    assert storage.bytes == 0


def test_verify_names_a_packet_whose_checksum_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", frames=9, width=64, height=48)
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    wrong = {"size": -1}
    monkeypatch.setattr(scan, "crc32c", lambda data: crc32c(data) ^ (len(data) == wrong["size"]))
    clean = pack(VideoList(tmp_path / "list.txt"), tmp_path / "a", split="a", media_root=tmp_path)
    assert not list(verify(tmp_path / "a").findings)
    split = open_dataset(tmp_path / "a")
    wrong["size"] = int(np.load(io.BytesIO(split.read_sample(0, 0).parts["frames.npy"]))[4, 1])
    pack(VideoList(tmp_path / "list.txt"), tmp_path / "b", split="a", media_root=tmp_path)
    (finding,) = verify(tmp_path / "b").findings
    assert (finding.part, clean.packed) == ("frames.npy", 1)
    assert "its checksum is another one" in finding.message
