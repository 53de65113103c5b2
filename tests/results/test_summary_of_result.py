"""RunResult as plain data: a summary that fits anywhere, a round trip, and exceptions that travel."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import pytest

from spanline.errors import DbtConnectionException, DbtException, RunnerDied, UsageError
from spanline.failures.classify import Failure
from spanline.results.result import NodeResult, RunResult, exception_of

FAILURE = Failure(category="connection", transient=True, rule="a.rule")


def result(nodes: int = 1, message: str = "it broke", **more: object) -> RunResult:
    failed = [
        NodeResult(unique_id=f"model.shop.m{n}", status="error", message=message, path=Path("models/m.sql"))
        for n in range(nodes)
    ]
    fields = {
        "run_id": "r",
        "outcome": "failed",
        "exit_code": 1,
        "elapsed": 1.5,
        "directory": Path("/home/runs/r"),
        "nodes": tuple(failed),
        "failure": FAILURE,
        "conn_id": "warehouse",
        "artifacts": {"manifest.json": Path("/home/runs/r/artifacts/1-1-1/manifest.json")},
    }
    return RunResult(**{**fields, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("message", ["x" * 100_000, "\x00\x1f" * 50_000, "é☃" * 50_000])
def test_a_summary_is_at_most_50_kb_whatever_failed(message: str) -> None:
    summary = result(3_000, message, error=message, incomplete=message, upload_error=message).summary()
    encoded = json.dumps(summary, allow_nan=False)
    assert len(encoded.encode()) <= 50_000
    assert (summary["failed"], summary["counts"]) == (3_000, {"error": 3_000})


def test_a_summary_is_at_most_50_kb_whatever_else_there_is() -> None:
    long = "é" * 5_000
    summary = result(
        50,
        long,
        error=long,
        artifacts={f"{n}{long}.json": Path(f"/{n}{long}") for n in range(300)},
        artifacts_url=f"s3://{long}",
        undelivered={f"{n}{long}": n for n in range(300)},
        directory=Path(f"/{long}"),
    ).summary()
    assert len(json.dumps(summary, allow_nan=False)) <= 50_000
    assert summary["failed"] == 50


def test_a_summary_names_what_failed_and_why() -> None:
    summary = result(error="model.shop.m0: it broke").summary()
    assert summary["failed_nodes"] == [
        {"unique_id": "model.shop.m0", "status": "error", "message": "it broke", "category": None}
    ]
    assert (summary["category"], summary["transient"]) == ("connection", True)
    assert summary["artifacts"] == {"manifest.json": "/home/runs/r/artifacts/1-1-1/manifest.json"}


@pytest.mark.parametrize("elapsed", [math.nan, math.inf])
def test_a_summary_has_no_number_that_json_does_not_have(elapsed: float) -> None:
    assert result(elapsed=elapsed).summary()["elapsed"] is None


def test_a_result_survives_a_round_trip_through_json() -> None:
    before = result(2)
    assert RunResult.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(UsageError, match="exit_code"):
        RunResult.from_dict({**result().to_dict(), "exit_code": "one"})


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_exception_travels_between_processes(again) -> None:  # type: ignore[no-untyped-def]
    error = exception_of(result())
    found = again(error)
    assert type(found) is DbtConnectionException
    assert (str(found), found.run_id, found.category, found.transient, found.conn_id, found.failed_nodes) == (
        str(error),
        "r",
        "connection",
        True,
        "warehouse",
        ("model.shop.m0",),
    )


def test_what_killed_the_runner_travels_with_its_exception() -> None:
    error = exception_of(result(outcome="died", signal="SIGKILL"))
    found: DbtException = pickle.loads(pickle.dumps(error))
    assert isinstance(found, RunnerDied)
    assert found.signal == "SIGKILL"
