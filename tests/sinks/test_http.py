"""The session for many small requests: each arrives as `requests` would send it, and a redirect loses nothing.

And what a backend answers, by mistake or on purpose, costs neither memory nor time.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from spanline import events
from spanline.journal import ids
from spanline.sinks.http import LONGEST_ANSWER, Redirected, RepeatingSession
from tests.support.journals import session_started, undelivered
from tests.support.memory import run_measured
from tests.support.project import SPANLINE, Project, last_run
from tests.support.receivers import serving


class Elsewhere:
    """A server that answers with `status`, and where to look instead; at `/there` it takes what it is sent."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, str, bytes, dict[str, str]]] = []
        found = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found.received.append((self.command, self.path, body, dict(self.headers)))
                self.send_response(200 if self.path == "/there" else found.status)
                self.send_header("Location", "/there")
                self.send_header("Set-Cookie", "a=b")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere()
    yield server
    server.stop()


def test_head_and_body_of_a_request_arrive_together() -> None:
    """Sent one after the other, they would wake the backend twice: what it reads first would be the head alone."""
    first_reads: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            for _ in range(20):
                first_reads.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        session = RepeatingSession()
        for number in range(20):
            post(session, f"http://127.0.0.1:{listening.getsockname()[1]}/", f"body {number}")
        server.join(5)
    assert [read.rpartition(b"\r\n\r\n")[2] for read in first_reads] == [b"body %d" % n for n in range(20)]


def post(session: requests.Session, url: str, body: str, **headers: str) -> requests.Response:
    return session.post(url, data=body, headers=headers, timeout=5)


def test_each_request_is_what_requests_would_send(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    plain = requests.Session()
    plain.headers["Accept-Encoding"] = "identity"  # as nothing that is packed is read
    for session in (RepeatingSession(), plain):
        session.cookies.clear()
        post(session, f"{elsewhere.url}/a", "one", Authorization="Bearer 1")
        session.cookies.clear()
        post(session, f"{elsewhere.url}/a", "another, longer: ä", Authorization="Bearer 1")
        session.cookies.clear()
        post(session, f"{elsewhere.url}/a", "one", Authorization="Bearer 2")
        session.cookies.clear()
        post(session, f"{elsewhere.url}/b", "", Authorization="Bearer 2")
    half = len(elsewhere.received) // 2
    assert elsewhere.received[:half] == elsewhere.received[half:]
    assert [body for _, _, body, _ in elsewhere.received[:half]] == [
        b"one",
        "another, longer: ä".encode(),
        b"one",
        b"",
    ]


def test_what_was_closed_connects_anew(elsewhere: Elsewhere) -> None:
    session = RepeatingSession()
    for body in ("one", "two"):
        assert post(session, f"{elsewhere.url}/a", body).ok
        session.close()
    assert [body for _, _, body, _ in elsewhere.received] == [b"one", b"two"]


def test_a_key_is_not_printed_whatever_a_caller_has_set(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)
    post(RepeatingSession(), f"{elsewhere.url}/a", "one", Authorization="Bearer the-key")
    assert capfd.readouterr().out == ""


def test_certificates_are_looked_for_once(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "certificates.pem"
    bundle.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    looked_for: list[object] = []
    is_folder = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: looked_for.append(path) or is_folder(path))
    session = RepeatingSession()
    for body in ("one", "two", "three"):
        assert post(session, f"{elsewhere.url}/a", body).ok
    assert looked_for.count(str(bundle)) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_redirect_that_keeps_the_request_is_followed(elsewhere: Elsewhere, status: int) -> None:
    elsewhere.status = status
    assert post(RepeatingSession(), elsewhere.url, "body").status_code == 200
    assert [(method, path, body) for method, path, body, _ in elsewhere.received] == [
        ("POST", "/", b"body"),
        ("POST", "/there", b"body"),
    ]


@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirect_that_would_lose_the_body_is_an_error(elsewhere: Elsewhere, status: int) -> None:
    elsewhere.status = status
    with pytest.raises(Redirected, match=rf"redirects to {elsewhere.url}/there \({status}\): name that address"):
        post(RepeatingSession(), elsewhere.url, "body")
    assert len(elsewhere.received) == 1


def test_what_is_redirected_is_not_taken_for_delivered(project: Project, elsewhere: Elsewhere) -> None:
    elsewhere.status = 301
    done = project.spanline(
        "dbt",
        "run-operation",
        "say",
        "--args",
        "{text: hello}",
        OPENLINEAGE_URL=elsewhere.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=elsewhere.url,
        SPANLINE_FLUSH_TIMEOUT="1",
    )
    assert done.returncode == 0
    said = done.stderr.decode()
    assert f"{elsewhere.url}/api/v1/lineage redirects to {elsewhere.url}/there (301): name that address" in said
    assert f"{elsewhere.url}/v1/traces redirects to {elsewhere.url}/there (301): name that address" in said
    owed = last_run(project).result().undelivered
    assert owed["openlineage"] == 2
    assert owed["otel_traces"] > 0
    assert not [path for _, path, _, _ in elsewhere.received if path == "/there"]


# --- answers that are none --------------------------------------------------------------------------------------------

SECONDS = 1.0
"""The time-out of these tests."""
OK = b"HTTP/1.1 200 OK\r\n"
ACKNOWLEDGED = OK + b"Content-Length: 0\r\n\r\n"
MEGABYTE = bytes(1 << 20)


def endlessly(head: bytes, piece: bytes, pause: float = 0.0) -> Iterator[bytes]:
    yield head
    while True:
        yield piece
        time.sleep(pause)


def packed() -> bytes:
    """64 MB of zeros in less than 64 KiB."""
    return gzip.compress(bytes(60_000_000))


class Hostile:
    """A server that answers the first request with these pieces, for as long as somebody reads, and then behaves."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.connections = 0
        self.sent = 0
        self.requests: list[bytes] = []
        self.pauses = False
        """Set, it is slow to read the next request that comes in several pieces."""
        self._answers = itertools.chain([pieces], itertools.repeat([ACKNOWLEDGED]))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # else it takes megabytes unread
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while request := self._request(connection):
                self.requests.append(request)
                for piece in next(self._answers):
                    connection.sendall(piece)
                    self.sent += len(piece)

    def _request(self, connection: socket.socket) -> bytes:
        found = bytearray()
        while not (end := found.find(b"\r\n\r\n") + 4) > 3 or len(found) < end + self._length(found):
            if self.pauses and found:
                self.pauses = False
                time.sleep(SECONDS)
            read = connection.recv(1 << 20)
            if not read:
                return b""
            found += read
        return bytes(found)

    @staticmethod
    def _length(request: bytearray) -> int:
        said = re.search(rb"(?i)content-length: (\d+)", request)
        return int(said[1]) if said else 0


@pytest.fixture
def hostile() -> Iterator[Callable[[Iterable[bytes]], Hostile]]:
    servers: list[Hostile] = []

    def start(pieces: Iterable[bytes]) -> Hostile:
        servers.append(Hostile(pieces))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


TOO_LONG = {
    "of a length": lambda: endlessly(OK + b"Content-Length: 1073741824\r\n\r\n", MEGABYTE),
    "of no length": lambda: endlessly(OK + b"Connection: close\r\n\r\n", MEGABYTE),
    "in chunks": lambda: endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + MEGABYTE + b"\r\n"),
}


@pytest.mark.parametrize("kind", TOO_LONG)
def test_of_an_answer_that_is_too_long_the_rest_is_left(
    hostile: Callable[[Iterable[bytes]], Hostile], kind: str
) -> None:
    server = hostile(TOO_LONG[kind]())
    session = RepeatingSession()
    tracemalloc.start()
    try:
        got = session.post(server.url, data="body", timeout=SECONDS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert (got.status_code, got.content) == (200, bytes(LONGEST_ANSWER))
    assert server.sent < 32 << 20, "nobody reads on"
    assert session.post(server.url, data="another", timeout=SECONDS).status_code == 200
    assert server.connections == 2, "nor comes back to what is left"


def test_an_answer_is_read_as_far_as_it_may_be(hostile: Callable[[Iterable[bytes]], Hostile]) -> None:
    server = hostile([OK + b"Content-Length: 65536\r\n\r\n", b"x" * LONGEST_ANSWER])
    session = RepeatingSession()
    assert session.post(server.url, data="body", timeout=SECONDS).text == "x" * LONGEST_ANSWER
    session.post(server.url, data="another", timeout=SECONDS)
    assert server.connections == 1


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"gzip, gzip"])
def test_what_is_packed_is_not_unpacked(hostile: Callable[[Iterable[bytes]], Hostile], encoding: bytes) -> None:
    body = packed()
    assert len(body) < LONGEST_ANSWER
    server = hostile([OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body)), body])
    tracemalloc.start()
    try:
        got = RepeatingSession().post(server.url, data="body", timeout=SECONDS)
        assert (got.status_code, got.content) == (200, b"")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert b"Accept-Encoding: identity" in server.requests[0]


NEVER_ENDING = {
    "a status line": lambda: endlessly(b"HTTP/1.1 200 ", b"x" * 1000),
    "headers": lambda: endlessly(OK, b"X-A: b\r\n"),
    "a header": lambda: endlessly(OK + b"X-A: ", MEGABYTE),
    "interim answers": lambda: endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the size of a chunk": lambda: endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", MEGABYTE),
    "trailers": lambda: endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 1000),
    "a status line, a byte at a time": lambda: endlessly(b"HTTP/1.1 200 ", b"x", SECONDS / 10),
    "headers, a byte at a time": lambda: endlessly(OK + b"X-A: ", b"x", SECONDS / 10),
    "a body, a byte at a time": lambda: endlessly(OK + b"Content-Length: 1000\r\n\r\n", b"x", SECONDS / 10),
    "chunks, a byte at a time": lambda: endlessly(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", SECONDS / 10
    ),
}


@pytest.mark.parametrize("kind", NEVER_ENDING)
def test_what_has_no_end_has_one_time_out_for_all_of_it(
    hostile: Callable[[Iterable[bytes]], Hostile], kind: str
) -> None:
    server = hostile(NEVER_ENDING[kind]())
    session = RepeatingSession()
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(requests.RequestException):
            session.post(server.url, data="body", timeout=SECONDS)
        assert time.monotonic() - started < 3 * SECONDS
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert session.post(server.url, data="another", timeout=SECONDS).status_code == 200


def test_silence_behind_a_late_beginning_is_within_the_same_time_out(
    hostile: Callable[[Iterable[bytes]], Hostile],
) -> None:
    over = threading.Event()

    def begins_late() -> Iterator[bytes]:
        time.sleep(1.8 * SECONDS)
        yield b"HTTP/1.1 "
        over.wait()

    server = hostile(begins_late())
    started = time.monotonic()
    with pytest.raises(requests.RequestException):
        RepeatingSession().post(server.url, data="body", timeout=2 * SECONDS)
    assert time.monotonic() - started < 3 * SECONDS
    over.set()


def test_an_answer_that_was_cut_off_is_no_acknowledgement(hostile: Callable[[Iterable[bytes]], Hostile]) -> None:
    def cut() -> Iterator[bytes]:
        yield OK + b"Content-Length: 100\r\n\r\nonly ten b"
        raise ConnectionError

    server = hostile(cut())
    with pytest.raises(requests.ConnectionError, match="10 bytes read, 90 more expected"):
        RepeatingSession().post(server.url, data="body", timeout=SECONDS)


def test_a_slow_answer_leaves_the_next_request_its_time(hostile: Callable[[Iterable[bytes]], Hostile]) -> None:
    def slow() -> Iterator[bytes]:
        time.sleep(1.6 * SECONDS)
        yield OK
        time.sleep(0.1 * SECONDS)
        yield b"Content-Length: 0\r\n\r\n"

    server = hostile(slow())
    session = RepeatingSession()
    session.post(server.url, data="body", timeout=2 * SECONDS)
    server.pauses = True
    # Larger than what the system holds for a reader who takes his time.
    assert session.post(server.url, data=bytes(16 << 20), timeout=2 * SECONDS).status_code == 200
    assert not server.pauses
    assert server.connections == 1


def test_the_answer_with_a_redirect_is_read_no_further(
    hostile: Callable[[Iterable[bytes]], Hostile], elsewhere: Elsewhere
) -> None:
    location = f"Location: {elsewhere.url}/there\r\n".encode()
    server = hostile(endlessly(b"HTTP/1.1 307 Moved\r\n" + location + b"Content-Length: 1073741824\r\n\r\n", MEGABYTE))
    assert post(RepeatingSession(), server.url, "body").status_code == 200
    assert [(path, body) for _, path, body, _ in elsewhere.received] == [("/there", b"body")]
    assert server.sent < 32 << 20


COMPOSITE = '{{"type": "composite", "transports": [{{"type": "http", "url": "{url}"}}]}}'


@pytest.mark.parametrize(
    ("sink", "configure"),
    [
        ("openlineage", lambda url: {"OPENLINEAGE_URL": url}),
        ("openlineage", lambda url: {"OPENLINEAGE__TRANSPORT": COMPOSITE.format(url=url)}),
        ("otel_traces", lambda url: {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}),
    ],
    ids=["openlineage", "openlineage, composite", "otlp"],
)
@pytest.mark.parametrize("status", [b"200 OK", b"503 Busy"])
def test_no_sink_holds_what_a_backend_answers(
    tmp_path: Path, sink: str, configure: Callable[[str], dict[str, str]], status: bytes
) -> None:
    run_id = ids.new_run_id()
    ended = events.SessionEnded(outcome="success", exit_code=0)
    run = undelivered(tmp_path, run_id, [session_started(run_id), ended])

    sent: list[int] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 1073741824\r\n\r\n")
                for megabytes in range(1024):
                    self.wfile.write(MEGABYTE)
                    sent.append(megabytes)

    with serving(Answers) as url:
        seconds = "20" if status == b"200 OK" else "3"
        words = [SPANLINE, "--home", str(tmp_path / "home"), "replay", "latest", "--timeout", seconds]
        _, mebibytes = run_measured(words, tmp_path / "output", {**os.environ, **configure(url)})
    output = (tmp_path / "output").read_bytes().splitlines()[-1]
    assert output.startswith(sink.encode())
    assert (b", 0 undelivered" in output) == (status == b"200 OK"), output
    assert run.run_id == run_id
    assert max(sent) < 64, "nobody reads on, not even before another try"
    assert mebibytes < 400
