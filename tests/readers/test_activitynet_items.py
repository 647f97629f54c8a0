"""ActivityNet: segments, numbers, features and videos come out of the reader as annotated."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import numpy.typing as npt
import pytest
import torch

from clipshards.packer import ActivityNetFile, ActivityNetRecord, PackReport, pack
from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.samples.base import Sample
from clipshards.readers import DenseClip, UniformClip, open_dataset, verify
from clipshards.readers.data import ShardDataset, ShardMapDataset
from clipshards.readers.items import ItemReader
from clipshards.readers.split import Split

Array = npt.NDArray[Any]

# Doubles that a detour by float32, or by few digits, would change.
ANNOTATION: dict[str, dict[str, Any]] = {
    "v_b": {
        "duration_second": 7.123456789012345,
        "duration_frame": 171,
        "feature_frame": 160,
        "fps": 23.976023976023978,
        "rfps": 24.0,
        "annotations": [
            {"segment": [0.1, 0.30000000000000004], "label": "Élan"},
            {"segment": [5, 7.123456789012345], "label": "Arm wrestling"},
            {"segment": [0.0, 7], "label": "Élan"},
        ],
    },
    "v a": {
        "duration_second": 3,
        "duration_frame": 90,
        "feature_frame": 90,
        "annotations": [],
    },
    "v.c": {
        "duration_second": 1e-3,
        "duration_frame": 1,
        "feature_frame": 1,
        "fps": 1e9,
        "rfps": 5e-324,
        "annotations": [{"segment": [0.0, 5e-324], "label": "a\nb"}],
    },
}
LABELS = ("Arm wrestling", "a\nb", "Élan")
KEYS = {
    "key",
    "id",
    "segments",
    "segment_labels",
    "duration_s",
    "duration_frames",
    "feature_frames",
    "fps",
    "rfps",
}
VIDEO_KEYS = {"frames", "frame_numbers", "total_frames"}


def features(number: int) -> Array:
    """Return odd numbers, another length for each video."""
    found = np.random.default_rng(number).normal(size=(3 + number, 7)) * 10.0 ** (number * 9 - 9)
    found[0, :3] = (-0.0, 1.1754942e-38, 3.4028235e38)
    return found


def as_csv(table: Array, *, header: bool, end: str = "\n") -> bytes:
    lines = [",".join(f"f{n}" for n in range(table.shape[1]))] if header else []
    lines += [",".join(map(repr, row)) for row in table.tolist()]
    return end.join([*lines, ""]).encode()


def write_json(folder: Path, value: Any) -> Path:
    file = folder / "anno.json"
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return file


def official(annotation: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return it in the official layout, which knows the duration alone."""
    return {
        "version": "VERSION 1.3",
        "taxonomy": [{"nodeName": "Root"}],
        "database": {
            name: {
                "duration": entry["duration_second"],
                "annotations": entry["annotations"],
                "subset": "validation" if name == "v a" else "training",
                "url": "https://example.org",
            }
            for name, entry in annotation.items()
        },
    }


def read_all(split: Split, clip: Any = None) -> dict[str, dict[str, Any]]:
    dataset = ShardMapDataset(split, clip=clip)
    items = [dataset[number] for number in range(len(dataset))]
    found = {item["id"]: item for item in items}
    assert len(found) == len(items)
    return found


def check_annotation(item: dict[str, Any], entry: dict[str, Any], *, counts: bool = True) -> None:
    """An item says what its entry says, to the last bit."""
    segments = [segment["segment"] for segment in entry["annotations"]]
    due = np.array(segments, dtype=np.float64).reshape(-1, 2)
    assert (item["segments"].dtype, item["segments"].shape) == (np.float64, due.shape)
    assert item["segments"].tobytes() == due.tobytes()
    assert item["segment_labels"] == [segment["label"] for segment in entry["annotations"]]
    expected = {
        "duration_s": float(entry["duration_second"]),
        "duration_frames": entry["duration_frame"] if counts else 0,
        "feature_frames": entry["feature_frame"] if counts else 0,
        "fps": float(entry.get("fps", 0.0)) if counts else 0.0,
        "rfps": float(entry.get("rfps", 0.0)) if counts else 0.0,
    }
    for name, value in expected.items():
        assert (type(item[name]), item[name]) == (type(value), value)


def abouts(split: Split) -> dict[str, ActivityNetJson]:
    found = {}
    for shard in range(len(split.manifest.shards)):
        for sample in range(split.manifest.shards[shard].samples):
            parts = split.read_sample(shard, sample).parts
            about = TASKS["activitynet"].decode("json", parts["json"], where="json")
            found[about.id] = about
    return found


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_features_of_csv_come_back(tmp_path: Path, header: bool, end: str) -> None:
    for number, name in enumerate(ANNOTATION):
        data = as_csv(features(number), header=header, end=end)
        (tmp_path / f"{name}.csv").write_bytes(data)
    records = ActivityNetFile(write_json(tmp_path, ANNOTATION))
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    assert (report.entries, report.packed, report.rejects) == (3, 3, ())
    split = open_dataset(tmp_path / "set")
    assert (split.manifest.labels, split.manifest.class_names) == ("none", LABELS)
    items = read_all(split, UniformClip(2))
    for number, (name, entry) in enumerate(ANNOTATION.items()):
        item = items[name]
        check_annotation(item, entry)
        due = np.loadtxt(
            tmp_path / f"{name}.csv", dtype=np.float32, delimiter=",", skiprows=int(header), ndmin=2
        )
        assert (item["feature"].dtype, item["feature"].shape) == (np.float32, (3 + number, 7))
        assert item["feature"].tobytes() == due.tobytes()
        assert set(item) == KEYS | {"feature"}
    assert {about.csv_header for about in abouts(split).values()} == {header}
    assert verify(tmp_path / "set").damage == []


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_features_of_npy_come_back(tmp_path: Path, dtype: str) -> None:
    tables = {}
    for number, name in enumerate(ANNOTATION):
        rng = np.random.default_rng(number)
        tables[name] = rng.normal(size=(1 + number, 5)).astype(dtype)
        (tmp_path / name).mkdir()
        table = np.asfortranarray(tables[name]) if number else tables[name]
        np.save(tmp_path / name / "i3d.npy", table)
    records = ActivityNetFile(write_json(tmp_path, ANNOTATION), feature_tmpl="{}/i3d.npy")
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    split = open_dataset(tmp_path / "set")
    for name, item in read_all(split).items():
        check_annotation(item, ANNOTATION[name])
        due = np.ascontiguousarray(tables[name], dtype=np.float32)
        assert (item["feature"].dtype, item["feature"].shape) == (np.float32, due.shape)
        assert item["feature"].tobytes() == due.tobytes()
    assert not any(about.csv_header for about in abouts(split).values())


@pytest.mark.parametrize("source_split", [None, "training", "validation"])
def test_the_official_layout_comes_back(tmp_path: Path, source_split: str | None) -> None:
    for number, name in enumerate(ANNOTATION):
        (tmp_path / f"v_{name}.csv").write_bytes(as_csv(features(number), header=True))
    records = ActivityNetFile(
        write_json(tmp_path, official(ANNOTATION)),
        source_split=source_split,
        feature_tmpl="v_{}.csv",
    )
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    names = {
        None: ["v_b", "v a", "v.c"],
        "training": ["v_b", "v.c"],
        "validation": ["v a"],
    }[source_split]
    assert (report.entries, report.packed) == (len(names), len(names))
    split = open_dataset(tmp_path / "set")
    # Those of all subsets, so that each subset has the same numbers.
    assert split.manifest.class_names == LABELS
    items = read_all(split)
    assert set(items) == set(names)
    for name, item in items.items():
        check_annotation(item, ANNOTATION[name], counts=False)
    assert verify(tmp_path / "set").damage == []


VIDEOS: dict[str, tuple[str, dict[str, Any]]] = {
    "v_b": ("mp4", {"frames": 30, "options": {"g": "8", "bf": "2"}}),
    "v a": ("mp4", {"frames": 11, "rate": 30, "sound": True}),
    "v.c": ("mp4", {"frames": 1}),
}


@pytest.fixture(scope="module")
def packed_videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, dict[str, Array]]:
    """Features and videos of all, and the frames of these."""
    folder = tmp_path_factory.mktemp("anet")
    (folder / "videos").mkdir()
    frames = {}
    for number, (name, (container, options)) in enumerate(VIDEOS.items()):
        data = makers.video_bytes(container, size=(48, 32), seed=number, **options)
        (folder / "videos" / f"{name}.mp4").write_bytes(data)
        frames[name] = np.stack(makers.frames_of(data))
        (folder / f"{name}.csv").write_bytes(as_csv(features(number), header=True))
    records = ActivityNetFile(write_json(folder, ANNOTATION), video_tmpl="videos/{}.mp4")
    report = pack(records, folder / "set", split="train", media_root=folder, shard_size=30_000)
    assert (report.packed, report.rejects) == (3, ())
    return open_dataset(folder / "set"), frames


@pytest.mark.parametrize(
    "clip", [None, UniformClip(4), DenseClip(6, 3), UniformClip(2, jitter=False)], ids=repr
)
def test_videos_come_back_beside_their_features(
    packed_videos: tuple[Split, dict[str, Array]], clip: Any
) -> None:
    split, frames = packed_videos
    items = read_all(split, clip)
    for number, (name, entry) in enumerate(ANNOTATION.items()):
        item = items[name]
        check_annotation(item, entry)
        assert set(item) == KEYS | VIDEO_KEYS | {"feature"}
        due = features(number).astype(np.float32)
        assert item["feature"].tobytes() == due.tobytes()
        assert item["total_frames"] == len(frames[name])
        if clip is None:
            assert item["frame_numbers"].tolist() == list(range(len(frames[name])))
        np.testing.assert_array_equal(item["frames"], frames[name][item["frame_numbers"]])
    assert verify(split.storage.url).damage == []


def test_videos_alone_come_back(tmp_path: Path) -> None:
    for seed, name in enumerate(ANNOTATION):
        (tmp_path / f"{name}.mp4").write_bytes(makers.short_video(seed, frames=4, sound=False))
    records = ActivityNetFile(
        write_json(tmp_path, ANNOTATION), feature_tmpl="", video_tmpl="{}.mp4"
    )
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    items = read_all(open_dataset(tmp_path / "set"))
    for seed, (name, entry) in enumerate(ANNOTATION.items()):
        check_annotation(items[name], entry)
        assert set(items[name]) == KEYS | VIDEO_KEYS
        due = np.stack(makers.frames_of(makers.short_video(seed, frames=4, sound=False)))
        np.testing.assert_array_equal(items[name]["frames"], due)
    assert verify(tmp_path / "set").damage == []


def test_features_can_be_written_to(packed_videos: tuple[Split, dict[str, Array]]) -> None:
    dataset = ShardMapDataset(packed_videos[0], clip=UniformClip(1))
    for name in ("feature", "segments", "frames"):
        item = dataset[0]
        item[name][...] = 7
        if item[name].size:
            assert not np.array_equal(dataset[0][name], item[name])


# Batches


def test_segments_of_a_batch_are_lists(packed_videos: tuple[Split, dict[str, Array]]) -> None:
    split, frames = packed_videos

    def first_rows(item: dict[str, Any]) -> dict[str, Any]:
        return item | {"feature": item["feature"][:3]}

    dataset = ShardDataset(split, batch_size=3, clip=UniformClip(2), transform=first_rows)
    (batch,) = dataset
    names = batch["id"]
    assert sorted(names) == sorted(ANNOTATION)
    assert batch["feature"].shape == (3, 3, 7)
    assert batch["frames"].shape == (3, 2, 32, 48, 3)
    for name in ("segments", "segment_labels"):
        assert type(batch[name]) is list
    for place, name in enumerate(names):
        annotations = ANNOTATION[name]["annotations"]
        assert batch["segments"][place].dtype == torch.float64
        assert batch["segments"][place].shape == (len(annotations), 2)
        assert batch["segments"][place].tolist() == [entry["segment"] for entry in annotations]
        assert batch["segment_labels"][place] == [entry["label"] for entry in annotations]
    # A count of 0 seconds would show: doubles stay doubles.
    assert batch["duration_s"].dtype == torch.float64
    assert batch["duration_s"].tolist() == [ANNOTATION[n]["duration_second"] for n in names]
    assert batch["total_frames"].tolist() == [len(frames[name]) for name in names]


# Real annotations


def test_the_real_annotation_comes_back(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "activitynet"
    records = ActivityNetFile(folder / "anno.json")
    root = folder / "features"
    report = pack(records, tmp_path / "set", split="train", media_root=root)
    assert (report.entries, report.packed, report.rejects) == (2, 2, ())
    split = open_dataset(tmp_path / "set")
    assert split.manifest.class_names == ("Arm wrestling", "Drinking beer")
    annotation = json.loads((folder / "anno.json").read_text())
    items = read_all(split)
    assert set(items) == set(annotation)
    for name, item in items.items():
        check_annotation(item, annotation[name])
        # As MMAction2 reads it, but for its transpose.
        due = np.loadtxt(root / f"{name}.csv", dtype=np.float32, delimiter=",", skiprows=1)
        assert item["feature"].shape == due.shape
        assert item["feature"].tobytes() == due.tobytes()
    assert {name: item["feature"].shape for name, item in items.items()} == {
        "v_test2": (5, 400),
        "v_demo": (20, 400),
    }
    assert verify(tmp_path / "set").damage == []


def test_the_real_official_layout_comes_back(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "activitynet" / "official_style_gt.json"
    videos = json.loads(file.read_text())
    videos = videos.get("database", videos)
    for name in videos:
        np.save(tmp_path / f"{name}.npy", np.ones((2, 3), dtype=np.float32))
    records = ActivityNetFile(file, feature_tmpl="{}.npy")
    report: PackReport = pack(records, tmp_path / "set", split="val", media_root=tmp_path)
    assert (report.packed, report.rejects) == (len(videos), ())
    items = read_all(open_dataset(tmp_path / "set"))
    assert set(items) == set(videos)
    for name, item in items.items():
        entry = videos[name]
        duration = {"duration_second": entry.get("duration_second", entry.get("duration"))}
        check_annotation(item, entry | duration, counts=False)


# Samples whose parts do not fit each other


@pytest.fixture(scope="module")
def sound_values(packed_videos: tuple[Split, dict[str, Array]]) -> dict[str, Any]:
    """The decoded parts of the sample `v_b`."""
    split, _ = packed_videos
    for shard in range(len(split.manifest.shards)):
        for sample in range(split.manifest.shards[shard].samples):
            parts = split.read_sample(shard, sample).parts
            values = TASKS["activitynet"].decode_all(parts, where="sample")
            if values["json"].id == "v_b":
                return values
    raise AssertionError("v_b is not there")


def sample_of(values: dict[str, Any]) -> Sample:
    task = TASKS["activitynet"]
    about = values["json"]
    parts = {part: task.encode(part, values[part]) for part in task.parts if part in values}
    return Sample(about.id, about.origin, about.items, about.summary(), parts)


def test_the_sound_sample_is_whole(
    sound_values: dict[str, Any], craft: Callable[..., Path], rewrite_manifest: Callable[..., Any]
) -> None:
    place = craft([[sample_of(sound_values)] * 2], task="activitynet")
    rewrite_manifest(place / "train", labels="none", class_names=LABELS)
    report = verify(place)
    assert (report.damage, report.samples) == ([], 2)


def test_labels_that_are_none_of_the_class_names_are_found(
    sound_values: dict[str, Any], craft: Callable[..., Path], rewrite_manifest: Callable[..., Any]
) -> None:
    place = craft([[sample_of(sound_values)]], task="activitynet")
    rewrite_manifest(place / "train", labels="none", class_names=("Arm wrestling", "a\nb"))
    findings = verify(place).damage
    assert {finding.part for finding in findings} == {"json"}
    assert all("'Élan'" in finding.message for finding in findings)


def about(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: values | {"json": replace(values["json"], **fields)}


def other(part: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: values | {part: value}


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "a label too few": ("json", about(segment_labels=("Élan",))),
    "a segment too few": ("json", about(segments=((0.0, 1.0),))),
    "a segment from the end": (
        "json",
        about(segments=((2.0, 1.0),), segment_labels=("Élan",)),
    ),
    "an empty segment": ("json", about(segments=((1.0, 1.0),), segment_labels=("Élan",))),
    "a segment before the start": (
        "json",
        about(segments=((-1.0, 1.0),), segment_labels=("Élan",)),
    ),
    "no duration": ("json", about(duration_s=0.0)),
    "fewer frames than none": ("json", about(duration_frames=-1)),
    "fewer frames of features": ("json", about(feature_frames=-1)),
    "a negative rate": ("json", about(fps=-1.0)),
    "a negative rate of features": ("json", about(rfps=-0.5)),
    "features of float64": ("feature.npy", other("feature.npy", np.ones((3, 7)))),
    "features of one axis": ("feature.npy", other("feature.npy", np.ones(3, np.float32))),
    "a table of another video": (
        "frames.npy",
        lambda v: v | {"frames.npy": v["frames.npy"][:-1]},
    ),
    "no table and no reason": ("frames.npy", other("frames.npy", empty_frame_table())),
    "a table of a video never opened": ("frames.npy", about(video=VideoInfo())),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_parts_that_do_not_fit_are_found_and_refused(
    sound_values: dict[str, Any],
    craft: Callable[..., Path],
    rewrite_manifest: Callable[..., Any],
    fault: str,
) -> None:
    part, change = FAULTS[fault]
    sound = sample_of(sound_values)
    bad = replace(sample_of(change(dict(sound_values))), summary=sound.summary)
    place = craft([[sound, bad, sound]], task="activitynet")
    rewrite_manifest(place / "train", labels="none")
    findings = verify(place).damage
    assert {finding.key for finding in findings} == {"train-00000001"}, findings
    assert part in {finding.part for finding in findings}, findings
    reader = ItemReader(open_dataset(place), clip=UniformClip(1))
    for number in (0, 2):
        reader.read(number, number=0)
    with pytest.raises(DatasetError, match="train-00000001"):
        reader.read(1, number=0)


def test_a_description_of_a_video_that_is_not_there_is_found(
    sound_values: dict[str, Any], craft: Callable[..., Path], rewrite_manifest: Callable[..., Any]
) -> None:
    values = {name: v for name, v in sound_values.items() if name not in ("frames.npy", "mp4")}
    place = craft([[sample_of(values)]], task="activitynet")
    rewrite_manifest(place / "train", labels="none")
    (finding,) = verify(place).damage
    assert (finding.key, finding.part) == ("train-00000000", "json")


def test_features_or_a_video_there_must_be(tmp_path: Path) -> None:
    record = ActivityNetRecord(id="v", segments=(), segment_labels=(), duration_s=1.0)
    with pytest.raises(DatasetError, match="features or a video"):
        pack([record], tmp_path / "set", split="train", media_root=tmp_path, labels="none")
