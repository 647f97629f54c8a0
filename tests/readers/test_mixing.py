"""Several splits as one stream, and the order of mmengine's runner."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer import ActivityNetRecord, SkeletonRecord, StateError, pack
from clipshards.readers import (
    ClassBalanced,
    Concat,
    DenseClip,
    ShardDataset,
    Split,
    Weighted,
    open_dataset,
)
from clipshards.readers.mixing import Source, as_source
from clipshards.readers.weighted_epochs import proportions

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

# Labels of each split's items.
LABELS: dict[str, list[tuple[int, ...]]] = {
    "large": [(n % 3,) for n in range(41)],
    "small": [(n % 2 + 3,) for n in range(7)],
    "rare": [*[(0,)] * 30, *[(1,)] * 6, (2,)],
    "many": [*[(0, 1)] * 10, *[(0,)] * 20, *[(0, 2)] * 2],
}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    out = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for name, labels in LABELS.items():
        records = [
            SkeletonRecord(
                id=f"{name}{number}",
                total_frames=5,
                keypoint=rng.random((1, 5, 3, 2)).astype(np.float32),
                labels=own,
            )
            for number, own in enumerate(labels)
        ]
        mode: Any = "many" if name == "many" else "one"
        pack(records, out, split=name, labels=mode, shard_size=15_000)
    return {name: open_dataset(out, split=name) for name in LABELS}


def ids(source: Source, epochs: Any, epoch: int, count: int) -> list[tuple[str, int]]:
    """Return the (id, pass) of the first positions of an epoch."""
    found = epochs.locate(epoch, np.arange(count, dtype=np.int64))
    return [
        (name_of(source, int(unit)), int(number))
        for unit, number in zip(found.items, found.passes, strict=True)
    ]


def name_of(source: Source, unit: int) -> str:
    place = source.place_of(unit)
    split = source.splits[place.split]
    where = split.place_of(place.item)
    return split.read_index(where.shard).ids[where.sample]


def test_concatenated_splits_are_one(splits: dict[str, Split]) -> None:
    source = Concat([splits["large"], splits["small"]])
    assert len(source) == 48
    epochs = source.epochs(seed=3, repeat=2)
    rows = ids(source, epochs, 0, 96)
    assert Counter(rows[:48]) == Counter(
        [(f"large{n}", 0) for n in range(41)] + [(f"small{n}", 0) for n in range(7)]
    )
    # Mixed, and not one behind the other.
    places = [place for place, (name, _) in enumerate(rows[:48]) if name.startswith("small")]
    assert max(places) - min(places) > 12
    # In the order of storage, one is behind the other.
    kept = ids(source, source.epochs(seed=None, repeat=1), 0, 48)
    assert [name[:5] for name, _ in kept] == ["large"] * 41 + ["small"] * 7


def test_items_of_several_splits_say_of_which(splits: dict[str, Split]) -> None:
    dataset = ShardDataset(
        Concat([splits["large"], splits["small"]]), batch_size=6, clip=DenseClip(2)
    )
    assert len(dataset) == 8
    seen = []
    for batch in dataset.loader(workers=2):
        seen += list(zip(batch["id"], batch["source"].tolist(), strict=True))
    assert set(seen) == {(f"large{n}", 0) for n in range(41)} | {(f"small{n}", 1) for n in range(7)}
    alone = ShardDataset(splits["small"], batch_size=2, clip=DenseClip(2))
    assert "source" not in alone.read_batch(0, 0)


weights = st.lists(st.integers(1, 9) | st.sampled_from([0.5, 0.1, 2.5]), min_size=2, max_size=2)


@settings(max_examples=30)
@given(weights, st.integers(0, 2**40), st.integers(0, 4))
def test_proportions_are_exact_over_each_window(
    splits: dict[str, Split], weights: list[float], seed: int, epoch: int
) -> None:
    source = Weighted([splits["large"], splits["small"]], weights, stop=1000)
    counts = proportions(weights)
    window = sum(counts)
    assert window >= 64
    share = Fraction(weights[0]) / sum(map(Fraction, weights))
    assert abs(Fraction(counts[0], window) - share) < Fraction(1, 1000)
    epochs = source.epochs(seed=seed, repeat=1)
    assert epochs.length == 1000
    found = epochs.locate(epoch, np.arange(3 * window, dtype=np.int64))
    of = np.array([source.place_of(int(unit)).split for unit in found.items])
    for place, count in enumerate(counts):
        assert [int((part == place).sum()) for part in of.reshape(3, window)] == [count] * 3
        # Each split goes through its own passes, item by item.
        size = len(source.splits[place])
        mine = [
            (int(unit), int(number))
            for unit, number, split in zip(found.items, found.passes, of, strict=True)
            if split == place
        ]
        assert len(set(mine)) == len(mine)
        per_pass = Counter(number for _, number in mine)
        assert sorted(per_pass.values())[::-1][: len(per_pass) - 1] == [size] * (len(per_pass) - 1)


@settings(max_examples=40)
@given(weights, st.integers(0, 2**40), st.sampled_from(["first_exhausted", "all_exhausted"]))
def test_an_epoch_ends_where_the_rule_says(
    splits: dict[str, Split], weights: list[float], seed: int, stop: Any
) -> None:
    names = ("large", "small")
    source = Weighted([splits[name] for name in names], weights, stop=stop)
    epochs = source.epochs(seed=seed, repeat=1)
    length = epochs.length
    assert length is not None
    found = epochs.locate(0, np.arange(length + 1, dtype=np.int64))
    of = np.array([source.place_of(int(unit)).split for unit in found.items])
    sizes = np.array([len(splits[name]) for name in names])

    def given(count: int) -> Any:
        return np.bincount(of[:count], minlength=2)

    if stop == "first_exhausted":
        assert (given(length) <= sizes).all()
        assert (given(length + 1) > sizes).any()
    else:
        assert (given(length) >= sizes).all()
        assert (given(length - 1) < sizes).any()
    # No pass is used in two epochs.
    passes = [
        set(
            zip(
                of[:length].tolist(),
                epochs.locate(epoch, np.arange(length, dtype=np.int64)).passes.tolist(),
                strict=True,
            )
        )
        for epoch in range(3)
    ]
    assert not passes[0] & passes[1]
    assert not passes[1] & passes[2]


def test_a_weighted_mix_goes_on_and_is_shared_like_any_other(splits: dict[str, Split]) -> None:
    def made(**options: Any) -> ShardDataset:
        mix = Weighted([splits["large"], splits["small"]], [3, 1], stop="all_exhausted")
        return ShardDataset(mix, global_batch=8, clip=DenseClip(2), seed=4, **options)

    whole = made()
    expected = [whole.read_batch(1, n)["id"] for n in range(len(whole))]
    shares = [
        [made(rank=rank, world_size=2).read_batch(1, n)["id"] for n in range(len(whole))]
        for rank in range(2)
    ]
    for left, right, whole_batch in zip(*shares, expected, strict=True):
        assert sorted(left + right) == sorted(whole_batch)
    loader = made().loader(workers=1)
    loader.dataset.set_epoch(1)
    for number, _ in enumerate(loader):
        if number == 2:
            break
    state = loader.state_dict()
    again = made().loader(workers=2)
    again.load_state_dict(state)
    assert [batch["id"] for batch in again] == expected[3:]
    other = Weighted([splits["large"], splits["small"]], [2, 1], stop="all_exhausted")
    with pytest.raises(StateError, match="source was"):
        ShardDataset(other, global_batch=8, clip=DenseClip(2), seed=4).load_state_dict(state)


def factors(labels: list[tuple[int, ...]], threshold: float) -> list[int]:
    """Return how often mmengine's ClassBalancedDataset repeats each item: its formula."""
    frequency = Counter(label for own in labels for label in set(own))
    repeat = {
        label: max(1.0, math.sqrt(threshold / (count / len(labels))))
        for label, count in frequency.items()
    }
    return [math.ceil(max(repeat[label] for label in set(own))) for own in labels]


@pytest.mark.parametrize("name", ["rare", "many", "large"])
@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.3, 1])
def test_rare_classes_come_as_often_as_the_formula_says(
    splits: dict[str, Split], name: str, threshold: float
) -> None:
    source = ClassBalanced(splits[name], threshold)
    expected = {f"{name}{n}": count for n, count in enumerate(factors(LABELS[name], threshold))}
    assert len(source) == sum(expected.values())
    rows = ids(source, source.epochs(seed=1, repeat=2), 0, 2 * len(source))
    for number in range(2):
        assert Counter(item for item, own in rows if own == number) == expected
    if (name, threshold) == ("rare", 0.3):
        # One in 37: sqrt(0.3 * 37) is 3.3.
        assert expected["rare36"] == 4


def test_each_copy_of_an_item_has_random_frames_of_its_own(splits: dict[str, Split]) -> None:
    source = ClassBalanced(splits["rare"], 1)
    dataset = ShardDataset(source, batch_size=8, clip=DenseClip(1), seed=2, tail="ragged")
    clips: dict[str, list[int]] = {}
    for number in range(len(dataset)):
        batch = dataset.read_batch(0, number)
        for key, frames in zip(batch["key"], batch["frame_numbers"].tolist(), strict=True):
            clips.setdefault(key, []).append(frames[0])
    most = max(clips.values(), key=len)
    assert len(most) > 3
    assert len(set(most)) > 1
    # And the same ones each time.
    again = [dataset.read_batch(0, n)["frame_numbers"].tolist() for n in range(len(dataset))]
    assert sorted(frames[0] for batch in again for frames in batch) == sorted(
        frame for own in clips.values() for frame in own
    )


def test_sources_can_be_nested(splits: dict[str, Split]) -> None:
    balanced = ClassBalanced(splits["rare"], 0.3)
    source = Weighted([Concat([splits["small"], balanced]), splits["large"]], [1, 1], stop=640)
    epochs = source.epochs(seed=0, repeat=1)
    names = Counter(name.rstrip("0123456789") for name, _ in ids(source, epochs, 0, 640))
    assert names["large"] == 320
    assert names["small"] + names["rare"] == 320
    assert min(names.values()) > 30


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_same_order_is_that_of_mmengines_sampler(
    splits: dict[str, Split], times: int, world: int
) -> None:
    split = splits["large"]
    stored = [
        key for shard in range(len(split.manifest.shards)) for key in split.read_index(shard).keys
    ]
    for epoch in range(2):
        # mmengine: DefaultSampler(shuffle=True, seed=9) over RepeatDataset(times).
        generator = torch.Generator()
        generator.manual_seed(9 + epoch)
        indices = torch.randperm(41 * times, generator=generator).tolist()
        for rank in range(world):
            mine = [stored[index % 41] for index in indices[rank::world]]
            dataset = ShardDataset(
                split, batch_size=4, clip=DenseClip(2), seed=9, repeat=times, same_order=True,
                rank=rank, world_size=world,
            )  # fmt: skip
            batches = [dataset.read_batch(epoch, number) for number in range(len(dataset))]
            keys = [key for batch in batches for key in batch["key"]]
            valid = [flag for batch in batches for flag in batch["valid"].tolist()]
            found = [key for key, flag in zip(keys, valid, strict=True) if flag]
            assert found == mine


WRONG: list[tuple[Callable[[dict[str, Split]], Any], str]] = [
    (lambda _: Concat([]), "expected at least one split"),
    (lambda s: Weighted([s["small"]], [1, 2], stop=5), "2 weights of 1 splits"),
    (lambda s: Weighted([s["small"]], [0], stop=5), "expected numbers above 0"),
    (lambda s: Weighted([s["small"]], [float("nan")], stop=5), "expected numbers above 0"),
    (lambda s: Weighted([s["small"], s["large"]], [1, 1e-9], stop=5), "below a thousandth"),
    (lambda s: Weighted([s["small"]], [1], stop=cast(Any, "never")), "stop 'never'"),
    (lambda s: Weighted([s["small"]], [1], stop=0), "stop 0"),
    (lambda s: ClassBalanced(s["rare"], 0), "threshold 0"),
    (lambda s: ClassBalanced(s["rare"], 1.5), "threshold 1.5"),
    (
        lambda s: ShardDataset(Concat([s["rare"], s["many"]]), batch_size=2),
        "has labels many, .* has one",
    ),
    (
        lambda s: ShardDataset(Weighted([s["rare"]], [1], stop=5), batch_size=2, repeat=2),
        "stop says how long an epoch is",
    ),
    (
        lambda s: ShardDataset(s["rare"], batch_size=2, repeat=0.5, same_order=True),
        "same_order: mmengine shuffles",
    ),
]


@pytest.mark.parametrize(("make", "says"), WRONG, ids=[says[:20] for _, says in WRONG])
def test_mixes_that_mean_nothing_are_refused(
    splits: dict[str, Split], make: Callable[[dict[str, Split]], Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make(splits)


def test_what_is_no_source_is_refused(splits: dict[str, Split]) -> None:
    with pytest.raises(TypeError, match="expected what open_dataset returns"):
        as_source("shards")
    with pytest.raises(TypeError, match="expected what open_dataset returns"):
        ClassBalanced(cast(Any, Concat([splits["rare"]])), 0.1)
    mix: Any = Weighted([splits["rare"]], [1], stop=5)
    for outer in (
        lambda: Concat([cast(Any, mix)]),
        lambda: Weighted([cast(Any, mix)], [1], stop=5),
    ):
        with pytest.raises(TypeError, match="cannot be mixed again"):
            outer()


def test_items_without_class_ids_cannot_be_balanced(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((4, 2), np.float32))
    record = ActivityNetRecord(
        id="v", features="v.npy", segments=((0.0, 0.5),), segment_labels=("run",), duration_s=0.8
    )
    pack([record], tmp_path / "out", split="train", media_root=tmp_path)
    with pytest.raises(ValueError, match="task activitynet have no class ids"):
        ClassBalanced(open_dataset(tmp_path / "out"), 0.1)
