"""MMAction2's PoseDataset pickle: the body joints of many videos in one file."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from clipshards.packer.annotations.pickles import PickleEncoding, read_pickle
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.records import Excluded, Origin, Reject, SkeletonRecord
from clipshards.packer.skeletons import (
    ARRAY_KEYS,
    SHAPE_KEYS,
    as_integer,
    check_skeleton,
    read_count,
    read_shape,
    shown,
)

_LAYOUT = "a dict with 'split' and 'annotations', or a list of annotations"
_IDENTIFIERS = ("filename", "frame_dir")
_KEYS = {*ARRAY_KEYS, *SHAPE_KEYS, "label", "total_frames", "valid"}
_KNOWN = {*_KEYS, *_IDENTIFIERS}
_BOX_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Those that MMAction2 takes."""
_MAX_NAMES = 20


@dataclass(frozen=True, slots=True)
class SkeletonFile:
    """The entries of a skeleton file, in file order, duplicates kept.

    The file is a dict of `split` (name to list of ids) and `annotations` (list of dicts), or
    a bare list of dicts. An entry's id is its `filename` if the first entry has one, else
    its `frame_dir`. Where MMAction2 takes in an entry wrongly or fails on it later, it is a
    `Reject`; so is an id of the split that has no annotation. An id twice in the split list
    counts once, an id annotated twice gives two records, as in MMAction2; both are in
    `warnings`. Arrays keep their dtype; other than floats `keypoint` is rejected.
    """

    file: str | os.PathLike[str]
    source_split: str | None = None
    """Name of the file's split to take; None for a bare list or the only split."""
    labels: LabelMode = "one"
    """Labels of each entry: exactly one, one or more, or none."""
    valid_ratio: float = 0.0
    """Leave out videos with a box of at least `box_thr` in a smaller part of their frames, and
    flag the boxes below; 0.0 for neither."""
    box_thr: float = 0.5
    """One of 0.5, 0.6, 0.7, 0.8, 0.9; used with `valid_ratio`."""
    skeleton_dir: str = ""
    """Folder under the media root with a pickle `<id>.pkl` a video, which holds the arrays
    that are missing here; empty for none."""
    encoding: PickleEncoding = "ASCII"
    """`latin1` for files that Python 2 wrote."""
    warnings: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """What a user should know beyond the rejects; filled when the entries were iterated."""
    _unknown: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.labels not in get_args(LabelMode):
            raise ValueError(f"labels {self.labels!r}: expected one of {get_args(LabelMode)}")
        if not 0 <= self.valid_ratio <= 1:
            raise ValueError(f"valid_ratio {self.valid_ratio!r}: expected 0 to 1")
        if self.box_thr not in _BOX_THRESHOLDS:
            raise ValueError(f"box_thr {self.box_thr!r}: expected one of {_BOX_THRESHOLDS}")
        if self.encoding not in get_args(PickleEncoding):
            expected = get_args(PickleEncoding)
            raise ValueError(f"encoding {self.encoding!r}: expected one of {expected}")

    def __iter__(self) -> Iterator[SkeletonRecord | Reject | Excluded]:
        """Yield a record, reject or exclusion for each entry, then the split's lost ids.

        Raises:
            AnnotationError: The file as a whole is unreadable, or has not the split.
        """
        self.warnings.clear()
        self._unknown.clear()
        path = Path(self.file)
        annotations, split, wanted = self._choose(read_pickle(path, encoding=self.encoding), path)
        id_key = _id_key(annotations)
        seen: Counter[str] = Counter()
        for place, entry in enumerate(annotations):
            name = entry.get(id_key) if isinstance(entry, dict) else None
            if isinstance(name, str):
                if wanted is not None and name not in wanted:
                    continue
                seen[name] += 1
            origin = Origin(path.name, index=place)
            try:
                yield self._parse(entry, id_key, origin)
            except AnnotationError as exc:
                yield Reject(str(exc), id=name if isinstance(name, str) else "", origin=origin)
        for name, place in (wanted or {}).items():
            if name not in seen:
                yield Reject(
                    f"expected an annotation of each id of split {split!r}, got none of {name!r}",
                    id=name,
                    origin=Origin(f"{path.name}:{split}", index=place),
                )
        self._warn_of_duplicates("annotated", seen)
        if self._unknown:
            names = ", ".join(sorted(self._unknown)[:_MAX_NAMES])
            self.warnings.append(f"keys that are not packed: {names}")

    def _choose(self, data: object, path: Path) -> tuple[list[Any], str, dict[str, int] | None]:
        """Return all annotations, the split's name, and its ids with their places."""
        if isinstance(data, list):
            if self.source_split is not None:
                raise AnnotationError(
                    f"{path}: expected a dict with split {self.source_split!r}, got a bare list "
                    "of annotations; leave out the name of the split"
                )
            return _annotations(data, path), "", None
        if not isinstance(data, dict) or not {"split", "annotations"} <= data.keys():
            keys = f" with keys {_names(data)}" if isinstance(data, dict) else ""
            raise AnnotationError(f"{path}: expected {_LAYOUT}, got {shown(data)}{keys}")
        self._unknown.update(_names(data, without={"split", "annotations"}))
        splits = data["split"]
        if not isinstance(splits, dict) or not splits:
            raise AnnotationError(
                f"{path}: split: expected a dict of names and lists of ids, got {shown(splits)}"
            )
        split = self.source_split
        if split is None and len(splits) == 1:
            (split,) = splits
        if split not in splits or not isinstance(split, str):
            got = "none" if split is None else shown(split)
            raise AnnotationError(
                f"{path}: expected the name of a split, one of {_names(splits)}, got {got}; "
                "source_split says which (--source-split)"
            )
        where = f"{path}: split {split!r}"
        ids = splits[split]
        if not isinstance(ids, list | tuple) or not ids:
            raise AnnotationError(f"{where}: expected a list of ids, got {shown(ids)}")
        wanted: dict[str, int] = {}
        for place, name in enumerate(ids):
            if not isinstance(name, str):
                raise AnnotationError(f"{where}[{place}]: expected an id, got {shown(name)}")
            wanted.setdefault(name, place)
        if len(wanted) < len(ids):
            self._warn_of_duplicates(f"in split {split!r}", Counter(ids))
        return _annotations(data["annotations"], path), split, wanted

    def _parse(self, entry: object, id_key: str, origin: Origin) -> SkeletonRecord | Excluded:
        if not isinstance(entry, dict):
            raise AnnotationError(f"expected a dict, got {shown(entry)}")
        name = entry.get(id_key)
        if not isinstance(name, str) or not name:
            got = shown(name) if id_key in entry else "none"
            raise AnnotationError(f"expected an id in {id_key!r}, as in the first entry, got {got}")
        if not entry.keys() <= _KNOWN:
            self._unknown.update(_names(entry, without=_KNOWN))
        for key in _IDENTIFIERS:
            if key != id_key and key in entry and not _is_same_text(entry[key], name):
                self._unknown.add(key)
        arrays: dict[str, Any] = {key: entry.get(key) for key in ARRAY_KEYS}
        total_frames = _total_frames(entry)
        valid = _valid(entry.get("valid"))
        if self.valid_ratio and self._is_excluded(valid, total_frames):
            return Excluded("valid_ratio", name, origin)
        if self.valid_ratio and arrays["box_score"] is None:
            raise AnnotationError("expected box_score, as boxes are chosen by it, got none")
        shapes: dict[str, Any] = {
            field: read_shape(key, entry[key])
            for key, field in SHAPE_KEYS.items()
            if entry.get(key) is not None
        }
        record = SkeletonRecord(
            total_frames=total_frames,
            **arrays,
            **shapes,
            valid=valid,
            box_threshold=float(self.box_thr) if self.valid_ratio else 0.0,
            path=f"{self.skeleton_dir}/{name}.pkl" if self.skeleton_dir else "",
            pickle_encoding=self.encoding,
            labels=self._labels(entry),
            id=name,
            origin=origin,
        )
        fault = check_skeleton(record)
        if fault:
            raise AnnotationError(fault)
        return record

    def _is_excluded(self, valid: tuple[tuple[float, int], ...], total_frames: int) -> bool:
        frames = dict(valid).get(self.box_thr)
        if frames is None:
            known = [threshold for threshold, _ in valid[:_MAX_NAMES]]
            raise AnnotationError(
                f"valid: expected the frames of threshold {self.box_thr}, got thresholds {known}"
            )
        return frames / total_frames < self.valid_ratio

    def _labels(self, entry: dict[str, Any]) -> tuple[int, ...]:
        label = entry.get("label")
        if self.labels == "none":
            if label is not None:
                raise AnnotationError(
                    f"expected no label, as the file is packed unlabelled, got {shown(label)}"
                )
            return ()
        many = isinstance(label, list | tuple) or (
            isinstance(label, np.ndarray) and label.ndim == 1
        )
        given = list(label) if many and label is not None else [label]
        if many and self.labels == "one":
            raise AnnotationError(
                f"expected one label, got {shown(label)}; is this file multi-label?"
            )
        if not given:
            raise AnnotationError("expected at least one label, got none")
        return tuple(_class_id(value) for value in given)

    def _warn_of_duplicates(self, what: str, counts: Counter[str]) -> None:
        double = [name for name, count in counts.items() if count > 1]
        if double:
            self.warnings.append(
                f"{len(double)} ids are {what} more than once, the first: {double[0]!r}"
            )


def _annotations(value: object, path: Path) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise AnnotationError(
            f"{path}: expected a list of at least one annotation, got {shown(value)}"
        )
    return list(value)


def _id_key(annotations: list[Any]) -> str:
    first = annotations[0]
    return _IDENTIFIERS[0 if isinstance(first, dict) and _IDENTIFIERS[0] in first else 1]


def _names(values: dict[Any, Any], *, without: set[str] | None = None) -> list[str]:
    """Return the keys of a dict as short texts, sorted, not too many."""
    found = sorted(shown(key).strip("'") for key in values if key not in (without or ()))
    return [*found[:_MAX_NAMES], "..."] if len(found) > _MAX_NAMES else found


def _is_same_text(value: object, text: str) -> bool:
    return isinstance(value, str) and value == text


def _total_frames(entry: dict[str, Any]) -> int:
    if entry.get("total_frames") is not None:
        return read_count("total_frames", entry["total_frames"])
    keypoint = entry.get("keypoint")
    if isinstance(keypoint, np.ndarray) and keypoint.ndim == 4:
        return read_count("frames in keypoint", keypoint.shape[1])
    raise AnnotationError("expected total_frames, as keypoint does not tell it, got none")


def _valid(value: object) -> tuple[tuple[float, int], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise AnnotationError(f"valid: expected a dict, got {shown(value)}")
    pairs = []
    for threshold, frames in value.items():
        count = as_integer(frames)
        if not isinstance(threshold, float | np.floating) or not math.isfinite(threshold):
            raise AnnotationError(f"valid: expected a threshold, got {shown(threshold)}")
        if count is None or not 0 <= count < 2**63:
            raise AnnotationError(f"valid: expected a count of frames, got {shown(frames)}")
        pairs.append((float(threshold), count))
    return tuple(pairs)


def _class_id(value: object) -> int:
    label = as_integer(value)
    # MMAction2 takes a negative label for one counted from the last class.
    if label is None or not 0 <= label < 2**63:
        raise AnnotationError(f"expected a class id, 0 or more, got {shown(value)}")
    return label
