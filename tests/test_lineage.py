"""Every OpenLineage event that a run means, against what dbt itself says of that run and what the specification asks.

Journals are recorded from real dbt, or written by hand for what DuckDB, or one invocation, doesn't do.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from spanline import events
from spanline.events import Event
from spanline.home import RunDirectory
from spanline.journal import Reader
from spanline.lineage.parent import lineage_parent
from spanline.replay import close_abandoned

from .conftest import FILES, Project
from .lineage_events import (
    RUN_ID,
    Recording,
    assert_one_start_and_one_end,
    at,
    built,
    closed,
    compiled,
    described,
    end_of,
    ended,
    ends,
    finished,
    in_order,
    invoked,
    opened,
    record,
    relation,
    resolved,
    resolver_started,
    session,
    started,
    starts,
    translated,
    unique_id_of,
    with_columns,
)

NAMESPACE = "duckdb://shop.duckdb"

MORE = {
    "models/guess.py": "def model(dbt, session):\n    dbt.ref('orders')\n    return session.sql('select 1 as id')\n",
    "models/chosen.sql": """
with source as (select * from {{ ref('orders') }}),
ranked as (select *, row_number() over (partition by customer_id order by cents desc) as place from source),
final as (select id, customer_id as customer, cents / 100 as amount, place from ranked where cents > 0)
select * from final
""",
    "models/lineage.yml": """
groups: [{name: finance, owner: {name: The Finance Team, email: finance@example.com}}]
models:
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
    owner: {name: Ann, email: ann@example.com}
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
    assert parameters(good[0])["argv"] == "-q run-operation say --args '{text: hello}'"
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


def test_a_hook_is_a_run_with_its_statement(build: Recording, told: list[dict]) -> None:
    (hook,) = [h for h in build.nodes.values() if h["name"] == "shop-on-run-end-0"]
    event = end_of(told, hook["unique_id"])
    assert event["eventType"] == "COMPLETE"
    assert hook["raw_code"] == "select 'over' as word"
    assert event["job"]["facets"]["sql"]["query"].endswith(hook["raw_code"]), "behind dbt's comment"
    assert event["job"]["facets"]["jobType"]["jobType"] == "OPERATION"


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
        assert {dataset["name"] for dataset in event["inputs"]} == read_by(unique_id, nodes)
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
    inputs = {(d["name"].removeprefix("shop.main."), name) for d in event["inputs"] for name, _ in fields(d)}
    assert {edge[:2] for found in edges(dataset).values() for edge in found} <= inputs, "else Marquez drops it"
    assert "extractionError" not in event["run"]["facets"]


def test_only_ends_have_column_lineage_and_code(told: list[dict]) -> None:
    for event in told:
        if event.get("eventType") == "START":
            assert not {"sql", "sourceCode"} & set(event["job"]["facets"])
            assert not [d for d in event["outputs"] if "columnLineage" in d["facets"]]


def test_a_select_of_everything_from_an_undocumented_source_says_that_columns_may_be_missing(told: list[dict]) -> None:
    happenings = end_of(told, "model.shop.happenings")
    assert "schema" not in happenings["outputs"][0]["facets"]
    (error,) = happenings["run"]["facets"]["extractionError"]["errors"]
    assert error["task"] == "model.shop.happenings"
    assert "columns nobody knows" in error["errorMessage"]


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
    assert totals["job"]["facets"]["ownership"]["owners"][0]["name"] == "Finance", "by its meta"


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
        (assertion,) = said[dataset]["dataQualityAssertions"]["assertions"]
        assert assertion["assertion"] == kind
        assert assertion["name"] == name
        assert assertion["success"] is (failing == 0)
        assert assertion["severity"] == severity
        assert assertion.get("column") == column
        assert assertion.get("actual", "0") == str(failing)


def test_arguments_of_a_test_are_told(build: Recording, told: list[dict]) -> None:
    (unique_id,) = [key for key, node in build.nodes.items() if node["name"].startswith("accepted_values")]
    (execution,) = end_of(told, unique_id)["run"]["facets"]["test"]["tests"]
    assert execution["params"] == {"values": [1, 2], "quote": False}


def test_a_unit_test_is_a_test_of_its_model(told: list[dict]) -> None:
    event = end_of(told, "unit_test.shop.totals.totals_are_sums")
    (execution,) = event["run"]["facets"]["test"]["tests"]
    assert (execution["type"], execution["status"]) == ("unit_test", "pass")
    assert event["job"]["facets"]["jobType"]["jobType"] == "UNIT_TEST"
    assert not [d for d in event["inputs"] if d.get("inputFacets")], "it says nothing of the table"


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
    assert facets["ownership"]["owners"] == [{"name": exposure["owner"]["name"], "type": "OWNER"}]
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


@pytest.mark.xfail(strict=True, reason="the journal doesn't say which command a `dbt retry` by hand repeats")
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
    parent = "airflow/nightly.dbt/01a21195-106f-709a-b5e2-0b1dc163f5ec"
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
    assert two["run"]["facets"]["parent"]["run"]["runId"] == parent[-36:], "each session has its own"
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


@pytest.mark.xfail(strict=True, reason="a parent is journalled as one text, `namespace/job/run id`: the job's is lost")
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
