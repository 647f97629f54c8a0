"""A video encoded anew: one decode, one chain of filters, one encode, in an mp4 for training.

The same bytes come out of the same PyAV on every x86-64 machine with AVX2: libx264 runs on
one thread and with the instructions of AVX2 (what it does with AVX-512 differs), the scaler
in its bit-exact mode, and nothing else of the machine has a say.
"""

import heapq
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from clipshards.packer.encoding import Encoding
from clipshards.packer.format.errors import MediaError
from clipshards.packer.frames.plan import Packets
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.frames.sequential import SequentialDecode
from clipshards.packer.frames.truncation import check_not_truncated
from clipshards.packer.media.filters import Colors, even_size, filter_graph
from clipshards.packer.media.muxing import (
    MUX_OPTIONS,
    LossError,
    add_stream,
    open_video,
    sound_stream,
)
from clipshards.packer.media.x264 import check_x264, encoder_options

# Finer ticks overflow what an mp4 can say of one frame.
_FINEST_TICK = Fraction(1, 1_000_000)
# Where a constant rate is asked for, the frame before a gap is repeated: behind a broken time
# stamp for hours.
_LONGEST_FRAME_S = 600
# The video's times are as they should be without an edit list.
_MUX_OPTIONS = MUX_OPTIONS | {"movflags": "+negative_cts_offsets"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A video that was encoded anew."""

    data: bytes
    """An mp4, without an edit list of the video."""
    scan: VideoScan
    """Description and frame table of `data`."""
    sound_lost: str
    """Why the source's sound is not in it; empty where it is, was not wanted, or there is none."""


class _TimesError(Exception):
    """The container's times are not those of frames in the order of display."""


def encode_video(data: bytes, encoding: Encoding) -> Encoded:
    """Return a video encoded anew: H.264, 4:2:0 in 8 bits, upright, even sides, from time 0.

    Frame n is frame n of the source's decode from the start, shown when the source shows
    it, unless a rate is asked for. A side that is odd loses its last line, unless the video
    is scaled. Pixels keep their aspect and their colour space; the full range of levels
    becomes the limited one, and RGB the YUV of BT.601.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.
        encoding: How.

    Raises:
        MediaError: The video cannot be decoded without errors from its start to its end, its
            frames change their size or colours, or they have neither times nor a rate.
    """
    check_x264()
    attempt = 0
    while True:
        # A decode leaves its marks on decoder and packets: each attempt opens the file again.
        source = _open(data, sound=encoding.audio == "keep")
        with source.container:
            timings = list(_timings(source))
            if attempt == len(timings):
                raise MediaError("the container gives the frames neither times nor a rate")
            try:
                return _encode(source, timings[attempt], encoding)
            except _TimesError:
                attempt += 1


@dataclass(frozen=True, slots=True)
class _Source:
    """An opened video and its packets."""

    container: InputContainer
    stream: VideoStream
    packets: "list[Packet[VideoStream]]"
    sound: AudioStream | None
    sound_packets: "list[Packet[AudioStream]]"


@dataclass(frozen=True, slots=True)
class _Timing:
    """When frames are shown."""

    ticks: Callable[[int, int], int]
    """Of a frame, by its number and that of its packet."""
    base: Fraction
    """Seconds per tick."""
    from_frame_0: bool
    """Counted from there, instead of on the time line of the sound."""


def _open(data: bytes, *, sound: bool) -> _Source:
    container, stream = open_video(data)
    check_not_truncated(data)
    # Most decoders conceal damage and do not say so.
    stream.codec_context.options = {"err_detect": "explode"}
    source = _Source(container, stream, [], sound_stream(container) if sound else None, [])
    try:
        for packet in container.demux([stream, source.sound] if source.sound else [stream]):
            if packet.size:
                is_video = packet.stream.index == stream.index
                kept: list[Packet[Any]] = source.packets if is_video else source.sound_packets
                kept.append(packet)
    except av.FFmpegError as exc:
        raise MediaError(f"not a readable mp4, mov, mkv, webm or avi: {exc.strerror}") from exc
    return source


def _timings(source: _Source) -> Iterator[_Timing]:
    """Yield what may time the frames, the likeliest first; compare `moments.frame_ticks`."""
    base, rate = source.stream.time_base, source.stream.average_rate
    times = [packet.pts for packet in source.packets if packet.pts is not None]
    if base and times and len(times) == len(source.packets):
        # AVI numbers its packets in the order of decoding.
        if source.container.format.name != "avi":
            yield _Timing(lambda _, packet: times[packet], base, from_frame_0=False)
        shown = zip(times, source.packets, strict=True)
        dealt = sorted(time for time, packet in shown if not packet.is_discard)
        if len(set(dealt)) == len(dealt):
            yield _Timing(lambda frame, _: _at(dealt, frame), base, from_frame_0=False)
    if rate and rate > 0:
        yield _Timing(lambda frame, _: frame, 1 / rate, from_frame_0=True)


def _at(ticks: Sequence[int], frame: int) -> int:
    if frame >= len(ticks):
        raise _TimesError
    return ticks[frame]


def _encode(source: _Source, timing: _Timing, encoding: Encoding) -> Encoded:
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4", options=_MUX_OPTIONS) as output:
            work = _Work(source, timing, encoding, output)
            work.run(source.packets)
            lost = work.finish()
    # PyAV says ValueError of what it refuses itself, and OverflowError of large numbers.
    except (av.FFmpegError, ValueError, OverflowError) as exc:
        raise MediaError(f"the video cannot be encoded: {exc}") from exc
    made = _without_edit_list(buffer.getvalue())
    scan = scan_video(made)
    if scan.info.frames != work.encoded:
        raise MediaError(f"encoding {work.encoded} frames gave a video of {scan.info.frames}")
    if not len(scan.table):
        raise MediaError(
            f"encoding gave a video without a frame table: {scan.info.no_table_because}"
        )
    return Encoded(made, scan, lost)


class _Work(SequentialDecode):
    """The decode that defines the frames; each of them is filtered and encoded as it comes.

    Call `run` with the packets, then `finish`.
    """

    def __init__(
        self, source: _Source, timing: _Timing, encoding: Encoding, output: OutputContainer
    ) -> None:
        super().__init__(source.stream, set())
        self.encoded = 0
        """Frames that were put into the encoder."""
        self._source = source
        self._timing = timing
        self._encoding = encoding
        self._output = output
        self._fps = Fraction(*encoding.fps)
        self._base = max(timing.base, _FINEST_TICK)
        self._durations: list[int] = []
        self._first_ticks = 0
        self._look: tuple[str, int, int] = ("", 0, 0)
        self._held: VideoFrame | None = None
        self._graph: Graph | None = None
        self._end = 0
        self._target: VideoStream | None = None
        self._packets: list[Packet[Any]] = []

    def _take(self, frame: VideoFrame, ranks: Packets) -> None:
        packet = -1 if frame.pts is None else frame.pts
        super()._take(frame, ranks)
        number = self.frames - 1
        if self.damaged:
            raise MediaError(f"the decoder concealed damage in frame {number}")
        if not 0 <= packet < len(ranks):
            raise _TimesError
        look = (frame.format.name, int(frame.color_range), int(frame.colorspace))
        ticks = self._timing.ticks(number, packet)
        if not number:
            self._look, self._first_ticks = look, ticks
        if look != self._look:
            raise MediaError(f"frame {number} has another pixel format or other colours")
        frame.pts = round((ticks - self._first_ticks) * self._timing.base / self._base)
        frame.time_base = self._base
        try:
            if self._held is None:
                self._set_up(frame)
            else:
                self._put(self._held, until=frame.pts)
        except (av.FFmpegError, ValueError, OverflowError) as exc:
            raise MediaError(f"frame {number} cannot be encoded: {exc}") from exc
        self._held = frame

    def _put(self, frame: VideoFrame, *, until: int) -> None:
        """Filter and encode a frame, which is shown until the tick of the next one."""
        frame.duration = until - (frame.pts or 0)
        if frame.duration <= 0:
            raise _TimesError
        self._durations.append(frame.duration)
        if self._fps and frame.duration * self._base > _LONGEST_FRAME_S:
            raise MediaError(
                f"a frame lasts {float(frame.duration * self._base):.0f} s: "
                f"at most {_LONGEST_FRAME_S} s are filled up where a rate is asked for"
            )
        self._pass(frame)

    def _pass(self, frame: VideoFrame | None) -> None:
        """Filter a frame and encode what comes out; None for all that is held back."""
        assert self._graph is not None
        assert self._target is not None
        self._graph.push(frame)
        while True:
            try:
                made = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            # The types of the source's pictures would be forced upon the encoder.
            made.pict_type = PictureType.NONE
            self._end = (made.pts or 0) + max(made.duration, 1)
            self._packets += self._target.encode(made)
            self.encoded += 1

    def _set_up(self, frame: VideoFrame) -> None:
        """Make the filters and the encoder for frames like this one."""
        turns = self.rotation // 90 % 4 if self.rotation % 90 == 0 else 0
        size = even_size(frame.width, frame.height, self._encoding.short_side)
        colors = Colors.of(frame)
        self._graph = filter_graph(frame, size, turns, self._fps, colors)
        rate = self._fps or self._source.stream.average_rate or 25
        target = self._output.add_stream(
            "libx264", rate=rate, options=encoder_options(self._encoding)
        )
        target.width, target.height = size[::-1] if turns % 2 else size
        target.pix_fmt = "yuv420p"
        context = target.codec_context
        context.thread_count = 1
        context.time_base = 1 / self._fps if self._fps else self._base
        aspect = self._source.stream.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if turns % 2 else aspect
        context.color_range, context.colorspace = colors.made_range, colors.made_space
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        self._target = target

    def finish(self) -> str:
        """Encode what is left and write the mp4; return why the sound is not in it."""
        assert self._held is not None
        assert self._target is not None
        end = (self._held.pts or 0) + self._last_duration()
        if self._fps and end * self._base * self._fps < Fraction(1, 2):
            # Too short for one frame at this rate: it gets one all the same.
            end = math.ceil(1 / (self._fps * self._base))
        self._put(self._held, until=end)
        self._pass(None)
        self._packets += self._target.encode(None)
        # What the container takes for the length of the video ends with the last packet.
        first, last = self._packets[0], self._packets[-1]
        last.duration = max(self._end - ((last.dts or 0) - (first.dts or 0)), 1)
        zero_s = self._first_ticks * self._timing.base
        sound, lost = _sound(self._source, Fraction(0) if self._timing.from_frame_0 else zero_s)
        tracks = [self._packets]
        if sound:
            track = add_stream(self._output, self._source.sound)
            for packet in sound:
                packet.stream = track
            tracks.append(sound)
        for packet in heapq.merge(*tracks, key=_decode_time_s):
            self._output.mux(packet)
        return lost

    def _last_duration(self) -> int:
        """Return for how long the last frame is shown, as nothing follows it."""
        if self._durations:
            return sorted(self._durations)[len(self._durations) // 2]
        rate = self._source.stream.average_rate
        return max(round(1 / rate / self._base), 1) if rate and rate > 0 else 1


def _decode_time_s(packet: "Packet[Any]") -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _sound(source: _Source, zero_s: Fraction) -> "tuple[list[Packet[Any]], str]":
    """Return the sound from the time `zero_s` on, timed from there, and why there is none."""
    if source.sound is None:
        return [], ""
    try:
        sound = _heard(source.sound_packets, zero_s)
        # An mp4 that takes the codec may still refuse its packets.
        with av.open(io.BytesIO(), "w", format="mp4", options=MUX_OPTIONS) as trial:
            track = add_stream(trial, source.sound)
            for packet in _heard(source.sound_packets, zero_s):
                packet.stream = track
                trial.mux(packet)
    except (LossError, av.FFmpegError, ValueError) as exc:
        return [], f"the sound cannot be copied into an mp4: {exc}"
    return sound, ""


def _heard(packets: "list[Packet[AudioStream]]", zero_s: Fraction) -> "list[Packet[Any]]":
    heard: list[Packet[Any]] = []
    end = 0
    for source in packets:
        if source.pts is None or not source.time_base:
            raise LossError("a packet of it has no time")
        packet: Packet[Any] = av.Packet(source.size)
        packet.update(bytes(source))
        packet.time_base = source.time_base
        packet.pts = packet.dts = round(source.pts - zero_s / source.time_base)
        packet.duration = source.duration
        packet.is_keyframe = source.is_keyframe
        end = packet.pts + (packet.duration or 0)
        if end <= 0:
            # A decoder needs the packet before for the sound at the beginning.
            heard.clear()
        heard.append(packet)
    return heard if end > 0 else []


def _without_edit_list(mp4: bytes) -> bytes:
    """Return the mp4 with the edit list of its video, which changes nothing, made a gap.

    The muxer writes one for all tracks or none, and the sound's may be needed.
    """
    place, end = 0, len(mp4)
    for kind in (b"moov", b"trak", b"edts"):
        place, end = _find_box(mp4, kind, place, end)
    return b"".join((mp4[: place - 4], b"free", mp4[place:]))


def _find_box(mp4: bytes, kind: bytes, place: int, end: int) -> tuple[int, int]:
    """Return where the content of the first box of a kind begins and ends."""
    while place < end:
        header, size = 8, int.from_bytes(mp4[place : place + 4], "big")
        if size == 1:
            header, size = 16, int.from_bytes(mp4[place + 8 : place + 16], "big")
        if mp4[place + 4 : place + 8] == kind:
            return place + header, place + size
        place += size
    raise MediaError(f"the muxer wrote no box {kind.decode()!r}")
