"""Packing to S3: the objects of a bucket are the files of a folder, whatever comes between."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import TASKS, job_of, write_world
from s3_bucket import Bucket, files
from s3_server import S3Server

from clipshards.packer import (
    LocalEngine,
    Packing,
    PackReport,
    PlanError,
    Recipe,
    RejectsError,
    StorageError,
    VideoRecord,
    finish_split,
    pack,
)
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.status import Status, packed_splits, read_status
from clipshards.packer.storage import s3_put
from clipshards.readers import verify

SCRIPT = Path(__file__).parents[1] / "s3_killed_packing.py"
PART = 5 * 2**20
"""The smallest part of a multipart upload that S3 takes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media of all tasks, among them some that cannot be packed: look, do not write."""
    return write_world(tmp_path_factory.mktemp("world"))


def without_place(report: PackReport) -> PackReport:
    return replace(report, location="", seconds=0.0)


def assert_settled(bucket: Bucket, clean: Path) -> None:
    """The bucket holds what the folder holds, and nothing is left of the work."""
    assert bucket.objects() == files(clean)
    assert bucket.uploads() == []


def manifest_of(bucket: Bucket) -> Manifest:
    (name,) = [name for name in bucket.names() if name.endswith("/manifest.json")]
    return Manifest.decode(bucket.read(name), where=name)


def assert_described(bucket: Bucket) -> None:
    """The store knows of each shard what the manifest knows."""
    manifest = manifest_of(bucket)
    assert manifest.shards
    for number, shard in enumerate(manifest.shards):
        name = f"{manifest.split}/{shard.name}"
        assert bucket.about(name) == {
            "format": "1",
            "plan-digest": manifest.plan_digest,
            "shard": str(number),
        }
        assert bucket.crc32c(name) == shard.crc32c


# The same bytes


@pytest.mark.parametrize("task", TASKS)
def test_objects_are_the_files_of_a_folder(
    task: str, world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    clean = job_of(task, world, tmp_path / "clean").run()
    assert clean.shards >= 3
    report = job_of(task, world, bucket.url).run()
    assert without_place(report) == without_place(clean)
    assert report.location == bucket.url
    assert_settled(bucket, tmp_path / "clean")
    assert_described(bucket)
    # No trace of the bucket or of the keys to it.
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for name, data in bucket.objects().items():
        assert secret not in data, name
        assert bucket.prefix.encode() not in data, name


@pytest.mark.parametrize("task", ["video", pytest.param("skeleton", marks=pytest.mark.deep)])
def test_two_workers_make_the_same_objects(
    task: str, world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    clean = job_of(task, world, tmp_path / "clean").run()
    report = job_of(task, world, bucket.url).run(engine=LocalEngine(2))
    assert without_place(report) == without_place(clean)
    assert_settled(bucket, tmp_path / "clean")
    assert_described(bucket)


@pytest.mark.parametrize("task", ["video", "ava", pytest.param("audio", marks=pytest.mark.deep)])
def test_parts_in_any_order_and_their_end(
    task: str, world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    clean = job_of(task, world, tmp_path / "clean").run()
    made = 0
    for part in (3, 1, 3):
        report = job_of(task, world, bucket.url).run_part(part, 3)
        made += report.shards_made
    assert len(report.missing) == clean.shards - made > 0
    before = bucket.heads()
    with pytest.raises(PlanError, match="shards are not made yet"):
        finish_split(bucket.url, split="t")
    assert bucket.heads() == before
    report = job_of(task, world, bucket.url).run_part(2, 3)
    assert (made + report.shards_made, report.missing) == (clean.shards, ())
    assert "t/manifest.json" not in bucket.heads()
    done = finish_split(bucket.url, split="t")
    assert replace(without_place(done), shards_made=clean.shards) == without_place(clean)
    assert_settled(bucket, tmp_path / "clean")
    # And once more.
    assert without_place(finish_split(bucket.url, split="t")).content_digest == (
        clean.content_digest
    )
    assert_settled(bucket, tmp_path / "clean")


def test_other_splits_of_the_location_are_left_alone(
    world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    for out in (tmp_path / "clean", bucket.url):
        for split in ("t", "t2"):
            job_of("skeleton", world, out, split=split).run()
    before = bucket.heads()
    beside = replace(bucket, url=f"{bucket.url} beside")
    job_of("skeleton", world, beside.url).run()
    job_of("skeleton", world, bucket.url).run(replan=True)
    after = bucket.heads()
    assert {name: after[name] for name in after if name.startswith("t2")} == {
        name: before[name] for name in before if name.startswith("t2")
    }
    assert_settled(bucket, tmp_path / "clean")
    assert packed_splits(bucket.url) == ["t", "t2"]


def test_a_bucket_itself_can_be_the_location(
    s3_server: S3Server, s3_location: str, world: Path, tmp_path: Path
) -> None:
    client = s3_server.client()
    client.create_bucket(Bucket="alone")
    job_of("skeleton", world, tmp_path / "clean").run()
    report = job_of("skeleton", world, "s3://alone").run()
    assert report.location == "s3://alone"
    listed = client.list_objects_v2(Bucket="alone")["Contents"]
    assert sorted(entry["Key"] for entry in listed) == sorted(files(tmp_path / "clean"))
    assert verify("s3://alone").whole


# Going on


def test_a_second_run_finds_all_done(world: Path, bucket: Bucket) -> None:
    first = job_of("video", world, bucket.url).run()
    before = bucket.heads()
    again = job_of("video", world, bucket.url).run(retry_rejects=False)
    assert again.shards_made == 0
    assert (again.content_digest, again.rejects) == (first.content_digest, first.rejects)
    part = job_of("video", world, bucket.url).run_part(1, 2)
    assert (part.shards_made, part.missing) == (0, ())
    assert bucket.heads() == before


def test_status_tells_how_far_it_is(world: Path, bucket: Bucket) -> None:
    seen: list[Status] = []

    def look(entries: int, _bytes: int) -> None:
        if entries and len(seen) < 2:
            seen.append(read_status(bucket.url, split="t"))

    def job() -> Packing:
        return job_of("skeleton", world, bucket.url)

    assert job().standing() is None
    report = job().run_part(1, 2, progress=look)
    assert {status.state for status in seen} == {"running"}
    assert [run.pid for run in seen[-1].runs] == [os.getpid()]
    status = read_status(bucket.url, split="t")
    assert (status.state, status.shards_made, status.runs) == ("stopped", report.shards, ())
    assert job().standing() == status
    job().run()
    done = read_status(bucket.url, split="t")
    assert (done.state, done.shards_made, done.entries) == ("finished", done.shards, 40)


def test_replan_gives_the_objects_of_the_new_plan(
    world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    old = job_of("video", world, bucket.url, seed=1).run()
    clean = job_of("video", world, tmp_path / "clean", shard_size=110_000).run()
    assert old.shards > clean.shards
    report = job_of("video", world, bucket.url, shard_size=110_000).run(replan=True)
    assert without_place(report) == without_place(clean)
    assert_settled(bucket, tmp_path / "clean")
    assert_described(bucket)


def test_replan_of_an_unfinished_split_ends_its_uploads(
    world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    job_of("video", world, bucket.url, seed=1).run_part(1, 2)
    bucket.client.create_multipart_upload(**bucket.target("t/t-000001.tar"))
    assert bucket.uploads() == ["t/t-000001.tar"]
    job_of("video", world, tmp_path / "clean").run()
    job_of("video", world, bucket.url).run(replan=True)
    assert_settled(bucket, tmp_path / "clean")


def test_uploads_of_others_are_left_alone(world: Path, bucket: Bucket) -> None:
    names = ["t2/t2-000000.tar", "x", "tt/t/t-000000.tar"]
    for name in names:
        bucket.client.create_multipart_upload(**bucket.target(name))
    bucket.client.create_multipart_upload(**bucket.target("t/t-000000.tar"))
    job_of("skeleton", world, bucket.url).run()
    assert sorted(bucket.uploads()) == sorted(names)


VIDEOS = [VideoRecord(f"v{number}.mp4", (number,)) for number in range(8)]


def pack_mended(out: str | Path, media: Path, **options: Any) -> PackReport:
    given: dict[str, Any] = {"split": "t", "media_root": media, "shard_size": 50_000}
    return pack(VIDEOS, out, **(given | options))


def break_videos(media: Path, *numbers: int) -> dict[Path, bytes]:
    """Break videos and keep their lengths, which the plan is made of; return what they were."""
    whole = {media / f"v{n}.mp4": (media / f"v{n}.mp4").read_bytes() for n in numbers}
    for file, data in whole.items():
        file.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    return whole


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.deep)])
def test_mended_media_replace_the_shards_that_lacked_them(
    tmp_path: Path, media: Path, bucket: Bucket, workers: int
) -> None:
    clean = pack_mended(tmp_path / "clean", media)
    whole = break_videos(media, 1, 6)
    first = pack_mended(bucket.url, media)
    assert [row.id for row in first.rejects] == ["v1.mp4", "v6.mp4"]
    lacking = {
        f"t/{shard.name}" for shard in manifest_of(bucket).shards if shard.samples < shard.records
    }
    assert 0 < len(lacking) < clean.shards
    before = bucket.heads()
    for file, data in whole.items():
        file.write_bytes(data)
    report = pack_mended(bucket.url, media, retry_rejects=True, workers=workers)
    after = bucket.heads()
    assert {name for name in after if name.endswith(".tar") and after[name] != before[name]} == (
        lacking
    )
    assert report.shards_made == len(lacking)
    assert replace(without_place(report), shards_made=clean.shards) == without_place(clean)
    assert_settled(bucket, tmp_path / "clean")
    assert_described(bucket)


def test_a_run_that_ended_over_its_rejects_goes_on_with_mended_media(
    tmp_path: Path, media: Path, bucket: Bucket
) -> None:
    pack_mended(tmp_path / "clean", media)
    whole = break_videos(media, 1, 6)
    with pytest.raises(RejectsError):
        pack_mended(bucket.url, media, max_rejects=1)
    assert read_status(bucket.url, split="t").too_many_rejects
    for file, data in whole.items():
        file.write_bytes(data)
    report = pack_mended(bucket.url, media, max_rejects=1)
    assert 0 < report.shards_made < report.shards
    assert_settled(bucket, tmp_path / "clean")


def test_a_location_is_reopened_by_another_object(
    world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    """One object that has read shards packs anew what it has read."""
    job = job_of("video", world, bucket.url)
    job.run()
    assert verify(bucket.url).whole
    job.run(replan=True)
    other = job_of("video", world, bucket.url, seed=1)
    other.run(replan=True)
    with pytest.raises(PlanError, match="another request made"):
        job.run()
    job_of("video", world, tmp_path / "clean", seed=1).run()
    assert_settled(bucket, tmp_path / "clean")


# Others at the same place


@pytest.mark.parametrize("standing", ["finished", "unfinished"])
@pytest.mark.parametrize("workers", [1, 2])
def test_another_request_is_refused_and_changes_nothing(
    world: Path, bucket: Bucket, standing: str, workers: int
) -> None:
    first = job_of("video", world, bucket.url)
    if standing == "finished":
        first.run()
    else:
        first.run_part(1, 2)
    before = bucket.heads()
    other = job_of("video", world, bucket.url, seed=1)
    with pytest.raises(PlanError, match=r"another request .*--replan"):
        other.run(engine=LocalEngine(workers))
    with pytest.raises(PlanError, match=r"another request .*--replan"):
        other.run_part(2, 2, engine=LocalEngine(workers))
    with pytest.raises(PlanError, match="another request"):
        other.standing()
    assert bucket.heads() == before
    assert bucket.uploads() == []


def test_a_shard_that_another_plan_made_meanwhile_is_not_overwritten(
    world: Path, bucket: Bucket
) -> None:
    theirs: dict[str, Any] = {}

    def others(_entries: int, _bytes: int) -> None:
        if not theirs:
            # As after `--replan` elsewhere.
            job_of("video", world, bucket.url, seed=1).run(replan=True)
            theirs.update(bucket.heads())

    with pytest.raises((StorageError, PlanError), match=r"another (job|request) made"):
        job_of("video", world, bucket.url).run(progress=others)
    after = bucket.heads()
    assert {name: after[name] for name in theirs} == theirs
    assert verify(bucket.url).whole
    assert bucket.uploads() == []


def test_a_shard_that_appears_while_it_is_made_is_not_overwritten(
    world: Path, bucket: Bucket
) -> None:
    made = []

    def others(entries: int, _bytes: int) -> None:
        # Behind the look for what stands there, before the end of the upload.
        names = [f"t/t-{number:06d}.tar" for number in range(5)]
        if entries:
            for name in names:
                if name not in bucket.heads():
                    bucket.put(name, b"of somebody else")
                    made.append(name)

    with pytest.raises(StorageError, match=r"t-000000\.tar: another job made this file"):
        job_of("video", world, bucket.url).run(progress=others)
    assert made
    for name in made:
        assert bucket.read(name) == b"of somebody else"


def test_the_own_shard_that_appears_while_it_is_made_is_no_error(
    world: Path, tmp_path: Path, bucket: Bucket
) -> None:
    """Two runs of one job: whoever comes second finds its own bytes there."""
    job_of("video", world, tmp_path / "clean").run()
    others: list[PackReport] = []

    def look(entries: int, _bytes: int) -> None:
        if entries and not others:
            others.append(job_of("video", world, bucket.url).run())

    report = job_of("video", world, bucket.url).run(progress=look)
    assert others[0].content_digest == report.content_digest
    assert_settled(bucket, tmp_path / "clean")
    assert_described(bucket)


# Large shards, killed jobs

LARGE = [f"j{number}.mp4" for number in range(7)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are no videos, packed unopened: shards of two parts."""
    folder = tmp_path_factory.mktemp("large")
    for number, name in enumerate(LARGE):
        (folder / name).write_bytes(random.Random(number).randbytes(2_600_000 + 1000 * number))
    return folder


def large_options(out: str | Path, large: Path) -> dict[str, Any]:
    return {
        "records": [(name, number) for number, name in enumerate(LARGE)] + [("missing.mp4", 3)],
        "out": str(out),
        "split": "t",
        "media_root": str(large),
        "shard_size": 7_800_000,
    }


def pack_large(out: str | Path, large: Path) -> PackReport:
    options = large_options(out, large)
    records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
    return pack(records, recipe=Recipe(frame_table="none"), **options)


@pytest.fixture(scope="module")
def clean(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run makes of them."""
    out = tmp_path_factory.mktemp("clean")
    assert pack_large(out, large).shards >= 2
    return out


def test_large_shards_go_up_in_parts(large: Path, clean: Path, bucket: Bucket) -> None:
    """With the parts that are the default: the whole one of 16 MiB and the rest."""
    job = large_options(bucket.url, large) | {"shard_size": 10**9}
    records = [VideoRecord(path, (label,)) for path, label in job.pop("records")]
    seen: list[int] = []

    def look(_entries: int, _bytes: int) -> None:
        seen.append(len(bucket.uploads()))

    pack(records, recipe=Recipe(frame_table="none"), progress=look, **job)
    assert max(seen) == 1
    assert bucket.client.head_object(**bucket.target("t/t-000000.tar"))["ETag"].endswith('-2"')
    assert bucket.uploads() == []
    assert_described(bucket)
    assert verify(bucket.url).whole


def run_and_kill(folder: Path, jobs: list[tuple[dict[str, Any], list[Any]]]) -> list[list[int]]:
    """Return, for each job, how each of its processes ended, see s3_killed_packing.py."""
    request = folder / "request.json"
    request.write_text(json.dumps([PART, jobs]))
    done = subprocess.run(
        [sys.executable, SCRIPT, request], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    ends: list[list[int]] = json.loads(done.stdout)
    return ends


def kill_and_go_on(
    folder: Path, large: Path, clean: Path, bucket: Bucket, moments: list[list[Any]]
) -> tuple[int, int]:
    """Kill one job after the other at their moments; each then goes on to its end.

    Returns how many processes were killed, and how many uploads they left.
    """
    expected = files(clean)
    buckets = [replace(bucket, url=f"{bucket.url}/{number}") for number in range(len(moments))]
    jobs = [large_options(one.url, large) for one in buckets]
    ends = run_and_kill(folder, list(zip(jobs, moments, strict=True)))
    assert {end for of_job in ends for end in of_job} <= {0, -signal.SIGKILL}
    killed = sum(of_job.count(-signal.SIGKILL) for of_job in ends)
    left = 0
    for one in buckets:
        left += len(one.uploads())
        final = {name: data for name, data in one.objects().items() if "/.build/" not in name}
        assert final.items() <= expected.items()
    assert run_and_kill(folder, [(job, [None]) for job in jobs]) == [[0]] * len(jobs)
    for one in buckets:
        assert one.objects() == expected
        assert one.uploads() == []
        assert_described(one)
        for name in one.names():
            one.remove(name)
    return killed, left


def test_killed_at_several_moments(
    tmp_path: Path, large: Path, clean: Path, bucket: Bucket
) -> None:
    draw = random.Random(1)
    # Before or behind the n-th request, whose answer is then lost; after so many seconds.
    moments: list[list[Any]] = [[3, -11], [13, -19], [-24, 8, -6], [draw.uniform(0.1, 0.5), 0.2]]
    killed, left = kill_and_go_on(tmp_path, large, clean, bucket, moments)
    assert killed >= 6
    assert left >= 1


@pytest.mark.deep
@pytest.mark.parametrize("first", [1, 16, 31, 46])
def test_killed_at_every_request(
    tmp_path: Path, large: Path, clean: Path, bucket: Bucket, first: int
) -> None:
    moments: list[list[Any]] = [[s * n] for n in range(first, first + 15) for s in (1, -1)]
    killed, _ = kill_and_go_on(tmp_path, large, clean, bucket, moments)
    # A whole run has fewer requests than 60.
    assert (killed == len(moments)) if first < 31 else (killed < len(moments))


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_many_random_moments(
    tmp_path: Path, large: Path, clean: Path, bucket: Bucket, seed: int
) -> None:
    draw = random.Random(seed)
    moments: list[list[Any]] = [[draw.uniform(0.02, 0.9) for _ in range(3)] for _ in range(12)]
    killed, left = kill_and_go_on(tmp_path, large, clean, bucket, moments)
    assert killed >= 15
    assert left >= 1


def command_of(large: Path, out: str, listed: Path) -> list[str]:
    listed.write_text("".join(f"{name} {number}\n" for number, name in enumerate(LARGE)))
    return [
        *(sys.executable, str(SCRIPT), "command", str(PART)),
        *("pack", "video", str(listed), "--media-root", str(large), "--out", out, "--split", "t"),
        *("--frame-table", "none", "--shard-size", "7.8MB", "--workers", "2"),
    ]


def kill_commands(
    folder: Path, large: Path, bucket: Bucket, draw: random.Random, *, rounds: int
) -> int:
    """Kill the command line with two workers, several times a round; return how often."""
    listed = folder / "list.txt"
    subprocess.run(command_of(large, str(folder / "clean"), listed), check=True, timeout=120)
    killed = 0
    for number in range(rounds):
        one = replace(bucket, url=f"{bucket.url}/{number}")
        command = command_of(large, one.url, listed)
        for _ in range(2):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(0.6, 2.6))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert_settled(one, folder / "clean")
    return killed


@pytest.mark.deep
def test_commands_with_workers_killed_often(tmp_path: Path, large: Path, bucket: Bucket) -> None:
    assert kill_commands(tmp_path, large, bucket, random.Random(1), rounds=15) >= 15


def run_together(folder: Path, large: Path, bucket: Bucket, *, rounds: int) -> list[Bucket]:
    """Pack twice at once, at one location after the other."""
    buckets = [replace(bucket, url=f"{bucket.url}/{number}") for number in range(rounds)]
    request = folder / "together.json"
    request.write_text(json.dumps([PART, [large_options(one.url, large) for one in buckets]]))
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, "together", request, str(number)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
    return buckets


def check_together(folder: Path, large: Path, clean: Path, bucket: Bucket, *, rounds: int) -> None:
    for one in run_together(folder, large, bucket, rounds=rounds):
        assert_settled(one, clean)
        assert_described(one)


def test_two_runs_of_one_job_at_once_end_well(
    tmp_path: Path, large: Path, clean: Path, bucket: Bucket
) -> None:
    check_together(tmp_path, large, clean, bucket, rounds=2)


@pytest.mark.deep
def test_two_runs_of_one_job_at_once_end_well_many_times(
    tmp_path: Path, large: Path, clean: Path, bucket: Bucket
) -> None:
    check_together(tmp_path, large, clean, bucket, rounds=40)


def test_a_job_that_is_interrupted_leaves_no_upload(
    large: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_put, "_PART", PART)
    begun: list[str] = []

    def stop(entries: int, _bytes: int) -> None:
        begun.extend(bucket.uploads())
        if begun:
            raise KeyboardInterrupt

    options = large_options(bucket.url, large)
    records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
    with pytest.raises(KeyboardInterrupt):
        pack(records, recipe=Recipe(frame_table="none"), progress=stop, **options)
    assert begun
    assert bucket.uploads() == []
    assert [name for name in bucket.names() if "/run-" in name] == []
