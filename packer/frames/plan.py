"""The decode plan: which packets must be fed to get the wanted frames. Pure arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.frame_table import (
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    RANDOM_ACCESS,
    RANK,
    FrameTable,
)

Packets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Packets that one decoder eats in a row, beginning at a random-access point."""

    feed: Packets
    """Packet numbers, ascending."""
    wanted: Packets
    """Those of them whose pictures are asked for."""


def picture_packets(table: FrameTable) -> Packets:
    """Return the packet of each frame: int64 of shape (frames,), in display order."""
    packets = np.flatnonzero(table[:, RANK] != NO_PICTURE)
    return packets[np.argsort(table[packets, RANK], kind="stable")]


def entry_packets(table: FrameTable, packets: Packets) -> Packets:
    """Return where decoding must begin to get each of `packets`, -1 where nothing serves.

    That is the last random-access point before it; for a picture that is shown before
    that point's own picture (a leading picture of an open GOP), the one before.
    """
    points = np.flatnonzero(table[:, FLAGS] & RANDOM_ACCESS)
    place = np.searchsorted(points, packets, side="right") - 1
    rank = table[:, RANK]
    leading = (place >= 0) & (rank[points[place]] > rank[packets])
    place -= leading
    return np.where(place >= 0, points[place], -1)


def needed_packets(table: FrameTable, frames: npt.NDArray[np.integer], *, stills: bool) -> Packets:
    """Return the packets that give `frames`, each once, ascending.

    Args:
        table: A frame table that is not empty.
        frames: Frame numbers in display order, within it.
        stills: Each packet is a picture that needs no other.
    """
    if stills:
        return np.unique(picture_packets(table)[frames])
    return np.concatenate([run.feed for run in plan_runs(table, frames)])


def plan_runs(table: FrameTable, frames: npt.NDArray[np.integer]) -> Iterator[Run]:
    """Yield the runs that give `frames`, each picture once, in the order of the packets.

    Disposable packets are fed only when their own picture is wanted: nothing refers to
    them, so the other pictures are the same to the bit. A run ends with the packet of its
    last wanted picture, and with packets behind it that give no picture of their own (the
    second field of an interlaced one).

    Args:
        table: A frame table that is not empty.
        frames: Frame numbers in display order, within it; duplicates are planned once.
    """
    packets = np.unique(picture_packets(table)[frames])
    # A leading picture stands behind the point that it is shown before, and needs an
    # earlier one: what counts is the earliest entry of this packet and all behind it.
    entries = np.minimum.accumulate(entry_packets(table, packets)[::-1])[::-1]
    without_picture = table[:, RANK] == NO_PICTURE
    disposable = (table[:, FLAGS] & DISPOSABLE) != 0
    first = 0
    while first < len(packets):
        last = first
        while last + 1 < len(packets) and entries[last + 1] <= packets[last]:
            last += 1
        end = int(packets[last]) + 1
        while end < len(table) and without_picture[end] and not table[end, FLAGS] & RANDOM_ACCESS:
            end += 1
        wanted = packets[first : last + 1]
        keep = ~disposable[entries[first] : end]
        keep[wanted - entries[first]] = True
        yield Run(feed=entries[first] + np.flatnonzero(keep), wanted=wanted)
        first = last + 1
