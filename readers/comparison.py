"""In what two data sets differ: the words of `compare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

LISTED = 20
"""Of each kind of difference, so many are told one by one."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[_T]):
    """How many there are, and the first of them."""

    count: int
    first: tuple[_T, ...]
    """At most 20."""

    @classmethod
    def of(cls, values: Sequence[_T]) -> "Listed[_T]":
        """Return a whole list, cut short."""
        return cls(len(values), tuple(values[:LISTED]))


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One value of the manifest that is not the same."""

    name: str
    """As in the manifest, with dots: `recipe.media`, `accounting.packed`, `totals.samples`."""
    a: Any
    """None where there is no such value."""
    b: Any


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """A class that is not named the same."""

    id: int
    a: str | None
    """None where there is no such class."""
    b: str | None


@dataclass(frozen=True, slots=True)
class SampleName:
    """A sample, as it can be looked up."""

    key: str
    id: str
    shard: str
    """File name of the shard that it stands in."""


@dataclass(frozen=True, slots=True)
class PartDifference:
    """One part that is not the same; None thrice where a sample has none."""

    name: str
    bytes_a: int | None
    bytes_b: int | None
    crc32c_a: int | None
    crc32c_b: int | None


@dataclass(frozen=True, slots=True)
class SampleDifference:
    """A key whose samples are not the same."""

    key: str
    id_a: str
    id_b: str
    parts: tuple[PartDifference, ...]
    """Empty where a key stands several times in a split, which must not be."""


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """What is told of a split that stands at both locations."""

    split: str
    digest_a: str
    digest_b: str
    fields: tuple[FieldDifference, ...]
    """Values of the manifests that differ, but for class names and shards."""
    class_names: Listed[ClassDifference]
    shards_differ: Listed[str]
    """Of one name, with other bytes."""
    shards_only_in_a: Listed[str]
    shards_only_in_b: Listed[str]
    samples_only_in_a: Listed[SampleName]
    samples_only_in_b: Listed[SampleName]
    samples_differ: Listed[SampleDifference]
    """Of one key, with other parts."""
    samples_moved: int
    """The same samples at another place: in another shard, or in another order in it."""

    @property
    def same(self) -> bool:
        """Whether the content digests are equal."""
        return self.digest_a == self.digest_b

    @property
    def same_samples(self) -> bool:
        """Whether both have the same keys with the same parts, however their shards are cut."""
        lists = (self.samples_only_in_a, self.samples_only_in_b, self.samples_differ)
        return not any(one.count for one in lists)


@dataclass(frozen=True, slots=True)
class CompareReport:
    """What was found."""

    a: str
    b: str
    """The locations."""
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    """Splits."""
    splits: tuple[SplitComparison, ...]
    """Those in both, sorted by their names."""

    @property
    def same(self) -> bool:
        """Whether both have the same splits with equal content digests."""
        return not self.only_in_a and not self.only_in_b and all(one.same for one in self.splits)

    @property
    def same_samples(self) -> bool:
        """Whether both have the same splits with the same samples, however they are cut."""
        return (
            not self.only_in_a
            and not self.only_in_b
            and all(one.same_samples for one in self.splits)
        )
