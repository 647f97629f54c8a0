"""AVA's relatives from files to items: ids of AVA-Kinetics, and proposals that Python 2 wrote."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import makers
import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer import AvaCsv, pack
from clipshards.packer.format.errors import AnnotationError
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset

Boxes = npt.NDArray[np.floating]

OF_AVA = "a-b_c_d_e_f"
"""11 characters, as all names on YouTube; the underlines are its own."""
OF_KINETICS = "--u_0_7_-zz_000100_000103"
SAME_VIDEO = "--u_0_7_-zz_000200_000202"
"""Other seconds of it."""
BOX = "0.1,0.2,0.3,0.4"

groups = pytest.mark.parametrize("group", ["clip", "video"])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 3.2 s at 25 frames a second, by their ids: look, do not write."""
    folder = tmp_path_factory.mktemp("variants")
    for seed, name in enumerate((OF_AVA, OF_KINETICS, SAME_VIDEO, "café")):
        data = makers.video_bytes(
            frames=80, size=(48, 32), seed=seed, options={"g": "10", "bf": "2"}
        )
        (folder / f"{name}.mp4").write_bytes(data)
    return folder


def write_csv(folder: Path, moments: Sequence[tuple[str, int]]) -> Path:
    """Write a row for each moment; the action is the number of the row."""
    file = folder / "a.csv"
    rows = [f"{name},{second:04d},{BOX},{n},7" for n, (name, second) in enumerate(moments)]
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def items_of(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return all items by id and timestamp."""
    assert verify(out).damage == []
    dataset = ShardMapDataset(open_dataset(out))
    items = [dataset[number] for number in range(len(dataset))]
    found = {(item["video_id"], item["timestamp"]): item for item in items}
    assert len(found) == len(items)
    return found


# AVA-Kinetics


MOMENTS = [
    (OF_KINETICS, 100),
    (OF_AVA, 902),
    (SAME_VIDEO, 201),
    (OF_KINETICS, 102),
    (OF_AVA, 900),
]
STARTS = {OF_AVA: 900, OF_KINETICS: 100, SAME_VIDEO: 200}


@groups
def test_each_video_of_ava_kinetics_counts_from_its_own_start(
    group: Any, videos: Path, tmp_path: Path
) -> None:
    records = AvaCsv(
        write_csv(tmp_path, MOMENTS),
        kinetics_ids=True,
        media_tmpl="{}.mp4",
        clip_frames=8,
        group=group,
    )
    out = tmp_path / "set"
    report = pack(records, out, split="train", media_root=videos)
    assert (report.packed, report.rejects) == (len(MOMENTS), ())
    assert sum(shard.samples for shard in open_dataset(out).manifest.shards) == (
        len(MOMENTS) if group == "clip" else len(STARTS)
    )
    items = items_of(out)
    assert items.keys() == {*MOMENTS}
    for number, (name, second) in enumerate(MOMENTS):
        item = items[name, second]
        # A second is one of the video's own 25 frames, not of the 30 that AVA assumes.
        frame = 25 * (second - STARTS[name])
        numbers = [*range(max(frame - 4, 0), frame + 4)]
        assert (item["key_frame"], item["total_frames"]) == (frame, 80)
        assert item["frame_numbers"].tolist() == numbers
        frames = makers.frames_of((videos / f"{name}.mp4").read_bytes())
        assert np.array_equal(item["frames"], np.stack(frames)[numbers])
        assert (item["labels"].tolist(), item["entity_ids"].tolist()) == ([[0, number]], [7])
        assert item["id"] == (f"{name},{second:04d}" if group == "clip" else name)


@groups
def test_rows_outside_of_a_kinetics_range_or_video_are_rejected(
    group: Any, videos: Path, tmp_path: Path
) -> None:
    bad = [
        (OF_KINETICS, 99),
        (OF_KINETICS, 104),
        (OF_KINETICS, 902),
        (OF_AVA, 100),
        ("zzzzzzzzzzzz", 900),
        ("zzzzzzzzzzz_000105_000101", 101),
    ]
    records = AvaCsv(
        write_csv(tmp_path, [(OF_KINETICS, 103), *bad, (OF_AVA, 901)]),
        kinetics_ids=True,
        media_tmpl="{}.mp4",
        group=group,
    )
    out = tmp_path / "set"
    report = pack(records, out, split="train", media_root=videos)
    assert [row.origin for row in report.rejects] == [f"a.csv:{line}" for line in range(2, 8)]
    messages = [row.message for row in report.rejects]
    for message, words in zip(
        messages,
        ("of 100 to 103, got 99", "of 100 to 103", "of 100 to 103", "of 900 to 1800", "id", "id"),
        strict=True,
    ):
        assert words in message
    assert items_of(out).keys() == {(OF_KINETICS, 103), (OF_AVA, 901)}


def test_ids_of_kinetics_are_plain_ids_unless_asked_for(videos: Path, tmp_path: Path) -> None:
    records = AvaCsv(
        write_csv(tmp_path, [(OF_KINETICS, 102), (OF_KINETICS, 902)]), media_tmpl="{}.mp4"
    )
    out = tmp_path / "set"
    report = pack(records, out, split="train", media_root=videos)
    assert [row.origin for row in report.rejects] == ["a.csv:1"]
    assert items_of(out)[OF_KINETICS, 902]["key_frame"] == 50


@groups
def test_proposals_of_kinetics_are_found_with_and_without_the_range(
    group: Any, videos: Path, tmp_path: Path
) -> None:
    found = {
        "--u_0_7_-zz,0100": boxes(1, 1),
        f"{OF_KINETICS},0102": boxes(2, 2),
        f"{OF_AVA},0900": boxes(3, 3),
        "--u_0_7_-zz,0201": boxes(1, 4),
    }
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(found))
    records = AvaCsv(
        write_csv(tmp_path, MOMENTS),
        proposals=tmp_path / "p.pkl",
        kinetics_ids=True,
        media_tmpl="{}.mp4",
        group=group,
    )
    report = pack(records, tmp_path / "set", split="train", media_root=videos)
    assert report.rejects == ()
    assert any("1 of 5 key frames have no proposals" in text for text in report.warnings)
    items = items_of(tmp_path / "set")
    for moment, key in zip(
        [(OF_KINETICS, 100), (OF_KINETICS, 102), (OF_AVA, 900), (SAME_VIDEO, 201)],
        found,
        strict=True,
    ):
        assert_proposed(items[moment], found[key])
    assert items[OF_AVA, 902]["proposals"].shape == (0, 4)


# Proposals of Python 2


def boxes(count: int, seed: int, *, columns: int = 5) -> Boxes:
    found = np.random.default_rng(seed).random((count, columns)) / 2
    found[:, 2:] += 0.5
    return found


def assert_proposed(item: Mapping[str, Any], expected: Boxes) -> None:
    assert item["proposals"].dtype == item["proposal_scores"].dtype == np.float64
    assert item["proposals"].tolist() == expected[:, :4].tolist()
    if expected.shape[1] == 5:
        assert item["proposal_scores"].tolist() == expected[:, 4].tolist()
    else:
        assert np.isnan(item["proposal_scores"]).all()
        assert item["proposal_scores"].shape == (len(expected),)


PROPOSED = {
    b"a-b_c_d_e_f,0900": boxes(2, 1),
    # Without scores, and longer than 255 bytes.
    b"a-b_c_d_e_f,0902": boxes(12, 2, columns=4),
    # A character that is none of ASCII, in the encoding of the file.
    b"caf\xe9,0901": boxes(1, 3).astype(np.float32),
}
PROPOSED_MOMENTS = [(OF_AVA, 900), (OF_AVA, 902), ("café", 901)]


def test_the_proposals_made_by_hand_are_what_python_2_says() -> None:
    found = pickle.loads(makers.python2_pickle(PROPOSED), encoding="latin1")
    assert [*found] == [key.decode("latin1") for key in PROPOSED]
    for array, expected in zip(found.values(), PROPOSED.values(), strict=True):
        assert array.dtype == expected.dtype
        assert np.array_equal(array, expected)


def python2_records(folder: Path, **options: Any) -> AvaCsv:
    (folder / "p.pkl").write_bytes(makers.python2_pickle(PROPOSED))
    annotation = write_csv(folder, PROPOSED_MOMENTS)
    return AvaCsv(annotation, proposals=folder / "p.pkl", media_tmpl="{}.mp4", **options)


@groups
def test_proposals_of_python_2_come_out_of_the_items(
    group: Any, videos: Path, tmp_path: Path
) -> None:
    records = python2_records(tmp_path, pickle_encoding="latin1", group=group)
    report = pack(records, tmp_path / "set", split="train", media_root=videos)
    assert (report.packed, report.rejects) == (3, ())
    assert not [text for text in report.warnings if "p.pkl" in text]
    items = items_of(tmp_path / "set")
    for moment, expected in zip(PROPOSED_MOMENTS, PROPOSED.values(), strict=True):
        assert_proposed(items[moment], expected.astype(np.float64))


def test_proposals_of_python_2_name_the_remedy_and_nothing_is_written(
    videos: Path, tmp_path: Path
) -> None:
    with pytest.raises(AnnotationError, match=r"p\.pkl: .*encoding 'latin1'"):
        pack(python2_records(tmp_path), tmp_path / "set", split="train", media_root=videos)
    assert not (tmp_path / "set").exists()
