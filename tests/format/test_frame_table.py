from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    CRC32C,
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    NO_PTS,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    check_frame_table,
    empty_frame_table,
)
from clipshards.packer.format.npy import decode_npy, encode_npy
from clipshards.packer.frames.plan import plan_runs

PART_BYTES = 100

# I P B P, the second field of that P, and an open GOP: its leading picture stands behind its point.
GOOD = np.array(
    [
        [0, 40, RANDOM_ACCESS, 0, 0, 9],
        [40, 10, 0, 2, 2, 9],
        [50, 10, DISPOSABLE, 1, 1, 9],
        [60, 5, 0, 3, 3, 9],
        [65, 5, 0, NO_PICTURE, NO_PTS, 9],
        [70, 20, RANDOM_ACCESS, 5, 5, 9],
        [90, 10, DISPOSABLE, 4, 4, 9],
    ]
)


def changed(row: int, column: int, value: int) -> npt.NDArray[np.int64]:
    table = GOOD.copy()
    table[row, column] = value
    return table


def test_the_columns_and_flags_are_those_of_the_format() -> None:
    assert (OFFSET, SIZE, FLAGS, RANK, PTS, CRC32C) == (0, 1, 2, 3, 4, 5)
    assert (RANDOM_ACCESS, DISPOSABLE, CORRUPT) == (1, 2, 4)
    assert (NO_PICTURE, NO_PTS) == (-1, -(2**63))


@pytest.mark.parametrize("table", [GOOD, GOOD[:1], empty_frame_table()])
def test_a_table_that_may_be_followed_comes_back(table: npt.NDArray[np.int64]) -> None:
    read = decode_npy(encode_npy(table), where="x")
    checked = check_frame_table(read, part_bytes=PART_BYTES, where="x")
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, table)


def test_the_empty_table_fits_every_part() -> None:
    assert empty_frame_table().shape == (0, 6)
    assert not len(check_frame_table(empty_frame_table(), part_bytes=0, where="x"))


@pytest.mark.parametrize(
    "table",
    [
        GOOD.astype(np.int32),
        GOOD.astype(np.float64),
        GOOD.astype(">i8"),
        GOOD[:, :5],
        GOOD[0],
        GOOD[None],
        np.empty((0, 5), dtype=np.int64),
        np.empty((0, 0), dtype=np.int64),
        np.empty(0, dtype=np.int64),
        np.array(0),
    ],
    ids=lambda table: f"{table.dtype} {table.shape}",
)
def test_another_shape_or_dtype_is_refused(table: Any) -> None:
    with pytest.raises(FormatError, match=r"expected int64 of shape \(packets, 6\)"):
        check_frame_table(table, part_bytes=PART_BYTES, where="x")


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, OFFSET, -1),
        (2, OFFSET, 91),
        (2, OFFSET, 100),
        (2, OFFSET, 2**63 - 1),
        (2, OFFSET, -(2**63)),
        (2, SIZE, 0),
        (2, SIZE, -1),
        (2, SIZE, 51),
        (2, SIZE, 2**63 - 1),
        (2, SIZE, -(2**63)),
    ],
)
def test_a_packet_outside_the_part_is_refused(row: int, column: int, value: int) -> None:
    with pytest.raises(FormatError, match=f"x: packet {row} is .* outside the part's 100"):
        check_frame_table(changed(row, column, value), part_bytes=PART_BYTES, where="x")


def test_a_packet_may_end_where_the_part_ends() -> None:
    check_frame_table(GOOD, part_bytes=100, where="x")
    with pytest.raises(FormatError, match="packet 6 is 10 bytes at 90"):
        check_frame_table(GOOD, part_bytes=99, where="x")


@pytest.mark.parametrize("flags", [8, 9, -1, 2**62, -(2**63)])
def test_unknown_flags_are_refused(flags: int) -> None:
    with pytest.raises(FormatError, match="unknown packet flags"):
        check_frame_table(changed(2, FLAGS, flags), part_bytes=PART_BYTES, where="x")


@pytest.mark.parametrize("crc", [-1, 2**32, -(2**63)])
def test_a_number_that_is_no_checksum_is_refused(crc: int) -> None:
    with pytest.raises(FormatError, match="checksum is not in 0 to"):
        check_frame_table(changed(2, CRC32C, crc), part_bytes=PART_BYTES, where="x")
    check_frame_table(changed(2, CRC32C, 2**32 - 1), part_bytes=PART_BYTES, where="x")


@pytest.mark.parametrize(
    ("row", "rank"), [(2, 2), (2, 5), (2, -2), (4, 7), (0, NO_PICTURE), (2, 2**63 - 1)]
)
def test_ranks_that_are_not_each_frame_once_are_refused(row: int, rank: int) -> None:
    with pytest.raises(FormatError, match="display ranks are not 0 to"):
        check_frame_table(changed(row, RANK, rank), part_bytes=PART_BYTES, where="x")


def test_a_first_packet_without_random_access_is_refused() -> None:
    with pytest.raises(FormatError, match="first packet is not a random-access point"):
        check_frame_table(changed(0, FLAGS, DISPOSABLE), part_bytes=PART_BYTES, where="x")


@pytest.mark.parametrize(
    "ranks",
    [[1, 0], [2, 0, 1], [NO_PICTURE, 0]],
    ids=["leading picture", "two leading pictures", "entry without a picture"],
)
def test_a_frame_without_an_entry_is_refused(ranks: list[int]) -> None:
    table = np.array([[i, 1, RANDOM_ACCESS * (i == 0), rank, 0, 0] for i, rank in enumerate(ranks)])
    with pytest.raises(FormatError):
        check_frame_table(table, part_bytes=PART_BYTES, where="x")


def test_an_entry_that_may_be_left_out_is_refused() -> None:
    for row in (0, 6):
        with pytest.raises(FormatError):
            check_frame_table(
                changed(row, FLAGS, RANDOM_ACCESS | DISPOSABLE), part_bytes=PART_BYTES, where="x"
            )


@pytest.mark.parametrize(("row", "flag"), [(4, RANDOM_ACCESS), (4, DISPOSABLE), (3, DISPOSABLE)])
def test_flags_beside_a_packet_without_a_picture_are_refused(row: int, flag: int) -> None:
    with pytest.raises(FormatError):
        check_frame_table(changed(row, FLAGS, flag), part_bytes=PART_BYTES, where="x")


@pytest.mark.parametrize("flag", [RANDOM_ACCESS, DISPOSABLE])
def test_a_picture_that_is_only_hidden_keeps_its_flags(flag: int) -> None:
    table = changed(4, FLAGS, CORRUPT | flag)
    check_frame_table(table, part_bytes=PART_BYTES, where="x")


@settings(max_examples=300, deadline=None)
@given(
    npst.arrays(np.int64, npst.array_shapes(max_dims=3, max_side=6))
    | npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=2, min_side=0)),
    st.integers(0, 2**40),
)
def test_arbitrary_arrays_are_refused_with_our_error(array: Any, part_bytes: int) -> None:
    if array.dtype == np.int64 and array.ndim == 2 and array.shape[1] == 5:
        return
    with pytest.raises(FormatError):
        check_frame_table(array, part_bytes=part_bytes, where="x")


@settings(max_examples=500, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(st.permutations(range(n)), st.lists(st.integers(0, 7), min_size=n))
    )
)
@example(([1, 0], [1, 0]))
def test_a_plan_can_be_made_by_every_table_that_passes(
    made_of: tuple[list[int], list[int]],
) -> None:
    ranks, flags = made_of
    table = np.array([[i, 1, flags[i], rank, 0] for i, rank in enumerate(ranks)])
    try:
        check_frame_table(table, part_bytes=PART_BYTES, where="x")
    except FormatError:
        return
    for frame in range(len(ranks)):
        (run,) = plan_runs(table, np.array([frame]))
        assert table[run.wanted, RANK].tolist() == [frame]
        assert table[run.feed[0], FLAGS] & RANDOM_ACCESS
        assert (np.diff(run.feed) > 0).all()
