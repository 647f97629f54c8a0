"""The frame table of a video part: what each packet is, and which picture it gives.

int64 of shape (packets, 6), one row a packet in the order of decoding. An empty table
(0, 6) means: decode the part from its start.
"""

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import FormatError

OFFSET, SIZE, FLAGS, RANK, PTS, CRC32C = range(6)
"""Columns: first byte inside the part; bytes; flags below; place of the picture in the
order of display, counted from 0, or NO_PICTURE; presentation time in the video's time
base, or NO_PTS; checksum of the packet's bytes, for who reads some packets alone."""

COLUMNS = 6

RANDOM_ACCESS = 1
"""Decoding may begin at this packet."""
DISPOSABLE = 2
"""No other picture refers to this one."""
CORRUPT = 4
"""The container or the decoder flagged the packet as damaged or not to be shown."""

NO_PICTURE = -1
NO_PTS = -(2**63)

FrameTable = npt.NDArray[np.int64]


def empty_frame_table() -> FrameTable:
    """Return the table that says: no random access, decode from the start."""
    return np.empty((0, COLUMNS), dtype=np.int64)


def check_frame_table(table: npt.NDArray[np.generic], *, part_bytes: int, where: str) -> FrameTable:
    """Return `table` if a decoder may follow it blindly.

    Args:
        table: The array of a `frames.npy` part.
        part_bytes: Size of the video part that it describes.
        where: Shard and part, for the error.

    Raises:
        FormatError: Wrong shape or dtype, a packet outside the part, unknown flags, a
            checksum that is none, ranks that are not 0..n-1 each once, a picture that no
            random-access point serves, or flags that speak of a picture where there is none.
    """
    if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != COLUMNS:
        expected = f"int64 of shape (packets, {COLUMNS})"
        raise FormatError(f"{where}: expected {expected}, got {table.dtype} {table.shape}")
    checked = table.astype(np.int64, copy=False)
    if not len(checked):
        return checked
    offset, size, flags, rank = (checked[:, column] for column in (OFFSET, SIZE, FLAGS, RANK))
    outside = (offset < 0) | (size <= 0) | (size > part_bytes) | (offset > part_bytes - size)
    if outside.any():
        row = int(np.argmax(outside))
        raise FormatError(
            f"{where}: packet {row} is {size[row]} bytes at {offset[row]}, "
            f"outside the part's {part_bytes}"
        )
    if (flags & ~(RANDOM_ACCESS | DISPOSABLE | CORRUPT)).any():
        raise FormatError(f"{where}: unknown packet flags")
    if (checked[:, CRC32C] >> 32).any():
        raise FormatError(f"{where}: a packet's checksum is not in 0 to 2**32 - 1")
    shown = np.sort(rank[rank != NO_PICTURE])
    if not np.array_equal(shown, np.arange(len(shown))):
        raise FormatError(f"{where}: the display ranks are not 0 to {len(shown) - 1}, each once")
    if not flags[0] & RANDOM_ACCESS:
        raise FormatError(f"{where}: the first packet is not a random-access point")
    points = np.flatnonzero(flags & RANDOM_ACCESS)
    first = rank[: points[1] if len(points) > 1 else len(rank)]
    if ((first != NO_PICTURE) & (first < rank[0])).any():
        raise FormatError(f"{where}: a picture precedes the first random-access point")
    # Pictures that an edit list hides keep their flags: they are decoded, only not shown.
    silent = (rank == NO_PICTURE) & (flags & CORRUPT == 0)
    # The packet before may be the first field of the picture that the silent one completes.
    beside = silent | np.append(silent[1:], False)
    if (flags[silent] & RANDOM_ACCESS).any() or (flags[beside] & DISPOSABLE).any():
        raise FormatError(f"{where}: a packet without a picture is flagged as if it had one")
    if ((flags & RANDOM_ACCESS != 0) & (flags & DISPOSABLE != 0)).any():
        raise FormatError(f"{where}: a random-access point is flagged as disposable")
    return checked
