"""Every option of `clipshards pack` does what the Python call does that it stands for."""

import json
import pickle
import wave
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import makers
import numpy as np
import pytest
from PIL import Image

from clipshards.packer import (
    ActivityNetFile,
    AudioList,
    AvaCsv,
    RawframeList,
    Recipe,
    SkeletonFile,
    VideoList,
    pack,
)
from clipshards.readers import open_dataset
from clipshards.tools.pack import pack as pack_command

Run = Callable[..., tuple[int, str, str]]

BOX = "0.1,0.2,0.3,0.4"
AVA_ROWS = [f"{v}.mp4,{t},{BOX},{n},{n}" for v in "ab" for t in (900, 901, 902) for n in (1, 2)]
LABEL_MAP = ['item { name: "sit" id: 1 }', 'item { name: "stand" id: 2 }']
CLASS_NAMES = ("run", "east", "south")
FEATURES = "x,y\n1,2\n3,4\n"


def write_wav(path: Path, number: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.arange(8000) * (number + 3)).astype("<i2").tobytes())


def write_frames(folder: Path, template: str, *numbers: int) -> None:
    folder.mkdir(exist_ok=True)
    for number, picture in zip(numbers, makers.pictures(len(numbers), (24, 16)), strict=True):
        image = Image.fromarray(picture)
        if template.count("{") == 2:
            for axis in "xy":
                image.convert("L").save(folder / template.format(axis, number))
        else:
            image.save(folder / template.format(number))


def pose(name: str, **changes: Any) -> dict[str, Any]:
    keypoint = np.full((1, 3, 5, 2), len(name), np.float32)
    return {"frame_dir": name, "label": 0, "total_frames": 3, "keypoint": keypoint} | changes


def boxes_of_poses(name: str, **valid: int) -> dict[str, Any]:
    """Return compressed poses; `valid` says in how many frames boxes reach t5, t7."""
    return pose(
        name,
        keypoint=np.ones((3, 5, 3), np.float16),
        frame_inds=np.arange(3, dtype=np.int16),
        box_score=np.array([0.6, 0.8, 0.95], np.float16),
        valid={int(threshold[1:]) / 10: frames for threshold, frames in valid.items()},
    )


def text_of_python2(text: str) -> bytes:
    data = text.encode("latin1")
    return b"U" + bytes([len(data)]) + data


def array_of(array: Any) -> bytes:
    """Return what makes an array in a pickle of protocol 2."""
    return pickle.dumps(array, 2)[2:-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All media and annotations of the cases below: look, do not write."""
    root = tmp_path_factory.mktemp("world")
    (root / "deep").mkdir()
    (root / "kpts").mkdir()
    for seed, name in enumerate(("a", "b", "deep/c", "abcd_910_920", "café")):
        data = makers.video_bytes(frames=80, size=(32, 32), seed=seed, options={"g": "10"})
        (root / f"{name}.mp4").write_bytes(data)
    for number, name in enumerate("ab"):
        np.save(root / f"{name}.npy", np.full((4, 80), number, np.float32))
        write_wav(root / f"{name}.wav", number)
        write_frames(root / f"f{name}", "img_{:05}.jpg", *range(1, 9))
        write_frames(root / f"z{name}", "{}.png", *range(6))
        write_frames(root / f"flow{name}", "flow_{}_{}.png", *range(1, 5))
        (root / f"{name}.csv").write_text(FEATURES)
        (root / f"v_{name}.csv").write_text(f"{FEATURES}{number},6\n")
        beside = pickle.dumps({"keypoint": pose(name)["keypoint"]})
        (root / "kpts" / f"{name}.pkl").write_bytes(beside)
    lines = {
        "video.txt": ["a.mp4 0", "b.mp4 1", "deep/c.mp4 2"],
        "video_none.txt": ["a.mp4", "b.mp4"],
        "video_tab.txt": ["a.mp4\t0", "b.mp4\t1"],
        "outside.txt": ["c.mp4 0", "../a.mp4 1"],
        "gone.txt": ["a.mp4 0", *(f"gone{n}.mp4 0" for n in range(11))],
        "frames.txt": ["fa 8 0", "fb 8 1"],
        "frames_none.txt": ["fa 8", "fb 8"],
        "frames_offset.txt": ["fa 0 3 0", "fa 2 5 1"],
        "frames_flow.txt": ["flowa 4 0", "flowb 4 1"],
        "frames_zero.txt": ["za 6 0", "zb 6 1"],
        "mel.txt": ["a.npy 10 0", "b.npy 10 1"],
        "mel_none.txt": ["a.npy 10", "b.npy 10"],
        "wav.txt": ["a.wav 10 0", "b.wav 10 1"],
        "ava.csv": AVA_ROWS,
        "ava_one.csv": AVA_ROWS[::2],
        "ava_bare.csv": [f"a,{t},{BOX},1,0" for t in (900, 901)],
        "ava_late.csv": [f"a.mp4,{t},{BOX},1,0" for t in (1799, 1801)],
        "ava_kinetics.csv": [f"abcd_910_920,{t},{BOX},1,0" for t in (910, 912)],
        "ava_python2.csv": [f"café.mp4,900,{BOX},1,0"],
        "ava_frames.csv": [f"f{v},{t},{BOX},1,0" for v in "ab" for t in (900, 903)],
        "ava_zero.csv": [f"z{v},{t},{BOX},1,0" for v in "ab" for t in (900, 902)],
        "exclude.txt": ["a.mp4,901"],
        "labels.pbtxt": LABEL_MAP,
        "names.txt": CLASS_NAMES,
    }
    for name, content in lines.items():
        (root / name).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    entry: dict[str, Any] = {"duration_second": 3.2, "duration_frame": 80, "feature_frame": 72}
    entry |= {"annotations": [{"segment": [0.5, 1.5], "label": "run"}]}
    videos = {"a": {**entry, "subset": "training"}, "b": {**entry, "subset": "validation"}}
    (root / "anet.json").write_text(json.dumps(videos))
    (root / "proposals.pkl").write_bytes(
        pickle.dumps({"a.mp4,0901": np.array([[0, 0, 1, 1, 0.5]])})
    )
    found = array_of(np.array([[0.0, 0.0, 0.5, 0.5]]))
    poses = {
        "split.pkl": {
            "split": {"train": ["a", "bb"], "val": ["ccc"]},
            "annotations": [pose(name) for name in ("a", "bb", "ccc")],
        },
        "pose.pkl": [pose("a"), pose("bb", label=1)],
        "pose_none.pkl": [pose("a", label=None), pose("bb", label=None)],
        "pose_beside.pkl": [pose(name, keypoint=None) for name in "ab"],
        "boxes.pkl": [boxes_of_poses("a", t5=3, t7=1), boxes_of_poses("bb", t5=2, t7=2)],
    }
    for name, value in poses.items():
        (root / name).write_bytes(pickle.dumps(value))
    texts = [b"\x80\x02}", text_of_python2("café.mp4,0900"), found, b"s."]
    (root / "proposals2.pkl").write_bytes(b"".join(texts))
    fields = [(text_of_python2("frame_dir"), text_of_python2("café"))]
    fields += [(text_of_python2("label"), b"K\x01"), (text_of_python2("total_frames"), b"K\x03")]
    fields += [(text_of_python2("keypoint"), array_of(pose("a")["keypoint"]))]
    entries = b"".join(key + value + b"s" for key, value in fields)
    (root / "pose2.pkl").write_bytes(b"\x80\x02]}" + entries + b"a.")
    return root


class Case(NamedTuple):
    """A command with an option, and the same in Python."""

    command: str
    annotation: str
    option: str
    """What is tested, of two words at most; empty for nothing but the defaults. `@` stands
    for the folder of the files."""
    arguments: Mapping[str, Any] = MappingProxyType({})
    """Of the annotation's class."""
    packing: Mapping[str, Any] = MappingProxyType({})
    """Of `pack`."""
    always: str = ""
    """Options that this one needs, which also the command without it has."""
    root: str = "@"
    """The media root; empty for no such option."""


SOURCES: dict[str, Callable[..., Any]] = {
    "video": VideoList,
    "rawframes": RawframeList,
    "skeleton": SkeletonFile,
    "audio": AudioList,
    "ava": AvaCsv,
    "activitynet": ActivityNetFile,
}

MANY, NONE, ONE = {"labels": "many"}, {"labels": "none"}, {"labels": "one"}
COMPUTE, UNDECODED = Recipe(features="compute"), Recipe(frame_table="none")
NAMED = {"class_names": CLASS_NAMES}
FRAMES, FRAMES_OPTIONS = {"filename_tmpl": "img_{:05}.jpg"}, "--filename-tmpl img_{:05}.jpg"
PNGS, PNGS_OPTIONS = {"filename_tmpl": "{}.png"}, "--filename-tmpl {}.png"

# Option of `pack video` -> the recipe that it and `always` make, and `always`.
ENCODED = "--recipe fast"
RECIPES = {
    "--recipe remux": (Recipe("remux"), ""),
    "--recipe intra": (Recipe("intra"), ""),
    "--frame-table none": (UNDECODED, ""),
    "--frame-table demux": (Recipe(frame_table="demux"), ""),
    "--audio drop": (Recipe("remux", audio="drop"), "--recipe remux"),
    "--short-side 40": (Recipe("fast", short_side=40), ENCODED),
    "--fps 29.97": (Recipe("fast", fps=Fraction(30000, 1001)), ENCODED),
    "--gop 5": (Recipe("fast", gop=5), ENCODED),
    "--crf 30": (Recipe("fast", crf=30), ENCODED),
    "--preset veryfast": (Recipe("fast", preset="veryfast"), ENCODED),
    "--if-needed": (Recipe("fast", if_needed=True), ENCODED),
}

# fmt: off
CASES = [
    *(Case("video", "video.txt", option, packing={"recipe": recipe}, always=always)
      for option, (recipe, always) in RECIPES.items()),
    *(Case("activitynet", "anet.json", option, {"video_tmpl": "{}.mp4"}, {"recipe": recipe},
           f"--video-tmpl {{}}.mp4 {always}") for option, (recipe, always) in RECIPES.items()),
    Case("video", "video.txt", ""),
    Case("video", "video.txt", "--multi-label", MANY),
    Case("video", "video_none.txt", "--unlabelled", NONE),
    Case("video", "video_tab.txt", "--delimiter \\t", {"delimiter": "\t"}),
    Case("video", "video.txt", "--class-names @/names.txt", packing=NAMED),
    Case("video", "video.txt", "--seed 3", packing={"seed": 3}),
    Case("video", "video.txt", "--keep-order", packing={"seed": None}),
    Case("video", "video.txt", "--shard-size 3kB", packing={"shard_size": 3000}),
    Case("video", "gone.txt", "--max-rejects 11", packing={"max_rejects": 11}),
    Case("video", "outside.txt", "--allow-outside", packing={"allow_outside": True}, root="@/deep"),
    Case("rawframes", "frames.txt", ""),
    Case("rawframes", "frames.txt", "--multi-label", MANY),
    Case("rawframes", "frames_none.txt", "--unlabelled", NONE),
    Case("rawframes", "frames_offset.txt", "--with-offset", {"with_offset": True}),
    Case("rawframes", "frames_flow.txt", "--filename-tmpl flow_{}_{}.png",
         {"filename_tmpl": "flow_{}_{}.png"}),
    Case("rawframes", "frames_zero.txt", "--start-index 0", PNGS | {"start_index": 0},
         always=PNGS_OPTIONS),
    Case("rawframes", "frames.txt", "--rate 12.5", {"rate": 12.5}),
    Case("skeleton", "pose.pkl", ""),
    Case("skeleton", "pose.pkl", "--multi-label", MANY),
    Case("skeleton", "pose_none.pkl", "--unlabelled", NONE),
    Case("skeleton", "split.pkl", "--source-split val", {"source_split": "val"}),
    Case("skeleton", "boxes.pkl", "--valid-ratio 0.9", {"valid_ratio": 0.9}),
    Case("skeleton", "boxes.pkl", "--box-thr 0.7", {"valid_ratio": 0.5, "box_thr": 0.7},
         always="--valid-ratio 0.5"),
    Case("skeleton", "pose_beside.pkl", "--skeleton-dir kpts", {"skeleton_dir": "kpts"}),
    Case("skeleton", "pose_beside.pkl", "--media-root @", {"skeleton_dir": "kpts"},
         always="--skeleton-dir kpts", root=""),
    Case("skeleton", "pose2.pkl", "--python2", {"encoding": "latin1"}),
    Case("skeleton", "pose.pkl", "--class-names @/names.txt", packing=NAMED),
    Case("audio", "mel.txt", ""),
    Case("audio", "mel.txt", "--multi-label", MANY),
    Case("audio", "mel_none.txt", "--unlabelled", NONE),
    Case("audio", "wav.txt", "--features compute", packing={"recipe": COMPUTE}),
    *(
        Case("audio", "wav.txt", f"--keep-audio {form}",
             packing={"recipe": replace(COMPUTE, keep_audio=form)}, always="--features compute")
        for form in ("source", "wav", "flac")
    ),
    Case("ava", "ava.csv", ""),
    Case("ava", "ava.csv", "--proposals @/proposals.pkl", {"proposals": "@/proposals.pkl"}),
    Case("ava", "ava_python2.csv", "--python2",
         {"proposals": "@/proposals2.pkl", "pickle_encoding": "latin1"},
         always="--proposals @/proposals2.pkl"),
    Case("ava", "ava.csv", "--exclude @/exclude.txt", {"exclude": "@/exclude.txt"}),
    Case("ava", "ava.csv", "--label-map @/labels.pbtxt", {"label_map": "@/labels.pbtxt"}),
    Case("ava", "ava.csv", "--class-names @/names.txt", {"label_map": "@/labels.pbtxt"}, NAMED,
         always="--label-map @/labels.pbtxt"),
    Case("ava", "ava.csv", "--custom-classes 2,1", {"custom_classes": (2, 1)}),
    Case("ava", "ava.csv", "--fps 1", {"fps": 1}),
    Case("ava", "ava.csv", "--timestamp-start 899", {"timestamp_start": 899}),
    Case("ava", "ava.csv", "--timestamp-end 901", {"timestamp_end": 901}),
    Case("ava", "ava_late.csv", "--timestamp-end -1",
         {"timestamp_start": 1799, "timestamp_end": None}, always="--timestamp-start 1799"),
    Case("ava", "ava_one.csv", "--single-label", ONE),
    Case("ava", "ava_kinetics.csv", "--kinetics-ids",
         {"kinetics_ids": True, "media_tmpl": "{}.mp4"}, always="--media-tmpl {}.mp4"),
    Case("ava", "ava_bare.csv", "--media-tmpl {}.mp4", {"media_tmpl": "{}.mp4"}),
    Case("ava", "ava_frames.csv", FRAMES_OPTIONS, FRAMES | {"fps": 2.5}, always="--fps 2.5"),
    Case("ava", "ava_zero.csv", "--start-index 0", PNGS | {"fps": 2, "start_index": 0},
         always=f"{PNGS_OPTIONS} --fps 2"),
    Case("ava", "ava_frames.csv", "--rate 12.5", FRAMES | {"fps": 2, "rate": 12.5},
         always=f"{FRAMES_OPTIONS} --fps 2"),
    Case("ava", "ava.csv", "--group video", {"group": "video"}),
    Case("ava", "ava.csv", "--clip-frames 8", {"clip_frames": 8}),
    Case("activitynet", "anet.json", ""),
    Case("activitynet", "anet.json", "--source-split validation", {"source_split": "validation"}),
    Case("activitynet", "anet.json", "--feature-tmpl v_{}.csv", {"feature_tmpl": "v_{}.csv"}),
    Case("activitynet", "anet.json", "--video-tmpl {}.mp4", {"video_tmpl": "{}.mp4"}),
    Case("activitynet", "anet.json", "--class-names @/names.txt", packing=NAMED),
]
# fmt: on


def digest_of(out: Path) -> str:
    """Return the identity of what was packed; empty where nothing was."""
    if not (out / "train" / "manifest.json").exists():
        return ""
    return open_dataset(out).manifest.content_digest


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command} {case.option}")
def test_the_command_gives_the_same_split_as_the_python_call(
    case: Case, run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def here(text: str) -> str:
        return text.replace("@", str(world))

    def command(out: str, *options: str) -> tuple[int, str, str]:
        root = ["--media-root", here(case.root)] if case.root else []
        return run(
            *("pack", case.command, world / case.annotation, *root),
            *("--out", tmp_path / out, "--split", "train"),
            *map(here, (*case.always.split(), *options)),
        )

    told = command("with", *case.option.split())
    found = digest_of(tmp_path / "with")
    assert found, told
    arguments = {
        name: here(value) if isinstance(value, str) else value
        for name, value in case.arguments.items()
    }
    pack(
        SOURCES[case.command](world / case.annotation, **arguments),
        tmp_path / "python",
        split="train",
        media_root=here(case.root or "@"),
        **case.packing,
    )
    assert found == digest_of(tmp_path / "python")
    if case.option:
        command("without")
        assert digest_of(tmp_path / "without") != found
    else:
        assert told[0] == 0


# Changes nothing on a machine that is sure of its bytes: test_pack_encoded.py shows it.
PINNED = {"--allow-unpinned"}
# What is not to be seen in a split: every case gives the first two, test_pack.py and
# test_repair.py show the others.
ELSEWHERE = {
    "--engine",
    "--json",
    "--out",
    "--part",
    "--ray-address",
    "--repair",
    "--replan",
    "--retry-rejects",
    "--split",
    "--workers",
}


def test_every_option_of_every_command_is_among_the_cases() -> None:
    assert {*pack_command.commands} == {*SOURCES}
    options = {
        name: {word for option in command.params for word in option.opts if word[0] == "-"}
        for name, command in pack_command.commands.items()
    }
    given = {
        name: {case.option.split()[0] for case in CASES if case.command == name and case.option}
        for name in SOURCES
    }
    common = set.intersection(*options.values())
    assert common > ELSEWHERE
    assert common - ELSEWHERE <= set.union(*given.values())
    for name in SOURCES:
        assert options[name] - common - PINNED <= given[name], name
