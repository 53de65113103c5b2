"""What dbt v2's telemetry amounts to, on small streams in the form of dbt 2.0.0rc196's."""

from __future__ import annotations

from typing import Any

from spanline.runner.v2.translator import Event, Plan, Translator

MODEL, TEST, HOOK = "model.shop.orders", "test.shop.unique_orders", "operation.shop.shop-on-run-end-0"


def record(kind: str, name: str, *, begin: int = 0, end: int = 0, span: str = "a", **attributes: Any) -> dict[str, Any]:
    return {
        "record_type": kind,
        "event_type": f"v1.public.events.fusion.group.{name}",
        "span_id": span,
        "start_time_unix_nano": str(begin),
        "end_time_unix_nano": str(end),
        "attributes": attributes,
    }


def log(body: str, severity: int, **attributes: Any) -> dict[str, Any]:
    return {**record("LogRecord", "LogMessage", **attributes), "body": body, "severity_number": severity}


def invocation(command: str = "build") -> dict[str, Any]:
    about = {"eval_args": {"command": command}, "invocation_id": "i", "process_info": {"version": "2.0.0-preview.196"}}
    return record("SpanStart", "Invocation", begin=1, **about)


def run_of(unique_id: str, begin: int, end: int) -> list[dict[str, Any]]:
    about = {"unique_id": unique_id, "phase": "EXECUTION_PHASE_RUN"}
    started = record("SpanStart", "NodeEvaluated", begin=begin, **about)
    return [started, record("SpanEnd", "NodeEvaluated", begin=begin, end=end, **about)]


def processed(unique_id: str, outcome: str, *, last: str = "RUN", **attributes: Any) -> dict[str, Any]:
    about = {"unique_id": unique_id, "node_outcome": f"NODE_OUTCOME_{outcome}", "last_phase": f"EXECUTION_PHASE_{last}"}
    return record("SpanEnd", "NodeProcessed", begin=5, end=90, **about, **attributes)


def translated(*records: dict[str, Any], plan: Plan | None = None, exit_code: int = 0) -> list[Event]:
    translator = Translator(["build"], "/shop", lambda: plan or Plan({}))
    found = [event for each in records for event in translator.translate(each)]
    return [*found, *translator.end(exit_code)]


def of(kind: str, found: list[Event]) -> list[dict[str, Any]]:
    return [event.fields for event in found if event.type == kind]


def test_a_model_has_begun_when_its_run_has_and_not_when_it_was_rendered() -> None:
    compiled = record("LogRecord", "CompiledCode", unique_id=MODEL, sql="select 1")
    started, ended = run_of(MODEL, 10, 2_000_000_010)
    query = record("SpanStart", "QueryExecuted", begin=20, span="q", unique_id=MODEL, sql="create")
    answer = record(
        "SpanEnd", "QueryExecuted", begin=20, end=30, span="q", unique_id=MODEL, query_outcome="QUERY_OUTCOME_SUCCESS"
    )
    found = translated(
        invocation(), compiled, started, query, answer, ended, processed(MODEL, "SUCCESS", rows_affected="3")
    )
    assert found[1:] == [
        ("node_started", {"unique_id": MODEL, "thread": ""}, 10),
        ("node_compiled", {"unique_id": MODEL, "sql": "select 1"}, 10),
        ("query_started", {"query": 1, "sql": "create", "unique_id": MODEL}, 20),
        ("query_finished", {"query": 1, "status": "success", "elapsed": 1e-8, "unique_id": MODEL}, 30),
        (
            "node_finished",
            {
                "unique_id": MODEL,
                "execution_time": 2.0,
                "execute": (10, 2_000_000_010),
                "status": "success",
                "rows_affected": 3,
            },
            90,
        ),
    ]


def test_a_failed_test_is_a_success_of_its_node_and_a_failure_here() -> None:
    described = {"unique_id": TEST, "test": {"error_if": "!= 0", "warn_if": "> 5"}}
    plan = Plan({}, [TEST], [described])
    phase = record("SpanStart", "PhaseExecuted", phase="EXECUTION_PHASE_RUN")
    failed = {"failing_rows": 2, "test_outcome": "TEST_OUTCOME_FAILED"}
    warned = {"failing_rows": 9, "test_outcome": "TEST_OUTCOME_WARNED"}
    ends = [
        of(
            "node_finished",
            translated(invocation(), phase, processed(TEST, "SUCCESS", node_test_detail=each), plan=plan),
        )
        for each in ({}, failed, warned)
    ]
    assert [(end["status"], end.get("failures"), end.get("message")) for (end,) in ends] == [
        ("pass", None, None),
        ("fail", 2, "Got 2 results, configured to fail if != 0"),
        ("warn", 9, "Got 9 results, configured to warn if > 5"),
    ]


def test_a_test_has_its_result_before_its_end() -> None:
    detail = {"failing_rows": 2, "test_outcome": "TEST_OUTCOME_FAILED"}
    found = translated(invocation(), processed(TEST, "SUCCESS", node_type="NODE_TYPE_TEST", node_test_detail=detail))
    assert [event.type for event in found[1:]] == ["node_started", "test_result", "node_finished"]
    assert of("test_result", found) == [{"unique_id": TEST, "status": "fail", "failures": 2}]


def test_a_skipped_node_never_starts_and_names_what_has_failed() -> None:
    skipped = processed(
        MODEL,
        "SKIPPED",
        node_skip_reason="NODE_SKIP_REASON_UPSTREAM",
        node_skip_upstream_detail={"upstream_unique_id": TEST},
    )
    found = translated(invocation(), *run_of(MODEL, 10, 11), skipped)
    assert found[1:] == [("node_skipped", {"unique_id": MODEL, "cause": TEST}, 90)]


def test_what_dbt_does_not_run_is_told_as_what_it_is() -> None:
    ephemeral = processed(
        MODEL, "SKIPPED", node_skip_reason="NODE_SKIP_REASON_NO_OP", materialization="NODE_MATERIALIZATION_EPHEMERAL"
    )
    no_op = processed(MODEL, "SKIPPED", node_skip_reason="NODE_SKIP_REASON_NO_OP")
    cached = processed(MODEL, "SKIPPED", node_skip_reason="NODE_SKIP_REASON_CACHED")
    found = [of("node_finished", translated(invocation(), each)) for each in (ephemeral, no_op, cached)]
    assert [[end["status"] for end in ends] for ends in found] == [[], ["no-op"], ["reused"]]


def test_an_interrupted_node_stays_open_whatever_dbt_calls_it() -> None:
    started, ended = run_of(MODEL, 10, 20)
    cancelled = log("Cancelled", 17, code=1404, code_name="TaskCancelled", unique_id=MODEL)
    as_error = [started, cancelled, ended, processed(MODEL, "ERROR")]
    query = record(
        "SpanEnd", "QueryExecuted", span="q", unique_id=MODEL, query_outcome="QUERY_OUTCOME_CANCELED", end=12
    )
    by_query = [started, query, ended, processed(MODEL, "ERROR")]
    as_success = [started, processed(MODEL, "SUCCESS", last="ANALYZE")]
    for records in (as_error, by_query, as_success):
        found = translated(invocation(), *records)
        assert of("node_started", found), records
        assert not of("node_finished", found), records


def test_a_node_is_done_when_it_is_analyzed_where_the_command_only_compiles() -> None:
    (end,) = of("node_finished", translated(invocation("compile"), processed(MODEL, "SUCCESS", last="ANALYZE")))
    assert end["status"] == "success"


def test_an_error_is_the_log_message_of_its_node_without_the_stack_of_dbt() -> None:
    text = "Database Error in model orders\n  no such table"
    body = (
        f"{text}\n   0: <unknown>\n   1: <unknown>\n   2: start_thread\n             at ./nptl/pthread_create.c:442:8\n"
    )
    error = log(body, 17, code=1308, code_name="DbDriverFailed", unique_id=MODEL)
    found = translated(invocation(), error, *run_of(MODEL, 10, 20), processed(MODEL, "ERROR"), exit_code=1)
    assert of("log", found) == [{"level": "error", "name": "DbDriverFailed", "message": text, "unique_id": MODEL}]
    (end,) = of("node_finished", found)
    assert (end["status"], end["message"]) == ("error", text)


def test_the_end_has_the_exit_code_and_the_error_of_no_node() -> None:
    ended = record("SpanEnd", "Invocation", begin=1, end=1_000_000_001, metrics={"status_counts": {"success": "2"}})
    broken = log("invalid yaml", 17, code=1005, code_name="SchemaError")
    (end,) = of("dbt_finished", translated(invocation(), broken, ended, exit_code=1))
    assert end == {
        "elapsed": 1.0,
        "stats": {"pass": 2, "total": 2},
        "exception": "invalid yaml",
        "success": False,
        "exit_code": 1,
    }


def test_a_dbt_that_was_killed_has_not_finished() -> None:
    assert not of("dbt_finished", translated(invocation(), exit_code=-9))


def test_the_plan_stands_before_the_first_node_and_is_asked_for_once() -> None:
    plan = Plan({"adapter_type": "duckdb"}, [MODEL], [{"unique_id": MODEL}])
    phases = [
        record("SpanStart", "PhaseExecuted", phase=f"EXECUTION_PHASE_{name}") for name in ("PARSE", "RENDER", "RUN")
    ]
    later = record("SpanStart", "PhaseExecuted", phase="EXECUTION_PHASE_ANALYZE")
    found = translated(invocation(), *phases, later, plan=plan)
    assert [event.type for event in found[1:]] == [
        "phase_started",
        "dbt_configured",
        "selection",
        "node_described",
        "phase_started",
        "phase_started",
    ]
    assert [fields["phase"] for fields in of("phase_started", found)] == ["parse", "compile", "run"]


def test_unknown_records_and_keys_say_nothing() -> None:
    strange = [record("SpanStart", "Invented", unique_id=MODEL), {"record_type": "Invented"}, {}]
    assert translated(*strange) == []
    assert len(of("hook_started", translated(record("SpanStart", "HookProcessed", unique_id=HOOK, invented=[1])))) == 1


def test_a_hook_that_failed_has_what_the_warehouse_said() -> None:
    query = record(
        "SpanEnd",
        "QueryExecuted",
        unique_id=HOOK,
        query_outcome="QUERY_OUTCOME_ERROR",
        query_error_adapter_message="no such table",
    )
    ended = record("SpanEnd", "HookProcessed", begin=0, end=10, unique_id=HOOK, hook_outcome="HOOK_OUTCOME_ERROR")
    assert of("hook_finished", translated(query, ended)) == [
        {"unique_id": HOOK, "status": "error", "execution_time": 1e-8, "message": "no such table"}
    ]
