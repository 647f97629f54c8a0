import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clipshards.readers.opening import open_dataset

Run = Callable[..., tuple[int, str, str]]


def test_a_whole_data_set_ends_with_0(run: Run, packed: Path) -> None:
    code, out, err = run("verify", packed)
    assert (code, err) == (0, "")
    digests = [
        f"{name} {open_dataset(packed, split=name).manifest.content_digest[:12]}"
        for name in ("train", "val")
    ]
    *warnings, last = out.splitlines()
    # The splits were packed of the same videos.
    assert len(warnings) == 16
    assert all(line.startswith("warning: val/val-000000.tar: val-") for line in warnings)
    assert last.startswith("whole, 16 warnings: 4 shards, 32 samples, ")
    assert last.endswith(f" read ({', '.join(digests)})")


def test_what_was_not_read_is_not_called_whole(run: Run, packed: Path) -> None:
    code, out, _ = run("verify", packed, "--level", "quick")
    assert (code, out[:24]) == (0, "no damage found: 4 shard")
    assert "no shard was read" in out
    code, out, _ = run("verify", packed, "--split", "train", "--sample", "34%")
    assert (code, out[:31]) == (0, "no damage found: 1 of 3 shards,")
    code, out, _ = run("verify", packed, "--split", "train", "--level", "deep")
    assert (code, out[:16]) == (0, "whole: 3 shards,")
    assert "media decoded" in out


@pytest.mark.parametrize("share", ["0", "101%", "x", "-1%", "nan", "%"])
def test_other_shares_are_wrong_use(run: Run, packed: Path, share: str) -> None:
    code, out, err = run("verify", packed, "--sample", share)
    assert (code, out) == (2, "")
    assert "expected a share as 1%" in err


def test_a_journal_is_kept(run: Run, damaged: Path, tmp_path: Path) -> None:
    command = ("verify", damaged, "--split", "train", "--journal", tmp_path / "kept")
    assert "earlier" not in run(*command)[1]
    assert "3 shards, 2 of them earlier by the journal, " in run(*command)[1]
    code, out, err = run(*command, "--level", "deep")
    assert (code, out) == (1, "")
    assert "give another journal" in err


def test_one_split_can_be_verified(run: Run, damaged: Path) -> None:
    assert run("verify", damaged, "--split", "val")[0] == 0
    assert run("verify", damaged, "--split", "train")[0] == 1


def test_damage_ends_with_1_and_a_line_for_each_finding(run: Run, damaged: Path) -> None:
    key = open_dataset(damaged, split="train").read_index(1).keys[-1]
    code, out, err = run("verify", damaged)
    assert (code, err) == (1, "")
    *lines, last = out.splitlines()
    findings = [line for line in lines if line.startswith("error: ")]
    assert findings[0].startswith(f"error: train/train-000001.tar: {key}.mp4 (id 'class_")
    assert findings[0].endswith("(clipshards repair) or from the sources (pack ... --repair)")
    assert all(line.startswith("error: train/train-000001.tar: ") for line in findings)
    assert last.startswith(
        f"DAMAGED, {len(findings)} findings, 15 warnings: 4 shards, 32 samples, "
    )


def test_a_lost_manifest_of_one_split_is_not_overlooked_when_named(run: Run, copied: Path) -> None:
    (copied / "train" / "manifest.json").unlink()
    code, out, err = run("verify", copied, "--split", "train")
    assert (code, out) == (2, "")
    assert "packing has not ended there" in err


def test_a_damaged_manifest_is_damage(run: Run, copied: Path) -> None:
    (copied / "train" / "manifest.json").write_text("{}\n")
    code, out, err = run("verify", copied)
    assert (code, err) == (1, "")
    assert "manifest.json" in out.splitlines()[0]
    assert "16 samples" in out.splitlines()[-1], "val was not looked at"


def test_the_report_comes_as_json(run: Run, packed: Path, damaged: Path) -> None:
    code, out, err = run("verify", packed, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report.keys() == {
        "location",
        "level",
        "splits",
        "shards",
        "skipped",
        "left_out",
        "samples",
        "bytes",
        "stored_checksums",
        "findings",
        "whole",
    }
    assert report["whole"] is True
    assert {finding["severity"] for finding in report["findings"]} == {"warning"}
    assert report["splits"].keys() == {"train", "val"}
    code, out, err = run("verify", damaged, "--json")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert report["whole"] is False
    first = report["findings"][0]
    assert first.keys() == {
        "severity",
        "split",
        "shard",
        "key",
        "id",
        "part",
        "what",
        "expected",
        "found",
        "remedy",
    }
    assert (first["split"], first["shard"], first["part"]) == ("train", "train-000001.tar", "mp4")
