from pathlib import Path

import pytest

from clipshards.packer import RawframeList, pack
from clipshards.packer.format.errors import FormatError, StorageError
from clipshards.packer.media.synthetic import write_stills
from clipshards.readers.extract import extract_sample
from clipshards.readers.opening import open_dataset


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of frames, packed into `set`."""
    folder = tmp_path / "media" / "a"
    folder.mkdir(parents=True)
    write_stills(folder, frames=5, width=32, height=24)
    (tmp_path / "list.txt").write_text("a 5 0\n")
    pack(
        RawframeList(tmp_path / "list.txt"),
        tmp_path / "set",
        split="train",
        media_root=tmp_path / "media",
    )
    return folder


def test_frames_come_back_bit_for_bit_under_their_names(frames: Path, tmp_path: Path) -> None:
    raw = open_dataset(tmp_path / "set").read_sample(0, 0)
    written = extract_sample(raw, "rawframes", tmp_path / "out")
    folder = tmp_path / "out" / "train-00000000"
    assert sorted(written) == sorted(folder.iterdir())
    assert sorted(path.name for path in written) == sorted(path.name for path in frames.iterdir())
    for path in written:
        assert path.read_bytes() == (frames / path.name).read_bytes()


def test_flow_comes_back_bit_for_bit(shared_data: Path, tmp_path: Path) -> None:
    pack(
        RawframeList(
            shared_data / "annotations" / "rawframe_flow.txt",
            filename_tmpl="flow_{}_{:05d}.jpg",
        ),
        tmp_path / "set",
        split="train",
        media_root=shared_data / "rawframes",
    )
    raw = open_dataset(tmp_path / "set").read_sample(0, 0)
    written = extract_sample(raw, "rawframes", tmp_path / "out")
    assert len(written) == 58
    for path in written:
        source = shared_data / "rawframes" / "demo_class" / "demo_clip" / path.name
        assert path.read_bytes() == source.read_bytes()


def test_other_samples_come_back_part_by_part(location: Path, tmp_path: Path) -> None:
    raw = open_dataset(location, split="train").read_sample(0, 0)
    written = extract_sample(raw, "video", tmp_path)
    due = {f"{raw.key}.{name}": data for name, data in raw.parts.items()}
    assert {path.name: path.read_bytes() for path in written} == due


def test_no_file_is_replaced(frames: Path, tmp_path: Path) -> None:
    raw = open_dataset(tmp_path / "set").read_sample(0, 0)
    extract_sample(raw, "rawframes", tmp_path / "out")
    with pytest.raises(StorageError, match="cannot be written: File exists"):
        extract_sample(raw, "rawframes", tmp_path / "out")


@pytest.mark.parametrize("key", ["../up", "a/b", "..", "/abs"])
def test_a_key_cannot_lead_out_of_the_folder(frames: Path, tmp_path: Path, key: str) -> None:
    raw = open_dataset(tmp_path / "set").read_sample(0, 0)._replace(key=key)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FormatError, match="leads out of the folder"):
        extract_sample(raw, "rawframes", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before
