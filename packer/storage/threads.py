"""Threads that wait for a store, so that many reads are under way at a time."""

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

# A read of a megabyte costs a far store 30 ms and this machine 1 ms.
_PER_PROCESSOR = 8
_LEAST, _MOST = 16, 128


class Threads:
    """As many threads as are busy, up to a limit; they never keep the process from ending."""

    def __init__(self) -> None:
        self._limit = min(max(_LEAST, _PER_PROCESSOR * len(os.sched_getaffinity(0))), _MOST)
        self._tasks: queue.SimpleQueue[tuple[Future[bytes], Callable[[], bytes]]]
        self._tasks = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    def submit(self, work: Callable[[], bytes]) -> "Future[bytes]":
        """Return what `work` will return, once there is a thread for it."""
        future: Future[bytes] = Future()
        with self._lock:
            if self._idle <= 0 and self._started < self._limit:
                self._started += 1
                name = f"clipshards-storage-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
            else:
                # Below 0: tasks that the first thread to be done takes.
                self._idle -= 1
        self._tasks.put((future, work))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._tasks.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as exc:  # noqa: BLE001 (raised where the result is taken)
                    future.set_exception(exc)
            # An idle thread keeps no bytes in memory.
            del future, work
            with self._lock:
                self._idle += 1
