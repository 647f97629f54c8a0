"""Packing: annotation and media become shards.

    from clipshards.packer import VideoList, pack

Names are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipshards.packer.annotations.video_list import VideoList
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
        StorageError,
        UnsupportedVersionError,
    )
    from clipshards.packer.packing import PackReport, pack
    from clipshards.packer.recipe import Recipe
    from clipshards.packer.records import Origin, Reject, VideoRecord

_ERRORS = "clipshards.packer.format.errors"
_HOME = {
    "AnnotationError": _ERRORS,
    "CorruptShardError": _ERRORS,
    "DatasetError": _ERRORS,
    "DecodeError": _ERRORS,
    "FormatError": _ERRORS,
    "MediaError": _ERRORS,
    "NotFoundError": _ERRORS,
    "Origin": "clipshards.packer.records",
    "PackReport": "clipshards.packer.packing",
    "PlanError": _ERRORS,
    "Recipe": "clipshards.packer.recipe",
    "Reject": "clipshards.packer.records",
    "RejectsError": _ERRORS,
    "StorageError": _ERRORS,
    "UnsupportedVersionError": _ERRORS,
    "VideoList": "clipshards.packer.annotations.video_list",
    "VideoRecord": "clipshards.packer.records",
    "pack": "clipshards.packer.packing",
}

__all__ = [
    "AnnotationError",
    "CorruptShardError",
    "DatasetError",
    "DecodeError",
    "FormatError",
    "MediaError",
    "NotFoundError",
    "Origin",
    "PackReport",
    "PlanError",
    "Recipe",
    "Reject",
    "RejectsError",
    "StorageError",
    "UnsupportedVersionError",
    "VideoList",
    "VideoRecord",
    "pack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
