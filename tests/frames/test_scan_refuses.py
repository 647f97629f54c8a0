"""Files that must not be packed as if they were whole, and damage that must not mislead."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from makers import VideoPacket, frames_of, remux, sound_bytes, video_bytes

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import DISPOSABLE, FLAGS, OFFSET, empty_frame_table
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.frames.scan import VideoScan, scan_video

SMALL = (64, 48)
FRAMES = 24


@cache
def whole(name: str) -> bytes:
    movflags = {
        "mp4, moov in front": "faststart",
        "mp4, fragmented": "frag_keyframe+empty_moov",
    }
    if name in movflags:
        return remux(whole("mp4"), mux_options={"movflags": movflags[name]})
    container, codec, options = {
        "mp4": ("mp4", "libx264", {}),
        "mov": ("mov", "libx264", {}),
        "mkv": ("matroska", "libx264", {}),
        "avi": ("avi", "libx264", {}),
        "CAVLC": ("mp4", "libx264", {"x264-params": "cabac=0"}),
        "slices": ("mp4", "libx264", {"x264-params": "slices=3"}),
        "ASP": ("avi", "mpeg4", {"bf": "2"}),
        "webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        "VP8": ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
        "HEVC": ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=0:pools=1"}),
    }[name]
    options = {"g": "8", "sc_threshold": "0"} | options
    return video_bytes(container, codec, options=options, frames=FRAMES, size=SMALL)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a readable mp4"),
        (b"\0" * 5000, "not a readable mp4"),
        (b"This is a text that somebody has named video.mp4.\n" * 40, "not a readable mp4"),
        (b"<html><body>404 Not Found</body></html>", "not a readable mp4"),
        (
            bytes(np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint8)),
            "not a readable",
        ),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "not a readable mp4"),
        (b"\x1a\x45\xdf\xa3" + b"\xff" * 500, "not a readable mp4"),
        (b"RIFF\xff\0\0\0AVI LIST" + b"\0" * 300, "not a readable mp4|no video stream"),
    ],
    ids=["empty", "zeros", "text", "html", "random", "ftyp alone", "EBML alone", "RIFF alone"],
)
def test_what_is_no_video_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(MediaError, match=says):
        scan_video(data)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "avi"])
def test_sound_without_a_picture_is_refused(container: str) -> None:
    with pytest.raises(MediaError, match="no video stream"):
        scan_video(sound_bytes(container, seconds=0.3))


def test_cover_picture_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    cover = video_bytes("mp4", "mjpeg", frames=1, size=(32, 32), pix_fmt="yuvj420p")
    with av.open(io.BytesIO(cover), "r") as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with pytest.raises(MediaError, match="no video stream"):
        scan_video(path.read_bytes())


@pytest.mark.parametrize("container", ["mpegts", "flv", "asf"])
def test_other_containers_are_refused(container: str) -> None:
    with pytest.raises(MediaError, match="not a readable mp4, mov, mkv, webm or avi"):
        scan_video(video_bytes(container, frames=5, size=SMALL))


def test_playlist_does_not_open_the_file_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.mp4").write_bytes(whole("mp4"))
    playlist = b"ffconcat version 1.0\nfile other.mp4\n"
    with av.open(io.BytesIO(playlist), "r") as opened:  # FFmpeg itself would open it
        assert opened.streams.video
    with pytest.raises(MediaError, match="not a readable mp4"):
        scan_video(playlist)
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{tmp_path}/other.mp4\n#EXT-X-ENDLIST\n"
    with pytest.raises(MediaError, match="not a readable mp4"):
        scan_video(hls.encode())


def _cuts(name: str) -> Iterator[bytes]:
    data = whole(name)
    rng = np.random.default_rng(0)
    cuts = {*range(1, 80, 7), *range(len(data) - 40, len(data)), *rng.integers(0, len(data), 120)}
    for cut in sorted(int(cut) for cut in cuts):
        yield data[:cut]


@pytest.mark.parametrize("name", ["mp4", "mp4, moov in front", "mov", "mkv", "webm", "avi", "ASP"])
def test_video_cut_anywhere_is_refused(name: str) -> None:
    assert scan_video(whole(name)).info.frames == FRAMES
    for data in _cuts(name):
        with pytest.raises(MediaError):
            scan_video(data)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["mp4", "mp4, moov in front", "mkv", "avi"])
def test_video_cut_at_every_byte_is_refused(name: str) -> None:
    data = whole(name)
    for cut in range(len(data)):
        with pytest.raises(MediaError):
            scan_video(data[:cut])


def test_cut_names_the_box_and_where_it_should_have_ended() -> None:
    data = whole("mp4, moov in front")
    with pytest.raises(
        MediaError,
        match=f"cut short: box 'mdat' ends at byte {len(data)}, the file at {len(data) - 9}",
    ):
        scan_video(data[:-9])


def test_fragmented_video_cut_inside_a_fragment_is_refused() -> None:
    data = whole("mp4, fragmented")
    borders = [place for place in range(len(data)) if data[place + 4 : place + 8] == b"moof"]
    assert len(borders) == 3
    for place in borders:
        for cut in (place + 12, place + 60, place + 250):
            with pytest.raises(MediaError, match="cut short"):
                scan_video(data[:cut])
    # Between two fragments nothing tells that there were more.
    assert scan_video(data[: borders[1]]).info.frames == 8


def test_recording_of_unknown_length_is_taken() -> None:
    live = remux(whole("mp4"), "matroska", mux_options={"live": "1"})
    assert b"\x18\x53\x80\x67\x01" + b"\xff" * 7 in live
    assert scan_video(live).info.frames == FRAMES
    avi = bytearray(whole("avi"))
    for size in (0, 0xFFFFFFFF):
        avi[4:8] = size.to_bytes(4, "little")
        assert scan_video(bytes(avi)).info.frames == FRAMES


def test_frames_that_change_size_are_refused() -> None:
    parts = [
        video_bytes(
            options={"g": "8", "bf": "0", "x264-params": "repeat-headers=1"}, frames=10, size=size
        )
        for size in (SMALL, (80, 64))
    ]
    with pytest.raises(MediaError, match="frame 10 is 80x64, the frames before it are 64x48"):
        scan_video(remux(parts, "matroska"))


def test_packet_that_the_container_does_not_hold_in_one_piece_costs_the_table_only() -> None:
    # Header compression, as old versions of mkvmerge used it: a prefix is left out of each block.
    data = whole("mkv")
    scan = scan_video(data)
    assert len(scan.table)
    stripped = _with_header_compression(data)
    again = scan_video(stripped)
    assert again.info.frames == FRAMES
    assert "in one piece" in again.info.no_table_because
    _assert_equal_to_sequential(stripped, again, single=4)


def _with_header_compression(data: bytes) -> bytes:
    """Return a Matroska file whose blocks lack their first byte, which the track names."""
    _, place = _element(data, data.index(b"\x18\x53\x80\x67"))
    body = bytearray()
    while place < len(data):
        start = place
        size, place = _element(data, place)
        kind, payload = data[start : start + 4], data[place : place + size]
        place += size
        if kind == b"\x16\x54\xae\x6b":  # Tracks
            entry_size, entry = _element(payload, payload.index(b"\xae"))
            compression = b"\x42\x54\x81\x03", b"\x42\x55\x81\x00"  # stripped: one zero byte
            inner = _sized(b"\x50\x34", b"".join(compression))
            encodings = _sized(b"\x6d\x80", _sized(b"\x62\x40", inner))
            track = _sized(b"\xae", payload[entry : entry + entry_size] + encodings)
            before = payload[: payload.index(b"\xae")]
            body += _sized(b"\x16\x54\xae\x6b", _without_crc(before) + track)
        elif kind == b"\x1f\x43\xb6\x75":  # Cluster
            body += _sized(kind, _strip_blocks(payload))
        elif kind in (b"\x15\x49\xa9\x66",):  # Info; the rest holds places that changed
            body += data[start:place]
    head = data[: data.index(b"\x18\x53\x80\x67")]
    return head + _sized(b"\x18\x53\x80\x67", bytes(body))


def _strip_blocks(cluster: bytes) -> bytes:
    out, place = b"", 0
    while place < len(cluster):
        start = place
        size, place = _element(cluster, place)
        payload = cluster[place : place + size]
        place += size
        if cluster[start] == 0xA3:  # SimpleBlock: track, time, flags, then the frame
            assert payload[4] == 0
            out += _sized(b"\xa3", payload[:4] + payload[5:])
        elif cluster[start] == 0xA0:  # BlockGroup
            out += _sized(b"\xa0", _strip_blocks(payload))
        elif cluster[start] == 0xA1:  # Block
            assert payload[4] == 0
            out += _sized(b"\xa1", payload[:4] + payload[5:])
        elif cluster[start] != 0xBF:  # all but the checksum
            out += cluster[start:place]
    return out


def _without_crc(payload: bytes) -> bytes:
    return payload[6:] if payload[:1] == b"\xbf" else payload


def _element(data: bytes, place: int) -> tuple[int, int]:
    """Return the size of the EBML element at `place`, and where its payload begins."""
    place += 9 - data[place].bit_length()
    width = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    return value, place + width


def _sized(kind: bytes, payload: bytes) -> bytes:
    return kind + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def _assert_equal_to_sequential(data: bytes, scan: VideoScan, *, single: int) -> None:
    """Check frames by table, one by one and together, against one thread's decode."""
    # FFmpeg conceals damage on one thread only, so one thread defines the frames.
    reference = frames_of(data, threads=1)
    assert scan.info.frames == len(reference)
    rng = np.random.default_rng(0)
    sets = [[int(n)] for n in rng.permutation(len(reference))[:single]]
    sets.append(rng.integers(0, len(reference), 6).tolist())
    for wanted in sets:
        pixels = decode_frames(data, np.array(wanted), info=scan.info, table=scan.table)
        for number, got in zip(wanted, pixels, strict=True):
            assert np.array_equal(got, reference[number]), f"frame {number} of {wanted}"
    pixels = decode_frames(data, np.array([0]), info=scan.info, table=empty_frame_table())
    assert np.array_equal(pixels[0], reference[0])


def _flipped(name: str, trials: int, *, seed: int) -> Iterator[bytes]:
    """Yield the video with one bit of one packet flipped."""
    data = whole(name)
    with av.open(io.BytesIO(data), "r") as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos]
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        place, size = places[int(rng.integers(len(places)))]
        broken = bytearray(data)
        broken[place + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
        yield bytes(broken)


FLIPPED = ["mp4", "mkv", "avi", "CAVLC", "slices", "ASP", "webm", "VP8", "HEVC"]


def _count_outcomes(name: str, trials: int, *, seed: int) -> dict[str, int]:
    outcomes = {"refused": 0, "without table": 0, "with table": 0}
    for data in _flipped(name, trials, seed=seed):
        try:
            scan = scan_video(data)
        except MediaError:
            outcomes["refused"] += 1
            continue
        outcomes["with table" if len(scan.table) else "without table"] += 1
        _assert_equal_to_sequential(data, scan, single=8)
    return outcomes


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bit_is_refused_or_changes_no_frame_against_the_decode(name: str) -> None:
    outcomes = _count_outcomes(name, 25, seed=0)
    # Any bits are a valid VP9 picture, as long as the headers hold.
    assert outcomes["refused"] + outcomes["without table"] > 0 or name == "webm"


@pytest.mark.deep
@pytest.mark.parametrize("name", FLIPPED)
def test_many_flipped_bits_are_refused_or_change_no_frame(name: str) -> None:
    _count_outcomes(name, 250, seed=1)


def test_lost_packet_changes_no_frame_against_the_decode() -> None:
    video = video_bytes(options={"g": "12", "bf": "2"}, frames=36, size=SMALL)
    without_table = 0
    for container in ("mp4", "matroska"):
        for lost in range(1, 36):

            def change(number: int, packet: VideoPacket, lost: int = lost) -> "VideoPacket | None":
                return None if number == lost else packet

            data = remux(video, container, change=change)
            scan = scan_video(data)
            without_table += (
                scan.info.no_table_because == "pictures are missing between the packets"
            )
            _assert_equal_to_sequential(data, scan, single=36)
    assert without_table > 30


def test_flipped_frame_number_of_a_disposable_picture_changes_no_other_frame() -> None:
    data = video_bytes(options={"g": "8", "bf": "2"}, frames=30, size=(96, 80))
    table = scan_video(data).table
    for packet in np.flatnonzero(table[:, FLAGS] & DISPOSABLE):
        for byte in (5, 6):
            for bit in range(8):
                broken = bytearray(data)
                broken[table[packet, OFFSET] + byte] ^= 1 << bit
                try:
                    scan = scan_video(bytes(broken))
                except MediaError:
                    continue
                _assert_equal_to_sequential(bytes(broken), scan, single=30)


def test_tag_of_a_codec_that_is_no_text_is_refused() -> None:
    data = bytearray(video_bytes("mp4", "mpeg4", size=(64, 48), frames=10))
    data[data.index(b"mp4v") + 2] = 0xE4
    with pytest.raises(MediaError, match="tag is not ASCII"):
        scan_video(bytes(data))
