"""One look at the outer structure of a media file, to see whether it was cut short.

FFmpeg reads a cut file up to the cut and then ends as if that were all; the sizes that
the outermost elements claim tell. They are those of ISO/IEC 14496-12, 4.2 (mp4, mov),
of RIFF (AVI) and of EBML, RFC 8794, 5 and 6 (Matroska, WebM).
"""

from clipshards.packer.format.errors import MediaError

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def check_not_truncated(data: bytes) -> None:
    """Check that every outermost element of a media file lies inside the file.

    Files of containers other than mp4, mov, Matroska, WebM and AVI pass, and so do parts
    of unknown length, as recorders leave them.

    Raises:
        MediaError: An element ends behind the end of the file.
    """
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check_boxes(data)
    elif data[:4] == b"RIFF":
        _check_riff(data)
    elif data[:4] == _EBML:
        _check_ebml(data)


def _check_boxes(data: bytes) -> None:
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        if size == 0:  # up to the end of the file, whatever that is
            return
        if size < 8 or not kind.isalnum():
            return  # trailing bytes that are no box; players ignore them
        _check_end(f"box {kind.decode('latin-1')!r}", place + size, data)
        place += size


def _check_riff(data: bytes) -> None:
    place = 0
    while data[place : place + 4] == b"RIFF":  # a large AVI has several
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if size == 0xFFFFFFFF:  # written to where nobody could go back, as into a pipe
            return
        place += 8 + size
        _check_end("chunk 'RIFF'", place, data)
        place += place % 2


def _check_ebml(data: bytes) -> None:
    header, place = _element_size(data, 4)
    if header is None or data[place + header : place + header + 4] != _SEGMENT:
        return
    segment, place = _element_size(data, place + header + 4)
    if segment is not None:
        _check_end("element 'Segment'", place + segment, data)


def _element_size(data: bytes, place: int) -> tuple[int | None, int]:
    """Return the size that stands at `place`, None for unknown, and the place behind it."""
    width = 9 - int.from_bytes(data[place : place + 1], "big").bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    unknown = value == (1 << 7 * width) - 1
    return None if unknown else value, place + width


def _check_end(what: str, end: int, data: bytes) -> None:
    if end > len(data):
        raise MediaError(f"cut short: {what} ends at byte {end}, the file at {len(data)}")
