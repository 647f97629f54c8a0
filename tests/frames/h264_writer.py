"""H.264 streams written bit by bit, for what no encoder at hand makes: field pictures.

Macroblocks are I_PCM or skipped, so that no entropy coding of residuals is needed.
Clause numbers are those of ITU-T H.264.
"""

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from makers import VideoPacket

START_CODE = b"\0\0\0\1"
SIZE = (32, 32)


class Unit(NamedTuple):
    """One packet to be muxed."""

    data: bytes
    """NAL units with start codes."""
    pts: int
    dts: int
    duration: int
    key: bool


class _Bits:
    def __init__(self) -> None:
        self._bits = ""

    def u(self, *fields: tuple[int, int]) -> "_Bits":
        """Write fixed-length fields, each as (bits, value)."""
        self._bits += "".join(format(value, f"0{bits}b") for bits, value in fields)
        return self

    def ue(self, *values: int) -> "_Bits":
        """Write Exp-Golomb codes (9.1)."""
        for value in values:
            code = format(value + 1, "b")
            self._bits += "0" * (len(code) - 1) + code
        return self

    def pcm(self, samples: bytes) -> "_Bits":
        self._bits += "0" * (-len(self._bits) % 8)
        self._bits += "".join(format(sample, "08b") for sample in samples)
        return self

    def nal(self, *, ref: int, kind: int) -> bytes:
        """Return the NAL unit, with trailing bits and emulation prevention (7.4.1)."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        out = bytearray([ref << 5 | kind])
        zeros = 0
        for place in range(0, len(bits), 8):
            byte = int(bits[place : place + 8], 2)
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes(out)


def parameter_sets() -> bytes:
    """Return the sets that all fields here go by, with start codes."""
    # Main profile, 2 reference frames, 2x1 map units, fields allowed, no VUI (7.3.2.1.1).
    sps = _Bits().u((8, 77), (8, 0), (8, 30)).ue(0, 0, 0, 4, 2).u((1, 0)).ue(1, 0)
    sps.u((1, 0), (1, 0), (1, 1), (1, 0), (1, 0))
    # CAVLC, deblocking controlled by the slices (7.3.2.2).
    pps = _Bits().ue(0, 0).u((1, 0), (1, 0)).ue(0, 0, 0).u((1, 0), (2, 0)).ue(0, 0, 0)
    pps.u((1, 1), (1, 0), (1, 0))
    return START_CODE + sps.nal(ref=3, kind=7) + START_CODE + pps.nal(ref=3, kind=8)


def _field(
    rng: np.random.Generator, *, bottom: bool, frame_num: int, poc: int, idr: bool, ref: bool
) -> bytes:
    """Return one slice that is one field of 2 macroblocks."""
    bits = _slice_header(bottom=bottom, frame_num=frame_num, poc=poc, idr=idr, ref=ref)
    if idr:
        for _ in range(2):
            bits.ue(25).pcm(rng.integers(16, 235, 384).astype(np.uint8).tobytes())
    else:  # P: no skip, I_PCM, one skipped
        bits.ue(0, 30).pcm(rng.integers(16, 235, 384).astype(np.uint8).tobytes()).ue(1)
    return bits.nal(ref=int(ref), kind=5 if idr else 1)


def _slice_header(
    *, bottom: bool, frame_num: int, poc: int, idr: bool, ref: bool, macroblock: int = 0
) -> _Bits:
    """Return the header of a field's slice (7.3.3)."""
    slice_type = 7 if idr else 5
    bits = _Bits().ue(macroblock, slice_type, 0).u((4, frame_num % 16), (1, 1), (1, bottom))
    if idr:
        bits.ue(poc // 256 % 2)
    bits.u((8, poc % 256))
    if not idr:
        bits.u((1, 0), (1, 0))  # default number and order of the references
    if idr:
        bits.u((1, 0), (1, 0))
    elif ref:
        bits.u((1, 0))
    return bits.ue(0, 1)  # default quantiser, no deblocking


def sliced_field(
    rng: np.random.Generator,
    *,
    macroblock: int,
    bottom: bool,
    frame_num: int,
    poc: int,
    idr: bool,
    ref: bool,
) -> bytes:
    """Return a slice with one of the two macroblocks of a field."""
    bits = _slice_header(
        bottom=bottom, frame_num=frame_num, poc=poc, idr=idr, ref=ref, macroblock=macroblock
    )
    if not idr:
        bits.ue(0)
    bits.ue(25 if idr else 30).pcm(rng.integers(16, 235, 384).astype(np.uint8).tobytes())
    return bits.nal(ref=int(ref), kind=5 if idr else 1)


def field_pictures(*, frames: int, gop: int, packet_per_field: bool) -> list[Unit]:
    """Return pictures of two fields each; every second picture of a GOP is disposable.

    The second field of an IDR picture is a P field that refers to the first.
    """
    rng = np.random.default_rng(0)
    units = []
    frame_num = 0
    for number in range(frames):
        place = number % gop
        frame_num = 0 if place == 0 else frame_num
        ref = place % 2 == 0
        fields = [
            START_CODE
            + _field(
                rng,
                bottom=bottom,
                frame_num=frame_num,
                poc=2 * place + bottom,
                idr=place == 0 and not bottom,
                ref=ref,
            )
            for bottom in (False, True)
        ]
        frame_num += ref
        time = 2 * number
        if packet_per_field:
            units.append(Unit(fields[0], time, time, 1, place == 0))
            units.append(Unit(fields[1], time + 1, time + 1, 1, False))
        else:
            units.append(Unit(fields[0] + fields[1], time, time, 2, place == 0))
    return [
        unit._replace(data=parameter_sets() + unit.data) if number == 0 else unit
        for number, unit in enumerate(units)
    ]


def mux(units: Sequence[Unit], container: str, *, rate: int = 50) -> bytes:
    """Return the units in a container; times are in 1/rate seconds.

    The first unit must begin with the parameter sets.
    """
    raw = b"".join(unit.data for unit in units)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "media"
        with (
            av.open(io.BytesIO(raw), "r", format="h264") as source,
            av.open(str(path), "w", format=container) as output,
        ):
            stream = output.add_stream_from_template(source.streams.video[0])
            for unit in units:
                packet: VideoPacket = av.Packet(unit.data)  # type: ignore[assignment]
                packet.pts, packet.dts, packet.duration = unit.pts, unit.dts, unit.duration
                packet.time_base = Fraction(1, rate)
                packet.is_keyframe = unit.key
                packet.stream = stream
                output.mux(packet)
        return path.read_bytes()


def without_vui(video: bytes, container: str) -> bytes:
    """Return an H.264 mp4 of one slice a frame again, its VUI and so its reorder depth left out."""
    units = []
    with av.open(io.BytesIO(video), "r") as source:
        stream = source.streams.video[0]
        filtered = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", in_stream=stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        shown = sorted(packet.pts for packet in packets if packet.pts is not None)
        ticks = shown[1] - shown[0]
        for packet in [p for source_packet in packets for p in filtered.filter(source_packet)]:
            if packet.pts is None or packet.dts is None:
                raise ValueError("the source must have time stamps")
            data = b"".join(
                START_CODE + (_strip_vui(nal) if nal[0] & 31 == 7 else nal)
                for nal in bytes(packet).replace(START_CODE, START_CODE[1:]).split(START_CODE[1:])
                if nal
            )
            times = (packet.pts // ticks, packet.dts // ticks)
            units.append(Unit(data, *times, 1, packet.is_keyframe))
    return mux(units, container, rate=25)


def _strip_vui(sps: bytes) -> bytes:
    """Return a sequence parameter set of 8-bit 4:2:0 frames, High profile, without its VUI."""
    payload = sps[1:].replace(b"\0\0\3", b"\0\0")
    bits = "".join(format(byte, "08b") for byte in payload)
    place = 24

    def skip_ue(count: int) -> list[int]:
        nonlocal place
        values = []
        for _ in range(count):
            zeros = bits.index("1", place) - place
            values.append(int(bits[place + zeros : place + 2 * zeros + 1], 2) - 1)
            place += 2 * zeros + 1
        return values

    assert payload[0] == 100, "not High profile"
    skip_ue(4)
    place += 2
    _, poc_type = skip_ue(2)
    skip_ue(2 if poc_type == 0 else 1)
    place += 1
    skip_ue(2)
    place += 1 if bits[place] == "1" else 2
    place += 1
    cropping = bits[place] == "1"
    place += 1
    skip_ue(4 if cropping else 0)
    assert bits[place] == "1", "there is no VUI"
    return _Bits().u((place, int(bits[:place], 2)), (1, 0)).nal(ref=3, kind=7)
