"""Batches on their way out of a loader process.

PyTorch sends each tensor as a file of its own in shared memory, whose descriptor is asked for over
a socket: 1 to 2 ms a tensor, however small it is. So small ones travel with the message itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# Less than what a pipe takes at once.
_SMALL_BYTES = 64 * 2**10


class _Small:
    """A small tensor, as an array."""

    __slots__ = ("array",)

    def __init__(self, array: npt.NDArray[np.generic]) -> None:
        self.array = array


def packed(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch to be sent by a loader process."""
    changed: dict[str, Any] = _changed(batch, _pack)
    return changed


def unpacked(batch: dict[str, Any], *, pin: bool) -> dict[str, Any]:
    """Return what `packed` was given.

    Args:
        batch: From a loader process.
        pin: Put small tensors into page-locked memory, where the large ones are.
    """

    def unpack(value: Any) -> Any:
        if isinstance(value, _Small):
            tensor = torch.from_numpy(value.array)
            return tensor.pin_memory() if pin else tensor
        return value

    changed: dict[str, Any] = _changed(batch, unpack)
    return changed


def pinned(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch with its tensors in page-locked memory."""

    def pin(value: Any) -> Any:
        return value.pin_memory() if isinstance(value, torch.Tensor) else value

    changed: dict[str, Any] = _changed(batch, pin)
    return changed


def _pack(value: Any) -> Any:
    if type(value) is not torch.Tensor or value.requires_grad:
        return value
    try:
        if value.nbytes > _SMALL_BYTES:
            return value
        # A copy: a part of a larger array must not take that one along.
        return _Small(value.numpy().copy())
    except (TypeError, RuntimeError):  # a dtype, a device or a layout that NumPy has not
        return value


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with what stands in its dicts, lists and tuples changed."""
    if type(value) is dict:
        return {name: _changed(one, change) for name, one in value.items()}
    if type(value) is list:
        # Names and keys, as a rule: nothing to look into.
        if value and type(value[0]) is str:
            return value
        return [_changed(one, change) for one in value]
    if type(value) is tuple:
        return tuple(_changed(one, change) for one in value)
    return change(value)
