"""The demo: build the example project, and show what backends received while dbt ran.

A receiver in this process stands in for Marquez and Jaeger: it listens on a free local port, as they would, and keeps
what comes in. What is shown is what it received, not what was sent.
"""

from __future__ import annotations

import gzip
import importlib.resources
import os
import shlex
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from spanline.api.start import start
from spanline.errors import UsageError
from spanline.results.result import RunResult
from spanline.results.summary import duration
from spanline.runner.shared import settings
from spanline.runner.shared.visible import in_line, visible
from spanline.system import files

DIRECTORY: Final = "spanline-demo"
_LEADS_AWAY: Final = tuple(
    f"{prefix}{name}"
    for prefix in (settings.DBT_PREFIX, settings.DBT_ENGINE_PREFIX)
    for name in ("PROJECT_DIR", "PROFILE", "TARGET")
)
"""Variables by which dbt would not take the project, or the target, of the demo."""
_LINEAGE_PATH: Final = "/api/v1/lineage"
_TRACES_PATH: Final = "/v1/traces"


class _Field(msgspec.Struct):
    inputFields: list[dict[str, object]] = []  # noqa: N815 - OpenLineage's name


class _ColumnLineage(msgspec.Struct):
    fields: dict[str, _Field] = {}


class _Facets(msgspec.Struct, frozen=True):
    columnLineage: _ColumnLineage | None = None  # noqa: N815 - OpenLineage's name


class _Dataset(msgspec.Struct):
    name: str
    namespace: str = ""
    facets: _Facets = _Facets()


class _Job(msgspec.Struct):
    name: str


class _LineageEvent(msgspec.Struct):
    job: _Job
    eventType: str = ""  # noqa: N815 - OpenLineage's name; a job's own event has none
    inputs: list[_Dataset] = []
    outputs: list[_Dataset] = []


class _Console(Console):
    """Rich's, with what is in a text shown as everywhere: its own markup has none of it."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as Rich has it
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)


class _Received:
    """What came in, with the time at which it did."""

    def __init__(self) -> None:
        self.lineage: list[tuple[float, bytes]] = []
        self.spans: list[tuple[float, Span]] = []

    def take(self, path: str, body: bytes) -> None:
        now = time.time()
        if path == _LINEAGE_PATH:
            self.lineage.append((now, body))
        elif path == _TRACES_PATH:
            request = ExportTraceServiceRequest.FromString(body)
            self.spans += [
                (now, span)
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]


def demo(directory: Path | None, python: str | None, home: str | None) -> int:
    """Copy the example project into `directory` (default: `spanline-demo` here), build it, show what was captured.

    Where its run is kept is said by `home` or `SPANLINE_HOME`, as for every run, else it is in the project.
    """
    console = _Console()
    project = (directory or Path(DIRECTORY)).absolute()
    _copy_example(project)
    console.print(f"[bold]spanline dbt build[/bold] in {project}\n")
    with _receiver() as received:
        run = start(
            ["build", "--profiles-dir", "."],
            project_dir=project,
            python=python,
            home_dir=home,
        )
        result = run.wait()
        dbt_ended = run.state.last / 1e9
    files.write(project / "openlineage.jsonl", b"".join(body + b"\n" for _, body in received.lineage), 0o644)
    console.print()
    _show_spans(console, received)
    _show_lineage(console, received)
    _show_what_came(console, received, dbt_ended)
    _show_next(console, project, home, result)
    return result.exit_code


def _copy_example(project: Path) -> None:
    source = _example()
    if project.exists() and not (project / "dbt_project.yml").exists() and any(project.iterdir()):
        raise UsageError(f"{project} exists and is not a demo; choose another place with --directory")
    shutil.copytree(
        source,
        project,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("target", "logs", "*.duckdb", ".spanline", ".user.yml"),
    )


def _example() -> Path:
    packaged = Path(str(importlib.resources.files("spanline"))) / "_example"
    in_checkout = Path(__file__).parents[3] / "examples" / "coffee_shop"
    for place in (packaged, in_checkout):
        if (place / "dbt_project.yml").exists():
            return place
    raise UsageError("this installation lacks the example project; install spanline again")


@contextmanager
def _receiver() -> Iterator[_Received]:
    """Receive on a free local port, with the sinks pointed at it, and dbt told nothing by variables."""
    received = _Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith((*settings.BACKEND_PREFIXES, settings.DBT_PREFIX)):
            del os.environ[name]
    os.environ[settings.OPENLINEAGE_URL] = url
    os.environ[settings.OTLP_ENDPOINT] = url
    try:
        yield received
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.shutdown()


def _show_spans(console: Console, received: _Received) -> None:
    spans = [span for _, span in received.spans]
    children = defaultdict(list)
    for span in spans:
        children[span.parent_span_id].append(span)
    for root in children[b""]:
        console.print("[bold]Trace[/bold] (what Jaeger shows)")
        tree = Tree(_label(root))
        _add(tree, root, children)
        console.print(tree)
        console.print()


def _add(tree: Tree, span: Span, children: Mapping[bytes, list[Span]]) -> None:
    """What is beneath a span; of queries only the number."""
    for child in sorted(children[span.span_id], key=lambda s: s.start_time_unix_nano):
        if not _is_query(child):
            queries = sum(map(_is_query, children[child.span_id]))
            note = f" [dim]{queries} queries[/dim]" if queries else ""
            _add(tree.add(_label(child) + note), child, children)


def _is_query(span: Span) -> bool:
    return span.kind == Span.SPAN_KIND_CLIENT


def _label(span: Span) -> str:
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    mark = "[red]✗[/red]" if span.status.code == Status.STATUS_CODE_ERROR else "[green]✓[/green]"
    return f"{mark} {escape(in_line(span.name))} [dim]{duration(seconds)}[/dim]"


def _show_lineage(console: Console, received: _Received) -> None:
    console.print("[bold]Lineage[/bold] (what Marquez shows)")
    for _, body in received.lineage:
        event = msgspec.json.decode(body, type=_LineageEvent)
        inputs = ", ".join(_short(dataset.name) for dataset in event.inputs)
        if event.eventType == "COMPLETE" and event.outputs:
            output = event.outputs[0]
            name = f"[bold]{escape(_short(output.name))}[/bold]"
            console.print(f"  {escape(inputs) or '[dim](a file)[/dim]'} → {name}{_columns(output)}")
        elif not event.eventType:
            console.print(f"  {escape(inputs)} → [italic]{escape(event.job.name)}[/italic]")
    console.print()


def _columns(output: _Dataset) -> str:
    lineage = output.facets.columnLineage
    if lineage is None or not lineage.fields:
        return ""
    edges = sum(len(field.inputFields) for field in lineage.fields.values())
    return f" [dim]{len(lineage.fields)} columns from {edges}[/dim]"


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _show_what_came(console: Console, received: _Received, dbt_ended: float) -> None:
    early = sum(1 for at, _ in received.lineage if at < dbt_ended)
    console.print(
        f"{len(received.lineage)} OpenLineage events and {len(received.spans)} spans arrived, "
        f"{early} of the events while dbt was still running."
    )


def _show_next(console: Console, project: Path, home: str | None, result: RunResult) -> None:
    console.print(f"The run is kept in {result.directory}:", soft_wrap=True)
    console.print("  journal.jsonl   every event, as it happened")
    console.print("  artifacts/      dbt's own files of this invocation")
    console.print(f"The OpenLineage events are in {project / 'openlineage.jsonl'}\n", soft_wrap=True)
    console.print("Try next:")
    console.print(f"  cd {shlex.quote(str(project))}", soft_wrap=True)
    away = [name for name in _LEADS_AWAY if name in os.environ]
    if away:
        console.print(f"  unset {' '.join(away)}", soft_wrap=True)
    named = home or os.environ.get(settings.HOME)
    ourselves = _ourselves()
    if named is not None and (home or not Path(named).expanduser().is_absolute()):  # it means another place over there
        ourselves += f" --home {shlex.quote(str(result.directory.parents[1]))}"
    for arguments, why in (
        ("show latest", "how the run ended"),
        ("tail latest", "every event of it"),
        ("dbt build --profiles-dir .", "the same, as your own run"),
    ):
        console.print(f"  {ourselves} {arguments:28} [dim]# {why}[/dim]", soft_wrap=True)


def _ourselves() -> str:
    """How the reader can call the command that this is: by its name, where the shell would find it."""
    command = Path(sys.argv[0]).absolute()
    return command.name if shutil.which(command.name) else str(command)
