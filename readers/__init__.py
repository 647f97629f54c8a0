"""Reading: shards become clips and batches.

    from clipshards.readers import ShardDataset, UniformClip, open_dataset

Names are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipshards.readers.accounting import Accounting
    from clipshards.readers.activitynet import ActivityNetItem
    from clipshards.readers.audio import AudioItem, select_audio
    from clipshards.readers.ava import AvaItem
    from clipshards.readers.batches import BatchPosition
    from clipshards.readers.clips import Clip, DenseClip, Span, UniformClip
    from clipshards.readers.collate import collate_items
    from clipshards.readers.comparing import compare
    from clipshards.readers.comparison import CompareReport
    from clipshards.readers.data import ShardDataset, ShardMapDataset
    from clipshards.readers.findings import Finding, VerifyReport
    from clipshards.readers.integrity import verify
    from clipshards.readers.loader import Loader
    from clipshards.readers.lookup import Lookup
    from clipshards.readers.mixing import ClassBalanced, Concat, Weighted
    from clipshards.readers.opening import open_dataset
    from clipshards.readers.rawframes import RawframesItem
    from clipshards.readers.samplers import (
        DenseSampleFrames,
        SampleAVAFrames,
        SampleFrames,
        UniformSample,
        UniformSampleFrames,
        UntrimmedSampleFrames,
    )
    from clipshards.readers.skeleton import SkeletonItem
    from clipshards.readers.split import Split
    from clipshards.readers.video import VideoItem

_HOME = {
    "Accounting": "accounting",
    "ActivityNetItem": "activitynet",
    "AudioItem": "audio",
    "AvaItem": "ava",
    "BatchPosition": "batches",
    "ClassBalanced": "mixing",
    "Clip": "clips",
    "CompareReport": "comparison",
    "Concat": "mixing",
    "DenseClip": "clips",
    "DenseSampleFrames": "samplers",
    "Finding": "findings",
    "Loader": "loader",
    "Lookup": "lookup",
    "RawframesItem": "rawframes",
    "SampleAVAFrames": "samplers",
    "SampleFrames": "samplers",
    "ShardDataset": "data",
    "ShardMapDataset": "data",
    "SkeletonItem": "skeleton",
    "Span": "clips",
    "Split": "split",
    "UniformClip": "clips",
    "UniformSample": "samplers",
    "UniformSampleFrames": "samplers",
    "UntrimmedSampleFrames": "samplers",
    "VerifyReport": "findings",
    "VideoItem": "video",
    "Weighted": "mixing",
    "collate_items": "collate",
    "compare": "comparing",
    "open_dataset": "opening",
    "select_audio": "audio",
    "verify": "integrity",
}

__all__ = [
    "Accounting",
    "ActivityNetItem",
    "AudioItem",
    "AvaItem",
    "BatchPosition",
    "ClassBalanced",
    "Clip",
    "CompareReport",
    "Concat",
    "DenseClip",
    "DenseSampleFrames",
    "Finding",
    "Loader",
    "Lookup",
    "RawframesItem",
    "SampleAVAFrames",
    "SampleFrames",
    "ShardDataset",
    "ShardMapDataset",
    "SkeletonItem",
    "Span",
    "Split",
    "UniformClip",
    "UniformSample",
    "UniformSampleFrames",
    "UntrimmedSampleFrames",
    "VerifyReport",
    "VideoItem",
    "Weighted",
    "collate_items",
    "compare",
    "open_dataset",
    "select_audio",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
