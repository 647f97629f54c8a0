"""One look at the box structure of mp4 and mov, to see whether the file was cut short.

FFmpeg reads a cut file with its index in front up to the cut and then ends as if that
were all; the sizes of the top-level boxes (ISO/IEC 14496-12, 4.2) tell.
"""

from clipshards.packer.format.errors import MediaError


def check_not_truncated(data: bytes) -> None:
    """Check that every top-level box of an mp4 or mov file lies inside the file.

    Files of other containers pass.

    Raises:
        MediaError: A box ends behind the end of the file.
    """
    if data[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return
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
        if place + size > len(data):
            raise MediaError(
                f"cut short: box {kind.decode('latin-1')!r} ends at byte {place + size}, "
                f"the file at {len(data)}"
            )
        place += size
