"""Room for batches in the memory that loader processes share with the training process.

PyTorch hands tensors over through files in /dev/shm. Where that is full, the worker is killed by
SIGBUS, or its batch is lost and the run waits for it. Containers often have 64 MB there.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from clipshards.packer.format.errors import WorkerError

_FOLDER = Path("/dev/shm")


def tensor_bytes(value: Any) -> int:
    """Return the bytes that all tensors of a batch take there, in pages of the memory.

    A part of a tensor takes the whole of it.
    """
    storages = {
        (tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        for tensor in _tensors(value)
    }
    return sum(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for _, size in storages)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def check_room(batch: Any, *, workers: int, prefetch: int) -> None:
    """Raise WorkerError where each worker's next batch may not fit.

    Args:
        batch: About to be handed over.
        workers: Loader processes, each of which may be about to.
        prefetch: Batches that each prepares ahead.
    """
    try:
        room = os.statvfs(_FOLDER)
    except OSError:  # nothing is handed over through it on this system
        return
    size = tensor_bytes(batch)
    free = room.f_bavail * room.f_frsize
    if size * workers <= free:
        return
    raise WorkerError(
        f"a batch has {_mb(size)}, and {_FOLDER} has {_mb(free)} free of "
        f"{_mb(room.f_blocks * room.f_frsize)}; {workers} workers that prepare {prefetch} batches "
        f"each need {_mb(size * (workers * prefetch + 1))}. Use loader(threads=...) instead of "
        "workers=, which hands nothing over; or give the machine more (docker run --shm-size=8g, "
        "an emptyDir of medium Memory there in Kubernetes), or take smaller batches"
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
