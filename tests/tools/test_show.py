import json
import re
from collections.abc import Callable
from pathlib import Path

import makers

from clipshards.readers.opening import open_dataset

Run = Callable[..., tuple[int, str, str]]


def test_a_sample_is_shown_by_key_and_by_id(
    run: Run, packed: Path, media_root: makers.MediaRoot
) -> None:
    path, label = media_root.paths[5], media_root.labels[5]
    by_key = run("show", packed, "train-00000005")
    by_id = run("show", packed, path, "--split", "train")
    assert by_key == by_id
    code, out, err = by_key
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    told = {line[0]: line[1] for line in lines if len(line) == 2}
    assert told["train-00000005:"] == path
    assert told["origin"] == "train.txt:6"
    assert told["labels"] == f"{label} {('run', 'jump', 'sit down')[label]}"
    assert told["shard"].startswith("train/train-00000")
    size = (media_root.root / path).stat().st_size
    assert told["mp4"].startswith(f"{size} bytes at ")
    assert (told["codec"], told["width"], told["height"]) == ("h264", "64", "48")
    assert told["frames"] == "12"
    assert "extradata" not in told


def test_an_id_is_looked_up_in_all_splits(
    run: Run, packed: Path, media_root: makers.MediaRoot
) -> None:
    code, out, err = run("show", packed, media_root.paths[0])
    assert (code, err) == (0, "")
    assert f"train-00000000: {media_root.paths[0]}\n" in out
    assert f"val-00000000: {media_root.paths[0]}\n" in out
    assert re.search(r"labels +0 run\n", out)
    assert re.search(r"labels +0\n", out), "val has no class names"


def test_a_sample_comes_as_json(run: Run, packed: Path) -> None:
    code, out, err = run("show", packed, "train-00000005", "--json")
    assert (code, err) == (0, "")
    (sample,) = json.loads(out)
    assert sample.keys() == {"key", "id", "shard", "origin", "labels", "parts", "json"}
    assert sample["key"] == "train-00000005"
    split = open_dataset(packed, split="train")
    (place,) = split.find("train-00000005")
    index = split.read_index(place.shard)
    assert sample["shard"] == f"train/{split.manifest.shards[place.shard].name}"
    table = sample["parts"]["frames.npy"]
    assert (table.pop("dtype"), table.pop("shape")[1]) == ("int64", 6)
    assert sample["parts"] == {
        name: {
            "offset": part.offset[place.sample],
            "size": part.size[place.sample],
            "crc32c": part.crc32c[place.sample],
        }
        for name, part in index.parts.items()
    }
    assert list(sample["parts"]) == ["json", "frames.npy", "mp4"]
    assert sample["json"]["video"]["frames"] == 12
    shard = (packed / sample["shard"]).read_bytes()
    part = sample["parts"]["json"]
    about = json.loads(shard[part["offset"] : part["offset"] + part["size"]])
    del about["video"]["extradata"]
    assert sample["json"] == about


def test_what_is_not_there_is_wrong_use(run: Run, packed: Path) -> None:
    for arguments in (("gone.mp4",), ("val-00000000", "--split", "train")):
        code, out, err = run("show", packed, *arguments)
        assert (code, out) == (2, "")
        assert "no sample has the key or the id" in err


def test_a_damaged_sample_is_a_problem_of_the_data(run: Run, damaged: Path) -> None:
    split = open_dataset(damaged, split="train")
    key = split.read_index(1).keys[-1]
    code, out, err = run("show", damaged, key)
    assert (code, out) == (1, "")
    assert f"train-000001.tar: {key}.mp4" in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_files_of_a_sample_are_written(run: Run, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "files"
    code, text, err = run("show", packed, "train-00000005", "--extract", out)
    assert (code, err) == (0, "")
    assert f"3 files written to {out / 'train-00000005'}" in text
    names = sorted(path.name for path in (out / "train-00000005").iterdir())
    assert names == [f"train-00000005.{part}" for part in ("frames.npy", "json", "mp4")]


def test_a_rejected_entry_is_told(run: Run, media_root: makers.MediaRoot, tmp_path: Path) -> None:
    annotation = tmp_path / "list.txt"
    annotation.write_text(f"{media_root.paths[0]} 0\ngone.mp4 1\n")
    arguments = ("--media-root", media_root.root, "--out", tmp_path / "set", "--split", "train")
    assert run("pack", "video", annotation, *arguments)[0] == 1
    for name in ("gone.mp4", "train-00000001"):
        code, out, err = run("show", tmp_path / "set", name)
        assert (code, out) == (2, "")
        assert "train-00000001: rejected: list.txt:2: 'gone.mp4': no such file" in err
