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
    """Requests that are struck; None for all."""

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
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


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
        self._port = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def endpoint(self) -> str:
        return f"http://{_HOST}:{self._port}"

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
        self._listener = socket.create_server((_HOST, self._port))
        self._port = self._listener.getsockname()[1]
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
        """Pass on the requests of one connection, over one connection to the server."""
        server = http.client.HTTPConnection(_HOST, self._server_port, timeout=_SERVER_S)
        reader = client.makefile("rb")
        try:
            self._watch(client)
            server.connect()
            self._watch(server.sock)
            while self._pass_request(reader, client, server):
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

    def _pass_request(
        self, reader: BufferedReader, client: socket.socket, server: http.client.HTTPConnection
    ) -> bool:
        """Receive a request and answer it; return whether the connection lasts."""
        words = reader.readline().decode("latin-1").split()
        if len(words) != 3:
            return False
        headers = http.client.parse_headers(reader)
        if headers["Expect"]:
            # No client signs it.
            del headers["Expect"]
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert "Transfer-Encoding" not in headers, "not needed so far"
        size = int(headers.get("Content-Length", 0))
        sent = reader.read(size)
        if len(sent) < size:
            return False
        request = self._noted(*words[:2], headers)
        fault = request.fault or Fault()
        if fault.call is not None and fault.call_at is None:
            fault.call()
        if fault.drop:
            return False
        if fault.status:
            self._ended.wait(fault.latency_s)
            client.sendall(_error(fault, with_body=request.method != "HEAD"))
            return True
        answer = _forwarded(request, sent, server)
        if fault.lose:
            answer.read()
            return False
        body: BinaryIO = answer
        size = answer.length
        if size is None:
            # Chunks; they go on as one piece.
            whole = answer.read()
            body, size = io.BytesIO(whole), len(whole)
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in _OWN]
        if request.method != "HEAD":
            headers.append(("Content-Length", str(size)))
        elif "Content-Length" in answer.headers:
            headers.append(("Content-Length", answer.headers["Content-Length"]))
        head = _head(answer.status, answer.reason, headers)
        self._ended.wait(fault.latency_s)
        client.sendall(head[: fault.head_bytes])
        if fault.head_bytes is not None or not self._pass_body(body, size, client, fault):
            return False
        return not answer.will_close

    def _noted(self, method: str, path: str, headers: "Message[str, str]") -> Request:
        with self._lock:
            fault = next((one for one in self.faults if one.strikes(method, path)), None)
            request = Request(method, path, headers, fault)
            self.requests.append(request)
        return request

    def _pass_body(self, body: BinaryIO, size: int, client: socket.socket, fault: Fault) -> bool:
        """Pass on a body; return whether the connection lasts."""
        sent = 0
        while True:
            if fault.call is not None and sent == fault.call_at:
                fault.call()
            if sent == fault.end_at:
                self._end(client, fault.end)
                return False
            if sent == size:
                return True
            most = min(_PIECE, size - sent)
            for mark in (fault.call_at, fault.end_at):
                if mark is not None and mark > sent:
                    most = min(most, mark - sent)
            if fault.rate:
                most = min(most, max(1, int(fault.rate / 20)))
            piece = body.read(most)
            if not piece:
                return False
            if fault.flip_at is not None and sent <= fault.flip_at < sent + len(piece):
                place = fault.flip_at - sent
                flipped = bytes([piece[place] ^ 1])
                piece = piece[:place] + flipped + piece[place + 1 :]
            client.sendall(piece)
            sent += len(piece)
            if fault.rate:
                self._ended.wait(len(piece) / fault.rate)

    def _end(self, client: socket.socket, how: str) -> None:
        if how == "stall":
            self._ended.wait()
        if how == "rst":
            # A reset takes along what is still on its way.
            deadline = time.monotonic() + _END_S
            while _unacknowledged(client) and time.monotonic() < deadline:
                time.sleep(0.002)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _forwarded(
    request: Request, body: bytes, server: http.client.HTTPConnection
) -> http.client.HTTPResponse:
    server.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        server.putheader(name, value)
    server.endheaders(body)
    return server.getresponse()


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
