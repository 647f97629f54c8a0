"""Folders of JPEG and PNG frames that become one mp4, and come back bit for bit."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import RANDOM_ACCESS, check_frame_table
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.stills import decode_stills, split_stills
from clipshards.packer.media.stills import StillsVideo, check_stills, list_frames, mux_stills
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.records import FrameRange, Origin

Pixels = npt.NDArray[np.uint8]


def scene(seed: int = 0, size: tuple[int, int] = (24, 16), channels: int = 3) -> Pixels:
    width, height = size
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


def saved(
    pixels: npt.NDArray[np.unsignedinteger], kind: str = "JPEG", mode: str = "", **options: Any
) -> bytes:
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, kind, **options)
    return out.getvalue()


def exif(turn: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = turn
    return block


def frames(count: int, **options: Any) -> list[bytes]:
    return [saved(scene(seed), **options) for seed in range(count)]


def names_of(files: Sequence[bytes]) -> list[str]:
    return [f"img_{number:05}.jpg" for number in range(1, len(files) + 1)]


def muxed(files: Sequence[bytes], **options: Any) -> StillsVideo:
    return mux_stills(files, names=names_of(files), **options)


def refused(files: Sequence[bytes]) -> str:
    with pytest.raises(MediaError) as caught:
        muxed(files)
    return str(caught.value)


PLAIN = saved(scene())
PNG = saved(scene(), "PNG")
XMP = b"\xff\xe1\x00\x22http://ns.adobe.com/xap/1.0/\0<x/>"

IN_THE_WILD = {
    "plain": PLAIN,
    "4:4:4": saved(scene(), subsampling=0),
    "4:2:2": saved(scene(), subsampling=1),
    "gray": saved(scene(), mode="L"),
    "cmyk": saved(scene(), mode="CMYK"),
    "rgb": saved(scene(), keep_rgb=True),
    "progressive": saved(scene(), progressive=True),
    "restart markers": saved(scene(), restart_marker_blocks=1),
    "exif": saved(scene(), exif=exif(1)),
    "turned": saved(scene(), exif=exif(6)),
    "thumbnail": PLAIN[:2] + b"\xff\xe2" + struct.pack(">H", len(PLAIN) + 2) + PLAIN + PLAIN[2:],
    "icc": saved(scene(), icc_profile=b"profile" * 20000),
    "xmp": PLAIN[:2] + XMP + PLAIN[2:],
    "comment": saved(scene(), comment=b"hello"),
    "trailing bytes": PLAIN + b"behind the picture",
    "trailing picture": PLAIN + PLAIN,
    "fill bytes": PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
    "mpo": saved(scene(), "MPO", save_all=True, append_images=[Image.fromarray(scene(1))]),
    "png": PNG,
    "png, alpha": saved(scene(channels=4), "PNG"),
    "png, palette": saved(scene(), "PNG", mode="P"),
    "png, one bit": saved(scene(), "PNG", mode="1"),
    "png, 16 bits": saved(scene()[..., 0].astype(np.uint16) * 257, "PNG"),
    "png, animated": saved(
        scene(), "PNG", save_all=True, append_images=[Image.fromarray(scene(1))]
    ),
    "png, trailing bytes": PNG + b"behind the picture",
}


@pytest.mark.parametrize("kind", IN_THE_WILD)
def test_files_come_back_bit_for_bit(kind: str) -> None:
    files = [IN_THE_WILD[kind]] * 3
    video = muxed(files)
    assert split_stills(video.data, video.table) == files
    check_stills(files, names=names_of(files))
    clip = decode_stills(video.data, np.array([2, 0]), table=video.table)
    assert clip.shape == (2, video.info.height, video.info.width, 3)


@pytest.mark.parametrize("kind", IN_THE_WILD)
def test_ffmpeg_plays_the_frames(kind: str) -> None:
    video = muxed([IN_THE_WILD[kind]] * 3, rate=10)
    with av.open(io.BytesIO(video.data), "r") as container:
        stream = container.streams.video[0]
        shown = list(container.decode(stream))
        assert stream.average_rate == 10
        assert stream.frames == len(shown) == 3
        assert [frame.time for frame in shown] == [0.0, 0.1, 0.2]
        assert (shown[0].width, shown[0].height) == (24, 16)


@pytest.mark.parametrize(
    ("rate", "fraction"),
    [
        (25, Fraction(25)),
        (29.97, Fraction(2997, 100)),
        (30000 / 1001, Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (0.001, Fraction(1, 1000)),
        (1000, Fraction(1000)),
    ],
)
def test_rate_reaches_the_container_and_the_description(rate: float, fraction: Fraction) -> None:
    files = frames(7)
    video = muxed(files, rate=rate)
    assert video.info.rate == (fraction.numerator, fraction.denominator)
    assert video.info.duration_s == pytest.approx(float(7 / fraction))
    with av.open(io.BytesIO(video.data), "r") as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.average_rate == fraction
        assert stream.time_base == Fraction(*video.info.time_base)
        assert [bytes(packet) for packet in packets] == files
        assert [packet.pts for packet in packets] == video.table[:, 4].tolist()
        assert [packet.pos for packet in packets] == video.table[:, 0].tolist()
        assert all(packet.is_keyframe for packet in packets)


def test_unknown_rate_plays_at_25_and_says_nothing() -> None:
    video = muxed(frames(3))
    assert (video.info.rate, video.info.duration_s) == ((0, 1), 0.0)
    with av.open(io.BytesIO(video.data)) as container:
        assert container.streams.video[0].average_rate == 25


def test_table_and_description_are_whole() -> None:
    files = frames(5)
    video = muxed(files, rate=30)
    check_frame_table(video.table, part_bytes=len(video.data), where="part")
    assert video.table[:, 1].tolist() == [len(data) for data in files]
    assert video.table[:, 2].tolist() == [RANDOM_ACCESS] * 5
    assert video.table[:, 3].tolist() == [0, 1, 2, 3, 4]
    info = video.info
    assert VideoInfo.from_json(info.to_json(), where="json") == info
    # Whoever decodes the files sees what their colours are.
    assert (info.codec, info.codec_tag, info.pixel_format) == ("mjpeg", "mp4v", "")
    assert (info.width, info.height, info.coded_width, info.coded_height) == (24, 16, 24, 16)
    assert (info.frames, info.claimed_frames, info.frame_table) == (5, 5, "decode")
    assert muxed(frames(2, kind="PNG")).info.codec == "png"


def test_size_is_that_of_the_upright_frames() -> None:
    info = muxed(frames(2, exif=exif(6))).info
    assert (info.coded_width, info.coded_height, info.width, info.height) == (24, 16, 16, 24)
    assert info.rotation == 0


PRINT_DIGEST = """
import hashlib, sys
from clipshards.packer.media.stills import mux_stills
files = [open(name, "rb").read() for name in sys.argv[1:]]
print(hashlib.sha256(mux_stills(files, names=sys.argv[1:], rate=29.97).data).hexdigest())
"""


def test_bytes_depend_on_nothing_but_the_files(tmp_path: Path) -> None:
    files = frames(4)
    names = [str(tmp_path / name) for name in names_of(files)]
    for name, data in zip(names, files, strict=True):
        Path(name).write_bytes(data)
    video = muxed(files, rate=29.97)
    for change in ({"TZ": "Asia/Tokyo", "LC_ALL": "C"}, {"TZ": "UTC", "LC_ALL": "C.UTF-8"}):
        done = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST, *names],
            env=os.environ | change,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == hashlib.sha256(video.data).hexdigest()
    # No time of making in the movie, track and media headers, no name of the muxer.
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        start = video.data.rindex(box) + 8
        assert video.data[start : start + 8] == bytes(8)
    assert b"Lav" not in video.data


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"GIF89abc...", "expected JPEG or PNG, got a file that begins with b'GIF89abc'"),
        (b"<html>not found</html>", "expected JPEG or PNG"),
        (PLAIN[:-2], "cut short: no end-of-image marker"),
        (PLAIN[: len(PLAIN) // 2], "cut short"),
        (PLAIN[:30], "cut short: segment 0xdb has no end"),
        (b"\xff\xd8\xff\xd9", "broken: a JPEG without a picture"),
        (PNG, "expected JPEG like img_00001.jpg, got PNG"),
        (saved(scene(size=(24, 17))), "expected 24x16 like img_00001.jpg, got 24x17"),
        (saved(scene(size=(16, 24))), "expected 24x16 like img_00001.jpg, got 16x24"),
        (
            saved(scene(), exif=exif(8)),
            "expected 24x16 like img_00001.jpg, got 16x24 when turned by its EXIF orientation",
        ),
    ],
)
def test_first_file_that_does_not_fit_is_named(bad: bytes, says: str) -> None:
    message = refused([PLAIN, PLAIN, bad, b"", PLAIN])
    assert message.startswith("img_00003.jpg: ")
    assert says in message


def test_jpeg_of_no_height_and_of_two_frame_headers_is_refused() -> None:
    place = PLAIN.index(b"\xff\xc0")
    end = place + 2 + int.from_bytes(PLAIN[place + 2 : place + 4], "big")
    flat = PLAIN[: place + 5] + b"\0\0" + PLAIN[place + 7 :]
    assert refused([flat]) == "img_00001.jpg: the header says 24x0 pixels"
    assert "a second frame header" in refused([PLAIN[:end] + PLAIN[place:end] + PLAIN[end:]])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_broken_png_is_refused() -> None:
    place = PNG.index(b"IDAT") + 20
    altered = PNG[:place] + bytes((PNG[place] ^ 1,)) + PNG[place + 1 :]
    assert "chunk b'IDAT' does not fit its checksum" in refused([PNG, altered])
    assert "cut short: no IEND chunk" in refused([PNG[:-12]])
    assert "cut short" in refused([PNG[:8]])
    start, end = PNG[:8], chunk(b"IEND", b"")
    assert "the header chunk does not stand first" in refused([start + end])
    assert "the header chunk does not stand first" in refused([start + chunk(b"IHDR", b"") + end])
    assert "a PNG without a picture" in refused([PNG[:33] + end])
    for width, height, says in (
        (20_000, 20_000, "20000x20000, a frame may have at most"),
        (70_000, 1, "a side may have at most 65535 pixels"),
        (0, 5, "the header says 0x5 pixels"),
    ):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        assert says in refused([start + header + PNG[33:]])


def test_kinds_are_known_by_their_bytes_and_not_by_names() -> None:
    video = muxed([PNG, PNG])
    assert video.info.codec == "png"


def test_gray_frame_among_colour_ones_is_no_fault() -> None:
    files = [PLAIN, saved(scene(), mode="L")]
    video = muxed(files)
    assert split_stills(video.data, video.table) == files
    assert decode_stills(video.data, np.array([0, 1]), table=video.table).shape == (2, 16, 24, 3)


def test_broken_pixels_pass_the_structure_and_are_found_by_decoding() -> None:
    body = zlib.compress(b"nothing like enough pixels")
    hollow = PNG[:33] + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    files = [PNG, PNG, hollow]
    assert muxed(files).info.frames == 3
    with pytest.raises(MediaError, match=r"img_00003\.jpg: cannot be decoded"):
        check_stills(files, names=names_of(files))


def test_wrong_arguments_are_no_media_errors() -> None:
    with pytest.raises(ValueError, match="expected files and their names"):
        mux_stills([], names=[])
    with pytest.raises(ValueError, match="expected files and their names, got 1 and 2"):
        mux_stills([PLAIN], names=["a", "b"])
    for rate in (-1, 0.0001, 2000, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            muxed([PLAIN], rate=rate)


def ranges_of(*spans: tuple[int, int]) -> list[FrameRange]:
    return [
        FrameRange(offset=offset, total_frames=total, origin=Origin("list.txt", line=line))
        for line, (offset, total) in enumerate(spans, start=1)
    ]


def list_in(folder: Path, *spans: tuple[int, int], **options: Any) -> dict[str, list[str]]:
    """List the frames of `clip` inside a folder."""
    options = {"start_index": 1, "exact": True} | options
    template = options.pop("template", "img_{:05}.jpg")
    return list_frames(MediaRoot(folder), "clip", template, ranges=ranges_of(*spans), **options)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / "clip" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def numbered(*numbers: int, template: str = "img_{:05}.jpg") -> list[str]:
    return [template.format(number) for number in numbers]


def test_frames_are_listed_in_their_order(tmp_path: Path) -> None:
    touch(tmp_path, *numbered(*range(12, 0, -1)))
    assert list_in(tmp_path, (0, 12)) == {"": numbered(*range(1, 13))}
    assert list_in(tmp_path, (0, 12), (0, 12)) == {"": numbered(*range(1, 13))}


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    others = "img_3.jpg img_00003.png img_00003.jpg.bak ximg_00003.jpg img_-0001.jpg img_000003.jpg"
    touch(tmp_path, *numbered(1, 2), *others.split(), "thumbs.db", "flow_x_00001.jpg", "sub/a")
    Path(os.fsdecode(bytes(tmp_path) + b"/clip/img_\xff.jpg")).touch()
    assert list_in(tmp_path, (0, 2)) == {"": numbered(1, 2)}


def test_numbers_outgrow_their_width(tmp_path: Path) -> None:
    template = "{:01}.jpg"
    touch(tmp_path, *numbered(*range(9, 12), template=template))
    listed = list_in(tmp_path, (0, 3), template=template, start_index=9)
    assert listed == {"": ["9.jpg", "10.jpg", "11.jpg"]}


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_first_number_is_the_start_index(tmp_path: Path, start: int) -> None:
    names = numbered(*range(start, start + 3))
    touch(tmp_path, *names)
    assert list_in(tmp_path, (0, 3), start_index=start) == {"": names}


@pytest.mark.parametrize(
    ("template", "x", "y"),
    [
        ("flow_{}_{:05d}.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg"),
        ("{}/{:05}.jpg", "x/00001.jpg", "y/00001.jpg"),
        ("{1}.{0}.png", "1.x.png", "1.y.png"),
    ],
)
def test_flow_templates_find_their_files(tmp_path: Path, template: str, x: str, y: str) -> None:
    touch(tmp_path, x, y)
    assert list_in(tmp_path, (0, 1), template=template) == {"x": [x], "y": [y]}


def test_names_filled_up_with_spaces_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "  9", " 10", "11", " 1 2")
    assert list_in(tmp_path, (0, 2), template="{:3d}", start_index=9) == {"": ["  9", " 10"]}


def refusal(folder: Path, *spans: tuple[int, int], **options: Any) -> str:
    with pytest.raises(MediaError) as caught:
        list_in(folder, *spans, **options)
    return str(caught.value)


def test_more_frames_than_expected_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *numbered(*range(1, 32)))
    assert refusal(tmp_path, (0, 30)) == "img_00031.jpg: expected 30 frames, the folder has 31"


def test_fewer_frames_than_expected_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *numbered(*range(1, 29)))
    says = "img_00029.jpg: missing, expected 30 frames, the folder has 28"
    assert refusal(tmp_path, (0, 30)) == says
    assert refusal(tmp_path, (0, 28), (0, 30)) == says


@pytest.mark.parametrize("exact", [True, False])
def test_gap_is_refused(tmp_path: Path, exact: bool) -> None:
    touch(tmp_path, *numbered(1, 2, 4, 5, 9))
    says = "img_00003.jpg: missing, the folder has 5 frames, the last is img_00009.jpg"
    assert refusal(tmp_path, (0, 5), exact=exact) == says
    assert refusal(tmp_path, (0, 2), exact=exact) == says


def test_gap_before_a_huge_number_takes_no_time(tmp_path: Path) -> None:
    touch(tmp_path, *numbered(1, 10**100))
    assert refusal(tmp_path, (0, 2)).startswith("img_00002.jpg: missing")


@pytest.mark.parametrize("exact", [True, False])
def test_frame_before_the_first_is_refused(tmp_path: Path, exact: bool) -> None:
    touch(tmp_path, *numbered(0, 1, 2))
    says = "img_00000.jpg: stands before the first frame, img_00001.jpg; is the start index 0?"
    assert refusal(tmp_path, (0, 2), exact=exact) == says


def test_folder_without_frames_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "image_1.jpg", "image_2.jpg")
    says = "img_00001.jpg: missing, the folder has no frame named by 'img_{:05}.jpg' among its 2"
    assert refusal(tmp_path, (0, 2)).startswith(says)


def test_ranges_lie_within_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, *numbered(*range(1, 31)))
    everything = {"": numbered(*range(1, 31))}
    assert list_in(tmp_path, (20, 10), (0, 5), (29, 1), exact=False) == everything
    assert refusal(tmp_path, (0, 5), (25, 7), exact=False) == (
        "img_00031.jpg: missing, the frames of list.txt:2 end at 32, the folder has 30"
    )


FLOW = "flow_{}_{:05d}.jpg"


@pytest.mark.parametrize("exact", [True, False])
def test_flow_needs_as_many_of_x_as_of_y(tmp_path: Path, exact: bool) -> None:
    touch(tmp_path, *(FLOW.format("x", n) for n in (1, 2, 3)))
    assert refusal(tmp_path, (0, 3), template=FLOW, exact=exact).startswith(
        "flow_y_00001.jpg: missing"
    )
    touch(tmp_path, *(FLOW.format("y", n) for n in (1, 2)))
    message = refusal(tmp_path, (0, 2), template=FLOW, exact=exact)
    assert message == (
        "flow_x_00003.jpg: expected 2 frames, the folder has 3"
        if exact
        else "flow_y_00003.jpg: missing, of x the folder has 3 frames, of y 2"
    )


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("none", "'none': no such folder under the media root"),
        ("file", "'file': no such folder under the media root"),
        ("../outside", "'../outside' leads out of the media root"),
        ("n" * 300, "cannot be read: File name too long"),
        ("a\0b", "not the name of a file"),
        ("a\ud800", "not the name of a file"),
    ],
)
def test_folder_that_cannot_be_listed_is_named(tmp_path: Path, folder: str, says: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").touch()
    (tmp_path / "outside").mkdir()
    with pytest.raises(MediaError) as caught:
        list_frames(
            MediaRoot(tmp_path / "root"),
            folder,
            "img_{:05}.jpg",
            start_index=1,
            ranges=ranges_of((0, 1)),
            exact=True,
        )
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("template", "total", "axes"), [("img_{:05}.jpg", 30, [""]), (FLOW, 29, ["x", "y"])]
)
def test_real_frames_come_back_bit_for_bit(
    shared_data: Path, template: str, total: int, axes: list[str]
) -> None:
    root = MediaRoot(shared_data / "rawframes")
    folder = "demo_class/demo_clip"
    listed = list_frames(
        root, folder, template, start_index=1, ranges=ranges_of((0, total)), exact=True
    )
    assert list(listed) == axes
    for names in listed.values():
        files = [root.read(f"{folder}/{name}") for name in names]
        video = mux_stills(files, names=names, rate=10)
        assert len(files) == total
        assert split_stills(video.data, video.table) == files
        assert len(video.data) < sum(map(len, files)) + 1000
        assert (video.info.width, video.info.height) == (159, 120)
        check_stills(files, names=names)


def test_number_of_pictures_for_flow_is_guessed_at(tmp_path: Path) -> None:
    touch(tmp_path, *(FLOW.format(axis, n) for n in (1, 2, 3) for axis in "xy"))
    guess = "; is this the number of pictures?"
    assert refusal(tmp_path, (0, 4), template=FLOW, exact=True).endswith(guess)
    assert guess not in refusal(tmp_path, (0, 5), template=FLOW, exact=True)
