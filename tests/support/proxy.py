"""A proxy before an HTTP server: it hands on, answers itself, spoils or hangs up, as a test says for each request."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

HANG_UP = "hang up"
CUT_BODY = "cut the body"
Rule = Callable[[str, str, int], "int | str | None"]
"""From method, path and the request's number (from 1) to a status to answer, one of these words, or None: hand on."""


@dataclass
class Proxy:
    """What it was asked, in order, and the rule for what is asked next."""

    url: str
    rule: Rule = lambda _method, _path, _number: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def asked(self, method: str) -> list[str]:
        """The paths, without their query, of the requests by this method."""
        return [unquote(urlsplit(path).path) for asked, path in self.requests if asked == method]


_CODES = {403: "AccessDenied", 404: "NoSuchBucket", 503: "SlowDown"}
"""https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy
    target: str
    lock: threading.Lock

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            self.proxy.requests.append((self.command, self.path))
            number = len(self.proxy.requests)
        said = self.proxy.rule(self.command, self.path, number)
        if said == HANG_UP:
            self.close_connection = True
        elif isinstance(said, int):
            code = _CODES.get(said, "InternalError")
            self._answer(said, {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
        else:
            self._hand_on(body[: len(body) // 2] if said == CUT_BODY else body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _hand_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=30)
        dropped = ("host", "content-length", "content-md5", "transfer-encoding", "expect")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        if len(body) != int(self.headers.get("Content-Length") or 0):
            headers = {name: value for name, value in headers.items() if "checksum" not in name.lower()}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        self._answer(response.status, dict(response.getheaders()), response.read())
        connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        """A client that has gone away is none of ours."""


@contextmanager
def before(target: str) -> Iterator[Proxy]:
    """A proxy before the server at this address."""
    proxy = Proxy("")
    handler = type("Handler", (_Handler,), {"proxy": proxy, "target": target, "lock": threading.Lock()})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
