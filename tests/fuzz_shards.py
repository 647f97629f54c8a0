"""Golden splits taken apart, and put together again so that every checksum is right."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.names import INDEX_MEMBER, MANIFEST_NAME, VERSION
from clipshards.packer.format.tar import BLOCK, END, decode_header, encode_header, padding
from clipshards.packer.format.tasks import TASKS

GOLDEN = Path(__file__).parent / "golden" / f"v{VERSION}"


@dataclass(frozen=True, repr=False)
class Golden:
    """One golden split."""

    name: str
    task: str
    files: Mapping[str, bytes]
    """Name in the split's folder to bytes."""

    def __repr__(self) -> str:
        return f"<golden split {self.name}>"

    @property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json holds, made anew."""
        value: dict[str, Any] = json.loads(self.files[MANIFEST_NAME])
        return value

    @property
    def shards(self) -> list[str]:
        """File names of its shards."""
        names: list[str] = self.manifest["shards"]["name"]
        return names

    def write(self, location: Path, files: Mapping[str, bytes] | None = None) -> None:
        """Write the split, some files of it replaced, below a location."""
        folder = location / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in {**self.files, **(files or {})}.items():
            (folder / name).write_bytes(data)


@cache
def golden_splits() -> list[Golden]:
    """Return all golden splits, by task."""
    found = []
    for path in sorted(GOLDEN.glob(f"*/*/{MANIFEST_NAME}")):
        files = {file.name: file.read_bytes() for file in sorted(path.parent.iterdir())}
        task = json.loads(files[MANIFEST_NAME])["task"]
        found.append(Golden(path.parent.name, task, files))
    assert {golden.task for golden in found} == {*TASKS}
    return sorted(found, key=lambda golden: golden.task)


def members_of(shard: bytes) -> dict[str, bytes]:
    """Return the members of a sound shard by name."""
    members: dict[str, bytes] = {}
    place = 0
    while header := decode_header(shard[place : place + BLOCK], where="golden"):
        name, size = header
        members[name] = shard[place + BLOCK : place + BLOCK + size]
        place += BLOCK + size + padding(size)
    return members


@cache
def golden_parts() -> dict[tuple[str, str], list[bytes]]:
    """Return what the golden splits hold of each part, by task and part name."""
    parts: dict[tuple[str, str], list[bytes]] = {}
    for golden in golden_splits():
        for shard in golden.shards:
            for name, data in members_of(golden.files[shard]).items():
                part = "" if name == INDEX_MEMBER else name.partition(".")[2]
                parts.setdefault((golden.task, part), []).append(data)
    return parts


def sealed_shard(golden: Golden, number: int, parts: Mapping[str, bytes], index: Any) -> bytes:
    """Return a shard with other parts, and the index that belongs to them.

    Args:
        golden: The split.
        number: Of the shard.
        parts: Member name to bytes, of those that are other ones.
        index: What its index shall say, but for offset, size and crc32c of each part; these are
            made right where `index` has columns for them.
    """
    members = members_of(golden.files[golden.shards[number]])
    keys = json.loads(members.pop(INDEX_MEMBER))["samples"]["key"]
    shard = b""
    for name, was in members.items():
        data = parts.get(name, was)
        key, _, part = name.partition(".")
        place = {"offset": len(shard) + BLOCK, "size": len(data), "crc32c": crc32c(data)}
        for column, value in place.items():
            with suppress(KeyError, IndexError, TypeError):  # the index was altered here
                cells = index["parts"][part][column]
                if isinstance(cells, list):
                    cells[keys.index(key)] = value
        shard += encode_header(name, len(data)) + data + bytes(padding(len(data)))
    payload = encode_json(index)
    shard += encode_header(INDEX_MEMBER, len(payload)) + payload + bytes(padding(len(payload)))
    return shard + END


def sealed_manifest(golden: Golden, shards: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the manifest of a split of which some shards are other ones."""
    value = golden.manifest
    columns = value["shards"]
    for number, name in enumerate(columns["name"]):
        data = shards.get(name, golden.files[name])
        at = data.rindex(INDEX_MEMBER.encode().ljust(100, b"\0"))
        header = decode_header(data[at : at + BLOCK], where="sealed")
        assert header is not None
        payload = data[at + BLOCK : at + BLOCK + header[1]]
        row = {
            "bytes": len(data),
            "index_offset": at + BLOCK,
            "index_bytes": len(payload),
            "index_crc32c": crc32c(payload),
            "sha256": sha256_hex(data),
            "crc32c": crc32c(data),
        }
        for column, cell in row.items():
            columns[column][number] = cell
    value["totals"]["bytes"] = sum(columns["bytes"])
    return value


def with_digest(manifest: Any) -> bytes:
    """Return the bytes of a manifest, its digest made right where it has one."""
    if isinstance(manifest, dict) and "content_digest" in manifest:
        body = {key: value for key, value in manifest.items() if key != "content_digest"}
        manifest = body | {"content_digest": sha256_hex(encode_json(body))}
    return encode_json(manifest) + b"\n"
