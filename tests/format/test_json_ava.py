"""The `json` parts of tasks `ava` and `activitynet`: what is written comes back, no more."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.video import VideoInfo

Part = AvaJson | ActivityNetJson

INFO = VideoInfo(codec="h264", width=64, height=48, frames=80, frame_table="decode")
MOMENT = KeyFrameJson(timestamp=902, frame=60, persons=2, labels=3, proposals=4, scored=True)
AVA = AvaJson(
    id="-5KQ66BBWC4,0902",
    origin="ava.csv:1",
    video_id="-5KQ66BBWC4",
    fps=30.0,
    timestamp_start=900,
    clip_frames=64,
    first_frame=20,
    source_frames=27000,
    filename_tmpl="",
    start_index=0,
    key_frames=(
        MOMENT,
        replace(MOMENT, timestamp=-3, frame=52, persons=0, labels=0, proposals=-1, scored=False),
    ),
    video=INFO,
)
ANET = ActivityNetJson(
    id="v_QOlSCBRmfWY",
    origin="anno.json:1",
    segments=((0.1, 0.30000000000000004), (0.0, 5e-324)),
    segment_labels=("Élan", ""),
    duration_s=82.73,
    duration_frames=1980,
    feature_frames=1968,
    fps=23.932,
    rfps=0.0,
    csv_header=True,
    video=VideoInfo(),
)
SAMPLES: dict[str, Part] = {"ava": AVA, "activitynet": ANET}
each = pytest.mark.parametrize("name", SAMPLES)


def decode(name: str, value: Any) -> Part:
    return type(SAMPLES[name]).decode(encode_json(value), where="json")


# What comes back

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
counts = st.integers(0, 2**63 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
above_0 = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
rates = st.floats(min_value=0, allow_infinity=False)
infos = st.integers(1, 10**6).map(lambda frames: replace(INFO, frames=frames))


@st.composite
def key_frames(draw: st.DrawFn, stored: range) -> KeyFrameJson:
    proposals = draw(st.integers(-1, 2**63 - 1))
    return KeyFrameJson(
        timestamp=draw(int64),
        frame=draw(st.sampled_from([stored.start, stored.stop - 1, *stored[1:-1:7][:3]])),
        persons=draw(counts),
        labels=draw(counts),
        proposals=proposals,
        scored=proposals >= 0 and draw(st.booleans()),
    )


@st.composite
def avas(draw: st.DrawFn) -> AvaJson:
    """Return a sample whose stored frames are all that its clips need."""
    frames = draw(st.integers(1, 200))
    # The source itself, or a stretch whose clips have one frame.
    whole = draw(st.booleans())
    first = 0 if whole else draw(st.integers(0, 10**7))
    stored = range(first, first + frames)
    source = frames if whole else draw(st.integers(stored.stop, 10**8))
    return AvaJson(
        id=draw(texts),
        origin=draw(texts),
        video_id=draw(texts),
        fps=draw(above_0),
        timestamp_start=draw(int64),
        clip_frames=draw(st.integers(1, 500)) if whole else 1,
        first_frame=first,
        source_frames=source,
        filename_tmpl=draw(st.sampled_from(["", "img_{:05}.jpg", "{}.png"])),
        start_index=draw(counts),
        key_frames=tuple(draw(st.lists(key_frames(stored), min_size=1, max_size=4))),
        video=replace(INFO, frames=frames),
    )


@st.composite
def activitynets(draw: st.DrawFn) -> ActivityNetJson:
    pairs = st.tuples(rates, rates).filter(lambda pair: pair[0] != pair[1])
    segments = [(min(pair), max(pair)) for pair in draw(st.lists(pairs, max_size=4))]
    return ActivityNetJson(
        id=draw(texts),
        origin=draw(texts),
        segments=tuple(segments),
        segment_labels=tuple(draw(texts) for _ in segments),
        duration_s=draw(above_0),
        duration_frames=draw(counts),
        feature_frames=draw(counts),
        fps=draw(rates),
        rfps=draw(rates),
        csv_header=draw(st.booleans()),
        video=draw(st.just(VideoInfo()) | infos),
    )


@each
def test_a_sample_comes_back(name: str) -> None:
    sample = SAMPLES[name]
    data = sample.encode()
    back = type(sample).decode(data, where="json")
    assert back == sample
    assert hash(back) == hash(sample)
    assert encode_json(json.loads(data)) == data


@settings(max_examples=80, deadline=None)
@given(avas() | activitynets())
def test_every_sample_comes_back(sample: Part) -> None:
    data = sample.encode()
    back = type(sample).decode(data, where="json")
    # 0.0 and -0.0 are equal, their bytes are not.
    assert (back, back.encode()) == (sample, data)
    assert (back.items, back.summary()) == (sample.items, sample.summary())
    encode_json(back.summary())


@each
def test_the_keys_are_the_fields(name: str) -> None:
    sample = SAMPLES[name]
    value = json.loads(sample.encode())
    assert set(value) == {field.name for field in fields(sample)}
    for moment in value.get("key_frames", ()):
        assert set(moment) == {field.name for field in fields(KeyFrameJson)}


def test_the_summary_is_what_the_index_shows() -> None:
    assert AVA.summary() == {
        "timestamps": [902, -3],
        "persons": [2, 0],
        "frames": 80,
        "width": 64,
        "height": 48,
    }
    assert ANET.summary() == {"labels": ["Élan", ""], "duration_s": 82.73, "frames": 1980}
    assert (AVA.items, ANET.items) == (2, 1)
    for sample in SAMPLES.values():
        assert set(sample.summary()) == set(sample.SUMMARY)


# What is refused

NO_INTEGERS: tuple[Any, ...] = (1.0, True, "1", None, 2**63, -(2**63) - 1, [], {})
NO_FLOATS: tuple[Any, ...] = (1, True, "1.0", None, [])
NO_TEXTS: tuple[Any, ...] = (1, None, ["a"], True)


@each
def test_a_key_more_or_less_is_refused(name: str) -> None:
    value = json.loads(SAMPLES[name].encode())
    for key in value:
        with pytest.raises(FormatError, match=repr(key)):
            decode(name, {k: v for k, v in value.items() if k != key})
    with pytest.raises(FormatError, match="'more'"):
        decode(name, value | {"more": 1})


@each
def test_values_of_another_type_are_refused(name: str) -> None:
    value = json.loads(SAMPLES[name].encode())
    odd = {int: NO_INTEGERS, float: NO_FLOATS, str: NO_TEXTS}
    for key, given_value in value.items():
        for other in odd.get(type(given_value), (None, 1, "x", {"a": 1}, [None], [[]], [1])):
            with pytest.raises(FormatError, match=f"json.*{key}"):
                decode(name, value | {key: other})


def test_a_key_frame_of_another_shape_is_refused() -> None:
    value = json.loads(AVA.encode())
    moment = value["key_frames"][0]
    for key, given_value in moment.items():
        others = NO_INTEGERS if type(given_value) is int else (0, 1, None, "true")
        for other in others:
            with pytest.raises(FormatError, match=key):
                decode("ava", value | {"key_frames": [moment | {key: other}]})
        rest = {k: v for k, v in moment.items() if k != key}
        with pytest.raises(FormatError, match=key):
            decode("ava", value | {"key_frames": [rest]})
    with pytest.raises(FormatError, match="more"):
        decode("ava", value | {"key_frames": [moment | {"more": 1}]})


def ava(**changes: Any) -> Callable[[], Part]:
    return lambda: replace(AVA, **changes)


def moment(**changes: Any) -> Callable[[], Part]:
    return lambda: replace(AVA, key_frames=(replace(MOMENT, **changes), MOMENT))


def anet(**changes: Any) -> Callable[[], Part]:
    return lambda: replace(ANET, **changes)


REFUSED: dict[str, Callable[[], Part]] = {
    "no key frames": ava(key_frames=()),
    "no frames a clip": ava(clip_frames=0),
    "fps 0": ava(fps=0.0),
    "fps below 0": ava(fps=-30.0),
    "first frame below 0": ava(first_frame=-1),
    "start index below 0": ava(start_index=-1),
    "a source shorter than what is stored": ava(source_frames=99),
    "a source of more frames than any": ava(source_frames=10**8 + 1),
    "a clip of more frames than any": ava(clip_frames=10**8 + 1),
    "no source": ava(source_frames=0),
    "a source of less than nothing": ava(source_frames=-5),
    "flow": ava(filename_tmpl="flow_{}_{:05}.jpg"),
    "no template": ava(filename_tmpl="img.jpg"),
    "a template of attributes": ava(filename_tmpl="{0.__class__}.jpg"),
    "an open template": ava(filename_tmpl="img_{"),
    "a video never opened": ava(video=VideoInfo()),
    "a frame before": moment(frame=19),
    "a frame behind": moment(frame=100),
    "a frame below 0": moment(frame=-1),
    "a clip that begins before": moment(frame=51),
    "a clip that ends behind": moment(frame=69),
    "persons below 0": moment(persons=-1),
    "labels below 0": moment(labels=-1),
    "proposals below -1": moment(proposals=-2),
    "scores without proposals": moment(proposals=-1, scored=True),
    "a label less": anet(segment_labels=("a",)),
    "a segment less": anet(segments=()),
    "a segment from the end": anet(segments=((1.0, 0.5), (0.0, 1.0))),
    "an empty segment": anet(segments=((0.0, 1.0), (1.0, 1.0))),
    "a segment below 0": anet(segments=((-0.1, 1.0), (0.0, 1.0))),
    "no duration": anet(duration_s=0.0),
    "a duration below 0": anet(duration_s=-1.0),
    "frames below 0": anet(duration_frames=-1),
    "feature frames below 0": anet(feature_frames=-1),
    "fps of features below 0": anet(rfps=-1.0),
    "fps of the video below 0": anet(fps=-1.0),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_out_of_range_are_refused(case: str) -> None:
    sample = REFUSED[case]()
    with pytest.raises(FormatError, match=r"^json"):
        type(sample).decode(sample.encode(), where="json")


@pytest.mark.parametrize(
    "moments",
    [
        # At the borders of what is stored, frames 20 to 99 of 27000.
        (replace(MOMENT, frame=52), replace(MOMENT, frame=68)),
    ],
)
def test_clips_may_reach_to_the_last_stored_frame(moments: tuple[KeyFrameJson, ...]) -> None:
    sample = replace(AVA, key_frames=moments)
    assert AvaJson.decode(sample.encode(), where="json") == sample


def test_clips_at_the_ends_of_the_source_may_be_short() -> None:
    video = replace(INFO, frames=30)
    moments = (replace(MOMENT, frame=0), replace(MOMENT, frame=29))
    sample = replace(AVA, key_frames=moments, first_frame=0, source_frames=30, video=video)
    assert AvaJson.decode(sample.encode(), where="json") == sample


@each
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"NaN", b"\xff", b'{"a":', b"[" * 100_000, b"1" * 5000]
)
def test_other_bytes_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^json"):
        type(SAMPLES[name]).decode(data, where="json")


@each
def test_another_spelling_is_refused(name: str) -> None:
    data = SAMPLES[name].encode()
    for other in (data + b"\n", data.replace(b":", b": ", 1), b"\xef\xbb\xbf" + data):
        with pytest.raises(FormatError, match="canonical"):
            type(SAMPLES[name]).decode(other, where="json")


# Whatever stands there

any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def check_refused_or_same(name: str, data: bytes) -> None:
    """Bytes are a sample, and the only spelling of it, or refused by our own error."""
    try:
        found = type(SAMPLES[name]).decode(data, where="json")
    except FormatError:
        return
    assert found.encode() == data
    assert found.items >= 1


@each
@settings(max_examples=60, deadline=None)
@given(value=any_json)
def test_any_json_is_refused(name: str, value: Any) -> None:
    with pytest.raises(FormatError, match=r"^json"):
        decode(name, value)


@each
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_sample_with_any_value_in_it_is_refused_or_taken_as_it_is(
    name: str, data: st.DataObject
) -> None:
    value = json.loads(SAMPLES[name].encode())
    inside = data.draw(st.sampled_from(["", "video", "key_frames" if name == "ava" else ""]))
    target = value[inside] if inside else value
    target = target[0] if isinstance(target, list) else target
    near = int64 | st.sampled_from([0, -1, 1, 20, 2**63, -(2**63)]) | rates | texts
    for _ in range(data.draw(st.integers(1, 3))):
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(near | any_json)
    check_refused_or_same(name, encode_json(value))


@each
@settings(max_examples=80, deadline=None)
@given(noise=st.binary(min_size=1, max_size=4), share=st.floats(0, 1))
def test_bytes_written_over_are_refused_or_taken_as_they_are(
    name: str, noise: bytes, share: float
) -> None:
    data = SAMPLES[name].encode()
    place = int(share * (len(data) - len(noise)))
    check_refused_or_same(name, data[:place] + noise + data[place + len(noise) :])
