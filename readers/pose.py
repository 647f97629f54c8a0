"""Compressed skeletons, one row a detected box, become arrays of persons and frames."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOST_PERSONS = 10
"""In a frame; those of the highest scores stay. MMAction2's default."""


class Poses(NamedTuple):
    """Skeletons of the frames that have any.

    M persons, T such frames, V joints; zeros where a frame has fewer persons.
    """

    keypoint: npt.NDArray[np.floating]
    """(M, T, V, 2) x, y."""
    keypoint_score: npt.NDArray[np.floating]
    """(M, T, V)."""
    frame_inds: npt.NDArray[np.integer]
    """(T,) numbers of these frames as annotated, ascending."""


def decompress_pose(
    keypoint: npt.NDArray[np.floating], frame_inds: npt.NDArray[np.integer]
) -> Poses:
    """Return the skeletons of boxes as MMAction2's `DecompressPose(squeeze=True)` does.

    Args:
        keypoint: (N, V, 3) x, y, score of each box.
        frame_inds: (N,) its frame, not descending.

    Returns:
        Of the dtype of `keypoint`, where MMAction2 makes float16. The persons of a frame come in
        the order of the rows; where some frame has more than `MOST_PERSONS`, by the sum of their
        scores, the highest first.
    """
    frames, column, counts = np.unique(frame_inds, return_inverse=True, return_counts=True)
    persons = int(counts.max(initial=0))
    first = np.cumsum(counts) - counts
    rows = np.arange(len(frame_inds))
    if persons > MOST_PERSONS:
        # By frame, and inside it by score; equal ones stay in their order.
        rows = np.lexsort((-keypoint[:, :, 2].sum(axis=1), column))
        persons = MOST_PERSONS
    place = np.arange(len(frame_inds)) - np.repeat(first, counts)
    kept = place < persons
    rows, place = rows[kept], place[kept]
    shape = (persons, len(frames), keypoint.shape[1])
    joints = np.zeros((*shape, 2), dtype=keypoint.dtype)
    scores = np.zeros(shape, dtype=keypoint.dtype)
    joints[place, column[rows]] = keypoint[rows, :, :2]
    scores[place, column[rows]] = keypoint[rows, :, 2]
    return Poses(joints, scores, frames)
