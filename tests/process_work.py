"""Work for the processes of test_processes.py, which import it by this name."""

import os
import signal
import time

from clipshards.packer.format.errors import MediaError
from clipshards.packer.processes import Counters


def square(task: int, counters: Counters) -> int:
    for place in range(len(counters)):
        counters[place] += task
    return task * task


def fall(task: str, counters: Counters) -> str:
    counters[0] = 7
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        time.sleep(600)
    if task == "raise":
        raise MediaError("'a.mp4': broken")
    if task == "odd":
        raise OddError(1, 2)
    if task.startswith("once"):
        # The first process to come here dies.
        try:
            os.close(os.open(task[4:], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "done"
        os.kill(os.getpid(), signal.SIGKILL)
    return task


class OddError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def compute(seconds: float, _counters: Counters) -> float:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return seconds
