"""`spanline doctor`, as a user types it: each thing that is looked at is in order, off, or a problem with advice."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from spanline import events
from spanline.doctor.finding import OFF, OK, PROBLEM, Finding
from spanline.doctor.kept_runs import kept_runs
from spanline.doctor.parents import parents
from spanline.home.cursor import Cursor
from spanline.journal.ids import new_run_id
from tests.support.journals import session_started, undelivered
from tests.support.project import SPANLINE, Project
from tests.support.receivers import Receiver

SIGNALS = ("otel_logs", "otel_metrics", "otel_traces")


def doctor(place: Path, *options: str, **variables: str) -> tuple[int, dict[str, Finding]]:
    done = subprocess.run(
        [SPANLINE, *options, "doctor", "--json"],
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    found = [Finding(**json.loads(line)) for line in done.stdout.splitlines()]
    return done.returncode, {finding.topic: finding for finding in found}


@pytest.fixture(scope="module")
def closed_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture(scope="module")
def healthy(
    copy_project: Callable[[], Project], start_receiver: Callable[[], Receiver]
) -> tuple[int, dict[str, Finding], Receiver, Project]:
    project, receiver = copy_project(), start_receiver()
    shutil.rmtree(project.home, ignore_errors=True)
    variables = {**receiver.lineage_environment, **receiver.otel_environment}
    return (*doctor(project.path, **variables), receiver, project)


def test_all_is_well_with_a_project_that_connects_and_backends_that_answer(
    healthy: tuple[int, dict[str, Finding], Receiver, Project],
) -> None:
    code, found, _, _ = healthy
    assert code == 0
    assert {finding.status for finding in found.values()} == {OK, OFF}
    in_order = ("spanline", "libraries", "dbt", "project", "connection", "openlineage", *SIGNALS, "disk", "runs")
    assert [found[topic].status for topic in in_order] == [OK] * len(in_order)
    assert "dbt-duckdb" in found["dbt"].message


def test_a_probe_of_lineage_is_one_event_of_a_job_of_its_own(
    healthy: tuple[int, dict[str, Finding], Receiver, Project],
) -> None:
    _, _, receiver, _ = healthy
    (event,) = receiver.lineage  # none of the `dbt debug` that was run
    assert (event["eventType"], event["job"]["name"]) == ("OTHER", "spanline-doctor")


def test_a_probe_of_opentelemetry_is_an_empty_request_for_each_signal(
    healthy: tuple[int, dict[str, Finding], Receiver, Project],
) -> None:
    _, found, receiver, _ = healthy
    assert [len(receiver.acknowledged(f"/v1/{signal}")) for signal in ("traces", "metrics", "logs")] == [1, 1, 1]
    assert receiver.spans == []
    assert all(receiver.url in found[signal].message for signal in SIGNALS)


def test_nothing_is_left_in_the_project(healthy: tuple[int, dict[str, Finding], Receiver, Project]) -> None:
    *_, project = healthy
    assert not project.home.exists()


def test_what_is_down_is_a_problem_and_its_secrets_are_not_said(
    copy_project: Callable[[], Project], closed_port: str
) -> None:
    project = copy_project()
    project.write("profiles.yml", "shop: {target: dev, outputs: {dev: {type: duckdb, path: /nowhere/at/all.duckdb}}}")
    code, found = doctor(
        project.path,
        OPENLINEAGE_URL=closed_port.replace("//", "//user:open-sesame-12@"),
        OTEL_EXPORTER_OTLP_ENDPOINT=closed_port,
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        TRACEPARENT="nonsense",
    )
    assert code == 1
    problems = {topic: finding for topic, finding in found.items() if finding.status == PROBLEM}
    assert set(problems) == {"connection", "openlineage", *SIGNALS, "parent in the trace"}
    assert "/nowhere/at/all.duckdb" in problems["connection"].message
    assert "refused" in problems["openlineage"].message
    assert all("did not take a probe" in problems[signal].message for signal in SIGNALS)
    assert all(finding.advice for finding in problems.values())
    assert "open-sesame-12" not in repr(found)


def test_without_dbt_or_a_project_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, "--python", "/nowhere/python", HOME=str(tmp_path))
    assert code == 1
    assert [topic for topic, finding in found.items() if finding.status == PROBLEM] == ["dbt"]
    assert found["runs"].status == OK


def test_the_text_is_a_line_for_each_finding(tmp_path: Path) -> None:
    done = subprocess.run(
        [SPANLINE, "--python", "/nowhere/python", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (problem,) = (line for line in done.stdout.splitlines() if line.startswith("problem "))
    assert problem.startswith("problem  dbt: cannot start the interpreter /nowhere/python")
    assert problem.endswith("set --python to another")


PARENT = f"airflow/shop.build/{uuid.UUID(int=7)}"


@pytest.mark.parametrize(
    ("variables", "statuses"),
    [
        ({}, [OFF, OFF]),
        ({"OPENLINEAGE_PARENT_ID": PARENT}, [OK, OFF]),
        ({"OPENLINEAGE_PARENT_ID": "airflow/shop.build/7"}, [PROBLEM, OFF]),
        ({"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, [OFF, OK]),
        ({"TRACEPARENT": "00-0-0-01"}, [OFF, PROBLEM]),
    ],
)
def test_parents_in_the_environment(variables: dict[str, str], statuses: list[str]) -> None:
    assert [finding.status for finding in parents(variables)] == statuses


def found_in(home: Path) -> dict[str, Finding]:
    return {finding.topic: finding for finding in kept_runs(home)}


def test_a_run_that_was_cut_off_torn_and_owes_its_backend(tmp_path: Path) -> None:
    run_id = new_run_id()
    run = undelivered(tmp_path, run_id, [session_started(run_id)])
    Cursor(undelivered=3).save(run.cursor("openlineage"))
    with run.journal.open("ab") as journal:
        journal.write(b'\n{"type": "half a rec\n')
    found = found_in(tmp_path / "home")
    troubles = ("torn lines", "runs that were cut off", "undelivered events")
    assert [found[topic].status for topic in troubles] == [PROBLEM] * 3
    assert all(run_id in found[topic].message for topic in troubles)
    assert found["unreadable journals"].status == OK


def test_a_run_that_ended_well_is_no_trouble(tmp_path: Path) -> None:
    run_id = new_run_id()
    run = undelivered(tmp_path, run_id, [session_started(run_id), events.SessionEnded(outcome="success", exit_code=0)])
    Cursor(complete=True).save(run.cursor("openlineage"))
    assert {finding.status for finding in found_in(tmp_path / "home").values()} == {OK}


def test_three_of_many_are_named_the_latest_first(tmp_path: Path) -> None:
    ids = sorted(new_run_id() for _ in range(5))
    for run_id in ids:
        undelivered(tmp_path, run_id, [session_started(run_id)])
    message = found_in(tmp_path / "home")["runs that were cut off"].message
    assert message == f"run {ids[4]}, {ids[3]}, {ids[2]} and 2 more"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert found_in(tmp_path / "home")["disk"].status == PROBLEM
