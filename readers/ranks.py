"""Which of how many processes of a training job this is."""

import operator
import os
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch.utils.data import get_worker_info

T = TypeVar("T")


class Ranks(NamedTuple):
    """The number of this process among those that share the batches."""

    rank: int
    world_size: int


class OwnRanks:
    """The number of this process, as it was given, or as it is found when it is asked for."""

    def __init__(self, rank: int | None, world_size: int | None) -> None:
        """Look for the first time.

        Args:
            rank: Of this process; None to find it.
            world_size: None, too.

        Raises:
            ValueError: There is no such rank, or one of the two alone was given.
        """
        if (rank is None) != (world_size is None):
            raise ValueError("expected rank and world_size, or neither")
        given = None if rank is None or world_size is None else check_ranks(rank, world_size)
        self._is_given = given is not None
        self.now = given or find_ranks()
        """As it was found last."""

    def find(self) -> Ranks:
        """Look again: the process group may have come after the data set.

        Raises:
            RuntimeError: There are more or fewer ranks than there were.
        """
        # A worker that was spawned cannot know.
        if not self._is_given and (get_worker_info() is None or has_process_group()):
            found = find_ranks()
            if found.world_size != self.now.world_size:
                raise RuntimeError(
                    f"the data set was made for {self.now.world_size} ranks, there are "
                    f"{found.world_size} now; make it after init_process_group, or give rank and "
                    "world_size"
                )
            self.now = found
        return self.now

    def __getstate__(self) -> dict[str, Any]:
        """Return what a spawned worker gets, which cannot look for the process group itself."""
        self.find()
        return self.__dict__


def find_ranks() -> Ranks:
    """Return what torch.distributed knows, else what RANK and WORLD_SIZE say, else a single one.

    Raises:
        ValueError: The two variables are not numbers that fit each other.
    """
    if has_process_group():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size in (None, "1"):
        return Ranks(0, 1)
    if rank is None or world_size is None:
        raise ValueError(
            f"RANK={rank!r} WORLD_SIZE={world_size!r}: expected both or neither; set both, or give "
            "rank= and world_size="
        )
    if not (rank.isdecimal() and world_size.isdecimal()):
        raise ValueError(f"RANK={rank!r} WORLD_SIZE={world_size!r}: expected numbers")
    return check_ranks(int(rank), int(world_size))


def has_process_group() -> bool:
    """Return whether torch.distributed was initialised in this process, or before its fork."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def check_ranks(rank: int, world_size: int) -> Ranks:
    """Return the two.

    Raises:
        ValueError: There is no such rank.
    """
    found = Ranks(operator.index(rank), operator.index(world_size))
    if not 0 <= found.rank < found.world_size:
        raise ValueError(
            f"rank {rank} of {world_size}: expected a rank from 0 on, below the number of ranks"
        )
    return found


def gather(mine: T) -> list[T]:
    """Return what each rank has, by rank; every rank has to call this."""
    if not has_process_group():
        return [mine]
    found: list[T | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    return cast("list[T]", found)


def usable_processors() -> int:
    """Return the processors that this rank may use: its share of those of the machine."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        processors = os.cpu_count() or 1
    of_machine = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(processors // max(int(of_machine) if of_machine.isdecimal() else 1, 1), 1)
