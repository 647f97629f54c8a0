"""Names that lead elsewhere or nowhere, in every annotation: nothing outside the root is touched.

What leads out of the media root is there, and would be packed, if a name could reach it.
"""

import csv
import io
import json
import os
import pickle
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import makers
import numpy as np
import pytest
from PIL import Image

from clipshards.packer import (
    ActivityNetFile,
    AudioList,
    AudioRecord,
    AvaCsv,
    DatasetError,
    FrameRange,
    PackReport,
    RawframeList,
    RawframesRecord,
    Recipe,
    RejectsError,
    SkeletonFile,
    SkeletonRecord,
    VideoList,
    VideoRecord,
    pack,
)
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset

# `@` stands for the folder that holds the media root.
NAMES = {
    "plain": "plain",
    "space": "two words",
    "folder": "deep/er/still",
    "parent": "../outside/a",
    "parent of a folder": "../../outside/b",
    "parent in the middle": "deep/../../outside/c",
    "far up": "../" * 40 + "etc/hostname",
    "into the root again": "../inside/again",
    "parent that stays inside": "deep/../stays",
    "doubled slashes": "deep//er///twice",
    "dots": "./deep/./dotted",
    "absolute": "@/outside/d",
    "absolute, inside": "@/inside/absolute",
    "absolute, two slashes": "/@/outside/e",
    "sibling with the root's name": "../inside-and-more/f",
    "parent alone": "..",
    "dot alone": ".",
    "three dots": "...",
    "home": "~/home",
    "variable": "$HOME/x",
    "backslash": "..\\outside\\g",
    "drive": "C:\\x",
    "composed": unicodedata.normalize("NFC", "café"),
    "decomposed": unicodedata.normalize("NFD", "café"),
    "composed syllable": unicodedata.normalize("NFC", "각"),
    "decomposed syllable": unicodedata.normalize("NFD", "각"),
    "wide dots": "\uff0e\uff0e/outside",
    "right to left": "\u202egpj.exe",
    "no width": "a\u200bb",
    "emoji": "🎥" * 20,
    "upper": "UPPER",
    "lower": "upper",
    "300 characters": "n" * 300,
    "300 bytes of 3": "字" * 100,
    "5000 characters": "d/" * 2500,
    "newline": "two\nlines",
    "carriage return": "two\r\nlines",
    "tab": "a\tb",
    "line separator": "a\u2028b",
    "escape": "\x1b[31mred\x1b[0m",
    "NUL": "nul\0byte",
    "NUL behind": "plain\0",
    "no Unicode": "\udcff",
    "half a pair": "\ud83c",
    "option": "-rf",
    "command": "$(touch executed); `touch executed` | touch executed",
    "quotes": "\"quoted\" 'twice'",
    "comma": "a,b",
    "percent": "%s%n%00",
    "braces": "{0.__class__}{}",
    "url": "http://localhost:1/x",
    "file url": "file:///etc/hostname",
    "protocol": "concat:a|b",
    "hash": "#comment",
    "star": "*",
    "tar's own": "__index__",
    "manifest": "manifest",
    "key": "train-00000000",
}


class Kind(NamedTuple):
    """A record class: how its media are written, and what must come out."""

    path: str
    """Template of the media's path under the root, of a name."""
    write: Callable[[Path, int], None]
    """Writes media that differ by a number."""
    record: Callable[[str, int], Any]
    """Makes a record of a name; the number is its label."""
    number: Callable[[dict[str, Any]], int]
    """Finds the number in an item."""
    options: dict[str, Any]


def write_video(path: Path, number: int) -> None:
    # Packed unopened, any bytes will do for a video.
    path.write_bytes(makers.short_video(0, frames=1, size=(16, 16)) + b"%3d" % number)


def write_mel(path: Path, number: int) -> None:
    out = io.BytesIO()
    np.save(out, np.full((2, 4), number, dtype=np.float32))
    path.write_bytes(out.getvalue())


def write_pose(path: Path, number: int) -> None:
    path.write_bytes(pickle.dumps({"keypoint": np.full((1, 3, 5, 2), number, np.float32)}))


def write_frames(path: Path, number: int) -> None:
    path.mkdir(exist_ok=True)
    picture = Image.new("RGB", (16, 16), (number, number, number))
    for frame in (1, 2):
        picture.save(path / f"img_{frame:05}.jpg", quality=100)


STRETCH = FrameRange(total_frames=2)

KINDS = {
    "video": Kind(
        "{}.mp4",
        write_video,
        lambda name, n: VideoRecord(f"{name}.mp4", (n,), id=name),
        lambda item: item["label"],
        {"recipe": Recipe(frame_table="none")},
    ),
    "audio": Kind(
        "{}.npy",
        write_mel,
        lambda name, n: AudioRecord(path=f"{name}.npy", total_frames=3, labels=(n,), id=name),
        lambda item: int(item["audios"].max()),
        {},
    ),
    "skeleton": Kind(
        "kpts/{}.pkl",
        write_pose,
        lambda name, n: SkeletonRecord(
            path=f"kpts/{name}.pkl", total_frames=3, labels=(n,), id=name
        ),
        lambda item: int(item["keypoint"].max()),
        {},
    ),
    "rawframes": Kind(
        "{}",
        write_frames,
        lambda name, n: RawframesRecord(
            folder=name, ranges=(FrameRange(total_frames=2, labels=(n,)),), id=name
        ),
        lambda item: int(item["frames"].max()),
        {},
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS)


class World(NamedTuple):
    """A media root, what lies around it, and which names may reach what."""

    folder: Path
    root: Path
    names: dict[str, str]
    inside: set[str]
    """Names whose media lie inside the root."""
    outside: set[str]
    """Names whose media are there, and outside."""


def make_world(folder: Path, kind: Kind) -> World:
    """Write media for every name that a file can have, wherever it leads below the folder."""
    root = folder / "inside"
    for name in ("root/kpts", "outside", "root-and-more"):
        (folder / name).mkdir(parents=True)
    names = {what: name.replace("@", str(folder)) for what, name in NAMES.items()}
    inside: set[str] = set()
    outside: set[str] = set()
    for number, (what, name) in enumerate(names.items()):
        try:
            place = os.path.normpath(os.path.join(root, kind.path.format(name)))  # noqa: PTH118
            # Names on disk are UTF-8 bytes; what Python spells for other bytes is none.
            place.encode()
            within = os.path.commonpath((root, place)) == str(root)
            if not place.startswith(f"{folder}/"):
                outside.add(what)
                continue
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            kind.write(Path(place), number)
        except (OSError, ValueError):
            continue
        (inside if within else outside).add(what)
    return World(folder, root, names, inside, outside)


def snapshot(folder: Path, *, but: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what stands under a folder: name to kind, time of change and content."""
    found = {}
    for path in folder.rglob("*"):
        if path == but or but in path.parents:
            continue
        state = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (state.st_mode, state.st_mtime_ns, data)
    return found


_watched: list[list[tuple[str, str]]] = []


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event in _EVENTS and isinstance(args[0], str | bytes | os.PathLike):
        path = os.fsdecode(args[0])
        if event in ("os.remove", "os.rmdir", "os.mkdir") and args[-1] >= 0:
            # Relative to an open folder.
            path = f"{Path(f'/proc/self/fd/{args[-1]}').readlink()}/{path}"
        _watched[-1].append((event, os.path.normpath(path)))


_EVENTS = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rmdir", "os.system"}
_EVENTS |= {"os.rename", "os.symlink", "os.truncate", "subprocess.Popen", "shutil.rmtree"}


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Collect which files and folders Python opens, lists and changes."""
    if not hasattr(sys, "_hostile_watch"):
        sys.addaudithook(_on_event)
        sys._hostile_watch = True  # type: ignore[attr-defined]
    seen: list[tuple[str, str]] = []
    _watched.append(seen)
    try:
        yield seen
    finally:
        _watched.pop()


def strays(seen: Sequence[tuple[str, str]], world: World, out: Path) -> list[tuple[str, str]]:
    """Return what was touched beside media root, data set and annotation."""
    below = str(world.folder)
    homes = (str(world.root), str(out), f"{below}/annotation")
    system = ("/etc/host", "/proc")
    return [
        (event, path)
        for event, path in seen
        if event in ("os.system", "subprocess.Popen")
        or path.startswith(system)
        or (path.startswith(below) and not any(_is_below(path, home) for home in homes))
        or (event not in ("open", "os.listdir", "os.scandir") and not _is_below(path, str(out)))
    ]


def _is_below(path: str, home: str) -> bool:
    return path == home or path.startswith(f"{home}/")


def pack_hostile(world: World, records: Any, **options: Any) -> tuple[PackReport, list[Any]]:
    """Pack, verify and read all; return the report and the items. Nothing strays."""
    out = world.folder / "out"
    before = snapshot(world.folder, but=out)
    with watched() as seen:
        report = pack(
            records, out, split="train", media_root=world.root, max_rejects=1000, **options
        )
        findings = verify(out).damage
        dataset = ShardMapDataset(open_dataset(out))
        items = [dataset[number] for number in range(len(dataset))]
    assert seen, "nothing was watched"
    assert strays(seen, world, out) == []
    assert snapshot(world.folder, but=out) == before
    assert findings == []
    assert {path.name for path in out.iterdir()} >= {"train"}
    assert len(items) == report.packed
    rejected = sum(row.entries for row in report.rejects)
    assert report.entries == report.packed + rejected
    for row in report.rejects:
        row.message.encode()
    return report, items


@kinds
def test_records_of_hostile_names_reach_nothing_outside(kind: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, KINDS[kind])
    assert {"plain", "composed", "decomposed", "newline", "command"} <= world.inside
    assert {"far up", "parent of a folder"} <= world.outside
    records = [KINDS[kind].record(name, n) for n, name in enumerate(world.names.values())]
    report, items = pack_hostile(world, records, **KINDS[kind].options)
    by_name = {name: what for what, name in world.names.items()}
    assert {by_name[item["id"]] for item in items} == world.inside
    places = {name: number for number, name in enumerate(world.names.values())}
    for item in items:
        expected = (places[item["id"]], places[item["id"]])
        # Names that lead to one file bring what was written there last.
        twins = {"parent alone", "dot alone"}
        if by_name[item["id"]] not in twins:
            assert (item["label"], KINDS[kind].number(item)) == expected, item["id"]
    rejects = {list(world.names)[row.ordinal]: row for row in report.rejects}
    assert set(rejects) == set(world.names) - world.inside
    for what in world.outside:
        assert "leads out of the media root" in rejects[what].message
    for what in ("NUL", "no Unicode", "half a pair"):
        assert rejects[what].error == "AnnotationError"


def test_what_lies_outside_is_packed_only_with_leave(tmp_path: Path) -> None:
    """The media outside are good: it is the guard that keeps them out."""
    world = make_world(tmp_path, KINDS["audio"])
    there = [what for what in world.outside if (world.root / f"{world.names[what]}.npy").is_file()]
    assert len(there) >= 4
    records = [KINDS["audio"].record(world.names[what], 1) for what in there]
    report = pack(
        records, tmp_path / "out", split="train", media_root=world.root, allow_outside=True
    )
    assert (report.packed, report.rejects) == (len(there), ())


LISTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "video": (VideoList, "{}.mp4 {}"),
    "audio": (AudioList, "{}.npy 3 {}"),
    "rawframes": (RawframeList, "{} 2 {}"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_hostile_names_reach_nothing_outside(kind: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, KINDS[kind])
    read, line = LISTS[kind]
    lines = [
        line.format(name, number)
        for number, (what, name) in enumerate(world.names.items())
        if what not in ("no Unicode", "half a pair")
    ]
    (tmp_path / "annotation").mkdir()
    file = tmp_path / "annotation" / "list.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    report, items = pack_hostile(world, read(file), **KINDS[kind].options)
    # White space and line ends part fields and lines, so such names cannot be reached. A video
    # list knows no other white space than a space, and refuses tabs.
    parts = " \t\r\n" if kind == "video" else " \t\r\n\u2028"
    plain = {what for what in world.inside if not set(world.names[what]) & set(parts)}
    suffix = line.split()[0]
    found = {item["id"] for item in items}
    assert found == {suffix.format(world.names[what]) for what in plain}
    assert report.entries >= len(lines)
    leads_out = [row for row in report.rejects if "leads out of the media root" in row.message]
    assert len(leads_out) == len(world.outside)


def test_skeleton_files_of_hostile_ids_reach_nothing_outside(tmp_path: Path) -> None:
    kind = KINDS["skeleton"]
    world = make_world(tmp_path, kind)
    entries = [
        {"frame_dir": name, "label": number, "total_frames": 3}
        for number, (what, name) in enumerate(world.names.items())
        if what not in ("no Unicode", "half a pair")
    ]
    (tmp_path / "annotation").mkdir()
    file = tmp_path / "annotation" / "a.pkl"
    file.write_bytes(pickle.dumps(entries))
    report, items = pack_hostile(world, SkeletonFile(file, skeleton_dir="kpts"))
    assert {item["id"] for item in items} == {world.names[what] for what in world.inside}
    assert report.packed + len(report.rejects) == len(entries)
    assert sum("leads out" in row.message for row in report.rejects) == len(world.outside)


@pytest.mark.parametrize("half", [0xDCFF, 0xD83C])
def test_a_skeleton_id_that_is_no_unicode_is_an_annotation_error(half: int, tmp_path: Path) -> None:
    array = np.zeros((1, 3, 5, 2), np.float32)
    entries = [
        {"frame_dir": id_, "label": 0, "total_frames": 3, "keypoint": array}
        for id_ in ("a", chr(half))
    ]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(entries))
    try:
        report = pack(SkeletonFile(tmp_path / "a.pkl"), tmp_path / "out", split="train")
    except DatasetError as exc:
        str(exc).encode()
    else:
        assert (report.packed, len(report.rejects)) == (1, 1)


@pytest.mark.parametrize("folder", ["../outside", "@/outside", "kpts/../../outside", "kpts\0", ""])
def test_a_skeleton_folder_outside_the_root_gives_rejects_only(folder: str, tmp_path: Path) -> None:
    for place in (tmp_path / "inside" / "kpts", tmp_path / "outside"):
        place.mkdir(parents=True)
        write_pose(place / "a.pkl", 1)
    entries = [{"frame_dir": "a", "label": 0, "total_frames": 3}]
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(entries))
    with watched() as seen, pytest.raises(DatasetError):
        pack(
            SkeletonFile(file, skeleton_dir=folder.replace("@", str(tmp_path))),
            tmp_path / "out",
            split="train",
            media_root=tmp_path / "inside",
        )
    assert not [path for _, path in seen if path.startswith(str(tmp_path / "outside"))]


def picture_of(number: int) -> bytes:
    """Return the one frame of the video that stands for a number."""
    return makers.frames_of(makers.short_video(number, frames=1, size=(16, 16)))[0].tobytes()


def write_picture(path: Path, number: int) -> None:
    path.write_bytes(makers.short_video(number, frames=1, size=(16, 16)))


def write_untrimmed(path: Path, number: int) -> None:
    """Write a video, and features beside it."""
    write_picture(path, number)
    features = np.full((2, 4), number, np.float32)
    np.save(path.with_name(path.name.removesuffix(".mp4") + ".npy"), features)


def text_names(world: World) -> dict[int, str]:
    """Return the names that a text file can hold, with their numbers."""
    return {
        number: name
        for number, (what, name) in enumerate(world.names.items())
        if what not in ("no Unicode", "half a pair")
    }


AVA_MEDIA: dict[str, tuple[Kind, dict[str, Any]]] = {
    "video": (
        Kind("{}.mp4", write_picture, lambda name, n: None, lambda item: 0, {}),
        {"media_tmpl": "{}.mp4"},
    ),
    "folder": (
        KINDS["rawframes"],
        {"media_tmpl": "{}", "filename_tmpl": "img_{:05}.jpg"},
    ),
}


@pytest.mark.parametrize("group", ["clip", "video"])
@pytest.mark.parametrize("media", AVA_MEDIA)
def test_an_ava_csv_of_hostile_ids_reaches_nothing_outside(
    media: str, group: Any, tmp_path: Path
) -> None:
    kind, options = AVA_MEDIA[media]
    world = make_world(tmp_path, kind)
    assert {"plain", "composed", "decomposed", "command"} <= world.inside
    (tmp_path / "annotation").mkdir()
    names = text_names(world)
    rows = [f"{name},0,0.1,0.1,0.5,0.5,{number},0" for number, name in names.items()]
    file = tmp_path / "annotation" / "ava.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8", newline="")
    annotation = AvaCsv(file, group=group, timestamp_start=0, timestamp_end=None, **options)
    report, items = pack_hostile(world, annotation)
    # Commas part fields, line ends part rows, and quotes are refused.
    expected = {what for what in world.inside if not set(world.names[what]) & set(',"\n\r')}
    assert {item["video_id"] for item in items} == {world.names[what] for what in expected}
    for item in items:
        ((_, number),) = item["labels"].tolist()
        assert names[number] == item["video_id"]
        # The root itself has what was written last of several names.
        if media == "video":
            assert item["frames"][0].tobytes() == picture_of(number)
        elif world.names["dot alone"] != item["video_id"]:
            assert item["frames"].max() == number
    leads_out = [row for row in report.rejects if "leads out of the media root" in row.message]
    assert len(leads_out) == len(world.outside)


def test_an_ava_csv_with_quotes_all_over_is_refused(tmp_path: Path) -> None:
    """As a table program writes it."""
    world = make_world(tmp_path, AVA_MEDIA["video"][0])
    (tmp_path / "annotation").mkdir()
    file = tmp_path / "annotation" / "quoted.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(
            (name, 0, 0.1, 0.1, 0.5, 0.5, 1, 0) for name in text_names(world).values()
        )
    with watched() as seen, pytest.raises(RejectsError, match="none of the") as caught:
        pack(
            AvaCsv(file, media_tmpl="{}.mp4", timestamp_start=0),
            tmp_path / "out",
            split="train",
            media_root=world.root,
        )
    assert seen
    assert strays(seen, world, tmp_path / "out") == []
    str(caught.value).encode()


UNTRIMMED = Kind("{}.mp4", write_untrimmed, lambda name, n: None, lambda item: 0, {})


@pytest.mark.parametrize("layout", ["mmaction2", "official"])
def test_an_activitynet_json_of_hostile_names_reaches_nothing_outside(
    layout: str, tmp_path: Path
) -> None:
    world = make_world(tmp_path, UNTRIMMED)
    (tmp_path / "annotation").mkdir()
    names = text_names(world)
    counts = {"duration_second": 9.0, "duration_frame": 90, "feature_frame": 80}
    head = counts if layout == "mmaction2" else {"duration": 9.0, "subset": "training"}
    videos: dict[str, Any] = {
        name: {**head, "annotations": [{"segment": [0.0, 1.0], "label": str(number)}]}
        for number, name in names.items()
    }
    value = videos if layout == "mmaction2" else {"database": videos}
    file = tmp_path / "annotation" / "a.json"
    file.write_text(json.dumps(value))
    annotation = ActivityNetFile(file, feature_tmpl="{}.npy", video_tmpl="{}.mp4")
    report, items = pack_hostile(world, annotation)
    assert {item["id"] for item in items} == {world.names[what] for what in world.inside}
    for item in items:
        (number,) = map(int, item["segment_labels"])
        assert names[number] == item["id"]
        assert (item["feature"] == number).all()
        assert item["frames"][0].tobytes() == picture_of(number)
    leads_out = [row for row in report.rejects if "leads out of the media root" in row.message]
    assert len(leads_out) == len(world.outside)


@pytest.mark.parametrize("half", [0xDCFF, 0xD83C])
def test_an_activitynet_name_that_is_no_unicode_is_an_annotation_error(
    half: int, tmp_path: Path
) -> None:
    """Halves of surrogate pairs can be spelled in JSON and are no text."""
    write_untrimmed(tmp_path / "a.mp4", 1)
    entry = {"duration": 9.0, "annotations": [{"segment": [0.0, 1.0], "label": "x"}]}
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"a": entry, chr(half): entry}))
    annotation = ActivityNetFile(file, feature_tmpl="{}.npy", video_tmpl="{}.mp4")
    try:
        report = pack(annotation, tmp_path / "out", split="train", media_root=tmp_path)
    except DatasetError as exc:
        str(exc).encode()
    else:
        assert (report.packed, len(report.rejects)) == (1, 1)


HOSTILE_FILES = [
    b"list\xff.txt",
    "café.txt".encode(),
    b"two\nlines.txt",
    b"-rf",
    b"a,b 'c' \"d\".txt",
    b"\x1b[31m",
    b"n" * 255,
]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_list_may_have_any_name(kind: str, name: bytes, tmp_path: Path) -> None:
    root = tmp_path / "inside"
    root.mkdir()
    KINDS[kind].write(root / KINDS[kind].path.format("a"), 1)
    file = tmp_path / os.fsdecode(name)
    read, line = LISTS[kind]
    file.write_text(f"{line.format('a', 1)}\n{line.format('gone', 1)}\nbad\n")
    report = pack(
        read(file), tmp_path / "out", split="train", media_root=root, **KINDS[kind].options
    )
    assert (report.packed, len(report.rejects)) == (1, 2)
    assert verify(tmp_path / "out").damage == []
    for row in report.rejects:
        row.origin.encode()


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_skeleton_file_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    array = np.zeros((1, 3, 5, 2), np.float32)
    good = {"frame_dir": "a", "label": 0, "total_frames": 3, "keypoint": array}
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(pickle.dumps({"split": {"x": ["a", "b"]}, "annotations": [good]}))
    report = pack(SkeletonFile(file), tmp_path / "out", split="train")
    assert (report.packed, len(report.rejects)) == (1, 1)
    assert verify(tmp_path / "out").damage == []


TEMPLATES = [
    "../../outside/img_{:05}.jpg",
    "/etc/img_{}",
    "{:0999999999}",
    "{0.__class__}",
    "{!r}",
    "{}\0",
    "a\n{}",
    "{",
    "img.jpg",
    "{}{}{}",
    "sub/../../{}",
    "./{}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_hostile_template_is_wrong_use_or_a_reject(template: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 1)
    with pytest.raises(ValueError, match="template"):
        RawframeList(tmp_path / "list.txt", filename_tmpl=template)
    record = RawframesRecord(
        folder="a", ranges=(FrameRange(total_frames=2, labels=(1,)),), filename_tmpl=template
    )
    with watched() as seen, pytest.raises(DatasetError):
        pack([record], tmp_path / "out", split="train", media_root=tmp_path)
    assert not [path for _, path in seen if path.startswith(("/etc", str(tmp_path / "a")))]


@kinds
def test_a_split_name_cannot_lead_out_of_the_location(kind: str, tmp_path: Path) -> None:
    record = KINDS[kind].record("a", 1)
    for split in ("../x", "/x", "a/b", "", "A", "a" * 33, "a\n", "é", "a\0", "."):
        with pytest.raises(ValueError, match="split"):
            pack([record], tmp_path / "deep" / "out", split=split, media_root=tmp_path)
    assert not (tmp_path / "deep").exists()
    assert list(tmp_path.iterdir()) == []
