"""What the journal holds of real invocations, against what dbt itself says of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from spanline import events
from spanline.api.run import Run
from spanline.errors import DbtRuntimeException, DbtTestFailed
from spanline.events import Event
from spanline.failures.classify import Failure
from spanline.journal.reader import Reader
from spanline.runner.recorder import Recorder
from spanline.runner.shared.writer import Writer
from tests.support.journals import journal
from tests.support.lineage_events import end_of, translated
from tests.support.project import DEADLINE, Project
from tests.support.waiting import eventually

E = TypeVar("E", bound=Event)
MICROSECOND = 1000
"""dbt's own times have no finer resolution."""


@dataclass
class Invocation:
    """A run that has ended, its events, and dbt's own results of it."""

    project: Project
    run: Run
    events: list[Event]
    results: dict[str, dict]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        (event,) = self.of(kind)
        return event

    def by_node(self, kind: type[E]) -> dict[str, E]:
        found = {event.unique_id: event for event in self.of(kind)}
        assert len(found) == len(self.of(kind)), "once for each node"
        return found

    def place(self, event: Event) -> int:
        return next(i for i, e in enumerate(self.events) if e is event)


def invoke(project: Project, *args: str, results: str = "run_results.json") -> Invocation:
    return ended(project, project.run(*args), results)


def ended(project: Project, run: Run, results: str = "run_results.json") -> Invocation:
    found = journal(run)
    written = project.artifact(results)
    (dbt,) = [event for event in found if isinstance(event, events.DbtStarted)]
    assert written["metadata"]["invocation_id"] == dbt.invocation_id
    return Invocation(project, run, found, {result["unique_id"]: result for result in written["results"]})


EPHEMERAL = "model.shop.priced"
"""dbt runs it and fires its events, but leaves it out of its results."""

BUILD = ("build", "--vars", "{break: true, fail_test: true}")


@pytest.fixture(scope="module")
def build(copy_project: Callable[[], Project]) -> Invocation:
    """A build in which a model fails, a test fails, a test warns, and models are skipped."""
    return invoke(copy_project(), *BUILD)


def test_a_record_of_dbts_says_where_it_belongs_and_is_numbered_by_its_writer(build: Invocation) -> None:
    ours = [event for event in build.events if event.writer.startswith("runner")]
    assert [event.seq for event in ours] == list(range(1, len(ours) + 1))
    assert {(event.session, event.step, event.attempt) for event in ours} == {(1, 1, 1)}
    assert [event.mono for event in ours] != []
    assert not build.of(events.Unknown)


def test_the_supervisors_events_frame_dbts(build: Invocation) -> None:
    beside = (events.ArtifactKept, events.Heartbeat)  # a heartbeat where the machine is slow
    kinds = [type(event) for event in build.events if not isinstance(event, beside)]
    assert kinds[:3] == [events.SessionStarted, events.StepStarted, events.AttemptStarted]
    assert kinds[-4:] == [events.DbtFinished, events.DbtExited, events.AttemptEnded, events.SessionEnded]


def test_dbt_started_says_what_runs(build: Invocation) -> None:
    started = build.one(events.DbtStarted)
    assert started.dbt_version == build.project.artifact("manifest.json")["metadata"]["dbt_version"]
    assert started.argv == list(BUILD)
    assert started.command == "build"


def test_dbt_configured_says_where_it_runs(build: Invocation) -> None:
    configured = build.one(events.DbtConfigured)
    assert (configured.adapter_type, configured.project, configured.profile) == ("duckdb", "shop", "shop")
    assert (configured.target, configured.threads) == ("dev", 2)
    assert configured.project_dir == str(build.project.path)
    assert configured.connection["database"] == "shop"
    assert configured.connection["schema"] == "main"
    assert configured.connection["path"] == "shop.duckdb"


def test_phases_come_in_order(build: Invocation) -> None:
    assert [event.phase for event in build.of(events.PhaseStarted)] == ["parse", "compile", "run"]


def listed(project: Project, *args: str) -> list[str]:
    done = project.dbt("-q", "ls", "--output", "json", "--output-keys", "unique_id", "--target-path", "other", *args)
    assert done.returncode == 0, done.stdout.decode()
    return sorted(json.loads(line)["unique_id"] for line in done.stdout.splitlines())


@pytest.mark.slow
def test_the_selection_is_what_dbt_ls_lists(build: Invocation) -> None:
    kinds = ("model", "seed", "snapshot", "test", "unit_test")
    types = [word for kind in kinds for word in ("--resource-type", kind)]
    assert sorted(build.one(events.Selection).unique_ids) == listed(build.project, *types, *BUILD[1:])


def test_every_result_is_dbts_own(build: Invocation) -> None:
    finished = build.by_node(events.NodeFinished)
    hooks = build.by_node(events.HookFinished)
    assert set(finished) | set(hooks) == set(build.results) | {EPHEMERAL}
    for unique_id, ours in finished.items():
        if unique_id != EPHEMERAL:
            assert_dbts_own(ours, build.results[unique_id])


def assert_dbts_own(ours: events.NodeFinished, theirs: dict[str, Any]) -> None:
    assert ours.status == theirs["status"]
    assert (ours.message or "") == (theirs["message"] or "")
    assert ours.thread == theirs["thread_id"]
    assert ours.execution_time == pytest.approx(theirs["execution_time"], abs=1e-5)
    assert (ours.failures or 0) == (theirs["failures"] or 0)
    assert ours.rows_affected == theirs["adapter_response"].get("rows_affected")
    timing = {entry["name"]: (entry["started_at"], entry["completed_at"]) for entry in theirs["timing"]}
    assert set(timing) == {name for name in ("compile", "execute") if getattr(ours, name) is not None}
    for name, pair in timing.items():
        assert tuple(_iso(moment) for moment in getattr(ours, name)) == pair


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"


def test_the_build_was_one_in_which_everything_happens(build: Invocation) -> None:
    statuses = {unique_id: result["status"] for unique_id, result in build.results.items()}
    assert statuses["model.shop.fragile"] == "error"
    assert statuses["model.shop.below"] == "skipped"
    assert statuses["test.shop.never"] == "fail"
    assert set(statuses.values()) == {"success", "error", "skipped", "fail", "pass", "warn"}


def test_a_node_starts_before_it_ends_and_its_times_lie_between(build: Invocation) -> None:
    described, started = build.by_node(events.NodeDescribed), build.by_node(events.NodeStarted)
    ran = {key: event for key, event in build.by_node(events.NodeFinished).items() if event.status != "skipped"}
    assert set(started) == set(ran)
    for unique_id, end in ran.items():
        start = started[unique_id]
        assert build.place(described[unique_id]) < build.place(start) < build.place(end)
        assert start.thread == end.thread
        assert end.compile is not None
        compiling, compiled = end.compile
        assert start.time - MICROSECOND <= compiling <= compiled <= end.time
        if end.execute is not None:
            executing, executed = end.execute
            assert compiled <= executing <= executed <= end.time


def test_skipped_nodes_never_start_and_name_the_failed_node(build: Invocation) -> None:
    skipped = {key: event.cause for key, event in build.by_node(events.NodeSkipped).items()}
    assert set(skipped) == {key for key, result in build.results.items() if result["status"] == "skipped"}
    assert set(skipped.values()) == {"model.shop.fragile"}
    assert "model.shop.bottom" in skipped
    assert not set(skipped) & set(build.by_node(events.NodeStarted))


def test_nodes_are_described_as_the_manifest_does(build: Invocation) -> None:
    described = build.by_node(events.NodeDescribed)
    manifest = build.project.artifact("manifest.json")
    known = {**manifest["nodes"], **manifest["sources"], **manifest["unit_tests"]}
    assert set(build.one(events.Selection).unique_ids) <= set(described)
    for unique_id, ours in described.items():
        theirs = known[unique_id]
        assert ours.resource_type == theirs["resource_type"]
        assert (ours.name, ours.package_name) == (theirs["name"], theirs["package_name"])
        assert ours.path == theirs["original_file_path"]
        if ours.resource_type != "unit_test":
            assert sorted(ours.depends_on) == sorted(theirs.get("depends_on", {}).get("nodes", []))
        if ours.relation is not None:
            assert ours.relation.name == theirs["relation_name"]
            assert (ours.relation.database, ours.relation.schema) == (theirs["database"], theirs["schema"])


def test_a_models_description_has_what_its_yaml_says(build: Invocation) -> None:
    totals = build.by_node(events.NodeDescribed)["model.shop.totals"]
    assert totals.materialized == "table"
    assert totals.description == "What each customer has spent"
    assert totals.columns == [
        events.Column(name="customer_id", data_type="integer", description="Who"),
        events.Column(name="cents", data_type="hugeint"),
    ]
    assert totals.tags == ["money"]
    assert totals.meta == {"owner": "Finance"}
    assert totals.owners == [events.Owner(name="Finance")]
    assert totals.relation == events.Relation("totals", '"shop"."main"."totals"', "shop", "main")
    assert sorted(totals.depends_on) == ["model.shop.customers", "model.shop.orders"]
    source = (build.project.path / "models" / "totals.sql").read_text().strip()
    assert totals.checksum == hashlib.sha256(source.encode()).hexdigest()


def test_nodes_are_described_once_and_before_any_starts(build: Invocation) -> None:
    described = build.of(events.NodeDescribed)
    assert len({event.unique_id for event in described}) == len(described)
    selected = [event for event in described if event.resource_type != "unit_test"]
    first = build.place(build.of(events.NodeStarted)[0])
    assert max(map(build.place, selected)) < first


def test_nodes_are_described_behind_all_that_they_are_made_from(build: Invocation) -> None:
    described = [event for event in build.of(events.NodeDescribed) if event.resource_type != "unit_test"]
    places = {event.unique_id: place for place, event in enumerate(described)}
    for event in described:
        assert all(places[upstream] < places[event.unique_id] for upstream in event.depends_on)


def test_a_chain_of_any_length_is_described_and_a_node_that_cannot_be_keeps_back_no_other(tmp_path: Path) -> None:
    def node(number: int) -> SimpleNamespace:
        above = [f"model.shop.m{number - 1}"] if number else []
        named = {"name": f"m{number}", "package_name": "shop", "resource_type": "model"} if number != 7 else {}
        return SimpleNamespace(unique_id=f"model.shop.m{number}", depends_on=SimpleNamespace(nodes=above), **named)

    nodes = {one.unique_id: one for one in map(node, range(5000))}
    recorder = Recorder(Writer(str(tmp_path / "journal.jsonl"), "runner"))
    recorder.describe([nodes["model.shop.m4999"]], SimpleNamespace(nodes=nodes, sources={}, groups={}))
    happened = [record.event for record in Reader(tmp_path / "journal.jsonl").read()]
    described = [event.name for event in happened if isinstance(event, events.NodeDescribed)]
    assert described == [f"m{number}" for number in range(5000) if number != 7]
    (said,) = [event for event in happened if isinstance(event, events.Log)]
    assert said.name == "RecorderError"


def test_upstream_nodes_are_described_though_they_do_not_run(build: Invocation) -> None:
    source = build.by_node(events.NodeDescribed)["source.shop.raw.raw_events"]
    assert source.relation == events.Relation("raw_events", '"shop"."main"."raw_events"', "shop", "main")


def test_tests_are_described_by_what_they_test(build: Invocation) -> None:
    tests = {event.unique_id: event.test for event in build.of(events.NodeDescribed) if event.test is not None}
    by_name = {(test.name, test.column): test for test in tests.values()}
    limits = {"warn_if": "!= 0", "error_if": "!= 0"}  # https://docs.getdbt.com/reference/resource-configs/severity
    assert by_name["accepted_values", "cents"] == events.TestInfo(
        name="accepted_values",
        kind="generic",
        severity="warn",
        column="cents",
        attached_node="model.shop.totals",
        arguments={"values": [1, 2], "quote": False},
        **limits,
    )
    assert by_name["never", None] == events.TestInfo(name="never", kind="singular", severity="error", **limits)
    assert tests["unit_test.shop.totals.totals_are_sums"].attached_node == "model.shop.totals"


def test_compiled_code_is_dbts(build: Invocation) -> None:
    compiled = build.by_node(events.NodeCompiled)
    for unique_id, event in compiled.items():
        assert event.sql == build.results[unique_id]["compiled_code"]
    assert {"model.shop.totals", "model.shop.fragile", "test.shop.never"} <= set(compiled)
    assert '"shop"."main"."customers" c join' in compiled["model.shop.totals"].sql


def test_queries_come_in_pairs_and_only_a_failed_nodes_stay_open(build: Invocation) -> None:
    begun = {event.query: event for event in build.of(events.QueryStarted)}
    ended = {event.query: event for event in build.of(events.QueryFinished)}
    assert len(begun) == len(build.of(events.QueryStarted))
    assert set(ended) <= set(begun)
    assert {begun[query].unique_id for query in set(begun) - set(ended)} == {"model.shop.fragile"}
    for query, end in ended.items():
        assert build.place(begun[query]) < build.place(end)
        assert end.unique_id == begun[query].unique_id
        assert end.elapsed >= 0


def test_a_nodes_queries_are_its_own(build: Invocation) -> None:
    creating = [e for e in build.of(events.QueryStarted) if "create  table" in e.sql and "totals__dbt_tmp" in e.sql]
    assert {event.unique_id for event in creating} == {"model.shop.totals"}
    started = build.by_node(events.NodeStarted)
    finished = build.by_node(events.NodeFinished)
    for event in build.of(events.QueryStarted):
        if event.unique_id in started:
            assert build.place(started[event.unique_id]) < build.place(event) < build.place(finished[event.unique_id])


def test_project_hooks_come_in_pairs_around_the_nodes(build: Invocation) -> None:
    started, finished = build.by_node(events.HookStarted), build.by_node(events.HookFinished)
    assert list(started) == ["operation.shop.shop-on-run-start-0", "operation.shop.shop-on-run-end-0"]
    assert list(finished) == list(started)
    first, last = list(finished.values())
    nodes = [build.place(event) for event in build.of(events.NodeStarted)]
    assert build.place(first) < min(nodes)
    assert build.place(last) > max(nodes)
    assert {event.status for event in finished.values()} == {"success"}
    asked = [event for event in build.of(events.QueryStarted) if "select 'over' as word" in event.sql]
    assert [event.unique_id for event in asked] == ["operation.shop.shop-on-run-end-0"]
    for unique_id, event in finished.items():
        assert event.execution_time == pytest.approx(build.results[unique_id]["execution_time"], abs=1e-2)


def test_test_results_have_dbts_status_and_number_of_failures(build: Invocation) -> None:
    ours = {key: (event.status, event.failures) for key, event in build.by_node(events.TestResult).items()}
    theirs = {
        key: (result["status"], result["failures"])
        for key, result in build.results.items()
        if key.startswith(("test.", "unit_test.")) and result["status"] != "skipped"
    }
    assert ours == theirs
    assert ("warn", 2) in ours.values()
    assert ours["test.shop.never"] == ("fail", 1)


def test_log_lines_speak_of_their_nodes(build: Invocation) -> None:
    lines = build.of(events.Log)
    assert {line.level for line in lines} <= {"info", "warn", "error"}
    ends = [line for line in lines if line.name == "LogModelResult" and line.unique_id == "model.shop.fragile"]
    assert [line.level for line in ends] == ["error"]
    assert "main.fragile" in ends[0].message
    assert not any("\x1b" in line.message for line in lines)
    assert not [line for line in lines if line.name == "RecorderError"]


def test_warnings_are_counted(build: Invocation) -> None:
    warned = [line for line in build.of(events.Log) if line.level == "warn"]
    assert any(line.unique_id and "accepted_values" in line.unique_id for line in warned)
    assert build.run.state.warnings == len(warned)


def test_artifacts_are_named_and_kept_in_the_run_directory(build: Invocation) -> None:
    names = {event.artifact_type: event.path for event in build.of(events.ArtifactWritten)}
    assert names["RunExecutionResult"] == str(build.project.path / "target" / "run_results.json")
    kept = build.run.directory.artifacts(1, 1, 1)
    assert {"manifest.json", "run_results.json"} <= {path.name for path in kept.iterdir()}
    for path in kept.glob("*.json"):
        assert path.read_bytes() == (build.project.path / "target" / path.name).read_bytes()


def test_dbt_finished_has_dbts_counts_and_exit_code(build: Invocation) -> None:
    finished = build.one(events.DbtFinished)
    counts = Counter(result["status"] for result in build.results.values())
    assert (finished.success, finished.exit_code, finished.exception) == (False, 1, None)
    assert finished.stats["total"] == len(build.results)
    assert finished.stats["error"] == counts["error"] + counts["fail"]
    assert finished.stats["skip"] == counts["skipped"]
    assert finished.stats["warn"] == counts["warn"]
    assert finished.stats["pass"] == counts["pass"] + counts["success"]
    assert build.one(events.DbtExited).exit_code == 1


def test_the_result_of_the_run_is_that_of_its_nodes(build: Invocation) -> None:
    result = build.run.result()
    assert (result.outcome, result.exit_code) == ("failed", 1)
    assert {node.unique_id for node in result.failed_nodes} == {"model.shop.fragile", "test.shop.never"}
    nodes = Counter(r["status"] for key, r in build.results.items() if not key.startswith("operation."))
    assert result.counts == nodes + Counter(success=1), "the ephemeral model too"


# --- events that dbt could not fill, and the end by --fail-fast


HUGE = 8_146_686_662
"""Failures of a test, of which dbt's event can hold 2³¹ - 1: it comes empty."""
HUGE_TEST = f"{{{{ config(fail_calc='count(*) + {HUGE}') }}}} select * from {{{{ ref('gate') }}}} where false"
ENDLESS = "model.shop.endless"
UNFILLED = {
    # A date is no JSON: all events of this node are empty.
    "models/endless.sql": """
{{ config(meta={'since': modules.datetime.date(2020, 1, 1)}) }}
select count(*) as n from range(1000000000) a, range(1000000000) b where a.range + b.range = -1
""",
    "models/under_endless.sql": "select * from {{ ref('endless') }}",
    "models/behind_gate.sql": "select * from {{ ref('gate') }}",
    "tests/huge.sql": HUGE_TEST,
}
NO_PYTEST = {"PYTEST_CURRENT_TEST": ""}
"""Under pytest dbt raises where it could not fill an event."""


@pytest.fixture(scope="module")
def failed_fast(copy_project: Callable[[], Project]) -> Invocation:
    """A test fails, with more failures than its event can hold, while dbt is at a model whose events are all empty."""
    project = copy_project()
    for name, text in UNFILLED.items():
        project.write(name, text)
    gate = project.path / "gate"
    selected = ("-s", "gate+", "endless+")
    run = project.start("build", "--fail-fast", *selected, environment={"GATE": str(gate), **NO_PYTEST})
    eventually(lambda: [query for query in queries_of(ENDLESS, journal(run)) if "range(" in query], "the query")
    gate.touch()
    run.wait(DEADLINE)
    return ended(project, run)


def queries_of(unique_id: str, found: Sequence[Event]) -> list[str]:
    return [e.sql for e in found if isinstance(e, events.QueryStarted) and e.unique_id == unique_id]


def test_what_an_event_could_not_hold_is_recorded_all_the_same(failed_fast: Invocation) -> None:
    (result,) = failed_fast.of(events.TestResult)
    assert (result.unique_id, result.status, result.failures) == ("test.shop.huge", "fail", HUGE)
    finished = failed_fast.by_node(events.NodeFinished)
    assert failed_fast.results["test.shop.huge"]["failures"] == HUGE
    for unique_id in ("model.shop.gate", "test.shop.huge"):
        assert_dbts_own(finished[unique_id], failed_fast.results[unique_id])


def test_a_node_all_of_whose_events_are_empty_is_recorded_as_any_other(failed_fast: Invocation) -> None:
    started, finished = (failed_fast.by_node(kind)[ENDLESS] for kind in (events.NodeStarted, events.NodeFinished))
    assert failed_fast.by_node(events.NodeDescribed)[ENDLESS].meta == {"since": "2020-01-01"}
    assert "range(1000000000) a" in failed_fast.by_node(events.NodeCompiled)[ENDLESS].sql
    assert finished.message is not None
    assert "INTERRUPT Error: Interrupted!" in finished.message
    assert finished.thread == started.thread
    assert finished.execution_time > 0
    assert finished.execute is not None
    assert started.time <= finished.execute[0] < finished.execute[1] <= finished.time
    answered = [e for e in failed_fast.of(events.QueryFinished) if e.unique_id == ENDLESS]
    assert [event.status for event in answered] == ["OK"] * (len(queries_of(ENDLESS, failed_fast.events)) - 1)
    assert all(event.elapsed > 0 for event in answered)
    assert [line.message for line in failed_fast.of(events.Log) if line.unique_id == ENDLESS]


def test_no_event_is_of_a_node_without_a_name(failed_fast: Invocation) -> None:
    known = {*failed_fast.one(events.Selection).unique_ids, *failed_fast.by_node(events.HookStarted)}
    ids = {event.unique_id for event in failed_fast.events if hasattr(event, "unique_id")}
    assert ids - {None} == known
    assert not [line for line in failed_fast.of(events.Log) if line.name == "RecorderError"]


def test_fail_fast_cancels_what_runs_beside_what_has_failed(failed_fast: Invocation) -> None:
    assert failed_fast.results[ENDLESS]["status"] == "skipped"
    assert failed_fast.by_node(events.NodeFinished)[ENDLESS].cause == "test.shop.huge"
    result = failed_fast.run.result()
    assert (result.outcome, result.exit_code) == ("failed", 1)
    assert result.counts == {"success": 1, "fail": 1, "cancelled": 1}
    (endless,) = [node for node in result.nodes if node.status == "cancelled"]
    assert (endless.unique_id, endless.cause, endless.failure) == (ENDLESS, "test.shop.huge", None)
    assert set(failed_fast.by_node(events.NodeStarted)) == {"model.shop.gate", "test.shop.huge", ENDLESS}
    told = translated(failed_fast.events)
    assert end_of(told, ENDLESS)["eventType"] == "ABORT"
    huge = end_of(told, "test.shop.huge")
    assert huge["eventType"] == "FAIL"
    assert huge["run"]["facets"]["test"]["tests"][0]["actual"] == str(HUGE)
    assert told[-1]["eventType"] == "FAIL"
    left = told[-1]["run"]["facets"]["spanline_session"]["skipped"]
    assert [node["unique_id"] for node in left] == ["model.shop.behind_gate", "model.shop.under_endless"]


def test_the_failure_and_nothing_that_it_has_cancelled_decides_the_exception(failed_fast: Invocation) -> None:
    with pytest.raises(DbtTestFailed) as raised:
        failed_fast.run.result().raise_for_failure()
    assert raised.value.failed_nodes == ("test.shop.huge",)
    assert (raised.value.category, raised.value.transient) == ("data", False)
    assert f"Got {HUGE} results" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handling", "status"),
    [
        ("error", "error"),  # dbt raises where it would have warned that it could not fill an event
        ("silence", "fail"),  # and here it says nothing of that
    ],
)
def test_no_result_is_lost_however_dbt_is_told_to_handle_its_warnings(
    project: Project, handling: str, status: str
) -> None:
    settings = (project.path / "dbt_project.yml").read_text()
    handled = "{require_all_warnings_handled_by_warn_error: true, "
    project.write("dbt_project.yml", settings.replace("flags: {", f"flags: {handled}"))
    project.write("tests/huge.sql", HUGE_TEST.replace("gate", "customers"))
    project.write("models/below_customers.sql", "select * from {{ ref('customers') }}")
    selected = ("-s", "customers", "below_customers", "test_name:huge", "test_type:singular")
    run = project.run("build", "--warn-error-options", f"{{{handling}: [Note]}}", *selected, environment=NO_PYTEST)
    invocation = ended(project, run)
    theirs = invocation.results["test.shop.huge"]
    ours = invocation.by_node(events.NodeFinished)["test.shop.huge"]
    assert (ours.status, ours.message) == (theirs["status"], theirs["message"])
    assert ours.status == status
    assert invocation.by_node(events.NodeSkipped)["model.shop.below_customers"].cause == "test.shop.huge"
    assert not [line for line in invocation.of(events.Log) if line.name == "RecorderError"]
    assert "" not in invocation.run.state.nodes


@pytest.mark.slow
def test_source_freshness_is_journalled_as_dbt_found_it(copy_project: Callable[[], Project]) -> None:
    project = copy_project()
    project.run("run-operation", "say", "--args", "{text: hello}")
    ran = invoke(project, "source", "freshness", results="sources.json")
    ours = ran.by_node(events.FreshnessResult)
    assert set(ours) == {"source.shop.raw.raw_events"} == set(ran.one(events.Selection).unique_ids)
    theirs = ran.results["source.shop.raw.raw_events"]
    result = ours["source.shop.raw.raw_events"]
    assert result.status == theirs["status"] == "error"
    assert _moment(result.max_loaded_at) == _moment(theirs["max_loaded_at"]) == _moment("2020-01-03T18:00:00Z")
    assert _moment(result.snapshotted_at) == _moment(theirs["snapshotted_at"])
    assert result.age == pytest.approx(theirs["max_loaded_at_time_ago_in_s"])
    assert ran.one(events.DbtStarted).command == "source freshness"
    assert ran.run.result().exit_code == 1
    (stale,) = ran.run.result().failed_nodes
    assert (stale.status, stale.failure) == ("error", Failure("data", rule="dbt.stale"))
    assert theirs["max_loaded_at_time_ago_in_s"] > 1000 * 86_400
    days = f"{theirs['max_loaded_at_time_ago_in_s'] / 86_400:.1f}"
    said = (
        f"stale: last loaded {days} days ago, error_after is 1000 days (max_loaded_at {result.max_loaded_at}, "
        f"snapshotted_at {result.snapshotted_at}, warn_after 1 day)"
    )
    assert stale.message == said
    assert said in project.spanline("show", ran.run.id).stdout.decode()
    with pytest.raises(DbtRuntimeException) as raised:
        ran.run.result().raise_for_failure()
    assert str(raised.value).startswith(f"source.shop.raw.raw_events (models/shop.yml): {said}")
    facets = end_of(translated(ran.events), "source.shop.raw.raw_events")["run"]["facets"]
    assert facets["errorMessage"]["message"] == said


def _moment(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


DAYS = [(f"2020-01-0{day}T00:00:00+00:00", f"2020-01-0{day + 1}T00:00:00+00:00") for day in (1, 2, 3)]


def test_batches_of_a_microbatch_model_are_journalled(copy_project: Callable[[], Project]) -> None:
    project = copy_project()
    period = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04")
    ran = invoke(project, "run", "--select", "daily", "--vars", "{microbatch: true}", *period)
    batches = ran.of(events.BatchFinished)
    assert {(event.unique_id, event.status, event.batches) for event in batches} == {("model.shop.daily", "success", 3)}
    assert sorted(event.batch for event in batches) == [1, 2, 3]
    finished = ran.by_node(events.NodeFinished)["model.shop.daily"]
    assert finished.batches == events.Batches(successful=DAYS)
    theirs = ran.results["model.shop.daily"]["batch_results"]
    assert [(start[:10], end[:10]) for start, end in theirs["successful"]] == [(a[:10], b[:10]) for a, b in DAYS]
    assert ran.by_node(events.NodeStarted).keys() == {"model.shop.daily"}, "the model starts once, whatever its batches"
    assert ran.by_node(events.NodeCompiled).keys() == {"model.shop.daily"}
    assert finished.execution_time == pytest.approx(ran.results["model.shop.daily"]["execution_time"], abs=1e-5)
    assert ran.run.result().success


def test_a_parse_error_is_an_exception_of_dbts_and_nothing_was_selected(project: Project) -> None:
    project.write("models/bad.sql", "select * from {{ ref('nowhere') }}")
    found = journal(project.run("build"))
    (finished,) = [event for event in found if isinstance(event, events.DbtFinished)]
    assert finished.exit_code == 2
    assert finished.exception is not None
    assert "nowhere" in finished.exception
    assert not [event for event in found if isinstance(event, (events.Selection, events.NodeStarted))]


SEMANTICS = """
models:
  - name: time_spine
    time_spine: {standard_granularity_column: date_day}
    columns: [{name: date_day, granularity: day}]
semantic_models:
  - name: payments
    model: ref('orders')
    defaults: {agg_time_dimension: paid_at}
    entities: [{name: id, type: primary}]
    dimensions: [{name: paid_at, type: time, type_params: {time_granularity: day}}]
    measures: [{name: total, agg: sum, expr: cents}, {name: total, agg: max, expr: cents}]
metrics:
  - {name: total, label: Total, type: simple, type_params: {measure: total}}
"""


def test_a_semantic_manifest_that_is_invalid_says_what_is_wrong_with_it(project: Project) -> None:
    project.write("models/time_spine.sql", "select date '2020-01-01' as date_day")
    project.write("models/semantics.yml", SEMANTICS)
    result = project.run("parse").result()
    # https://github.com/dbt-labs/dbt-semantic-interfaces words the second and third line.
    assert result.error is not None
    first, *reasons = result.error.splitlines()
    assert first == "dbt parse: Semantic Manifest validation failed."
    assert "In semantic model `payments`, can't use name `total` for a measure" in "".join(reasons)
    assert len(reasons) == 2
    assert result.failure == Failure("parsing", rule="dbt.parsing")


def statuses_of(found: Sequence[Event]) -> dict[str, str]:
    return {event.unique_id: event.status for event in found if isinstance(event, events.NodeFinished)}


def test_a_selection_is_the_part_that_was_asked_for(project: Project) -> None:
    run = project.run("build", "--select", "+customers", "--exclude-resource-type", "unit_test")
    (selection,) = [event for event in journal(run) if isinstance(event, events.Selection)]
    assert selection.unique_ids == ["model.shop.customers", "seed.shop.raw_customers"]
    assert statuses_of(journal(run)) == dict.fromkeys(selection.unique_ids, "success")


def test_an_operation_that_fails_is_a_failed_run_with_its_message(project: Project) -> None:
    result = project.run("run-operation", "boom").result()
    assert result.outcome == "failed"
    assert result.error is not None
    assert "boom" in result.error
