"""`clipshards info`: what a data set holds, from its manifests alone."""

from typing import Any

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, print_pairs


@click.command()
@click.argument("location")
@click.option("--split", help="One split; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(location: str, split: str | None, as_json: bool) -> None:
    """Print what the data set at LOCATION holds."""
    from clipshards.packer.storage import open_storage
    from clipshards.readers.opening import open_dataset, split_names, unfinished_splits

    names = split_names(open_storage(location)) if split is None else [split]
    manifests = [open_dataset(location, split=name).manifest for name in names]
    begun = [] if split is not None else unfinished_splits(open_storage(location))
    if as_json:
        print_json([_as_json(manifest) for manifest in manifests])
        return
    for manifest in manifests:
        count = manifest.accounting
        entries = f"{count.entries} = {count.packed} packed + {count.rejected} rejected"
        entries += "".join(
            f" + {number} excluded by {name}" for name, number in count.excluded.items()
        )
        shards = count_text(len(manifest.shards), "shard")
        labels = {"one": "one a sample", "many": "one or more a sample", "none": "none"}
        click.echo(f"{manifest.split}: {manifest.task}")
        print_pairs(
            [
                ("samples", manifest.samples),
                ("items", manifest.items),
                ("size", f"{shards}, {bytes_text(manifest.size_bytes)}"),
                ("labels", labels[manifest.labels]),
                ("classes", len(manifest.class_names) or "not named"),
                ("entries", entries),
                ("recipe", _recipe_text(manifest.recipe) or "-"),
                ("made with", ", ".join(f"{n} {v}" for n, v in manifest.made_with.items())),
                ("digest", manifest.content_digest[:12]),
            ]
        )
    for name in begun:
        click.echo(f"{name}: packing has not ended; give the pack or copy command again")


def _recipe_text(recipe: dict[str, Any]) -> str:
    """Return a recipe in words; what shapes the bytes of encoded videos in brackets."""
    return ", ".join(
        f"{name} ({_recipe_text(value)})" if isinstance(value, dict) else f"{name} {value}"
        for name, value in recipe.items()
    )


def _as_json(manifest: Any) -> dict[str, Any]:
    count = manifest.accounting
    return {
        "split": manifest.split,
        "task": manifest.task,
        "samples": manifest.samples,
        "items": manifest.items,
        "shards": len(manifest.shards),
        "bytes": manifest.size_bytes,
        "labels": manifest.labels,
        "class_names": list(manifest.class_names),
        "entries": count.entries,
        "packed": count.packed,
        "rejected": count.rejected,
        "excluded": count.excluded,
        "recipe": manifest.recipe,
        "made_with": manifest.made_with,
        "content_digest": manifest.content_digest,
    }
