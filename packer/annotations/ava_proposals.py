"""Persons that a detector found in the key frames of an AVA annotation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipshards.packer.annotations.pickles import PickleEncoding, read_pickle
from clipshards.packer.format.errors import AnnotationError

Moment = tuple[str, int]
"""Video id and timestamp."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """The boxes of a proposals file by moment, not looked at yet."""

    boxes: Mapping[Moment, Any]
    keys: Mapping[Moment, str]
    """How the file spells each moment."""
    foreign: tuple[Any, ...]
    """Keys that are not 'video_id,timestamp', or spell a moment that another key spells too."""

    def at(self, moment: Moment) -> npt.NDArray[np.float64] | None:
        """Return the boxes of one moment, float64 (n, 4) or (n, 5); None where there are none.

        Raises:
            AnnotationError: They are not boxes in fractions, with or without a score.
        """
        if moment not in self.boxes:
            return None
        boxes, where = self.boxes[moment], f"proposals {self.keys[moment]!r}"
        if not isinstance(boxes, np.ndarray) or boxes.dtype.kind not in "fiu":
            found = boxes.dtype if isinstance(boxes, np.ndarray) else type(boxes).__name__
            raise AnnotationError(f"{where}: expected an array of numbers, got {found}")
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or not len(boxes):
            raise AnnotationError(f"{where}: expected shape (n, 4) or (n, 5), got {boxes.shape}")
        values = boxes.astype(np.float64)
        bad = ~np.isfinite(values).all(axis=1)
        bad |= ~((values[:, :4] >= 0) & (values[:, :4] <= 1)).all(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise AnnotationError(
                f"{where}: expected x1, y1, x2, y2 within 0 and 1 and a finite score, "
                f"got {values[row].tolist()} in row {row}"
            )
        return values


def read_proposals(path: Path, *, encoding: PickleEncoding = "ASCII") -> Proposals:
    """Return the proposals of a pickle, `{'video_id,timestamp': array}`.

    Timestamps may be padded with any number of zeros. Where two keys spell one moment, the
    one that MMAction2 looks up counts, which has four digits.

    Raises:
        AnnotationError: The file is unreadable, not allowed, or no dict.
    """
    content = read_pickle(path, encoding=encoding)
    if not isinstance(content, dict):
        raise AnnotationError(
            f"{path}: expected a dict of 'video_id,timestamp' to boxes, "
            f"got {type(content).__name__}"
        )
    boxes: dict[Moment, Any] = {}
    keys: dict[Moment, str] = {}
    foreign: list[Any] = []
    for key, value in content.items():
        moment = _moment(key)
        if moment is None:
            foreign.append(key)
            continue
        if moment in keys:
            if key != spell(moment):
                foreign.append(key)
                continue
            foreign.append(keys[moment])
        boxes[moment], keys[moment] = value, key
    return Proposals(boxes, keys, tuple(foreign))


def spell(moment: Moment) -> str:
    """Return the key under which MMAction2 looks a moment up.

    >>> spell(("v", 902))
    'v,0902'
    """
    return f"{moment[0]},{moment[1]:04d}"


def _moment(key: Any) -> Moment | None:
    if not isinstance(key, str):
        return None
    video_id, _, timestamp = key.rpartition(",")
    try:
        return video_id, int(timestamp)
    except ValueError:
        return None
