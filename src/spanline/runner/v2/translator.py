"""From records of dbt v2's telemetry to records of the journal: plain data in, plain data out.

Its types are `v1.public.events.fusion.<group>.<Name>`, in protobuf's JSON: numbers of 64 bits are strings, and zero
values are left out (a passed test is `node_test_detail: {}`). What isn't known here, a type or a key, is ignored: the
stream is ahead of its published definitions. docs/engines.md has what was seen, with the version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

Fields = dict[str, Any]
Span = Mapping[str, Any]

_STACK = re.compile(r"\n\s+\d+: (?:<unknown>|start_thread\b).*", re.DOTALL)
"""Behind an error stand the frames of dbt's own stack, without names."""
_INFO, _WARN, _ERROR = 9, 13, 17
"""https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber"""
_CANCELLED_CODES = (1404, 8995)
"""`TaskCancelled` of a node or a hook, `OperationCanceled` of the command."""
_PHASES = {
    "LOAD_PROJECT": "parse",
    "PARSE": "parse",
    "SCHEDULE": "compile",
    "TASK_GRAPH_BUILD": "compile",
    "RENDER": "compile",
    "ANALYZE": "compile",
    "ON_RUN_START": "run",
    "RUN": "run",
}
_ORDER = ("", "parse", "compile", "run")
_RUNNING = frozenset(("build", "clone", "run", "seed", "snapshot", "test"))
"""Commands that run nodes. Under the others a node is done when it was rendered and analyzed."""
_COMMANDS = {"freshness": "source freshness"}
"""Commands that dbt v2 names otherwise than dbt Core."""
_ARTIFACTS = {
    "MANIFEST": "WritableManifest",
    "CATALOG": "CatalogArtifact",
    "SOURCES": "FreshnessExecutionResultArtifact",
}
"""Their names in dbt Core."""
_TEST_STATUS = {"": "pass", "PASSED": "pass", "WARNED": "warn", "FAILED": "fail"}
_STATS = {"success": "pass", "warn": "warn", "error": "error", "skipped": "skip", "no_op": "no-op"}
"""dbt v2's counts, by dbt Core's names."""


class Event(NamedTuple):
    """What is to be journalled: a type of record, its fields, and when that happened, in nanoseconds."""

    type: str
    fields: Fields
    time: int


class Plan(NamedTuple):
    """What is known before the first node runs: what is selected, and what the manifest says of that.

    `configured` are the fields of `dbt_configured`; `selection` is None where nobody knows it.
    """

    configured: Fields
    selection: list[str] | None = None
    descriptions: Sequence[Fields] = ()


class Translator:
    """Takes the records of one invocation, one by one. `plan` is asked for once, when dbt has parsed the project."""

    def __init__(self, argv: list[str], root: str, plan: Callable[[], Plan]) -> None:
        """`root` is the project's folder."""
        self._argv = argv
        self._root = root
        self._ask_for_plan = plan
        self._descriptions: dict[str, Fields] = {}
        self._command = ""
        self._phase = ""
        self._planned = False
        self._started: set[str] = set()
        self._runs: dict[str, tuple[int, int]] = {}  # of nodes: when their RUN has begun, and ended (0: not yet)
        self._compiled: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._cancelled: set[str] = set()
        self._queries: dict[str, int] = {}
        self._finished: tuple[Fields, int] | None = None
        self._exception: str | None = None
        self.invocation_id = ""
        """dbt's, once it is known."""
        self.was_cancelled = False
        """Whether dbt says that it was interrupted."""

    def translate(self, record: Span) -> Iterator[Event]:
        """The events that this record amounts to."""
        name = str(record.get("event_type", "")).rpartition(".")[2]
        handler = _HANDLERS.get((str(record.get("record_type", "")), name))
        if handler is None and record.get("record_type") == "LogRecord":
            handler = Translator._log
        if handler is not None:
            yield from handler(self, record, record.get("attributes") or {})

    def end(self, exit_code: int) -> Iterator[Event]:
        """The end of the invocation, where dbt has come to it, once its exit code is known."""
        if self._finished is not None:
            fields, time = self._finished
            if self._exception is not None and not self._errors:
                fields["exception"] = self._exception
            yield Event("dbt_finished", {**fields, "success": exit_code == 0, "exit_code": exit_code}, time)

    # --- the invocation -------------------------------------------------------------------------------------------

    def _invocation_started(self, record: Span, about: Span) -> Iterator[Event]:
        command = str((about.get("eval_args") or {}).get("command", ""))
        self._command = _COMMANDS.get(command, command)
        self.invocation_id = str(about.get("invocation_id", ""))
        yield Event(
            "dbt_started",
            {
                "dbt_version": str((about.get("process_info") or {}).get("version", "")),
                "python_version": "",
                "invocation_id": self.invocation_id,
                "argv": self._argv,
                "command": self._command,
            },
            _began(record),
        )

    def _invocation_ended(self, record: Span, about: Span) -> Iterator[Event]:
        counts = (about.get("metrics") or {}).get("status_counts") or {}
        stats = {_STATS.get(name, name): int(count) for name, count in counts.items()}
        fields = {"elapsed": _seconds(record), "stats": {**stats, "total": sum(stats.values())}}
        self._finished = fields, _ended(record)
        yield from ()

    def _phase_started(self, record: Span, about: Span) -> Iterator[Event]:
        phase = _PHASES.get(_word(about, "phase", "EXECUTION_PHASE_"), "")
        if _ORDER.index(phase) > _ORDER.index("parse"):
            yield from self._plan(_began(record))
        # They overlap in v2, which renders nodes while it runs others: it has entered one for good.
        if _ORDER.index(phase) > _ORDER.index(self._phase):
            self._phase = phase
            yield Event("phase_started", {"phase": phase}, _began(record))

    def _plan(self, time: int) -> Iterator[Event]:
        if self._planned:
            return
        self._planned = True
        plan = self._ask_for_plan()
        self._descriptions = {fields["unique_id"]: fields for fields in plan.descriptions}
        yield Event("dbt_configured", plan.configured, time)
        if plan.selection is not None:
            yield Event("selection", {"unique_ids": plan.selection}, time)
        for fields in plan.descriptions:
            yield Event("node_described", fields, time)

    def _artifact(self, record: Span, about: Span) -> Iterator[Event]:
        kind = _ARTIFACTS.get(_word(about, "artifact_type", "ARTIFACT_TYPE_"))
        if kind is not None:
            path = os.path.join(self._root, str(about.get("relative_path", "")))  # noqa: PTH118
            yield Event("artifact_written", {"artifact_type": kind, "path": path}, _ended(record))

    # --- what dbt says --------------------------------------------------------------------------------------------

    def _log(self, record: Span, about: Span) -> Iterator[Event]:
        message, severity = said(record), int(record.get("severity_number") or 0)
        unique_id, code = about.get("unique_id"), about.get("code")
        if code in _CANCELLED_CODES:
            self.was_cancelled = True
            if unique_id:
                self._cancelled.add(unique_id)
        if severity >= _ERROR and message:
            if unique_id:
                self._errors.setdefault(unique_id, message)
            elif self._exception is None and code not in _CANCELLED_CODES:
                self._exception = message
        if severity < _INFO or not message:
            return
        level = "error" if severity >= _ERROR else "warn" if severity >= _WARN else "info"
        name = about.get("code_name") or str(record.get("event_type", "")).rpartition(".")[2]
        fields = {"level": level, "name": name, "message": message}
        time = int(record.get("time_unix_nano") or 0)
        yield Event("log", {**fields, "unique_id": unique_id} if unique_id else fields, time)

    def _compiled_code(self, record: Span, about: Span) -> Iterator[Event]:
        # Nodes are rendered ahead of their time; one that is skipped then is none that has begun.
        self._compiled[about.get("unique_id", "")] = about.get("sql", "")
        yield from ()

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _evaluation_started(self, record: Span, about: Span) -> Iterator[Event]:
        if about.get("phase") == "EXECUTION_PHASE_RUN":
            self._runs[about["unique_id"]] = _began(record), 0
        yield from ()

    def _evaluation_ended(self, record: Span, about: Span) -> Iterator[Event]:
        if about.get("phase") == "EXECUTION_PHASE_RUN":
            self._runs[about["unique_id"]] = _began(record), _ended(record)
        yield from ()

    def _start(self, unique_id: str, time: int) -> Iterator[Event]:
        """Say that a node has begun: once its RUN has, and it is seen that it isn't skipped in the same breath."""
        if unique_id in self._started:
            return
        self._started.add(unique_id)
        yield Event("node_started", {"unique_id": unique_id, "thread": ""}, time)
        sql = self._compiled.pop(unique_id, "")
        if sql:
            yield Event("node_compiled", {"unique_id": unique_id, "sql": sql}, time)

    def _node_ended(self, record: Span, about: Span) -> Iterator[Event]:
        unique_id, outcome = about["unique_id"], _word(about, "node_outcome", "NODE_OUTCOME_")
        if about.get("node_type") == "NODE_TYPE_SOURCE":
            return
        if outcome == "SKIPPED":
            yield from self._node_skipped(unique_id, record, about)
            return
        began, ended = self._runs.get(unique_id, (_began(record), _ended(record)))
        yield from self._start(unique_id, began)
        if self._is_cut_off(unique_id, outcome, about):
            return  # open to the end: whoever reads the journal knows why
        fields: Fields = {"unique_id": unique_id, "execution_time": max(0, ended - began) / 1e9}
        if unique_id in self._runs:
            fields["execute"] = (began, ended)
        yield from self._end_node(fields, outcome, about, _ended(record))

    def _end_node(self, fields: Fields, outcome: str, about: Span, time: int) -> Iterator[Event]:
        unique_id = fields["unique_id"]
        if outcome != "SUCCESS":
            fields.update(status="error", message=self._errors.get(unique_id) or "dbt gives no reason")
        elif "node_test_detail" in about:
            fields.update(self._test(unique_id, about["node_test_detail"]))
        else:
            fields["status"] = "success"
            rows = int(about.get("rows_affected") or 0)
            if rows:  # adapters say 0 for "unknown" too
                fields["rows_affected"] = rows
        if about.get("node_type") in ("NODE_TYPE_TEST", "NODE_TYPE_UNIT_TEST"):
            result = {"unique_id": unique_id, "status": fields["status"], "failures": fields.get("failures", 0)}
            yield Event("test_result", result, time)
        yield Event("node_finished", fields, time)

    def _test(self, unique_id: str, detail: Span) -> Fields:
        """The status of a test that was done: whatever that is, v2 calls its node a success."""
        status = _TEST_STATUS.get(_word(detail, "test_outcome", "TEST_OUTCOME_"), "error")
        rows = int(detail.get("failing_rows") or 0)
        if status == "pass":
            return {"status": status}
        message = self._errors.get(unique_id)
        limit = (self._descriptions.get(unique_id, {}).get("test") or {}).get(
            "warn_if" if status == "warn" else "error_if"
        )
        if message is None and limit:  # in dbt Core's words: v2 has none
            message = f"Got {rows} result{'' if rows == 1 else 's'}, configured to {status} if {limit}"
        return {"status": status, "failures": rows, **({"message": message} if message else {})}

    def _is_cut_off(self, unique_id: str, outcome: str, about: Span) -> bool:
        """Whether an interrupt has ended the node. v2 calls it an error, or, by an earlier phase, even a success."""
        if outcome == "SUCCESS":
            has_run = about.get("last_phase") == "EXECUTION_PHASE_RUN"
            return not has_run and (unique_id in self._runs or self._command in _RUNNING)
        return unique_id in self._cancelled or outcome == "CANCELED"

    def _node_skipped(self, unique_id: str, record: Span, about: Span) -> Iterator[Event]:
        reason = _word(about, "node_skip_reason", "NODE_SKIP_REASON_")
        if reason == "NO_OP":
            if about.get("materialization") != "NODE_MATERIALIZATION_EPHEMERAL":
                yield Event("node_finished", {"unique_id": unique_id, "status": "no-op"}, _ended(record))
        elif reason == "CACHED":
            yield Event("node_finished", {"unique_id": unique_id, "status": "reused"}, _ended(record))
        else:
            cause = (about.get("node_skip_upstream_detail") or {}).get("upstream_unique_id")
            fields = {"unique_id": unique_id, "cause": cause} if cause else {"unique_id": unique_id}
            yield Event("node_skipped", fields, _ended(record))

    # --- hooks and queries ----------------------------------------------------------------------------------------

    def _hook_started(self, record: Span, about: Span) -> Iterator[Event]:
        yield Event("hook_started", {"unique_id": about["unique_id"]}, _began(record))

    def _hook_ended(self, record: Span, about: Span) -> Iterator[Event]:
        unique_id, outcome = about["unique_id"], _word(about, "hook_outcome", "HOOK_OUTCOME_")
        if unique_id in self._cancelled or outcome == "CANCELED":
            return
        fields: Fields = {
            "unique_id": unique_id,
            "status": outcome.lower() or "error",
            "execution_time": _seconds(record),
        }
        message = self._errors.get(unique_id)
        yield Event("hook_finished", {**fields, "message": message} if message else fields, _ended(record))

    def _query_started(self, record: Span, about: Span) -> Iterator[Event]:
        unique_id = about.get("unique_id", "")
        if unique_id in self._runs:
            yield from self._start(unique_id, self._runs[unique_id][0])
        number = len(self._queries) + 1
        self._queries[record["span_id"]] = number
        fields = {"query": number, "sql": about.get("sql", "")}
        yield Event("query_started", {**fields, "unique_id": unique_id} if unique_id else fields, _began(record))

    def _query_ended(self, record: Span, about: Span) -> Iterator[Event]:
        unique_id, outcome = about.get("unique_id", ""), _word(about, "query_outcome", "QUERY_OUTCOME_")
        if outcome == "CANCELED" and unique_id:
            self._cancelled.add(unique_id)
        elif outcome == "ERROR" and unique_id and about.get("query_error_adapter_message"):
            self._query_error(unique_id, about["query_error_adapter_message"])
        number = self._queries.get(record["span_id"])
        if number is None:
            return
        fields = {"query": number, "status": outcome.lower(), "elapsed": _seconds(record)}
        yield Event("query_finished", {**fields, "unique_id": unique_id} if unique_id else fields, _ended(record))

    def _query_error(self, unique_id: str, message: str) -> None:
        """Keep what the warehouse has said of a hook, of which dbt may say nothing else."""
        if unique_id.startswith("operation."):
            self._errors.setdefault(unique_id, message)


Handler = Callable[[Translator, Span, Span], Iterator[Event]]

_HANDLERS: Mapping[tuple[str, str], Handler] = {
    ("SpanStart", "Invocation"): Translator._invocation_started,
    ("SpanEnd", "Invocation"): Translator._invocation_ended,
    ("SpanStart", "PhaseExecuted"): Translator._phase_started,
    ("SpanEnd", "ArtifactWritten"): Translator._artifact,
    ("LogRecord", "CompiledCode"): Translator._compiled_code,
    ("SpanStart", "NodeEvaluated"): Translator._evaluation_started,
    ("SpanEnd", "NodeEvaluated"): Translator._evaluation_ended,
    ("SpanEnd", "NodeProcessed"): Translator._node_ended,
    ("SpanStart", "HookProcessed"): Translator._hook_started,
    ("SpanEnd", "HookProcessed"): Translator._hook_ended,
    ("SpanStart", "QueryExecuted"): Translator._query_started,
    ("SpanEnd", "QueryExecuted"): Translator._query_ended,
}
"""What is made of each record and type. Any other record of a log is a line of dbt's log, if it has a text."""


def said(record: Span) -> str:
    """The text of a record of a log, without dbt's stack behind it."""
    return _STACK.sub("", str(record.get("body") or "")).rstrip()


def _word(about: Span, key: str, prefix: str) -> str:
    """The value of an enumeration without what protobuf puts before it; empty where it is left out."""
    return str(about.get(key) or "").removeprefix(prefix)


def _began(record: Span) -> int:
    return int(record.get("start_time_unix_nano") or 0)


def _ended(record: Span) -> int:
    return int(record.get("end_time_unix_nano") or 0)


def _seconds(record: Span) -> float:
    return max(0, _ended(record) - _began(record)) / 1e9
