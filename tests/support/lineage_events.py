"""Journals to translate, recorded from dbt or written by hand, and what holds of every OpenLineage event."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import jsonschema
import msgspec
import referencing
from openlineage.client.serde import Serde

from spanline import events
from spanline.events import Column, ColumnInput, ColumnsResolved, Event, NodeDescribed, Relation
from spanline.journal import ids
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.lineage.cache import Cache
from spanline.lineage.resolver import Resolver
from spanline.sinks.openlineage import Options, Translator
from tests.support.project import DEADLINE

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
SPECIFICATION = Path(
    os.environ.get("SPANLINE_TEST_OPENLINEAGE") or Path(__file__).parents[3] / "shared" / "openlineage-spec"
)
"""A checkout of the specification's folder `spec`, or of all of it: https://github.com/OpenLineage/OpenLineage."""
OWN_FACETS = Path(__file__).parents[2] / "docs" / "facets"
ENDS = ("COMPLETE", "FAIL", "ABORT")

# --- what the specification asks of an event ----------------------------------------------------------------------

_formats = jsonschema.FormatChecker()


@_formats.checks("date-time")
def _is_a_time(text: object) -> bool:
    try:
        return datetime.fromisoformat(str(text)).tzinfo is not None
    except ValueError:
        return False


@_formats.checks("uri")
def _is_a_uri(text: object) -> bool:
    return bool(urlsplit(str(text)).scheme) and not re.search(r"\s", str(text))


class _Specification:
    """The schemas beside this checkout, and our own. Without them only the shape of events is looked at."""

    def __init__(self) -> None:
        self.keys: dict[str, set[str]] = defaultdict(set)
        schemas = {}
        files = [*SPECIFICATION.rglob("*.json"), *OWN_FACETS.glob("*.json")] if SPECIFICATION.is_dir() else []
        for file in files:
            schema = json.loads(file.read_text())
            schemas[schema["$id"]] = referencing.Resource.from_contents(schema)
            for key, value in schema.get("properties", {}).items():
                if "$ref" in value:
                    self.keys[key].add(schema["$id"] + value["$ref"])
        self._registry = referencing.Registry().with_resources(schemas.items())
        self._validators: dict[str, jsonschema.Draft202012Validator] = {}
        self.found = bool(schemas)

    def validate(self, url: str, value: object) -> None:
        if url not in self._validators:
            self._validators[url] = jsonschema.Draft202012Validator(
                {"$ref": url}, registry=self._registry, format_checker=_formats
            )
        self._validators[url].validate(value)


specification = _Specification()


def assert_valid(event: dict) -> None:
    """An event, and every facet in it by the schema that it names, which must be the one of its key."""
    assert_in_shape(event)
    if not specification.found:
        return  # test_specification.py is skipped then, and says so
    kind = "RunEvent" if "run" in event else "JobEvent"
    specification.validate(f"https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/{kind}", event)
    assert event["schemaURL"].endswith(kind)
    for name, facet in facets_of(event):
        specification.validate(facet["_schemaURL"], facet)
        known = specification.keys.get(name)
        assert known is None or facet["_schemaURL"] in known, name
        assert known is not None or name.startswith("spanline_") or name == "dbt_exposures", name


def assert_in_shape(event: dict) -> None:
    """What the specification asks of every event, whether or not its schemas are here.

    https://openlineage.io/docs/spec/object-model
    """
    assert _is_a_time(event["eventTime"]), event["eventTime"]
    assert _is_a_uri(event["producer"])
    assert re.fullmatch(r"https://openlineage\.io/spec/[\d-]+/OpenLineage\.json#/\$defs/\w+Event", event["schemaURL"])
    if "run" in event:
        assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
        assert str(UUID(event["run"]["runId"])) == event["run"]["runId"]
    for named in (event["job"], *event.get("inputs", []), *event.get("outputs", [])):
        assert named["namespace"], named
        assert named["name"], named
    for name, facet in facets_of(event):
        assert _is_a_uri(facet["_producer"]), name
        assert _is_a_uri(facet["_schemaURL"]), name


def facets_of(event: dict) -> Iterator[tuple[str, dict]]:
    holders = [event.get("run", {}), event["job"], *event.get("inputs", []), *event.get("outputs", [])]
    for holder in holders:
        for group in ("facets", "inputFacets", "outputFacets"):
            yield from holder.get(group, {}).items()


def written(happened: Iterable[Event], **options: object) -> list[str]:
    """The OpenLineage events that a journal means, as they are sent."""
    return [text for _, texts in step_by_step(happened, **options) for text in texts]


def step_by_step(happened: Iterable[Event], **options: object) -> Iterator[tuple[Event, list[str]]]:
    """Each event of a journal, and what it means."""
    translator, state = Translator(Options(**options)), RunState()  # type: ignore[arg-type]
    for event in happened:
        state.apply(event)
        yield event, [Serde.to_json(message.payload) for message in translator(event, state)]


def translated(happened: Iterable[Event], **options: object) -> list[dict]:
    """The OpenLineage events that a journal means, each of them valid."""
    told = [json.loads(text) for text in written(happened, **options)]
    for event in told:
        assert_valid(event)
    return told


def assert_one_start_and_one_end(told: Sequence[dict]) -> None:
    """https://openlineage.io/docs/spec/run-cycle; a session's events come before and after all others of it."""
    kinds, places = defaultdict(list), defaultdict(list)
    for place, event in enumerate(told):
        if "run" in event:
            kinds[event["run"]["runId"]].append(event["eventType"])
            places[event["run"]["runId"]].append(place)
    for kind in kinds.values():
        assert len(kind) == 2
        assert kind[0] == "START"
        assert kind[1] in ENDS
    sessions = [run for run, event in _starts(told) if "parent" not in event["run"]["facets"] or run in _parents(told)]
    covered = {place for run in sessions for place in range(places[run][0], places[run][1] + 1)}
    assert covered == set(range(len(told)))


def _starts(told: Sequence[dict]) -> list[tuple[str, dict]]:
    return [(e["run"]["runId"], e) for e in told if e.get("eventType") == "START"]


def _parents(told: Sequence[dict]) -> set[str]:
    facets = [event["run"]["facets"] for event in told if "run" in event]
    return {found["parent"]["run"]["runId"] for found in facets if "parent" in found}


def ends(told: Iterable[dict]) -> dict[str, dict]:
    """The last event of each job's run, by the name of the job."""
    return {event["job"]["name"]: event for event in told if event.get("eventType") in ENDS}


def starts(told: Iterable[dict]) -> dict[str, dict]:
    return {event["job"]["name"]: event for event in told if event.get("eventType") == "START"}


def end_of(told: Iterable[dict], unique_id: str) -> dict:
    """The last event of the run of one node, or hook."""
    (found,) = [e for e in told if e.get("eventType") in ENDS and unique_id_of(e) == unique_id]
    return found


def unique_id_of(event: dict) -> str | None:
    return event.get("run", {}).get("facets", {}).get("spanline_run", {}).get("unique_id")


# --- recorded -----------------------------------------------------------------------------------------------------

_RECORD = """
import json, pathlib, shutil, sys
from dbt.cli.main import dbtRunner
from spanline.runner.recorder import Recorder
from spanline.runner.shared.writer import Writer

for number, args in enumerate(json.loads(sys.argv[1])):
    place = pathlib.Path(sys.argv[2], str(number))
    place.mkdir(parents=True)
    writer = Writer(str(place / "journal.jsonl"), "runner-1-1-1")
    writer.locate(1, 1, 1)
    recorder = Recorder(writer, None, args)
    dbtRunner(callbacks=[recorder]).invoke(args)
    writer.append("dbt_exited", {"exit_code": recorder.exit_code})
    for name in ("manifest", "run_results", "sources"):
        written = pathlib.Path("target", name + ".json")
        if written.exists():
            shutil.copy(written, place)
"""


@dataclass
class Recording:
    """One invocation of dbt, as a session of its own, and what dbt itself says of it."""

    events: list[Event]
    path: Path

    def artifact(self, name: str) -> dict:
        found = json.loads((self.path / f"{name}.json").read_text())
        (dbt,) = [event for event in self.events if isinstance(event, events.DbtStarted)]
        assert found["metadata"]["invocation_id"] == dbt.invocation_id
        return found

    @property
    def results(self) -> dict[str, dict]:
        return {result["unique_id"]: result for result in self.artifact("run_results")["results"]}

    @property
    def nodes(self) -> dict[str, dict]:
        manifest = self.artifact("manifest")
        return {**manifest["nodes"], **manifest["sources"], **manifest["unit_tests"], **manifest["exposures"]}


def record(project: Path, out: Path, invocations: Sequence[Sequence[str]]) -> list[Recording]:
    """Have one process do these invocations of dbt, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", _RECORD, json.dumps(invocations), str(out)],
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    (project / "target" / "catalog.json").unlink(missing_ok=True)  # which would tell types to all that came before
    return [_recording(out / str(number)) for number in range(len(invocations))]


def _recording(path: Path) -> Recording:
    found = [record.event for record in Reader(path / "journal.jsonl").read()]
    code = next(event.exit_code for event in found if isinstance(event, events.DbtExited))
    argv = next(event.argv for event in found if isinstance(event, events.DbtStarted))
    first, last = found[0].time - 1_000_000, found[-1].time + 1_000_000
    return Recording(
        [
            *opened([argv], time=first),
            *found,
            events.AttemptEnded(exit_code=code, time=last, session=1, step=1, attempt=1),
            ended("success" if code == 0 else "failed", code, time=last + 1),
        ],
        path,
    )


def with_columns(happened: Sequence[Event]) -> list[Event]:
    """The same journal, with what the column resolver writes a microsecond after what it looks at."""
    resolver, found = Resolver(Cache(None)), [happened[0], resolver_started(time=happened[0].time)]
    for event in happened[1:]:
        found.append(event)
        columns = resolver.take(event)
        if columns is not None:
            place = {"session": event.session, "step": event.step, "attempt": event.attempt}
            found.append(msgspec.structs.replace(columns, time=event.time + 1000, **place))
    return found


# --- written by hand ----------------------------------------------------------------------------------------------

SECOND = 1_000_000_000
MIDNIGHT = 1_700_006_400 * SECOND
"""2023-11-15T00:00:00Z, when written journals begin."""

_PLACE = {"session": 1, "step": 1, "attempt": 1}


def at(seconds: float) -> int:
    return MIDNIGHT + int(seconds * SECOND)


def opened(steps: Sequence[Sequence[str]] = (("build",),), **fields: object) -> list[Event]:
    """How a session begins: `steps` are its commands."""
    started = {
        "run_id": RUN_ID,
        "lineage_run_id": ids.lineage_run_id(RUN_ID, fields.get("session", 1)),  # type: ignore[arg-type]
        "trace_id": "0" * 31 + "1",
        "spanline_version": "0.1.0",
        "steps": [list(step) for step in steps],
        "project_dir": "/p/shop",
        "host": "h",
        "pid": 1,
        "session": 1,
        "time": at(0),
        **fields,
    }
    place = {**_PLACE, "session": started["session"], "time": started["time"]}
    return [
        events.SessionStarted(**started),  # type: ignore[arg-type]
        events.AttemptStarted(argv=list(steps[0]), pid=1, python="p", **place),
    ]


def invoked(command: str = "build", **fields: object) -> list[Event]:
    """dbt begins, on a DuckDB."""
    place = {name: fields.pop(name, value) for name, value in {**_PLACE, "time": at(0)}.items()}
    configured = {
        "adapter_type": "duckdb",
        "adapter_version": "1.10.1",
        "project": "shop",
        "profile": "shop",
        "target": "dev",
        "threads": 2,
        "connection": {"database": "shop", "schema": "main", "path": "shop.duckdb"},
        **{name: fields.pop(name) for name in list(fields) if name in events.DbtConfigured.__struct_fields__},
    }
    started = {"dbt_version": "1.11.16", "python_version": "3.11.7", "invocation_id": f"{command}-1", **fields}
    return [
        events.DbtStarted(command=command, **started, **place),  # type: ignore[arg-type]
        events.DbtConfigured(**configured, **place),  # type: ignore[arg-type]
    ]


def ended(outcome: str = "success", exit_code: int = 0, **fields: object) -> Event:
    return events.SessionEnded(**{"outcome": outcome, "exit_code": exit_code, "session": 1, **fields})  # type: ignore[arg-type]


def closed(exit_code: int = 0, **fields: object) -> list[Event]:
    """How dbt, its attempt and its session end."""
    place = {**_PLACE, **fields}
    return [
        events.DbtFinished(success=exit_code == 0, exit_code=exit_code, elapsed=1.0, **place),  # type: ignore[arg-type]
        events.AttemptEnded(exit_code=exit_code, **place),  # type: ignore[arg-type]
        ended("success" if exit_code == 0 else "failed", exit_code, session=place["session"]),
    ]


def session(*happened: Event | Sequence[Event], command: str = "build", exit_code: int = 0) -> list[Event]:
    """A journal of one invocation."""
    return in_order(opened([[command]]), invoked(command), *happened, closed(exit_code))


def in_order(*happened: Event | Sequence[Event]) -> list[Event]:
    """All of these, each a millisecond after the one before where it has no time of its own."""
    found: list[Event] = []
    now = at(0)
    for part in happened:
        for event in [part] if isinstance(part, Event) else part:
            now = event.time or now + 1_000_000
            found.append(msgspec.structs.replace(event, time=now))
    return found


def described(unique_id: str, **fields: object) -> NodeDescribed:
    """What dbt says of a node. A table in SQL in `shop.main`, by its name, where nothing else is said."""
    kind, package, *_, name = unique_id.split(".")
    found = {
        "unique_id": unique_id,
        "resource_type": kind,
        "name": name,
        "package_name": package,
        "language": "sql",
        **({"materialized": "table"} if kind == "model" else {}),
        **({"relation": relation(name)} if kind in ("model", "seed", "snapshot", "source") else {}),
        **_PLACE,
        **fields,
    }
    return NodeDescribed(**found)  # type: ignore[arg-type]


def relation(identifier: str, schema: str | None = "main", database: str | None = "shop") -> Relation:
    parts = [part for part in (database, schema, identifier) if part]
    return Relation(identifier, ".".join(f'"{part}"' for part in parts), database, schema)


def started(unique_id: str, time: int = 0, **fields: object) -> Event:
    return events.NodeStarted(**{"unique_id": unique_id, "thread": "t", "time": time, **_PLACE, **fields})  # type: ignore[arg-type]


def compiled(unique_id: str, sql: str, time: int = 0, **fields: object) -> Event:
    return events.NodeCompiled(**{"unique_id": unique_id, "sql": sql, "time": time, **_PLACE, **fields})  # type: ignore[arg-type]


def finished(unique_id: str, status: str = "success", time: int = 0, **fields: object) -> Event:
    found = {"unique_id": unique_id, "status": status, "time": time, **_PLACE, **fields}
    return events.NodeFinished(**found)  # type: ignore[arg-type]


def resolver_started(**fields: object) -> Event:
    return events.ColumnResolverStarted(**{"sqlglot_version": "30", "compiled": True, "session": 1, **fields})  # type: ignore[arg-type]


def resolver_stopped(reason: str = "done", **fields: object) -> Event:
    return events.ColumnResolverStopped(**{"reason": reason, "session": 1, **fields})  # type: ignore[arg-type]


def resolved(unique_id: str, *columns: str, reads: Sequence[str] = (), **fields: object) -> ColumnsResolved:
    """Columns, each written as `name` or, copied from one of `shop.main.upstream`, as `name < column`."""
    lineage = {}
    for column in columns:
        name, _, source = column.partition(" < ")
        if source:
            lineage[name] = [ColumnInput(0, source, ["DIRECT:IDENTITY"])]
    found = {
        "unique_id": unique_id,
        "origin": "sql",
        "columns": [Column(column.partition(" < ")[0], "integer") for column in columns],
        "datasets": ["shop.main.upstream"] if lineage or reads else [],
        "lineage": lineage,
        "reads": [ColumnInput(0, name, ["INDIRECT:FILTER"]) for name in reads],
        **_PLACE,
        **fields,
    }
    return ColumnsResolved(**found)  # type: ignore[arg-type]


def built(unique_id: str, sql: str | None = "select 1 as id", status: str = "success", **fields: object) -> list[Event]:
    """A node's whole life."""
    found = [described(unique_id, **fields), started(unique_id)]
    return [*found, *([compiled(unique_id, sql)] if sql else []), finished(unique_id, status)]
