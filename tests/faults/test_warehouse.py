"""The warehouse goes away midway: with `--retry-limit` the run ends green, and what had been done isn't done again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Postgres, RunView, Sandbox, until
from tests.faults.test_resume import assert_one_start_and_one_end

pytestmark = pytest.mark.postgres

OPTIONS = ("--retry-limit", "3", "--retry-delay", "3")
BELOW = "select * from {{ ref('gate') }}"


class Proxy:
    """A TCP proxy before PostgreSQL's socket, whose connections can be cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        host, port = self._listener.getsockname()
        return {"FAULT_PG_HOST": host, "FAULT_PG_PORT": str(port)}

    def cut(self) -> int:
        """End every connection, on both sides; how many there were."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            with self._lock:
                self._ends += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:
            self._ends = [end for end in self._ends if end is not source]
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    started = Proxy(postgres.socket)
    yield started
    started.close()


def _waits_at_the_gate(sandbox: Sandbox) -> RunView:
    """A run with one model done and the next in a query."""
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast", status="success")
    run.waits_for("node_started", unique_id="model.faults.gate")
    until(lambda: any("pg_advisory_xact_lock" in query for query in sandbox.queries()), "the query at the gate")
    return run


def _ended_green(run: RunView, backend: Backend) -> None:
    assert run.ends == [("success", 0)]
    assert Counter(run.begun()) == {"fast": 1, "gate": 2, "below": 1}
    assert {name: run.node(name) for name in ("fast", "gate", "below")} == dict.fromkeys(
        ("fast", "gate", "below"), "success"
    )
    assert_one_start_and_one_end(backend.lineage)
    (session,) = {e["eventType"] for e in backend.lineage if e["run"]["runId"] == run.id} - {"START"}
    assert session == "COMPLETE"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_stopped_and_started(postgres_sandbox: Sandbox, backend: Backend, mode: str) -> None:
    sandbox = postgres_sandbox
    sandbox.expected_steps = 3
    (sandbox.project / "models" / "below.sql").write_text(BELOW)
    sandbox.close_gate()
    started = sandbox.dbt("build", "--select", "fast", "gate", "below", options=OPTIONS, env=backend.environment)
    run = _waits_at_the_gate(sandbox)
    sandbox.postgres.stop(mode)  # which opens the gate: the lock's holder is gone, too
    sandbox.postgres.start()
    assert started.ends() == 0, started.text
    assert run.events("retry_scheduled")[0]["reason"].startswith("connection (postgres.")
    _ended_green(run, backend)


def test_connections_cut_by_a_proxy(postgres_sandbox: Sandbox, proxy: Proxy, backend: Backend) -> None:
    sandbox = postgres_sandbox
    sandbox.expected_steps = 3
    (sandbox.project / "models" / "below.sql").write_text(BELOW)
    sandbox.close_gate()
    env = {**backend.environment, **proxy.environment}
    started = sandbox.dbt("build", "--select", "fast", "gate", "below", options=OPTIONS, env=env)
    run = _waits_at_the_gate(sandbox)
    assert proxy.cut() > 0
    run.waits_for("retry_scheduled")
    sandbox.open_gate()
    assert started.ends() == 0, started.text
    assert len(run.events("attempt_started")) == 2
    _ended_green(run, backend)
