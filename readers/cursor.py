"""Where the iteration of a data set begins, stands and goes on, in this process and its workers."""

import logging
import operator
import os
from typing import Any, SupportsIndex

import torch
from torch.utils.data import get_worker_info

from clipshards.packer.format.errors import StateError
from clipshards.readers.checkpoint import MAX_EPOCHS, Resume

_LOG = logging.getLogger("clipshards")


class SharedPlace:
    """An epoch and a batch of it that loader processes see change."""

    def __init__(self) -> None:
        self._cell = torch.zeros(2, dtype=torch.int64)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What pickle and deepcopy make is no longer shared; what a spawned worker gets is.
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        self._cell.share_memory_()  # type: ignore[no-untyped-call]

    def get(self) -> tuple[int, int]:
        """Return epoch and batch."""
        epoch, batch = self._cell.tolist()
        return epoch, batch

    def set(self, epoch: int, batch: int) -> None:
        """Change both."""
        self._cell.copy_(torch.tensor([epoch, batch]))


class Cursor:
    """Epoch and batch that the next iteration begins with, and those behind the last batch."""

    def __init__(self) -> None:
        self.begin = (0, 0)
        """Where the next iteration begins."""
        self.next: tuple[int, int] | None = None
        """What comes behind the last batch that this process handed out; None before one."""
        # Workers that outlive an epoch see what comes next in shared memory; a new one goes by
        # what was set when it was started.
        self._shared = SharedPlace()
        self._iterated_by = 0
        self._own: Resume | None = None
        self._loaded: tuple[int, int] | None = None
        """Where a loaded state goes on, until an iteration or another epoch takes it up."""

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Let the next iteration give an epoch; in its midst, if it is to go on there.

        Raises:
            ValueError: Not in [0, 2**31).
        """
        number = checked_epoch(epoch)
        if self._loaded is not None and number < self._loaded[0]:
            _LOG.warning(
                "epoch %d is set, so the state that was loaded is given up (epoch %d, batch %d); "
                "to go on there, count epochs from dataset.epoch on",
                number,
                *self._loaded,
            )
        self.next = self._loaded = None
        if number != self.begin[0]:
            self.go_to(number, 0)

    def go_to(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin there."""
        self.begin = (epoch, batch)
        self._shared.set(epoch, batch)

    def resume(self, resume: Resume) -> None:
        """Let the next iteration go on where another run stood."""
        self.next, self._loaded = None, (resume.epoch, resume.batch)
        if resume.workers:
            self._own = resume
        else:
            self.go_to(resume.epoch, resume.batch)

    def start(self) -> tuple[int, int]:
        """Return epoch and batch that an iteration of this process begins with, now.

        Raises:
            StateError: It was to go on as one of another number of workers.
        """
        worker = get_worker_info()
        self._loaded = None
        if worker is None:
            epoch, batch = self.begin
            self.go_to(epoch, 0)
        else:
            first = self._iterated_by != os.getpid()
            epoch, batch = self.begin if first else self._shared.get()
            batch += worker.id
            self._iterated_by = os.getpid()
        if self._own is not None:
            step = 1 if worker is None else worker.num_workers
            if self._own.workers != step:
                raise StateError(
                    f"the position is of {self._own.workers} loader workers, here are {step}; "
                    "positions of dataset.loader() go on with any number"
                )
            epoch, batch = self._own.epoch, self._own.batch
            self._own = None
        self.next = (epoch, batch)
        return epoch, batch

    def end(self, epoch: int, batch: int, count: int) -> None:
        """Note that an iteration of this process is over, unless it was sent elsewhere since.

        Args:
            epoch: That was iterated.
            batch: Behind the last one of it that this rank has.
            count: Batches of the epoch, of all ranks together.
        """
        if self.next == (epoch, batch):
            self.next = (epoch, count)


class WithEpochs:
    """What a data set whose iterations are epochs has for choosing them."""

    def __init__(self) -> None:
        self._cursor = Cursor()

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration gives, counted from 0."""
        return self._cursor.begin[0]

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Choose the epoch that the next iteration gives; call it before each.

        Where a run goes on in the middle of this very epoch, it stays there.

        Raises:
            ValueError: Not in [0, 2**31).
        """
        self._cursor.set_epoch(epoch)


def checked_epoch(epoch: SupportsIndex) -> int:
    """Return an epoch as a plain integer.

    Raises:
        ValueError: Not in [0, 2**31).
    """
    number = operator.index(epoch)
    if not 0 <= number < MAX_EPOCHS:
        raise ValueError(f"epoch {number}: expected 0 to 2**31 - 1")
    return number
