"""What readers make of the golden files, as a few lines of JSON for each item.

    PYTHONPATH=tests python -m golden.describe > tests/golden/items.json

was run once; the tests compare with what it printed then.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from clipshards.packer.format.names import VERSION
from clipshards.readers import ShardMapDataset, open_dataset

HERE = Path(__file__).parent
SPLITS = sorted(
    str(path.parent.relative_to(HERE / f"v{VERSION}"))
    for path in HERE.glob(f"v{VERSION}/*/*/manifest.json")
)


def describe_split(name: str) -> dict[str, Any]:
    """Return what a golden split, as `mixed/val`, is to its readers."""
    folder, split = name.split("/")
    opened = open_dataset(HERE / f"v{VERSION}" / folder, split=split)
    items = ShardMapDataset(opened)
    return {
        "task": opened.manifest.task,
        "content_digest": opened.manifest.content_digest,
        "items": [describe(items[number]) for number in range(len(items))],
    }


def describe(value: Any) -> Any:
    """Return a value as JSON has it; of an array little that tells everything."""
    if isinstance(value, dict):
        return {key: describe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [describe(inner) for inner in value]
    if not isinstance(value, np.ndarray):
        # JSON has no NaN, which stands for a score that is not there.
        return value if value == value else "nan"
    said: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
    if value.dtype == np.uint8:
        # JPEG decoders and conversions to RGB differ a little from machine to machine.
        few = value[::4].astype(np.float64)
        frames, height, width, channels = few.shape
        quarters = few.reshape(frames, 2, height // 2, 2, width // 2, channels).mean(axis=(2, 4))
        return said | {"quarters": np.round(quarters, 1).tolist()}
    if value.size <= 12:
        return said | {"values": describe(value.tolist())}
    return said | {"sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(describe_split(name))}" for name in SPLITS]
    print("{\n" + ",\n".join(lines) + "\n}")
