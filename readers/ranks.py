"""Which of how many processes of a training job this is."""

import operator
import os
from typing import NamedTuple, TypeVar, cast

import torch

T = TypeVar("T")


class Ranks(NamedTuple):
    """The number of this process among those that share the batches."""

    rank: int
    world_size: int


def find_ranks() -> Ranks:
    """Return what torch.distributed knows, else what RANK and WORLD_SIZE say, else a single one.

    Raises:
        ValueError: The two variables are not numbers that fit each other.
    """
    if has_process_group():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world_size is None:
        return Ranks(0, 1)
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
