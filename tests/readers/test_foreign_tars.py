"""Tars without a manifest: decoded as ours are, nothing skipped in silence, nothing unpickled."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_inputs import moments, small_skeletons, write_videos
from torch.utils.data import DataLoader

from clipshards.packer import ActivityNetRecord, pack
from clipshards.packer.format.errors import DecodeError, FormatError, StorageError
from clipshards.readers import DenseClip, ShardMapDataset, UniformClip, open_dataset
from clipshards.readers.foreign_tars import (
    ForeignItems,
    ForeignTarsWarning,
    decode_any_npy,
)
from clipshards.readers.strict_tar import read_tar

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

Members = Sequence[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def tar_of(members: Members, **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def opened(urls: Any, **options: Any) -> ForeignItems:
    with pytest.warns(ForeignTarsWarning, match="without a manifest"):
        return ForeignItems(urls, **{"shuffle": 0, **options})


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def numbered(count: int, start: int = 0) -> Members:
    return [
        (f"{number:05d}.{part}", data)
        for number in range(start, start + count)
        for part, data in (("cls", str(number).encode()), ("x.npy", npy(np.arange(number))))
    ]


def labels(items: Any) -> list[int]:
    return [item["label"] for item in items]


# Items


def test_parts_are_decoded_by_their_names(tmp_path: Path) -> None:
    video = makers.short_video(3, frames=20)
    stored: dict[str, bytes] = {
        "MP4": video,
        "npy": npy(np.asfortranarray(np.arange(6).reshape(2, 3))),
        "joints.npy": npy(np.array([1, 2], np.float16)),
        "json": b'{"a": [1, 2], "frames": null}',
        "meta.json": b"[]",
        "cls": b" 7\n",
        "txt": "tränen".encode(),
        "jpg": b"\xff\xd8\xff",
        "cam.mp4": video,
    }
    with wds.TarWriter(str(tmp_path / "a.tar"), encoder=False) as tar:
        tar.write({"__key__": "clips/one", **stored})
    (item,) = opened(tmp_path / "a.tar", clip=UniformClip(4, jitter=False))
    frames = makers.frames_of(video)
    assert item["total_frames"] == len(frames)
    np.testing.assert_array_equal(
        item.pop("frames"), np.stack([frames[n] for n in item.pop("frame_numbers")])
    )
    np.testing.assert_array_equal(item.pop("npy"), [[0, 1, 2], [3, 4, 5]])
    joints = item.pop("joints.npy")
    assert joints.dtype == np.float16
    assert joints.flags.writeable
    assert item == {
        "__key__": "clips/one",
        "__url__": str(tmp_path / "a.tar"),
        "key": "clips/one",
        "total_frames": 20,
        "json": {"a": [1, 2], "frames": None},
        "meta.json": [],
        "label": 7,
        "txt": "tränen",
        "jpg": b"\xff\xd8\xff",
        "cam.mp4": video,
    }


def test_a_turned_video_comes_upright(tmp_path: Path) -> None:
    video = makers.video_bytes(size=(64, 48), frames=5, rotation=90)
    (tmp_path / "a.tar").write_bytes(tar_of([("a.mp4", video)]))
    (item,) = opened(tmp_path / "a.tar")
    assert item["frames"].shape == (5, 64, 48, 3)


BAD: list[tuple[str, bytes, type[Exception], str]] = [
    ("mp4", b"no video at all", DecodeError, "the decoder failed"),
    ("npy", b"\x93NUMPX", FormatError, "expected an npy array"),
    ("npy", b"", FormatError, "expected an npy array"),
    ("npy", npy([{"a": 1}]), FormatError, "holds Python objects"),
    ("npy", npy(np.arange(9))[:-1], FormatError, "needs 72 bytes, got 71"),
    ("npy", pickle.dumps([1]), FormatError, "expected an npy array"),
    ("json", b"{", FormatError, "expected JSON"),
    ("json", b"[" * 100_000, FormatError, "expected JSON"),
    ("cls", b"cat", FormatError, "expected a whole number, got b'cat'"),
    ("cls", b"9" * 10_000, FormatError, "expected a whole number"),
    ("txt", b"\xff", FormatError, "expected text in UTF-8"),
]


@pytest.mark.parametrize(("part", "data", "error", "says"), BAD)
def test_what_cannot_be_decoded_is_named(
    tmp_path: Path, part: str, data: bytes, error: type[Exception], says: str
) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of([("k1.cls", b"1"), (f"k2.{part}", data)]))
    items = iter(opened(tmp_path / "a.tar"))
    assert next(items)["label"] == 1
    with pytest.raises(error, match=says) as caught:
        next(items)
    assert str(caught.value).startswith(f"{tmp_path / 'a.tar'}: k2.{part}: ")


class Trap:
    """Ends the test when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("part", ["pyd", "pkl", "pickle", "pth", "pt", "x.pyd", "pyd.gz", "ten"])
def test_nothing_is_unpickled(tmp_path: Path, part: str) -> None:
    data = pickle.dumps(Trap())
    (tmp_path / "a.tar").write_bytes(tar_of([(f"k.{part}", data)]))
    (item,) = opened(tmp_path / "a.tar")
    assert item[part] == data


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -1), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
    "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999), }",
    "(" * 9000,
    "__import__('os').abort()",
    "{'descr': '<f4'",
    "\0'",
    "L" * 30,
]


@pytest.mark.parametrize("header", HEADERS)
def test_hostile_arrays_are_refused(header: str) -> None:
    text = header.encode().ljust(118, b" ") + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(16)
    with pytest.raises(FormatError, match=r"^w: "):
        decode_any_npy(data, where="w")


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_noise_is_no_array(data: bytes) -> None:
    for start in (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00"):
        with pytest.raises(FormatError):
            decode_any_npy(start + data, where="w")


# Shards of ours whose manifest is lost


@pytest.mark.parametrize("task", ["skeleton", "ava", "activitynet", "bare", "multi", "train"])
def test_shards_of_ours_give_our_items(
    task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mode, split = "one", "train"
    if task == "skeleton":
        pack(small_skeletons(9), tmp_path, split="train", shard_size=15_000)
    elif task == "ava":
        records = replace(moments(tmp_path), group="video")
        pack(records, tmp_path, split="train", media_root=write_videos(tmp_path))
    elif task == "activitynet":
        # The parts of a video sample, and another json.
        pack(untrimmed(), tmp_path, split="train", media_root=write_videos(tmp_path))
    else:
        # Of these, `bare` has no frame tables.
        tmp_path, split = request.getfixturevalue("location"), task
        mode = {"bare": "none", "multi": "many", "train": "one"}[task]
    opened_split = open_dataset(tmp_path, split=split)
    clip = UniformClip(3, jitter=False)
    expected = ShardMapDataset(opened_split, clip=clip)
    found = list(opened(f"{tmp_path}/{split}/{split}-{{000000..{shards(opened_split)}}}.tar",
                        clip=clip, labels=mode))  # fmt: skip
    assert len(found) == len(expected)
    for one, other in zip(found, (expected[n] for n in range(len(expected))), strict=True):
        assert one.pop("__key__") == other["key"]
        assert one.pop("__url__").startswith(str(tmp_path / split))
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


def untrimmed() -> list[ActivityNetRecord]:
    return [
        ActivityNetRecord(
            id=str(number),
            video=f"{number}.mp4",
            segments=((0.1, 0.5),),
            segment_labels=("run",),
            duration_s=1.0,
        )
        for number in range(3)
    ]


def shards(split: Any) -> str:
    return f"{len(split.manifest.shards) - 1:06d}"


def test_labels_of_another_kind_are_refused(location: Path) -> None:
    with pytest.raises(FormatError, match=r"labels in a split of mode 'one'; give labels="):
        list(opened(location / "multi" / "multi-000000.tar"))
    with pytest.raises(ValueError, match="labels 'some': expected one of"):
        ForeignItems("a.tar", labels="some")  # type: ignore[arg-type]


def test_an_empty_shard_of_ours_is_no_error(location: Path) -> None:
    tars = sorted((location / "gaps").glob("*.tar"))
    counts = [len(list(read_tar(str(tar)))) for tar in tars]
    assert 0 in counts
    assert len(list(opened(tars))) == sum(counts) == 6


# Damage


def test_a_cut_tar_never_ends_in_silence(tmp_path: Path) -> None:
    members = numbered(6)
    data = tar_of(members)
    end = len(data.rstrip(b"\0"))
    end += -end % 512
    url = str(tmp_path / "a.tar")
    for cut in (*range(0, end + 1, 512), *range(1, end, 300)):
        Path(url).write_bytes(data[:cut])
        with pytest.raises(FormatError) as caught:
            list(read_tar(url))
        assert url in str(caught.value)
    for cut in (end + 512, end + 1024, len(data)):
        Path(url).write_bytes(data[:cut])
        assert len(list(read_tar(url))) == 6


def test_a_cut_compressed_tar_never_ends_in_silence(tmp_path: Path) -> None:
    data = gzip.compress(tar_of(numbered(6)), mtime=0)
    url = str(tmp_path / "a.tar.gz")
    Path(url).write_bytes(data)
    assert len(list(read_tar(url))) == 6
    refused = 0
    for cut in range(0, len(data), 7):
        Path(url).write_bytes(data[:cut])
        try:
            # Only zeros behind the end are gone.
            assert len(list(read_tar(url))) == 6
        except FormatError:
            refused += 1
    assert refused > len(data) / 7 / 2


@settings(max_examples=150)
@given(where=st.integers(0, 511), bit=st.integers(0, 7), member=st.integers(0, 5))
def test_a_flipped_bit_of_a_header_never_ends_in_silence(
    tmp_path_factory: pytest.TempPathFactory, where: int, bit: int, member: int
) -> None:
    data = bytearray(tar_of(numbered(3)))
    offsets = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        offsets = [info.offset for info in tar]
    data[offsets[member] + where] ^= 1 << bit
    url = tmp_path_factory.getbasetemp() / "flipped.tar"
    url.write_bytes(data)
    try:
        found = [(raw.key, raw.parts) for raw in read_tar(str(url))]
    except FormatError:
        return
    # Bits of the checksum that do not count.
    url.write_bytes(tar_of(numbered(3)))
    assert found == [(raw.key, raw.parts) for raw in read_tar(str(url))]


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HUGE = [
    b"77777777777\0",
    (1 << 95 | 2**80).to_bytes(12, "big"),
    (1 << 95 | 2**62).to_bytes(12, "big"),
]


@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("name", ["a.mp4", "__index__", "README", "a.npy"])
def test_a_claim_of_more_bytes_than_there_are(tmp_path: Path, size: bytes, name: str) -> None:
    data = tar_of([("0.cls", b"1")])[:1024] + header(name, size) + bytes(4096)
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(FormatError, match=rf"a\.tar: {name}: cut off"):
        list(read_tar(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("size", [-1, -512, -(2**40)])
def test_a_negative_size_is_refused(tmp_path: Path, size: int) -> None:
    block = header("a.cls", size.to_bytes(12, "big", signed=True))
    (tmp_path / "a.tar").write_bytes(tar_of([("0.cls", b"1")])[:1024] + block + bytes(4096))
    with pytest.raises(FormatError, match=rf"a\.tar: 'a\.cls' has {size} bytes"):
        list(read_tar(str(tmp_path / "a.tar")))


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"6", b"S", b"Z"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    block = header("a.cls", b"00000000000\0", kind)
    (tmp_path / "a.tar").write_bytes(tar_of([("0.cls", b"1")])[:1024] + block + bytes(1024))
    with pytest.raises(FormatError, match=r"a\.tar: a\.cls: no plain file|damaged"):
        list(read_tar(str(tmp_path / "a.tar")))


def test_items_of_our_shards_can_be_changed(tmp_path: Path) -> None:
    pack(small_skeletons(3), tmp_path, split="train")
    first, second, _ = opened(tmp_path / "train" / "train-000000.tar")
    arrays = [name for name, value in first.items() if isinstance(value, np.ndarray)]
    assert {"keypoint", "img_shape"} <= set(arrays)
    for name in arrays:
        before = second[name].copy()
        first[name][...] = 1
        assert (second[name] == before).all(), name


def test_names_are_text_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    names = ["../../evil.txt", "/etc/evil.txt", "a/../b.txt", f"{'x' * 300}.txt", "./c.txt"]
    (folder / "a.tar").write_bytes(tar_of([(name, b"t") for name in names]))
    assert [item["key"] for item in opened(folder / "a.tar")] == [n[:-4] for n in names]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "a.tar"]


def test_what_is_no_part_of_a_sample_is_told(tmp_path: Path) -> None:
    members = [("README", b"x"), ("0.cls", b"0"), ("._0.cls", b"x"), ("1.cls", b"1")]
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    with pytest.warns(ForeignTarsWarning) as caught:
        found = list(read_tar(str(tmp_path / "a.tar")))
    assert [raw.key for raw in found] == ["0", "1"]
    assert [str(one.message) for one in caught] == [
        f"{tmp_path / 'a.tar'}: {name}: no key and part name, left out"
        for name in ("README", "._0.cls")
    ]


def test_folders_and_descriptions_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT,
                      pax_headers={"comment": "c"}) as tar:  # fmt: skip
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("__meta__", "d/1.cls", "__index__"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"5"))
    assert [item["label"] for item in opened(tmp_path / "a.tar")] == [5]


WRONG: list[tuple[bytes, str]] = [
    (tar_of([("0.cls", b"1"), ("0.CLS", b"2")]), r"0\.CLS: part 'cls' comes twice"),
    (
        tar_of([("0.cls", b"1"), ("1.cls", b"2"), ("0.txt", b"2")]),
        r"0\.txt: other samples stand between the parts of 0; .*sorted by name",
    ),
    (bytes(10240), "an empty tar"),
    (b"", "empty file|cut off"),
    (tar_of(numbered(2)) + tar_of(numbered(2, 2)), "data behind the end .* joined by cat"),
    (b"<html>404</html>" * 100, r"a\.tar: "),
]


@pytest.mark.parametrize(("data", "says"), WRONG)
def test_tars_that_would_lose_samples_are_refused(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(FormatError, match=says):
        list(read_tar(str(tmp_path / "a.tar")))


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.tar: .*No such file"):
        list(opened(tmp_path / "gone.tar"))
    (tmp_path / "a.tar").write_bytes(tar_of(numbered(3)))
    assert labels(opened(f"pipe:cat {tmp_path}/a.tar")) == [0, 1, 2]
    with pytest.raises(StorageError, match="exit 3"):
        list(opened(f"pipe:cat {tmp_path}/a.tar; exit 3"))
    # Not heard out.
    items = iter(opened(f"pipe:cat {tmp_path}/a.tar {tmp_path}/a.tar"))
    assert next(items)["label"] == 0
    items.close()  # type: ignore[attr-defined]


# Order, epochs, workers


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tars")
    for number in range(5):
        (folder / f"x-{number}.tar").write_bytes(tar_of(numbered(8, 8 * number)))
    return f"{folder}/x-{{0..4}}.tar"


def test_the_order_is_that_of_the_epoch_and_the_seed(tars: str) -> None:
    assert labels(opened(tars)) == list(range(40))
    items = opened(tars, shuffle=10, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        items.set_epoch(epoch)
        orders.append(labels(items))
    assert orders[0] == orders[2] == labels(opened(tars, shuffle=10, seed=3))
    assert orders[0] != orders[1]
    assert labels(opened(tars, shuffle=10, seed=4)) not in orders
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(40))}
    with pytest.raises(ValueError, match="epoch -1"):
        items.set_epoch(-1)


def test_random_frames_are_those_of_the_epoch(tmp_path: Path) -> None:
    members = [(f"{n}.mp4", makers.short_video(n, frames=30)) for n in range(3)]
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    items = opened(tmp_path / "a.tar", clip=DenseClip(2))

    def chosen(epoch: int) -> list[list[int]]:
        items.set_epoch(epoch)
        return [item["frame_numbers"].tolist() for item in items]

    assert chosen(0) == chosen(0)
    assert len({str(chosen(epoch)) for epoch in range(4)}) == 4
    assert len({str(numbers) for numbers in chosen(0)}) > 1


@pytest.mark.parametrize("workers", [0, 2, 7])
def test_pipelines_and_workers_get_each_tar_once(tars: str, workers: int) -> None:
    items = opened(tars, shuffle=5)
    pipeline = wds.DataPipeline(items, wds.to_tuple("label", "__key__"), wds.batched(3))
    loader = DataLoader(
        pipeline, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    orders = []
    for epoch in range(2):
        items.set_epoch(epoch)
        orders.append([label for batch in loader for label in batch[0].tolist()])
        assert sorted(orders[-1]) == list(range(40))
    assert orders[0] != orders[1]


def test_ranks_get_whole_tars(tars: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(labels(opened(tars, shuffle=4)))
    assert [len(share) for share in shares] == [24, 16]
    assert sorted(shares[0] + shares[1]) == list(range(40))


def test_it_says_what_is_missing(tars: str) -> None:
    with pytest.warns(ForeignTarsWarning) as caught:
        items = ForeignItems(tars, shuffle=50)
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    for words in (
        "no checksum",
        "a shuffle buffer of 50 samples",
        "cannot go on in the middle",
        "each item once",
        "no len()",
    ):
        assert words in text
    assert not hasattr(items, "__len__")
    assert not hasattr(items, "state_dict")


def test_arguments_that_do_not_fit_are_refused(tars: str) -> None:
    with pytest.raises(ValueError, match="the url of a tar"):
        ForeignItems([])
    with pytest.raises(ValueError, match="shuffle -1"):
        ForeignItems(tars, shuffle=-1)
    with pytest.raises(TypeError, match="expected a Clip"):
        ForeignItems(tars, clip=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed -1"):
        ForeignItems(tars, seed=-1)
