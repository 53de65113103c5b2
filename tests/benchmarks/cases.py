"""The cases that are compared, and how one run of one of them goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.benchmarks.measure import Measurement, first_node, read_journal, run
from tests.benchmarks.project import Template
from tests.benchmarks.receivers import TRACES_PATH, Receivers, unused_port

Tool = Literal["dbt", "spanline", "dbt-ol"]
Backend = Literal["none", "fast", "slow", "busy", "dead"]

SLOW_SECONDS: Final = 0.05
BUSY_SECONDS: Final = 0.4
_PATIENT: Final = {"SPANLINE_FLUSH_TIMEOUT": "600"}
"""For a backend that needs longer for a run than dbt does."""
_LEFT_OUT: Final = ("OPENLINEAGE", "OTEL_", "SPANLINE_", "DBT_", "TRACEPARENT", "PYTHONDONTWRITEBYTECODE")
"""Variables that would change what is measured: without compiled modules, each process would compile its own."""


class Case(msgspec.Struct, frozen=True):
    """One way to run `dbt build`."""

    name: str
    title: str
    tool: Tool
    backend: Backend = "none"
    options: tuple[str, ...] = ()
    cold: bool = False
    """Nothing is known of the project's columns yet: otherwise an earlier run has left its cache."""
    few: bool = False
    """Takes minutes on a large project: measured on a small one, against a plain run of that."""


PLAIN: Final = Case("plain", "`dbt build`", "dbt")
CASES: Final = (
    PLAIN,
    Case("journal", "spanline, journal only", "spanline"),
    Case("backends", "spanline, OpenLineage and OTLP", "spanline", "fast"),
    Case("cold", "the same, the first run of all", "spanline", "fast", cold=True),
    Case("slow", f"the same, backends that take {SLOW_SECONDS * 1000:.0f} ms", "spanline", "slow"),
    Case("busy", f"OpenLineage that takes {BUSY_SECONDS * 1000:.0f} ms of its one CPU", "spanline", "busy", few=True),
    Case("dead", "the same, nothing listening", "spanline", "dead"),
    Case("dbt-ol", "`dbt-ol build`", "dbt-ol", "fast"),
    Case("dbt-ol-logs", "`dbt-ol build`, structured logs", "dbt-ol", "fast", ("--consume-structured-logs",)),
)


class Tools(msgspec.Struct, frozen=True):
    """The programs that are measured."""

    dbt: Path
    spanline: Path
    dbt_ol: Path | None = None

    @classmethod
    def of_this_interpreter(cls, dbt_ol: Path | None) -> Tools:
        """dbt and spanline as they stand beside this interpreter. Raises `SystemExit` where one is missing."""
        beside = Path(sys.executable).parent
        found = cls(beside / "dbt", beside / "spanline", dbt_ol.absolute() if dbt_ol is not None else None)
        for tool in filter(None, (found.dbt, found.spanline, found.dbt_ol)):
            if not tool.exists():
                raise SystemExit(f"there is no {tool}")
        return found

    def command(self, case: Case, options: Sequence[str] = ()) -> list[str]:
        """The command line of a case, with these options of `dbt build`."""
        if case.tool == "dbt":
            return [str(self.dbt), "build", *options]
        if case.tool == "spanline":
            return [str(self.spanline), "--no-progress", "dbt", "build", *options]
        return [str(self.dbt_ol), *case.options, "build", *options]


def clean_environment() -> dict[str, str]:
    """This environment without anything that configures dbt, Spanline or its backends, and without a proxy to here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    local = "127.0.0.1,localhost"
    return {**kept, "DBT_PROFILES_DIR": ".", "NO_PROXY": local, "no_proxy": local}


def measure(case: Case, repetition: int, template: Template, tools: Tools, work: Path) -> Measurement:
    """One run of one case, on a fresh copy of the project."""
    project = template.copy(work / "run")
    if case.tool == "spanline" and case.backend != "none" and not case.cold:
        _warm(project, template, tools, work)
    environment = clean_environment()
    if case.tool == "dbt-ol" and tools.dbt_ol is not None:
        environment["PATH"] = f"{tools.dbt_ol.parent}{os.pathsep}{environment.get('PATH', '')}"
    with _backend(case.backend, work) as (settings, receivers):
        found = run(tools.command(case, template.options), project, {**environment, **settings})
    receipts = receivers.stop() if receivers is not None else None
    return Measurement(
        case=case.name,
        repetition=repetition,
        process=found,
        first_node=first_node(project, found.launched),
        journalled=read_journal(project, found.launched, receipts) if case.tool == "spanline" else None,
        lineage_events=receipts.events if receipts is not None else 0,
        duplicates=receipts.duplicates if receipts is not None else 0,
        lineage_seconds=receipts.lineage_seconds if receipts is not None else 0.0,
        trace_requests=receipts.requests.get(TRACES_PATH, 0) if receipts is not None else 0,
    )


def _warm(project: Path, template: Template, tools: Tools, work: Path) -> None:
    """Give a project the cache of columns that a run of it leaves, made once."""
    kept = template.path.with_suffix(".cache")
    if not kept.exists():
        first = template.copy(work / "first")
        receivers = Receivers(work / "first.json")
        settings = {"OPENLINEAGE_URL": f"http://127.0.0.1:{receivers.port}"}
        run(tools.command(CASES[1], template.options), first, {**clean_environment(), **settings})
        receivers.stop()
        shutil.copytree(first / ".spanline" / "cache", kept)
        shutil.rmtree(first)
    shutil.copytree(kept, project / ".spanline" / "cache")
    os.sync()


@contextlib.contextmanager
def _backend(backend: Backend, work: Path) -> Iterator[tuple[Mapping[str, str], Receivers | None]]:
    """The environment that names the backends, and the receivers where there are any."""
    if backend == "none":
        yield {}, None
    elif backend == "dead":
        with unused_port() as port:
            yield _settings(port), None
    else:
        delay = SLOW_SECONDS if backend == "slow" else 0.0
        receivers = Receivers(work / "receipts.json", delay, BUSY_SECONDS if backend == "busy" else 0.0)
        try:
            yield _settings(receivers.port) | (_PATIENT if backend == "busy" else {}), receivers
        except BaseException:
            receivers.stop()
            raise


def _settings(port: int) -> dict[str, str]:
    base = f"http://127.0.0.1:{port}"
    return {"OPENLINEAGE_URL": base, "OTEL_EXPORTER_OTLP_ENDPOINT": base}
