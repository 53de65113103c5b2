"""One command in, everything that a user is promised out: journal, lineage, traces, exit codes, nothing secret."""

from __future__ import annotations

import json
import re
import socket
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import referencing

from spanline import events
from spanline.journal import ids
from spanline.runner.shared.in_text import MASK
from tests.support.journals import journal
from tests.support.project import Project, last_run
from tests.support.receivers import Receiver

_CLOCK = re.compile(rb"\d\d:\d\d:\d\d")
SPECIFICATION = Path(__file__).parents[2] / "shared" / "openlineage-spec"
OWN_FACETS = Path(__file__).parents[1] / "docs" / "facets"


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port where nothing listens, and nobody else can meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_failing_build_is_journalled_as_dbts_run_results_say(project: Project) -> None:
    done = project.spanline("dbt", "build", "--vars", "{break: true, fail_test: true}")
    assert done.returncode == 1, done.stdout.decode()
    run = last_run(project)
    results = {r["unique_id"]: r for r in project.artifact("run_results.json")["results"]}  # type: ignore[index]
    state = run.state
    ours = {
        key: node
        for key, node in {**state.nodes, **state.hooks}.items()
        if key not in state.descriptions or state.descriptions[key].materialized != "ephemeral"
    }
    assert {key: node.status for key, node in ours.items()} == {key: r["status"] for key, r in results.items()}
    for key, node in state.nodes.items():
        if key in results and node.status in ("error", "fail"):
            assert node.message == results[key]["message"]

    found = journal(run)
    listed = project.dbt("ls", "--output", "json", "--output-keys", "unique_id", "--quiet", "--exclude",
                         "resource_type:source")  # fmt: skip
    names = {json.loads(line)["unique_id"] for line in listed.stdout.decode().splitlines() if line.startswith("{")}
    (selection,) = [event for event in found if isinstance(event, events.Selection)]
    assert set(selection.unique_ids) == names

    started = [event.unique_id for event in found if isinstance(event, events.NodeStarted)]
    skipped = {event.unique_id: event.cause for event in found if isinstance(event, events.NodeSkipped)}
    assert not set(started) & set(skipped)
    assert skipped["model.shop.below"] == "model.shop.fragile"
    phases = [event.phase for event in found if isinstance(event, events.PhaseStarted)]
    assert phases == ["parse", "compile", "run"]

    totals = state.descriptions["model.shop.totals"]
    assert [(c.name, c.data_type) for c in totals.columns] == [("customer_id", "integer"), ("cents", "hugeint")]
    assert totals.depends_on == ["model.shop.customers", "model.shop.orders"]
    assert totals.tags == ["money"]
    assert totals.owners == [events.Owner(name="Finance")]
    warned = next(d for d in state.descriptions.values() if d.name.startswith("accepted_values"))
    assert warned.test is not None
    assert (warned.test.severity, warned.test.column, warned.test.kind) == ("warn", "cents", "generic")

    ends = {event.unique_id: event for event in found if isinstance(event, events.NodeFinished)}
    begins = {event.unique_id: event for event in found if isinstance(event, events.NodeStarted)}
    for key, begin in begins.items():
        end = ends[key]
        assert end.compile is not None
        # dbt's clock has microseconds, ours nanoseconds.
        assert begin.time - 1_000_000 <= end.compile[0] <= end.compile[1] <= end.time + 1_000


def test_lineage_is_complete_ordered_and_valid(project: Project, receiver: Receiver) -> None:
    parent = "scheduler/nightly/01a21195-106f-709a-b5e2-0b1dc163f5ec"
    done = project.spanline(
        "dbt", "build", "--vars", "{break: true}", **receiver.lineage_environment, OPENLINEAGE_PARENT_ID=parent
    )
    assert done.returncode == 1
    run = last_run(project)
    received = receiver.lineage
    by_run = defaultdict(list)
    for event in received:
        by_run[event["run"]["runId"]].append(event["eventType"])
    assert all(len(kinds) == 2 and kinds[0] == "START" for kinds in by_run.values())
    assert (received[0]["run"]["runId"], received[0]["eventType"]) == (run.id, "START")
    assert (received[-1]["run"]["runId"], received[-1]["eventType"]) == (run.id, "FAIL")
    assert received[0]["run"]["facets"]["parent"]["run"]["runId"] == parent.rpartition("/")[2]
    assert all(event["run"]["facets"]["parent"]["run"]["runId"] == run.id for event in received[1:-1])

    begun = {
        event.unique_id
        for event in journal(run)
        if isinstance(event, (events.NodeStarted, events.HookStarted)) and event.unique_id != "model.shop.priced"
    }
    assert set(by_run) == {run.id, *(ids.lineage_run_id(run.id, 1, 1, 1, unique_id) for unique_id in begun)}
    totals = [e for e in received if e["job"]["name"] == "shop.main.shop.totals.build.run"]
    assert [e["eventType"] for e in totals] == ["START", "COMPLETE"]
    assert [("sql" in e["job"]["facets"]) for e in totals] == [False, True]
    assert sorted(d["name"] for d in totals[1]["inputs"]) == ["shop.main.customers", "shop.main.orders"]
    assert [d["name"] for d in totals[1]["outputs"]] == ["shop.main.totals"]
    orders = next(e for e in received if e["job"]["name"] == "shop.main.shop.orders.build.run")
    assert [d["name"] for d in orders["inputs"]] == ["shop.main.raw_orders"]  # through the ephemeral model
    fragile = [e for e in received if e["job"]["name"] == "shop.main.shop.fragile.build.run"]
    assert fragile[1]["eventType"] == "FAIL"
    assert "no_such_column" in fragile[1]["run"]["facets"]["errorMessage"]["message"]


@pytest.mark.skipif(not SPECIFICATION.is_dir(), reason="the OpenLineage schemas are not beside this checkout")
def test_every_lineage_event_and_facet_is_valid(project: Project, receiver: Receiver) -> None:
    project.spanline("dbt", "build", "--vars", "{break: true}", **receiver.lineage_environment)
    schemas = {}
    for file in (*SPECIFICATION.rglob("*.json"), *OWN_FACETS.glob("*.json")):
        schema = json.loads(file.read_text())
        schemas[schema["$id"]] = referencing.Resource.from_contents(schema)
    registry = referencing.Registry().with_resources(schemas.items())
    assert receiver.lineage
    for event in receiver.lineage:
        jsonschema.Draft202012Validator(
            {"$ref": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
            registry=registry,
            format_checker=jsonschema.FormatChecker(),
        ).validate(event)
        holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
        groups = [h.get(key, {}) for h in holders for key in ("facets", "inputFacets", "outputFacets")]
        for facet in (facet for group in groups for facet in group.values()):
            jsonschema.Draft202012Validator({"$ref": facet["_schemaURL"]}, registry=registry).validate(facet)


def test_spans_are_one_tree_with_failures_marked(project: Project, receiver: Receiver) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    project.spanline(
        "dbt", "build", "--vars", "{break: true, fail_test: true}",
        **receiver.otel_environment, TRACEPARENT=f"00-{trace}-{parent}-01",
    )  # fmt: skip
    spans = receiver.spans
    assert {span.trace_id.hex() for span in spans} == {trace}
    known = {span.span_id.hex() for span in spans}
    assert len(known) == len(spans)
    outside = [span for span in spans if span.parent_span_id.hex() not in known]
    assert [(span.name, span.parent_span_id.hex()) for span in outside] == [("dbt build shop", parent)]
    status = {span.name: span.status.code for span in spans}
    assert status["model totals"] == 0, "whether it is good is for the reader to say"
    assert status["model fragile"] == 2
    assert status["test never"] == 2
    assert status["dbt build shop"] == 2
    (totals,) = [span for span in spans if span.name == "model totals"]
    upstream = {span.span_id: span.name for span in spans}
    assert sorted(upstream[link.span_id] for link in totals.links) == ["model customers", "model orders"]


def test_a_dead_backend_costs_no_outcome_and_loses_nothing(
    project: Project, receiver: Receiver, dead_port: int
) -> None:
    nowhere = f"http://127.0.0.1:{dead_port}"
    done = project.spanline("dbt", "build", OPENLINEAGE_URL=nowhere, SPANLINE_FLUSH_TIMEOUT="0.5")
    assert done.returncode == 0, done.stderr.decode()
    run = last_run(project)
    beginnings = [e for e in journal(run) if isinstance(e, (events.NodeStarted, events.HookStarted))]
    begun = sum(event.unique_id != "model.shop.priced" for event in beginnings)
    owed = 2 * (begun + 1)
    assert f"{owed} messages were not delivered" in done.stderr.decode()
    assert run.result().undelivered == {"openlineage": owed}

    again = project.spanline("replay", "latest", **receiver.lineage_environment)
    assert again.returncode == 0, again.stderr.decode()
    assert len(receiver.lineage) == owed
    assert run.result().undelivered == {}
    first = sorted(request.body for request in receiver.requests)
    receiver.requests.clear()
    assert project.spanline("replay", "latest", **receiver.lineage_environment).returncode == 0
    assert not receiver.requests
    assert project.spanline("replay", "latest", "--all", **receiver.lineage_environment).returncode == 0
    assert sorted(request.body for request in receiver.requests) == first


@pytest.mark.slow
def test_a_backend_that_fails_now_and_then_gets_everything_once_acknowledged(
    project: Project, receiver: Receiver
) -> None:
    receiver.status = lambda number: 500 if number % 5 == 0 else 200
    done = project.spanline("dbt", "build", **receiver.lineage_environment, SPANLINE_FLUSH_TIMEOUT="30")
    assert done.returncode == 0
    assert last_run(project).result().undelivered == {}
    assert len({request.body for request in receiver.acknowledged("/api/v1/lineage")}) == len(receiver.lineage)


def test_a_rejected_event_is_counted_and_not_sent_again(project: Project, receiver: Receiver) -> None:
    receiver.status = 422
    done = project.spanline("dbt", "run", "--select", "customers", **receiver.lineage_environment)
    assert done.returncode == 0
    assert "rejected 8 messages" in done.stderr.decode()  # START and the end of the session, the model and two hooks
    assert len(receiver.requests) == 8


def test_no_secret_leaves_the_process(project: Project, receiver: Receiver) -> None:
    secrets = {"DBT_ENV_SECRET_ONE": "env-hush-1", "SERVICE_API_TOKEN": 'tok"en-hush-2\\', "var": "var-hush-3"}
    project.write(
        "models/leaky.sql",
        "select '{{ var('db_password') }}' as a, 1 as b -- {{ env_var('SERVICE_API_TOKEN') }}\n"
        "{% do log('saying ' ~ var('db_password') ~ env_var('SERVICE_API_TOKEN'), info=true) %}",
    )
    done = project.spanline(
        "dbt", "run", "--select", "leaky", "--vars", json.dumps({"db_password": secrets["var"]}),
        DBT_ENV_SECRET_ONE=secrets["DBT_ENV_SECRET_ONE"], SERVICE_API_TOKEN=secrets["SERVICE_API_TOKEN"],
        **receiver.lineage_environment, **receiver.otel_environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()
    run = last_run(project)
    sent = b"".join(request.body for request in receiver.requests)
    kept = run.directory.journal.read_bytes()
    for secret in secrets.values():
        for form in (secret, json.dumps(secret)[1:-1]):
            assert form.encode() not in sent
            assert form.encode() not in kept
    said = [e.message for e in journal(run) if isinstance(e, events.Log) and e.message.startswith("saying")]
    assert said
    assert set(said) == {f"saying {MASK}{MASK}"}
    assert secrets["DBT_ENV_SECRET_ONE"] not in run.directory.spec.read_text()
    folders = [run.directory.path, *(path for path in run.directory.path.rglob("*") if path.is_dir())]
    assert run.directory.artifacts(1, 1, 1) in folders
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert run.directory.journal.stat().st_mode & 0o777 == 0o600
    assert run.directory.spec.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["run", "--select", "customers"], 0),
        (["test", "--select", "never", "--vars", "{fail_test: true}"], 1),
        pytest.param(["run-operation", "boom"], 1, marks=pytest.mark.slow),
        pytest.param(["run", "--selct", "x"], 2, marks=pytest.mark.slow),
        pytest.param(["nonsense"], 2, marks=pytest.mark.slow),
        pytest.param(["run", "--target", "nowhere"], 2, marks=pytest.mark.slow),
        pytest.param(["ls", "--quiet"], 0, marks=pytest.mark.slow),
        (["--version"], 0),
        (["build", "--help"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes_and_errors_are_dbts(project: Project, args: list[str], code: int) -> None:
    theirs, ours = project.dbt(*args), project.spanline("dbt", *args)
    assert ours.returncode == theirs.returncode
    if code == 2 or "--help" in args or "ls" in args:
        assert _CLOCK.sub(b"", ours.stdout) == _CLOCK.sub(b"", theirs.stdout)
        assert ours.stderr == theirs.stderr
