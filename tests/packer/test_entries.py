"""What `pack` makes of any iterable of records, before it opens media."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshards.packer import Origin, Reject, VideoRecord
from clipshards.packer.entries import check_entries
from clipshards.packer.format.manifest import LabelMode


def check(
    *records: Any, labels: LabelMode = "one", class_names: tuple[str, ...] = ()
) -> list[VideoRecord | Reject]:
    return check_entries(records, labels=labels, class_names=class_names)


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
        (VideoRecord("a\0.mp4", (1,)), "expected a path, got 'a\\x00.mp4'", "a\0.mp4"),
        (VideoRecord("a\udcff.mp4", (1,)), "valid Unicode, got 'a\\udcff.mp4'", "a\\udcff.mp4"),
        (
            VideoRecord("a.mp4", (1,), id="\ud800"),
            "valid Unicode, got 'a.mp4', '\\ud800'",
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
    with pytest.raises(TypeError, match=r"records\[1\]: expected a VideoRecord, got"):
        check(VideoRecord("a.mp4", (1,)), wrong)


@pytest.mark.parametrize(
    "record",
    [
        VideoRecord(Path("a.mp4"), (1,)),  # type: ignore[arg-type]
        VideoRecord("a.mp4", 1),  # type: ignore[arg-type]
        VideoRecord("a.mp4", (1,), id=7),  # type: ignore[arg-type]
    ],
)
def test_record_with_a_field_of_a_wrong_type_is_a_wrong_type(record: VideoRecord) -> None:
    with pytest.raises(TypeError):
        check(record)


def test_generator_is_read_once() -> None:
    def records() -> Iterator[VideoRecord]:
        for number in range(3):
            yield VideoRecord(f"{number}.mp4", (number,))

    found = check_entries(records(), labels="one", class_names=())
    assert [str(entry.origin) for entry in found] == ["records[0]", "records[1]", "records[2]"]


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
