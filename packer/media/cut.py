"""Cutting videos without encoding them again: the packets of some frames, in an mp4 of their own.

Frame numbers are those of the decode from the start, so a cut follows the frame table and
not the container. What comes out is scanned like any other video and its frames are
compared with the source's: a cut is exact or there is none.
"""

import heapq
import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import DecodeError, MediaError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    FLAGS,
    NO_PICTURE,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
)
from clipshards.packer.frames.decode import (
    LAST_MENDED_X264,
    iter_pictures,
    oldest_x264,
    open_container,
)
from clipshards.packer.frames.nal import split_nal_units
from clipshards.packer.frames.plan import Packets, entry_packets, picture_packets
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.moments import Ticks, frame_ticks
from clipshards.packer.media.muxing import (
    MUX_OPTIONS,
    LossError,
    add_stream,
    check_description,
    open_video,
    sound_stream,
)

# H.264's unit of supplemental information, and the first byte of text in it (7.3.2.3, D.1).
_SEI = 6
_USER_DATA = b"\5"


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of a video, in an mp4."""

    data: bytes
    first_frame: int
    """Number in the source of its frame 0: frame n of the source is its n - first_frame."""
    frames: int
    """Frames in it, without a gap; all that were asked for are among them."""
    scan: VideoScan
    """Description and frame table of `data`."""
    sound_lost: str
    """Why the source's sound is not in it; empty where it is, was not wanted, or there is none."""


class VideoCutter:
    """Makes cuts of one video, which is opened, scanned and searched for sound only once.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.
        scan: What `scan_video` says of `data`; made here where it is None.
        sound: Whether cuts have the sound of the source's first sound track.

    Raises:
        MediaError: The video cannot be read, or there is no frame table to cut by: then no
            place is known to be safe. A whole video can still be packed as it is.
    """

    def __init__(self, data: bytes, *, scan: VideoScan | None = None, sound: bool = True) -> None:
        self.scan = scan_video(data) if scan is None else scan
        because = self.scan.info.no_table_because
        if not len(self.scan.table):
            raise MediaError(f"the video cannot be cut without loss: {because or 'not scanned'}")
        self._data = data
        self._ticks = _packet_ticks(self.scan)
        self._base = Fraction(*self.scan.info.time_base)
        if not self._base:
            raise MediaError("the container does not say how long its ticks are")
        self._container, self._stream = open_video(data)
        self._sound_stream = sound_stream(self._container) if sound else None
        self._sound_packets: list[Packet[AudioStream]] | None = None
        self._forgotten: bool | None = None

    def cut(self, start_frame: int, stop_frame: int, *, whole: bool = False) -> Cut:
        """Return an mp4 with frames `start_frame` up to `stop_frame`, each as in the source.

        It begins at the random-access point that decoding them must begin at, and ends
        where the pictures that they refer to are all there, so that it holds more frames
        than asked for; none of them is hidden. Leading pictures of an open GOP, which its
        first picture cannot give, are left out. Only where the source's edit list hides
        pictures that the frames are decoded from, the cut hides them as well.

        Sound is copied too, from the packet before the first frame on; the player starts it
        in time. One machine or another, the same PyAV gives the same bytes.

        Args:
            start_frame: Counted from 0.
            stop_frame: Behind the last one.
            whole: Keep all of the sound, and not only what is heard with the frames.

        Raises:
            MediaError: An mp4 cannot hold the codec, or its frames would not be the source's.
            ValueError: The range is empty or not within the video.
        """
        table, total = self.scan.table, self.scan.info.frames
        if not 0 <= start_frame < stop_frame <= total:
            raise ValueError(
                f"frames {start_frame} to {stop_frame} are not a range within {total} frames"
            )
        where = f"frames {start_frame} to {stop_frame - 1} cannot be cut without loss"
        if whole:
            where = "the video cannot be remuxed without loss"
        try:
            kept = _packets_of(self.scan, start_frame, stop_frame)
            ranks = table[kept, RANK]
            first = int(ranks[ranks != NO_PICTURE].min())
            if first > start_frame:
                raise LossError("its random-access points are not shown in their order")
            made, sound_lost = self._mux(kept, first, whole=whole)
            scan = self._check(made, kept, first)
        except LossError as exc:
            raise MediaError(f"{where}: {exc}") from exc
        return Cut(made, first, scan.info.frames, scan, sound_lost)

    def _mux(self, kept: Packets, first: int, *, whole: bool) -> tuple[bytes, str]:
        """Return the mp4, and why the sound is not in it."""
        zero = int(self._ticks[picture_packets(self.scan.table)[first]])
        times = self._ticks[kept] - zero
        lost = ""
        if self._sound_stream is not None:
            try:
                return self._write(kept, times, self._heard(zero, times, whole=whole)), ""
            except LossError as exc:
                lost = f"the sound cannot be copied into an mp4: {exc}"
        return self._write(kept, times, []), lost

    def _write(self, kept: Packets, times: Ticks, sound: "list[Packet[AudioStream]]") -> bytes:
        buffer = io.BytesIO()
        try:
            with av.open(buffer, "w", format="mp4", options=MUX_OPTIONS) as output:
                video = add_stream(output, self._stream)
                tracks: list[Iterator[tuple[Fraction, Packet[Any]]]] = [
                    self._video_packets(video, kept, times)
                ]
                if sound:
                    tracks.append(_onto(add_stream(output, self._sound_stream), sound))
                for _, packet in heapq.merge(*tracks, key=lambda item: item[0]):
                    output.mux(packet)
        # PyAV says ValueError of a codec that a container cannot have.
        except (av.FFmpegError, ValueError) as exc:
            raise LossError(str(exc)) from exc
        return buffer.getvalue()

    def _video_packets(
        self, stream: VideoStream, kept: Packets, times: Ticks
    ) -> "Iterator[tuple[Fraction, Packet[Any]]]":
        """Yield (decoding time in seconds, packet)."""
        order = np.sort(times)
        decode_times = _decode_times(times, order)
        durations = np.append(np.diff(order), _usual_step(order))[np.searchsorted(order, times)]
        for number, time, decode_time, duration in zip(
            kept.tolist(), times.tolist(), decode_times.tolist(), durations.tolist(), strict=True
        ):
            offset, size, flags = self.scan.table[number, [OFFSET, SIZE, FLAGS]].tolist()
            packet: Packet[Any] = av.Packet(size)
            packet.update(self._data[offset : offset + size])
            packet.stream = stream
            packet.time_base = self._base
            packet.pts, packet.dts, packet.duration = time, decode_time, duration
            packet.is_keyframe = bool(flags & RANDOM_ACCESS)
            yield decode_time * self._base, packet

    def _heard(self, zero: int, times: Ticks, *, whole: bool) -> "list[Packet[AudioStream]]":
        """Return new packets of the sound during the frames, timed from the first of them."""
        zero_s = zero * self._base
        if self._sound_packets is None:
            self._sound_packets = list(_demux_sound(self._data))
        packets = self._sound_packets
        starts: list[int] = []
        base = Fraction(0)
        for source in packets:
            if source.pts is None or not source.time_base:
                raise LossError("a packet of it has no time")
            starts.append(source.pts)
            base = source.time_base
        if packets and not whole:
            end_s = (int(times.max()) + _usual_step(np.sort(times))) * self._base
            # A decoder needs the packet before for the sound at the beginning.
            first = max(bisect_right(starts, zero_s / base) - 2, 0)
            packets = packets[first : bisect_left(starts, (zero_s + end_s) / base)]
            if not any((p.pts or 0) + (p.duration or 0) > zero_s / base for p in packets):
                packets = []  # the sound was over before the first frame
        heard: list[Packet[Any]] = []
        for source in packets:
            packet: Packet[Any] = av.Packet(source.size)
            packet.update(bytes(source))
            packet.time_base = base
            packet.pts = packet.dts = round((source.pts or 0) - zero_s / base)
            packet.duration = source.duration
            packet.is_keyframe = source.is_keyframe
            heard.append(packet)
        return heard

    def _check(self, made: bytes, kept: Packets, first: int) -> VideoScan:
        """Return the scan of a cut whose frames are the source's.

        Raises:
            LossError: They are not, or the video is described otherwise.
        """
        source = self.scan
        try:
            scan = scan_video(made)
        except MediaError as exc:
            raise LossError(f"the mp4 would not be readable: {exc}") from exc
        if not len(scan.table):
            raise LossError(f"the mp4 would have no frame table: {scan.info.no_table_because}")
        ranks = source.table[kept, RANK]
        due = np.where(ranks == NO_PICTURE, NO_PICTURE, ranks - first)
        if not np.array_equal(scan.table[:, RANK], due):
            raise LossError("an mp4 would not show the same frames in the same order")
        check_description(source, scan)
        same_bytes = all(
            self._data[row[OFFSET] : row[OFFSET] + row[SIZE]]
            == made[new[OFFSET] : new[OFFSET] + new[SIZE]]
            for row, new in zip(source.table[kept].tolist(), scan.table.tolist(), strict=True)
        )
        hidden = bool((source.table[kept, FLAGS] & CORRUPT).any())
        compared = np.arange(first, first + scan.info.frames)
        if same_bytes and not hidden and self._is_forgotten():
            # From an IDR picture on, the same bytes give the same pictures (ITU-T H.264,
            # 8.2.1): two frames are looked at, in case the container says otherwise.
            compared = compared[[0, -1]]
        if self._fingerprints(self._data, source, compared) != self._fingerprints(
            made, scan, compared - first
        ):
            raise LossError("an mp4 would not give the same pixels")
        return scan

    def _is_forgotten(self) -> bool:
        """Return whether a decoder keeps nothing of what comes before an IDR picture."""
        if self._forgotten is None:
            self._forgotten = _is_forgotten(self._data, self.scan)
        return self._forgotten

    def _fingerprints(
        self, data: bytes, scan: VideoScan, frames: npt.NDArray[np.int64]
    ) -> list[int]:
        """Return a fingerprint of each frame, in the order of decoding."""
        try:
            return [
                crc32c(rgb.tobytes())
                for _, rgb in iter_pictures(data, frames, info=scan.info, table=scan.table)
            ]
        except DecodeError as exc:
            raise LossError(str(exc)) from exc


def _packets_of(scan: VideoScan, start_frame: int, stop_frame: int) -> Packets:
    """Return the packets of a cut, ascending."""
    table = scan.table
    rank = table[:, RANK]
    pictures = picture_packets(table)
    wanted = pictures[start_frame:stop_frame]
    entry = int(entry_packets(table, wanted).min())
    end = int(wanted.max()) + 1
    while True:
        leading = (rank[entry:end] != NO_PICTURE) & (rank[entry:end] < rank[entry])
        kept: Packets = entry + np.flatnonzero(~leading)
        shown = rank[kept][rank[kept] != NO_PICTURE]
        # What was decoded early, to refer to, is shown late: without the frames between,
        # the frames of the cut would not be numbered in a row.
        due = pictures[shown.min() : shown.max() + 1]
        if int(due.min()) < entry:
            raise LossError("pictures that an edit list hides stand between the frames")
        if int(due.max()) < end:
            break
        end = int(due.max()) + 1
    if ((rank[kept] == NO_PICTURE) & (table[kept, FLAGS] & CORRUPT == 0)).any():
        raise LossError("some packets give no picture")
    return kept


def _is_forgotten(data: bytes, scan: VideoScan) -> bool:
    """Return whether it is H.264 with no messages to the decoder that outlast an IDR picture.

    FFmpeg remembers some of the supplemental information: the fields of a picture, and the
    version of x264, whose old mistakes it mends. Only text, alone in its unit, is harmless.
    """
    if scan.info.codec != "h264":
        return False
    if oldest_x264(data, 0, len(data)) <= LAST_MENDED_X264:
        return False
    return all(
        unit[0] & 31 != _SEI or _is_text(unit)
        for offset, size in scan.table[:, (OFFSET, SIZE)].tolist()
        for unit in split_nal_units(data[offset : offset + size], scan.info.nal_length_size)
    )


def _is_text(unit: bytes) -> bool:
    """Return whether supplemental information is one message of unregistered user data."""
    payload = unit[1:].replace(b"\0\0\3", b"\0\0")
    if payload[:1] != _USER_DATA:
        return False
    place = 1
    while payload[place : place + 1] == b"\xff":
        place += 1
    size = 255 * (place - 1) + sum(payload[place : place + 1])
    # One byte ends the unit, and zeros may follow it.
    return len(payload[place + 1 + size :].rstrip(b"\0")) <= 1


def _packet_ticks(scan: VideoScan) -> Ticks:
    """Return when the picture of each packet is shown; of hidden ones, when it would be."""
    ticks: Ticks = scan.table[:, PTS].copy()
    ticks[picture_packets(scan.table)] = frame_ticks(scan)
    return ticks


def _decode_times(times: Ticks, order: Ticks) -> Ticks:
    """Return a decoding time for each packet: ascending, none behind its own display."""
    if (np.diff(order) <= 0).any():
        raise LossError("two pictures have the same time")
    places = np.searchsorted(order, times)
    delay = int((np.arange(len(times)) - places).max())
    before = order[0] - _usual_step(order) * np.arange(delay, 0, -1)
    return np.concatenate((before, order))[: len(times)]


def _usual_step(order: Ticks) -> int:
    return max(int(np.median(np.diff(order))), 1) if len(order) > 1 else 1


def _demux_sound(data: bytes) -> "Iterator[Packet[AudioStream]]":
    try:
        with open_container(data) as container:
            for packet in container.demux(container.streams.audio[0]):
                if packet.size:
                    yield packet
    except av.FFmpegError as exc:
        raise LossError(str(exc)) from exc


def _onto(
    stream: AudioStream, packets: "list[Packet[AudioStream]]"
) -> "Iterator[tuple[Fraction, Packet[Any]]]":
    for packet in packets:
        packet.stream = stream
        if packet.dts is not None and packet.time_base is not None:
            yield packet.dts * packet.time_base, packet
