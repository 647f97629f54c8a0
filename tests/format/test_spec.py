"""docs/format.md and the code name the same fields, parts, columns and flags, both ways."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from clipshards.packer.format import frame_table, names
from clipshards.packer.format.canonical import check_schema, decode_json
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.index import INDEX_FORMAT, PartColumns, ShardIndex
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.manifest import (
    MANIFEST_FORMAT,
    Accounting,
    LabelMode,
    Manifest,
    ShardEntry,
)
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.format.rejects import REJECT_SCHEMA
from clipshards.packer.format.tar import BLOCK, MAX_NAME, MAX_SIZE, encode_header
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import FrameTableMode, VideoInfo

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")

TYPES: dict[str, Any] = {
    "text": str,
    "integer": int,
    "boolean": bool,
    "float": float,
    "object": dict,
    "object of text": dict,
    "two integers": (int, int),
    "list of objects": [dict],
    "list of two floats": [(float, float)],
    "object of integers": dict,
    "list": list,
    "list of text": [str],
    "list of integers": [int],
    "list of floats": [float],
    "list of lists of integers": [[int]],
}


def section(number: str) -> str:
    """Return the text below the heading with this number, up to the next heading."""
    found = re.search(rf"^##+ {re.escape(number)}\.? .*\n((?:(?!^##).*\n?)*)", TEXT, re.MULTILINE)
    assert found is not None, f"no section {number}"
    return found[1]


def tables(number: str) -> list[list[list[str]]]:
    """Return the tables of a section: rows of cells, without the heading rows."""
    found: list[list[list[str]]] = []
    inside = False
    for line in section(number).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if not inside:
                found.append([])
            found[-1].append([cell.strip(" |") for cell in cells])
        inside = line.startswith("|")
    return [table[2:] for table in found]


def keys(rows: list[list[str]], column: int = 0) -> list[str]:
    return [row[column].strip("`") for row in rows]


def flat(value: dict[str, Any], *, inside: tuple[str, ...]) -> dict[str, Any]:
    """Return {dotted name: value}, the objects called `inside` taken apart."""
    result: dict[str, Any] = {}
    for name, inner in value.items():
        if name in inside:
            result |= {f"{name}.{below}": leaf for below, leaf in inner.items()}
        else:
            result[name] = inner
    return result


def json_value() -> Any:
    sample = VideoJson("a", "b:1", (1,), VideoInfo())
    return decode_json(sample.encode(), where="made here")


def index_value() -> dict[str, Any]:
    row = {"labels": [1], "frames": 2, "duration_s": 0.5, "width": 3, "height": 4}
    columns = PartColumns([512], [1], [2])
    index = ShardIndex(
        "video", "val", 0, "ab" * 32, {}, ["k"], ["i"], ["o:1"], [1], [1],
        {name: [value] for name, value in row.items()},
        {"json": columns},
    )  # fmt: skip
    value = decode_json(index.encode(), where="made here")
    result = flat(value, inside=("samples",))
    result["summary.<column>"] = list(result.pop("summary").values())
    part = result.pop("parts")["json"]
    return result | {f"parts.<part>.{name}": column for name, column in part.items()}


def manifest_value() -> dict[str, Any]:
    entry = ShardEntry("val-000000.tar", 1024, 0, 0, 0, 0, "inside", 512, 2, 0, "ab" * 32, 0)
    manifest = Manifest(
        "video", "val", "one", ("walk",), {}, 1, "ab" * 32, "ab" * 32,
        Accounting(0, 0, 0, {}), "ab" * 32, {"python": "3"}, (entry,),
    )  # fmt: skip
    value = decode_json(manifest.encode()[:-1], where="made here")
    return flat(value, inside=("accounting", "totals", "shards"))


def check_table(rows: list[list[str]], value: dict[str, Any]) -> None:
    """Check that a table of (key, type, ...) has the keys of `value` and their types."""
    assert sorted(keys(rows)) == sorted(value)
    for name, kind in zip(keys(rows), keys(rows, 1), strict=True):
        check_schema(value[name], TYPES[kind], where=name)


def test_the_title_names_the_version() -> None:
    assert TEXT.startswith(f"# The shard format, version {names.VERSION}\n")


def test_the_fields_of_json_are_specified() -> None:
    common = tables("5")[1]
    check_table([*common, *tables("5.1")[0]], json_value())
    skeleton = SkeletonJson(
        id="a", origin="b[1]", labels=(1,), total_frames=1, compressed=True, image_shape=(2, 3),
        original_shape=(4, 5), valid=((0.5, 1),), box_threshold=0.5, absent=("box_score.npy",),
    )  # fmt: skip
    value = decode_json(skeleton.encode(), where="made here")
    # The keys beyond the table's types are in the case table.
    assert sorted(keys([*common, *tables("5.4")[0]])) == sorted(value)
    sound = AudioJson(id="a", origin="b:1", labels=(1,), total_frames=1)
    value = decode_json(sound.encode(), where="made here")
    check_table([*common, *tables("5.5")[0]], value)
    stretch = StretchJson(offset=0, total_frames=1, labels=(1,), origin="b:1")
    folder = RawframesJson(
        id="a", origin="b:1", filename_tmpl="{}.jpg", start_index=1, stretches=(stretch,),
        video=VideoInfo(frames=1, frame_table="decode"),
    )  # fmt: skip
    value = decode_json(folder.encode(), where="made here")
    check_table([*common, *tables("5.6")[0]], value)
    check_table(tables("5.6")[1], value["stretches"][0])
    moment = KeyFrameJson(timestamp=9, frame=0, persons=1, labels=1, proposals=-1, scored=False)
    clip = AvaJson(
        id="a", origin="b:1", video_id="a", fps=30.0, timestamp_start=0, clip_frames=64,
        first_frame=0, source_frames=1, filename_tmpl="", start_index=0, key_frames=(moment,),
        video=VideoInfo(frames=1, frame_table="decode"),
    )  # fmt: skip
    value = decode_json(clip.encode(), where="made here")
    names, moments, _ = tables("5.7")
    check_table([*common, *names], value)
    check_table(moments, value["key_frames"][0])
    untrimmed = ActivityNetJson(
        id="a", origin="b:1", segments=((0.5, 1.5),), segment_labels=("run",), duration_s=2.0,
        duration_frames=50, feature_frames=48, fps=25.0, rfps=1.0, csv_header=True,
        video=VideoInfo(),
    )  # fmt: skip
    value = decode_json(untrimmed.encode(), where="made here")
    check_table([*common, *tables("5.8")[0]], value)


def test_the_fields_of_a_video_are_specified() -> None:
    (rows,) = tables("5.2")
    video = json_value()["video"]
    check_table(rows, video)
    assert keys(rows) == [field.name for field in fields(VideoInfo)]
    assert {row[0].strip("`"): json.loads(row[3].strip("`")) for row in rows} == video


def test_the_fields_of_the_index_are_specified() -> None:
    rows, summary = tables("8")
    check_table(rows, index_value())
    columns: dict[str, list[str]] = {}
    task = ""
    for row in summary:
        task = row[0].strip("`") or task
        columns.setdefault(task, []).append(row[1].strip("`"))
    assert columns == {name: list(task.summary) for name, task in TASKS.items()}
    assert f"`{INDEX_FORMAT}`" in rows[keys(rows).index("format")][2]


def test_the_fields_of_the_manifest_are_specified() -> None:
    (rows,) = tables("9")
    check_table(rows, manifest_value())
    meaning = {row[0].strip("`"): row[2] for row in rows}
    assert meaning["format"] == f"`{MANIFEST_FORMAT}`"
    assert re.findall(r"`(\w+)` \(", meaning["labels"]) == list(get_args(LabelMode))
    assert re.findall(r"`(\w+)`", meaning["shards.index_at"])[:2] == ["inside", "beside"]


def test_the_fields_of_a_reject_are_specified() -> None:
    (rows,) = tables("10")
    assert keys(rows) == list(REJECT_SCHEMA)
    assert [TYPES[kind] for kind in keys(rows, 1)] == list(REJECT_SCHEMA.values())


def test_the_parts_of_every_task_are_specified() -> None:
    rows = tables("5")[0]
    assert keys(rows) == list(TASKS)
    for row in rows:
        task = TASKS[row[0].strip("`")]
        listed = [tuple(re.findall(r"`([\w.]+)`", cell)) for cell in row[1:4]]
        assert listed == [task.required, task.optional, task.media]
        assert row[3].endswith("none") == (not task.media_required)
        assert (row[4] == "1") == task.one_item


def test_the_columns_and_flags_of_a_frame_table_are_specified() -> None:
    columns, flags = tables("5.3")
    assert [row[0] for row in columns] == ["0", "1", "2", "3", "4", "5"]
    for number, name in zip(keys(columns), keys(columns, 1), strict=True):
        assert getattr(frame_table, name) == int(number)
    assert keys(flags, 1) == ["RANDOM_ACCESS", "DISPOSABLE", "CORRUPT"]
    for value, name in zip(keys(flags), keys(flags, 1), strict=True):
        assert getattr(frame_table, name) == int(value)
    table = np.array([[0, 1, 1, 0, 0, 0], [0, 1, 2 | 4, 1, 0, 0]])
    frame_table.check_frame_table(table, part_bytes=1, where="all flags")
    for name in ("NO_PICTURE", "NO_PTS"):
        assert f"`{name}`" in section("5.3")
    modes = next(row[2] for row in tables("5.2")[0] if row[0] == "`frame_table`")
    assert re.findall(r"`(\w+)`", modes) == list(get_args(FrameTableMode))


def test_the_header_of_a_member_is_specified() -> None:
    (rows,) = tables("3")
    header = encode_header("val-00000000.json", 700)
    end = 0
    for first, length, name, value in rows:
        assert int(first) == end
        end += int(length)
        field = header[int(first) : end]
        if name in ("`name`", "`size`", "`chksum`"):
            continue
        fixed = re.fullmatch(r"(?:`(\w+)`)?(?:, )?(?:NUL|NUL bytes)?", value)
        assert fixed is not None, value
        assert field == (fixed[1] or "").encode().ljust(int(length), b"\0")
    assert end == BLOCK
    assert f"1 to {MAX_NAME} printable ASCII" in section("3")
    assert f"= {MAX_SIZE} " in section("3")


def test_the_dtypes_are_specified() -> None:
    (line,) = re.findall(r"`descr` MUST be one of (.*)", section("6"))
    listed = re.findall(r"`([|<]\w\d)`", line.split(".")[0])
    assert len(listed) == 9
    for code in np.typecodes["All"]:
        array = np.zeros(1, dtype=code)
        if array.dtype.str in listed:
            assert f"'descr': '{array.dtype.str}'".encode() in encode_npy(array)
        else:
            with pytest.raises(ValueError, match="cannot store dtype"):
                encode_npy(array)


def test_the_names_of_the_files_are_specified() -> None:
    for name in (names.MANIFEST_NAME, names.REJECTS_NAME):
        assert f"/{name}" in section("1")
    assert names.shard_name("train", 0) in section("1")
    assert f"`<split>/{names.BUILD_FOLDER}/`" in section("1")
    assert f"`{names.INDEX_MEMBER}`" in section("4")


def test_the_check_value_of_the_checksum_is_right() -> None:
    assert f"`{crc32c(b'123456789'):#010x}`" in TEXT
