"""The golden files of version 1 stay what they are, and give today's readers the same items."""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from golden.describe import SPLITS, describe_split
from golden.golden_samples import SAID
from golden.make_golden import make_golden

from clipshards.packer.format.frame_table import DISPOSABLE, FLAGS, RANDOM_ACCESS, RANK
from clipshards.packer.format.names import VERSION
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.frames.scan import scan_video
from clipshards.packer.media.sound import open_sound
from clipshards.readers.integrity import verify

GOLDEN = Path(__file__).parents[1] / "golden"
ITEMS: dict[str, Any] = json.loads((GOLDEN / "items.json").read_text(encoding="utf-8"))
# How far the means of pixels may lie apart: other releases of libjpeg-turbo, other processors.
TOLERANCE = 1.0

VIDEOS = sorted(name for name in SAID if name.endswith(("mp4", "mkv", "mov", "avi", "webm")))
with_table = pytest.mark.parametrize("name", [name for name in VIDEOS if SAID[name]["table"]])


def test_no_golden_file_was_rewritten() -> None:
    lines = (GOLDEN / f"v{VERSION}.sha256").read_text(encoding="ascii").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {
        str(path.relative_to(GOLDEN)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (f"v{VERSION}", "media")
        for path in (GOLDEN / folder).rglob("*")
        if path.is_file()
    }
    found["media.json"] = hashlib.sha256((GOLDEN / "media.json").read_bytes()).hexdigest()
    assert found == listed


def test_the_script_rewrites_nothing(tmp_path: Path) -> None:
    make_golden(tmp_path)
    make_golden(tmp_path)
    path = tmp_path / f"v{VERSION}" / "mixed" / "val" / "manifest.json"
    path.write_bytes(b"older")
    with pytest.raises(FileExistsError, match=r"manifest\.json: golden files are never rewritten"):
        make_golden(tmp_path)
    assert path.read_bytes() == b"older"


def differences(found: Any, expected: Any, place: str) -> list[str]:
    """Return the places where two descriptions differ."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        inner = [(found[key], expected[key], f"{place}.{key}") for key in found]
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        inner = [
            (*pair, f"{place}[{n}]") for n, pair in enumerate(zip(found, expected, strict=True))
        ]
    elif ".quarters[" in place and isinstance(found, float):
        return [] if math.isclose(found, expected, abs_tol=TOLERANCE) else [place]
    else:
        return [] if type(found) is type(expected) and found == expected else [place]
    return [fault for pair in inner for fault in differences(*pair)]


@pytest.mark.parametrize("name", ITEMS)
def test_readers_give_the_items_that_they_gave_at_the_freeze(name: str) -> None:
    # By way of JSON, as what was kept came.
    assert differences(json.loads(json.dumps(describe_split(name))), ITEMS[name], name) == []


def test_items_of_all_golden_splits_were_kept() -> None:
    assert sorted(ITEMS) == SPLITS
    assert {said["task"] for said in ITEMS.values()} == {
        "video", "rawframes", "skeleton", "audio", "ava", "activitynet"
    }  # fmt: skip


def test_nothing_is_wrong_with_the_golden_data_sets() -> None:
    for name in SPLITS:
        report = verify(GOLDEN / f"v{VERSION}" / name.split("/")[0], level="deep")
        assert [str(finding) for finding in report.findings] == []
        assert report.samples


def media(name: str) -> bytes:
    return (GOLDEN / "media" / name).read_bytes()


def table_of(name: str) -> Any:
    return np.array(SAID[name]["table"], dtype=np.int64).reshape(-1, 6)


@pytest.mark.parametrize("name", VIDEOS)
def test_packing_finds_in_a_video_what_it_found_at_the_freeze(name: str) -> None:
    scan = scan_video(media(name))
    # By way of JSON, which has no tuples.
    assert json.loads(json.dumps(scan.info.to_json())) == SAID[name]["video"]
    assert scan.table.tolist() == SAID[name]["table"]


def fed_for(table: Any, row: int, *, left_out: bool) -> list[int]:
    """Return the rows that give a row's picture, by docs/format.md, section 5.3, rules 4 to 6."""
    entries = [n for n in range(row + 1) if table[n, FLAGS] & RANDOM_ACCESS]
    leading = table[entries[-1], RANK] > table[row, RANK]
    fed = [
        n
        for n in range(entries[-2 if leading else -1], row + 1)
        if n == row or not (left_out and table[n, FLAGS] & DISPOSABLE)
    ]
    behind = row + 1
    while behind < len(table) and table[behind, RANK] < 0 and not table[behind, FLAGS] & 1:
        fed.append(behind)
        behind += 1
    return fed


def decoder(said: dict[str, Any]) -> VideoCodecContext:
    """Return a decoder that knows of the container what `json` says."""
    context = av.CodecContext.create(said["codec"], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    if said["extradata"]:
        context.extradata = base64.b64decode(said["extradata"])
    context.codec_tag = said["codec_tag"]
    context.width, context.height = said["coded_width"], said["coded_height"]
    context.color_range, context.colorspace = said["color_range"], said["color_space"]
    context.color_primaries = said["color_primaries"]
    context.color_trc = said["color_transfer"]
    context.reorder_depth = said["reorder_depth"]
    return context


@with_table
@pytest.mark.parametrize("left_out", [False, True])
def test_every_frame_comes_by_the_rules_of_the_page(name: str, left_out: bool) -> None:
    data, table, said = media(name), table_of(name), SAID[name]
    for row in np.flatnonzero(table[:, RANK] >= 0).tolist():
        context = decoder(said["video"])
        found: dict[int | None, Any] = {}
        for number in fed_for(table, row, left_out=left_out):
            offset, size = table[number, :2].tolist()
            packet = av.Packet(size)
            packet.update(data[offset : offset + size])
            packet.pts = number
            found |= {picture.pts: picture for picture in context.decode(packet)}
        found |= {picture.pts: picture for picture in context.decode(None)}
        planes = found[row].to_ndarray().tobytes()
        rank = int(table[row, RANK])
        assert hashlib.sha256(planes).hexdigest() == said["frames_sha256"][rank], f"frame {rank}"


@pytest.mark.parametrize("name", ["jpeg", "png", "x", "y"])
def test_files_of_frames_come_back_with_their_pixels(name: str) -> None:
    # Not through a reader: a file is cut out by the table and given to the decoder alone.
    from clipshards.packer.frames.stills import decode_still

    part, table = media(f"{name}.stills.mp4"), table_of(name)
    for row, means in zip(table.tolist(), SAID[name]["means"], strict=True):
        pixels = decode_still(part[row[0] : row[0] + row[1]])
        found = pixels.reshape(-1, 3).mean(axis=0) if pixels.ndim == 3 else [pixels.mean()] * 3
        assert np.allclose(found, means, atol=TOLERANCE if name == "jpeg" else 0.01)


@pytest.mark.parametrize("name", ["tone.wav", "tone.flac"])
def test_kept_sound_comes_back_exactly(name: str) -> None:
    with open_sound(media(name)) as sound:
        samples = np.concatenate([*sound.pieces], axis=1)
        assert sound.rate_hz == SAID[name]["sample_rate_hz"]
    assert samples.shape[1] / sound.rate_hz == SAID[name]["duration_s"]
    assert hashlib.sha256(samples.tobytes()).hexdigest() == SAID[name]["samples_sha256"]


def test_the_media_are_of_every_kind_that_the_format_tells_apart() -> None:
    tables = {name: table_of(name) for name in VIDEOS}
    assert not len(tables["no_table.mp4"])
    assert SAID["no_table.mp4"]["video"]["no_table_because"]
    assert (tables["sparse.mp4"][:, FLAGS] & DISPOSABLE).any()
    assert (tables["edit_list.mp4"][:, RANK] < 0).any()
    leading = tables["leading.mp4"]
    behind = np.flatnonzero(leading[:, FLAGS] & RANDOM_ACCESS)[1]
    assert (leading[behind + 1 :, RANK] < leading[behind, RANK]).any()
    # An open GOP of H.264 is no random-access point.
    assert np.flatnonzero(tables["open_gop.mkv"][:, FLAGS] & RANDOM_ACCESS).tolist() == [0]
    assert SAID["turned.mp4"]["video"]["rotation"] in (90, -90)
    assert SAID["turned.mp4"]["demuxed"]["frame_table"] == "demux"
    assert decode_frames(
        media("no_table.mp4"),
        np.array([5]),
        info=scan_video(media("no_table.mp4")).info,
        table=tables["no_table.mp4"],
    ).shape == (1, 32, 32, 3)
