"""`clipshards show`: one sample, as it stands in its shard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from clipshards.tools.printing import print_json, print_pairs


@click.command()
@click.argument("location")
@click.argument("key_or_id")
@click.option("--split", help="One split; default: look in all.")
@click.option(
    "--extract",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write the sample's files into FOLDER, raw frames under their own names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(
    location: str, key_or_id: str, split: str | None, extract: Path | None, as_json: bool
) -> None:
    """Print the samples at LOCATION whose key or id is KEY_OR_ID.

    The key is the name inside the shard, as train-00000017; the id is your own name of
    the sample, for a list the path as written there.
    """
    from clipshards.packer.format.errors import NotFoundError
    from clipshards.packer.storage import open_storage
    from clipshards.readers.extract import extract_sample
    from clipshards.readers.opening import open_dataset, split_names

    names = split_names(open_storage(location)) if split is None else [split]
    found = []
    rejects = []
    for name in names:
        opened = open_dataset(location, split=name)
        for place in opened.find(key_or_id):
            sample = _describe(opened, place.shard, place.sample)
            if extract is not None:
                raw = opened.read_sample(place.shard, place.sample)
                written = extract_sample(raw, opened.manifest.task, extract)
                sample["extracted"] = [str(path) for path in written]
            found.append(sample)
        rejects += [
            f"{row.key}: rejected: {row.origin}: {row.message}"
            for row in opened.read_rejects()
            if key_or_id in (row.key, row.id)
        ]
    if not found:
        if rejects:
            raise NotFoundError("\n".join(rejects))
        raise NotFoundError(f"{location}: no sample has the key or the id {key_or_id!r}")
    if as_json:
        print_json(found)
        return
    for sample in found:
        click.echo(f"{sample['key']}: {sample['id']}")
        print_pairs(
            [
                ("shard", sample["shard"]),
                ("origin", sample["origin"]),
                ("labels", ", ".join(sample["labels"]) or "none"),
                *((name, _part_text(part)) for name, part in sample["parts"].items()),
                *_told(sample["json"]),
            ]
        )
        if extract is not None:
            click.echo(f"{len(sample['extracted'])} files written to {extract / sample['key']}")


def _part_text(part: dict[str, Any]) -> str:
    text = f"{part['size']} bytes at {part['offset']}, crc32c {part['crc32c']:08x}"
    if "dtype" in part:
        text += f", {part['dtype']} {tuple(part['shape'])}"
    return text


def _told(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what the json part says beyond what is printed above, empty values left out."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            # Of a video that is not there, or was not looked at, nothing is known.
            if inner.get("frames") != -1:
                yield from _told(inner)
        elif name not in ("id", "origin", "labels") and inner not in ("", []):
            yield name, inner


def _describe(split: Any, shard: int, sample: int) -> dict[str, Any]:
    from clipshards.packer.format.canonical import decode_json
    from clipshards.packer.format.tasks import TASKS

    raw = split.read_sample(shard, sample)
    task = TASKS[split.manifest.task]
    values = task.decode_all(raw.parts, where=raw.where)
    index = split.read_index(shard)
    names = split.manifest.class_names
    about = decode_json(raw.parts["json"], where=raw.where)
    about.get("video", {}).pop("extradata", None)  # bytes for the decoder, of no use to the eye
    labels = [label for labels in values["json"].label_lists for label in labels]
    if "labels.npy" in values:
        labels = sorted(set(values["labels.npy"][:, 1].tolist()))
    return {
        "key": raw.key,
        "id": about["id"],
        "shard": f"{split.name}/{split.manifest.shards[shard].name}",
        "origin": about["origin"],
        "labels": [
            f"{label} {names[label]}" if label < len(names) else str(label) for label in labels
        ],
        "parts": {
            name: {
                "offset": columns.offset[sample],
                "size": columns.size[sample],
                "crc32c": columns.crc32c[sample],
            }
            | (
                {"dtype": str(values[name].dtype), "shape": list(values[name].shape)}
                if name.endswith(".npy")
                else {}
            )
            for name, columns in index.parts.items()
            if columns.offset[sample] >= 0
        },
        "json": about,
    }
