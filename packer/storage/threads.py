"""Threads that wait for a store, so that many reads are under way at a time."""

import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future

from clipshards.packer.format.errors import StorageError

# A read of a megabyte costs a far store 30 ms and this machine 1 ms.
_PER_PROCESSOR = 8
_LEAST, _MOST = 32, 128


_Task = tuple["Future[bytes]", Callable[[], bytes]]


class Threads:
    """As many threads as are busy, up to a limit; they end with this object.

    They never keep the process from ending.
    """

    def __init__(self) -> None:
        self._limit = min(max(_LEAST, _PER_PROCESSOR * len(os.sched_getaffinity(0))), _MOST)
        # What the threads hold: not this object, which would then never go.
        self._shared = _Shared()
        weakref.finalize(self, self._shared.end).atexit = False

    def submit(self, work: Callable[[], bytes]) -> "Future[bytes]":
        """Return what `work` will return or raise, once there is a thread for it.

        It is StorageError where the system starts not a single thread.
        """
        shared = self._shared
        future: Future[bytes] = Future()
        with shared.lock:
            wanted = shared.idle <= 0 and shared.started < self._limit
            if not (wanted and shared.start()):
                if not shared.started:
                    future.set_exception(
                        StorageError("no thread can be started; look at the limits (ulimit -a)")
                    )
                    return future
                # Below 0: tasks that the first thread to be done takes.
                shared.idle -= 1
        shared.tasks.put((future, work))
        return future


class _Shared:
    """The tasks, and the threads that take them."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.started = 0
        self.idle = 0

    def start(self) -> bool:
        """Start another thread; return whether the system lets us."""
        name = f"clipshards-storage-{self.started + 1}"
        try:
            threading.Thread(target=self.run, name=name, daemon=True).start()
        except RuntimeError:
            return False
        self.started += 1
        return True

    def run(self) -> None:
        """Do tasks, one after the other."""
        while (task := self.tasks.get()) is not None:
            future, work = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as exc:  # noqa: BLE001 (raised where the result is taken)
                    future.set_exception(exc)
            # An idle thread keeps no bytes in memory.
            del task, future, work
            with self.lock:
                self.idle += 1

    def end(self) -> None:
        """Let all threads end behind the tasks that wait; called by any of them too."""
        # Without the lock: nobody submits any more, and a thread that holds it may call this.
        for _ in range(self.started):
            self.tasks.put(None)
