"""A dbt project to break, real processes in it, and what must be true after every fault.

The fixture `sandbox` ends each test by looking for what must never be left: a process of the run, a held lease, a query
in the warehouse, a second dbt for one run, an event that is missing from the journal, a run that OpenLineage is never
told the end of. Every process that a test starts, and all that descend from it, carry
one environment variable by which they are found, whoever is their parent by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar

import psutil
import pytest

from spanline.home import lease
from tests.faults.backend import Backend
from tests.faults.figures import Figures, closed_lineage

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell has it for what it starts in the background: what is started here would inherit it, and hear no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As under nohup: it would hear of no terminal that is closed.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

T = TypeVar("T")

BIN = Path(sys.executable).parent
SPANLINE = str(BIN / "spanline")
DEADLINE = 45.0
"""For one condition. Conditions are met within a few seconds; the rest is for a machine that has other work."""
TEST_DEADLINE = 120
MARKER = "SPANLINE_FAULTS_TEST"
GATE_LOCK = 4711
SLOW = {"duckdb": "range(100000000000)", "postgres": "pg_sleep(120)"}

_PROJECT = {
    "dbt_project.yml": """
name: faults
version: "1.0"
profile: faults
on-run-start: ["{{ hook() }}"]
models: {+materialized: table}
""",
    "profiles.yml": """
faults:
  target: duckdb
  outputs:
    duckdb: {type: duckdb, path: "{{ env_var('FAULT_DUCKDB', 'faults.duckdb') }}", threads: 2}
    postgres:
      type: postgres
      host: "{{ env_var('FAULT_PG_HOST', '') }}"
      port: "{{ env_var('FAULT_PG_PORT', '5432') | int }}"
      user: postgres
      password: ""
      dbname: postgres
      schema: faults
      threads: 2
""",
    "macros/faults.sql": """
{% macro slow_query() -%}
  {%- if env_var('FAULT_FAST', '') -%} select 1 as n
  {%- elif target.type == 'duckdb' -%} select count(*) as n from range(100000000000) a
  {%- else -%} select 1 as n from pg_sleep(120)
  {%- endif -%}
{%- endmacro %}

{% macro hook() %}{% if execute and env_var('FAULT_HOOK', '') %}{{ slow_query() }}{% endif %}{% endmacro %}
""",
    "models/fast.sql": "select 1 as id",
    "models/slow.sql": "{{ slow_query() }}",
    "models/after.sql": "select * from {{ ref('slow') }}",
    "models/broken.sql": "select no_such_column from {{ ref('fast') }}",
}
_OF_WAREHOUSE = {
    "duckdb": {
        # Runs until the test opens the gate.
        "models/gate.py": """
import os, time

def model(dbt, session):
    while not os.path.exists("gate-is-open"):
        time.sleep(0.01)
    return session.sql("select 1 as id")
""",
        # Can't be cancelled, and has a process of its own.
        "models/stuck.py": """
import os, subprocess, time

def model(dbt, session):
    with open("stuck.new", "w") as file:
        file.write(str(subprocess.Popen(["sleep", "600"]).pid))
    os.rename("stuck.new", "stuck.pid")
    while os.path.exists("stuck.pid"):
        time.sleep(1)
    return session.sql("select 1 as id")
""",
    },
    "postgres": {"models/gate.sql": f"select 1 as id from (select pg_advisory_xact_lock({GATE_LOCK})) as gate"},
}


def until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Wait for a condition and return its value; fail when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped doesn't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Started:
    """A process that a test has started, with its output in a file."""

    def __init__(self, popen: subprocess.Popen, output: Path) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._output = output

    @property
    def text(self) -> str:
        return self._output.read_text(errors="replace")

    def send(self, signum: int) -> None:
        self.popen.send_signal(signum)

    def ends(self, seconds: float = DEADLINE) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.popen.args} has not ended after {seconds} s; it said:\n{self.text}")

    def says(self, text: str) -> None:
        until(lambda: text in self.text or self.popen.poll() is not None, f"output {text!r}")
        assert text in self.text, self.text


class RunView:
    """One run, as its directory shows it: read here without any of the product's code."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.path = path
        self.id = path.name
        self._sandbox = sandbox

    def events(self, *kinds: str) -> list[dict]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "journal.jsonl").read_bytes().split(b"\n")[:-1]:
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line or b"{}"))
        return [event for event in found if event and (not kinds or event["type"] in kinds)]

    def waits_for(self, kind: str, **fields: object) -> dict:
        """The first event of this type with these fields."""

        def look() -> dict | None:
            events = self.events(kind)
            return next((e for e in events if all(e.get(k) == v for k, v in fields.items())), None)

        try:
            return until(look, f"event {kind} {fields}")
        except pytest.fail.Exception:
            pytest.fail(f"no event {kind} {fields}; there are: {[e['type'] for e in self.events()][-30:]}")

    def one(self, kind: str) -> dict:
        (found,) = self.events(kind)
        return found

    def begun(self, session: int = 1) -> list[str]:
        """Names of the nodes that dbt began in a session, in order."""
        events = self.events("node_started")
        return [e["unique_id"].rpartition(".")[2] for e in events if e["session"] == session]

    @property
    def ends(self) -> list[tuple[str, int]]:
        """Outcome and exit code of each session."""
        return [(e["outcome"], e["exit_code"]) for e in self.events("session_ended")]

    @property
    def lost(self) -> int:
        """How many records are missing or torn: each writer numbers its own."""
        written: dict[str, set[int]] = {}
        for event in self.events():
            written.setdefault(event["writer"], set()).add(event["seq"])
        missing = sum(max(numbers) - len(numbers) for numbers in written.values())
        lines = [line for line in (self.path / "journal.jsonl").read_bytes().split(b"\n") if line.strip()]
        return missing + len(lines) - len(self.events())

    @property
    def runner(self) -> int:
        return self.waits_for("attempt_started")["pid"]

    @property
    def outcome(self) -> str:
        return self.one("session_ended")["outcome"]

    def is_in_slow_query(self) -> None:
        """Wait until the warehouse works on the query that never ends."""
        sql = SLOW[self._sandbox.warehouse]
        until(lambda: any(sql in e["sql"] for e in self.events("query_started")), "the slow query")
        if self._sandbox.postgres is not None:
            until(lambda: any(sql in query for query in self._sandbox.queries()), "the slow query in PostgreSQL")

    def shown(self) -> dict:
        """What `spanline show --json` says."""
        return json.loads(self._sandbox.did("show", self.id, "--json"))

    def node(self, name: str) -> str:
        """A node's status."""
        return {n["unique_id"].rpartition(".")[2]: n["status"] for n in self.shown()["nodes"]}[name]


def _is_resource_tracker(process: psutil.Process) -> bool:
    """Whether it is multiprocessing's, which ends with the last process (a fork that lives on, too) that used it."""
    return "multiprocessing.resource_tracker" in " ".join(process.cmdline())


class Sandbox:
    """A project of its own, the processes that work in it, and the checks that end every test."""

    def __init__(self, project: Path, warehouse: str, postgres: Postgres | None) -> None:
        self.project = project
        self.warehouse = warehouse
        self.postgres = postgres
        self.marker = uuid.uuid4().hex
        clean = ("DBT_", "OPENLINEAGE_", "OTEL_", "SPANLINE_", "FAULT_", "PYTEST_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(clean)}
        self.env |= {
            MARKER: self.marker,
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_TARGET": warehouse,
            "DBT_PROFILES_DIR": str(project),
            "HOME": str(project.parent),
            "PYTHONUNBUFFERED": "1",
        }
        if postgres is not None:
            self.env["FAULT_PG_HOST"] = postgres.host
        self.home = project / ".spanline"
        self.expected_steps = 1
        self.queries_may_stay = False
        self.journal_may_stop = False
        self.figures = Figures()
        self._all: list[Started] = []
        self._gate = None

    # --- starting ---

    def start(self, argv: Sequence[str], env: dict[str, str] | None = None, **popen: object) -> Started:
        output = self.project.parent / f"output-{len(self._all)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                argv,
                **{"cwd": self.project, "stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, **popen},
                env={**self.env, **(env or {})},
            )
        started = Started(process, output)
        self._all.append(started)
        return started

    def dbt(self, *args: str, options: Sequence[str] = (), env: dict[str, str] | None = None) -> Started:
        """`spanline dbt ARGS` under way."""
        return self.start([SPANLINE, *options, "dbt", *args], env)

    def script(self, text: str, *args: str, env: dict[str, str] | None = None, **popen: object) -> Started:
        """A Python program that uses the API."""
        return self.start([sys.executable, "-c", text, *args], env, **popen)

    def did(self, *args: str, code: int = 0, env: dict[str, str] | None = None) -> str:
        """`spanline ARGS` from start to end; what it printed."""
        process = self.start([SPANLINE, *args], env)
        assert process.ends() == code, process.text
        return process.text

    # --- looking ---

    def runs(self) -> list[RunView]:
        place = self.home / "runs"
        names = sorted(p.name for p in place.glob("*-*") if not p.name.startswith("."))
        return [RunView(place / name, self) for name in names]

    def run(self) -> RunView:
        """The one run of this sandbox, once it is there."""
        until(lambda: self.runs() and self.runs()[0].events("session_started"), "a run")
        (found,) = self.runs()
        return found

    def processes(self) -> list[psutil.Process]:
        """All that live of what this test has started, and of what that has started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get(MARKER) == self.marker
                if mine and process.status() != psutil.STATUS_ZOMBIE and not _is_resource_tracker(process):
                    found.append(process)
        return found

    def all_gone(self, *spared: int, seconds: float = DEADLINE) -> None:
        """Wait until every process is gone, but for those spared."""

        def gone() -> bool:
            for started in self._all:
                started.popen.poll()
            return not [p for p in self.processes() if p.pid not in spared]

        try:
            until(gone, "the end of all processes", seconds)
        except pytest.fail.Exception:
            left = [(p.pid, p.cmdline()) for p in self.processes() if p.pid not in spared]
            pytest.fail(f"processes are left: {left}; journals end with: {[r.events()[-3:] for r in self.runs()]}")

    def queries(self) -> list[str]:
        """What dbt's sessions in PostgreSQL are doing."""
        assert self.postgres is not None
        return self.postgres.queries()

    # --- the gate ---

    def close_gate(self) -> None:
        if self.postgres is not None:
            self._gate = self.postgres.connect()
            self._gate.cursor().execute(f"select pg_advisory_lock({GATE_LOCK})")

    def open_gate(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        (self.project / "gate-is-open").touch()

    # --- the end of every test ---

    def check(self) -> None:
        self.all_gone(seconds=15)
        for run in self.runs():
            pids = [e["pid"] for e in run.events("session_started", "attempt_started")]
            assert not [pid for pid in pids if alive(pid) and self._is_mine(pid)]
            # The kernel lets go of a killed process's files some milliseconds after the process can't be seen any more.
            held = run.path / "lease"
            until(lambda held=held: not lease.is_held(held), "the release of the lease", 1)
            steps = [(e["session"], e["step"], e["attempt"]) for e in run.events("attempt_started")]
            invocations = [e["invocation_id"] for e in run.events("dbt_started")]
            assert len(steps) <= self.expected_steps, f"more than one dbt for a run: {steps}"
            assert len(set(steps)) == len(steps)
            assert len(invocations) == len(set(invocations)) <= len(steps), "more than one dbt for a run"
            ends = run.events("session_ended")
            assert len(ends) <= len(run.events("session_started"))
            self._check_journal(run)
        if self.postgres is not None and not self.queries_may_stay:
            until(lambda: not self.queries(), f"PostgreSQL without queries of dbt, not {self.queries()}", 10)

    def _check_journal(self, run: RunView) -> None:
        if not run.events():
            return  # killed before it had begun
        self.figures.runs += 1
        self.figures.events += len(run.events())
        opened, unclosed = closed_lineage(run.path)
        self.figures.opened += opened
        self.figures.unclosed += len(unclosed)
        assert not unclosed, f"OpenLineage is never told the end of {unclosed}"
        self.figures.incomplete += bool(run.events("journal_stopped"))
        if not self.journal_may_stop:
            self.figures.lost += run.lost
            assert run.lost == 0, "events are missing from the journal"

    def _is_mine(self, pid: int) -> bool:
        return any(process.pid == pid for process in self.processes())

    def clean_up(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for started in self._all:
            started.popen.wait(10)
        if self._gate is not None:
            self._gate.close()
        if self.postgres is not None:
            self.postgres.end_sessions()


class Postgres:
    """A PostgreSQL of the tests' own."""

    def __init__(self, host: str, control: Callable[[Sequence[str]], object]) -> None:
        """`control` calls pg_ctl for its data directory."""
        self.host = host
        self._control = control

    @property
    def socket(self) -> str:
        return f"{self.host}/.s.PGSQL.5432"

    def stop(self, mode: str) -> None:
        """Stop the server: `fast` ends every session with a word, `immediate` without."""
        self._control(["-w", "-m", mode, "stop"])

    def start(self) -> None:
        self._control(["-w", "-o", '-h ""', "-o", f"-k {self.host}", "-l", f"{self.host}/log", "start"])

    def connect(self):
        import psycopg2

        connection = psycopg2.connect(host=self.host, user="postgres", dbname="postgres")
        connection.autocommit = True
        return connection

    def _ask(self, sql: str) -> list[tuple]:
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    def queries(self) -> list[str]:
        return [
            row[0]
            for row in self._ask(
                "select query from pg_stat_activity where application_name = 'dbt' and state = 'active'"
            )
        ]

    def end_sessions(self) -> None:
        self._ask("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbt'")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    pgserver = pytest.importorskip("pgserver", reason="pgserver, which brings PostgreSQL, has no wheel for this Python")
    # Not in pytest's directory: as root the server runs as another user, who must be able to get there.
    place = Path(tempfile.mkdtemp(prefix="spanline-pg-"))
    server = pgserver.get_server(place / "data", cleanup_mode="stop")
    try:
        host = str(server.get_postmaster_info().socket_dir)
        yield Postgres(
            host, lambda args: pgserver.pg_ctl(list(args), pgdata=server.pgdata, user=server.system_user, timeout=60)
        )
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Postgres | None], Path]:
    """Make the project of a warehouse, with dbt's partial-parse cache, once."""
    made: dict[str, Path] = {}

    def make(warehouse: str, server: Postgres | None) -> Path:
        if warehouse not in made:
            place = tmp_path_factory.mktemp(f"project-{warehouse}")
            for name, text in {**_PROJECT, **_OF_WAREHOUSE[warehouse]}.items():
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(text)
            sandbox = Sandbox(place, warehouse, server)
            parsed = sandbox.start([str(BIN / "dbt"), "parse"])
            assert parsed.ends() == 0, parsed.text
            made[warehouse] = place
        return made[warehouse]

    return make


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def warehouse(request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on both."""
    return request.param


def _sandbox(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    warehouse: str,
    make: Callable[[str, Postgres | None], Path],
    server: Postgres | None,
) -> Iterator[Sandbox]:
    project = tmp_path / "project"
    shutil.copytree(make(warehouse, server), project)
    sandbox = Sandbox(project, warehouse, server)

    def too_late(_signum: int, _frame: FrameType | None) -> None:
        pytest.fail(f"the test hangs; processes: {[(p.pid, p.cmdline()) for p in sandbox.processes()]}")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(TEST_DEADLINE)
    try:
        yield sandbox
        sandbox.check()
        sandbox.figures.keep(request.node.nodeid)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sandbox.clean_up()


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, tmp_path: Path, warehouse: str, parsed_project) -> Iterator[Sandbox]:
    """A sandbox on each warehouse."""
    server = request.getfixturevalue("postgres") if warehouse == "postgres" else None
    yield from _sandbox(request, tmp_path, warehouse, parsed_project, server)


@pytest.fixture
def duckdb_sandbox(request: pytest.FixtureRequest, tmp_path: Path, parsed_project) -> Iterator[Sandbox]:
    """A sandbox on DuckDB, where the warehouse makes no difference."""
    yield from _sandbox(request, tmp_path, "duckdb", parsed_project, None)


@pytest.fixture
def postgres_sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, parsed_project, postgres: Postgres
) -> Iterator[Sandbox]:
    """A sandbox on PostgreSQL, where only a server can go away."""
    yield from _sandbox(request, tmp_path, "postgres", parsed_project, postgres)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend of OpenLineage, up and well."""
    with Backend() as started:
        started.up()
        yield started


@pytest.hookimpl(tryfirst=True)  # before what tests/conftest.py makes of the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: together they take minutes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
