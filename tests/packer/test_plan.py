from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipshards.packer import (
    AudioRecord,
    Excluded,
    Origin,
    Recipe,
    Reject,
    SkeletonRecord,
    VideoRecord,
)
from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import FormatError
from clipshards.packer.plan import Plan, Request, cut_evenly, digest_of_entries, make_plan
from clipshards.packer.records import Record

sizes = st.lists(st.one_of(st.integers(0, 50), st.integers(0, 10**12)), max_size=60)
targets = st.one_of(st.integers(1, 100), st.integers(1, 10**12))


def request(seed: int | None = 0, shard_size: int = 100_000) -> Request:
    return Request(
        split="train",
        task="video",
        optional=(),
        labels="one",
        class_names=(),
        recipe=Recipe(),
        seed=seed,
        shard_size=shard_size,
        allow_outside=False,
        records_digest="0" * 64,
    )


def plan_of(request: Request, sizes: list[int | None]) -> Plan:
    return make_plan(request, len(sizes), dict(enumerate(sizes)))


@given(sizes, targets)
@example([], 1)
@example([0, 0, 0], 5)
@example([100, 1, 1, 1], 50)
def test_pieces_cover_everything_once_and_none_is_empty(sizes: list[int], target: int) -> None:
    pieces = cut_evenly(sizes, target)
    assert [place for start, stop in pieces for place in range(start, stop)] == list(
        range(len(sizes))
    )
    assert all(start < stop for start, stop in pieces)


@given(sizes, targets)
def test_no_piece_is_larger_than_asked_by_more_than_half_and_one_element(
    sizes: list[int], target: int
) -> None:
    total = sum(sizes)
    count = max(1, int(Fraction(total, target) + Fraction(1, 2)))
    fair = Fraction(total, count)
    assert fair <= Fraction(3, 2) * target
    for start, stop in cut_evenly(sizes, target):
        assert sum(sizes[start:stop]) <= fair + max(sizes)


@given(sizes, targets)
def test_pieces_are_as_many_as_targets_fit_unless_elements_are_larger(
    sizes: list[int], target: int
) -> None:
    total = sum(sizes)
    count = max(1, int(Fraction(total, target) + Fraction(1, 2)))
    pieces = cut_evenly(sizes, target)
    assert len(pieces) <= count
    # An element's middle lies in every piece, if no element is larger than a piece.
    if sizes and total and max(sizes) <= Fraction(total, count):
        assert len(pieces) == count


@given(st.integers(1, 300), st.integers(1, 10**9), st.integers(1, 10**10))
def test_equal_elements_are_spread_evenly(count: int, size: int, target: int) -> None:
    lengths = [stop - start for start, stop in cut_evenly([size] * count, target)]
    assert max(lengths) - min(lengths) <= 1
    # As many as targets fit, halves rounded up.
    assert len(lengths) == min(count, max(1, int(Fraction(count * size, target) + Fraction(1, 2))))


def test_records_without_a_known_size_count_the_mean() -> None:
    known = plan_of(request(None), [50_000] * 40)
    some = plan_of(request(None), [50_000, None] * 20)
    none = plan_of(request(None), [None] * 40)
    assert known.shards == some.shards
    assert len(known.shards) > len(none.shards)


def test_rejects_are_in_no_shard() -> None:
    plan = make_plan(request(), 6, dict.fromkeys([0, 1, 3, 4, 5], 10))
    assert sorted(ordinal for shard in plan.shards for ordinal in shard) == [0, 1, 3, 4, 5]
    assert plan.entries == 6


def test_order_is_kept_without_a_seed() -> None:
    plan = plan_of(request(None), [1000] * 50)
    assert [ordinal for shard in plan.shards for ordinal in shard] == list(range(50))
    assert len(plan.shards) > 3


def test_shuffle_depends_on_the_seed_alone() -> None:
    def order(seed: int, shard_size: int = 100_000) -> list[int]:
        plan = plan_of(request(seed, shard_size), [1000] * 50)
        return [ordinal for shard in plan.shards for ordinal in shard]

    assert sorted(order(0)) == list(range(50))
    assert order(0) != list(range(50))
    assert order(0) == order(0, shard_size=10_000_000)
    assert order(0) != order(1)
    # The order is part of what a seed promises, in every release.
    assert order(0)[:5] == [46, 15, 44, 36, 20]


def test_neighbours_are_parted_by_the_shuffle() -> None:
    plan = plan_of(request(), [1] * 1000)
    order = [ordinal for shard in plan.shards for ordinal in shard]
    assert sum(abs(one - other) == 1 for one, other in pairwise(order)) < 10


@given(sizes, targets)
def test_stored_plan_reads_back_as_it_was(sizes: list[int | None], shard_size: int) -> None:
    plan = plan_of(request(0, shard_size), sizes)
    again = Plan.decode(plan.encode(), where="plan.json")
    assert again == plan
    assert again.digest == plan.digest
    assert again.request_digest == request(0, shard_size).digest


def test_damaged_plan_is_named() -> None:
    data = plan_of(request(), [1] * 3).encode()
    for damaged in (b"", data[:-1], data.replace(b"clipshards-plan", b"another-thing")):
        with pytest.raises(FormatError, match=r"^plan\.json: "):
            Plan.decode(damaged, where="plan.json")


def test_digest_of_entries_sees_every_field() -> None:
    origin = Origin("list.txt", line=1)
    array = np.arange(4, dtype=np.float32)
    variants: list[Record | Reject | Excluded] = [
        VideoRecord("a", (1,), "id", origin),
        VideoRecord("b", (1,), "id", origin),
        VideoRecord("a", (2,), "id", origin),
        VideoRecord("a", (1, 2), "id", origin),
        VideoRecord("a", (1,), "", origin),
        VideoRecord("a", (1,), "id", Origin("list.txt", line=2)),
        VideoRecord("a", (1,), "id", Origin("other.txt", line=1)),
        VideoRecord("a", (1,), "id", Origin("list.txt", index=1)),
        AudioRecord(path="a", total_frames=1, labels=(1,), id="id", origin=origin),
        SkeletonRecord(total_frames=1, keypoint=array, id="id", origin=origin),
        SkeletonRecord(total_frames=1, keypoint=array + 1, id="id", origin=origin),
        SkeletonRecord(total_frames=1, keypoint=array[:, None], id="id", origin=origin),
        SkeletonRecord(total_frames=1, keypoint=array.view("i4"), id="id", origin=origin),
        SkeletonRecord(total_frames=1, keypoint_score=array, id="id", origin=origin),
        Reject("a", id="id", origin=origin),
        Reject("b", id="id", origin=origin),
        Reject("a", "MediaError", "id", origin),
        Excluded("a", id="id", origin=origin),
    ]
    assert len({digest_of_entries([Entry(0, 1, entry)]) for entry in variants}) == len(variants)
