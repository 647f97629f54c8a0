"""Annotated moments of a video become a sample: boxes, actions, and the frames around them."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import FrameTable
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import AvaRecord, FrameRange, KeyFrame
from clipshards.packer.samples.base import LeftOut, Material, Sample, make_sample
from clipshards.packer.samples.video import table_warning, video_part

if TYPE_CHECKING:
    from clipshards.packer.frames.scan import VideoScan
    from clipshards.packer.media.cut import VideoCutter


def ava_parts(records: Iterable[AvaRecord]) -> tuple[str, ...]:
    """Return the optional parts that a split of these records must have."""
    proposed = any(
        moment.proposals is not None for record in records for moment in record.key_frames
    )
    return ("proposals.npy",) if proposed else ()


def ava_size(record: AvaRecord, root: MediaRoot, _recipe: Recipe) -> int | None:
    """Return about how many bytes the frames of a record have; None if not to be had."""
    size = root.size(record.path)
    if size is None or record.whole:
        return size
    if record.filename_tmpl:
        try:
            frames = len(root.names(record.path))
        except MediaError:
            return None
        return size * min(record.clip_frames, frames) // max(frames, 1)
    # PyAV is loaded with the first video that is opened, not with the package.
    from clipshards.packer.media.clip_size import clip_bytes

    return clip_bytes(root.locate(record.path), record.clip_frames)


_T = TypeVar("_T")


class _Placed(NamedTuple):
    """The moments of a record that lie within its media, and the others."""

    kept: list[KeyFrame]
    frames: list[int]
    """Of each kept moment, its frame's number in the source."""
    left_out: list[LeftOut]


class _Media(NamedTuple):
    """The stored frames of a sample."""

    part: str
    data: bytes
    info: VideoInfo
    table: FrameTable
    first_frame: int
    source_frames: int
    moments: "_Placed"
    warning: str = ""
    """What of the source is not in the data and was not asked for; empty for nothing."""


def make_ava_sample(record: AvaRecord, material: Material) -> Sample:
    """Return the sample of annotated moments.

    Raises:
        MediaError: The media is missing or broken, a moment lies outside of it, or the clip
            cannot be cut out of it without loss.
    """
    try:
        take = _from_frames if record.filename_tmpl else _from_video
        media = take(record, material)
    except MediaError as exc:
        # What the media root says begins with the name.
        if str(exc).startswith(repr(record.path)):
            raise
        raise MediaError(f"{record.path!r}: {exc}") from exc
    moments, frames, left_out = media.moments
    about = AvaJson(
        id=record.id,
        origin=str(record.origin),
        video_id=record.video_id,
        fps=record.fps,
        timestamp_start=record.timestamp_start,
        clip_frames=record.clip_frames,
        first_frame=media.first_frame,
        source_frames=media.source_frames,
        filename_tmpl=record.filename_tmpl,
        start_index=record.start_index,
        key_frames=tuple(
            KeyFrameJson(
                timestamp=moment.timestamp,
                frame=frame,
                persons=len(moment.boxes),
                labels=sum(map(len, moment.labels)),
                proposals=-1 if moment.proposals is None else len(moment.proposals),
                scored=moment.proposals is not None and moment.proposals.shape[1] == 5,
            )
            for moment, frame in zip(moments, frames, strict=True)
        ),
        video=media.info,
    )
    values: dict[str, Any] = {
        "frames.npy": media.table,
        "boxes.npy": np.concatenate([moment.boxes for moment in moments]),
        "labels.npy": _label_rows(moments),
        "entity_ids.npy": np.concatenate([moment.entity_ids for moment in moments]),
        media.part: media.data,
    }
    if "proposals.npy" in material.optional:
        values["proposals.npy"] = np.concatenate([_proposals(moment) for moment in moments])
    return make_sample("ava", about, values, left_out=left_out, warning=media.warning)


def _place(record: AvaRecord, frame_of: Callable[[KeyFrame], int]) -> _Placed:
    """Find the frames of a record's moments.

    Raises:
        MediaError: As `frame_of` does for the first moment, where all are outside.
    """
    placed = _Placed([], [], [])
    first: MediaError | None = None
    rows = 0
    for moment in record.key_frames:
        try:
            frame = frame_of(moment)
        except MediaError as exc:
            name = f"{record.video_id},{moment.timestamp:04d}"
            origin = str(moment.origin or record.origin)
            message = f"{record.path!r}: {exc}"
            placed.left_out.append(LeftOut(rows, moment.rows, name, origin, message))
            first = first or exc
        else:
            placed.kept.append(moment)
            placed.frames.append(frame)
        rows += moment.rows
    if first is not None and not placed.kept:
        raise first
    return placed


def _label_rows(moments: Iterable[KeyFrame]) -> Any:
    """Return (row of the person, action id) of all persons, int64 (n, 2)."""
    persons = [labels for moment in moments for labels in moment.labels]
    rows = [(row, label) for row, labels in enumerate(persons) for label in labels]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _proposals(moment: KeyFrame) -> Any:
    """Return the proposals of a moment, float64 (n, 5); without scores the last column is 0."""
    if moment.proposals is None:
        return np.empty((0, 5))
    missing = np.zeros((len(moment.proposals), 5 - moment.proposals.shape[1]))
    return np.concatenate([moment.proposals, missing], axis=1)


def _from_video(record: AvaRecord, material: Material) -> _Media:
    # PyAV is loaded with the first video that is opened, not with the package.
    from clipshards.packer.media.moments import clip_around, frame_at

    try:
        part = video_part(record.path)
    except MediaError as exc:
        raise MediaError(
            f"{exc}; ids without it need a template as '{{}}.mp4' (--media-tmpl), folders of "
            "frames one of their files (--filename-tmpl)"
        ) from exc
    source = _once(record.path, material, lambda: _Source(material.root.read(record.path)))
    cutter = None if record.whole else source.cutter()
    scan = source.scan
    total = scan.info.frames

    def frame_of(moment: KeyFrame) -> int:
        since_start = moment.timestamp - record.timestamp_start
        # One frame a timestamp: the timestamp is the number of the frame (MultiSports).
        try:
            frame = since_start if record.fps == 1 else frame_at(scan, since_start)
        except MediaError as exc:
            hint = "; are timestamps the numbers of frames (--fps 1)?"
            raise MediaError(f"timestamp {moment.timestamp}: {exc}{hint}") from exc
        return _within(moment, frame, total)

    moments = _place(record, frame_of)
    if cutter is None:
        return _Media(
            part=part,
            data=source.data,
            info=scan.info,
            table=scan.table,
            first_frame=0,
            source_frames=total,
            moments=moments,
            warning=table_warning(scan.info),
        )
    around = [
        clip_around(frame, total_frames=total, clip_frames=record.clip_frames)
        for frame in moments.frames
    ]
    cut = cutter.cut(min(start for start, _ in around), max(stop for _, stop in around))
    return _Media(
        part="mp4",
        data=cut.data,
        info=cut.scan.info,
        table=cut.scan.table,
        first_frame=cut.first_frame,
        source_frames=total,
        moments=moments,
        warning=cut.sound_lost,
    )


class _Source:
    """A video that moments are cut from."""

    def __init__(self, data: bytes) -> None:
        from clipshards.packer.frames.scan import scan_video

        self.data = data
        self.scan: VideoScan = scan_video(data)
        self._cutter: VideoCutter | None = None

    def cutter(self) -> "VideoCutter":
        """Return the cutter of the video, made when it is first needed."""
        from clipshards.packer.media.cut import VideoCutter

        if self._cutter is None:
            self._cutter = VideoCutter(self.data, scan=self.scan)
        return self._cutter


def _once(path: str, material: Material, make: Callable[[], _T]) -> _T:
    """Return what `make` makes of the media at `path`, made once for all of its moments."""
    if path not in material.opened:
        # The moments of one video come one behind the other: one is enough, and large.
        material.opened.clear()
        try:
            material.opened[path] = make()
        except MediaError as exc:
            # Nor is a broken video decoded again for each of its moments.
            material.opened[path] = exc
    found: _T | MediaError = material.opened[path]
    if isinstance(found, MediaError):
        raise MediaError(str(found)) from found
    return found


def _from_frames(record: AvaRecord, material: Material) -> _Media:
    # PyAV and Pillow are loaded with the first folder that is opened, not with the package.
    from clipshards.packer.media.moments import clip_around
    from clipshards.packer.media.stills import check_stills, list_frames, mux_stills

    listed = _once(
        record.path,
        material,
        lambda: list_frames(
            material.root,
            record.path,
            record.filename_tmpl,
            start_index=record.start_index,
            ranges=(FrameRange(total_frames=1),),
            exact=False,
        ),
    )
    names = listed[""]

    def frame_of(moment: KeyFrame) -> int:
        # Exact: a float may overflow, or round a half.
        frame = round((moment.timestamp - record.timestamp_start) * Fraction(record.fps))
        return _within(moment, frame, len(names))

    moments = _place(record, frame_of)
    start, stop = 0, len(names)
    if not record.whole:
        around = [
            clip_around(frame, total_frames=stop, clip_frames=record.clip_frames)
            for frame in moments.frames
        ]
        start = min(first for first, _ in around)
        # MMAction2 adds the start index twice, and so reads that many frames later.
        stop = min(max(last for _, last in around) + record.start_index, len(names))
    chosen = names[start:stop]
    files = [material.root.read(f"{record.path}/{name}") for name in chosen]
    stills = mux_stills(files, names=chosen, rate=record.rate)
    if material.recipe.frame_table != "none":
        check_stills(files, names=chosen)
    return _Media("mp4", stills.data, stills.info, stills.table, start, len(names), moments)


def _within(moment: KeyFrame, frame: int, total: int) -> int:
    if not 0 <= frame < total:
        raise MediaError(f"timestamp {moment.timestamp} is frame {frame} of {total}")
    return frame
