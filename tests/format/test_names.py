import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.format.names import check_split, member_name, sample_key, shard_name
from clipshards.packer.format.tar import MAX_NAME, encode_header
from clipshards.packer.format.tasks import PART_KINDS


@pytest.mark.parametrize("split", ["train", "0", "val_2", "a" * 32, "9_"])
def test_good_splits_pass(split: str) -> None:
    assert check_split(split) == split


@pytest.mark.parametrize(
    "split",
    ["", "_a", "Train", "a" * 33, "a-b", "a.b", "a/b", "..", "a ", "a\n", "é", "٣", "a\0"],
)
def test_other_splits_are_refused(split: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 32 characters"):
        check_split(split)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=34))
def test_the_rule_is_that_of_the_specification(split: str) -> None:
    good = re.fullmatch(r"[a-z0-9][a-z0-9_]{0,31}", split, re.ASCII) is not None
    try:
        check_split(split)
    except ValueError:
        assert not good
    else:
        assert good


def test_numbers_grow_beyond_their_padding() -> None:
    assert [shard_name("a", n) for n in (0, 999_999, 1_000_000)] == [
        "a-000000.tar",
        "a-999999.tar",
        "a-1000000.tar",
    ]
    assert [sample_key("a", n) for n in (0, 99_999_999, 100_000_000)] == [
        "a-00000000",
        "a-99999999",
        "a-100000000",
    ]


def test_the_longest_names_fit_into_a_header() -> None:
    key = sample_key("s" * 32, 2**63 - 1)
    assert "." not in key
    for part in PART_KINDS:
        assert len(member_name(key, part)) < MAX_NAME
        encode_header(member_name(key, part), 1)
