"""Decoding single pictures, JPEG and PNG, that stand in a part as its packets.

The pixels are those of MMAction2's raw frames, which OpenCV reads: libjpeg-turbo's exact
inverse DCT and smooth chroma, turned upright by the EXIF orientation, alpha dropped, 16 bits
cut to 8. Pillow decodes by the same library; libavcodec's JPEG decoder gives other pixels.
"""

import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.frame_table import OFFSET, SIZE, FrameTable
from clipshards.packer.frames.packets import Part
from clipshards.packer.frames.plan import picture_packets

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 2**27
"""Of one picture; four frames of 8K video. A small hostile file may claim far more."""

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
_APP1 = 0xE1
# Application data and comments, but for the two that tell the colour space: JFIF and Adobe.
_BESIDE_PIXELS = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))
_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
# Fill bytes and stray ones may stand before a marker; in a scan, FF00 and restarts are data.
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_MARKER_IN_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_WITHOUT_LENGTH = frozenset((0x01, SOI, EOI, *range(0xD0, 0xD8)))

# All that Pillow may raise on a broken file; struct.error and zlib.error stand alone.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)


class Piece(NamedTuple):
    """A marker segment of a JPEG file, or a chunk of a PNG file."""

    kind: int | bytes
    """Marker byte, or type of the chunk."""
    start: int
    """First byte of the piece: the marker, or the chunk's length."""
    body: int
    """First byte of its content."""
    end: int
    """Behind its last byte (of a chunk, behind the checksum)."""


def jpeg_segments(data: bytes) -> Iterator[Piece]:
    """Yield the segments of a JPEG file from SOI to EOI; what follows EOI is not looked at.

    Raises:
        ValueError: The file ends before EOI.
    """
    place, pattern = 0, _MARKER
    while True:
        found = pattern.search(data, place)
        if found is None:
            raise ValueError("cut short: no end-of-image marker")
        marker, body = found[1][0], found.end()
        if marker in _WITHOUT_LENGTH:
            place = body
        else:
            length = int.from_bytes(data[body : body + 2], "big")
            place = body + length
            if length < 2 or place > len(data):
                raise ValueError(f"cut short: segment {marker:#04x} has no end")
            body += 2
        yield Piece(marker, found.start(), body, place)
        if marker == EOI:
            return
        pattern = _MARKER_IN_SCAN if marker == SOS else _MARKER


def png_chunks(data: bytes) -> Iterator[Piece]:
    """Yield the chunks of a PNG file, to IEND; what follows it is not looked at.

    Raises:
        ValueError: The file ends before IEND.
    """
    place = len(PNG_START)
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + length + 12
        if end > len(data):
            raise ValueError("cut short: no IEND chunk")
        yield Piece(kind, place, place + 8, end)
        place = end


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG or PNG file, 1 (upright) to 8.

    1 where it says nothing, or nothing that can be understood. As OpenCV, and against
    Pillow, XMP is not asked.
    """
    try:
        return _orientation(data, _pieces(data))
    except ValueError:
        return 1


def _pieces(data: bytes) -> list[Piece]:
    """Return the chunks of a PNG file, or the segments of a JPEG file before its first scan."""
    if data.startswith(PNG_START):
        return list(png_chunks(data))
    return list(itertools.takewhile(lambda segment: segment.kind != SOS, jpeg_segments(data)))


def _orientation(data: bytes, pieces: list[Piece]) -> int:
    for piece in pieces:
        if piece.kind == b"eXIf":
            block = data[piece.body : piece.end - 4]
        elif piece.kind == _APP1 and data.startswith(b"Exif\0\0", piece.body):
            block = data[piece.body + 6 : piece.end]
        else:
            continue
        if turn := _tiff_orientation(block):
            return turn
    return 1


def _tiff_orientation(block: bytes) -> int:
    """Return the orientation in the first directory of an EXIF block, 0 for none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 0
    (place,) = struct.unpack_from(f"{order}I", block, 4)
    if place + 2 > len(block):
        return 0
    (count,) = struct.unpack_from(f"{order}H", block, place)
    for entry in range(place + 2, min(place + 2 + 12 * count, len(block) - 11), 12):
        # OpenCV reads two bytes whatever type the entry claims.
        tag, value = struct.unpack_from(f"{order}H6xH", block, entry)
        if tag == 0x0112:
            return value if 1 <= value <= 8 else 0
    return 0


def decode_still(data: bytes, *, gray: bool = False) -> Pixels:
    """Return the pixels of one JPEG or PNG file, upright.

    Args:
        data: The whole file.
        gray: One channel, the luma of colour pictures, instead of three.

    Returns:
        uint8 RGB of shape (H, W, 3), or (H, W) where `gray`. They equal OpenCV's, except
        the luma of colour PNGs of 16 bits, with a gamma or with animation.

    Raises:
        DecodeError: Neither JPEG nor PNG, broken, cut short, or larger than `MAX_PIXELS`.
    """
    is_png = data.startswith(PNG_START)
    if not is_png and not data.startswith(JPEG_START):
        raise DecodeError(f"neither JPEG nor PNG: it begins with {data[:4]!r}")
    try:
        pieces = _pieces(data)
        bare = io.BytesIO(_bare(data, pieces))
        # Not Image.open: it guesses, and warns where a guess of MPO fails.
        with PngImageFile(bare) if is_png else JpegImageFile(bare) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DecodeError(f"{width}x{height} is more than {MAX_PIXELS} pixels")
            if gray:
                image.draft("L", None)
            pixels = _gray(image) if gray else _rgb(image)
    except _PILLOW_ERRORS as exc:
        raise DecodeError(f"cannot be decoded: {exc}") from exc
    return _upright(pixels, _orientation(data, pieces))


def _bare(data: bytes, pieces: list[Piece]) -> bytes:
    """Return the file without what does not bear on its pixels.

    Pillow would parse it, and warn of faults in it.
    """
    if data.startswith(PNG_START):
        head, kept = PNG_START, [piece for piece in pieces if piece.kind in _PNG_PIXELS]
    else:
        head, kept = b"", [piece for piece in pieces if piece.kind not in _BESIDE_PIXELS]
    if len(kept) == len(pieces):
        return data
    return b"".join((head, *(data[p.start : p.end] for p in kept), data[pieces[-1].end :]))


def _rgb(image: Image) -> Pixels:
    if image.mode == "CMYK":
        return _rgb_of_cmyk(np.asarray(image))
    if image.mode.startswith("I"):
        return np.repeat(_high_bytes(image)[..., None], 3, axis=-1)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _gray(image: Image) -> Pixels:
    if image.mode.startswith("I"):
        return _high_bytes(image)
    if image.mode in ("L", "1", "LA"):
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    rgb = _rgb(image).astype(np.uint32)
    if image.mode == "CMYK":
        weighted = rgb @ np.array([4899, 9617, 1868], np.uint32) + 2**13
        return (weighted >> 14).astype(np.uint8)
    # libpng's weights.
    return (rgb @ np.array([9797, 19234, 3737], np.uint32) >> 15).astype(np.uint8)


def _high_bytes(image: Image) -> Pixels:
    """Return 16 bit gray cut to 8 bit."""
    return (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)


def _rgb_of_cmyk(inverted: Pixels) -> Pixels:
    """Return OpenCV's RGB of CMYK, which Pillow gives inverted."""
    cmyk = 255 - inverted.astype(np.int32)
    key = cmyk[..., 3:]
    return (key - ((255 - cmyk[..., :3]) * key >> 8)).astype(np.uint8)


def _upright(pixels: Pixels, turn: int) -> Pixels:
    """Undo an EXIF orientation."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def split_stills(part: bytes, table: FrameTable) -> list[bytes]:
    """Return the files that a part was made of, bit for bit, in the order of the frames.

    Raises:
        DecodeError: The table points outside the part.
    """
    return [_payload(part, table, int(packet)) for packet in picture_packets(table)]


def decode_stills(
    part: Part, frames: npt.NDArray[np.integer], *, table: FrameTable, gray: bool = False
) -> Pixels:
    """Return chosen frames of a part that is made of JPEG or PNG files.

    Args:
        part: The bytes of the part, or the packets of the frames.
        frames: Frame numbers, shape (T,), any order; duplicates are decoded once.
        table: The part's frame table.
        gray: One channel, as flow is read, instead of three.

    Returns:
        uint8 RGB of shape (T, H, W, 3), or (T, H, W) where `gray`; T = H = W = 0 for no
        frames.

    Raises:
        DecodeError: A number lies outside the part, a frame cannot be decoded, or the
            frames differ in size.
    """
    packets = picture_packets(table)
    outside = (frames < 0) | (frames >= len(packets))
    if outside.any():
        raise DecodeError(
            f"frame {int(frames[np.argmax(outside)])} does not exist, the part has {len(packets)}"
        )
    numbers, places = np.unique(frames, return_inverse=True)
    clip = np.empty((0, 0, 0) if gray else (0, 0, 0, 3), dtype=np.uint8)
    for index, number in enumerate(numbers.tolist()):
        try:
            pixels = decode_still(_payload(part, table, int(packets[number])), gray=gray)
        except DecodeError as exc:
            raise DecodeError(f"frame {number}: {exc}") from exc
        if not index:
            clip = np.empty((len(frames), *pixels.shape), dtype=np.uint8)
        if pixels.shape != clip.shape[1:]:
            raise DecodeError(
                f"frame {number} is {pixels.shape[:2]} (height, width), "
                f"those before it are {clip.shape[1:3]}"
            )
        clip[places == index] = pixels
    return clip


def _payload(part: Part, table: FrameTable, packet: int) -> bytes:
    offset, size = int(table[packet, OFFSET]), int(table[packet, SIZE])
    payload = part[offset : offset + size]
    if offset < 0 or not size or len(payload) != size:
        raise DecodeError(f"packet {packet} lies outside the part")
    return payload
