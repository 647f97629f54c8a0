"""Raw samples for webdataset's pipelines: undecoded, in our order, each exactly once.

    import webdataset as wds
    from clipshards.readers.webdataset import samples

    pipeline = wds.DataPipeline(samples("shards", split="train"), wds.decode(), wds.batched(8))

Position p of an epoch belongs to rank (p - start) % ranks, start being where the run went on
in this epoch, else 0. So all ranks together stand at one position of the epoch, and that is
all that a state has to say.
"""

import itertools
import operator
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from clipshards.packer.format.errors import StateError
from clipshards.packer.format.tasks import TASKS
from clipshards.readers.checkpoint import make_state, read_state
from clipshards.readers.cursor import WithEpochs
from clipshards.readers.dealing import Dealing, RawTail
from clipshards.readers.epochs import PassEpochs, Repeat, check_repeat
from clipshards.readers.fetch import Fetch
from clipshards.readers.opening import open_dataset
from clipshards.readers.order import ORDER_VERSION, Order, check_seed
from clipshards.readers.ranks import OwnRanks
from clipshards.readers.split import Split, check_opened

# Samples read at once, and about as many bytes at most: what a worker holds.
_BLOCK_SAMPLES = 128
_BLOCK_BYTES = 16 << 20
# Positions looked up in the order at once: a lookup costs the same for 1 and for 100.
_LOOKUP = 1024


class SamplePosition(NamedTuple):
    """Where a sample stands in the training run."""

    epoch: int
    number: int
    """Of the sample in its epoch, counted from 0; all ranks share one count."""
    following: int
    """Where the epoch goes on once each rank has handed out as many samples."""


class _WorkerPlace(NamedTuple):
    """Where a loader worker is in an epoch, see `Dealing`."""

    epoch: int
    begin: int
    taken: int


class RawSamples(WithEpochs, IterableDataset[dict[str, Any]]):
    """Samples of a split as they stand in the shards, one epoch an iteration.

    A sample is a dict: `__key__`; `__url__`, its shard; `__position__`, a `SamplePosition`;
    and the bytes of each part under the part's name, checked against its crc32c. What holds
    several items comes once.
    """

    def __init__(
        self,
        split: Split,
        *,
        seed: int = 0,
        shuffle: bool = True,
        repeat: Repeat = 1,
        tail: RawTail = "ragged",
        rank: int | None = None,
        world_size: int | None = None,
        parts: Collection[str] | None = None,
        batched: int = 1,
    ) -> None:
        """See `samples`."""
        super().__init__()
        check_opened(split)
        if tail not in get_args(RawTail):
            why = "; raw samples carry no mask that would tell pads" if str(tail) == "pad" else ""
            raise ValueError(f"tail {tail!r}: expected one of {get_args(RawTail)}{why}")
        if operator.index(batched) < 1:
            raise ValueError(f"batched {batched}: expected at least 1")
        seed, passes = check_seed(seed), check_repeat(repeat)
        self.split = split
        shards = split.manifest.shards
        order = Order(
            [shard.samples for shard in shards],
            seed=seed if shuffle else None,
            run_length=split.manifest.run_length,
        )
        self._epochs = PassEpochs(order, passes)
        self._first = np.cumsum([0, *(shard.samples for shard in shards)], dtype=np.int64)
        self._tail = tail
        self._without = _unwanted(split, parts)
        self._batched = operator.index(batched)
        mean = sum(shard.bytes for shard in shards) // max(len(order), 1)
        self._block = max(1, min(_BLOCK_SAMPLES, _BLOCK_BYTES // max(mean, 1)))
        # Many short passes looked up at once would cost more than is saved.
        self._lookup = min(_LOOKUP, max(len(order), self._block))
        self._ranks = OwnRanks(rank, world_size)
        self._identity = {
            "content_digest": split.manifest.content_digest,
            "order": f"samples, {ORDER_VERSION}",
            "seed": seed,
            "shuffle": shuffle,
            "repeat": None if passes is None else str(passes),
            "tail": tail,
        }
        self._worker_at: _WorkerPlace | None = None
        """In a loader worker: where it stands."""
        self._resumed: tuple[_WorkerPlace, int] | None = None
        """Where a loader worker is to begin, and how many there were."""

    def __len__(self) -> int:
        """Return the number of samples in an epoch of this rank.

        Raises:
            TypeError: Epochs do not end.
        """
        count = self._dealing().count(0, rank=self._ranks.now.rank)
        if count is None:
            raise TypeError("an epoch of repeat=None does not end, and has no len()")
        return count

    def _dealing(self) -> Dealing:
        length, ranks = self._epochs.length, self._ranks.now.world_size
        return Dealing(length, self._tail, ranks, self._batched)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's samples; DataLoader weaves the workers' together in order."""
        # A worker looks where to begin as soon as it is told to: see ShardDataset.
        return self._iterate(None if get_worker_info() is None else self._start())

    def _start(self) -> _WorkerPlace:
        """Return where an iteration of this process begins, now."""
        self._ranks.find()
        worker = get_worker_info()
        epoch, position = self._cursor.start()
        if worker is None and self._resumed is None:
            return _WorkerPlace(epoch, position, 0)
        workers = 1 if worker is None else worker.num_workers
        if self._resumed is None:
            assert worker is not None
            position -= worker.id  # the cursor deals out single places
            self._worker_at = _WorkerPlace(epoch, position, 0)
            return self._worker_at
        resumed, before = self._resumed
        if workers != before:
            raise StateError(
                f"the position is of {before} loader workers, here are {workers}; what "
                "state_after returns goes on with any number"
            )
        self._resumed = None
        self._worker_at = resumed
        return resumed

    def _iterate(self, start: _WorkerPlace | None) -> Iterator[dict[str, Any]]:
        epoch, begin, taken = start or self._start()
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        dealing, (rank, ranks) = self._dealing(), self._ranks.now
        names = [shard.name for shard in self.split.manifest.shards]
        folder = f"{self.split.storage.url}/{self.split.name}/"
        following = begin
        while True:
            positions = dealing.positions(
                begin, rank=rank, worker=worker, workers=workers, taken=taken, limit=self._lookup
            )
            if not len(positions):
                break
            items = self._epochs.locate(epoch, positions).items
            shards = np.searchsorted(self._first, items, side="right") - 1
            shard_list, numbers = shards.tolist(), positions.tolist()
            places = list(zip(shard_list, (items - self._first[shards]).tolist(), strict=True))
            blocks = [
                slice(first, first + self._block) for first in range(0, len(places), self._block)
            ]
            coming = self._begin(places[blocks[0]])
            for place, block in enumerate(blocks):
                raws = map(coming.sample, places[block])
                # Of a far storage, the next block is under way while this one is handed out.
                if place + 1 < len(blocks):
                    coming = self._begin(places[blocks[place + 1]])
                for raw, shard, number in zip(raws, shard_list[block], numbers[block], strict=True):
                    following = number - rank + ranks
                    taken += 1
                    if info is None:
                        self._cursor.next = (epoch, following)
                    else:
                        self._worker_at = _WorkerPlace(epoch, begin, taken)
                    yield {
                        "__key__": raw.key,
                        "__url__": folder + names[shard],
                        "__position__": SamplePosition(epoch, number, following),
                        **raw.parts,
                    }
        if info is None:
            self._cursor.end(epoch, following, self._epochs.length or 0)

    def _begin(self, places: Sequence[tuple[int, int]]) -> Fetch:
        """Return what reads the samples at some places; near ones are read at once."""
        return self.split.fetch(places, without=self._without)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration in this process stands: behind the last sample handed out.

        What a pipeline holds of it counts as handed out: `wds.batched` is always one sample
        ahead. There, and with the workers of a DataLoader, use `state_after`.
        """
        worker = get_worker_info()
        if worker is None:
            return self._state_at(*(self._cursor.next or self._cursor.begin))
        epoch, begin, taken = self._worker_at or (*self._cursor.begin, 0)
        workers = worker.num_workers
        number = self._dealing().worker_state(begin, taken, workers=workers)
        return make_state(self._worker_identity(), epoch, number, workers=workers)

    def state_after(self, position: SamplePosition | Sequence[SamplePosition]) -> dict[str, Any]:
        """Return the state of a run behind a sample or a batch, whoever made it.

        Args:
            position: `__position__` of the last sample that came out of the loader, or those of
                the last batch.

        Raises:
            ValueError: They are not the samples of one batch in our order: something behind has
                shuffled or left out some, or workers make batches of another length than
                `batched`.
        """
        rows = _as_positions(position)
        last, ranks = rows[-1], self._ranks.now.world_size
        if any(
            after.epoch != before.epoch or after.number - before.number != ranks
            for before, after in itertools.pairwise(rows)
        ):
            raise ValueError(
                "the samples of the batch do not follow each other in the order of this rank; "
                "where loader workers make batches of n samples, give samples(batched=n), and "
                "shuffle nothing behind it"
            )
        if self._batched not in (1, len(rows)) and not self._dealing().is_over(last.following):
            raise ValueError(f"expected the positions of {self._batched} samples, got {len(rows)}")
        return self._state_at(last.epoch, last.following)

    def _state_at(self, epoch: int, position: int) -> dict[str, Any]:
        if self._dealing().is_over(position):
            epoch, position = epoch + 1, 0
        return make_state(self._identity, epoch, position)

    def _worker_identity(self) -> dict[str, Any]:
        """Return what the share of a loader worker hangs on."""
        return {
            **self._identity,
            "world_size": self._ranks.now.world_size,
            "batched": self._batched,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on where a run stood: the next iteration begins with the sample after.

        Ranks and loader workers may be others than they were; what decides the order may not.

        Raises:
            StateError: The state is of other data or another order, or none at all.
            UnsupportedVersionError: A later release made it.
        """
        of_worker = isinstance(state, dict) and bool(state.get("workers"))
        resume = read_state(state, self._worker_identity() if of_worker else self._identity)
        dealing, position, taken = self._dealing(), resume.batch, 0
        if of_worker:
            position, taken = dealing.worker_place(resume.batch)
        # Of one worker, the next turn can lie behind the end of the epoch.
        beyond = resume.workers * dealing.turn * dealing.ranks
        if dealing.length is not None and position > dealing.length + beyond:
            raise StateError(f"position {position}: an epoch has {dealing.length} samples")
        self._cursor.next = None
        if of_worker:
            place = _WorkerPlace(resume.epoch, position, taken)
            self._resumed = place, resume.workers
        else:
            self._resumed = None
            self._cursor.go_to(resume.epoch, position)


def samples(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    seed: int = 0,
    shuffle: bool = True,
    repeat: Repeat = 1,
    tail: RawTail = "ragged",
    rank: int | None = None,
    world_size: int | None = None,
    parts: Collection[str] | None = None,
    batched: int = 1,
) -> RawSamples:
    """Return the raw samples of a split, the first stage of a `wds.DataPipeline`.

    Args:
        location: Folder of the data set.
        split: Name of the split; None where there is only one.
        seed: Of the order, in [0, 2**63).
        shuffle: Give every pass an order of its own; else storage order.
        repeat: Passes of an epoch: a number of them, a part of one (0.25), or None for an
            epoch that does not end.
        tail: What becomes of the last samples of an epoch, `ragged` or `drop`: see `RawTail`.
        rank: Number of this process among those that share the samples; default: what
            torch.distributed says, else RANK in the environment, else 0.
        world_size: How many they are; default: likewise, WORLD_SIZE.
        parts: Names of the parts that are wanted, the others are not read; None for all.
        batched: Samples that one loader worker hands out before the next worker's turn: as many
            as `wds.batched` makes a batch of, where that runs in the workers. So the batches
            of the rank are the same with any number of workers.

    Raises:
        ValueError, TypeError: An argument is out of range, or of another type.
        NotFoundError, FormatError, StorageError: As for `open_dataset`.
    """
    return RawSamples(
        open_dataset(location, split=split),
        seed=seed,
        shuffle=shuffle,
        repeat=repeat,
        tail=tail,
        rank=rank,
        world_size=world_size,
        parts=parts,
        batched=batched,
    )


def _unwanted(split: Split, parts: Collection[str] | None) -> tuple[str, ...]:
    """Return the parts of the split's task that are not to be read."""
    if parts is None:
        return ()
    known = TASKS[split.manifest.task].parts
    if isinstance(parts, str) or not set(parts) <= set(known):
        raise ValueError(f"parts {parts!r}: expected names among {', '.join(known)}")
    return tuple(part for part in known if part not in parts)


def _as_positions(position: Any) -> list[SamplePosition]:
    """Return the positions of a batch, whichever way they were collated."""
    rows: list[Any] = [position] if isinstance(position, SamplePosition) else list(position)
    if rows and isinstance(rows[0][0], torch.Tensor):  # default_collate made one of them all
        rows = list(zip(*(field.tolist() for field in rows[0]), strict=True))
    if not rows:
        raise ValueError("expected the position of a sample at least")
    return [SamplePosition(*row) for row in rows]
