import codecs
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.annotations.audio_list import AudioList
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.records import AudioRecord, Origin, Reject

# Mode, line, and the record that MMAction2 reads there too.
ACCEPTED: list[tuple[LabelMode, str, str, int, tuple[int, ...]]] = [
    ("one", "a.npy 100 3", "a.npy", 100, (3,)),
    ("one", "  x/a.npy\t100 \t 3 \x0c", "x/a.npy", 100, (3,)),
    ("one", "a.npy\xa0100\u30003", "a.npy", 100, (3,)),
    ("one", "a.npy 1 0", "a.npy", 1, (0,)),
    ("one", "a.npy +1_0 007", "a.npy", 10, (7,)),
    ("one", "a.npy \u0663 \u0663", "a.npy", 3, (3,)),
    ("one", f"a.npy {2**63 - 1} {2**63 - 1}", "a.npy", 2**63 - 1, (2**63 - 1,)),
    ("one", "\xe9.mp4 9 1", "\xe9.mp4", 9, (1,)),
    ("one", "e\u0301.mp4 9 1", "e\u0301.mp4", 9, (1,)),
    ("one", "\ufeffa.npy 9 1", "\ufeffa.npy", 9, (1,)),
    ("one", "../a.npy 9 1", "../a.npy", 9, (1,)),
    ("one", "#a 9 1", "#a", 9, (1,)),
    ("one", "n" * 300 + " 9 1", "n" * 300, 9, (1,)),
    ("many", "a.npy 100 3", "a.npy", 100, (3,)),
    ("many", "a.npy 100 8 0 8", "a.npy", 100, (8, 0, 8)),
    ("none", "a.npy 100", "a.npy", 100, ()),
]

# Mode, line, and what the message must say.
REJECTED: list[tuple[LabelMode, str, list[str]]] = [
    ("one", "", ["expected 'name total_frames label', got a blank line; delete it"]),
    ("one", " \t\xa0", ["got a blank line; delete it"]),
    ("one", "a.npy", ["expected 'name total_frames label', got 'a.npy'"]),
    ("one", "a.npy 100", ["got 'a.npy 100'; is this list unlabelled?"]),
    ("one", "a.npy 100 3 4", ["got 'a.npy 100 3 4'; is this list multi-label?"]),
    ("one", "my clip.npy 100 3", ["got 'my clip.npy 100 3'; names cannot hold white space"]),
    ("one", "a.npy 0 3", ["expected the number of frames, 1 or more, got '0' in 'a.npy 0 3'"]),
    ("one", "a.npy -5 3", ["expected the number of frames, 1 or more, got '-5'"]),
    ("one", "a.npy 1.5 3", ["expected the number of frames, 1 or more, got '1.5'"]),
    ("one", f"a.npy {2**63} 3", ["expected the number of frames"]),
    ("one", "a.npy " + "9" * 5000 + " 3", ["expected the number of frames"]),
    ("one", "a.npy 100 -1", ["expected a class id, 0 or more, got '-1' in 'a.npy 100 -1'"]),
    ("one", "a.npy 100 cat", ["expected a class id, 0 or more, got 'cat'"]),
    ("one", f"a.npy 100 {2**63}", ["expected a class id"]),
    ("one", "a.npy,100,3", ["expected 'name total_frames label', got 'a.npy,100,3'"]),
    ("one", "a\0.npy 100 3", ["expected a name, got a NUL character in 'a\\x00.npy 100 3'"]),
    ("many", "a.npy 100", ["expected 'name total_frames label [label ...]', got 'a.npy 100'"]),
    ("many", "my clip.npy 100 3", ["expected the number of frames, 1 or more, got 'clip.npy'"]),
    ("none", "a.npy 100 3", ["expected 'name total_frames' alone, as the list is packed unlab"]),
    ("none", "a.npy", ["got 'a.npy'"]),
]


def entries_of(
    tmp_path: Path, data: bytes, labels: LabelMode = "one"
) -> list[AudioRecord | Reject]:
    file = tmp_path / "list.txt"
    file.write_bytes(data)
    return list(AudioList(file, labels=labels))


@pytest.mark.parametrize(("labels", "line", "path", "frames", "classes"), ACCEPTED)
def test_line_becomes_a_record(
    tmp_path: Path,
    labels: LabelMode,
    line: str,
    path: str,
    frames: int,
    classes: tuple[int, ...],
) -> None:
    found = entries_of(tmp_path, f"first 1 0\n{line}\n".encode(), labels)
    assert found[1:] == [
        AudioRecord(
            path=path, total_frames=frames, labels=classes, origin=Origin("list.txt", line=2)
        )
    ]


@pytest.mark.parametrize(("labels", "line", "says"), REJECTED)
def test_line_is_rejected_with_what_was_expected(
    tmp_path: Path, labels: LabelMode, line: str, says: list[str]
) -> None:
    _, found = entries_of(tmp_path, f"first 1 0\n{line}\n".encode(), labels)
    assert isinstance(found, Reject)
    assert str(found.origin) == "list.txt:2"
    assert found.error == "AnnotationError"
    for piece in says:
        assert piece in found.message


def test_order_and_duplicates_are_kept(tmp_path: Path) -> None:
    found = entries_of(tmp_path, b"b 1 1\r\na 2 0\rb 1 1\nb 3 2")
    assert [
        (entry.path, entry.total_frames, entry.labels, str(entry.origin))
        for entry in found
        if isinstance(entry, AudioRecord)
    ] == [
        ("b", 1, (1,), "list.txt:1"),
        ("a", 2, (0,), "list.txt:2"),
        ("b", 1, (1,), "list.txt:3"),
        ("b", 3, (2,), "list.txt:4"),
    ]


def test_byte_order_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected UTF-8 without a byte order mark"):
        entries_of(tmp_path, codecs.BOM_UTF8 + b"a 1 0\n")


def test_other_encodings_and_empty_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"list\.txt:2: expected UTF-8, got byte 0xe9"):
        entries_of(tmp_path, b"a 1 0\n\xe9 1 0\n")
    with pytest.raises(AnnotationError, match="the list is empty"):
        entries_of(tmp_path, b" \n\n")


def test_unknown_label_mode_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels 'two'"):
        AudioList(tmp_path / "list.txt", labels="two")  # type: ignore[arg-type]


def test_list_of_the_shared_data_is_read(shared_data: Path) -> None:
    found = list(AudioList(shared_data / "annotations" / "audio_train.txt"))
    assert found
    assert all(isinstance(entry, AudioRecord) for entry in found)


pieces = st.sampled_from(["a", "#", "b.c", " ", "  ", "\t", "\xa0", "0", "3", "-1", "+7", "1.0"])


@settings(max_examples=300, deadline=None)
@given(line=st.lists(pieces, max_size=9).map("".join), labels=st.sampled_from(["one", "many"]))
def test_every_accepted_line_is_read_as_mmaction2_reads_it(
    tmp_path_factory: pytest.TempPathFactory, line: str, labels: LabelMode
) -> None:
    file = tmp_path_factory.getbasetemp() / "drawn.txt"
    file.write_bytes(f"first 1 0\n{line}\n".encode())
    _, found = AudioList(file, labels=labels)
    fields = line.strip().split()
    try:
        frames, classes = int(fields[1]), [int(field) for field in fields[2:]]
    except (IndexError, ValueError):
        assert isinstance(found, Reject)
        return
    # It stops at lines without a label, and at several where one is expected.
    silently_wrong = frames < 1 or min(classes, default=0) < 0
    stopped = not classes or (labels == "one" and len(classes) > 1)
    assert isinstance(found, Reject) == (silently_wrong or stopped)
    if isinstance(found, AudioRecord):
        assert (found.path, found.total_frames, list(found.labels)) == (fields[0], frames, classes)
