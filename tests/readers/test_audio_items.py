"""Items of sounds: keys, clips, and what is refused when a part is not as it should be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from clipshards.packer.format.errors import CorruptShardError, DatasetError, FormatError
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.one_call import pack
from clipshards.packer.records import AudioRecord
from clipshards.packer.samples.base import Sample, make_sample
from clipshards.readers.audio import AudioItem, select_audio
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.data import ShardDataset
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset

DTYPES = ("<f2", "<f4", "<f8")


def mel(dtype: str = "<f4", *, rows: int = 6) -> Any:
    return (np.arange(rows * 8).reshape(rows, 8) / 4).astype(dtype)


def sample(number: int, value: Any, *, total_frames: int = 9) -> Sample:
    about = AudioJson(
        id=f"{number}.npy",
        origin=f"list.txt:{number + 1}",
        labels=(number,),
        total_frames=total_frames,
    )
    return make_sample("audio", about, {"mel.npy": value})


@pytest.fixture
def place(craft: Callable[..., Path]) -> Path:
    """A split with one sound of each dtype."""
    return craft([[sample(n, mel(dtype)) for n, dtype in enumerate(DTYPES)]], task="audio")


def read(place: Path, clip: Any = None, *, epoch: int = 0) -> list[dict[str, Any]]:
    reader = ItemReader(open_dataset(place), clip=clip)
    return [reader.read(item, number=epoch) for item in range(len(reader.split))]


def test_the_keys_of_an_item_are_those_documented(place: Path) -> None:
    for number, item in enumerate(read(place)):
        assert set(item) == set(get_type_hints(AudioItem)) - {"labels"}
        assert (item["key"], item["id"]) == (f"train-0000000{number}", f"{number}.npy")
        assert type(item["total_frames"]) is type(item["label"]) is int


def test_features_come_whole_in_their_dtype_whatever_the_clip(place: Path) -> None:
    for clip in (None, UniformClip(3), DenseClip(4, 2)):
        for item, dtype in zip(read(place, clip), DTYPES, strict=True):
            assert item["audios"].dtype == np.dtype(dtype)
            np.testing.assert_array_equal(item["audios"], mel(dtype))


def test_the_frames_of_a_clip_are_those_of_the_video(place: Path) -> None:
    for item in read(place):
        np.testing.assert_array_equal(item["frame_numbers"], np.arange(9))
    seen = set()
    for epoch in range(8):
        for item in read(place, UniformClip(2), epoch=epoch):
            numbers = item["frame_numbers"]
            assert (numbers.dtype, numbers.shape) == (np.int64, (2,))
            assert 0 <= numbers.min() <= numbers.max() < 9
            seen.add(tuple(numbers.tolist()))
    assert len(seen) > 5


def test_an_item_can_be_changed_without_changing_the_next(place: Path) -> None:
    for item in read(place):
        item["audios"][...] = -1
    assert all(item["audios"].min() == 0 for item in read(place))


def test_sounds_of_one_shape_become_a_batch(craft: Callable[..., Path]) -> None:
    place = craft([[sample(n, mel() + n) for n in range(3)]], task="audio")
    dataset = ShardDataset(
        open_dataset(place), batch_size=3, clip=UniformClip(4, jitter=False), shuffle=False
    )
    (batch,) = dataset
    assert batch["audios"].shape == (3, 6, 8)
    assert batch["audios"][2].tolist() == (mel() + 2).tolist()
    assert batch["frame_numbers"].shape == (3, 4)
    assert batch["label"].tolist() == [0, 1, 2]
    assert batch["id"] == ["0.npy", "1.npy", "2.npy"]


@pytest.mark.parametrize("part", ["mel.npy", "json"])
@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x80\x04N.", b"{}"])
def test_a_part_of_other_bytes_is_refused(
    craft: Callable[..., Path], part: str, data: bytes
) -> None:
    good = sample(0, mel())
    place = craft([[replace(good, parts={**good.parts, part: data})]], task="audio")
    with pytest.raises(FormatError, match=rf"train-00000000\.{part}"):
        read(place)


@pytest.mark.parametrize("odd", [np.nan, -np.inf])
def test_features_that_are_not_numbers_are_rejected(tmp_path: Path, odd: float) -> None:
    value = mel()
    value[2, 3] = odd
    np.save(tmp_path / "a.npy", value)
    np.save(tmp_path / "b.npy", mel())
    records = [AudioRecord(path=f"{n}.npy", total_frames=3, labels=(0,)) for n in "ab"]
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    (row,) = report.rejects
    assert row.message == "'a.npy': expected finite numbers, got NaN or infinity"


def test_more_frames_than_any_video_has_do_not_fill_the_memory(tmp_path: Path) -> None:
    """The reader counts frames in an array; a false count must not become a huge one."""
    np.save(tmp_path / "a.npy", mel())
    record = AudioRecord(path="a.npy", total_frames=4 * 10**18, labels=(0,))
    with pytest.raises(DatasetError):
        pack_and_read(record, tmp_path)


def pack_and_read(record: AudioRecord, folder: Path) -> None:
    pack([record], folder / "set", split="train", media_root=folder)
    read(folder / "set")


def test_kept_sound_is_not_read_with_an_item(craft: Callable[..., Path]) -> None:
    about = AudioJson(
        id="a",
        origin="list.txt:1",
        labels=(0,),
        total_frames=9,
        codec="flac",
        sample_rate_hz=8000,
        channels=1,
        duration_s=1.0,
    )
    sound = b"fLaC" + bytes(1000)
    place = craft([[make_sample("audio", about, {"mel.npy": mel(), "flac": sound})]], task="audio")
    (shard,) = (place / "train").glob("*.tar")
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"fLaC", b"fLaX", 1))
    (item,) = read(place)
    np.testing.assert_array_equal(item["audios"], mel())
    split = open_dataset(place)
    assert list(split.read_sample(0, 0, without=["flac"]).parts) == ["json", "mel.npy"]
    with pytest.raises(CorruptShardError, match="flac"):
        split.read_sample(0, 0)


def sound(frames: list[int], rows: int) -> dict[str, Any]:
    return {
        "key": "k",
        "audios": np.arange(1, 2 * rows + 1, dtype=np.float32).reshape(rows, 2),
        "frame_numbers": np.array(frames),
        "total_frames": 10,
    }


def test_each_clip_gets_its_part_of_the_sound() -> None:
    item = sound([0, 3, 5, 9], 40)
    found = select_audio(item, clips=2, length=6)
    # From (first + 1) / total of all rows to (last + 1) / total of them.
    assert found["audios"].dtype == np.float32
    np.testing.assert_array_equal(found["audios"][0], item["audios"][4:10])
    np.testing.assert_array_equal(found["audios"][1], item["audios"][24:30])
    assert found["audios"].shape == (2, 6, 2)
    assert found["key"] == "k"
    longer = select_audio(item, clips=2, length=20)["audios"]
    np.testing.assert_array_equal(longer[0, :12], item["audios"][4:16])
    np.testing.assert_array_equal(longer[1, :16], item["audios"][24:40])
    assert not longer[0, 12:].any()
    assert not longer[1, 16:].any()
    assert len(item["audios"]) == 40


@pytest.mark.parametrize(
    ("frames", "start", "stop"),
    [
        # Half to even: rows 2.5 and 7.5 of 25.
        ([0, 2], 2, 8),
        # A clip that begins again at the start of the video.
        ([8, 1], 0, 0),
        ([9, 9], 0, 0),
    ],
)
def test_sound_is_selected_as_mmaction2_rounds(frames: list[int], start: int, stop: int) -> None:
    item = sound(frames, 25)
    found = select_audio(item, length=128)["audios"]
    np.testing.assert_array_equal(found[0, : stop - start], item["audios"][start:stop])
    assert not found[0, stop - start :].any()


@pytest.mark.parametrize("arguments", [{"clips": 0}, {"length": 0}, {"clips": 3}])
def test_clips_that_the_frames_are_not_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 each, and 4 frames to be a multiple"):
        select_audio(sound([0, 1, 2, 3], 25), **arguments)
