"""What one sees of a run in a real Jaeger: a tree, links to what nodes are built from, errors, ids.

Marked `jaeger`; `.ci/run` runs it where Go is present. docs/jaeger.md says how to look for oneself.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spanline import events
from spanline.api.run import Run
from spanline.events import Event
from tests.jaeger import server
from tests.jaeger.server import Jaeger, Span, Trace
from tests.support.journals import journal
from tests.support.project import Project, last_run
from tests.support.receivers import Receiver

pytestmark = pytest.mark.jaeger

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "coffee_shop"
SHOWN = 4000
"""Characters of SQL that are surely sent."""
JAEGERS = re.compile(r"otel\.|span\.kind$|error$|internal\.")
"""Keys that Jaeger makes of what OTLP has fields for: status, kind, scope."""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with server.running(server.binary(), tmp_path_factory.mktemp("jaeger")) as found:
        yield found


@dataclass
class Seen:
    """A run, and what Jaeger has of it."""

    run: Run
    events: list[Event]
    trace: Trace
    lineage: list[dict]  # type: ignore[type-arg]

    @property
    def started(self) -> dict[str, int]:
        return {e.unique_id: e.time for e in self.events if isinstance(e, events.NodeStarted)}


def seen(jaeger: Jaeger, project: Project, receiver: Receiver, exit_code: int, *arguments: str) -> Seen:
    done = project.spanline("dbt", "build", *arguments, **jaeger.environment, **receiver.lineage_environment)
    assert done.returncode == exit_code, (done.stdout + done.stderr).decode()
    run = last_run(project)
    assert run.result().undelivered == {}
    return Seen(run, journal(run), jaeger.trace_of(run.id), receiver.lineage)


@pytest.fixture(scope="module")
def good(jaeger: Jaeger, start_receiver: Callable[[], Receiver], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The example project, built."""
    place = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("example") / "coffee_shop")
    return seen(jaeger, Project(place), start_receiver(), 0, "--profiles-dir", ".")


@pytest.fixture(scope="module")
def bad(jaeger: Jaeger, start_receiver: Callable[[], Receiver], copy_project: Callable[[], Project]) -> Seen:
    """A build in which one model and one test fail."""
    return seen(jaeger, copy_project(), start_receiver(), 1, "--vars", "{break: true, fail_test: true}")


@pytest.fixture(params=["good", "bad"])
def either(request: pytest.FixtureRequest) -> Seen:
    return request.getfixturevalue(request.param)


# --- tree


def test_from_every_span_up_is_the_session(either: Seen) -> None:
    trace = either.trace
    assert trace.service == "dbt"
    assert trace.root.name == f"dbt build {trace.root.tags['dbt.project']}"
    assert trace.root.parent is None
    for span in trace.spans.values():
        assert trace.path(span)[-1] is trace.root


def test_a_span_lies_within_its_parent(either: Seen) -> None:
    """To the microsecond, to which Jaeger rounds; `+ 1` is that rounding. The session is delivered when it is over."""
    for span in either.trace.spans.values():
        parent = either.trace.spans.get(span.parent or "")
        if parent is not None and span.name != "delivery":
            assert parent.start <= span.start
            assert span.start + span.duration <= parent.start + parent.duration + 1


def test_no_more_than_two_hundredths_of_a_session_are_without_a_span_below_it(either: Seen) -> None:
    trace = either.trace
    phases = [s for s in trace.spans.values() if s.parent == trace.root.id and s.name != "delivery"]
    assert {s.name for s in phases} == {"start", "configure", "parse", "compile", "execute", "exit", "end"}
    assert sum(s.duration for s in phases) >= 0.98 * trace.root.duration
    (delivery,) = [s for s in trace.spans.values() if s.name == "delivery"]
    assert abs(delivery.start - trace.root.start - trace.root.duration) <= 1


def test_beneath_the_phase_that_runs_nodes_are_nodes_and_what_is_before_and_after_them(either: Seen) -> None:
    trace = either.trace
    (execute,) = [s for s in trace.spans.values() if s.name == "execute"]
    others = [s.name for s in trace.spans.values() if s.parent == execute.id and "node_type" not in s.tags]
    assert sorted(others) == ["finish", "prepare"]
    named = {s.name: s for s in trace.spans.values() if s.name.startswith("on-run-")}
    assert trace.spans[named["on-run-end 1"].parent or ""].name == "finish"


def test_jaeger_takes_no_clock_for_another_but_the_deliverys(either: Seen) -> None:
    """That lies behind its parent, as docs/jaeger.md says."""
    assert {s.name for s in either.trace.spans.values() if s.warnings} <= {"delivery"}


def test_jaeger_takes_no_duration_for_a_negative_one(either: Seen) -> None:
    """https://github.com/jaegertracing/jaeger/blob/v1.76.0/cmd/collector/app/sanitizer/negative_duration_sanitizer.go."""
    assert not [s.name for s in either.trace.spans.values() if s.duration < 1 or "InvalidNegativeDuration" in s.tags]


def test_every_node_that_started_is_a_span_with_the_times_of_its_events(either: Seen) -> None:
    ended = {e.unique_id: e for e in either.events if isinstance(e, events.NodeFinished)}
    spans = {span.tags["unique_id"]: span for span in either.trace.nodes}
    assert set(either.started) <= set(spans)
    for unique_id, started in either.started.items():
        assert spans[unique_id].start == started // 1000
        assert abs(spans[unique_id].start + spans[unique_id].duration - ended[unique_id].time // 1000) <= 1
        assert spans[unique_id].tags["node_outcome"] == ended[unique_id].status


def test_queries_are_named_by_what_they_do(good: Seen) -> None:
    """As the example's SQL has it: the test asks `order_totals`, DuckDB's adapter makes a table beside the old one."""
    names = {span.name for span in good.trace.spans.values() if span.tags.get("span.kind") == "client"}
    assert {"CREATE TABLE item_sales_daily", "CREATE SCHEMA marts", "SELECT stg_orders", "COPY raw_menu"} <= names
    assert not [name for name in names if re.search(r"\d{6}", name)], "names that are of one run only"


def test_queries_are_beneath_their_nodes(either: Seen) -> None:
    ended = {(e.writer, e.query) for e in either.events if isinstance(e, events.QueryFinished)}
    asked = [e for e in either.events if isinstance(e, events.QueryStarted) and e.unique_id in either.started]
    answered = Counter((e.unique_id, e.sql[:SHOWN]) for e in asked if (e.writer, e.query) in ended)
    found = [span for span in either.trace.spans.values() if "db.query.text" in span.tags]
    beneath = Counter(
        (above.tags["unique_id"], str(span.tags["db.query.text"])[:SHOWN])
        for span in found
        for above in either.trace.path(span)[1:]
        if above.tags.get("unique_id") in either.started and "node_outcome" in above.tags
    )
    assert not answered - beneath
    assert not beneath - Counter((e.unique_id, e.sql[:SHOWN]) for e in asked)
    for span in found:
        assert span.tags["db.system.name"] == "duckdb"
        assert span.name == span.tags["db.query.summary"]
        assert span.tags["span.kind"] == "client"


# --- links


def names(trace: Trace, span: Span) -> set[str]:
    assert {trace_id for trace_id, _ in span.links} <= {trace.id}
    return {trace.spans[span_id].name for _, span_id in span.links}


def test_a_node_follows_from_what_it_is_built_from(good: Seen) -> None:
    """As the example's SQL has it."""
    trace = good.trace
    assert names(trace, trace.node("model.coffee_shop.stg_menu")) == {"seed raw_menu"}
    assert names(trace, trace.node("model.coffee_shop.order_totals")) >= {"model stg_orders"}
    assert names(trace, trace.node("seed.coffee_shop.raw_menu")) == set()


def test_links_are_the_dependencies_of_every_node(either: Seen) -> None:
    """Those that had started by its end: a unit test runs before the model that it tests."""
    described = {e.unique_id: e for e in either.events if isinstance(e, events.NodeDescribed)}
    ended = {e.unique_id: e.time for e in either.events if isinstance(e, events.NodeFinished)}
    for unique_id in either.started:
        before = {name for name, at in either.started.items() if at < ended[unique_id]}
        upstream = {either.trace.node(name).id for name in described[unique_id].depends_on if name in before}
        links = {span_id for _, span_id in either.trace.node(unique_id).links}
        assert upstream <= links
        assert links <= {either.trace.node(name).id for name in before}


def test_a_skipped_node_follows_from_the_one_that_failed(bad: Seen) -> None:
    for unique_id in ("model.shop.below", "model.shop.bottom"):
        span = bad.trace.node(unique_id)
        assert span.tags["node_outcome"] == "skipped"
        assert span.tags["upstream_unique_id"] == "model.shop.fragile"
        assert names(bad.trace, span) == {"model fragile"}


# --- errors


def failed(trace: Trace) -> set[str]:
    return {span.name for span in trace.spans.values() if span.tags.get("error") is True}


def test_a_good_run_has_no_error(good: Seen) -> None:
    assert failed(good.trace) == set()


def test_failed_nodes_failed_tests_and_the_run_are_errors(bad: Seen) -> None:
    assert failed(bad.trace) >= {"model fragile", "test never", "dbt build shop"}
    assert not failed(bad.trace) & {"model orders", "model totals", "test accepted_values_totals_cents__False__1__2"}
    fragile, never = bad.trace.node("model.shop.fragile"), bad.trace.node("test.shop.never")
    for span in (fragile, never, bad.trace.root):
        assert span.tags["otel.status_code"] == "ERROR"
    assert 'Referenced column "no_such_column" not found' in str(fragile.tags["otel.status_description"])
    (query,) = [s for s in bad.trace.spans.values() if s.parent == fragile.id and s.tags.get("error") is True]
    assert str(query.tags["otel.status_description"]).startswith('Binder Error: Referenced column "no_such_column"')
    assert never.tags["otel.status_description"] == "Got 1 result, configured to fail if != 0"
    assert (fragile.tags["node_outcome"], never.tags["node_outcome"]) == ("error", "fail")


# --- attributes and ids


def test_a_model_says_what_it_is(good: Seen) -> None:
    span = good.trace.node("model.coffee_shop.order_totals")
    expected = {
        "unique_id": "model.coffee_shop.order_totals",
        "node_type": "model",
        "materialization": "table",
        "database": "coffee_shop",
        "identifier": "order_totals",
        "code.file.path": "models/marts/order_totals.sql",
        "otel.scope.name": "spanline",
    }
    assert span.name == "model order_totals"
    assert expected.items() <= span.tags.items()


def test_every_key_is_documented(either: Seen) -> None:
    documented = set(re.findall(r"`([\w.]+)`", (ROOT / "docs" / "traces.md").read_text()))
    for span in either.trace.spans.values():
        keys = {re.sub(r"^dbt\.nodes\..*", "dbt.nodes.STATUS", key) for key in span.tags if not JAEGERS.match(key)}
        assert keys <= documented


def test_the_session_says_what_run_it_is(either: Seen) -> None:
    tags = either.trace.root.tags
    (invocation,) = {e.invocation_id for e in either.events if isinstance(e, events.DbtStarted)}
    assert tags["spanline.run.id"] == either.run.id
    assert tags["invocation_id"] == invocation
    assert tags["process.exit.code"] == either.run.result().exit_code


def test_openlineages_runs_carry_the_trace_and_their_span(either: Seen) -> None:
    facets = [e["run"]["facets"]["spanline_run"] for e in either.lineage if "run" in e]
    assert {facet["trace_id"] for facet in facets} == {either.trace.id}
    assert {facet["span_id"] for facet in facets} <= set(either.trace.spans)
    session = [e for e in either.lineage if "run" in e and e["run"]["runId"] == either.run.id]
    assert {e["run"]["facets"]["spanline_run"]["span_id"] for e in session} == {either.trace.root.id}
    of_nodes = {f["span_id"] for f in facets} & {span.id for span in either.trace.nodes}
    assert len(of_nodes) >= len([name for name in either.started if name.startswith(("model", "seed"))])


def test_the_callers_trace_has_the_run_in_it(jaeger: Jaeger, copy_project: Callable[[], Project]) -> None:
    project = copy_project()
    variables = {**jaeger.environment, "TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
    assert project.spanline("dbt", "run", "-s", "customers", **variables).returncode == 0
    (found,) = [trace for trace in jaeger.traces() if trace.id == TRACE]
    assert found.root.name == "dbt run shop"
    assert found.root.parent == PARENT


def test_a_resumed_run_is_a_trace_of_its_own(jaeger: Jaeger, copy_project: Callable[[], Project]) -> None:
    project = copy_project()
    broken = ("dbt", "build", "-s", "orders fragile", "--vars", "{break: true}")
    assert project.spanline(*broken, **jaeger.environment).returncode == 1
    project.write("models/fragile.sql", "select id from {{ ref('orders') }}")
    assert project.spanline("retry", "latest", **jaeger.environment).returncode == 0
    run = last_run(project)
    first, second = (jaeger.trace_of(run.id, session) for session in (1, 2))
    assert first.id != second.id
    assert first.node("model.shop.fragile").tags["node_outcome"] == "error"
    assert second.node("model.shop.fragile").tags["node_outcome"] == "success"
    assert second.root.links == [(first.id, first.root.id)]
    assert second.node("model.shop.fragile").links == [(first.id, first.node("model.shop.orders").id)]
