from typing import Any

import numpy as np
import pytest
import torch

from clipshards.readers.collate import collate_items


def item(key: str, **values: Any) -> dict[str, Any]:
    return {"key": key, **values}


def test_arrays_are_stacked_along_a_new_axis() -> None:
    first = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    second = first[::-1, ::-1]  # rows of an array need not be contiguous
    batch = collate_items([item("a", frames=first), item("b", frames=second)])
    assert batch["frames"].dtype == torch.uint8
    assert batch["frames"].shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(batch["frames"][1].numpy(), second)


def test_the_batch_does_not_share_memory_with_the_items() -> None:
    values = np.zeros(3)
    batch = collate_items([item("a", x=values)])
    values[:] = 1
    assert batch["x"].tolist() == [[0.0, 0.0, 0.0]]


def test_text_becomes_a_list_and_numbers_a_tensor() -> None:
    batch = collate_items([item("a", n=3, x=0.5), item("b", n=4, x=1.5)])
    assert batch["key"] == ["a", "b"]
    assert batch["n"].dtype == torch.int64
    assert batch["n"].tolist() == [3, 4]
    assert batch["x"].tolist() == [0.5, 1.5]


def test_tensors_of_a_transform_are_stacked() -> None:
    batch = collate_items([item("a", x=torch.zeros(2)), item("b", x=torch.ones(2))])
    assert batch["x"].tolist() == [[0, 0], [1, 1]]


def test_labels_become_a_list_of_tensors() -> None:
    many = [np.array([4], dtype=np.int64), np.array([1, 2], dtype=np.int64)]
    batch = collate_items([item("a", labels=many[0]), item("b", labels=many[1])])
    assert [labels.tolist() for labels in batch["labels"]] == [[4], [1, 2]]
    assert all(labels.dtype == torch.int64 for labels in batch["labels"])


def test_labels_stay_a_list_where_they_happen_to_be_equally_many() -> None:
    pair = np.array([1, 2], dtype=np.int64)
    batch = collate_items([item("a", labels=pair), item("b", labels=pair)])
    assert [labels.tolist() for labels in batch["labels"]] == [[1, 2], [1, 2]]


def test_arrays_of_different_shapes_are_refused_by_name() -> None:
    items = [item("a", x=np.zeros(2)), item("b", x=np.zeros(2)), item("c", x=np.zeros(3))]
    with pytest.raises(ValueError, match=r"'x': a has shape \(2,\).*, c has .*\(3,\).*transform="):
        collate_items(items)


def test_arrays_of_different_types_are_refused_by_name() -> None:
    # Writing floats into the first one's uint8 would cut them off without a word.
    items = [item("a", x=np.zeros(2, dtype=np.uint8)), item("b", x=np.full(2, 0.5))]
    with pytest.raises(ValueError, match=r"'x': a .*uint8.* b .*float64"):
        collate_items(items)


def test_an_array_without_elements_is_no_obstacle() -> None:
    batch = collate_items([item("a", x=np.empty((0, 4))), item("b", x=np.empty((0, 4)))])
    assert batch["x"].shape == (2, 0, 4)
