"""A small dbt project on DuckDB, real HTTP receivers, the real command line: what the core's tests share."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.examples import SAME
from tests.support.project import FILES, Project
from tests.support.receivers import Received, Receiver

_OTHERS_VARIABLES = ("OPENLINEAGE_", "OPENLINEAGE__", "OTEL_", "DBT_", "SPANLINE_", "TRACEPARENT")

settings.load_profile(SAME)


_START_DBT = frozenset(("_template", "postgres", "sandbox", "interpreter", "connected", "demo"))
"""Fixtures that start dbt, or whose tests do."""
_OF_OTHERS = frozenset(("marquez", "postgres"))
"""Marks of tests that need a server."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as `dbt` what starts it, by its fixtures, and what is done on request only: `-m "not dbt"` is all else."""
    on_request = _OF_OTHERS.union(re.findall(r"not (\w+)", " ".join(config.getini("addopts"))))
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if not _START_DBT.isdisjoint(getattr(item, "fixturenames", ())) or not on_request.isdisjoint(marks):
            item.add_marker(pytest.mark.dbt)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> None:
    """What the caller's shell has set for dbt or backends must not reach a test; what it has set for tests may."""
    for name in list(os.environ):
        if name.startswith(_OTHERS_VARIABLES) and not name.startswith("SPANLINE_TEST_"):
            del os.environ[name]
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, parsed and seeded once."""
    project = Project(tmp_path_factory.mktemp("template") / "shop")
    for name, text in FILES.items():
        project.write(name, text)
    done = project.dbt("seed")
    assert done.returncode == 0, done.stdout.decode()
    return project.path


@pytest.fixture(scope="session")
def copy_project(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    def copy() -> Project:
        place = tmp_path_factory.mktemp("project") / "shop"
        shutil.copytree(_template, place, ignore=shutil.ignore_patterns("logs", "run_results.json"))
        return Project(place)

    return copy


@pytest.fixture
def project(copy_project: Callable[[], Project]) -> Project:
    return copy_project()


@pytest.fixture(scope="session")
def start_receiver() -> Iterator[Callable[[], Receiver]]:
    servers: list[tuple[ThreadingHTTPServer, Receiver]] = []

    def start_one() -> Receiver:
        receiver = Receiver()
        receiver.open.set()
        lock = threading.Lock()
        seen: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                at = time.time()
                time.sleep(receiver.delay)
                receiver.open.wait()
                with lock:
                    seen.append(1)
                    status = receiver.status(len(seen)) if callable(receiver.status) else receiver.status
                    receiver.requests.append(Received(at, self.path, body, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_args: object) -> None:
                """A client that has gone away is none of ours."""

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        servers.append((server, receiver))
        return receiver

    yield start_one
    for server, receiver in servers:
        receiver.open.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver(start_receiver: Callable[[], Receiver]) -> Receiver:
    return start_receiver()
