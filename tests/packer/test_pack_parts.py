"""Packing in parts, as a job array does: any order, any process, and one end for all."""

import json
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from pack_inputs import skeletons, videos
from PIL import Image

from clipshards.packer import (
    AvaCsv,
    FormatError,
    FrameRange,
    LocalEngine,
    NotFoundError,
    Packing,
    PlanError,
    RawframesRecord,
    Recipe,
    RejectsError,
    VideoRecord,
    finish,
    finish_split,
    pack,
    standing,
    status,
)
from clipshards.packer.format.rejects import decode_rejects
from clipshards.packer.status import read_status
from clipshards.packer.storage.local import LocalStorage
from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]

JUNK = [VideoRecord(f"j{number:02d}.mp4", (number,)) for number in range(20)]
# Of junk, which is packed unopened: 4 shards.
OPTIONS: dict[str, Any] = {
    "split": "train",
    "recipe": Recipe(frame_table="none"),
    "shard_size": 300_000,
}


def junk_job(out: Path, junk: Path, records: Any = JUNK, **options: Any) -> Packing:
    return Packing(records, out, **(OPTIONS | {"media_root": junk} | options))


def make_parts(job: Callable[[], Packing], parts: int, *, workers: int = 1) -> None:
    """Make all parts, each by a job of its own."""
    for part in range(1, parts + 1):
        job().run_part(part, parts, engine=LocalEngine(workers))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos 0.mp4 to 11.mp4, of frames and with a list of moments: look, do not write."""
    folder = tmp_path_factory.mktemp("world")
    for number in range(12):
        data = makers.video_bytes(size=(64, 48), frames=20 + number, seed=number)
        (folder / f"{number}.mp4").write_bytes(data)
        (folder / f"f{number}").mkdir()
        for place, picture in enumerate(makers.pictures(4, (48, 32), seed=number)):
            Image.fromarray(picture).save(folder / f"f{number}" / f"img_{place + 1:05}.jpg")
    (folder / "broken.mp4").write_bytes(b"no video")
    box = "0.1,0.1,0.5,0.5"
    rows = [f"{video}.mp4,{n},{box},1,0" for video in range(4) for n in (3, 9, 15)]
    # The third row of a video that is no video; one without proposals; one to be left out.
    rows += [f"broken.mp4,3,{box},1,0", f"5.mp4,4,{box},2,1", f"5.mp4,9,{box},2,1"]
    (folder / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    (folder / "exclude.csv").write_text("5.mp4,9\n1.mp4,9\n")
    found = {f"{video}.mp4,{n:04d}": np.ones((1, 5)) for video in range(4) for n in (3, 9, 15)}
    (folder / "proposals.pkl").write_bytes(pickle.dumps(found))
    return folder


def folders() -> list[RawframesRecord]:
    stretches = [FrameRange(total_frames=4, labels=(number % 3,)) for number in range(12)]
    return [
        RawframesRecord(folder=f"f{number}", ranges=(stretch,))
        for number, stretch in enumerate(stretches)
    ]


def moments(world: Path, **options: Any) -> AvaCsv:
    given: dict[str, Any] = {"fps": 1, "timestamp_start": 0, "timestamp_end": None}
    return AvaCsv(world / "a.csv", clip_frames=6, **(given | options))


def job_of(task: str, world: Path, out: Path) -> Packing:
    make: dict[str, Callable[[], Any]] = {
        "video": videos,
        "remux": videos,
        "skeleton": skeletons,
        "ava": lambda: moments(world),
        "rawframes": folders,
    }
    size = {"skeleton": 15_000, "ava": 30_000, "rawframes": 8_000}.get(task, 70_000)
    recipe = Recipe(media="remux") if task == "remux" else Recipe()
    return Packing(make[task](), out, split="t", media_root=world, shard_size=size, recipe=recipe)


@pytest.mark.parametrize("task", ["video", "remux", "skeleton", "ava", "rawframes"])
def test_parts_in_any_order_give_the_tree_of_one_run(
    task: str, tmp_path: Path, world: Path, tree: Tree
) -> None:
    clean = job_of(task, world, tmp_path / "clean").run()
    assert clean.shards > 3
    draw = random.Random(task)
    turns = [1, 2, 3, draw.randrange(1, 4), draw.randrange(1, 4)]
    draw.shuffle(turns)
    made = 0
    for part in turns:
        # Two processes for the first: spawning them is what takes long here.
        engine = LocalEngine(1 if made else 2)
        report = job_of(task, world, tmp_path / "out").run_part(part, 3, engine=engine)
        assert report.shards == len(range(part - 1, clean.shards, 3))
        assert (report.part, report.parts) == (part, 3)
        made += report.shards_made
    assert made == clean.shards
    assert report.missing == ()
    assert not (tmp_path / "out" / "t" / "manifest.json").exists()
    done = finish_split(tmp_path / "out", split="t")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert done.shards_made == 0
    assert replace(done, location="", shards_made=0) == replace(clean, location="", shards_made=0)
    assert verify(tmp_path / "out").whole


def test_part_tells_what_it_has_and_what_is_missing(tmp_path: Path, junk: Path) -> None:
    (junk / "j07.mp4").unlink()
    whole = junk_job(tmp_path / "whole", junk).run()
    reports = [junk_job(tmp_path / "out", junk).run_part(part, 3) for part in (3, 1, 2)]
    names = [f"train-{number:06d}.tar" for number in range(whole.shards)]
    assert whole.shards >= 4
    assert [report.missing for report in reports] == [
        tuple(name for number, name in enumerate(names) if number % 3 in still)
        for still in ((0, 1), (1,), ())
    ]
    assert sum(report.bytes for report in reports) == whole.bytes
    assert sorted(row.id for report in reports for row in report.rejects) == ["j07.mp4"]
    assert all(report.shards == report.shards_made for report in reports)


def test_more_parts_than_shards(tmp_path: Path, junk: Path, tree: Tree) -> None:
    whole = junk_job(tmp_path / "whole", junk).run()
    for part in (9, 1, 8, 2, 7, 3, 6, 4, 5):
        report = junk_job(tmp_path / "out", junk).run_part(part, 9)
        assert report.shards == (part <= whole.shards)
    finish_split(tmp_path / "out", split="train")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_parts_and_a_plain_run_may_take_turns(tmp_path: Path, junk: Path, tree: Tree) -> None:
    whole = junk_job(tmp_path / "whole", junk).run()
    first = junk_job(tmp_path / "out", junk).run_part(2, 2)
    # Another number of parts is another way to share the same shards.
    second = junk_job(tmp_path / "out", junk).run_part(2, 3)
    report = junk_job(tmp_path / "out", junk).run()
    assert report.shards_made == whole.shards - first.shards_made - second.shards_made
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# Makes part K of 3 in one folder after the other, each begun in the instant in which both of
# two processes have come to it.
TOGETHER = """
import json, sys, time
from pathlib import Path
from clipshards.packer import Packing, Recipe, VideoRecord

part, place, media, names, rounds, options = json.loads(sys.argv[1])
records = [VideoRecord(name, (number,)) for number, name in enumerate(names)]
deadline = time.monotonic() + 60
for number in range(rounds):
    job = Packing(records, f"{place}/out-{number}", media_root=media,
                  recipe=Recipe(frame_table="none"), **options)
    Path(place, f"ready-{number}-{part}").touch()
    while not all(Path(place, f"ready-{number}-{n}").exists() for n in (1, 2)):
        if time.monotonic() > deadline:
            sys.exit("nobody else came")
    job.run_part(part, 3)
"""


def test_two_parts_that_start_in_the_same_instant_share_one_plan(
    tmp_path: Path, junk: Path, tree: Tree
) -> None:
    junk_job(tmp_path / "clean", junk).run()
    rounds = 12
    given = {name: value for name, value in OPTIONS.items() if name != "recipe"}
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", TOGETHER),
                json.dumps([part, str(tmp_path), str(junk), [r.path for r in JUNK], rounds, given]),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in (1, 2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    clean = tree(tmp_path / "clean")
    for number in range(rounds):
        out = tmp_path / f"out-{number}"
        assert len(junk_job(out, junk).run_part(3, 3).missing) == 0
        finish_split(out, split="train")
        assert tree(out) == clean


def test_plan_and_shard_that_come_between_two_looks_are_no_strays(
    tmp_path: Path, junk: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    junk_job(tmp_path / "clean", junk).run()
    look = LocalStorage.sizes
    others: list[int] = []

    def sizes(storage: LocalStorage, folder: str) -> dict[str, int]:
        # Behind the look for a plan: the other part begins now, and makes its shards.
        if not others:
            others.append(1)
            junk_job(tmp_path / "out", junk).run_part(1, 2)
        return look(storage, folder)

    monkeypatch.setattr(LocalStorage, "sizes", sizes)
    junk_job(tmp_path / "out", junk).run_part(2, 2)
    assert others
    finish_split(tmp_path / "out", split="train")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_run_that_ends_between_two_looks_is_the_end_of_both(
    tmp_path: Path, junk: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = junk_job(tmp_path / "clean", junk).run()
    look = LocalStorage.sizes
    others: list[int] = []

    def sizes(storage: LocalStorage, folder: str) -> dict[str, int]:
        if not others:
            others.append(1)
            junk_job(tmp_path / "out", junk).run()
        return look(storage, folder)

    monkeypatch.setattr(LocalStorage, "sizes", sizes)
    report = junk_job(tmp_path / "out", junk).run()
    assert others
    assert (report.shards_made, report.content_digest) == (0, whole.content_digest)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_finishing_too_early_names_what_is_missing_and_changes_nothing(
    tmp_path: Path, junk: Path, tree: Tree
) -> None:
    out = tmp_path / "out"
    whole = junk_job(tmp_path / "whole", junk).run()
    missing = junk_job(out, junk).run_part(1, 3).missing
    assert 0 < len(missing) <= 3 < whole.shards
    before = tree(out)
    with pytest.raises(PlanError, match="shards are not made yet") as caught:
        finish_split(out, split="train")
    assert f"{len(missing)} of {whole.shards} shards" in str(caught.value)
    assert all(name in str(caught.value) for name in missing)
    assert tree(out) == before


def test_finishing_too_early_names_a_few_of_many(tmp_path: Path, junk: Path) -> None:
    missing = junk_job(tmp_path / "out", junk, shard_size=20_000).run_part(1, 20).missing
    with pytest.raises(PlanError) as caught:
        finish_split(tmp_path / "out", split="train")
    assert len(missing) > 10
    assert f"{missing[2]} and {len(missing) - 3} more; run the parts" in str(caught.value)


def test_finishing_twice_is_safe(tmp_path: Path, junk: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    (junk / "j07.mp4").unlink()
    make_parts(lambda: junk_job(out, junk), 2)
    first = finish_split(out, split="train")
    before = tree(out)
    second = finish_split(out, split="train")
    assert tree(out) == before
    assert second == first
    assert [row.id for row in second.rejects] == ["j07.mp4"]


@pytest.mark.parametrize("there", ["no folder", "an empty folder", "another split"])
def test_finishing_nothing_is_told_so(tmp_path: Path, junk: Path, there: str) -> None:
    out = tmp_path / "out"
    if there == "an empty folder":
        out.mkdir()
    elif there == "another split":
        junk_job(out, junk, split="val").run()
    with pytest.raises(NotFoundError, match="/out/train: no split and no plan of one"):
        finish_split(out, split="train")
    assert out.exists() == (there != "no folder")


def test_split_whose_name_is_none_cannot_be_finished(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split '\.\./x'"):
        finish_split(tmp_path, split="../x")


class TestMending:
    """Too many rejects at the end of all parts, and the way on from there."""

    BROKEN = (1, 4, 6)

    def job(self, media: Path, out: Path) -> Packing:
        records = [VideoRecord(f"v{number}.mp4", (number,)) for number in range(8)]
        return Packing(records, out, split="t", media_root=media, shard_size=20_000)

    def fail(self, media: Path, out: Path) -> dict[int, bytes]:
        """Break videos, make all parts and try to finish; return the videos as they were."""
        whole = {number: (media / f"v{number}.mp4").read_bytes() for number in self.BROKEN}
        for number, data in whole.items():
            # As long as before: the plan is made of sizes.
            (media / f"v{number}.mp4").write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
        make_parts(lambda: self.job(media, out), 3)
        with pytest.raises(RejectsError, match="3 of 8 entries cannot be packed, 2 may") as caught:
            finish_split(out, split="t", max_rejects=2)
        assert not (out / "t" / "manifest.json").exists()
        rows = decode_rejects((out / "t" / "rejects.jsonl").read_bytes(), where="rejects")
        assert tuple(row.ordinal for row in rows) == self.BROKEN
        assert tuple(caught.value.rejects) == tuple(rows)
        return whole

    def mend(self, media: Path, whole: dict[int, bytes], *numbers: int) -> None:
        for number in numbers:
            (media / f"v{number}.mp4").write_bytes(whole[number])

    def test_parts_again_after_mending_give_the_clean_tree(
        self, tmp_path: Path, media: Path, tree: Tree
    ) -> None:
        out = tmp_path / "out"
        self.job(media, tmp_path / "clean").run()
        self.mend(media, self.fail(media, out), *self.BROKEN)
        times = {file: file.stat().st_mtime_ns for file in out.rglob("*.tar")}
        make_parts(lambda: self.job(media, out), 3)
        kept = [file for file, time in times.items() if file.stat().st_mtime_ns == time]
        assert 0 < len(kept) < len(times)
        assert finish_split(out, split="t", max_rejects=2).rejects == ()
        assert tree(out) == tree(tmp_path / "clean")

    def test_another_number_of_parts_mends_as_well(
        self, tmp_path: Path, media: Path, tree: Tree
    ) -> None:
        out = tmp_path / "out"
        self.job(media, tmp_path / "clean").run()
        self.mend(media, self.fail(media, out), *self.BROKEN)
        make_parts(lambda: self.job(media, out), 2)
        finish_split(out, split="t")
        assert tree(out) == tree(tmp_path / "clean")

    def test_what_is_still_broken_is_rejected_again(self, tmp_path: Path, media: Path) -> None:
        out = tmp_path / "out"
        whole = self.fail(media, out)
        self.mend(media, whole, 4)
        make_parts(lambda: self.job(media, out), 3)
        with pytest.raises(RejectsError, match="2 of 8"):
            finish_split(out, split="t", max_rejects=0)
        report = finish_split(out, split="t", max_rejects=2)
        assert [row.id for row in report.rejects] == ["v1.mp4", "v6.mp4"]
        assert report.packed == 6
        assert verify(out).whole

    def test_more_rejects_may_be_allowed_instead(
        self, tmp_path: Path, media: Path, tree: Tree
    ) -> None:
        out = tmp_path / "out"
        self.fail(media, out)
        report = finish_split(out, split="t", max_rejects=3)
        assert report.packed == 5
        self.job(media, tmp_path / "clean").run()
        assert tree(out) == tree(tmp_path / "clean")


def test_split_of_nothing_but_rejects_is_not_finished(tmp_path: Path, junk: Path) -> None:
    records = [VideoRecord(f"gone{number}.mp4", (0,)) for number in range(3)]
    make_parts(lambda: junk_job(tmp_path / "out", junk, records), 2)
    with pytest.raises(RejectsError, match="none of the 3 entries can be packed"):
        finish_split(tmp_path / "out", split="train", max_rejects=100)


def test_part_of_a_finished_split_finds_all_done(tmp_path: Path, junk: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    whole = junk_job(out, junk).run()
    before = tree(out)
    report = junk_job(out, junk).run_part(2, 3)
    assert (report.shards_made, report.missing) == (0, ())
    assert report.shards == len(range(1, whole.shards, 3))
    assert tree(out) == before


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"seed": 1}, "order: planned 'shuffled, seed 0', now 'shuffled, seed 1'"),
        ({"shard_size": 300_001}, "shard_size: planned 300000, now 300001"),
        ({"recipe": Recipe()}, "recipe"),
        ({"records": JUNK[:-1]}, "the entries of the annotation"),
    ],
    ids=["seed", "size", "recipe", "entries"],
)
def test_part_of_another_request_is_refused_with_the_difference(
    tmp_path: Path, junk: Path, tree: Tree, other: dict[str, Any], says: str
) -> None:
    out = tmp_path / "out"
    junk_job(out, junk).run_part(1, 3)
    before = tree(out)
    with pytest.raises(PlanError, match="an unfinished plan of another request") as caught:
        junk_job(out, junk, **other).run_part(2, 3)
    assert f"({says}" in str(caught.value)
    assert tree(out) == before
    make_parts(lambda: junk_job(out, junk), 3)
    finish_split(out, split="train")
    before = tree(out)
    with pytest.raises(PlanError, match="a split that another request made stands here"):
        junk_job(out, junk, **other).run_part(2, 3)
    assert tree(out) == before


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"rejects": [', b"\xff\xfe", b"[1]"])
@pytest.mark.parametrize("pattern", ["plan.json", "notes-*.json", "train-000001.tar.json"])
def test_damaged_file_of_the_job_is_named(
    tmp_path: Path, junk: Path, pattern: str, damage: bytes
) -> None:
    out = tmp_path / "out"
    make_parts(lambda: junk_job(out, junk), 2)
    (file,) = (out / "train" / ".build").glob(pattern)
    file.write_bytes(damage)
    name = file.name.replace(".", r"\.")
    with pytest.raises(FormatError, match=rf"train/\.build/{name}: "):
        finish_split(out, split="train")
    with pytest.raises(FormatError, match=rf"train/\.build/{name}: "):
        junk_job(out, junk).run()
    assert not (out / "train" / "manifest.json").exists()


def test_shard_cut_short_behind_its_receipt_is_made_again(
    tmp_path: Path, junk: Path, tree: Tree
) -> None:
    out = tmp_path / "out"
    junk_job(tmp_path / "clean", junk).run()
    make_parts(lambda: junk_job(out, junk), 2)
    shard = out / "train" / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(PlanError, match=r"1 of \d shards are not made yet: train-000001\.tar"):
        finish_split(out, split="train")
    assert junk_job(out, junk).run_part(1, 2).shards_made == 0
    assert junk_job(out, junk).run_part(2, 2).shards_made == 1
    finish_split(out, split="train")
    assert tree(out) == tree(tmp_path / "clean")


@pytest.mark.parametrize(("part", "parts"), [(4, 3), (0, 3), (-1, 3), (1, 0)])
def test_part_that_is_none_is_refused(tmp_path: Path, junk: Path, part: int, parts: int) -> None:
    with pytest.raises(ValueError, match=rf"part {part}/{parts}: expected 1/N to N/N"):
        junk_job(tmp_path / "out", junk).run_part(part, parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", [LocalEngine(1), LocalEngine(2)], ids=["1", "2"])
def test_notes_of_the_annotation_come_through_to_the_end(
    tmp_path: Path, world: Path, tree: Tree, engine: LocalEngine
) -> None:
    def records() -> AvaCsv:
        proposals = world / "proposals.pkl"
        return moments(world, exclude=world / "exclude.csv", proposals=proposals, group="video")

    options: dict[str, Any] = {"split": "t", "media_root": world, "shard_size": 30_000}
    clean = pack(records(), tmp_path / "clean", **options)
    assert clean.excluded == {"exclude": 2}
    assert clean.rejects
    assert clean.warnings
    for part in (2, 1):
        report = Packing(records(), tmp_path / "out", **options).run_part(part, 2, engine=engine)
    assert report.missing == ()
    done = finish_split(tmp_path / "out", split="t")
    assert replace(done, location="", shards_made=0) == replace(clean, location="", shards_made=0)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def clipshards(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "clipshards.tools.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class TestCommandLine:
    """`pack --part` and `finish`."""

    @pytest.fixture
    def command(self, tmp_path: Path, junk: Path) -> Sequence[object]:
        lines = "".join(f"{record.path} {record.labels[0]}\n" for record in JUNK)
        (tmp_path / "list.txt").write_text(lines)
        return (
            *("pack", "video", tmp_path / "list.txt", "--media-root", junk, "--split", "train"),
            *("--frame-table", "none", "--shard-size", "300kB", "--workers", "1"),
        )

    def test_parts_and_finish(
        self, tmp_path: Path, junk: Path, tree: Tree, command: Sequence[object]
    ) -> None:
        out = tmp_path / "out"
        (junk / "j07.mp4").unlink()
        assert clipshards(*command, "--out", tmp_path / "clean").returncode == 1
        first = clipshards(*command, "--out", out, "--part", "2/2")
        assert first.stdout.startswith("part 2/2: 2 of 2 shards made in ")
        assert first.stdout.endswith("  2 shards of other parts to come\n")
        early = clipshards("finish", out, "--split", "train")
        assert (early.returncode, early.stdout) == (2, "")
        assert "2 of 4 shards are not made yet" in early.stderr
        second = clipshards(*command, "--out", out, "--part", "1/2", "--json")
        report = json.loads(second.stdout)
        assert (report["shards"], report["missing"]) == (2, [])
        # What a reject means is for `finish` to say.
        assert (first.returncode, second.returncode) == (0, 0)
        assert bool(report["rejects"]) != ("cannot be packed" in first.stdout)
        third = clipshards(*command, "--out", out, "--part", "1/2")
        assert third.stdout.startswith("part 1/2: 0 of 2 shards made in ")
        assert third.returncode == second.returncode
        assert third.stdout.endswith(f"next: clipshards finish {out} --split train\n")
        done = clipshards("finish", out, "--split", "train")
        assert done.returncode == 1
        assert "19 of 20 entries" in done.stdout
        assert tree(out) == tree(tmp_path / "clean")
        again = clipshards("finish", out, "--split", "train", "--json")
        assert again.returncode == 1
        assert json.loads(again.stdout)["packed"] == 19

    @pytest.mark.parametrize("part", ["4/3", "0/3", "1", "1/", "/3", "a/b", "1/3/5", "-1/3", "²/3"])
    def test_part_that_is_none_is_wrong_use(
        self, tmp_path: Path, command: Sequence[object], run: Any, part: str
    ) -> None:
        code, out, err = run(*command, "--out", tmp_path / "out", f"--part={part}")
        assert (code, out) == (2, "")
        assert f"expected a part as 2/5, counted from 1, got {part!r}" in err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("other", ["--replan", "--retry-rejects", "--repair"])
    def test_part_does_not_go_with_starting_over(
        self, tmp_path: Path, command: Sequence[object], run: Any, other: str
    ) -> None:
        code, out, err = run(*command, "--out", tmp_path / "out", "--part", "1/2", other)
        assert (code, out) == (2, "")
        assert "--part: --replan, --retry-rejects and --repair are of all parts at once" in err

    def test_finish_of_nothing_is_wrong_use(self, tmp_path: Path, run: Any) -> None:
        code, out, err = run("finish", tmp_path / "nowhere", "--split", "train")
        assert (code, out) == (2, "")
        assert "no split and no plan of one stands here" in err

    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
        """Run the command line in this process; return exit code, standard output and error."""
        from clipshards.tools.cli import main

        def run(*arguments: object) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["clipshards", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
            out, err = capsys.readouterr()
            code = ended.value.code
            return code if isinstance(code, int) else 0, out, err

        return run


def test_the_manifest_of_another_split_is_not_taken_for_this_one(
    world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job_of("skeleton", world, out).run()
    shutil.copytree(out / "t", out / "val")
    (out / "t" / "manifest.json").unlink()
    (out / "t" / ".build").mkdir()
    says = "the manifest of split 't' stands in the folder of 'val'"
    with pytest.raises(FormatError, match=says):
        finish_split(out, split="val")
    with pytest.raises(FormatError, match=says):
        read_status(out, split="val")
    assert (out / "t" / ".build").exists(), "the build folder of another split went"


def test_what_ends_between_two_looks_is_finished(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    digest = job_of("skeleton", world, tmp_path / "clean").run().content_digest
    look = standing.stored_manifest
    asks: list[Callable[[], str]] = [
        lambda: finish_split(out, split="t").content_digest,
        lambda: digest if read_status(out, split="t").state == "finished" else "",
    ]
    for ask in asks:
        job_of("skeleton", world, out).run_part(1, 1)
        looks: list[int] = []

        def late(storage: Any, split: str, looks: list[int] = looks) -> Any:
            looks.append(1)
            if len(looks) > 1:
                return look(storage, split)
            # Somebody else finishes the split behind this look.
            monkeypatch.setattr(finish, "stored_manifest", look)
            finish_split(out, split="t")
            monkeypatch.setattr(finish, "stored_manifest", late)
            return None

        monkeypatch.setattr(finish, "stored_manifest", late)
        monkeypatch.setattr(status, "stored_manifest", late)
        assert ask() == digest
        monkeypatch.undo()
        shutil.rmtree(out)


@pytest.mark.parametrize("max_rejects", [-1, "x"])
def test_limits_that_are_none_are_refused(world: Path, tmp_path: Path, max_rejects: Any) -> None:
    job_of("skeleton", world, tmp_path / "out").run_part(1, 1)
    with pytest.raises((TypeError, ValueError), match="max_rejects"):
        finish_split(tmp_path / "out", split="t", max_rejects=max_rejects)
