"""`clipshards show`: one sample, as it stands in its shard."""

from typing import Any

import click

from clipshards.tools.printing import print_json, print_pairs


@click.command()
@click.argument("location")
@click.argument("key_or_id")
@click.option("--split", help="One split; default: look in all.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(location: str, key_or_id: str, split: str | None, as_json: bool) -> None:
    """Print the samples at LOCATION whose key or id is KEY_OR_ID.

    The key is the name inside the shard, as train-00000017; the id is your own name of
    the sample, for a list the path as written there.
    """
    from clipshards.packer.format.errors import NotFoundError
    from clipshards.packer.storage import open_storage
    from clipshards.readers.split import open_dataset, split_names

    names = split_names(open_storage(location)) if split is None else [split]
    found = []
    for name in names:
        opened = open_dataset(location, split=name)
        found += [_describe(opened, place.shard, place.sample) for place in opened.find(key_or_id)]
    if not found:
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
                *(
                    (name, f"{part['size']} bytes at {part['offset']}, crc32c {part['crc32c']:08x}")
                    for name, part in sample["parts"].items()
                ),
                *sample["video"].items(),
            ]
        )


def _describe(split: Any, shard: int, sample: int) -> dict[str, Any]:
    from clipshards.readers.items import open_video_sample

    raw = split.read_sample(shard, sample)
    about = open_video_sample(raw).about
    index = split.read_index(shard)
    names = split.manifest.class_names
    video = about.video.to_json()
    del video["extradata"]  # bytes for the decoder, of no use to the eye
    return {
        "key": raw.key,
        "id": about.id,
        "shard": f"{split.name}/{split.manifest.shards[shard].name}",
        "origin": about.origin,
        "labels": [
            f"{label} {names[label]}" if label < len(names) else str(label)
            for label in about.labels
        ],
        "parts": {
            name: {
                "offset": columns.offset[sample],
                "size": columns.size[sample],
                "crc32c": columns.crc32c[sample],
            }
            for name, columns in index.parts.items()
            if columns.offset[sample] >= 0
        },
        "video": video,
    }
