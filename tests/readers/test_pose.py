"""Boxes of compressed skeletons find their person and frame."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers.pose import MOST_PERSONS, decompress_pose


def one_by_one(
    keypoint: npt.NDArray[Any], frame_inds: npt.NDArray[Any]
) -> tuple[list[int], list[list[npt.NDArray[Any]]]]:
    """Return the frames that have boxes, and the boxes of each, box by box."""
    frames = sorted(set(frame_inds.tolist()))
    boxes = [[keypoint[n] for n in np.flatnonzero(frame_inds == frame)] for frame in frames]
    if max(map(len, boxes)) > MOST_PERSONS:
        boxes = [
            sorted(of_frame, key=lambda box: -box[:, 2].sum())[:MOST_PERSONS] for of_frame in boxes
        ]
    return frames, boxes


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_each_box_stands_where_it_belongs(frame_numbers: list[int], seed: int) -> None:
    frame_inds = np.sort(np.array(frame_numbers, dtype=np.int16))
    rng = np.random.default_rng(seed)
    # Few values, so that scores tie.
    keypoint = rng.integers(1, 4, (len(frame_inds), 3, 3)).astype(np.float16)
    found = decompress_pose(keypoint, frame_inds)
    frames, boxes = one_by_one(keypoint, frame_inds)
    persons = max(map(len, boxes))
    assert found.keypoint.shape == (persons, len(frames), 3, 2)
    assert found.keypoint_score.shape == (persons, len(frames), 3)
    assert found.keypoint.dtype == found.keypoint_score.dtype == np.float16
    assert found.frame_inds.tolist() == frames
    for column, of_frame in enumerate(boxes):
        for place in range(persons):
            if place < len(of_frame):
                due = of_frame[place]
                assert found.keypoint[place, column].tolist() == due[:, :2].tolist()
                assert found.keypoint_score[place, column].tolist() == due[:, 2].tolist()
            else:
                assert not found.keypoint[place, column].any()
                assert not found.keypoint_score[place, column].any()


def test_of_a_crowd_the_surest_stay() -> None:
    scores = np.arange(12)[::-1].repeat(2).reshape(12, 2) / 100
    # In another frame there is one alone, and it stays first.
    frame_inds = np.array([0] * 12 + [5])
    keypoint = np.zeros((13, 2, 3), dtype=np.float32)
    keypoint[:12, :, 2] = scores[np.random.default_rng(1).permutation(12)]
    keypoint[:, :, 0] = np.arange(13)[:, None]
    found = decompress_pose(keypoint, frame_inds)
    sums = found.keypoint_score[:, 0].sum(axis=1)
    assert found.keypoint.shape == (MOST_PERSONS, 2, 2, 2)
    assert (np.diff(sums) < 0).all()
    assert sums[-1] > 2 * 0.015
    assert found.keypoint[0, 1, :, 0].tolist() == [12, 12]
    assert not found.keypoint[1:, 1].any()
