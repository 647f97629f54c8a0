import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.annotations.ava_csv import AvaCsv
from clipshards.packer.annotations.ava_labels import read_exclusions, read_label_map
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.records import AvaRecord, Excluded, KeyFrame, Origin, Reject

BOX = "0.1,0.2,0.3,0.4"
ROW = f"v,0902,{BOX},12,0"
BOXES = np.array([[0.1, 0.2, 0.3, 0.4, 0.9], [0.0, 0.0, 1.0, 1.0, 0.1]])


def write(folder: Path, lines: Sequence[str], *, name: str = "train.csv", end: str = "\n") -> Path:
    file = folder / name
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def write_pickle(folder: Path, content: object, *, protocol: int = 4) -> Path:
    file = folder / "proposals.pkl"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


def records_of(annotation: AvaCsv) -> list[AvaRecord]:
    entries = list(annotation)
    found = [entry for entry in entries if isinstance(entry, AvaRecord)]
    assert len(found) == len(entries), entries
    return found


def key_frame_of(annotation: AvaCsv) -> KeyFrame:
    (record,) = records_of(annotation)
    (key_frame,) = record.key_frames
    return key_frame


def rejected(annotation: AvaCsv) -> Reject:
    (entry,) = annotation
    assert isinstance(entry, Reject)
    return entry


def as_tuples(key_frame: KeyFrame) -> list[tuple[list[float], tuple[int, ...], int]]:
    """Return (box, labels, entity id) of each person."""
    return list(
        zip(
            key_frame.boxes.tolist(),
            key_frame.labels,
            key_frame.entity_ids.tolist(),
            strict=True,
        )
    )


def test_row_becomes_a_key_frame(tmp_path: Path) -> None:
    (record,) = records_of(AvaCsv(write(tmp_path, [ROW]), media_tmpl="videos/{}.mp4", fps=25))
    assert record.path == "videos/v.mp4"
    assert record.video_id == "v"
    assert record.id == "v,0902"
    assert (record.timestamp_start, record.fps) == (900, 25.0)
    assert record.origin == Origin("train.csv", line=1)
    (key_frame,) = record.key_frames
    assert (key_frame.timestamp, key_frame.rows) == (902, 1)
    assert as_tuples(key_frame) == [([0.1, 0.2, 0.3, 0.4], (12,), 0)]
    assert key_frame.boxes.dtype == np.float64
    assert key_frame.entity_ids.dtype == np.int64
    assert key_frame.proposals is None


def test_rows_of_equal_boxes_are_one_person(tmp_path: Path) -> None:
    rows = [
        "v,902,0.1,0.2,0.3,0.4,12,7",
        "v,902,0.5,0.5,0.9,0.9,80,1",
        "v,902,0.10,0.20,0.300,4e-1,80,8",  # other spellings of the same numbers
        "v,902,0.1,0.2,0.3,0.4,12,9",  # the same action again
        "v,902,0.1,0.2,0.3,0.4000001,3,2",  # another box
        "w,902,0.1,0.2,0.3,0.4,5,3",  # another video
    ]
    first, second = records_of(AvaCsv(write(tmp_path, rows)))
    assert as_tuples(first.key_frames[0]) == [
        ([0.1, 0.2, 0.3, 0.4], (12, 80), 7),
        ([0.5, 0.5, 0.9, 0.9], (80,), 1),
        ([0.1, 0.2, 0.3, 0.4000001], (3,), 2),
    ]
    assert first.key_frames[0].rows == 5
    assert as_tuples(second.key_frames[0]) == [([0.1, 0.2, 0.3, 0.4], (5,), 3)]


@pytest.mark.parametrize(
    "spelling", ["902", "0902", "00902", " 902", "+902", "9_02", "\u0669\u0660\u0662"]
)
def test_timestamp_may_be_padded(tmp_path: Path, spelling: str) -> None:
    rows = ["v,0902,0.1,0.2,0.3,0.4,12,0", f"v,{spelling},0.1,0.2,0.3,0.4,13,0"]
    key_frame = key_frame_of(AvaCsv(write(tmp_path, rows)))
    assert (key_frame.timestamp, key_frame.labels, key_frame.rows) == (902, ((12, 13),), 2)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_like(tmp_path: Path, end: str) -> None:
    file = write(tmp_path, [ROW, f"v,0903,{BOX},1,0"], end=end)
    assert [record.id for record in records_of(AvaCsv(file))] == ["v,0902", "v,0903"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "got a blank line"),
        ("v,902", "expected 'video_id,timestamp,x1,y1,x2,y2,action_id,entity_id', got 'v,902'"),
        (f"v,902,{BOX},12", "expected 'video_id,timestamp"),
        (f"{ROW},", "expected 'video_id,timestamp"),
        (f"a,{ROW}", "a video id holds no comma"),
        (f'"v",902,{BOX},12,0', "without quotes"),
        (f'"a,v",902,{BOX},12,0', "without quotes"),
        (f",902,{BOX},12,0", "expected 'video_id,timestamp"),
        (f"v\0,902,{BOX},12,0", "NUL"),
        ("video_id,timestamp,x1,y1,x2,y2,action_id,person_id", "got 'timestamp' in"),
        (f"v,902.0,{BOX},12,0", "expected a timestamp in whole numbers, got '902.0'"),
        (f"v,,{BOX},12,0", "expected a timestamp in whole numbers, got ''"),
        (f"v,{'9' * 5000},{BOX},12,0", "expected a timestamp in whole numbers"),
        (f"v,{2**63},{BOX},12,0", "expected a timestamp in whole numbers"),
        (f"v,899,{BOX},12,0", "expected a timestamp of 900 to 1800, got 899"),
        (f"v,1801,{BOX},12,0", "expected a timestamp of 900 to 1800, got 1801"),
        (f"v,-5,{BOX},12,0", "expected a timestamp of 900 to 1800, got -5"),
        ("v,902,a,0.2,0.3,0.4,12,0", "expected a box of four numbers"),
        ("v,902,,,,,,", "expected a box of four numbers"),
        ("v,902,nan,0.2,0.3,0.4,12,0", "got nan, 0.2, 0.3, 0.4"),
        ("v,902,0.1,0.2,inf,0.4,12,0", "got 0.1, 0.2, inf, 0.4"),
        ("v,902,0.3,0.2,0.1,0.4,12,0", "expected a box of 0 <= x1 < x2 <= 1"),
        ("v,902,0.1,0.4,0.3,0.2,12,0", "got 0.1, 0.4, 0.3, 0.2"),
        ("v,902,0.1,0.2,0.1,0.4,12,0", "expected a box of 0 <= x1 < x2 <= 1"),
        ("v,902,-0.1,0.2,0.3,0.4,12,0", "got -0.1"),
        ("v,902,0.1,0.2,0.3,1.0001,12,0", "got 0.1, 0.2, 0.3, 1.0001"),
        ("v,902,10,20,30,40,12,0", "got 10.0, 20.0"),
        (f"v,902,{BOX},-1,0", "expected an action id, 0 or more, got -1"),
        (f"v,902,{BOX},,0", "expected an action id, 0 or more, got ''"),
        (f"v,902,{BOX},12.0,0", "expected an action id, 0 or more, got '12.0'"),
        (f"v,902,{BOX},{2**63},0", "expected an action id, 0 or more"),
        (f"v,902,{BOX},12,0.0", "expected an entity id in whole numbers, got '0.0'"),
        (f"v,902,{BOX},12,", "expected an entity id in whole numbers, got ''"),
        (f"v,902,{BOX},12,{2**63}", "expected an entity id in whole numbers"),
    ],
)
def test_bad_row_is_rejected_by_line_and_the_others_stay(
    tmp_path: Path, line: str, said: str
) -> None:
    entries = list(AvaCsv(write(tmp_path, [ROW, line, ROW])))
    assert len(entries) == 2
    record, reject = entries
    assert isinstance(record, AvaRecord)
    assert record.key_frames[0].rows == 2
    assert isinstance(reject, Reject)
    assert said in reject.message
    assert len(reject.message) < 1000
    assert (reject.origin, reject.error) == (Origin("train.csv", line=2), "AnnotationError")


def test_reject_names_the_key_frame_as_far_as_it_is_known(tmp_path: Path) -> None:
    assert rejected(AvaCsv(write(tmp_path, [f"v,902,{BOX},-1,0"]))).id == "v,0902"
    assert rejected(AvaCsv(write(tmp_path, [f"v,x,{BOX},1,0"]))).id == ""


@pytest.mark.parametrize(
    "box", ["0,0,1,1", "-0.0,0,1,1", "0.999,0.999,1.0,1.0", "0,0,1e-300,1", "1_0e-2,0,0.5,1"]
)
def test_box_at_the_border_stays(tmp_path: Path, box: str) -> None:
    key_frame_of(AvaCsv(write(tmp_path, [f"v,902,{box},1,0"])))


def test_timestamps_of_the_range_s_ends_stay(tmp_path: Path) -> None:
    file = write(tmp_path, [f"v,{timestamp},{BOX},1,0" for timestamp in (900, 1800)])
    assert len(records_of(AvaCsv(file))) == 2
    file = write(tmp_path, [f"v,{timestamp},{BOX},1,0" for timestamp in (1, 2**63 - 1)])
    assert len(records_of(AvaCsv(file, timestamp_start=1, timestamp_end=None))) == 2
    (first, second) = AvaCsv(file, timestamp_start=2, timestamp_end=None)
    assert isinstance(first, Reject)
    assert "expected a timestamp of 2 or more, got 1" in first.message
    assert isinstance(second, AvaRecord)


def test_records_come_in_order_of_first_appearance(tmp_path: Path) -> None:
    rows = [
        f"b,903,{BOX},1,0",
        f"a,902,{BOX},1,0",
        "bad",
        f"b,901,{BOX},1,0",
        f"a,902,{BOX},2,0",
        f"b,903,{BOX},2,0",
    ]
    file = write(tmp_path, rows)
    clips = list(AvaCsv(file))
    assert [entry.id for entry in clips] == ["b,0903", "a,0902", "", "b,0901"]
    videos = list(AvaCsv(file, group="video"))
    assert [entry.id for entry in videos] == ["b", "a", ""]
    assert isinstance(videos[0], AvaRecord)
    assert [key_frame.timestamp for key_frame in videos[0].key_frames] == [903, 901]
    assert [key_frame.rows for key_frame in videos[0].key_frames] == [2, 1]
    assert [entry.origin for entry in videos] == [
        Origin("train.csv", line=line) for line in (1, 2, 3)
    ]


def test_excluded_key_frames_are_counted_by_row(tmp_path: Path) -> None:
    exclude = write(tmp_path, ["v,902", "w,00903"], name="exclude.csv", end="\r\n")
    rows = [f"v,0902,{BOX},1,0", f"v,902,{BOX},oops,0", f"w,903,{BOX},1,0", f"v,903,{BOX},1,0"]
    entries = list(AvaCsv(write(tmp_path, rows), exclude=exclude))
    assert entries[:3] == [
        Excluded("exclude", "v,0902", Origin("train.csv", line=1)),
        Excluded("exclude", "v,0902", Origin("train.csv", line=2)),
        Excluded("exclude", "w,0903", Origin("train.csv", line=3)),
    ]
    assert [entry.id for entry in entries[3:]] == ["v,0903"]


def test_lines_of_an_exclude_file_that_match_nothing_are_warned_about(tmp_path: Path) -> None:
    exclude = write(tmp_path, ["v,902", "u,902", "v,999"], name="exclude.csv")
    source = AvaCsv(write(tmp_path, [f"v,0902,{BOX},1,0", f"v,903,{BOX},1,0"]), exclude=exclude)
    assert len(list(source)) == 2
    assert source.warnings == ["2 of 3 lines of exclude.csv match no row, the first: 'u,902'"]


@pytest.mark.parametrize("line", ["", "v", "v,", "v,902.0", "v,902,1"])
def test_bad_line_of_an_exclude_file_is_named(tmp_path: Path, line: str) -> None:
    exclude = write(tmp_path, ["v,902", line], name="exclude.csv")
    with pytest.raises(AnnotationError, match=r"exclude\.csv:2: expected 'video_id,timestamp'"):
        read_exclusions(exclude)
    with pytest.raises(AnnotationError, match=r"exclude\.csv:2"):
        list(AvaCsv(write(tmp_path, [ROW]), exclude=exclude))


LABEL_MAPS = {
    "item": 'item {\n  name: "sit"\n  id: 11\n}\nitem {\n  name: "stand"\n  id: 12\n}\n',
    "label": 'label {\n  name: "sit"\n  label_id: 11\n  label_type: PERSON_MOVEMENT\n}\n'
    'label {\n  name: "stand"\n  label_id: 12\n}\n',
    "one line": "item { id: 11 name: 'sit' } item { name: 'stand' id: 12 }\n",
    "CRLF": 'item {\r\n  name: "sit"\r\n  id: 11\r\n}\r\nitem {\r\n name: "stand"\r\n id: 12\r\n}',
    "lines": "11: sit\n12: stand\n",
    "lines, no end": " 11 :sit \n012: stand",
}


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_label_map_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "map.txt"
    file.write_bytes(LABEL_MAPS[name].encode())
    assert read_label_map(file) == {11: "sit", 12: "stand"}
    names = AvaCsv("train.csv", label_map=file).class_names
    assert names == ("",) * 11 + ("sit", "stand")
    chosen = AvaCsv("train.csv", label_map=file, custom_classes=(12, 11))
    assert chosen.class_names == ("", "stand", "sit")


def test_names_of_actions_may_hold_anything_but_quotes(tmp_path: Path) -> None:
    file = tmp_path / "map.txt"
    file.write_text('item {\n  name: "put {id: 3} don\'t: x"\n  id: 7\n}\n')
    assert read_label_map(file) == {7: "put {id: 3} don't: x"}
    file.write_text("7: bend/bow: (at the waist)\n")
    assert read_label_map(file) == {7: "bend/bow: (at the waist)"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected at least one entry"),
        ("sit\n", ":1: expected 'id: name'"),
        ("1: sit\n\n2: stand\n", ":2: expected 'id: name'"),
        ("1: sit\n1: stand\n", ":2: id 1 is named twice, 'sit' and 'stand'"),
        ("-1: sit\n", ":1: expected 'id: name'"),
        ("100000: sit\n", ":1: expected an id below 100000"),
        (f"{'9' * 5000}: sit\n", ":1: expected 'id: name'"),
        ('item {\n  name: "sit"\n}\n', ":1: expected an entry with name"),
        ("item {\n  id: 1\n}\n", ":1: expected an entry with name"),
        ('item {\n  name: "sit"\n  id: 1\n', ":1: expected 'item {"),
        (
            'item {\n name: "a"\n id: 1\n}\nx\nitem {\n name: "b"\n id: 2\n}',
            ":6: expected an entry",
        ),
        ('item {\n  name: "sit"\n  id: one\n}\n', ":1: expected an entry with name"),
        (f'item {{\n  name: "sit"\n  id: {"9" * 5000}\n}}\n', ":1: expected an entry with name"),
    ],
)
def test_bad_label_map_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "map.txt"
    file.write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read_label_map(file)
    assert said in str(caught.value)
    with pytest.raises(AnnotationError):
        list(AvaCsv(write(tmp_path, [ROW]), label_map=file))


def test_rows_of_other_classes_are_excluded_and_the_rest_is_renumbered(tmp_path: Path) -> None:
    rows = [f"v,902,{BOX},{label},{label}" for label in (80, 12, 0, 1, 11)]
    entries = list(AvaCsv(write(tmp_path, rows), custom_classes=(11, 12, 5)))
    assert len(entries) == 4
    record = entries[1]
    assert isinstance(record, AvaRecord)
    assert as_tuples(record.key_frames[0]) == [([0.1, 0.2, 0.3, 0.4], (2, 1), 12)]
    assert (record.key_frames[0].rows, record.origin) == (2, Origin("train.csv", line=2))


def test_excluded_rows_say_which_option_left_them_out(tmp_path: Path) -> None:
    rows = [f"v,902,{BOX},{label},0" for label in (80, 0)]
    assert list(AvaCsv(write(tmp_path, rows), custom_classes=(11,))) == [
        Excluded("custom_classes", "v,0902", Origin("train.csv", line=line)) for line in (1, 2)
    ]
    assert key_frame_of(AvaCsv(write(tmp_path, rows))).labels == ((80, 0),)


def test_custom_class_without_a_name_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, ["1: sit"], name="map.txt")
    with pytest.raises(AnnotationError, match="expected names of all custom classes, 2 has none"):
        list(AvaCsv(write(tmp_path, [ROW]), label_map=file, custom_classes=(1, 2)))


def test_person_with_two_actions_is_rejected_where_one_is_expected(tmp_path: Path) -> None:
    rows = [f"v.mp4,15,{BOX},5,0", f"v.mp4,15,{BOX},6,0", "v.mp4,15,0,0,1,1,6,1"]
    annotation = AvaCsv(
        write(tmp_path, rows, end="\r\n"),
        labels="one",
        fps=1,
        timestamp_start=1,
        timestamp_end=None,
    )
    record, reject = annotation
    assert isinstance(record, AvaRecord)
    assert (record.path, record.timestamp_start, record.fps) == ("v.mp4", 1, 1.0)
    assert record.key_frames[0].labels == ((5,), (6,))
    assert isinstance(reject, Reject)
    assert reject.message == "expected one action a person, got 6 for the box of line 1"


def test_ids_of_ava_kinetics_have_their_own_range(tmp_path: Path) -> None:
    rows = [
        f"{video},{timestamp},{BOX},1,0"
        for video, timestamp in (
            ("abcdefghijk", 900),
            ("a_b_defghij_000010_000020", 15),
            ("zzzzzzzzzzz_000100_000110", 110),
            ("zzzzzzzzzzz_000100_000110", 111),
            ("abcdefghijk", 15),
            ("short", 900),
            ("zzzzzzzzzzz_20_10", 15),
            ("a_1_2_3_4_5", 4),
        )
    ]
    entries = list(AvaCsv(write(tmp_path, rows), kinetics_ids=True, media_tmpl="{}.mp4"))
    found = [entry for entry in entries if isinstance(entry, AvaRecord)]
    assert [(record.video_id, record.timestamp_start) for record in found] == [
        ("abcdefghijk", 900),
        ("a_b_defghij_000010_000020", 10),
        ("zzzzzzzzzzz_000100_000110", 100),
    ]
    assert found[1].path == "a_b_defghij_000010_000020.mp4"
    said = [entry.message for entry in entries if isinstance(entry, Reject)]
    assert [message.partition(", got")[0] for message in said] == [
        "expected a timestamp of 100 to 110",
        "expected a timestamp of 900 to 1800",
        "expected a video id of 11 characters or '<id>_<start>_<end>'",
        "expected a video id of 11 characters or '<id>_<start>_<end>'",
        "expected a timestamp of 900 to 1800",  # 11 characters, however they look
    ]


def _proposed(folder: Path, rows: Sequence[str], content: object, **options: Any) -> AvaCsv:
    return AvaCsv(write(folder, rows), proposals=write_pickle(folder, content), **options)


@pytest.mark.parametrize("key", ["v,0902", "v,902", "v,00902", "v, 902"])
@pytest.mark.parametrize("columns", [4, 5])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_proposals_meet_their_rows(tmp_path: Path, key: str, columns: int, dtype: str) -> None:
    boxes = BOXES[:, :columns].astype(dtype)
    annotation = _proposed(tmp_path, ["v,902,0,0,1,1,1,0"], {key: boxes})
    key_frame = key_frame_of(annotation)
    assert key_frame.proposals is not None
    assert key_frame.proposals.dtype == np.float64
    assert np.array_equal(key_frame.proposals, boxes.astype(np.float64))
    assert annotation.warnings == []


def test_proposals_of_a_kinetics_video_may_lack_the_range(tmp_path: Path) -> None:
    video = "zzzzzzzzzzz_000100_000110"
    rows = [f"{video},{timestamp},{BOX},1,0" for timestamp in (104, 105)]
    proposals = {"zzzzzzzzzzz,0104": BOXES, f"{video},105": BOXES[:1]}
    annotation = _proposed(tmp_path, rows, proposals, kinetics_ids=True)
    counts = []
    for record in records_of(annotation):
        assert record.key_frames[0].proposals is not None
        counts.append(len(record.key_frames[0].proposals))
    assert counts == [2, 1]
    assert annotation.warnings == []


def test_proposals_without_rows_and_rows_without_proposals_are_reported(tmp_path: Path) -> None:
    rows = [f"v,{timestamp},{BOX},1,0" for timestamp in (902, 903, 904)] + [f"v,905,{BOX},x,0"]
    proposals = {
        "v,0903": BOXES,
        "w,0902": BOXES,
        "v,1799": BOXES,
        "v,0905": BOXES,  # of a row that was rejected: no stranger
        ("v", 902): BOXES,
        b"v,0902": BOXES,
        "v": BOXES,
        "v,903": BOXES[:1],
    }
    annotation = _proposed(tmp_path, rows, proposals)
    entries = list(annotation)
    assert annotation.warnings == [
        "2 keys of proposals.pkl match no row, the first: 'w,0902'",
        "4 keys of proposals.pkl are not used, the first: ('v', 902)",
        "2 of 3 key frames have no proposals in proposals.pkl, the first: 'v,0902' (train.csv:1)",
    ]
    assert isinstance(entries[1], AvaRecord)
    found = entries[1].key_frames[0].proposals
    assert found is not None
    assert len(found) == 2, "the key with four digits counts"
    assert len(list(annotation)) == 4
    assert len(annotation.warnings) == 3, "warnings are those of the last iteration"


def test_key_with_four_digits_counts_whichever_comes_first(tmp_path: Path) -> None:
    for proposals in (
        {"v,902": BOXES[:1], "v,0902": BOXES},
        {"v,0902": BOXES, "v,902": BOXES[:1]},
    ):
        annotation = _proposed(tmp_path, [ROW], proposals)
        found = key_frame_of(annotation).proposals
        assert found is not None
        assert len(found) == 2
        assert annotation.warnings == ["1 key of proposals.pkl is not used, the first: 'v,902'"]


@pytest.mark.parametrize(
    "proposals", [{}, {("v", 902): BOXES}, {b"v,0902": BOXES}, {"v": BOXES}, {"other,0902": BOXES}]
)
def test_proposals_that_fit_no_row_at_all_are_refused(
    tmp_path: Path, proposals: Mapping[object, object]
) -> None:
    with pytest.raises(AnnotationError, match="as 'v,0902'; no key fits"):
        list(_proposed(tmp_path, [ROW], dict(proposals)))


def test_proposals_of_rows_that_are_not_packed_are_no_strangers(tmp_path: Path) -> None:
    # All that the proposals know was rejected; what was not has none.
    rows = [ROW, f"v,0903,{BOX},12,0".replace(BOX, "0.5,0.5,0.1,0.1")]
    annotation = _proposed(tmp_path, rows, {"v,0903": BOXES})
    record, reject = annotation
    assert isinstance(record, AvaRecord)
    assert isinstance(reject, Reject)
    assert record.key_frames[0].proposals is None
    (warning,) = annotation.warnings
    assert warning.startswith("1 of 1 key frames have no proposals")


def test_proposals_without_an_area_are_reported_and_kept(tmp_path: Path) -> None:
    flat = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.9, 0.1, 0.1], [0.5, 0.1, 0.5, 0.2]])
    annotation = _proposed(tmp_path, [ROW], {"v,0902": flat})
    found = key_frame_of(annotation).proposals
    assert found is not None
    assert np.array_equal(found, flat)
    assert annotation.warnings == [
        "2 boxes of proposals.pkl have no area, the first: 'v,0902 row 1'"
    ]


def test_custom_classes_are_named_by_their_ids_where_no_map_is_given(tmp_path: Path) -> None:
    assert AvaCsv("a.csv", custom_classes=(12, 80)).class_names == ("", "12", "80")
    assert AvaCsv("a.csv").class_names == ()


@pytest.mark.parametrize("content", [[BOXES], BOXES, "v,0902", None])
def test_proposals_that_are_no_dict_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(AnnotationError, match="expected a dict of 'video_id,timestamp'"):
        list(_proposed(tmp_path, [ROW], content))


class _Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("called"),))


def test_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError):
        list(_proposed(tmp_path, [ROW], {"v,0902": _Call()}))


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (BOXES.tolist(), "expected an array of numbers, got list"),
        (BOXES[0], r"expected shape \(n, 4\) or \(n, 5\), got \(5,\)"),
        (BOXES[:, :3], r"got \(2, 3\)"),
        (BOXES[:0], r"got \(0, 5\)"),
        (np.zeros((1, 6)), r"got \(1, 6\)"),
        (np.ones((1, 4), dtype=bool), "expected an array of numbers, got bool"),
        (BOXES * [1, 1, 1.1, 1, 1], "expected x1, y1, x2, y2 within 0 and 1.*in row 1"),
        (BOXES - [0.2, 0, 0, 0, 0], "in row 0"),
        (BOXES * [1, 1, np.nan, 1, 1], "in row 0"),
        (BOXES * [1, 1, 1, 1, np.inf], "a finite score"),
        (np.full((1, 4), 200, dtype=np.uint8), "within 0 and 1"),
    ],
)
def test_key_frame_with_bad_proposals_is_rejected_row_by_row(
    tmp_path: Path, boxes: object, said: str
) -> None:
    rows = [ROW, f"v,903,{BOX},1,0", ROW]
    annotation = _proposed(tmp_path, rows, {"v,902": boxes, "v,0903": BOXES})
    first, record, last = annotation
    assert isinstance(record, AvaRecord)
    assert record.id == "v,0903"
    for reject, line in ((first, 1), (last, 3)):
        assert isinstance(reject, Reject)
        assert reject.origin == Origin("train.csv", line=line)
        assert reject.id == "v,0902"
        assert reject.message.startswith("proposals 'v,902': ")
        with pytest.raises(AnnotationError, match=said):
            raise AnnotationError(reject.message)
    assert annotation.warnings == []


@pytest.mark.parametrize(
    "options",
    [
        {"labels": "none"},
        {"group": "frame"},
        {"media_tmpl": "v.mp4"},
        {"media_tmpl": "{}/{}.mp4"},
        {"media_tmpl": "{:05}.mp4"},
        {"fps": 0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"timestamp_start": 10, "timestamp_end": 9},
        {"custom_classes": (0, 1)},
        {"custom_classes": (-1,)},
        {"custom_classes": (1, 1)},
    ],
)
def test_option_out_of_range_is_a_wrong_argument(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|the end is first"):
        AvaCsv("train.csv", **options)


def test_file_as_a_whole_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        list(AvaCsv(tmp_path / "missing.csv"))
    with pytest.raises(AnnotationError, match="the list is empty"):
        list(AvaCsv(write(tmp_path, [])))
    missing: dict[str, Any]
    for option in ("proposals", "exclude", "label_map"):
        missing = {option: tmp_path / "missing"}
        with pytest.raises(AnnotationError, match="missing: cannot be read"):
            list(AvaCsv(write(tmp_path, [ROW]), **missing))


NUMBERS = st.sampled_from(["0", "0.1", "0.10", "0.5", "0.9", "1", "1.5", "-0.1", "nan", "x", ""])
FIELDS = st.tuples(
    st.sampled_from(["a", "b", "c,d", '"a"', "", " a"]),
    st.sampled_from(["900", "0900", "901", "902", "903", "1801", "899", "x", "901.0", ""]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["0", "1", "2", "3", "-1", "x", "1.0", ""]),
    st.sampled_from(["0", "1", "-1", "x", "0.0"]),
)
GOOD = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["900", "901", "0902", "903"]),
    st.sampled_from(["0.1", "0.10", "0"]),
    st.just("0.2"),
    st.sampled_from(["0.3", "1"]),
    st.just("0.4"),
    st.sampled_from(["0", "1", "2", "3"]),
    st.sampled_from(["0", "1", "2"]),
)
LINES = st.lists(
    st.one_of(GOOD, GOOD, FIELDS).map(",".join) | st.just("") | st.text("a,0.\t\"'", max_size=9)
)


@settings(deadline=None, max_examples=200)
@given(
    lines=LINES,
    labels=st.sampled_from(["many", "one"]),
    group=st.sampled_from(["clip", "video"]),
    custom=st.sampled_from([(), (2, 1)]),
    exclude=st.booleans(),
    proposals=st.booleans(),
)
def test_every_row_ends_in_exactly_one_place(
    lines: list[str],
    labels: Any,
    group: Any,
    custom: tuple[int, ...],
    exclude: bool,
    proposals: bool,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [f"a,0900,{BOX},1,0", *lines]
        annotation = AvaCsv(
            write(folder, lines),
            labels=labels,
            group=group,
            custom_classes=custom,
            exclude=write(folder, ["a,901", "b,900"], name="exclude.csv") if exclude else None,
            proposals=write_pickle(folder, {"a,900": BOXES, "a,0902": BOXES[:0], "b,901": BOXES})
            if proposals
            else None,
        )
        entries = list(annotation)
    lines_left = set(range(1, len(lines) + 1))
    merged = 0
    for entry in entries:
        assert entry.origin is not None
        if isinstance(entry, AvaRecord):
            merged += sum(key_frame.rows for key_frame in entry.key_frames)
        else:
            lines_left.remove(entry.origin.line)
    assert merged == len(lines_left)
    # A record stands at its first row, and none of its rows is anything else.
    for entry in entries:
        if isinstance(entry, AvaRecord) and entry.origin is not None:
            assert entry.origin.line in lines_left
    places = [entry.origin.line for entry in entries if entry.origin is not None]
    assert places == sorted(places)


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(GOOD, min_size=1))
def test_merging_is_that_of_mmaction2(rows: list[tuple[str, ...]]) -> None:
    due: dict[tuple[str, int], list[tuple[list[float], list[int], int]]] = {}
    for video, timestamp, *box, label, entity_id in rows:
        persons = due.setdefault((video, int(timestamp)), [])
        numbers = [float(text) for text in box]
        for found, labels, _ in persons:
            if np.array_equal(found, numbers):
                labels.append(int(label))
                break
        else:
            persons.append((numbers, [int(label)], int(entity_id)))
    with tempfile.TemporaryDirectory() as folder:
        found_records = records_of(AvaCsv(write(Path(folder), [",".join(row) for row in rows])))
    assert [
        ((record.video_id, record.key_frames[0].timestamp), as_tuples(record.key_frames[0]))
        for record in found_records
    ] == [
        (
            moment,
            [(box, tuple(dict.fromkeys(labels)), entity_id) for box, labels, entity_id in persons],
        )
        for moment, persons in due.items()
    ]


def test_real_rows_are_read(shared_data: Path) -> None:
    folder = shared_data / "ava"
    annotation = AvaCsv(
        folder / "demo_seconds.csv",
        proposals=folder / "demo_seconds_proposals.pkl",
        exclude=folder / "demo_exclude.csv",
        label_map=folder / "action_list.pbtxt",
        timestamp_start=0,
        timestamp_end=10,
    )
    entries = list(annotation)
    records = [entry for entry in entries if isinstance(entry, AvaRecord)]
    assert [record.key_frames[0].timestamp for record in records] == [1, 5, 8]
    assert [record.key_frames[0].labels for record in records] == [((12, 80), (11,))] * 3
    assert sum(isinstance(entry, Excluded) for entry in entries) == 3
    assert [record.key_frames[0].proposals is None for record in records] == [False, False, True]
    assert annotation.class_names[11:13] == ("sit", "stand")
    assert len(annotation.warnings) == 1


def test_real_frames_and_detections_are_read(shared_data: Path) -> None:
    folder = shared_data / "ava"
    annotation = AvaCsv(
        folder / "demo_frames.csv",
        proposals=folder / "demo_frames_proposals.pkl",
        label_map=folder / "ava_label_map.txt",
        fps=10,
        timestamp_start=0,
        timestamp_end=2,
    )
    shapes = []
    for record in records_of(annotation):
        assert record.key_frames[0].proposals is not None
        shapes.append(record.key_frames[0].proposals.shape)
    assert shapes == [(1, 5), (2, 4)]
    assert (len(annotation.class_names), annotation.class_names[80]) == (81, "watch (a person)")
    real = AvaCsv(folder / "eval_gt.csv", proposals=folder / "eval_proposal.pkl")
    assert [record.key_frames[0].rows for record in records_of(real)] == [4, 4, 4]
    assert real.warnings == []


def test_multisports_layout_is_read(shared_data: Path) -> None:
    folder = shared_data / "ava"
    annotation = AvaCsv(
        folder / "multisports_style.csv",
        proposals=folder / "multisports_style_proposals.pkl",
        labels="one",
        fps=1,
        timestamp_start=1,
        timestamp_end=None,
        group="video",
    )
    (record,) = records_of(annotation)
    assert record.path == "demo.mp4"
    assert [key_frame.timestamp for key_frame in record.key_frames] == list(range(15, 27))
    assert {len(key_frame.labels[0]) for key_frame in record.key_frames} == {1}
    assert annotation.warnings == []
