"""Proving a data set whole, on three levels: quick, full and deep."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import lru_cache

from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.errors import (
    CorruptShardError,
    DatasetError,
    FormatError,
    NotFoundError,
    StorageError,
)
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import MANIFEST_NAME, REJECTS_NAME, is_shard_name
from clipshards.packer.format.rejects import decode_rejects
from clipshards.packer.processes import Counters, run_tasks
from clipshards.packer.storage import Storage, open_storage
from clipshards.readers.doubles import double_contents, double_keys
from clipshards.readers.findings import (
    LEVELS,
    Finding,
    Level,
    VerifyReport,
    sorted_findings,
)
from clipshards.readers.opening import open_dataset, split_names, unfinished_splits
from clipshards.readers.quick_check import quick_findings
from clipshards.readers.shard_check import ShardChecked, check_shard
from clipshards.readers.shard_reader import Progress
from clipshards.readers.split import Split
from clipshards.readers.verify_journal import VerifyJournal

_TRIES = 2
# A shard may come slowly; one of which no byte comes for so long never will.
_STALL_S = 900.0


def verify(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    level: Level = "full",
    sample: float = 1.0,
    workers: int = 1,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Return what is wrong with a data set.

    Level `quick` reads no byte of a shard: it checks the manifest's own digest, which files
    stand there, their sizes, and the checksums that an object store keeps of them (a folder
    keeps none). `full` reads every byte: rejects, size, sha256 and crc32c of each shard, every
    header, padding and end, the index and all that it says of the parts, each part's checksum
    and format, labels, counts, keys that stand twice, and, as warnings, media that stand twice
    in the data set. `deep` also decodes all media and looks through all arrays.

    Args:
        location: Of the data set.
        split: The one to check; None for all.
        level: See above.
        sample: Share of the shards of each split that `full` and `deep` read, above 0 and up
            to 1; at least one shard, the same ones of the same data set each time.
        workers: Processes; 1 for this one alone. With more, a script that calls this must be
            guarded by `if __name__ == "__main__"`.
        journal: File that keeps which shards were found whole. A later run with it reads only
            the others; whoever suspects damage since then gives another one.
        progress: Called as bytes are checked.

    Raises:
        ValueError: A level that does not exist, or a share or number of workers out of range.
        NotFoundError: There is no data set, or no such split.
        StateError: The journal is none, or of another level.
        StorageError: The location cannot be listed, or the journal not be written.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
    if not 0 < sample <= 1:
        raise ValueError(f"sample {sample}: expected a share above 0 and up to 1")
    if workers < 1:
        raise ValueError(f"workers {workers}: expected at least 1")
    storage = open_storage(location)
    report = VerifyReport(storage.url, level)
    names = split_names(storage) if split is None else [split]
    opened = dict(_open_all(storage, names, report))
    for found in opened.values():
        findings, told = quick_findings(storage, found.manifest)
        report.findings += findings
        report.stored_checksums += told
        if level == "quick":
            report.shards += len(found.manifest.shards)
        else:
            report.findings += _check_rejects(storage, found.manifest)
    if level != "quick":
        jobs = [
            _Job(storage.url, name, found.manifest.content_digest, number, level == "deep")
            for name, found in opened.items()
            for number in _chosen(found.manifest, sample)
        ]
        report.left_out = sum(len(found.manifest.shards) for found in opened.values()) - len(jobs)
        _check_shards(opened, jobs, report, workers, journal, progress or (lambda _: None))
    for name in unfinished_splits(storage) if split is None else ():
        if any(is_shard_name(name, file) for file in storage.sizes(name)):
            what = f"shards without {MANIFEST_NAME}: packing has not ended, or it was lost"
            again = "give the pack or copy command again"
            report.findings.append(Finding(name, "", what, remedy=again))
    report.findings = sorted_findings(report.findings)
    return report


def total_bytes(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    level: Level = "full",
    sample: float = 1.0,
) -> int:
    """Return how many bytes `verify` would check, as far as manifests can be read.

    Raises:
        NotFoundError: There is no data set, or no such split.
        StorageError: The location cannot be listed.
    """
    if level == "quick":
        return 0
    storage = open_storage(location)
    opened = _open_all(
        storage,
        split_names(storage) if split is None else [split],
        VerifyReport(storage.url, level),
    )
    return sum(
        found.manifest.shards[number].bytes
        for _, found in opened
        for number in _chosen(found.manifest, sample)
    )


def _open_all(
    storage: Storage, names: Sequence[str], report: VerifyReport
) -> Iterator[tuple[str, Split]]:
    """Yield the splits whose manifest can be read; note what is wrong with the others."""
    for name in names:
        try:
            found = open_dataset(storage.url, split=name)
        except NotFoundError:
            raise
        except (FormatError, StorageError) as exc:
            report.findings.append(Finding(name, MANIFEST_NAME, str(exc)))
            continue
        report.splits[name] = found.manifest.content_digest
        yield name, found


def _chosen(manifest: Manifest, share: float) -> Sequence[int]:
    """Return the numbers of the shards that are read."""
    every = range(len(manifest.shards))
    if share == 1:
        return every
    count = min(max(round(share * len(every)), 1), len(every))
    return sorted(random.Random(manifest.content_digest).sample(every, count))


def _check_rejects(storage: Storage, manifest: Manifest) -> Iterator[Finding]:
    """Check the rejects against the manifest."""
    split = manifest.split
    try:
        data = storage.read_all(f"{split}/{REJECTS_NAME}")
        if (found := sha256_hex(data)) != manifest.rejects_sha256:
            expected = manifest.rejects_sha256
            yield Finding(split, REJECTS_NAME, "sha256", expected=expected, found=found)
        entries = sum(row.entries for row in decode_rejects(data, where=REJECTS_NAME))
        if entries != manifest.accounting.rejected:
            expected = f"{manifest.accounting.rejected} as the manifest counts"
            yield Finding(
                split, REJECTS_NAME, "rejected entries", expected=expected, found=str(entries)
            )
    except NotFoundError:  # found already
        return
    except DatasetError as exc:
        yield Finding(split, REJECTS_NAME, str(exc))


@dataclass(frozen=True, slots=True)
class _Job:
    """A shard to be checked, in words that another process understands."""

    location: str
    split: str
    content_digest: str
    number: int
    deep: bool


def _check_shards(
    opened: Mapping[str, Split],
    jobs: Sequence[_Job],
    report: VerifyReport,
    workers: int,
    journal: str | os.PathLike[str] | None,
    tick: Progress,
) -> None:
    """Check shards, and then all of them against each other; note what is found."""
    checked: dict[str, dict[int, ShardChecked]] = {name: {} for name in opened}
    with (
        nullcontext() if journal is None else closing(VerifyJournal(journal, report.level)) as kept
    ):
        left: list[_Job] = []
        for job in jobs:
            found = None if kept is None else kept.find(job.content_digest, job.number)
            if found is None:
                left.append(job)
            else:
                report.skipped += 1
                checked[job.split][job.number] = found
                tick(opened[job.split].manifest.shards[job.number].bytes)
        workers = min(workers, max(len(left), 1))
        for job, done in (_here if workers == 1 else _elsewhere)(opened, left, workers, tick):
            checked[job.split][job.number] = done
            if kept is not None and not done.findings:
                kept.add(job.content_digest, done)
    report.shards = len(jobs)
    in_order: dict[str, list[ShardChecked]] = {}
    for name, split in opened.items():
        shards = in_order[name] = [checked[name][number] for number in sorted(checked[name])]
        report.samples += sum(shard.samples for shard in shards)
        report.bytes += sum(shard.bytes for shard in shards)
        for shard in shards:
            report.findings += shard.findings
        report.findings += _other_layouts(split, shards)
        report.findings += double_keys(split, shards)
    report.findings += double_contents(opened, in_order)


_Checking = Iterator[tuple[_Job, ShardChecked]]


def _here(
    opened: Mapping[str, Split], jobs: Sequence[_Job], workers: int, tick: Progress
) -> _Checking:
    for job in jobs:
        yield job, check_shard(opened[job.split], job.number, tick, deep=job.deep)


def _elsewhere(
    opened: Mapping[str, Split], jobs: Sequence[_Job], workers: int, tick: Progress
) -> _Checking:
    """Check shards in processes of their own; one that takes its process along is found out."""
    told = done = 0

    def look(counters: list[tuple[int, ...]]) -> None:
        nonlocal told
        now = done + sum(counter for (counter,) in counters)
        if now > told:
            tick(now - told)
            told = now

    tasks = run_tasks(
        _work, jobs, workers=workers, counters=1, tries=_TRIES, stall_s=_STALL_S, watch=look
    )
    for outcome in tasks:
        job = jobs[outcome.number]
        if outcome.lost:
            shard = opened[job.split].manifest.shards[job.number].name
            what = f"the process that checked it was lost: {outcome.lost}"
            lost = Finding(job.split, shard, what, remedy="check it alone, by --workers 1")
            yield job, ShardChecked(job.number, findings=[lost])
        else:
            done += outcome.counters[0]
            yield job, outcome.value


def _work(job: _Job, counters: Counters) -> ShardChecked:
    def tick(count: int) -> None:
        counters[0] += count

    split = _opened(job.location, job.split)
    if split.manifest.content_digest != job.content_digest:
        raise CorruptShardError(
            f"{job.location}/{job.split}/{MANIFEST_NAME}: it changed while the split was checked"
        )
    return check_shard(split, job.number, tick, deep=job.deep)


@lru_cache(maxsize=4)
def _opened(location: str, split: str) -> Split:
    return open_dataset(location, split=split)


def _other_layouts(split: Split, shards: Sequence[ShardChecked]) -> Iterator[Finding]:
    """Yield the shards whose samples have other parts than those of the first."""
    layout: tuple[str, ...] = ()
    for shard in shards:
        layout = layout or shard.layout
        if shard.layout not in ((), layout):
            yield Finding(
                split.name,
                split.manifest.shards[shard.number].name,
                "parts of its samples",
                expected=f"{' '.join(layout)} as in the shards before",
                found=" ".join(shard.layout),
            )
