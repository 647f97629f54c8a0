"""A proxy before the S3 server of the tests, which breaks what passes through it.

Requests reach the server as the client signed them: for its host, that of the proxy.
"""

import fcntl
import http.client
import io
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedReader
from typing import BinaryIO, Literal, Self

_HOST = "127.0.0.1"
_PIECE = 128 * 2**10
_SERVER_S = 60.0
_END_S = 10.0
_OWN = ("connection", "transfer-encoding", "content-length")


@dataclass(slots=True)
class Fault:
    """What goes wrong, and with which requests. Faults that do not exclude each other add up."""

    method: str = ""
    """Empty for any."""
    path: str = ""
    """Stands anywhere in path and query, which are percent-encoded."""
    skip: int = 0
    """Matching requests that pass before the first that is struck."""
    times: int | None = 1
    """Requests that are still to be struck; None for all."""

    drop: bool = False
    """The connection is closed, and the server hears nothing."""
    status: int = 0
    """Answered with an XML error, and the server hears nothing."""
    code: str = "SlowDown"
    """S3's name of that error."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Go with that answer."""
    lose: bool = False
    """The server does what was asked, the connection is closed without its answer."""
    latency_s: float = 0.0
    """Passes before the answer."""
    head_bytes: int | None = None
    """So much of the answer's head comes, then the end of the connection."""
    end_at: int | None = None
    """So many bytes of the answer's body come, then `end`."""
    end: Literal["fin", "rst", "stall"] = "fin"
    """An orderly end of the connection, a reset, or silence."""
    rate: float = 0.0
    """Bytes of a body in a second; 0 for no limit."""
    flip_at: int | None = None
    """The body's byte of which one bit is changed."""
    call: Callable[[], object] | None = None
    """Called before the server hears the request, or at `call_at`."""
    call_at: int | None = None
    """Bytes of the answer's body that come before the call."""

    def strikes(self, method: str, path: str) -> bool:
        """Return whether it is this request's turn; counts it."""
        if (self.method and self.method != method) or self.path not in path:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            if not self.times:
                return False
            self.times -= 1
        return True


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came to the proxy."""

    method: str
    path: str
    """With its query, percent-encoded."""
    headers: "Message[str, str]"
    fault: Fault | None = None

    @property
    def start(self) -> int:
        """The first byte that it asks for."""
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").partition("-")[0])

    @property
    def if_match(self) -> str:
        """The version that it asks for, empty for any."""
        return self.headers.get("If-Match", "")


class FaultProxy:
    """Passes requests on to a server on this machine, but for its faults; a context.

    At its end all its threads and sockets are gone.
    """

    def __init__(self, server_port: int) -> None:
        self.faults: list[Fault] = []
        """The first one that strikes a request counts."""
        self.requests: list[Request] = []
        """All that came, in their order."""
        self._server_port = server_port
        self.port = 0
        """Of the proxy; the same until its end."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def endpoint(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def asked(self, method: str, path: str = "") -> list[Request]:
        """Return the requests of one method that have `path` in theirs."""
        with self._lock:
            return [one for one in self.requests if one.method == method and path in one.path]

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.refuse()
        deadline = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "the proxy does not end"

    def listen(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = socket.create_server((_HOST, self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._listener is not None:
            # Closing alone would not wake the thread that waits in accept.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Callable[[socket.socket], None], one: socket.socket) -> None:
        thread = threading.Thread(target=work, args=[one], daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        server = http.client.HTTPConnection(_HOST, self._server_port, timeout=_SERVER_S)
        reader = client.makefile("rb")
        try:
            self._watch(client)
            server.connect()
            self._watch(server.sock)
            connection = _Connection(client, reader, server, self._ended)
            while connection.pass_request(self._noted):
                pass
        except (OSError, http.client.HTTPException):
            # One side is gone, and the other one learns it by the close.
            pass
        finally:
            with self._lock:
                self._sockets -= {client, server.sock}
            server.close()
            reader.close()
            client.close()

    def _watch(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.add(one)
            if self._listener is None:
                raise ConnectionAbortedError

    def _noted(self, method: str, path: str, headers: "Message[str, str]") -> Request:
        with self._lock:
            fault = next((one for one in self.faults if one.strikes(method, path)), None)
            request = Request(method, path, headers, fault)
            self.requests.append(request)
        return request


@dataclass(frozen=True, slots=True)
class _Connection:
    """One of the client, and the one to the server that belongs to it."""

    client: socket.socket
    reader: BufferedReader
    """Of the client's socket."""
    server: http.client.HTTPConnection
    ended: threading.Event
    """Ends every wait."""

    def pass_request(self, note: Callable[[str, str, "Message[str, str]"], Request]) -> bool:
        """Receive a request and answer it; return whether the connection lasts."""
        words = self.reader.readline().decode("latin-1").split()
        if len(words) != 3:
            return False
        headers = http.client.parse_headers(self.reader)
        if headers["Expect"]:
            # No client signs it.
            del headers["Expect"]
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert "Transfer-Encoding" not in headers, "not needed so far"
        size = int(headers.get("Content-Length", 0))
        body = self.reader.read(size)
        return len(body) == size and self._answer(note(words[0], words[1], headers), body)

    def _answer(self, request: Request, body: bytes) -> bool:
        fault = request.fault or Fault()
        if fault.call is not None and fault.call_at is None:
            fault.call()
        if fault.drop:
            return False
        if fault.status:
            self.ended.wait(fault.latency_s)
            self.client.sendall(_error(fault, with_body=request.method != "HEAD"))
            return True
        answer = self._forwarded(request, body)
        if fault.lose:
            answer.read()
            return False
        source: BinaryIO = answer
        size = answer.length
        if size is None:
            # Chunks; they go on as one piece.
            whole = answer.read()
            source, size = io.BytesIO(whole), len(whole)
        pairs = [pair for pair in answer.getheaders() if pair[0].lower() not in _OWN]
        of_head = answer.headers.get("Content-Length", "0")
        pairs.append(("Content-Length", of_head if request.method == "HEAD" else str(size)))
        self.ended.wait(fault.latency_s)
        self.client.sendall(_head(answer.status, answer.reason, pairs)[: fault.head_bytes])
        if fault.head_bytes is not None or not self._pass_body(source, size, fault):
            return False
        # Else http.client takes an answer without a body for one that is still being read.
        answer.close()
        return not answer.will_close

    def _forwarded(self, request: Request, body: bytes) -> http.client.HTTPResponse:
        self.server.putrequest(
            request.method, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            self.server.putheader(name, value)
        self.server.endheaders(body)
        return self.server.getresponse()

    def _pass_body(self, source: BinaryIO, size: int, fault: Fault) -> bool:
        """Pass on a body; return whether it came whole."""
        sent = 0
        while True:
            if fault.call is not None and sent == fault.call_at:
                fault.call()
            if sent == fault.end_at:
                self._end(fault.end)
                return False
            if sent == size:
                return True
            marks = [mark for mark in (fault.call_at, fault.end_at, size) if mark is not None]
            most = min(_PIECE, *(mark - sent for mark in marks if mark > sent))
            if fault.rate:
                most = min(most, max(1, int(fault.rate / 20)))
            piece = source.read(most)
            if not piece:
                return False
            if fault.flip_at is not None and sent <= fault.flip_at < sent + len(piece):
                changed = bytearray(piece)
                changed[fault.flip_at - sent] ^= 1
                piece = bytes(changed)
            self.client.sendall(piece)
            sent += len(piece)
            if fault.rate:
                self.ended.wait(len(piece) / fault.rate)

    def _end(self, how: str) -> None:
        if how == "stall":
            self.ended.wait()
        if how == "rst":
            # A reset takes along what is still on its way.
            deadline = time.monotonic() + _END_S
            while _unacknowledged(self.client) and time.monotonic() < deadline:
                time.sleep(0.002)
            linger = struct.pack("ii", 1, 0)
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _unacknowledged(one: socket.socket) -> int:
    """Return the bytes that the other side has not yet received."""
    number: int = struct.unpack("i", fcntl.ioctl(one, termios.TIOCOUTQ, b"\0" * 4))[0]
    return number


def _error(fault: Fault, *, with_body: bool) -> bytes:
    body = f"<Error><Code>{fault.code}</Code><Message>a fault</Message></Error>".encode()
    headers = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **fault.headers}
    head = _head(fault.status, "Fault", list(headers.items()))
    return head + body if with_body else head


def _head(status: int, reason: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
