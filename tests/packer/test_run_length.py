"""The run length that packing writes into the manifest."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer import ActivityNetRecord, Packing, Recipe, SkeletonRecord, VideoRecord, pack
from clipshards.packer.finish import finish_split
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.plan import Request
from clipshards.packer.record_kinds import RECORD_KINDS
from clipshards.packer.run_length import LONGEST_RUN, run_length

FEATURES = ("feature.npy",)


def run_of(
    task: str,
    *,
    item_bytes: int,
    items: int = 1_000_000,
    seed: int | None = 0,
    optional: tuple[str, ...] = (),
    shards: int = 3,
) -> int:
    """Return the run length of a split that has so many items of so many bytes."""
    request = Request(
        split="train",
        task=task,
        optional=optional,
        labels="one",
        class_names=(),
        recipe=Recipe(),
        seed=seed,
        shard_size=1,
        allow_outside=False,
        records_digest="",
    )
    counts = [items * (n + 1) // shards - items * n // shards for n in range(shards)]
    entries = [
        ShardEntry(
            name=f"train-{number:06d}.tar",
            bytes=count * item_bytes + 1536,
            records=count,
            entries=count,
            samples=count,
            items=count,
            index_at="inside",
            index_offset=0,
            index_bytes=0,
            index_crc32c=0,
            sha256="",
            crc32c=0,
        )
        for number, count in enumerate(counts)
    ]
    return run_length(request.to_json(), entries)


@pytest.mark.parametrize(
    ("task", "optional", "item_bytes", "expected"),
    [
        ("skeleton", (), 20_000, 8),
        ("skeleton", (), 240_000, 8),
        ("audio", (), 260_000, 4),
        ("activitynet", FEATURES, 600_000, 2),
        ("activitynet", FEATURES, 1_100_000, 1),
        ("skeleton", (), 5_000_000, 1),
    ],
)
def test_a_run_of_small_samples_is_worth_a_request(
    task: str, optional: tuple[str, ...], item_bytes: int, expected: int
) -> None:
    assert run_of(task, item_bytes=item_bytes, optional=optional) == expected


@pytest.mark.parametrize(
    ("items", "expected"), [(0, 1), (1, 1), (2047, 1), (2048, 2), (4095, 2), (4096, 4), (8192, 8)]
)
def test_there_remain_a_thousand_runs(items: int, expected: int) -> None:
    assert run_of("skeleton", item_bytes=20_000, items=items) == expected


@pytest.mark.parametrize(
    ("task", "optional"),
    [
        ("video", ()),
        ("rawframes", ("frames.npy", "mp4")),
        ("rawframes", ("flow_x.frames.npy", "flow_y.frames.npy", "flow_x.mp4", "flow_y.mp4")),
        ("ava", ()),
        ("ava", ("proposals.npy",)),
        ("activitynet", ("frames.npy",)),
        ("activitynet", ("frames.npy", "feature.npy")),
    ],
)
def test_videos_however_small_stand_alone(task: str, optional: tuple[str, ...]) -> None:
    assert run_of(task, item_bytes=20_000, optional=optional) == 1


@pytest.mark.parametrize("task", ["skeleton", "audio", "activitynet"])
def test_neighbours_of_the_annotation_are_parted(task: str) -> None:
    assert run_of(task, item_bytes=20_000, optional=FEATURES if task == "activitynet" else ()) == 8
    assert run_of(task, item_bytes=20_000, seed=None) == 1


def test_records_of_one_source_stand_alone() -> None:
    # The shuffle keeps them together, a run would too.
    kept_together = {kind.task for kind in RECORD_KINDS.values() if kind.source is not None}
    assert kept_together
    for task in kept_together:
        assert run_of(task, item_bytes=20_000) == 1


@given(
    st.sampled_from(sorted(TASKS)),
    st.integers(0, 10**8),
    st.integers(100, 10**8),
    st.integers(1, 50),
)
def test_the_run_is_a_power_of_two_and_larger_samples_have_no_longer_one(
    task: str, items: int, item_bytes: int, shards: int
) -> None:
    found = run_of(task, item_bytes=item_bytes, items=items, shards=shards)
    assert found in (1, 2, 4, LONGEST_RUN)
    assert found == 1 or (found * item_bytes <= 2_000_000 and items // found >= 1024)
    assert run_of(task, item_bytes=2 * item_bytes, items=items, shards=shards) <= found
    assert run_of(task, item_bytes=item_bytes, items=2 * items, shards=shards) >= found


def skeletons(count: int) -> list[SkeletonRecord]:
    keypoint = np.zeros((1, 1, 1, 2), np.float32)
    return [
        SkeletonRecord(id=f"{number}", total_frames=1, keypoint=keypoint, labels=(0,))
        for number in range(count)
    ]


def manifest_of(out: Path, split: str = "train") -> Manifest:
    return Manifest.decode((out / split / "manifest.json").read_bytes(), where="manifest")


def test_parts_on_several_machines_write_the_run_length_of_one_job(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    records = skeletons(2100)
    pack(records, whole, split="train", shard_size=3_000_000)
    for number in (2, 1):
        job = Packing(records, parts, split="train", shard_size=3_000_000)
        job.run_part(number, 2)
    finish_split(parts, split="train")
    assert len(manifest_of(whole).shards) > 2
    assert manifest_of(whole).run_length == 2
    assert manifest_of(parts) == manifest_of(whole)


def test_rejects_count_for_nothing(tmp_path: Path) -> None:
    # 2100 entries, of which fewer than 2048 are packed.
    rows = [
        ActivityNetRecord(
            id=f"v{number}",
            segments=((0.0, 1.0),),
            segment_labels=("x",),
            duration_s=2.0,
            features=f"{number}.npy",
        )
        for number in range(2100)
    ]
    media = tmp_path / "media"
    media.mkdir()
    for number in range(2000):
        np.save(media / f"{number}.npy", np.zeros((1, 2), np.float32))
    report = pack(rows, tmp_path / "set", split="train", media_root=media, max_rejects=100)
    assert len(report.rejects) == 100
    assert manifest_of(tmp_path / "set").run_length == 1


def test_a_pack_of_videos_has_run_length_1(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not opened")
    pack(
        [VideoRecord("v.mp4", (0,))] * 2100,
        tmp_path / "set",
        split="train",
        media_root=tmp_path,
        recipe=Recipe(frame_table="none"),
    )
    assert manifest_of(tmp_path / "set").run_length == 1
