"""What `pack` makes of any iterable of records, before it opens media."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshards.packer import AudioRecord, Excluded, Origin, Reject, VideoRecord
from clipshards.packer.entries import check_entries
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.labels import LabelRule


def check(*records: Any, labels: LabelMode = "one", class_names: tuple[str, ...] = ()) -> list[Any]:
    _, entries = check_entries(records, LabelRule(labels, class_names))
    return [entry.value for entry in entries]


def test_record_without_an_origin_gets_its_place() -> None:
    first, second = check(VideoRecord("a.mp4", (1,)), VideoRecord("b.mp4", (2,)))
    assert first == VideoRecord("a.mp4", (1,), origin=Origin("records", index=0))
    assert str(second.origin) == "records[1]"


def test_origin_of_the_users_is_kept() -> None:
    origin = Origin("db.sqlite", index=77)
    (record,) = check(VideoRecord("a.mp4", (1,), origin=origin))
    assert record.origin == origin


def test_reject_keeps_its_words_and_gets_its_place() -> None:
    _, reject = check(VideoRecord("a.mp4", (1,)), Reject("no video", error="MyError", id="x"))
    assert reject == Reject("no video", "MyError", "x", Origin("records", index=1))


@pytest.mark.parametrize(
    ("labels", "classes", "says"),
    [
        ("one", (), "expected exactly one label, got []"),
        ("one", (1, 2), "expected exactly one label, got [1, 2]"),
        ("many", (), "expected at least one label, got []"),
        ("none", (1,), "expected no label, got [1]"),
        ("one", (-1,), "expected class ids of 0 or more, got -1"),
        ("one", (2**63,), f"expected class ids of 0 or more, got {2**63}"),
        ("one", (1.0,), "expected class ids of 0 or more, got 1.0"),
        ("one", ("1",), "expected class ids of 0 or more, got '1'"),
        ("one", (True,), "expected class ids of 0 or more, got True"),
        ("one", (None,), "expected class ids of 0 or more, got None"),
        ("many", (0, 3), "expected a class id below 3 (class names given), got 3"),
    ],
)
def test_labels_that_do_not_fit_are_rejected(
    labels: LabelMode, classes: tuple[Any, ...], says: str
) -> None:
    (entry,) = check(
        VideoRecord("a.mp4", classes, id="mine"), labels=labels, class_names=("a", "b", "c")
    )
    assert entry == Reject(says, "AnnotationError", "mine", Origin("records", index=0))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [("one", (0,)), ("one", (2**63 - 1,)), ("many", (1,)), ("many", (5, 5, 0)), ("none", ())],
)
def test_labels_that_fit_are_kept_as_they_are(labels: LabelMode, classes: tuple[int, ...]) -> None:
    (entry,) = check(VideoRecord("a.mp4", classes), labels=labels)
    assert isinstance(entry, VideoRecord)
    assert entry.labels == classes


def test_last_named_class_is_allowed() -> None:
    (entry,) = check(VideoRecord("a.mp4", (2,)), class_names=("a", "b", "c"))
    assert isinstance(entry, VideoRecord)


@pytest.mark.parametrize(
    ("record", "says", "name"),
    [
        (VideoRecord("", (1,)), "expected a path, got ''", ""),
        (VideoRecord("a\0.mp4", (1,)), "without NUL characters, got 'a\\x00.mp4'", "a\0.mp4"),
        (VideoRecord("a\udcff.mp4", (1,)), "valid Unicode, got 'a\\udcff.mp4'", "a\\udcff.mp4"),
        (
            VideoRecord("a.mp4", (1,), id="\ud800"),
            "id: expected valid Unicode, got '\\ud800'",
            "\\ud800",
        ),
    ],
)
def test_name_that_cannot_be_stored_is_rejected(record: VideoRecord, says: str, name: str) -> None:
    (entry,) = check(record)
    assert isinstance(entry, Reject)
    assert says in entry.message
    assert entry.id == name
    entry.message.encode()


@pytest.mark.parametrize("wrong", ["a.mp4 1", ("a.mp4", (1,)), {"path": "a.mp4"}, None, Path("a")])
def test_something_else_than_a_record_is_a_wrong_type(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"records\[0\]: expected a record, got"):
        check(wrong)
    with pytest.raises(TypeError, match=r"records\[1\]: expected VideoRecord, got"):
        check(VideoRecord("a.mp4", (1,)), wrong)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (VideoRecord(Path("a.mp4"), (1,)), "path: expected text"),  # type: ignore[arg-type]
        (VideoRecord("a.mp4", 1), "labels: expected a tuple of class"),  # type: ignore[arg-type]
        (VideoRecord("a.mp4", "1"), "labels: expected a tuple of class"),  # type: ignore[arg-type]
        (VideoRecord("a.mp4", (1,), id=7), "id: expected text, got 7"),  # type: ignore[arg-type]
        (VideoRecord("a.mp4", (1,), origin="l:1"), "expected an Origin"),  # type: ignore[arg-type]
        (
            VideoRecord("a.mp4", (1,), origin=Origin(Path("l"))),  # type: ignore[arg-type]
            "file: expected text",
        ),
        (
            VideoRecord("a.mp4", (1,), origin=Origin("l", line="3")),  # type: ignore[arg-type]
            "expected whole numbers",
        ),
        (Reject(ValueError("x")), "message: expected text"),  # type: ignore[arg-type]
        (Excluded("test", id=3), "id: expected text"),  # type: ignore[arg-type]
        (AudioRecord(path="a.npy", total_frames=2.0), "total_frames: expected a whole number"),  # type: ignore[arg-type]
    ],
)
def test_record_with_a_field_of_a_wrong_type_is_a_wrong_type(record: Any, says: str) -> None:
    with pytest.raises(TypeError, match=rf"^records\[1\]: .*{says}"):
        check(Reject("x"), record)


def test_numbers_of_numpy_are_stored_as_plain_ones() -> None:
    origin = Origin("table.csv", line=np.int64(3))  # type: ignore[arg-type]
    (entry,) = check(VideoRecord("a.mp4", (1,), origin=origin))
    assert type(entry.origin.line) is int


def test_reject_without_a_class_of_error_gets_one() -> None:
    first, second = check(Reject("x", error=""), Reject("y", error="\udcff"))
    assert (first.error, second.error) == ("AnnotationError", "\\udcff")


def test_records_of_two_classes_do_not_mix() -> None:
    with pytest.raises(TypeError, match=r"records\[2\]: expected VideoRecord as before, got Audio"):
        check(VideoRecord("a.mp4", (1,)), Reject("x"), AudioRecord(path="a.npy", total_frames=3))


def test_ordinals_count_the_entries_before() -> None:
    kind, entries = check_entries(
        [
            Reject("x"),
            VideoRecord("a.mp4", (1,)),
            Excluded("valid_ratio"),
            VideoRecord("b.mp4", ()),
        ],
        LabelRule("one", ()),
    )
    assert kind is not None
    assert kind.task == "video"
    assert [(entry.ordinal, entry.entries) for entry in entries] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert [type(entry.value) for entry in entries] == [Reject, VideoRecord, Excluded, Reject]


def test_entries_without_any_record_have_no_kind() -> None:
    assert check_entries([Reject("x")], LabelRule("one", ()))[0] is None


def test_generator_is_read_once() -> None:
    def records() -> Iterator[VideoRecord]:
        for number in range(3):
            yield VideoRecord(f"{number}.mp4", (number,))

    _, found = check_entries(records(), LabelRule("one", ()))
    places = [str(entry.value.origin) for entry in found]
    assert places == ["records[0]", "records[1]", "records[2]"]


def test_integers_of_numpy_are_labels_too() -> None:
    labels: Any = (np.int64(3), np.uint8(1))
    (entry,) = check(VideoRecord("a.mp4", labels), labels="many")
    assert isinstance(entry, VideoRecord)
    assert [type(label) for label in entry.labels] == [int, int]
    assert entry.labels == (3, 1)


def test_text_that_is_no_unicode_is_spelled_out_in_a_reject() -> None:
    given = Reject("no \udcff", id="\ud800", origin=Origin("l\udc80.txt", line=3))
    (entry,) = check(given)
    assert entry == Reject("no \\udcff", id="\\ud800", origin=Origin("l\\udc80.txt", line=3))
