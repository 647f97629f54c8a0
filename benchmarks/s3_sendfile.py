"""The cheapest server that S3 clients take for S3: what is left to measure is the client.

    python benchmarks/s3_sendfile.py FOLDER [--latency 0.05]

A folder of FOLDER is a bucket, a file in it an object. GET and HEAD of objects, with Range and
If-Match, by sendfile(2); ListObjectsV2 with prefix and delimiter, all on one page. No signature is
looked at, nothing can be written, and only this machine is served, until standard input ends.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_HOST = "127.0.0.1"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_ERRORS = {
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    412: "PreconditionFailed",
    416: "InvalidRange",
}


class SendfileS3:
    """The server in a process of its own; a context."""

    def __init__(self, folder: Path, *, latency_s: float = 0.0) -> None:
        """Set up; nothing is started yet.

        Args:
            folder: Of which each folder is a bucket.
            latency_s: Waited before each answer; on several connections at the same time.
        """
        self._command = [sys.executable, __file__, str(folder), "--latency", str(latency_s)]
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""
        """Its address, as AWS_ENDPOINT_URL takes it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        if not self.endpoint:
            self.__exit__()
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients need in theirs, and nothing else that begins with AWS_."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            # mosaicml-streaming has a name of its own for it.
            "S3_ENDPOINT_URL": self.endpoint,
            "NO_PROXY": _HOST,
        }

    def set_environment(self) -> None:
        """Let the clients of this process find it."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(self.environment)

    @property
    def cpu_s(self) -> float:
        """User and system time of the server so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class _Connection:
    """One client, served until it goes."""

    def __init__(self, folder: Path, latency_s: float, client: socket.socket) -> None:
        self._folder = folder
        self._latency_s = latency_s
        self._client = client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        received = b""
        with self._client, suppress(OSError):
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    more = self._client.recv(65536)
                    if not more:
                        return
                    received += more
                first, *lines = received[:end].decode("latin-1").split("\r\n")
                received = received[end + 4 :]
                pairs = (line.partition(":") for line in lines)
                method, target, _ = first.split(" ")
                if self._latency_s:
                    time.sleep(self._latency_s)
                self._answer(
                    method, target, {name.lower(): value.strip() for name, _, value in pairs}
                )
                if method not in ("GET", "HEAD"):
                    return  # its body was not read

    def _answer(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        whole = method == "GET"
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
        place = self._folder / bucket
        if method not in ("GET", "HEAD"):
            self._fail(405, whole=True)
        elif ".." in (bucket, *key.split("/")):
            self._fail(403, whole=whole)
        elif bucket and not key and place.is_dir():
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self._text("200 OK", _listed(place, bucket, query), whole=whole)
        else:
            try:
                descriptor = os.open(place / key, os.O_RDONLY)
            except OSError:
                self._fail(404, whole=whole)
                return
            try:
                self._object(descriptor, headers, whole=whole)
            finally:
                os.close(descriptor)

    def _object(self, descriptor: int, headers: Mapping[str, str], *, whole: bool) -> None:
        about = os.fstat(descriptor)
        etag = _etag(about)
        if headers.get("if-match", etag) not in (etag, "*"):
            self._fail(412, whole=whole)
            return
        start, stop, status, more = 0, about.st_size, "200 OK", ""
        if found := _RANGE.fullmatch(headers.get("range", "")):
            if found[1]:
                start = int(found[1])
                stop = min(stop, int(found[2]) + 1) if found[2] else stop
            else:
                start = max(stop - int(found[2]), 0)
            if start >= stop:
                self._fail(416, whole=whole)
                return
            status = "206 Partial Content"
            more = f"Content-Range: bytes {start}-{stop - 1}/{about.st_size}\r\n"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\nETag: {etag}\r\n"
            f"Last-Modified: {formatdate(about.st_mtime, usegmt=True)}\r\n"
            f"Accept-Ranges: bytes\r\nContent-Type: binary/octet-stream\r\n{more}\r\n"
        )
        # Head and body leave in one packet where they fit.
        self._client.sendall(head.encode(), socket.MSG_MORE if whole and stop > start else 0)
        while whole and start < stop:
            sent = os.sendfile(self._client.fileno(), descriptor, start, stop - start)
            if not sent:
                raise OSError("the file became shorter")
            start += sent

    def _fail(self, status: int, *, whole: bool) -> None:
        code = _ERRORS[status]
        self._text(f"{status} {code}", f"<Error><Code>{code}</Code></Error>", whole=whole)

    def _text(self, status: str, text: str, *, whole: bool) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/xml\r\n\r\n"
        )
        self._client.sendall(head.encode() + (body if whole else b""))


def _listed(bucket: Path, name: str, query: Mapping[str, str]) -> str:
    """Return the answer of ListObjectsV2."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    encoded = query.get("encoding-type") == "url"
    contents, folders = [], set()
    # Nothing else can begin with the prefix.
    start = bucket / prefix.rpartition("/")[0]
    for path in sorted(start.rglob("*")) if ".." not in prefix.split("/") else ():
        key = path.relative_to(bucket).as_posix()
        if not key.startswith(prefix) or not path.is_file():
            continue
        rest, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if cut:
            folders.add(prefix + rest + delimiter)
        else:
            about = path.stat()
            changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(about.st_mtime))
            contents.append(
                f"<Contents><Key>{_shown(key, encoded)}</Key><Size>{about.st_size}</Size>"
                f"<ETag>{escape(_etag(about))}</ETag><LastModified>{changed}</LastModified>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
    parts = [
        f"<Name>{escape(name)}</Name><Prefix>{_shown(prefix, encoded)}</Prefix>",
        f"<KeyCount>{len(contents) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>",
        "<EncodingType>url</EncodingType>" if encoded else "",
        *contents,
        *(
            f"<CommonPrefixes><Prefix>{_shown(one, encoded)}</Prefix></CommonPrefixes>"
            for one in sorted(folders)
        ),
    ]
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>"


def _shown(text: str, encoded: bool) -> str:
    return quote(text) if encoded else escape(text)


def _etag(about: os.stat_result) -> str:
    """Return what changes with a file, looking like S3's."""
    return f'"{about.st_mtime_ns & (1 << 64) - 1:016x}{about.st_size:016x}"'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    args = parser.parse_args()
    listening = socket.create_server((_HOST, 0), backlog=256)
    print(f"http://{_HOST}:{listening.getsockname()[1]}", flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    while True:
        client, _ = listening.accept()
        connection = _Connection(args.folder.absolute(), args.latency, client)
        threading.Thread(target=connection.serve, daemon=True).start()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
