from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.video import FrameTableMode, VideoInfo

FULL = VideoInfo(
    codec="h264",
    codec_tag="avc1",
    extradata=bytes(range(40)),
    nal_length_size=4,
    pixel_format="yuv420p",
    coded_width=352,
    coded_height=256,
    width=340,
    height=256,
    color_range=1,
    color_space=1,
    color_primaries=1,
    color_transfer=1,
    interlaced=True,
    sample_aspect=(1, 1),
    rotation=-90,
    reorder_depth=2,
    time_base=(1, 12800),
    rate=(25, 1),
    duration_s=10.0,
    frames=250,
    claimed_frames=250,
    frame_table="decode",
    no_table_because="",
)
SAMPLE = VideoJson("a/b c.mp4", "train.txt:17", (3, 0), FULL)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
integers = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**63 - 1)
above_0 = st.integers(1, 2**63 - 1)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    bytes: st.binary(max_size=30),
    int: counts,
    bool: st.booleans(),
    float: st.floats(0, allow_nan=False, allow_infinity=False),
    tuple[int, int]: st.just((0, 1)) | st.tuples(above_0, above_0),
    FrameTableMode: st.just("decode"),
}
BY_NAME = {
    "nal_length_size": st.integers(0, 4),
    "color_range": st.integers(0, 2),
    "rotation": st.integers(-180, 180),
    "frames": above_0,
}
opened = {field.name: BY_TYPE[field.type] for field in fields(VideoInfo)} | BY_NAME
infos = st.just(VideoInfo()) | st.builds(VideoInfo, **opened)
samples = st.builds(
    VideoJson, texts, texts, st.lists(st.integers(0, 2**63 - 1), max_size=4).map(tuple), infos
)


def value_of(sample: VideoJson) -> dict[str, Any]:
    return {
        "id": sample.id,
        "origin": sample.origin,
        "labels": list(sample.labels),
        "video": sample.video.to_json(),
    }


def decode(value: Any) -> VideoJson:
    return VideoJson.decode(encode_json(value), where="json")


@settings(max_examples=200, deadline=None)
@given(samples)
def test_every_description_comes_back(sample: VideoJson) -> None:
    data = sample.encode()
    assert VideoJson.decode(data, where="x") == sample
    assert VideoInfo.from_json(sample.video.to_json(), where="x") == sample.video


def test_an_unopened_video_is_described_by_the_defaults() -> None:
    sample = VideoJson("", "records[0]", (), VideoInfo())
    assert VideoJson.decode(sample.encode(), where="x") == sample
    assert (sample.video.frames, sample.video.frame_table) == (-1, "none")


def test_what_is_read_is_hashable_and_has_tuples() -> None:
    read = decode(value_of(SAMPLE))
    assert read == SAMPLE
    assert hash(read) == hash(SAMPLE)


@pytest.mark.parametrize("name", [field.name for field in fields(VideoInfo)])
def test_another_type_of_a_video_field_is_refused(name: str) -> None:
    good = FULL.to_json()[name]
    wrongs: list[Any] = ["text", 7, 7.5, True, None, {}, [], [1], [1, 2, 3], [1.0, 2.0]]
    for wrong in wrongs:
        if type(wrong) is type(good) and not isinstance(good, list) and name != "frame_table":
            continue
        video = FULL.to_json() | {name: wrong}
        with pytest.raises(FormatError, match=rf"^json\.video\.{name}"):
            decode(value_of(SAMPLE) | {"video": video})


@pytest.mark.parametrize("name", [field.name for field in fields(VideoInfo)])
def test_a_video_without_one_of_its_keys_is_refused(name: str) -> None:
    video = FULL.to_json()
    del video[name]
    with pytest.raises(FormatError, match=f"missing or unknown key '{name}'"):
        decode(value_of(SAMPLE) | {"video": video})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": 1}, "id"),
        ({"id": None}, "id"),
        ({"origin": []}, "origin"),
        ({"labels": 1}, "labels"),
        ({"labels": [1.0]}, r"labels\[0\]"),
        ({"labels": [0, True]}, r"labels\[1\]"),
        ({"labels": ["1"]}, r"labels\[0\]"),
        ({"video": []}, "video"),
        ({"video": FULL.to_json() | {"more": 1}}, "video: missing or unknown key 'more'"),
    ],
)
def test_another_type_of_a_json_field_is_refused(change: dict[str, Any], place: str) -> None:
    with pytest.raises(FormatError, match=rf"^json\.{place}"):
        decode(value_of(SAMPLE) | change)


def test_missing_and_unknown_keys_are_refused() -> None:
    for name in value_of(SAMPLE):
        value = value_of(SAMPLE)
        del value[name]
        with pytest.raises(FormatError, match=f"missing or unknown key '{name}'"):
            decode(value)
    with pytest.raises(FormatError, match="missing or unknown key 'flow_x'"):
        decode(value_of(SAMPLE) | {"flow_x": {}})
    others: list[Any] = [None, 1, [], "a"]
    for other in others:
        with pytest.raises(FormatError, match="expected an object"):
            decode(other)


def test_a_sample_without_labels_is_one_with_an_empty_list() -> None:
    unlabelled = replace(SAMPLE, labels=())
    assert b'"labels":[]' in unlabelled.encode()
    assert VideoJson.decode(unlabelled.encode(), where="x").labels == ()


def test_an_unknown_mode_of_the_frame_table_is_refused() -> None:
    for mode in ("guess", "", "Decode", "Demux"):
        with pytest.raises(FormatError, match=r"json\.video\.frame_table: unknown mode"):
            decode(value_of(SAMPLE) | {"video": FULL.to_json() | {"frame_table": mode}})


def test_a_demuxed_video_counts_its_frames_and_has_a_table() -> None:
    demuxed = FULL.to_json() | {"frame_table": "demux"}
    assert VideoInfo.from_json(demuxed, where="x") == replace(FULL, frame_table="demux")
    with pytest.raises(FormatError, match=r"^x\.frames: 0 is no count"):
        VideoInfo.from_json(demuxed | {"frames": 0}, where="x")
    with pytest.raises(FormatError, match=r"^x\.no_table_because: .* of a decode"):
        VideoInfo.from_json(demuxed | {"no_table_because": "a reason"}, where="x")


@pytest.mark.parametrize("text", ["=", "A", "QU", "Q===", "QUJD=QUJD", "QU JD", "QUJD\n", "QU-_"])
def test_extradata_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"json\.video\.extradata: expected base64"):
        decode(value_of(SAMPLE) | {"video": FULL.to_json() | {"extradata": text}})


@pytest.mark.parametrize("text", ["é", "QUJD\u2028", "QR==", "QUJ=", "QUJD=", "QUJD=="])
def test_extradata_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"json\.video\.extradata: expected base64"):
        decode(value_of(SAMPLE) | {"video": FULL.to_json() | {"extradata": text}})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
@example(b"{}")
def test_arbitrary_bytes_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        VideoJson.decode(data, where="x")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", -2),
        ("frames", -1),
        ("frames", 0),
        ("claimed_frames", -1),
        ("width", -1),
        ("coded_height", -1),
        ("duration_s", -0.5),
        ("reorder_depth", -1),
        ("nal_length_size", -1),
        ("nal_length_size", 5),
        ("rotation", -181),
        ("rotation", 181),
        ("color_range", -1),
        ("color_range", 3),
        ("color_space", -1),
        ("color_primaries", -1),
        ("color_transfer", -1),
        ("time_base", [1, 0]),
        ("time_base", [-1, 25]),
        ("rate", [25, -1]),
        ("rate", [0, 2]),
        ("rate", [0, 0]),
        ("sample_aspect", [-3, 1]),
        ("sample_aspect", [-3, -1]),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(FormatError, match=rf"^x\.{field}: "):
        VideoInfo.from_json(FULL.to_json() | {field: value}, where="x")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nal_length_size", 0),
        ("rotation", -180),
        ("rotation", 180),
        ("color_range", 2),
        ("color_space", 0),
        ("sample_aspect", [0, 1]),
        ("time_base", [0, 1]),
        ("rate", [0, 1]),
        ("frames", 1),
        ("claimed_frames", 0),
        ("codec", ""),
    ],
)
def test_the_ends_of_each_range_are_allowed(field: str, value: object) -> None:
    info = VideoInfo.from_json(FULL.to_json() | {field: value}, where="x")
    assert info.to_json()[field] == value


@pytest.mark.parametrize(
    "name", [field.name for field in fields(VideoInfo) if field.name != "frame_table"]
)
def test_nothing_is_known_of_an_unopened_video(name: str) -> None:
    known = replace(FULL, claimed_frames=7, no_table_because="a reason", duration_s=1.0)
    assert getattr(known, name) != getattr(VideoInfo(), name), "the row would prove nothing"
    value = VideoInfo().to_json() | {name: known.to_json()[name]}
    with pytest.raises(FormatError, match=rf"^x\.{name}: .* packed unopened"):
        VideoInfo.from_json(value, where="x")
