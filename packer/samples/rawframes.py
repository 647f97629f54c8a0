"""A folder of frames becomes a sample: its files unchanged, as packets of one mp4."""

from collections.abc import Iterable, Mapping
from typing import Any

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_names import is_flow
from clipshards.packer.format.json_parts import RawframesJson, StretchJson
from clipshards.packer.format.structure import RAWFRAMES_VIDEOS
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.records import FrameRange, RawframesRecord
from clipshards.packer.samples.base import LeftOut, Material, Sample, make_sample


def rawframes_parts(records: Iterable[RawframesRecord]) -> tuple[str, ...]:
    """Return the optional parts that a split of these records must have.

    Raises:
        ValueError: Pictures and flow are mixed, or a template is none.
    """
    flow = {is_flow(record.filename_tmpl) for record in records}
    if len(flow) > 1:
        raise ValueError("pictures and flow cannot stand in one split; pack two")
    videos, tables = list(RAWFRAMES_VIDEOS.items())[flow == {True}]
    return tuple(part for part in TASKS["rawframes"].optional if part in {*videos, *tables})


def make_rawframes_sample(record: RawframesRecord, material: Material) -> Sample:
    """Return the sample of a folder of frames.

    Raises:
        MediaError: Frames are missing, too many, of several sizes, broken, or (with the
            frame table made by decoding) not decodable. The first such file is named.
    """
    try:
        return _make(record, material)
    except MediaError as exc:
        raise MediaError(f"{record.folder!r}: {exc}") from exc


def _make(record: RawframesRecord, material: Material) -> Sample:
    # PyAV and Pillow are loaded with the first folder that is opened, not with the package.
    from clipshards.packer.media.stills import check_stills, list_frames, mux_stills

    frames = list_frames(
        material.root,
        record.folder,
        record.filename_tmpl,
        start_index=record.start_index,
        ranges=(),
        exact=record.exact,
    )
    ranges, left_out = _within(record, frames)
    videos, tables = next(item for item in RAWFRAMES_VIDEOS.items() if len(item[0]) == len(frames))
    values: dict[str, Any] = {}
    infos = []
    for names, video, table in zip(frames.values(), videos, tables, strict=True):
        files = [material.root.read(f"{record.folder}/{name}") for name in names]
        stills = mux_stills(files, names=names, rate=record.rate)
        if material.recipe.frame_table != "none":
            check_stills(files, names=names)
        values[video], values[table] = stills.data, stills.table
        infos.append(stills.info)
    if infos[0] != infos[-1]:
        raise MediaError("the frames of x and y differ in size or kind")
    about = RawframesJson(
        id=record.id or record.folder,
        origin=str(record.origin),
        filename_tmpl=record.filename_tmpl,
        start_index=record.start_index,
        stretches=tuple(
            StretchJson(
                offset=stretch.offset,
                total_frames=stretch.total_frames,
                labels=stretch.labels,
                origin=str(stretch.origin or record.origin),
            )
            for stretch in ranges
        ),
        video=infos[0],
    )
    return make_sample("rawframes", about, values, left_out=left_out)


def _within(
    record: RawframesRecord, frames: Mapping[str, list[str]]
) -> tuple[list[FrameRange], list[LeftOut]]:
    """Return the stretches that lie within the folder, and those that do not.

    Raises:
        MediaError: None does.
    """
    from clipshards.packer.media.stills import check_range

    kept, left_out = [], []
    first: MediaError | None = None
    for place, stretch in enumerate(record.ranges):
        try:
            for axis, names in frames.items():
                check_range(
                    stretch,
                    names,
                    record.filename_tmpl,
                    axis,
                    record.start_index,
                    exact=record.exact,
                )
        except MediaError as exc:
            name, origin = record.id or record.folder, str(stretch.origin or record.origin)
            left_out.append(LeftOut(place, 1, name, origin, f"{record.folder!r}: {exc}"))
            first = first or exc
        else:
            kept.append(stretch)
    if first is not None and not kept:
        raise first
    return kept, left_out
