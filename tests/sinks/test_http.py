"""The session for many small requests: each arrives as `requests` would send it, and a redirect loses nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from spanline.sinks.http import Redirected, RepeatingSession
from tests.support.project import Project, last_run


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
    for session in (RepeatingSession(), requests.Session()):
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
