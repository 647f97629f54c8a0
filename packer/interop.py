"""Files that other tools expect beside the shards; functions of the manifest alone."""

import json

from clipshards.packer.format.manifest import Manifest


def wids_index(manifest: Manifest) -> bytes:
    """Return the `<split>.wids.json` by which wids finds shards and their sample counts."""
    value = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": manifest.split,
        "shardlist": [
            {"url": f"{manifest.split}/{shard.name}", "nsamples": shard.samples}
            for shard in manifest.shards
        ],
    }
    return json.dumps(value, indent=1).encode() + b"\n"
