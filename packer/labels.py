"""The rule that a split's labels follow."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsIndex, cast

from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode, labels_fit

_EXPECTED = {"one": "exactly one label", "many": "at least one label", "none": "no label"}


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How many labels each item of a split has, and which class ids there are."""

    mode: LabelMode
    class_names: tuple[str, ...]
    """Empty where any class id will do."""

    def check(self, labels: object) -> tuple[int, ...]:
        """Return labels as plain integers; the same object where they are so already.

        Raises:
            TypeError: Not a sequence.
            AnnotationError: Too many or too few, or not class ids of this split.
        """
        if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
            raise TypeError(f"labels: expected a tuple of class ids, got {labels!r}")
        given = tuple(labels)
        if not labels_fit(self.mode, len(given)):
            raise AnnotationError(f"expected {_EXPECTED[self.mode]}, got {list(given)}")
        plain = {*map(type, given)} <= {int}
        found = given if plain else tuple(_class_id(label) for label in given)
        for label, number in zip(given, found, strict=True):
            if not 0 <= number < 2**63:
                raise AnnotationError(f"expected class ids of 0 or more, got {label!r}")
            if self.class_names and number >= len(self.class_names):
                raise AnnotationError(
                    f"expected a class id below {len(self.class_names)} (class names given), "
                    f"got {number}"
                )
        return found


def _class_id(label: object) -> int:
    """Return a label as a plain integer, -1 for what is none."""
    # NumPy's integers are welcome, True and 1.0 are not.
    if isinstance(label, bool):
        return -1
    try:
        return operator.index(cast(SupportsIndex, label))
    except TypeError:
        return -1
