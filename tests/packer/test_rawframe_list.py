import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.annotations.rawframe_list import RawframeList
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.frame_names import frame_name, is_flow
from clipshards.packer.records import FrameRange, Origin, RawframesRecord, Reject


def entries_of(tmp_path: Path, data: bytes, **options: Any) -> list[RawframesRecord | Reject]:
    file = tmp_path / "list.txt"
    file.write_bytes(data)
    return list(RawframeList(file, **options))


def only_record(tmp_path: Path, line: str, **options: Any) -> RawframesRecord:
    (entry,) = entries_of(tmp_path, line.encode(), **options)
    assert isinstance(entry, RawframesRecord), entry
    return entry


def at(line: int) -> Origin:
    return Origin("list.txt", line=line)


def test_line_becomes_a_record(tmp_path: Path) -> None:
    options = {"filename_tmpl": "f_{}_{:04d}.png", "start_index": 0, "rate": 12.5}
    assert only_record(tmp_path, "a/b 30 6\n", **options) == RawframesRecord(
        folder="a/b",
        ranges=(FrameRange(total_frames=30, labels=(6,), origin=at(1)),),
        filename_tmpl="f_{}_{:04d}.png",
        start_index=0,
        rate=12.5,
        exact=True,
        origin=at(1),
    )


@pytest.mark.parametrize(
    ("line", "options", "offset", "total", "labels"),
    [
        ("a 30 6", {}, 0, 30, (6,)),
        ("a 30 0", {"labels": "many"}, 0, 30, (0,)),
        ("a 30 6 9 6", {"labels": "many"}, 0, 30, (6, 9, 6)),
        ("a 30", {"labels": "none"}, 0, 30, ()),
        ("a 0 30 6", {"with_offset": True}, 0, 30, (6,)),
        ("a 12 30 6", {"with_offset": True}, 12, 30, (6,)),
        ("a 12 30 6 9", {"with_offset": True, "labels": "many"}, 12, 30, (6, 9)),
        ("a 12 30", {"with_offset": True, "labels": "none"}, 12, 30, ()),
        ("a\t30   6 ", {}, 0, 30, (6,)),
        ("  a\xa030\u30006", {}, 0, 30, (6,)),
        ("a +30 007", {}, 0, 30, (7,)),
        ("a 1_000 \u0663", {}, 0, 1000, (3,)),
    ],
)
def test_fields_are_read_as_mmaction2_reads_them(
    tmp_path: Path,
    line: str,
    options: dict[str, Any],
    offset: int,
    total: int,
    labels: tuple[int, ...],
) -> None:
    record = only_record(tmp_path, line, **options)
    expected = FrameRange(offset=offset, total_frames=total, labels=labels, origin=at(1))
    assert (record.folder, record.ranges) == ("a", (expected,))


OFFSETS: dict[str, Any] = {"with_offset": True}
MANY: dict[str, Any] = {"labels": "many"}
NONE: dict[str, Any] = {"labels": "none"}


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("a", {}, "expected 'dir total_frames label', got 'a'"),
        ("a 30", {}, "'dir total_frames label', got 'a 30'; is this list unlabelled?"),
        ("a 30", MANY, "'dir total_frames label [label ...]', got 'a 30'; is this list unlabelled"),
        ("a 30 6", NONE, "packed unlabelled, got 'a 30 6'; is this list labelled, or with"),
        ("a 0 10 6", {}, "is this list multi-label, or with offsets?"),
        ("a 30 6 9 1", {}, "is this list multi-label?"),
        ("a 0 10", NONE, "is this list labelled, or with offsets?"),
        ("a 0 10 6", MANY, "expected total_frames, 1 or more, got '0' in 'a 0 10 6'; is this list"),
        ("a 30 6", OFFSETS, "'dir offset total_frames label', got 'a 30 6'"),
        ("a 30 6", OFFSETS, "is this list unlabelled, or without offsets?"),
        ("a 30 6", OFFSETS | MANY, "is this list unlabelled, or without offsets?"),
        ("a 30", OFFSETS | NONE, "is this list without offsets?"),
        ("a 1 30 6 9", OFFSETS, "is this list multi-label?"),
        ("a 0 6", {}, "expected total_frames, 1 or more, got '0' in 'a 0 6'"),
        ("a -3 6", {}, "expected total_frames, 1 or more, got '-3'"),
        ("a 3.0 6", {}, "expected total_frames, 1 or more, got '3.0'"),
        ("a 0x1e 6", {}, "got '0x1e'"),
        (f"a {2**63} 6", {}, "expected total_frames"),
        ("a " + "9" * 5000 + " 6", {}, "expected total_frames"),
        ("a -1 30 6", OFFSETS, "expected an offset, 0 or more, got '-1'"),
        ("a x 30 6", OFFSETS, "expected an offset, 0 or more, got 'x'"),
        ("a 1 0 6", OFFSETS, "expected total_frames, 1 or more, got '0'"),
        ("a 30 -1", {}, "expected a class id, 0 or more, got '-1'"),
        ("a 30 walk", {}, "expected a class id, 0 or more, got 'walk'"),
        (f"a 30 {2**63}", {}, "expected a class id"),
        ("my clip 30 6", {}, "; a path may not hold spaces"),
        ("a\0 30 6", {}, "expected a path, got a NUL character"),
        ("", {}, "expected 'dir total_frames label', got a blank line; delete it"),
        (" \t", OFFSETS, "expected 'dir offset total_frames label', got a blank line"),
    ],
)
def test_line_that_would_be_misread_is_rejected(
    tmp_path: Path, line: str, options: dict[str, Any], message: str
) -> None:
    before = "b 1 1 1" if options.get("with_offset") else "b 1 1"
    _, reject = entries_of(tmp_path, f"{before}\n{line}\n".encode(), **options)
    assert isinstance(reject, Reject)
    assert message in reject.message
    assert reject.origin == at(2)
    assert reject.error == "AnnotationError"


def test_lines_of_one_folder_become_one_record_at_the_first(tmp_path: Path) -> None:
    text = b"b 0 10 1\na 5 5 2\nb 10 10 1\nbad\nb/ 0 10 3\n./a 0 5 2\nc 0 1 0\n"
    first, second, reject, third = entries_of(tmp_path, text, with_offset=True)
    assert isinstance(first, RawframesRecord)
    assert isinstance(second, RawframesRecord)
    assert isinstance(reject, Reject)
    assert isinstance(third, RawframesRecord)
    assert (first.folder, second.folder, third.folder) == ("b", "a", "c")
    assert [(r.offset, r.total_frames, r.labels, r.origin) for r in first.ranges] == [
        (0, 10, (1,), at(1)),
        (10, 10, (1,), at(3)),
        (0, 10, (3,), at(5)),
    ]
    assert [r.origin for r in second.ranges] == [at(2), at(6)]
    assert [entry.origin for entry in (first, second, reject, third)] == [
        at(1),
        at(2),
        at(4),
        at(7),
    ]


def test_folder_named_twice_without_offsets_is_stored_once(tmp_path: Path) -> None:
    (record,) = entries_of(tmp_path, b"a 10 1\na 10 2\na 10 1\n")
    assert isinstance(record, RawframesRecord)
    assert [r.labels for r in record.ranges] == [(1,), (2,), (1,)]


def test_both_unicode_forms_are_two_folders(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "\xe9")
    apart = unicodedata.normalize("NFD", composed)
    found = entries_of(tmp_path, f"{composed} 1 0\n{apart} 1 0\n".encode())
    assert [e.folder for e in found if isinstance(e, RawframesRecord)] == [composed, apart]


def test_every_line_is_accounted_for(tmp_path: Path) -> None:
    found = entries_of(tmp_path, b"a 3 1\n\nb 0 1\na 3 1\nc 2 0\r\nd 2")
    lines = [r.origin for e in found if isinstance(e, RawframesRecord) for r in e.ranges]
    lines += [entry.origin for entry in found if isinstance(entry, Reject)]
    assert sorted(str(origin) for origin in lines) == [f"list.txt:{n}" for n in range(1, 7)]


def test_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected at least one entry"):
        entries_of(tmp_path, b"\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "two"}, "labels 'two'"),
        ({"start_index": -1}, "start_index -1"),
        ({"rate": -1.0}, "rate -1.0"),
        ({"rate": float("nan")}, "rate nan"),
        ({"rate": float("inf")}, "rate inf"),
        ({"rate": 0.0001}, r"rate 0\.0001"),
        ({"filename_tmpl": "img.jpg"}, "expected one slot for the number"),
    ],
)
def test_wrong_option_is_a_wrong_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RawframeList("list.txt", **options)


@pytest.mark.parametrize(
    ("template", "flow", "names"),
    [
        ("img_{:05}.jpg", False, ["img_00007.jpg", "img_123456.jpg"]),
        ("img_{:05d}.jpg", False, ["img_00007.jpg", "img_123456.jpg"]),
        ("img_{0:05}.jpg", False, ["img_00007.jpg", "img_123456.jpg"]),
        ("{}.png", False, ["7.png", "123456.png"]),
        ("{:0>4}", False, ["0007", "123456"]),
        ("{:3d}.jpg", False, ["  7.jpg", "123456.jpg"]),
        ("rgb/{:02}.jpg", False, ["rgb/07.jpg", "rgb/123456.jpg"]),
        ("{{}}{:02}", False, ["{}07", "{}123456"]),
        ("flow_{}_{:05d}.jpg", True, ["flow_x_00007.jpg", "flow_x_123456.jpg"]),
        ("flow_{:s}_{:05d}.jpg", True, ["flow_x_00007.jpg", "flow_x_123456.jpg"]),
        ("{0}/{1:05}.jpg", True, ["x/00007.jpg", "x/123456.jpg"]),
        ("{1:05}_{0}.jpg", True, ["00007_x.jpg", "123456_x.jpg"]),
    ],
)
def test_template_gives_the_names_that_mmaction2_opens(
    template: str, flow: bool, names: list[str]
) -> None:
    assert is_flow(template) is flow
    axis = "x" if flow else None
    assert [frame_name(template, n, axis) for n in (7, 123456)] == names


@pytest.mark.parametrize(
    "template",
    [
        "",
        "img.jpg",
        "{",
        "img_{:05.jpg",
        "{}{}{}",
        "{0}{0}",
        "{1}",
        "{2}{1}",
        "{0}{}",
        "{name}",
        "{0.__class__}",
        "{0[0]}",
        "{.real}",
        "{!r}",
        "{!s:>5}",
        "{:>1000000000}",
        "{:1000000000}",
        "{:{}}",
        "{:x}",
        "{:,}",
        "{:.3f}",
        "{:-^9}",
        "{:05}_{:05}",
        "../img_{:05}.jpg",
        "a/../{:05}.jpg",
        "/img_{:05}.jpg",
        "./{:05}.jpg",
        "a//{:05}.jpg",
        "{:05}/",
        "{:05}/img.jpg",
        "a\0{:05}.jpg",
        "a\n{:05}.jpg",
    ],
)
def test_template_that_reaches_further_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="file name template"):
        is_flow(template)
    with pytest.raises(ValueError, match="file name template"):
        RawframeList("list.txt", filename_tmpl=template)


@settings(max_examples=300, deadline=None)
@given(template=st.text("{}01:d05.!r[]/x_>", max_size=12))
def test_any_accepted_template_gives_one_short_name_a_number(template: str) -> None:
    try:
        axis = "x" if is_flow(template) else None
    except ValueError:
        return
    names = [frame_name(template, number, axis) for number in range(50)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 200
    assert not any(name.startswith("/") or ".." in name.split("/") for name in names)


def mmaction2_reads(line: str, *, with_offset: bool) -> tuple[str, int, int, list[int]] | None:
    """Return what RawframeDataset makes of a line, None for an error."""
    fields = line.strip().split()
    try:
        offset = int(fields[1]) if with_offset else 0
        at = 2 if with_offset else 1
        return fields[0], offset, int(fields[at]), [int(field) for field in fields[at + 1 :]]
    except (ValueError, IndexError):
        return None


pieces = st.sampled_from(["a", "b/c", "#", " ", "  ", "\t", "\xa0", "0", "3", "-1", "+7", "1.0"])


@settings(max_examples=300, deadline=None)
@given(line=st.lists(pieces, max_size=10).map("".join), with_offset=st.booleans())
def test_every_accepted_line_is_read_as_mmaction2_reads_it(
    tmp_path_factory: pytest.TempPathFactory, line: str, with_offset: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "frames.txt"
    file.write_bytes(b"first\n" + line.encode() + b"\n")
    _, found = RawframeList(file, labels="many", with_offset=with_offset)
    theirs = mmaction2_reads(line, with_offset=with_offset)
    if isinstance(found, RawframesRecord):
        (stretch,) = found.ranges
        ours = found.folder, stretch.offset, stretch.total_frames, list(stretch.labels)
        assert ours == theirs
    elif theirs is not None:
        _, offset, total, labels = theirs
        assert offset < 0 or total < 1 or not labels or min(labels) < 0


def test_shared_lists_are_read(shared_data: Path) -> None:
    def read(name: str, **options: Any) -> list[tuple[str, list[tuple[int, int, Any]]]]:
        found = list(RawframeList(shared_data / "annotations" / name, **options))
        return [
            (entry.folder, [(r.offset, r.total_frames, r.labels) for r in entry.ranges])
            for entry in found
            if isinstance(entry, RawframesRecord)
        ]

    folder = "demo_class/demo_clip"
    assert read("rawframe_train.txt") == [(folder, [(0, 30, (6,))])]
    assert read("rawframe_multilabel.txt", labels="many") == [(folder, [(0, 30, (6, 9))])]
    flow = read("rawframe_flow.txt", filename_tmpl="flow_{}_{:05d}.jpg")
    assert flow == [(folder, [(0, 29, (6,))])]
    assert read("rawframe_offset.txt", with_offset=True) == [
        (folder, [(0, 10, (6,)), (10, 10, (6,)), (20, 10, (2,))])
    ]
    assert read("rawframe_offset.txt") == []
