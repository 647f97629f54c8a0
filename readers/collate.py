"""Decoded items become one batch of tensors. The only reader module beside `data` with torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

# Of another length for each item by nature: kept as a list, arrays as tensors.
_RAGGED = (
    "labels",
    "boxes",
    "entity_ids",
    "proposals",
    "proposal_scores",
    "segments",
    "segment_labels",
)


def collate_items(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one dict of the same keys for several items.

    Arrays of one shape are stacked along a new first axis; what has another length for each
    item by nature (`labels` of multi-label splits, boxes, segments ...) becomes a list of
    tensors, text a list; anything else goes through torch's `default_collate`.

    Raises:
        ValueError: Arrays under one name differ in shape, as frames of videos of different
            sizes do, or an item lacks what another has.
    """
    for item in items:
        odd = sorted(item.keys() ^ items[0].keys())
        if odd:
            raise ValueError(
                f"{odd[0]!r}: only one of {items[0].get('key')} and {item.get('key')} has it; "
                "bring them to one by transform=, or pass a collate= of your own"
            )
    return {name: _collate(name, [item[name] for item in items], items) for name in items[0]}


def _collate(name: str, values: list[Any], items: Sequence[dict[str, Any]]) -> Any:
    if name in _RAGGED:
        return [torch.as_tensor(v) if isinstance(v, np.ndarray) else v for v in values]
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
