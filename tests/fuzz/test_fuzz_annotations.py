"""Annotations of any bytes: each entry is a record or a reject, or the file is refused."""

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON_TOKENS, altered, fuzzed, mutated, numbers, read
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.annotations.activitynet_file import ActivityNetFile
from clipshards.packer.annotations.audio_list import AudioList
from clipshards.packer.annotations.ava_csv import AvaCsv
from clipshards.packer.annotations.ava_labels import read_exclusions, read_label_map
from clipshards.packer.annotations.ava_proposals import read_proposals
from clipshards.packer.annotations.class_names import read_class_names
from clipshards.packer.annotations.json_file import read_json
from clipshards.packer.annotations.pickles import load_pickle
from clipshards.packer.annotations.rawframe_list import RawframeList
from clipshards.packer.annotations.skeleton_file import SkeletonFile
from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.entries import check_entries
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.labels import LabelRule
from clipshards.packer.plan import digest_of_entries

# A text of Python takes one to four bytes a character, and each line becomes an object.
_FREE = 20_000


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    """Return the path of a file that each example writes anew."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "annotation"


def entries_of(records: Any) -> int:
    """Return how many entries come out of an annotation, looked at as packing does."""
    rule = LabelRule(getattr(records, "labels", "none"), ())
    _, entries = check_entries(records, rule)
    digest_of_entries(entries)
    for entry in entries:
        str(entry.value.origin)
    return len(entries)


VIDEOS = b"a/b.mp4 0\nsome dir/c.mp4 17\n\nd.mp4 3 4\n\xe8\xb7\xb3.mp4 1\r\n"
FRAMES = b"a/b 0 30 1\nc 5 17 2\na/b/ 31 2 0\nd -1 2 3\n"
SOUNDS = b"a.wav 300 1\nb 17 2 3\nc\td 2 0\n"
ROWS = (
    b"abcdefghijk,0902,0.1,0.2,0.3,0.4,12,0\nabcdefghijk,0902,0.1,0.2,0.3,0.4,17,0\n"
    b"lmnopqrstuv,1000,0,0,1,1,1,1\nx_10_20,12,0.5,0.5,1e-1,nan,3,4\n"
)
LABELS = b'item {\n  name: "sit"\n  id: 11\n}\nlabel { name: "a {b}" label_id: 3 }\n'
LINES = b"0: stand\n17: walk {fast}\n"
PROPOSALS = {
    "abcdefghijk,0902": np.array([[0.1, 0.1, 0.5, 0.5, 0.9]]),
    "lmnopqrstuv,1000": np.zeros((1, 4), np.float32),
    "x,7": np.array([[0.0, 0.0, 1.0, 1.0, 1.0]]),
}
SKELETONS: dict[str, Any] = {
    "split": {"train": ["a", "b", "b", "gone"]},
    "annotations": [
        {
            "frame_dir": "a",
            "label": 3,
            "img_shape": (240, 320),
            "original_shape": (240, 320),
            "total_frames": 2,
            "keypoint": np.ones((1, 2, 5, 2), np.float16),
            "keypoint_score": np.ones((1, 2, 5), np.float16),
        },
        {
            "frame_dir": "b",
            "label": 4,
            "total_frames": 9,
            "keypoint": np.ones((3, 5, 3), np.float32),
            "frame_inds": np.array([0, 3, 9]),
            "box_score": np.ones(3),
            "valid": {0.5: 3},
        },
    ],
}
VIDEO = {
    "duration_second": 9.5,
    "duration_frame": 285,
    "feature_frame": 272,
    "annotations": [{"segment": [0.5, 2], "label": "Jump"}],
}
OFFICIAL = {"duration": 9.5, "subset": "training", "annotations": VIDEO["annotations"]}
JSONS: list[Any] = [
    {"v_a": VIDEO, "v_b": VIDEO | {"fps": 30, "rfps": 25.0}},
    {"database": {"c": OFFICIAL}},
]
TEXT_TOKENS = [
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\r",
        b"\t",
        b"  ",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\n",
    ),
    *(b'"' * 3000, b",,,,,,,,", b"item {" * 5000, b"name: " * 3000, b"label" + b" " * 20_000),
    *(b"1" * 5000, b"1_0", b"\xd9\xa3", b"-0", b"1e400", b"_1_2" * 5000, b"'\"" * 5000, b"{}" * 50),
]

Reader = Callable[[Path], Any]

READERS: dict[str, tuple[Reader, bytes]] = {
    "video list": (lambda path: entries_of(VideoList(path)), VIDEOS),
    "video list of many labels": (lambda path: entries_of(VideoList(path, labels="many")), VIDEOS),
    "video list with commas": (lambda path: entries_of(VideoList(path, delimiter=",")), VIDEOS),
    "rawframe list": (lambda path: entries_of(RawframeList(path)), FRAMES),
    "rawframe list with offsets": (
        lambda path: entries_of(RawframeList(path, with_offset=True, labels="many")),
        FRAMES,
    ),
    "audio list": (lambda path: entries_of(AudioList(path)), SOUNDS),
    "ava csv": (lambda path: entries_of(AvaCsv(path)), ROWS),
    "ava csv by video": (
        lambda path: entries_of(
            AvaCsv(path, group="video", kinetics_ids=True, fps=1, timestamp_end=None)
        ),
        ROWS,
    ),
    "label map": (read_label_map, LABELS),
    "label lines": (read_label_map, LINES),
    "exclusions": (read_exclusions, b"abcdefghijk,0902\nx,17\n"),
    "class names": (read_class_names, b"sit\nstand up\n"),
    "class names of a csv": (
        lambda path: AvaCsv(path, label_map=path, custom_classes=(3, 11)).class_names,
        LABELS,
    ),
}


def of_bytes(reader: Reader, file: Path, data: bytes) -> Any:
    file.write_bytes(data)
    return read(lambda: reader(file), len(data) + _FREE, errors=AnnotationError)


@pytest.mark.parametrize("kind", READERS)
@fuzzed(25)
@given(data=st.data())
def test_a_text_of_any_bytes_is_read_or_refused(kind: str, file: Path, data: st.DataObject) -> None:
    reader, sound = READERS[kind]
    of_bytes(reader, file, data.draw(mutated([sound, VIDEOS, ROWS, LABELS], TEXT_TOKENS)))


ANET: dict[str, Reader] = {
    "plain": read_json,
    "features": lambda path: entries_of(ActivityNetFile(path)),
    "one subset": lambda path: entries_of(
        ActivityNetFile(path, source_split="training", video_tmpl="{}.mp4", feature_tmpl="")
    ),
    "class names": lambda path: ActivityNetFile(path).class_names,
}


@pytest.mark.parametrize("kind", ANET)
@fuzzed(25)
@given(data=st.data())
def test_a_json_annotation_of_any_values_is_read_or_refused(
    kind: str, file: Path, data: st.DataObject
) -> None:
    sound = [json.dumps(value, indent=indent).encode() for value in JSONS for indent in (None, 2)]
    text = data.draw(mutated(sound, JSON_TOKENS) | altered(JSONS).map(encode_json))
    of_bytes(ANET[kind], file, text)


@pytest.mark.parametrize("start", ['"', '["', '{"', '{"a": "', '[["', '{"a": {"'])
def test_a_string_without_an_end_takes_no_time(start: str, file: Path) -> None:
    # A look for its end at each of the quotes would take minutes.
    for piece in ('\\"', "\\\\", '"', "\\", '",', '":'):
        data = (start + piece * (200_000 // len(piece))).encode()
        assert of_bytes(read_json, file, data) is None


@pytest.mark.parametrize(
    "text",
    [
        "".join(f'item {{ name: "a{number}" id: {number} }}\n' for number in range(9000)),
        'item { name: "a" ' + " " * 400_000 + "id: 3 }",
        "item { " + '""' * 200_000,
        "item { name: 'a" + '"' * 400_000,
    ],
    ids=["many", "wide", "open", "quoted"],
)
def test_a_label_map_takes_time_and_memory_by_its_size(text: str, file: Path) -> None:
    of_bytes(read_label_map, file, text.encode())


PICKLES = [
    pickle.dumps(value, protocol)
    for value in (SKELETONS, SKELETONS["annotations"], PROPOSALS)
    for protocol in (0, 2, 4, 5)
]
PICKLE_TOKENS = [
    *(b"(" * 20_000, b"]\x94" * 20_000, b"\x85\x94" * 20_000, b"\x8e" + b"\xff" * 8, b"2" * 50),
    *(b"cos\nsystem\n", b"R", b"b", b"h\x00", b"j\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"0"),
    *(b"L" + b"9" * 9000 + b"L\n", b"I1\n", b"F1e999\n", b"V\\ud800\n", b"S'\\400'\n", b"N."),
    *(b"\x8a\xff" + b"\xff" * 255, b"\x95" + b"\xff" * 8, b"X\xff\xff\xff\xff", b"}(K\x01K\x02u"),
]

PICKLED: dict[str, Reader] = {
    "skeletons": lambda path: entries_of(SkeletonFile(path)),
    "skeletons with scores": lambda path: entries_of(
        SkeletonFile(path, labels="many", valid_ratio=0.1, skeleton_dir="s", encoding="latin1")
    ),
    "proposals": lambda path: [
        read_boxes(proposals, moment)
        for proposals in [read_proposals(path)]
        for moment in proposals.boxes
    ],
}


def read_boxes(proposals: Any, moment: Any) -> Any:
    try:
        return proposals.at(moment)
    except AnnotationError:  # of each moment on its own
        return None


@pytest.mark.parametrize("kind", PICKLED)
@fuzzed(40)
@given(data=st.data())
def test_a_pickle_of_any_bytes_is_read_or_refused(
    kind: str, file: Path, data: st.DataObject
) -> None:
    of_bytes(PICKLED[kind], file, data.draw(mutated(PICKLES, PICKLE_TOKENS)))


OBJECTS = st.recursive(
    numbers.filter(lambda number: -(2**63) <= number < 2**64)
    | st.floats()
    | st.sampled_from([None, True, b"a", "a", "", "\ud800", "\0", "train", "b" * 300, 0.5])
    | st.sampled_from(
        [
            np.zeros(shape, dtype)
            for shape in [(), (0,), (2,), (1, 2, 5, 2), (0, 10**6, 3, 2)]
            for dtype in ("f2", "f8", "i8", "b1", "u1", ">i4")
        ]
        + [np.float32("nan"), np.int8(-1), np.str_("a"), np.bool_(True), np.full((3, 5, 3), np.inf)]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", 0.5, 3, None, b"k", (1, "a")]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def skeleton_values(draw: st.DrawFn) -> Any:
    """Return a skeleton annotation with one to three of its values replaced by any others."""
    annotations = [dict(entry) for entry in SKELETONS["annotations"]]
    split: Any = dict(SKELETONS["split"])
    for _ in range(draw(st.integers(1, 3))):
        entry = draw(st.sampled_from(annotations))
        key = draw(st.sampled_from([*entry, "valid", "filename", "box_score", "x"]))
        entry[key] = draw(OBJECTS)
    match draw(st.integers(0, 5)):
        case 0:
            split["train"] = draw(OBJECTS)
        case 1:
            return draw(OBJECTS)
        case 2:
            return [*annotations, draw(OBJECTS)]
    return {"split": split, "annotations": annotations}


@pytest.mark.parametrize("kind", PICKLED)
@fuzzed(25)
@given(value=skeleton_values() | st.dictionaries(st.sampled_from(["a,1", "b,0002", ""]), OBJECTS))
def test_a_pickle_of_any_values_is_read_or_refused(kind: str, file: Path, value: Any) -> None:
    data = pickle.dumps(value, 4)
    of_bytes(PICKLED[kind], file, data)
    read(lambda: load_pickle(data, where="x"), len(data), errors=AnnotationError)
