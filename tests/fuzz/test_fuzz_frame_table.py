"""Frame tables of any numbers, and the plans that decoders make of those that pass."""

import numpy as np
from fuzz_inputs import LARGE, fuzzed, read
from fuzz_shards import golden_parts
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    NO_PTS,
    RANDOM_ACCESS,
    RANK,
    FrameTable,
    check_frame_table,
)
from clipshards.packer.format.npy import decode_npy
from clipshards.packer.frames.plan import (
    entry_packets,
    needed_packets,
    picture_packets,
    plan_runs,
)

PART_BYTES = 1 << 20
TABLES = [
    decode_npy(data, where="golden").astype(np.int64)
    for (_, part), found in golden_parts().items()
    if part.endswith("frames.npy")
    for data in found
]
CELLS = st.integers(-2, 8) | st.sampled_from(
    [number for large in LARGE for number in (large, -large) if -(2**63) <= number < 2**63]
    + [NO_PTS, PART_BYTES, PART_BYTES + 1]
)


@st.composite
def altered_tables(draw: st.DrawFn) -> FrameTable:
    """Return a golden table with some cells of any column replaced, rows doubled or moved."""
    table = draw(st.sampled_from(TABLES)).copy()
    for _ in range(draw(st.integers(0, 4)) if len(table) else 0):
        row = draw(st.integers(0, len(table) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                table = np.concatenate([table, table[row : row + 1]])
            case 1:
                table = np.roll(table, row, axis=0)
            case _:
                table[row, draw(st.integers(0, 5))] = draw(CELLS)
    return table


@st.composite
def near_tables(draw: st.DrawFn) -> FrameTable:
    """Return a table whose ranks and flags are any, and the rest of which is sound."""
    rows = draw(st.integers(1, 12))
    shown = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    order = iter(draw(st.permutations(range(sum(shown)))))
    flags = st.sampled_from([0, RANDOM_ACCESS, DISPOSABLE, CORRUPT, RANDOM_ACCESS | CORRUPT])
    table = np.zeros((rows, 6), dtype=np.int64)
    table[:, 1] = 1
    for row, is_shown in enumerate(shown):
        table[row, RANK] = next(order) if is_shown else NO_PICTURE
        table[row, FLAGS] = draw(flags)
    table[0, FLAGS] |= RANDOM_ACCESS
    return table


@fuzzed(200)
@given(altered_tables() | near_tables(), st.data())
def test_a_table_is_refused_or_a_decoder_can_follow_it(
    table: FrameTable, data: st.DataObject
) -> None:
    checked = read(
        lambda: check_frame_table(table, part_bytes=PART_BYTES, where="x"),
        table.nbytes,
        errors=FormatError,
    )
    frames = 0 if checked is None else int((checked[:, RANK] != NO_PICTURE).sum())
    if not frames:
        return
    pictures = picture_packets(checked)
    assert checked[pictures, RANK].tolist() == list(range(frames))
    entries = entry_packets(checked, pictures)
    assert (checked[entries, FLAGS] & RANDOM_ACCESS != 0).all()
    assert (entries >= 0).all()
    assert (entries <= pictures).all()
    wanted = data.draw(st.lists(st.integers(0, frames - 1), min_size=1, max_size=20))
    numbers = np.array(wanted, dtype=np.int64)
    runs = read(lambda: list(plan_runs(checked, numbers)), table.nbytes)
    feed = np.concatenate([run.feed for run in runs])
    # Each packet once at most, in their order.
    assert (np.diff(feed) > 0).all()
    assert 0 <= feed[0] <= feed[-1] < len(checked)
    assert np.isin(pictures[numbers], feed).all()
    for run in runs:
        assert checked[run.feed[0], FLAGS] & RANDOM_ACCESS
        assert (run.feed[0] <= entries[checked[run.wanted, RANK]]).all()
        assert np.isin(run.wanted, run.feed).all()
    for stills in (False, True):
        packets = needed_packets(checked, numbers, stills=stills)
        assert np.isin(pictures[numbers], packets).all()


@fuzzed(40)
@given(
    st.lists(st.lists(CELLS, min_size=6, max_size=6), max_size=6),
    st.sampled_from([0, 1, PART_BYTES, *LARGE[:7]]),
)
def test_any_numbers_are_refused_with_our_error(rows: list[list[int]], part_bytes: int) -> None:
    table = np.array(rows, dtype=np.int64).reshape(-1, 6)
    read(
        lambda: check_frame_table(table, part_bytes=part_bytes, where="x"),
        table.nbytes,
        errors=FormatError,
    )
