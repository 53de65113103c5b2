"""Every OpenLineage event that a run means, against what dbt itself says of that run and what the specification asks.

Journals are recorded from real dbt, or written by hand for what DuckDB, or one invocation, doesn't do.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openlineage.client.serde import Serde

from spanline import events
from spanline.events import Event, NodeDescribed, Owner
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.sinks.openlineage import Options, Translator
from spanline.sinks.openlineage.bounds import size_of
from spanline.sinks.openlineage.transport import json_of
from spanline.supervisor.lineage_parent import lineage_parent
from spanline.supervisor.replay import close_abandoned
from tests.support.examples import examples
from tests.support.lineage_events import (
    RUN_ID,
    Recording,
    assert_one_start_and_one_end,
    assert_valid,
    at,
    built,
    closed,
    compiled,
    described,
    end_of,
    ended,
    ends,
    facets_of,
    finished,
    in_order,
    invoked,
    opened,
    record,
    relation,
    resolved,
    resolver_started,
    resolver_stopped,
    session,
    started,
    starts,
    step_by_step,
    translated,
    unique_id_of,
    with_columns,
    written,
)
from tests.support.project import FILES, Project

NAMESPACE = "duckdb://shop.duckdb"

MORE = {
    "dbt_project.yml": FILES["dbt_project.yml"].replace(
        """["select 'over' as word"]""",
        """["select 'over' as word", "select {{ 'no_such_hook' if var('break_hook', false) else 1 }}", "select 2"]""",
    ),
    "models/guess.py": "def model(dbt, session):\n    dbt.ref('orders')\n    return session.sql('select 1 as id')\n",
    "models/chosen.sql": """
with source as (select * from {{ ref('orders') }}),
ranked as (select *, row_number() over (partition by customer_id order by cents desc) as place from source),
final as (select id, customer_id as customer, cents / 100 as amount, place from ranked where cents > 0)
select * from final
""",
    "models/lineage.yml": """
groups: [{name: finance, owner: {name: The Finance Team, email: [finance@example.com, cfo@example.com]}}]
models:
  - name: guess
    config: {meta: {owner: [Ann, {name: Bob, email: bob@example.com}, Ann]}}
  - name: chosen
    description: What was **chosen**
    config: {group: finance, tags: [gold, nightly], meta: {pii: true, level: 3, empty: "", nested: {a: 1}}}
    columns:
      - name: customer
        description: Whose
        data_tests: [{relationships: {arguments: {to: "ref('raw_customers')", field: id}}}]
sources:
  - name: stale
    schema: main
    config:
      loaded_at_field: "timestamp '2020-01-02 03:04:05'"
      freshness: {warn_after: {count: 1, period: day}, error_after: {count: 99999, period: day}}
    tables:
      - name: again
        identifier: raw_customers
        columns:
          - {name: id, data_tests: [{relationships: {arguments: {to: "ref('raw_orders')", field: amount}}}]}
exposures:
  - name: board
    label: The board
    type: dashboard
    url: https://bi.example.com/board
    description: Shows totals
    tags: [weekly]
    owner: {email: [ann@example.com, bob@example.com]}
    depends_on: ["ref('totals')", "source('raw', 'raw_events')"]
""",
    "tests/both.sql": "select c.id from {{ ref('customers') }} c join {{ ref('chosen') }} o on o.customer = c.id",
}

VARS = "{break: true, fail_test: true, note: private-note}"
INVOCATIONS = {
    "build": ["-q", "build", "--vars", VARS],
    "retry": ["-q", "retry"],
    "compile": ["-q", "compile", "--select", "+totals"],
    "docs": ["-q", "docs", "generate", "--select", "totals"],
    "show": ["-q", "show", "--select", "totals"],
    "inline": ["-q", "show", "--inline", "select id as hidden_word from {{ ref('orders') }}"],
    "freshness": ["-q", "source", "freshness"],
    "operation": ["-q", "run-operation", "say", "--args", "{text: hello}"],
    "broken operation": ["-q", "run-operation", "boom"],
    "fail fast": ["-q", "build", "--fail-fast", "--threads", "1", "--vars", VARS],
    "failing hook": ["-q", "run", "--select", "customers", "--vars", "{break_hook: true}"],
    "nothing": ["-q", "run", "--select", "no_such_model"],
}


@pytest.fixture(scope="module")
def recorded(copy_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    project = copy_project()
    for name, text in MORE.items():
        project.write(name, text)
    found = record(project.path, tmp_path_factory.mktemp("recorded"), list(INVOCATIONS.values()))
    return dict(zip(INVOCATIONS, found, strict=True))


@pytest.fixture(scope="module")
def build(recorded: dict[str, Recording]) -> Recording:
    """A build in which models fail, tests fail and warn, and models are skipped."""
    return recorded["build"]


@pytest.fixture(scope="module")
def told(build: Recording) -> list[dict]:
    """What the build means, its columns found as soon as its SQL was there."""
    return translated(with_columns(build.events))


# --- recorded: which runs there are, and how they end ---------------------------------------------------------------

KIND = {"success": "COMPLETE", "pass": "COMPLETE", "warn": "COMPLETE", "error": "FAIL", "fail": "FAIL"}


@pytest.mark.parametrize("name", INVOCATIONS)
def test_every_run_starts_once_and_ends_once_within_the_sessions(name: str, recorded: dict[str, Recording]) -> None:
    told = translated(with_columns(recorded[name].events))
    assert_one_start_and_one_end(told)
    assert told[0]["job"] == {**told[-1]["job"], "name": "dbt-run-shop"}
    assert told == translated(with_columns(recorded[name].events)), "made again it is the same"


def job_of(node: dict) -> str:
    """The name of a node's job under `dbt build`."""
    suffix = {"model": "run", "seed": "seed", "snapshot": "snapshot"}.get(node["resource_type"])
    place = f"{node['database']}.{node['schema']}" if suffix else ""
    return f"{place}.shop.{node['name']}.build.{suffix}" if suffix else node["unique_id"]


def test_a_build_is_a_run_for_each_node_and_hook_that_dbt_ran_and_it_ends_as_dbt_says(
    build: Recording, told: list[dict]
) -> None:
    ran = {key: r for key, r in build.results.items() if r["status"] not in ("skipped", "no-op")}
    assert {unique_id_of(e): e["eventType"] for e in told[1:-1] if e.get("eventType") not in (None, "START")} == {
        key: KIND[result["status"]] for key, result in ran.items()
    }
    nodes = build.nodes
    jobs = {job_of(nodes[key]) if key in nodes else key for key in ran}
    assert set(ends(told)) == jobs | {"dbt-run-shop"}
    failed = {key: r["message"] for key, r in ran.items() if r["status"] in ("error", "fail")}
    assert {k: end_of(told, k)["run"]["facets"]["errorMessage"]["message"] for k in failed} == failed
    runs = [event for event in told if "run" in event]
    assert [e for e in runs if "errorMessage" in e["run"]["facets"]] == [e for e in runs if e["eventType"] == "FAIL"]


def test_a_run_begins_and_ends_when_dbt_said_so(build: Recording, told: list[dict]) -> None:
    begun = {e.unique_id: e.time for e in build.events if isinstance(e, (events.NodeStarted, events.HookStarted))}
    over = {e.unique_id: e.time for e in build.events if isinstance(e, (events.NodeFinished, events.HookFinished))}
    for event in told[1:-1]:
        if "run" in event:
            times = begun if event["eventType"] == "START" else over
            moment = datetime.fromisoformat(event["eventTime"])
            assert abs(moment.timestamp() - times[unique_id_of(event)] / 1e9) < 0.000_01


def test_skipped_nodes_have_no_run_and_are_named_with_what_skipped_them(build: Recording, told: list[dict]) -> None:
    skipped = {key for key, result in build.results.items() if result["status"] == "skipped"}
    facet = told[-1]["run"]["facets"]["spanline_session"]
    assert skipped == {"model.shop.below", "model.shop.bottom", *(k for k in skipped if ".not_null_fragile_id." in k)}
    assert {node["unique_id"] for node in facet["skipped"]} == skipped
    assert {node["cause"] for node in facet["skipped"]} == {"model.shop.fragile"}
    assert facet["skipped_count"] == 3
    assert not skipped & set(map(unique_id_of, told))


def test_the_session_counts_nodes_as_dbt_does(build: Recording, told: list[dict]) -> None:
    nodes = [r for r in build.results.values() if not r["unique_id"].startswith("operation.")]
    theirs = Counter(result["status"] for result in nodes)
    theirs["success"] += 1  # the ephemeral model, which dbt leaves out of its results
    facet = told[-1]["run"]["facets"]["spanline_session"]
    assert facet["counts"] == theirs
    assert facet["outcome"] == "failed"


def test_what_fail_fast_left_out_is_skipped_too(recorded: dict[str, Recording]) -> None:
    """dbt's results have it as skipped, and what it was busy with then; they forget the unit tests."""
    recording = recorded["fail fast"]
    facet = translated(recording.events)[-1]["run"]["facets"]["spanline_session"]
    begun = {event.unique_id for event in recording.events if isinstance(event, events.NodeStarted)}
    skipped = {key for key, result in recording.results.items() if result["status"] == "skipped"} - begun
    assert len(skipped) > 5
    assert {node["unique_id"] for node in facet["skipped"]} == skipped | {"unit_test.shop.totals.totals_are_sums"}
    assert facet["skipped_count"] == facet["counts"]["skipped"] == len(skipped) + 1


def test_the_session_says_which_nodes_failed(build: Recording, told: list[dict]) -> None:
    failed = {key for key, result in build.results.items() if result["status"] in ("error", "fail")}
    message = told[-1]["run"]["facets"]["errorMessage"]["message"]
    count, _, names = message.partition(" failed: ")
    assert (int(count), set(names.split(", "))) == (len(failed), failed)


def test_an_operation_is_its_session(recorded: dict[str, Recording]) -> None:
    """dbt has no events of the macro as a node: what was called stands among the session's parameters."""
    good, bad = translated(recorded["operation"].events), translated(recorded["broken operation"].events)
    assert [e["eventType"] for e in good] == ["START", "COMPLETE"]
    assert [e["eventType"] for e in bad] == ["START", "FAIL"]
    assert parameters(good[0])["argv"] == "-q run-operation say --args '…'"
    assert "boom" in bad[1]["run"]["facets"]["errorMessage"]["message"]
    assert "Compilation Error in macro boom" in bad[1]["run"]["facets"]["errorMessage"]["message"]


def parameters(event: dict) -> dict[str, str]:
    found = event["run"]["facets"]["executionParameters"]["parameters"]
    return {one["key"]: one["value"] for one in found}


def test_parameters_are_told_without_the_values_of_vars(told: list[dict]) -> None:
    found = parameters(told[0])
    assert found == {
        "argv": "-q build --vars '…'",
        "project": "shop",
        "profile": "shop",
        "target": "dev",
        "threads": "2",
    }
    assert "private-note" not in json.dumps(told)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["build", "--vars", "{a: hush}"], "build --vars '…'"),
        (["build", "--vars={a: hush}", "-s", "a"], "build '--vars=…' -s a"),
        (["build", "--vars", "--hush"], "build --vars '…'"),
        (["run-operation", "grant", "--args", "{password: hush}"], "run-operation grant --args '…'"),
        (["build", "--vars"], "build --vars"),
        (["build", "-s", "tag:vars", "--target", "it's"], """build -s tag:vars --target 'it'"'"'s'"""),
    ],
)
def test_values_of_vars_and_arguments_are_left_out(argv: list[str], told: str) -> None:
    event = translated(in_order(opened([argv]), invoked(argv=argv), closed()))[0]
    assert parameters(event)["argv"] == told


def test_a_hook_is_a_run_with_its_statement(build: Recording, told: list[dict]) -> None:
    (hook,) = [h for h in build.nodes.values() if h["name"] == "shop-on-run-end-0"]
    event = end_of(told, hook["unique_id"])
    assert event["eventType"] == "COMPLETE"
    assert hook["raw_code"] == "select 'over' as word"
    assert event["job"]["facets"]["sql"]["query"].endswith(hook["raw_code"]), "behind dbt's comment"
    assert event["job"]["facets"]["jobType"]["jobType"] == "OPERATION"


def test_a_hook_that_fails_is_a_run_that_does_and_one_behind_it_has_none(recorded: dict[str, Recording]) -> None:
    recording = recorded["failing hook"]
    told = translated(recording.events)
    kinds = {unique_id_of(event): event["eventType"] for event in ends(told).values()}
    assert kinds == {
        "operation.shop.shop-on-run-start-0": "COMPLETE",
        "model.shop.customers": "COMPLETE",
        "operation.shop.shop-on-run-end-0": "COMPLETE",
        "operation.shop.shop-on-run-end-1": "FAIL",
        None: "FAIL",
    }
    skipped = "operation.shop.shop-on-run-end-2"
    assert recording.results[skipped]["status"] == "skipped"
    facet = told[-1]["run"]["facets"]["spanline_session"]
    assert facet["skipped"] == [{"unique_id": skipped, "cause": "operation.shop.shop-on-run-end-1"}]
    (dbt,) = [event for event in recording.events if isinstance(event, events.DbtFinished)]
    counts = facet["counts"]
    assert (counts["error"], counts["skipped"]) == (dbt.stats["error"], dbt.stats["skip"]) == (1, 1)


def test_why_a_hook_failed_is_told(recorded: dict[str, Recording]) -> None:
    hook = "operation.shop.shop-on-run-end-1"
    facets = end_of(translated(recorded["failing hook"].events), hook)["run"]["facets"]
    assert facets["errorMessage"]["message"] == recorded["failing hook"].results[hook]["message"]


def test_every_run_is_found_in_journal_logs_and_traces(build: Recording, told: list[dict]) -> None:
    (invocation,) = [e for e in build.events if isinstance(e, events.DbtStarted)]
    for event in told:
        if "run" not in event:
            continue
        facet = event["run"]["facets"]["spanline_run"]
        assert (
            facet["invocation_id"]
            == invocation.invocation_id
            == build.artifact("manifest")["metadata"]["invocation_id"]
        )
        assert facet["run_id"] == RUN_ID
        assert facet["dbt_version"] == invocation.dbt_version
        assert facet["command"] == "build"
        assert event["run"]["facets"]["processing_engine"]["version"] == invocation.dbt_version
    spans = [event["run"]["facets"]["spanline_run"]["span_id"] for event in told if "run" in event]
    assert set(Counter(spans).values()) == {2}, "one for each run"


@pytest.mark.parametrize("name", INVOCATIONS)
def test_an_event_is_sent_as_the_client_writes_it(name: str, recorded: dict[str, Recording]) -> None:
    translator, state = Translator(), RunState()
    for event in with_columns(recorded[name].events):
        state.apply(event)
        for message in translator(event, state):
            assert json_of(message.payload) == Serde.to_json(message.payload)


# --- recorded: datasets ---------------------------------------------------------------------------------------------


def read_by(unique_id: str, nodes: dict[str, dict]) -> set[str]:
    """The relations that a node reads, ephemeral ones replaced by what they read, by dbt's manifest."""
    found = set()
    for upstream in nodes[unique_id]["depends_on"].get("nodes", []):
        if nodes[upstream]["config"].get("materialized") == "ephemeral":
            found |= read_by(upstream, nodes)
        else:
            found.add(nodes[upstream]["relation_name"].replace('"', ""))
    return found


def test_what_a_node_reads_and_writes_is_what_the_manifest_says(build: Recording, told: list[dict]) -> None:
    nodes = build.nodes
    seen = 0
    for event in told:
        unique_id = unique_id_of(event)
        if unique_id not in nodes or "run" not in event:
            continue
        seen += 1
        node = nodes[unique_id]
        assert {d["namespace"] for d in event["inputs"] + event["outputs"]} <= {NAMESPACE}
        reads = node["resource_type"] != "unit_test"  # whose rows are given
        assert {dataset["name"] for dataset in event["inputs"]} == (read_by(unique_id, nodes) if reads else set())
        writes = node["resource_type"] in ("model", "seed", "snapshot")
        assert [d["name"] for d in event["outputs"]] == ([node["relation_name"].replace('"', "")] if writes else [])
    assert seen > 30


def test_an_ephemeral_model_is_folded_into_what_reads_it(told: list[dict]) -> None:
    orders = end_of(told, "model.shop.orders")
    assert [dataset["name"] for dataset in orders["inputs"]] == ["shop.main.raw_orders"]
    assert "priced" not in json.dumps([event for event in told if unique_id_of(event) != "model.shop.orders"])


def output(told: list[dict], unique_id: str) -> dict:
    (found,) = end_of(told, unique_id)["outputs"]
    return found


def fields(dataset: dict) -> list[tuple[str, str | None]]:
    return [(field["name"], field.get("type")) for field in dataset["facets"]["schema"]["fields"]]


def test_columns_of_a_seed_are_those_of_its_header(told: list[dict]) -> None:
    for name in ("raw_orders", "raw_customers"):
        header = next(csv.reader(FILES[f"seeds/{name}.csv"].splitlines()))
        assert [column for column, _ in fields(output(told, f"seed.shop.{name}"))] == header


def test_columns_of_a_model_have_the_types_and_descriptions_that_the_project_gives_them(told: list[dict]) -> None:
    totals = output(told, "model.shop.totals")
    assert fields(totals) == [("customer_id", "integer"), ("cents", "hugeint")]
    assert totals["facets"]["schema"]["fields"][0]["description"] == "Who"
    assert "description" not in totals["facets"]["schema"]["fields"][1]


def test_a_snapshot_has_the_columns_that_dbt_adds(told: list[dict]) -> None:
    added = ["dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"]
    history = output(told, "snapshot.shop.customers_history")
    assert [column for column, _ in fields(history)] == ["id", "name", *added]
    assert history["facets"]["datasetType"]["datasetType"] == "TABLE"


def edges(dataset: dict) -> dict[str, set[tuple[str, str, str]]]:
    """What each column is from, as (dataset, field, TYPE:SUBTYPE); under `*` what all are."""
    facet = dataset["facets"]["columnLineage"]
    found = {
        name: {_edge(one, kind) for one in field["inputFields"] for kind in one["transformations"]}
        for name, field in facet["fields"].items()
    }
    found["*"] = {_edge(one, kind) for one in facet.get("dataset", []) for kind in one["transformations"]}
    return found


def _edge(one: dict, kind: dict) -> tuple[str, str, str]:
    assert one["namespace"] == NAMESPACE
    return (one["name"].removeprefix("shop.main."), one["field"], f"{kind['type']}:{kind['subtype']}")


COPY, MADE, SUM = "DIRECT:IDENTITY", "DIRECT:TRANSFORMATION", "DIRECT:AGGREGATION"
LINEAGE = {
    "model.shop.customers": {
        "id": {("raw_customers", "id", COPY)},
        "name": {("raw_customers", "name", COPY)},
        "*": set(),
    },
    "model.shop.orders": {
        "id": {("raw_orders", "id", COPY)},
        "customer_id": {("raw_orders", "customer_id", COPY)},
        "cents": {("raw_orders", "amount", MADE)},
        "*": set(),
    },
    "model.shop.totals": {
        "customer_id": {("customers", "id", COPY)},
        "cents": {("orders", "cents", SUM)},
        "*": {
            ("customers", "id", "INDIRECT:JOIN"),
            ("orders", "customer_id", "INDIRECT:JOIN"),
            ("customers", "id", "INDIRECT:GROUP_BY"),
        },
    },
    "model.shop.chosen": {
        "id": {("orders", "id", COPY)},
        "customer": {("orders", "customer_id", COPY)},
        "amount": {("orders", "cents", MADE)},
        "place": {("orders", "customer_id", "INDIRECT:WINDOW"), ("orders", "cents", "INDIRECT:WINDOW")},
        "*": {("orders", "cents", "INDIRECT:FILTER")},
    },
    "snapshot.shop.customers_history": {
        "id": {("raw_customers", "id", COPY)},
        "name": {("raw_customers", "name", COPY)},
        "*": set(),
    },
}


@pytest.mark.parametrize("unique_id", LINEAGE)
def test_column_lineage_is_on_the_end_and_within_schema_and_inputs(unique_id: str, told: list[dict]) -> None:
    event = end_of(told, unique_id)
    (dataset,) = event["outputs"]
    assert edges(dataset) == LINEAGE[unique_id]
    assert set(dataset["facets"]["columnLineage"]["fields"]) <= {name for name, _ in fields(dataset)}
    known = {(d["name"].removeprefix("shop.main."), name) for d in told_before(event, told) for name, _ in fields(d)}
    assert {edge[:2] for found in edges(dataset).values() for edge in found} <= known, "else Marquez drops it"
    assert "extractionError" not in event["run"]["facets"]


def told_before(event: dict, told: list[dict]) -> list[dict]:
    """What an event reads, with its columns: as it says itself, or as whoever wrote it has said before."""
    names_read = {dataset["name"] for dataset in event["inputs"]}
    before = told[: told.index(event)]
    found = [*event["inputs"], *(dataset for earlier in before for dataset in earlier.get("outputs", []))]
    return [dataset for dataset in found if dataset["name"] in names_read and "schema" in dataset["facets"]]


def test_only_ends_have_code(told: list[dict]) -> None:
    for event in told:
        if event.get("eventType") == "START":
            assert not {"sql", "sourceCode"} & set(event["job"]["facets"])


def test_no_column_is_without_a_type_that_is_a_word_or_empty(told: list[dict]) -> None:
    """Null is a new column at each event to Marquez, and a 500 to DataHub up to 1.6.0."""
    schemas = [
        d["facets"]["schema"]
        for e in told
        for d in e.get("inputs", []) + e.get("outputs", [])
        if "schema" in d["facets"]
    ]
    types = {
        name: {field["type"] for schema in schemas for field in schema["fields"] if field["name"] == name}
        for name in ("cents", "dbt_scd_id")
    }
    assert types == {"cents": {"", "hugeint"}, "dbt_scd_id": {""}}
    assert all(isinstance(field["type"], str) for schema in schemas for field in schema["fields"])


def test_what_a_run_says_of_its_output_is_the_same_at_both_ends(told: list[dict]) -> None:
    """Else Marquez makes two versions of it, and either may be the current one."""
    outputs: dict[str, list[list[dict]]] = {}
    for event in told:
        if event.get("outputs"):
            outputs.setdefault(event["run"]["runId"], []).append(event["outputs"])
    assert len(outputs) > 8
    for start, end in outputs.values():
        for one, other in zip(start, end, strict=True):
            assert {**one, "outputFacets": {}} == {**other, "outputFacets": {}}


def test_nobody_tells_the_columns_of_what_this_run_has_made_but_who_made_it(told: list[dict]) -> None:
    made: set[str] = set()
    read = set()
    for event in told:
        for dataset in event.get("inputs", []):
            read.add(dataset["name"])
            assert dataset["name"] not in made or "schema" not in dataset["facets"]
        if event.get("eventType") == "COMPLETE":
            made |= {dataset["name"] for dataset in event["outputs"]}
    assert len(read & made) > 4


def test_a_select_of_everything_from_an_undocumented_source_says_that_columns_may_be_missing(told: list[dict]) -> None:
    happenings = end_of(told, "model.shop.happenings")
    assert "schema" not in happenings["outputs"][0]["facets"]
    (error,) = happenings["run"]["facets"]["extractionError"]["errors"]
    assert error["task"] == "model.shop.happenings"
    assert "columns aren't all known" in error["errorMessage"]


def test_sql_is_what_dbt_compiled(build: Recording, told: list[dict]) -> None:
    ran = {unique_id_of(event) for event in told}
    theirs = {
        key: result["compiled_code"]
        for key, result in build.results.items()
        if key in ran and result.get("compiled_code") and key.partition(".")[0] in ("model", "snapshot", "test")
    }
    del theirs["model.shop.guess"]
    found = {unique_id_of(e): e["job"]["facets"]["sql"]["query"] for e in told if "sql" in e["job"]["facets"]}
    assert {key: found.get(key) for key in theirs} == theirs
    assert len(theirs) > 10


def test_a_python_model_has_its_source_code_and_no_sql(build: Recording, told: list[dict]) -> None:
    facets = end_of(told, "model.shop.guess")["job"]["facets"]
    assert "sql" not in facets
    assert facets["sourceCode"]["language"] == "python"
    assert facets["sourceCode"]["sourceCode"] == build.results["model.shop.guess"]["compiled_code"]


@pytest.mark.parametrize(
    ("unique_id", "kind", "change"),
    [
        ("model.shop.totals", "TABLE", "OVERWRITE"),
        ("model.shop.customers", "VIEW", "OVERWRITE"),
        ("model.shop.orders", "TABLE", None),
        ("model.shop.guess", "TABLE", "OVERWRITE"),
        ("seed.shop.raw_orders", "TABLE", "OVERWRITE"),
        ("snapshot.shop.customers_history", "TABLE", None),
    ],
)
def test_a_materialization_is_a_type_of_dataset_and_a_change_of_its_state(
    told: list[dict], unique_id: str, kind: str, change: str | None
) -> None:
    facets = output(told, unique_id)["facets"]
    assert facets["datasetType"]["datasetType"] == kind
    assert facets.get("lifecycleStateChange", {}).get("lifecycleStateChange") == change


def test_rows_are_told_where_the_adapter_counts_them(build: Recording, told: list[dict]) -> None:
    counted = {key: r["adapter_response"].get("rows_affected") for key, r in build.results.items()}
    found = {
        unique_id_of(e): d["outputFacets"]["outputStatistics"]["rowCount"]
        for e in told
        for d in e["outputs"]
        if d.get("outputFacets")
    }
    assert found == {"seed.shop.raw_orders": 3, "seed.shop.raw_customers": 2}
    assert found == {key: rows for key, rows in counted.items() if rows is not None and rows >= 0}


def test_tags_meta_owners_and_words_are_told_of_jobs_runs_and_datasets(told: list[dict]) -> None:
    begin, event = starts(told)["shop.main.shop.chosen.build.run"], end_of(told, "model.shop.chosen")
    tags = {("gold", "true", "DBT"), ("nightly", "true", "DBT")}
    meta = {("pii", "true", "DBT_META"), ("level", "3", "DBT_META")}
    assert tags_of(event["job"]["facets"]) == tags
    assert tags_of(begin["run"]["facets"]) == tags | meta
    facets = event["outputs"][0]["facets"]
    assert tags_of(facets) == tags | meta
    assert facets["documentation"]["description"] == "What was **chosen**"
    assert event["job"]["facets"]["documentation"]["description"] == "What was **chosen**"
    assert facets["ownership"]["owners"] == [{"name": "The Finance Team", "type": "OWNER"}]
    assert event["job"]["facets"]["ownership"]["owners"] == [{"name": "The Finance Team", "type": "OWNER"}]
    totals = end_of(told, "model.shop.totals")
    assert totals["job"]["facets"]["ownership"]["owners"] == [{"name": "Finance", "type": "OWNER"}], "by its meta"
    two = end_of(told, "model.shop.guess")
    for facet in (two["job"]["facets"]["ownership"], two["outputs"][0]["facets"]["ownership"]):
        assert [owner["name"] for owner in facet["owners"]] == ["Ann", "Bob"]


def test_owners_are_described_as_the_project_lists_them(build: Recording) -> None:
    described = {event.unique_id: event.owners for event in build.events if isinstance(event, NodeDescribed)}
    assert described["model.shop.guess"] == [Owner("Ann"), Owner("Bob", ["bob@example.com"]), Owner("Ann")]
    assert described["exposure.shop.board"] == [Owner(emails=["ann@example.com", "bob@example.com"])]
    assert described["model.shop.chosen"] == [Owner("The Finance Team", ["finance@example.com", "cfo@example.com"])]
    assert described["model.shop.orders"] == []


def tags_of(facets: dict) -> set[tuple[str, str, str]]:
    return {(tag["key"], tag["value"], tag["source"]) for tag in facets["tags"]["tags"]}


def test_a_node_depends_on_the_runs_of_its_upstream_nodes(told: list[dict]) -> None:
    upstream = starts(told)["shop.main.shop.totals.build.run"]["run"]["facets"]["jobDependencies"]["upstream"]
    jobs = {f"shop.main.shop.{name}.build.run" for name in ("customers", "orders")}
    assert {one["job"]["name"]: one["run"]["runId"] for one in upstream} == {
        job: event["run"]["runId"] for job, event in ends(told).items() if job in jobs
    }


def test_a_unit_test_waits_for_nothing_as_it_runs_before_its_model(told: list[dict]) -> None:
    jobs = [event["job"]["name"] for event in told]
    begin = starts(told)["unit_test.shop.totals.totals_are_sums"]
    assert jobs.index(begin["job"]["name"]) < jobs.index("shop.main.shop.totals.build.run")
    assert "jobDependencies" not in begin["run"]["facets"]


# --- recorded: tests and freshness ----------------------------------------------------------------------------------

CHECKS = {
    # name: (type, severity, failing rows, what it reads and asserts, its column, other datasets)
    "never": ("custom_sql", "error", 1, (), None, ()),
    "both": ("custom_sql", "error", 3, ("customers", "chosen"), None, ()),
    "not_null_totals_customer_id": ("not_null", "error", 0, ("totals",), "customer_id", ()),
    "unique_totals_customer_id": ("unique", "error", 0, ("totals",), "customer_id", ()),
    "accepted_values_totals_cents__False__1__2": ("accepted_values", "warn", 2, ("totals",), "cents", ()),
    "relationships_chosen_customer__id__ref_raw_customers_": (
        "relationships", "error", 0, ("chosen",), "customer", ("raw_customers",),
    ),
    "source_relationships_stale_again_id__amount__ref_raw_orders_": (
        "relationships", "error", 2, ("raw_customers",), "id", ("raw_orders",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_a_data_test_is_a_statement_on_what_it_tests(name: str, build: Recording, told: list[dict]) -> None:
    kind, severity, failing, tested, column, others = CHECKS[name]
    (unique_id,) = [key for key, node in build.nodes.items() if node["name"] == name]
    result, event = build.results[unique_id], end_of(told, unique_id)
    assert result["failures"] == failing
    assert event["eventType"] == ("FAIL" if failing and severity == "error" else "COMPLETE")
    (execution,) = event["run"]["facets"]["test"]["tests"]
    assert execution["name"] == name
    assert (execution["type"], execution["severity"]) == (kind, severity)
    assert execution["status"] == ("fail" if failing else "pass")
    assert execution.get("actual", "0") == str(failing)
    assert execution["content"] == result["compiled_code"]

    said = {d["name"].removeprefix("shop.main."): d.get("inputFacets", {}) for d in event["inputs"]}
    assert set(said) == {*tested, *others}
    for dataset in others:
        assert said[dataset] == {}
    for dataset in tested:
        (assertion,) = [a for a in said[dataset]["dataQualityAssertions"]["assertions"] if a["name"] == name]
        assert assertion["assertion"] == kind
        assert assertion["success"] is (failing == 0)
        assert assertion["severity"] == severity
        assert assertion.get("column") == column
        assert assertion.get("actual", "0") == str(failing)


def test_arguments_of_a_test_are_told(build: Recording, told: list[dict]) -> None:
    (unique_id,) = [key for key, node in build.nodes.items() if node["name"].startswith("accepted_values")]
    (execution,) = end_of(told, unique_id)["run"]["facets"]["test"]["tests"]
    assert execution["params"] == {"values": [1, 2], "quote": False}


def test_an_end_carries_all_that_tests_have_said_of_a_dataset_so_far(told: list[dict]) -> None:
    """Marquez shows the last: a test that failed would be hidden by the next that passes."""
    said: dict[str, dict[str, bool]] = {}
    moments: dict[str, str] = {}
    for event in told:
        for dataset in event.get("inputs", []):
            facet = dataset.get("inputFacets", {}).get("dataQualityAssertions")
            if facet is None:
                continue
            found = {one["name"]: one["success"] for one in facet["assertions"]}
            (own,) = event["run"]["facets"]["test"]["tests"]
            assert set(found) == {*said.get(dataset["name"], {}), own["name"]}
            assert found == {**said.get(dataset["name"], {}), own["name"]: own["status"] == "pass"}
            said[dataset["name"]] = found
            assert moments.get(dataset["name"], "") < event["eventTime"], "the last to be told is the last"
            moments[dataset["name"]] = event["eventTime"]
    totals = said["shop.main.totals"]
    assert len(totals) >= 3
    assert set(totals.values()) == {True, False}


def test_a_unit_test_is_a_test_of_its_model(told: list[dict]) -> None:
    event = end_of(told, "unit_test.shop.totals.totals_are_sums")
    (execution,) = event["run"]["facets"]["test"]["tests"]
    assert (execution["type"], execution["status"]) == ("unit_test", "pass")
    assert event["job"]["facets"]["jobType"]["jobType"] == "UNIT_TEST"
    assert event["inputs"] == [], "its rows are given: it says nothing of any table"


def test_source_freshness_is_a_run_with_a_statement_on_its_source(recorded: dict[str, Recording]) -> None:
    recording = recorded["freshness"]
    told = translated(recording.events)
    theirs = {result["unique_id"]: result for result in recording.artifact("sources")["results"]}
    assert {key: result["status"] for key, result in theirs.items()} == {
        "source.shop.raw.raw_events": "error",
        "source.shop.stale.again": "warn",
    }
    for unique_id, result in theirs.items():
        event = end_of(told, unique_id)
        assert event["eventType"] == ("FAIL" if result["status"] == "error" else "COMPLETE")
        assert event["job"]["name"] == unique_id
        assert event["job"]["facets"]["jobType"]["jobType"] == "SOURCE"
        (dataset,) = event["inputs"]
        assert dataset["name"] == f"shop.main.{'raw_events' if 'events' in unique_id else 'raw_customers'}"
        loaded = dataset["inputFacets"]["dataQualityMetrics"]["lastUpdated"]
        assert datetime.fromisoformat(loaded) == datetime.fromisoformat(result["max_loaded_at"])
        (assertion,) = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
        assert assertion["assertion"] == "freshness"
        assert assertion["success"] is False
        assert assertion["severity"] == result["status"]
        limit = result["criteria"][f"{result['status']}_after"]
        assert assertion["expected"] == f"{limit['count']} {limit['period']}", "the limit that was passed"
        assert assertion["actual"] == f"{result['max_loaded_at_time_ago_in_s']:.0f} s"
        assert event["outputs"] == []


# --- recorded: exposures, and commands that build nothing ------------------------------------------------------------


def test_an_exposure_of_what_was_built_is_a_job_without_a_run(build: Recording, told: list[dict]) -> None:
    exposure = build.nodes["exposure.shop.board"]
    (event,) = [e for e in told if e["job"]["name"] == "exposure.shop.board"]
    assert "run" not in event
    assert {d["name"] for d in event["inputs"]} == {"shop.main.totals", "shop.main.raw_events"}
    facets = event["job"]["facets"]
    assert facets["documentation"]["description"] == exposure["description"]
    assert facets["ownership"]["owners"] == [{"name": email, "type": "OWNER"} for email in exposure["owner"]["email"]]
    assert len(exposure["owner"]["email"]) == 2
    assert tags_of(facets) == {("weekly", "true", "DBT")}
    assert facets["jobType"]["jobType"] == "EXPOSURE"


def test_a_dataset_names_the_exposures_that_show_it(build: Recording, told: list[dict]) -> None:
    exposure = build.nodes["exposure.shop.board"]
    expected = {"unique_id": "exposure.shop.board", "name": "board", "type": "dashboard", "url": exposure["url"]}
    shown = {d["name"]: d["facets"].get("dbt_exposures") for e in told for d in e["inputs"] + e.get("outputs", [])}
    assert {name for name, facet in shown.items() if facet} == {"shop.main.totals", "shop.main.raw_events"}
    assert shown["shop.main.totals"]["exposures"] == [expected]


@pytest.mark.parametrize("name", ["compile", "docs", "show", "inline"])
def test_a_command_that_builds_nothing_writes_no_dataset_and_says_nothing_of_tests(
    name: str, recorded: dict[str, Recording]
) -> None:
    told = translated(with_columns(recorded[name].events))
    assert len(told) > 2
    assert [e["outputs"] for e in told if e.get("outputs")] == []
    assert [e for e in told if e["job"]["name"].startswith("exposure.")] == [], "nothing was built that it shows"
    compiled_only = [e for e in told if e.get("eventType") == "COMPLETE" and unique_id_of(e)]
    assert [e for e in compiled_only if "test" in e["run"]["facets"]] == []
    assert [d for e in compiled_only for d in e["inputs"] if d.get("inputFacets")] == []


def test_what_is_compiled_is_a_job_of_its_own(recorded: dict[str, Recording]) -> None:
    jobs = {name: set(ends(translated(recorded[name].events))) for name in ("compile", "docs", "show")}
    assert "shop.main.shop.totals.compile" in jobs["compile"] & jobs["docs"]
    assert "shop.main.shop.totals.show" in jobs["show"]


def test_a_query_of_the_command_line_is_a_run_that_reads(recorded: dict[str, Recording]) -> None:
    event = ends(translated(recorded["inline"].events))["sql_operation.shop.inline_query"]
    assert [d["name"] for d in event["inputs"]] == ["shop.main.orders"]
    assert event["job"]["facets"]["sql"]["query"] == 'select id as hidden_word from "shop"."main"."orders"'


def test_a_retry_by_hand_runs_what_failed_and_what_was_skipped(recorded: dict[str, Recording]) -> None:
    ran = {key for key, result in recorded["retry"].results.items() if result["status"] != "skipped"}
    told = translated(recorded["retry"].events)
    assert {unique_id_of(e) for e in told[1:-1]} == ran
    assert ends(told)["test.shop.never"]["eventType"] == "FAIL"


def test_a_retry_by_hand_is_of_the_same_jobs(recorded: dict[str, Recording], told: list[dict]) -> None:
    assert set(ends(translated(recorded["retry"].events))) <= set(ends(told))


# --- written: attempts, steps, sessions -----------------------------------------------------------------------------

A, B, C = "model.shop.a", "model.shop.b", "model.shop.c"


def attempt(number: int, *happened: Event, step: int = 1, exit_code: int = 0) -> list[Event]:
    """A try of a step, within a session that is under way."""
    place = {"session": 1, "step": step, "attempt": number}
    return [
        events.AttemptStarted(argv=["build"], pid=1, python="p", **place),
        *invoked("build" if number == 1 else "retry", invocation_id=f"invocation-{step}-{number}", **place, time=0),
        *(msgspec.structs.replace(event, **place) for event in happened),
        events.DbtFinished(success=exit_code == 0, exit_code=exit_code, elapsed=1.0, **place),
        events.AttemptEnded(exit_code=exit_code, **place),
    ]


def test_a_second_attempt_is_new_runs_of_the_same_jobs_under_the_same_session() -> None:
    told = translated(
        in_order(
            opened()[:1],
            attempt(1, *built(A), *built(B, status="error"), exit_code=1),
            attempt(2, *built(B)),
            ended(),
        )
    )
    assert_one_start_and_one_end(told)
    assert [e["eventType"] for e in (told[0], told[-1])] == ["START", "COMPLETE"]
    of_b = [event for event in told if unique_id_of(event) == B]
    assert [event["eventType"] for event in of_b] == ["START", "FAIL", "START", "COMPLETE"]
    assert {event["job"]["name"] for event in of_b} == {"shop.main.shop.b.build.run"}
    assert len({event["run"]["runId"] for event in of_b}) == 2
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in of_b} == {RUN_ID}
    tries = [event["run"]["facets"]["spanline_run"] for event in of_b]
    assert [(one["attempt"], one["invocation_id"]) for one in tries[::2]] == [
        (1, "invocation-1-1"),
        (2, "invocation-1-2"),
    ]


def test_a_dataset_names_an_exposure_once_however_often_it_is_described() -> None:
    exposure = described("exposure.shop.board", depends_on=[A])
    told = translated(
        in_order(opened()[:1], attempt(1, exposure, *built(A), exit_code=1), attempt(2, exposure, *built(A)), ended())
    )
    (shown,) = [e["outputs"][0]["facets"]["dbt_exposures"]["exposures"] for e in told if e.get("outputs")][-1:]
    assert shown == [{"unique_id": "exposure.shop.board", "name": "board"}]
    assert [e["job"]["name"] for e in told if "run" not in e] == ["exposure.shop.board"]


def test_steps_are_jobs_by_their_commands_in_one_session() -> None:
    steps = (("run", "-s", "a"), ("test", "-s", "a"), ("compile",))
    test = described("test.shop.t", depends_on=[A], test=events.TestInfo(name="t", kind="singular"))
    parts = [[*built(A)], [test, started("test.shop.t"), finished("test.shop.t", "pass")], [*built(A)]]
    happened: list[Event] = []
    for number, (step, part) in enumerate(zip(steps, parts, strict=True), 1):
        place = {"session": 1, "step": number, "attempt": 1}
        happened += [
            events.AttemptStarted(argv=list(step), pid=1, python="p", **place),
            *invoked(step[0], invocation_id=f"invocation-{number}", time=0, **place),
            *(msgspec.structs.replace(event, **place) for event in part),
            events.AttemptEnded(exit_code=0, **place),
        ]
    told = translated(in_order(opened(steps)[:1], happened, ended()))
    assert_one_start_and_one_end(told)
    assert [e["job"]["name"] for e in told if e["eventType"] == "START"] == [
        "dbt-run-shop",
        "shop.main.shop.a",
        "test.shop.t",
        "shop.main.shop.a.compile",
    ]
    found = [event["run"]["facets"]["spanline_run"] for event in told if unique_id_of(event)]
    assert [(one["step"], one["invocation_id"]) for one in found[::2]] == [
        (1, "invocation-1"),
        (2, "invocation-2"),
        (3, "invocation-3"),
    ]


def test_a_second_session_is_a_run_of_its_own_that_names_the_first() -> None:
    parent = events.LineageRun("airflow", "nightly.dbt", "01a21195-106f-709a-b5e2-0b1dc163f5ec")
    first = in_order(opened(), invoked(), built(A), built(B, status="error"), closed(1))
    place = {"session": 2, "step": 1, "attempt": 1}
    again = [msgspec.structs.replace(event, **place) for event in built(B)]
    second = in_order(
        opened(session=2, time=at(60), lineage_parent=parent),
        invoked("retry", **place, time=0),
        again,
        closed(session=2),
    )
    told = translated([*first, *second])
    assert_one_start_and_one_end(told)
    one, two = told[0], told[-1]
    assert (one["run"]["runId"], one["job"]["name"]) == (RUN_ID, two["job"]["name"])
    assert two["run"]["runId"] != RUN_ID
    assert "resumes" not in one["run"]["facets"]["spanline_run"]
    assert two["run"]["facets"]["spanline_run"]["resumes"] == RUN_ID
    assert two["run"]["facets"]["spanline_run"]["session"] == 2
    of_b = [event["run"] for event in told if unique_id_of(event) == B]
    assert len({run["runId"] for run in of_b}) == 2
    assert [run["facets"]["parent"]["run"]["runId"] for run in of_b] == [RUN_ID] * 2 + [two["run"]["runId"]] * 2
    assert two["run"]["facets"]["parent"]["run"]["runId"] == parent.run_id, "each session has its own"
    assert "parent" not in one["run"]["facets"]
    traces = [run["facets"]["spanline_run"]["trace_id"] for run in (one["run"], two["run"])]
    assert len(set(traces)) == 2


def test_columns_of_an_earlier_session_say_nothing_in_the_next() -> None:
    first = in_order(opened(), resolver_started(), invoked(), described(A), started(A), compiled(A, "select 1"))
    died = in_order([events.RunnerDied(time=at(5), session=1, step=1, attempt=1), ended("died", 2, time=at(5))])
    second = [
        *in_order(opened(session=2, time=at(60)), resolver_started(session=2), invoked(session=2, time=at(61))),
        *in_order([described(A, session=2, time=at(62)), started(A, session=2), resolved(A, "old")]),
        *in_order([finished(A, time=at(70), session=2)], closed(session=2)),
    ]
    told = translated([*first, *died, *second])
    assert_one_start_and_one_end(told)
    assert "old" not in json.dumps(told)


# --- written: what is cut short -------------------------------------------------------------------------------------


def test_a_cancel_aborts_what_was_open_and_the_session() -> None:
    cancel = events.CancelRequested(by="somebody", session=1, step=1, attempt=1)
    for late in ([], [finished(A, "error", message="it was interrupted")]):
        happened = [described(A), started(A), cancel, *late]
        place = {"session": 1, "step": 1, "attempt": 1}
        told = translated(
            in_order(
                opened(),
                invoked(),
                happened,
                events.DbtFinished(success=False, exit_code=2, elapsed=1.0, **place),
                events.AttemptEnded(exit_code=2, **place),
                ended("cancelled", 2),
            )
        )
        assert_one_start_and_one_end(told)
        assert {job: event["eventType"] for job, event in ends(told).items()} == {
            "shop.main.shop.a.build.run": "ABORT",
            "dbt-run-shop": "ABORT",
        }
        assert not [event for event in told if "errorMessage" in event["run"]["facets"]]


def test_a_runner_that_dies_aborts_what_was_open_when_it_died() -> None:
    hook = events.HookStarted(unique_id="operation.shop.shop-on-run-end-0", session=1, step=1, attempt=1)
    died = events.RunnerDied(signal="SIGKILL", session=1, step=1, attempt=1, time=at(9))
    told = translated(
        in_order(opened(), invoked(), built(A), described(B), started(B), hook, died, ended("died", 2, time=at(12)))
    )
    assert_one_start_and_one_end(told)
    assert [(unique_id_of(e), e["eventType"], e["eventTime"][11:19]) for e in told[-3:]] == [
        (B, "ABORT", "00:00:09"),
        ("operation.shop.shop-on-run-end-0", "ABORT", "00:00:09"),
        (None, "ABORT", "00:00:12"),
    ]
    assert ends(told)["shop.main.shop.a.build.run"]["eventType"] == "COMPLETE"


def test_what_a_dead_supervisor_left_open_is_aborted_once_somebody_closes_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / RUN_ID)
    directory.path.mkdir()
    with directory.journal.open("wb") as file:
        for event in in_order(opened(), resolver_started(), invoked(), built(A), described(B), started(B)):
            file.write(msgspec.json.encode(event) + b"\n")
    told = translated(record.event for record in Reader(directory.journal).read())
    close_abandoned(directory)
    after = translated(record.event for record in Reader(directory.journal).read())
    assert after[: len(told)] == told
    assert_one_start_and_one_end(after)
    assert {unique_id_of(e): e["eventType"] for e in after[len(told) :]} == {A: "COMPLETE", B: "ABORT", None: "ABORT"}


def test_a_run_of_dbt_that_never_got_as_far_as_its_project_is_a_session_that_failed() -> None:
    told = translated(in_order(opened([["run", "--selct", "x"]]), ended("failed", 2)))
    assert [(e["eventType"], e["job"]["name"]) for e in told] == [("START", "dbt-run-shop"), ("FAIL", "dbt-run-shop")]
    assert told[1]["run"]["facets"]["errorMessage"]["message"]


def test_such_a_session_is_of_the_same_job_and_has_lasted_as_long_as_it_has() -> None:
    """As after a profile that isn't there: the name of the project stands in its file."""
    told = translated([*opened(project="store", time=at(0)), ended("failed", 2, time=at(3))])
    assert {event["job"]["name"] for event in told} == {"dbt-run-store"}
    began, over = (datetime.fromisoformat(event["eventTime"]) for event in told)
    assert (over - began).total_seconds() == 3


# --- written: parents and times -------------------------------------------------------------------------------------

TASK = "01a21195-106f-709a-b5e2-0b1dc163f5ec"
DAG = "01a21195-0000-7000-8000-0b1dc163f5ec"


def with_parent(environ: dict[str, str]) -> tuple[dict, dict]:
    """The facets of the session and of a node, where the environment names a parent."""
    parent, root = lineage_parent(environ)
    told = translated(in_order(opened(lineage_parent=parent, lineage_root=root), invoked(), built(A), closed()))
    assert all(e["run"]["facets"] == {**e["run"]["facets"], **told[0]["run"]["facets"]} for e in told[:1])
    return told[0]["run"]["facets"], told[1]["run"]["facets"]


def context(**parent: object) -> str:
    return json.dumps({"parent": parent})


@pytest.mark.parametrize(
    ("environ", "parent", "root"),
    [
        ({"OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}"}, ("airflow", "nightly.dbt", TASK), None),
        ({"OPENLINEAGE_PARENT_ID": f"my/space/nightly.dbt/{TASK}"}, ("my/space", "nightly.dbt", TASK), None),
        ({"OPENLINEAGE_PARENT_ID": f" airflow/nightly.dbt/{TASK.upper()}\n"}, ("airflow", "nightly.dbt", TASK), None),
        (
            {
                "OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}",
                "OPENLINEAGE_ROOT_PARENT_ID": f"airflow/nightly/{DAG}",
            },
            ("airflow", "nightly.dbt", TASK),
            ("airflow", "nightly", DAG),
        ),
        (
            {"OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}", "OPENLINEAGE_ROOT_PARENT_ID": "nonsense"},
            ("airflow", "nightly.dbt", TASK),
            None,
        ),
        (
            {
                "OPENLINEAGE_CONTEXT": context(
                    run={"runId": TASK},
                    job={"namespace": "airflow", "name": "nightly.dbt"},
                    root={"run": {"runId": DAG}, "job": {"namespace": "airflow", "name": "nightly"}},
                ),
                "OPENLINEAGE_PARENT_ID": f"other/job/{DAG}",
            },
            ("airflow", "nightly.dbt", TASK),
            ("airflow", "nightly", DAG),
        ),
        (
            {
                "OPENLINEAGE_CONTEXT": '{"somebody": "else"}',
                "OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}",
            },
            ("airflow", "nightly.dbt", TASK),
            None,
        ),
        (
            {"OPENLINEAGE_CONTEXT": "{no json", "OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}"},
            ("airflow", "nightly.dbt", TASK),
            None,
        ),
    ],
)
def test_a_session_has_the_parent_that_the_environment_names_and_nodes_have_its_root(
    environ: dict[str, str], parent: tuple[str, str, str], root: tuple[str, str, str] | None
) -> None:
    of_session, of_node = with_parent(environ)
    assert named(of_session["parent"]) == parent
    assert (named(of_session["parent"]["root"]) if root else of_session["parent"].get("root")) == root
    assert named(of_node["parent"]) == ("dbt", "dbt-run-shop", RUN_ID)
    assert named(of_node["parent"]["root"]) == (root or parent)


def named(of: dict) -> tuple[str, str, str]:
    return of["job"]["namespace"], of["job"]["name"], of["run"]["runId"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OPENLINEAGE_ROOT_PARENT_ID": f"airflow/nightly/{DAG}"},
        *({"OPENLINEAGE_PARENT_ID": text} for text in ("", "x", TASK, f"job/{TASK}", f"/job/{TASK}", f"space//{TASK}")),
        {"OPENLINEAGE_PARENT_ID": "airflow/nightly.dbt/no-uuid"},
        {"OPENLINEAGE_PARENT_ID": f"airflow/nightly.dbt/{TASK}/"},
        {"OPENLINEAGE_CONTEXT": context(run={"runId": "no-uuid"}, job={"namespace": "n", "name": "j"})},
        {"OPENLINEAGE_CONTEXT": context(run={"runId": TASK}, job={"namespace": "", "name": "j"})},
        {"OPENLINEAGE_CONTEXT": context(run={"runId": TASK})},
    ],
    ids=str,
)
def test_what_names_no_parent_counts_as_none(environ: dict[str, str]) -> None:
    of_session, of_node = with_parent(environ)
    assert "parent" not in of_session
    assert named(of_node["parent"]) == named(of_node["parent"]["root"]) == ("dbt", "dbt-run-shop", RUN_ID)


def test_a_parents_job_may_have_a_slash_in_its_name() -> None:
    text = context(run={"runId": TASK}, job={"namespace": "scheduler", "name": "nightly/dbt"})
    of_session, _ = with_parent({"OPENLINEAGE_CONTEXT": text})
    assert named(of_session["parent"]) == ("scheduler", "nightly/dbt", TASK)


@pytest.mark.parametrize(
    ("argv", "start", "end"),
    [
        (
            ["run", "--event-time-start", "2024-05-01", "--event-time-end", "2024-05-02"],
            "2024-05-01T00:00:00+00:00",
            "2024-05-02T00:00:00+00:00",
        ),
        (
            ["run", "--event-time-start=2024-05-01T06:30:00", "--event-time-end=2024-05-01 07:00:00"],
            "2024-05-01T06:30:00+00:00",
            "2024-05-01T07:00:00+00:00",
        ),
        (["run", "--event-time-start", "2024-05-01"], "2024-05-01T00:00:00+00:00", None),
        (["run", "--event-time-start", "tomorrow"], None, None),
        (["run", "--event-time-start"], None, None),
        (["run"], None, None),
    ],
)
def test_the_stretch_of_time_that_is_built_is_the_nominal_time(
    argv: list[str], start: str | None, end: str | None
) -> None:
    told = translated(in_order(opened([argv]), invoked("run"), closed()))
    for event in told:
        found = event["run"]["facets"].get("nominalTime", {})
        assert (found.get("nominalStartTime"), found.get("nominalEndTime")) == (start, end)


# --- written: what DuckDB doesn't do --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("materialized", "kind"),
    [
        ("materialized_view", ("VIEW", "MATERIALIZED", None)),
        ("dynamic_table", ("TABLE", "DYNAMIC", None)),
        ("streaming_table", ("TABLE", "STREAMING", None)),
        ("external", ("TABLE", "EXTERNAL", None)),
        ("of_a_package", (None, None, None)),
    ],
)
def test_other_materializations_are_outputs_of_their_type(materialized: str, kind: tuple[str | None, ...]) -> None:
    (dataset,) = end_of(translated(session(*built(A, materialized=materialized))), A)["outputs"]
    facets = dataset["facets"]
    found = facets.get("datasetType", {})
    assert (found.get("datasetType"), found.get("subType"), facets.get("lifecycleStateChange")) == kind
    assert dataset["name"] == "shop.main.a"


def test_a_function_is_a_run_that_models_depend_on_and_no_dataset() -> None:
    twice = "function.shop.twice"
    function = built(twice, "x * 2", materialized="function", description="Doubles", path="functions/twice.sql")
    told = translated(session(*function, *built(A, "select main.twice(1)", depends_on=[twice])))
    event = end_of(told, twice)
    assert (event["eventType"], event["job"]["name"]) == ("COMPLETE", twice)
    assert event["job"]["facets"]["jobType"]["jobType"] == "FUNCTION"
    assert event["job"]["facets"]["sql"]["query"] == "x * 2"
    assert event["inputs"] == event["outputs"] == end_of(told, A)["inputs"] == []
    begin = starts(told)["shop.main.shop.a.build.run"]
    (upstream,) = begin["run"]["facets"]["jobDependencies"]["upstream"]
    assert (upstream["job"]["name"], upstream["run"]["runId"]) == (twice, event["run"]["runId"])


def test_the_warehouses_id_of_a_query_is_told() -> None:
    query = msgspec.structs.replace(finished(A), query_id="01b2-77")
    told = translated(session(described(A), started(A), query))
    facet = end_of(told, A)["run"]["facets"]["externalQuery"]
    assert (facet["externalQueryId"], facet["source"]) == ("01b2-77", NAMESPACE)


def test_a_dataset_of_two_names_has_the_other_as_a_symlink() -> None:
    """Databricks: `unitycatalog://` is the naming specification's, `databricks://` dbt-ol's."""
    configured = invoked(adapter_type="databricks", connection={"host": "adb-1.azuredatabricks.net"})
    told = translated(in_order(opened(), configured, built(A), closed()))
    (dataset,) = end_of(told, A)["outputs"]
    assert dataset["namespace"] == "databricks://adb-1.azuredatabricks.net"
    identifiers = dataset["facets"]["symlinks"]["identifiers"]
    assert ("unitycatalog://adb-1.azuredatabricks.net", "shop.main.a") in [
        (i["namespace"], i["name"]) for i in identifiers
    ]


def test_a_catalog_is_told_with_its_format() -> None:
    fields = {"catalog": "lake", "table_format": "iceberg"}
    (dataset,) = end_of(translated(session(*built(A, **fields))), A)["outputs"]
    found = dataset["facets"]["catalog"]
    assert (found["name"], found["framework"], found["type"], found["source"]) == ("lake", "iceberg", "duckdb", "dbt")


# --- written: bad input ---------------------------------------------------------------------------------------------


def test_upstream_nodes_that_the_manifest_lacks_are_left_out() -> None:
    told = translated(session(*built(A), *built(B, depends_on=["model.shop.gone", A, "source.shop.gone.x"])))
    assert [dataset["name"] for dataset in end_of(told, B)["inputs"]] == ["shop.main.a"]


def test_ephemeral_models_that_read_each_other_are_no_endless_road() -> None:
    one = described(A, materialized="ephemeral", relation=None, depends_on=[B])
    other = described(B, materialized="ephemeral", relation=None, depends_on=[A, "seed.shop.s"])
    told = translated(session(described("seed.shop.s"), one, other, *built(C, depends_on=[A])))
    assert [dataset["name"] for dataset in end_of(told, C)["inputs"]] == ["shop.main.s"]


@pytest.mark.parametrize(
    "name", ["a b", 'quo"ted', "dot.ted", "größe", "表", "🦆", "new\nline", "-- comment", "'", "%s"]
)
def test_any_name_is_told_as_it_is(name: str) -> None:
    place = relation(name, schema="sch" + name)
    told = translated(session(*built(A, relation=place), *built(B, depends_on=[A])))
    assert end_of(told, A)["outputs"][0]["name"] == f"shop.sch{name}.{name}"
    assert end_of(told, B)["inputs"][0]["name"] == f"shop.sch{name}.{name}"


def test_a_node_that_was_never_described_or_never_began_has_no_run() -> None:
    told = translated(session(started(A), finished(A), finished(B), compiled(C, "x"), resolved(C, "x")))
    assert [unique_id_of(event) for event in told] == [None, None]


def test_a_model_without_sql_has_none() -> None:
    told = translated(session(*built(A, sql=None)))
    assert "sql" not in end_of(told, A)["job"]["facets"]


# --- written: bounds ------------------------------------------------------------------------------------------------

WIDE = [f"column_{number}" for number in range(5_000)]


def columns(names: Sequence[str], description: str | None = None) -> list[events.Column]:
    return [events.Column(name, "integer", description) for name in names]


def there(unique_id: str, found: Sequence[events.Column]) -> list[Event]:
    """A relation that an earlier run has built, with these columns."""
    return [described(unique_id), resolved(unique_id, origin="earlier", columns=found)]


def many(count: int, **fields: object) -> list[Event]:
    return [described(f"model.shop.up_{number}", **fields) for number in range(count)]


def reads_many(upstream: Sequence[Event]) -> list[Event]:
    read = [event.unique_id for event in upstream if isinstance(event, events.NodeDescribed)]
    return [*upstream, *built(A, depends_on=read)]


def checked(sql: str = "select 1", arguments: dict[str, object] | None = None, **fields: object) -> list[Event]:
    test = events.TestInfo(name="t", kind="generic", attached_node=A, arguments=arguments or {})
    node = described("test.shop.t", test=test, depends_on=[A], **fields)
    return [*built(A), node, started("test.shop.t"), compiled("test.shop.t", sql), finished("test.shop.t", "pass")]


TOO_MUCH: dict[str, list[Event]] = {
    "SQL": built(A, "select 1 -- " + "x" * 1_000_000),
    "SQL that is not ASCII": built(A, "select 1 -- " + "ü" * 1_000_000),
    "SQL of six bytes a character, and a test": checked("select 1 -- " + "表" * 1_000_000),
    "the SQL of a test": checked("select 1 -- " + "x" * 1_000_000),
    "the code of a Python model": built(A, "x = 1\n" * 200_000, language="python"),
    "columns with descriptions": [*there(B, columns(WIDE, "d" * 4_000)), *built(A, depends_on=[B])],
    "words that are not ASCII": [*there(B, columns(WIDE[:700], "ü" * 300)), *built(A, depends_on=[B])],
    "own columns with descriptions": built(A, language="python", columns=columns(WIDE, "d" * 4_000)),
    "inputs with columns": reads_many(
        [event for number in range(500) for event in there(f"model.shop.up_{number}", columns(WIDE[:60]))]
    ),
    "inputs with descriptions": reads_many(many(400, description="d" * 4_000)),
    "inputs": reads_many(many(2_000)),
    "values of a test": checked(arguments={"values": [f"value-{number}" for number in range(100_000)]}),
    "the description of a test": checked(description="d" * 2_000_000),
    "meta": built(A, meta={f"key-{number}": "v" * 1_000 for number in range(2_000)}),
    "tags": built(A, tags=[f"tag-{number}-" + "t" * 100 for number in range(5_000)]),
    "an owner": built(A, owners=[events.Owner(name="o" * 1_000_000)]),
    "exposures": [
        *(
            described(
                f"exposure.shop.e{number}", depends_on=[A], exposure=events.ExposureInfo(url="https://" + "x" * 9_000)
            )
            for number in range(120)
        ),
        *built(A),
    ],
    "what an exposure reads": [
        *(event for number in range(300) for event in there(f"model.shop.up_{number}", columns(WIDE[:100]))),
        *built(A),
        described("exposure.shop.e", depends_on=[A, *(f"model.shop.up_{number}" for number in range(300))]),
    ],
    "an error": [described(A), started(A), finished(A, "error", message="e" * 5_000_000)],
    "the error of columns": [*built(A)[:-1], resolved(A, error="e" * 5_000_000), finished(A)],
    "lineage": [
        *there(B, columns(WIDE)),
        *built(A, depends_on=[B])[:-1],
        resolved(A, *(f"{name} < {name}" for name in WIDE), reads=WIDE, datasets=["shop.main.b"]),
        finished(A),
    ],
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_no_event_is_larger_than_a_megabyte_and_none_takes_long(what: str) -> None:
    happened = session(*TOO_MUCH[what])
    before = time.process_time()
    texts = written(happened)
    assert time.process_time() - before < 5
    assert max(map(len, texts)) <= 1_000_000
    told = [json.loads(text) for text in texts]
    for event in told:
        holder = event.get("run", event["job"])["facets"]
        if "spanline_cut" in holder:
            assert_valid({**event, "inputs": [], "outputs": []})
            assert holder["spanline_cut"]["facets"]
    assert_one_start_and_one_end(told)
    assert end_of(told, A)["outputs"][0]["name"] == "shop.main.a"
    assert written(happened) == texts


def cut_of(event: dict) -> list[str]:
    return event["run"]["facets"]["spanline_cut"]["facets"]


def test_sql_is_cut_with_a_mark() -> None:
    event = end_of(translated(session(*TOO_MUCH["SQL"])), A)
    text = event["job"]["facets"]["sql"]["query"]
    assert text.startswith("select 1 -- xxx")
    assert text.endswith("… cut by spanline: 1000012 characters in all")
    assert len(text) < 201_000
    assert "spanline_cut" not in event["run"]["facets"]


def test_of_five_thousand_columns_the_lineage_goes_and_the_schema_stays() -> None:
    event = end_of(json.loads(f"[{','.join(written(session(*TOO_MUCH['lineage'])))}]"), A)
    assert cut_of(event) == ["shop.main.b: schema", "shop.main.a: columnLineage"]
    (dataset,) = event["outputs"]
    assert [name for name, _ in fields(dataset)] == WIDE
    assert "columnLineage" not in dataset["facets"]
    assert "spanline_cut" not in starts(translated(session(*built(A))))["shop.main.shop.a.build.run"]["run"]["facets"]


def test_what_is_cut_in_one_event_is_there_in_another_with_room() -> None:
    wide = there("model.shop.wide", columns(WIDE, "d" * 150))
    happened = session(wide, *built(A, depends_on=["model.shop.wide"]), *built(B, depends_on=["model.shop.wide"]))
    told = translated(session(there("model.shop.x", columns(["x"])), *built(C, depends_on=["model.shop.x"])))
    assert "schema" in end_of(told, C)["inputs"][0]["facets"]
    for event in map(json.loads, written(happened)):
        for dataset in event["inputs"]:
            assert cut_of(event) == ["shop.main.wide: schema"]
            assert "dataSource" in dataset["facets"]


def test_a_mark_names_a_hundred_facets_and_counts_the_rest() -> None:
    found = [e for e in map(json.loads, written(session(*TOO_MUCH["inputs"]))) if e["inputs"]]
    *named_, rest = cut_of(found[0])
    assert len(named_) == 100
    assert re.fullmatch(r"and \d+ more", rest)


def test_a_hundred_thousand_skipped_nodes_are_counted_and_a_thousand_named() -> None:
    skipped = [events.NodeSkipped(unique_id=f"model.shop.{number}", cause=A, session=1, step=1, attempt=1)
               for number in range(100_000)]  # fmt: skip
    text = written(session(*skipped, exit_code=1))[-1]
    assert len(text) < 1_000_000
    facet = json.loads(text)["run"]["facets"]["spanline_session"]
    assert (len(facet["skipped"]), facet["skipped_count"], facet["counts"]) == (1000, 100_000, {"skipped": 100_000})


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
))  # fmt: skip
@example([""] * 100)
@example([-1.7976931348623157e308] * 100)
@example({f"{number:02}": "" for number in range(100)})
def test_nothing_is_larger_than_it_is_measured(value: object) -> None:
    assert len(json.dumps(value)) <= size_of(value)


def test_an_event_is_measured_closely(build: Recording) -> None:
    translator, state = Translator(), RunState()
    for event in build.events:
        state.apply(event)
        for message in translator(event, state):
            assert (
                len(Serde.to_json(message.payload))
                <= size_of(message.payload)
                < 2 * len(Serde.to_json(message.payload))
            )


# --- what may be told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["off", "OFF", "false", "0", "no", " off "])
def test_an_option_is_off_where_it_says_so(value: str) -> None:
    environ = {"SPANLINE_LINEAGE_SQL": value, "SPANLINE_LINEAGE_COLUMNS": value}
    assert Options.of_environment(environ) == Options(sql=False, columns=False)


@pytest.mark.parametrize("value", ["", "on", "true", "1", "yes", "nonsense"])
def test_everything_is_told_otherwise(value: str) -> None:
    environ = {"SPANLINE_LINEAGE_SQL": value, "SPANLINE_LINEAGE_COLUMNS": value}
    assert Options.of_environment(environ) == Options.of_environment({}) == Options()


def test_the_namespace_and_the_job_are_named_as_the_environment_says() -> None:
    environ = {"OPENLINEAGE_NAMESPACE": "analytics", "OPENLINEAGE_DBT_JOB_NAME": "nightly", "HOME": "/root"}
    options = Options.of_environment(environ)
    assert options == Options(namespace="analytics", job_name_variables={"OPENLINEAGE_DBT_JOB_NAME": "nightly"})
    told = translated(session(*built(A)), namespace="analytics", job_name_variables=options.job_name_variables)
    assert {event["job"]["namespace"] for event in told} == {"analytics"}
    assert told[0]["job"]["name"] == "nightly"
    assert named(told[1]["run"]["facets"]["parent"])[:2] == ("analytics", "nightly")


SAYS_SQL = ("build", "retry", "show", "inline", "freshness", "broken operation")


@pytest.mark.parametrize("name", SAYS_SQL)
def test_with_sql_off_no_event_holds_a_line_of_what_was_compiled_or_asked(
    name: str, recorded: dict[str, Recording]
) -> None:
    happened = recorded[name].events
    asked = [e.sql for e in happened if isinstance(e, (events.NodeCompiled, events.QueryStarted))]
    lines = {line.strip() for sql in asked for line in sql.splitlines() if len(line.strip()) >= 12}
    told = json.dumps(translated(with_columns(happened), sql=False))
    assert lines or name == "broken operation"
    assert [line for line in lines if json.dumps(line)[1:-1] in told] == []
    assert "hidden_word" not in told
    assert '"sql"' not in told
    assert "sourceCode" not in told.replace("sourceCodeLocation", "")


COLUMN = re.compile(r"\b(customer_id|cents|amount|happened_at|no_such_column|place|dbt_scd_id|name_of)\b")


@pytest.mark.parametrize("name", ["build", "freshness"])
def test_with_columns_off_no_facet_names_a_column(name: str, recorded: dict[str, Recording]) -> None:
    told = translated(with_columns(recorded[name].events), columns=False)
    for event in told:
        for code in ("sql", "sourceCode"):
            event["job"]["facets"].pop(code, None)
        for test in event.get("run", {}).get("facets", {}).get("test", {}).get("tests", []):
            test.pop("content", None)
    assert COLUMN.findall(json.dumps(told)) == [], "but for SQL, which is another option's"
    assert not {name for event in told for name, _ in facets_of(event)} & {"schema", "columnLineage", "extractionError"}


def test_with_both_off_no_event_names_a_column(recorded: dict[str, Recording]) -> None:
    for name in ("build", "retry", "compile", "freshness"):
        told = translated(with_columns(recorded[name].events), columns=False, sql=False)
        assert COLUMN.findall(json.dumps(told)) == []
        assert_one_start_and_one_end(told)


def test_what_went_wrong_is_told_by_the_line_that_dbt_writes_itself(build: Recording, told: list[dict]) -> None:
    whole = end_of(told, "model.shop.fragile")["run"]["facets"]["errorMessage"]["message"]
    assert "no_such_column" in whole
    for options in ({"sql": False}, {"columns": False}):
        event = end_of(translated(build.events, **options), "model.shop.fragile")
        message = event["run"]["facets"]["errorMessage"]["message"]
        assert message == whole.splitlines()[0] == "Runtime Error in model fragile (models/fragile.sql)"


def test_with_sql_off_what_the_parser_quotes_is_not_told() -> None:
    happened = [*built(A)[:-1], resolved(A, error="TokenError: Error tokenizing 'select secret'"), finished(A)]
    assert "select secret" in json.dumps(translated(session(*happened)))
    assert "select secret" not in json.dumps(translated(session(*happened), sql=False))


def test_with_sql_off_expressions_of_a_test_are_not_told() -> None:
    happened = checked(arguments={"expression": "cents > 0"})
    assert "cents > 0" in json.dumps(translated(session(*happened)))
    assert "cents > 0" not in json.dumps(translated(session(*happened), sql=False))


# --- columns in time ------------------------------------------------------------------------------------------------

UP = "seed.shop.upstream"
EDGE = {"id": {("upstream", "id", COPY)}, "*": {("upstream", "id", "INDIRECT:FILTER")}}


def life(unique_id: str = A, end: float = 2.0, status: str = "success", **place: int) -> list[Event]:
    """A model that begins after a second, and ends."""
    return [
        described(unique_id, depends_on=[UP], time=at(0.9), **place),
        started(unique_id, at(1), **place),
        compiled(unique_id, "select id from upstream", at(1.1), **place),
        finished(unique_id, status, at(end), **place),
    ]


def found(when: float, unique_id: str = A, **fields: object) -> Event:
    return resolved(unique_id, "id < id", reads=["id"], time=at(when), **fields)


def beat(when: float) -> Event:
    return events.Heartbeat(time=at(when), session=1)


def by_time(*happened: Event | Sequence[Event], resolving: float | None = 0.5, over: float = 9) -> list[Event]:
    parts = [[part] if isinstance(part, Event) else part for part in happened]
    if resolving is not None:
        parts.append([resolver_started(time=at(resolving))])
    inner = sorted((event for part in parts for event in part), key=lambda event: event.time)
    return [
        *in_order(opened(), invoked(), described(UP, time=at(0.1))),
        *inner,
        *in_order([events.AttemptEnded(exit_code=0, session=1, step=1, attempt=1, time=at(over))]),
        ended(time=at(over)),
    ]


def told_when(happened: Sequence[Event], **options: object) -> list[tuple[float, str, dict]]:
    """What is told of nodes: after how many seconds of the journal, of what kind, and the event."""
    result = []
    for event, texts in step_by_step(happened, **options):
        for told in map(json.loads, texts):
            assert_valid(told)
            if unique_id_of(told):
                result.append(((event.time - at(0)) / 1e9, told["eventType"], told))
    assert_one_start_and_one_end([json.loads(text) for text in written(happened, **options)])
    return result


def when(told: Sequence[tuple[float, str, dict]]) -> list[tuple[float, str]]:
    return [(moment, kind) for moment, kind, _ in told]


def lineage_of(event: dict) -> dict | None:
    (dataset,) = event["outputs"]
    return edges(dataset) if "columnLineage" in dataset["facets"] else None


@pytest.mark.parametrize("moment", [1.2, 1.99])
def test_columns_that_are_there_in_time_are_on_the_end(moment: float) -> None:
    told = told_when(by_time(life(), found(moment), beat(8)))
    assert when(told) == [(moment, "START"), (2.0, "COMPLETE")]
    assert [event["eventTime"] for _, _, event in told] == ["2023-11-15T00:00:01+00:00", "2023-11-15T00:00:02+00:00"]
    assert [lineage_of(event) for _, _, event in told] == [EDGE, EDGE]


@pytest.mark.parametrize("moment", [2.1, 2.999])
def test_both_wait_for_their_columns_and_are_told_with_their_own_times(moment: float) -> None:
    told = told_when(by_time(life(), found(moment), beat(8)))
    assert when(told) == [(moment, "START"), (moment, "COMPLETE")]
    assert [event["eventTime"] for _, _, event in told] == ["2023-11-15T00:00:01+00:00", "2023-11-15T00:00:02+00:00"]
    assert [lineage_of(event) for _, _, event in told] == [EDGE, EDGE]


def test_a_start_waits_for_two_seconds_and_goes_without_an_output() -> None:
    """One whose columns may yet be others is a version of its own to Marquez, and may become the current one."""
    told = told_when(by_time(life(end=5), beat(2.999), beat(3), found(3.5)))
    assert when(told) == [(3.0, "START"), (5.0, "COMPLETE")]
    assert told[0][2]["outputs"] == []
    assert [dataset["name"] for dataset in told[0][2]["inputs"]] == ["shop.main.upstream"]
    assert lineage_of(told[1][2]) == EDGE


def test_after_two_seconds_the_end_goes_without_and_the_columns_follow_in_a_run_of_their_own() -> None:
    told = told_when(by_time(life(), beat(3.9), beat(4.0), found(5), found(6)))
    assert when(told) == [(3.9, "START"), (4.0, "COMPLETE"), (5.0, "START"), (5.0, "COMPLETE")]
    begin, end, late_begin, late_end = (event for _, _, event in told)
    assert begin["outputs"] == []
    assert (lineage_of(end), lineage_of(late_begin), lineage_of(late_end)) == (None, EDGE, EDGE)
    assert end["eventTime"] == "2023-11-15T00:00:02+00:00"
    assert late_end["eventTime"] == late_begin["eventTime"] == "2023-11-15T00:00:05+00:00"
    assert late_begin["run"]["runId"] == late_end["run"]["runId"] != begin["run"]["runId"]
    for event in (late_begin, late_end):
        assert event["run"]["facets"]["spanline_columns"]["of"] == end["run"]["runId"]
        assert event["job"]["name"] == end["job"]["name"]
        assert event["run"]["facets"]["parent"] == end["run"]["facets"]["parent"]
        assert [d["name"] for d in event["inputs"]] == [d["name"] for d in end["inputs"]] == ["shop.main.upstream"]
        assert [d["name"] for d in event["outputs"]] == ["shop.main.a"]
        assert "errorMessage" not in event["run"]["facets"]
    assert "spanline_columns" not in end["run"]["facets"]


def test_columns_that_never_come_are_waited_for_till_the_session_ends() -> None:
    assert when(told_when(by_time(life(end=8)))) == [(8.0, "START"), (9.0, "COMPLETE")]
    assert when(told_when(by_time(life(), beat(3), beat(5)))) == [(3.0, "START"), (5.0, "COMPLETE")]


@pytest.mark.parametrize(("stop", "end"), [(1.5, 2.0), (2.5, 2.5)])
def test_a_resolver_that_has_stopped_is_waited_for_no_longer(stop: float, end: float) -> None:
    told = told_when(by_time(life(), resolver_stopped("it ended with -9", time=at(stop)), beat(8)))
    assert when(told) == [(stop, "START"), (end, "COMPLETE")]
    assert lineage_of(told[1][2]) is None


def test_without_a_resolver_nothing_waits() -> None:
    told = told_when(by_time(life(), resolving=None))
    assert when(told) == [(1.0, "START"), (2.0, "COMPLETE")]
    assert told[0][2]["outputs"] == [], "it may yet come"


@pytest.mark.parametrize(
    ("resolving", "moment", "expected"),
    [
        (1.5, 1.8, [(1.0, "START"), (2.0, "COMPLETE")]),
        (1.5, 3.0, [(1.0, "START"), (3.0, "COMPLETE")]),
        (2.5, 3.0, [(1.0, "START"), (2.0, "COMPLETE"), (3.0, "START"), (3.0, "COMPLETE")]),
    ],
)
def test_a_resolver_that_is_late_itself_loses_no_columns(
    resolving: float, moment: float, expected: list[tuple[float, str]]
) -> None:
    told = told_when(by_time(life(), found(moment), resolving=resolving))
    assert when(told) == expected
    assert [lineage_of(event) for _, kind, event in told if kind == "COMPLETE"][-1] == EDGE


def test_a_node_that_fails_waits_for_nothing_and_nothing_follows() -> None:
    told = told_when(by_time(life(status="error"), found(5), beat(8)))
    assert when(told) == [(2.0, "START"), (2.0, "FAIL")]
    assert [[dataset["name"] for dataset in event["outputs"]] for _, _, event in told] == [[], ["shop.main.a"]]


def test_only_models_and_snapshots_in_sql_have_columns_to_wait_for() -> None:
    for unique_id, language in ((A, "python"), ("seed.shop.s", "sql"), ("test.shop.t", "sql")):
        happened = [described(unique_id, language=language, time=at(0.9)), *life(unique_id)[1:]]
        assert when(told_when(by_time(happened, beat(8)))) == [(1.0, "START"), (2.0, "COMPLETE")]
    told = told_when(by_time(life("snapshot.shop.s"), found(2.5, "snapshot.shop.s")))
    assert when(told) == [(2.5, "START"), (2.5, "COMPLETE")]


@pytest.mark.parametrize("origin", ["earlier", "catalog", "warehouse"])
def test_what_is_known_from_elsewhere_is_no_last_word_and_ends_no_wait(origin: str) -> None:
    known = resolved(A, "id", "old", origin=origin, time=at(0.95))
    again = resolved(A, "id", "old", origin=origin, time=at(2.5))
    told = told_when(by_time(life(), known, again, found(2.9)))
    assert when(told) == [(2.9, "START"), (2.9, "COMPLETE")]
    assert [fields(event["outputs"][0]) for _, _, event in told] == [[("id", "integer")]] * 2


def test_an_output_whose_columns_are_known_at_the_start_is_on_it() -> None:
    """Those of a seed's header, and those of a node whose code nobody can read."""
    python = described(A, language="python", columns=columns(["id"]), time=at(0.9))
    for happened in (built("seed.shop.s", columns=columns(["id"])), [python, *life()[1:]]):
        told = translated(session(*happened))
        assert [fields(event["outputs"][0]) for event in told[1:3]] == [[("id", "integer")]] * 2


def test_an_error_of_columns_is_told_on_the_end_and_is_nothing_that_follows() -> None:
    error = resolved(A, error="line 1, column 3: Expecting )", time=at(2.5))
    told = told_when(by_time(life(), error))
    assert when(told) == [(2.5, "START"), (2.5, "COMPLETE")]
    facet = told[1][2]["run"]["facets"]["extractionError"]
    assert (facet["totalTasks"], facet["failedTasks"]) == (1, 1)
    assert facet["errors"] == [{"errorMessage": "line 1, column 3: Expecting )", "task": A}]
    late = msgspec.structs.replace(error, time=at(6))
    assert when(told_when(by_time(life(), beat(5), late))) == [(5.0, "START"), (5.0, "COMPLETE")]


def test_each_end_waits_by_its_own_time() -> None:
    told = told_when(by_time(life(A, 2.0), life(B, 3.0), beat(4.5), found(4.7, B), found(4.8, A)))
    assert [(moment, kind, unique_id_of(event)) for moment, kind, event in told[2:]] == [
        (4.5, "COMPLETE", A),
        (4.7, "COMPLETE", B),
        (4.8, "START", A),
        (4.8, "COMPLETE", A),
    ]


def test_a_node_that_is_built_again_while_its_first_end_waits_has_both_ends() -> None:
    place = {"session": 1, "step": 2, "attempt": 1}
    second = [
        *invoked("build", invocation_id="build-2", **place, time=at(2.1)),
        *(msgspec.structs.replace(event, time=event.time + at(1.5) - at(0)) for event in life(**place)),
    ]
    told = told_when(by_time(life(), second, found(2.8, **place), found(2.9)))
    assert when(told) == [(2.8, "START"), (2.9, "START"), (2.9, "COMPLETE"), (3.5, "COMPLETE")]
    runs = [event["run"]["facets"]["spanline_run"] for _, _, event in told]
    assert [(run["step"], run["invocation_id"]) for run in runs] == [
        (2, "build-2"),
        (1, "build-1"),
        (1, "build-1"),
        (2, "build-2"),
    ]
    assert all(lineage_of(event) == EDGE for _, _, event in told)


def test_with_columns_off_nothing_waits_and_nothing_follows() -> None:
    happened = by_time(life(), beat(5), found(6))
    assert when(told_when(happened, columns=False)) == [(1.0, "START"), (2.0, "COMPLETE")]


def test_what_is_only_compiled_has_columns_of_nothing() -> None:
    happened = [event for event in by_time(life(), found(1.5)) if not isinstance(event, events.DbtStarted)]
    happened[2:2] = in_order(invoked("compile"))
    told = told_when(happened)
    assert [event["outputs"] for _, _, event in told] == [[], []]


# --- the same again -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), data=st.data())
@examples(25)
def test_wherever_a_run_is_cut_every_run_that_began_ends_once(build: Recording, seed: int, data: st.DataObject) -> None:
    """With columns that come at once, late, or never, in whatever order."""
    random = Random(seed)
    happened = []
    for event in with_columns(build.events):
        if isinstance(event, events.ColumnsResolved):
            if random.random() < 0.2:
                continue
            late = random.choice((0, 1, 500, 2_000, 3_000)) * 1_000_000
            happened.append(msgspec.structs.replace(event, time=event.time + late))
        elif not isinstance(event, (events.Log, events.QueryFinished)):
            happened.append(event)
    happened.sort(key=lambda event: event.time)
    whole = written(happened)
    assert_one_start_and_one_end(list(map(json.loads, whole)))
    last = next(place for place, event in enumerate(happened) if isinstance(event, events.DbtFinished))
    cut = data.draw(st.integers(6, last))
    now = happened[cut - 1].time + data.draw(st.sampled_from([1, 3_000_000_000]))
    closing = [events.RunnerDied(signal="SIGKILL", session=1, step=1, attempt=1, time=now), ended("died", 2, time=now)]
    if data.draw(st.booleans()):
        closing.insert(1, resolver_stopped(time=now))
    texts = written([*happened[:cut], *closing])
    assert_one_start_and_one_end(list(map(json.loads, texts)))
    assert texts == written([*happened[:cut], *closing]), "made again it is byte for byte the same"
    before = written(happened[:cut])
    assert texts[: len(before)] == before, "what was sent before it died"
    assert whole[: len(before)] == before, "and while it lived"
