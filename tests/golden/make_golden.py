"""Makes the golden files: small splits, spelled out byte by byte with the format's functions alone.

    python tests/golden/make_golden.py

writes them to the folder `v<version>` beside this script. The videos and pictures are a few
made-up bytes, no codec is asked. Golden files of version 0 may be regenerated until version 1
is frozen; those of version 1 and later are never rewritten, a difference is then a bug in the
code.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.frame_table import (
    CORRUPT,
    DISPOSABLE,
    NO_PICTURE,
    NO_PTS,
    RANDOM_ACCESS,
    FrameTable,
    empty_frame_table,
)
from clipshards.packer.format.index import PartColumns, ShardIndex
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    JsonPart,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.manifest import Accounting, LabelMode, Manifest, ShardEntry
from clipshards.packer.format.names import (
    INDEX_MEMBER,
    MANIFEST_NAME,
    REJECTS_NAME,
    VERSION,
    member_name,
    sample_key,
    shard_name,
)
from clipshards.packer.format.rejects import RejectRow, encode_rejects
from clipshards.packer.format.tar import BLOCK, END, encode_header, padding
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VideoInfo


@dataclass(frozen=True)
class Sample:
    """One sample; its ordinal is its key."""

    ordinal: int
    about: JsonPart
    values: dict[str, Any]
    """Part name to value, all but `json`."""


def video_sample(
    ordinal: int, about: VideoJson, table: FrameTable, suffix: str, video: bytes
) -> Sample:
    """Return a sample of task `video`."""
    return Sample(ordinal, about, {"frames.npy": with_checksums(table, video), suffix: video})


def with_checksums(table: FrameTable, part: bytes) -> FrameTable:
    """Return a table whose last column is that of the packets in the part."""
    sums = [crc32c(part[row[0] : row[0] + row[1]]) for row in table.tolist()]
    return np.column_stack([table[:, :5], np.array(sums, dtype=np.int64)])


def made_up(length: int) -> bytes:
    """Return bytes that are no video, the same everywhere."""
    return bytes((7 * i + i // 256) % 251 for i in range(length))


# I P B P, the second field of that P, and an open GOP with a leading picture.
TABLE = np.array(
    [
        [48, 200, RANDOM_ACCESS, 0, -512],
        [248, 60, 0, 2, 512],
        [308, 20, DISPOSABLE, 1, 0],
        [328, 50, 0, 3, 1024],
        [378, 40, CORRUPT, NO_PICTURE, NO_PTS],
        [418, 180, RANDOM_ACCESS, 5, 2048],
        [598, 22, DISPOSABLE, 4, 1536],
    ],
    dtype=np.int64,
)
H264 = VideoInfo(
    codec="h264",
    codec_tag="avc1",
    extradata=bytes.fromhex("0164000dffe1000467640000010000"),
    nal_length_size=4,
    pixel_format="yuv420p",
    coded_width=352,
    coded_height=256,
    width=340,
    height=256,
    color_range=1,
    color_space=6,
    color_primaries=6,
    color_transfer=6,
    sample_aspect=(128, 117),
    rotation=-90,
    reorder_depth=2,
    time_base=(1, 12800),
    rate=(30000, 1001),
    duration_s=0.2,
    frames=6,
    claimed_frames=7,
    frame_table="decode",
)
MPEG4 = VideoInfo(
    codec="mpeg4",
    codec_tag="FMP4",
    pixel_format="yuv420p",
    coded_width=64,
    coded_height=48,
    width=64,
    height=48,
    time_base=(1, 25),
    rate=(25, 1),
    duration_s=1e-05,
    frames=1,
    frame_table="decode",
    no_table_because="the container does not store each packet in one piece",
)

# The first three packets of it, in another container.
SHORT = replace(H264, frames=3, claimed_frames=0)
SHORT_TABLE = TABLE[:3] + np.array([100, 0, 0, 0, 0])

MIXED = [
    video_sample(0, VideoJson("run/a b.mp4", "val.txt:1", (1,), H264), TABLE, "mp4", made_up(620)),
    video_sample(
        4, VideoJson("跳/é.avi", "val.txt:5", (2,), MPEG4), empty_frame_table(), "avi", made_up(1)
    ),
    video_sample(
        2,
        VideoJson('walk/"c".mkv', "val.txt:3", (0,), SHORT),
        SHORT_TABLE,
        "mkv",
        made_up(512),
    ),
]
REJECTS = [
    RejectRow(3, 1, "val-00000003", "", "val.txt:4", "AnnotationError", "expected 'path label'"),
    RejectRow(1, 1, "val-00000001", "run/d.mp4", "val.txt:2", "MediaError", "'run/d.mp4': missing"),
]
UNOPENED = [
    video_sample(
        0,
        VideoJson("a.webm", "records[0]", (), VideoInfo()),
        empty_frame_table(),
        "webm",
        made_up(300),
    )
]


# Four frames of a folder, and two fields of flow, as packets of an mp4 each.
STILLS = VideoInfo(
    codec="mjpeg",
    codec_tag="mp4v",
    pixel_format="yuvj420p",
    coded_width=48,
    coded_height=32,
    width=32,
    height=48,
    color_range=2,
    time_base=(1, 30),
    rate=(30, 1),
    duration_s=4 / 30,
    frames=4,
    claimed_frames=4,
    frame_table="decode",
)
FLOW = VideoInfo(
    codec="png",
    codec_tag="mp4v",
    pixel_format="gray",
    coded_width=32,
    coded_height=32,
    width=32,
    height=32,
    time_base=(1, 25),
    frames=2,
    claimed_frames=2,
    frame_table="decode",
)


def stills_table(sizes: Sequence[int]) -> FrameTable:
    """Return the table of files that stand one behind the other, each a frame, in `made_up`."""
    starts = [44 + sum(sizes[:place]) for place in range(len(sizes))]
    rows = [(s, n, RANDOM_ACCESS, i, i) for i, (s, n) in enumerate(zip(starts, sizes, strict=True))]
    return with_checksums(np.array(rows, dtype=np.int64), made_up(1000))


FRAMES = [
    Sample(
        2,
        RawframesJson(
            id="跳/clip",
            origin="rawframes.txt:3",
            filename_tmpl="img_{:05}.jpg",
            start_index=1,
            stretches=(
                StretchJson(offset=0, total_frames=4, labels=(0, 2), origin="rawframes.txt:3"),
                StretchJson(offset=1, total_frames=2, labels=(1,), origin="rawframes.txt:5"),
            ),
            video=STILLS,
        ),
        {"frames.npy": stills_table([30, 41, 7, 100]), "mp4": made_up(230)},
    ),
]
FRAMES_REJECTS = [
    RejectRow(0, 2, "frames-00000000", "gap", "rawframes.txt:1", "MediaError", "gap: missing"),
]
FLOWS = [
    Sample(
        0,
        RawframesJson(
            id="clip",
            origin="flow.txt:1",
            filename_tmpl="flow_{}_{:05d}.png",
            start_index=0,
            stretches=(StretchJson(offset=0, total_frames=2, labels=(), origin="flow.txt:1"),),
            video=FLOW,
        ),
        {
            "flow_x.frames.npy": stills_table([20, 21]),
            "flow_y.frames.npy": stills_table([31, 1]),
            "flow_x.mp4": made_up(90),
            "flow_y.mp4": made_up(76),
        },
    ),
]


def ramp(*shape: int, dtype: str) -> np.ndarray:
    """Return numbers that every float type holds exactly."""
    return (np.arange(np.prod(shape)) % 512 / 4).astype(dtype).reshape(shape)


def absent() -> np.ndarray:
    """Return what stands in the place of an optional part that a sample lacks."""
    return np.empty(0, dtype=np.float32)


SKELETONS = [
    Sample(
        1,
        SkeletonJson(
            id="S001C001P001R001A001",
            origin="ntu.pkl[1]",
            labels=(59,),
            total_frames=3,
            compressed=False,
            image_shape=(1080, 1920),
            original_shape=(1080, 1920),
            valid=(),
            box_threshold=0.0,
            absent=("box_score.npy", "frame_inds.npy"),
        ),
        {
            "keypoint.npy": ramp(2, 3, 5, 2, dtype="<f2"),
            "frame_inds.npy": absent(),
            "box_score.npy": absent(),
            "keypoint_score.npy": ramp(2, 3, 5, dtype="<f2"),
        },
    ),
    Sample(
        0,
        SkeletonJson(
            id='walk/"a"\n',
            origin="ntu.pkl[0]",
            labels=(0,),
            total_frames=4,
            compressed=True,
            image_shape=(240, 320),
            original_shape=(0, 0),
            valid=((0.5, 3), (0.9, 0)),
            box_threshold=0.5,
            absent=("keypoint_score.npy",),
        ),
        {
            "keypoint.npy": ramp(3, 5, 3, dtype="<f8"),
            "frame_inds.npy": np.array([0, 0, 4], dtype="<i2"),
            "box_score.npy": np.array([0.5, 0.25, 1.0], dtype="<f4"),
            "keypoint_score.npy": absent(),
        },
    ),
]
SOUNDS = [
    Sample(
        0,
        AudioJson(id="a b.npy", origin="audio.txt:1", labels=(1,), total_frames=75),
        {"mel.npy": ramp(6, 80, dtype="<f4")},
    ),
    Sample(
        1,
        AudioJson(id="c.npy", origin="audio.txt:2", labels=(0,), total_frames=1),
        {"mel.npy": ramp(1, 3, dtype="<f8")},
    ),
]


MOMENTS = [
    Sample(
        0,
        AvaJson(
            id="run/a",
            origin="ava.csv:1",
            video_id="run/a",
            fps=30.0,
            timestamp_start=900,
            clip_frames=4,
            first_frame=60,
            source_frames=66,
            filename_tmpl="",
            start_index=0,
            key_frames=(
                KeyFrameJson(
                    timestamp=902, frame=62, persons=2, labels=3, proposals=1, scored=True
                ),
                KeyFrameJson(
                    timestamp=903, frame=65, persons=1, labels=1, proposals=-1, scored=False
                ),
            ),
            video=H264,
        ),
        {
            "frames.npy": with_checksums(TABLE, made_up(1000)),
            "boxes.npy": ramp(3, 4, dtype="<f8") / 16,
            "labels.npy": np.array([[0, 12], [1, 12], [1, 80], [2, 1]], dtype="<i8"),
            "entity_ids.npy": np.array([0, 7, 0], dtype="<i8"),
            "proposals.npy": np.array([[0.0, 0.25, 0.5, 1.0, 0.75]], dtype="<f8"),
            "mp4": made_up(620),
        },
    ),
]
UNTRIMMED = [
    Sample(
        2,
        ActivityNetJson(
            id="v_跳",
            origin="anet.json:5",
            segments=((0.5, 2.0), (0.0, 1.25)),
            segment_labels=("Jump", "Run, then walk"),
            duration_s=9.5,
            duration_frames=285,
            feature_frames=272,
            fps=30.0,
            rfps=0.0,
            csv_header=True,
            video=VideoInfo(),
        ),
        {"feature.npy": ramp(5, 4, dtype="<f4")},
    ),
]

KEPT = [
    Sample(
        0,
        AudioJson(
            id="a.mp4",
            origin="audio.txt:1",
            labels=(1,),
            total_frames=75,
            codec="pcm_s16le",
            sample_rate_hz=44100,
            channels=2,
            duration_s=0.25,
        ),
        {"mel.npy": ramp(2, 80, dtype="<f4"), "wav": made_up(99)},
    ),
]


def make_shard(index: ShardIndex, samples: Sequence[Sample]) -> tuple[bytes, ShardEntry]:
    """Return a shard and its row of the manifest; fills in the index."""
    task = TASKS[index.task]
    all_values = [{"json": sample.about, **sample.values} for sample in samples]
    index.parts = {
        name: PartColumns() for name in task.parts if any(name in values for values in all_values)
    }
    index.summary = {name: [] for name in task.summary}
    shard = b""
    for sample, values in zip(samples, all_values, strict=True):
        index.keys.append(sample_key(index.split, sample.ordinal))
        index.ids.append(sample.about.id)
        index.origins.append(sample.about.origin)
        index.entries.append(entries_of(sample.about))
        index.items.append(items_of(sample.about))
        for name, value in summary_of(sample.about).items():
            index.summary[name].append(value)
        for name, columns in index.parts.items():
            place = (-1, -1, -1)
            if name in values:
                data = task.encode(name, values[name])
                place = (len(shard) + BLOCK, len(data), crc32c(data))
                shard += member(member_name(index.keys[-1], name), data)
            columns.offset.append(place[0])
            columns.size.append(place[1])
            columns.crc32c.append(place[2])
    payload = index.encode()
    index_offset = len(shard) + BLOCK
    shard += member(INDEX_MEMBER, payload) + END
    return shard, ShardEntry(
        name=shard_name(index.split, index.number),
        bytes=len(shard),
        records=len(samples),
        entries=sum(index.entries),
        samples=len(samples),
        items=sum(index.items),
        index_at="inside",
        index_offset=index_offset,
        index_bytes=len(payload),
        index_crc32c=crc32c(payload),
        sha256=sha256_hex(shard),
        crc32c=crc32c(shard),
    )


def items_of(about: JsonPart) -> int:
    """Return how many items a sample holds."""
    if isinstance(about, AvaJson):
        return len(about.key_frames)
    return len(about.stretches) if isinstance(about, RawframesJson) else 1


def entries_of(about: JsonPart) -> int:
    """Return how many entries of the annotation a sample stands for."""
    # A row of the csv is one person and one action.
    if isinstance(about, AvaJson):
        return sum(moment.labels for moment in about.key_frames)
    return items_of(about)


def summary_of(about: JsonPart) -> dict[str, Any]:
    """Return the summary columns of a sample, spelled out for each task."""
    if isinstance(about, SkeletonJson):
        height, width = about.image_shape
        size = {"width": width, "height": height}
        return {"labels": list(about.labels), "frames": about.total_frames, **size}
    if isinstance(about, AudioJson):
        return {"labels": list(about.labels), "frames": about.total_frames}
    if isinstance(about, ActivityNetJson):
        labels = list(about.segment_labels)
        return {
            "labels": labels,
            "duration_s": about.duration_s,
            "frames": about.duration_frames,
        }
    assert isinstance(about, VideoJson | RawframesJson | AvaJson)
    video = about.video
    size = {"frames": video.frames, "width": video.width, "height": video.height}
    if isinstance(about, AvaJson):
        moments = about.key_frames
        times, persons = [m.timestamp for m in moments], [m.persons for m in moments]
        return {"timestamps": times, "persons": persons, **size}
    if isinstance(about, RawframesJson):
        return {"labels": [list(stretch.labels) for stretch in about.stretches], **size}
    return {"labels": list(about.labels), "duration_s": video.duration_s, **size}


def member(name: str, data: bytes) -> bytes:
    """Return header, payload and padding."""
    return encode_header(name, len(data)) + data + bytes(padding(len(data)))


def make_split(
    split: str,
    shards: list[list[Sample]],
    rejects: list[RejectRow],
    *,
    task: str = "video",
    labels: LabelMode,
    class_names: tuple[str, ...] = (),
    excluded: dict[str, int] | None = None,
    recipe: dict[str, Any],
) -> dict[str, bytes]:
    """Return the files of a split: name in the split's folder to bytes."""
    plan_digest = sha256_hex(f"the plan of {split}".encode())
    files = {}
    entries = []
    for number, samples in enumerate(shards):
        index = ShardIndex(task, split, number, plan_digest, recipe)
        shard, entry = make_shard(index, samples)
        files[entry.name] = shard
        entries.append(entry)
    files[REJECTS_NAME] = encode_rejects(rejects)
    packed = sum(entry.entries for entry in entries)
    rejected = sum(row.entries for row in rejects)
    left_out = excluded or {}
    total = packed + rejected + sum(left_out.values())
    manifest = Manifest(
        task=task,
        split=split,
        labels=labels,
        class_names=class_names,
        recipe=recipe,
        run_length=1,
        request_digest=sha256_hex(f"the request of {split}".encode()),
        plan_digest=plan_digest,
        accounting=Accounting(total, packed, rejected, left_out),
        rejects_sha256=sha256_hex(files[REJECTS_NAME]),
        made_with={"clipshards": "golden", "platform": "none"},
        shards=tuple(entries),
    )
    files[MANIFEST_NAME] = manifest.encode()
    return files


COPIED = {"media": "copy", "frame_table": "decode"}


def golden_splits() -> dict[str, dict[str, bytes]]:
    """Return all golden splits of the current version: folder below `v<version>` to files."""
    return {
        "mixed/val": make_split(
            "val",
            # The second shard stands for one whose entries were all rejected.
            [MIXED, []],
            REJECTS,
            labels="one",
            class_names=("walk", "run", "跳"),
            recipe=COPIED,
        ),
        "unopened/test_2": make_split(
            "test_2", [UNOPENED], [], labels="none", recipe=COPIED | {"frame_table": "none"}
        ),
        "rawframes/frames": make_split(
            "frames", [FRAMES], FRAMES_REJECTS, task="rawframes", labels="many", recipe=COPIED
        ),
        "flow/flow": make_split(
            "flow", [FLOWS], [], task="rawframes", labels="none", recipe=COPIED
        ),
        "skeleton/poses": make_split(
            "poses",
            [SKELETONS],
            [],
            task="skeleton",
            labels="one",
            excluded={"valid_ratio": 2},
            recipe={},
        ),
        "ava/moments": make_split(
            "moments",
            [MOMENTS],
            [],
            task="ava",
            labels="many",
            excluded={"exclude": 3},
            recipe={"frame_table": "decode"},
        ),
        "activitynet/untrimmed": make_split(
            "untrimmed", [UNTRIMMED], [], task="activitynet", labels="many", recipe=COPIED
        ),
        "audio/sounds": make_split(
            "sounds",
            [SOUNDS[:1], SOUNDS[1:]],
            [],
            task="audio",
            labels="one",
            class_names=("a", "b"),
            recipe={"features": "file", "keep_audio": "no"},
        ),
        "kept/kept": make_split(
            "kept",
            [KEPT],
            [],
            task="audio",
            labels="one",
            recipe={"features": "compute", "keep_audio": "wav"},
        ),
    }


def golden_files() -> dict[str, bytes]:
    """Return all golden files of the current version: path below `v<version>` to bytes."""
    return {
        f"{folder}/{name}": data
        for folder, files in golden_splits().items()
        for name, data in files.items()
    }


def make_golden(folder: Path) -> None:
    """Write the golden files of the current version below `folder`."""
    for name, data in golden_files().items():
        path = folder / f"v{VERSION}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    make_golden(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
