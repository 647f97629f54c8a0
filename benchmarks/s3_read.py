"""Whole shards read from the cheapest S3 server, beside a bare socket and other clients.

    python benchmarks/s3_read.py --work FOLDER [--shards 4] [--megabytes 256]
        [--peers-python ENVIRONMENT/bin/python] [--rows 'raw socket,clipshards']

Rows: `raw socket`: a request written by hand, received into one buffer of 1 MiB. `clipshards`:
`pieces` of 1 MiB of our storage; `+ crc32c`: of all bytes, as `verify` computes it too. `boto3
read(1 MiB)` and `boto3 read()`: the body of `get_object`, piece by piece or whole. `webdataset
pipe`: curl in a process of its own, its output read by 1 MiB. `s3fs`: an open file, read by 1 MiB.
`mosaicml download`: to a file, as mosaicml-streaming gets a shard before it reads it.

The server runs beside each row and sends by sendfile from files that are in memory. Every client
has read a small object before the clock starts: it is connected. CPU seconds are those of
the client and the processes that it started, without the server's; the peak that of the largest.

s3fs and mosaicml-streaming need an environment of their own (with a botocore that s3fs takes):

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install -c constraints.txt s3fs mosaicml-streaming litdata
"""

import argparse
import importlib
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from harness import Results, Row, run_rows
from s3_sendfile import SendfileS3

MIB = 1 << 20
GIB = 1 << 30
BUCKET = "bucket"
PREFIX = "shards"
SMALL = "small.tar"

Read = Callable[[str], int]
"""Reads an object below the prefix to its end; returns its bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=256)
    clients: dict[str, tuple[Callable[[str, Path], Read], tuple[str, ...]]] = {
        "raw socket": (raw_socket, ()),
        "clipshards": (clipshards, ("clipshards.packer.storage.s3",)),
        "clipshards + crc32c": (
            partial(clipshards, checked=True),
            ("clipshards.packer.storage.s3", "google_crc32c"),
        ),
        "boto3 read(1 MiB)": (partial(boto3, size=MIB), ("boto3",)),
        "boto3 read()": (partial(boto3, size=None), ("boto3",)),
        "webdataset pipe": (webdataset_pipe, ("webdataset",)),
        "s3fs": (s3fs, ("s3fs",)),
        "mosaicml download": (mosaicml_download, ("peers", "boto3")),
    }
    rows: dict[str, Row] = {name: partial(timed, make) for name, (make, _) in clients.items()}
    run_rows(
        parser,
        rows,
        unit="GiB",
        prepare=prepare,
        imports={name: modules for name, (_, modules) in clients.items()},
        peers=("s3fs", "mosaicml download"),
        report=print_figures,
    )


def prepare(args: argparse.Namespace) -> None:
    for path in shards_of(args):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            making = path.with_suffix(".part")
            with making.open("wb") as file:
                for _ in range(args.megabytes):
                    file.write(os.urandom(1_000_000))
            making.rename(path)
    (args.work / "s3" / BUCKET / PREFIX / SMALL).write_bytes(bytes(100))


def shards_of(args: argparse.Namespace) -> list[Path]:
    folder = args.work / "s3" / BUCKET / PREFIX
    return [folder / f"{args.megabytes}-{number:06d}.tar" for number in range(args.shards)]


def timed(
    make: Callable[[str, Path], Read], args: argparse.Namespace, out: Path
) -> dict[str, float]:
    """Return the figures of a client, which `make` sets up given the endpoint and a folder."""
    shards = shards_of(args)
    sizes = [_read_by(partial(_opened, path)) for path in shards]
    with SendfileS3(args.work / "s3") as server:
        server.set_environment()
        read = make(server.endpoint, out)
        read(SMALL)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        got = [read(path.name) for path in shards]
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    if got != sizes:
        sys.exit(f"{got} bytes came of {sizes}")
    return {"units": sum(sizes) / GIB, "wall_s": wall, "cpu_s": cpu}


def _cpu_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def print_figures(results: Results) -> None:
    base = next(iter(results.values()))
    print(f"x = {next(iter(results))}\n")
    print("| row | MiB/s (min-max) | throughput x | CPU x | CPU s per GiB | peak MB |")
    print("|---|---|---|---|---|---|")
    for name, runs in results.items():
        rates = [run["units"] * 1024 / run["wall_s"] for run in runs]
        pairs = list(zip(runs, base, strict=True))
        speed = statistics.median(other["wall_s"] / run["wall_s"] for run, other in pairs)
        cpu = statistics.median(run["cpu_s"] / other["cpu_s"] for run, other in pairs)
        cost = statistics.median(run["cpu_s"] / run["units"] for run in runs)
        peak = statistics.median(run["peak_mb"] for run in runs)
        print(
            f"| {name} | {statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}) "
            f"| {speed:.2f} | {cpu:.2f} | {cost:.2f} | {peak:.0f} |"
        )


def _read_by(opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> int:
    """Read a file to its end by pieces; return its bytes."""
    done = 0
    with opened() as file:
        while piece := file.read(MIB):
            done += len(piece)
    return done


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb", buffering=0)


# Clients


def raw_socket(endpoint: str, _: Path) -> Read:
    address = urlsplit(endpoint)
    connection = socket.create_connection((address.hostname, address.port))
    buffer = memoryview(bytearray(MIB))

    def read(name: str) -> int:
        connection.sendall(f"GET /{BUCKET}/{PREFIX}/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += connection.recv(4096)
        head = received[:end].decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        done = len(received) - end - 4
        while done < length:
            done += connection.recv_into(buffer)
        return done

    return read


def clipshards(_endpoint: str, _: Path, *, checked: bool = False) -> Read:
    from clipshards.packer.format.checksums import crc32c
    from clipshards.packer.storage import open_storage

    storage = open_storage(f"s3://{BUCKET}/{PREFIX}")

    def read(name: str) -> int:
        done = checksum = 0
        for piece in storage.pieces(name, MIB):
            done += len(piece)
            if checked:
                checksum = crc32c(piece, checksum)
        return done

    return read


def boto3(_endpoint: str, _: Path, *, size: int | None) -> Read:
    client = importlib.import_module("boto3").client("s3")

    def read(name: str) -> int:
        body: Any = client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")["Body"]
        if size is None:
            return len(body.read())
        done = 0
        while piece := body.read(size):
            done += len(piece)
        return done

    return read


def webdataset_pipe(endpoint: str, _: Path) -> Read:
    gopen = importlib.import_module("webdataset.gopen").gopen

    def read(name: str) -> int:
        url = f"pipe:curl --silent --fail {endpoint}/{BUCKET}/{PREFIX}/{name}"
        return _read_by(partial(gopen, url, bufsize=MIB))

    return read


def s3fs(endpoint: str, _: Path) -> Read:
    files = importlib.import_module("s3fs").S3FileSystem(endpoint_url=endpoint)
    return lambda name: _read_by(partial(files.open, f"{BUCKET}/{PREFIX}/{name}", "rb"))


def mosaicml_download(_endpoint: str, out: Path) -> Read:
    download = importlib.import_module("streaming.base.storage.download")
    client: Any = download.S3Downloader()

    def read(name: str) -> int:
        to = out / name
        client.download(f"s3://{BUCKET}/{PREFIX}/{name}", str(to))
        done = to.stat().st_size
        to.unlink()
        return done

    return read


if __name__ == "__main__":
    main()
