"""The samples of shards as tarfile finds them: without index, manifest, or readers of ours."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipshards.packer.format.tasks import TASKS


def samples_of(out: Path, task: str) -> Iterator[dict[str, Any]]:
    """Yield the decoded parts of all samples that were packed."""
    for shard in sorted(out.rglob("*.tar")):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                content = tar.extractfile(member)
                if part in TASKS[task].parts and content is not None:
                    samples.setdefault(key, {})[part] = content.read()
        for key, parts in samples.items():
            yield TASKS[task].decode_all(parts, where=key)
