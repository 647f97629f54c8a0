"""One look at the outer structure of a media file, to see whether it was cut short.

FFmpeg reads a cut file up to the cut and then ends as if that were all; the sizes that
the outermost elements claim tell. They are those of ISO/IEC 14496-12, 4.2 (mp4, mov),
of RIFF (AVI, wav), of EBML, RFC 8794, 5 and 6 (Matroska, WebM), of the pages of Ogg, RFC 3533,
6, and of the Xing header of an mp3. Damaged pages of Ogg FFmpeg leaves out in the same way.
"""

import zlib

from clipshards.packer.format.errors import MediaError

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_OGG = b"OggS"
_OGG_HEADER = 27
# The checksum of Ogg is that of zlib with the bits of each byte, and of the sum, turned round.
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# The largest frame: encoders do not agree on whether the header counts itself, and tags.
_MP3_FRAME = 1441


def check_not_truncated(data: bytes) -> None:
    """Check that every outermost element of a media file lies inside the file.

    Files of containers other than mp4, mov, Matroska, WebM, AVI, wav, Ogg and mp3 pass, and
    so do parts of unknown length, as recorders leave them.

    Raises:
        MediaError: An element ends behind the end of the file, or a page of Ogg is damaged.
    """
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check_boxes(data)
    elif data[:4] == b"RIFF":
        _check_riff(data)
    elif data[:4] == _EBML:
        _check_ebml(data)
    elif data[:4] == _OGG:
        _check_ogg(data)
    elif data[:3] == b"ID3" or data[:1] == b"\xff":
        _check_mp3(data)


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


def _check_ogg(data: bytes) -> None:
    place = 0
    while (found := data.find(_OGG, place)) >= 0:
        body = found + _OGG_HEADER
        _check_end("a page of Ogg", body, data)
        body += data[body - 1]
        if found > place:
            raise MediaError(f"damaged: expected a page of Ogg at byte {place}")
        end = body + sum(data[found + _OGG_HEADER : body])
        _check_end("a page of Ogg", end, data)
        checksum = data[found + 22 : found + 26]
        page = data[found : found + 22] + bytes(4) + data[found + 26 : end]
        turned = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if turned.to_bytes(4, "big").translate(_TURNED) != checksum:
            raise MediaError(f"damaged: the page of Ogg at byte {found} does not fit its checksum")
        place = end


def _check_mp3(data: bytes) -> None:
    place = 0
    if data[:3] == b"ID3":
        # Seven bits of each byte count (ID3v2, 3.1).
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 127
        place = 10 + size
    header = data[place : place + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # no layer III
        return
    is_first, is_mono = header[1] & 8, header[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    tag = place + 4 + side
    flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
    if data[tag : tag + 4] in (b"Xing", b"Info") and flags & 2:
        size = tag + (12 if flags & 1 else 8)
        claimed = int.from_bytes(data[size : size + 4], "big")
        if place + claimed > len(data) + _MP3_FRAME:
            _check_end("the sound", place + claimed, data)


def _element_size(data: bytes, place: int) -> tuple[int | None, int]:
    """Return the size that stands at `place`, None for unknown, and the place behind it."""
    width = 9 - int.from_bytes(data[place : place + 1], "big").bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    unknown = value == (1 << 7 * width) - 1
    return None if unknown else value, place + width


def _check_end(what: str, end: int, data: bytes) -> None:
    if end > len(data):
        raise MediaError(f"cut short: {what} ends at byte {end}, the file at {len(data)}")
