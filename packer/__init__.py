"""Packing: annotation and media become shards.

    from clipshards.packer import VideoList, pack

Names are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipshards.packer.annotations.activitynet_file import ActivityNetFile
    from clipshards.packer.annotations.audio_list import AudioList
    from clipshards.packer.annotations.ava_csv import AvaCsv
    from clipshards.packer.annotations.class_names import read_class_names
    from clipshards.packer.annotations.rawframe_list import RawframeList
    from clipshards.packer.annotations.skeleton_file import SkeletonFile
    from clipshards.packer.annotations.video_list import VideoList
    from clipshards.packer.copying import CopyReport, DamagedSourceError, copy
    from clipshards.packer.engines.local import LocalEngine
    from clipshards.packer.engines.ray import RayEngine
    from clipshards.packer.finish import finish_split
    from clipshards.packer.format.errors import (
        AnnotationError,
        CorruptShardError,
        DatasetError,
        DecodeError,
        FormatError,
        MediaError,
        NotFoundError,
        PlanError,
        RejectsError,
        StateError,
        StorageError,
        UnsupportedVersionError,
        WorkerError,
    )
    from clipshards.packer.one_call import pack
    from clipshards.packer.packing import Packing
    from clipshards.packer.recipe import Recipe
    from clipshards.packer.records import (
        ActivityNetRecord,
        AudioRecord,
        AvaRecord,
        Excluded,
        FrameRange,
        KeyFrame,
        Origin,
        RawframesRecord,
        Reject,
        SkeletonRecord,
        VideoRecord,
    )
    from clipshards.packer.remaking import SourcesDifferError
    from clipshards.packer.repairing import repair
    from clipshards.packer.reports import PackReport, PartReport, PlanSummary, RemakeReport
    from clipshards.packer.status import Status
    from clipshards.packer.trial import Estimate

_ERRORS = "clipshards.packer.format.errors"
_HOME = {
    "ActivityNetFile": "clipshards.packer.annotations.activitynet_file",
    "ActivityNetRecord": "clipshards.packer.records",
    "AnnotationError": _ERRORS,
    "AudioList": "clipshards.packer.annotations.audio_list",
    "AudioRecord": "clipshards.packer.records",
    "AvaCsv": "clipshards.packer.annotations.ava_csv",
    "AvaRecord": "clipshards.packer.records",
    "CopyReport": "clipshards.packer.copying",
    "CorruptShardError": _ERRORS,
    "DamagedSourceError": "clipshards.packer.copying",
    "DatasetError": _ERRORS,
    "DecodeError": _ERRORS,
    "Estimate": "clipshards.packer.trial",
    "Excluded": "clipshards.packer.records",
    "FormatError": _ERRORS,
    "FrameRange": "clipshards.packer.records",
    "KeyFrame": "clipshards.packer.records",
    "LocalEngine": "clipshards.packer.engines.local",
    "MediaError": _ERRORS,
    "NotFoundError": _ERRORS,
    "Origin": "clipshards.packer.records",
    "PackReport": "clipshards.packer.reports",
    "Packing": "clipshards.packer.packing",
    "PartReport": "clipshards.packer.reports",
    "PlanError": _ERRORS,
    "PlanSummary": "clipshards.packer.reports",
    "RawframeList": "clipshards.packer.annotations.rawframe_list",
    "RawframesRecord": "clipshards.packer.records",
    "RayEngine": "clipshards.packer.engines.ray",
    "Recipe": "clipshards.packer.recipe",
    "Reject": "clipshards.packer.records",
    "RejectsError": _ERRORS,
    "RemakeReport": "clipshards.packer.reports",
    "SkeletonFile": "clipshards.packer.annotations.skeleton_file",
    "SkeletonRecord": "clipshards.packer.records",
    "SourcesDifferError": "clipshards.packer.remaking",
    "StateError": _ERRORS,
    "Status": "clipshards.packer.status",
    "StorageError": _ERRORS,
    "UnsupportedVersionError": _ERRORS,
    "VideoList": "clipshards.packer.annotations.video_list",
    "VideoRecord": "clipshards.packer.records",
    "WorkerError": _ERRORS,
    "copy": "clipshards.packer.copying",
    "finish_split": "clipshards.packer.finish",
    "pack": "clipshards.packer.one_call",
    "read_class_names": "clipshards.packer.annotations.class_names",
    "repair": "clipshards.packer.repairing",
}

__all__ = [
    "ActivityNetFile",
    "ActivityNetRecord",
    "AnnotationError",
    "AudioList",
    "AudioRecord",
    "AvaCsv",
    "AvaRecord",
    "CopyReport",
    "CorruptShardError",
    "DamagedSourceError",
    "DatasetError",
    "DecodeError",
    "Estimate",
    "Excluded",
    "FormatError",
    "FrameRange",
    "KeyFrame",
    "LocalEngine",
    "MediaError",
    "NotFoundError",
    "Origin",
    "PackReport",
    "Packing",
    "PartReport",
    "PlanError",
    "PlanSummary",
    "RawframeList",
    "RawframesRecord",
    "RayEngine",
    "Recipe",
    "Reject",
    "RejectsError",
    "RemakeReport",
    "SkeletonFile",
    "SkeletonRecord",
    "SourcesDifferError",
    "StateError",
    "Status",
    "StorageError",
    "UnsupportedVersionError",
    "VideoList",
    "VideoRecord",
    "WorkerError",
    "copy",
    "finish_split",
    "pack",
    "read_class_names",
    "repair",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
