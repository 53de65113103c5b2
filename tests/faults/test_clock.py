"""The clock is set back while a run is under way: nothing hangs, and nothing ends before it has begun."""

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
from spanline.results.result import result_of
from spanline.supervisor.replay import replay
from tests.faults.conftest import Sandbox
from tests.faults.test_resume import assert_one_start_and_one_end
from tests.support.journals import session_started
from tests.support.receivers import Receiver

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
HOUR = 3600 * 10**9
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


@pytest.mark.parametrize("limit", [[], ["--node-timeout", "2"]], ids=["no limit", "limit"])
def test_clock_set_back_an_hour(duckdb_sandbox: Sandbox, start_receiver, clock_library: Path, limit: list[str]) -> None:
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
    clock.write_text("-3600")
    if limit:
        run.waits_for("cancel_requested", by="time limit")
    sandbox.open_gate()
    assert started.ends() == (2 if limit else 1), started.text
    times = [event["time"] for event in run.events()]
    assert min(times) < times[0] - HOUR * 0.9, "the clock was set back"
    assert run.outcome == ("cancelled" if limit else "failed")
    assert run.shown()["elapsed"] >= 0
    assert all(node["execution_time"] >= 0 for node in run.shown()["nodes"])
    _nothing_ends_before_it_begins(receiver)


def _nothing_ends_before_it_begins(receiver: Receiver) -> None:
    assert receiver.spans
    for span in receiver.spans:
        assert span.end_time_unix_nano >= span.start_time_unix_nano, span.name
    assert_one_start_and_one_end(receiver.lineage)
    began: dict[str, datetime] = {}
    for event in receiver.lineage:
        at = datetime.fromisoformat(event["eventTime"].replace("Z", "+00:00"))
        assert began.setdefault(event["run"]["runId"], at) <= at, event["job"]["name"]


def test_journal_whose_times_go_back(tmp_path: Path, start_receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a clock leaves behind, at every place where a time may go back, and what readers make of it."""
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
    for back_at in range(1, len(happened)):
        receiver = start_receiver()
        directory = RunDirectory(tmp_path / str(back_at) / "runs" / RUN_ID)
        (directory.path / "cursors").mkdir(parents=True)
        appender = Appender(directory.journal, "test")
        appender.locate(1, 1, 1)
        for number, event in enumerate(happened):
            appender.append(event, at=10 * HOUR + number * 10**6 - (HOUR if number >= back_at else 0))
        appender.close()
        with monkeypatch.context() as patch:
            for name, value in {**receiver.lineage_environment, **receiver.otel_environment}.items():
                patch.setenv(name, value)
            cursors = replay(directory, everything=False, timeout=20)
        assert all(cursor.complete for cursor in cursors.values()), f"the clock goes back at {happened[back_at]}"
        _nothing_ends_before_it_begins(receiver)
        state = RunState()
        for record in Reader(directory.journal).read():
            state.apply(record.event)
        result = result_of(state, "", {})
        assert result.elapsed >= 0
        assert all(node.execution_time >= 0 for node in result.nodes)
        shutil.rmtree(directory.path)
