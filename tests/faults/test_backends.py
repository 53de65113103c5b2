"""Backends fail in every way, and sinks with them: dbt's outcome is its own, and a replay delivers everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.backend import CUT_ANSWER, CUT_REQUEST, HANG, OK, Backend
from tests.faults.conftest import Sandbox
from tests.faults.test_resume import assert_one_start_and_one_end

SELECT = ("build", "--select", "fast", "broken")
MESSAGES = 2 * 4
"""START and end of the session, of two models, and of the hook."""


@pytest.mark.parametrize(
    ("behaves", "headers"),
    [
        (lambda _: 500, {}),
        (lambda _: HANG, {}),
        (lambda _: CUT_REQUEST, {}),
        (lambda _: CUT_ANSWER, {}),
        (lambda number: OK if number <= 3 else 500, {}),
    ],
    ids=["500", "hanging", "closing mid-body", "closing mid-answer", "500 from the fourth on"],
)
def test_backend_in_trouble(
    duckdb_sandbox: Sandbox, backend: Backend, behaves: Callable[[int], str | int], headers: dict[str, str]
) -> None:
    backend.behaves, backend.headers = behaves, headers
    _fails_then_delivers(duckdb_sandbox, backend)


def test_backend_asks_to_be_left_alone(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    """429 with Retry-After: until then there is no second request (the first event is alone: all others follow it)."""
    backend.behaves, backend.headers = lambda _: 429, {"Retry-After": "120"}
    _fails_then_delivers(duckdb_sandbox, backend, requests=1)


def test_backend_down_at_the_start(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    backend.down()
    _fails_then_delivers(duckdb_sandbox, backend)


def test_backend_dies_midway(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    sandbox = duckdb_sandbox
    sandbox.close_gate()
    started = sandbox.dbt(*SELECT, "gate", env={**backend.environment, "SPANLINE_FLUSH_TIMEOUT": "0.5"})
    run = sandbox.run()
    run.waits_for("node_started", unique_id="model.faults.gate")
    backend.down()
    sandbox.open_gate()
    assert started.ends() == 1
    backend.up()
    sandbox.did("replay", run.id, env=backend.environment)
    assert_one_start_and_one_end(backend.lineage)
    assert len(backend.lineage) == MESSAGES + 2


def _fails_then_delivers(sandbox: Sandbox, backend: Backend, requests: int | None = None) -> None:
    environment = {**backend.environment, "SPANLINE_FLUSH_TIMEOUT": "0.5"}
    done = sandbox.dbt(*SELECT, env=environment)
    assert done.ends() == 1, "dbt's own exit code for a failed node"
    run = sandbox.run()
    assert run.outcome == "failed"
    assert {name: run.node(name) for name in ("fast", "broken")} == {"fast": "success", "broken": "error"}
    assert done.text.count("were not delivered") == 1
    assert 0 < run.shown()["undelivered"]["openlineage"] <= MESSAGES

    if requests is not None:
        assert backend.requests == requests

    backend.heals()
    backend.up()
    sandbox.did("replay", run.id, env=environment)
    assert_one_start_and_one_end(backend.lineage)
    assert len(backend.lineage) == MESSAGES
    assert run.shown()["undelivered"] == {}


SINK = """
import os

class Sink:
    name, lanes, batch, linger = "raises", 1, 1, 0.0
    def translate(self, event, state):
        with open(os.environ["FAULT_CALLS"], "a") as file:
            file.write("x")
        if os.environ["FAULT_IN"] == "translate":
            raise RuntimeError("this sink is broken")
        from spanline.sinks.base import Message
        yield Message(type(event).__name__)
    def deliver(self, payloads):
        raise RuntimeError("this sink is broken")
    def close(self):
        raise RuntimeError("this sink is broken")
"""


@pytest.mark.parametrize("where", ["translate", "deliver"])
def test_sink_that_raises_on_every_event(duckdb_sandbox: Sandbox, backend: Backend, where: str) -> None:
    sandbox = duckdb_sandbox
    library = sandbox.project.parent / "library"
    installed = library / "broken_sink-1.0.dist-info"
    installed.mkdir(parents=True)
    (library / "broken_sink.py").write_text(SINK)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-sink\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[spanline.sinks]\nraises = broken_sink:Sink\n")
    calls = sandbox.project.parent / "calls"
    environment = {
        **backend.environment,
        "PYTHONPATH": str(library),
        "FAULT_CALLS": str(calls),
        "FAULT_IN": where,
        "SPANLINE_FLUSH_TIMEOUT": "2",
    }
    done = sandbox.dbt(*SELECT, env=environment)
    assert done.ends() == 1
    run = sandbox.run()
    assert run.outcome == "failed"
    assert calls.stat().st_size > 0
    assert done.text.count("spanline: raises") == 1, "it is reported once"
    assert "this sink is broken" in done.text
    assert_one_start_and_one_end(backend.lineage)
    assert len(backend.lineage) == MESSAGES, "the other sink's backend has everything"
