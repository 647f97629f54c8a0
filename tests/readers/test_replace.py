"""What cannot be read: named, or replaced by the same item on any ranks, and never left out."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import moments, skeletons, write_videos

from clipshards.packer import pack
from clipshards.packer.format.errors import CorruptShardError, DatasetError, FormatError
from clipshards.readers import (
    ClassBalanced,
    Concat,
    DenseClip,
    ShardDataset,
    UniformClip,
    Weighted,
    open_dataset,
)
from clipshards.readers.draws import draw_substitute
from clipshards.readers.items import ItemReader
from clipshards.readers.split import Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ITEMS = 61
GLOBAL = 8
BATCHES = 8
HIT = 2
"""The shard that is damaged."""

Item = dict[str, Any]
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    records = skeletons(ITEMS, shape=(6, 5, 2), classes=4)
    pack(records, out, split="train", shard_size=30_000)
    assert len(open_dataset(out).manifest.shards) >= 5
    return out


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def shard_path(place: Path, shard: int = HIT) -> Path:
    return next((place).glob(f"*/*-{shard:06d}.tar"))


def change(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def flipped(place: Path) -> set[str]:
    """Flip a byte in each part of three samples; return their keys."""
    index = open_dataset(place).read_index(HIT)
    hit = {1: "keypoint.npy", 3: "json", len(index.keys) - 1: "keypoint.npy"}
    for sample, part in hit.items():
        columns = index.parts[part]
        change(shard_path(place), columns.offset[sample] + columns.size[sample] - 1)
    return {index.keys[sample] for sample in hit}


def truncated(place: Path) -> set[str]:
    keys = set(open_dataset(place).read_index(HIT).keys)
    with shard_path(place).open("r+b") as file:
        file.truncate(5_000)
    return keys


def removed(place: Path) -> set[str]:
    keys = set(open_dataset(place).read_index(HIT).keys)
    shard_path(place).unlink()
    return keys


def bad_index(place: Path) -> set[str]:
    split = open_dataset(place)
    keys = set(split.read_index(HIT).keys)
    change(shard_path(place), split.manifest.shards[HIT].index_offset + 30)
    return keys


DAMAGES = [flipped, truncated, removed, bad_index]


@pytest.fixture(params=DAMAGES, ids=lambda damage: damage.__name__)
def damaged(
    request: pytest.FixtureRequest, whole: Path, tmp_path: Path
) -> tuple[Path, Callable[[Path], set[str]], set[str]]:
    """A copy, how it was damaged, and the keys that cannot be had."""
    place = Path(shutil.copytree(whole, tmp_path / "damaged"))
    damage: Callable[[Path], set[str]] = request.param
    return place, damage, damage(place)


@pytest.fixture
def hurt(whole: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """A copy with flipped bytes, and the keys that cannot be had."""
    place = Path(shutil.copytree(whole, tmp_path / "hurt"))
    return place, flipped(place)


def made(source: Any, **options: Any) -> ShardDataset:
    source = open_dataset(source) if isinstance(source, Path) else source
    set_up: dict[str, Any] = {
        "global_batch": GLOBAL,
        "seed": 4,
        "clip": DenseClip(3),
        "on_error": "replace",
    }
    return ShardDataset(source, **(set_up | options))


def rows(batch: Item) -> Rows:
    """Return each item of a batch: what it is, its frames, whether it stands in for another."""
    valid = batch["valid"].tolist() if "valid" in batch else [True] * len(batch["key"])
    return list(
        zip(
            batch["key"],
            map(tuple, batch["frame_numbers"].tolist()),
            batch["replaced"].tolist(),
            valid,
            strict=True,
        )
    )


def batches_of(dataset: ShardDataset, epochs: int = 2) -> list[Rows]:
    return [
        rows(dataset.read_batch(epoch, number))
        for epoch in range(epochs)
        for number in range(len(dataset))
    ]


# Named


def test_an_item_that_cannot_be_read_is_named(
    damaged: tuple[Path, Callable[[Path], set[str]], set[str]],
) -> None:
    place, damage, keys = damaged
    dataset = made(place, on_error="raise")
    with pytest.raises(DatasetError) as caught:
        list(dataset)
    said = str(caught.value)
    assert f"{place}/train/train-{HIT:06d}.tar" in said
    if damage is flipped:
        assert isinstance(caught.value, CorruptShardError)
        assert any(f": {key}.keypoint.npy: " in said or f": {key}.json: " in said for key in keys)
        assert "bytes at " in said
    with pytest.raises(type(caught.value)):
        list(dataset.loader(threads=2))


def test_only_the_two_ways_are_known(whole: Path) -> None:
    with pytest.raises(
        ValueError, match=r"on_error 'skip': expected one of \('raise', 'replace'\)"
    ):
        made(whole, on_error="skip")


def test_a_batch_says_what_was_replaced_only_where_it_could(whole: Path) -> None:
    assert "replaced" not in made(whole, on_error="raise").read_batch(0, 0)
    batch = made(whole).read_batch(0, 0)
    assert batch["replaced"].tolist() == [False] * GLOBAL


# Replaced


def test_only_what_cannot_be_read_is_replaced(
    whole: Path, damaged: tuple[Path, Callable[[Path], set[str]], set[str]]
) -> None:
    place, _, keys = damaged
    expected, found = batches_of(made(whole)), batches_of(made(place))
    assert len(found) == len(expected) == 2 * BATCHES
    replaced = 0
    for before, now in zip(expected, found, strict=True):
        for was, new in zip(before, now, strict=True):
            assert new[2] == (was[0] in keys)
            assert new[3] == was[3]
            assert new[0] not in keys
            if not new[2]:
                assert new == was
            replaced += new[2] and new[3]
    assert replaced == 2 * len(keys)


def test_what_stands_in_for_an_item_differs_from_pass_to_pass(
    whole: Path, hurt: tuple[Path, set[str]]
) -> None:
    place, keys = hurt
    stand_ins: dict[str, set[str]] = {key: set() for key in keys}
    for before, now in zip(batches_of(made(whole), 6), batches_of(made(place), 6), strict=True):
        for was, new in zip(before, now, strict=True):
            if new[2]:
                stand_ins[was[0]].add(new[0])
    assert all(len(keys) >= 3 for keys in stand_ins.values())


def joined(shares: Iterable[Rows]) -> Counter[tuple[Any, ...]]:
    return Counter(row for share in shares for row in share)


TOPOLOGIES: list[tuple[int, dict[str, int]]] = [
    (1, {"threads": 3}),
    (1, {"workers": 2}),
    (2, {"threads": 0}),
    (4, {"threads": 2}),
    (2, {"workers": 1}),
]


@pytest.mark.parametrize(("ranks", "way"), TOPOLOGIES, ids=str)
def test_the_same_ones_stand_in_on_any_ranks_workers_and_threads(
    hurt: tuple[Path, set[str]], ranks: int, way: dict[str, int]
) -> None:
    place, _ = hurt
    expected = [Counter(batch) for batch in batches_of(made(place))]
    sets = [made(place, rank=rank, world_size=ranks) for rank in range(ranks)]
    loaders = [dataset.loader(**way) for dataset in sets]  # type: ignore[arg-type]
    shares = [[rows(batch) for _ in range(2) for batch in loader] for loader in loaders]
    # Ranks stay in step.
    assert {len(share) for share in shares} == {2 * BATCHES}
    assert [joined(batch) for batch in zip(*shares, strict=True)] == expected
    counted = sum(loader.accounting().replaced for loader in loaders)
    assert counted == sum(row[2] for share in shares for batch in share for row in batch) > 0
    for loader in loaders:
        loader.close()


@pytest.mark.parametrize("batch", [1, 5])
def test_the_same_ones_stand_in_after_a_resume(hurt: tuple[Path, set[str]], batch: int) -> None:
    place, _ = hurt
    expected = batches_of(made(place))
    dataset = made(place)
    state = dataset.state_after(dataset.read_batch(0, batch - 1)["position"])
    loader = made(place).loader(threads=2)
    loader.load_state_dict(state)
    found = [rows(one) for _ in range(2) for one in loader]
    assert found == expected[batch:]


def test_the_same_ones_stand_in_where_the_index_was_read_before_the_damage(
    whole: Path, tmp_path: Path
) -> None:
    """A process that knew the shard, and one that came later, stay in step."""
    place = Path(shutil.copytree(whole, tmp_path / "copy"))
    early = open_dataset(place)
    for item in range(len(early)):
        early.place_of(item)
    index = early.read_index(HIT)
    first = min(columns.offset[0] for columns in index.parts.values())
    with shard_path(place).open("r+b") as file:
        file.truncate(first)
    assert batches_of(made(early)) == batches_of(made(place))


def test_each_replaced_item_is_told_to_the_log(
    hurt: tuple[Path, set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    place, keys = hurt
    with caplog.at_level(logging.WARNING, logger="clipshards"):
        list(made(place, tail="drop", repeat=1, global_batch=1))
    told = [record for record in caplog.records if record.name == "clipshards"]
    assert len(told) == len(keys)
    assert {record.levelno for record in told} == {logging.WARNING}
    for key in keys:
        (one,) = [record.getMessage() for record in told if key in record.getMessage()]
        assert "gives way to item" in one
        assert f"{place}/train/train-{HIT:06d}.tar: {key}." in one


def test_an_error_of_the_transform_is_not_replaced(whole: Path) -> None:
    def fail(item: Item) -> Item:
        if item["key"].endswith("7"):
            raise FormatError("mine")
        return item

    for threads in (0, 2):
        with pytest.raises(FormatError, match=r"^mine"):
            list(made(whole, transform=fail).loader(threads=threads))


def test_an_error_of_the_transform_over_a_stand_in_is_not_replaced(
    hurt: tuple[Path, set[str]],
) -> None:
    place, _ = hurt
    stand_ins = {row[0] for batch in batches_of(made(place), 1) for row in batch if row[2]}

    def fail(item: Item) -> Item:
        if item["key"] in stand_ins:
            raise FormatError("mine")
        return item

    with pytest.raises(FormatError, match=r"^mine"):
        list(made(place, transform=fail))


def test_ten_in_a_row_are_too_many(whole: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "all"))
    split = open_dataset(place)
    for shard in range(len(split.manifest.shards)):
        columns = split.read_index(shard).parts["keypoint.npy"]
        for offset in columns.offset:
            change(shard_path(place, shard), offset)
    with pytest.raises(DatasetError, match=r"^10 items in a row cannot be read") as caught:
        made(place).read_batch(0, 0)
    assert f"{place}/train/train-" in str(caught.value)
    loader = made(place).loader(threads=2)
    with pytest.raises(DatasetError, match=r"^10 items in a row cannot be read"):
        list(loader)


def test_the_tenth_one_may_still_stand_in(whole: Path, tmp_path: Path) -> None:
    """All are damaged but the ninth stand-in of one item."""
    place = Path(shutil.copytree(whole, tmp_path / "most"))
    split = open_dataset(place)
    drawn = next(
        (item, others)
        for item in range(ITEMS)
        if (others := stand_ins_of(item))[8] not in {item, *others[:8]}
    )
    for item in set(range(ITEMS)) - {drawn[1][8]}:
        at = split.place_of(item)
        offset = split.read_index(at.shard).parts["keypoint.npy"].offset[at.sample]
        change(shard_path(place, at.shard), offset)
    reader = ItemReader(open_dataset(place), seed=4, on_error="replace")
    at = split.place_of(drawn[1][8])
    key = split.read_index(at.shard).keys[at.sample]
    assert reader.read(drawn[0], number=0)["key"] == key
    other = next(item for item in range(ITEMS) if drawn[1][8] not in {item, *stand_ins_of(item)})
    with pytest.raises(DatasetError, match=r"^10 items in a row"):
        reader.read(other, number=0)


def stand_ins_of(item: int) -> list[int]:
    return [
        draw_substitute(ITEMS, seed=4, number=0, item=item, attempt=attempt)
        for attempt in range(1, 10)
    ]


# Several splits, several items a sample


@pytest.fixture
def other(tmp_path: Path) -> Split:
    records = skeletons(23, shape=(6, 5, 2), classes=4)
    pack(records, tmp_path / "other", split="second", shard_size=30_000)
    return open_dataset(tmp_path / "other")


@pytest.mark.parametrize("mix", ["concat", "weighted", "balanced"])
def test_an_item_of_a_mix_gives_way_to_one_of_its_own_split(
    whole: Path, hurt: tuple[Path, set[str]], other: Split, mix: str
) -> None:
    def source(place: Path) -> Any:
        split = open_dataset(place)
        if mix == "concat":
            return Concat([other, split])
        if mix == "weighted":
            return Weighted([other, split], [1, 2], stop="all_exhausted")
        return ClassBalanced(split, 0.9)

    place, keys = hurt
    good, bad = made(source(whole)), made(source(place))
    replaced = 0
    for number in range(len(good)):
        before, now = good.read_batch(0, number), bad.read_batch(0, number)
        if mix != "balanced":
            assert before["source"].tolist() == now["source"].tolist()
            assert [key.split("-")[0] for key in now["key"]] == [
                ("second", "train")[split] for split in now["source"].tolist()
            ]
        assert now["replaced"].tolist() == [key in keys for key in before["key"]]
        for was, new in zip(rows(before), rows(now), strict=True):
            assert new == was or new[2]
        replaced += int(now["replaced"].sum())
    assert replaced >= len(keys)


def test_all_items_of_a_damaged_sample_are_replaced(tmp_path: Path) -> None:
    records = replace(moments(write_videos(tmp_path)), group="video")
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    place = tmp_path / "set"
    split = open_dataset(place)
    index = split.read_index(0)
    assert (len(index.keys), len(split)) == (4, 12)
    columns = index.parts["mp4"]
    change(shard_path(place, 0), columns.offset[2] + columns.size[2] // 2)
    dataset = made(place, clip=UniformClip(2), global_batch=4, tail="drop")
    keys: Counter[str] = Counter()
    for number in range(3):
        batch = dataset.read_batch(0, number)
        keys.update(
            key
            for key, one in zip(batch["key"], batch["replaced"].tolist(), strict=True)
            if not one
        )
        assert index.keys[2] not in batch["key"]
    assert keys == {key: 3 for key in index.keys if key != index.keys[2]}
