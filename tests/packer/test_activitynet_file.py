import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import AnnotationError, Origin, Reject
from clipshards.packer.annotations.activitynet_file import ActivityNetFile
from clipshards.packer.records import ActivityNetRecord

Make = Callable[..., ActivityNetFile]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes an annotation and returns its reader."""

    def make(value: Any, **options: Any) -> ActivityNetFile:
        file = tmp_path / "anno.json"
        text = value if isinstance(value, str) else json.dumps(value, indent=1)
        file.write_text(text, encoding="utf-8", newline="")
        return ActivityNetFile(file, **options)

    return make


def entry_of(**changes: Any) -> dict[str, Any]:
    """Return an entry in MMAction2's layout; a change to None leaves the key out."""
    entry = {
        "duration_second": 10.5,
        "duration_frame": 280,
        "annotations": [{"segment": [1.5, 4.25], "label": "Arm wrestling"}],
        "feature_frame": 272,
        "fps": 28.0,
        "rfps": 27.98,
    }
    entry.update(changes)
    return {key: value for key, value in entry.items() if value is not None}


def segments_of(*segments: Any, label: Any = "x") -> dict[str, Any]:
    return entry_of(annotations=[{"segment": segment, "label": label} for segment in segments])


def official_of(subset: str | None = "training", **changes: Any) -> dict[str, Any]:
    entry = {"duration": 10.5, "annotations": [{"segment": [1, 2], "label": "b"}]}
    return entry | ({} if subset is None else {"subset": subset}) | changes


def only(entries: ActivityNetFile) -> ActivityNetRecord | Reject:
    (found,) = entries
    return found


def test_entry_of_mmaction2_becomes_a_record(make: Make) -> None:
    assert list(make('{"v_a":\n' + json.dumps(entry_of()) + ',\n"v_b":' + '{"duration": 3}}')) == [
        ActivityNetRecord(
            segments=((1.5, 4.25),),
            segment_labels=("Arm wrestling",),
            duration_s=10.5,
            duration_frames=280,
            feature_frames=272,
            fps=28.0,
            rfps=27.98,
            features="v_a.csv",
            video="",
            id="v_a",
            origin=Origin("anno.json", line=1),
        ),
        Reject(
            "expected annotations, a list of segments, got the keys 'duration'",
            id="v_b",
            origin=Origin("anno.json", line=3),
        ),
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_official_layout_becomes_the_same_record(make: Make, wrapped: bool) -> None:
    videos = {"a": official_of(url="https://x", resolution="4x2"), "b": official_of()}
    value = {"version": "1.3", "taxonomy": [], "database": videos} if wrapped else videos
    found = list(make(value, feature_tmpl="v_{}.npy", video_tmpl="{}/v_{}.mp4"))
    assert found[0] == ActivityNetRecord(
        segments=((1.0, 2.0),),
        segment_labels=("b",),
        duration_s=10.5,
        features="v_a.npy",
        video="a/v_a.mp4",
        id="a",
        origin=Origin("anno.json", line=5 if wrapped else 2),
    )
    assert len(found) == 2


def test_numbers_are_kept_as_annotated(make: Make) -> None:
    found = only(
        make(
            {
                "v": segments_of([0, 3], [-0.0, 0.1 + 0.2], [1e-300, 10.500000000000002])
                | {"duration_frame": 280.0, "feature_frame": 2**63 - 1, "fps": 30}
            }
        )
    )
    assert isinstance(found, ActivityNetRecord)
    assert repr(found.segments) == (
        "((0.0, 3.0), (-0.0, 0.30000000000000004), (1e-300, 10.500000000000002))"
    )
    assert (found.duration_frames, found.feature_frames) == (280, 2**63 - 1)
    assert type(found.duration_frames) is int
    assert repr(found.fps) == "30.0"


def test_order_of_segments_and_equal_ones_are_kept(make: Make) -> None:
    found = only(make({"v": segments_of([5, 6], [1, 2], [5, 6])}))
    assert isinstance(found, ActivityNetRecord)
    assert found.segments == ((5.0, 6.0), (1.0, 2.0), (5.0, 6.0))


def test_video_without_segments_is_legal(make: Make) -> None:
    found = only(make({"v": entry_of(annotations=[])}))
    assert isinstance(found, ActivityNetRecord)
    assert (found.segments, found.segment_labels) == ((), ())


def test_rates_are_optional_and_counts_too_in_the_official_layout(make: Make) -> None:
    found = only(make({"v": entry_of(fps=None, rfps=None)}))
    assert isinstance(found, ActivityNetRecord)
    assert (found.fps, found.rfps) == (0.0, 0.0)
    found = only(make({"v": official_of(None, duration_frame=7)}))
    assert isinstance(found, ActivityNetRecord)
    assert (found.duration_frames, found.feature_frames) == (7, 0)


REJECTED: list[tuple[Any, str]] = [
    (None, "expected an object with duration and annotations, got None"),
    ([1], "expected an object with duration and annotations, got [1]"),
    ("x" * 500, "..."),
    ({}, "expected duration_second (or duration), got the keys (none)"),
    (entry_of(duration_second=None), "expected duration_second (or duration), got the keys 'ann"),
    (entry_of(duration_second=0), "expected duration_second in seconds, above 0, got 0"),
    (entry_of(duration_second=-1.5), "above 0, got -1.5"),
    (entry_of(duration_second=True), "above 0, got True"),
    (entry_of(duration_second="10.5"), "above 0, got '10.5'"),
    (entry_of(duration_second=[1]), "above 0, got [1]"),
    (entry_of(duration=11), "expected one duration, got 10.5 (duration_second) and 11 (duration)"),
    (entry_of(duration="x"), "expected duration in seconds, above 0, got 'x'"),
    (official_of(duration=0), "expected duration in seconds, above 0, got 0"),
    (entry_of(duration_frame=None), "expected duration_frame, got the keys"),
    (entry_of(duration_frame=0), "expected duration_frame of 1 or more, got 0"),
    (entry_of(duration_frame=2.5), "expected duration_frame of 1 or more, got 2.5"),
    (entry_of(duration_frame=False), "got False"),
    (entry_of(duration_frame=2**63), "expected duration_frame of 1 or more"),
    (entry_of(feature_frame=None), "expected feature_frame, got the keys"),
    (entry_of(feature_frame=-3), "expected feature_frame of 1 or more, got -3"),
    (entry_of(feature_frame="48"), "expected feature_frame of 1 or more, got '48'"),
    (entry_of(fps=0), "expected fps above 0, got 0"),
    (entry_of(fps="30"), "expected fps above 0, got '30'"),
    (entry_of(rfps=-1), "expected rfps above 0, got -1"),
    (entry_of(annotations=None), "expected annotations, a list of segments, got the keys"),
    (entry_of() | {"annotations": None}, "expected annotations, a list of segments, got None"),
    (entry_of(annotations={}), "expected annotations, a list of segments, got {}"),
    (entry_of(annotations=[[1, 2]]), "annotations[0]: expected segment and label, got [1, 2]"),
    (entry_of(annotations=[{"segment": [1, 2]}]), "expected segment and label, got {'segment'"),
    (entry_of(annotations=[{"label": "x"}]), "expected segment and label, got {'label'"),
    (segments_of([1, 2], label=3), "annotations[0]: expected a label's name, got 3"),
    (segments_of([1, 2], label=" "), "expected a label's name, got ' '"),
    (segments_of([1, 2], label=["x"]), "expected a label's name, got ['x']"),
    (segments_of([1, 2], [2]), "annotations[1]: expected [start, end] in seconds, got [2]"),
    (segments_of([1, 2, 3]), "expected [start, end] in seconds, got [1, 2, 3]"),
    (segments_of("12"), "expected [start, end] in seconds, got '12'"),
    (segments_of({"a": 1, "b": 2}), "expected [start, end] in seconds"),
    (segments_of(["1", "2"]), "expected [start, end] in seconds, got ['1', '2']"),
    (segments_of([1, None]), "expected [start, end] in seconds, got [1, None]"),
    (segments_of([False, True]), "expected [start, end] in seconds, got [False, True]"),
    (segments_of([4.25, 1.5]), "expected a start before the end, got [4.25, 1.5]"),
    (segments_of([2, 2]), "expected a start before the end, got [2, 2]"),
    (segments_of([-0.01, 2]), "expected a start of 0 or more, got [-0.01, 2]"),
    (segments_of([1, 11.51]), "expected a segment within the video's 10.5 s, got [1, 11.51]"),
    (segments_of([10.5, 10.6]), "expected a segment within the video's 10.5 s"),
    (segments_of([0, 10**99]), "expected a segment within the video's 10.5 s"),
]


@pytest.mark.parametrize(("entry", "says"), REJECTED, ids=range(len(REJECTED)))
def test_video_is_rejected_with_what_was_expected(make: Make, entry: Any, says: str) -> None:
    good, bad = make({"good": entry_of(), "bad": entry})
    assert isinstance(good, ActivityNetRecord)
    assert isinstance(bad, Reject)
    assert says in bad.message
    assert len(bad.message) < 300
    assert (bad.id, bad.error) == ("bad", "AnnotationError")
    assert str(bad.origin).startswith("anno.json:")


WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("{}", {}, "expected at least one video, the annotation is empty"),
    ('{"database": {}, "version": "1"}', {}, "expected at least one video"),
    ("[]", {}, "expected videos by name, got []"),
    ('"x"', {}, "expected videos by name, got 'x'"),
    ('{"v": {"duration_second": NaN}}', {}, "anno.json:1: expected a number, got NaN"),
    ('{"v": {},\n"v": {}}', {}, "anno.json:2: expected each key once"),
    ('{"v":' * 5000, {}, "expected at most 64 levels"),
    ('{"v": {"annotations": ' + "[" * 5000, {}, "expected at most 64 levels"),
    ('{"v": {"duration": 1' + "0" * 5000 + "}}", {}, "expected an integer of at most 100"),
    ('{"\\ud800": {}}', {}, "half a surrogate pair"),
    ('{"v": {}}', {"max_bytes": 5}, "expected at most 5 bytes"),
    (
        json.dumps({"v": entry_of()}),
        {"source_split": "training"},
        "expected videos of the subset 'training', but no video names a subset",
    ),
    (
        json.dumps({"v": official_of("training"), "w": official_of("testing")}),
        {"source_split": "train"},
        "expected a subset of the file, 'testing', 'training', got 'train'",
    ),
]


@pytest.mark.parametrize(("text", "options", "says"), WHOLE, ids=range(len(WHOLE)))
def test_annotation_is_refused_as_a_whole(
    make: Make, text: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(AnnotationError) as caught:
        list(make(text, **options))
    assert says in str(caught.value)


def test_source_split_chooses_the_videos_of_a_subset(make: Make) -> None:
    videos = {
        "a": official_of("training"),
        "b": official_of("validation"),
        "c": official_of("training"),
        "d": official_of(None),
        "e": official_of() | {"subset": 3},
    }
    found = list(make(videos, source_split="training"))
    assert [(entry.id, type(entry)) for entry in found] == [
        ("a", ActivityNetRecord),
        ("c", ActivityNetRecord),
        ("d", Reject),
        ("e", Reject),
    ]
    assert isinstance(found[3], Reject)
    assert found[3].message == "expected a subset, got 3"
    assert [entry.id for entry in make(videos)] == list("abcde")


def test_origins_are_places_where_lines_tell_nothing(make: Make) -> None:
    videos = {name: official_of("x" if name == "b" else "y") for name in "abc"}
    found = list(make(json.dumps(videos), source_split="y"))
    assert [str(entry.origin) for entry in found] == ["anno.json[0]", "anno.json[2]"]


def test_video_named_database_is_a_video(make: Make) -> None:
    assert only(make({"database": entry_of()})).id == "database"


NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "{}",
    "{0.__class__}",
    "{name!r:>10}",
    "%s",
    "a\nb",
    "n" * 300,
    "my video.mp4",
    unicodedata.normalize("NFC", "\u00e9"),
    unicodedata.normalize("NFD", "\u00e9"),
    "\U0001f3ac",
    ".",
    "constructor\\",
]


def test_names_stand_in_the_paths_as_they_are(make: Make) -> None:
    found = list(make({name: entry_of() for name in NAMES}, video_tmpl="m/{}.mp4"))
    assert [entry.id for entry in found] == NAMES
    for entry in found:
        assert isinstance(entry, ActivityNetRecord)
        assert entry.features == entry.id + ".csv"
        assert entry.video == "m/" + entry.id + ".mp4"


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_name_that_no_file_can_have_is_rejected(make: Make, name: str) -> None:
    found = only(make({name: entry_of()}))
    assert isinstance(found, Reject)
    assert found.message == f"expected a video's name, got {name!r}"


@pytest.mark.parametrize(
    "template", ["x.csv", "{0}.csv", "{name}.csv", "{}{", "{}}", "{:}", "\0{}"]
)
@pytest.mark.parametrize("option", ["feature_tmpl", "video_tmpl"])
def test_template_is_checked_when_made(option: str, template: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} "):
        ActivityNetFile("anno.json", **{option: template})  # type: ignore[arg-type]


def test_one_template_is_needed() -> None:
    with pytest.raises(ValueError, match="expected video_tmpl then"):
        ActivityNetFile("anno.json", feature_tmpl="")
    assert ActivityNetFile("anno.json", feature_tmpl="", video_tmpl="{}.mp4").feature_tmpl == ""


def test_videos_alone_have_no_features(make: Make) -> None:
    found = only(make({"v": entry_of()}, feature_tmpl="", video_tmpl="{}.mp4"))
    assert isinstance(found, ActivityNetRecord)
    assert (found.features, found.video) == ("", "v.mp4")


def test_class_names_are_those_of_all_subsets(make: Make) -> None:
    def labelled(subset: str, *labels: str) -> dict[str, Any]:
        return official_of(
            subset, annotations=[{"segment": [1, 2], "label": label} for label in labels]
        )

    entries = make(
        {
            "a": labelled("training", "b", "a", "b"),
            "b": labelled("validation", "B", "\u00e9"),
            "c": labelled("testing"),
            "bad": labelled("training", "c") | {"duration": 0},
        },
        source_split="training",
    )
    assert entries.class_names == ("B", "a", "b", "\u00e9")
    assert entries.warnings == []


def test_late_segments_are_kept_and_warned_of(make: Make) -> None:
    entries = make(
        {
            "a": segments_of([1, 10.5]),
            "b": segments_of([1, 2], [1, 11.5]),
            "c": segments_of([1, 10.51]),
            "long": official_of(None, duration=100.0)
            | segments_of([1, 105])
            | {"duration_second": 100},
        }
    )
    assert sum(isinstance(entry, ActivityNetRecord) for entry in entries) == 4
    (warning,) = entries.warnings
    assert warning.startswith("segments of 3 videos end after the video does, the first in 'b': ")
    assert "11.5 s of 10.5 s; they are kept as annotated" in warning


def test_keys_that_are_not_packed_are_warned_of(make: Make) -> None:
    entries = make(
        {
            "a": official_of(url="x", resolution="1x1"),
            "b": official_of(url="y", annotations=[{"segment": [1, 2], "label": "x", "id": 1}] * 2),
            "c": official_of("testing", url="z"),
            "bad": {"odd": 1},
        }
    )
    subsets = "'testing', 'training'"
    for _ in range(2):  # a second reading does not add to the first
        list(entries)
        assert entries.warnings == [
            f"videos of the subsets {subsets} are packed together; a source split chooses one",
            "key 'resolution' of 1 video is not packed",
            "key 'url' of 3 videos is not packed",
            "key 'id' in the segments of 1 video is not packed",
        ]


def test_any_number_of_unknown_keys_makes_few_warnings(make: Make) -> None:
    entries = make({"v": entry_of(**{f"k{number:03}" + "x" * 1000: 1 for number in range(500)})})
    list(entries)
    assert len(entries.warnings) == 21
    assert entries.warnings[-1] == "480 more keys of videos are not packed"
    assert max(map(len, entries.warnings)) < 200


def test_real_annotation_of_mmaction2_is_read(shared_data: Path) -> None:
    entries = ActivityNetFile(shared_data / "activitynet" / "anno.json")
    assert list(entries) == [
        ActivityNetRecord(
            segments=((1.0, 2.0),),
            segment_labels=("Drinking beer",),
            duration_s=2.0,
            duration_frames=48,
            feature_frames=48,
            fps=24.0,
            rfps=24.0,
            features="v_test2.csv",
            id="v_test2",
            origin=Origin("anno.json", line=2),
        ),
        ActivityNetRecord(
            segments=((1.5, 4.25), (6.0, 9.9)),
            segment_labels=("Arm wrestling", "Arm wrestling"),
            duration_s=10.0,
            duration_frames=280,
            feature_frames=272,
            fps=28.0,
            rfps=27.98,
            features="v_demo.csv",
            id="v_demo",
            origin=Origin("anno.json", line=18),
        ),
    ]
    assert entries.warnings == []
    assert entries.class_names == ("Arm wrestling", "Drinking beer")


def test_real_annotation_in_the_official_layout_is_read(shared_data: Path) -> None:
    entries = ActivityNetFile(
        shared_data / "activitynet" / "official_style_gt.json", source_split="validation"
    )
    first, second = entries
    assert isinstance(first, ActivityNetRecord)
    assert isinstance(second, ActivityNetRecord)
    assert (first.id, first.duration_s, len(first.segments)) == ("v_bYUmtLBL7W4", 224.49, 3)
    assert first.segments[0] == (11.553655226209049, 57.06805460218409)
    assert second.segments == ((21.392480499219968, 76.161),)
    assert second.segment_labels == ("Cleaning shoes",)
    assert entries.warnings == [
        "key 'resolution' of 2 videos is not packed",
        "key 'url' of 2 videos is not packed",
    ]
