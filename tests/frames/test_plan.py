"""The decode plan is arithmetic on the table; no video is needed to check it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.format.frame_table import (
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    NO_PTS,
    RANDOM_ACCESS,
    RANK,
    FrameTable,
)
from clipshards.packer.frames.plan import entry_packets, picture_packets, plan_runs


def table_of(text: str) -> FrameTable:
    """Return the table of packets written as `I0 P3 b1 b2`: kind, then display rank.

    I is a random-access point, b is disposable, P is neither; `-` stands for no picture.
    """
    rows = []
    for place, packet in enumerate(text.split()):
        flags = {"I": RANDOM_ACCESS, "b": DISPOSABLE, "P": 0}[packet[0]]
        rank = NO_PICTURE if packet[1:] == "-" else int(packet[1:])
        rows.append((place * 100, 100, flags, rank, NO_PTS, 0))
    return np.array(rows, dtype=np.int64)


def runs(text: str, frames: list[int]) -> list[tuple[list[int], list[int]]]:
    plan = plan_runs(table_of(text), np.array(frames))
    return [(run.feed.tolist(), run.wanted.tolist()) for run in plan]


TWO_CLOSED = "I0 P3 b1 b2 I4 P7 b5 b6"
# The pictures behind the second I are shown before it and refer to what is before it.
OPEN = "I0 P3 b1 b2 I6 b4 b5 P9 b7 b8"


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        # One GOP, nothing but what is needed; the order asked for does not matter.
        (TWO_CLOSED, [0], [([0], [0])]),
        (TWO_CLOSED, [3], [([0, 1], [1])]),
        (TWO_CLOSED, [3, 0, 3], [([0, 1], [0, 1])]),
        # A disposable picture is fed if it is wanted, its neighbour is not.
        (TWO_CLOSED, [1], [([0, 1, 2], [2])]),
        (TWO_CLOSED, [2], [([0, 1, 3], [3])]),
        # Each GOP is a run of its own, and what lies between is not decoded.
        (TWO_CLOSED, [0, 7], [([0], [0]), ([4, 5], [5])]),
        (TWO_CLOSED, [2, 4], [([0, 1, 3], [3]), ([4], [4])]),
        (TWO_CLOSED, [6], [([4, 5, 7], [7])]),
        (TWO_CLOSED, list(range(8)), [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [4, 5, 6, 7])]),
        # A leading picture needs the point before the one that it stands behind.
        (OPEN, [4], [([0, 1, 4, 5], [5])]),
        (OPEN, [6], [([4], [4])]),
        (OPEN, [9], [([4, 7], [7])]),
        (OPEN, [4, 6], [([0, 1, 4, 5], [4, 5])]),
        # A run goes on while its decoder stands at the point anyway.
        (OPEN, [4, 9], [([0, 1, 4, 5, 7], [5, 7])]),
        # One run reaches over the point, since a picture behind it needs the way there.
        (OPEN, [0, 6, 5], [([0, 1, 4, 6], [0, 4, 6])]),
        (OPEN, [6, 9], [([4, 7], [4, 7])]),
        # The packet behind may be the second field: it is fed too, but not a new point.
        ("I0 P- P1 P- I2 P-", [0], [([0, 1], [0])]),
        ("I0 P- P1 P- I2 P-", [1], [([0, 1, 2, 3], [2])]),
        ("I0 P- P1 P- I2 P-", [0, 2], [([0, 1], [0]), ([4, 5], [4])]),
        # Hidden pictures of VP8 and VP9 are fed on the way.
        ("I0 P- P1 P2", [2], [([0, 1, 2, 3], [3])]),
        ("I0 I1 I2 I3", [3, 1], [([1], [1]), ([3], [3])]),
        ("I0", [0, 0], [([0], [0])]),
        ("I0 P1", [], []),
    ],
)
def test_plan_feeds_what_the_frames_need(
    text: str, frames: list[int], expected: list[tuple[list[int], list[int]]]
) -> None:
    if not frames:
        assert list(plan_runs(table_of(text), np.array([], dtype=np.int64))) == []
        return
    assert runs(text, frames) == expected


def test_pictures_are_counted_in_display_order() -> None:
    assert picture_packets(table_of("I0 P3 P- b1 b2")).tolist() == [0, 3, 4, 1]


def test_entry_is_the_last_point_that_serves_the_packet() -> None:
    table = table_of(OPEN)
    assert entry_packets(table, np.arange(10)).tolist() == [0, 0, 0, 0, 4, 0, 0, 4, 4, 4]


def test_packet_that_no_point_serves_has_no_entry() -> None:
    assert entry_packets(table_of("P0 I1 P2"), np.arange(3)).tolist() == [-1, 1, 1]
    assert entry_packets(table_of("I1 P0"), np.arange(2)).tolist() == [0, -1]


@st.composite
def tables(draw: st.DrawFn) -> FrameTable:
    """Return a table in which every picture is served by some point, as scanning makes it."""
    kinds = "I" + draw(st.text("IPPbb-", min_size=0, max_size=30))
    rank = 0
    rows = []
    for kind in kinds:
        flags = {"I": RANDOM_ACCESS, "b": DISPOSABLE}.get(kind, 0)
        rows.append([0, 1, flags, NO_PICTURE if kind == "-" else rank, NO_PTS, 0])
        rank += kind != "-"
    table = np.array(rows, dtype=np.int64)
    # Reorder for display: swap neighbours, but never bring a picture before the first one.
    shown = np.flatnonzero(table[:, RANK] != NO_PICTURE)
    for place in range(1, len(shown) - 1):
        if draw(st.booleans()):
            pair = shown[[place, place + 1]]
            table[pair, RANK] = table[pair[::-1], RANK]
    return table


@given(table=tables(), data=st.data())
def test_plan_holds_for_any_table(table: FrameTable, data: st.DataObject) -> None:
    pictures = picture_packets(table)
    frames = data.draw(st.lists(st.integers(0, len(pictures) - 1), min_size=1, max_size=12))
    plan = list(plan_runs(table, np.array(frames)))
    wanted = [packet for run in plan for packet in run.wanted.tolist()]
    # Every picture once, in the order of the packets.
    assert wanted == sorted({int(pictures[frame]) for frame in frames})
    disposable = set(np.flatnonzero(table[:, FLAGS] & DISPOSABLE).tolist())
    for run in plan:
        feed = run.feed.tolist()
        assert feed == sorted(set(feed))
        assert set(run.wanted.tolist()) <= set(feed)
        entry, last = feed[0], int(run.wanted[-1])
        assert table[entry, FLAGS] & RANDOM_ACCESS
        # Nothing on the way is missing, and no picture is decoded for nothing.
        assert {p for p in range(entry, last + 1) if p not in disposable} <= set(feed)
        assert disposable & set(feed) <= set(run.wanted.tolist())
        assert all(table[packet, RANK] == NO_PICTURE for packet in feed if packet > last)
        for packet in run.wanted.tolist():
            assert entry <= entry_packets(table, np.array([packet]))[0]
        assert entry == entry_packets(table, run.wanted).min()
    # Runs are disjoint in what they give, ascending, and begin behind the run before.
    for before, after in pairwise(plan):
        assert before.wanted[-1] < after.wanted[0]
        assert before.feed[0] < after.feed[0]
