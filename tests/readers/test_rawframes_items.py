"""Items of raw frames: keys, stretches, and what is refused when a part is not as it should be."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import makers
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import DecodeError, FormatError
from clipshards.packer.format.frame_table import CRC32C
from clipshards.packer.format.json_parts import RawframesJson, StretchJson
from clipshards.packer.media.stills import mux_stills
from clipshards.packer.one_call import pack
from clipshards.packer.records import FrameRange, RawframesRecord
from clipshards.packer.samples.base import Sample, make_sample
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.integrity import verify
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset
from clipshards.readers.rawframes import RawframesItem

Pixels = npt.NDArray[np.uint8]

SIZE = (20, 12)
STRETCHES = ((0, 10), (4, 3), (9, 1), (4, 3))


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    return list(makers.pictures(10, SIZE, seed=5))


@pytest.fixture(scope="module")
def packed(pictures: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of PNGs, which are exact, with four stretches; and its flow."""
    folder = tmp_path_factory.mktemp("rawframes_items")
    (folder / "clip").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / "clip" / f"{number}.png")
        for axis, channel in (("x", 0), ("y", 1)):
            Image.fromarray(picture[..., channel]).save(folder / "clip" / f"{axis}_{number}.png")
    ranges = tuple(
        FrameRange(offset=offset, total_frames=total, labels=(label,))
        for label, (offset, total) in enumerate(STRETCHES)
    )
    for split, template in (("rgb", "{}.png"), ("flow", "{}_{}.png")):
        record = RawframesRecord(
            folder="clip", ranges=ranges, filename_tmpl=template, start_index=0, id="mine"
        )
        pack([record], folder / "set", split=split, media_root=folder)
    return folder / "set"


def test_the_keys_of_an_item_are_those_documented(packed: Path) -> None:
    documented = set(get_type_hints(RawframesItem)) - {"labels"}
    for split in ("rgb", "flow"):
        item = ItemReader(open_dataset(packed, split=split)).read(0, number=0)
        assert set(item) == documented
        assert (item["key"], item["id"]) == (f"{split}-00000000", "mine")
        for name in ("offset", "total_frames", "label"):
            assert type(item[name]) is int


def test_every_stretch_is_an_item_with_its_own_frames_and_label(
    packed: Path, pictures: list[Pixels]
) -> None:
    reader = ItemReader(open_dataset(packed, split="rgb"))
    assert len(reader.split) == len(STRETCHES)
    for number, (offset, total) in enumerate(STRETCHES):
        item = reader.read(number, number=0)
        expected = np.stack(pictures[offset : offset + total])
        assert item["frames"].dtype == np.uint8
        np.testing.assert_array_equal(item["frames"], expected)
        assert (item["offset"], item["total_frames"], item["label"]) == (offset, total, number)
        assert (item["key"], item["item"]) == ("rgb-00000000", number)


def test_flow_has_two_channels_x_first(packed: Path, pictures: list[Pixels]) -> None:
    item = ItemReader(open_dataset(packed, split="flow")).read(1, number=0)
    assert item["frames"].shape == (3, 12, 20, 2)
    np.testing.assert_array_equal(item["frames"], np.stack(pictures[4:7])[..., :2])


@pytest.mark.parametrize(
    "clip", [UniformClip(4), UniformClip(2, jitter=False), DenseClip(5), DenseClip(2, 3)], ids=repr
)
def test_clips_stay_inside_their_stretch(
    packed: Path, pictures: list[Pixels], clip: UniformClip | DenseClip
) -> None:
    reader = ItemReader(open_dataset(packed, split="rgb"), clip=clip, seed=2)
    for epoch in range(4):
        for number, (offset, total) in enumerate(STRETCHES):
            item = reader.read(number, number=epoch)
            numbers = item["frame_numbers"]
            assert (numbers.dtype, numbers.shape) == (np.int64, (clip.length,))
            assert 0 <= numbers.min() <= numbers.max() < total
            expected = np.stack([pictures[offset + n] for n in numbers.tolist()])
            np.testing.assert_array_equal(item["frames"], expected)


def test_two_items_of_one_stretch_draw_their_own_frames(packed: Path) -> None:
    reader = ItemReader(open_dataset(packed, split="rgb"), clip=UniformClip(3))
    chosen = [
        [reader.read(number, number=epoch)["frame_numbers"].tolist() for epoch in range(8)]
        for number in (1, 3)
    ]
    assert STRETCHES[1] == STRETCHES[3]
    assert [sorted(c) for c in chosen[0]] == chosen[0]
    single = ItemReader(open_dataset(packed, split="rgb"), clip=UniformClip(1))
    first, second = (
        [single.read(number, number=epoch)["frame_numbers"].tolist() for epoch in range(8)]
        for number in (1, 3)
    )
    assert first != second


def test_an_item_can_be_changed_without_changing_the_next(packed: Path) -> None:
    reader = ItemReader(open_dataset(packed, split="rgb"))
    item = reader.read(0, number=0)
    before = item["frames"].copy()
    item["frames"][...] = 0
    np.testing.assert_array_equal(reader.read(0, number=0)["frames"], before)


def made(files: list[bytes], **changes: Any) -> Sample:
    """Return a sample of these files, which need not be good ones."""
    good = [png(np.full((4, 4, 3), n, np.uint8)) for n in range(len(files))]
    stills = mux_stills(good, names=[str(n) for n in range(len(files))])
    # The files replace the good ones in a part of their own, one behind the other.
    table = stills.table.copy()
    table[:, 0] = np.cumsum([0, *map(len, files[:-1])])
    table[:, 1] = list(map(len, files))
    table[:, CRC32C] = list(map(crc32c, files))
    about = RawframesJson(
        id="clip",
        origin="list.txt:1",
        filename_tmpl="{}.png",
        start_index=0,
        stretches=(
            StretchJson(offset=0, total_frames=len(files), labels=(0,), origin="list.txt:1"),
        ),
        video=stills.info,
    )
    about = replace(about, **changes)
    return make_sample("rawframes", about, {"mp4": b"".join(files), "frames.npy": table})


def png(picture: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"text", "frame 1: neither JPEG nor PNG"),
        (png(np.zeros((4, 4, 3), np.uint8))[:-20], "frame 1: "),
        (png(np.zeros((4, 6, 3), np.uint8)), r"frame 1 is \(4, 6\)"),
    ],
)
def test_a_frame_that_does_not_decode_is_named_with_its_folder(
    craft: Callable[..., Path], bad: bytes, message: str
) -> None:
    good = png(np.zeros((4, 4, 3), np.uint8))
    place = craft([[made([good, bad, good])]], task="rawframes")
    assert verify(place).findings == []
    reader = ItemReader(open_dataset(place))
    with pytest.raises(DecodeError, match=rf"train-000000.tar: train-00000000 \(clip\): {message}"):
        reader.read(0, number=0)


def test_a_bad_frame_that_is_not_asked_for_does_no_harm(craft: Callable[..., Path]) -> None:
    good = png(np.zeros((4, 4, 3), np.uint8))
    stretch = StretchJson(offset=2, total_frames=1, labels=(0,), origin="x")
    place = craft([[made([good, b"text", good], stretches=(stretch,))]], task="rawframes")
    item = ItemReader(open_dataset(place)).read(0, number=0)
    assert item["frames"].shape == (1, 4, 4, 3)


def test_a_label_too_many_is_refused(craft: Callable[..., Path]) -> None:
    good = png(np.zeros((4, 4, 3), np.uint8))
    stretches = (
        StretchJson(offset=0, total_frames=1, labels=(0,), origin="x"),
        StretchJson(offset=0, total_frames=1, labels=(0, 1), origin="y"),
        StretchJson(offset=0, total_frames=1, labels=(), origin="z"),
    )
    place = craft([[made([good], stretches=stretches)]], task="rawframes")
    findings = [finding.message for finding in verify(place).findings]
    assert findings == [f"{count} labels in a split of mode 'one'" for count in (2, 0)]
    reader = ItemReader(open_dataset(place))
    assert reader.read(0, number=0)["label"] == 0
    for item in (1, 2):
        with pytest.raises(FormatError, match="labels in a split of mode 'one'"):
            reader.read(item, number=0)
