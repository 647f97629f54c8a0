"""Shards made on this machine: in this process, or in several."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from clipshards.packer.engines.base import STALL_S, TRIES, worker_error
from clipshards.packer.making import Job, Progress, ShardTask, make_shard
from clipshards.packer.processes import Counters, run_tasks
from clipshards.packer.receipts import Receipt


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """An engine of spawned processes.

    A script that asks for more than one must guard itself by `if __name__ == "__main__":`.
    """

    workers: int = 1
    """Processes; 1 for this one alone."""

    def __post_init__(self) -> None:
        if type(self.workers) is not int or self.workers < 1:
            raise ValueError(f"workers {self.workers!r}: expected a whole number of at least 1")

    def make(self, job: Job, tasks: Iterable[ShardTask], progress: Progress) -> Iterator[Receipt]:
        """See `Engine`."""
        tasks = iter(tasks)
        # A single shard is not worth a process.
        first = list(islice(tasks, 2))
        if self.workers == 1 or len(first) == 1:
            for task in chain(first, tasks):
                yield make_shard(job, task, progress)
            return
        given: list[ShardTask] = []

        def noted() -> Iterator[ShardTask]:
            for task in chain(first, tasks):
                given.append(task)
                yield task

        ended = told = (0, 0)

        def watch(counters: Iterable[tuple[int, ...]]) -> None:
            nonlocal told
            # What a process had done that died is done again, and told once.
            rows = [ended, *(found[:2] for found in counters)]
            entries, size = sum(row[0] for row in rows), sum(row[1] for row in rows)
            if entries >= told[0] and size >= told[1] and (entries, size) != told:
                progress(entries - told[0], size - told[1])
                told = (entries, size)
            else:
                progress(0, 0)  # a sign of life

        outcomes = run_tasks(
            partial(_make_for_parent, job),
            noted(),
            workers=self.workers,
            counters=3,
            tries=TRIES,
            stall_s=STALL_S,
            watch=watch,
        )
        with closing(outcomes):
            for outcome in outcomes:
                task = given[outcome.number]
                if outcome.lost:
                    raise worker_error(job, task, outcome.lost, done=outcome.counters[2])
                ended = ended[0] + outcome.counters[0], ended[1] + outcome.counters[1]
                # The receipt has what is needed of it.
                given[outcome.number] = ShardTask(task.number, ())
                yield outcome.value
        watch([])


def _make_for_parent(job: Job, task: ShardTask, counters: Counters) -> Receipt:
    def progress(entries: int, size: int) -> None:
        counters[0] += entries
        counters[1] += size
        counters[2] += 1

    return make_shard(job, task, progress)
