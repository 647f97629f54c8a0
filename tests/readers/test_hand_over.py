"""What comes out of a loader process is what went in, small or large."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from clipshards.readers.batches import BatchPosition
from clipshards.readers.hand_over import packed, unpacked

SMALL = torch.arange(6, dtype=torch.int16).reshape(2, 3)
LARGE = torch.zeros(100_000, dtype=torch.uint8)
BATCH: dict[str, Any] = {
    "frames": LARGE,
    "label": SMALL,
    "boxes": [torch.zeros(0, 4), torch.ones(2, 4, dtype=torch.float64)],
    "key": ["a", "b"],
    "nested": {"deep": (SMALL, "text", 3)},
    "array": np.arange(3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "scalar": torch.tensor(5),
    "position": BatchPosition(1, 2, 3),
    "none": None,
}


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_batch_comes_out_as_it_went_in() -> None:
    sent = pickle.loads(pickle.dumps(packed(BATCH)))
    assert same(unpacked(sent, pin=False), BATCH)


def test_large_tensors_stay_where_they_are_and_small_ones_travel() -> None:
    sent = packed(BATCH)
    assert sent["frames"] is LARGE
    tensors = [value for value in sent.values() if isinstance(value, torch.Tensor)]
    # Of the others, only what NumPy does not know.
    assert {tensor.dtype for tensor in tensors} == {torch.uint8, torch.bfloat16}


@pytest.mark.parametrize(
    "odd",
    [
        torch.eye(3).to_sparse(),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(2, requires_grad=True),
    ],
    ids=["sparse", "conjugate", "with a gradient"],
)
def test_what_numpy_does_not_know_goes_as_it_is(odd: torch.Tensor) -> None:
    assert packed({"odd": odd})["odd"] is odd


def test_a_view_does_not_take_its_whole_along() -> None:
    row = torch.zeros(1000, 1000)[3]
    assert len(pickle.dumps(packed({"row": row}))) < 10_000


def test_what_comes_out_can_be_written_to() -> None:
    out = unpacked(packed({"label": SMALL}), pin=False)
    out["label"][0, 0] = 7
    assert SMALL[0, 0] == 0


@pytest.mark.parametrize("kind", [dict, list])
def test_empty_containers_stay(kind: Any) -> None:
    assert unpacked(packed({"a": kind()}), pin=False) == {"a": kind()}
