"""Damaged splits under the readers: the right items, or an error that names what is damaged."""

import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import damage
import numpy as np
import pytest
from damage import Damage, damaged
from tiny_splits import TINY, TinySplit, tiny_split

from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.names import MANIFEST_NAME
from clipshards.packer.format.structure import SOUND_SUFFIXES
from clipshards.readers import ShardDataset, ShardMapDataset, UniformClip, byte_ranges, open_dataset
from clipshards.readers.strict_tar import read_tar
from clipshards.readers.webdataset import samples

_MOST_SECONDS = 60

VIDEOS = ("video", "rawframes", "ava", "activitynet")
"""Tasks of which readers decode videos."""


class Delivered(NamedTuple):
    """One item or sample as a training run gets it."""

    content: Any
    replaced: bool = False


Way = Callable[[Path], Iterator[Delivered]]


def plain(value: Any) -> Any:
    """Return a value that is equal to another one's only where all bytes of both are."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def keep(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate items of different shapes."""
    return {"items": [plain(item) for item in items]}


def by_number(location: Path) -> Iterator[Delivered]:
    dataset = ShardMapDataset(open_dataset(location))
    for number in range(len(dataset)):
        yield Delivered(plain(dataset[number]))


def in_batches(location: Path) -> Iterator[Delivered]:
    dataset = ShardDataset(
        open_dataset(location), batch_size=3, seed=3, tail="ragged", collate=keep, clip=CLIP
    )
    for batch in dataset:
        yield from map(Delivered, batch["items"])


def with_substitutes(location: Path) -> Iterator[Delivered]:
    dataset = ShardDataset(
        open_dataset(location),
        batch_size=3,
        seed=3,
        tail="ragged",
        collate=keep,
        on_error="replace",
        clip=CLIP,
    )
    loader = dataset.loader(threads=0)
    counted = 0
    for batch in loader:
        flags = batch["replaced"].tolist()
        counted += sum(flags)
        yield from map(Delivered, batch["items"], flags)
    assert loader.accounting().replaced == counted


def raw(location: Path) -> Iterator[Delivered]:
    for sample in samples(location, seed=3):
        yield Delivered({**sample, "__url__": Path(sample["__url__"]).name})


CLIP = UniformClip(2)
WAYS: dict[str, Way] = {
    "by number": by_number,
    "in batches": in_batches,
    "with substitutes": with_substitutes,
    "raw": raw,
}


@pytest.fixture(autouse=True)
def _nothing_hangs() -> Iterator[None]:
    def end(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {_MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> TinySplit:
    """A split of each task."""
    return tiny_split(request.param)


@pytest.fixture
def folder(tiny: TinySplit, tmp_path: Path) -> Path:
    """The folder of the split, to be damaged."""
    return tiny.write(tmp_path / "set")


@pytest.fixture
def _only_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small videos count as long, of which only the packets that clips show are read."""
    joining = byte_ranges.NEAR._replace(long=500, gap=64)
    monkeypatch.setattr(byte_ranges, "NEAR", joining)


def without_key(content: Any) -> Any:
    return {name: value for name, value in content.items() if name not in ("key", "__key__")}


class Reader:
    """Reads a split in each way, and knows what comes out of the intact one."""

    def __init__(self, folder: Path, tiny: TinySplit) -> None:
        self.folder = folder
        self.intact = {way: [one.content for one in self.epoch(way)] for way in WAYS}
        self.file_of = {
            key: name
            for number, name in enumerate(tiny.shards)
            for key in damage.index_of(tiny, number).keys
        }

    def epoch(self, way: str) -> Iterator[Delivered]:
        return WAYS[way](self.folder.parent)

    def check(self, one: Damage, way: str) -> list[str]:
        """Read an epoch of the damaged split; return the keys of items that were replaced.

        Only what reading does not need may have been damaged where no error comes.
        """
        got: list[Delivered] = []
        message = ""
        try:
            got.extend(self.epoch(way))
        except DatasetError as exc:
            message = str(exc)
        expected = self.intact[way]
        about = f"{one.name}, {way}, {len(got)} of {len(expected)}: {message}"
        if message:
            assert any(name in message for name in (*one.files, MANIFEST_NAME)), about
        else:
            assert len(got) == len(expected), about
        replaced = []
        for found, right in zip(got, expected, strict=False):
            if found.replaced:
                assert found.content in expected, about
                replaced.append(right["key"])
            elif one.sealed:
                assert without_key(found.content) == without_key(right), about
            else:
                assert found.content == right, about
        assert {self.file_of[key] for key in replaced} <= one.files, about
        return ["error"] if message else replaced


def check_ways(reader: Reader, tiny: TinySplit, one: Damage, ways: Iterable[str]) -> None:
    with damaged(reader.folder, tiny, one):
        for way in ways:
            signal.alarm(_MOST_SECONDS)
            reader.check(one, way)
            signal.alarm(0)


def check_some(folder: Path, tiny: TinySplit, damages: Iterable[Damage], share: float) -> None:
    rng = random.Random(tiny.task)
    reader = Reader(folder, tiny)
    for one in damages:
        if rng.random() < share:
            check_ways(reader, tiny, one, rng.sample([*WAYS], 2))


def test_damage_gives_an_error_or_the_right_items(folder: Path, tiny: TinySplit) -> None:
    rng = random.Random(tiny.task)
    number = rng.randrange(2)
    check_some(folder, tiny, damage.whole_matrix(tiny, rng, number=number), 0.1)
    check_some(folder, tiny, damage.of_whole_shards(tiny, number), 1)
    check_some(folder, tiny, damage.of_other_packs(tiny, number), 1)
    check_some(folder, tiny, damage.doubled_keys(tiny), 1)


@pytest.mark.usefixtures("_only_packets")
@pytest.mark.parametrize("tiny", VIDEOS, indirect=True)
def test_damaged_packets_give_an_error_or_the_right_items(folder: Path, tiny: TinySplit) -> None:
    rng = random.Random(4)
    payloads = damage.flips(tiny, 0, rng, each=8, kinds={"payload"})
    check_some(folder, tiny, payloads, 0.5)
    check_some(folder, tiny, damage.truncations(tiny, 0, rng, more=10), 0.3)


@pytest.mark.deep
def test_every_damage_gives_an_error_or_the_right_items(folder: Path, tiny: TinySplit) -> None:
    reader = Reader(folder, tiny)
    for one in damage.whole_matrix(tiny, random.Random(0), each=5):
        check_ways(reader, tiny, one, WAYS)


@pytest.mark.deep
@pytest.mark.usefixtures("_only_packets")
@pytest.mark.parametrize("tiny", VIDEOS, indirect=True)
def test_every_damage_to_packets_gives_an_error_or_the_right_items(
    folder: Path, tiny: TinySplit
) -> None:
    reader = Reader(folder, tiny)
    rng = random.Random(0)
    payloads = damage.flips(tiny, 0, rng, each=60, kinds={"payload"})
    for one in (*payloads, *damage.whole_matrix(tiny, rng)):
        check_ways(reader, tiny, one, ("in batches", "with substitutes"))


def test_an_altered_part_replaces_the_items_of_its_sample_and_no_others(
    folder: Path, tiny: TinySplit
) -> None:
    reader = Reader(folder, tiny)
    for one in damage.flips(tiny, 0, random.Random(1), each=2, kinds={"payload"}):
        assert one.members
        ((key, part),) = one.members
        # Sounds are packed for others, items do not have them.
        read = part not in SOUND_SUFFIXES
        with damaged(folder, tiny, one):
            items = [item["key"] for item in reader.intact["in batches"]]
            expected = [name for name in items if name == key and read]
            assert reader.check(one, "with substitutes") == expected
            assert reader.check(one, "in batches") == (["error"] if read else [])
            assert reader.check(one, "raw") == ["error"]


def test_an_altered_index_replaces_the_items_of_its_shard_and_no_others(
    folder: Path, tiny: TinySplit
) -> None:
    reader = Reader(folder, tiny)
    for one in damage.flips(tiny, 0, random.Random(2), each=5, kinds={"index"}):
        with damaged(folder, tiny, one):
            items = [item["key"] for item in reader.intact["in batches"]]
            expected = [key for key in items if reader.file_of[key] in one.files]
            assert reader.check(one, "with substitutes") == expected
            for way in ("by number", "in batches", "raw"):
                assert reader.check(one, way) == ["error"]


def test_what_readers_do_not_use_does_not_disturb_them(folder: Path, tiny: TinySplit) -> None:
    rng = random.Random(3)
    reader = Reader(folder, tiny)
    kinds = set(damage.KINDS) - {"payload", "index"}
    for one in damage.flips(tiny, 0, rng, each=2, kinds=kinds):
        with damaged(folder, tiny, one):
            assert reader.check(one, rng.choice([*WAYS])) == []


def test_damage_that_comes_while_a_split_is_open_is_an_error_or_not_read(
    folder: Path, tiny: TinySplit
) -> None:
    rng = random.Random(6)
    expected = [one.content for one in by_number(folder.parent)]
    errors: list[tuple[Damage, str]] = []
    for one in (
        *rng.sample(list(damage.truncations(tiny, 0, rng, more=10)), 8),
        *damage.flips(tiny, 0, rng, each=2, kinds={"payload", "index"}),
        *damage.of_whole_shards(tiny, 0),
        *damage.of_other_packs(tiny, 0),
    ):
        dataset = ShardMapDataset(open_dataset(folder.parent))
        # Manifest and indexes are in memory, and files are open.
        assert [plain(dataset[number]) for number in range(len(dataset))] == expected
        with damaged(folder, tiny, one):
            for number, right in enumerate(expected):
                try:
                    assert plain(dataset[number]) == right, one.name
                except DatasetError as exc:
                    errors.append((one, str(exc)))
    assert len(errors) > 10
    for one, message in errors:
        assert any(name in message for name in one.files), f"{one.name}: {message}"


def test_a_shard_read_as_a_foreign_tar_is_never_shorter(folder: Path, tiny: TinySplit) -> None:
    rng = random.Random(5)
    shard = folder / tiny.shards[0]

    def read() -> list[tuple[str, dict[str, bytes]]]:
        return [(sample.key, sample.parts) for sample in read_tar(str(shard))]

    expected = read()
    # It has no checksums of payloads.
    kinds = set(damage.KINDS) - {"payload"}
    messages: list[str] = []
    for one in (
        *damage.flips(tiny, 0, rng, each=3, kinds=kinds),
        *damage.header_fields(tiny, 0, rng),
        *damage.truncations(tiny, 0, rng, more=10),
    ):
        with damaged(folder, tiny, one):
            try:
                assert read() == expected, one.name
            except DatasetError as exc:
                messages.append(str(exc))
    assert len(messages) > 30
    assert all(shard.name in message for message in messages)
