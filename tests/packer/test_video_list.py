import codecs
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer import AnnotationError, Origin, Reject, VideoList, VideoRecord
from clipshards.packer.format.manifest import LabelMode

# Mode, delimiter, line, and the record that MMAction2 reads there too.
ACCEPTED: list[tuple[LabelMode, str, str, str, tuple[int, ...]]] = [
    ("one", " ", "p.mp4 3", "p.mp4", (3,)),
    ("one", " ", "a/b/p.mp4 0", "a/b/p.mp4", (0,)),
    ("one", " ", "  p.mp4 3", "p.mp4", (3,)),
    ("one", " ", "p.mp4 3  ", "p.mp4", (3,)),
    ("one", " ", "p.mp4 3\t", "p.mp4", (3,)),
    ("one", " ", "p.mp4 3\xa0", "p.mp4", (3,)),
    ("one", " ", "p.mp4 007", "p.mp4", (7,)),
    ("one", " ", "p.mp4 +3", "p.mp4", (3,)),
    ("one", " ", "p.mp4 1_000", "p.mp4", (1000,)),
    ("one", " ", "p.mp4 \u0663", "p.mp4", (3,)),
    ("one", " ", f"p.mp4 {2**63 - 1}", "p.mp4", (2**63 - 1,)),
    ("one", " ", '"p.mp4" 3', '"p.mp4"', (3,)),
    ("one", " ", "#note 3", "#note", (3,)),
    ("one", " ", "\x0c\u2028p.mp4 3\x85", "p.mp4", (3,)),
    ("one", " ", "a\x0bb\u2028c\x85d.mp4 3", "a\x0bb\u2028c\x85d.mp4", (3,)),
    ("one", " ", "\ufeffp.mp4 3", "\ufeffp.mp4", (3,)),
    ("one", " ", "\xe9t\xe9.mp4 3", "\xe9t\xe9.mp4", (3,)),
    ("one", " ", "e\u0301te\u0301.mp4 3", "e\u0301te\u0301.mp4", (3,)),
    ("one", " ", "\U0001f3ac.mp4 3", "\U0001f3ac.mp4", (3,)),
    ("one", " ", "/abs/p.mp4 3", "/abs/p.mp4", (3,)),
    ("one", " ", "../p.mp4 3", "../p.mp4", (3,)),
    ("one", " ", "n" * 300 + ".mp4 3", "n" * 300 + ".mp4", (3,)),
    ("one", ",", "p.mp4,3", "p.mp4", (3,)),
    ("one", ",", "my clip.mp4, 3", "my clip.mp4", (3,)),
    ("one", ",", "p.mp4 ,3", "p.mp4 ", (3,)),
    ("one", "\t", "my clip.mp4\t3", "my clip.mp4", (3,)),
    ("one", ";\t", "my clip.mp4;\t3", "my clip.mp4", (3,)),
    ("many", "\t\t", "p.mp4\t\t3\t\t4", "p.mp4", (3, 4)),
    ("one", "::", "p:q.mp4::3", "p:q.mp4", (3,)),
    ("many", " ", "p.mp4 3", "p.mp4", (3,)),
    ("many", " ", "p.mp4 8 0 8", "p.mp4", (8, 0, 8)),
    ("many", ",", "p.mp4,8, 0", "p.mp4", (8, 0)),
    ("none", " ", "p.mp4", "p.mp4", ()),
    ("none", ",", "my clip.mp4", "my clip.mp4", ()),
    ("none", " ", "p\xa0q.mp4", "p\xa0q.mp4", ()),
]

# Mode, delimiter, line, and what the message must say.
REJECTED: list[tuple[LabelMode, str, str, list[str]]] = [
    ("one", " ", "p.mp4", ["expected 'path label', got 'p.mp4'", "is this list unlabelled?"]),
    ("one", " ", "p.mp4\t3", ["expected fields separated by ' ', got a tab in 'p.mp4\\t3'"]),
    ("one", " ", "a\tb.mp4 3", ["got a tab in 'a\\tb.mp4 3'"]),
    ("one", " ", "p.mp4  3", ["expected one space between two fields, got several in 'p.mp4  3'"]),
    ("one", " ", "p.mp4\xa03", ["expected 'path label', got 'p.mp4\\xa03'"]),
    ("one", " ", "p.mp4\u30003", ["expected 'path label', got 'p.mp4\\u30003'"]),
    ("one", " ", "p.mp4 8 0", ["expected 'path label', got", "is this list multi-label?"]),
    ("one", " ", "my clip.mp4 3", ["paths with spaces need another delimiter"]),
    ("one", " ", "p.mp4 -1", ["expected a class id, 0 or more, got '-1' in 'p.mp4 -1'"]),
    ("one", " ", "p.mp4 1.0", ["expected a class id, 0 or more, got '1.0'"]),
    ("one", " ", "p.mp4 0x10", ["got '0x10'"]),
    ("one", " ", "p.mp4 cat", ["got 'cat'"]),
    ("one", " ", f"p.mp4 {2**63}", ["expected a class id", str(2**63)]),
    ("one", " ", "p.mp4 " + "9" * 5000, ["expected a class id"]),
    ("one", " ", "p\0.mp4 3", ["expected a path, got a NUL character in 'p\\x00.mp4 3'"]),
    ("one", " ", "p.mp4 3\0", ["expected a class id, 0 or more, got '3\\x00'"]),
    ("one", " ", "# note", ["expected a class id, 0 or more, got 'note'"]),
    ("one", " ", "#note", ["expected 'path label', got '#note'"]),
    ("one", ",", "p.mp4,", ["expected a class id, 0 or more, got ''"]),
    ("one", ",", ",3", ["expected 'path label', got ',3'"]),
    ("one", ",", "a,b.mp4,3", ["expected 'path label', got 'a,b.mp4,3'"]),
    ("one", ",", "p.mp4 3", ["expected 'path label', got 'p.mp4 3'"]),
    ("one", "\t", "p.mp4\t\t3", ["expected 'path label', got 'p.mp4\\t\\t3'"]),
    ("many", " ", "p.mp4", ["expected 'path label [label ...]', got 'p.mp4'"]),
    ("many", " ", "p.mp4 1 -1", ["expected a class id, 0 or more, got '-1' in 'p.mp4 1 -1'"]),
    ("many", " ", "p.mp4 1  2", ["expected one space between two fields"]),
    ("many", " ", "my clip.mp4 3", ["expected a class id, 0 or more, got 'clip.mp4'"]),
    ("none", " ", "p.mp4 3", ["expected 'path' alone, as the list is packed unlabelled"]),
]


def entries_of(
    tmp_path: Path, data: bytes, labels: LabelMode = "one", delimiter: str = " "
) -> list[VideoRecord | Reject]:
    file = tmp_path / "list.txt"
    file.write_bytes(data)
    return list(VideoList(file, labels=labels, delimiter=delimiter))


@pytest.mark.parametrize(("labels", "delimiter", "line", "path", "classes"), ACCEPTED)
def test_line_becomes_a_record(
    tmp_path: Path,
    labels: LabelMode,
    delimiter: str,
    line: str,
    path: str,
    classes: tuple[int, ...],
) -> None:
    found = entries_of(tmp_path, f"first.mp4\n{line}\n".encode(), labels, delimiter)
    assert found[1:] == [VideoRecord(path, classes, origin=Origin("list.txt", line=2))]


@pytest.mark.parametrize(("labels", "delimiter", "line", "says"), REJECTED)
def test_line_is_rejected_with_what_was_expected(
    tmp_path: Path, labels: LabelMode, delimiter: str, line: str, says: list[str]
) -> None:
    _, found = entries_of(tmp_path, f"first.mp4\n{line}\n".encode(), labels, delimiter)
    assert isinstance(found, Reject)
    assert str(found.origin) == "list.txt:2"
    assert found.error == "AnnotationError"
    for piece in says:
        assert piece in found.message


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_three_line_ends_are_read(tmp_path: Path, end: str) -> None:
    found = entries_of(tmp_path, end.join(["a.mp4 0", "b.mp4 1", "c.mp4"]).encode())
    assert found[:2] == [
        VideoRecord("a.mp4", (0,), origin=Origin("list.txt", line=1)),
        VideoRecord("b.mp4", (1,), origin=Origin("list.txt", line=2)),
    ]
    assert str(found[2].origin) == "list.txt:3"


@pytest.mark.parametrize(("data", "blank"), [(b"a.mp4 0\n\nb.mp4 1\n", 2), (b"a.mp4 0\n \t\n", 2)])
def test_blank_line_is_rejected(tmp_path: Path, data: bytes, blank: int) -> None:
    found = entries_of(tmp_path, data)
    reject = found[blank - 1]
    assert isinstance(reject, Reject)
    assert reject.message == "expected 'path label', got a blank line; delete it"
    assert str(reject.origin) == f"list.txt:{blank}"
    assert [isinstance(entry, Reject) for entry in found].count(True) == 1


def test_blank_lines_at_the_end_are_rejected_but_for_the_last_line_end(tmp_path: Path) -> None:
    assert len(entries_of(tmp_path, b"a.mp4 0\n")) == 1
    assert len(entries_of(tmp_path, b"a.mp4 0")) == 1
    found = entries_of(tmp_path, b"a.mp4 0\n\n\n")
    assert [isinstance(entry, Reject) for entry in found] == [False, True, True]


def test_order_and_duplicates_are_kept(tmp_path: Path) -> None:
    found = entries_of(tmp_path, b"b.mp4 1\na.mp4 0\nb.mp4 1\nb.mp4 2\n")
    assert [(entry.path, entry.labels) for entry in found if isinstance(entry, VideoRecord)] == [
        ("b.mp4", (1,)),
        ("a.mp4", (0,)),
        ("b.mp4", (1,)),
        ("b.mp4", (2,)),
    ]


def test_unicode_is_not_normalised(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "\xe9.mp4")
    apart = unicodedata.normalize("NFD", composed)
    found = entries_of(tmp_path, f"{composed} 0\n{apart} 0\n".encode())
    assert [entry.path for entry in found if isinstance(entry, VideoRecord)] == [composed, apart]
    assert composed != apart


@pytest.mark.parametrize(
    "mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE]
)
def test_byte_order_mark_is_refused(tmp_path: Path, mark: bytes) -> None:
    file = tmp_path / "list.txt"
    encoding = {2: "utf-16-le", 3: "utf-8", 4: "utf-32-le"}[len(mark)]
    file.write_bytes(mark + "a.mp4 0\n".encode(encoding))
    with pytest.raises(AnnotationError, match="expected UTF-8 without a byte order mark") as caught:
        list(VideoList(file))
    assert str(caught.value).startswith(f"{file}:1: ")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_latin1_is_refused_with_its_line(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(end.join([b"a.mp4 0", "\xe9.mp4 1".encode(), "\xe9.mp4 2".encode("latin-1")]))
    with pytest.raises(AnnotationError, match="expected UTF-8, got byte 0xe9") as caught:
        list(VideoList(file))
    assert str(caught.value).startswith(f"{file}:3: ")


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n \r\n\t\n", b"\xc2\xa0\n"])
def test_list_without_any_entry_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(AnnotationError, match="expected at least one entry, the list is empty"):
        entries_of(tmp_path, data)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none\.txt: cannot be read: No such file"):
        list(VideoList(tmp_path / "none.txt"))


def test_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read: Is a directory"):
        list(VideoList(tmp_path))


def test_list_can_be_read_twice(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.mp4 0\nb.mp4\n")
    records = VideoList(tmp_path / "list.txt")
    assert list(records) == list(records)


def test_unknown_label_mode_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels 'two'"):
        VideoList(tmp_path / "list.txt", labels="two")  # type: ignore[arg-type]


@pytest.mark.parametrize("delimiter", ["", "\n", "a\rb"])
def test_delimiter_outside_a_line_is_a_wrong_argument(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(ValueError, match="delimiter"):
        VideoList(tmp_path / "list.txt", delimiter=delimiter)


def mmaction2_reads(line: str, labels: LabelMode, delimiter: str) -> tuple[str, list[int]] | None:
    """Return what VideoDataset makes of a line, None for an error; -1 is its "no label"."""
    fields = line.strip().split(delimiter)
    try:
        if labels == "many":
            return fields[0], [int(field) for field in fields[1:]]
        if len(fields) == 1:
            return fields[0], [-1]
        name, label = fields
        return name, [int(label)]
    except ValueError:
        return None


pieces = st.sampled_from(
    [*"ab.#\"'", " ", "  ", "\t", ",", "\xa0", "\u3000", "\0", "0", "3", "-1", "+7", "1.0", "\x85"]
)


@settings(max_examples=300, deadline=None)
@given(
    line=st.lists(pieces, max_size=8).map("".join),
    labels=st.sampled_from(["one", "many"]),
    delimiter=st.sampled_from([" ", ",", "\t"]),
)
def test_every_accepted_line_is_read_as_mmaction2_reads_it(
    tmp_path_factory: pytest.TempPathFactory, line: str, labels: LabelMode, delimiter: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "drawn.txt"
    file.write_bytes(b"first.mp4\n" + line.encode() + b"\n")
    _, found = VideoList(file, labels=labels, delimiter=delimiter)
    theirs = mmaction2_reads(line, labels, delimiter)
    if isinstance(found, VideoRecord):
        assert (found.path, list(found.labels)) == theirs
        assert found.path
        assert found.labels
        assert min(found.labels) >= 0
    elif theirs is not None:
        # Only what MMAction2 reads without a word and wrongly may be refused.
        path, classes = theirs
        silently_wrong = (
            not path or not classes or min(classes) < 0 or "\t" in line.strip() or "\0" in path
        )
        assert silently_wrong


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(["a 0", "b", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
    ).map("".join)
)
def test_lines_end_where_universal_newlines_end(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "lines.txt"
    file.write_bytes(b"first.mp4 0\n" + text.encode())
    with file.open(encoding="utf-8", newline=None) as stream:
        count = len(list(stream))
    origins = [entry.origin for entry in VideoList(file)]
    assert origins == [Origin(file.name, line=n + 1) for n in range(count)]


def test_pipe_can_be_an_annotation(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a.mp4 0\n")
    os.close(writing)
    try:
        (record,) = VideoList(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
    assert isinstance(record, VideoRecord)
    assert record.path == "a.mp4"
