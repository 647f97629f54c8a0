"""Names inside a data set: splits, shards, keys, and the files beside the shards."""

import re

VERSION = 1
"""Format version. 1 is frozen; 0 was a draft, which nothing reads any more."""

MANIFEST_NAME = "manifest.json"
REJECTS_NAME = "rejects.jsonl"
INDEX_MEMBER = "__index__"
BUILD_FOLDER = ".build"

_SPLIT = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")


def is_split(name: str) -> bool:
    """Return whether `name` may name a split."""
    return _SPLIT.fullmatch(name) is not None


def check_split(split: str) -> str:
    """Return `split` if it may name a split.

    Raises:
        ValueError: It is not 1 to 32 of a-z, 0-9 and `_`, the first not `_`.

    >>> check_split("train")
    'train'
    """
    if not is_split(split):
        raise ValueError(
            f"split {split!r}: expected 1 to 32 characters of a-z, 0-9 and _, not starting with _"
        )
    return split


def shard_name(split: str, number: int) -> str:
    """Return the file name of shard `number`, counted from 0.

    >>> shard_name("train", 12)
    'train-000012.tar'
    """
    return f"{split}-{number:06d}.tar"


def is_shard_name(split: str, name: str) -> bool:
    """Return whether a file of this name in a split's folder is a shard of it.

    >>> is_shard_name("train", "train-000012.tar"), is_shard_name("train", "train-old.tar")
    (True, False)
    """
    return re.fullmatch(rf"{split}-[0-9]{{6,}}\.tar", name) is not None


def about_shard(plan_digest: str, number: int) -> dict[str, str]:
    """Return what an object store keeps beside the bytes of a shard.

    >>> about_shard("ab", 7)
    {'format': '1', 'plan-digest': 'ab', 'shard': '7'}
    """
    return {"format": str(VERSION), "plan-digest": plan_digest, "shard": str(number)}


def wids_name(split: str) -> str:
    """Return the name of the file by which wids finds a split.

    >>> wids_name("train")
    'train.wids.json'
    """
    return f"{split}.wids.json"


def sample_key(split: str, ordinal: int) -> str:
    """Return the key of the annotation's entry `ordinal`, counted from 0.

    >>> sample_key("val", 7)
    'val-00000007'
    """
    return f"{split}-{ordinal:08d}"


def member_name(key: str, part: str) -> str:
    """Return the tar member that holds one part of a sample.

    >>> member_name("val-00000007", "frames.npy")
    'val-00000007.frames.npy'
    """
    return f"{key}.{part}"
