"""A backend of OpenLineage that fails in every way in which a backend can."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OK, HANG, CUT_ANSWER, CUT_REQUEST = "ok", "hang", "cut answer", "cut request"
"""What it does with a request, where it isn't the HTTP status to answer with."""


class Backend:
    """A real HTTP server with one address all its life: refusing connections until `up`, and after `down`."""

    def __init__(self) -> None:
        self.behaves: Callable[[int], str | int] = lambda _number: OK
        """What to do with a request, by its number from 1."""
        self.headers: dict[str, str] = {}
        self.acknowledged: list[bytes] = []
        self.requests = 0
        self._serving = False
        self._lock = threading.Lock()
        self._release = threading.Event()
        self._server = self._make(("127.0.0.1", 0))

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._release.set()
        self.down()

    @property
    def environment(self) -> dict[str, str]:
        host, port = self._server.server_address[:2]
        return {"OPENLINEAGE_URL": f"http://{host}:{port}"}

    @property
    def lineage(self) -> list[dict]:
        """The events that were acknowledged, each once, in the order of their first receipt."""
        return [json.loads(body) for body in dict.fromkeys(self.acknowledged)]

    def up(self) -> None:
        """Accept connections."""
        if self._serving:
            return
        if self._server.socket.fileno() < 0:
            self._server = self._make(self._server.server_address)
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self._serving = True

    def down(self) -> None:
        """Refuse them, and end those that there are."""
        if self._server.socket.fileno() >= 0:
            if self._serving:
                self._server.shutdown()
                self._serving = False
            self._server.server_close()

    def heals(self) -> None:
        """Behave from now on."""
        self.behaves = lambda _number: OK
        self._release.set()

    def _make(self, address: tuple) -> ThreadingHTTPServer:
        server = _Server(address, _handler(self), bind_and_activate=False)
        server.server_bind()  # the address is ours, and connections to it are refused
        return server

    def take(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request, well or badly."""
        length = int(request.headers["Content-Length"])
        with self._lock:
            self.requests += 1
            what = self.behaves(self.requests)
        if what == CUT_REQUEST:
            request.rfile.read(length // 2)
            _reset(request)
            return
        body = request.rfile.read(length)
        if len(body) < length:  # whoever sent it was killed meanwhile
            request.close_connection = True
            return
        if what == HANG:
            self._release.wait()
            _reset(request)
            return
        status = what if isinstance(what, int) else 200
        if status == 200:
            with self._lock:
                self.acknowledged.append(body)
        request.send_response(status)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0" if what != CUT_ANSWER else "100")
        request.end_headers()
        if what == CUT_ANSWER:  # it has taken the event, and never gets to say so
            request.wfile.write(b"only ten b")
            _reset(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_args: object) -> None:
        """A client that has gone away is none of ours."""


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            backend.take(self)

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Close the connection with a reset, as a server does that dies."""
    request.wfile.flush()
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
