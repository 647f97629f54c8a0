"""Makes the golden files: small splits, spelled out byte by byte with the format's functions alone.

    PYTHONPATH=tests python -m golden.make_golden

writes them to the folder `v<version>` beside this script. No codec is asked: the media are
those of the folder `media`, described by `media.json`. Golden files are never rewritten: where
one stands and would change, nothing is written, and the code has a bug or the format a new
version.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golden.golden_samples import (
    DEMUXED,
    ENCODED,
    FEATURES,
    FLOWS,
    FRAMES,
    FRAMES_REJECTS,
    KEPT,
    MANY,
    MIXED,
    MOMENTS,
    PICTURE_MOMENTS,
    PLAIN_SKELETON,
    REJECTS,
    SKELETONS,
    SOUNDS,
    UNOPENED,
    WATCHED,
    Sample,
    kept,
)

from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.index import PartColumns, ShardIndex
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    JsonPart,
    RawframesJson,
    SkeletonJson,
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
    run_length: int = 1,
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
        run_length=run_length,
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
STILLS = {"frame_table": "decode"}
# As a recipe that encodes writes them down.
BALANCED = {
    "media": "balanced",
    "frame_table": "decode",
    "encoding": {
        "audio": "keep",
        "b_frames": 7,
        "crf": 40,
        "fast_decode": False,
        "fps": [0, 1],
        "gop": 32,
        "preset": "medium",
        "short_side": 0,
    },
    "encoder": {"asm": "avx2", "x264": "golden"},
    "if_needed": False,
}


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
        "many/many_1": make_split("many_1", [MANY], [], labels="many", recipe=COPIED),
        "demuxed/0": make_split(
            "0", [DEMUXED], [], labels="none", recipe=COPIED | {"frame_table": "demux"}
        ),
        "encoded/encoded": make_split("encoded", [ENCODED], [], labels="one", recipe=BALANCED),
        "unopened/test_2": make_split(
            "test_2", [UNOPENED], [], labels="none", recipe=COPIED | {"frame_table": "none"}
        ),
        "rawframes/frames": make_split(
            "frames", [FRAMES], FRAMES_REJECTS, task="rawframes", labels="many", recipe=STILLS
        ),
        "flow/flow": make_split(
            "flow", [FLOWS], [], task="rawframes", labels="none", recipe=STILLS
        ),
        "skeleton/poses": make_split(
            "poses",
            [SKELETONS],
            [],
            task="skeleton",
            labels="one",
            excluded={"valid_ratio": 2},
            recipe={},
            run_length=16,
        ),
        "joints/joints": make_split(
            "joints", [PLAIN_SKELETON], [], task="skeleton", labels="none", recipe={}
        ),
        "ava/moments": make_split(
            "moments",
            [MOMENTS],
            [],
            task="ava",
            labels="many",
            class_names=tuple(f"action {number}" for number in range(81)),
            excluded={"exclude": 3},
            recipe={},
        ),
        "pictures/pictures": make_split(
            "pictures", [PICTURE_MOMENTS], [], task="ava", labels="one", recipe={}
        ),
        "activitynet/untrimmed": make_split(
            "untrimmed",
            [FEATURES],
            [],
            task="activitynet",
            labels="none",
            class_names=("Jump", "Run, then walk", "Stand"),
            recipe=COPIED,
        ),
        "watched/watched": make_split(
            "watched", [WATCHED], [], task="activitynet", labels="none", recipe=COPIED
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
            recipe={"features": "compute", "keep_audio": "source"},
        ),
        **{
            f"{form}/{form}": make_split(
                form,
                [[kept(0, form)]],
                [],
                task="audio",
                labels="one",
                recipe={"features": "compute", "keep_audio": form},
            )
            for form in ("wav", "flac")
        },
    }


def golden_files() -> dict[str, bytes]:
    """Return all golden files of the current version: path below `v<version>` to bytes."""
    return {
        f"{folder}/{name}": data
        for folder, files in golden_splits().items()
        for name, data in files.items()
    }


def make_golden(folder: Path) -> None:
    """Write the golden files of the current version below `folder`.

    Raises:
        FileExistsError: One that stands there is another one.
    """
    files = {folder / f"v{VERSION}" / name: data for name, data in golden_files().items()}
    for path, data in files.items():
        if path.exists() and path.read_bytes() != data:
            raise FileExistsError(f"{path}: golden files are never rewritten")
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    make_golden(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
