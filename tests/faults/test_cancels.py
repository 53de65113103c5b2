"""Cancels at random moments, from the first to the last of a run: never a hang, an orphan, or a missing end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spanline.api.start import attach
from spanline.errors import RunNotFound
from spanline.home.cursor import undelivered
from spanline.journal import ids
from tests.faults.backend import Backend
from tests.faults.conftest import SPANLINE, Sandbox
from tests.faults.test_resume import assert_one_start_and_one_end

USES_THE_API = """
import spanline
run = spanline.start(["build", "--select", "slow"], grace=1)
try:
    run.wait()
except KeyboardInterrupt:
    print("KeyboardInterrupt", run.result().outcome)
"""
COUNT = int(os.environ.get("SPANLINE_FAULTS_CANCELS", "20"))
SEED = int(os.environ.get("SPANLINE_FAULTS_SEED", "0")) or random.randrange(1 << 32)
AT_ONCE = 3
SECONDS_EACH = 60
MODELS = {
    "busy": "select count(*) as n from range(400000000)",
    "first": "select 1 as id",
    "second": "select * from {{ ref('first') }}",
    "third": "select a.id from {{ ref('second') }} a, {{ ref('busy') }}",
}
SELECT = ("build", "--select", "broken", "fast", *MODELS)


def test_cancelled_at_random_moments(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    sandbox = duckdb_sandbox
    signal.alarm(120 + COUNT * SECONDS_EACH // AT_ONCE)
    sandbox.figures.faults = COUNT
    for name, sql in MODELS.items():
        (sandbox.project / "models" / f"{name}.sql").write_text(sql)
    began = time.monotonic()
    sandbox.did("dbt", *SELECT, code=1)  # which tells how long a run takes, and parses the project once for all
    longest = time.monotonic() - began
    sandbox.env |= {**backend.environment, "SPANLINE_HOME": str(sandbox.home), "SPANLINE_FLUSH_TIMEOUT": "20"}
    places = [sandbox.project.with_name(f"project-{number}") for number in range(AT_ONCE)]
    for place in places:
        shutil.copytree(sandbox.project, place, ignore=shutil.ignore_patterns(".spanline"))
    draw = random.Random(SEED)
    jobs = [(places[number % AT_ONCE], draw.random() * longest, draw.choice(WAYS)) for number in range(COUNT)]
    print(f"SPANLINE_FAULTS_SEED={SEED}, up to {longest:.1f} s")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        lanes = [[job for job in jobs if job[0] == place] for place in places]
        list(pool.map(lambda lane: [_cancelled(sandbox, *job) for job in lane], lanes))

    sandbox.all_gone()
    for run in sandbox.runs()[1:]:
        directory = attach(run.id, home_dir=sandbox.home).directory
        if run.events("session_started") and (undelivered(directory) or not list(directory.cursors())):
            sandbox.did("replay", run.id)
    assert_one_start_and_one_end(backend.lineage)


def _cancelled(sandbox: Sandbox, place: Path, moment: float, way: str) -> None:
    """One run, cancelled so many seconds after its process was started; within a limit it must be over."""
    run_id = ids.new_run_id()
    started = sandbox.start([SPANLINE, "--run-id", run_id, "dbt", *SELECT], cwd=place)
    time.sleep(moment)  # any moment will do
    if way == "order":
        try:
            attach(run_id, home_dir=sandbox.home).cancel()
        except RunNotFound:
            way = "SIGTERM"
    if way == "SIGINT twice":
        started.send(signal.SIGINT)
    if way != "order":
        started.send(signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
    code = started.ends(SECONDS_EACH)
    run = next((run for run in sandbox.runs() if run.id == run_id), None)
    if run is None or not run.events("session_started"):
        return  # it was too early for a run
    ((outcome, said),) = run.ends
    assert outcome in ("cancelled", "failed"), f"{way} after {moment} s: {started.text}"
    assert code == said or code < 0 or code == 130, "a signal may still hit a process that has done its work"


@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "spanline cancel", "KeyboardInterrupt"])
def test_the_grace_of_the_run_holds_however_it_is_cancelled(duckdb_sandbox: Sandbox, way: str) -> None:
    sandbox = duckdb_sandbox
    if way == "KeyboardInterrupt":
        caller = sandbox.script(USES_THE_API)
    else:
        caller = sandbox.dbt("build", "--select", "slow", options=["--grace", "1"])
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGSTOP)  # it can't end by itself
    if way == "spanline cancel":
        sandbox.did("cancel", run.id)
    else:
        caller.send(signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
    caller.ends(20)
    assert run.one("cancel_requested")["grace"] == 1
    assert run.one("runner_killed")
    assert run.outcome == "cancelled"


WAYS = ("SIGINT", "SIGTERM", "SIGINT twice", "order")
