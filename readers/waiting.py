"""Who makes which batch: so that waiting has an end, and a name for what it waited for."""

from collections.abc import Sequence
from typing import Any

import torch

from clipshards.packer.format.errors import DatasetError
from clipshards.readers.batch_maker import Note
from clipshards.readers.split import Split

_NOTHING = -1


class Doings:
    """What each maker of batches is at, in memory that loader processes share."""

    def __init__(self, makers: int) -> None:
        self._cell = torch.full((makers, 4), _NOTHING, dtype=torch.int64)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        self._cell.share_memory_()  # type: ignore[no-untyped-call]

    def note_of(self, maker: int, epoch: int, batch: int) -> Note:
        """Return what a maker tells of the items of a batch that it begins."""
        row = self._cell[maker].numpy()
        row[:] = (epoch, batch, _NOTHING, _NOTHING)

        def note(split: int, item: int) -> None:
            row[2], row[3] = split, item

        return note

    def shown(self, epoch: int, batch: int, splits: Sequence[Split]) -> str:
        """Return who is at a batch, and at which of its samples."""
        for maker, (own_epoch, own_batch, split, item) in enumerate(self._cell.tolist()):
            if (own_epoch, own_batch) == (epoch, batch):
                if item == _NOTHING:
                    return f"maker {maker} has begun it"
                return f"maker {maker} is at {_sample_shown(splits[split], item)}"
        return "nobody has begun it"

    def shown_of(self, maker: int, splits: Sequence[Split]) -> str:
        """Return what a maker that is gone was at."""
        epoch, batch, split, item = self._cell[maker].tolist()
        if epoch < 0:
            return (
                f"maker {maker} ended before it began a batch; where processes do not start by "
                'fork, the script must guard what it runs by if __name__ == "__main__":'
            )
        if item == _NOTHING:
            return f"maker {maker} had read nothing of batch {batch} of epoch {epoch}"
        return (
            f"maker {maker} was at {_sample_shown(splits[split], item)}, of batch {batch} of epoch "
            f"{epoch}"
        )


def _sample_shown(split: Split, item: int) -> str:
    try:
        place = split.place_of(item)
        key = split.columns_of(place.shard).keys[place.sample].decode()
    except DatasetError as exc:
        return f"item {item} of {split!r} ({exc})"
    return f"{split.storage.url}/{split.file_of(place.shard)}: {key}"
