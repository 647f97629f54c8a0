"""What the steps of packing tell of themselves."""

from dataclasses import dataclass, field

from clipshards.packer.format.rejects import RejectRow


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a new plan comes to, before anything is decoded."""

    samples: int
    shards: int
    bytes: int
    """Of all shards, about, where media are copied."""
    media_bytes: int
    """Of the files that the samples are made from, as far as they can be seen."""
    source_bytes: int
    """Of the videos that several samples are cut from; 0 where each sample has its own."""
    rejects: tuple[RejectRow, ...]
    """What the annotation itself makes unusable, in its order."""
    excluded: dict[str, int]
    """Option that leaves entries out, to how many."""
    annotation_warnings: tuple[str, ...]
    """Of the annotation and the records."""
    warnings: tuple[str, ...]
    """Of the plan: what is allowed and may yet not be what was meant."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What a packing run did."""

    location: str
    split: str
    entries: int
    """Entries of the annotation: packed, rejected or excluded."""
    packed: int
    """Entries that are in the shards."""
    excluded: dict[str, int]
    """Option that left entries out, to how many."""
    rejects: tuple[RejectRow, ...]
    """What could not be packed and why, in the order of the annotation."""
    shards: int
    """Shards of the split."""
    shards_made: int
    """Shards made by this run; the others stood already."""
    bytes: int
    """Of all shards."""
    source_bytes: int
    """Of the videos that the plan cuts several samples from; 0 where each sample has its own,
    and where the split was finished before."""
    content_digest: str
    """Identity of the split."""
    warnings: tuple[str, ...]
    """What is allowed and may yet not be what was meant."""
    seconds: float = field(compare=False)
    """Wall-clock time of this run."""


@dataclass(frozen=True, slots=True)
class RemakeReport:
    """What making damaged files of a split anew from the sources came to."""

    location: str
    split: str
    content_digest: str
    """Identity of the split."""
    shards: int
    """Shards of the split."""
    shards_made: int
    """Shards that this run put in the place of damaged or missing ones."""
    bytes_made: int
    """Of those shards."""
    refused: tuple[tuple[str, str], ...]
    """(file name, reason) of what is damaged still, as the sources give something else."""
    seconds: float = field(compare=False)
    """Wall-clock time of this run."""


@dataclass(frozen=True, slots=True)
class PartReport:
    """What one part of a packing job did."""

    location: str
    split: str
    part: int
    """Number of the part, from 1."""
    parts: int
    shards: int
    """Shards of this part."""
    shards_made: int
    """Shards made by this run; the others stood already."""
    bytes: int
    """Of this part's shards."""
    rejects: tuple[RejectRow, ...]
    """What of this part could not be packed and why, in the order of the annotation; of a split
    that is finished, all that could not."""
    missing: tuple[str, ...]
    """Shards of other parts that are not made yet; with none, the split can be finished."""
    seconds: float = field(compare=False)
    """Wall-clock time of this run."""
