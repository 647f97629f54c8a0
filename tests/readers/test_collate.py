from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

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


def test_arrays_without_axes_become_a_tensor_of_numbers() -> None:
    batch = collate_items([item("a", x=np.array(1.5, np.float32)), item("b", x=np.array(2, "f4"))])
    assert batch["x"].dtype == torch.float32
    assert batch["x"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("values", [(True, False), (np.float32(1), np.float32(2)), (1, 2.5)])
def test_numbers_of_other_kinds_are_as_torch_takes_them(values: tuple[Any, Any]) -> None:
    batch = collate_items([item(str(place), x=value) for place, value in enumerate(values)])
    expected = default_collate(list(values))
    assert batch["x"].dtype == expected.dtype
    assert batch["x"].tolist() == expected.tolist()


def test_lists_of_boxes_do_not_share_memory_with_the_items() -> None:
    boxes = np.zeros((2, 4))
    batch = collate_items([item("a", boxes=boxes[::-1])])  # torch takes no negative strides
    boxes[...] = 1
    assert batch["boxes"][0].tolist() == [[0.0] * 4] * 2


def test_an_item_that_lacks_what_another_has_is_named() -> None:
    whole = item("a", x=1, y=2)
    for other in (item("b", x=1), item("b", x=1, z=2), item("b", x=1, y=2, z=3)):
        with pytest.raises(ValueError, match=r"'[yz]': only one of a and b has it"):
            collate_items([whole, whole, other])


def test_an_item_is_named_by_its_number_where_several_share_a_key() -> None:
    moments = [item("a", item=0, x=np.zeros(1)), item("a", item=3, x=np.zeros(2))]
    with pytest.raises(ValueError, match=r"'x': a, item 0 has .*, a, item 3 has"):
        collate_items(moments)
    with pytest.raises(ValueError, match=r"item 0 of the batch has .*, item 1 of the batch has"):
        collate_items([{"x": np.zeros(1)}, {"x": np.zeros(2)}])


# Filled up


def poses(persons: int, *, frames: int = 4, key: str = "a") -> dict[str, Any]:
    """Return an item of skeletons by person."""
    rng = np.random.default_rng(persons)
    return item(
        key,
        keypoint=rng.normal(size=(persons, frames, 5, 2)).astype(np.float16),
        keypoint_score=rng.random((persons, frames, 5)).astype(np.float32),
        frame_numbers=np.arange(frames),
    )


def boxes(count: int, *, frames: int = 6, key: str = "a") -> dict[str, Any]:
    """Return an item of compressed skeletons."""
    rng = np.random.default_rng(count)
    return item(
        key,
        keypoint=rng.normal(size=(count, 5, 3)).astype(np.float32),
        keypoint_score=rng.random((count, 5)),
        frame_inds=rng.integers(1, 9, count).astype(np.int16),
        box_score=rng.random(count).astype(np.float16),
        anno_inds=rng.random(count) < 0.5,
        frame_numbers=np.arange(frames),
    )


def sound(rows: int, *, key: str = "a") -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    # Not as it lies in memory: a mel spectrogram is often a transpose.
    return item(key, audios=rng.normal(size=(7, rows)).astype(np.float32).T)


def features(rows: int, *, key: str = "a") -> dict[str, Any]:
    return item(key, feature=np.random.default_rng(rows).normal(size=(rows, 3)))


MASKS: dict[Any, dict[str, tuple[str, ...]]] = {
    poses: {"keypoint_mask": ("keypoint", "keypoint_score")},
    boxes: {
        "keypoint_mask": ("keypoint", "keypoint_score", "frame_inds", "box_score", "anno_inds"),
        "frame_numbers_mask": ("frame_numbers",),
    },
    sound: {"audios_mask": ("audios",)},
    features: {"feature_mask": ("feature",)},
}
KINDS = pytest.mark.parametrize("make", MASKS, ids=lambda make: make.__name__)


def assert_restored(batch: dict[str, Any], items: list[dict[str, Any]], make: Any) -> None:
    """Each array is an item's where its mask is True, zero where not."""
    assert batch.keys() == items[0].keys() | MASKS[make].keys()
    for mask_name, names in MASKS[make].items():
        mask = batch[mask_name]
        lengths = [len(one[names[0]]) for one in items]
        assert (mask.dtype, mask.shape) == (torch.bool, (len(items), max(lengths)))
        assert mask.tolist() == [[n < length for n in range(max(lengths))] for length in lengths]
        for name in names:
            found = batch[name].numpy()
            assert found.dtype == items[0][name].dtype
            for row, own, one in zip(found, mask.numpy(), items, strict=True):
                np.testing.assert_array_equal(row[own], one[name])
                assert not row[~own].any()


@KINDS
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_what_was_filled_up_is_restored_by_its_mask(make: Any, lengths: list[int]) -> None:
    items = [make(length, key=str(place)) for place, length in enumerate(lengths)]
    assert_restored(collate_items(items), items, make)


@KINDS
def test_names_of_a_batch_do_not_depend_on_lengths(make: Any) -> None:
    like = collate_items([make(2, key="a"), make(2, key="b")])
    unlike = collate_items([make(2, key="a"), make(5, key="b")])
    assert list(like) == list(unlike)
    assert all(bool(like[mask].all()) for mask in MASKS[make])


@given(frames=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_frame_numbers_of_compressed_skeletons_have_a_mask_of_their_own(frames: list[int]) -> None:
    items = [boxes(place, frames=count) for place, count in enumerate(frames)]
    assert_restored(collate_items(items), items, boxes)


def test_a_batch_that_is_filled_up_does_not_share_memory_with_the_items() -> None:
    items = [poses(1), poses(2)]
    batch = collate_items(items)
    before = batch["keypoint"].clone()
    for one in items:
        one["keypoint"][...] = 7
    assert torch.equal(batch["keypoint"], before)


@pytest.mark.parametrize("equal", [True, False])
def test_an_item_whose_arrays_are_not_equally_long_is_named(equal: bool) -> None:
    odd = boxes(3, key="b") | {"box_score": np.zeros(2, np.float16)}
    items = [boxes(3), odd] if equal else [boxes(1), boxes(4), odd]
    with pytest.raises(ValueError, match=r"b: 'keypoint' has shape \(3, .*'box_score' \(2,\)"):
        collate_items(items)


@KINDS
@pytest.mark.parametrize("lengths", [(2, 2, 2), (2, 5, 3), (2, 5, 2)])
def test_other_axes_and_dtypes_must_be_alike(make: Any, lengths: tuple[int, int, int]) -> None:
    (names, *_) = MASKS[make].values()
    first, second, other = (
        make(length, key=key) for length, key in zip(lengths, "abc", strict=True)
    )
    found = other[names[-1]]
    changed = other | {names[-1]: found.astype(">f8")}
    with pytest.raises(ValueError, match=rf"'{names[-1]}': a has .*, c has .*>f8.*transform="):
        collate_items([first, second, changed])
    wider = other | {names[0]: np.repeat(other[names[0]], 2, axis=-1)}
    with pytest.raises(ValueError, match=rf"'{names[0]}': a has .*, c has .*transform="):
        collate_items([first, second, wider])


@KINDS
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 3), (1,) * 5])
def test_an_array_of_other_axes_is_refused_by_name(make: Any, shape: tuple[int, ...]) -> None:
    name = next(iter(MASKS[make].values()))[0]
    odd = make(2, key="b") | {name: np.zeros(shape, make(2)[name].dtype)}
    for items in ([make(2), odd], [odd, make(2)]):
        with pytest.raises(ValueError, match=rf"'{name}': [ab] has shape .*; "):
            collate_items(items)


@KINDS
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 2, 3, 1)])
def test_arrays_of_other_axes_are_stacked_as_a_transform_made_them(
    make: Any, shape: tuple[int, ...]
) -> None:
    name = next(iter(MASKS[make].values()))[0]
    made = [{"key": key, name: np.full(shape, 2.5)} for key in "ab"]
    batch = collate_items(made)
    assert batch.keys() == {"key", name}
    assert batch[name].tolist() == np.full((2, *shape), 2.5).tolist()


def test_joints_of_one_person_are_no_boxes() -> None:
    """A transform may take the first person: frames are not what is filled up."""
    items = [item(key, keypoint=np.zeros((frames, 5, 2))) for key, frames in (("a", 2), ("b", 3))]
    with pytest.raises(ValueError, match="'keypoint': a has"):
        collate_items(items)
    assert collate_items(items[:1]).keys() == {"key", "keypoint"}


def test_what_is_left_of_boxes_beside_persons_is_refused_by_its_own_name() -> None:
    """A transform may unpack compressed skeletons, and forget about the rest."""
    items = [poses(n) | {"frame_inds": np.arange(n)} for n in (1, 2)]
    with pytest.raises(ValueError, match="'frame_inds': a has"):
        collate_items(items)
    batch = collate_items([poses(1) | {"frame_inds": np.arange(3)} for _ in range(2)])
    assert batch["frame_inds"].shape == (2, 3)
    assert batch["keypoint_mask"].shape == (2, 1)


def test_tensors_under_these_names_are_stacked_without_a_mask() -> None:
    items = [
        {"keypoint": torch.ones(2, 4, 5, 2), "audios": torch.zeros(3, 2), "feature": [1.0, 2.0]}
        for _ in range(3)
    ]
    batch = collate_items(items)
    assert batch.keys() == items[0].keys()
    assert batch["keypoint"].shape == (3, 2, 4, 5, 2)


def test_arrays_beside_tensors_are_not_filled_up() -> None:
    items = [poses(2) | {"keypoint": torch.ones(2, 4, 5, 2)} for _ in range(2)]
    batch = collate_items(items)
    assert "keypoint_mask" not in batch
    assert batch["keypoint_score"].shape == (2, 2, 4, 5)


def test_a_mask_of_the_items_own_stands() -> None:
    own = np.array([True, False])
    batch = collate_items([poses(2) | {"keypoint_mask": own} for _ in range(3)])
    assert batch["keypoint_mask"].tolist() == [own.tolist()] * 3
    items = [poses(n) | {"keypoint_mask": own} for n in (1, 2)]
    with pytest.raises(ValueError, match=r"'keypoint': .*transform="):
        collate_items(items)


# What to do about it


def test_another_number_of_frames_asks_for_a_clip() -> None:
    sizes = [np.zeros((frames, 4, 6, 3), np.uint8) for frames in (2, 3)]
    with pytest.raises(ValueError, match=r"'frames': a has .*, b has .*; pass clip=") as caught:
        collate_items([item("a", frames=sizes[0]), item("b", frames=sizes[1])])
    assert "transform=" not in str(caught.value)
    for persons in (1, 2):
        with pytest.raises(ValueError, match=r"'keypoint': a has .*, b has .*; pass clip="):
            collate_items([poses(1, frames=4), poses(persons, frames=5, key="b")])
    items = [sound(3) | {"frame_numbers": np.arange(n)} for n in (2, 3)]
    with pytest.raises(ValueError, match=r"'frame_numbers': .* pass clip="):
        collate_items(items)


def test_another_size_of_frames_asks_for_a_transform_or_a_recipe() -> None:
    shapes = [(2, 4, 6, 3), (2, 4, 8, 3), (3, 4, 8, 3)]
    small, wide, long = (item(str(n), frames=np.zeros(s)) for n, s in enumerate(shapes))
    with pytest.raises(ValueError, match=r"transform=.*--short-side") as caught:
        collate_items([small, wide])
    assert "clip=" not in str(caught.value)
    with pytest.raises(ValueError, match=r"pass clip=.*transform=.*--short-side"):
        collate_items([small, long])


def test_another_dtype_asks_for_a_transform() -> None:
    bytes_, floats = (np.zeros((2, 4, 6, 3), dtype) for dtype in (np.uint8, np.float32))
    remedy = r"uint8.*float32; (pass clip=.*; )?bring them to one by transform="
    for other in (floats, floats[:1]):
        with pytest.raises(ValueError, match=remedy):
            collate_items([item("a", frames=bytes_), item("b", frames=other)])
