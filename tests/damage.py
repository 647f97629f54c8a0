"""What can happen to a packed split on a disk, and what a check must say of it."""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import shard_regions
from shard_regions import Region
from tiny_splits import TinySplit, tiny_split

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import (
    INDEX_MEMBER,
    MANIFEST_NAME,
    REJECTS_NAME,
    member_name,
)
from clipshards.packer.format.tar import BLOCK, encode_header
from clipshards.readers.findings import Level

Members = frozenset[tuple[str, str]]
"""Key and part of members."""


@dataclass(frozen=True)
class Damage:
    """One damage of a split."""

    name: str
    do: Callable[[Path], object]
    """Changes files in the split's folder."""
    files: frozenset[str]
    """That a check of every byte names, and no others."""
    quick: frozenset[str] = frozenset()
    """That level quick names; empty where no size tells."""
    members: Members | None = frozenset()
    """That a check of every byte accuses; None where that depends on what stands there now."""
    says: str = ""
    """Words of one of the findings."""
    sealed: bool = False
    """Whether all checksums are right: a writer's fault, not a disk's."""

    @property
    def level(self) -> Level:
        """The lowest level that sees it."""
        return "quick" if self.quick else "full"


# Kind of a region -> words of the finding when one of its bytes is another one.
_WORDS = {
    "header": "in front of ",
    "payload": "the bytes were altered",
    "padding": "the padding behind it is not zero",
    "index header": f"in front of {INDEX_MEMBER}",
    "index": "index: ",
    "index padding": "the padding behind the index is not zero",
    "trailer": "zero bytes as the end",
}
KINDS = tuple(_WORDS)


def manifest_of(tiny: TinySplit) -> Manifest:
    """Return the manifest of an intact split."""
    return Manifest.decode(tiny.files[MANIFEST_NAME], where=tiny.task)


def index_of(tiny: TinySplit, number: int) -> ShardIndex:
    """Return the index of a shard of an intact split."""
    entry = manifest_of(tiny).shards[number]
    data = tiny.files[entry.name][entry.index_offset :][: entry.index_bytes]
    return ShardIndex.decode(data, where=entry.name)


def regions(tiny: TinySplit, number: int) -> list[Region]:
    """Return what each byte of a shard is for, from the first to the last."""
    with TemporaryDirectory() as location:
        tiny.write(Path(location))
        return shard_regions.regions(Path(location), number)


@contextmanager
def damaged(folder: Path, tiny: TinySplit, damage: Damage) -> Iterator[None]:
    """Damage a split that stands in a folder; all is as it was afterwards."""
    try:
        damage.do(folder)
        yield
    finally:
        for path in folder.iterdir():
            if path.is_symlink() or not path.is_file() or path.name not in tiny.files:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, data in tiny.files.items():
            path = folder / name
            if path.exists():
                path.chmod(0o644)
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)


def replaced(name: str, data: bytes) -> Callable[[Path], object]:
    """Return what gives a file other bytes."""
    return lambda folder: (folder / name).write_bytes(data)


def flipped(data: bytes, place: int, bit: int) -> bytes:
    """Return bytes of which one bit is another one."""
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def flip(tiny: TinySplit, number: int, region: Region, place: int, bit: int) -> Damage:
    """Return a flipped bit in a shard."""
    name = manifest_of(tiny).shards[number].name
    return Damage(
        f"bit {bit} of byte {place} of {name}, {region.kind} {region.key} {region.part}",
        replaced(name, flipped(tiny.files[name], place, bit)),
        frozenset({name}),
        members=frozenset({(region.key, region.part)} if region.key else ()),
        says=_WORDS[region.kind],
    )


def flips(
    tiny: TinySplit, number: int, rng: random.Random, *, each: int | None, kinds: Iterable[str]
) -> Iterator[Damage]:
    """Yield flipped bits of a shard.

    Args:
        tiny: The split.
        number: Of the shard.
        rng: Draws bits and places.
        each: Bytes of each region, its first and last among them; None for all.
        kinds: Of the regions.
    """
    kinds = set(kinds)
    for region in regions(tiny, number):
        if region.kind in kinds:
            places: Iterable[int] = range(region.start, region.stop)
            if each is not None:
                inner = (rng.randrange(region.start, region.stop) for _ in range(each - 2))
                places = {region.start, region.stop - 1, *inner}
            for place in places:
                yield flip(tiny, number, region, place, rng.randrange(8))


def header_fields(tiny: TinySplit, number: int, rng: random.Random) -> Iterator[Damage]:
    """Yield a flipped bit in each field of one header, and of the one of the index."""
    fields = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 263, 265, 297, 329, 337, 345, 500)
    headers = [region for region in regions(tiny, number) if "header" in region.kind]
    for region in (rng.choice(headers), headers[-1]):
        for start, stop in zip(fields, (*fields[1:], BLOCK), strict=True):
            place = region.start + rng.randrange(start, stop)
            yield flip(tiny, number, region, place, rng.randrange(8))


def truncations(tiny: TinySplit, number: int, rng: random.Random, *, more: int) -> Iterator[Damage]:
    """Yield a shard that ends at each of its blocks, and at some places between them."""
    name = manifest_of(tiny).shards[number].name
    data, found = tiny.files[name], regions(tiny, number)
    between = (rng.randrange(1, len(data)) for _ in range(more))
    for size in sorted({*range(0, len(data), BLOCK), *between, len(data) - 1}):
        cut = next(region for region in found if region.start <= size < region.stop)
        # The index is gone, but a header says which part the file ends in.
        named = cut.kind in ("payload", "padding")
        yield Damage(
            f"{name} ends at byte {size}, {cut.kind} {cut.key} {cut.part}",
            partial(_cut, name=name, size=size),
            frozenset({name}),
            frozenset({name}),
            members=frozenset({(cut.key, cut.part)} if named else ()),
            says=f"size: expected {len(data)} bytes, got {size} bytes",
        )


def _cut(folder: Path, *, name: str, size: int) -> None:
    os.truncate(folder / name, size)


def holes(tiny: TinySplit, number: int) -> Iterator[Damage]:
    """Yield a shard with zeros where one or two of its blocks never reached the disk."""
    name = manifest_of(tiny).shards[number].name
    data = tiny.files[name]
    for start in range(0, len(data), BLOCK):
        for size in (BLOCK, 2 * BLOCK):
            changed = data[:start] + bytes(size) + data[start + size :]
            if changed != data and len(changed) == len(data):
                do = replaced(name, changed)
                what = f"{size} bytes of zeros at byte {start} of {name}"
                yield Damage(what, do, frozenset({name}), members=None)


def manifest_flips(tiny: TinySplit, rng: random.Random, *, step: int = 1) -> Iterator[Damage]:
    """Yield a flipped bit in bytes of the manifest: in all, or in one of so many."""
    data = tiny.files[MANIFEST_NAME]
    for place in range(rng.randrange(step), len(data), step):
        bit = rng.randrange(8)
        what = f"bit {bit} of byte {place} of the manifest"
        yield _of_manifest(what, replaced(MANIFEST_NAME, flipped(data, place, bit)))


def _of_manifest(what: str, do: Callable[[Path], object]) -> Damage:
    file = frozenset({MANIFEST_NAME})
    return Damage(what, do, file, file, says=MANIFEST_NAME)


def of_the_manifest(tiny: TinySplit, rng: random.Random) -> Iterator[Damage]:
    """Yield what happens to a manifest as a whole; other than that it goes."""
    data = tiny.files[MANIFEST_NAME]
    for size in (0, 1, rng.randrange(len(data)), len(data) - 1):
        what = f"the manifest ends at byte {size}"
        yield _of_manifest(what, replaced(MANIFEST_NAME, data[:size]))
    yield _of_manifest("more behind the manifest", replaced(MANIFEST_NAME, data + b"\n"))
    yield _of_manifest("zeros for a manifest", replaced(MANIFEST_NAME, bytes(len(data))))


def of_the_rejects(tiny: TinySplit, rng: random.Random) -> Iterator[Damage]:
    """Yield what happens to the list of rejects."""
    data, file = tiny.files[REJECTS_NAME], frozenset({REJECTS_NAME})

    def damage(what: str, do: Callable[[Path], object], *, quick: bool = False) -> Damage:
        return Damage(f"rejects {what}", do, file, file if quick else frozenset())

    yield damage("missing", lambda folder: (folder / REJECTS_NAME).unlink(), quick=True)
    yield damage("a folder", partial(instead, REJECTS_NAME, Path.mkdir), quick=True)
    yield damage("a pipe", partial(instead, REJECTS_NAME, os.mkfifo), quick=True)
    yield damage("longer", replaced(REJECTS_NAME, data + b"{}\n"))
    if data:
        yield damage("empty", replaced(REJECTS_NAME, b""))
        yield damage("doubled", replaced(REJECTS_NAME, data * 2))
        for place in {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(8))}:
            do = replaced(REJECTS_NAME, flipped(data, place, rng.randrange(8)))
            yield damage(f"flipped in byte {place}", do)


def instead(name: str, make: Callable[[Path], object], folder: Path) -> None:
    """Put something else in the place of a file."""
    (folder / name).unlink()
    make(folder / name)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing of this name")


def _unreadable(path: Path) -> None:
    # Reading this file at 0 fails, whoever tries.
    path.symlink_to("/proc/self/mem")


def of_whole_shards(tiny: TinySplit, number: int) -> Iterator[Damage]:
    """Yield what happens to a shard as a whole, and to several of them."""
    manifest = manifest_of(tiny)
    name = manifest.shards[number].name
    data, file = tiny.files[name], frozenset({name})
    gone: dict[str, Callable[[Path], object]] = {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link to nothing": _link_to_nothing,
    }
    yield Damage("missing", lambda folder: (folder / name).unlink(), file, file, says="missing")
    for what, make in gone.items():
        yield Damage(what, partial(instead, name, make), file, file, says="missing")
    yield Damage("empty", replaced(name, b""), file, file, says="got 0 bytes")
    if Path("/proc/self/mem").exists():
        do = partial(instead, name, _unreadable)
        yield Damage("unreadable", do, file, file, says="size: ")
    if os.geteuid():
        do = partial(_locked, name)
        yield Damage("not ours to read", do, file, says="cannot be read: ")
    for more in (b"\0", bytes(BLOCK), bytes(20 * BLOCK), b"x", data):
        what = f"{len(more)} bytes behind the end"
        yield Damage(what, replaced(name, data + more), file, file, says="size: ")
    for extra in (f"{name.rpartition('-')[0]}-{len(manifest.shards):06}.tar", "other.tar"):
        named = frozenset({extra})
        what = f"{extra} too many"
        yield Damage(what, replaced(extra, data), named, named, says="does not list")
    for other, entry in enumerate(manifest.shards):
        if other != number:
            theirs = tiny.files[entry.name]
            yield Damage(
                f"{name} and {entry.name} swapped",
                partial(_write, {name: theirs, entry.name: data}),
                file | {entry.name},
                _of_other_size(tiny, {name: theirs, entry.name: data}),
            )
            yield Damage(
                f"{entry.name} stands in the place of {name} too",
                replaced(name, theirs),
                file,
                _of_other_size(tiny, {name: theirs}),
            )


def _locked(name: str, folder: Path) -> None:
    (folder / name).chmod(0)


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _of_other_size(tiny: TinySplit, files: dict[str, bytes]) -> frozenset[str]:
    return frozenset(name for name, data in files.items() if len(data) != len(tiny.files[name]))


def of_other_packs(tiny: TinySplit, number: int) -> Iterator[Damage]:
    """Yield a shard, and a manifest, of another pack of this split."""
    name = manifest_of(tiny).shards[number].name
    packs = {"plan": tiny_split(tiny.task, order=1), "media": tiny_split(tiny.task, first=7)}
    for what, other in packs.items():
        if name in other.files:
            theirs = {name: other.files[name]}
            file, quick = frozenset({name}), _of_other_size(tiny, theirs)
            yield Damage(f"shard of another {what}", partial(_write, theirs), file, quick)
        # All stands as in the manifest's own pack, but for the bytes.
        stale = partial(_write, {MANIFEST_NAME: other.files[MANIFEST_NAME]})
        sizes = {entry.name: entry.bytes for entry in manifest_of(other).shards}
        named = {name for name, data in tiny.files.items() if data != other.files.get(name)}
        named |= other.files.keys() - tiny.files.keys()
        quick = frozenset(
            shard
            for shard in {*tiny.shards, *other.shards}
            if sizes.get(shard) != len(tiny.files.get(shard, b""))
        )
        files = frozenset(named - {MANIFEST_NAME})
        yield Damage(f"manifest of a pack of another {what}", stale, files, quick)


def doubled_keys(tiny: TinySplit) -> Iterator[Damage]:
    """Yield splits in which a key stands twice, all checksums of them right."""
    manifest = manifest_of(tiny)
    indexes = [index_of(tiny, number) for number in range(len(manifest.shards))]
    first, last = indexes[0], len(indexes) - 1
    files = _with_key(tiny, last, 0, first.keys[0])
    name = manifest.shards[last].name
    said = "a sample of this key stands in another shard too"
    members = frozenset({(first.keys[0], "")})
    what = f"{first.keys[0]} in two shards"
    yield Damage(
        what, partial(_write, files), frozenset({name}), members=members, says=said, sealed=True
    )
    files, name = _with_key(tiny, 0, 1, first.keys[0]), manifest.shards[0].name
    yield Damage(
        f"{first.keys[0]} twice in a shard",
        partial(_write, files),
        frozenset({name}),
        members=None,
        says="index: a key occurs twice",
        sealed=True,
    )


def _with_key(tiny: TinySplit, number: int, row: int, key: str) -> dict[str, bytes]:
    """Return shard and manifest, a sample with another key of the same length."""
    manifest, index = manifest_of(tiny), index_of(tiny, number)
    entry, old = manifest.shards[number], index.keys[row]
    data = bytearray(tiny.files[entry.name])
    for part, columns in index.parts.items():
        if (start := columns.offset[row]) >= 0:
            header = encode_header(member_name(key, part), columns.size[row])
            data[start - BLOCK : start] = header
    payload = bytes(data[entry.index_offset :][: entry.index_bytes])
    payload = payload.replace(encode_json(old), encode_json(key))
    data[entry.index_offset : entry.index_offset + entry.index_bytes] = payload
    fixed = replace(
        entry,
        index_crc32c=crc32c(payload),
        sha256=sha256_hex(bytes(data)),
        crc32c=crc32c(bytes(data)),
    )
    shards = [fixed if nth == number else other for nth, other in enumerate(manifest.shards)]
    named = replace(manifest, shards=tuple(shards))
    return {entry.name: bytes(data), MANIFEST_NAME: named.encode()}


def whole_matrix(
    tiny: TinySplit, rng: random.Random, *, number: int = 0, each: int = 3
) -> Iterator[Damage]:
    """Yield every kind of damage, some of each of those that there are thousands of."""
    yield from flips(tiny, number, rng, each=each, kinds=KINDS)
    yield from header_fields(tiny, number, rng)
    yield from truncations(tiny, number, rng, more=8)
    yield from holes(tiny, number)
    yield from manifest_flips(tiny, rng, step=29)
    yield from of_the_manifest(tiny, rng)
    yield from of_the_rejects(tiny, rng)
    yield from of_whole_shards(tiny, number)
    yield from of_other_packs(tiny, number)
    yield from doubled_keys(tiny)
