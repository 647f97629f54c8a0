"""Shards made on a Ray cluster."""

import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clipshards.packer.engines.base import STALL_S, TRIES, worker_error
from clipshards.packer.format.errors import WorkerError
from clipshards.packer.making import Job, Progress, ShardTask, make_shard
from clipshards.packer.receipts import Receipt

# Seconds between two looks at what has come.
_LOOK_S = 5.0
# Seconds that a shard of few samples may take: a long video is encoded for hours.
_LONGEST_S = 86_400
# Seconds that a cluster has to answer.
_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class RayEngine:
    """An engine of Ray tasks: each makes one shard on one processor of the cluster.

    Every node needs clipshards, the media under the same path, and the location; what comes
    back are receipts, never media. Needs the extra `ray`.
    """

    address: str | None = None
    """Of a cluster, as Ray takes it; None for RAY_ADDRESS, or else a cluster on this machine
    that ends with the run."""
    workers: int = 0
    """Tasks at a time; 0 for as many as the cluster has processors."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers {self.workers}: expected at least 1, or 0")

    def make(self, job: Job, tasks: Iterable[ShardTask], progress: Progress) -> Iterator[Receipt]:
        """See `Engine`.

        Raises:
            ValueError: Ray is not installed, or there is no cluster at the address.
            WorkerError: As for `Engine`, or the cluster failed.
        """
        # Ray would put a print of its own in the place of Python's.
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
        try:
            import ray
        except ImportError:
            raise ValueError(
                "engine ray: Ray is not installed; pip install 'clipshards[ray]'"
            ) from None
        ours = not ray.is_initialized()
        if ours:
            _check_address(self.address or os.environ.get("RAY_ADDRESS", ""))
            # Nothing is sent to anybody unless the user has asked for it.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(
                    address=self.address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError) as exc:
                raise ValueError(f"engine ray: {exc}") from exc
        try:
            yield from self._make(ray, job, tasks, progress)
        except ray.exceptions.RayError as exc:
            raise WorkerError(f"engine ray: the cluster failed: {exc}") from exc
        finally:
            if ours:
                ray.shutdown()

    def _make(
        self, ray: Any, job: Job, tasks: Iterable[ShardTask], progress: Progress
    ) -> Iterator[Receipt]:
        # Ray's own retries would not tell how often, nor end a task that hangs.
        remote = ray.remote(num_cpus=1, max_retries=0)(_make_far_away)
        shared = ray.put(job)
        at_work: dict[Any, _Attempt] = {}
        waiting = iter(tasks)
        again: list[_Attempt] = []
        try:
            while True:
                while len(at_work) < (self.workers or _processors(ray)):
                    attempt = again.pop() if again else _first_of(waiting)
                    if attempt is None:
                        break
                    attempt.started_s = time.monotonic()
                    at_work[remote.remote(shared, attempt.task)] = attempt
                if not at_work:
                    return
                done, _ = ray.wait(list(at_work), timeout=_LOOK_S)
                progress(0, 0)  # a sign of life
                for reference in done:
                    attempt = at_work.pop(reference)
                    try:
                        receipt, entries, size = ray.get(reference)
                    except ray.exceptions.RayTaskError as exc:
                        # What `make_shard` raised, there.
                        raise exc.cause from exc
                    except ray.exceptions.RayError as exc:
                        again.append(
                            attempt.failed(job, (str(exc) or type(exc).__name__).splitlines()[0])
                        )
                        continue
                    progress(entries, size)
                    yield receipt
                for reference, attempt in list(at_work.items()):
                    if time.monotonic() - attempt.started_s > attempt.limit_s:
                        ray.cancel(reference, force=True)
                        del at_work[reference]
                        again.append(attempt.failed(job, "being killed, as nothing came of it"))
        finally:
            for reference in at_work:
                ray.cancel(reference, force=True)


@dataclass(slots=True)
class _Attempt:
    task: ShardTask
    tries: int = TRIES
    started_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """How long it may take; what a task does on its way is not seen from here."""
        return max(STALL_S * len(self.task.entries), _LONGEST_S)

    def failed(self, job: Job, how: str) -> "_Attempt":
        """Return the next attempt.

        Raises:
            WorkerError: There were enough.
        """
        if self.tries == 1:
            raise worker_error(job, self.task, how)
        return _Attempt(self.task, self.tries - 1)


def _first_of(tasks: Iterator[ShardTask]) -> _Attempt | None:
    for task in tasks:
        return _Attempt(task)
    return None


def _check_address(address: str) -> None:
    """Raise ValueError where nobody listens; Ray itself would try for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        except (OSError, UnicodeError) as exc:
            raise ValueError(f"engine ray: no cluster at {address}: {exc}") from exc


def _processors(ray: Any) -> int:
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _make_far_away(job: Job, task: ShardTask) -> tuple[Receipt, int, int]:
    """Return the receipt of a shard, the entries done and the bytes packed."""
    done = [0, 0]

    def progress(entries: int, size: int) -> None:
        done[0] += entries
        done[1] += size

    return make_shard(job, task, progress), done[0], done[1]
