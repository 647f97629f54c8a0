"""`clipshards copy` and `clipshards compare`: what they print, and their exit codes."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pack_inputs import skeletons
from s3_bucket import Bucket, files
from s3_server import S3Server

from clipshards.packer import Packing, PlanError, pack
from clipshards.readers.opening import open_dataset
from clipshards.tools.cli import cli
from clipshards.tools.compare import compare
from clipshards.tools.copying import copy


def invoke(command: object, *arguments: object) -> Result:
    assert command in (copy, compare)
    name = "copy" if command is copy else "compare"
    return CliRunner().invoke(cli, [name, *map(str, arguments)])


def digest(location: Path, split: str) -> str:
    return open_dataset(location, split=split).manifest.content_digest[:12]


# copy


def test_copy_prints_one_line_and_the_digests(packed: Path, tmp_path: Path) -> None:
    done = invoke(copy, packed, tmp_path / "copy")
    digests = f"train {digest(packed, 'train')}, val {digest(packed, 'val')}"
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("copied: 4 of 4 shards, ")
    assert done.stdout.endswith(f" kB; 0 stood there already ({digests})\n")
    assert files(tmp_path / "copy") == files(packed)
    done = invoke(copy, packed, tmp_path / "copy", "--split", "train")
    assert done.exit_code == 0
    assert done.stdout == (
        f"copied: 0 of 3 shards, 0 B; 3 stood there already (train {digest(packed, 'train')})\n"
    )


def test_copy_to_a_bucket_and_back(
    packed: Path, tmp_path: Path, s3_server: S3Server, s3_location: str
) -> None:
    bucket = Bucket.of(s3_server, s3_location)
    assert invoke(copy, packed, bucket.url).exit_code == 0
    assert bucket.objects() == files(packed)
    assert invoke(copy, bucket.url, tmp_path / "back").exit_code == 0
    assert files(tmp_path / "back") == files(packed)
    assert invoke(compare, packed, bucket.url).exit_code == 0


def test_copy_of_damage_ends_with_1_and_a_line_each(damaged: Path, tmp_path: Path) -> None:
    (damaged / "train" / "train-000002.tar").unlink()
    done = invoke(copy, damaged, tmp_path / "copy")
    assert (done.exit_code, done.stderr) == (1, "")
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "train/train-000001.tar: sha256 of the file is not the manifest's",
        "train/train-000002.tar: missing",
    ]
    assert last.startswith("DAMAGED, 2 files; copied: 2 of 4 shards, ")
    assert last.endswith(f"; 0 stood there already (val {digest(damaged, 'val')})")
    again = invoke(copy, damaged, tmp_path / "copy", "--split", "train")
    assert again.stdout.splitlines()[-1] == (
        "DAMAGED, 2 files; copied: 0 of 3 shards, 0 B; 1 stood there already (no split is whole)"
    )


def test_copy_reports_as_json(packed: Path, damaged: Path, tmp_path: Path) -> None:
    done = invoke(copy, packed, tmp_path / "copy", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report.keys() == {
        *("source", "target", "splits", "unfinished", "damaged", "seconds", "whole"),
    }
    assert (report["whole"], report["damaged"]) == (True, [])
    assert (report["source"], report["target"]) == (str(packed), str(tmp_path / "copy"))
    assert [one["shards_copied"] for one in report["splits"]] == [3, 1]
    done = invoke(copy, damaged, tmp_path / "other", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["whole"] is False
    (one,) = report["damaged"]
    assert (one["split"], one["file"]) == ("train", "train-000001.tar")
    assert [one["finished"] for one in report["splits"]] == [False, True]


def test_copy_names_splits_that_are_not_finished(copied: Path, tmp_path: Path) -> None:
    Packing(skeletons(), copied, split="half").run_part(1, 1)
    done = invoke(copy, copied, tmp_path / "copy")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "half: packing has not ended, it was not copied"
    assert not (tmp_path / "copy/half").exists()


def test_copy_over_another_split_is_refused(packed: Path, tmp_path: Path) -> None:
    pack(skeletons(), tmp_path / "copy", split="val")
    before = files(tmp_path / "copy")
    done = invoke(copy, packed, tmp_path / "copy")
    # The command line makes exit code 2 of it.
    assert isinstance(done.exception, PlanError)
    assert "copy/val: another split stands here" in str(done.exception)
    assert done.stdout == ""
    assert files(tmp_path / "copy") == before
    assert isinstance(invoke(copy, packed, packed).exception, ValueError)


# compare


def test_compare_of_the_same_ends_with_0(packed: Path, copied: Path) -> None:
    done = invoke(compare, packed, copied)
    digests = f"train {digest(packed, 'train')}, val {digest(packed, 'val')}"
    assert (done.exit_code, done.stdout) == (0, f"same: 2 splits ({digests})\n")
    done = invoke(compare, packed, copied, "--split", "val")
    assert (done.exit_code, done.stdout) == (0, f"same: 1 split (val {digest(packed, 'val')})\n")


def test_compare_does_not_read_payloads(packed: Path, damaged: Path) -> None:
    assert invoke(compare, packed, damaged).exit_code == 0
    assert "payload" in invoke(compare, "--help").stdout


def test_compare_prints_a_line_for_each_difference(tmp_path: Path) -> None:
    records = skeletons(12)
    pack(records, tmp_path / "a", split="t", class_names=("x", "y", "z"))
    pack(records, tmp_path / "a", split="only")
    pack(
        [*skeletons(2), records[3], *records[3:], *skeletons(14)[12:]],
        tmp_path / "b",
        split="t",
        class_names=("x", "yy", "z"),
        shard_size=60_000,
    )
    done = invoke(compare, tmp_path / "a", tmp_path / "b")
    assert (done.exit_code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "only: only in A"
    assert lines[1] == (
        f"t: content digest: {digest(tmp_path / 'a', 't')} in A, {digest(tmp_path / 'b', 't')} in B"
    )
    assert "t: accounting.packed: 12 in A, 14 in B" in lines
    assert "t: totals.samples: 12 in A, 14 in B" in lines
    assert "t: class 1: 'y' in A, 'yy' in B" in lines
    assert "t: t-000000.tar: is not the same" in lines
    assert sum(line.endswith("(s12): only in B") for line in lines) == 1
    (changed,) = (line for line in lines if line.startswith("t: t-00000002 (s2 in A, s3 in B): "))
    assert "json of " in changed
    assert "; keypoint.npy of 740 B has another crc32c" in changed
    assert lines[-1] == "DIFFERENT"


def test_compare_tells_that_only_the_cut_differs(tmp_path: Path) -> None:
    pack(skeletons(), tmp_path / "a", split="t", shard_size=25_000)
    pack(skeletons(), tmp_path / "b", split="t", shard_size=60_000)
    done = invoke(compare, tmp_path / "a", tmp_path / "b")
    assert done.exit_code == 1
    *_, words, last = done.stdout.splitlines()
    assert words.startswith("t: the same samples, cut otherwise: ")
    assert last == "DIFFERENT, the samples are the same"


def test_compare_cuts_long_lists_short(tmp_path: Path) -> None:
    pack(skeletons(1), tmp_path / "a", split="t")
    pack(skeletons(60), tmp_path / "b", split="t")
    lines = invoke(compare, tmp_path / "a", tmp_path / "b").stdout.splitlines()
    assert sum("): only in B" in line for line in lines) == 20
    assert "t: ... and 39 more samples" in lines


def test_compare_reports_as_json(packed: Path, copied: Path) -> None:
    done = invoke(compare, packed, copied, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report.keys() == {
        *("a", "b", "only_in_a", "only_in_b", "splits", "same", "same_samples"),
    }
    assert (report["same"], report["same_samples"]) == (True, True)
    assert [one["same"] for one in report["splits"]] == [True, True]
    shutil.rmtree(copied / "val")
    done = invoke(compare, packed, copied, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (report["same"], report["only_in_a"]) == (False, ["val"])


@pytest.mark.parametrize("command", [copy, compare])
def test_two_locations_are_needed(command: object, packed: Path) -> None:
    assert invoke(command, packed).exit_code == 2
    assert invoke(command).exit_code == 2
