"""The clock is set while a run is under way: nothing hangs, ends before it has begun, or lasts an hour."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from spanline import events
from spanline.events import Event
from spanline.home.home import RunDirectory
from spanline.journal.appender import Appender
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.results.from_state import result_of
from spanline.supervisor.replay import replay
from tests.faults.conftest import Sandbox
from tests.faults.test_resume import assert_one_start_and_one_end
from tests.support.journals import session_started
from tests.support.receivers import Receiver

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
HOUR = 3600 * 10**9
MINUTES = 300
"""Seconds that no run here takes, and no node of one."""
PLACE = {"session": 1, "step": 1, "attempt": 1}


_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long ahead(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("FAULT_CLOCK"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && result == 0) now->tv_sec += ahead();
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
"""A clock that is as many seconds ahead as a file says; the monotonic one is let alone, as the kernel does."""


@pytest.fixture(scope="module")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler, which makes a clock that can be set")
    place = tmp_path_factory.mktemp("clock")
    (place / "clock.c").write_text(_CLOCK)
    command = [compiler, "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"]
    subprocess.run(command, cwd=place, check=True)
    return place / "clock.so"


@pytest.mark.parametrize("ahead", [-3600, 3600], ids=["back", "forward"])
@pytest.mark.parametrize("limit", [[], ["--node-timeout", "2"]], ids=["no limit", "limit"])
def test_clock_set_by_an_hour(
    duckdb_sandbox: Sandbox, start_receiver, clock_library: Path, limit: list[str], ahead: int
) -> None:
    sandbox, receiver = duckdb_sandbox, start_receiver()
    sandbox.close_gate()
    clock = sandbox.project.parent / "clock"
    clock.write_text("0")
    environment = {
        **receiver.lineage_environment,
        **receiver.otel_environment,
        "LD_PRELOAD": str(clock_library),
        "FAULT_CLOCK": str(clock),
        "SPANLINE_FLUSH_TIMEOUT": "20",
    }
    started = sandbox.dbt("build", "--select", "fast", "gate", "broken", options=limit, env=environment)
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.waits_for("node_started", unique_id="model.faults.gate")
    clock.write_text(str(ahead))
    if limit:
        run.waits_for("cancel_requested", by="time limit")
    sandbox.open_gate()
    assert started.ends() == (2 if limit else 1), started.text
    times = [event["time"] for event in run.events()]
    assert any(abs(time - times[0]) > HOUR * 0.9 for time in times), "the clock was set"
    assert run.outcome == ("cancelled" if limit else "failed")
    shown = run.shown()
    assert 0 < shown["elapsed"] < MINUTES
    assert all(0 <= node["execution_time"] < MINUTES for node in shown["nodes"])
    passed = run.one("session_ended")["mono"] - run.one("session_started")["mono"]
    assert shown["elapsed"] == pytest.approx(passed / 1e9)
    if not limit:  # dbt itself says of this one, in its results, that it has taken an hour, or less than nothing
        (gate,) = (node["execution_time"] for node in shown["nodes"] if node["unique_id"] == "model.faults.gate")
        began, ended = (
            run.waits_for(kind, unique_id="model.faults.gate") for kind in ("node_started", "node_finished")
        )
        assert gate == pytest.approx((ended["mono"] - began["mono"]) / 1e9, abs=0.1)
    _everything_takes_as_long_as_it_took(receiver)


def _everything_takes_as_long_as_it_took(receiver: Receiver) -> None:
    assert receiver.spans
    (root,) = (span for span in receiver.spans if not span.parent_span_id)
    for span in receiver.spans:
        assert 0 <= span.end_time_unix_nano - span.start_time_unix_nano < MINUTES * 10**9, span.name
        assert root.start_time_unix_nano <= span.start_time_unix_nano, span.name
        if span.name != "delivery":  # it begins where the root ends, which it delivers
            assert span.end_time_unix_nano <= root.end_time_unix_nano, span.name
    assert_one_start_and_one_end(receiver.lineage)
    began: dict[str, datetime] = {}
    for event in receiver.lineage:
        at = datetime.fromisoformat(event["eventTime"].replace("Z", "+00:00"))
        took = at - began.setdefault(event["run"]["runId"], at)
        assert 0 <= took.total_seconds() < MINUTES, event["job"]["name"]


@pytest.mark.parametrize("ahead", [-HOUR, HOUR], ids=["back", "forward"])
def test_journal_whose_times_jump(tmp_path: Path, start_receiver, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """What such a clock leaves behind, at every place where a time may jump, and what readers make of it."""
    happened: list[Event] = [
        session_started(RUN_ID),
        events.AttemptStarted(argv=["build"], pid=1, python="p"),
        events.DbtConfigured(adapter_type="duckdb", adapter_version="1", project="shop"),
        *(
            events.NodeDescribed(unique_id=f"model.shop.{name}", resource_type="model", name=name, package_name="shop")
            for name in ("ended", "open")
        ),
        events.HookStarted(unique_id="operation.shop.shop-on-run-start-0"),
        events.HookFinished(unique_id="operation.shop.shop-on-run-start-0", status="success", execution_time=-3600.0),
        events.NodeStarted(unique_id="model.shop.ended", thread="t"),
        events.QueryStarted(query=1, sql="select 1", unique_id="model.shop.ended"),
        events.QueryFinished(query=1, status="OK", elapsed=0.1, unique_id="model.shop.ended"),
        events.NodeFinished(unique_id="model.shop.ended", status="success", execution_time=-3600.0),
        events.NodeStarted(unique_id="model.shop.open", thread="t"),
        events.RunnerDied(signal="SIGKILL"),
        events.SessionEnded(outcome="died", exit_code=2),
    ]
    for set_at in range(1, len(happened)):
        receiver = start_receiver()
        directory = RunDirectory(tmp_path / str(set_at) / "runs" / RUN_ID)
        (directory.path / "cursors").mkdir(parents=True)
        appender = Appender(directory.journal, "test")
        appender.locate(1, 1, 1)
        for number, event in enumerate(happened):
            passed = number * 10**6
            appender.append(event, (10 * HOUR + passed + (ahead if number >= set_at else 0), HOUR + passed))
        appender.close()
        with monkeypatch.context() as patch:
            for name, value in {**receiver.lineage_environment, **receiver.otel_environment}.items():
                patch.setenv(name, value)
            cursors = replay(directory, everything=False, timeout=20)
        assert all(cursor.complete for cursor in cursors.values()), f"the clock jumps at {happened[set_at]}"
        _everything_takes_as_long_as_it_took(receiver)
        state = RunState()
        for record in Reader(directory.journal).read():
            state.apply(record.event)
        result = result_of(state, Path(), {})
        assert result.elapsed == pytest.approx((len(happened) - 1) / 1e3)
        assert all(node.execution_time >= 0 for node in result.nodes)
        shutil.rmtree(directory.path)
