"""A small dbt project on DuckDB, real HTTP receivers, the real command line: what the core's tests share."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from spanline import events
from spanline.attempt import Stdio
from spanline.events import Event
from spanline.home import RunDirectory
from spanline.journal import Appender, Reader
from spanline.runs import Run, start

T = TypeVar("T")

BIN = Path(sys.executable).parent
SPANLINE = str(BIN / "spanline")
DBT = str(BIN / "dbt")
DEADLINE = 60.0
_nowhere = os.open(os.devnull, os.O_RDWR)
SILENT = Stdio(_nowhere, _nowhere, _nowhere)

_OTHERS_VARIABLES = ("OPENLINEAGE_", "OPENLINEAGE__", "OTEL_", "DBT_", "SPANLINE_", "TRACEPARENT")

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
models:
  shop:
    +materialized: table
on-run-start:
  - "create table if not exists main.raw_events as
     select i as id, timestamp '2020-01-01' + interval (i * 6) hour as happened_at from range(12) t(i)"
on-run-end: ["select 'over' as word"]
""",
    "profiles.yml": """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "{{ env_var('SHOP_DB', 'shop.duckdb') }}"
      threads: "{{ env_var('SHOP_THREADS', '2') | int }}"
""",
    "seeds/raw_orders.csv": "id,customer_id,amount\n1,1,10\n2,1,20\n3,2,5\n",
    "seeds/raw_customers.csv": "id,name\n1,Ada\n2,Bob\n",
    "models/priced.sql": "{{ config(materialized='ephemeral') }} select id, customer_id, amount * 100 as cents"
    " from {{ ref('raw_orders') }}",
    "models/orders.sql": "{{ config(materialized='incremental', unique_key='id') }} select * from {{ ref('priced') }}",
    "models/customers.sql": "{{ config(materialized='view') }} select * from {{ ref('raw_customers') }}",
    "models/totals.sql": """
select c.id as customer_id, sum(o.cents) as cents
from {{ ref('customers') }} c join {{ ref('orders') }} o on o.customer_id = c.id group by 1
""",
    "models/fragile.sql": "select id{{ ', no_such_column' if var('break', false) }} from {{ ref('orders') }}",
    "models/below.sql": "select * from {{ ref('fragile') }}",
    "models/bottom.sql": "select * from {{ ref('below') }}",
    "models/happenings.sql": "select * from {{ source('raw', 'raw_events') }}",
    "models/daily.sql": """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened_at', batch_size='day',
          begin='2020-01-01', enabled=var('microbatch', false)) }}
select * from {{ source('raw', 'raw_events') }}
""",
    "models/gate.py": """
import os, time

def model(dbt, session):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.01)
    return session.sql("select 1 as id")
""",
    "models/shop.yml": """
models:
  - name: gate
    config: {enabled: "{{ env_var('GATE', '') != '' }}"}
  - name: totals
    description: What each customer has spent
    config: {tags: [money], meta: {owner: Finance}}
    columns:
      - name: customer_id
        description: Who
        data_type: integer
        data_tests: [not_null, unique]
      - name: cents
        data_type: hugeint
        data_tests:
          - accepted_values: {arguments: {values: [1, 2], quote: false}, config: {severity: warn}}
  - name: fragile
    columns: [{name: id, data_tests: [not_null]}]
unit_tests:
  - name: totals_are_sums
    model: totals
    given:
      - {input: ref('customers'), rows: [{id: 7, name: Zoe}]}
      - {input: ref('orders'), rows: [{id: 1, customer_id: 7, cents: 2}, {id: 2, customer_id: 7, cents: 3}]}
    expect: {rows: [{customer_id: 7, cents: 5}]}
sources:
  - name: raw
    schema: main
    config:
      loaded_at_field: happened_at
      freshness: {warn_after: {count: 1, period: day}, error_after: {count: 1000, period: day}}
    tables:
      - name: raw_events
        config: {event_time: happened_at}
""",
    "tests/never.sql": "select 1 as one where {{ var('fail_test', false) }}",
    "snapshots/customers_history.sql": """
{% snapshot customers_history %}
{{ config(target_schema='main', unique_key='id', strategy='check', check_cols='all') }}
select * from {{ ref('raw_customers') }}
{% endsnapshot %}
""",
    "macros/operations.sql": """
{% macro say(text) %}{{ log(text, info=true) }}{% endmacro %}
{% macro boom() %}{{ exceptions.raise_compiler_error('boom') }}{% endmacro %}
""",
}


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> None:
    """What the caller's shell has set for dbt or backends must not reach a test."""
    for name in list(os.environ):
        if name.startswith(_OTHERS_VARIABLES):
            del os.environ[name]
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"


@dataclass
class Project:
    """A copy of the project, of a test's own."""

    path: Path

    @property
    def home(self) -> Path:
        return self.path / ".spanline"

    def write(self, name: str, text: str) -> None:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def dbt(self, *args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run plain dbt."""
        return command([DBT, *args], self.path, environment)

    def spanline(self, *args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command line."""
        return command([SPANLINE, *args], self.path, environment)

    def open(self, *args: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run the command line beside the test, which hears nothing of it."""
        return subprocess.Popen(
            [SPANLINE, *args],
            cwd=self.path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self, *args: str, **options: object) -> Run:
        """Start a run whose dbt keeps quiet; `.wait()` for it."""
        return start(list(args), project_dir=self.path, stdio=SILENT, **options)  # type: ignore[arg-type]

    def run(self, *args: str, **options: object) -> Run:
        """Do a run to its end."""
        run = self.start(*args, **options)
        run.wait(DEADLINE)
        return run

    def artifact(self, name: str) -> dict[str, object]:
        return json.loads((self.path / "target" / name).read_text())


def command(command: Sequence[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )


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


def session_started(run_id: str, **more: object) -> events.SessionStarted:
    """How the journal of a run begins that nobody has run."""
    return events.SessionStarted(
        run_id=run_id,
        lineage_run_id=run_id,
        trace_id="0" * 31 + "1",
        spanline_version="0",
        steps=[["build"]],
        project_dir="/p/shop",
        host="h",
        pid=1,
        **more,  # type: ignore[arg-type]
    )


def undelivered(place: Path, run_id: str, happened: Iterable[Event]) -> RunDirectory:
    """A run's directory whose journal says that this has happened, and of which nothing has been delivered."""
    directory = RunDirectory(place / "home" / "runs" / run_id)
    (directory.path / "cursors").mkdir(parents=True)
    appender = Appender(directory.journal, "test")
    appender.locate(1, 1, 1)
    for event in happened:
        appender.append(event)
    appender.close()
    return directory


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes = b"") -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A real HTTP server that says nothing on standard error, and its address."""
    quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Received:
    """One request."""

    at: float
    path: str
    body: bytes
    status: int


@dataclass
class Receiver:
    """A real HTTP server that keeps what it is sent. `status` may be a number, or said for each request."""

    url: str = ""
    status: int | Callable[[int], int] = 200
    delay: float = 0.0
    requests: list[Received] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """Cleared, requests hang until it is set again."""

    @property
    def lineage_environment(self) -> dict[str, str]:
        return {"OPENLINEAGE_URL": self.url}

    @property
    def otel_environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}

    def acknowledged(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path and request.status < 300]

    @property
    def lineage(self) -> list[dict]:  # type: ignore[type-arg]
        """OpenLineage events that were acknowledged, in the order of their receipt."""
        return [json.loads(request.body) for request in self.acknowledged("/api/v1/lineage")]

    @property
    def spans(self) -> list:  # type: ignore[type-arg]
        """Spans that were acknowledged, as protobuf messages."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for request in self.acknowledged("/v1/traces"):
            message = ExportTraceServiceRequest()
            message.ParseFromString(request.body)
            found += [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
        return found


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


def eventually(condition: Callable[[], T], what: str = "the condition", seconds: float = DEADLINE) -> T:
    """Wait until the condition is true, and return what it said."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} was not met within {seconds} s")


def last_run(project: Project) -> Run:
    """The one run that a project has had."""
    (path,) = (project.home / "runs").iterdir()
    return Run(RunDirectory(path))


def journal(run: Run) -> list[Event]:
    """Everything that the run's journal holds; no line of it torn."""
    reader = Reader(run.directory.journal)
    found = [record.event for record in reader.read()]
    assert reader.torn == 0
    return found
