"""What the media of a split weigh: expected of each record, and of what clips are cut from."""

from collections.abc import Mapping
from dataclasses import dataclass

from clipshards.packer.entries import Entry
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe
from clipshards.packer.record_kinds import RecordKind

# Beyond this, clips cut from one video are worth a word.
_MAX_GROWTH = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What the records of a plan are expected to come to."""

    sizes: Mapping[int, int | None]
    """Bytes of each record's parts, about, by its ordinal; None where they are not to be had."""
    source_bytes: int
    """Of the videos that several of them are cut from; 0 where each has its own."""

    @property
    def bytes(self) -> int:
        """Bytes of all parts, about; those that are not to be had count as the mean."""
        known = [size for size in self.sizes.values() if size is not None]
        return sum(known) * len(self.sizes) // len(known) if known else 0


def expect(
    kind: RecordKind, planned: Mapping[int, Entry], root: MediaRoot, recipe: Recipe
) -> Expected:
    """Return what records will weigh, from what can be seen without decoding."""
    sizes = {}
    # What is cut from one source takes the same share of it: a source is looked at once.
    shares: dict[str, int | None] = {}
    for ordinal, entry in planned.items():
        source = "" if kind.source is None else kind.source(entry.value)
        if source not in shares or not source:
            shares[source] = kind.size(entry.value, root, recipe)
        sizes[ordinal] = shares[source]
    return Expected(sizes, source_bytes(kind, planned, root))


def families(kind: RecordKind, planned: Mapping[int, Entry]) -> dict[int, int] | None:
    """Return the first ordinal that has the same source, of each; None of kinds without one."""
    if kind.source is None:
        return None
    first: dict[str, int] = {}
    return {
        ordinal: first.setdefault(kind.source(entry.value) or f"/{ordinal}", ordinal)
        for ordinal, entry in planned.items()
    }


def source_bytes(kind: RecordKind, planned: Mapping[int, Entry], root: MediaRoot) -> int:
    """Return the bytes of all sources that several records are cut from."""
    if kind.source is None:
        return 0
    paths = {kind.source(entry.value) for entry in planned.values()}
    return sum(root.size(path) or 0 for path in paths if path)


def growth_warning(size: int, source_size: int, verb: str) -> tuple[str, ...]:
    """Return a warning if clips take far more than what they are cut from, with the remedy."""
    if not source_size or size <= _MAX_GROWTH * source_size:
        return ()
    warning = (
        f"the clips {verb} {size / source_size:.1f} times the bytes of their videos, since they "
        "overlap and begin at random-access points; --group video stores each video once"
    )
    return (warning,)
