"""Makes the golden files: small splits, spelled out byte by byte with the format's functions alone.

    python tests/golden/make_golden.py

writes them to the folder `v<version>` beside this script. The videos are a few made-up bytes,
no codec is asked. Golden files of version 0 may be regenerated until version 1 is frozen;
those of version 1 and later are never rewritten, a difference is then a bug in the code.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

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
from clipshards.packer.format.json_parts import VideoJson
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
from clipshards.packer.format.video import FrameTableMode, VideoInfo


@dataclass(frozen=True)
class Clip:
    """One sample; its ordinal is its key."""

    ordinal: int
    about: VideoJson
    table: FrameTable
    suffix: str
    video: bytes


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
    Clip(0, VideoJson("run/a b.mp4", "val.txt:1", (1,), H264), TABLE, "mp4", made_up(620)),
    Clip(
        4, VideoJson("跳/é.avi", "val.txt:5", (2,), MPEG4), empty_frame_table(), "avi", made_up(1)
    ),
    Clip(
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
    Clip(
        0,
        VideoJson("a.webm", "records[0]", (), VideoInfo()),
        empty_frame_table(),
        "webm",
        made_up(300),
    )
]


def make_shard(index: ShardIndex, clips: list[Clip]) -> tuple[bytes, ShardEntry]:
    """Return a shard and its row of the manifest; fills in the index."""
    task = TASKS[index.task]
    index.parts = {
        name: PartColumns()
        for name in task.parts
        if clips and (name not in task.media or any(clip.suffix == name for clip in clips))
    }
    index.summary = {name: [] for name in task.summary}
    shard = b""
    for clip in clips:
        video = clip.about.video
        index.keys.append(sample_key(index.split, clip.ordinal))
        index.ids.append(clip.about.id)
        index.origins.append(clip.about.origin)
        index.entries.append(1)
        index.items.append(1)
        for name, value in (
            ("labels", list(clip.about.labels)),
            ("frames", video.frames),
            ("duration_s", video.duration_s),
            ("width", video.width),
            ("height", video.height),
        ):
            index.summary[name].append(value)
        values = {"json": clip.about, "frames.npy": clip.table, clip.suffix: clip.video}
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
        entries=len(clips),
        samples=len(clips),
        items=len(clips),
        index_at="inside",
        index_offset=index_offset,
        index_bytes=len(payload),
        index_crc32c=crc32c(payload),
        sha256=sha256_hex(shard),
        crc32c=crc32c(shard),
    )


def member(name: str, data: bytes) -> bytes:
    """Return header, payload and padding."""
    return encode_header(name, len(data)) + data + bytes(padding(len(data)))


def make_split(
    split: str,
    shards: list[list[Clip]],
    rejects: list[RejectRow],
    *,
    labels: LabelMode,
    class_names: tuple[str, ...],
    frame_table: FrameTableMode,
) -> dict[str, bytes]:
    """Return the files of a split: name in the split's folder to bytes."""
    recipe = {"media": "copy", "frame_table": frame_table}
    plan_digest = sha256_hex(f"the plan of {split}".encode())
    files = {}
    entries = []
    for number, clips in enumerate(shards):
        index = ShardIndex("video", split, number, plan_digest, recipe)
        shard, entry = make_shard(index, clips)
        files[entry.name] = shard
        entries.append(entry)
    files[REJECTS_NAME] = encode_rejects(rejects)
    packed = sum(entry.samples for entry in entries)
    manifest = Manifest(
        task="video",
        split=split,
        labels=labels,
        class_names=class_names,
        recipe=recipe,
        run_length=1,
        request_digest=sha256_hex(f"the request of {split}".encode()),
        plan_digest=plan_digest,
        accounting=Accounting(packed + len(rejects), packed, len(rejects), {}),
        rejects_sha256=sha256_hex(files[REJECTS_NAME]),
        made_with={"clipshards": "golden", "platform": "none"},
        shards=tuple(entries),
    )
    files[MANIFEST_NAME] = manifest.encode()
    return files


def golden_files() -> dict[str, bytes]:
    """Return all golden files of the current version: path below `v<version>` to bytes."""
    mixed = make_split(
        "val",
        # The second shard stands for one whose entries were all rejected.
        [MIXED, []],
        REJECTS,
        labels="one",
        class_names=("walk", "run", "跳"),
        frame_table="decode",
    )
    unopened = make_split(
        "test_2", [UNOPENED], [], labels="none", class_names=(), frame_table="none"
    )
    return {f"mixed/val/{name}": data for name, data in mixed.items()} | {
        f"unopened/test_2/{name}": data for name, data in unopened.items()
    }


def make_golden(folder: Path) -> None:
    """Write the golden files of the current version below `folder`."""
    for name, data in golden_files().items():
        path = folder / f"v{VERSION}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    make_golden(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
