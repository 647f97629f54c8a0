"""What goes wrong between a location on S3 and us: exact bytes, or an error that says what."""

import gc
import itertools
import os
import pickle
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from s3_server import S3Server

from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage import (
    Storage,
    open_storage,
    patience,
    s3,
    s3_connection,
    s3_get,
    s3_put,
)

STAGING = "train/.build"
PATIENCE_S = 2.0
HASTE_S = 0.5
"""Patience where it ends."""
READ_S = 0.5
"""Of requests that carry little, where a silence is what is tested."""
# A busy machine is no fault of what is tested.
SLACK_S = 3.0
PART = 5 * 2**20
"""The smallest that S3 takes."""
ABOUT = {"format": "0", "plan": "abc", "shard": "0"}
DATA = random.Random(0).randbytes(2 * 2**20 + 4321)
LARGE = random.Random(1).randbytes(2 * PART + 1234)
CUT = 700_000
PIECE = 256 * 2**10


@dataclass(frozen=True)
class Truth:
    """The location as the server itself has it, without proxy and without our code."""

    client: Any
    prefix: str

    def put(self, name: str, data: bytes, about: Mapping[str, str] = ABOUT) -> str:
        target = {"Bucket": "videos", "Key": self.prefix + name}
        return str(self.client.put_object(**target, Body=data, Metadata=about)["ETag"])

    def read(self, name: str) -> bytes:
        found = self.client.get_object(Bucket="videos", Key=self.prefix + name)
        with found["Body"] as body:
            return bytes(body.read())

    def about(self, name: str) -> dict[str, str]:
        found = self.client.head_object(Bucket="videos", Key=self.prefix + name)
        return dict(found["Metadata"])

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket="videos", Key=self.prefix + name)

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket="videos", Prefix=self.prefix)
        return [
            entry["Key"].removeprefix(self.prefix)
            for page in found
            for entry in page.get("Contents", ())
        ]

    def uploads(self) -> list[str]:
        """Return the names of objects that were begun and neither completed nor aborted."""
        pages = self.client.get_paginator("list_multipart_uploads")
        found = pages.paginate(Bucket="videos", Prefix=self.prefix)
        return [
            entry["Key"].removeprefix(self.prefix)
            for page in found
            for entry in page.get("Uploads", ())
        ]


@pytest.fixture(scope="module")
def client(s3_server: S3Server) -> Any:
    return s3_server.client()


@pytest.fixture
def truth(client: Any, s3_location: str) -> Truth:
    return Truth(client, s3_location.removeprefix("s3://videos/") + "/")


@pytest.fixture
def proxy(s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """Return a proxy with less patience of its clients."""
    monkeypatch.setattr(s3_connection, "READ_S", 5.0)
    monkeypatch.setattr(s3_put, "_PART", PART)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.03)
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", str(PATIENCE_S))
    return s3_proxy


@pytest.fixture
def storage(proxy: FaultProxy, s3_location: str) -> Storage:
    return open_storage(s3_location)


@pytest.fixture
def haste(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients have hardly any patience."""
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", str(HASTE_S))


def is_silent(fault: Fault) -> bool:
    return fault.end == "stall" or fault.latency_s > READ_S


@contextmanager
def fails(storage: Storage, *words: str, name: str = "train/a", most: int = 1) -> Iterator[None]:
    """Expect a StorageError with the object's name and some words, in time.

    Args:
        storage: The location.
        words: Patterns of which each must be found.
        name: The object.
        most: Requests that may each be tried for as long as the patience lasts.
    """
    started, patience_s = time.monotonic(), float(os.environ["CLIPSHARDS_S3_PATIENCE_S"])
    with pytest.raises(StorageError, match=re.escape(f"{storage.url}/{name}: ")) as caught:
        yield
    # The last try may begin when the patience ends, and wait for its answer.
    assert time.monotonic() - started < most * (patience_s + 2 * READ_S) + SLACK_S
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)


# By name: the fault, struck once, and whether the body goes on where it broke off.
READ_FAULTS = {
    "503": (Fault(status=503), False),
    "503, five times": (Fault(status=503, times=3), False),
    "500": (Fault(status=500, code="InternalError"), False),
    "429": (Fault(status=429, code="TooManyRequests"), False),
    "408 of a proxy": (Fault(status=408, code=""), False),
    "520 of a proxy": (Fault(status=520, code=""), False),
    "slow client": (Fault(status=400, code="RequestTimeout"), False),
    "expired": (Fault(status=400, code="ExpiredToken"), False),
    "no answer": (Fault(drop=True), False),
    "lost answer": (Fault(lose=True), False),
    "silence": (Fault(latency_s=2 * READ_S), False),
    "late answer": (Fault(latency_s=READ_S / 2), False),
    "head breaks off in its first line": (Fault(head_bytes=10), False),
    "head breaks off": (Fault(head_bytes=60), False),
    "no body": (Fault(end_at=0), False),
    "stall before the body": (Fault(end_at=0, end="stall"), False),
    "FIN": (Fault(end_at=CUT), True),
    "RST": (Fault(end_at=CUT, end="rst"), True),
    "stall": (Fault(end_at=CUT, end="stall"), True),
    "three cuts": (Fault(end_at=CUT, times=3), True),
    "slow": (Fault(rate=4e6), False),
}


class TestReading:
    """Bytes of one object."""

    @pytest.mark.parametrize("fault", READ_FAULTS)
    def test_fault_that_passes_is_not_seen(
        self,
        fault: str,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        struck, resumes = READ_FAULTS[fault]
        if is_silent(struck):
            monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        etag = truth.put("train/a", DATA)
        reads: list[tuple[int, int, Callable[[], bytes]]] = [
            (0, len(DATA), lambda: storage.read_all("train/a")),
            (0, len(DATA), lambda: b"".join(storage.pieces("train/a", 300_000))),
            (1000, len(DATA) - 2000, lambda: storage.read("train/a", 1000, len(DATA) - 3000)),
        ]
        for start, stop, read in reads:
            proxy.faults = [replace(struck, method="GET")]
            proxy.requests.clear()
            assert read() == DATA[start:stop]
            assert proxy.requests[0].fault is not None
            if resumes:
                assert len(proxy.requests) > 1
            for before, after in itertools.pairwise(proxy.requests) if resumes else ():
                # Not much more than a piece is asked for again.
                assert CUT - 300_000 < after.start - before.start <= CUT
                assert after.if_match == etag
                assert after.headers["Range"].endswith(f"-{stop - 1}")

    @pytest.mark.usefixtures("haste")
    # By name: the fault, struck for ever, and what the error says.
    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            (
                Fault(status=503),
                "the store answers 503 SlowDown; given up after [2-9] tries in [0-9]+ s",
            ),
            (Fault(status=500, code="InternalError"), "the store answers 500 InternalError"),
            (Fault(status=520, code=""), "the store answers 520; given up after"),
            (Fault(status=501, code="NotImplemented"), "the store answers 501 NotImplemented$"),
            (Fault(drop=True), "given up after"),
            (Fault(lose=True), "given up after"),
            (Fault(latency_s=2 * READ_S), "ReadTimeout.*given up after"),
            (Fault(head_bytes=10), "given up after"),
            (Fault(head_bytes=60), "given up after"),
            (Fault(end_at=0), "given up after"),
            (Fault(end_at=0, end="rst"), "given up after"),
            (Fault(end_at=0, end="stall"), "given up after"),
            (Fault(status=400, code="ExpiredToken"), "ExpiredToken: the credentials have expired"),
        ],
        ids=lambda value: "" if isinstance(value, Fault) else None,
    )
    def test_fault_that_stays_is_an_error_in_time(
        self,
        fault: Fault,
        says: str,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if is_silent(fault):
            monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        truth.put("train/a", DATA)
        proxy.faults = [replace(fault, method="GET", times=None)]
        with fails(storage, says):
            storage.read("train/a", 0, len(DATA))
        # And it is no more of an error than the fault is there.
        proxy.faults = []
        assert storage.read_all("train/a") == DATA

    def test_bodies_that_always_break_off_are_read_as_long_as_bytes_come(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", times=None, end_at=PIECE + 1)]
        assert storage.read_all("train/a") == DATA
        starts = [request.start for request in proxy.requests]
        assert starts == list(range(0, len(DATA), PIECE + 1))

    @pytest.mark.usefixtures("haste")
    def test_body_that_trickles_is_an_error_in_time(
        self, storage: Storage, proxy: FaultProxy, truth: Truth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        truth.put("train/a", DATA[:20_000])
        proxy.faults = [Fault("GET", times=None, rate=2000)]
        with fails(storage, "given up after"):
            storage.read("train/a", 0, len(DATA))

    def test_body_that_comes_to_trickle_is_asked_for_again(
        self, storage: Storage, proxy: FaultProxy, truth: Truth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        truth.put("train/a", DATA)
        # What came fast before excuses nothing.
        slow = Fault("GET", call_at=2**21)
        slow.call = lambda: setattr(slow, "rate", 1000)
        proxy.faults = [slow]
        assert storage.read("train/a", 0, len(DATA)) == DATA
        assert proxy.requests[1].start >= 2**21

    @pytest.mark.usefixtures("haste")
    def test_bytes_that_came_before_buy_no_patience(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", end_at=2**21), Fault("GET", times=None, status=503)]
        with fails(storage, "503 SlowDown; given up after [2-9] tries in [01] s"):
            storage.read("train/a", 0, len(DATA))

    @pytest.mark.usefixtures("haste")
    def test_few_bytes_now_and_then_are_no_progress(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", times=None, end_at=50)]
        with fails(storage, "given up after [2-9] tries"):
            storage.read("train/a", 0, len(DATA))

    @pytest.mark.usefixtures("haste")
    def test_time_that_a_consumer_takes_is_not_the_stores(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA[:2000])
        proxy.faults = [Fault("GET", end_at=1000)]
        pieces = storage.pieces("train/a", 1000)
        first = next(pieces)
        time.sleep(1.5 * HASTE_S)
        assert first + b"".join(pieces) == DATA[:2000]
        assert len(proxy.requests) == 2

    @pytest.mark.usefixtures("haste")
    def test_large_body_that_trickles_is_an_error_in_time(
        self,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(s3_get, "_MANY", 1000)
        monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        truth.put("train/a", DATA[:20_000])
        proxy.faults = [Fault("GET", times=None, rate=1000)]
        with fails(storage, "given up after", most=3):
            list(storage.pieces("train/a", 16_000))
        proxy.faults = []
        assert b"".join(storage.pieces("train/a", 16_000)) == DATA[:20_000]

    @pytest.mark.usefixtures("haste")
    def test_slow_body_takes_longer_than_the_patience_for_none(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", rate=len(DATA) / (2 * HASTE_S))]
        assert storage.read_all("train/a") == DATA
        assert len(proxy.requests) == 1

    def test_storm_and_then_expired_credentials_pass_both(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", status=503), Fault("GET", status=400, code="ExpiredToken")]
        assert storage.read_all("train/a") == DATA

    def test_credentials_that_expire_among_many_reads_disturb_no_other(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        names = [f"train/{number:03d}" for number in range(64)]
        for name in names:
            truth.put(name, name.encode())
        proxy.faults = [
            Fault("GET", path=name, status=400, code="ExpiredToken") for name in names[::4]
        ]
        found = [storage.begin_read(name, 0, 9) for name in names]
        assert [bytes(future.result()) for future in found] == [name.encode() for name in names]

    def test_store_away_and_back_is_waited_for(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        assert storage.read("train/a", 0, 10) == DATA[:10]
        proxy.refuse()
        back = threading.Timer(PATIENCE_S / 2, proxy.listen)
        back.start()
        try:
            assert storage.read("train/a", 0, len(DATA)) == DATA
        finally:
            back.join()

    def test_store_that_answered_once_is_waited_for_behind_a_fork_and_a_pickle(
        self,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(patience, "_FIRST_S", 0.01)
        truth.put("train/a", DATA)
        # By a read alone.
        assert storage.read("train/a", 0, 10) == DATA[:10]
        proxy.faults = [Fault("GET", status=503, times=2)]
        assert pickle.loads(pickle.dumps(storage)).read("train/a", 0, 10) == DATA[:10]
        proxy.faults = [Fault("GET", status=503, times=2)]
        child = os.fork()
        if not child:
            with suppress(BaseException):
                os._exit(0 if storage.read("train/a", 0, 10) == DATA[:10] else 1)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    @pytest.mark.usefixtures("haste")
    def test_store_that_stays_away_is_an_error_in_time(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        assert storage.read("train/a", 0, 10) == DATA[:10]
        proxy.refuse()
        for work in (
            lambda: storage.read("train/a", 0, 10),
            lambda: storage.size("train/a"),
            lambda: storage.put("train/a", b"", staging=STAGING),
        ):
            with fails(storage, "Could not connect", "given up after"):
                work()

    def test_reads_begun_together_meet_their_faults_each(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [
            Fault("GET", skip=3, times=4, end_at=10_000),
            Fault("GET", times=5, status=503),
            Fault("GET", times=2, drop=True),
        ]
        size = 40_000
        begun = [
            (start, storage.begin_read("train/a", start, size))
            for start in range(0, len(DATA), size)
        ]
        for start, wait in begun:
            assert wait.result() == wait.result() == DATA[start : start + size]

    def test_object_replaced_between_two_ranges_is_an_error(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        assert storage.read("train/a", 0, 1000) == DATA[:1000]
        truth.put("train/a", DATA[::-1])
        with fails(storage, "it was replaced while it was being read"):
            storage.read("train/a", 1000, 1000)
        with fails(storage, "it was replaced while it was being read"):
            storage.begin_read("train/a", 1000, 1000).result()
        assert open_storage(storage.url).read("train/a", 0, 1000) == DATA[::-1][:1000]

    @pytest.mark.parametrize("whole", [True, False])
    def test_object_replaced_where_its_body_broke_is_an_error(
        self, whole: bool, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        replaced = Fault("GET", end_at=CUT, call_at=CUT)
        replaced.call = lambda: truth.put("train/a", DATA[::-1])
        proxy.faults = [replaced]
        with fails(storage, "it was replaced while it was being read"):
            if whole:
                storage.read_all("train/a")
            else:
                storage.read("train/a", 0, len(DATA))

    def test_two_that_read_first_get_one_version(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        storage.size("train/a")

        def replace_and_read() -> None:
            truth.put("train/a", DATA[::-1])
            assert storage.read("train/a", 0, 100) == DATA[::-1][:100]

        # The answer to the first one is on its way in the meantime.
        proxy.faults = [Fault("GET", call=replace_and_read, call_at=50)]
        with fails(storage, "it was replaced while it was being read"):
            storage.read("train/a", 0, 100)

    @pytest.mark.usefixtures("haste")
    @pytest.mark.parametrize("changed", ['W/"{}"', "{}"])
    def test_proxy_that_changes_versions_is_named(
        self, changed: str, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        etag = changed.format("0123456789")
        proxy.faults = [
            Fault(times=None, status=200, headers={"ETag": etag, "Content-Length": "5"})
        ]
        for work in (
            lambda: storage.read("train/a", 0, 10),
            lambda: storage.size("train/a"),
        ):
            with fails(storage, f"the ETag {etag} is none of S3; does a proxy on the way change"):
                work()

    @pytest.mark.usefixtures("haste")
    def test_answers_without_a_length_are_named(self, s3_location: str, proxy: FaultProxy) -> None:
        storage, ended = open_storage(s3_location), threading.Event()

        def answer(listener: socket.socket) -> None:
            while not ended.is_set():
                with listener.accept()[0] as one:
                    one.recv(10_000)
                    one.sendall(b'HTTP/1.0 200 OK\r\nETag: "1"\r\n\r\n' + DATA[:10])

        # On the port of the proxy, which speaks HTTP/1.1.
        proxy.refuse()
        with socket.create_server(("127.0.0.1", proxy.port)) as listener:
            thread = threading.Thread(target=answer, args=[listener])
            thread.start()
            with fails(storage, "comes without Content-Length; given up after"):
                storage.read_all("train/a")
            ended.set()
            socket.create_connection(("127.0.0.1", proxy.port)).close()
            thread.join()

    def test_object_replaced_by_the_same_bytes_is_none(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", end_at=CUT, call=lambda: truth.put("train/a", DATA))]
        assert storage.read_all("train/a") == DATA

    def test_object_removed_between_two_ranges_is_an_error(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", end_at=CUT, call_at=CUT, call=lambda: truth.remove("train/a"))]
        with fails(storage, "there is no such file|it was replaced") as _:
            storage.read_all("train/a")
        with pytest.raises(NotFoundError, match=re.escape(f"{storage.url}/train/a: ")):
            storage.read_all("train/a")

    def test_flipped_bit_is_not_seen_here(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        # S3 has no checksums of ranges. Whoever reads shards checks each part by its crc32c.
        truth.put("train/a", DATA)
        proxy.faults = [Fault("GET", flip_at=500)]
        got = storage.read("train/a", 0, 1000)
        assert got != DATA[:1000]
        assert got[:500] + got[501:] == DATA[:500] + DATA[501:1000]
        assert storage.read("train/a", 0, 1000) == DATA[:1000]

    def test_flipped_bit_in_a_whole_object_is_read_again(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        storage.put("train/a", DATA, staging=STAGING)
        proxy.faults = [Fault("GET", "train/a", times=2, flip_at=1000)]
        assert storage.read_all("train/a") == DATA
        proxy.faults = [Fault("GET", "train/a", times=None, flip_at=1000)]
        with pytest.raises(StorageError, match="3 times with another checksum"):
            storage.read_all("train/a")

    def test_server_killed_in_a_read_and_started_again_is_not_seen(
        self, tmp_path: Path, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Larger than what sockets hold.
        data = random.Random(2).randbytes(32 * 2**20)
        monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "20")
        with S3Server(tmp_path / "server") as server, FaultProxy(server.port) as proxy:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            server.client().create_bucket(Bucket="videos")
            truth = Truth(server.client(), s3_location.removeprefix("s3://videos/") + "/")
            etag = truth.put("train/a", data)
            proxy.faults = [Fault("GET", call_at=2**20, call=server.stop)]
            storage = open_storage(s3_location)
            wait = storage.begin_read("train/a", 0, len(data))
            deadline = time.monotonic() + 10
            while not proxy.requests and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.5)
            server.start()
            assert wait.result() == data
            assert len(proxy.requests) > 1
            assert proxy.requests[-1].start > 0
            assert proxy.requests[-1].if_match == etag


# Requests of a writer: by name, method and a part of the path.
SMALL = {"put": ("PUT", "/train/a")}
LAST = {"put": SMALL["put"], "complete": ("POST", "?uploadId=")}
OF_PARTS = {
    "create": ("POST", "?uploads"),
    "part": ("PUT", "partNumber=2"),
    "complete": ("POST", "?uploadId="),
}
WRITE_FAULTS = {
    "503": Fault(status=503),
    "503, three times": Fault(status=503, times=3),
    "500": Fault(status=500, code="InternalError"),
    "error behind 200": Fault(status=200, code="InternalError"),
    "slow client": Fault(status=400, code="RequestTimeout"),
    "520 of a proxy": Fault(status=520, code=""),
    "conflict": Fault(status=409, code="ConditionalRequestConflict"),
    "expired": Fault(status=400, code="ExpiredToken"),
    "no answer": Fault(drop=True),
    "lost answer": Fault(lose=True),
    "late answer": Fault(latency_s=2 * READ_S),
    "head breaks off in its first line": Fault(head_bytes=10),
    "head breaks off": Fault(head_bytes=60),
    "body breaks off": Fault(end_at=20),
}


def write(storage: Storage, data: bytes, *, about: Mapping[str, str] = ABOUT) -> None:
    """Write train/a in pieces that end nowhere near the ends of parts."""
    with storage.writer("train/a", staging=STAGING, about=about) as append:
        for start in range(0, len(data), 1_000_003):
            append(data[start : start + 1_000_003])


class TestWriting:
    """One object being made."""

    @pytest.mark.parametrize("fault", WRITE_FAULTS)
    def test_fault_that_passes_is_not_seen(
        self,
        fault: str,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        struck = WRITE_FAULTS[fault]
        if struck.latency_s:
            monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        for request_of, (method, path) in (SMALL | OF_PARTS).items():
            for stands in (False, True) if request_of in LAST else (False,):
                proxy.faults = []
                storage.remove("train/a")
                if stands:
                    truth.put("train/a", b"before")
                proxy.faults = [replace(struck, method=method, path=path)]
                data = DATA if request_of in SMALL else LARGE
                write(storage, data)
                assert proxy.faults[0].times == 0, request_of
                assert storage.read_all("train/a") == data
                assert truth.read("train/a") == data
                assert truth.about("train/a") == ABOUT
                assert truth.names() == ["train/a"]
                if truth.uploads():
                    # An upload whose id never came cannot be ended by who began it.
                    assert request_of == "create"
                    storage.remove_unfinished("train")
                assert truth.uploads() == [], request_of

    @pytest.mark.usefixtures("haste")
    @pytest.mark.parametrize("request_of", [*SMALL, *OF_PARTS])
    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            (Fault(status=503), "the store answers 503 SlowDown; given up after"),
            (Fault(drop=True), "given up after"),
            (Fault(status=400, code="ExpiredToken"), "the credentials have expired"),
            (Fault(status=403, code="AccessDenied"), "AccessDenied: the credentials do not allow"),
            (Fault(status=520, code=""), "the store answers 520; given up after"),
        ],
        ids=["503", "no answer", "expired", "denied", "520"],
    )
    def test_fault_that_stays_is_an_error_and_leaves_nothing(
        self,
        fault: Fault,
        says: str,
        request_of: str,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
    ) -> None:
        method, path = (SMALL | OF_PARTS)[request_of]
        proxy.faults = [replace(fault, method=method, path=path, times=None)]
        with fails(storage, says, most=2):
            write(storage, DATA if request_of in SMALL else LARGE)
        assert truth.names() == []
        assert truth.uploads() == []

    @pytest.mark.parametrize("request_of", ["part", "complete"])
    def test_upload_that_somebody_removed_is_named(
        self, request_of: str, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        method, path = OF_PARTS[request_of]
        fault = Fault(method, path, status=404, code="NoSuchUpload")
        fault.call = lambda: storage.remove_unfinished("train")
        proxy.faults = [fault]
        says = {
            "part": "NoSuchUpload: another run, or a lifecycle rule of the bucket, removed what",
            "complete": "it was not stored .NoSuchUpload.; run again",
        }
        with fails(storage, says[request_of]):
            write(storage, LARGE)
        assert truth.names() == truth.uploads() == []

    @pytest.mark.usefixtures("haste")
    def test_answer_that_never_comes_is_an_error_in_time(
        self, storage: Storage, proxy: FaultProxy, truth: Truth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        proxy.faults = [Fault("PUT", times=None, latency_s=2 * READ_S)]
        with fails(storage, "ReadTimeout", "given up after"):
            write(storage, b"small")

    @pytest.mark.usefixtures("haste")
    def test_store_that_goes_away_for_good_is_an_error_in_time(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        def write_and_lose() -> None:
            with storage.writer("train/a", staging=STAGING) as append:
                append(LARGE)
                proxy.refuse()
                append(LARGE)

        # The parts under way, and then the abort.
        with fails(storage, "Could not connect|closed", "given up after", most=3):
            write_and_lose()
        proxy.listen()
        storage.remove_unfinished("train")
        assert truth.names() == truth.uploads() == []

    def test_store_away_and_back_is_waited_for(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        back = threading.Timer(PATIENCE_S / 2, proxy.listen)
        with storage.writer("train/a", staging=STAGING) as append:
            append(LARGE)
            proxy.refuse()
            back.start()
            append(LARGE)
        back.join()
        assert truth.read("train/a") == LARGE * 2
        assert truth.uploads() == []

    @pytest.mark.parametrize("fault", WRITE_FAULTS)
    def test_small_files_pass_faults_too(
        self,
        fault: str,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        struck = replace(WRITE_FAULTS[fault], method="PUT")
        if struck.latency_s:
            monkeypatch.setattr(s3_connection, "READ_S", READ_S)
        proxy.faults = [replace(struck)]
        storage.put("train/a", b"small", staging=STAGING)
        assert truth.read("train/a") == b"small"
        proxy.faults = [replace(struck)]
        made = storage.put_new("train/b", b"small", staging=STAGING)
        assert proxy.faults[0].times == 0
        # Whether it was made here is not known where an answer was lost.
        assert made or proxy.faults[0].lose or struck.latency_s or struck.head_bytes
        assert truth.read("train/b") == b"small"

    @pytest.mark.parametrize("size", [len(DATA), len(LARGE)])
    def test_two_writers_of_the_same_bytes_are_both_fine(
        self, size: int, storage: Storage, truth: Truth
    ) -> None:
        data = LARGE[:size]
        other = open_storage(storage.url)
        with storage.writer("train/a", staging=STAGING, about=ABOUT) as append:
            with other.writer("train/a", staging=STAGING, about=ABOUT) as append_other:
                append(data)
                append_other(data)
            assert truth.read("train/a") == data
        assert truth.read("train/a") == data
        assert truth.uploads() == []

    @pytest.mark.parametrize("stands", [False, True])
    @pytest.mark.parametrize("size", [len(DATA), len(LARGE)])
    def test_writer_that_comes_second_overwrites_nothing(
        self, size: int, stands: bool, storage: Storage, truth: Truth
    ) -> None:
        if stands:
            truth.put("train/a", b"before")
        data = LARGE[:size]
        other = open_storage(storage.url)

        def write_late() -> None:
            with storage.writer("train/a", staging=STAGING, about=ABOUT) as append:
                append(data[::-1])
                write(other, data)

        with fails(storage, "another job made this file in the meantime, with other bytes"):
            write_late()
        assert truth.read("train/a") == data
        assert truth.uploads() == []

    def test_writer_of_the_same_bytes_for_another_plan_overwrites_nothing(
        self, storage: Storage, truth: Truth
    ) -> None:
        def write_late() -> None:
            with storage.writer("train/a", staging=STAGING, about=ABOUT) as append:
                append(DATA)
                truth.put("train/a", DATA, ABOUT | {"plan": "other"})

        with fails(storage, "another job made this file"):
            write_late()
        assert truth.about("train/a")["plan"] == "other"

    @pytest.mark.parametrize("size", [1000, PART + 1])
    def test_of_writers_at_one_moment_one_wins(
        self, size: int, storage: Storage, truth: Truth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        barrier = threading.Barrier(4)
        if size > PART:
            # S3 looks whether there is an object and makes it in one step. For what completes an
            # upload SeaweedFS takes two (plain clients, four at once: in 25 rounds of 60 several
            # succeed), so those requests take turns here.
            commit, turn = s3_put.Upload._commit, threading.Lock()

            def in_turn(upload: s3_put.Upload, request: Any) -> None:
                with turn:
                    commit(upload, request)

            monkeypatch.setattr(s3_put.Upload, "_commit", in_turn)

        def write_own(number: int) -> str:
            opened = open_storage(storage.url)
            try:
                with opened.writer("train/a", staging=STAGING, about=ABOUT) as append:
                    append(bytes([number]) * size)
                    barrier.wait(30)
            except StorageError as exc:
                return str(exc)
            return ""

        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(write_own, range(4)))
        assert said.count("") == 1
        assert all("another job made this file" in text for text in said if text)
        assert truth.read("train/a") == bytes([said.index("")]) * size
        assert truth.uploads() == []

    @pytest.mark.parametrize("about", [{}, {"plan": "other"}, ABOUT | {"more": "x"}])
    def test_file_about_something_else_is_left(
        self, about: dict[str, str], storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", DATA, about)
        with fails(storage, "a file that another job made stands there"):
            write(storage, DATA)
        assert truth.read("train/a") == DATA
        assert truth.about("train/a") == about
        # It is seen before anything is sent.
        assert [request.method for request in proxy.requests] == ["HEAD"]

    @pytest.mark.parametrize("size", [len(DATA), len(LARGE)])
    def test_file_about_the_same_is_replaced(
        self, size: int, storage: Storage, truth: Truth
    ) -> None:
        truth.put("train/a", b"before")
        write(storage, LARGE[:size])
        assert truth.read("train/a") == LARGE[:size]

    @pytest.mark.parametrize("size", [len(DATA), len(LARGE)])
    @pytest.mark.parametrize("fault", ["lost answer", "head breaks off"])
    def test_lost_answer_about_a_replaced_file_is_not_taken_for_another_writer(
        self, fault: str, size: int, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        write(storage, LARGE[:size][::-1])
        last = LAST["put" if size == len(DATA) else "complete"]
        proxy.faults = [replace(WRITE_FAULTS[fault], method=last[0], path=last[1])]
        write(storage, LARGE[:size])
        assert proxy.faults[0].times == 0
        assert truth.read("train/a") == LARGE[:size]
        assert truth.uploads() == []

    @pytest.mark.parametrize("fault", [None, "503", "lost answer", "no answer"])
    def test_writer_left_by_an_exception_leaves_no_upload(
        self, fault: str | None, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        if fault is not None:
            proxy.faults = [replace(WRITE_FAULTS[fault], method="DELETE")]

        def write_some() -> None:
            with storage.writer("train/a", staging=STAGING) as append:
                append(LARGE)
                assert truth.uploads() == ["train/a"]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_some()
        assert truth.names() == []
        assert truth.uploads() == []

    @pytest.mark.usefixtures("haste")
    def test_writer_is_left_soon_when_the_store_is_away(
        self, storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_put, "_ABORT_S", HASTE_S)

        def write_some() -> None:
            with storage.writer("train/a", staging=STAGING) as append:
                append(LARGE)
                monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "20")
                proxy.refuse()
                append(LARGE)
                raise KeyboardInterrupt

        started = time.monotonic()
        with pytest.raises((KeyboardInterrupt, StorageError)):
            write_some()
        assert time.monotonic() - started < 10

    def test_abandoned_uploads_are_removed_below_one_folder_only(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        for name in ("train/a", "train/a", "train/b c", "train/.build/x", "train2/a", "val/a"):
            truth.client.create_multipart_upload(Bucket="videos", Key=truth.prefix + name)
        truth.put("train/a", DATA)
        proxy.faults = [
            Fault("GET", "uploads", status=503),
            Fault("GET", "uploads", end_at=100),
            Fault("DELETE", lose=True),
            Fault("DELETE", status=500),
        ]
        storage.remove_unfinished("train")
        assert sorted(truth.uploads()) == ["train2/a", "val/a"]
        assert truth.read("train/a") == DATA
        storage.remove_unfinished("train")
        storage.remove_unfinished("none")


STRANGE = (
    "a b",
    " a ",
    "a+b",
    "a%20b",
    "a%2Bb",
    "%",
    "a&b",
    "a<b>\"c'",
    "a#b",
    "a?b=c",
    "a=b;c:d@e,f",
    "~!*()[]{}|^`$",
    "\xe9t\xe9",
    "e\u0301",
    "\u4e2d\u6587.tar",
    "\U0001f3ac.mp4",
    "..a",
    "a..",
)


class TestNames:
    """Listing, and what names may hold."""

    def test_strange_names_are_written_read_listed_and_removed(
        self, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        for number, name in enumerate(STRANGE):
            data = b"%d of them" % number
            with storage.writer(f"train/{name}", staging=STAGING, about=ABOUT) as append:
                append(data)
            storage.put(f"train/{name}/in {name}", data, staging=STAGING)
            assert storage.read(f"train/{name}", 1, 5) == data[1:6]
            assert storage.read_all(f"train/{name}/in {name}") == data
            assert storage.size(f"train/{name}") == len(data)
            assert storage.sizes(f"train/{name}") == {f"in {name}": len(data)}
            assert truth.read(f"train/{name}") == data
        assert list(storage.sizes("train")) == sorted(STRANGE)
        for name in STRANGE[::2]:
            storage.remove(f"train/{name}")
        assert list(storage.sizes("train")) == sorted(STRANGE[1::2])
        storage.remove_folder("train")
        assert truth.names() == []

    @pytest.mark.parametrize("name", ["a b+c", "50%", "\xe9&\u4e2d"])
    def test_strange_prefixes_hold_data_sets(self, name: str, storage: Storage) -> None:
        inside = open_storage(f"{storage.url}/{name}")
        inside.put("train/a", DATA, staging=STAGING)
        assert open_storage(f"{storage.url}/{name}/").read("train/a", 5, 10) == DATA[5:15]
        assert inside.folders() == ["train"]
        assert storage.folders() == [name]

    def test_lists_longer_than_a_page_are_whole(
        self, storage: Storage, proxy: FaultProxy, truth: Truth, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "_PAGE", 100)
        names = sorted(f"{number:05} +%&" for number in range(1, 112))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: truth.put(f"train/{name}", b"x"), names))
        truth.put("train2/a", DATA)
        # Every second answer breaks.
        proxy.faults = [
            Fault("GET", times=1, status=503),
            Fault("GET", skip=1, times=1, end_at=1000),
        ]
        assert storage.sizes("train") == dict.fromkeys(names, 1)
        assert len(proxy.requests) == 4
        proxy.faults = [
            Fault("POST", "?delete", status=500, code="InternalError"),
            Fault("POST", "?delete", lose=True),
        ]
        storage.remove_folder("train")
        assert truth.names() == ["train2/a"]

    @pytest.mark.deep
    def test_more_uploads_than_a_page_are_removed(self, storage: Storage, truth: Truth) -> None:
        def begin(number: int) -> None:
            key = f"{truth.prefix}train/{number:05}"
            truth.client.create_multipart_upload(Bucket="videos", Key=key)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(begin, range(1050)))
        storage.remove_unfinished("train")
        assert truth.uploads() == []

    @pytest.mark.parametrize(
        ("method", "work", "expected"),
        [
            ("HEAD", lambda storage: storage.size("train/a"), 5),
            ("GET", lambda storage: storage.sizes("train"), {"a": 5}),
            ("GET", lambda storage: storage.folders(), ["train"]),
            ("DELETE", lambda storage: storage.remove("train/a"), None),
            ("POST", lambda storage: storage.remove_folder("train"), None),
            ("GET", lambda storage: storage.remove_unfinished("train"), None),
        ],
        ids=["size", "sizes", "folders", "remove", "remove_folder", "remove_unfinished"],
    )
    def test_answers_whose_head_breaks_off_are_asked_for_again(
        self,
        method: str,
        work: Callable[[Storage], object],
        expected: object,
        storage: Storage,
        proxy: FaultProxy,
        truth: Truth,
    ) -> None:
        for head_bytes in (10, 60, 100, 150):
            truth.put("train/a", b"12345")
            proxy.faults = [Fault(method, head_bytes=head_bytes)]
            assert work(storage) == expected
            assert proxy.faults[0].times == 0
            if method in ("DELETE", "POST"):
                assert truth.names() == []

    @pytest.mark.parametrize(
        "fault", ["503, three times", "500", "expired", "no answer", "lost answer"]
    )
    def test_other_requests_pass_faults_too(
        self, fault: str, storage: Storage, proxy: FaultProxy, truth: Truth
    ) -> None:
        truth.put("train/a", b"12345")
        truth.put("val/a", b"12345")
        calls: list[tuple[Callable[[], object], object]] = [
            (lambda: storage.size("train/a"), 5),
            (lambda: storage.size("train/none"), None),
            (lambda: storage.sizes("train"), {"a": 5}),
            (lambda: storage.folders(), ["train", "val"]),
            (lambda: storage.remove("train/a"), None),
            (lambda: storage.remove_folder("val"), None),
        ]
        for call, expected in calls:
            proxy.faults = [replace(WRITE_FAULTS[fault])]
            assert call() == expected
            assert proxy.faults[0].times == 0
        assert truth.names() == []


def test_proxy_ends_with_all_that_it_holds(s3_server: S3Server) -> None:
    # What other tests held goes now, and not in between.
    gc.collect()
    before = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with FaultProxy(s3_server.port) as proxy:
        proxy.faults = [Fault("GET", end_at=10, end="stall"), Fault("GET", latency_s=600)]
        waiting = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(3)]
        for one in waiting[:2]:
            one.sendall(b"GET /videos?list-type=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        while len(proxy.requests) < 2:
            time.sleep(0.01)
    for one in waiting:
        one.close()
    assert set(threading.enumerate()) <= before
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
