"""Where the time of a training run goes: storage, decoding, handing over, or the run itself."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from clipshards.readers.fetch import Fetch

# Waiting for less than this share of the time is not worth turning a knob.
_WORTHWHILE = 0.05


@dataclass(slots=True)
class Tally:
    """What was read for a batch, as it is made."""

    items: int = 0
    replaced: list[int] = field(default_factory=list)
    """Places of items, in the order of reading, that others stand in for."""
    storage_s: float = 0.0
    requests: int = 0
    again: int = 0
    bytes_fetched: int = 0
    bytes_cached: int = 0
    bytes_used: int = 0

    def add(self, fetch: Fetch) -> None:
        """Count what was read so far."""
        self.storage_s += fetch.seconds
        self.requests += fetch.requests
        self.again += fetch.again
        self.bytes_fetched += fetch.bytes_fetched
        self.bytes_cached += fetch.bytes_cached
        self.bytes_used += fetch.bytes_used


class Costs(NamedTuple):
    """What one batch took, in the process or thread that made it."""

    items: int
    replaced: int
    """Items that could not be read, and gave way to others."""
    storage_s: float
    """Seconds in reads."""
    decode_s: float
    """Seconds in everything else: decoding, transform, collate."""
    bytes_fetched: int
    bytes_used: int
    finished_s: float
    """When it was ready, by the clock that all processes of a machine share."""
    requests: int = 0
    """Reads of the storage."""
    again: int = 0
    """Of them, those of parts that had come damaged."""
    bytes_cached: int = 0
    """From the cache of this node; not among those fetched."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the time went since a loader was made; of one rank, or of several together.

    The seconds of the process that takes the batches are `consumer_s`, its own work between
    two batches, and what it waited for: `storage_s`, `decode_s` and `hand_over_s`. While it
    waits for a batch that is being made, the time counts for storage and decoding as they
    shared the making of this batch.
    """

    ranks: int = 1
    batches: int = 0
    items: int = 0
    replaced: int = 0
    """Items that could not be read, and gave way to others; none is ever skipped."""
    consumer_s: float = 0.0
    storage_s: float = 0.0
    decode_s: float = 0.0
    hand_over_s: float = 0.0
    making_storage_s: float = 0.0
    """Seconds of all who make batches, in reads."""
    making_decode_s: float = 0.0
    """Seconds of all who make batches, in the rest."""
    requests: int = 0
    """Reads of the storage; an index is none."""
    again: int = 0
    """Of them, those of parts that had come damaged."""
    bytes_fetched: int = 0
    """From the storage."""
    bytes_cached: int = 0
    """From the cache of this node."""
    bytes_used: int = 0
    """Of both, those of parts that were asked for."""
    workers: int = 0
    """Loader processes of a rank."""
    threads: int = 0
    """Loader threads of a rank."""
    processors: int = 1
    """That a rank may use."""

    @property
    def seconds(self) -> float:
        """Consumer and waiting together, of all ranks."""
        return self.consumer_s + self.storage_s + self.decode_s + self.hand_over_s

    @property
    def items_per_s(self) -> float:
        """Items a second of all ranks together."""
        return self.items * self.ranks / self.seconds if self.seconds else 0.0

    def with_batch(self, costs: Costs, *, asked_s: float, got_s: float) -> "Accounting":
        """Return this and one batch more.

        Args:
            costs: Of the batch.
            asked_s: When the consumer asked for it.
            got_s: When the consumer had it.
        """
        waited = max(min(costs.finished_s, got_s) - asked_s, 0.0)
        making = costs.storage_s + costs.decode_s
        storage = waited * costs.storage_s / making if making else 0.0
        return self._plus(
            batches=1,
            items=costs.items,
            replaced=costs.replaced,
            storage_s=storage,
            decode_s=waited - storage,
            hand_over_s=got_s - asked_s - waited,
            making_storage_s=costs.storage_s,
            making_decode_s=costs.decode_s,
            requests=costs.requests,
            again=costs.again,
            bytes_fetched=costs.bytes_fetched,
            bytes_cached=costs.bytes_cached,
            bytes_used=costs.bytes_used,
        )

    def with_consumer(self, seconds: float) -> "Accounting":
        """Return this and the consumer's own work for some seconds more."""
        return self._plus(consumer_s=seconds)

    def since(self, before: "Accounting") -> "Accounting":
        """Return what came on top of an earlier account of the same loader."""
        mine, other = asdict(self), asdict(before)
        return Accounting(
            **{name: mine[name] - (0 if name in _KEPT else other[name]) for name in mine}
        )

    @staticmethod
    def sum(of_ranks: Iterable["Accounting"]) -> "Accounting":
        """Return the accounts of several ranks as one."""
        several = [asdict(one) for one in of_ranks]
        kept = {name: max((one[name] for one in several), default=0) for name in _SETUP}
        summed = {
            of_class.name: sum(one[of_class.name] for one in several)
            for of_class in fields(Accounting)
            if of_class.name not in _SETUP
        }
        return Accounting(**(summed | kept))

    def _plus(self, **more: float) -> "Accounting":
        mine = asdict(self)
        return Accounting(**(mine | {name: mine[name] + value for name, value in more.items()}))

    def as_json(self) -> dict[str, Any]:
        """Return all numbers by name, and `advice`."""
        return {
            "items_per_s": self.items_per_s,
            **asdict(self),
            "advice": self.advice,
        }

    @property
    def line(self) -> str:
        """All of it in one line for people."""
        if not self.batches:
            return "nothing was read"
        shares = ", ".join(
            f"{name} {seconds / self.seconds:.0%}" for name, seconds in self._shares().items()
        )
        read = self.bytes_fetched + self.bytes_cached
        used = self.bytes_used / read if read else 1.0
        again = f" ({self.again} again)" if self.again else ""
        cached = f", {self.bytes_cached / 1e6:,.1f} MB from the cache" if self.bytes_cached else ""
        return (
            f"{self.items_per_s:,.1f} items/s; {shares} of {self.seconds / self.ranks:.1f} s; "
            f"{self.bytes_fetched / 1e6:,.1f} MB fetched in {self.requests:,} reads{again}"
            f"{cached}, {used:.0%} used; "
            f"{self.replaced} replaced"
        )

    @property
    def advice(self) -> str:
        """Which knob to turn, in one sentence."""
        if not self.batches:
            return "nothing was read"
        waits = self._shares()
        consumer = waits.pop("consumer")
        longest = max(waits, key=waits.__getitem__)
        if sum(waits.values()) <= _WORTHWHILE * self.seconds:
            return f"the training is the limit ({_share(consumer, self)}): nothing to turn here"
        words = f"{longest} is the limit ({_share(waits[longest], self)} of the time)"
        if longest == "hand-over":
            if self.workers:
                return f"{words}: take threads= instead of workers="
            # Of threads, it is the wait for Python's lock.
            fewer = "take fewer threads=" if self.threads > 1 else "nothing to turn here"
            return f"{words}: {fewer}"
        makers = self.workers or self.threads
        if longest == "storage":
            kind = "workers=" if self.workers else "threads="
            return f"{words}: more {kind}, {makers} so far, or media nearer to the machine"
        if makers < self.processors:
            return (
                f"{words}, and {makers} of {self.processors} processors make batches: clipshards "
                "bench measures whether more threads= or workers= pay"
            )
        return (
            f"{words}, on all {self.processors} processors: take fewer frames, a cheaper "
            "transform, or pack again with an encode recipe"
        )

    def _shares(self) -> dict[str, float]:
        return {
            "consumer": self.consumer_s,
            "storage": self.storage_s,
            "decode": self.decode_s,
            "hand-over": self.hand_over_s,
        }


# Of the loader, not of what it did.
_SETUP = ("workers", "threads", "processors")
_KEPT = (*_SETUP, "ranks")


def _share(seconds: float, of: Accounting) -> str:
    return f"{seconds / of.seconds:.0%}" if of.seconds else "0%"
