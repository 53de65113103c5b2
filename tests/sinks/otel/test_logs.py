"""Logs: a record for each result, warning and error, on the span that it belongs to; and the same as JSON lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource

from spanline import events
from spanline.api.run import Run
from spanline.events import Event
from spanline.home import home
from spanline.journal import ids
from spanline.journal.state import RunState
from spanline.results import conventions
from spanline.results.log_lines import LogLine, LogLines, json_line, service_name
from spanline.sinks.otel.logs import LogTranslator
from spanline.sinks.otel.spans import Translator
from spanline.sinks.otel.sql import shown
from spanline.supervisor.replay import replay
from tests.support.journals import journal, session_started
from tests.support.project import DEADLINE, SPANLINE, Project, last_run
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INFO, WARN, ERROR = 9, 13, 17
"""https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber"""
RESULTS = {
    "seed.shop.raw_orders": (INFO, "success"),
    "seed.shop.raw_customers": (INFO, "success"),
    "model.shop.priced": (INFO, "success"),
    "model.shop.orders": (INFO, "success"),
    "model.shop.customers": (INFO, "success"),
    "model.shop.happenings": (INFO, "success"),
    "model.shop.totals": (INFO, "success"),
    "model.shop.fragile": (ERROR, "error"),
    "model.shop.below": (WARN, "skipped"),
    "model.shop.bottom": (WARN, "skipped"),
    "snapshot.shop.customers_history": (INFO, "success"),
    "unit_test.shop.totals.totals_are_sums": (INFO, "pass"),
    "test.shop.never": (ERROR, "fail"),
    "test.shop.not_null_fragile_id": (WARN, "skipped"),
    "test.shop.not_null_totals_customer_id": (INFO, "pass"),
    "test.shop.unique_totals_customer_id": (INFO, "pass"),
    "test.shop.accepted_values_totals_cents__False__1__2": (WARN, "warn"),
    "operation.shop.shop-on-run-start-0": (INFO, "success"),
    "operation.shop.shop-on-run-end-0": (INFO, "success"),
}
"""How a build ends in which one model and one test fail."""


def records(receiver: Receiver) -> list:  # type: ignore[type-arg]
    """Log records that were acknowledged, as protobuf messages, in the order of their receipt."""
    return [record for request in requests(receiver) for record in _records(request)]


def requests(receiver: Receiver) -> list:  # type: ignore[type-arg]
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return [ExportLogsServiceRequest.FromString(request.body) for request in receiver.acknowledged("/v1/logs")]


def _records(request: object) -> list:  # type: ignore[type-arg]
    return [r for resource in request.resource_logs for scope in resource.scope_logs for r in scope.log_records]  # type: ignore[attr-defined]


def attributes(message: object) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in message.attributes}  # type: ignore[attr-defined]


def body(record: object) -> str:
    return record.body.string_value  # type: ignore[attr-defined]


def without_hash(unique_id: object) -> str:
    """dbt ends the ids of generic tests with a hash of their arguments."""
    return re.sub(r"\.[0-9a-f]{10}$", "", str(unique_id))


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines_of(happened: Iterable[Event], *, printed: bool = False) -> list[LogLine]:
    state, make, found = RunState(), LogLines(printed=printed), []
    for event in happened:
        state.apply(event)
        found += make(event, state)
    return found


@dataclass
class Told:
    run: Run
    done: subprocess.CompletedProcess[bytes]
    receiver: Receiver
    records: list  # type: ignore[type-arg]


@pytest.fixture(scope="module")
def build(copy_project: Callable[[], Project], start_receiver: Callable[[], Receiver]) -> Told:
    """A build in which things fail, told to a receiver and on standard output."""
    project, receiver = copy_project(), start_receiver()
    done = project.spanline(
        "--output",
        "log-json",
        "dbt",
        "build",
        "--vars",
        "{break: true, fail_test: true}",
        **receiver.otel_environment,
        SPANLINE_FLUSH_TIMEOUT="20",
    )
    assert done.returncode == 1, done.stderr.decode()
    return Told(last_run(project), done, receiver, records(receiver))


def records_of(happened: Iterable[Event], **environment: str) -> list:  # type: ignore[type-arg]
    """What is sent of a journal, as protobuf messages."""
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

    state, translate, found = RunState(), LogTranslator(Resource({}), shown(environment)), []
    for event in happened:
        state.apply(event)
        found += [message.payload for message in translate(event, state)]
    return _records(encode_logs(found))


# --- records


def test_every_node_and_hook_has_one_record_of_its_result(build: Told) -> None:
    told = [(attributes(r), r.severity_number) for r in build.records if "node_outcome" in attributes(r)]
    found = [(without_hash(a["unique_id"]), (severity, a["node_outcome"])) for a, severity in told]
    assert len(found) == len(RESULTS)
    assert dict(found) == RESULTS
    spans = {span.span_id: span.name for span in build.receiver.spans}
    for record in build.records:
        if "node_outcome" in attributes(record):
            assert record.body.string_value.partition(": ")[0] == spans[record.span_id], "it is called as its span is"


def test_nothing_is_said_twice(build: Told) -> None:
    """dbt says of each failed node four times that it has failed."""
    others = [record for record in build.records if "node_outcome" not in attributes(record)]
    assert [attributes(record).get("spanline.outcome") for record in others] == ["failed"]


def test_a_record_is_on_the_span_of_its_node_else_on_the_sessions(build: Told) -> None:
    spans = build.receiver.spans
    (root,) = [span for span in spans if not span.parent_span_id]
    of_nodes = {attributes(s)["unique_id"]: s.span_id for s in spans if "node_outcome" in attributes(s)}
    assert {record.trace_id for record in build.records} == {root.trace_id}
    for record in build.records:
        unique_id = attributes(record).get("unique_id")
        assert record.span_id == of_nodes.get(unique_id, root.span_id), unique_id
    assert {record.flags for record in build.records} == {1}, (
        "sampled: https://www.w3.org/TR/trace-context/#sampled-flag"
    )


def test_a_failure_says_what_it_is_and_where(build: Told) -> None:
    found = {without_hash(attributes(r).get("unique_id")): r for r in build.records}
    never, fragile, below = (found[name] for name in ("test.shop.never", "model.shop.fragile", "model.shop.below"))
    assert re.fullmatch(r"test never: fail in \d+\.\d\d s: Got 1 result, configured to fail if != 0", body(never))
    assert attributes(never)["error.type"] == "data"
    assert attributes(never)["test_failures"] == 1
    assert attributes(never)["code.file.path"] == "tests/never.sql"
    assert re.match(r"model fragile: error in \d+\.\d\d s: Runtime Error in model fragile", body(fragile))
    assert "\n" not in body(fragile)
    assert attributes(fragile)["error.type"] == "not_found"
    assert 'Referenced column "no_such_column" not found' in str(attributes(fragile)["error.message"])
    assert attributes(fragile)["node_type"] == "model"
    assert body(below) == "model below: skipped, because model.shop.fragile failed"
    assert attributes(below)["upstream_unique_id"] == "model.shop.fragile"


def test_records_have_the_times_and_the_ids_of_the_run(build: Told) -> None:
    happened = journal(build.run)
    ended = {e.unique_id: e.time for e in happened if isinstance(e, (events.NodeFinished, events.HookFinished))}
    (invocation,) = {e.invocation_id for e in happened if isinstance(e, events.DbtStarted)}
    for record in build.records:
        found = attributes(record)
        assert found["spanline.run.id"] == build.run.id
        assert found["invocation_id"] == invocation
        assert (found["dbt.project"], found["dbt.target"]) == ("shop", "dev")
        if found.get("node_outcome") not in (None, "skipped"):
            assert record.time_unix_nano == record.observed_time_unix_nano == ended[found["unique_id"]]


def test_the_last_record_is_that_of_the_run(build: Told) -> None:
    last = build.records[-1]
    assert last.severity_number == ERROR
    assert last.severity_text == "ERROR"
    assert re.fullmatch(
        r"failed: 17 nodes in \d+(\.\d+)? s \(1 error, 1 fail, 3 pass, 3 skipped, 8 success, 1 warn\)", body(last)
    )
    found = attributes(last)
    assert (found["spanline.outcome"], found["process.exit.code"]) == ("failed", 1)
    assert (found["dbt.nodes.success"], found["dbt.nodes.skipped"]) == (8, 3)


def test_keys_are_those_of_the_conventions_and_documented(build: Told) -> None:
    known = {value for value in vars(conventions).values() if isinstance(value, str)}
    documented = set(re.findall(r"`([\w.]+)`", (Path(__file__).parents[3] / "docs" / "logs.md").read_text()))
    for record in build.records:
        keys = {key for key in attributes(record) if not key.startswith(conventions.NODES)}
        assert keys <= known
        assert keys <= documented


def test_the_resource_names_the_service(build: Told) -> None:
    named = {
        str(attributes(r.resource)["service.name"])
        for request in requests(build.receiver)
        for r in request.resource_logs
    }
    assert named == {"dbt"}


def test_a_replay_sends_the_same_bytes(build: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in receiver.otel_environment.items():
        monkeypatch.setenv(name, value)
    assert replay(build.run.directory, everything=True, timeout=20)["otel_logs"].complete
    again = [record.SerializeToString() for record in records(receiver)]
    assert again == [record.SerializeToString() for record in build.records]


def test_a_good_run_has_nothing_above_info(project: Project, receiver: Receiver) -> None:
    done = project.spanline("dbt", "run", "-s", "customers", **receiver.otel_environment)
    assert done.returncode == 0
    found = records(receiver)
    assert {record.severity_number for record in found} == {INFO}
    assert Counter(attributes(r).get("node_type") for r in found) == {"model": 1, None: 3}  # two hooks and the run
    assert attributes(found[-1])["spanline.outcome"] == "success"
    assert not [record for record in found if "error.type" in attributes(record)]


@pytest.mark.slow
def test_dbts_own_warnings_and_the_callers_trace(project: Project, receiver: Receiver) -> None:
    text = (project.path / "dbt_project.yml").read_text()
    project.write("dbt_project.yml", text.replace("  shop:\n", "  shop:\n    nowhere: {+tags: [x]}\n", 1))
    done = project.spanline(
        "dbt", "run", "-s", "customers", **receiver.otel_environment, TRACEPARENT=f"00-{TRACE}-{PARENT}-01"
    )
    assert done.returncode == 0, done.stdout.decode()
    found = records(receiver)
    (warning,) = [record for record in found if record.severity_number == WARN]
    assert attributes(warning)["dbt.event.name"] == "UnusedResourceConfigPath"
    assert "models.shop.nowhere" in body(warning)
    (root,) = [span for span in receiver.spans if span.name == "dbt run shop"]
    assert warning.span_id == root.span_id
    assert {record.trace_id.hex() for record in found} == {TRACE}


def test_a_project_that_cannot_be_read_is_an_error(project: Project, receiver: Receiver) -> None:
    project.write("models/bad.sql", "select * from {{ ref('nothing') }}")
    assert project.spanline("dbt", "build", **receiver.otel_environment).returncode == 2
    said, end = records(receiver)
    assert {said.severity_number, end.severity_number} == {ERROR}
    assert attributes(said)["dbt.event.name"] == "MainEncounteredError"
    assert attributes(said)["error.type"] == attributes(end)["error.type"] == "compilation"
    assert "depends on a node named 'nothing'" in body(said)


@pytest.mark.slow
def test_a_stale_source_says_how_stale(project: Project, receiver: Receiver) -> None:
    assert project.spanline("dbt", "run", "-s", "customers").returncode == 0  # its hook makes the source
    assert project.spanline("dbt", "source", "freshness", **receiver.otel_environment).returncode == 1
    (stale,) = [r for r in records(receiver) if attributes(r).get("node_type") == "source"]
    assert stale.severity_number == ERROR
    assert "error_after is 1000 days (max_loaded_at 2020-01-03T18:00:00+00:00, snapshotted_at " in body(stale)
    assert attributes(stale)["error.type"] == "data"


@pytest.mark.parametrize(
    ("variables", "told"),
    [({}, True), ({"OTEL_LOGS_EXPORTER": "none"}, False), ({"OTEL_SDK_DISABLED": "true"}, False)],
)
@pytest.mark.slow
def test_logs_are_on_where_the_sdks_variables_say_so(
    project: Project, receiver: Receiver, variables: dict[str, str], told: bool
) -> None:
    project.spanline("dbt", "run", "-s", "customers", **receiver.otel_environment, **variables)
    assert bool(records(receiver)) is told


def test_the_sdks_limits_hold(build: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in receiver.otel_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7")
    replay(build.run.directory, everything=True, timeout=20)
    assert attributes(records(receiver)[-1])["spanline.outcome"] == "failed"
    assert {len(str(attributes(r)["spanline.run.id"])) for r in records(receiver)} == {7}


# --- what happens to runs without dbt's doing


def begun() -> list[Event]:
    return [
        session_started(RUN_ID, session=1, time=1_000_000_000),
        events.AttemptStarted(argv=["build"], pid=1, python="p", session=1, step=1, attempt=1, time=1_500_000_000),
        events.DbtConfigured(adapter_type="postgres", adapter_version="1", project="shop"),
        events.NodeDescribed(unique_id="model.shop.a", resource_type="model", name="a", package_name="shop"),
        events.NodeStarted(unique_id="model.shop.a", thread="t", session=1, step=1, attempt=1, time=2_000_000_000),
    ]


def test_a_node_that_was_cut_short_has_a_result_too() -> None:
    died = events.RunnerDied(signal="SIGKILL", session=1, step=1, attempt=1, time=3_000_000_000)
    ended = events.SessionEnded(outcome="died", exit_code=2, session=1, time=4_000_000_000)
    node, runner, run = lines_of([*begun(), died, ended])
    assert (node.severity, node.body) == ("warn", "model a: interrupted")
    assert node.span_id == ids.span_id(RUN_ID, 1, 1, 1, "model.shop.a")
    assert (runner.severity, runner.body) == ("error", "the process that ran dbt died (SIGKILL)")
    assert (run.severity, run.body) == ("error", "died: 1 node in 3.00 s (1 interrupted)")
    assert runner.span_id == run.span_id == ids.span_id(RUN_ID, 1, "session")


def test_a_cancel_is_a_warning_and_a_late_error_is_none() -> None:
    cancel = events.CancelRequested(by="SIGINT", session=1, time=2_500_000_000)
    late = events.NodeFinished(
        unique_id="model.shop.a", status="error", message="interrupted", session=1, step=1, attempt=1
    )
    ended = events.SessionEnded(outcome="cancelled", exit_code=2, session=1, time=4_000_000_000)
    asked, node, run = lines_of([*begun(), cancel, late, ended])
    assert asked.body == "the run is being cancelled, as asked by SIGINT"
    assert node.attributes["node_outcome"] == "cancelled"
    assert run.body.startswith("cancelled: 1 node in ")
    assert {line.severity for line in (asked, node, run)} == {"warn"}


def test_a_run_that_a_limit_ended_is_an_error() -> None:
    limit = events.CancelRequested(
        by="time limit", reason="the run took longer than 2 s", session=1, time=2_500_000_000
    )
    ended = events.SessionEnded(outcome="cancelled", exit_code=2, session=1, time=4_000_000_000)
    asked, node, run = lines_of([*begun(), limit, ended])
    assert (asked.severity, node.severity, run.severity) == ("warn", "warn", "error")
    assert (run.attributes["spanline.outcome"], run.attributes["error.type"]) == ("timed out", "timeout")
    assert run.attributes["error.message"] == "the run took longer than 2 s, and was cancelled"


def test_each_attempt_has_its_own_results_and_spans() -> None:
    failed = events.NodeFinished(
        unique_id="model.shop.a", status="error", message="deadlock detected", session=1, step=1, attempt=1
    )
    again = events.RetryScheduled(delay=5.0, reason="model.shop.a: deadlock detected", session=1, step=1, attempt=1)
    begins = events.AttemptStarted(argv=["retry"], pid=2, python="p", session=1, step=1, attempt=2)
    starts = events.NodeStarted(unique_id="model.shop.a", thread="t", session=1, step=1, attempt=2)
    good = events.NodeFinished(unique_id="model.shop.a", status="success", session=1, step=1, attempt=2)
    first, retry, second = lines_of([*begun(), failed, again, begins, starts, good])
    assert (first.severity, first.attributes["error.type"]) == ("error", "concurrency")
    assert retry.severity == "warn"
    assert retry.body == "attempt 1 failed and another begins in 5.00 s: model.shop.a: deadlock detected"
    assert (second.severity, second.body) == ("info", "model a: success")
    assert second.span_id == ids.span_id(RUN_ID, 1, 1, 2, "model.shop.a") != first.span_id


@pytest.mark.parametrize("sampler", [None, "always_on", "always_off", "traceidratio", "parentbased_always_off"])
@pytest.mark.parametrize("flags", [None, "00", "01"])
def test_a_record_says_that_its_trace_is_sampled_where_spans_are_sent(
    sampler: str | None, flags: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    for digit in "07f":
        parent = f"00-{'a' * 16}{digit * 16}-{PARENT}-{flags}" if flags else None
        happened = [
            session_started(RUN_ID, session=1, time=1_000_000_000, traceparent=parent),
            *begun()[1:],
            events.SessionEnded(outcome="success", exit_code=0, session=1, time=4_000_000_000),
        ]
        spans, state = Translator(Resource({}), shown({})), RunState()
        sent = []
        for event in happened:
            state.apply(event)
            sent += list(spans(event, state))
        assert {record.flags for record in records_of(happened)} == {1 if sent else 0}


SECRET_SQL = "Runtime Error\n  Catalog Error: Table with name t does not exist!\n  LINE 3: select 'SECRET' from t"


@pytest.mark.parametrize("setting", ["masked", "off"])
def test_where_sql_may_not_be_seen_no_record_quotes_it(setting: str) -> None:
    place = {"session": 1, "step": 1, "attempt": 1}
    happened = [
        *begun(),
        events.Log(level="warn", name="JinjaLogWarning", message="SECRET", **place),
        events.Log(level="error", name="GenericExceptionOnRun", message=SECRET_SQL, **place),
        events.NodeFinished(unique_id="model.shop.a", status="error", message=SECRET_SQL, **place),
        events.NodeStarted(unique_id="test.shop.b", thread="t", **place),
        events.NodeFinished(unique_id="test.shop.b", status="warn", message="SECRET", **place),
        events.RunnerFailed(exception=f"ValueError: {SECRET_SQL}", traceback=f"Traceback …\n{SECRET_SQL}", **place),
        events.SessionEnded(outcome="failed", exit_code=1, session=1, time=9_000_000_000),
    ]
    found = records_of(happened, SPANLINE_TRACE_SQL=setting)
    assert len(found) == len(records_of(happened)) == 6
    assert not [record for record in found if "SECRET" in str(record)]
    whole = records_of(happened)
    assert len([record for record in whole if "SECRET" in str(record)]) >= 5
    (node,) = [record for record in found if attributes(record).get("node_outcome") == "error"]
    assert body(node) == "model a: error: not_found (sql.not_found)"
    assert attributes(node)["error.message"] == "not_found (sql.not_found)"
    assert body(found[0]) == "JinjaLogWarning: unknown (no rule)"
    assert attributes(found[-1])["error.type"] == attributes(whole[-1])["error.type"] == "not_found"


def test_a_cancel_is_told_whatever_may_be_seen_of_sql() -> None:
    cancel = events.CancelRequested(by="SIGINT", reason="enough", session=1, time=2_500_000_000)
    ended = events.SessionEnded(outcome="cancelled", exit_code=2, session=1, time=4_000_000_000)
    asked, *_, run = records_of([*begun(), cancel, ended], SPANLINE_TRACE_SQL="off")
    assert body(asked).endswith("as asked by SIGINT: enough")
    assert attributes(run)["error.message"] == "the run was cancelled (SIGINT)"
    assert attributes(run)["error.type"] == "cancelled"


def test_an_exception_of_the_runner_and_a_kill() -> None:
    failed = events.RunnerFailed(exception="ValueError: no such node", traceback="Traceback …", session=1)
    killed = events.RunnerKilled(reason="the grace period is over", session=1)
    exception, kill = lines_of([*begun(), failed, killed])
    assert (exception.severity, exception.body) == ("error", "dbt ended with ValueError: no such node")
    assert exception.attributes["exception.stacktrace"] == "Traceback …"
    assert exception.attributes["exception.type"] == "ValueError"
    assert (kill.severity, kill.body) == ("warn", "the process that ran dbt was killed: the grace period is over")


def test_a_long_stack_trace_keeps_its_end_where_the_error_is_named() -> None:
    trace = (
        "Traceback (most recent call last):\n" + '  File "x.py", line 1, in f\n' * 1000 + "ValueError: no such node\n"
    )
    failed = events.RunnerFailed(exception="ValueError: no such node", traceback=trace, session=1)
    (line,) = lines_of([*begun(), failed])
    told = str(line.attributes["exception.stacktrace"])
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith("\nValueError: no such node\n")
    assert 8000 < len(told) <= 8192


def test_a_run_that_could_not_read_its_project_is_of_that_project() -> None:
    started = session_started(RUN_ID, session=1, time=1, project="store")
    (run,) = lines_of([started, events.SessionEnded(outcome="failed", exit_code=2, session=1, time=2)])
    assert run.attributes["dbt.project"] == "store"


def test_long_messages_are_cut() -> None:
    long = "Database Error in model a\n" + "x" * 1_000_000
    failed = events.NodeFinished(unique_id="model.shop.a", status="error", message=long, session=1, step=1, attempt=1)
    said = events.Log(level="warn", name="Note", message=long, session=1, step=1, attempt=1)
    node, warning = lines_of([*begun(), failed, said])
    assert len(node.body) < 500
    assert len(str(node.attributes["error.message"])) == len(warning.body) == 8192


# --- JSON lines


def test_json_lines_are_the_records(build: Told) -> None:
    """The same in two forms, but for the summary, which has room on standard output."""
    found = lines(build.done)
    levels = {"info": INFO, "warn": WARN, "error": ERROR}
    for line, record in zip(found, build.records, strict=True):
        assert (line["trace.id"], line["span.id"]) == (record.trace_id.hex(), record.span_id.hex())
        assert levels[line["log.level"]] == record.severity_number
        assert {key: line[key] for key in attributes(record)} == attributes(record)
        if "spanline.outcome" not in line:
            assert line["message"] == body(record)


def test_a_json_line_begins_as_ecs_says(build: Told) -> None:
    """https://github.com/elastic/ecs-logging/tree/main/spec: the order of the first three, then ecs.version."""
    for line in lines(build.done):
        assert list(line)[:7] == [
            "@timestamp", "log.level", "message", "ecs.version", "service.name", "trace.id", "span.id",
        ]  # fmt: skip
        assert line["service.name"] == "dbt"
        assert not [value for value in line.values() if isinstance(value, (dict, list))]


def test_timestamps_are_in_utc_with_microseconds() -> None:
    line = LogLine(time=1_700_000_000_123_456_789, severity="info", body="", attributes={}, trace_id=1, span_id=2)
    written = json.loads(json_line(line, "dbt"))
    assert written["@timestamp"] == "2023-11-14T22:13:20.123456Z"
    assert (written["trace.id"], written["span.id"]) == ("0" * 31 + "1", "0" * 15 + "2")


def test_timestamps_are_those_of_the_events(build: Told) -> None:
    for line, record in zip(lines(build.done), build.records, strict=True):
        at = datetime.fromtimestamp(record.time_unix_nano // 1000 / 1e6, timezone.utc)
        assert abs(datetime.fromisoformat(line["@timestamp"].replace("Z", "+00:00")) - at).total_seconds() < 1e-5


def test_the_summary_is_the_last_line(build: Told) -> None:
    *_, last = lines(build.done)
    assert last["message"].startswith("failed: 17 nodes in ")
    assert "error model.shop.fragile (models/fragile.sql)" in last["message"]
    assert f"run {build.run.id}" in last["message"]
    assert build.done.stderr == b""


def test_what_macros_print_is_a_line(project: Project) -> None:
    done = project.spanline("--output", "log-json", "dbt", "run-operation", "say", "--args", "{text: hello}")
    assert done.returncode == 0
    said, end = lines(done)
    assert (said["message"], said["log.level"], said["dbt.event.name"]) == ("hello", "info", "JinjaLogInfo")
    assert end["spanline.outcome"] == "success"


def test_how_dbt_is_used_wrongly_is_said_on_standard_error(project: Project) -> None:
    done = project.spanline("--output", "log-json", "dbt", "build", "--no-such-option")
    assert done.returncode == 2
    assert b"No such option" in done.stderr
    refused, end = lines(done)
    assert refused["message"].startswith("dbt ended with Usage Error: No such option '--no-such-option'")
    assert (end["log.level"], end["process.exit.code"], end["error.type"]) == ("error", 2, "parsing")


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_whole_lines(project: Project) -> None:
    """Whoever shares the pipe may have made it so: Node.js does. The lines are four times what it holds."""
    project.write(
        "macros/chatter.sql",
        "{% macro chatter() %}{% for i in range(40) %}{% do log('x' * 6000 ~ i, info=true) %}{% endfor %}"
        "{% endmacro %}",
    )
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    arguments = [SPANLINE, "--output", "log-json", "dbt", "run-operation", "chatter"]
    with subprocess.Popen(arguments, cwd=project.path, stdin=subprocess.DEVNULL, stdout=writing) as process:
        try:
            eventually(lambda: last_run_has_ended(project), "the end of the run, of which nothing is read yet")
            assert process.poll() is None, "it waits"
            os.close(writing)
            with open(reading, "rb") as pipe:
                found = [json.loads(line) for line in pipe.read().splitlines()]
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
    said = [line["message"] for line in found if line.get("dbt.event.name") == "JinjaLogInfo"]
    assert said == ["x" * 6000 + str(number) for number in range(40)]
    assert found[-1]["spanline.outcome"] == "success"


def last_run_has_ended(project: Project) -> bool:
    return any(isinstance(event, events.SessionEnded) for d in home.runs(project.home) for event in journal(Run(d)))


def test_a_reader_that_goes_away_ends_nothing(project: Project) -> None:
    arguments = [SPANLINE, "--output", "log-json", "dbt", "run", "-s", "customers"]
    process = subprocess.Popen(
        arguments, cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # type: ignore[union-attr]
    assert process.stderr.read() == b""  # type: ignore[union-attr]
    assert process.wait(DEADLINE) == 0
    assert last_run(project).result().success


@pytest.mark.slow
def test_a_cancel_is_told_line_by_line(project: Project, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [SPANLINE, "--output", "log-json", "dbt", "run", "-s", "customers", "gate"],
        cwd=project.path,
        env={**os.environ, "GATE": str(tmp_path / "never"), "SHOP_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    run = eventually(lambda: next((Run(d) for d in home.runs(project.home)), None))
    eventually(lambda: "model.shop.gate" in {node.unique_id for node in run.state.open_nodes})
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=DEADLINE)
    found = [json.loads(line) for line in said.splitlines()]
    (gate,) = [line for line in found if line.get("unique_id") == "model.shop.gate"]
    assert (gate["log.level"], gate["node_outcome"]) == ("warn", "cancelled")
    assert [line["message"] for line in found if "as asked by" in line["message"]] == [
        "the run is being cancelled, as asked by SIGINT"
    ]
    assert (found[-1]["spanline.outcome"], found[-1]["process.exit.code"]) == ("cancelled", process.returncode)


@pytest.mark.slow
def test_a_resumed_run_prints_only_what_is_new(project: Project) -> None:
    assert project.spanline("dbt", "build", "-s", "orders fragile", "--vars", "{break: true}").returncode == 1
    project.write("models/fragile.sql", "select id from {{ ref('orders') }}")
    done = project.spanline("--output", "log-json", "retry", "latest")
    assert done.returncode == 0, done.stdout.decode()
    found = lines(done)
    assert {line["spanline.session"] for line in found} == {2}
    models = [line["unique_id"] for line in found if line.get("node_type") == "model"]
    assert models == ["model.shop.fragile"]


def test_no_line_holds_a_secret(project: Project, receiver: Receiver) -> None:
    secret = "hush-4711-hush"
    project.write(
        "models/refused.sql",
        "{% if execute %}{% do log('told ' ~ var('api_key'), info=true) %}"
        "{% do exceptions.warn('careful ' ~ var('api_key')) %}"
        "{% do exceptions.raise_compiler_error('refused ' ~ var('api_key')) %}{% endif %}",
    )
    arguments = ("dbt", "run", "-s", "refused", "--vars", f"{{api_key: {secret}}}")
    done = project.spanline("--output", "log-json", *arguments, **receiver.otel_environment)
    assert done.returncode == 1
    said = [line["message"] for line in lines(done)]
    assert [text for text in said if text.startswith("told ")]
    assert [text for text in said if "careful " in text]
    assert [text for text in said if "refused " in text]
    assert secret.encode() not in done.stdout + done.stderr + b"".join(r.body for r in receiver.requests)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "dbt"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,service.name=my%20shop"}, "my shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, "b"),
    ],
)
def test_the_services_name_is_the_sdks(variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service_name(variables) == name
    for key, value in {**variables, "OTEL_LOGS_EXPORTER": "console"}.items():
        monkeypatch.setenv(key, value)
    from spanline.sinks.otel.export import resource

    assert resource().attributes["service.name"] == name


@pytest.mark.slow
def test_records_can_go_to_the_sdks_console(project: Project) -> None:
    done = project.spanline("dbt", "run", "-s", "customers", OTEL_LOGS_EXPORTER="console")
    assert done.returncode == 0
    assert b'"body": "model customers: success in ' in done.stderr
