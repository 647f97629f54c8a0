"""A folder of JPEG or PNG frames as one mp4, each file unchanged as one packet.

Nothing is decoded to make it: the files are checked by their structure, and the frame table
is arithmetic. `check_stills` decodes them, where that is asked for.
"""

import functools
import re
import string
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import DecodeError, MediaError
from clipshards.packer.format.frame_names import check_rate, frame_name, is_flow
from clipshards.packer.format.frame_table import RANDOM_ACCESS, FrameTable
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.stills import (
    EOI,
    JPEG_START,
    MAX_PIXELS,
    PNG_START,
    SOS,
    decode_still,
    jpeg_segments,
    orientation,
    png_chunks,
)
from clipshards.packer.media.mp4 import CODEC_TAG, stills_mp4
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.records import FrameRange

DEFAULT_RATE = 25
"""Frames per second at which an mp4 plays when the rate is not known."""

# Start of frame of all kinds of coding, without DHT, JPG and DAC, which stand among them.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# FFmpeg, with which others may read the mp4, counts a packet and its padding in 32 bits.
_MAX_BYTES = 2**31 - 1 - 64


@dataclass(frozen=True, slots=True)
class StillsVideo:
    """Frames of one folder, ready to be parts of a sample."""

    data: bytes
    """An mp4 of the files."""
    table: FrameTable
    """Where each file stands in it; `split_stills` takes them out again."""
    info: VideoInfo
    """`coded_width` and `coded_height` are those of the files, `width` and `height` those
    of the frames that are decoded from them: other where EXIF turns them upright."""


@dataclass(frozen=True, slots=True)
class _Header:
    codec: str
    coded: tuple[int, int]
    """Width and height in the file."""
    shown: tuple[int, int]
    """Width and height upright."""


def mux_stills(files: Sequence[bytes], *, names: Sequence[str], rate: float = 0.0) -> StillsVideo:
    """Return the mp4 of the files, in their order, with its frame table.

    Args:
        files: All JPEG or all PNG, at least one; their bytes come back unchanged, with all
            that stands beside and behind the pictures.
        names: Their names, for errors.
        rate: Frames per second, 0.001 to 1000; 0.0 where not known: the mp4 then plays at
            25, and the description says nothing.

    Raises:
        MediaError: A file is empty, neither JPEG nor PNG, cut short or broken in its
            structure, of another kind or size than the first, or too large. The first
            such file is named.
    """
    if not files or len(files) != len(names):
        raise ValueError(f"expected files and their names, got {len(files)} and {len(names)}")
    check_rate(rate)
    header = _common_header(files, names)
    fraction = Fraction(rate).limit_denominator(1001) if rate else Fraction(DEFAULT_RATE)
    width, height = header.coded
    data, place = stills_mp4(files, codec=header.codec, width=width, height=height, rate=fraction)
    rows = []
    for number, file in enumerate(files):
        pts = number * fraction.denominator
        rows.append((place, len(file), RANDOM_ACCESS, number, pts, crc32c(file)))
        place += len(file)
    info = VideoInfo(
        codec=header.codec,
        codec_tag=CODEC_TAG,
        coded_width=width,
        coded_height=height,
        width=header.shown[0],
        height=header.shown[1],
        time_base=(1, fraction.numerator),
        rate=(fraction.numerator, fraction.denominator) if rate else (0, 1),
        duration_s=float(len(files) / fraction) if rate else 0.0,
        frames=len(files),
        claimed_frames=len(files),
        frame_table="decode",
    )
    return StillsVideo(data, np.array(rows, dtype=np.int64), info)


def check_stills(files: Sequence[bytes], *, names: Sequence[str]) -> None:
    """Decode each file, as a reader will.

    Raises:
        MediaError: A file cannot be decoded; the first is named.
    """
    for data, name in zip(files, names, strict=True):
        try:
            decode_still(data)
        except DecodeError as exc:
            raise MediaError(f"{name}: {exc}") from exc


def _common_header(files: Sequence[bytes], names: Sequence[str]) -> _Header:
    """Return what all files have in common, or raise MediaError for the first that differs."""
    first: _Header | None = None
    for data, name in zip(files, names, strict=True):
        try:
            header = _read_header(data)
        except ValueError as exc:
            raise MediaError(f"{name}: {exc}") from exc
        first = first or header
        if header.codec != first.codec:
            kinds = {"mjpeg": "JPEG", "png": "PNG"}
            raise MediaError(
                f"{name}: expected {kinds[first.codec]} like {names[0]}, got {kinds[header.codec]}"
            )
        for found, expected, turned in (
            (header.coded, first.coded, ""),
            (header.shown, first.shown, " when turned by its EXIF orientation"),
        ):
            if found != expected:
                raise MediaError(
                    f"{name}: expected {expected[0]}x{expected[1]} like {names[0]}, "
                    f"got {found[0]}x{found[1]}{turned}"
                )
    if first is None:
        raise ValueError("no files")
    return first


def _read_header(data: bytes) -> _Header:
    """Return kind and size of a file whose structure is whole, else raise ValueError."""
    if not data:
        raise ValueError("the file is empty (0 bytes)")
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, a frame may have at most {_MAX_BYTES}")
    if data.startswith(PNG_START):
        codec, (width, height) = "png", _png_size(data)
    elif data.startswith(JPEG_START):
        codec, (width, height) = "mjpeg", _jpeg_size(data)
    else:
        raise ValueError(f"expected JPEG or PNG, got a file that begins with {data[:8]!r}")
    if not width or not height:
        raise ValueError(f"the header says {width}x{height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height}, a frame may have at most {MAX_PIXELS} pixels")
    if max(width, height) >= 2**16:
        raise ValueError(f"{width}x{height}, a side may have at most {2**16 - 1} pixels in an mp4")
    turned = orientation(data) >= 5
    return _Header(codec, (width, height), (height, width) if turned else (width, height))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size = None
    scans = 0
    for segment in jpeg_segments(data):
        if segment.kind in _FRAME_HEADERS:
            # Precision, height, width, components.
            if segment.end - segment.body < 6 or size:
                raise ValueError("broken: a second frame header, or one that is too short")
            height = int.from_bytes(data[segment.body + 1 : segment.body + 3], "big")
            width = int.from_bytes(data[segment.body + 3 : segment.body + 5], "big")
            size = width, height
        elif segment.kind == SOS:
            scans += 1
        elif segment.kind == EOI and not (size and scans):
            raise ValueError("broken: a JPEG without a picture")
    return size or (0, 0)


def _png_size(data: bytes) -> tuple[int, int]:
    chunks = list(png_chunks(data))
    for chunk in chunks:
        # The checksum covers type and content.
        written = int.from_bytes(data[chunk.end - 4 : chunk.end], "big")
        if zlib.crc32(data[chunk.start + 4 : chunk.end - 4]) != written:
            raise ValueError(f"broken: chunk {chunk.kind!r} does not fit its checksum")
    header = chunks[0]
    if header.kind != b"IHDR" or header.end - header.body != 17:
        raise ValueError("broken: the header chunk does not stand first")
    if not any(chunk.kind == b"IDAT" for chunk in chunks):
        raise ValueError("broken: a PNG without a picture")
    width = int.from_bytes(data[header.body : header.body + 4], "big")
    return width, int.from_bytes(data[header.body + 4 : header.body + 8], "big")


def list_frames(
    root: MediaRoot,
    folder: str,
    template: str,
    *,
    start_index: int,
    ranges: Sequence[FrameRange],
    exact: bool,
) -> dict[str, list[str]]:
    """Return the names of a folder's frames inside it, in their order.

    Files that do not fit the template are not looked at. The frames must be there from
    `start_index` on without a gap.

    Args:
        root: Where the folder is.
        folder: As in the record.
        template: A template that `is_flow` accepts.
        start_index: Number of the first frame's file.
        ranges: What the annotation says of the folder.
        exact: The ranges are the whole folder, which has exactly as many frames as each
            says; else they lie within it, and it may have more.

    Returns:
        The names under the key `x` and `y` for flow, both of one length, else under an
        empty key.

    Raises:
        MediaError: No folder, no frames, a gap, too few or too many. The first offending
            file is named.
    """
    axes = ("x", "y") if is_flow(template) else ("",)
    # x and y mostly stand in one folder.
    names_in = functools.cache(root.names)
    frames = {axis: _frames_of(names_in, folder, template, axis, start_index) for axis in axes}
    for axis, names in frames.items():
        for stretch in ranges:
            check_range(stretch, names, template, axis, start_index, exact=exact)
    if axes == ("x", "y"):
        counts = {axis: len(names) for axis, names in frames.items()}
        fewer, more = sorted(counts, key=lambda axis: counts[axis])
        if counts[fewer] != counts[more]:
            missing = frame_name(template, start_index + counts[fewer], fewer)
            raise MediaError(
                f"{missing}: missing, of {more} the folder has {counts[more]} frames, "
                f"of {fewer} {counts[fewer]}"
            )
    return frames


def _frames_of(
    names_in: Callable[[str], list[str]], folder: str, template: str, axis: str, start_index: int
) -> list[str]:
    """Return the names of the frames that are there, or raise MediaError for a gap."""
    first = frame_name(template, start_index, axis or None)
    inside, slash, _ = first.rpartition("/")
    listed = names_in(f"{folder}/{inside}" if inside else folder)
    pattern = _pattern(template, axis)
    numbers = sorted(
        int(found[1])
        for name in listed
        if (found := pattern.fullmatch(f"{inside}{slash}{name}"))
        # `img_7.jpg` is not a name that `img_{:05}.jpg` gives.
        and frame_name(template, int(found[1]), axis or None) == found[0]
    )
    if not numbers:
        raise MediaError(
            f"{first}: missing, the folder has no frame named by {template!r} "
            f"among its {len(listed)} files"
        )
    if numbers[0] < start_index:
        before = frame_name(template, numbers[0], axis or None)
        raise MediaError(
            f"{before}: stands before the first frame, {first}; is the start index {numbers[0]}?"
        )
    for expected, number in enumerate(numbers, start=start_index):
        if number != expected:
            raise MediaError(
                f"{frame_name(template, expected, axis or None)}: missing, the folder has "
                f"{len(numbers)} frames, the last is "
                f"{frame_name(template, numbers[-1], axis or None)}"
            )
    return [frame_name(template, number, axis or None) for number in numbers]


def check_range(
    stretch: FrameRange,
    names: list[str],
    template: str,
    axis: str,
    start_index: int,
    *,
    exact: bool,
) -> None:
    """Check that a stretch lies within the frames of a folder, or with `exact` is all of them.

    Raises:
        MediaError: It is not; the first offending file is named.
    """
    end = stretch.offset + stretch.total_frames
    of = f" of {stretch.origin}" if stretch.origin else ""
    if end > len(names):
        missing = frame_name(template, start_index + len(names), axis or None)
        asked = f"expected {end} frames" if exact else f"the frames{of} end at {end}"
        # Flow is between two pictures; MMAction2's list tool counts the pictures.
        hint = "; is this the number of pictures?" if axis and end == len(names) + 1 else ""
        raise MediaError(f"{missing}: missing, {asked}, the folder has {len(names)}{hint}")
    if exact and end < len(names):
        raise MediaError(f"{names[end]}: expected {end} frames, the folder has {len(names)}")


def _pattern(template: str, axis: str) -> re.Pattern[str]:
    """Return what matches names of the template; the group is the number."""
    pieces = list(string.Formatter().parse(template))
    slots = [name for _, name, _, _ in pieces if name is not None]
    number_slot = slots.index("1") if "1" in slots else len(slots) - 1
    text = ""
    seen = 0
    for literal, name, _, _ in pieces:
        text += re.escape(literal)
        if name is not None:
            # A width without zeros fills up with spaces.
            text += "( *[0-9]+)" if seen == number_slot else re.escape(axis)
            seen += 1
    return re.compile(text)
