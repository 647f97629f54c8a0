"""Decoded items become one batch of tensors. The only reader module beside `data` with torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

# Of another length for each item by nature: kept as a list of tensors.
_RAGGED = ("labels",)


def collate_items(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one dict of the same keys for several items.

    Arrays of one shape are stacked along a new first axis, `labels` of multi-label splits
    become a list of int64 tensors, text a list; anything else goes through torch's
    `default_collate`.

    Raises:
        ValueError: Arrays under one name differ in shape, as frames of videos of different
            sizes do.
    """
    return {name: _collate(name, [item[name] for item in items], items) for name in items[0]}


def _collate(name: str, values: list[Any], items: Sequence[dict[str, Any]]) -> Any:
    if name in _RAGGED:
        return [torch.as_tensor(value) for value in values]
    if all(isinstance(value, str) for value in values):
        return values
    if not all(isinstance(value, np.ndarray) for value in values):
        return default_collate(values)
    kinds = [f"shape {value.shape}, {value.dtype}" for value in values]
    odd = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), None)
    if odd is not None:
        raise ValueError(
            f"{name!r}: {items[0].get('key')} has {kinds[0]}, {items[odd].get('key')} has "
            f"{kinds[odd]}; bring them to one by transform=, or pass a collate= of your own"
        )
    # Filled row by row: np.stack costs several times as much on large frames.
    batch = np.empty((len(values), *values[0].shape), dtype=values[0].dtype)
    for row, value in zip(batch, values, strict=True):
        row[...] = value
    return torch.from_numpy(batch)
