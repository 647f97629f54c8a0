"""What a check of a data set finds, one thing at a time, and what it looked at."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Level = Literal["quick", "full", "deep"]
"""How far a check goes: sizes and stored checksums; every byte; every part decoded."""

LEVELS: tuple[Level, ...] = get_args(Level)

Severity = Literal["error", "warning"]
"""An error is damage. A warning is nothing that readers would stumble over."""

REPAIR = "replace it from a copy (clipshards repair) or from the sources (pack ... --repair)"
AGAIN = "look at the storage, then check again"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was packed, or not as it should be."""

    split: str
    shard: str
    """File name; empty for what concerns the whole split."""
    what: str
    """What is wrong, in words."""
    key: str = ""
    """Of the sample; empty for what concerns the whole shard."""
    id: str = ""
    """The user's own name of the sample."""
    part: str = ""
    """Part name; empty for what concerns the whole sample."""
    expected: str = ""
    found: str = ""
    """Both empty where `what` says all."""
    remedy: str = REPAIR
    """What to do."""
    severity: Severity = "error"

    @property
    def message(self) -> str:
        """What is wrong, with what was expected and what was found."""
        if self.expected or self.found:
            return f"{self.what}: expected {self.expected}, got {self.found}"
        return self.what

    @property
    def place(self) -> str:
        """Split, shard, sample and part, as far as it concerns one."""
        place = "/".join(filter(None, (self.split, self.shard)))
        member = ".".join(filter(None, (self.key, self.part)))
        name = f" (id {self.id!r})" if self.id else ""
        return f"{place}: {member}{name}" if member else place

    def __str__(self) -> str:
        return f"{self.severity}: {self.place}: {self.message}; {self.remedy}"


@dataclass(slots=True)
class VerifyReport:
    """What a check looked at, and what it found."""

    location: str
    level: Level
    splits: dict[str, str] = field(default_factory=dict)
    """Split to content digest, of those whose manifest could be read."""
    shards: int = 0
    """Shards that were looked at."""
    skipped: int = 0
    """Shards of those that an earlier run had found whole, by its journal."""
    left_out: int = 0
    """Shards that a sample of the shards left out."""
    samples: int = 0
    bytes: int = 0
    """Samples that were looked at and bytes that were read, both now and for the journal."""
    stored_checksums: int = 0
    """Shards whose checksum the store told, without reading them."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def damage(self) -> list[Finding]:
        """The findings that are more than warnings."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def whole(self) -> bool:
        """Whether there is no damage."""
        return not self.damage

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return asdict(self) | {"whole": self.whole}


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by split and shard, what concerns the whole split first, each once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.split, finding.shard))
