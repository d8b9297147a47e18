"""A proxy in front of an HTTP server that fails on demand, in each way that a network or a server does."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPMessage, parse_headers
from typing import BinaryIO, NamedTuple

HOST = "127.0.0.1"
PATIENCE = 60  # seconds that the server behind the proxy may take for one answer

MODES = {
    "pass": "the request is forwarded, the response comes back",
    "slow": "forwarded at once, the response comes back after `delay` seconds",
    "down": "new connections are refused, old ones are reset at their next request",
    "hang": "the request is read and never answered; the server does not see it",
    "reset": "the connection is reset once the request has come; the server does not see it",
    "500": "answered with a 500; the server does not see it",
    "half-open": "carried out by the server, the response is dropped, the connection stays open and silent",
    "lost": "carried out by the server, the connection is reset before the response",
    "cut": "carried out by the server, the connection is closed amid the response",
}

_SORRY = b'{"error_code": "INTERNAL_ERROR", "message": "this proxy answers every request with 500"}'
_HEAD_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_ERROR_500 = _HEAD_500 % len(_SORRY) + _SORRY


class Message(NamedTuple):
    """One request or response as it came, head and body whole in memory."""

    head: bytes
    body: bytes
    is_last: bool  # no other follows on its connection


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to another, in one of MODES.

    `mode` may be set at any time. It is looked at once for each request, when the request has come in full: a new mode
    holds from the next request on, on open connections too, and a request under way ends as it began. Each request
    goes to the server on a connection of its own; without a server there, the client's connection is closed.
    `counts` has the requests by mode; connections that were refused are in no count. As with any server that ends, a
    connection that waits to be accepted when the proxy goes down is reset at once.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.delay = 1.0
        self.counts: Counter[str] = Counter()
        self._mode = "pass"
        self._switching = threading.Lock()
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._held = _bound(0)  # never listens: it keeps the port ours while the proxy is down
        self.port: int = self._held.getsockname()[1]
        self._listen()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"mode = {mode!r}: one of {', '.join(MODES)}")
        with self._switching:
            assert not self._is_closing.is_set(), "the proxy is closed"
            self._mode = mode  # first: what connects just before the listener goes must not be served
            if mode == "down":
                self._refuse()
            elif self._listener is None:
                self._listen()

    def close(self) -> None:
        """End every connection and every thread. A second call does nothing."""
        with self._switching:
            self._is_closing.set()
            self._refuse()
        with self._lock:
            for one in self._sockets:
                _wake(one)
        for thread in self._threads:
            thread.join(10)
        self._held.close()
        assert not any(thread.is_alive() for thread in self._threads), "a thread of the proxy does not end"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        listener = _bound(self.port)
        listener.listen(128)
        self._listener = listener
        self._acceptor = self._start(self._accept, listener)

    def _refuse(self) -> None:
        if self._listener is not None and self._acceptor is not None:
            _wake(self._listener)
            self._acceptor.join(10)  # so that it starts no more threads
            self._listener.close()
            self._listener = None

    def _start(self, work: Callable[[socket.socket], None], argument: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=(argument,), name="proxy", daemon=True)
        with self._lock:
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            thread.start()  # under the lock: one that has not started yet looks like one that has ended
        return thread

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        # OSError, EOFError: one of the two sides has gone. The socket outlives its stream, so that it is the last
        # to be closed: only then does the kernel send what `_reset` asks for.
        with suppress(OSError, EOFError), self._known(client), client.makefile("rb") as stream:
            while (request := read_request(stream)) and self._answer(client, request):
                pass

    def _answer(self, client: socket.socket, request: Message) -> bool:
        """Deal with one request; whether the connection goes on."""
        with self._lock:
            mode = self._mode
            self.counts[mode] += 1
        if mode == "500":
            client.sendall(_ERROR_500)
            return True
        if mode in ("down", "reset"):
            return _reset(client)
        if mode == "hang":
            return _stay_silent(client)
        response = self._forward(request)
        if mode == "lost":
            return _reset(client)
        if mode == "half-open":
            return _stay_silent(client)
        if mode == "cut":
            client.sendall(_first_half(response))
            return False
        if mode == "slow" and self._is_closing.wait(self.delay):
            return False
        client.sendall(response.head + response.body)
        return not response.is_last

    def _forward(self, request: Message) -> Message:
        server = socket.create_connection((HOST, self.upstream_port), timeout=PATIENCE)
        with self._known(server), server.makefile("rb") as stream:
            server.sendall(request.head + request.body)
            return read_response(stream, is_to_head=request.head.startswith(b"HEAD "))

    @contextmanager
    def _known(self, one: socket.socket) -> Iterator[None]:
        """A socket that `close` wakes whoever waits for it, closed at the end."""
        with self._lock:
            self._sockets.add(one)
        try:
            if self._is_closing.is_set():  # it came too late to be woken
                raise ConnectionAbortedError
            yield
        finally:
            with self._lock:
                self._sockets.discard(one)
            one.close()


def read_request(stream: BinaryIO) -> Message | None:
    """The next request of a connection, None at its end. EOFError when it ends amid one."""
    head = _read_head(stream)
    if head is None:
        return None
    return Message(head, _read_body(stream, _headers(head)) or b"", is_last=False)


def read_response(stream: BinaryIO, is_to_head: bool) -> Message:
    """The response to one request. EOFError when the connection ends before it does."""
    head = _read_head(stream)
    if head is None:
        raise EOFError
    headers = _headers(head)
    is_last = headers.get("Connection", "").lower() == "close"
    if is_to_head or head.split(None, 2)[1] in (b"204", b"304"):
        return Message(head, b"", is_last)
    body = _read_body(stream, headers)
    if body is None:  # of no stated length: it ends with the connection
        return Message(head, stream.read(), is_last=True)
    return Message(head, body, is_last)


def _read_head(stream: BinaryIO) -> bytes | None:
    lines = [stream.readline()]
    if lines == [b""]:
        return None
    while lines[-1] != b"\r\n":
        lines.append(_line(stream))
    return b"".join(lines)


def _headers(head: bytes) -> HTTPMessage:
    return parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))


def _read_body(stream: BinaryIO, headers: HTTPMessage) -> bytes | None:
    """The body as it is on the wire, None when no header says how long it is."""
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return _read_chunks(stream)
    if "Content-Length" in headers:
        return _exactly(stream, int(headers["Content-Length"]))
    return None


def _read_chunks(stream: BinaryIO) -> bytes:
    parts = []
    size = -1
    while size:
        parts.append(_line(stream))
        size = int(parts[-1].partition(b";")[0], 16)
        if size:
            parts.append(_exactly(stream, size + 2))  # with its line's end
    while parts[-1] != b"\r\n":  # trailers, and the empty line after them
        parts.append(_line(stream))
    return b"".join(parts)


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _first_half(response: Message) -> bytes:
    """All of the head, so that the client knows how much is missing; half of it where there is no body."""
    if response.body:
        return response.head + response.body[: len(response.body) // 2]
    return response.head[: len(response.head) // 2]


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((HOST, port))
    return one


def _wake(one: socket.socket) -> None:
    """End what another thread waits for on this socket: closing it alone would not."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _reset(client: socket.socket) -> bool:
    """Have the connection end with RST in place of FIN when it is closed; it does not go on."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _stay_silent(client: socket.socket) -> bool:
    """Say nothing until the client gives up, or the proxy is closed; the connection does not go on."""
    while client.recv(65536):
        pass
    return False
