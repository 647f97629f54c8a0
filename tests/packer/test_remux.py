"""Recipe `remux`: whatever the container was, the shard holds an mp4 with the same frames."""

from pathlib import Path

import av
import makers
import numpy as np
import pytest

from clipshards.packer import Recipe, VideoRecord, pack
from clipshards.readers import verify
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """One video in three containers, and one that no mp4 can hold."""
    folder = tmp_path / "media"
    folder.mkdir()
    source = makers.short_video(3, frames=20, sound=False)
    (folder / "a.mp4").write_bytes(source)
    for name, form in (("a.mkv", "matroska"), ("a.mov", "mov")):
        with av.open(folder / "a.mp4") as given, av.open(folder / name, "w", format=form) as made:
            stream = made.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    made.mux(packet)
    with av.open(folder / "b.webm", "w", format="webm") as made:
        stream = made.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))
    return folder


def test_every_container_becomes_an_mp4_with_the_same_frames(media: Path, tmp_path: Path) -> None:
    names = ("a.mp4", "a.mkv", "a.mov")
    report = pack(
        [VideoRecord(name, (0,)) for name in names],
        tmp_path / "set",
        split="train",
        media_root=media,
        recipe=Recipe(media="remux"),
    )
    assert (report.rejects, report.warnings) == ((), ())
    split = open_dataset(tmp_path / "set")
    assert split.manifest.recipe == {
        "media": "remux",
        "frame_table": "decode",
        "audio": "keep",
    }
    frames = np.stack(makers.frames_of((media / "a.mp4").read_bytes()))
    for number in range(3):
        assert list(split.read_sample(0, number).parts) == ["json", "frames.npy", "mp4"]
        np.testing.assert_array_equal(ItemReader(split).read(number, number=0)["frames"], frames)
    assert verify(tmp_path / "set").whole


def test_what_an_mp4_cannot_hold_is_a_reject(media: Path, tmp_path: Path) -> None:
    report = pack(
        [VideoRecord("a.mp4", (0,)), VideoRecord("b.webm", (1,))],
        tmp_path / "set",
        split="train",
        media_root=media,
        recipe=Recipe(media="remux"),
    )
    (row,) = report.rejects
    assert row.message.startswith("'b.webm': the video cannot be remuxed without loss")


def test_a_mixed_split_names_the_remedy(media: Path, tmp_path: Path) -> None:
    records = [VideoRecord("a.mp4", (0,)), VideoRecord("a.mkv", (0,))]
    report = pack(records, tmp_path / "set", split="train", media_root=media)
    assert "recipe remux makes all mp4" in report.warnings[0]
