"""Spans: the tree, its levels, links, attributes, errors; what of SQL they show; and the context around them."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from spanline import events
from spanline.api.start import start
from spanline.events import Event
from spanline.failures.classify import failure_of
from spanline.journal import ids
from spanline.journal.state import RunState
from spanline.results import conventions
from spanline.sinks.otel.failing import Failed
from spanline.sinks.otel.spans import Translator
from spanline.sinks.otel.sql import CHARACTERS, masked, shown
from spanline.supervisor import trace_context
from spanline.supervisor.replay import replay
from tests.sinks.otel.test_exporters import receiving_grpc
from tests.support.journals import journal, undelivered
from tests.support.lineage_events import (
    RUN_ID,
    SECOND,
    at,
    closed,
    described,
    ended,
    finished,
    in_order,
    invoked,
    opened,
    session,
    started,
)
from tests.support.project import DEADLINE, SILENT, Project, last_run
from tests.support.receivers import Receiver

DOCS = Path(__file__).parents[3] / "docs" / "traces.md"
PLACE = {"session": 1, "step": 1, "attempt": 1}
PHASES = {"start", "configure", "execute", "prepare", "finish", "exit", "end", "wait", "delivery"}


class Trace:
    """The spans of a journal, and how they hang together."""

    def __init__(self, happened: Iterable[Event], **environment: str) -> None:
        translate, state = Translator(Resource({}), shown(environment)), RunState()
        self.spans: list[ReadableSpan] = []
        for event in happened:
            state.apply(event)
            self.spans += [message.payload for message in translate(event, state)]  # type: ignore[misc]
        self._by_id = {span.context.span_id: span for span in self.spans}
        assert len(self._by_id) == len(self.spans), "ids differ"
        self._children: dict[int, list[ReadableSpan]] = defaultdict(list)
        for span in self.spans:
            if span.parent is not None:
                self._children[span.parent.span_id].append(span)

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def path(self, span: ReadableSpan) -> list[str]:
        """The names from the root down to this span."""
        above = self._by_id.get(span.parent.span_id) if span.parent is not None else None
        return [*(self.path(above) if above is not None else []), span.name]

    def beneath(self, span: ReadableSpan) -> list[ReadableSpan]:
        return self._children[span.context.span_id]

    def linked(self, span: ReadableSpan) -> list[str]:
        return sorted(self._by_id[link.context.span_id].name for link in span.links)


def of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@pytest.fixture(scope="module")
def happened(copy_project: Callable[[], Project]) -> list[Event]:
    """A build in which a model fails in the warehouse, what needs it is skipped, and a test fails."""
    return journal(copy_project().run("build", "--vars", "{break: true, fail_test: true}"))


@pytest.fixture(scope="module")
def build(happened: list[Event]) -> Trace:
    return Trace(happened)


# --- the tree


def test_a_session_has_phases_a_phase_nodes_and_hooks_a_node_queries(build: Trace) -> None:
    root = build.named("dbt build shop")
    assert root.parent is None
    phases = ["start", "configure", "parse", "compile", "execute", "exit", "end"]
    assert [span.name for span in build.beneath(root)] == phases
    assert build.path(build.named("model totals")) == ["dbt build shop", "execute", "model totals"]
    queries = build.beneath(build.named("model totals"))
    assert {"CREATE TABLE totals__dbt_tmp", "COMMIT"} <= {query.name for query in queries}
    assert {query.kind for query in queries} == {SpanKind.CLIENT}


def test_what_is_none_of_a_nodes_is_before_the_first_or_after_the_last(build: Trace, happened: list[Event]) -> None:
    begun = [e.time for e in happened if isinstance(e, events.NodeStarted)]
    over = [e.time for e in happened if isinstance(e, (events.NodeFinished, events.NodeSkipped))]
    prepare, finish, execute = (build.named(name) for name in ("prepare", "finish", "execute"))
    assert (prepare.start_time, prepare.end_time) == (execute.start_time, begun[0])
    assert (finish.start_time // 1000, finish.end_time) == (over[-1] // 1000, execute.end_time)
    assert build.path(build.named("on-run-start 1")) == ["dbt build shop", "execute", "prepare", "on-run-start 1"]
    assert build.path(build.named("on-run-end 1")) == ["dbt build shop", "execute", "finish", "on-run-end 1"]
    of_nodes = {e.unique_id for e in happened if isinstance(e, (events.NodeStarted, events.NodeSkipped))}
    inside = [span for span in build.beneath(execute) if of(span).get("unique_id") not in of_nodes]
    assert sorted(span.name for span in inside) == ["finish", "prepare"]
    assert "SELECT information_schema.tables" in {span.name for span in build.beneath(prepare)}


@pytest.mark.parametrize("seconds", [0, 3600])
def test_no_time_of_a_session_is_without_a_span(happened: list[Event], seconds: int) -> None:
    """2 % at most, that of what comes before dbt's process included; however far the clock is set in its midst."""
    half = len(happened) // 2
    later = [msgspec.structs.replace(event, time=event.time + seconds * SECOND) for event in happened[half:]]
    found = Trace([*happened[:half], *later])
    root = found.named("dbt build shop")
    children = sorted(found.beneath(root), key=lambda span: span.start_time)
    assert all(before.end_time <= span.start_time for before, span in itertools.pairwise(children))
    covered = sum(span.end_time - span.start_time for span in children)
    assert 0.98 <= covered / (root.end_time - root.start_time) <= 1


def test_times_are_those_of_the_events(build: Trace, happened: list[Event]) -> None:
    kinds = (events.AttemptStarted, events.DbtStarted, events.PhaseStarted, events.DbtFinished, events.AttemptEnded)
    changes = [e.time for e in happened if isinstance(e, (*kinds, events.SessionEnded))]
    names = ["start", "configure", "parse", "compile", "execute", "exit", "end"]
    for name, times in zip(names, itertools.pairwise(changes), strict=True):
        span = build.named(name)
        assert (span.start_time, span.end_time) == times
    root = build.named("dbt build shop")
    assert (root.start_time, root.end_time) == (happened[0].time, happened[-1].time)


@pytest.mark.slow
def test_each_step_of_several_is_a_level(project: Project) -> None:
    steps = [["run", "-s", "customers"], ["test", "-s", "never"]]
    run = start(steps, project_dir=project.path, stdio=SILENT)
    run.wait(DEADLINE)
    found = Trace(journal(run))
    assert found.path(found.named("model customers")) == ["dbt run, test shop", "dbt run", "execute", "model customers"]
    assert found.path(found.named("test never")) == ["dbt run, test shop", "dbt test", "execute", "test never"]
    assert of(found.named("dbt test")) == {"spanline.step": 2, "process.exit.code": 0}


def test_the_second_attempt_is_a_level_and_the_session_says_when_it_was_decided() -> None:
    first = [
        described("model.shop.a"),
        described("model.shop.b", depends_on=["model.shop.a"]),
        events.PhaseStarted(phase="run", **PLACE),
        started("model.shop.a"),
        finished("model.shop.a"),
        started("model.shop.b"),
        finished("model.shop.b", "error", message="deadlock detected"),
        events.DbtFinished(success=False, exit_code=1, elapsed=1.0, **PLACE),
        events.AttemptEnded(exit_code=1, **PLACE),
        events.RetryScheduled(delay=1.5, reason="concurrency (postgres.deadlock)", **PLACE),
    ]
    place = {**PLACE, "attempt": 2}
    second = [
        events.AttemptStarted(argv=["build"], pid=2, python="p", **place),
        events.PhaseStarted(phase="run", **place),
        started("model.shop.b", **place),
        finished("model.shop.b", **place),
    ]
    found = Trace(in_order(opened(), invoked(adapter_type="postgres"), first, second, closed(0, attempt=2)))
    bad, good = (span for span in found.spans if span.name == "model b")
    assert found.path(bad) == ["dbt build shop", "execute", "model b"]
    assert found.path(good) == ["dbt build shop", "attempt", "execute", "model b"]
    assert (of(bad)["error.type"], of(bad)["spanline.attempt"]) == ("concurrency", 1)
    assert of(good)["spanline.attempt"] == 2
    assert found.linked(good) == ["model a"], "what it is made from ran in the attempt before"
    (note,) = found.named("dbt build shop").events
    assert (note.name, dict(note.attributes or {})["delay"]) == ("retry scheduled", 1.5)
    assert [span.name for span in found.beneath(found.named("attempt"))] == ["start", "execute", "exit"]
    wait, attempt = found.named("wait"), found.named("attempt")
    assert found.path(wait) == ["dbt build shop", "wait"]
    assert (wait.start_time, wait.end_time) == (note.timestamp, attempt.start_time)
    assert found.named("dbt build shop").status.status_code is StatusCode.UNSET


def test_an_attempt_names_what_failed_in_it() -> None:
    """Not what failed before, and was left as it is."""
    again = {**PLACE, "attempt": 2}
    happened = [
        started("model.shop.z"),
        started("model.shop.b"),
        finished("model.shop.z", "error", message="Database Error\n  syntax error at or near"),
        finished("model.shop.b", "error", message="deadlock detected"),
        events.AttemptEnded(exit_code=1, **PLACE),
        events.AttemptStarted(argv=["build"], pid=2, python="p", **again),
        started("model.shop.b", **again),
        finished("model.shop.b", "error", message="deadlock detected", **again),
    ]
    found = Trace(in_order(opened(), invoked(adapter_type="postgres"), happened, closed(1, attempt=2)))
    attempt, root = found.named("attempt"), found.named("dbt build shop")
    assert (attempt.status.description, of(attempt)["error.type"]) == ("1 failed, first model.shop.b", "concurrency")
    assert (root.status.description, of(root)["error.type"]) == ("2 failed, first model.shop.z", "syntax")


def test_a_resumed_session_links_to_the_one_before() -> None:
    place = {"session": 2, "resumes": True}
    first = [*opened(), *invoked(), *closed(1)]
    again = [*opened(time=at(60), **place), *invoked(session=2), *closed(0, session=2)]
    found = Trace(in_order(first, again))
    one, two = (span for span in found.spans if span.parent is None)
    assert one.context.trace_id != two.context.trace_id
    (link,) = two.links
    assert (link.context.trace_id, link.context.span_id) == (one.context.trace_id, one.context.span_id)
    assert not one.links


A, B, C = "model.shop.a", "model.shop.b", "model.shop.c"


def resumed(*, resumes: bool = True, flags: str = "01") -> list[Event]:
    """A run of three models, each made from the one before: `a` at the second try, `b` and `c` in the next session."""
    around = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flags}", "tracestate": "vendor=1"}
    again = {**PLACE, "attempt": 2}
    described_all = [described(A), described(B, depends_on=[A]), described(C, depends_on=[A, B])]
    first = [
        started(A),
        finished(A, "error", message="deadlock detected"),
        events.AttemptEnded(exit_code=1, **PLACE),
        events.AttemptStarted(argv=["build"], pid=2, python="p", **again),
        started(A, **again),
        finished(A, **again),
        started(B, **again),
        finished(B, "error", **again),
        events.NodeSkipped(unique_id=C, cause=B, **again),
    ]
    place = {**PLACE, "session": 2}
    second = [event for node in (B, C) for event in (started(node, **place), finished(node, **place))]
    return in_order(
        [*opened(**around), *invoked()], described_all, first, closed(1, attempt=2),
        [*opened(session=2, resumes=resumes, time=at(60)), *invoked(session=2)], second, closed(0, session=2),
    )  # fmt: skip


def test_a_node_links_to_what_it_is_made_from_in_the_session_in_which_that_ran() -> None:
    found = Trace(resumed())
    made = {of(span)["unique_id"]: span for span in found.spans if of(span).get("node_outcome") == "success"}
    links = {node: [link.context for link in span.links] for node, span in made.items()}
    assert links == {A: [], B: [made[A].context], C: [made[A].context, made[B].context]}, "the tries that succeeded"
    (to_a,) = links[B]
    assert to_a.trace_id == int("a" * 32, 16) != made[B].context.trace_id
    assert (to_a.trace_flags, to_a.trace_state.to_header()) == (1, "vendor=1")
    assert [span.to_json() for span in Trace(resumed()).spans] == [span.to_json() for span in found.spans]


def test_a_link_says_that_what_it_leads_to_was_not_sampled() -> None:
    found = Trace(resumed(flags="00"))
    assert {link.context.trace_flags for link in found.named("model b").links} == {0}


def test_a_session_that_begins_anew_links_to_no_node_of_the_one_before() -> None:
    found = Trace(resumed(resumes=False))
    (made,) = [span for span in found.spans if of(span).get("unique_id") == B and not span.status.description]
    assert not made.links


def test_what_a_failed_second_try_leaves_is_what_the_first_has_made() -> None:
    place = {**PLACE, "step": 2}
    nodes = [described(A), started(A), finished(A)]
    again = [started(A, **place), finished(A, "error", **place)]
    found = Trace(session(nodes, again, [described(B, depends_on=[A]), started(B, **place), finished(B, **place)]))
    (link,) = found.named("model b").links
    (good,) = [span for span in found.spans if of(span).get("unique_id") == A and not span.status.description]
    assert link.context == good.context


def test_what_is_open_when_dbt_dies_ends_then() -> None:
    died = events.RunnerDied(signal="SIGKILL", time=at(9), **PLACE)
    running = [
        events.PhaseStarted(phase="run", **PLACE),
        started("model.shop.a"),
        events.QueryStarted(query=1, sql="select 1", unique_id="model.shop.a", **PLACE),
    ]
    found = Trace(
        in_order(opened(), invoked(), described("model.shop.a"), running, died, ended("died", 2, time=at(10)))
    )
    for name in ("SELECT", "model a", "execute"):
        assert found.named(name).end_time == at(9)
    assert found.named("end").start_time == at(9)
    assert of(found.named("model a"))["node_outcome"] == "interrupted"
    assert of(found.named("dbt build shop"))["cicd.pipeline.result"] == "error"
    assert [note.name for note in found.named("dbt build shop").events] == ["dbt died", "exception"]


def test_a_clock_that_is_set_back_gives_no_span_that_ends_before_it_begins() -> None:
    back = [started("model.shop.a", time=at(5)), finished("model.shop.a", time=at(3))]
    found = Trace(in_order(opened(), invoked(), described("model.shop.a"), back, closed(time=at(4))))
    assert all(span.end_time >= span.start_time for span in found.spans)


# --- nodes


def test_a_node_links_to_those_that_it_is_made_from_through_ephemeral_ones(build: Trace) -> None:
    assert build.linked(build.named("model totals")) == ["model customers", "model orders"]
    seed, below, top = "seed.shop.raw", "model.shop.below", "model.shop.top"
    through = [
        described(below, materialized="ephemeral", depends_on=[seed]),
        [described(seed), started(seed), finished(seed)],
        [described(top, depends_on=[below, seed]), started(top), finished(top)],
    ]
    found = Trace(session(*through))
    assert found.linked(found.named("model top")) == ["seed raw"], "what dbt doesn't run has no span to link to"
    selected = [through[0], [*through[1], started(below), finished(below)], through[2]]
    found = Trace(session(*selected))
    assert found.linked(found.named("model top")) == ["model below", "seed raw"], "one that is selected is run"


def test_a_node_is_described_in_dbts_own_words(build: Trace) -> None:
    found = of(build.named("model orders"))
    expected = {
        "unique_id": "model.shop.orders",
        "node_type": "model",
        "node_outcome": "success",
        "materialization": "incremental",
        "database": "shop",
        "schema": "main",
        "identifier": "orders",
        "relative_path": "models/orders.sql",
        "code.file.path": "models/orders.sql",
        "spanline.step": 1,
        "spanline.attempt": 1,
    }
    assert expected.items() <= found.items()


def test_a_failure_is_an_error_of_its_kind_with_its_message(build: Trace) -> None:
    fragile = build.named("model fragile")
    assert fragile.status.status_code is StatusCode.ERROR
    assert (of(fragile)["error.type"], of(fragile)["spanline.rule"]) == ("not_found", "duckdb.no_column")
    (note,) = fragile.events
    assert note.name == "exception"
    assert "no_such_column" in str(dict(note.attributes or {})["exception.message"])


def test_the_query_that_failed_is_seen_though_dbt_does_not_say_that_it_did(build: Trace, happened: list[Event]) -> None:
    asked = [e for e in happened if isinstance(e, events.QueryStarted) and e.unique_id == "model.shop.fragile"]
    queries = build.beneath(build.named("model fragile"))
    assert len(queries) == len(asked)
    (failed,) = [query for query in queries if query.status.status_code is StatusCode.ERROR]
    assert failed.name.startswith("CREATE ")
    assert (failed.status.description or "").startswith('Binder Error: Referenced column "no_such_column" not found')
    assert of(failed)["error.type"] == "not_found"
    assert not failed.events, "its node has the exception"


def test_a_failed_test_is_an_error(build: Trace) -> None:
    never = build.named("test never")
    assert never.status.status_code is StatusCode.ERROR
    assert (of(never)["test_failures"], of(never)["error.type"]) == (1, "data")
    assert build.named("test accepted_values_totals_cents__False__1__2").status.status_code is StatusCode.UNSET, "warns"


def test_a_skipped_node_is_there_with_its_cause(build: Trace) -> None:
    below = build.named("model below")
    assert (of(below)["node_outcome"], of(below)["upstream_unique_id"]) == ("skipped", "model.shop.fragile")
    assert below.end_time - below.start_time == 1000, "a microsecond, in which Jaeger counts"
    assert build.linked(below) == ["model fragile"]


def test_the_session_says_how_it_went_and_names_its_lineage_run(build: Trace, happened: list[Event]) -> None:
    (beginning,) = [e for e in happened if isinstance(e, events.SessionStarted)]
    root = build.named("dbt build shop")
    expected = {
        "cicd.pipeline.result": "failure",
        "cicd.pipeline.name": "shop",
        "process.exit.code": 1,
        "db.system.name": "duckdb",
        "dbt.nodes.error": 1,
        "spanline.run.id": beginning.run_id,
        "openlineage.run.id": beginning.lineage_run_id,
        "error.type": "not_found",
    }
    assert expected.items() <= of(root).items()
    assert root.status.description in {f"2 failed, first {name}" for name in ("model.shop.fragile", "test.shop.never")}


def test_names_and_keys_are_those_of_the_docs(build: Trace) -> None:
    documented = set(re.findall(r"^\| `([\w.]+?)`", DOCS.read_text(), re.MULTILINE))
    keys = {key for span in build.spans for key in of(span)}
    keys |= {key for span in build.spans for note in span.events for key in dict(note.attributes or {})}
    assert {re.sub(r"^dbt\.nodes\..*", "dbt.nodes.STATUS", key) for key in keys} <= documented
    constants = {value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)}
    kinds = {conventions.SESSION, conventions.ATTEMPT, conventions.HOOK, conventions.QUERY, *PHASES}
    notes = {conventions.RETRY, conventions.CANCEL, conventions.KILLED, conventions.DIED, conventions.EXCEPTION}
    of_log_lines = set(re.findall(r"`([\w.]+)`", DOCS.with_name("logs.md").read_text()))
    others = {conventions.NODES, conventions.SCHEMA_URL}
    assert constants - kinds - notes - others <= documented | of_log_lines


def test_keys_that_are_not_dbts_or_ours_are_in_the_conventions_that_the_schema_url_names(build: Trace) -> None:
    modules = [importlib.import_module(f"opentelemetry.semconv._incubating.attributes.{kind}_attributes")
               for kind in ("cicd", "code", "db", "error", "exception", "process", "server", "thread")]  # fmt: skip
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = ("dbt.", "spanline.", "openlineage.", "https://")
    keys = {value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)}
    assert {key for key in keys if "." in key and not key.startswith(ours)} <= known
    assert {scope.schema_url for scope in (span.instrumentation_scope for span in build.spans) if scope} == {
        conventions.SCHEMA_URL
    }
    systems = {each.value for each in importlib.import_module(modules[2].__name__).DbSystemNameValues}
    assert set(conventions.SYSTEMS.values()) <= systems


def test_a_query_names_the_relation_that_it_makes_where_that_is_plain() -> None:
    queries = [
        'create or replace table "shop"."main"."a" as (select 1)',
        '/* {"node": 1} */\n  create table\n "shop"."main"."a__dbt_tmp" as (select 1)',
        'insert into "shop"."main"."a" ("id") (select 1)',
        'select * from "shop"."main"."a"',
    ]
    asked = [
        [events.QueryStarted(query=number, sql=sql, unique_id=A, **PLACE),
         events.QueryFinished(query=number, status="OK", elapsed=1.0, unique_id=A, **PLACE)]
        for number, sql in enumerate(queries)
    ]  # fmt: skip
    found = Trace(session([described(A), started(A)], *asked, finished(A)))
    keys = ("db.operation.name", "db.collection.name", "db.query.summary")
    told = [tuple(of(span).get(key) for key in keys) for span in found.spans if span.kind is SpanKind.CLIENT]
    assert told == [
        ("CREATE TABLE", "a", "CREATE TABLE a"),
        ("CREATE TABLE", None, "CREATE TABLE a__dbt_tmp"),
        ("INSERT", "a", "INSERT a"),
        ("SELECT", None, "SELECT a"),
    ]


@pytest.mark.parametrize(
    ("adapter", "message", "code"),
    [
        ("snowflake", "Database Error in model a\n  001003 (42000): SQL compilation error: syntax error", "001003"),
        ("clickhouse", "Database Error\n  Code: 60. DB::Exception: Table a does not exist", "60"),
        ("trino", 'TrinoUserError(type=USER_ERROR, name=TABLE_NOT_FOUND, message="line 1")', "TABLE_NOT_FOUND"),
        ("postgres", "Database Error in model a\n  deadlock detected", None),
        ("nobodys", "42", None),
    ],
)
def test_a_query_that_failed_has_the_warehouses_code_where_that_is_known(
    adapter: str, message: str, code: str | None
) -> None:
    asked = events.QueryStarted(query=1, sql="select 1", unique_id=A, **PLACE)
    failed = [described(A), started(A), asked, finished(A, "error", message=message)]
    at_host = invoked(adapter_type=adapter, connection={"host": "h", "port": "5432"})
    query = of(Trace(in_order(opened(), at_host, failed, closed(1))).named("SELECT"))
    assert query.get("db.response.status_code") == code
    assert (query["server.address"], query["server.port"]) == ("h", 5432)


# --- what of SQL they show


def test_sql_is_shown_cut_masked_or_not_at_all() -> None:
    sql = "select 'secret' as a, " + "1, " * CHARACTERS
    query = [
        events.QueryStarted(query=1, sql=sql, **PLACE),
        events.QueryFinished(query=1, status="OK", elapsed=1.0, **PLACE),
    ]
    happened = session(query)
    (span,) = [span for span in Trace(happened).spans if span.name == "SELECT"]
    assert of(span)["db.query.text"] == sql[:CHARACTERS] + "…"
    assert "db.query.text" not in of(Trace(happened, SPANLINE_TRACE_SQL="off").named("SELECT"))
    assert "secret" not in str(of(Trace(happened, SPANLINE_TRACE_SQL="masked").named("SELECT"))["db.query.text"])
    with pytest.raises(ValueError, match="must be on, masked or off"):
        shown({"SPANLINE_TRACE_SQL": "yes"})


@pytest.mark.parametrize(
    ("adapter", "sql", "expected"),
    [
        ("postgres", "select 'it''s', 1, \"c1\" -- O'H\nfrom t where b=E'a\\'b'", 'select ?, ?, "c1" from t where b=?'),
        ("postgres", "select $$a 'b'$$ /* 'c' */ as x", "select ? as x"),
        ("bigquery", 'select "double" as x, r\'raw\' from `p.d.t`', "select ? as x, ? from `p.d.t`"),
        ("snowflake", "select 'a' from t where x > -3", "select ? from t where x > -?"),
        ("duckdb", "select 0xFF, 0b11, 1e5, 'x', 1_000, .5, (.5e-3), 1_000.5, c2",
         "select ?, ?, ?, ?, ?, ?, (?), ?, c2"),
        ("duckdb", r"select x'AB', '\xAA'::blob, e'a\'b', $$a'b$$, $t$a$$'b$t$, -.5",
         "select x?, ?::blob, ?, ?, ?, -?"),
        ("postgres", "select 0xFF, 0o17, 1_000, 12E+5, .5, a[1:2], $1", "select ?, ?, ?, ?, ?, a[?:?], ?"),
        ("postgres", r"select x'A', B'0', e'a\\', E'a\'b', U&'\0041' UESCAPE '!', N'a'",
         "select ?, ?, ?, ?, ? UESCAPE ?, ?"),
        ("postgres", "select $t$a $$'b$t$, date '2020-01-01', interval '1 day'", "select ?, date ?, interval ?"),
        ("postgres", "select '{\"a\": 1}'::json->'a'->>0, \"we'ird\", 'ü😀' from t2",
         "select ?::json->?->>?, \"we'ird\", ? from t2"),
        ("postgres", "select 1 /* a /* 'b' */ c */ from t -- 'd", "select ? from t"),
        ("postgres", r"select 'a\', b, 'c'", "select ?, b, ?"),
        ("postgres", "execute p('a')", "execute ?"),
        ("redshift", r"select 'a\'b', timestamp '2020-01-01 00:00:00'", "select ?, timestamp ?"),
        ("snowflake", r"select 'a\'b', $$a'b$$, 1e5, .5, v:a.b, t.$1 // 'c", "select ?, ?, ?, ?, v:a.b, t.?"),
        ("snowflake", "copy into t from 's3://b' credentials=(aws_key_id='k')",
         "copy into t from ? credentials=(aws_key_id=?)"),
        ("snowflake", "select 1 /* a /* 'b' */ , 2", "select ? , ?"),
        ("bigquery", r"select r'a\'b', br'\'', b'a', 0xFF, .5, json '{}', interval 5 day",
         "select ?, br?, ?, ?, ?, json ?, interval ? day"),
        ("bigquery", "select '''a'b''', \"\"\"a\"b\"\"\", timestamp \"2020\" # 'c'", "select ?, ?, timestamp ?"),
        ("spark", r"select 1L, 2Y, 1.5BD, .5f, r'a\', 'b', X'AB', date'2020-01-01'",
         "select ?, ?, ?, ?, ?, ?, ?, date?"),
        ("mysql", "select 0xFF, x'AB', b'01', _utf8'a', \"b\", 1e5 # 'c'", "select ?, ?, ?, _utf8?, ?, ?"),
        ("sqlserver", "select 0xFF, N'a''b', [c'd], $5.00, 1e-5", "select ?, ?, [c'd], ?, ?"),
        ("oracle", "select q'[it's]', nq'{it's}', 1.5f, 1d, date '2020-01-01'", "select ?, ?, ?, ?, date ?"),
        ("clickhouse", r"select 0x1p3, 0xFF, 'a\'b', $h$a'b$h$, 1_000, tuple.1", "select ?, ?, ?, ?, ?, tuple.?"),
        ("trino", r"select X'AB', 'a\', U&'\0041', DECIMAL '1.5', interval '1' day",
         "select ?, ?, ?, DECIMAL ?, interval ? day"),
        ("teradata", "select 'AB'XB, _latin'a'", "select ?, _latin?"),
        ("athena", "create external table d.t (a int) location 's3://b/x'",
         "create external table d.t (a int) location ?"),
        ("athena", "insert into d.t values (1, 'a')", "insert into d.t values (?, ?)"),
        ("nobodys", "select 'a'", None),
        ("postgres", "select 'never ends", None),
    ],
)  # fmt: skip
def test_masked_sql_has_no_literal_and_no_comment(adapter: str, sql: str, expected: str | None) -> None:
    assert masked(sql, adapter) == expected


def _doubled(quote: str, prefix: str = "") -> Callable[[str], str]:
    """A literal in which the quote is written twice."""
    return lambda text: f"{prefix}{quote}{text.replace(quote, quote * 2)}{quote}"


def _escaped(quote: str, prefix: str = "") -> Callable[[str], str]:
    """A literal in which a backslash is written before the quote, and before itself."""
    return lambda text: prefix + quote + re.sub(rf"[\\{quote}]", r"\\\g<0>", text) + quote


def _between(begin: str, end: str) -> Callable[[str], str]:
    """What holds anything but its end."""
    return lambda text: begin + re.sub(f"[{re.escape(end)}]", "", text) + end


_COMMENTS = [_between("-- ", "\n"), _between("/*", "*/")]
_DOLLARS = [_between("$$", "$$"), _between("$q$", "$q$")]
_BACKSLASH = [_escaped("'"), _escaped('"')]
_DOUBLED = [_doubled("'"), _doubled("'", "N")]
LITERALS: dict[str, list[Callable[[str], str]]] = {
    "postgres": [*_DOUBLED, _escaped("'", "e"), _escaped("'", "E"), *_DOLLARS],
    "duckdb": [_doubled("'"), _escaped("'", "e"), *_DOLLARS],
    "redshift": [_escaped("'")],
    "snowflake": [_escaped("'"), _DOLLARS[0], _between("//", "\n")],
    "bigquery": [*_BACKSLASH, _escaped('"', "b"), _between("'''", "'''"), _between("#", "\n")],
    "databricks": _BACKSLASH,
    "mysql": [*_BACKSLASH, _escaped("'", "N"), _between("#", "\n")],
    "sqlserver": _DOUBLED,
    "oracle": [_doubled("'"), _between("q'[", "]'"), _between("nq'{", "}'")],
    "trino": [_doubled("'"), _doubled("'", "U&")],
    "clickhouse": [_escaped("'"), _DOLLARS[1]],
}
_SECRET = "zqz"
_TEXT = st.text("aq'\"\\`$-/*#{}[]()%;\n é😀_&", max_size=9)


@given(st.data(), st.sampled_from(sorted(LITERALS)))
def test_no_text_of_a_literal_or_comment_survives(data: st.DataObject, adapter: str) -> None:
    makers = data.draw(st.lists(st.sampled_from([*LITERALS[adapter], *_COMMENTS]), min_size=1, max_size=5))
    texts = [_SECRET.join(["", *data.draw(st.lists(_TEXT, min_size=1, max_size=3)), ""]) for _ in makers]
    sql = "select a, " + ", ".join(make(text) for make, text in zip(makers, texts, strict=True)) + " from t"
    found = masked(sql, adapter)
    assert found is not None, sql
    assert _SECRET not in found, sql
    assert found.startswith("select a,"), sql
    assert found.endswith("from t"), sql


NUMBERS = [r"[0-9]{1,20}", r"[0-9]{0,9}\.[0-9]{1,9}", r"[0-9]{1,9}\.", r"[0-9]{1,3}[eE][+-]?[0-9]{1,3}",
           r"\.[0-9]{1,3}[eE]-[0-9]", "0x[0-9a-fA-F]{1,8}", "[1-9][0-9]{0,2}(_[0-9]{3}){0,3}"]  # fmt: skip


@given(st.data(), st.sampled_from(sorted({*LITERALS} - {"mysql", "databricks"})))
def test_a_number_is_masked_whole(data: st.DataObject, adapter: str) -> None:
    """Where no name begins with a digit."""
    numbers = [
        data.draw(st.from_regex(re.compile(data.draw(st.sampled_from(NUMBERS)), re.ASCII), fullmatch=True))
        for _ in range(3)
    ]
    sql = f"select {', '.join(numbers)}, ({numbers[0]}) from t where a in ({','.join(numbers)})"
    assert masked(sql, adapter) == "select ?, ?, ?, (?) from t where a in (?,?,?)", sql


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ('/* {"app": "dbt"} */ (select /* b */ foo from x)', "duckdb"),
        ("/* a */ -- b\n  create table x", "CREATE TABLE x"),
        ("-- no more", "duckdb"),
        ("/*a*/" * 5000 + "(1)", "duckdb"),
        ("", "duckdb"),
    ],
)
def test_a_query_is_named_by_its_summary_else_by_the_warehouse(sql: str, name: str) -> None:
    query = [
        events.QueryStarted(query=1, sql=sql, **PLACE),
        events.QueryFinished(query=1, status="OK", elapsed=1.0, **PLACE),
    ]
    (span,) = [span for span in Trace(session(query)).spans if span.kind is SpanKind.CLIENT]
    assert span.name == name


def test_a_query_is_named_by_what_its_node_reads_ephemeral_models_seen_through() -> None:
    sql = 'select count(*) from (select * from "shop"."main"."b" join "shop"."main"."a" using (id)) dbt_internal_test'
    test, ephemeral = "test.shop.t", "model.shop.e"
    query = [
        events.QueryStarted(query=1, sql=sql, unique_id=test, **PLACE),
        events.QueryFinished(query=1, status="OK", elapsed=1.0, unique_id=test, **PLACE),
    ]
    made = [described(A), described(ephemeral, materialized="ephemeral", depends_on=[A]), described(B), described(C)]
    node = [described(test, depends_on=[ephemeral, B, C]), started(test), query, finished(test)]
    assert Trace(session(made, *node)).named("SELECT b a").kind is SpanKind.CLIENT


@pytest.mark.parametrize(
    ("unique_id", "name"),
    [
        ("operation.shop.shop-on-run-start-0", "on-run-start 1"),
        ("operation.shop.shop-on-run-end-11", "on-run-end 12"),
        ("operation.audit.audit-on-run-end-0", "audit on-run-end 1"),
        ("operation.shop.of_another_dbt", "hook operation.shop.of_another_dbt"),
    ],
)
def test_a_hook_is_named_by_its_place(unique_id: str, name: str) -> None:
    hook = [
        events.HookStarted(unique_id=unique_id, **PLACE),
        events.HookFinished(unique_id=unique_id, status="success", **PLACE),
    ]
    assert of(Trace(session(hook)).named(name))["unique_id"] == unique_id


def test_nodes_that_are_skipped_end_the_preparation_and_what_follows_them_is_after_the_last() -> None:
    """As where a hook fails, with `skip_nodes_if_on_run_start_fails`."""
    end = "operation.shop.shop-on-run-end-0"
    happened = [
        events.PhaseStarted(phase="run", **PLACE),
        described(A),
        events.NodeSkipped(unique_id=A, **PLACE),
        events.HookStarted(unique_id=end, **PLACE),
        events.HookFinished(unique_id=end, status="success", **PLACE),
    ]
    found = Trace(session(happened))
    assert found.path(found.named("model a"))[1:] == ["execute", "model a"]
    assert found.path(found.named("on-run-end 1"))[1:] == ["execute", "finish", "on-run-end 1"]
    prepare, skipped, finish = (found.named(name) for name in ("prepare", "model a", "finish"))
    assert (prepare.end_time, skipped.end_time) == (skipped.start_time, finish.start_time)


def test_what_the_main_thread_asks_while_nodes_run_is_not_after_the_last() -> None:
    """As PostgreSQL's adapter does to cancel their queries."""
    asked = [events.QueryStarted(query=1, sql="select pg_terminate_backend(1)", **PLACE),
             events.QueryFinished(query=1, status="OK", elapsed=1.0, **PLACE)]  # fmt: skip
    running = [events.PhaseStarted(phase="run", **PLACE), described(A), started(A), *asked, finished(A)]
    found = Trace(session(running))
    assert found.path(found.named("SELECT"))[1:] == ["execute", "SELECT"]


@pytest.mark.parametrize("command", ["deps", "debug"])
def test_a_command_that_parses_nothing_is_executed_from_dbts_first_word_on(command: str) -> None:
    found = Trace(session(command=command))
    assert [span.name for span in found.spans] == ["start", "execute", "exit", "end", f"dbt {command} shop"]


def test_the_delivery_is_from_the_sessions_end_to_what_its_supervisor_says_of_it() -> None:
    told = [events.DeliveryEnded(sinks=[], session=1, time=at(time), writer=by)
            for time, by in ((20, "supervisor"), (500, "replay"))]  # fmt: skip
    happened = in_order(opened(), invoked(), closed()[:2], ended(time=at(10), writer="supervisor"))
    found = Trace([*happened, *told])
    delivery = found.named("delivery")
    assert found.path(delivery) == ["dbt build shop", "delivery"]
    assert (delivery.start_time, delivery.end_time) == (at(10), at(20))
    assert "delivery" not in {span.name for span in Trace([*happened, told[1]]).spans}, "a replay's is another"


@pytest.mark.parametrize("setting", ["masked", "off"])
def test_where_sql_may_not_be_seen_no_error_quotes_it(happened: list[Event], setting: str) -> None:
    found = Trace(happened, SPANLINE_TRACE_SQL=setting)
    fragile = found.named("model fragile")
    assert fragile.status.description == "not_found (duckdb.no_column)"
    said = [
        str((span.status.description, [dict(note.attributes or {}) for note in span.events])) for span in found.spans
    ]
    assert not [text for text in said if "no_such_column" in text]


# --- what fails outside of a node

MISSING = "Runtime Error\n  Catalog Error: Table with name t does not exist!\n  LINE 3: select 'SECRETLITERAL' from t"


def failing_operation(*, attempt: int = 1, **ending: str) -> list[Event]:
    """Two steps, the second of which fails, not in a node: at its first attempt, or at another."""
    place = {**PLACE, "step": 2}
    last = {**place, "attempt": attempt}
    again = [
        events.AttemptEnded(exit_code=1, **place),
        events.AttemptStarted(argv=["run-operation"], pid=2, python="p", **last),
    ]
    return in_order(
        opened([["deps"], ["run-operation", "op"]]),
        events.StepStarted(argv=["deps"], session=1, step=1),
        invoked("deps"),
        closed(0)[:2],
        events.StepStarted(argv=["run-operation", "op"], session=1, step=2),
        events.AttemptStarted(argv=["run-operation"], pid=1, python="p", **place),
        invoked("run-operation", **place),
        again if attempt > 1 else [],
        events.QueryStarted(query=1, sql="/* x */ select 'SECRETLITERAL' from t", **last),
        *(
            [events.DbtFinished(success=False, exit_code=1, elapsed=1.0, **ending, **last),
             events.AttemptEnded(exit_code=1, **last), ended("failed", 1)]
            if "exception" in ending
            else [events.RunnerDied(**ending, **last), ended("died", 2)]
        ),
    )  # fmt: skip


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(
    ("ending", "kind", "exception"),
    [
        ({"exception": MISSING}, "not_found", "DbtRuntimeError"),
        ({"signal": "SIGKILL", "detail": "SECRETLITERAL"}, "unknown", "unknown"),
    ],
)
def test_what_fails_without_a_node_is_an_error_with_its_exception_on_every_level(
    ending: dict[str, str], kind: str, exception: str, attempt: int
) -> None:
    found = Trace(failing_operation(attempt=attempt, **ending))
    levels = ["dbt deps, run-operation shop", "dbt run-operation", *(["attempt"] if attempt > 1 else [])]
    for name in levels:
        span = found.named(name)
        assert span.status.status_code is StatusCode.ERROR
        assert of(span)["error.type"] == kind
        (note,) = [dict(note.attributes or {}) for note in span.events if note.name == "exception"]
        assert (note["exception.type"], note["exception.message"]) == (exception, span.status.description)
        assert "SECRETLITERAL" in str(note["exception.message"])
    assert found.named("dbt deps").status.status_code is StatusCode.UNSET
    query = found.named("SELECT")
    assert (query.status.status_code, of(query)["error.type"]) == (StatusCode.ERROR, kind)


@pytest.mark.parametrize("setting", ["masked", "off"])
def test_where_sql_may_not_be_seen_no_level_quotes_it(setting: str) -> None:
    spans = Trace(failing_operation(attempt=2, exception=MISSING), SPANLINE_TRACE_SQL=setting).spans
    assert not [span.name for span in spans if "SECRETLITERAL" in span.to_json()]
    assert {span.status.description for span in spans if span.name in ("attempt", "dbt run-operation")} == {
        "not_found (duckdb.catalog)"
    }


def test_a_level_in_which_nodes_failed_names_them_and_leaves_the_exception_to_their_spans(build: Trace) -> None:
    root = build.named("dbt build shop")
    assert not [note for note in root.events if note.name == "exception"]
    (note,) = build.named("test never").events
    assert dict(note.attributes or {})["exception.type"] == "data", "no exception of dbt's"
    (note,) = build.named("model fragile").events
    assert dict(note.attributes or {})["exception.type"] == "DbtRuntimeError"


@pytest.mark.parametrize(("by", "kind"), [("user", "cancelled"), ("time limit", "timeout")])
def test_what_was_cancelled_says_so(by: str, kind: str) -> None:
    cancel = [
        *[described(A), started(A), events.CancelRequested(by=by, reason="enough", **PLACE)],
        finished(A, "error", message="INTERRUPT Error: Interrupted!"),
    ]
    found = Trace(in_order(opened(), invoked(), cancel, closed(1)[:2], ended("cancelled", 1)))
    root = found.named("dbt build shop")
    assert (of(root)["error.type"], root.status.description) == (kind, "enough")
    assert of(found.named("model a"))["error.type"] == "cancelled"
    assert "exception" not in {note.name for note in root.events}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Database Error in model a (models/a.sql)\n  deadlock detected", "DbtDatabaseError"),
        ("Encountered an error:\nParsing Error\n  x", "ParsingError"),
        ("shop.on-run-start.0 failed, error:\n Database Error\n  x", "DbtDatabaseError"),
        ("KeyboardInterrupt: ", "KeyboardInterrupt"),
        ("duckdb.duckdb.IOException: no", "duckdb.duckdb.IOException"),
        ("Got 1 result, configured to fail if != 0", "data"),
    ],
)
def test_the_type_of_an_exception_is_dbts_class_else_the_kind_of_the_error(message: str, expected: str) -> None:
    assert Failed(message, failure_of(message)).exception_type == expected


# --- limits, sampling, context


def test_the_sdks_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "1")
    upstream = [f"model.shop.m{number}" for number in range(3)]
    nodes = [[described(unique_id), started(unique_id), finished(unique_id)] for unique_id in upstream]
    last = [described("model.shop.last", depends_on=upstream), started("model.shop.last"), finished("model.shop.last")]
    span = Trace(session(*nodes, last)).named("model last")
    assert len(of(span)) == 3
    assert span.dropped_attributes > 0
    assert all(len(value) <= 5 for value in of(span).values() if isinstance(value, str))
    assert (len(span.links), span.dropped_links) == (1, 2)


def test_what_is_not_sampled_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    unsampled = opened(traceparent=f"00-{'a' * 32}-{'b' * 16}-00")
    assert Trace(in_order(unsampled, invoked(), closed())).spans == []
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert Trace(session()).spans == []


@pytest.mark.parametrize("flags", [None, "00", "01"])
@pytest.mark.parametrize(
    ("sampler", "ratio"),
    [(None, None), ("always_off", None), ("always_on", None), ("parentbased_always_off", None), ("traceidratio", "0.5"),
     ("parentbased_traceidratio", "0.3"), ("traceidratio", "0"), ("traceidratio", "1"),
     ("nonsense", None), ("nonsense_always_off", None)],
)  # fmt: skip
def test_dbt_is_told_what_the_sampler_decides(
    monkeypatch: pytest.MonkeyPatch, sampler: str | None, ratio: str | None, flags: str | None
) -> None:
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", ratio)):
        if value is not None:
            monkeypatch.setenv(name, value)
    for digit in "0123456789abcdef":
        parent = f"00-{'a' * 16}{digit * 16}-{'b' * 16}-{flags}" if flags else None
        sent = Trace(in_order(opened(traceparent=parent), invoked(), closed())).spans
        told = trace_context.for_dbt(RUN_ID, 1, parent, ("session",), os.environ)["TRACEPARENT"]
        assert told.endswith("-01" if sent else "-00")


def test_a_trace_state_without_a_trace_is_dropped() -> None:
    assert trace_context.current({"TRACESTATE": "vendor=1", "BAGGAGE": "a=1"}) == {"BAGGAGE": "a=1"}
    assert "TRACESTATE" not in trace_context.current({"TRACEPARENT": "nonsense", "TRACESTATE": "vendor=1"})
    # In the environment it stands all the same: dbt must not take it up with the parent that it is given.
    assert trace_context.for_dbt(RUN_ID, 1, "nonsense", ("session",), {})["TRACESTATE"] == ""
    assert "TRACESTATE" not in trace_context.for_dbt(RUN_ID, 1, f"00-{'a' * 32}-{'b' * 16}-01", ("session",), {})


def test_the_trace_around_the_run_goes_on_in_it_with_its_state() -> None:
    around = opened(traceparent=f"00-{'a' * 32}-{'b' * 16}-01", tracestate="vendor=1")
    root = Trace(in_order(around, invoked(), closed())).named("dbt build shop")
    assert (root.context.trace_id, root.parent and root.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    assert root.context.trace_state.to_header() == "vendor=1"


def test_an_active_span_of_the_caller_is_the_parent_and_dbt_is_told_what_it_is_part_of(
    project: Project, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    for name, value in receiver.otel_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACEPARENT", f"00-{'c' * 32}-{'d' * 16}-01")
    project.write("macros/trace.sql", "{% macro trace() %}{{ log(env_var('TRACEPARENT'), info=true) }}{% endmacro %}")
    caller = SpanContext(int("a" * 32, 16), int("b" * 16, 16), is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(caller)):
        run = project.start("run-operation", "trace")
    run.wait(DEADLINE)
    (root,) = [span for span in receiver.spans if span.name == "dbt run-operation shop"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    told = [event.message for event in journal(run) if isinstance(event, events.Log)]
    assert f"00-{'a' * 32}-{root.span_id.hex()}-01" in told


def test_a_trace_of_ten_thousand_nodes_is_delivered_whole(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in receiver.otel_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    nodes = [f"model.shop.m{number}" for number in range(10_000)]
    lives = [[described(unique_id), started(unique_id), finished(unique_id)] for unique_id in nodes]
    directory = undelivered(tmp_path, RUN_ID, session(*lives))
    (cursor,) = replay(directory, everything=False, timeout=60.0).values()
    assert cursor.complete
    sent = {span.span_id for span in receiver.spans}
    assert {ids.span_id(RUN_ID, 1, 1, 1, unique_id).to_bytes(8, "big") for unique_id in nodes} <= sent
    phases = len(["start", "configure", "exit", "end"])
    assert len(sent) == len(nodes) + phases + 1


# --- exporters


def test_spans_go_to_a_file(project: Project) -> None:
    file = project.path / "spans.jsonl"
    done = project.spanline(
        "dbt", "run", "-s", "customers", OTEL_TRACES_EXPORTER="otlp_json_file", SPANLINE_OTLP_FILE=str(file)
    )
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(_names_in(file.read_text())) == sorted(span.name for span in Trace(journal(last_run(project))).spans)


def test_spans_are_printed(project: Project) -> None:
    done = project.spanline("dbt", "run", "-s", "customers", OTEL_TRACES_EXPORTER="console")
    assert done.returncode == 0
    assert '"name": "model customers"' in done.stderr.decode()


def test_spans_go_over_grpc(project: Project) -> None:
    with receiving_grpc() as (url, received):
        done = project.spanline(
            "dbt", "run", "-s", "customers",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    names_received = [name for names_of_request in received for name in names_of_request]
    assert sorted(names_received) == sorted(span.name for span in Trace(journal(last_run(project))).spans)


def _names_in(lines: str) -> Iterator[str]:
    for line in lines.splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            yield from (span["name"] for scope in resource["scopeSpans"] for span in scope["spans"])
