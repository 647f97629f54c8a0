"""Decoded items become one batch of tensors."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate

Array = npt.NDArray[Any]

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


class _Filled(NamedTuple):
    """Arrays whose first axis is one and the same, and of another length for each item."""

    mask: str
    """Name of what says how long it is."""
    marks: Mapping[str, int]
    """Arrays that tell such items, with their number of axes."""
    arrays: Mapping[str, int]
    """Arrays that are filled up, where an item has them, with their number of axes."""


_BOXES = {"keypoint": 3, "frame_inds": 1}
_FILLED = (
    _Filled("keypoint_mask", {"keypoint": 4}, {"keypoint": 4, "keypoint_score": 3}),
    _Filled(
        "keypoint_mask",
        _BOXES,
        {**_BOXES, "keypoint_score": 2, "box_score": 1, "anno_inds": 1},
    ),
    # Compressed skeletons come whole: no clip makes them equally long.
    _Filled("frame_numbers_mask", _BOXES, {"frame_numbers": 1}),
    _Filled("audios_mask", {"audios": 2}, {"audios": 2}),
    _Filled("feature_mask", {"feature": 2}, {"feature": 2}),
)

_SHAPE, _DTYPE, _NDIM = map(attrgetter, ("shape", "dtype", "ndim"))

# Number of axes, and which of them counts the frames of a clip.
_FRAMES = {
    "frames": (4, 0),
    "frame_numbers": (1, 0),
    "keypoint": (4, 1),
    "keypoint_score": (3, 1),
}


def collate_items(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one dict of the same keys for several items, and masks of what was filled up.

    Arrays of one shape are stacked along a new first axis. These, which have another length
    for each item by nature, are filled up with zeros at the end of their first axis, to the
    longest of the batch:

    - `keypoint` (B, M, T, V, C) and `keypoint_score` (B, M, T, V): persons. `keypoint_mask`,
      bool (B, M), is True for an item's own persons.
    - of compressed skeletons `keypoint` (B, N, V, 3), `frame_inds`, `box_score` and
      `anno_inds` (B, N): boxes. `keypoint_mask`, bool (B, N), is True for an item's own
      boxes; `frame_numbers_mask`, bool (B, T), for its own `frame_numbers` (B, T), since the
      clip does not apply to them.
    - `audios` (B, rows, bands): `audios_mask`, bool (B, rows).
    - `feature` (B, T, C): `feature_mask`, bool (B, T).

    The masks are there in every batch, also where all items are equally long. A mask is made
    only where the arrays are NumPy's, with as many axes as items have before a transform, and
    where the items have no mask of that name of their own; else they are as any other value.

    What is a list of boxes, segments or labels (`boxes`, `entity_ids`, `proposals`,
    `proposal_scores`, `segments`, `segment_labels`, `labels`) becomes a list of tensors, text a
    list; anything else goes through torch's `default_collate`.

    Raises:
        ValueError: Other arrays under one name differ in shape, as frames of videos of
            different sizes do, or in dtype; an item lacks what another has; or arrays of an
            item that are filled up together are not equally long.
    """
    columns = _columns(items)
    masks, longest = _measure(items, columns)
    batch = {
        name: _collate(name, values, items, longest.get(name)) for name, values in columns.items()
    }
    return batch | masks


def _columns(items: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of all items by name.

    Raises:
        ValueError: An item lacks what another has.
    """
    # Equally many, and all that the first has: cheaper than to compare the names.
    if len(set(map(len, items))) == 1:
        with suppress(KeyError):
            return {name: list(map(itemgetter(name), items)) for name in items[0]}
    names = items[0].keys()
    place = next(place for place, item in enumerate(items) if item.keys() != names)
    raise ValueError(
        f"{sorted(names ^ items[place].keys())[0]!r}: only one of {_called(items, 0)} and "
        f"{_called(items, place)} has it; bring them to one by transform=, or pass a collate= of "
        "your own"
    )


def _measure(
    items: Sequence[dict[str, Any]], columns: dict[str, list[Any]]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return the masks of a batch, and to which length arrays are filled up, by name.

    Raises:
        ValueError: Arrays of an item that are filled up together are not equally long.
    """
    masks: dict[str, torch.Tensor] = {}
    longest: dict[str, int] = {}
    for mask, marks, arrays in _FILLED:
        if mask in columns or not all(
            _are_arrays(columns.get(name, [])[:1], axes) for name, axes in marks.items()
        ):
            continue
        filled = [name for name, axes in arrays.items() if _are_arrays(columns.get(name, []), axes)]
        if not filled:
            continue
        lengths = list(map(len, columns[filled[0]]))
        for name in filled[1:]:
            if list(map(len, columns[name])) != lengths:
                _refuse_lengths(filled[0], name, items)
        most = max(lengths)
        masks[mask] = torch.from_numpy(np.arange(most) < np.array(lengths)[:, np.newaxis])
        if min(lengths) != most:
            longest |= dict.fromkeys(filled, most)
    return masks, longest


def _are_arrays(values: list[Any], axes: int) -> bool:
    """Return whether there are any, all of them arrays with so many axes."""
    return _all_of(set(map(type, values)), np.ndarray) and set(map(_NDIM, values)) == {axes}


def _all_of(kinds: set[type], kind: type) -> bool:
    return kinds == {kind} or all(issubclass(one, kind) for one in kinds)


def _collate(
    name: str, values: list[Any], items: Sequence[dict[str, Any]], longest: int | None
) -> Any:
    if name in _RAGGED:
        return [
            torch.from_numpy(np.array(value, order="C")) if isinstance(value, np.ndarray) else value
            for value in values
        ]
    kinds = set(map(type, values))
    if kinds == {int} or kinds == {float}:
        return torch.from_numpy(np.array(values))  # a quarter of what torch.tensor takes
    if _all_of(kinds, str):
        return values
    if not _all_of(kinds, np.ndarray):
        try:
            return default_collate(values)
        except (TypeError, RuntimeError) as exc:
            raise type(exc)(
                f"{name!r} of {_called(items, 0)} and others cannot be made one: {exc}; bring them "
                "to tensors of one shape by transform=, or pass a collate= of your own"
            ) from exc
    return _stack(name, values, items) if longest is None else _fill(name, values, items, longest)


def _stack(name: str, values: list[Array], items: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Return arrays of one shape along a new first axis.

    Raises:
        ValueError: They differ in shape or dtype.
    """
    shapes, dtypes = list(map(_SHAPE, values)), list(map(_DTYPE, values))
    shape, dtype = shapes[0], dtypes[0]
    if shapes.count(shape) < len(values) or dtypes.count(dtype) < len(values):
        _refuse(name, items)
    if not shape:
        return torch.from_numpy(np.array(values))
    # Along the axis that they have: np.stack takes twice as long for small arrays.
    batch = np.empty((len(values), *shape), dtype=dtype)
    np.concatenate(values, out=batch.reshape(len(values) * shape[0], *shape[1:]))
    return torch.from_numpy(batch)


def _fill(
    name: str, values: list[Array], items: Sequence[dict[str, Any]], longest: int
) -> torch.Tensor:
    """Return arrays along a new first axis, each filled up with zeros to one length.

    Raises:
        ValueError: They differ in dtype, or in shape beyond their length.
    """
    shape, dtype = values[0].shape[1:], values[0].dtype
    zeros = np.zeros((longest - min(map(len, values)), *shape), dtype=dtype)
    pieces = []
    for value in values:
        if value.shape[1:] != shape or value.dtype != dtype:
            _refuse(name, items, free_axes=1)
        pieces.append(value)
        if len(value) < longest:
            pieces.append(zeros[: longest - len(value)])
    batch = np.empty((len(values), longest, *shape), dtype=dtype)
    np.concatenate(pieces, out=batch.reshape(len(values) * longest, *shape))
    return torch.from_numpy(batch)


def _refuse(name: str, items: Sequence[dict[str, Any]], *, free_axes: int = 0) -> NoReturn:
    """Say which items differ under a name, and what brings them to one.

    `free_axes` leading axes may be of any length.
    """
    kinds = [(item[name].shape[free_axes:], item[name].dtype) for item in items]
    odd = next(place for place, kind in enumerate(kinds) if kind != kinds[0])
    first, other = items[0][name], items[odd][name]
    raise ValueError(
        f"{name!r}: {_called(items, 0)} has shape {first.shape}, {first.dtype}, "
        f"{_called(items, odd)} has shape {other.shape}, {other.dtype}; "
        f"{_remedy(name, first, other)}"
    )


def _remedy(name: str, first: Array, other: Array) -> str:
    axes, frames = _FRAMES.get(name, (0, 0))
    found = []
    if first.ndim == other.ndim == axes:
        if first.shape[frames] != other.shape[frames]:
            found.append("pass clip=, which takes equally many frames of every item")
        if name == "frames" and first.shape[1:3] != other.shape[1:3]:
            found.append(
                "bring pictures to one size by transform=, or pack videos of one aspect ratio with "
                "a recipe that encodes and --short-side"
            )
    if not found or first.dtype != other.dtype:
        found.append("bring them to one by transform=, or pass a collate= of your own")
    return "; ".join(found)


def _refuse_lengths(name: str, other: str, items: Sequence[dict[str, Any]]) -> NoReturn:
    """Say in which item two arrays, that are filled up together, are not equally long."""
    odd = next(place for place, item in enumerate(items) if len(item[name]) != len(item[other]))
    shapes = items[odd][name].shape, items[odd][other].shape
    raise ValueError(
        f"{_called(items, odd)}: {name!r} has shape {shapes[0]}, {other!r} {shapes[1]}; expected "
        "first axes of one length, so transform= must change both alike"
    )


def _called(items: Sequence[dict[str, Any]], place: int) -> str:
    """Return what messages call an item."""
    item = items[place]
    if "key" not in item:
        return f"item {place} of the batch"
    # Several items of a sample have one key.
    return f"{item['key']}, item {item['item']}" if "item" in item else f"{item['key']}"
