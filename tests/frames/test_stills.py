"""Pixels of JPEG and PNG frames, and what broken ones do."""

import base64
import io
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.frame_table import RANDOM_ACCESS, FrameTable
from clipshards.packer.frames import stills
from clipshards.packer.frames.stills import (
    MAX_PIXELS,
    decode_still,
    decode_stills,
    orientation,
    split_stills,
)

Pixels = npt.NDArray[np.uint8]

# A 13x9 JPEG (4:2:0) and a 7x6 one in CMYK, with the crc32 of the pixels that OpenCV (4.14 and
# 5.0 agree) gives for each in RGB and in gray.
COLOUR_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVG"
    "ZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAJAA0DASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQQG/8QAIBAA"
    "AAUDBQAAAAAAAAAAAAAAAAECAwQFEXESEzEyM//EABUBAQEAAAAAAAAAAAAAAAAAAAAE/8QAHBEAAgEFAQAAAAAAAAAA"
    "AAAAAQIRAAMEMWGx/9oADAMBAAIRAxEAPwCdqe6u206SQw1Uk6eTPAyEToeArH8wXBtGBG6sxLKMoEa57X//2Q=="
)
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAUDg8SDw0UEhASFxUUGB4yIR4cHB49LC4kMklATEtHQEZFUFpzYlBVbVZFRmSI"
    "ZW13e4GCgU5gjZeMfZZzfoF8/8AAFAgABgAHBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAIE/8QAIxAA"
    "AgIBAwQDAQAAAAAAAAAAAQIDERIEIUEAMTJRBRMiI//aAA4EQwBNAFkASwAAPwASzSaETyggRYqHZR+mZWZcsRSjtVeq"
    "56EUywyLpKkeePwyf+eFbXt5Cjxyerfpk0s5WZ84i4ZgSzMAQxFGxvdgnkdTaiZPkYBCgEGmjYIBhk24JA8u1KLs9wPQ"
    "r//Z"
)
OPENCV = [
    pytest.param(COLOUR_JPEG, (9, 13), 0x29C860C4, 0x1FCD4EB6, id="colour"),
    pytest.param(CMYK_JPEG, (6, 7), 0x2DF78EE5, 0x4D7BD915, id="cmyk"),
]


def scene(height: int = 11, width: int = 14) -> Pixels:
    """Return RGB of shape (height, width, 3) without any symmetry."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def saved(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: npt.NDArray[np.integer], *, bits: int, colour: int, extra: bytes = b"") -> bytes:
    """Return a PNG of (H, W, channels), written here because Pillow writes no 48 bit colour."""
    height, width = values.shape[:2]
    lines = values.astype(">u2" if bits == 16 else "u1")
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            extra,
            chunk(b"IDAT", zlib.compress(raw)),
            chunk(b"IEND", b""),
        )
    )


def exif(value: int, *, order: str = "<", tag: int = 0x0112, entries: int = 1) -> bytes:
    """Return an EXIF block with one short entry."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, entries, tag, 3, 1, value, 0, 0)


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


def part_of(files: Sequence[bytes]) -> tuple[bytes, FrameTable]:
    """Return a part that holds the files with gaps between, and its table."""
    part = b"head"
    rows = []
    for number, data in enumerate(files):
        rows.append((len(part), len(data), RANDOM_ACCESS, number, number, crc32c(data)))
        part += data + b"gap"
    return part, np.array(rows, dtype=np.int64).reshape(-1, 6)


@pytest.mark.parametrize(("data", "shape", "rgb_crc", "gray_crc"), OPENCV)
def test_jpeg_pixels_are_those_of_opencv(
    data: bytes, shape: tuple[int, int], rgb_crc: int, gray_crc: int
) -> None:
    rgb, gray = decode_still(data), decode_still(data, gray=True)
    assert (rgb.shape, gray.shape) == ((*shape, 3), shape)
    assert zlib.crc32(np.ascontiguousarray(rgb).tobytes()) == rgb_crc
    assert zlib.crc32(np.ascontiguousarray(gray).tobytes()) == gray_crc


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"progressive": True},
        {"restart_marker_blocks": 1},
        {"keep_rgb": True},
        {"quality": 100},
        {"icc_profile": b"profile" * 20000},
        {"comment": b"hello"},
    ],
    ids=str,
)
def test_jpeg_of_any_coding_gives_pillows_own_pixels(options: dict[str, Any]) -> None:
    data = saved(scene(), "JPEG", **options)
    np.testing.assert_array_equal(decode_still(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_gray_picture_gives_three_equal_channels_or_one(kind: str) -> None:
    luma = scene()[..., 0]
    data = saved(luma, kind)
    rgb, gray = decode_still(data), decode_still(data, gray=True)
    np.testing.assert_array_equal(rgb, np.repeat(gray[..., None], 3, axis=-1))
    if kind == "PNG":
        np.testing.assert_array_equal(gray, luma)


def test_gray_of_a_colour_jpeg_is_its_luma_plane() -> None:
    data = saved(scene(), "JPEG", subsampling=0, quality=100)
    luma = np.asarray(Image.open(io.BytesIO(data)).convert("YCbCr"))[..., 0]
    assert np.abs(decode_still(data, gray=True).astype(int) - luma).max() <= 1


PNG_KINDS: dict[str, tuple[int, int, Callable[[Any], Any]]] = {
    "rgb": (8, 2, lambda v: v[..., :3]),
    "rgb, alpha dropped": (8, 6, lambda v: v[..., :3]),
    "gray": (8, 0, lambda v: v[..., [0, 0, 0]]),
    "gray, alpha dropped": (8, 4, lambda v: v[..., [0, 0, 0]]),
    "rgb of 16 bits": (16, 2, lambda v: v[..., :3] >> 8),
    "rgb of 16 bits, alpha dropped": (16, 6, lambda v: v[..., :3] >> 8),
    "gray of 16 bits": (16, 0, lambda v: v[..., [0, 0, 0]] >> 8),
}
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_png_pixels_are_exact(kind: str) -> None:
    bits, colour, expected = PNG_KINDS[kind]
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**bits, (6, 5, CHANNELS[colour]))
    decoded = decode_still(png(values, bits=bits, colour=colour))
    np.testing.assert_array_equal(decoded, expected(values))


def test_palette_is_looked_up_and_its_transparency_dropped() -> None:
    palette = np.random.default_rng(2).integers(0, 256, (4, 3)).astype(np.uint8)
    places = np.arange(12).reshape(3, 4, 1) % 4
    extra = chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", b"\0\xff\x80")
    data = png(places, bits=8, colour=3, extra=extra)
    np.testing.assert_array_equal(decode_still(data), palette[places[..., 0]])


def test_gray_of_a_colour_png_is_weighed_as_libpng_does() -> None:
    values = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]]])
    gray = decode_still(png(values, bits=8, colour=2), gray=True)
    assert gray.tolist() == [[76, 149, 29, 255, 7]]


TURNS: dict[str, Callable[[int], bytes]] = {
    "JPEG": lambda turn: with_segment(
        saved(scene(), "JPEG", subsampling=0), 0xE1, b"Exif\0\0" + exif(turn)
    ),
    "PNG": lambda turn: png(scene(), bits=8, colour=2, extra=chunk(b"eXIf", exif(turn))),
}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", TURNS)
def test_exif_orientation_is_undone(kind: str, turn: int) -> None:
    data = TURNS[kind](turn)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert orientation(data) == turn
    np.testing.assert_array_equal(decode_still(data), np.asarray(upright))
    assert decode_still(data, gray=True).shape == upright.size[::-1]


@pytest.mark.parametrize(
    ("blocks", "turn"),
    [
        ([exif(6)], 6),
        ([exif(6, order=">")], 6),
        ([exif(6), exif(3)], 6),
        ([exif(5, tag=0x010F), exif(3)], 3),
        ([exif(0)], 1),
        ([exif(9)], 1),
        ([exif(6, entries=500)], 6),
        ([exif(6)[:20]], 1),
        ([exif(6)[:9]], 1),
        ([b"II*\0\xff\xff\xff\xff" + exif(6)], 1),
        ([b"nonsense"], 1),
        ([b""], 1),
    ],
)
def test_orientation_is_read_as_far_as_it_can_be(blocks: list[bytes], turn: int) -> None:
    data = saved(scene(), "JPEG")
    for block in reversed(blocks):
        data = with_segment(data, 0xE1, b"Exif\0\0" + block)
    assert orientation(data) == turn
    # Pillow would warn of a broken block, and warnings are errors here.
    assert decode_still(data).shape == ((14, 11, 3) if turn >= 5 else (11, 14, 3))


def test_xmp_does_not_turn_a_picture() -> None:
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/>'
    data = with_segment(saved(scene(), "JPEG"), 0xE1, xmp)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == (11, 14)
    assert decode_still(data).shape == (11, 14, 3)


def test_what_stands_behind_the_picture_is_not_looked_at() -> None:
    for data in (saved(scene(), "JPEG"), saved(scene(), "PNG")):
        np.testing.assert_array_equal(decode_still(data + b"\xff\xd8 more"), decode_still(data))


def test_first_picture_of_several_is_taken() -> None:
    first, second = Image.fromarray(scene()), Image.fromarray(scene()[::-1])
    for kind, alone in (("MPO", "JPEG"), ("PNG", "PNG")):
        data = saved(first, kind, save_all=True, append_images=[second])
        np.testing.assert_array_equal(decode_still(data), decode_still(saved(first, alone)))


def test_broken_data_beside_the_pixels_is_not_looked_at() -> None:
    plain = saved(scene(), "JPEG")
    for data in (
        with_segment(plain, 0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        with_segment(plain, 0xE2, b"ICC_PROFILE\0\x09\x01"),
        with_segment(plain, 0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff\xff\xff\xff"),
    ):
        np.testing.assert_array_equal(decode_still(data), decode_still(plain))
    bomb = zlib.compress(bytes(2**26), 9)
    for extra in (
        chunk(b"zTXt", b"key\0\0" + bomb),
        chunk(b"iCCP", b"name\0\0" + bomb),
        chunk(b"acTL", b"\0"),
        chunk(b"pHYs", b"\0"),
    ):
        data = png(scene(), bits=8, colour=2, extra=extra)
        np.testing.assert_array_equal(decode_still(data), scene())


def test_picture_of_too_many_pixels_is_refused_before_it_takes_memory() -> None:
    side = 12_000
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = png(scene(1, 1), bits=8, colour=2).replace(
        chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), chunk(b"IHDR", head)
    )
    assert side * side > MAX_PIXELS
    with pytest.raises(DecodeError, match=f"12000x12000 is more than {MAX_PIXELS} pixels"):
        decode_still(bomb)
    large = bytearray(saved(scene(), "JPEG"))
    place = large.index(b"\xff\xc0")
    large[place + 5 : place + 9] = struct.pack(">HH", 65500, 65500)
    with pytest.raises(DecodeError, match="65500x65500 is more than"):
        decode_still(bytes(large))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"GIF89a", b"text", bytes(100)])
def test_file_of_another_kind_is_named(data: bytes) -> None:
    with pytest.raises(DecodeError, match="neither JPEG nor PNG"):
        decode_still(data)


@pytest.mark.parametrize("data", [COLOUR_JPEG, CMYK_JPEG, saved(scene(4, 4), "PNG")])
def test_file_cut_short_anywhere_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode_still(data[:length])


def decode_or_refuse(data: bytes) -> None:
    try:
        assert decode_still(data).dtype == np.uint8
        assert decode_still(data, gray=True).ndim == 2
    except DecodeError:
        pass


def test_altered_bytes_raise_nothing_of_pillows_own() -> None:
    rng = np.random.default_rng(7)
    samples = [COLOUR_JPEG, CMYK_JPEG, TURNS["JPEG"](6), TURNS["PNG"](6)]
    for _ in range(400):
        data = bytearray(samples[rng.integers(len(samples))])
        for place in rng.integers(2, len(data), rng.integers(1, 4)).tolist():
            data[place] = rng.integers(256)
        decode_or_refuse(bytes(data))


@pytest.mark.deep
def test_every_altered_byte_raises_nothing_of_pillows_own() -> None:
    for sample in (COLOUR_JPEG, CMYK_JPEG, TURNS["PNG"](6)):
        for place in range(len(sample)):
            for value in (0, 1, 0x7F, 0x80, 0xC2, 0xD9, 0xFF):
                data = bytearray(sample)
                data[place] = value
                decode_or_refuse(bytes(data))


def test_frames_come_in_the_order_asked_for_each_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = [scene() // (number + 1) for number in range(5)]
    part, table = part_of([saved(picture, "PNG") for picture in pictures])
    decoded: list[bool] = []

    def counted(data: bytes, *, gray: bool = False) -> Pixels:
        decoded.append(gray)
        return decode_still(data, gray=gray)

    monkeypatch.setattr(stills, "decode_still", counted)
    clip = decode_stills(part, np.array([3, 0, 3, 4, 3]), table=table)
    assert clip.flags.c_contiguous
    np.testing.assert_array_equal(clip, np.stack([pictures[i] for i in (3, 0, 3, 4, 3)]))
    assert len(decoded) == 3


def test_ranks_say_which_packet_is_which_frame() -> None:
    pictures = [scene(), scene() // 2, scene() // 3]
    part, table = part_of([saved(picture, "PNG") for picture in pictures])
    table[:, 3] = [2, 0, 1]
    clip = decode_stills(part, np.array([0, 1, 2]), table=table)
    np.testing.assert_array_equal(clip, np.stack([pictures[i] for i in (1, 2, 0)]))


def test_gray_clip_has_one_channel() -> None:
    luma = scene()[..., 0]
    part, table = part_of([saved(luma, "PNG"), saved(255 - luma, "PNG")])
    clip = decode_stills(part, np.array([1, 0]), table=table, gray=True)
    np.testing.assert_array_equal(clip, np.stack([255 - luma, luma]))


def test_no_frames_give_an_empty_clip() -> None:
    part, table = part_of([COLOUR_JPEG])
    none = np.array([], dtype=np.int64)
    assert decode_stills(part, none, table=table).shape == (0, 0, 0, 3)
    assert decode_stills(part, none, table=table, gray=True).shape == (0, 0, 0)


@pytest.mark.parametrize("frame", [-1, 2])
def test_frame_outside_the_part_is_named(frame: int) -> None:
    part, table = part_of([COLOUR_JPEG] * 2)
    with pytest.raises(DecodeError, match=f"frame {frame} does not exist, the part has 2"):
        decode_stills(part, np.array([0, frame]), table=table)


def test_only_wanted_frames_are_looked_at_and_a_broken_one_is_named() -> None:
    part, table = part_of([COLOUR_JPEG, COLOUR_JPEG[:-40], COLOUR_JPEG])
    assert decode_stills(part, np.array([0, 2]), table=table).shape == (2, 9, 13, 3)
    with pytest.raises(DecodeError, match="frame 1: cannot be decoded: cut short"):
        decode_stills(part, np.array([0, 1]), table=table)


def test_frames_of_two_sizes_are_refused() -> None:
    part, table = part_of([COLOUR_JPEG, saved(scene(), "JPEG")])
    with pytest.raises(DecodeError, match=r"frame 1 is \(11, 14\) .* those before it are \(9, 13"):
        decode_stills(part, np.array([1, 0]), table=table)


def test_packet_outside_the_part_is_refused() -> None:
    part, table = part_of([COLOUR_JPEG, COLOUR_JPEG])
    with pytest.raises(DecodeError, match="packet 1 lies outside the part"):
        decode_stills(part[:-20], np.array([1]), table=table)
    with pytest.raises(DecodeError, match="packet 1 lies outside the part"):
        split_stills(part[:-20], table)


def test_part_splits_into_its_files() -> None:
    files = [COLOUR_JPEG, CMYK_JPEG + b"behind", COLOUR_JPEG]
    part, table = part_of(files)
    assert split_stills(part, table) == files
    table[:, 3] = [1, 2, 0]
    assert split_stills(part, table) == [files[2], files[0], files[1]]


def test_threads_decode_side_by_side() -> None:
    part, table = part_of([TURNS["JPEG"](turn) for turn in (1, 3)])
    expected = decode_stills(part, np.array([0, 1]), table=table)
    found: list[Pixels] = []

    def decode() -> None:
        found.extend(decode_stills(part, np.array([0, 1]), table=table) for _ in range(20))

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(np.array_equal(clip, expected) for clip in found)


def test_real_frames_give_pillows_own_pixels(shared_data: Path) -> None:
    folder = shared_data / "rawframes" / "demo_class" / "demo_clip"
    for name in ("img_00001.jpg", "img_00030.jpg", "flow_x_00001.jpg", "flow_y_00029.jpg"):
        with Image.open(folder / name) as image:
            expected = np.asarray(image.convert("RGB"))
        data = (folder / name).read_bytes()
        np.testing.assert_array_equal(decode_still(data), expected)
        if name.startswith("flow"):
            np.testing.assert_array_equal(decode_still(data, gray=True), expected[..., 0])
