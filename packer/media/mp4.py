"""An mp4 of whole pictures, whose bytes hang on nothing but them (ISO/IEC 14496-12, 14496-14)."""

from collections.abc import Sequence
from fractions import Fraction

OBJECT_TYPES = {"mjpeg": 0x6C, "png": 0x6D}
"""FFmpeg's name of a picture's codec -> what the registry of MP4 calls it."""

CODEC_TAG = "mp4v"
"""Four characters that name the kind of track."""

_MAX_32 = 2**32 - 1
# Neither scaled nor turned (14496-12, 6.2.2).
_UNITY = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
_UNDETERMINED_LANGUAGE = b"\x55\xc4"


def stills_mp4(
    files: Sequence[bytes], *, codec: str, width: int, height: int, rate: Fraction
) -> tuple[bytes, int]:
    """Return an mp4 with one picture a frame, and the place of the first picture in it.

    The pictures stand one behind the other, at the end of the mp4.

    Args:
        files: The pictures, at least one, each below 2**32 bytes.
        codec: `mjpeg` or `png`.
        width: Pixels, below 2**16.
        height: Pixels, below 2**16.
        rate: Frames per second; numerator and denominator below 2**32.
    """
    kind = _box(b"ftyp", b"isom", _u32(512), b"isomiso2mp41")
    payload = sum(map(len, files))
    # Sizes of 64 bits where those of 32 do not do; the header's size does not hang on the place.
    large = payload > _MAX_32 // 2
    head = _u32(1) + b"mdat" + _u64(16 + payload) if large else _u32(8 + payload) + b"mdat"
    times = (rate, len(files))
    place = 0
    for _ in range(2):
        movie = _movie(times, _track(files, times, codec, (width, height), place, large=large))
        place = len(kind) + len(movie) + len(head)
    return b"".join((kind, movie, head, *files)), place


def _movie(times: tuple[Fraction, int], track: bytes) -> bytes:
    version, created, duration = _times(times)
    header = created + _u32(times[0].numerator) + duration
    # Plays at normal speed and volume; the next track would be number 2.
    rest = _u32(1 << 16) + (1 << 8).to_bytes(2, "big") + bytes(10) + _UNITY + bytes(24) + _u32(2)
    return _box(b"moov", _full_box(b"mvhd", header, rest, version=version), track)


def _track(
    files: Sequence[bytes],
    times: tuple[Fraction, int],
    codec: str,
    size: tuple[int, int],
    place: int,
    *,
    large: bool,
) -> bytes:
    version, created, duration = _times(times)
    sides = b"".join(_u32(side << 16) for side in size)
    header = created + _u32(1) + bytes(4) + duration + bytes(16) + _UNITY + sides
    media = created + _u32(times[0].numerator) + duration + _UNDETERMINED_LANGUAGE + bytes(2)
    handler = bytes(4) + b"vide" + bytes(12) + b"\0"
    itself = _full_box(b"dref", _u32(1), _full_box(b"url ", flags=1))
    return _box(
        b"trak",
        # Flags: the track is shown.
        _full_box(b"tkhd", header, version=version, flags=3),
        _box(
            b"mdia",
            _full_box(b"mdhd", media, version=version),
            _full_box(b"hdlr", handler),
            _box(
                b"minf",
                _full_box(b"vmhd", bytes(8), flags=1),
                _box(b"dinf", itself),
                _samples(files, times[0], codec, size, place, large=large),
            ),
        ),
    )


def _samples(
    files: Sequence[bytes],
    rate: Fraction,
    codec: str,
    size: tuple[int, int],
    place: int,
    *,
    large: bool,
) -> bytes:
    """Return the table of samples: all in one chunk, each of them a sync sample."""
    count = _u32(len(files))
    width, height = (side.to_bytes(2, "big") for side in size)
    dpi_72 = _u32(72 << 16)
    entry = _box(
        CODEC_TAG.encode(),
        bytes(6) + b"\0\1" + bytes(16) + width + height + dpi_72 + dpi_72 + bytes(4),
        # One frame a sample, no name of a compressor, 24 bits of colour.
        b"\0\1" + bytes(32) + b"\0\x18\xff\xff",
        _full_box(b"esds", _descriptor(OBJECT_TYPES[codec])),
    )
    offsets = _full_box(b"co64", _u32(1), _u64(place))
    if not large:
        offsets = _full_box(b"stco", _u32(1), _u32(place))
    return _box(
        b"stbl",
        _full_box(b"stsd", _u32(1), entry),
        _full_box(b"stts", _u32(1), count, _u32(rate.denominator)),
        _full_box(b"stsc", _u32(1), _u32(1), count, _u32(1)),
        _full_box(b"stsz", _u32(0), count, b"".join(_u32(len(file)) for file in files)),
        offsets,
    )


def _descriptor(object_type: int) -> bytes:
    """Return the elementary stream's descriptor (ISO/IEC 14496-1, 7.2.6); bit rates unknown."""
    config = bytes([4, 13, object_type, 0x11]) + bytes(11)
    stream = bytes(3) + config + bytes([6, 1, 2])
    return bytes([3, len(stream)]) + stream


def _times(times: tuple[Fraction, int]) -> tuple[int, bytes, bytes]:
    """Return the version of a header, its times of making and change (none), its duration."""
    rate, frames = times
    duration = frames * rate.denominator
    if duration > _MAX_32:
        return 1, bytes(16), _u64(duration)
    return 0, bytes(8), _u32(duration)


def _full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, _u32(version << 24 | flags), *content)


def _box(kind: bytes, *content: bytes) -> bytes:
    return b"".join((_u32(8 + sum(map(len, content))), kind, *content))


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
