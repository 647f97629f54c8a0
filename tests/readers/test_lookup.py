"""What the order says backwards is what the data set gives."""

from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import NotFoundError
from clipshards.readers import Lookup, ShardDataset, UniformClip, open_dataset


@pytest.mark.parametrize("repeat", [1, 0.5, 2])
@pytest.mark.parametrize("tail", ["pad", "drop", "ragged"])
def test_steps_hold_what_the_data_set_gives(location: Path, repeat: Any, tail: Any) -> None:
    split = open_dataset(location, split="train")
    options: dict[str, Any] = {"global_batch": 4, "seed": 3, "repeat": repeat, "tail": tail}
    dataset = ShardDataset(split, clip=UniformClip(1), **options)
    lookup = Lookup(split, **options)
    assert lookup.steps_per_epoch == len(dataset)
    seen: dict[str, list[tuple[int, int]]] = {}
    for step in range(2 * len(dataset)):
        epoch, batch = divmod(step, len(dataset))
        made = dataset.read_batch(epoch, batch)
        rows = lookup.batch(step)
        assert [(row.key, row.id) for row in rows] == list(
            zip(made["key"], made["id"], strict=True)
        )
        if tail == "pad":
            assert [row.valid for row in rows] == made["valid"].tolist()
        for row in rows:
            if row.valid:
                seen.setdefault(row.key, []).append((epoch, batch))
    for number in range(15):
        key = f"train-{number:08d}"
        found = list(lookup.comings(key, epochs=2))
        assert sorted((coming.epoch, coming.batch) for coming in found) == sorted(seen.get(key, []))
        assert all(c.step == c.epoch * len(dataset) + c.batch for c in found)


def test_without_shuffle_it_is_the_order_of_storage(location: Path) -> None:
    split = open_dataset(location, split="train")
    lookup = Lookup(split, global_batch=4, seed=None)
    rows = [row.key for step in range(4) for row in lookup.batch(step) if row.valid]
    assert rows == [key for shard in range(4) for key in split.read_index(shard).keys]


def test_what_is_not_there_is_said(location: Path) -> None:
    lookup = Lookup(open_dataset(location, split="train"), global_batch=4)
    with pytest.raises(NotFoundError, match="no sample has the key or id 'nobody'"):
        list(lookup.comings("nobody", epochs=1))
    with pytest.raises(IndexError, match="step -1"):
        lookup.batch(-1)
    split = open_dataset(location, split="train")
    wrong: list[dict[str, Any]] = [
        {"global_batch": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"tail": "x"},
        {"repeat": None},
        {"repeat": 1e300},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match=r"expected|does not end"):
            Lookup(split, **({"global_batch": 4} | options))
    with pytest.raises(IndexError, match="step"):
        lookup.batch(10**20)


def test_without_shuffle_nothing_fills_up_as_in_the_run(location: Path) -> None:
    split = open_dataset(location, split="train")
    dataset = ShardDataset(split, global_batch=4, shuffle=False, clip=UniformClip(1))
    rows = Lookup(split, global_batch=4, seed=None).batch(3)
    assert [row.key for row in rows] == dataset.read_batch(0, 3)["key"]


def test_an_index_is_read_once_a_batch(location: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = open_dataset(location, split="train")
    for item in range(len(split)):
        split.place_of(item)  # what it keeps itself
    lookup = Lookup(split, global_batch=15)
    reads: list[int] = []
    read = split.read_index

    def counted(shard: int) -> Any:
        reads.append(shard)
        return read(shard)

    monkeypatch.setattr(split, "read_index", counted)
    lookup.batch(0)
    assert sorted(reads) == [0, 1, 2, 3]
