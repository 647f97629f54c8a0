"""An untrimmed video becomes a sample: its segments, its features, and maybe the video."""

from collections.abc import Iterable
from typing import Any

from clipshards.packer.annotations.activitynet_file import segment_slack_s
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.media.features import read_features
from clipshards.packer.records import ActivityNetRecord
from clipshards.packer.samples.base import Material, Sample, make_sample
from clipshards.packer.samples.video import read_video


def activitynet_parts(records: Iterable[ActivityNetRecord]) -> tuple[str, ...]:
    """Return the optional parts that a split of these records must have.

    Raises:
        ValueError: Some have features or a video and others have not.
    """
    kinds = {(bool(record.video), bool(record.features)) for record in records}
    if not kinds:
        return ()
    if len(kinds) != 1:
        raise ValueError("expected features of all videos or of none, and videos of all or none")
    ((video, features),) = kinds
    return (*(("frames.npy",) if video else ()), *(("feature.npy",) if features else ()))


def make_activitynet_sample(record: ActivityNetRecord, material: Material) -> Sample:
    """Return the sample of an untrimmed video.

    Raises:
        MediaError: Features or video are missing or broken.
    """
    values: dict[str, Any] = {}
    info, warning = VideoInfo(), ""
    header = False
    if record.video:
        video = read_video(record.video, material)
        info, warning = video.info, video.warning
        values |= {"frames.npy": video.table, video.part: video.data}
    if record.features:
        data = material.root.read(record.features)
        values["feature.npy"], header = read_features(data, record.features)
    about = ActivityNetJson(
        id=record.id,
        origin=str(record.origin),
        segments=record.segments,
        segment_labels=record.segment_labels,
        duration_s=record.duration_s,
        duration_frames=record.duration_frames,
        feature_frames=record.feature_frames,
        fps=record.fps,
        rfps=record.rfps,
        csv_header=header,
        video=info,
    )
    warnings = [warning, _reach_warning(record, info)]
    return make_sample("activitynet", about, values, warning="; ".join(filter(None, warnings)))


def _reach_warning(record: ActivityNetRecord, info: VideoInfo) -> str:
    """Return what it means that a segment lies behind the video; empty where none does.

    Segments may end behind it as far as they may end behind the annotated duration.
    """
    end_s = info.duration_s + segment_slack_s(record.duration_s)
    if not info.duration_s or all(end <= end_s for _, end in record.segments):
        return ""
    return "the video ends before a segment does"
