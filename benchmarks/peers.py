"""The writers of mosaicml-streaming and litdata, in an environment of their own.

Importing this loads both, as a job does once.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any


def _load(name: str) -> Any:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        # PyPI's does not load beside a CPU build of torch, and what needs it of
        # mosaicml-streaming is its ready-made picture data sets alone.
        for part, names in {
            "torchvision": (),
            "torchvision.datasets": ("VisionDataset", "CIFAR10"),
            "torchvision.transforms": (),
            "torchvision.transforms.functional": ("to_tensor",),
        }.items():
            sys.modules[part] = module_from_spec(ModuleSpec(part, None))
            for each in names:
                setattr(sys.modules[part], each, type(each, (), {}))
    return importlib.import_module(name)


STREAMING = _load("streaming")
LITDATA = _load("litdata")


def write_mds(samples: Iterable[dict[str, Any]], out: Path, *, shard_bytes: int) -> None:
    """Write samples of a video's bytes and its label by MDSWriter."""
    columns = {"video": "bytes", "label": "int"}
    with STREAMING.MDSWriter(out=str(out), columns=columns, size_limit=shard_bytes) as mds:
        for sample in samples:
            mds.write(sample)


def write_litdata(
    read: Callable[[Any], dict[str, Any]], inputs: Sequence[Any], out: Path, *, shard_bytes: int
) -> None:
    """Write what `read` gives of each input by litdata's optimize, with one worker."""
    # Chunks are made there and moved: it must be the same disk.
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out / "cache")
    LITDATA.optimize(
        fn=read,
        inputs=list(inputs),
        output_dir=str(out / "chunks"),
        chunk_bytes=shard_bytes,
        num_workers=1,
        # It need not load the libraries again.
        start_method="fork",
        verbose=False,
    )
