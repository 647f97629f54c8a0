"""Quick verification of a split of many shards on a real S3 server, beside its HEADs alone.

    python benchmarks/verify_quick.py --work FOLDER [--shards 10000]

The server is SeaweedFS on this machine, the shards hold one small skeleton each. Rows: `HEADs`: one
`head_object` of boto3 for each shard, asking for its checksum, 32 at a time, as `verify` has
under way. `quick`: `clipshards.readers.verify(location, level="quick")`, from the opening on.
"""

import argparse
import atexit
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import run_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

AT_A_TIME = 32
LOCATION = "s3://shards/set"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=10_000)
    run_rows(
        parser,
        {"HEADs": heads, "quick": quick},
        unit="shards",
        prepare=prepare,
        imports={
            "HEADs": ("boto3", "google_crc32c", "numpy"),
            "quick": ("clipshards.readers.integrity", "clipshards.packer.storage.s3"),
        },
    )


def prepare(args: argparse.Namespace) -> None:
    """Pack, start the server and copy there."""
    from s3_server import S3Server

    from clipshards.packer import SkeletonRecord, copy, pack

    rng = np.random.default_rng(0)
    local = args.work / f"skeletons-{args.shards}"
    if not (local / "train" / "manifest.json").exists():
        records = [
            SkeletonRecord(
                id=f"S{number}",
                labels=(0,),
                total_frames=2,
                keypoint=rng.random((1, 2, 17, 2)).astype(np.float16),
            )
            for number in range(args.shards)
        ]
        report = pack(records, local, split="train", shard_size=1)
        assert report.shards == args.shards
    server = S3Server(args.work / "server")
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    os.environ.update(server.environment)
    import boto3

    boto3.client("s3").create_bucket(Bucket=LOCATION.split("/")[2])
    copy(local, LOCATION)


def heads(args: argparse.Namespace, _: Path) -> int:
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=AT_A_TIME))
    bucket, prefix = LOCATION.removeprefix("s3://").split("/")

    def head(number: int) -> Any:
        key = f"{prefix}/train/train-{number:06d}.tar"
        return client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return sum(bool(answer["ChecksumCRC32C"]) for answer in pool.map(head, range(args.shards)))


def quick(args: argparse.Namespace, _: Path) -> int:
    from clipshards.readers import verify

    report = verify(LOCATION, level="quick")
    assert not report.findings, report
    return report.stored_checksums


if __name__ == "__main__":
    main()
