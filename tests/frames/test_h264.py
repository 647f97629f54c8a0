"""What H.264 streams may not have for a frame table: in real streams and in hostile bytes."""

import io
from collections.abc import Sequence
from functools import cache

import av
import pytest
from frames.h264_writer import field_pictures, mux
from hypothesis import given
from hypothesis import strategies as st
from makers import video_bytes

from clipshards.packer.frames.h264 import stream_fault
from clipshards.packer.frames.nal import head_parameter_sets, nal_length_size, read_access_unit

Slices = tuple[tuple[bytes, ...], ...]

STREAMS = {
    "High": {"bf": "3"},
    "Baseline": {"profile": "baseline"},
    # More pictures than there are numbers: log2_max_frame_num is 4 here.
    "numbers begin again": {"g": "250", "bf": "0", "x264-params": "ref=1:scenecut=0"},
    "slices": {"x264-params": "slices=3"},
    "scaling lists": {"x264-params": "cqm=jvt"},
    "4:4:4": {"x264-params": "cqm=jvt"},
    "interlaced": {"flags": "+ildct+ilme"},
}


@cache
def read(name: str) -> tuple[bytes, Slices]:
    """Return the codec configuration and the slices of each packet."""
    if name == "field pictures":
        data = mux(field_pictures(frames=24, gop=8, packet_per_field=True), "matroska")
    else:
        pix_fmt = "yuv444p" if name == "4:4:4" else "yuv420p"
        data = video_bytes(
            options={"g": "12"} | STREAMS[name], frames=40, size=(64, 48), pix_fmt=pix_fmt
        )
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata or b""
        size = nal_length_size("h264", extradata)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    return extradata, tuple(read_access_unit("h264", packet, size).slices for packet in packets)


MISSING = "pictures are missing between the packets"


def fault_of(extradata: bytes, packets: Sequence[Sequence[bytes]]) -> str:
    try:
        return stream_fault(head_parameter_sets("h264", extradata), packets)
    except ValueError as exc:
        return str(exc)


@pytest.mark.parametrize("name", [*STREAMS, "field pictures"])
def test_whole_stream_has_no_gaps(name: str) -> None:
    extradata, packets = read(name)
    assert fault_of(extradata, packets) == ""


def test_configuration_with_start_codes_is_read() -> None:
    extradata, packets = read("High")
    length = int.from_bytes(extradata[6:8], "big")
    sps = extradata[8 : 8 + length]
    assert fault_of(b"\0\0\0\1" + sps + b"\0\0\1\x68\xce", packets) == ""


@pytest.mark.parametrize("name", ["High", "Baseline", "scaling lists", "4:4:4", "field pictures"])
def test_lost_reference_picture_is_a_gap(name: str) -> None:
    extradata, packets = read(name)
    per_picture = 2 if name == "field pictures" else 1
    found = 0
    for lost in range(0, len(packets) - 2 * per_picture, per_picture):
        left = packets[:lost] + packets[lost + per_picture :]
        # A GOP that lost its first picture may go on where the one before ended.
        reference = packets[lost][0][0] & 0x60 and packets[lost][0][0] & 31 != 5
        if reference and packets[lost + per_picture][0][0] & 31 != 5:
            assert fault_of(extradata, left) == MISSING, f"packet {lost}"
            found += 1
    assert found >= 3


def test_lost_disposable_picture_is_no_gap() -> None:
    extradata, packets = read("High")
    left = tuple(slices for slices in packets if slices[0][0] & 0x60)
    assert len(left) < len(packets)
    assert fault_of(extradata, left) == ""


@pytest.mark.parametrize(
    "extradata",
    [
        b"",
        b"\1",
        b"\1\x64\0\x0a\xff\xe1",
        b"\1\x64\0\x0a\xff\xe0",
        b"\1\x64\0\x0a\xff\xe1\xff\xff\x67",
        b"no start code",
        b"\0\0\1\x67",
        b"\0\0\1\x67" + bytes([100, 0, 10]) + bytes(300),
        b"\0\0\1\x67" + bytes([100, 0, 10]) + b"\xff" * 3,
    ],
)
def test_configuration_that_cannot_be_read_is_a_fault(extradata: bytes) -> None:
    assert fault_of(extradata, read("High")[1])


@given(extradata=st.binary(max_size=60), unit=st.binary(min_size=1, max_size=20))
def test_any_bytes_are_taken(extradata: bytes, unit: bytes) -> None:
    whole, packets = read("High")
    for configuration in (b"\1" + extradata, b"\0\0\1\x67" + extradata):
        assert isinstance(fault_of(configuration, packets), str)
    assert isinstance(fault_of(whole, [(unit,)]), str)
