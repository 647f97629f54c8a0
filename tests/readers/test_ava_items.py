"""AVA: what the csv says comes out of the reader, and the frames are those of the source."""

import io
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import makers
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from clipshards.packer import AvaCsv, AvaRecord, KeyFrame, PackReport, RejectsError, pack
from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.samples.base import Sample
from clipshards.readers import DenseClip, SampleAVAFrames, Span, UniformClip, open_dataset, verify
from clipshards.readers.data import ShardDataset, ShardMapDataset
from clipshards.readers.extract import extract_sample
from clipshards.readers.items import ItemReader
from clipshards.readers.split import Split

Array = npt.NDArray[Any]
Box = tuple[float, float, float, float]
Moment = tuple[str, int]

GROUPS = ("clip", "video")
CLIP_FRAMES = 12
SIZE = (64, 48)
RATE = 10
"""Frames per second of the folders."""
FOLDERS = {"frames/a": 25, "frames/b": 4}
ANY: dict[str, Any] = {"timestamp_start": 0, "timestamp_end": None, "clip_frames": CLIP_FRAMES}

# Media


def make_videos() -> dict[str, bytes]:
    """Return videos of every kind that moves frame numbers or seconds."""
    uneven = np.cumsum(np.random.default_rng(3).integers(10, 90, 80)).tolist()
    common: dict[str, Any] = {"size": SIZE}
    return {
        # B-frames in closed groups of 12.
        "deep/b.mp4": makers.video_bytes(
            frames=80, options={"g": "12", "bf": "3", "keyint_min": "12"}, **common
        ),
        # Open groups: pictures that are shown before the point that they are decoded from.
        "open.mp4": makers.video_bytes(
            frames=70,
            seed=1,
            options={"bf": "2", "x264-params": "open-gop=1:keyint=10:min-keyint=10"},
            **common,
        ),
        "ntsc.mp4": makers.video_bytes(
            frames=95,
            seed=2,
            rate=30,
            time_base=Fraction(1001, 30000),
            options={"g": "25", "bf": "2"},
            **common,
        ),
        "uneven.mkv": makers.video_bytes(
            "matroska",
            frames=80,
            seed=3,
            times=uneven,
            time_base=Fraction(1, 1000),
            options={"g": "15"},
            **common,
        ),
        "late.mp4": makers.video_bytes(
            frames=60,
            seed=4,
            rate=25,
            times=[number + 50 for number in range(60)],
            options={"g": "10"},
            **common,
        ),
        "old.avi": makers.video_bytes("avi", "mpeg4", frames=60, seed=5, **common),
        "turned.mp4": makers.video_bytes(frames=40, seed=6, rotation=90, **common),
        "short.mp4": makers.video_bytes(frames=5, seed=7, rate=5, **common),
        "heard.mp4": makers.video_bytes(frames=60, seed=8, sound=True, **common),
    }


ROTATION = {"turned.mp4": 90}


def upright(boxes: Array) -> Array:
    """Return boxes with their corners in order."""
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


@dataclass(frozen=True)
class Source:
    """A video or a folder of frames, decoded plainly."""

    frames: Array
    """All of them, upright."""
    seconds: tuple[Fraction, ...]
    """When each is shown, counted from the first."""

    def frame_at(self, second: int) -> int:
        """Return the frame that is shown nearest to then."""
        away = [abs(shown - second) for shown in self.seconds]
        return away.index(min(away))


def video_source(path: str, data: bytes) -> Source:
    frames = np.stack(makers.frames_of(data))
    if path in ROTATION:
        frames = np.rot90(frames, ROTATION[path] // 90, axes=(1, 2))
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        base, rate = stream.time_base, stream.average_rate
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    assert base is not None
    assert rate is not None
    if path.endswith(".avi"):
        # It has times of packets only.
        times, base = list(range(len(frames))), 1 / rate
    assert len(times) == len(frames)
    return Source(frames, tuple((time - times[0]) * base for time in times))


def folder_source(folder: Path) -> Source:
    frames = []
    for file in sorted(folder.glob("img_*.jpg")):
        with Image.open(file) as image:
            frames.append(np.asarray(image.convert("RGB")))
    return Source(np.stack(frames), tuple(Fraction(n, RATE) for n in range(len(frames))))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ava")
    for path, data in make_videos().items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    for seed, (folder, count) in enumerate(FOLDERS.items()):
        (root / folder).mkdir(parents=True)
        for number, picture in enumerate(makers.pictures(count, (40, 24), seed=seed), start=1):
            Image.fromarray(picture).save(root / folder / f"img_{number:05}.jpg", quality=80)
    return root


@pytest.fixture(scope="module")
def source(media: Path) -> Callable[[str], Source]:
    """Return a function that decodes a video or folder of `media`, once."""

    def read(path: str) -> Source:
        place = media / path
        return folder_source(place) if place.is_dir() else video_source(path, place.read_bytes())

    return cache(read)


# Annotations


@dataclass
class Row:
    """A row of the csv."""

    moment: Moment
    box: Box
    action: int
    entity: int


@dataclass
class Person:
    """The rows of one box."""

    actions: list[int] = field(default_factory=list)
    entity: int = 0


def draw_rows(moments: Sequence[Moment], *, single: bool, seed: int = 0) -> list[Row]:
    """Return rows of one to four persons a moment, their boxes as odd as floats can be."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, moment in enumerate(moments):
        for person in range(1 + number % 4):
            low, high = rng.uniform(0, 0.5, 2), rng.uniform(0.5, 1, 2)
            box: Box = (*low.tolist(), *high.tolist())
            if person == 3:
                box = (0.0, math.nextafter(0, 1), math.nextafter(1, 0), 1.0)
            count = 1 if single else int(rng.integers(1, 4))
            actions = rng.permutation(80)[:count].tolist()
            # An action twice, and another id of the person, are no news.
            actions += [] if single or person % 2 else actions[:1]
            rows += [Row(moment, box, action, int(rng.integers(-3, 2**40))) for action in actions]
    # Rows of one moment and person do not always stand together; moments keep their order.
    return rows if single else [rows[place] for place in sorted(range(len(rows)), key=_mixed(rows))]


def _mixed(rows: Sequence[Row]) -> Callable[[int], tuple[int, int]]:
    """Return a sort key: pairs of neighbouring moments of one video get mixed."""
    moments = list(dict.fromkeys(row.moment for row in rows))
    return lambda place: (moments.index(rows[place].moment) // 2, place * 7 % 5)


def write_csv(file: Path, rows: Sequence[Row], *, end: str = "\n") -> Path:
    lines = []
    for number, row in enumerate(rows):
        video, timestamp = row.moment
        padded = f"{timestamp:0{number % 3 * 2}}"
        box = ",".join(map(repr, row.box))
        lines.append(f"{video},{padded},{box},{row.action},{row.entity}")
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def merge(rows: Sequence[Row]) -> dict[Moment, dict[Box, Person]]:
    """Return the persons of each moment, as MMAction2 merges rows."""
    merged: dict[Moment, dict[Box, Person]] = {}
    for row in rows:
        persons = merged.setdefault(row.moment, {})
        if row.box not in persons:
            persons[row.box] = Person(entity=row.entity)
        if row.action not in persons[row.box].actions:
            persons[row.box].actions.append(row.action)
    return merged


def draw_proposals(moments: Sequence[Moment]) -> dict[str, Array]:
    """Return proposals by MMAction2's keys: with scores, without, and of every third none."""
    rng = np.random.default_rng(9)
    found = {}
    for number, (video, timestamp) in enumerate(moments):
        if number % 3 < 2:
            found[f"{video},{timestamp:04d}"] = rng.random((1 + number % 5, 5 - number % 3))
    return found


def check_persons(item: dict[str, Any], persons: dict[Box, Person]) -> None:
    """An item has exactly the persons of its moment, to the last bit."""
    boxes = np.array(list(persons), dtype=np.float64).reshape(-1, 4)
    assert (item["boxes"].dtype, item["boxes"].shape) == (np.float64, boxes.shape)
    assert item["boxes"].tobytes() == boxes.tobytes()
    labels = [(row, a) for row, person in enumerate(persons.values()) for a in person.actions]
    assert (item["labels"].dtype, item["labels"].tolist()) == (np.int64, list(map(list, labels)))
    assert item["entity_ids"].dtype == np.int64
    assert item["entity_ids"].tolist() == [person.entity for person in persons.values()]


def check_proposals(item: dict[str, Any], expected: Array | None) -> None:
    boxes = np.empty((0, 4)) if expected is None else expected[:, :4]
    assert (item["proposals"].dtype, item["proposals"].shape) == (np.float64, boxes.shape)
    assert item["proposals"].tobytes() == boxes.tobytes()
    scores = item["proposal_scores"]
    assert (scores.dtype, scores.shape) == (np.float64, (len(boxes),))
    if expected is not None and expected.shape[1] == 5:
        assert scores.tobytes() == np.ascontiguousarray(expected[:, 4]).tobytes()
    else:
        assert np.isnan(scores).all()


def window(key_frame: int, total: int, clip_frames: int = CLIP_FRAMES) -> range:
    """Return the frames that MMAction2 clips a clip around a key frame to."""
    start, stop = key_frame - clip_frames // 2, key_frame + (clip_frames + 1) // 2
    return range(max(start, 0), min(stop, total))


def check_frames(item: dict[str, Any], origin: Source, clip_frames: int = CLIP_FRAMES) -> None:
    """All frames of the window are there, the same to the bit as in the source."""
    expected = window(item["key_frame"], len(origin.frames), clip_frames)
    assert item["total_frames"] == len(origin.frames)
    assert (item["frame_numbers"].dtype, item["frame_numbers"].tolist()) == (
        np.int64,
        list(expected),
    )
    assert item["frames"].dtype == np.uint8
    np.testing.assert_array_equal(item["frames"], origin.frames[expected.start : expected.stop])


def read_all(split: Split, clip: Any = None) -> list[dict[str, Any]]:
    dataset = ShardMapDataset(split, clip=clip)
    return [dataset[number] for number in range(len(dataset))]


def by_moment(items: Sequence[dict[str, Any]]) -> dict[Moment, dict[str, Any]]:
    found = {(item["video_id"], item["timestamp"]): item for item in items}
    assert len(found) == len(items)
    return found


# Round trips


VIDEO_MOMENTS: list[Moment] = [
    *(("deep/b.mp4", second) for second in (0, 1, 3, 2)),
    *(("open.mp4", second) for second in (2, 0, 1)),
    *(("ntsc.mp4", second) for second in (0, 1, 2, 3)),
    *(("uneven.mkv", second) for second in (0, 1, 2, 3)),
    *(("late.mp4", second) for second in (0, 2)),
    *(("old.avi", second) for second in (0, 1, 2)),
    *(("turned.mp4", second) for second in (0, 1)),
    ("short.mp4", 0),
    # At the very end the last frame is still on screen.
    ("short.mp4", 1),
    *(("heard.mp4", second) for second in (0, 1, 2)),
]


class Packed(NamedTuple):
    """A split, and what its annotation said."""

    split: Split
    report: PackReport
    rows: list[Row]
    proposals: dict[str, Array]


@pytest.fixture(scope="module", params=[(g, s) for g in GROUPS for s in ("many", "one")], ids=str)
def packed_videos(
    request: pytest.FixtureRequest, media: Path, tmp_path_factory: pytest.TempPathFactory
) -> Packed:
    """Videos with proposals, in several shards."""
    group, labels = request.param
    folder = tmp_path_factory.mktemp("packed")
    rows = draw_rows(VIDEO_MOMENTS, single=labels == "one")
    proposals = draw_proposals(VIDEO_MOMENTS)
    (folder / "p.pkl").write_bytes(pickle.dumps(proposals))
    records = AvaCsv(
        write_csv(folder / "a.csv", rows, end="\r\n" if labels == "one" else "\n"),
        proposals=folder / "p.pkl",
        labels=labels,
        group=group,
        **ANY,
    )
    report = pack(records, folder / "set", split="train", media_root=media, shard_size=50_000)
    return Packed(open_dataset(folder / "set"), report, rows, proposals)


def test_rows_and_frames_of_videos_come_back(
    packed_videos: Packed, source: Callable[[str], Source]
) -> None:
    split, report, rows, proposals = packed_videos
    assert (report.rejects, report.packed, report.entries) == ((), len(rows), len(rows))
    assert report.shards > 1
    items = by_moment(read_all(split))
    merged = merge(rows)
    assert items.keys() == merged.keys()
    for moment, item in items.items():
        video, second = moment
        check_persons(item, merged[moment])
        check_proposals(item, proposals.get(f"{video},{second:04d}"))
        assert item["key_frame"] == source(video).frame_at(second)
        check_frames(item, source(video))
        assert set(item) == AVA_KEYS | {"proposals", "proposal_scores"}
    assert split.manifest.labels in ("one", "many")
    assert verify(split.storage.url).damage == []


AVA_KEYS = {
    "item",
    "key",
    "id",
    "video_id",
    "timestamp",
    "frames",
    "frame_numbers",
    "key_frame",
    "total_frames",
    "boxes",
    "labels",
    "entity_ids",
}


def test_mmaction2s_clips_repeat_frames_at_the_ends_of_videos_only(
    packed_videos: Packed, source: Callable[[str], Source]
) -> None:
    reach = CLIP_FRAMES // 2 // 2
    clip = SampleAVAFrames(2 * reach, 2, test_mode=True)
    reader = ItemReader(packed_videos.split, clip=clip)
    clamped = 0
    for number in range(len(packed_videos.split)):
        item = reader.read(number, number=0)
        origin = source(item["video_id"])
        due = item["key_frame"] + 2 * np.arange(-reach, reach)
        inside = np.clip(due, 0, len(origin.frames) - 1)
        clamped += bool((inside != due).any())
        assert item["frame_numbers"].tolist() == inside.tolist()
        np.testing.assert_array_equal(item["frames"], origin.frames[inside])
    assert clamped
    wide = ItemReader(packed_videos.split, clip=SampleAVAFrames(2 * reach + 2, 4, test_mode=True))
    with pytest.raises(ValueError, match="pack with a larger --clip-frames"):
        list(map(partial(wide.read, number=0), range(len(packed_videos.split))))


@pytest.mark.parametrize(
    "clip",
    [
        UniformClip(4),
        UniformClip(3, jitter=False),
        UniformClip(20),
        DenseClip(4, 2),
        DenseClip(3, 1, jitter=False),
        DenseClip(9, 2),
    ],
    ids=repr,
)
def test_clips_are_drawn_from_the_window(
    packed_videos: Packed, source: Callable[[str], Source], clip: UniformClip | DenseClip
) -> None:
    reader = ItemReader(packed_videos.split, clip=clip, seed=3)
    moved = 0
    for number in range(0, len(packed_videos.split), 3):
        numbers = []
        for epoch in (0, 1):
            item = reader.read(number, number=epoch)
            origin = source(item["video_id"])
            inside = window(item["key_frame"], len(origin.frames))
            assert item["frames"].shape[0] == len(item["frame_numbers"]) == clip.length
            assert set(item["frame_numbers"].tolist()) <= set(inside)
            if not clip.jitter:
                due = clip.choose(Span(len(inside)), np.random.RandomState(0)) + inside.start
                assert item["frame_numbers"].tolist() == due.tolist()
            np.testing.assert_array_equal(item["frames"], origin.frames[item["frame_numbers"]])
            numbers.append(item["frame_numbers"].tolist())
        moved += numbers[0] != numbers[1]
    assert (moved > 0) == (clip.jitter and clip != DenseClip(9, 2))


def test_seconds_go_by_the_video_s_own_clock(source: Callable[[str], Source]) -> None:
    # Guards the guard: no one count of frames a second gives all of these.
    assert source("ntsc.mp4").frame_at(2) == 60
    assert source("late.mp4").frame_at(2) == 50
    assert source("uneven.mkv").frame_at(2) != 50


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("clip_frames", [1, 2, 7, 64])
def test_windows_of_any_length_come_back(
    media: Path,
    tmp_path: Path,
    source: Callable[[str], Source],
    group: Any,
    clip_frames: int,
) -> None:
    moments = [("deep/b.mp4", 0), ("deep/b.mp4", 2), ("open.mp4", 1), ("short.mp4", 0)]
    file = write_csv(tmp_path / "a.csv", draw_rows(moments, single=False))
    records = AvaCsv(file, group=group, **ANY | {"clip_frames": clip_frames})
    pack(records, tmp_path / "set", split="train", media_root=media)
    for item in read_all(open_dataset(tmp_path / "set")):
        check_frames(item, source(item["video_id"]), clip_frames)
        assert "proposals" not in item


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("step", [1, 3])
def test_timestamps_are_frames_where_there_is_one_a_timestamp(
    media: Path, tmp_path: Path, source: Callable[[str], Source], group: Any, step: int
) -> None:
    moments = [(v, n) for v in ("deep/b.mp4", "uneven.mkv") for n in range(1, 81, 9 * step)]
    rows = draw_rows(moments, single=True)
    records = AvaCsv(
        write_csv(tmp_path / "a.csv", rows),
        fps=1,
        labels="one",
        group=group,
        **ANY | {"timestamp_start": 1},
    )
    report = pack(records, tmp_path / "set", split="train", media_root=media)
    assert report.rejects == ()
    items = by_moment(read_all(open_dataset(tmp_path / "set")))
    merged = merge(rows)
    assert items.keys() == merged.keys()
    for (video, timestamp), item in items.items():
        assert item["key_frame"] == timestamp - 1
        check_persons(item, merged[video, timestamp])
        check_frames(item, source(video))


@pytest.mark.parametrize("start_index", [0, 1, 7])
@pytest.mark.parametrize("group", GROUPS)
def test_rows_and_frames_of_folders_come_back(
    media: Path, tmp_path: Path, source: Callable[[str], Source], group: Any, start_index: int
) -> None:
    for folder, count in FOLDERS.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            data = (media / folder / f"img_{number + 1:05}.jpg").read_bytes()
            (tmp_path / folder / f"{number + start_index}.jpg").write_bytes(data)
    moments = [("a", 0), ("a", 2), ("b", 0), ("a", 1)]
    rows = draw_rows(moments, single=False)
    proposals = draw_proposals(moments)
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(proposals))
    records = AvaCsv(
        write_csv(tmp_path / "a.csv", rows),
        proposals=tmp_path / "p.pkl",
        group=group,
        fps=RATE,
        rate=RATE,
        media_tmpl="frames/{}",
        filename_tmpl="{}.jpg",
        start_index=start_index,
        **ANY,
    )
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    assert (report.rejects, report.packed) == ((), len(rows))
    items = by_moment(read_all(open_dataset(tmp_path / "set")))
    merged = merge(rows)
    assert items.keys() == merged.keys()
    for moment, item in items.items():
        video, second = moment
        assert item["key_frame"] == RATE * second
        check_persons(item, merged[moment])
        check_proposals(item, proposals.get(f"{video},{second:04d}"))
        check_frames(item, source(f"frames/{video}"))
    assert verify(tmp_path / "set").damage == []


def test_frames_that_mmaction2_reads_a_start_index_later_are_stored(
    media: Path, tmp_path: Path
) -> None:
    # Its center is fps * seconds plus the start index, and that once more.
    rows = draw_rows([("frames/a", 1)], single=False)
    records = AvaCsv(
        write_csv(tmp_path / "a.csv", rows), fps=RATE, filename_tmpl="img_{:05}.jpg", **ANY
    )
    pack(records, tmp_path / "set", split="train", media_root=media)
    split = open_dataset(tmp_path / "set")
    values = TASKS["ava"].decode_all(split.read_sample(0, 0).parts, where="sample")
    about: AvaJson = values["json"]
    # Of img_00011 and 6 before to 6 behind it, and one that training's jitter reaches.
    assert (about.first_frame, about.video.frames) == (RATE - 7, 14)
    assert about.key_frames[0].frame == RATE


def test_frames_of_a_clip_are_extracted_under_their_names(media: Path, tmp_path: Path) -> None:
    rows = draw_rows([("frames/a", 1)], single=False)
    records = AvaCsv(
        write_csv(tmp_path / "a.csv", rows), fps=RATE, filename_tmpl="img_{:05}.jpg", **ANY
    )
    pack(records, tmp_path / "set", split="train", media_root=media)
    raw = open_dataset(tmp_path / "set").read_sample(0, 0)
    written = {path.name: path for path in extract_sample(raw, "ava", tmp_path / "out")}
    parts = {
        f"{raw.key}.{name}": raw.parts[name]
        for name in ("json", "boxes.npy", "labels.npy", "entity_ids.npy")
    }
    names = {f"img_{number:05}.jpg" for number in range(RATE - 6, RATE + 8)}
    assert set(written) == parts.keys() | names
    for name, path in written.items():
        source = parts[name] if name in parts else (media / "frames/a" / name).read_bytes()
        assert path.read_bytes() == source


def test_several_moments_of_a_record_share_one_cut(
    media: Path, tmp_path: Path, source: Callable[[str], Source]
) -> None:
    def moment(timestamp: int, *labels: tuple[int, ...]) -> KeyFrame:
        boxes = upright(np.random.default_rng(timestamp).random((len(labels), 4)))
        ids = np.arange(len(labels)) + timestamp
        return KeyFrame(
            timestamp=timestamp, boxes=boxes, labels=labels, entity_ids=ids, rows=len(labels)
        )

    moments = (moment(50, (3,), (4, 1)), moment(20, (9, 2, 5)), moment(30, (0,), (7,), (6, 8)))
    record = AvaRecord(
        path="deep/b.mp4",
        video_id="b",
        key_frames=moments,
        timestamp_start=0,
        fps=1.0,
        clip_frames=6,
        id="b",
    )
    report = pack([record], tmp_path / "set", split="train", media_root=media, labels="many")
    assert (report.entries, report.packed) == (6, 6)
    split = open_dataset(tmp_path / "set")
    (about,) = (TASKS["ava"].decode("json", split.read_sample(0, 0).parts["json"], where="json"),)
    assert about.first_frame == 12
    assert about.first_frame + about.video.frames < 80
    for number, (item, due) in enumerate(zip(read_all(split), moments, strict=True)):
        assert (item["key"], item["item"]) == ("train-00000000", number)
        assert item["timestamp"] == item["key_frame"] == due.timestamp
        np.testing.assert_array_equal(item["boxes"], due.boxes)
        np.testing.assert_array_equal(item["entity_ids"], due.entity_ids)
        rows = [[row, label] for row, labels in enumerate(due.labels) for label in labels]
        assert item["labels"].tolist() == rows
        check_frames(item, source("deep/b.mp4"), 6)


def test_items_can_be_written_to(packed_videos: Packed) -> None:
    dataset = ShardMapDataset(packed_videos.split, clip=UniformClip(1))
    for name in ("boxes", "labels", "entity_ids", "proposals", "proposal_scores", "frames"):
        item = dataset[0]
        item[name][...] = 1
        assert not np.array_equal(dataset[0]["boxes"], np.ones_like(item["boxes"]))


# Options


@pytest.fixture
def pack_rows(media: Path, tmp_path: Path) -> Callable[..., tuple[Split, PackReport]]:
    def packed(lines: Sequence[str], **options: Any) -> tuple[Split, PackReport]:
        file = tmp_path / "a.csv"
        file.write_text("".join(f"{line}\n" for line in lines))
        records = AvaCsv(file, **ANY | options)
        report = pack(records, tmp_path / "set", split="train", media_root=media)
        return open_dataset(tmp_path / "set"), report

    return packed


@pytest.mark.parametrize("group", GROUPS)
def test_custom_classes_are_renumbered_and_named(
    pack_rows: Callable[..., tuple[Split, PackReport]], tmp_path: Path, group: str
) -> None:
    (tmp_path / "map.txt").write_text("1: bend\n3: crouch\n12: stand\n80: watch\n")
    lines = [
        "heard.mp4,1,0.1,0.1,0.5,0.5,80,0",
        "heard.mp4,1,0.1,0.1,0.5,0.5,12,0",
        "heard.mp4,1,0.2,0.1,0.5,0.5,1,1",
        "heard.mp4,2,0.2,0.1,0.5,0.5,0,1",
        "heard.mp4,2,0.2,0.1,0.5,0.5,3,1",
        "heard.mp4,0,0.2,0.1,0.5,0.5,1,1",
    ]
    split, report = pack_rows(
        lines, group=group, label_map=tmp_path / "map.txt", custom_classes=(80, 3, 12)
    )
    assert split.manifest.class_names == ("", "watch", "crouch", "stand")
    assert (report.entries, report.packed, report.excluded) == (6, 3, {"custom_classes": 3})
    items = by_moment(read_all(split, UniformClip(1)))
    assert items["heard.mp4", 1]["labels"].tolist() == [[0, 1], [0, 3]]
    assert items["heard.mp4", 2]["labels"].tolist() == [[0, 2]]
    assert len(items) == 2
    assert verify(split.storage.url).damage == []


@pytest.mark.parametrize("group", GROUPS)
def test_excluded_moments_do_not_come_back(
    pack_rows: Callable[..., tuple[Split, PackReport]], tmp_path: Path, group: str
) -> None:
    (tmp_path / "e.csv").write_text("heard.mp4,0001\nopen.mp4,0\n")
    lines = [f"{v},{t},0.1,0.1,0.5,0.5,3,0" for v in ("heard.mp4", "open.mp4") for t in (0, 1)]
    split, report = pack_rows(lines, group=group, exclude=tmp_path / "e.csv")
    assert (report.entries, report.packed, report.excluded) == (4, 2, {"exclude": 2})
    items = by_moment(read_all(split, UniformClip(1)))
    assert set(items) == {("heard.mp4", 0), ("open.mp4", 1)}


def test_names_of_a_label_map_stand_in_the_manifest(
    pack_rows: Callable[..., tuple[Split, PackReport]], tmp_path: Path
) -> None:
    (tmp_path / "map.pbtxt").write_text(
        'item {\n  name: "sit {down}"\n  id: 2\n}\nitem {\n  name: "été"\n  id: 4\n}\n',
        encoding="utf-8",
    )
    split, _ = pack_rows(["open.mp4,1,0.1,0.1,0.5,0.5,4,0"], label_map=tmp_path / "map.pbtxt")
    assert split.manifest.class_names == ("", "", "sit {down}", "", "été")


@pytest.mark.parametrize("with_scores", [True, False])
def test_a_split_has_proposals_if_one_moment_has(
    pack_rows: Callable[..., tuple[Split, PackReport]], tmp_path: Path, with_scores: bool
) -> None:
    boxes = np.array([[0.25, 0.5, 1, 1, -3.5]])[:, : 5 if with_scores else 4]
    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"open.mp4,0001": boxes.astype(np.float32)}))
    lines = [f"open.mp4,{t},0.1,0.1,0.5,0.5,3,0" for t in (0, 1)]
    split, _ = pack_rows(lines, proposals=tmp_path / "p.pkl")
    items = by_moment(read_all(split, UniformClip(1)))
    check_proposals(items["open.mp4", 0], None)
    check_proposals(items["open.mp4", 1], boxes)


def test_a_damaged_video_can_be_packed_whole(tmp_path: Path) -> None:
    # There is no frame table to cut by, and none is needed: timestamps are frames.
    data = bytearray(makers.video_bytes("matroska", frames=40, size=SIZE))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    (tmp_path / "v.mkv").write_bytes(data)
    rows = draw_rows([("v.mkv", 4), ("v.mkv", 30)], single=True)
    file = write_csv(tmp_path / "a.csv", rows)
    options: dict[str, Any] = ANY | {"fps": 1, "labels": "one", "timestamp_start": 1}
    with pytest.raises(RejectsError, match="cannot be cut without loss"):
        pack(AvaCsv(file, **options), tmp_path / "clips", split="train", media_root=tmp_path)
    report = pack(
        AvaCsv(file, group="video", **options),
        tmp_path / "set",
        split="train",
        media_root=tmp_path,
    )
    assert report.packed == len(rows)
    frames = np.stack(makers.frames_of(bytes(data), threads=1))
    for item in read_all(open_dataset(tmp_path / "set")):
        assert item["key_frame"] == item["timestamp"] - 1
        check_frames(item, Source(frames, ()))


# Batches


def test_batches_keep_persons_in_lists(media: Path, tmp_path: Path) -> None:
    moments = [(v, t) for v in ("deep/b.mp4", "ntsc.mp4", "heard.mp4") for t in (0, 1, 2)]
    rows = draw_rows(moments, single=False)
    proposals = draw_proposals(moments)
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(proposals))
    records = AvaCsv(
        write_csv(tmp_path / "a.csv", rows), proposals=tmp_path / "p.pkl", group="video", **ANY
    )
    pack(records, tmp_path / "set", split="train", media_root=media)
    split = open_dataset(tmp_path / "set")
    assert len(split) == 9
    dataset = ShardDataset(split, batch_size=4, clip=DenseClip(3, 2), tail="ragged")
    batches = list(dataset)
    again = list(dataset.loader(workers=2))
    merged = merge(rows)
    seen = []
    for batch, other in zip(batches, again, strict=True):
        count = len(batch["video_id"])
        assert (batch["frames"].dtype, batch["frames"].shape) == (
            torch.uint8,
            (count, 3, SIZE[1], SIZE[0], 3),
        )
        assert batch["frame_numbers"].shape == (count, 3)
        assert batch["timestamp"].dtype == batch["key_frame"].dtype == torch.int64
        assert torch.equal(batch["frames"], other["frames"])
        for place in range(count):
            moment = batch["video_id"][place], int(batch["timestamp"][place])
            seen.append(moment)
            item = {
                name: batch[name][place].numpy()
                for name in ("boxes", "labels", "entity_ids", "proposals", "proposal_scores")
            }
            check_persons(item, merged[moment])
            check_proposals(item, proposals.get(f"{moment[0]},{moment[1]:04d}"))
            assert torch.equal(batch["boxes"][place], other["boxes"][place])
    assert sorted(seen) == sorted(moments)


# Real annotations


@cache
def real_source(place: Path) -> Source:
    return folder_source(place) if place.is_dir() else video_source(place.name, place.read_bytes())


def real_options(name: str) -> tuple[str, dict[str, Any]]:
    """Return where the media of a csv of the sample data are, and how it is read."""
    if name == "demo_frames":
        return "rawframes", {
            "fps": 10,
            "timestamp_start": 0,
            "timestamp_end": 2,
            "filename_tmpl": "img_{:05}.jpg",
        }
    if name == "multisports_style":
        return "videos", {
            "fps": 1,
            "timestamp_start": 1,
            "timestamp_end": None,
            "labels": "one",
        }
    return "videos", {"timestamp_start": 0, "timestamp_end": 10}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", ["demo_seconds", "demo_frames", "multisports_style"])
def test_real_rows_and_frames_come_back(
    shared_data: Path, tmp_path: Path, name: str, group: Any
) -> None:
    media, options = real_options(name)
    file = shared_data / "ava" / f"{name}.csv"
    detected = shared_data / "ava" / f"{name}_proposals.pkl"
    records = AvaCsv(file, proposals=detected, group=group, **options)
    root = shared_data / media
    report = pack(records, tmp_path / "set", split="real", media_root=root)
    assert report.rejects == ()
    assert verify(tmp_path / "set").damage == []
    split = open_dataset(tmp_path / "set")
    fields = [line.split(",") for line in file.read_text().split()]
    rows = [
        Row((f[0], int(f[1])), (float(f[2]), float(f[3]), float(f[4]), float(f[5])), *ids)
        for f in fields
        for ids in [(int(f[6]), int(f[7]))]
    ]
    assert (report.entries, report.packed) == (len(rows), len(rows))
    merged = merge(rows)
    proposals = pickle.loads(detected.read_bytes())
    dataset = ShardMapDataset(split)
    found = set()
    # A few of them: each decodes a minute of 240p, or all of it.
    for number in range(0, len(dataset), 4 if name == "multisports_style" else 1):
        item = dataset[number]
        video, timestamp = item["video_id"], item["timestamp"]
        found.add((video, timestamp))
        check_persons(item, merged[video, timestamp])
        check_proposals(item, proposals.get(f"{video},{timestamp:04d}"))
        origin = real_source(root / video)
        expected = {
            "demo_seconds": origin.frame_at(timestamp),
            "demo_frames": 10 * timestamp,
            "multisports_style": timestamp - 1,
        }
        assert item["key_frame"] == expected[name]
        check_frames(item, origin, 64)
    assert found <= merged.keys()
    assert len(split) == len(merged)


def test_real_label_maps_and_exclusions_are_kept(shared_data: Path, tmp_path: Path) -> None:
    records = AvaCsv(
        shared_data / "ava" / "demo_seconds.csv",
        exclude=shared_data / "ava" / "demo_exclude.csv",
        label_map=shared_data / "ava" / "ava_label_map.txt",
        timestamp_start=0,
        timestamp_end=10,
    )
    report = pack(records, tmp_path / "set", split="real", media_root=shared_data / "videos")
    assert (report.entries, report.packed, report.excluded) == (12, 9, {"exclude": 3})
    split = open_dataset(tmp_path / "set")
    names = split.manifest.class_names
    assert (len(names), names[0], names[1]) == (81, "", "bend/bow (at the waist)")
    items = read_all(split, UniformClip(1))
    assert sorted(item["timestamp"] for item in items) == [1, 5, 8]
    actions = {names[label] for item in items for label in item["labels"][:, 1].tolist()}
    assert actions == {"stand", "sit", "watch (a person)"}


def test_real_rows_without_their_videos_are_all_rejected(shared_data: Path, tmp_path: Path) -> None:
    records = AvaCsv(shared_data / "ava" / "eval_gt.csv", media_tmpl="{}.mp4")
    with pytest.raises(RejectsError, match="none of the 12 entries can be packed") as caught:
        pack(records, tmp_path / "set", split="real", media_root=tmp_path)
    lines = (shared_data / "ava" / "eval_gt.csv").read_text().split()
    assert sum(row.entries for row in caught.value.rejects) == len(lines)
    assert all("no such file" in row.message for row in caught.value.rejects)


# Samples whose parts do not fit each other


@pytest.fixture(scope="module")
def sound_values(media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The decoded parts of a sample of three moments, cut out of a video."""
    rng = np.random.default_rng(0)

    def moment(timestamp: int, labels: tuple[tuple[int, ...], ...], proposals: Any) -> KeyFrame:
        return KeyFrame(
            timestamp=timestamp,
            boxes=upright(rng.random((len(labels), 4))),
            labels=labels,
            entity_ids=np.arange(len(labels)),
            proposals=proposals,
            rows=1,
        )

    record = AvaRecord(
        path="deep/b.mp4",
        video_id="b",
        key_frames=(
            moment(30, ((3,), (4,)), rng.random((2, 5))),
            moment(31, ((3,),), rng.random((1, 4))),
            moment(40, ((1,),), None),
        ),
        timestamp_start=0,
        fps=1.0,
        clip_frames=4,
        id="b",
    )
    out = tmp_path_factory.mktemp("sound") / "set"
    pack([record], out, split="train", media_root=media)
    raw = open_dataset(out).read_sample(0, 0)
    return TASKS["ava"].decode_all(raw.parts, where="sample")


def sample_of(values: dict[str, Any]) -> Sample:
    task = TASKS["ava"]
    about = values["json"]
    parts = {part: task.encode(part, values[part]) for part in task.parts if part in values}
    return Sample(about.id, about.origin, about.items, about.summary(), parts)


def test_the_sound_sample_is_whole(
    sound_values: dict[str, Any], craft: Callable[..., Path]
) -> None:
    place = craft([[sample_of(sound_values), sample_of(sound_values)]], task="ava")
    report = verify(place)
    assert (report.damage, report.samples) == ([], 2)
    assert len(read_all(open_dataset(place))) == 6


def edit(values: dict[str, Any], part: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return values | {part: change(values[part])}


def about(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: edit(values, "json", lambda json: replace(json, **fields))


def moment(place: int, **fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(json: AvaJson) -> AvaJson:
        moments = list(json.key_frames)
        moments[place] = replace(moments[place], **fields)
        return replace(json, key_frames=tuple(moments))

    return lambda values: edit(values, "json", change)


def array(part: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: edit(values, part, change)


def put(place: tuple[int, int], value: int) -> Callable[[Array], Array]:
    def change(rows: Array) -> Array:
        rows = rows.copy()
        rows[place] = value
        return rows

    return change


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "a box too many": ("boxes.npy", array("boxes.npy", lambda a: np.tile(a, (2, 1)))),
    "a box too few": ("boxes.npy", array("boxes.npy", lambda a: a[1:])),
    "boxes of float32": ("boxes.npy", array("boxes.npy", lambda a: a.astype(np.float32))),
    "flat boxes": ("boxes.npy", array("boxes.npy", lambda a: a.ravel())),
    "an id too few": ("entity_ids.npy", array("entity_ids.npy", lambda a: a[1:])),
    "ids of int32": ("entity_ids.npy", array("entity_ids.npy", lambda a: a.astype(np.int32))),
    "a label too few": ("labels.npy", array("labels.npy", lambda a: a[:-1])),
    "labels in three columns": ("labels.npy", array("labels.npy", lambda a: a[:, [0, 1, 1]])),
    "a label of the next moment's person": ("labels.npy", array("labels.npy", put((1, 0), 2))),
    "a label of nobody": ("labels.npy", array("labels.npy", put((3, 0), 9))),
    "a label of person -1": ("labels.npy", array("labels.npy", put((0, 0), -1))),
    "a negative action": ("labels.npy", array("labels.npy", put((0, 1), -1))),
    "proposals without scores": ("proposals.npy", array("proposals.npy", lambda a: a[:, :4])),
    "a proposal too many": ("proposals.npy", array("proposals.npy", lambda a: np.tile(a, (2, 1)))),
    "more persons": ("boxes.npy", moment(0, persons=3)),
    "more labels": ("labels.npy", moment(0, labels=3)),
    "persons of another moment": (
        "labels.npy",
        lambda v: moment(1, persons=2)(moment(0, persons=1)(v)),
    ),
    "more proposals": ("proposals.npy", moment(0, proposals=3)),
    "fewer proposals than none": ("json", moment(0, proposals=-2)),
    "negative persons": ("json", moment(0, persons=-1)),
    "scores of no proposals": ("json", moment(2, scored=True)),
    "a frame before the cut": ("json", moment(0, frame=2)),
    "a frame behind the cut": ("json", moment(0, frame=70)),
    "a frame behind the video": ("json", moment(0, frame=99)),
    "clips that reach out of the cut": ("json", about(clip_frames=64)),
    "no clip": ("json", about(clip_frames=0)),
    "no moments": ("json", about(key_frames=())),
    "a rate of 0": ("json", about(fps=0.0)),
    "a shorter source": ("json", about(source_frames=20)),
    "a first frame below 0": ("json", about(first_frame=-1)),
    "a template of flow": ("json", about(filename_tmpl="flow_{}_{:05}.jpg")),
    "a template of nothing": ("json", about(filename_tmpl="img.jpg")),
    "a frame more in the table": (
        "frames.npy",
        array("frames.npy", lambda a: a[:-1]),
    ),
    "no table of pictures": (
        "frames.npy",
        lambda v: (
            v
            | {
                "frames.npy": empty_frame_table(),
                "json": replace(
                    v["json"],
                    filename_tmpl="img_{:05}.jpg",
                    video=replace(v["json"].video, no_table_because="lost"),
                ),
            }
        ),
    ),
    "a video never opened": (
        "json",
        lambda v: (
            v | {"frames.npy": empty_frame_table(), "json": replace(v["json"], video=VideoInfo())}
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_parts_that_do_not_fit_are_found_and_refused(
    sound_values: dict[str, Any], craft: Callable[..., Path], fault: str
) -> None:
    part, change = FAULTS[fault]
    sound = sample_of(sound_values)
    bad = replace(sample_of(change(dict(sound_values))), items=3, summary=sound.summary)
    place = craft([[sound, bad, sound]], task="ava")
    findings = verify(place).damage
    assert {finding.key for finding in findings} == {"train-00000003"}, findings
    assert part in {finding.part for finding in findings}, findings
    reader = ItemReader(open_dataset(place))
    for number in (0, 6):
        reader.read(number, number=0)
    with pytest.raises(DatasetError, match="train-00000003"):
        reader.read(3, number=0)


def test_proposals_that_the_sample_does_not_have_are_found(
    sound_values: dict[str, Any], craft: Callable[..., Path]
) -> None:
    values = {name: value for name, value in sound_values.items() if name != "proposals.npy"}
    (finding,) = verify(craft([[sample_of(values)]], task="ava")).damage
    assert "a key frame has proposals, the sample has none" in finding.message


def test_actions_that_the_manifest_does_not_allow_are_found(
    sound_values: dict[str, Any],
    craft: Callable[..., Path],
    rewrite_manifest: Callable[..., Any],
) -> None:
    place = craft([[sample_of(sound_values)]], task="ava")
    rewrite_manifest(place / "train", class_names=tuple("abcde"))
    assert verify(place).damage == []
    rewrite_manifest(place / "train", class_names=tuple("abc"))
    assert any("label 4 of 3 classes" in f.message for f in verify(place).damage)
    rewrite_manifest(place / "train", class_names=())
    labels = sound_values["labels.npy"]
    twice = moment(0, labels=3)(sound_values) | {
        "labels.npy": np.concatenate([labels[:2], [[1, 7]], labels[2:]])
    }
    second = craft([[sample_of(twice)]], split="twice", task="ava")
    assert any("2 labels in a split of mode 'one'" in f.message for f in verify(second).damage)
