"""The `json` parts of the tasks: what is written comes back, and nothing else is taken."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.video import VideoInfo

Part = ActivityNetJson | AudioJson | AvaJson | RawframesJson | SkeletonJson | VideoJson

INFO = VideoInfo(codec="mjpeg", width=8, height=6, rate=(25, 1), frames=30, frame_table="decode")
VIDEO = VideoJson("a b.mp4", "list.txt:1", (3,), INFO)
AUDIO = AudioJson(id="a b.npy", origin="list.txt:1", labels=(127,), total_frames=75)
SKELETON = SkeletonJson(
    id="S001",
    origin="ntu.pkl[0]",
    labels=(1, 2),
    total_frames=40,
    compressed=True,
    image_shape=(240, 320),
    original_shape=(0, 0),
    valid=((0.5, 30), (0.9, 0)),
    box_threshold=0.5,
    absent=("box_score.npy", "keypoint_score.npy"),
)
RAWFRAMES = RawframesJson(
    id="a/b",
    origin="list.txt:1",
    filename_tmpl="img_{:05}.jpg",
    start_index=1,
    stretches=(
        StretchJson(offset=0, total_frames=30, labels=(6, 9), origin="list.txt:1"),
        StretchJson(offset=29, total_frames=1, labels=(), origin="list.txt:9"),
    ),
    video=INFO,
)
AVA = AvaJson(
    id="a,902",
    origin="ava.csv:1",
    video_id="a",
    fps=30.0,
    timestamp_start=900,
    clip_frames=1,
    first_frame=10,
    source_frames=50,
    filename_tmpl="img_{:05}.jpg",
    start_index=1,
    key_frames=(
        KeyFrameJson(timestamp=902, frame=11, persons=2, labels=3, proposals=1, scored=True),
        KeyFrameJson(timestamp=-3, frame=39, persons=1, labels=0, proposals=-1, scored=False),
    ),
    video=INFO,
)
ACTIVITYNET = ActivityNetJson(
    id="v_é",
    origin="a.json:1",
    segments=((0.5, 2.0), (0.0, 9.5)),
    segment_labels=("jump", ""),
    duration_s=9.5,
    duration_frames=90,
    feature_frames=80,
    fps=25.0,
    rfps=0.5,
    csv_header=True,
    video=VideoInfo(),
)
SAMPLES: dict[str, Part] = {
    "ava": AVA,
    "activitynet": ACTIVITYNET,
    "video": VIDEO,
    "audio": AUDIO,
    "kept audio": replace(AUDIO, codec="aac", sample_rate_hz=44100, channels=2, duration_s=3.0),
    "skeleton": SKELETON,
    "rawframes": RAWFRAMES,
}
each = pytest.mark.parametrize("name", SAMPLES)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
counts = st.integers(0, 2**63 - 1)
above_0 = st.integers(1, 10**8)
labels = st.lists(counts, max_size=4).map(tuple)
shapes = st.tuples(counts, counts)
plain_floats = st.floats(allow_nan=False, allow_infinity=False)
audios = st.builds(AudioJson, id=texts, origin=texts, labels=labels, total_frames=above_0)
skeletons = st.builds(
    SkeletonJson,
    id=texts,
    origin=texts,
    labels=labels,
    total_frames=above_0,
    compressed=st.booleans(),
    image_shape=shapes,
    original_shape=shapes,
    valid=st.lists(st.tuples(plain_floats, counts), max_size=3).map(tuple),
    box_threshold=plain_floats,
    absent=st.sets(texts, max_size=3).map(sorted).map(tuple),
)


@st.composite
def rawframes(draw: st.DrawFn) -> RawframesJson:
    frames = draw(above_0)
    stretches = []
    for _ in range(draw(st.integers(1, 3))):
        offset = draw(st.integers(0, frames - 1))
        count = draw(st.integers(1, frames - offset))
        stretches.append(
            StretchJson(offset=offset, total_frames=count, labels=draw(labels), origin=draw(texts))
        )
    return RawframesJson(
        id=draw(texts),
        origin=draw(texts),
        filename_tmpl=draw(st.sampled_from(["{}.png", "img_{:05}.jpg", "flow_{}_{:05d}.jpg"])),
        start_index=draw(counts),
        stretches=tuple(stretches),
        video=replace(INFO, frames=frames),
    )


def decode(name: str, value: Any) -> Part:
    return type(SAMPLES[name]).decode(encode_json(value), where="json")


@each
def test_a_sample_comes_back(name: str) -> None:
    sample = SAMPLES[name]
    data = sample.encode()
    assert type(sample).decode(data, where="json") == sample
    assert encode_json(json.loads(data)) == data
    assert hash(type(sample).decode(data, where="json")) == hash(sample)


@settings(max_examples=60, deadline=None)
@given(audios | skeletons | rawframes())
def test_every_sample_comes_back(sample: Part) -> None:
    data = sample.encode()
    back = type(sample).decode(data, where="json")
    assert back == sample
    assert back.encode() == data
    assert (back.items, back.summary()) == (sample.items, sample.summary())


@each
def test_the_keys_are_the_fields(name: str) -> None:
    sample = SAMPLES[name]
    assert set(json.loads(sample.encode())) == {field.name for field in fields(sample)}


def test_the_summary_is_what_the_index_shows() -> None:
    assert AUDIO.summary() == {"labels": [127], "frames": 75}
    assert SKELETON.summary() == {"labels": [1, 2], "frames": 40, "width": 320, "height": 240}
    assert RAWFRAMES.summary() == {"labels": [[6, 9], []], "frames": 30, "width": 8, "height": 6}
    assert AVA.summary() == {
        "timestamps": [902, -3],
        "persons": [2, 1],
        "frames": 30,
        "width": 8,
        "height": 6,
    }
    assert ACTIVITYNET.summary() == {"labels": ["jump", ""], "duration_s": 9.5, "frames": 90}
    for sample in SAMPLES.values():
        assert set(sample.summary()) == set(sample.SUMMARY)


def test_each_stretch_is_an_item_with_labels_of_its_own() -> None:
    assert (RAWFRAMES.items, RAWFRAMES.label_lists) == (2, ((6, 9), ()))
    assert (AVA.items, AVA.label_lists) == (2, ())
    assert (ACTIVITYNET.items, ACTIVITYNET.label_lists) == (1, ())
    for sample in (VIDEO, AUDIO, SKELETON):
        assert (sample.items, sample.label_lists) == (1, (sample.labels,))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values inside a JSON value, itself first."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, child in inner for found in places(child, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with another value at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


WRONG: list[Any] = ["text", 7, 7.5, True, None, {}, [], [1], [[]], [1.5, "a"], {"a": 1}, -1, 2**63]


@each
def test_a_value_of_another_type_is_refused_wherever_it_stands(name: str) -> None:
    value = json.loads(SAMPLES[name].encode())
    for path in places(value):
        good = value
        for key in path:
            good = good[key]
        for wrong in WRONG:
            if type(wrong) is type(good):
                continue
            with pytest.raises(FormatError, match=r"^json"):
                decode(name, put(value, path, wrong))


@each
def test_a_missing_or_unknown_key_is_refused(name: str) -> None:
    value = json.loads(SAMPLES[name].encode())
    for key in value:
        without = {other: inner for other, inner in value.items() if other != key}
        with pytest.raises(FormatError, match=f"missing or unknown key '{key}'"):
            decode(name, without)
    with pytest.raises(FormatError, match="missing or unknown key 'note'"):
        decode(name, value | {"note": ""})


def test_a_stretch_with_an_unknown_key_is_refused() -> None:
    value = json.loads(RAWFRAMES.encode())
    value["stretches"][1]["note"] = 1
    with pytest.raises(FormatError, match=r"stretches\[1\]: missing or unknown key 'note'"):
        decode("rawframes", value)


@pytest.mark.parametrize(
    ("name", "key", "wrong", "message"),
    [
        ("video", "labels", [-1], "json.labels: expected class ids of 0 or more, got -1"),
        ("audio", "labels", [0, -7], "json.labels: expected class ids of 0 or more, got -7"),
        ("audio", "total_frames", 0, "json.total_frames: 0 is out of range"),
        ("skeleton", "total_frames", -5, "json.total_frames: -5 is out of range"),
        ("skeleton", "image_shape", [-1, 5], "an image shape is out of range"),
        ("skeleton", "original_shape", [5, -1], "an image shape is out of range"),
        ("skeleton", "image_shape", [5], "json.image_shape: expected 2 values, got 1"),
        ("skeleton", "valid", [[0.5]], r"json.valid\[0\]: expected 2 values, got 1"),
        ("skeleton", "valid", [[1, 5]], r"json.valid\[0\]\[0\]: expected float"),
        ("skeleton", "absent", ["b", "a"], "json.absent: expected each name once, in order"),
        ("skeleton", "absent", ["a", "a"], "json.absent: expected each name once, in order"),
        ("rawframes", "stretches", [], "no stretches"),
        ("ava", "key_frames", [], "a count is out of range"),
        ("ava", "clip_frames", 0, "a count is out of range"),
        ("ava", "fps", -1.0, "a count is out of range"),
        ("ava", "first_frame", -1, "stored are -1 to 28"),
        ("ava", "source_frames", 39, "a count is out of range"),
        ("ava", "filename_tmpl", "../{}", "expected a name inside the folder"),
        ("ava", "filename_tmpl", "flow_{}_{}.jpg", "expected a template of pictures"),
        ("activitynet", "segments", [], "not as many"),
        ("activitynet", "segments", [[1.0, 1.0], [0.0, 1.0]], "ends before it begins, or is empty"),
        ("activitynet", "duration_s", 0.0, "out of range"),
        ("activitynet", "fps", -1.0, "out of range"),
        ("rawframes", "start_index", -1, "start index below 0"),
        ("rawframes", "filename_tmpl", "../{}.jpg", "expected a name inside the folder"),
        ("rawframes", "filename_tmpl", "/etc/{}", "expected a name inside the folder"),
        ("rawframes", "filename_tmpl", "img.jpg", "expected one slot for the number"),
        ("rawframes", "filename_tmpl", "{:0999999}", "expected slots as"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, key: str, wrong: Any, message: str) -> None:
    value = json.loads(SAMPLES[name].encode())
    with pytest.raises(FormatError, match=message):
        decode(name, value | {key: wrong})


@pytest.mark.parametrize(
    ("offset", "count"), [(-1, 2), (0, 0), (0, -1), (0, 31), (30, 1), (2**63 - 1, 2**63 - 1)]
)
def test_a_stretch_outside_the_folder_is_refused(offset: int, count: int) -> None:
    value = json.loads(RAWFRAMES.encode())
    value["stretches"][1] |= {"offset": offset, "total_frames": count}
    with pytest.raises(FormatError, match=r"json.stretches\[1\]: frames .* of 30"):
        decode("rawframes", value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"1", b'"a"', b"\xff", b"[" * 10_000, b'{"id":NaN}']
)
@each
def test_what_is_no_object_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^json"):
        type(SAMPLES[name]).decode(data, where="json")


@each
def test_another_spelling_of_a_sample_is_refused(name: str) -> None:
    data = SAMPLES[name].encode()
    value = json.loads(data)
    unsorted = dict(reversed(value.items()))
    spellings = [
        data + b"\n",
        data.replace(b",", b", ", 1),
        json.dumps(unsorted, separators=(",", ":")).encode(),
        data[:-1] + b',"id":"x"}',
    ]
    for spelling in spellings:
        with pytest.raises(FormatError, match="expected canonical JSON"):
            type(SAMPLES[name]).decode(spelling, where="json")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def decodes_or_is_refused(name: str, data: bytes) -> None:
    """What is taken is written back as it was; what is not is a FormatError, nothing else."""
    try:
        sample = type(SAMPLES[name]).decode(data, where="json")
    except FormatError:
        return
    assert sample.encode() == data


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_taken_exactly_or_refused(name: str, data: st.DataObject) -> None:
    value = json.loads(SAMPLES[name].encode())
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(value)))
        value = put(value, path, data.draw(anything))
    decodes_or_is_refused(name, encode_json(value))


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_to_the_bytes_is_refused_or_harmless(name: str, data: st.DataObject) -> None:
    text = bytearray(SAMPLES[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not text:
            break
    decodes_or_is_refused(name, bytes(text))
