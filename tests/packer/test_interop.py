"""The untouched output, read by tools that know nothing of clipshards."""

import gc
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import VideoRecord, pack

Samples = Callable[[Path], dict[str, dict[str, bytes]]]


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of several shards; in the middle, all entries of a shard were rejected."""
    media = tmp_path_factory.mktemp("interop") / "media"
    shutil.copytree(videos, media)
    (media / "x.mp4").write_bytes(bytes(200_000))
    names = ["v0", "v1", "v2", "v3", "x", "x", "v4", "v5", "v6", "v7"]
    records = [VideoRecord(f"{name}.mp4", (label,)) for label, name in enumerate(names)]
    out = media.parent / "out"
    pack(records, out, split="train", media_root=media, seed=None, shard_size=90_000)
    return out


@pytest.fixture
def unclosed() -> Iterator[None]:
    """Collect what a foreign reader leaves open within the test, where that is no error."""
    yield
    gc.collect()


# webdataset and wids leave closing to the garbage collector.
leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def shards_of(packed: Path) -> list[Path]:
    return sorted((packed / "train").glob("*.tar"))


def test_there_is_a_shard_with_an_index_alone(packed: Path) -> None:
    counts = []
    for shard in shards_of(packed):
        with tarfile.open(shard, "r:") as archive:
            counts.append(len(archive.getnames()))
    assert len(counts) > 3
    assert 1 in counts[1:-1]


def test_tarfile_finds_ustar_headers_without_owner_or_time(packed: Path) -> None:
    for shard in shards_of(packed):
        with tarfile.open(shard, "r:", errorlevel=2) as archive:
            assert archive.pax_headers == {}
            for member in archive.getmembers():
                assert member.isreg()
                assert member.type == tarfile.REGTYPE
                assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
                assert (member.mode, member.mtime) == (0o644, 0)
                assert member.pax_headers == {}


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_gnu_tar_lists_and_extracts(packed: Path, tmp_path: Path, read_samples: Samples) -> None:
    found: dict[str, dict[str, bytes]] = {}
    for shard in shards_of(packed):
        listed = subprocess.run(["tar", "-tf", shard], capture_output=True, text=True, check=True)
        assert listed.stderr == ""
        folder = tmp_path / shard.stem
        folder.mkdir()
        done = subprocess.run(
            ["tar", "-xf", shard, "-C", folder], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        names = listed.stdout.splitlines()
        assert names[-1] == "__index__"
        assert sorted(names) == sorted(file.name for file in folder.iterdir())
        for name in names[:-1]:
            key, part = name.split(".", 1)
            found.setdefault(key, {})[part] = (folder / name).read_bytes()
    assert found == read_samples(packed / "train")


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_gnu_tar_reads_shards_one_behind_the_other(packed: Path) -> None:
    data = b"".join(shard.read_bytes() for shard in shards_of(packed))
    done = subprocess.run(["tar", "-t", "-i"], input=data, capture_output=True, check=True)
    assert done.stderr == b""
    names = done.stdout.decode().splitlines()
    assert names.count("__index__") == len(shards_of(packed))
    assert len(names) == 8 * 3 + len(shards_of(packed))


@leaves_files_open
@pytest.mark.usefixtures("unclosed")
def test_webdataset_gives_the_same_keys_and_bytes_in_order(
    packed: Path, read_samples: Samples
) -> None:
    import webdataset

    urls = [str(shard) for shard in shards_of(packed)]
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    expected = read_samples(packed / "train")
    assert [sample["__key__"] for sample in found] == list(expected)
    for sample in found:
        parts = {name: data for name, data in sample.items() if not name.startswith("__")}
        assert parts == expected[sample["__key__"]]


@leaves_files_open
@pytest.mark.usefixtures("unclosed")
def test_webdataset_decodes_the_small_parts(packed: Path) -> None:
    import webdataset

    urls = [str(shard) for shard in shards_of(packed)]
    for sample in webdataset.WebDataset(urls, shardshuffle=False).decode():
        assert sample["json"]["labels"]
        assert sample["frames.npy"].shape == (12, 6)
        assert isinstance(sample["mp4"], bytes)


@leaves_files_open
@pytest.mark.usefixtures("unclosed")
def test_wids_gives_the_same_keys_and_bytes_by_number(
    packed: Path, tmp_path: Path, read_samples: Samples
) -> None:
    from wids import ShardListDataset

    dataset = ShardListDataset(
        str(packed / "train.wids.json"), cache_dir=str(tmp_path / "cache"), transformations=[]
    )
    expected = read_samples(packed / "train")
    assert len(dataset) == len(expected) == 8
    keys = []
    for number in range(len(dataset)):
        sample: dict[str, Any] = dataset[number]
        keys.append(sample["__key__"])
        parts = {
            name.removeprefix("."): data.getvalue()
            for name, data in sample.items()
            if isinstance(data, io.BytesIO)
        }
        assert parts == expected[sample["__key__"]]
    assert keys == list(expected)
    dataset.close()


@leaves_files_open
@pytest.mark.usefixtures("unclosed")
def test_wids_opens_the_list_from_the_folder_of_the_data_set(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wids import ShardListDataset

    monkeypatch.chdir(packed)
    dataset = ShardListDataset(
        "train.wids.json", cache_dir=str(tmp_path / "cache"), transformations=[]
    )
    assert dataset[7]["__key__"] == "train-00000009"
    dataset.close()


def test_wids_list_names_shards_relative_to_itself(packed: Path) -> None:
    value = json.loads((packed / "train.wids.json").read_text())
    assert value["wids_version"] == 1
    for row in value["shardlist"]:
        assert (packed / row["url"]).is_file()
    assert sum(row["nsamples"] for row in value["shardlist"]) == 8
