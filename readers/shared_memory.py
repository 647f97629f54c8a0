"""Room for batches in the memory that loader processes share with the training process.

PyTorch hands tensors over through files in /dev/shm, and a process that writes to a full one is
killed by SIGBUS. Containers often have 64 MB there.
"""

import os
from pathlib import Path
from typing import Any

import torch

from clipshards.packer.format.errors import WorkerError

_FOLDER = Path("/dev/shm")


def tensor_bytes(value: Any) -> int:
    """Return the bytes of all tensors in a batch."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(tensor_bytes, value))
    return 0


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
