"""Making a frame table: one decode of the whole video, and the proof that the table holds.

Container time stamps are not trusted for frame numbers (AVI has none, edit lists and open
GOPs shift them): packet j is decoded with `pts = j`, and the order in which the j come
out is the order of the frames. The same decode shows that the video is decodable.

The table must give the frames of that decode from every random-access point, with the
disposable packets and without. For H.264 with one set of parameters the samples follow
from the standard: an IDR picture drops all references (clause 8.2.5.1) and begins the
order anew (8.2.1), and a picture of nal_ref_idc 0 is never a reference (7.4.1, 8.2.5).
What FFmpeg adds to it (colours, interlacing, the filling of gaps, mending) has conditions of
its own below. So a few frames are decoded by the table as a check of the assumptions. For
everything else all of them are, with all disposable packets and with none.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet, PktSideDataT
from av.video.stream import VideoStream

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import DecodeError, MediaError
from clipshards.packer.format.frame_table import (
    COLUMNS,
    CORRUPT,
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    NO_PTS,
    RANDOM_ACCESS,
    RANK,
    FrameTable,
    empty_frame_table,
)
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import (
    decode_alone,
    iter_pictures,
    open_container,
    video_stream,
)
from clipshards.packer.frames.h264 import stream_fault
from clipshards.packer.frames.nal import (
    AccessUnit,
    head_parameter_sets,
    nal_length_size,
    read_access_unit,
)
from clipshards.packer.frames.plan import Packets, entry_packets, picture_packets
from clipshards.packer.frames.sei import has_picture_timing, is_mended
from clipshards.packer.frames.sequential import SequentialDecode, fingerprint
from clipshards.packer.frames.truncation import check_not_truncated

# Matroska and WebM report a block's position, the payload stands a few bytes behind it.
_BLOCK_HEADER = 64
# What a container may send a decoder beside a packet, and a table does not record.
_CONFIGURATION: tuple[PktSideDataT, ...] = ("new_extradata", "param_change", "palette")
# Packets behind a random-access point among which the spot check looks for its second frame.
_SPOT_REACH = 8


@dataclass(frozen=True, slots=True)
class VideoScan:
    """What one decode of a video found."""

    info: VideoInfo
    table: FrameTable
    """Empty when `info.no_table_because` says why."""


class _CompareAllError(Exception):
    """A spot check is not enough for this video."""


class NoTableError(Exception):
    """The video decodes, but no table can stand for it; the text says why."""


def scan_video(data: bytes) -> VideoScan:
    """Return the description and the frame table of the video in `data`.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.

    Raises:
        MediaError: No video stream, cut short, not decodable to its end, or frames of
            changing size.
    """
    try:
        return _scan(data, strict=True)
    except _CompareAllError:
        return _scan(data, strict=True, compare_all=True)
    except MediaError as exc:
        if not isinstance(exc.__cause__, av.FFmpegError):
            raise
    # FFmpeg may get over the damage as players do, but what it makes up for lost pictures
    # depends on what it decoded before: only a decode from the start gives it again.
    return _scan(data, strict=False)


def _scan(data: bytes, *, strict: bool, compare_all: bool = False) -> VideoScan:
    """Scan once; with `strict`, the decoder stops at the first error instead of concealing it.

    With `compare_all`, nothing is taken as proved that timing messages could upset.
    """
    try:
        with open_container(data) as container:
            stream = video_stream(container)
            if stream is None:
                of = " of a known codec" if container.streams.video else ""
                raise MediaError(f"no video stream{of} in the file")
            check_not_truncated(data)
            if strict:
                stream.codec_context.options = {"err_detect": "explode"}
            reason = "" if strict else "the decoder reports errors"
            return _scan_stream(data, container, stream, reason, compare_all)
    except av.FFmpegError as exc:
        raise MediaError(f"not a readable mp4, mov, mkv, webm or avi: {exc.strerror}") from exc


def _scan_stream(
    data: bytes, container: InputContainer, stream: VideoStream, reason: str, compare_all: bool
) -> VideoScan:
    """Scan an opened video; a `reason` that is given leaves the table empty."""
    info = describe(container, stream)
    packets = [packet for packet in container.demux(stream) if packet.size]
    table = empty_frame_table()
    if not reason:
        try:
            table = tabulate(data, place_packets(data, packets), info)
        except NoTableError as exc:
            reason = str(exc)
    provable = info.codec == "h264" and not (table[:, FLAGS] & CORRUPT).any()
    mended = provable and is_mended(data, stream.codec_context.profile)
    timed = provable and has_picture_timing(data, table, info)
    if mended or (timed and compare_all):
        provable = False
        # What FFmpeg remembers may come from a disposable picture: all are decoded.
        table[:, FLAGS] &= ~DISPOSABLE
    watched = _spot_packets(table) if provable else np.arange(len(table))
    decode = SequentialDecode(stream, set(watched.tolist()))
    ranks = decode.run(packets)
    info = replace(
        info,
        frames=decode.frames,
        width=decode.width,
        height=decode.height,
        rotation=decode.rotation,
        interlaced=decode.interlaced,
        coded_width=stream.codec_context.coded_width,
        coded_height=stream.codec_context.coded_height,
        reorder_depth=stream.codec_context.reorder_depth,
    )
    if not reason:
        table[:, RANK] = ranks
        try:
            settle(table)
            if decode.damaged:
                raise NoTableError(f"the decoder concealed damage in frame {decode.damaged[0]}")
            if provable and (ranks == NO_PICTURE).any():
                # Packets without a picture are outside the argument above; not seen in
                # well-made files, so they may cost a second decode.
                raise NoTableError("an H.264 packet gives no picture")
            if timed and provable and (info.interlaced or not _starts_frames(data, info, table)):
                raise _CompareAllError
            _check_by_decoding(data, info, table, decode.fingerprints, watched)
        except NoTableError as exc:
            reason = str(exc)
    if reason:
        info = replace(info, no_table_because=reason)
        table = empty_frame_table()
    return VideoScan(info, table)


def describe(container: InputContainer, stream: VideoStream) -> VideoInfo:
    """Return what is known before decoding, the number of frames apart.

    Raises:
        MediaError: The container names the codec in other characters than ASCII.
    """
    context = stream.codec_context
    extradata = context.extradata or b""
    try:
        codec_tag = context.codec_tag
    except UnicodeDecodeError as exc:
        raise MediaError(f"the codec's tag is not ASCII: {exc.object!r}") from None
    duration_s = 0.0
    if stream.duration and stream.time_base:
        duration_s = float(stream.duration * stream.time_base)
    elif container.duration:
        duration_s = container.duration / av.time_base
    return VideoInfo(
        codec=context.name,
        codec_tag=codec_tag,
        extradata=extradata,
        nal_length_size=nal_length_size(context.name, extradata),
        pixel_format=context.pix_fmt or "",
        width=context.width,
        height=context.height,
        color_range=int(context.color_range),
        color_space=int(context.colorspace),
        color_primaries=int(context.color_primaries),
        color_transfer=int(context.color_trc),
        sample_aspect=_pair(stream.sample_aspect_ratio),
        time_base=_pair(stream.time_base),
        rate=_pair(stream.average_rate),
        duration_s=max(duration_s, 0.0),
        frames=1,
        claimed_frames=max(stream.frames, 0),
        frame_table="decode",
    )


def _pair(value: Fraction | None) -> tuple[int, int]:
    return (0, 1) if value is None or value <= 0 else (value.numerator, value.denominator)


def place_packets(data: bytes, packets: Iterable["Packet[VideoStream]"]) -> FrameTable:
    """Return the table without ranks, and with what the container says for flags.

    Raises:
        NoTableError: A packet does not stand in the file, or not alone.
    """
    rows = []
    for packet in packets:
        # Few packets have any: to ask for one by name costs more than all the rest.
        has_any = next(packet.iter_sidedata(), None) is not None
        if has_any and any(packet.has_sidedata(kind) for kind in _CONFIGURATION):
            raise NoTableError("the decoder's configuration changes inside the video")
        payload = bytes(packet)
        place = -1 if packet.pos is None else packet.pos
        if place < 0 or not data.startswith(payload, place):
            place = data.find(payload, max(place, 0), max(place, 0) + len(payload) + _BLOCK_HEADER)
        if place < 0:
            raise NoTableError("the container does not store each packet in one piece")
        flags = CORRUPT * (packet.is_corrupt or packet.is_discard)
        flags |= RANDOM_ACCESS * packet.is_keyframe
        pts = NO_PTS if packet.pts is None else packet.pts
        rows.append((place, len(payload), flags, NO_PICTURE, pts, crc32c(payload)))
    return np.array(rows, dtype=np.int64).reshape(-1, COLUMNS)


def tabulate(data: bytes, placed: FrameTable, info: VideoInfo) -> FrameTable:
    """Return the table without ranks.

    Args:
        data: The file.
        placed: From `place_packets`.
        info: Of the video.

    Raises:
        NoTableError: A condition for a table is broken, whatever the pictures.
    """
    table = placed.copy()
    units = []
    if info.codec in ("h264", "hevc"):
        for row, (place, size, flags) in enumerate(table[:, :RANK].tolist()):
            try:
                unit = read_access_unit(
                    info.codec, data[place : place + size], info.nal_length_size
                )
            except ValueError as exc:
                raise NoTableError(str(exc)) from exc
            units.append(unit)
            flags &= CORRUPT
            table[row, FLAGS] = (
                flags | RANDOM_ACCESS * unit.random_access | DISPOSABLE * unit.disposable
            )
    if not len(table) or not table[0, FLAGS] & RANDOM_ACCESS:
        raise NoTableError("the video does not begin with a random-access point")
    if units:
        _check_units(info, units)
    if len(frozenset().union(*(unit.layers for unit in units))) > 1:
        # With temporal layers, "not referred to" holds inside a layer only.
        table[:, FLAGS] &= ~DISPOSABLE
    return table


def _check_units(info: VideoInfo, units: list[AccessUnit]) -> None:
    """Raise NoTableError where a decoder would need more than the packets from an entry on."""
    try:
        head = head_parameter_sets(info.codec, info.extradata)
    except ValueError as exc:
        raise NoTableError(str(exc)) from exc
    # A decoder keeps the parameter sets that it saw last: after a jump back they would be
    # those of a later part of the video.
    if not {parameter_set for unit in units for parameter_set in unit.parameter_sets} <= {*head}:
        raise NoTableError("parameter sets change inside the video")
    if info.codec == "h264":
        fault = stream_fault(head, (unit.slices for unit in units))
        if fault:
            raise NoTableError(fault)


def _starts_frames(data: bytes, info: VideoInfo, table: FrameTable) -> bool:
    """Return whether a new decoder takes the picture of each random-access point for a frame.

    Whether a picture is interlaced hangs on its own message and coding, or else on the
    picture before. If none of the sequential decode is, and each point starts with one that
    is not, no choice of packets gives one that is.
    """
    for packet in np.flatnonzero(table[:, FLAGS] & RANDOM_ACCESS):
        pictures = decode_alone(data, int(packet), info=info, table=table)
        if not pictures or any(picture.interlaced_frame for picture in pictures):
            return False
    return True


def settle(table: FrameTable) -> None:
    """Make flags fit the ranks, or raise NoTableError where they cannot."""
    rank = table[:, RANK]
    pictures = picture_packets(table)
    # A packet without a picture may be the second field of the one before it.
    # Those that an edit list hides are decoded all the same, only not shown.
    silent = np.flatnonzero((rank == NO_PICTURE) & (table[:, FLAGS] & CORRUPT == 0))
    table[silent, FLAGS] &= ~DISPOSABLE
    table[np.maximum(silent - 1, 0), FLAGS] &= ~DISPOSABLE
    # Decoding cannot begin where no picture comes out.
    table[silent, FLAGS] &= ~RANDOM_ACCESS
    if not table[0, FLAGS] & RANDOM_ACCESS or (entry_packets(table, pictures) < 0).any():
        raise NoTableError("a picture precedes the first random-access point")


def _spot_packets(table: FrameTable) -> Packets:
    """Return the packets whose frames the check of a provable table looks at.

    The last random-access point, and behind it a picture that is decoded with a disposable
    one left out before it.
    """
    flags = table[:, FLAGS]
    points = np.flatnonzero(flags & RANDOM_ACCESS)
    if not len(points):
        return points
    point = int(points[-1])
    reach = flags[point + 1 : point + 1 + _SPOT_REACH] & DISPOSABLE
    kept = np.flatnonzero(reach == 0)
    if reach.any():
        kept = kept[kept > np.argmax(reach != 0)]
    return np.concatenate(([point], point + 1 + kept[:1]))


def _check_by_decoding(
    data: bytes,
    info: VideoInfo,
    table: FrameTable,
    fingerprints: dict[int, int],
    watched: Packets,
) -> None:
    """Decode the watched packets by the table, as a reader will.

    Raises:
        NoTableError: A frame is missing, or is not what the sequential decode gave.
    """
    if info.frames != np.count_nonzero(table[:, RANK] != NO_PICTURE):
        raise NoTableError("two frames came out of one packet")
    for packets in _subsets(table, watched):
        try:
            for packet, rgb in iter_pictures(data, table[packets, RANK], info=info, table=table):
                if fingerprints[packet] != fingerprint(rgb):
                    raise NoTableError(
                        f"frame {table[packet, RANK]} decodes differently by the table"
                    )
        except DecodeError as exc:
            raise NoTableError(f"decoding by the table: {exc}") from exc


def _subsets(table: FrameTable, watched: Packets) -> Iterator[Packets]:
    """Yield the watched pictures of each random-access point, and those not disposable again."""
    watched = watched[table[watched, RANK] != NO_PICTURE]
    entries = entry_packets(table, watched)
    disposable = (table[watched, FLAGS] & DISPOSABLE) != 0
    # Backwards, since what a decoder keeps of a later part must not show either.
    for entry in np.unique(entries)[::-1]:
        served = entries == entry
        yield watched[served]
        if (served & disposable).any() and not (served & disposable == served).all():
            yield watched[served & ~disposable]
