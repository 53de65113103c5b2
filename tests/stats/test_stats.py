"""`spanline stats`: figures of real runs against sums done here by hand; of written ones where time has to pass."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline import events
from spanline.api.run import Run
from spanline.dbt.arguments import without_global_flags
from spanline.errors import UsageError
from spanline.events import Event
from spanline.home.home import RunDirectory
from spanline.journal.state import RunState, outcome_of
from spanline.runner.shared.writer import LONGEST_RECORD
from spanline.stats import facts, kept, places
from spanline.stats.facts import Facts, facts_of, job
from spanline.stats.gather import gather, moment
from spanline.stats.report import Report
from spanline.stats.web import LONGEST_ANSWER
from spanline.system import files
from tests.home.test_prune import id_of_age
from tests.supervisor.test_retry import LOCKED, held_by_another
from tests.support.journals import journal, session_started
from tests.support.memory import run_measured
from tests.support.project import SPANLINE, Project, command, last_run
from tests.support.receivers import serving
from tests.support.waiting import eventually

DAY = 86_400.0
NOW = 1_780_000_000.0


def stats(project: Project, *options: str, **environment: str) -> dict[str, Any]:
    done = project.spanline("stats", "--json", *options, **environment)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def local(home: Path, since: str = "30d", now: float = NOW, **options: Any) -> Report:
    return gather(places.Local(home), since, now=now, **options)


def refuse(_: str | None) -> Path:
    raise AssertionError("a URL is no local home")


class Written:
    """A home whose journals are written here, to the second."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(
        self,
        days_ago: float,
        *then: tuple[float, Event],
        outcome: str | None = "success",
        seconds: float = 10.0,
        command: Sequence[str] = ("build",),
    ) -> Path:
        """One session that began so long before NOW, its events at their seconds, and its end."""
        age = time.time() - NOW + days_ago * DAY
        run_id = id_of_age(age)
        begun = NOW - days_ago * DAY
        start = session_started(run_id, session=1)
        written = [(0.0, msgspec.structs.replace(start, steps=[list(command)])), *then]
        if outcome is not None:
            written.append((seconds, events.SessionEnded(outcome=outcome, exit_code=0 if outcome == "success" else 1)))
        lines = [
            b"\n%s\n" % msgspec.json.encode(msgspec.structs.replace(event, time=int((begun + at) * 1e9), session=1))
            for at, event in written
        ]
        path = self.home / "runs" / run_id / "journal.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(lines))
        os.utime(path, (begun + seconds, begun + seconds))
        return path


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "home")


def node(at: float, unique_id: str, status: str = "success", seconds: float = 1.0) -> tuple[float, Event]:
    return at, events.NodeFinished(unique_id=unique_id, status=status, execution_time=seconds)


def described(unique_id: str, checksum: str, *parents: str) -> tuple[float, Event]:
    kind, package, name = unique_id.split(".")[:3]
    return 0.0, events.NodeDescribed(
        unique_id=unique_id,
        resource_type=kind,
        name=name,
        package_name=package,
        checksum=checksum,
        depends_on=list(parents),
    )


# --- real runs --------------------------------------------------------------------------------------------------------


def session_seconds(run: Run) -> list[float]:
    begun = [event.time for event in journal(run) if isinstance(event, events.SessionStarted)]
    ended = [event.time for event in journal(run) if isinstance(event, events.SessionEnded)]
    return [(end - begin) / 1e9 for begin, end in zip(begun, ended, strict=True)]


def at_quantile(sorted_values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks."""
    place = share * (len(sorted_values) - 1)
    low = int(place)
    high = min(low + 1, len(sorted_values) - 1)
    return sorted_values[low] + (place - low) * (sorted_values[high] - sorted_values[low])


@pytest.mark.slow
def test_the_figures_of_real_runs_are_those_of_their_journals(project: Project) -> None:
    project.write("models/fragile.sql", "select id{{ env_var('COLUMN', '') }} from {{ ref('orders') }}")
    good = [project.run("run", "-s", "customers", "--vars", json.dumps({"day": day})) for day in (1, 2)]
    assert project.spanline("dbt", "run", "-s", "orders", "fragile", COLUMN=", no_such_column").returncode == 1
    (resumed,) = [Run(run) for run in _directories(project) if run.run_id not in {each.id for each in good}]
    assert project.spanline("retry", resumed.id).returncode == 0
    known = {run.id for run in (*good, resumed)}
    assert project.spanline("dbt", "run", "-s", "orders", "fragile", COLUMN=", no_such_column").returncode == 1
    (failed,) = [Run(run) for run in _directories(project) if run.run_id not in known]

    found = stats(project)
    assert found["runs"] == {
        "total": 4, "success": 3, "failed": 1, "died": 0, "cancelled": 0, "timed_out": 0, "success_rate": 0.75,
    }  # fmt: skip
    assert len(session_seconds(resumed)) == 2
    took = sorted(sum(session_seconds(run)) for run in (*good, resumed, failed))
    expected = {"runs": 4, "mean": sum(took) / 4}
    expected |= {f"p{share}": at_quantile(took, share / 100) for share in (50, 95, 99)}
    assert found["run_time"] == pytest.approx(expected)
    assert {(each["job"], each["runs"], each["success_rate"]) for each in found["jobs"]} == {
        ("shop: run -s customers", 2, 1.0),
        ("shop: run -s orders fragile", 2, 0.5),
    }
    # It failed in both first sessions, and succeeded when it was resumed.
    assert found["failing_nodes"] == [
        {"unique_id": "model.shop.fragile", "executions": 3, "failures": 2, "failure_rate": pytest.approx(2 / 3)}
    ]
    assert found["retries"] == {"total": 0, "by_category": {}, "resumed_sessions": 1}
    of_customers = [
        event.execution_time
        for run in good
        for event in journal(run)
        if isinstance(event, events.NodeFinished) and event.unique_id == "model.shop.customers"
    ]
    (customers,) = [each for each in found["slowest_nodes"] if each["unique_id"] == "model.shop.customers"]
    assert (customers["executions"], customers["change"]) == (2, None)
    assert customers["mean"] == pytest.approx(sum(of_customers) / 2)
    assert customers["p95"] == pytest.approx(at_quantile(sorted(of_customers), 0.95))
    sizes = [_bytes(run.directory.path / "artifacts") for run in (*good, resumed, failed)]
    assert min(sizes) > 0
    assert found["artifacts"] == {"total": sum(sizes), "mean": sum(sizes) / 4, "largest": max(sizes)}
    assert found["left_out"] == {"under_way": 0, "unreadable": 0, "torn_lines": 0}

    checked = project.spanline("stats", "--check")
    assert checked.returncode == 1
    assert checked.stdout.decode().splitlines() == [
        "critical runs that failed: shop: run -s orders fragile: 50.0% of 2 (critical above 10 %)",
        "ok       no job has succeeded in the last day and 3 times in the week before",
        "ok       no retries",
    ]
    said = project.spanline("stats").stdout.decode()
    assert "4 runs since " in said
    assert " (3 success, 1 failed)\n" in said
    assert "66.7%" in said
    assert "critical runs that failed: shop: run -s orders fragile: 50.0% of 2" in said


def _directories(project: Project) -> list[Any]:
    from spanline.home import home

    return home.runs(project.home)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_retries_are_counted_by_category(project: Project) -> None:
    project.write("models/locked.sql", LOCKED)
    other = project.path / "other.duckdb"
    options = ["--retry-limit", "3", "--retry-delay", "0.5"]
    with held_by_another(other) as holder:
        process = project.open(*options, "dbt", "run", "-s", "customers", "locked", OTHER=str(other))
        eventually(lambda: list(project.home.glob("runs/*/journal.jsonl")), "the run")
        run = last_run(project)
        eventually(lambda: [e for e in journal(run) if isinstance(e, events.RetryScheduled)], "the first failure")
        holder.kill()
        assert process.wait(60) == 0
    scheduled = sum(1 for event in journal(run) if isinstance(event, events.RetryScheduled))

    found = stats(project)
    assert found["retries"] == {
        "total": scheduled,
        "by_category": {"concurrency": scheduled},
        "resumed_sessions": 0,
    }
    assert found["failing_nodes"] == [
        {
            "unique_id": "model.shop.locked",
            "executions": scheduled + 1,
            "failures": scheduled,
            "failure_rate": scheduled / (scheduled + 1),
        }
    ]
    (alert,) = [each for each in found["alerts"] if each["firing"]]
    assert (alert["name"], alert["severity"], alert["message"]) == (
        "retries",
        "info",
        f"retries: shop: run -s customers locked: {scheduled} concurrency",
    )
    assert alert["jobs"] == ["shop: run -s customers locked"]
    assert project.spanline("stats", "--check").returncode == 0


@pytest.mark.slow
def test_a_flaky_test_changes_its_mind_on_the_same_code(project: Project) -> None:
    project.write("tests/after_all.sql", "select 1 as one where {{ env_var('FAIL', 'false') }}")
    for broken in (False, True, False):
        project.write("tests/edited.sql", f"select 1 as one where {str(broken).lower()}")
        project.run("test", "-s", "never", "edited", "--vars", json.dumps({"fail_test": broken}))
    before = {run.run_id for run in _directories(project)}
    assert project.spanline("dbt", "test", "-s", "after_all", FAIL="true").returncode == 1
    (resumed,) = {run.run_id for run in _directories(project)} - before
    assert project.spanline("retry", resumed).returncode == 0

    found = stats(project)
    assert found["flaky_tests"] == [
        {"unique_id": "test.shop.never", "executions": 3, "failures": 1, "flips": 2, "recovered": 0},
        {"unique_id": "test.shop.after_all", "executions": 2, "failures": 1, "flips": 1, "recovered": 1},
    ]
    # The one whose code was changed to fail is a failing test, and no flaky one.
    assert {each["unique_id"]: each["failures"] for each in found["failing_nodes"]} == {
        "test.shop.never": 1, "test.shop.edited": 1, "test.shop.after_all": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_under_way_is_left_out_and_one_whose_supervisor_was_killed_has_died(
    project: Project, tmp_path: Path
) -> None:
    process = project.open("dbt", "run", "-s", "gate", GATE=str(tmp_path / "gate"))
    run = eventually(lambda: list(project.home.glob("runs/*/journal.jsonl")) and last_run(project), "the run")
    eventually(lambda: [e for e in journal(run) if isinstance(e, events.NodeStarted)], "the node's start")
    done = project.spanline("stats", "--json")
    assert done.returncode == 0
    assert done.stderr == b"spanline: left out: 1 run under way\n"
    assert json.loads(done.stdout)["runs"]["total"] == 0
    assert project.spanline("stats").stdout.startswith(b"no run in ")

    process.kill()
    process.wait()
    eventually(lambda: not run.live, "the end of dbt")
    done = project.spanline("stats", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    runs = json.loads(done.stdout)["runs"]
    assert (runs["total"], runs["died"], runs["success_rate"]) == (1, 1, 0.0)


# --- definitions ------------------------------------------------------------------------------------------------------


def test_a_trend_is_a_line_through_a_nodes_times(written: Written) -> None:
    for days_ago, seconds in ((3, 1.0), (2, 2.0), (1, 6.0)):
        written.run(days_ago, node(1, "model.shop.slower", seconds=seconds), node(1, "model.shop.steady", seconds=2.0))
    # An execution that an error broke off says nothing of the time.
    written.run(0.5, node(1, "model.shop.slower", "error", 99.0))
    slower, steady = local(written.home).slowest_nodes
    # Least squares through (0, 1), (1, 2), (2, 6): slope 2.5 a day, over two days.
    assert (slower.unique_id, slower.executions, slower.mean) == ("model.shop.slower", 3, 3.0)
    assert slower.change == pytest.approx(5.0)
    assert slower.change_per_run == pytest.approx(2.5)
    assert slower.p95 == pytest.approx(5.6)
    assert steady.change == pytest.approx(0.0)


def test_executions_of_one_moment_have_no_trend(written: Written) -> None:
    """As where somebody has copied a run."""
    path = written.run(1, *[node(1, "model.shop.a", seconds=seconds) for seconds in (1.0, 2.0, 3.0)])
    (only,) = local(written.home).slowest_nodes
    assert (only.executions, only.change, only.change_per_run) == (3, None, None)
    done = command([SPANLINE, "--home", str(written.home), "stats", "--since", "2020-01-01"], path.parent, {})
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_somebody_cancelled_is_no_failure_and_what_a_limit_did_is_one(written: Written) -> None:
    cancelled = events.CancelRequested(by="SIGINT")
    timed_out = events.CancelRequested(by="time limit", reason="the run took 5 s")
    written.run(1)
    written.run(2, (5, cancelled), node(6, "model.shop.late", "error"), outcome="cancelled")
    written.run(3, (5, timed_out), outcome="cancelled")
    written.run(4, outcome="died", seconds=900)
    found = local(written.home)
    assert (found.runs.total, found.runs.cancelled, found.runs.timed_out, found.runs.died) == (4, 1, 1, 1)
    assert found.runs.success_rate == pytest.approx(1 / 3)
    assert (found.run_time.runs, found.run_time.mean) == (1, 10.0), "only what dbt brought to an end has a time"
    assert found.failing_nodes == [], "dbt reports an error for what it has cancelled"


def test_a_session_takes_until_it_was_last_heard_of(written: Written) -> None:
    """`spanline replay` ends a session whose supervisor was killed, perhaps a day later."""
    path = written.run(2, (30, events.Heartbeat()), (DAY, events.RunnerDied()), outcome="failed", seconds=DAY + 0.1)
    found = facts_of([path.read_bytes()])
    assert (found.kind, found.status, found.seconds) == (["session"], ["failed"], [30.0])


def test_a_flaky_test_is_told_by_its_code_and_all_above_it(written: Written) -> None:
    def run(days_ago: float, parent: str, status: str, outcome: str = "success") -> None:
        written.run(
            days_ago,
            described("model.shop.above", parent),
            described("model.shop.a", "1", "model.shop.above"),
            described("test.shop.t", "1", "model.shop.a"),
            node(1, "test.shop.t", status),
            outcome=outcome,
        )

    run(6, "1", "pass")
    run(5, "2", "fail")
    run(4, "1", "pass")
    assert local(written.home).flaky_tests == [], "the code of the model above was changed"
    run(3, "1", "warn")
    assert local(written.home).flaky_tests == [], "a failure that stays may be a true one"
    run(2, "1", "error")
    run(1, "1", "pass")
    (flaky,) = local(written.home).flaky_tests
    # pass, pass, warn, pass on one code and fail on another; an error is no result.
    assert (flaky.executions, flaky.failures, flaky.flips, flaky.recovered) == (5, 2, 2, 0)


def test_a_job_is_a_task_or_a_command_without_what_varies() -> None:
    start = session_started("x")
    argv = ["build", "--vars", "{day: 1}", "-s", "a", "--event-time-start=2020-01-01", "--vars={b: 2}"]
    with_vars = msgspec.structs.replace(start, steps=[["deps"], argv])
    assert job(with_vars) == "shop: deps; build -s a"
    for argv in (
        "--no-use-colors build -s a",
        "build -s a --no-use-colors -q --log-level debug --log-path=x --fail-fast",
        "-x --state there --defer --warn-error-options {} build --no-print -s a",
    ):
        assert job(msgspec.structs.replace(start, steps=[argv.split()])) == "shop: build -s a", argv
    for argv, expected in [
        ("--target prod --debug build -s debug", "build -s debug --target prod"),
        ("--target prod source freshness -s print", "source freshness -s print --target prod"),
        ("build --full-refresh", "build --full-refresh"),
        ("--quiet", ""),
    ]:
        assert job(msgspec.structs.replace(start, steps=[argv.split()])) == f"shop: {expected}"
    assert job(msgspec.structs.replace(with_vars, caller={"dag_id": "d", "task_id": "t", "run_id": "r"})) == "d.t"


def test_no_global_flag_of_dbts_makes_another_job() -> None:
    from dbt.cli.main import cli

    of_what = {"--profile", "--target", "-t"}
    hidden = {name for option in cli.params if "deprecated" in (option.name or "") for name in option.opts}
    for option in cli.params:
        for name in {*option.opts, *option.secondary_opts} - of_what - hidden - {"--version", "-V", "-v"}:
            words = [name] if option.is_flag else [name, "build"]
            if "deprecated" not in name:
                assert without_global_flags([*words, "run"]) == ["run"], name
                assert without_global_flags(["run", *words]) == ["run"], name


def test_alerts_compare_a_jobs_day_with_its_own_week(written: Written) -> None:
    for days_ago in (2, 3, 4):
        written.run(days_ago, seconds=10, command=("build",))
        written.run(days_ago, seconds=1, command=("test",))
    written.run(8.5, seconds=1000, command=("build",))  # before the week
    written.run(0.5, seconds=1.5, command=("test",))
    written.run(0.5, seconds=1000, command=("seed",))  # without a week to compare with
    by_name = {alert.name: alert for alert in local(written.home, "1d").alerts}
    assert (by_name["run_time"].firing, by_name["run_time"].value) == (False, pytest.approx(0.5))
    written.run(0.2, seconds=16, command=("build",))
    by_name = {alert.name: alert for alert in local(written.home, "1d").alerts}
    assert (by_name["run_time"].firing, by_name["run_time"].severity) == (True, "warning")
    assert by_name["run_time"].value == pytest.approx(0.6)
    assert "shop: build: +60%" in by_name["run_time"].message
    assert by_name["run_time"].jobs == ["shop: build"]
    assert not local(written.home, "1d").critical
    for _ in range(9):  # one that fails at once makes no job faster, nor does one that fails late make it slower
        written.run(0.1, seconds=0.1, command=("build",), outcome="failed")
    assert {a.name: a.value for a in local(written.home, "1d").alerts}["run_time"] == pytest.approx(0.6)


@pytest.mark.parametrize(("failures", "critical"), [(1, False), (2, True)])
def test_above_ten_percent_of_failures_is_critical(written: Written, failures: int, critical: bool) -> None:
    for number in range(10):
        written.run(1 + number / 100, outcome="failed" if number < failures else "success")
    assert local(written.home).critical is critical


def test_a_job_that_always_fails_is_not_lost_among_the_runs_of_another(written: Written) -> None:
    """Two of 42 runs are less than 10 %, and two of two are all."""
    limit = events.CancelRequested(by="time limit", reason="the run took 5 s")
    for number in range(40):
        written.run(1 + number / 100, command=("test",))
    written.run(2, (5, limit), outcome="cancelled", command=("build",))
    written.run(3, (5, limit), outcome="cancelled", command=("build",))
    written.run(4, (5, events.CancelRequested(by="SIGINT")), outcome="cancelled", command=("seed",))
    found = local(written.home)
    (firing,) = [alert for alert in found.alerts if alert.firing]
    assert (firing.name, firing.severity, firing.value) == ("failure_rate", "critical", 1.0)
    assert firing.jobs == ["shop: build"]
    assert firing.message == "runs that failed: shop: build: 100.0% of 2 (critical above 10 %)"


def test_alerts_name_the_worst_jobs_and_count_the_others(written: Written) -> None:
    again = events.RetryScheduled(delay=1, reason="network (network.reset)")
    for number in range(1, 6):
        written.run(number, *[(1, again)] * number, command=(f"run-{number}",), outcome="failed")
    by_name = {alert.name: alert for alert in local(written.home).alerts}
    assert by_name["retries"].message == (
        "retries: shop: run-5: 5 network; shop: run-4: 4 network; shop: run-3: 3 network and 2 more"
    )
    assert by_name["retries"].value == 5
    assert by_name["failure_rate"].jobs == [f"shop: run-{number}" for number in range(1, 6)]
    assert by_name["failure_rate"].message.count("100.0% of 1") == 3


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("30m", NOW - 1800),
        ("12h", NOW - 43_200),
        ("7d", NOW - 7 * DAY),
        ("2w", NOW - 14 * DAY),
        ("1.5d", NOW - 1.5 * DAY),
        ("1000000d", 0.0),
        (f"{'9' * 400}w", 0.0),
        ("1900-01-01", 0.0),
        ("9999-12-31T23:00:00-05:00", 253_370_764_800.0),
        ("2026-11-25T12:00:00Z", 1_795_608_000.0),
        ("2026-11-25T13:00:00+01:00", 1_795_608_000.0),
        ("2026-11-25", datetime(2026, 11, 25).timestamp()),
    ],
)
def test_since_is_an_age_or_a_date(since: str, expected: float) -> None:
    assert moment(since, NOW) == expected


@pytest.mark.parametrize("since", ["yesterday", "", "7", "d", "-7d", "7y", "2026-13-01"])
def test_since_that_says_nothing_is_an_error_of_use(since: str, project: Project) -> None:
    with pytest.raises(UsageError, match="--since takes an age such as 12h, 7d, 2w, or an ISO date"):
        moment(since, NOW)
    if since == "yesterday":
        done = project.spanline("stats", "--since", since)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().splitlines() == [
            "spanline: --since takes an age such as 12h, 7d, 2w, or an ISO date, not 'yesterday'"
        ]


def test_a_run_counts_where_it_began(written: Written) -> None:
    written.run(3)
    written.run(1)
    assert local(written.home, "2d").runs.total == 1
    assert local(written.home, "4d").runs.total == 2
    assert local(written.home, "1h").runs.success_rate is None
    assert local(written.home, "1000000d").since == "1970-01-01T00:00:00+00:00"
    assert local(written.home, "9999-12-31T23:00:00-05:00").runs.total == 0


# --- facts of a journal -----------------------------------------------------------------------------------------------

NODES = st.sampled_from(["model.shop.a", "model.shop.b", "test.shop.t", "unit_test.shop.u"])
TEXTS = st.sampled_from(["", "plain", 'é\u2028"}', '\n{"type":"node_finished","unique_id":"model.shop.a"}'])
STATUSES = st.sampled_from(["success", "pass", "fail", "error", "warn", "skipped", "no-op", "partial success"])
TIMES = st.floats(-2, 5)
DESCRIBED = st.builds(
    events.NodeDescribed,
    unique_id=NODES,
    resource_type=st.just("model"),
    name=TEXTS,
    package_name=st.just("shop"),
    description=TEXTS,
    columns=st.lists(st.builds(events.Column, name=TEXTS, description=TEXTS), max_size=2),
    depends_on=st.lists(NODES, max_size=2),
    checksum=st.sampled_from([None, "1", "2"]),
    materialized=st.sampled_from([None, "table"]),
    relation=st.none() | st.builds(events.Relation, identifier=TEXTS, name=TEXTS),
    test=st.none() | st.builds(events.TestInfo, name=TEXTS, severity=TEXTS, arguments=st.just({"values": [1, None]})),
    meta=st.just({"nested": {"type": "node_finished"}}),
)
OF_AN_ATTEMPT = st.one_of(
    DESCRIBED,
    st.builds(events.NodeFinished, unique_id=NODES, status=STATUSES, execution_time=TIMES, message=TEXTS),
    st.builds(events.NodeFinished, unique_id=NODES, status=STATUSES, execution_time=TIMES, execute=st.just((1, 2))),
    st.builds(events.NodeStarted, unique_id=NODES, thread=TEXTS),
    st.builds(events.NodeSkipped, unique_id=NODES),
    st.builds(events.HookStarted, unique_id=NODES),
    st.builds(events.HookFinished, unique_id=NODES, status=STATUSES, execution_time=TIMES),
    st.builds(events.QueryStarted, query=st.just(1), sql=TEXTS),
    st.builds(events.Log, level=st.just("warn"), name=TEXTS, message=TEXTS),
    st.builds(events.Selection, unique_ids=st.lists(NODES)),
    st.builds(events.Heartbeat),
    st.builds(events.InterruptReceived, reason=TEXTS),
    st.builds(events.CancelRequested, by=st.sampled_from(["SIGINT", "time limit"])),
    st.builds(events.DbtFinished, success=st.booleans(), exit_code=st.just(1), elapsed=TIMES),
    st.builds(events.JournalStopped, reason=TEXTS),
)
ENDS_OF_ATTEMPTS = st.sampled_from([None, events.AttemptEnded(exit_code=0), events.RunnerDied(signal="SIGKILL")])
RETRIES = st.none() | st.builds(events.RetryScheduled, delay=st.just(1.5), reason=st.sampled_from(["", "network (x)"]))
ATTEMPTS = st.tuples(st.lists(OF_AN_ATTEMPT, max_size=12), ENDS_OF_ATTEMPTS, RETRIES)
OUTCOMES = st.sampled_from([None, "success", "failed", "cancelled", "died"])
SESSIONS = st.tuples(st.lists(ATTEMPTS, max_size=3), OUTCOMES)


def happened(sessions: Sequence[Any]) -> Iterator[Event]:
    """The events of a run, all but their times."""
    for session, (attempts, outcome) in enumerate(sessions, 1):
        yield session_started("r", session=session)
        for attempt, (during, end, again) in enumerate(attempts, 1):
            argv = events.AttemptStarted(argv=["build"], pid=1, python="python")
            for event in (argv, *during, end, again):
                if event is not None:
                    yield msgspec.structs.replace(event, session=session, step=1, attempt=attempt)
        if outcome is not None:
            yield events.SessionEnded(outcome=outcome, exit_code=1, session=session)


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """Journals of some sessions: with clocks that are set, torn lines, and an end in the midst of one."""
    at, lines = 10**18, []
    for event in happened(draw(st.lists(SESSIONS, max_size=3))):
        at += draw(st.sampled_from([0, 1, 10**9, 70 * 10**9, -(10**9)]))
        lines.append(msgspec.json.encode(msgspec.structs.replace(event, time=at)))
    for _ in range(draw(st.integers(0, 3)) if lines else 0):
        torn = draw(st.integers(0, len(lines) - 1))
        lines[torn] = lines[torn][: draw(st.integers(0, len(lines[torn])))]
    return b"".join(b"\n%s\n" % line for line in lines) + draw(st.sampled_from([b"", b'\n{"type":"heartbeat"}']))


READ = tuple(f'{{"type":"{event.__struct_config__.tag}"'.encode() for event in facts.READ)
Rows = list[tuple[object, ...]]


def decoded(journal: bytes) -> Iterator[tuple[Event | None, bool]]:
    """Every whole line's event, None where it is torn, and whether it is of a type that statistics read."""
    for line in journal[: journal.rfind(b"\n") + 1].split(b"\n"):
        try:
            yield events.decode(line), line.startswith(READ)
        except events.TornRecord:
            yield None, line.startswith(READ)


def plain_sessions(journal: bytes) -> Rows:
    state, last, found = RunState(), 0, Rows()

    def note(outcome: str | None, end: int) -> None:
        if state.session is not None:
            seconds = max(0, end - state.started) / 1e9
            found.append((job(state.session), outcome, seconds, state.started, state.session_number))

    for event, read in decoded(journal):
        if event is None:
            continue
        if isinstance(event, events.SessionStarted) and state.ended is None:
            note("died", last)
        state.apply(event)
        if isinstance(event, events.SessionEnded):
            note(outcome_of(state, event), event.time if event.time - last <= 60 * 10**9 else last)
        elif read and not isinstance(event, events.RunnerDied):
            last = event.time
    if state.ended is None:
        note(None, last)
    return found


def plain_executions(journal: bytes) -> Rows:
    state, codes, found = RunState(), {}, Rows()
    for event, _ in decoded(journal):
        if event is None:
            continue
        state.apply(event)
        where = (event.session, event.step, event.attempt)
        codes[where] = facts.code_hashes(state.descriptions)
        if isinstance(event, (events.NodeFinished, events.HookFinished)):
            hook = isinstance(event, events.HookFinished)
            status = (state.hooks if hook else state.nodes)[event.unique_id].status
            if status not in ("skipped", "no-op", "cancelled", "interrupted"):
                seconds = event.execution_time if hook else max(0.0, event.execution_time)
                test = not hook and event.unique_id.startswith(("test.", "unit_test."))
                found.append((event.unique_id, status, seconds, event.time, where if test else None))
    return [(name, *others, codes[where].get(name) if where else None) for name, *others, where in found]


def rows(found: Facts, kind: str) -> Rows:
    columns = (found.kind, found.name, found.status, found.seconds, found.moment, found.number)
    return [row[1:] for row in zip(*columns, strict=True) if row[0] == kind]


@given(journal=journals(), size=st.integers(1, 400))
def test_facts_are_those_of_a_plain_reading(journal: bytes, size: int) -> None:
    """Every line decoded, every event folded: whatever the lines hold that aren't read, however they come in pieces."""
    found = facts_of(journal[at : at + size] for at in range(0, len(journal), size))
    assert rows(found, "session") == plain_sessions(journal)
    assert rows(found, "node") == plain_executions(journal)
    again = [event for event, _ in decoded(journal) if isinstance(event, events.RetryScheduled)]
    assert rows(found, "retry") == [(e.category or "unknown", None, e.delay, e.time, None) for e in again]
    torn = sum(1 for event, read in decoded(journal) if event is None and read)
    assert rows(found, "torn") == ([("", None, 0.0, 0, torn)] if torn else [])


def test_names_come_through_as_they_are(written: Written) -> None:
    odd = "build -s é'\"\\,\u2028{}\x00[1]"
    written.run(1, node(1, "model.shop.ж'\"", "error"), command=(odd,))
    found = local(written.home)
    assert [each.job for each in found.jobs] == [f"shop: {odd}"]
    assert [each.unique_id for each in found.failing_nodes] == ["model.shop.ж'\""]


# --- what can be wrong ------------------------------------------------------------------------------------------------


def test_a_line_that_is_longer_than_a_record_is_torn_and_not_kept(written: Written) -> None:
    path = written.run(1, node(1, "model.shop.a", "error"))
    whole = path.read_bytes()
    os.truncate(path, len(whole) + 10 * LONGEST_RECORD)  # NULs, which take no room on the disk
    with path.open("ab") as file:
        file.write(b"\n" + whole)
    tracemalloc.start()
    try:
        found = facts_of(kept.pieces(path))
        assert tracemalloc.get_traced_memory()[1] < 2 * LONGEST_RECORD
    finally:
        tracemalloc.stop()
    assert rows(found, "torn") == [("", None, 0.0, 0, 1)]
    assert [row[0] for row in rows(found, "node")] == ["model.shop.a"] * 2


def test_spoilt_journals_break_nothing(written: Written) -> None:
    torn = written.run(1, node(1, "model.shop.a"))
    text = torn.read_bytes()
    torn.write_bytes(text.replace(b'"status"', b'"sta\n{"type":"node_finished","v":1,"wr\n\xff\x00{"type"\n'))
    empty, binary = written.run(2), written.run(3)
    empty.write_bytes(b"")
    binary.write_bytes(os.urandom(1 << 16))
    written.run(4).unlink()
    folder = written.run(5)
    folder.unlink()
    folder.mkdir()
    for path in (torn, empty, binary, folder):
        os.utime(path, (NOW - DAY, NOW - DAY))
    written.run(6)
    found = local(written.home)
    assert found.runs.total == 2
    assert found.left_out.unreadable == 3
    assert found.left_out.torn_lines == 2
    done = command([SPANLINE, "--home", str(written.home), "stats", "--since", "2020-01-01"], written.home, {})
    assert done.returncode == 0
    assert done.stderr == b"spanline: left out: 3 journals that cannot be read, 2 torn lines\n"


@pytest.mark.parametrize(
    ("missing", "home", "said"),
    [
        ("duckdb", None, "spanline: statistics need DuckDB: pip install 'spanline[stats]'"),
        ("fsspec", "s3://bucket/home", "spanline: to read s3://… install fsspec: pip install 'spanline[stats]'"),
    ],
)
def test_what_is_not_installed_is_said(tmp_path: Path, missing: str, home: str | None, said: str) -> None:
    (tmp_path / f"{missing}.py").write_text("raise ImportError('not installed')")
    options = ["--home", home or str(tmp_path)]
    done = command([SPANLINE, *options, "stats"], tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [said]


def test_a_place_that_cannot_be_read_is_said_in_a_line(tmp_path: Path) -> None:
    done = command([SPANLINE, "--home", "nonsense://u:secret@x/y?sig=secret", "stats"], tmp_path, {})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"spanline: cannot read nonsense://")
    assert done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_journal_is_read_once_and_again_when_it_has_grown(written: Written) -> None:
    path = written.run(1, node(1, "model.shop.a", "error"))
    first = local(written.home)
    text, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(b"x" * len(text))
    os.utime(path, ns=times)
    assert local(written.home) == first, "it was kept"
    again = msgspec.json.encode(events.NodeFinished(unique_id="model.shop.a", status="error", session=1, time=1))
    path.write_bytes(text + b"\n" + again + b"\n")
    assert local(written.home).failing_nodes[0].executions == first.failing_nodes[0].executions + 1


def test_what_was_kept_and_is_spoilt_is_taken_again(written: Written) -> None:
    written.run(1, node(1, "model.shop.a", "error"))
    first = local(written.home)
    (kept,) = (written.home / "cache" / "stats").rglob("*.json")
    kept.write_bytes(b"{nothing")
    assert local(written.home) == first


def test_what_is_of_no_journal_any_more_is_removed(written: Written) -> None:
    path = written.run(1)
    local(written.home)
    (kept,) = (written.home / "cache" / "stats").rglob("*.json")
    written.run(2)
    shutil.rmtree(path.parent)
    local(written.home)
    assert kept.exists(), "another process may be about to read it"
    os.utime(kept, (0, 0))
    local(written.home)
    assert not kept.exists()


def test_where_nothing_can_be_kept_the_figures_are_the_same(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    written.run(1, node(1, "model.shop.a", "error"))
    (written.home / "cache").write_text("in the way")
    assert local(written.home).runs.total == 1
    assert "the cache of journals in" in caplog.text


def test_a_disk_that_is_full_is_said_in_a_line(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    written.run(1)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", refuse)
    with pytest.raises(UsageError, match=r"cannot write the cache of statistics to .*: No space left on device"):
        local(written.home)


def test_nothing_is_made_where_no_runs_are(tmp_path: Path) -> None:
    done = command([SPANLINE, "--home", str(tmp_path), "stats", "--check"], tmp_path, {})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"ok       no run to judge by\n")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_named_and_not_there_is_not_healthy(tmp_path: Path) -> None:
    home = tmp_path / "hmoe"
    for options, environ in (("--home", str(home)), {}), ((), {"SPANLINE_HOME": str(home)}):
        done = command([SPANLINE, *options, "stats", "--check"], tmp_path, environ)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"spanline: there is no home {home}: ")
        assert not home.exists()


def test_many_journals_are_read_by_several_processes(written: Written) -> None:
    for number in range(20):
        written.run(1 + number / 100, node(1, "model.shop.a", "error" if number % 4 == 0 else "success"))
    options = ["--home", str(written.home), "stats", "--since", "2020-01-01", "--json"]
    done = command([SPANLINE, *options], written.home, {})
    assert done.stderr == b"spanline: reading 20 journals that are new or have grown\n"
    found = json.loads(done.stdout)
    assert found["failing_nodes"] == [
        {"unique_id": "model.shop.a", "executions": 20, "failures": 5, "failure_rate": 0.25}
    ]
    again = command([SPANLINE, *options], written.home, {})
    assert again.stderr == b""
    assert json.loads(again.stdout)["failing_nodes"] == found["failing_nodes"]


class Deadly(places.Local):
    """A home of which the reading of some journals kills the process, as the kernel does where memory is short."""

    def __init__(self, home: Path, deadly: frozenset[str]) -> None:
        super().__init__(home)
        self._deadly = deadly

    def read(self, journal: places.Journal) -> Iterator[bytes]:
        if journal.run_id in self._deadly and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(journal)


def test_a_journal_that_kills_who_reads_it_is_named_and_the_others_are_read(
    written: Written, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    paths = [written.run(1 + number / 100, node(1, "model.shop.a")) for number in range(12)]
    paths[11].unlink()
    paths[11].mkdir()  # can't be read either, and kills nobody
    os.utime(paths[11], (NOW - DAY, NOW - DAY))
    deadly = frozenset(paths[number].parent.name for number in (3, 7))
    found = gather(Deadly(written.home, deadly), "30d", now=NOW)
    assert found.runs.total == 9
    assert found.left_out.unreadable == 3
    killed = [record.getMessage() for record in caplog.records if "was killed" in record.getMessage()]
    assert len(killed) == 2
    for number in (3, 7):
        assert any(str(paths[number]) in message for message in killed)


# --- what is kept beside a journal ------------------------------------------------------------------------------------


class Unread(places.Local):
    """A home whose journals are not to be read."""

    def read(self, journal: places.Journal) -> Iterator[bytes]:
        raise OSError(journal.path)


def test_a_session_leaves_what_statistics_need_of_it(project: Project) -> None:
    run = project.run("run", "-s", "orders", "customers")
    with_all = gather(places.Local(project.home), "1d")
    assert with_all.runs.success == 1
    assert {"model.shop.orders", "model.shop.customers"} <= {each.unique_id for each in with_all.slowest_nodes}
    content = run.directory.facts.read_bytes()
    assert content == kept.made_of(run.id, [run.directory.journal.read_bytes()])
    assert run.directory.facts.stat().st_mode & 0o777 == 0o600
    assert not list(run.directory.path.glob(".*")), "nothing half written"
    shutil.rmtree(project.home / "cache")
    unread = gather(Unread(project.home), "1d")
    assert unread.left_out.unreadable == 0
    assert (unread.runs, unread.slowest_nodes) == (with_all.runs, with_all.slowest_nodes)


@pytest.mark.slow
def test_a_resumed_run_leaves_them_of_all_its_sessions(project: Project) -> None:
    project.write("models/fragile.sql", "select id{{ env_var('COLUMN', '') }} from {{ ref('orders') }}")
    assert project.spanline("dbt", "run", "-s", "orders", "fragile", COLUMN=", no_such_column").returncode == 1
    run = last_run(project)
    assert project.spanline("retry", run.id).returncode == 0
    found = gather(Unread(project.home), "1d")
    assert (found.runs.success, found.retries.resumed_sessions) == (1, 1)
    assert found.failing_nodes[0].executions == 2


def beside(path: Path) -> Path:
    """Keep facts beside a journal that was written here."""
    run = RunDirectory(path.parent)
    kept.keep_beside(run)
    return run.facts


def test_what_is_beside_a_journal_counts_only_for_the_state_that_it_is_of(written: Written) -> None:
    path = written.run(1, node(1, "model.shop.a", "error"))
    beside(path)
    with path.open("ab") as file:
        again = events.NodeFinished(unique_id="model.shop.a", status="error", session=1, time=int((NOW - DAY) * 1e9))
        file.write(b"\n" + msgspec.json.encode(again) + b"\n")
    assert local(written.home).failing_nodes[0].executions == 2
    assert gather(Unread(written.home), "30d", now=NOW).failing_nodes[0].executions == 2, "it is in the cache now"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: os.urandom(len(content)),
        lambda content: content.replace(b'"version":', b'"version":9'),
        lambda content: content.replace(b'"run_id":"', b'"run_id":"0'),
        lambda content: content.replace(b'"seconds":[', b'"seconds":["one",'),
    ],
)
def test_what_is_beside_a_journal_and_spoilt_is_not_used(written: Written, spoil: Callable[[bytes], bytes]) -> None:
    path = written.run(1, node(1, "model.shop.a", "error"))
    place = beside(path)
    place.write_bytes(spoil(place.read_bytes()))
    assert local(written.home).failing_nodes[0].executions == 1
    assert not kept.fits(place.read_bytes(), path.parent.name, path.stat().st_size)


def test_a_run_ends_as_it_would_where_nothing_can_be_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "keep_beside", refuse)
    caplog.set_level(logging.INFO, "spanline")
    run = project.run("run", "-s", "orders")
    assert run.result().exit_code == 0
    said = [record for record in caplog.records if "is kept of the journal" in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in said] == [("INFO", None)]
    assert gather(places.Local(project.home), "1d").runs.success == 1


def test_a_supervisor_needs_nothing_of_the_extra_to_keep_them() -> None:
    code = "import spanline.supervisor.session, sys; assert 'spanline.stats.facts' not in sys.modules; "
    code += "import spanline.stats.kept; "
    code += "assert not {'duckdb', 'fsspec', 'multiprocessing', 'spanline.stats.cache'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- remote homes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def with_artifacts(written: Written) -> Written:
    for number in range(12):
        path = written.run(1 + number / 100, node(1, "model.shop.a", "error" if number else "success"))
        (path.parent / "artifacts" / "1-1-1").mkdir(parents=True)
        (path.parent / "artifacts" / "1-1-1" / "manifest.json").write_bytes(b"x" * (100 + number))
    return written


def same(left: Report, right: Report) -> bool:
    return msgspec.structs.replace(left, home="") == msgspec.structs.replace(right, home="")


def test_a_home_at_a_url_has_the_same_figures(
    with_artifacts: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # As `prune` leaves a run's folder for the moment that it takes to remove it.
    half_removed = with_artifacts.home / "runs" / ".removed-x"
    half_removed.mkdir()
    (half_removed / "journal.jsonl").write_bytes(b"")
    fsspec.filesystem("memory").put(f"{with_artifacts.home}/", "/my/runs/home/", recursive=True)
    here = local(with_artifacts.home)
    assert here.artifacts.total == sum(range(100, 112))
    for url in ("memory://my/runs/home", f"file://{with_artifacts.home}"):
        place = places.place(url, refuse)
        there = gather(place, "30d", now=NOW)
        assert there.home.startswith(url.split("//")[0])
        assert same(here, there), url
        assert place.cache.is_relative_to(tmp_path / "cache")


def test_a_home_at_a_url_is_asked_for_what_is_beside_the_journals(
    with_artifacts: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = sorted(with_artifacts.home.glob("runs/*/journal.jsonl"))
    for path in paths[:-1]:
        beside(path)
    files = fsspec.filesystem("memory")
    files.put(f"{with_artifacts.home}/", "/kept/home/", recursive=True)
    asked: list[str] = []
    cat_file = files.cat_file

    def listening(path: str, **options: Any) -> bytes:
        asked.append(path.rpartition("/")[2])
        return bytes(cat_file(path, **options))

    monkeypatch.setattr(files, "cat_file", listening)
    place = places.place("memory://kept/home", refuse)
    assert same(gather(place, "30d", now=NOW), local(with_artifacts.home))
    assert sorted(asked) == ["facts.json"] * 11 + ["journal.jsonl"]


def test_a_home_on_a_web_server_has_the_same_figures(
    with_artifacts: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listing has names only: not even sizes."""
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Files(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return f"{with_artifacts.home}{path}"

    with serving(Files) as url:
        there = gather(places.place(url, refuse), "30d", now=NOW)
        with pytest.raises(UsageError, match=f"there is no home at {url}/nowhere"):
            gather(places.place(f"{url}/nowhere", refuse), "30d", now=NOW)
    here = local(with_artifacts.home)
    assert (there.runs, there.failing_nodes, there.alerts) == (here.runs, here.failing_nodes, here.alerts)


# --- web servers that answer too much -------------------------------------------------------------------------------

RUN_ID = "01a2143b-e679-7a9e-bdb6-e2186d2d3777"


class Web(SimpleHTTPRequestHandler):
    """A server of one run, whose journal says nothing but is listed as of `size` bytes."""

    listing = f'<a href="{RUN_ID}/">x</a>'.encode()
    folder = b'<a href="journal.jsonl">x</a>'
    size = 0
    encoding = "identity"
    asked: list[str]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Encoding", self.encoding)
        self.end_headers()
        with contextlib.suppress(OSError):
            for piece in self.answer():
                self.wfile.write(piece)

    def answer(self) -> Iterable[bytes]:
        name = self.path.rstrip("/").rpartition("/")[2]
        return [{"runs": self.listing, RUN_ID: self.folder, "again": self.folder}.get(name, b"\n")]


@contextlib.contextmanager
def web(**different: object) -> Iterator[tuple[str, list[str]]]:
    """Such a server, but for what is different; its address, and what it is asked for."""
    asked: list[str] = []
    with serving(type("Different", (Web,), {"asked": asked, **different})) as url:
        yield url, asked


def refused_by_stats(url: str, place: Path) -> tuple[str, float]:
    """What statistics of this home say on standard error, and the memory that they took at most, in MiB."""
    words = [SPANLINE, "--home", url, "stats", "--since", "2020-01-01"]
    code, mebibytes = run_measured(words, place / "said", {**os.environ, "XDG_CACHE_HOME": str(place)})
    assert code == 2
    return (place / "said").read_text(), mebibytes


def endless(_: Web) -> Iterator[bytes]:
    while True:
        yield b"<a>" * 100_000


def packed(_: Web) -> Iterator[bytes]:
    """Half a gigabyte, made piece by piece."""
    pack = zlib.compressobj(wbits=31)
    yield from (pack.compress(bytes(1 << 20)) for _ in range(500))
    yield pack.flush()


@pytest.mark.parametrize("kind", ["endless", "packed"])
def test_a_listing_is_read_no_further_than_one_may_be(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("aiohttp")
    different = {"answer": endless} if kind == "endless" else {"encoding": "gzip", "answer": packed}
    with web(**different) as (url, _):
        said, mebibytes = refused_by_stats(url, tmp_path)
    why = f"with more than {LONGEST_ANSWER} bytes" if kind == "endless" else "in gzip, which it was not asked for"
    assert said == f"spanline: cannot read {url}: {url}/runs/ answers {why}\n"
    assert mebibytes < 400


def test_a_listing_that_names_itself_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with web(folder=b'<a href="again/">x</a>') as (url, asked):
        assert places.place(url, refuse).journals() == []
    assert len(asked) < 20


def test_a_journal_ends_where_the_server_has_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever size it has said before."""
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with web(size=1 << 50) as (url, _):
        place = places.place(url, refuse)
        (found,) = place.journals()
        assert found.size == 1 << 50
        assert list(place.read(found)) == [b"\n"]


def test_a_server_that_sends_no_parts_is_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends all of the journal whatever part is asked for: one that has one part only can be read."""
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = b"x" * (20 << 20)
    with web(size=len(whole), answer=lambda self: [whole] if "." in self.path else Web.answer(self)) as (url, _):
        place = places.place(url, refuse)
        (found,) = place.journals()
        with pytest.raises(OSError, match="sends whole files when asked for parts"):
            list(place.read(found))
        assert b"".join(place.read(msgspec.structs.replace(found, size=1000))) == whole[:1000]


def test_a_home_at_a_url_that_is_not_there_is_not_healthy(tmp_path: Path) -> None:
    for url in ("memory://hmoe", f"file://{tmp_path}/hmoe", "http://127.0.0.1:9/hmoe"):
        done = command([SPANLINE, "--home", url, "stats", "--check"], tmp_path, {})
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"spanline: there is no home at {url}, ")


def test_journals_of_which_none_can_be_read_are_not_healthy(written: Written) -> None:
    written.run(1, node(1, "model.shop.a"))
    (path,) = written.home.glob("runs/*/journal.jsonl")
    path.unlink()
    path.mkdir()  # root may read everything: what nobody can read stands for it
    done = command([SPANLINE, "--home", str(written.home), "stats", "--check", "--since", "2020-01-01"], Path.cwd(), {})
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"none of the 1 journals" in done.stderr


@pytest.mark.slow
def test_a_home_in_s3_has_the_same_figures(with_artifacts: Written, tmp_path: Path) -> None:
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        environment = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        files = s3fs.S3FileSystem(key="a", secret="b", endpoint_url=endpoint)
        files.mkdir("bucket")
        files.put(f"{with_artifacts.home}/", "bucket/home/", recursive=True)
        for _ in range(2):
            done = subprocess.run(
                [SPANLINE, "--home", "s3://bucket/home", "stats", "--since", "2020-01-01", "--json"],
                env={**os.environ, **environment}, capture_output=True, check=True,
            )  # fmt: skip
            found = msgspec.json.decode(done.stdout, type=Report)
            here = local(with_artifacts.home, "2020-01-01", now=time.time())
            assert (found.runs, found.failing_nodes, found.artifacts) == (here.runs, here.failing_nodes, here.artifacts)
        gone = subprocess.run(
            [SPANLINE, "--home", "s3://nowhere/home", "stats"],
            env={**os.environ, **environment}, capture_output=True, check=False,
        )  # fmt: skip
        assert gone.stderr.count(b"\n") <= 1
    finally:
        server.stop()
