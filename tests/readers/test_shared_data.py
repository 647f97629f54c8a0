"""Real videos: packed, and read back as a plain decode gives them."""

from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.one_call import pack
from clipshards.readers.clips import DenseClip, Span, UniformClip
from clipshards.readers.data import ShardDataset
from clipshards.readers.integrity import verify
from clipshards.readers.opening import open_dataset
from clipshards.readers.video import VideoItem, open_video

Frames = npt.NDArray[np.uint8]


class List(NamedTuple):
    """One of the annotations beside the videos."""

    file: str
    labels: LabelMode
    entries: dict[str, list[int]]


LISTS = {
    "train": List(
        "video_train.txt",
        "one",
        {
            "demo.mp4": [6],
            "demo_skeleton.mp4": [99],
            "test_video_structuralize.mp4": [3],
            "clip_audio.mp4": [127],
        },
    ),
    "val": List("video_val.txt", "one", {"demo.mp4": [6], "clip_audio.mp4": [127]}),
    "many": List(
        "video_multilabel.txt",
        "many",
        {
            "demo.mp4": [6, 9],
            "demo_skeleton.mp4": [2],
            "test_video_structuralize.mp4": [0, 3, 7],
        },
    ),
}
FRAMES = {
    "demo.mp4": 280,
    "demo_skeleton.mp4": 72,
    "test_video_structuralize.mp4": 300,
    "clip_audio.mp4": 75,
}


@pytest.fixture(scope="module")
def packed(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "set"
    for split, (file, labels, entries) in LISTS.items():
        records = VideoList(shared_data / "annotations" / file, labels=labels)
        report = pack(
            records, out, split=split, media_root=shared_data / "videos", shard_size=900_000
        )
        assert (report.packed, report.rejects) == (len(entries), ())
    return out


def test_the_packed_lists_are_whole(packed: Path) -> None:
    report = verify(packed)
    assert report.damage == []
    assert report.samples == 9


@pytest.mark.parametrize("split", LISTS)
def test_real_lists_stream_with_their_labels(packed: Path, split: str) -> None:
    def shrink(item: VideoItem) -> dict[str, Any]:
        return {**item, "frames": item["frames"][:, :8, :8]}

    opened = open_dataset(packed, split=split)
    dataset = ShardDataset(opened, batch_size=2, clip=UniformClip(3), transform=shrink)
    found = {}
    for batch in dataset:
        for row, name in enumerate(batch["id"]):
            labels = batch["labels"][row] if "labels" in batch else batch["label"][row : row + 1]
            found[name] = labels.tolist()
            assert batch["total_frames"][row] == FRAMES[name]
    assert found == LISTS[split].entries


def test_frames_of_real_videos_equal_a_plain_decode(packed: Path, shared_data: Path) -> None:
    read: dict[str, list[tuple[int, Frames]]] = {name: [] for name in FRAMES}
    split = open_dataset(packed, split="train")
    dataset = ShardDataset(split, batch_size=1, clip=UniformClip(6), seed=2)
    for epoch in (0, 1):
        for number in range(len(dataset)):
            batch = dataset.read_batch(epoch, number)
            pairs = zip(batch["frame_numbers"][0].tolist(), batch["frames"][0].numpy(), strict=True)
            read[batch["id"][0]] += pairs
    rng = np.random.default_rng(0)
    for item in range(len(split)):
        place = split.place_of(item)
        raw = split.read_sample(place.shard, place.sample)
        about, table, video = open_video(TASKS["video"].decode_all(raw.parts, where="x"))
        assert len(table), "the video has no frame table"
        total = about.video.frames
        for numbers in (
            rng.integers(0, total, 12),
            np.array([total - 1, 0, total - 2, 0]),
            DenseClip(8, 3).choose(Span(total), np.random.RandomState(0)),
        ):
            frames = decode_frames(video, numbers, info=about.video, table=table)
            read[about.id] += zip(numbers.tolist(), frames, strict=True)
    for name, frames_read in read.items():
        assert len(frames_read) == 2 * 6 + 12 + 4 + 8
        with av.open(shared_data / "videos" / name) as container:
            for number, frame in enumerate(container.decode(video=0)):
                found = [pixels for wanted, pixels in frames_read if wanted == number]
                if found:
                    expected = frame.to_ndarray(format="rgb24")
                    for pixels in found:
                        np.testing.assert_array_equal(pixels, expected)
        assert number == FRAMES[name] - 1
