"""PyTorch data sets over a split: batches in a fixed order, or single items by number."""

import itertools
import logging
import operator
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, IterableDataset, get_worker_info

from clipshards.packer.format.errors import StateError
from clipshards.readers.batch_maker import BatchMaker, Collate
from clipshards.readers.batches import Batches, BatchPosition, Tail, default_tail, longest_run
from clipshards.readers.checkpoint import make_state, read_state
from clipshards.readers.clips import Clip
from clipshards.readers.collate import collate_items
from clipshards.readers.cursor import WithEpochs, checked_epoch
from clipshards.readers.epochs import Epochs, Repeat, check_repeat
from clipshards.readers.items import ItemReader, OnError, Transform
from clipshards.readers.loader import Loader
from clipshards.readers.lookahead import Lookahead
from clipshards.readers.mixing import Source, Weighted, Whole, as_source
from clipshards.readers.mmengine_order import MmengineEpochs
from clipshards.readers.order import ORDER_VERSION, check_seed
from clipshards.readers.ranks import OwnRanks
from clipshards.readers.split import Split

_LOG = logging.getLogger("clipshards")


class ShardDataset(WithEpochs, IterableDataset[dict[str, Any]]):
    """Batches of decoded items: the same on any number of ranks and loader workers.

    The data set makes the batches itself. Use it with `dataset.loader(...)`, or with
    `DataLoader(dataset, batch_size=None)`.

    Batch t of an epoch holds the positions t*G to (t+1)*G of that epoch, G being the items of
    all ranks together; each rank gets its share, and each worker of a rank every n-th batch of it.
    Beside what `collate` makes of the items, a batch carries `position`, a `BatchPosition`,
    and with tail `pad` the mask `valid`, bool (B,): False for what fills up the last batch; with
    `on_error="replace"` also `replaced`, bool (B,): True for what stands in for an item that
    cannot be read.
    """

    def __init__(
        self,
        source: Split | Source,
        *,
        batch_size: int | None = None,
        global_batch: int | None = None,
        clip: Clip | None = None,
        seed: int = 0,
        shuffle: bool = True,
        repeat: Repeat = 1,
        tail: Tail | None = None,
        same_order: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        transform: Transform | None = None,
        collate: Collate = collate_items,
        on_error: OnError = "raise",
    ) -> None:
        """Set up the stream.

        Args:
            source: A split from `open_dataset`, or a `Concat`, `Weighted` or `ClassBalanced` of
                such; items of several splits carry the number of theirs as `source`.
            batch_size: Items in a batch of one rank; or give `global_batch`.
            global_batch: Items in a batch of all ranks, a multiple of their number. A run goes
                on with other ranks only if this stays the same.
            clip: Which frames make up an item's clip; None for all.
            seed: Of the order and of the random choice of frames, in [0, 2**63).
            shuffle: Give every pass an order of its own; else storage order.
            repeat: Passes of an epoch: a number of them, a part of one (0.25), or None for
                an epoch that does not end.
            tail: What becomes of the last batch of an epoch, `pad`, `drop` or `ragged`: see
                `clipshards.readers.batches.Tail`. Default: `pad`, without shuffle `ragged`.
            same_order: The order of mmengine's runner with a shuffling sampler, and
                RepeatDataset(times=repeat): for comparing runs. It is held in memory, and
                ranks get every n-th item.
            rank: Number of this process among those that share the batches; default: what
                torch.distributed says, else RANK in the environment, else 0.
            world_size: How many they are; default: likewise, WORLD_SIZE.
            transform: Called with each item, in the worker that decodes it; returns a dict.
            collate: Makes a batch from the items, or from what `transform` made of them.
            on_error: What becomes of an item that cannot be read, `raise` or `replace`: see
                `clipshards.readers.items.OnError`.

        Raises:
            ValueError, TypeError: An argument is out of range, or of another type.
        """
        if (batch_size is None) == (global_batch is None):
            raise ValueError("expected one of batch_size and global_batch")
        super().__init__()
        seed, passes = check_seed(seed), check_repeat(repeat)
        self.source: Source = as_source(source)
        self._ranks = OwnRanks(rank, world_size)
        world = self._ranks.now.world_size
        if batch_size is not None:
            global_batch = operator.index(batch_size) * world
        assert global_batch is not None
        global_batch = operator.index(global_batch)
        if global_batch < 1 or global_batch % world:
            name = "global_batch" if batch_size is None else "batch_size"
            given_size = global_batch if batch_size is None else batch_size
            raise ValueError(
                f"{name} {given_size}: expected at least 1, and a multiple of {world} ranks"
            )
        tail = tail or default_tail(shuffle=shuffle)
        if same_order:
            whole = passes is not None and passes.denominator == 1
            if not shuffle or not whole or isinstance(self.source, Weighted):
                raise ValueError(
                    "same_order: mmengine shuffles, repeats whole passes, and mixes by no weights"
                )
            epochs: Epochs = MmengineEpochs(len(self.source), int(passes or 1), seed)
        else:
            epochs = self.source.epochs(
                seed=seed if shuffle else None,
                repeat=passes,
                longest_run=longest_run(global_batch),
            )
        self._batches = Batches(epochs, global_batch, tail, in_turn=same_order)
        if self._batches.count == 0 and epochs.length:
            _LOG.warning(
                "tail 'drop' leaves nothing: an epoch has %d items, a global batch %d",
                epochs.length,
                global_batch,
            )
        self._maker = BatchMaker(
            self.source,
            self._batches,
            self._ranks,
            clip=clip,
            seed=seed,
            transform=transform,
            collate=collate,
            on_error=on_error,
        )
        identity = self.source.identity
        self._identity = {
            # A single split is known by its digest alone.
            **(identity if isinstance(self.source, Whole) else {"source": identity}),
            "order": f"mmengine, {ORDER_VERSION}" if same_order else f"{ORDER_VERSION}",
            "seed": seed,
            "shuffle": shuffle,
            "repeat": None if passes is None else str(passes),
            "tail": tail,
            "global_batch": global_batch,
        }

    @property
    def batch_size(self) -> int:
        """Items in a batch of one rank; only the last one of an epoch may have fewer."""
        return self._batches.global_batch // self._ranks.now.world_size

    def __len__(self) -> int:
        """Return the number of batches in an epoch of this rank.

        Raises:
            TypeError: Epochs do not end.
        """
        count = self._batches.count_of(*self._ranks.now)
        if count is None:
            raise TypeError("an epoch of repeat=None does not end, and has no len()")
        return count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's batches; DataLoader weaves the workers' together in order."""
        # A worker looks where to begin as soon as it is told to, not when it comes to its first
        # batch: another epoch may be set by then.
        return self._iterate(None if get_worker_info() is None else self._start())

    def _start(self) -> tuple[int, int]:
        self._ranks.find()
        return self._cursor.start()

    def _counts(self) -> tuple[int | None, int | None]:
        """Return the batches of an epoch of this rank, and of all."""
        return self._batches.count_of(*self._ranks.find()), self._batches.count

    def _iterate(self, start: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
        epoch, batch = start or self._start()
        worker = get_worker_info()
        count = self._batches.count_of(*self._ranks.now)
        step = 1 if worker is None else worker.num_workers
        coming = itertools.count(batch, step) if count is None else range(batch, count, step)
        lookahead = Lookahead(self._maker, ((epoch, one) for one in coming))
        while count is None or batch < count:
            made = lookahead.make(epoch, batch).batch
            batch += step
            self._cursor.next = (epoch, batch)
            yield made
        if worker is None:
            self._cursor.end(epoch, batch, self._batches.count or 0)

    def read_batch(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return this rank's share of one batch of an epoch, whatever was read before.

        Raises:
            IndexError: The epoch has no such batch, or this rank no share of it.
            ValueError: `epoch` is not in [0, 2**31).
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        epoch, batch = checked_epoch(epoch), operator.index(batch)
        count = self._batches.count_of(*self._ranks.now)
        if batch < 0 or (count is not None and batch >= count):
            raise IndexError(f"batch {batch} of {count}")
        return self._maker.finish(self._maker.begin(epoch, batch)).batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration in this process stands: behind the last batch handed out.

        Of loader workers that DataLoader runs this process knows nothing; there use
        `state_after`, or `loader()`.
        """
        worker = get_worker_info()
        epoch, batch = self._cursor.next or self._cursor.begin
        if worker is None:
            return self._state_at(epoch, batch)
        if self._cursor.next is None:
            batch += worker.id
        return make_state(self._identity, epoch, batch, workers=worker.num_workers)

    def state_after(self, position: BatchPosition) -> dict[str, Any]:
        """Return the state of a run whose last batch had this `position`, whoever made it."""
        return self._state_at(position.epoch, position.batch + 1)

    def _state_at(self, epoch: int, batch: int) -> dict[str, Any]:
        # The last batch of all ranks counts: with `ragged` this one may have no share of it.
        count = self._batches.count
        if count is not None and batch >= count:
            epoch, batch = epoch + 1, 0
        return make_state(self._identity, epoch, batch)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run stood: the next iteration begins with the batch after.

        Ranks and loader workers may be others than they were; what decides the batches may not.

        Raises:
            StateError: The state is of other data or another order, or none at all.
            UnsupportedVersionError: A later release made it.
        """
        resume, count = read_state(state, self._identity), self._batches.count
        # Of one worker, the next batch can lie behind the last of the epoch.
        if count is not None and resume.batch > count + resume.workers:
            raise StateError(f"batch {resume.batch}: an epoch has {count}")
        self._cursor.resume(resume)

    def loader(
        self,
        *,
        workers: int | None = None,
        threads: int | None = None,
        prefetch: int = 2,
        pin_memory: bool = False,
        timeout_s: float = 600.0,
    ) -> Loader:
        """Return what yields the batches of one epoch after the other, see `Loader`.

        Without `workers` and `threads`, there are as many threads as this rank has
        processors (those of the machine, divided by LOCAL_WORLD_SIZE); for skeletons and
        features one, since most of their work is Python's own, which one thread does at a time.

        Args:
            workers: Loader processes, for a transform that keeps Python busy. They live until
                the loader goes, and follow `set_epoch`.
            threads: Threads of this process that make batches: decoding runs beside Python,
                and nothing is handed over. With 0 of both, a batch is made when it is asked for.
            prefetch: Batches that each of them prepares ahead.
            pin_memory: Put tensors into page-locked memory, for copies to a GPU.
            timeout_s: Seconds that a batch may take.

        Raises:
            ValueError: An argument is out of range, or workers and threads are wanted.
        """
        return Loader(
            self,
            self._cursor,
            self._counts,
            self._maker,
            workers=workers,
            threads=threads,
            prefetch=prefetch,
            pin_memory=pin_memory,
            timeout_s=timeout_s,
        )


class ShardMapDataset(Dataset[dict[str, Any]]):
    """Single decoded items by number, in storage order; for samplers and for looking.

    The random frames of an item are those of pass 0, whenever it is asked for.
    """

    def __init__(
        self,
        split: Split,
        *,
        clip: Clip | None = None,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        """See `ShardDataset`."""
        self.split = split
        self._reader = ItemReader(split, clip=clip, seed=seed, transform=transform)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.split)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Return an item, or what `transform` made of it.

        Raises:
            IndexError: There is no such item; negative numbers count from the end.
        """
        item = operator.index(item)
        number = item + len(self) if item < 0 else item
        if not 0 <= number < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        return self._reader.read(number, number=0)
