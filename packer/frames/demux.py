"""Making a frame table from the container's times: a few pictures decoded instead of all.

The table must be the one that `scan_video` makes. Its ranks are the order of the
presentation times, and that is believed where the headers of all packets tell the same
order (`slices.py`, `shown.py`): a wrong time is then found without decoding. What the
decoder does with the packets is tried at a few random-access points. Where anything is
missing or out of the ordinary, the video is scanned in full, so that the answer is never
worse, only later.

What stays unseen is damage inside packets that are not decoded, and pictures that change
their size where no header says so.
"""

from collections.abc import Iterator
from dataclasses import replace

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipshards.packer.format.errors import DecodeError, MediaError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    NO_PTS,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    FrameTable,
)
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import (
    FrameConverter,
    iter_pictures,
    open_container,
    rotation_of,
    video_stream,
)
from clipshards.packer.frames.h264 import read_display, read_layout, read_picture_set, shows_frame
from clipshards.packer.frames.nal import head_parameter_sets
from clipshards.packer.frames.plan import Packets
from clipshards.packer.frames.scan import (
    NoTableError,
    VideoScan,
    describe,
    place_packets,
    scan_video,
    settle,
    tabulate,
)
from clipshards.packer.frames.sei import is_mended
from clipshards.packer.frames.sequential import fingerprint
from clipshards.packer.frames.shown import Shown, av1_shown, hevc_shown, vp8_shown, vp9_shown
from clipshards.packer.frames.slices import Units, find_units, read_pictures
from clipshards.packer.frames.truncation import check_not_truncated

# Random-access points that are tried, and packets from each of them on. For H.264 the
# standard answers for the rest (docs/decisions/0001), and each more costs half a demux.
_POINTS, _POINTS_H264 = 3, 2
_REACH, _REACH_H264 = 8, 1
# No decoder of these codecs holds back more.
_MOST_REORDERED = 16
_PLAYER_CONTAINERS = ("mov", "matroska")
# Slices of frames and IDR frames; messages, parameter sets, delimiters, filler.
_SLICES, _SEI, _SETS = (1, 5), 6, (7, 8)
_H264_UNITS = np.isin(np.arange(32), (*_SLICES, _SEI, *_SETS, 9, 12))

_SHOWN = {
    "vp8": vp8_shown,
    "vp9": vp9_shown,
    "av1": av1_shown,
    "libdav1d": av1_shown,
}


class _DoubtError(Exception):
    """The times are not to be trusted, or not proved."""


def demux_video(data: bytes) -> VideoScan:
    """Return the description and the frame table of the video in `data`, mostly undecoded.

    The description says `demux` where that was enough, else `decode`: then the video was
    decoded in full, as by `scan_video`.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.

    Raises:
        MediaError: As `scan_video`, as far as it is seen.
    """
    try:
        with open_container(data) as container:
            return _demux(data, container)
    except (_DoubtError, NoTableError, MediaError, DecodeError, av.FFmpegError):
        return scan_video(data)


def _demux(data: bytes, container: InputContainer) -> VideoScan:
    stream = video_stream(container)
    if stream is None or not container.format.name.startswith(_PLAYER_CONTAINERS):
        raise _DoubtError("no video, or a container without presentation times")
    check_not_truncated(data)
    info = replace(describe(container, stream), frame_table="demux")
    # One packet at a time: what was just read is still in the processor's cache.
    table = place_packets(data, _whole_packets(container, stream))
    try:
        if info.codec == "h264":
            table, shown = _h264_table(data, table, info, stream.codec_context.profile)
        else:
            table, shown = _other_table(data, table, info)
    except (ValueError, IndexError) as exc:
        raise _DoubtError(f"headers that end too soon or say what cannot be: {exc}") from exc
    _rank(table, shown)
    settle(table)
    return _try_decoding(data, stream, info, table)


def _whole_packets(
    container: InputContainer, stream: VideoStream
) -> Iterator["Packet[VideoStream]"]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _DoubtError("a damaged packet")
        if packet.size:
            yield packet


def _h264_table(
    data: bytes, placed: FrameTable, info: VideoInfo, profile: str | None
) -> tuple[FrameTable, Shown]:
    """Return the table of an H.264 video without ranks, and its order of display."""
    table = placed.copy()
    head = head_parameter_sets(info.codec, info.extradata)
    sequences = [unit for unit in head if unit[0] & 31 == 7]
    picture_sets = [read_picture_set(unit) for unit in head if unit[0] & 31 == 8]
    different = len({known.number for known in picture_sets}) == len(picture_sets)
    if len(sequences) != 1 or not different or not info.nal_length_size:
        raise _DoubtError("several parameter sets, or units with start codes")
    layout, display = read_layout(sequences[0]), read_display(sequences[0])
    units = find_units(data, table, info.nal_length_size)
    kind = units.header & 31
    # A decoder passes over units whose first bit is set.
    if not _H264_UNITS[kind].all() or (units.header & 0x80).any():
        raise _DoubtError("units of other types")
    messages = []
    for row in np.flatnonzero((kind >= _SEI) & (kind <= _SETS[-1])).tolist():
        unit = data[units.place[row] : units.place[row] + units.size[row]]
        if kind[row] == _SEI:
            messages.append(unit)
        elif unit.rstrip(b"\0") not in head:
            raise _DoubtError("parameter sets change")
    if not all(shows_frame(unit, display) for unit in messages):
        raise _DoubtError("messages tell of fields")
    if is_mended(b"\0".join((info.extradata, *messages)), profile):
        raise _DoubtError("the decoder mends it")
    slices = Units(*(column[kind <= _SLICES[-1]] for column in units))
    pictures = read_pictures(data, slices, layout, picture_sets, packets=len(table))
    if not pictures.random_access[0]:
        raise _DoubtError("the video does not begin with a random-access point")
    table[:, FLAGS] &= CORRUPT
    table[:, FLAGS] |= RANDOM_ACCESS * pictures.random_access
    table[:, FLAGS] |= DISPOSABLE * pictures.disposable
    return table, Shown(pictures.order.tolist(), max(display.reorder_limit, 0))


def _other_table(data: bytes, placed: FrameTable, info: VideoInfo) -> tuple[FrameTable, Shown]:
    """Return the table of a video without ranks, and its order of display."""
    if info.codec != "hevc" and info.codec not in _SHOWN:
        raise _DoubtError("not a codec whose headers are read")
    table = tabulate(data, placed, info)
    payloads = [data[row[OFFSET] : row[OFFSET] + row[SIZE]] for row in table.tolist()]
    if info.codec == "hevc":
        head = head_parameter_sets(info.codec, info.extradata)
        if not info.nal_length_size:
            raise _DoubtError("units with start codes")
        return table, hevc_shown(payloads, length_size=info.nal_length_size, parameter_sets=head)
    keys = (table[:, FLAGS] & RANDOM_ACCESS != 0).tolist()
    return table, _SHOWN[info.codec](payloads, keys)


def _rank(table: FrameTable, shown: Shown) -> None:
    """Write the ranks into a table, or raise _DoubtError.

    Pictures that an edit list hides are decoded, and are part of the order.
    """
    order = np.array(shown.order, dtype=np.int64)
    giving = np.flatnonzero(order >= 0)
    times = table[giving, PTS]
    by_time = np.argsort(times, kind="stable")
    if (times == NO_PTS).any() or not (np.diff(times[by_time]) > 0).all():
        raise _DoubtError("packets without a time of their own")
    if not (np.diff(order[giving][by_time]) > 0).all():
        raise _DoubtError("the times and the packets tell different orders")
    if _reordering(by_time) > shown.reorder_limit:
        raise _DoubtError("more pictures are held back than the headers say")
    in_order = giving[by_time]
    in_order = in_order[table[in_order, FLAGS] & CORRUPT == 0]
    if not len(in_order):
        raise _DoubtError("nothing is shown")
    table[in_order, RANK] = np.arange(len(in_order))


def _reordering(by_time: npt.NDArray[np.int64]) -> int:
    """Return how many pictures come before one that is shown before them, at most."""
    place = np.empty_like(by_time)
    place[by_time] = np.arange(len(by_time))
    before = np.zeros_like(place)
    if (np.diff(place) > 0).all():
        return 0
    for lag in range(1, min(_MOST_REORDERED + 1, len(place))):
        before[lag:] += place[:-lag] > place[lag:]
    # Of all pictures before, as many as are missing among those shown before.
    far = place[: max(len(place) - _MOST_REORDERED - 1, 0)]
    if (np.maximum.accumulate(far) > place[len(place) - len(far) :]).any():
        return _MOST_REORDERED + 1
    return int(before.max(initial=0))


def _try_decoding(
    data: bytes, stream: VideoStream, info: VideoInfo, table: FrameTable
) -> VideoScan:
    """Return the scan if the decoder does at some points what the table says."""
    is_h264 = info.codec == "h264"
    reach = _REACH_H264 if is_h264 else _REACH
    points = np.flatnonzero(table[:, FLAGS] & RANDOM_ACCESS)
    spread = np.linspace(0, len(points) - 1, _POINTS_H264 if is_h264 else _POINTS)
    chosen = points[np.unique(spread.astype(np.int64))].tolist()
    # It was set up from the container, and the table plays no part in it.
    context = stream.codec_context
    context.options = {"err_detect": "explode"}
    trial = _Trial(data, table, context)
    compared = chosen[:1] if is_h264 else chosen
    found = {point: trial.run(_stretch(table, point, reach), point in compared) for point in chosen}
    info = replace(
        info,
        frames=int(table[:, RANK].max()) + 1,
        width=trial.size[0],
        height=trial.size[1],
        rotation=trial.rotation,
        coded_width=context.coded_width,
        coded_height=context.coded_height,
        reorder_depth=context.reorder_depth,
    )
    # As a reader will: a new decoder, without what may be left out.
    for point in compared[::-1]:
        packets = np.array(list(found[point]))
        kept = packets[(table[packets, FLAGS] & DISPOSABLE == 0) & (table[packets, RANK] >= 0)]
        for packet, rgb in iter_pictures(data, table[kept, RANK], info=info, table=table):
            if found[point][packet] != fingerprint(rgb):
                raise _DoubtError("a picture is another one by the table")
    return VideoScan(info, table)


def _stretch(table: FrameTable, point: int, reach: int) -> Packets:
    """Return the packets from a random-access point on that are tried.

    Leading pictures need what stands before the point.
    """
    times = table[point : point + 4 * reach, PTS]
    own = point + np.flatnonzero(times >= times[0])
    return own[:reach] if point else np.arange(min(reach, len(table)))


class _Trial:
    """Decodes packets of one video and holds the pictures against its table."""

    def __init__(self, data: bytes, table: FrameTable, context: VideoCodecContext) -> None:
        self.size = (0, 0)
        self.rotation = 0
        self._data = data
        self._table = table
        self._context = context
        self._converter = FrameConverter()

    def run(self, packets: Packets, compared: bool) -> dict[int, int]:
        """Return the fingerprint of each packet's picture, none if they are not compared.

        Raises:
            _DoubtError: Other pictures come out, or in another order, or damaged ones.
            av.FFmpegError: The decoder refuses a packet.
        """
        pictures: list[VideoFrame] = []
        for number, (offset, size) in zip(
            packets.tolist(), self._table[packets][:, (OFFSET, SIZE)].tolist(), strict=True
        ):
            packet = av.Packet(size)
            packet.update(self._data[offset : offset + size])
            packet.pts = number
            pictures += self._context.decode(packet)
        pictures += self._context.decode(None)
        self._context.flush_buffers()
        due = packets[np.argsort(self._table[packets, PTS])]
        silent = (self._table[due, RANK] == NO_PICTURE) & (self._table[due, FLAGS] & CORRUPT == 0)
        if [picture.pts for picture in pictures] != due[~silent].tolist():
            raise _DoubtError("other pictures than the times say")
        if not self.size[0]:
            self.size = (pictures[0].width, pictures[0].height)
            self.rotation = rotation_of(pictures[0])
        for picture in pictures:
            if picture.is_corrupt or picture.interlaced_frame:
                raise _DoubtError("a damaged picture, or one of fields")
            if (picture.width, picture.height) != self.size:
                raise _DoubtError("pictures of several sizes")
        return {
            picture.pts: fingerprint(self._converter.rgb(picture))
            for picture in pictures
            if compared and picture.pts is not None
        }
