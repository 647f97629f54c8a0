"""Decoding chosen frames of a video part, by its frame table or from its start.

Both ways give the same pixels: what PyAV's `frame.to_ndarray(format="rgb24")` gives for
frame n of a decode from the start.
"""

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.frame_table import OFFSET, RANK, SIZE, FrameTable
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.packets import Part
from clipshards.packer.frames.plan import Packets, picture_packets, plan_runs

Pixels = npt.NDArray[np.uint8]

# Without this list a text file that calls itself a video may be a playlist, and FFmpeg
# would open the files and addresses that it names.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"

_DECODERS_KEPT = 8

# FFmpeg's H.264 decoder mends mistakes of x264 up to this version. It keeps the version that
# it read last for all that follows, behind a flush too.
LAST_MENDED_X264 = 150
_X264_VERSION = re.compile(rb"x264\s*-\s*core\s*\+?0*([0-9]*)")


def open_container(data: bytes | BinaryIO) -> InputContainer:
    """Return the opened container in `data` or a file, one of mp4/mov, Matroska/WebM and AVI.

    Raises:
        av.FFmpegError: None of these, or its headers are broken.
    """
    return av.open(
        io.BytesIO(data) if isinstance(data, bytes) else data,
        mode="r",
        options={"format_whitelist": CONTAINERS},
        # Titles and comments in old encodings must not make a video unreadable.
        metadata_errors="replace",
    )


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is not a cover picture, one decoding thread.

    None where there is none, or none of a codec that this build of FFmpeg knows.
    """
    for stream in container.streams.video:
        # PyAV leaves out the context of an unknown codec, against its type.
        known = getattr(stream, "codec_context", None) is not None
        if known and not stream.disposition & av.stream.Disposition.attached_pic:
            # More threads cost CPU in loader processes, and change nothing in the pixels.
            stream.codec_context.thread_count = 1
            return stream
    return None


def rotation_of(frame: VideoFrame) -> int:
    """Return the degrees counter-clockwise that bring the frame upright, -180 to 180."""
    # A display matrix that turns nothing (all zeros) gives a number far outside.
    return frame.rotation if -180 <= frame.rotation <= 180 else 0


class FrameConverter:
    """Turns decoded frames into RGB with one scaler that is kept from frame to frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> Pixels:
        """Return the frame as uint8 (H, W, 3), not yet rotated; rows may be strided."""
        # PyAV's default is a thread per processor for each frame: 7 times the cost.
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1)
        # to_ndarray would copy where a row is padded.
        plane = picture.planes[0]
        rows: Pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: picture.height, : picture.width * 3].reshape(-1, picture.width, 3)


class _Decoder(NamedTuple):
    context: VideoCodecContext | None
    """None where the one that was used is not as good as a new one."""
    converter: FrameConverter


class _PerThread(threading.local):
    """Idle decoders of one thread, most recently used last: a context serves one thread only."""

    def __init__(self) -> None:
        self.decoders: OrderedDict[tuple[Any, ...], _Decoder] = OrderedDict()


_per_thread = _PerThread()


def decode_frames(
    part: Part, frames: npt.NDArray[np.integer], *, info: VideoInfo, table: FrameTable
) -> Pixels:
    """Return chosen frames of a video part.

    Args:
        part: The bytes of the part; with a table, the packets that the frames need.
        frames: Frame numbers in display order, shape (T,), any order, duplicates allowed.
        info: The part's description in `json`.
        table: The part's frame table; empty for a decode from the start.

    Returns:
        uint8 RGB of shape (T, H, W, 3), not rotated; (0, 0, 0, 3) for no frames.

    Raises:
        DecodeError: A number lies outside the video, or the bytes do not give the frame.
    """
    if not len(table):
        assert isinstance(part, bytes)
        return _decode_sequentially(part, frames)
    _check_range(frames, int(table[:, RANK].max()) + 1)
    slots = _slots_of(picture_packets(table)[frames])
    batch = _Batch(len(frames))
    for packet, picture in iter_pictures(part, frames, info=info, table=table):
        for slot in slots[packet]:
            batch.put(slot, picture)
    return batch.pixels


def iter_pictures(
    part: Part, frames: npt.NDArray[np.integer], *, info: VideoInfo, table: FrameTable
) -> Iterator[tuple[int, Pixels]]:
    """Yield (packet number, pixels) for each of `frames` once, as the decoder gives them.

    Args and errors are those of `decode_frames`; the table must not be empty. The pixels
    are uint8 (H, W, 3), their rows may be strided.
    """
    key = _decoder_key(info)
    idle = _per_thread.decoders
    # Taken out while in use: a decoder that failed half-way is never used again.
    context, converter = idle.pop(key) if key in idle else _Decoder(None, FrameConverter())
    try:
        for run in plan_runs(table, frames):
            context = context or open_context(info)
            missing = {int(packet) for packet in run.wanted}
            for picture in _decode_packets(part, run.feed, info, table, context):
                packet = -1 if picture.pts is None else picture.pts
                if packet in missing:
                    missing.remove(packet)
                    yield packet, converter.rgb(picture)
            if missing:
                raise DecodeError(
                    f"packets {sorted(missing)} gave no picture although the frame table says so"
                )
            # A flush forgets whether the last picture was interlaced, as of FFmpeg 8.1: a
            # precaution for other releases.
            if info.interlaced or not _is_as_new(info, part, table[run.feed]):
                context = None
    except av.FFmpegError as exc:
        raise DecodeError(f"the decoder failed: {exc.strerror}") from exc
    idle[key] = _Decoder(context, converter)
    if len(idle) > _DECODERS_KEPT:
        idle.popitem(last=False)


def _is_as_new(info: VideoInfo, part: Part, fed: FrameTable) -> bool:
    """Return whether a flushed decoder that was fed these packets is as good as a new one.

    Only H.264 is worth the question: a new decoder costs a tenth of a small video's time
    there, next to nothing for other codecs. And many of those do remember: Motion JPEG
    its Huffman tables, for pictures that come without their own.
    """
    return info.codec == "h264" and all(
        oldest_x264(part[offset : offset + size], 0, size) > LAST_MENDED_X264
        for offset, size in fed[:, (OFFSET, SIZE)].tolist()
    )


def oldest_x264(data: bytes, start: int, end: int) -> int:
    """Return the lowest version of x264 that `data[start:end]` names, 2**31 for none."""
    # The search for a word is many times faster than that for a pattern.
    if data.find(b"x264", start, end) < 0:
        return 2**31
    versions = [match[1] for match in _X264_VERSION.finditer(data, start, end)]
    # What FFmpeg makes of a number that has more than 32 bits is not known: as of an old one.
    return min((int(v or b"0") if len(v) < 10 else 0 for v in versions), default=2**31)


def look_through(part: bytes) -> tuple[int, int]:
    """Return how many frames a decode from the start gives, and the rotation of the first.

    The rotation is in degrees counter-clockwise.

    Raises:
        DecodeError: The part cannot be decoded to its end.
    """
    frames = rotation = 0
    for picture in _sequential(part):
        if not frames:
            rotation = rotation_of(picture)
        frames += 1
    return frames, rotation


def _decode_sequentially(part: bytes, frames: npt.NDArray[np.integer]) -> Pixels:
    slots = _slots_of(frames)
    batch = _Batch(len(frames))
    converter = FrameConverter()
    seen = 0
    if slots:
        for number, picture in enumerate(_sequential(part)):
            seen = number + 1
            if number in slots:
                rgb = converter.rgb(picture)
                for slot in slots.pop(number):
                    batch.put(slot, rgb)
                if not slots:
                    break
    if slots:
        _check_range(frames, seen)
    return batch.pixels


def _slots_of(numbers: npt.NDArray[np.integer]) -> dict[int, list[int]]:
    """Return, for each number, the places of the clip where it stands."""
    slots: dict[int, list[int]] = {}
    for slot, number in enumerate(numbers.tolist()):
        slots.setdefault(number, []).append(slot)
    return slots


def _sequential(part: bytes) -> Iterator[VideoFrame]:
    try:
        with open_container(part) as container:
            stream = video_stream(container)
            if stream is None:
                raise DecodeError("no video stream of a known codec")
            yield from container.decode(stream)
    except av.FFmpegError as exc:
        raise DecodeError(f"the decoder failed: {exc.strerror}") from exc


def _check_range(frames: npt.NDArray[np.integer], total: int) -> None:
    outside = (frames < 0) | (frames >= total)
    if outside.any():
        raise DecodeError(
            f"frame {int(frames[np.argmax(outside)])} does not exist, the video has {total}"
        )


class _Batch:
    """Frames of one clip, written straight into the array that is returned."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.pixels: Pixels = np.empty((length, 0, 0, 3), dtype=np.uint8)

    def put(self, slot: int, rgb: Pixels) -> None:
        if not self.pixels.size:
            self.pixels = np.empty((self._length, *rgb.shape), dtype=np.uint8)
        if rgb.shape != self.pixels.shape[1:]:
            raise DecodeError(
                f"frames change size inside the video, {self.pixels.shape[1:3]} "
                f"and then {rgb.shape[:2]} (height, width)"
            )
        self.pixels[slot] = rgb


def _decode_packets(
    part: Part, feed: Packets, info: VideoInfo, table: FrameTable, context: VideoCodecContext
) -> Iterator[VideoFrame]:
    """Yield the pictures of one run; each carries its packet's number as `pts`."""
    # A flush may have reset what the decoder had learned of the reordering.
    context.reorder_depth = info.reorder_depth
    places = table[feed][:, (OFFSET, SIZE)].tolist()
    for number, (offset, size) in zip(feed.tolist(), places, strict=True):
        payload = part[offset : offset + size]
        if not size or len(payload) != size:
            raise DecodeError(f"packet {number} lies outside the part")
        # Packet(bytes) would borrow the bytes. FFmpeg reads up to 64 bytes behind a packet and
        # wants zeros there: anything else changes the pictures of some codecs.
        packet = av.Packet(size)
        packet.update(payload)
        packet.pts = number
        yield from context.decode(packet)
    yield from context.decode(None)
    context.flush_buffers()


def decode_alone(
    part: bytes, packet: int, *, info: VideoInfo, table: FrameTable
) -> list[VideoFrame]:
    """Return what a new decoder makes of one packet.

    Raises:
        DecodeError: The decoder refuses it.
    """
    try:
        feed = np.array([packet], dtype=np.int64)
        return list(_decode_packets(part, feed, info, table, open_context(info)))
    except av.FFmpegError as exc:
        raise DecodeError(f"packet {packet}: the decoder failed: {exc.strerror}") from exc


def _decoder_key(info: VideoInfo) -> tuple[Any, ...]:
    """Return what makes two videos decodable by one context, one after the other."""
    return (
        info.codec,
        info.codec_tag,
        info.extradata,
        info.coded_width,
        info.coded_height,
        info.color_range,
        info.color_space,
        info.color_primaries,
        info.color_transfer,
        info.reorder_depth,
    )


def open_context(info: VideoInfo) -> VideoCodecContext:
    """Return a new decoder for a video's packets, of one thread.

    Raises:
        DecodeError: There is none, or it refuses the description.
    """
    try:
        context = CodecContext.create(info.codec, "r")
    except ValueError as exc:  # PyAV's UnknownCodecError
        raise DecodeError(f"this build of PyAV has no decoder {info.codec!r}") from exc
    if not isinstance(context, VideoCodecContext):
        raise DecodeError(f"codec {info.codec!r} is not a video codec")
    try:
        _set_up(context, info)
    except (av.FFmpegError, ValueError, OverflowError) as exc:
        raise DecodeError(f"the decoder refuses the description in json: {exc}") from exc
    return context


def _set_up(context: VideoCodecContext, info: VideoInfo) -> None:
    context.thread_count = 1
    if info.extradata:
        context.extradata = info.extradata
    context.codec_tag = info.codec_tag
    context.width = info.coded_width
    context.height = info.coded_height
    # What the bitstream leaves unsaid comes from the container, and steers the conversion.
    context.color_range = info.color_range
    context.colorspace = info.color_space
    context.color_primaries = info.color_primaries
    context.color_trc = info.color_transfer
    context.reorder_depth = info.reorder_depth
    context.open()
