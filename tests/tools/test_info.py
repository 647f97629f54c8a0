import json
from collections.abc import Callable
from pathlib import Path

from clipshards.readers.opening import open_dataset

Run = Callable[..., tuple[int, str, str]]


def pairs(text: str) -> dict[str, str]:
    """Return the two columns of a command's output."""
    rows = (line.strip().split("  ", 1) for line in text.splitlines() if line.startswith("  "))
    return {name: value.strip() for name, value in rows}


def test_info_tells_what_a_split_holds(run: Run, packed: Path) -> None:
    code, out, err = run("info", packed, "--split", "train")
    manifest = open_dataset(packed, split="train").manifest
    assert (code, err) == (0, "")
    assert out.startswith("train: video\n")
    told = pairs(out)
    assert told["samples"] == told["items"] == "16"
    assert told["size"].startswith("3 shards, ")
    assert told["labels"] == "one a sample"
    assert told["classes"] == "3"
    assert told["entries"] == "16 = 16 packed + 0 rejected"
    assert told["recipe"] == "frame_table decode, media copy"
    assert f"clipshards {manifest.made_with['clipshards']}" in told["made with"]
    assert told["digest"] == manifest.content_digest[:12]


def test_info_tells_of_all_splits(run: Run, packed: Path) -> None:
    code, out, err = run("info", packed)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "train: video",
        "val: video",
    ]
    assert out.count("not named") == 1, "val has no class names"


def test_info_comes_as_json(run: Run, packed: Path) -> None:
    code, out, err = run("info", packed, "--json")
    assert (code, err) == (0, "")
    train, val = json.loads(out)
    assert train.keys() == {
        "split",
        "task",
        "samples",
        "items",
        "shards",
        "bytes",
        "labels",
        "class_names",
        "entries",
        "packed",
        "rejected",
        "excluded",
        "recipe",
        "made_with",
        "content_digest",
    }
    manifest = open_dataset(packed, split="train").manifest
    assert train["content_digest"] == manifest.content_digest
    assert train["class_names"] == ["run", "jump", "sit down"]
    assert (train["split"], train["shards"], train["bytes"]) == ("train", 3, manifest.size_bytes)
    assert (val["split"], val["class_names"]) == ("val", [])
    assert json.loads(run("info", packed, "--split", "val", "--json")[1]) == [val]


def test_info_opens_no_shard(run: Run, copied: Path) -> None:
    for shard in copied.glob("*/*.tar"):
        shard.unlink()
    assert run("info", copied)[0] == 0
