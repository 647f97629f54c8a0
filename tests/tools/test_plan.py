"""`clipshards plan`: what a pack command would make, and nothing written."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from PIL import Image

from clipshards.readers.opening import open_dataset
from clipshards.tools.pack import pack as pack_group
from clipshards.tools.pack_options import RUN_ONLY

Run = Callable[..., tuple[int, str, str]]

FORMATS = ("video", "rawframes", "skeleton", "audio", "ava", "activitynet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations and media of all formats: look, do not write."""
    root = tmp_path_factory.mktemp("world")
    for number in range(6):
        data = makers.video_bytes(frames=60, size=(64, 48), seed=number, options={"g": "10"})
        (root / f"{number}.mp4").write_bytes(data)
        np.save(root / f"{number}.npy", np.full((4, 80), number, np.float32))
        (root / f"{number}.csv").write_text(f"x,y\n1,2\n3,{number}\n")
        (root / f"f{number}").mkdir()
        for place, picture in enumerate(makers.pictures(4, (48, 32), seed=number)):
            Image.fromarray(picture).save(root / f"f{number}" / f"img_{place + 1:05}.jpg")
    lines = {
        "video": [f"{number}.mp4 {number}" for number in range(6)],
        "rawframes": [f"f{number} 4 {number}" for number in range(6)],
        "audio": [f"{number}.npy 10 {number}" for number in range(6)],
        "ava": [f"{n}.mp4,{t},0.1,0.2,0.3,0.4,1,0" for n in range(6) for t in (900, 901)],
        "broken": ["0.mp4 0", "gone.mp4 1", "1.mp4 2", "f0 3"],
        "gone": ["gone.mp4 0", "away.mp4 1"],
        "unreadable": ["0.mp4 0", *(f"{number}.mp4" for number in range(12))],
    }
    for name, rows in lines.items():
        (root / f"{name}.list").write_text("".join(f"{row}\n" for row in rows))
    entry = {"duration_second": 2.4, "duration_frame": 60, "feature_frame": 60}
    labelled = entry | {"annotations": [{"segment": [0.5, 1.5], "label": "run"}]}
    videos = {str(number): labelled for number in range(6)}
    (root / "activitynet.list").write_text(json.dumps(videos))
    poses = [
        {
            "frame_dir": f"p{number}",
            "label": number,
            "total_frames": 3,
            "keypoint": np.full((1, 3, 5, 2), number, np.float32),
        }
        for number in range(6)
    ]
    (root / "skeleton.list").write_bytes(pickle.dumps(poses))
    return root


@pytest.fixture
def command(run: Run, world: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `plan` or `pack` of a format with these options."""

    def command(
        verb: str, name: str, *options: object, annotation: str = ""
    ) -> tuple[int, str, str]:
        more = ("--timestamp-start", "900") if name == "ava" else ()
        return run(
            *(verb, name, world / f"{annotation or name}.list", "--media-root", world),
            *("--out", tmp_path / "out", "--split", "train", *more, *options),
        )

    return command


Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", FORMATS)
def test_plan_of_each_format_writes_nothing(
    command: Command, tmp_path: Path, world: Path, name: str
) -> None:
    before = {file: file.stat().st_mtime_ns for file in sorted(world.rglob("*"))}
    code, out, err = command("plan", name)
    assert (code, err) == (0, "")
    samples = 12 if name == "ava" else 6
    assert out.startswith(f"{samples} samples in 1 shard\n")
    assert re.search(r"^  media +\d", out, re.M)
    assert re.search(r"^  size +about \d", out, re.M)
    assert re.search(r"^  time +about .* with 1 worker, storage not counted$", out, re.M)
    assert re.search(rf"^  tried +{samples} samples$", out, re.M)
    assert "there: nothing of this split" in out
    assert not (tmp_path / "out").exists()
    assert {file: file.stat().st_mtime_ns for file in sorted(world.rglob("*"))} == before
    # And the command that it speaks of makes what it says.
    assert command("pack", name)[0] == 0
    split = open_dataset(tmp_path / "out")
    assert (len(split.manifest.shards), split.manifest.samples) == (1, samples)


@pytest.mark.parametrize("name", FORMATS)
def test_json_of_each_format_has_the_same_keys(command: Command, tmp_path: Path, name: str) -> None:
    code, out, err = command("plan", name, "--json")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan.keys() == {
        *("samples", "shards", "bytes", "media_bytes", "source_bytes", "warnings"),
        *("rejects", "excluded", "annotation_warnings", "estimate", "standing"),
    }
    assert plan["estimate"].keys() == {"tried", "rejects", "bytes", "seconds"}
    assert plan["estimate"]["tried"] == plan["samples"]
    assert plan["estimate"]["seconds"] > 0
    assert plan["standing"] is None
    assert not (tmp_path / "out").exists()


def test_estimate_is_near_the_size_that_comes_out(
    run: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    # More than are tried.
    (tmp_path / "list.txt").write_text(media_root.annotation.read_text() * 5)
    options = (
        *("video", tmp_path / "list.txt", "--media-root", media_root.root),
        *("--out", tmp_path / "out", "--split", "train", "--shard-size", "100kB", "--json"),
    )
    plan = json.loads(run("plan", *options)[1])
    assert (plan["samples"], plan["estimate"]["tried"]) == (80, 50)
    report = json.loads(run("pack", *options)[1])
    assert report["bytes"] / 2 < plan["estimate"]["bytes"] < report["bytes"] * 2
    assert plan["shards"] == report["shards"] > 3
    files = (media_root.root / path for path in media_root.paths)
    assert plan["media_bytes"] == 5 * sum(file.stat().st_size for file in files)


def test_rejects_among_the_tried_are_shown_and_end_with_1(command: Command, tmp_path: Path) -> None:
    code, out, err = command("plan", "video", annotation="broken")
    assert (code, err) == (1, "")
    assert re.search(r"^  tried +4 samples, 2 of them cannot be packed:$", out, re.M)
    assert re.search(r"^    broken\.list:2: 'gone\.mp4': no such file", out, re.M)
    assert re.search(r"^    broken\.list:4: 'f0': ", out, re.M)
    assert re.search(r"^  size +about ", out, re.M)
    code, out, err = command("plan", "video", "--json", annotation="broken")
    assert (code, err) == (1, "")
    assert sorted(row[0] for row in json.loads(out)["estimate"]["rejects"]) == [
        "broken.list:2",
        "broken.list:4",
    ]
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_packed_has_no_size(command: Command, tmp_path: Path) -> None:
    code, out, err = command("plan", "video", annotation="gone")
    assert (code, err) == (1, "")
    assert "2 of them cannot be packed" in out
    assert not re.search(r"^  (size|time) ", out, re.M)
    assert not (tmp_path / "out").exists()


def test_annotation_with_too_many_bad_lines_ends_with_1(command: Command, tmp_path: Path) -> None:
    code, out, err = command("plan", "video", annotation="unreadable")
    assert code == 1
    assert "12 of 13 entries cannot be packed" in err
    assert "unreadable.list:2: " in out
    code, out, _ = command("plan", "video", "--json", annotation="unreadable")
    assert (code, len(json.loads(out)["rejects"])) == (1, 12)
    assert not (tmp_path / "out").exists()


def test_job_that_stands_there_is_told(command: Command, tmp_path: Path) -> None:
    sizes = ("--shard-size", "60kB")
    assert command("pack", "video", *sizes, "--part", "1/2")[0] == 0
    before = tree(tmp_path / "out")
    code, out, err = command("plan", "video", *sizes)
    assert (code, err) == (0, "")
    found = re.search(r"^there: this very job, stopped, (\d) of (\d) shards made$", out, re.M)
    assert found
    assert 0 < int(found[1]) < int(found[2])
    standing = json.loads(command("plan", "video", *sizes, "--json")[1])["standing"]
    assert (standing["state"], standing["shards_made"]) == ("stopped", int(found[1]))
    assert tree(tmp_path / "out") == before
    assert command("pack", "video", *sizes)[0] == 0
    before = tree(tmp_path / "out")
    assert "there: this very job, finished, " in command("plan", "video", *sizes)[1]
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
def test_job_of_another_request_ends_with_2(
    command: Command, tmp_path: Path, finished: bool
) -> None:
    part = () if finished else ("--part", "1/2")
    assert command("pack", "video", *part)[0] == 0
    before = tree(tmp_path / "out")
    code, out, err = command("plan", "video", "--seed", 1)
    assert (code, out) == (2, "")
    assert "another request" in err
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("name", FORMATS)
def test_help_speaks_of_planning(run: Run, name: str) -> None:
    code, out, err = run("plan", name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: clipshards plan {name} [OPTIONS] ANNOTATION\n")
    assert "Plan the packing of a" in out
    assert "--replan" not in out
    assert "--shard-size" in out
    assert f"clipshards pack {name} " in run("pack", name, "--help")[1]


def test_help_lists_all_formats(run: Run) -> None:
    code, out, _ = run("plan", "--help")
    assert code == 0
    assert all(re.search(rf"^  {name} ", out, re.M) for name in pack_group.commands)
    assert set(pack_group.commands) == set(FORMATS)


def test_format_that_is_none_is_refused(run: Run) -> None:
    code, out, err = run("plan", "vidoe", "list.txt")
    assert (code, out) == (2, "")
    assert "No such format 'vidoe'. There are: " in err


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "option",
    ["--engine=local", "--ray-address=x", "--part=1/2", "--replan", "--retry-rejects"],
)
def test_options_of_the_run_are_refused(
    command: Command, tmp_path: Path, name: str, option: str
) -> None:
    code, out, err = command("plan", name, option)
    assert (code, out) == (2, "")
    assert re.search(f"[Nn]o such option.*{option.split('=')[0]}", err)
    assert not (tmp_path / "out").exists()


def test_options_of_the_run_are_those_that_pack_has() -> None:
    for pack_command in pack_group.commands.values():
        assert set(RUN_ONLY) <= {param.name for param in pack_command.params}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "Train"), "split 'Train'"),
        (("--shard-size", "5 apples"), "size '5 apples'"),
        (("--media-root", "nowhere"), "'nowhere' does not exist"),
        (("--multi-label", "--unlabelled"), "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options_end_with_2(
    command: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    code, out, err = command("plan", "video", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_workers_share_the_time(command: Command) -> None:
    sizes = ("--shard-size", "20kB")
    code, out, _ = command("plan", "video", *sizes, "--workers", 3)
    assert code == 0
    assert re.search(r"^  time +about .* with 3 workers, storage not counted$", out, re.M)


def tree(folder: Path) -> dict[str, Any]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_the_annotation_makes_unusable_is_told(run: Run, media_root: makers.MediaRoot) -> None:
    bad = media_root.annotation.with_name("bad.txt")
    bad.write_text(f"{media_root.annotation.read_text()}nothing at all here\n")
    options = ("--media-root", media_root.root, "--out", "out", "--split", "train")
    code, out, _ = run("plan", "video", bad, *options)
    assert code == 1
    assert "rejects  1 by the annotation alone:" in out
    assert "bad.txt:" in out
    assert run("plan", "video", bad, *options, "--max-rejects", 0)[0] == 1
