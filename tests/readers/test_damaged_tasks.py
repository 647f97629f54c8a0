"""Damage to a split of each task: found by the lowest level that can see it, and never read."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pack_inputs import TASKS, job_of, write_world
from shard_regions import BLOCK, DAMAGE, Region, flip, regions

from clipshards.packer.format.errors import DatasetError
from clipshards.readers import ShardDataset, ShardMapDataset, open_dataset, verify
from clipshards.readers.findings import Finding
from clipshards.readers.split import Split
from clipshards.readers.webdataset import samples

HIT = 1
"""The shard that is damaged."""
Item = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def intact(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed split of each task: look, do not write."""
    place = tmp_path_factory.mktemp("intact")
    for task in TASKS:
        assert job_of(task, world, place / task).run().shards >= 3
    return place


@pytest.fixture
def place(task: str, intact: Path, tmp_path: Path) -> Path:
    """A copy of the task's split, to be damaged."""
    return Path(shutil.copytree(intact / task, tmp_path / "set"))


def shards_of(place: Path) -> list[Path]:
    return sorted((place / "t").glob("*.tar"))


def name_of(number: int) -> str:
    return f"t-{number:06d}.tar"


def messages(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def items_of(split: Split, shard: int = HIT) -> range:
    """Return the numbers of the items of a shard."""
    start = split.first_item_of(shard)
    return range(start, start + split.manifest.shards[shard].items)


def as_values(item: Item) -> Item:
    """Return an item in values that `==` compares."""
    return {
        name: (np.asarray(value).shape, np.asarray(value).tobytes())
        if hasattr(value, "shape")
        else value
        for name, value in item.items()
    }


def read_items(split: Split, numbers: range) -> dict[int, Item]:
    reading = ShardMapDataset(split)
    return {number: as_values(reading[number]) for number in numbers}


def hit_places(split_regions: list[Region], rng: random.Random) -> Iterator[tuple[Region, int]]:
    """Yield some places in each kind of region of each part."""
    seen: dict[tuple[str, str], int] = {}
    for region in split_regions:
        seen[region.kind, region.part] = seen.get((region.kind, region.part), 0) + 1
        if seen[region.kind, region.part] <= 2:
            yield region, rng.randrange(region.start, region.stop)
            yield region, rng.choice((region.start, region.stop - 1))


def check_flip(place: Path, region: Region) -> None:
    """Quick sees nothing of it in a folder, full names the shard, sample and part."""
    findings = verify(place).damage
    assert {finding.shard for finding in findings} == {name_of(HIT)}, messages(findings)
    named = {(finding.key, finding.part) for finding in findings if finding.key}
    assert named == ({(region.key, region.part)} if region.key else set()), messages(findings)
    assert len(findings) > 2, messages(findings)


def check_reading(split: Split, expected: dict[int, Item], region: Region) -> None:
    """Each item is what it was, or is an error that names the shard; index and parts are."""
    wrong = errors_of(ShardMapDataset(split), expected)
    assert all(name_of(HIT) in text for text in wrong)
    if region.kind == "index":
        assert len(wrong) == len(expected)
    elif region.kind == "payload":
        assert wrong
        assert all(region.key in text for text in wrong)
    else:
        assert not wrong


@pytest.mark.parametrize("task", TASKS)
def test_an_intact_split_is_whole_on_all_levels(task: str, intact: Path) -> None:
    for level in ("quick", "full", "deep"):
        assert verify(intact / task, level=level).findings == []  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_a_flipped_bit_is_found_and_never_read(task: str, intact: Path, place: Path) -> None:
    shard = shards_of(place)[HIT]
    split = open_dataset(place)
    expected = read_items(split, items_of(split))
    rng = random.Random(task)
    for region, at in hit_places(regions(intact / task, HIT), rng):
        bit = rng.randrange(8)
        flip(shard, at, bit)
        assert verify(place, level="quick").whole
        check_flip(place, region)
        check_reading(open_dataset(place), expected, region)
        flip(shard, at, bit)
    assert verify(place).whole


@pytest.mark.deep
@pytest.mark.parametrize("task", TASKS)
def test_every_flipped_byte_is_found_and_never_read(task: str, intact: Path, place: Path) -> None:
    shard = shards_of(place)[HIT]
    split = open_dataset(place)
    expected = read_items(split, items_of(split))
    rng = random.Random(task)
    for region in regions(intact / task, HIT):
        places = range(region.start, region.stop)
        for at in rng.sample(places, min(20, len(places))) if region.kind == "payload" else places:
            bit = rng.randrange(8)
            flip(shard, at, bit)
            check_flip(place, region)
            if region.kind in ("payload", "index") or at % 16 == 0:
                check_reading(open_dataset(place), expected, region)
            flip(shard, at, bit)


@pytest.mark.parametrize("task", TASKS)
def test_a_cut_shard_is_found_by_its_size(task: str, place: Path) -> None:
    shard = shards_of(place)[HIT]
    data = shard.read_bytes()
    split = open_dataset(place)
    entry = split.manifest.shards[HIT]
    index_end = entry.index_offset + entry.index_bytes
    expected = read_items(split, items_of(split))
    rng = random.Random(task)
    ends = {*range(0, len(data), BLOCK), *(rng.randrange(len(data)) for _ in range(20))}
    for end in sorted(ends):
        shard.write_bytes(data[:end])
        (finding,) = verify(place, level="quick").damage
        assert (finding.shard, finding.found) == (name_of(HIT), f"{end} bytes")
    for end in rng.sample(sorted(ends), 12):
        shard.write_bytes(data[:end])
        assert {finding.shard for finding in verify(place).damage} == {name_of(HIT)}
        # Opened before the cut, with the index in memory, and behind it.
        for reading in (split, open_dataset(place)):
            errors = errors_of(ShardMapDataset(reading), expected)
            assert all(name_of(HIT) in text for text in errors)
            assert len(errors) == len(expected) or reading is split or end >= index_end


def errors_of(reading: ShardMapDataset, expected: dict[int, Item]) -> list[str]:
    """Read items, which must be the expected ones; return what those say that cannot be read."""
    errors = []
    for number, item in expected.items():
        try:
            found = as_values(reading[number])
        except DatasetError as exc:
            errors.append(str(exc))
        else:
            assert found == item
    return errors


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("task", TASKS)
def test_damaged_files_are_found_and_never_read(
    task: str, kind: str, intact: Path, place: Path
) -> None:
    damage, shards = DAMAGE[kind], shards_of(place)
    sizes = [shard.stat().st_size for shard in shards]
    damage.do(shards)
    named = {name_of(number if number >= 0 else len(shards)) for number in damage.shards}
    quick = {finding.shard for finding in verify(place, level="quick").damage}
    if damage.level == "quick" or (damage.level == "quick or full" and sizes[1] != sizes[2]):
        assert quick == named
    else:
        assert quick == set()
    for level in ("full", "deep"):
        found = verify(place, level=level)  # type: ignore[arg-type]
        assert {finding.shard for finding in found.damage} == named, messages(found.damage)
    split, original = open_dataset(place), open_dataset(intact / task)
    for number in range(3):
        expected = read_items(original, items_of(original, number))
        if name_of(number) not in named:
            assert read_items(split, items_of(split, number)) == expected
            continue
        if damage.readable:
            assert read_items(split, items_of(split, number)) == expected
            continue
        for item in expected:
            with pytest.raises(DatasetError, match=name_of(number)):
                ShardMapDataset(split)[item]


@pytest.mark.parametrize("task", TASKS)
def test_an_altered_manifest_is_found_and_not_opened(task: str, place: Path) -> None:
    manifest = place / "t" / "manifest.json"
    rng = random.Random(task)
    for at in rng.sample(range(manifest.stat().st_size), 100):
        check_manifest(place, manifest, at, rng.randrange(8))


@pytest.mark.deep
@pytest.mark.parametrize("task", TASKS)
def test_every_altered_byte_of_a_manifest_is_found(task: str, place: Path) -> None:
    manifest = place / "t" / "manifest.json"
    rng = random.Random(task)
    for at in range(manifest.stat().st_size):
        check_manifest(place, manifest, at, rng.randrange(8))


def check_manifest(place: Path, manifest: Path, at: int, bit: int) -> None:
    flip(manifest, at, bit)
    (finding,) = verify(place, level="quick").damage
    assert finding.shard == "manifest.json"
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        open_dataset(place)
    flip(manifest, at, bit)


@pytest.mark.parametrize("task", TASKS)
def test_an_old_manifest_is_found(task: str, world: Path, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    job_of(task, world, other, seed=5).run()
    shutil.copy(other / "t" / "manifest.json", place / "t" / "manifest.json")
    report = verify(place)
    assert not report.whole
    split = open_dataset(place)
    for item in range(len(split)):
        with pytest.raises(DatasetError, match=r"t-\d{6}\.tar"):
            ShardMapDataset(split)[item]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("change", ["flipped", "missing", "empty"])
def test_rejects_that_are_not_the_manifests_are_found(task: str, change: str, place: Path) -> None:
    rejects = place / "t" / "rejects.jsonl"
    data = rejects.read_bytes()
    changes: dict[str, Callable[[], object]] = {
        "flipped": lambda: rejects.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:]),
        "missing": rejects.unlink,
        "empty": lambda: rejects.write_bytes(b""),
    }
    if not data and change != "missing":
        pytest.skip("nothing was rejected")
    changes[change]()
    report = verify(place, level="quick" if change == "missing" else "full")
    assert {finding.shard for finding in report.damage} == {"rejects.jsonl"}


@pytest.mark.parametrize("task", TASKS)
def test_epochs_replace_what_is_damaged_and_count_it(task: str, intact: Path, place: Path) -> None:
    rng = random.Random(task)
    payload = [region for region in regions(intact / task, HIT) if region.kind == "payload"]
    region = rng.choice(payload)
    flip(shards_of(place)[HIT], rng.randrange(region.start, region.stop))
    with pytest.raises(DatasetError, match=region.key):
        list(batches_of(place, on_error="raise"))
    dataset = ShardDataset(
        open_dataset(place), batch_size=4, on_error="replace", transform=as_text, tail="ragged"
    )
    loader = dataset.loader(threads=0)
    found = [text for batch in loader for text in zip(*columns(batch), strict=True)]
    whole = {text for batch in batches_of(intact / task) for text in batch["text"]}
    replaced = sum(replaced for _, replaced in found)
    assert replaced >= 1
    kept = [text for text, was_replaced in found if not was_replaced]
    assert len(set(kept)) == len(kept)
    assert {text for text, _ in found} < whole
    assert not any(region.key in text for text, _ in found)
    assert len(found) == len(open_dataset(place))
    assert loader.accounting().replaced == replaced


def as_text(item: Item) -> Item:
    """Return an item whose batches need no arrays of one shape."""
    return {"text": repr(sorted(as_values(item).items()))}


def columns(batch: Item) -> tuple[list[str], list[bool]]:
    return batch["text"], list(map(bool, batch["replaced"]))


def batches_of(place: Path, **options: Any) -> Iterator[Item]:
    dataset = ShardDataset(
        open_dataset(place), batch_size=4, transform=as_text, tail="ragged", **options
    )
    yield from dataset.loader(threads=0)


@pytest.mark.parametrize("task", TASKS)
def test_raw_samples_of_a_damaged_shard_are_an_error(task: str, intact: Path, place: Path) -> None:
    def read(location: Path) -> dict[str, Item]:
        return {one["__key__"]: one | {"__url__": ""} for one in samples(location)}

    expected = read(intact / task)
    assert read(place) == expected
    rng = random.Random(task)
    shard = shards_of(place)[HIT]
    for region, at in hit_places(regions(intact / task, HIT), rng):
        flip(shard, at)
        if region.kind in ("payload", "index"):
            with pytest.raises(DatasetError, match=name_of(HIT)):
                read(place)
        else:
            assert read(place) == expected
        flip(shard, at)


def test_a_file_that_may_not_be_read_is_named(intact: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(intact / "skeleton", tmp_path / "set"))
    shard = shards_of(place)[HIT]
    shard.chmod(0)
    if os.access(shard, os.R_OK):
        pytest.skip("this user reads everything")
    assert {finding.shard for finding in verify(place).damage} == {name_of(HIT)}
