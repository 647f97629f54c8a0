"""PyTorch data sets over a split: batches in a fixed order, or single items by number."""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from clipshards.readers.batches import BatchPosition, batch_count, batch_items
from clipshards.readers.clips import Clip
from clipshards.readers.collate import collate_items
from clipshards.readers.items import ItemReader, Transform
from clipshards.readers.split import Split


class ShardDataset(IterableDataset[dict[str, Any]]):
    """Batches of decoded clips, the same with any number of loader workers.

    The data set makes the batches itself. Use it with `dataset.loader(...)`, or with
    `DataLoader(dataset, batch_size=None)`.

    Batch t of an epoch holds positions t*batch_size to (t+1)*batch_size of that epoch's
    order, so every item comes exactly once an epoch; the last batch holds what is left.
    Beside what `collate` makes of the items, each batch carries `position`, a
    `BatchPosition`.

    One process gets all batches; the ranks of a distributed job are not told apart yet.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        clip: Clip | None = None,
        seed: int = 0,
        shuffle: bool = True,
        transform: Transform | None = None,
        collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]] = collate_items,
    ) -> None:
        """Set up the stream.

        Args:
            split: From `open_dataset`.
            batch_size: Items in a batch, at least 1.
            clip: Which frames make up an item's clip; None for all.
            seed: Of the order and of the random choice of frames, in [0, 2**63).
            shuffle: Give every epoch an order of its own; else storage order.
            transform: Called with each item, in the worker that decodes it; returns a dict.
            collate: Makes a batch from the items, or from what `transform` made of them.
        """
        batch_size = operator.index(batch_size)
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: expected at least 1")
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._reader = ItemReader(split, clip=clip, seed=seed, transform=transform)
        self._collate = collate
        # Shared memory, so that workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration gives, counted from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; call it before each.

        Raises:
            ValueError: Not in [0, 2**63).
        """
        _check_epoch(epoch)
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return batch_count(len(self.split), self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's batches; DataLoader weaves the workers' together in order.

        Raises:
            RuntimeError: The process is one of several ranks, each of which would get all.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise RuntimeError(
                "ShardDataset does not share batches among ranks yet: every rank would get all "
                "of them; choose each rank's own with read_batch(epoch, number)"
            )
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch = self.epoch
        for batch in range(first, len(self), step):
            yield self.read_batch(epoch, batch)

    def read_batch(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return one batch of an epoch, whatever was read before.

        Raises:
            IndexError: The epoch has no such batch.
            ValueError: `epoch` is not in [0, 2**63).
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        _check_epoch(epoch)
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        numbers = batch_items(
            batch,
            items=len(self.split),
            batch_size=self.batch_size,
            epoch=epoch,
            seed=self._reader.seed if self.shuffle else None,
        )
        items = [self._reader.read(item, epoch=epoch) for item in numbers.tolist()]
        position = BatchPosition(epoch, batch, batch * self.batch_size)
        return {**self._collate(items), "position": position}

    def loader(
        self, *, workers: int = 0, prefetch: int = 2, pin_memory: bool = False
    ) -> DataLoader[dict[str, Any]]:
        """Return a DataLoader that yields the batches.

        Args:
            workers: Loader processes; 0 decodes in this one. They live until the loader
                goes, and follow `set_epoch`.
            prefetch: Batches that each worker prepares ahead.
            pin_memory: Put tensors into page-locked memory, for copies to a GPU.
        """
        return DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
        )


def _check_epoch(epoch: int) -> None:
    if not 0 <= epoch < 2**63:
        raise ValueError(f"epoch {epoch}: expected 0 to 2**63 - 1")


class ShardMapDataset(Dataset[dict[str, Any]]):
    """Single decoded items by number, in storage order; for samplers and for looking.

    The random frames of an item are those of epoch 0, whenever it is asked for.
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
        return self._reader.read(number, epoch=0)
