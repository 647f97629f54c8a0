"""What an annotation said comes out of the reader: values, dtypes, pixels and labels exactly."""

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import makers
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from clipshards.packer.annotations.audio_list import AudioList
from clipshards.packer.annotations.rawframe_list import RawframeList
from clipshards.packer.annotations.skeleton_file import SkeletonFile
from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.errors import RejectsError
from clipshards.packer.format.json_parts import RawframesJson
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.frames.stills import split_stills
from clipshards.packer.one_call import pack
from clipshards.packer.reports import PackReport
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.data import ShardDataset, ShardMapDataset
from clipshards.readers.integrity import verify
from clipshards.readers.opening import open_dataset
from clipshards.readers.split import Split

Array = npt.NDArray[Any]
Items = list[dict[str, Any]]

MODES: tuple[LabelMode, ...] = ("one", "many", "none")
LABELS: dict[LabelMode, list[list[int]]] = {
    "one": [[7], [0], [7], [2**40]],
    "many": [[7, 0], [3], [5, 5, 1], [2**40, 9]],
    "none": [[], [], [], []],
}


def same(first: Any, second: Any) -> bool:
    """Return whether two items or batches are equal to the last bit, types too."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        alike = (first.dtype, first.shape) == (second.dtype, second.shape)
        return alike and first.tobytes() == second.tobytes()
    return bool(first == second)


def assert_array(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def assert_labels(item: dict[str, Any], mode: LabelMode, expected: Sequence[int]) -> None:
    """An item has its labels in the form of the split's mode, and in no other."""
    assert ("label" in item, "labels" in item) == (mode == "one", mode == "many")
    if mode == "one":
        assert type(item["label"]) is int
        assert [item["label"]] == list(expected)
    elif mode == "many":
        assert_array(item["labels"], np.array(expected, dtype=np.int64))


def read_all(split: Split, clip: Any = None) -> Items:
    """Return all items of a split in the order of the annotation."""
    dataset = ShardMapDataset(split, clip=clip)
    items = [dataset[number] for number in range(len(dataset))]
    return sorted(items, key=lambda item: str(item["key"]))


def raw_values(split: Split) -> Iterator[dict[str, Any]]:
    """Yield the decoded parts of every sample, in storage order."""
    for shard in range(len(split.manifest.shards)):
        for sample in range(split.manifest.shards[shard].samples):
            raw = split.read_sample(shard, sample)
            yield TASKS[split.manifest.task].decode_all(raw.parts, where=raw.where)


def write_pictures(
    folder: Path, template: str, count: int, *, size: tuple[int, int] = (40, 24), seed: int = 0
) -> None:
    """Write frames named by a template, numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    gray = template.startswith("flow")
    for number, picture in enumerate(makers.pictures(count, size, seed=seed), start=1):
        image = Image.fromarray(picture[..., 1] if gray else picture)
        image.save(folder / template.format(number), quality=80)


def decode_file(file: Path, mode: str = "RGB") -> Array:
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        return np.asarray(image.convert(mode))


# Raw frames


@dataclass(frozen=True)
class Line:
    """A line of a raw frame list with offsets."""

    folder: str
    offset: int
    total_frames: int


LINES = [
    Line("a/clip", 2, 4),
    Line("b", 0, 5),
    Line("a/clip", 0, 9),
    Line("a/clip", 8, 1),
]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of frames, JPEG and PNG, and of flow."""
    root = tmp_path_factory.mktemp("frames")
    write_pictures(root / "a" / "clip", "img_{:05}.jpg", 9)
    write_pictures(root / "b", "img_{:05}.jpg", 5, seed=1)
    write_pictures(root / "png", "{}.png", 4, seed=2)
    for axis, seed in (("x", 3), ("y", 4)):
        write_pictures(root / "a" / "clip", f"flow_{axis}_{{:05d}}.jpg", 8, seed=seed)
        write_pictures(root / "b", f"flow_{axis}_{{:05d}}.jpg", 4, seed=seed + 9)
    return root


def write_lines(file: Path, lines: Sequence[Sequence[object]]) -> Path:
    file.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def packed_frames(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a split for each label mode, and one of flow."""
    folder = tmp_path_factory.mktemp("packed_frames")
    for mode in MODES:
        lines = [
            (line.folder, line.offset, line.total_frames, *labels)
            for line, labels in zip(LINES, LABELS[mode], strict=True)
        ]
        records = RawframeList(
            write_lines(folder / f"{mode}.txt", lines), labels=mode, with_offset=True, rate=12.5
        )
        report = pack(
            records, folder / "set", split=mode, media_root=frames, labels=mode, shard_size=20_000
        )
        assert (report.entries, report.packed, report.rejects) == (4, 4, ())
    flow = RawframeList(
        write_lines(folder / "flow.txt", [("a/clip", 8, 1), ("b", 4, 0)]),
        filename_tmpl="flow_{}_{:05d}.jpg",
    )
    assert pack(flow, folder / "set", split="flow", media_root=frames).packed == 2
    return folder / "set"


def frames_of_line(root: Path, line: Line) -> Array:
    first = line.offset + 1
    numbers = range(first, first + line.total_frames)
    return np.stack([decode_file(root / line.folder / f"img_{n:05}.jpg") for n in numbers])


@pytest.mark.parametrize("mode", MODES)
def test_every_line_of_a_raw_frame_list_comes_back(
    packed_frames: Path, frames: Path, mode: LabelMode
) -> None:
    split = open_dataset(packed_frames, split=mode)
    assert len(split) == len(LINES)
    assert sum(shard.samples for shard in split.manifest.shards) == 2
    items = read_all(split)
    # Items of one folder stand together, in the order of their lines.
    order = [0, 2, 3, 1]
    assert [item["id"] for item in items] == [LINES[place].folder for place in order]
    for item, place in zip(items, order, strict=True):
        line = LINES[place]
        assert (item["offset"], item["total_frames"]) == (line.offset, line.total_frames)
        assert_array(item["frames"], frames_of_line(frames, line))
        assert_array(item["frame_numbers"], np.arange(line.total_frames))
        assert_labels(item, mode, LABELS[mode][place])
    assert verify(packed_frames, split=mode).findings == []


@pytest.mark.parametrize("clip", [UniformClip(3), DenseClip(6, 2), UniformClip(12)], ids=repr)
def test_a_clip_counts_frames_from_the_beginning_of_its_stretch(
    packed_frames: Path, frames: Path, clip: UniformClip | DenseClip
) -> None:
    items = read_all(open_dataset(packed_frames, split="one"), clip)
    for item, line in zip(items, [LINES[place] for place in (0, 2, 3, 1)], strict=True):
        numbers = item["frame_numbers"]
        assert numbers.shape == (clip.length,)
        assert numbers.min() >= 0
        assert numbers.max() < line.total_frames
        assert_array(item["frames"], frames_of_line(frames, line)[numbers])


def test_the_files_of_a_folder_come_back_bit_for_bit(packed_frames: Path, frames: Path) -> None:
    folders = set()
    for values in raw_values(open_dataset(packed_frames, split="one")):
        about: RawframesJson = values["json"]
        files = split_stills(values["mp4"], values["frames.npy"])
        sources = sorted((frames / about.id).glob("img_*.jpg"))
        assert files == [source.read_bytes() for source in sources]
        assert (about.filename_tmpl, about.start_index) == ("img_{:05}.jpg", 1)
        assert about.video.rate == (25, 2)
        folders.add(about.id)
    assert folders == {"a/clip", "b"}


def test_flow_comes_back_as_x_and_y(packed_frames: Path, frames: Path) -> None:
    split = open_dataset(packed_frames, split="flow")
    for item, (folder, label) in zip(read_all(split), [("a/clip", 1), ("b", 0)], strict=True):
        numbers = range(1, item["total_frames"] + 1)
        planes = [
            np.stack([decode_file(frames / folder / f"flow_{a}_{n:05d}.jpg", "L") for n in numbers])
            for a in "xy"
        ]
        assert_array(item["frames"], np.stack(planes, axis=-1))
        assert (item["id"], item["label"], item["offset"]) == (folder, label, 0)
    for values in raw_values(split):
        for axis in "xy":
            files = split_stills(values[f"flow_{axis}.mp4"], values[f"flow_{axis}.frames.npy"])
            sources = sorted((frames / values["json"].id).glob(f"flow_{axis}_*.jpg"))
            assert files == [source.read_bytes() for source in sources]


def test_png_frames_come_back(frames: Path, tmp_path: Path) -> None:
    list_file = write_lines(tmp_path / "list.txt", [("png", 4, 1)])
    pack(
        RawframeList(list_file, filename_tmpl="{}.png"),
        tmp_path / "set",
        split="train",
        media_root=frames,
    )
    split = open_dataset(tmp_path / "set")
    (item,) = read_all(split)
    sources = [frames / "png" / f"{number}.png" for number in range(1, 5)]
    assert_array(item["frames"], np.stack([decode_file(source) for source in sources]))
    (values,) = raw_values(split)
    files = split_stills(values["mp4"], values["frames.npy"])
    assert files == [source.read_bytes() for source in sources]


# Skeletons


def poses() -> list[dict[str, Any]]:
    """Return annotations of all forms: 2-D with score, 3-D without, two other dtypes."""
    rng = np.random.default_rng(0)
    return [
        {
            "frame_dir": "with score",
            "total_frames": 12,
            "img_shape": (240, 320),
            "original_shape": (480, 640),
            "keypoint": rng.normal(size=(2, 12, 17, 2)).astype(np.float16),
            "keypoint_score": rng.random((2, 12, 17)).astype(np.float16),
        },
        {
            "frame_dir": "3-D",
            "total_frames": 7,
            "keypoint": rng.normal(size=(1, 7, 25, 3)).astype(np.float32),
        },
        {
            "frame_dir": "double",
            "total_frames": 12,
            "img_shape": (10, 20),
            "keypoint": np.asfortranarray(rng.normal(size=(1, 12, 17, 2))),
            "keypoint_score": rng.random((1, 12, 17)).astype(np.float32)[:, ::1],
        },
        {
            "frame_dir": "boxes",
            "total_frames": 9,
            "img_shape": (240, 320),
            "original_shape": (240, 320),
            "keypoint": rng.normal(size=(6, 17, 3)).astype(np.float16),
            "frame_inds": np.array([0, 1, 1, 4, 8, 8], dtype=np.int16),
            "box_score": rng.random(6).astype(np.float16),
            "valid": {0.5: 4, 0.9: 0},
        },
    ]


def write_pickle(file: Path, value: object, protocol: int = 4) -> Path:
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    return file


def pack_poses(folder: Path, mode: LabelMode, annotations: list[dict[str, Any]]) -> PackReport:
    for annotation, labels in zip(annotations, LABELS[mode], strict=True):
        if mode != "none":
            annotation["label"] = labels[0] if mode == "one" else labels
    file = write_pickle(folder / f"{mode}.pkl", annotations)
    records = SkeletonFile(file, labels=mode)
    return pack(records, folder / "set", split=mode, media_root=folder, shard_size=8_000)


@pytest.fixture(scope="module")
def packed_poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a split of skeletons for each label mode."""
    folder = tmp_path_factory.mktemp("poses")
    for mode in MODES:
        report = pack_poses(folder, mode, poses())
        assert (report.packed, report.rejects) == (4, ())
    return folder / "set"


ARRAYS = ("keypoint", "keypoint_score", "frame_inds", "box_score")


def check_pose(item: dict[str, Any], annotation: dict[str, Any]) -> None:
    """An item has exactly the arrays of its annotation, the same to the bit."""
    assert [name for name in ARRAYS if name in item] == [n for n in ARRAYS if n in annotation]
    for name in ARRAYS:
        if name in annotation:
            assert_array(item[name], annotation[name])
    assert item["id"] == annotation["frame_dir"]
    assert item["total_frames"] == annotation["total_frames"]
    for key in ("img_shape", "original_shape"):
        assert_array(item[key], np.array(annotation.get(key, (0, 0)), dtype=np.int64))


@pytest.mark.parametrize("mode", MODES)
def test_every_annotated_skeleton_comes_back(packed_poses: Path, mode: LabelMode) -> None:
    items = read_all(open_dataset(packed_poses, split=mode))
    for item, annotation, labels in zip(items, poses(), LABELS[mode], strict=True):
        check_pose(item, annotation)
        assert_array(item["frame_numbers"], np.arange(annotation["total_frames"]))
        assert_labels(item, mode, labels)
        assert "anno_inds" not in item
    assert verify(packed_poses, split=mode).findings == []


def test_a_clip_of_a_skeleton_is_its_frames(packed_poses: Path) -> None:
    items = read_all(open_dataset(packed_poses, split="one"), UniformClip(5))
    for item, annotation in zip(items, poses(), strict=True):
        numbers = item["frame_numbers"]
        assert numbers.shape == (5,)
        if "frame_inds" in annotation:
            for column, frame in enumerate(numbers):
                boxes = annotation["keypoint"][annotation["frame_inds"] == frame]
                persons = item["keypoint"][:, column], item["keypoint_score"][:, column]
                assert_array(persons[0][: len(boxes)], boxes[:, :, :2])
                assert_array(persons[1][: len(boxes)], boxes[:, :, 2])
                assert not any(array[len(boxes) :].any() for array in persons)
            continue
        assert_array(item["keypoint"], annotation["keypoint"][:, numbers])
        if "keypoint_score" in annotation:
            assert_array(item["keypoint_score"], annotation["keypoint_score"][:, numbers])


def test_annotated_box_counts_stand_in_the_sample(packed_poses: Path) -> None:
    abouts = {v["json"].id: v["json"] for v in raw_values(open_dataset(packed_poses, split="one"))}
    assert abouts["boxes"].valid == ((0.5, 4), (0.9, 0))
    assert abouts["3-D"].valid == ()
    assert abouts["3-D"].absent == ("box_score.npy", "frame_inds.npy", "keypoint_score.npy")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_skeletons_of_every_pickle_protocol_come_back(tmp_path: Path, protocol: int) -> None:
    annotations = [annotation | {"label": 1} for annotation in poses()]
    file = write_pickle(tmp_path / "a.pkl", annotations, protocol)
    pack(SkeletonFile(file), tmp_path / "set", split="train")
    for item, annotation in zip(read_all(open_dataset(tmp_path / "set")), poses(), strict=True):
        check_pose(item, annotation)


def test_skeletons_in_files_of_their_own_come_back(tmp_path: Path) -> None:
    annotations = []
    folder = tmp_path / "media" / "kpts"
    folder.mkdir(parents=True)
    for number, annotation in enumerate(poses()):
        # Half of it in the annotation, half in the file, as Kinetics' skeletons are.
        inside = {n: annotation.pop(n) for n in ("keypoint", "keypoint_score") if n in annotation}
        annotations.append(annotation | {"label": number})
        write_pickle(folder / f"{annotation['frame_dir']}.pkl", inside)
    file = write_pickle(tmp_path / "a.pkl", annotations)
    records = SkeletonFile(file, skeleton_dir="kpts")
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path / "media")
    assert report.rejects == ()
    items = read_all(open_dataset(tmp_path / "set"))
    for number, (item, annotation) in enumerate(zip(items, poses(), strict=True)):
        check_pose(item, annotation)
        assert item["label"] == number


def test_files_of_their_own_may_be_those_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "kpts").mkdir()
    annotation = poses()[0]
    inside = {name.encode(): annotation[name] for name in ("keypoint", "keypoint_score")}
    data = makers.python2_pickle(inside)
    (tmp_path / "kpts" / f"{annotation['frame_dir']}.pkl").write_bytes(data)
    bare = {name: value for name, value in annotation.items() if name.encode() not in inside}
    file = write_pickle(tmp_path / "a.pkl", [bare | {"label": 3}])
    with pytest.raises(RejectsError, match="read the file with encoding 'latin1'"):
        pack(
            SkeletonFile(file, skeleton_dir="kpts"),
            tmp_path / "set",
            split="train",
            media_root=tmp_path,
        )
    records = SkeletonFile(file, skeleton_dir="kpts", encoding="latin1")
    pack(records, tmp_path / "set", split="train", media_root=tmp_path, replan=True)
    (item,) = read_all(open_dataset(tmp_path / "set"))
    check_pose(item, annotation)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_boxes_are_flagged_by_the_threshold_and_kept(tmp_path: Path, threshold: float) -> None:
    scores = np.array([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], dtype=np.float16)
    annotation = poses()[3] | {"label": 0, "box_score": scores, "valid": {threshold: 9}}
    file = write_pickle(tmp_path / "a.pkl", [annotation])
    records = SkeletonFile(file, valid_ratio=0.5, box_thr=threshold)
    pack(records, tmp_path / "set", split="train")
    (item,) = read_all(open_dataset(tmp_path / "set"))
    check_pose(item, annotation)
    # What MMAction2 computes.
    assert_array(item["anno_inds"], annotation["box_score"] >= threshold)


# Sounds


def mels() -> list[Array]:
    rng = np.random.default_rng(0)
    first, second, third = (rng.normal(size=(n, 80)) for n in (6, 11, 1))
    return [
        first.astype(np.float32),
        np.asfortranarray(second.astype(np.float16)),
        third,
        rng.normal(size=(6, 40)).astype(">f4"),
    ]


@pytest.fixture(scope="module")
def packed_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a split of mel features for each label mode."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "mel").mkdir()
    for number, mel in enumerate(mels()):
        np.save(folder / "mel" / f"{number}.npy", mel)
    for mode in MODES:
        lines = [(f"mel/{n}.npy", 10 + n, *labels) for n, labels in enumerate(LABELS[mode])]
        records = AudioList(write_lines(folder / f"{mode}.txt", lines), labels=mode)
        report = pack(records, folder / "set", split=mode, media_root=folder, shard_size=4_000)
        assert (report.packed, report.rejects) == (4, ())
    return folder / "set"


@pytest.mark.parametrize("mode", MODES)
def test_every_line_of_an_audio_list_comes_back(packed_sounds: Path, mode: LabelMode) -> None:
    items = read_all(open_dataset(packed_sounds, split=mode), UniformClip(3))
    whole = read_all(open_dataset(packed_sounds, split=mode))
    for number, (item, all_frames, mel) in enumerate(zip(items, whole, mels(), strict=True)):
        for found in (item, all_frames):
            assert_array(found["audios"], mel.astype(mel.dtype.newbyteorder("<")))
            assert (found["id"], found["total_frames"]) == (f"mel/{number}.npy", 10 + number)
            assert_labels(found, mode, LABELS[mode][number])
        assert_array(all_frames["frame_numbers"], np.arange(10 + number))
        assert item["frame_numbers"].shape == (3,)
        assert item["frame_numbers"].max() < 10 + number
    assert verify(packed_sounds, split=mode).findings == []


# Batches


def keep(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate items of different shapes."""
    return {"items": list(items)}


@pytest.fixture(scope="module")
def packed_videos(media_root: makers.MediaRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed_videos") / "set"
    records = VideoList(media_root.annotation)
    pack(records, out, split="one", media_root=media_root.root, shard_size=50_000)
    return out


TASK_FIXTURES = {
    "video": "packed_videos",
    "rawframes": "packed_frames",
    "skeleton": "packed_poses",
    "audio": "packed_sounds",
}


@pytest.fixture(params=TASK_FIXTURES)
def one_label_split(request: pytest.FixtureRequest) -> Split:
    """A split of each task."""
    split = open_dataset(request.getfixturevalue(TASK_FIXTURES[request.param]), split="one")
    assert split.manifest.task == request.param
    return split


@pytest.mark.parametrize("clip", [None, UniformClip(4)], ids=repr)
def test_batches_are_the_same_with_any_number_of_workers(
    one_label_split: Split, clip: UniformClip | None
) -> None:
    def batches(workers: int) -> list[Any]:
        dataset = ShardDataset(
            one_label_split, batch_size=3, clip=clip, seed=3, tail="ragged", collate=keep
        )
        dataset.set_epoch(1)
        return list(dataset.loader(workers=workers))

    here = batches(0)
    assert len(here) == -(-len(one_label_split) // 3)
    assert same(here, batches(1))
    assert same(here, batches(2))
    keys = [item["key"] for batch in here for item in batch["items"]]
    assert len(keys) == len(one_label_split)
    assert set(keys) == {item["key"] for item in read_all(one_label_split)}


def test_each_item_comes_once_an_epoch_whatever_the_batch(packed_frames: Path) -> None:
    split = open_dataset(packed_frames, split="one")
    for batch_size in (1, 2, 5):
        dataset = ShardDataset(split, batch_size=batch_size, clip=UniformClip(2), tail="ragged")
        for epoch in range(3):
            dataset.set_epoch(epoch)
            found = [
                (key, offset, label)
                for batch in dataset
                for key, offset, label in zip(
                    batch["id"], batch["offset"].tolist(), batch["label"].tolist(), strict=True
                )
            ]
            expected = [
                (line.folder, line.offset, labels[0])
                for line, labels in zip(LINES, LABELS["one"], strict=True)
            ]
            assert sorted(found) == sorted(expected)


def test_batches_of_one_shape_become_tensors(packed_frames: Path, packed_sounds: Path) -> None:
    frames_batch = next(
        iter(
            ShardDataset(
                open_dataset(packed_frames, split="many"),
                batch_size=4,
                clip=UniformClip(2),
                shuffle=False,
            )
        )
    )
    assert (frames_batch["frames"].dtype, frames_batch["frames"].shape) == (
        torch.uint8,
        (4, 2, 24, 40, 3),
    )
    assert frames_batch["offset"].dtype == torch.int64
    assert all(labels.dtype == torch.int64 for labels in frames_batch["labels"])
    with pytest.raises(ValueError, match=r"'audios': .* bring them to one by transform="):
        next(iter(ShardDataset(open_dataset(packed_sounds, split="one"), batch_size=4)))


def test_items_of_which_only_some_have_an_array_are_not_mixed_silently(packed_poses: Path) -> None:
    def cut(item: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in item.items() if not k.startswith(("keypoint", "frame_n"))} | {
            name: item[name].ravel()[:4].astype(np.float32)
            for name in ("keypoint", "keypoint_score")
            if name in item
        }

    split = open_dataset(packed_poses, split="one")
    for seed in range(4):
        dataset = ShardDataset(split, batch_size=4, seed=seed, transform=cut)
        with pytest.raises(ValueError, match=r"keypoint_score|frame_inds|box_score"):
            next(iter(dataset))


# Real annotations


@pytest.fixture
def pack_shared(shared_data: Path, tmp_path: Path) -> Callable[..., tuple[Split, PackReport]]:
    """Return a function that packs an annotation of the sample data and opens the split."""

    def pack_it(records: Any, media: str, **options: Any) -> tuple[Split, PackReport]:
        root = options.pop("media_root", shared_data / media)
        report = pack(records, tmp_path / "set", split="real", media_root=root, **options)
        assert verify(tmp_path / "set").findings == []
        return open_dataset(tmp_path / "set"), report

    return pack_it


REAL_POSES: list[tuple[str, str | None, list[str]]] = [
    ("coco2d_synthetic.pkl", "train", ["demo_0", "demo_1", "demo_2", "demo_3"]),
    ("coco2d_synthetic.pkl", "val", ["demo_4", "demo_5"]),
    ("list_synthetic.pkl", None, [f"demo_{number}" for number in range(6)]),
    ("ntu3d_synthetic.pkl", "xsub_train", ["S001C001P001R001A001", "S001C001P002R001A002"]),
    ("ntu3d_synthetic.pkl", "xsub_val", ["S001C001P003R001A003"]),
    ("k400_compressed_synthetic.pkl", None, ["c1", "c2"]),
]


def annotated(file: Path) -> dict[str, dict[str, Any]]:
    """Return the annotations of a file of the sample data, which is trusted, by id."""
    value = pickle.loads(file.read_bytes())
    entries = value if isinstance(value, list) else value["annotations"]
    return {entry["frame_dir"]: entry for entry in entries}


@pytest.mark.parametrize(("name", "source_split", "ids"), REAL_POSES)
def test_real_skeletons_come_back(
    shared_data: Path,
    pack_shared: Callable[..., tuple[Split, PackReport]],
    name: str,
    source_split: str | None,
    ids: list[str],
) -> None:
    file = shared_data / "skeleton" / name
    split, report = pack_shared(SkeletonFile(file, source_split=source_split), "skeleton")
    assert (report.entries, report.packed, report.rejects) == (len(ids), len(ids), ())
    by_id = annotated(file)
    items = read_all(split)
    assert [item["id"] for item in items] == ids
    for item in items:
        check_pose(item, by_id[item["id"]])
        assert item["label"] == by_id[item["id"]]["label"]


def test_real_compressed_skeletons_are_chosen_by_their_boxes(
    shared_data: Path, pack_shared: Callable[..., tuple[Split, PackReport]]
) -> None:
    file = shared_data / "skeleton" / "k400_compressed_synthetic.pkl"
    records = SkeletonFile(file, valid_ratio=0.72, box_thr=0.5)
    split, report = pack_shared(records, "skeleton")
    # 30 of 40 frames of c1 have such a box, 14 of 20 of c2.
    assert (report.entries, report.packed, report.excluded) == (2, 1, {"valid_ratio": 1})
    (item,) = read_all(split)
    check_pose(item, annotated(file)["c1"])
    assert_array(item["anno_inds"], annotated(file)["c1"]["box_score"] >= 0.5)
    (values,) = raw_values(split)
    assert dict(values["json"].valid) == annotated(file)["c1"]["valid"]


@pytest.mark.parametrize(("source_split", "count"), [("train", 15), ("val", 5)])
def test_real_skeletons_with_files_of_their_own_come_back(
    shared_data: Path,
    pack_shared: Callable[..., tuple[Split, PackReport]],
    tmp_path: Path,
    source_split: str,
    count: int,
) -> None:
    file = shared_data / "skeleton" / "k400_sample_subset.pkl"
    by_id = annotated(file)
    rng = np.random.default_rng(0)
    (tmp_path / "media" / "kpts").mkdir(parents=True)
    for name, entry in by_id.items():
        boxes = len(entry["frame_inds"])
        entry["keypoint"] = rng.normal(size=(boxes, 17, 3)).astype(np.float16)
        write_pickle(tmp_path / "media" / "kpts" / f"{name}.pkl", {"keypoint": entry["keypoint"]})
    records = SkeletonFile(file, source_split=source_split, skeleton_dir="kpts")
    split, report = pack_shared(records, "", media_root=tmp_path / "media")
    assert (report.packed, report.rejects) == (count, ())
    for item in read_all(split):
        check_pose(item, by_id[item["id"]])
        assert item["label"] == by_id[item["id"]]["label"]


def test_real_sounds_come_back(
    shared_data: Path, pack_shared: Callable[..., tuple[Split, PackReport]]
) -> None:
    records = AudioList(shared_data / "annotations" / "audio_train.txt")
    split, report = pack_shared(records, "audio_features")
    assert (report.packed, report.rejects) == (2, ())
    items = read_all(split)
    assert [item["id"] for item in items] == ["clip_audio.npy", "clip_audio_16k.npy"]
    for item in items:
        assert_array(item["audios"], np.load(shared_data / "audio_features" / item["id"]))
        assert (item["audios"].dtype, item["audios"].shape) == (np.float32, (190, 80))
        assert (item["total_frames"], item["label"]) == (75, 127)


REAL_FRAMES: list[tuple[str, dict[str, Any], list[tuple[int, int, list[int]]]]] = [
    ("rawframe_train.txt", {}, [(0, 30, [6])]),
    ("rawframe_multilabel.txt", {"labels": "many"}, [(0, 30, [6, 9])]),
    ("rawframe_offset.txt", {"with_offset": True}, [(0, 10, [6]), (10, 10, [6]), (20, 10, [2])]),
    ("rawframe_flow.txt", {"filename_tmpl": "flow_{}_{:05d}.jpg"}, [(0, 29, [6])]),
]


@pytest.mark.parametrize(("name", "options", "expected"), REAL_FRAMES)
def test_real_frames_come_back(
    shared_data: Path,
    pack_shared: Callable[..., tuple[Split, PackReport]],
    name: str,
    options: dict[str, Any],
    expected: list[tuple[int, int, list[int]]],
) -> None:
    records = RawframeList(shared_data / "annotations" / name, **options)
    split, report = pack_shared(records, "rawframes")
    assert (report.entries, report.packed, report.rejects) == (len(expected), len(expected), ())
    assert (len(split), split.manifest.shards[0].samples) == (len(expected), 1)
    folder = shared_data / "rawframes" / "demo_class" / "demo_clip"
    flow = "flow" in name
    patterns = ["flow_x_*.jpg", "flow_y_*.jpg"] if flow else ["img_*.jpg"]
    sources = [sorted(folder.glob(pattern)) for pattern in patterns]
    (values,) = raw_values(split)
    videos = ["flow_x", "flow_y"] if flow else [""]
    for video, files in zip(videos, sources, strict=True):
        dot = "." if video else ""
        part, table = values[f"{video}{dot}mp4"], values[f"{video}{dot}frames.npy"]
        assert split_stills(part, table) == [file.read_bytes() for file in files]
    planes = [
        np.stack([decode_file(f, "L" if flow else "RGB") for f in files]) for files in sources
    ]
    pixels = np.stack(planes, axis=-1) if flow else planes[0]
    mode = options.get("labels", "one")
    for item, (offset, total, labels) in zip(read_all(split), expected, strict=True):
        assert (item["id"], item["offset"]) == ("demo_class/demo_clip", offset)
        assert item["total_frames"] == total
        assert_array(item["frames"], pixels[offset : offset + total])
        assert_labels(item, mode, labels)
