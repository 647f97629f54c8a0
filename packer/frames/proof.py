"""Proving media whole by decoding all of it: videos, frames in files, sounds.

Each function yields what is not as the record says, in words; nothing for a part as it was
packed. A part is decoded once from end to end, with one picture in memory. What packing lets
in is no fault here: errors that the decoder of a video without a frame table gets over, and
times, sizes and counts of a video that was packed unopened.
"""

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipshards.packer.format.errors import DecodeError, MediaError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    FLAGS,
    NO_PTS,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    FrameTable,
)
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.structure import FRAME_TABLES, SOUND_SUFFIXES, Fault
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import (
    FrameConverter,
    iter_pictures,
    open_container,
    rotation_of,
    video_stream,
)
from clipshards.packer.frames.sequential import fingerprint
from clipshards.packer.frames.stills import PNG_START, decode_still
from clipshards.packer.frames.truncation import check_not_truncated

# Random-access points at which a reader's decode is tried, and packets from each of them on.
_POINTS, _REACH = 3, 4
# How much of the last packet is padding, a container may have rounded.
_TAIL_S = Fraction(1, 50)
# A thousand times a thousand times full scale.
_TOO_LOUD = 1e6


class _Home(NamedTuple):
    """A kind of file that sounds are kept in."""

    demuxer: str
    """How FFmpeg calls such a file when it reads it."""
    codecs: tuple[str, ...]
    """What FFmpeg's names of its codecs begin with."""


_HOMES = {
    "flac": _Home("flac", ("flac",)),
    "m4a": _Home("mov,mp4,m4a,3gp,3g2,mj2", ("aac", "alac")),
    "mp3": _Home("mp3", ("mp3",)),
    "ogg": _Home("ogg", ("vorbis", "opus")),
    "wav": _Home("wav", ("pcm_",)),
}
# Of these the number of samples is certain. A decoder of the others is free to give the
# encoder's padding, or not.
_LOSSLESS = ("flac", "alac", "pcm_")


def media_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (part name, what is wrong with it) for the media of one sample.

    Args:
        values: The sample's decoded parts, as `Task.decode` gives them, in which
            `Task.faults` finds nothing; videos and sounds as bytes.
    """
    about = values["json"]
    for part, table in FRAME_TABLES.items():
        if part in values:
            # Frames in files have names.
            check = still_faults if getattr(about, "filename_tmpl", "") else picture_faults
            for fault in check(values[part], info=about.video, table=values[table]):
                yield part, fault
    for part in SOUND_SUFFIXES:
        if part in values:
            for fault in sound_faults(values[part], suffix=part, about=about):
                yield part, fault


def picture_faults(part: bytes, *, info: VideoInfo, table: FrameTable) -> Iterator[str]:
    """Yield what is wrong with a video: each kind of fault once, where it shows first.

    Args:
        part: The whole video.
        info: What `json` says of it; of a video packed unopened, it must only decode.
        table: Its frame table, which `check_frame_table` accepts; may be empty.
    """
    try:
        check_not_truncated(part)
        with open_container(part) as container:
            stream = video_stream(container)
            if stream is None:
                yield "no video stream of a known codec"
                return
            if len(table):
                # As at packing, which made a table only where no error showed.
                stream.codec_context.options = {"err_detect": "explode"}
            yield from _Pass(part, info, table).run(container, stream)
    except MediaError as exc:
        yield str(exc)
    except av.FFmpegError as exc:
        yield f"not readable as mp4, mov, mkv, webm or avi: {exc.strerror}"


class _Pass:
    """One decode of a video from its first packet to its last."""

    def __init__(self, part: bytes, info: VideoInfo, table: FrameTable) -> None:
        self._part = part
        self._info = info
        self._table = table
        self._converter = FrameConverter()
        self._watched = _watched(table)
        self._seen: dict[int, int] = {}
        """Packet -> fingerprint of its picture, for the watched packets."""
        self._frames = 0
        self._interlaced = False
        self._in_step = bool(len(table))
        """Whether packets are rows so far, and pictures come in the order of the ranks."""
        self._found: set[str] = set()
        """Kinds of faults that were told."""

    def run(self, container: InputContainer, stream: VideoStream) -> Iterator[str]:
        context = stream.codec_context
        number = -1
        try:
            for packet in container.demux(stream):
                if packet.size:
                    number += 1
                    yield from self._check_packet(number, packet)
                    packet.pts = number
                    for frame in context.decode(packet):
                        yield from self._check_frame(frame)
            for frame in context.decode(None):
                yield from self._check_frame(frame)
        except av.FFmpegError as exc:
            yield f"packet {max(number, 0)}: the decoder or the container fails: {exc.strerror}"
            return
        yield from self._check_counts(number + 1)
        if self._in_step and not self._found:
            yield from self._check_readers_decode()

    def _once(self, kind: str, fault: str) -> Iterator[str]:
        if kind not in self._found:
            self._found.add(kind)
            yield fault

    def _check_packet(self, number: int, packet: "Packet[VideoStream]") -> Iterator[str]:
        if self._in_step and number < len(self._table):
            fault = _row_fault(self._part, self._table, number, packet)
            if fault:
                self._in_step = False
                yield from self._once("packet", fault)

    def _check_frame(self, frame: VideoFrame) -> Iterator[str]:
        number, info = self._frames, self._info
        self._frames += 1
        self._interlaced |= frame.interlaced_frame
        if info.frame_table == "none":
            return
        if (frame.width, frame.height) != (info.width, info.height):
            expected = f"{info.width}x{info.height}"
            yield from self._once(
                "size", f"frame {number}: expected {expected}, got {frame.width}x{frame.height}"
            )
        if not number and rotation_of(frame) != info.rotation:
            yield f"expected a rotation of {info.rotation}, got {rotation_of(frame)}"
        if not len(self._table):
            return
        if frame.is_corrupt:
            yield from self._once("damage", f"frame {number}: the decoder had to conceal damage")
        row = -1 if frame.pts is None else frame.pts
        if self._in_step and not (0 <= row < len(self._table) and self._table[row, RANK] == number):
            self._in_step = False
            due = np.flatnonzero(self._table[:, RANK] == number)
            expected = f"the picture of packet {due[0]}" if len(due) else "no further picture"
            yield from self._once("order", f"frame {number}: expected {expected}, got {row}'s")
        if row in self._watched:
            self._seen[row] = fingerprint(self._converter.rgb(frame))

    def _check_counts(self, packets: int) -> Iterator[str]:
        info = self._info
        if len(self._table) and packets != len(self._table):
            yield from self._once(
                "packet", f"expected the table's {len(self._table)} packets, got {packets}"
            )
        if not self._frames:
            yield from self._once("count", "no frame could be decoded")
        elif info.frames >= 0 and self._frames != info.frames:
            yield from self._once("count", f"expected {info.frames} frames, got {self._frames}")
        # A demux has not seen all frames.
        elif info.frame_table == "decode" and self._interlaced != info.interlaced:
            kind = "interlaced frames" if info.interlaced else "no interlaced frames"
            yield from self._once("fields", f"expected {kind}, got the contrary")

    def _check_readers_decode(self) -> Iterator[str]:
        """Decode a few frames as readers do, by what `json` says and nothing else."""
        frames = self._table[list(self._seen), RANK]
        try:
            for packet, rgb in iter_pictures(
                self._part, frames, info=self._info, table=self._table
            ):
                if fingerprint(rgb) != self._seen[packet]:
                    frame = self._table[packet, RANK]
                    yield f"frame {frame}: another picture by the table than from the start"
                    return
        except DecodeError as exc:
            yield f"decoding by the table: {exc}"


def _watched(table: FrameTable) -> frozenset[int]:
    """Return some packets whose pictures a decoder gets from the random-access point before."""
    points = np.flatnonzero(table[:, FLAGS] & RANDOM_ACCESS)
    if not len(points):
        return frozenset()
    chosen = points[np.unique(np.linspace(0, len(points) - 1, _POINTS).astype(np.int64))]
    packets = []
    for point in chosen.tolist():
        ranks = table[point : point + _REACH, RANK]
        # Leading pictures need what stands before the point.
        packets += (point + np.flatnonzero(ranks >= max(int(ranks[0]), 0))).tolist()
    return frozenset(packets)


def _row_fault(part: bytes, table: FrameTable, number: int, packet: "Packet[Any]") -> str:
    """Return how a packet differs from its row, empty for not at all."""
    offset, size, flags, pts = table[number, [OFFSET, SIZE, FLAGS, PTS]].tolist()
    where = f"packet {number} of the container"
    # The same bytes may stand in several places; which one the table names is its own affair.
    if size != packet.size or part[offset : offset + size] != bytes(packet):
        return f"{where}: expected the {size} bytes at {offset}, got {packet.size} others"
    found = NO_PTS if packet.pts is None else packet.pts
    if found != pts:
        return f"{where}: expected the presentation time {pts}, got {found}"
    hidden = packet.is_corrupt or packet.is_discard
    if hidden != bool(flags & CORRUPT):
        shown = ("to be shown", "damaged or not to be shown")
        return f"{where}: expected one {shown[not hidden]}, got one {shown[hidden]}"
    return ""


def still_faults(part: bytes, *, info: VideoInfo, table: FrameTable) -> Iterator[str]:
    """Yield what is wrong first with a video whose packets are JPEG or PNG files.

    Args:
        part: The whole mp4.
        info: What `json` says of it.
        table: Its frame table, which `check_frame_table` accepts, with a row for each file.
    """
    try:
        check_not_truncated(part)
        with open_container(part) as container:
            stream = video_stream(container)
            if stream is None:
                yield "no video stream of a known codec"
                return
            packets = -1
            for packet in container.demux(stream):
                if packet.size:
                    packets += 1
                    fault = packets < len(table) and _row_fault(part, table, packets, packet)
                    if fault:
                        yield fault
                        return
    except MediaError as exc:
        yield str(exc)
        return
    except av.FFmpegError as exc:
        yield f"not readable as an mp4: {exc.strerror}"
        return
    if packets + 1 != len(table):
        yield f"expected the table's {len(table)} packets, got {packets + 1}"
    for number, (offset, size, flags, rank) in enumerate(
        table[:, [OFFSET, SIZE, FLAGS, RANK]].tolist()
    ):
        if (flags, rank) != (RANDOM_ACCESS, number):
            expected = f"frame {number} and flags {RANDOM_ACCESS}"
            yield f"row {number}: expected {expected}, got frame {rank} and flags {flags}"
            return
        fault = _still_fault(part[offset : offset + size], info)
        if fault:
            yield f"frame {number}: {fault}"
            return


def _still_fault(data: bytes, info: VideoInfo) -> str:
    codec = "png" if data.startswith(PNG_START) else "mjpeg"
    try:
        height, width = decode_still(data).shape[:2]
    except DecodeError as exc:
        return str(exc)
    expected, found = (info.codec, info.width, info.height), (codec, width, height)
    return "" if found == expected else f"expected {_sized(expected)}, got {_sized(found)}"


def _sized(picture: tuple[str, int, int]) -> str:
    codec, width, height = picture
    return f"{codec} of {width}x{height}"


def sound_faults(part: bytes, *, suffix: str, about: AudioJson) -> Iterator[str]:
    """Yield what is wrong with a kept sound.

    Args:
        part: The whole file.
        suffix: The name of the part.
        about: What `json` says of it.
    """
    try:
        check_not_truncated(part)
        with av.open(
            io.BytesIO(part),
            mode="r",
            options={"format_whitelist": ",".join(home.demuxer for home in _HOMES.values())},
            metadata_errors="replace",
        ) as container:
            yield from _sound_faults(container, _HOMES[suffix], about)
    except MediaError as exc:
        yield str(exc)
    except av.FFmpegError as exc:
        yield f"cannot be decoded to its end: {exc.strerror}"


def _sound_faults(container: InputContainer, home: _Home, about: AudioJson) -> Iterator[str]:
    kind = container.format.name
    if kind != home.demuxer:
        yield f"expected a file of {home.demuxer}, got one of {kind}"
    streams = container.streams.audio
    # PyAV leaves out the context of an unknown codec, against its type.
    if len(streams) != 1 or getattr(streams[0], "codec_context", None) is None:
        yield f"expected one audio stream of a known codec, got {len(streams)}"
        return
    context = streams[0].codec_context
    codec = context.codec.canonical_name
    if codec != about.codec or not codec.startswith(home.codecs):
        yield f"expected {about.codec}, one of {', '.join(home.codecs)}, got {codec}"
    context.thread_count = 1
    if codec == "flac":
        # Its frames have checksums, at which FFmpeg does not look unasked.
        context.options = {"err_detect": "crccheck+explode"}
    samples = longest = 0
    for frame in container.decode(streams[0]):
        if frame.samples:
            samples, longest = samples + frame.samples, max(longest, frame.samples)
            fault = _sound_frame_fault(frame, about)
            if fault:
                yield f"{fault}, behind sample {samples - frame.samples}"
                return
    expected = round(about.duration_s * about.sample_rate_hz)
    slack = 0
    if not codec.startswith(_LOSSLESS):
        slack = max(longest, int(_TAIL_S * about.sample_rate_hz))
    if not samples or abs(samples - expected) > slack:
        yield f"expected {expected} samples of each channel, got {samples}"


def _sound_frame_fault(frame: AudioFrame, about: AudioJson) -> str:
    found = frame.sample_rate, frame.layout.nb_channels
    expected = about.sample_rate_hz, about.channels
    if found != expected:
        return (
            f"expected {expected[0]} Hz and {expected[1]} channels, got {found[0]} and {found[1]}"
        )
    levels = frame.to_ndarray()
    # NaN fails every comparison.
    if levels.dtype.kind == "f" and not (np.abs(levels) < _TOO_LOUD).all():
        return "expected samples, got NaN or numbers beyond reason"
    return ""
