import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import makers
import numpy as np
import pytest

from clipshards.packer import (
    ActivityNetRecord,
    AnnotationError,
    Origin,
    PackReport,
    PlanError,
    Recipe,
    Reject,
    RejectsError,
    StorageError,
    VideoList,
    VideoRecord,
    pack,
)
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.rejects import decode_rejects
from clipshards.packer.receipts import Receipt, warnings_of
from clipshards.readers import verify

Annotate = Callable[[Sequence[str]], Path]
Abouts = Callable[[Path], dict[str, Any]]
Samples = Callable[[Path], dict[str, dict[str, bytes]]]

UNOPENED = Recipe(frame_table="none")


def manifest_of(out: Path, split: str = "train") -> Manifest:
    return Manifest.decode((out / split / "manifest.json").read_bytes(), where="manifest")


def junk_records(count: int = 20) -> list[VideoRecord]:
    return [VideoRecord(f"j{number:02d}.mp4", (number,)) for number in range(count)]


def test_records_come_back_as_the_list_holds_them(
    tmp_path: Path, videos: Path, annotate: Annotate, read_samples: Samples, read_abouts: Abouts
) -> None:
    file = annotate([f"v{number}.mp4 {number % 3}" for number in range(8)])
    out = tmp_path / "out"
    report = pack(VideoList(file), out, split="train", media_root=videos, shard_size=50_000)
    samples = read_samples(out / "train")
    abouts = read_abouts(out / "train")
    assert sorted(samples) == [f"train-{number:08d}" for number in range(8)]
    for number in range(8):
        key = f"train-{number:08d}"
        assert list(samples[key]) == ["json", "frames.npy", "mp4"]
        assert samples[key]["mp4"] == (videos / f"v{number}.mp4").read_bytes()
        about = abouts[key]
        assert about["id"] == f"v{number}.mp4"
        assert about["origin"] == f"list.txt:{number + 1}"
        assert about["labels"] == [number % 3]
        assert about["video"]["frames"] == 12
        assert about["video"]["frame_table"] == "decode"
        assert about["video"]["no_table_because"] == ""
        assert (about["video"]["width"], about["video"]["height"]) == (64, 48)
    assert report == PackReport(
        location=str(out),
        split="train",
        entries=8,
        excluded={},
        packed=8,
        rejects=(),
        shards=len(list((out / "train").glob("*.tar"))),
        shards_made=report.shards,
        bytes=sum(file.stat().st_size for file in (out / "train").glob("*.tar")),
        source_bytes=0,
        content_digest=manifest_of(out).content_digest,
        warnings=(),
        seconds=report.seconds,
    )
    assert report.shards > 1


@pytest.mark.parametrize(
    ("name", "labels"), [("train", "one"), ("val", "one"), ("multilabel", "many")]
)
def test_real_lists_pack_without_a_reject(
    tmp_path: Path, shared_data: Path, read_samples: Samples, name: str, labels: Any
) -> None:
    file = shared_data / "annotations" / f"video_{name}.txt"
    media = shared_data / "videos"
    records = VideoList(file, labels=labels)
    report = pack(records, tmp_path, split=name, media_root=media, shard_size=500_000)
    lines = file.read_text().splitlines()
    assert (report.packed, report.rejects) == (len(lines), ())
    samples = read_samples(tmp_path / name)
    for number, line in enumerate(lines):
        path, *classes = line.split(" ")
        parts = samples[f"{name}-{number:08d}"]
        assert json.loads(parts["json"])["labels"] == [int(label) for label in classes]
        assert parts["mp4"] == (media / path).read_bytes()
    assert verify(tmp_path).damage == []


def test_only_the_files_of_the_format_are_left(tmp_path: Path, junk: Path) -> None:
    out = tmp_path / "out"
    pack(junk_records(3), out, split="val", media_root=junk, recipe=UNOPENED)
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*")) == [
        "val",
        "val.wids.json",
        "val/manifest.json",
        "val/rejects.jsonl",
        "val/val-000000.tar",
    ]


def test_packed_split_is_whole(tmp_path: Path, videos: Path) -> None:
    records = [VideoRecord(f"v{number}.mp4", (number,)) for number in range(8)]
    pack(records, tmp_path, split="train", media_root=videos, shard_size=30_000)
    checked = verify(tmp_path)
    assert checked.findings == []
    assert checked.samples == 8


def test_several_labels_are_kept_in_their_order(
    tmp_path: Path, junk: Path, annotate: Annotate, read_abouts: Abouts
) -> None:
    file = annotate(["j00.mp4 7 0 7", "j01.mp4 2"])
    records = VideoList(file, labels="many")
    pack(records, tmp_path / "out", split="train", media_root=junk, recipe=UNOPENED)
    labels = {key: about["labels"] for key, about in read_abouts(tmp_path / "out/train").items()}
    assert labels == {"train-00000000": [7, 0, 7], "train-00000001": [2]}
    assert manifest_of(tmp_path / "out").labels == "many"


def test_unlabelled_list_has_no_labels(
    tmp_path: Path, junk: Path, annotate: Annotate, read_abouts: Abouts
) -> None:
    file = annotate(["j00.mp4", "j01.mp4"])
    records = VideoList(file, labels="none")
    pack(records, tmp_path / "out", split="train", media_root=junk, recipe=UNOPENED)
    assert [about["labels"] for about in read_abouts(tmp_path / "out/train").values()] == [[], []]
    assert manifest_of(tmp_path / "out").labels == "none"


def test_same_video_twice_is_two_samples(
    tmp_path: Path, junk: Path, annotate: Annotate, read_abouts: Abouts
) -> None:
    file = annotate(["j00.mp4 1", "j00.mp4 1", "j00.mp4 2"])
    pack(VideoList(file), tmp_path / "out", split="train", media_root=junk, recipe=UNOPENED)
    abouts = read_abouts(tmp_path / "out" / "train")
    assert {key: about["labels"] for key, about in abouts.items()} == {
        "train-00000000": [1],
        "train-00000001": [1],
        "train-00000002": [2],
    }


def test_key_is_the_place_in_the_list_whatever_is_rejected(
    tmp_path: Path, junk: Path, annotate: Annotate, read_abouts: Abouts
) -> None:
    file = annotate(["j00.mp4 0", "", "missing.mp4 2", "j03.mp4 3", "j04.mp4\t4", "j05.mp4 5"])
    report = pack(
        VideoList(file), tmp_path / "out", split="train", media_root=junk, recipe=UNOPENED
    )
    abouts = read_abouts(tmp_path / "out" / "train")
    assert {key: about["id"] for key, about in abouts.items()} == {
        "train-00000000": "j00.mp4",
        "train-00000003": "j03.mp4",
        "train-00000005": "j05.mp4",
    }
    assert [(row.ordinal, row.key, row.id, row.origin, row.error) for row in report.rejects] == [
        (1, "train-00000001", "", "list.txt:2", "AnnotationError"),
        (2, "train-00000002", "missing.mp4", "list.txt:3", "MediaError"),
        (4, "train-00000004", "", "list.txt:5", "AnnotationError"),
    ]


def test_names_of_all_kinds_come_back(
    tmp_path: Path, annotate: Annotate, read_samples: Samples, read_abouts: Abouts
) -> None:
    names = [
        "with space.mp4",
        "two.dots.in.it.mp4",
        "\xe9.mp4",
        "e\u0301.mp4",
        "UPPER.MP4",
        "m4v is mp4.M4V",
        "a/same.mkv",
        "b/same.mkv",
        "quote'\".webm",
        "\U0001f3ac.avi",
        "back\\slash.mov",
        "line\u2028end.mp4",
        "d" * 200 + "/" + "n" * 200 + ".mp4",
    ]
    media = tmp_path / "media"
    for name in names:
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(name.encode())
    file = annotate([f"{name};{label}" for label, name in enumerate(names)])
    out = tmp_path / "out"
    pack(VideoList(file, delimiter=";"), out, split="s", media_root=media, recipe=UNOPENED)
    abouts, samples = read_abouts(out / "s"), read_samples(out / "s")
    for label, name in enumerate(names):
        key = f"s-{label:08d}"
        assert abouts[key]["id"] == name
        *_, part = samples[key]
        assert samples[key][part] == name.encode()
    parts = [list(samples[f"s-{label:08d}"])[-1] for label in range(len(names))]
    assert parts == ["mp4"] * 6 + ["mkv", "mkv", "webm", "avi", "mov", "mp4", "mp4"]
    assert verify(out).damage == []


def test_order_is_shuffled_by_the_seed_or_kept(
    tmp_path: Path, junk: Path, read_abouts: Abouts
) -> None:
    def ids(seed: int | None, shard_size: int = 10**9) -> list[str]:
        out = tmp_path / f"out-{seed}-{shard_size}"
        pack(
            junk_records(),
            out,
            split="train",
            media_root=junk,
            recipe=UNOPENED,
            seed=seed,
            shard_size=shard_size,
        )
        return [about["id"] for about in read_abouts(out / "train").values()]

    kept = [record.path for record in junk_records()]
    assert ids(None) == ids(None, shard_size=100_000) == kept
    assert ids(0) == ids(0, shard_size=100_000) != kept
    assert ids(1) != ids(0)
    assert sorted(ids(0)) == kept


def test_shards_are_about_as_large_as_asked(tmp_path: Path, junk: Path) -> None:
    largest = 0
    for number in range(20):
        data = bytes(200_000 + 9_000 * number)
        (junk / f"j{number:02d}.mp4").write_bytes(data)
        largest = max(largest, len(data))
    for shard_size in (500_000, 1_000_000, 3_000_000):
        out = tmp_path / f"out-{shard_size}"
        report = pack(
            junk_records(),
            out,
            split="train",
            media_root=junk,
            recipe=UNOPENED,
            shard_size=shard_size,
        )
        sizes = [file.stat().st_size for file in sorted((out / "train").glob("*.tar"))]
        assert len(sizes) == report.shards == round(sum(sizes) / shard_size)
        assert max(sizes) <= 1.5 * shard_size + largest
        assert min(sizes) >= 0.5 * shard_size - largest


def test_shards_are_numbered_without_gaps(tmp_path: Path, junk: Path) -> None:
    records = junk_records()
    report = pack(
        records, tmp_path, split="a_1", media_root=junk, recipe=UNOPENED, shard_size=40_000
    )
    names = sorted(file.name for file in (tmp_path / "a_1").glob("*.tar"))
    assert names == [f"a_1-{number:06d}.tar" for number in range(report.shards)]
    assert [shard.name for shard in manifest_of(tmp_path, "a_1").shards] == names


def test_labels_beyond_the_class_names_are_rejected(
    tmp_path: Path, junk: Path, annotate: Annotate
) -> None:
    file = annotate(["j00.mp4 0", "j01.mp4 1", "j02.mp4 2"])
    report = pack(
        VideoList(file),
        tmp_path / "out",
        split="train",
        media_root=junk,
        recipe=UNOPENED,
        class_names=["run", "jump"],
    )
    (reject,) = report.rejects
    assert reject.origin == "list.txt:3"
    assert reject.message == "expected a class id below 2 (class names given), got 2"
    assert manifest_of(tmp_path / "out").class_names == ("run", "jump")


def test_custom_data_set_comes_in_as_any_iterable_of_records(
    tmp_path: Path, junk: Path, read_abouts: Abouts
) -> None:
    def records() -> Iterator[VideoRecord | Reject]:
        yield VideoRecord("j00.mp4", (4,), id="clip/one")
        yield Reject("the row has no file", error="RowError", id="clip/two")
        yield VideoRecord("j02.mp4", (5,), id="clip/three", origin=Origin("rows.csv", line=9))

    report = pack(records(), tmp_path, split="train", media_root=junk, recipe=UNOPENED)
    abouts = read_abouts(tmp_path / "train")
    assert {
        key: (about["id"], about["origin"], about["labels"]) for key, about in abouts.items()
    } == {
        "train-00000000": ("clip/one", "records[0]", [4]),
        "train-00000002": ("clip/three", "rows.csv:9", [5]),
    }
    (reject,) = report.rejects
    assert (reject.ordinal, reject.id, reject.origin, reject.error, reject.message) == (
        1,
        "clip/two",
        "records[1]",
        "RowError",
        "the row has no file",
    )


def test_label_mode_of_custom_records_is_given_by_name(
    tmp_path: Path, junk: Path, read_abouts: Abouts
) -> None:
    records = [VideoRecord("j00.mp4", (1, 2)), VideoRecord("j01.mp4", (0,))]
    pack(records, tmp_path, split="a", media_root=junk, recipe=UNOPENED, labels="many")
    assert [sorted(about["labels"]) for about in read_abouts(tmp_path / "a").values()].count(
        [1, 2]
    ) == 1
    report = pack(records, tmp_path, split="b", media_root=junk, recipe=UNOPENED)
    assert [reject.message for reject in report.rejects] == [
        "expected exactly one label, got [1, 2]"
    ]


def test_wrong_type_among_the_records_stops_before_anything_is_written(
    tmp_path: Path, junk: Path
) -> None:
    records: list[Any] = [VideoRecord("j00.mp4", (1,)), "j01.mp4 2"]
    with pytest.raises(TypeError, match=r"records\[1\]"):
        pack(records, tmp_path / "out", split="train", media_root=junk)
    assert not (tmp_path / "out").exists()


def test_accounting_closes(tmp_path: Path, junk: Path, annotate: Annotate) -> None:
    lines = [f"j{number:02d}.mp4 {number}" for number in range(10)]
    file = annotate([*lines, "", "x.mp4 1", "j00.txt 1", "j00.mp4 1 2", "j00.mp4 -1"])
    report = pack(
        VideoList(file),
        tmp_path / "out",
        split="train",
        media_root=junk,
        recipe=UNOPENED,
        shard_size=40_000,
    )
    manifest = manifest_of(tmp_path / "out")
    count = manifest.accounting
    assert (count.entries, count.packed, count.rejected, count.excluded) == (15, 10, 5, {})
    assert (report.entries, report.packed, len(report.rejects)) == (15, 10, 5)
    assert manifest.samples == manifest.items == 10
    data = (tmp_path / "out" / "train" / "rejects.jsonl").read_bytes()
    assert tuple(decode_rejects(data, where="rejects")) == report.rejects
    assert [reject.ordinal for reject in report.rejects] == [10, 11, 12, 13, 14]
    assert verify(tmp_path / "out").damage == []


def test_progress_adds_up(tmp_path: Path, junk: Path) -> None:
    records = [*junk_records(5), VideoRecord("missing.mp4", (1,))]
    records.append(VideoRecord("j00.mp4"))  # no label
    calls: list[tuple[int, int]] = []
    options: dict[str, Any] = {
        "split": "train",
        "media_root": junk,
        "recipe": UNOPENED,
        "progress": lambda entries, size: calls.append((entries, size)),
    }
    pack(records, tmp_path, **options)
    assert sum(entries for entries, _ in calls) == len(records) == 7
    media_bytes = sum((junk / record.path).stat().st_size for record in records[:5])
    assert media_bytes < sum(size for _, size in calls) < media_bytes + 5 * 2000


@pytest.mark.parametrize("frame_table", ["decode", "none"])
def test_recipe_is_recorded(tmp_path: Path, videos: Path, frame_table: Any) -> None:
    recipe = Recipe(frame_table=frame_table)
    pack([VideoRecord("v0.mp4", (0,))], tmp_path, split="t", media_root=videos, recipe=recipe)
    assert manifest_of(tmp_path, "t").recipe == {"media": "copy", "frame_table": frame_table}


def test_unopened_video_says_so_and_has_an_empty_frame_table(
    tmp_path: Path, media: Path, read_samples: Samples
) -> None:
    (media / "text.mp4").write_text("no video at all")
    report = pack(
        [VideoRecord("v0.mp4", (0,)), VideoRecord("text.mp4", (1,))],
        tmp_path / "out",
        split="train",
        media_root=media,
        recipe=UNOPENED,
    )
    assert report.packed == 2
    for parts in read_samples(tmp_path / "out" / "train").values():
        about = json.loads(parts["json"])
        assert about["video"]["frames"] == -1
        assert about["video"]["codec"] == ""
        assert about["video"]["frame_table"] == "none"
        assert b"'shape': (0, 6)" in parts["frames.npy"]
        assert parts["frames.npy"].endswith(b"\n")


class TestRejectsLimit:
    """Entries that cannot be packed, and how many of them a run bears."""

    def pack(self, tmp_path: Path, good: int, bad: int, limit: int | None = None) -> PackReport:
        (tmp_path / "one.mp4").write_bytes(b"x")
        records = [VideoRecord("one.mp4", (0,))] * good + [VideoRecord("none.mp4", (0,))] * bad
        return pack(
            records,
            tmp_path / "out",
            split="train",
            media_root=tmp_path,
            recipe=UNOPENED,
            max_rejects=limit,
        )

    @pytest.mark.parametrize(
        ("good", "bad", "limit"),
        [(1, 10, None), (989, 10, None), (1089, 11, None), (5, 3, 3), (5, 0, 0), (1, 50, 50)],
    )
    def test_up_to_the_limit_the_manifest_is_written(
        self, tmp_path: Path, good: int, bad: int, limit: int | None
    ) -> None:
        report = self.pack(tmp_path, good, bad, limit)
        assert len(report.rejects) == bad
        assert report.packed == good
        assert manifest_of(tmp_path / "out").accounting.rejected == bad

    @pytest.mark.parametrize(
        ("good", "bad", "limit"),
        [(1, 11, None), (988, 11, None), (1088, 12, None), (5, 4, 3), (5, 1, 0)],
    )
    def test_above_the_limit_there_is_no_manifest(
        self, tmp_path: Path, good: int, bad: int, limit: int | None
    ) -> None:
        with pytest.raises(RejectsError) as caught:
            self.pack(tmp_path, good, bad, limit)
        text = str(caught.value)
        assert text.startswith(f"{bad} of {good + bad} entries cannot be packed")
        assert "run the same command again" in text
        assert f"The first: records[{good}]: 'none.mp4': no such file" in text
        files = [file.name for file in (tmp_path / "out").rglob("*") if file.is_file()]
        names = sorted(name for name in files if not name.startswith("notes-"))
        assert len(files) == len(names) + 1
        assert names == [
            "plan.json",
            "rejects.jsonl",
            "train-000000.tar",
            "train-000000.tar.json",
        ]
        data = (tmp_path / "out" / "train" / "rejects.jsonl").read_bytes()
        assert tuple(decode_rejects(data, where="rejects")) == caught.value.rejects
        assert [row.ordinal for row in caught.value.rejects] == list(range(good, good + bad))

    @pytest.mark.parametrize("bad", [1, 3])
    def test_nothing_packed_at_all_is_no_split(self, tmp_path: Path, bad: int) -> None:
        with pytest.raises(RejectsError, match=f"none of the {bad} entries can be packed"):
            self.pack(tmp_path, 0, bad, 100)
        assert not (tmp_path / "out" / "train" / "manifest.json").exists()

    def test_list_of_nothing_but_bad_lines_writes_nothing(
        self, tmp_path: Path, annotate: Annotate
    ) -> None:
        file = annotate(["a.mp4", "b.mp4"])
        with pytest.raises(RejectsError, match="none of the 2 entries can be packed") as caught:
            pack(VideoList(file), tmp_path / "out", split="train", media_root=tmp_path)
        assert "The first: list.txt:1: expected 'path label', got 'a.mp4'" in str(caught.value)
        assert [row.origin for row in caught.value.rejects] == ["list.txt:1", "list.txt:2"]
        assert not (tmp_path / "out").exists()

    def test_too_many_bad_lines_are_found_before_anything_is_packed(
        self, tmp_path: Path, junk: Path, annotate: Annotate
    ) -> None:
        file = annotate(["j00.mp4 0", "", "j01.mp4", "j02.mp4 2"])
        with pytest.raises(
            RejectsError, match="2 of 4 entries cannot be packed, 1 may be rejected; nothing"
        ):
            pack(VideoList(file), tmp_path / "out", split="train", media_root=junk, max_rejects=1)
        assert not (tmp_path / "out").exists()


def test_empty_shard_is_an_index_alone(tmp_path: Path, junk: Path, read_abouts: Abouts) -> None:
    records = junk_records(6)
    for record in records[:3]:
        (junk / record.path).write_bytes(b"")
    sizes = [(junk / record.path).stat().st_size for record in records]
    report = pack(
        records,
        tmp_path / "out",
        split="train",
        media_root=junk,
        recipe=UNOPENED,
        seed=None,
        shard_size=sum(sizes) // 6 + 16_384,
    )
    assert report.packed == 3
    assert [shard.samples for shard in manifest_of(tmp_path / "out").shards][:2] == [0, 0]
    assert list(read_abouts(tmp_path / "out" / "train")) == [
        f"train-{number:08d}" for number in (3, 4, 5)
    ]
    assert verify(tmp_path / "out").damage == []


@pytest.mark.parametrize(
    "split", ["", "Train", "_a", "a-b", "a/b", "..", "a" * 33, "tr\xe9", "a\n"]
)
def test_split_of_a_wrong_name_is_a_wrong_argument(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"split {split!r}")):
        pack([VideoRecord("a.mp4", (0,))], tmp_path / "out", split=split, media_root=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shard_size": 0}, "shard_size 0"),
        ({"shard_size": -1}, "shard_size -1"),
        ({"max_rejects": -1}, "max_rejects -1"),
        ({"labels": "two"}, "labels 'two'"),
    ],
)
def test_argument_out_of_range_is_refused(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pack(
            [VideoRecord("a.mp4", (0,))],
            tmp_path / "out",
            split="train",
            media_root=tmp_path,
            **options,
        )
    assert not (tmp_path / "out").exists()


def test_class_names_must_be_text(tmp_path: Path) -> None:
    names: Any = [1, 2]
    record = VideoRecord("a.mp4", (0,))
    with pytest.raises(TypeError, match="class_names: expected a sequence of names"):
        pack([record], tmp_path / "out", split="train", media_root=tmp_path, class_names=names)
    assert not (tmp_path / "out").exists()


def test_containers_mixed_in_a_split_are_warned_of(tmp_path: Path, junk: Path) -> None:
    (junk / "a.mkv").write_bytes(b"other")
    records = [VideoRecord("j00.mp4", (0,)), VideoRecord("a.mkv", (0,))]
    unopened = Recipe(frame_table="none")
    options: dict[str, Any] = {"split": "train", "media_root": junk, "recipe": unopened}
    mixed = pack(records, tmp_path / "mixed", **options)
    (warning,) = mixed.warnings
    assert warning == (
        "the split mixes mkv, mp4; tools that expect one part name will miss the others "
        "(recipe remux makes all mp4)"
    )
    assert pack(records[:1], tmp_path / "pure", **options).warnings == ()


def test_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="media 'tiny'"):
        Recipe(media="tiny")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame table 'guess'"):
        Recipe(frame_table="guess")  # type: ignore[arg-type]


@pytest.mark.parametrize("records", [[], iter([])])
def test_no_record_at_all_is_an_error(tmp_path: Path, records: Any) -> None:
    with pytest.raises(AnnotationError, match="expected at least one record, got none"):
        pack(records, tmp_path / "out", split="train", media_root=tmp_path)
    assert not (tmp_path / "out").exists()


def test_empty_list_file_is_named(tmp_path: Path, annotate: Annotate) -> None:
    file = annotate([])
    with pytest.raises(AnnotationError, match=re.escape(f"{file}: expected at least one entry")):
        pack(VideoList(file), tmp_path / "out", split="train", media_root=tmp_path)


def test_place_that_is_a_file_is_a_storage_error(tmp_path: Path, junk: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "out"))):
        pack(junk_records(1), tmp_path / "out", split="train", media_root=junk, recipe=UNOPENED)
    assert (tmp_path / "out").read_text() == "in the way"


def test_splits_stand_beside_each_other(tmp_path: Path, junk: Path, read_abouts: Abouts) -> None:
    pack(junk_records(3), tmp_path, split="train", media_root=junk, recipe=UNOPENED)
    pack(junk_records(5)[3:], tmp_path, split="val", media_root=junk, recipe=UNOPENED)
    assert len(read_abouts(tmp_path / "train")) == 3
    assert sorted(read_abouts(tmp_path / "val")) == ["val-00000000", "val-00000001"]
    assert verify(tmp_path).damage == []


def test_full_disk_is_a_storage_error_and_leaves_no_half_shard(tmp_path: Path, junk: Path) -> None:
    # A limit on the size of files stands for a full disk: writes fail in their middle.
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(StorageError, match=r"train-000000\.tar: File too large"):
            pack(junk_records(), out, split="train", media_root=junk, recipe=UNOPENED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(file.name for file in out.rglob("*") if file.is_file()) == [
        next(out.rglob("notes-*.json")).name,
        "plan.json",
    ]
    report = pack(junk_records(), out, split="train", media_root=junk, recipe=UNOPENED)
    assert report.packed == 20
    assert verify(out).damage == []


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"class_names": "abc"}, TypeError, "expected a sequence of names"),
        ({"class_names": ["\ud800"]}, ValueError, "expected valid Unicode"),
        ({"shard_size": 2.5e8}, TypeError, "shard_size: expected a whole number, got 250000000.0"),
        ({"shard_size": "256MB"}, TypeError, "shard_size: expected a whole number, got '256MB'"),
        ({"seed": 1.5}, TypeError, "seed: expected a whole number, got 1.5"),
        ({"media_root": "nowhere"}, ValueError, "media_root 'nowhere': no such folder"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(
    tmp_path: Path, junk: Path, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    given: dict[str, Any] = {"split": "train", "media_root": junk} | arguments
    with pytest.raises(error, match=re.escape(says)):
        pack(junk_records(2), tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_numbers_of_numpy_make_the_same_request(tmp_path: Path, junk: Path) -> None:
    recipe = Recipe(frame_table="none")
    options: dict[str, Any] = {"split": "train", "media_root": junk, "recipe": recipe}
    first = pack(junk_records(2), tmp_path, seed=1, shard_size=10**6, **options)
    odd: dict[str, Any] = {"seed": np.int64(1), "shard_size": np.int32(10**6)}
    again = pack(junk_records(2), tmp_path, **odd, **options)
    assert (again.content_digest, again.shards_made) == (first.content_digest, 0)


def test_a_task_knows_its_label_modes(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("0.5,0.25\n1.5,2.5\n")
    record = ActivityNetRecord(
        id="v", segments=((0, 1),), segment_labels=("run",), duration_s=2, features="v.csv"
    )
    pack([record], tmp_path / "a", split="train", media_root=tmp_path)
    assert manifest_of(tmp_path / "a").labels == "none"
    with pytest.raises(ValueError, match="labels 'many': activitynet takes none"):
        pack([record], tmp_path / "b", split="train", media_root=tmp_path, labels="many")


def test_a_finished_split_of_another_request_says_what_differs(tmp_path: Path, junk: Path) -> None:
    recipe = Recipe(frame_table="none")
    options: dict[str, Any] = {"split": "train", "media_root": junk, "recipe": recipe}
    pack(junk_records(2), tmp_path, **options)
    for changes, says in (
        ({"class_names": [str(n) for n in range(20)]}, "class names: packed [], now ['0'"),
        ({"recipe": Recipe()}, "recipe.frame_table: packed 'none', now 'decode'"),
        ({"seed": 5}, "other entries, order, shard size"),
    ):
        with pytest.raises(PlanError, match=re.escape(says)):
            pack(junk_records(2), tmp_path, **(options | changes))


def test_videos_without_a_frame_table_are_reported_together(tmp_path: Path) -> None:
    # The reference picture in the middle is damaged; FFmpeg gets over it.
    data = bytearray(makers.video_bytes(size=(64, 48), frames=30, options={"g": "15"}))
    middle = data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2
    for place in range(middle, middle + 40):
        data[place] ^= 0x55
    names = ["a.mp4", "good.mp4", "b.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.mp4").write_bytes(makers.video_bytes(size=(64, 48), frames=5))
    records = [VideoRecord(name, (0,)) for name in names]
    report = pack(records, tmp_path / "out", split="train", media_root=tmp_path, seed=None)
    assert report.packed == 3
    (warning,) = report.warnings
    assert warning.startswith("records[0]: no frame table, so readers decode from the start: ")
    assert warning.endswith("(2 samples)")


def test_warnings_of_many_kinds_are_cut_short() -> None:
    entry = ShardEntry("t-000000.tar", 1, 1, 1, 1, 1, "inside", 0, 1, 0, "0" * 64, 0)
    rows = [(f"records[{number}]", f"kind {min(number, 30)}") for number in range(40)]
    found = warnings_of([Receipt("", entry, (), tuple(rows))])
    assert found[:2] == ("records[30]: kind 30 (10 samples)", "records[0]: kind 0")
    assert found[10:] == ("21 more samples lack something of their media",)


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="recipe: expected a Recipe, got 'balanced'"):
        pack([VideoRecord("a.mp4", (0,))], tmp_path, split="t", recipe=cast(Any, "balanced"))


def test_a_working_directory_that_is_gone_is_no_media_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match=r"media_root '\.'"):
        pack([VideoRecord("a.mp4", (0,))], tmp_path / "out", split="t")
