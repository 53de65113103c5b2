"""The callback: from dbt's events, as they fire, to records in the journal.

It runs inside dbt, in whatever thread fired the event. It never waits, never raises an `Exception` into dbt, and leaves
events that no reader needs before it builds anything. A KeyboardInterrupt may arrive, or be owed, inside it: it passes.
"""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

from . import describe, frames, warehouse
from .comments import without_ours
from .interrupt import Interrupt
from .shared import exit_codes, lines
from .shared.writer import Writer
from .stopwatch import Stopwatch
from .unfilled import Unfilled

Handler = Callable[["Recorder", Any, Any], None]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HOOK_STATUS = {"OK": "success"}
"""dbt Core 1.8's word for a hook that went well, in the words of its successors."""
_QUIET = ("debug", "test")
_INCREMENTAL = "incremental"
_OF_BATCHES = ("error", "partial success")
_FAILED = (*_OF_BATCHES, "fail", "runtime error")
_CHECKS_FAILED = re.compile(r"\d+ checks? failed:")
_BEFORE_ERROR = "Exception on worker thread. "


class Recorder:
    """`dbtRunner(callbacks=[Recorder(writer)])`: journal what one dbt process does."""

    def __init__(
        self,
        writer: Writer,
        interrupt: Interrupt | None = None,
        argv: list[str] | None = None,
        on_selection: Callable[[], None] | None = None,
    ) -> None:
        """`on_selection` is called once the selection is known, and journalled."""
        self._writer = writer
        self._on_selection = on_selection
        self._interrupt = interrupt
        self._argv = argv
        self._write = writer.append
        self._phase = ""
        self._described: set[str] = set()
        self._skipped_by: dict[str, str] = {}
        self._queries: dict[int, tuple[int, str]] = {}  # the thread's open query: its number and SQL
        self._query_count = 0
        self._stopwatch = Stopwatch()
        self._batch_errors: dict[str, dict[str, Any]] = {}  # of a microbatch model: what the first to fail has said
        self._stats: dict[str, int] = {}
        self._exception: str | None = None
        self._reasons: list[str] = []
        self._exceptions_line: tuple[int, str] | None = None
        self._root = ""
        self._handled = True
        self._open_hook = ""
        self._checks_failed = False
        self._unfilled = Unfilled()
        self.exit_code = exit_codes.ERROR
        """dbt's exit code, once dbt has finished."""
        self._reported = False

    def __call__(self, event: Any) -> None:
        """Take one of dbt's events."""
        if self._interrupt is not None and self._interrupt.pending:
            self._interrupt.raise_if_owed()
        info = event.info
        handler = _HANDLERS.get(info.name, _log)
        if handler is None or (handler is _log and info.level in _QUIET):
            return
        try:
            handler(self, self._unfilled.data_of(event), info)
        except Exception as error:  # noqa: BLE001 - an observer never changes the outcome of a run
            self._report(info.name, error)

    def _report(self, name: str, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._write(
                "log",
                {
                    "level": "warn",
                    "name": "RecorderError",
                    "message": f"spanline could not record dbt's event {name}: "
                    f"{type(error).__name__}: {error} ({where.name}, line {where.lineno}); "
                    "further errors of this kind are not reported",
                },
            )

    # --- the invocation -------------------------------------------------------------------------------------------

    def _version(self, data: Any, info: Any) -> None:
        import platform

        argv = self._argv if self._argv is not None else sys.argv[1:]
        self._write(
            "dbt_started",
            {
                "dbt_version": data.version.lstrip("="),
                "python_version": platform.python_version(),
                "invocation_id": info.invocation_id,
                "argv": argv,
                "command": _command(),
            },
        )
        _log(self, data, info)

    def _adapter(self, data: Any, info: Any) -> None:
        found = _context_objects()
        profile, project = found.get("profile"), found.get("project")
        fields: dict[str, Any] = {
            "adapter_type": data.adapter_name,
            "adapter_version": data.adapter_version.lstrip("="),
        }
        if profile is not None:
            credentials = profile.credentials
            self._writer.redactor.add(describe.credential_secrets(credentials))
            fields["profile"] = profile.profile_name
            fields["target"] = profile.target_name
            fields["threads"] = profile.threads
            fields["connection"] = {
                "database": credentials.database,
                "schema": credentials.schema,
                **describe.connection(credentials),
            }
        if project is not None:
            self._root = str(project.project_root)
            fields["project"] = project.project_name
            fields["project_dir"] = str(project.project_root)
            fields["target_path"] = str(project.project_target_path)
            fields["log_path"] = _log_path(found.get("flags"))
        self._write("dbt_configured", fields)
        self._enter("parse")
        _log(self, data, info)

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._write("phase_started", {"phase": phase})

    def _found(self, data: Any, info: Any) -> None:
        self._enter("compile")
        _log(self, data, info)

    def _artifact(self, data: Any, info: Any) -> None:
        kind = data.artifact_type
        if kind == "WritableManifest" and self._phase == "parse":
            self._enter("compile")
        self._write("artifact_written", {"artifact_type": kind, "path": data.artifact_path})

    def _selection(self, data: Any, info: Any) -> None:
        task = frames.task()
        if task is not None:
            nodes = task._flattened_nodes or ()
            chosen = {node.unique_id for node in nodes}
            chosen.update(getattr(task, "selected_unit_tests", ()))
            self._write("selection", {"unique_ids": sorted(chosen), "repeats": frames.repeated_command()})
            manifest = getattr(task, "manifest", None)
            # All in a row take a third of the time that they take one by one, at the start of each.
            self.describe([*nodes, *describe.exposures_of(chosen, manifest)], manifest)
            if warehouse.wanted():
                self._ask_for_columns(chosen, manifest, task.config)
        if self._on_selection is not None:
            self._on_selection()
        self._enter("run")
        _log(self, data, info)

    def _ask_for_columns(self, chosen: set[str], manifest: Any, config: Any) -> None:
        sources = warehouse.undocumented_sources(chosen, manifest)
        if sources:
            for unique_id, columns in warehouse.columns_of(sources, config):
                self._write("columns_resolved", {"unique_id": unique_id, "origin": "warehouse", "columns": columns})

    def _error(self, data: Any, info: Any) -> None:
        self._handled = False
        self._operation_error(data, info)
        self._exceptions_line = lines.of_jinja(self._exception or "", self._root)

    def _check(self, data: Any, info: Any) -> None:
        """What `dbt debug` has found: after the number of checks that failed comes what each of them says."""
        message = _plain(data.msg).strip()
        if self._checks_failed:
            self._exception = "\n".join(filter(None, [self._exception, message]))
        else:
            self._checks_failed = _CHECKS_FAILED.match(message) is not None
        _log(self, data, info)

    def _operation_error(self, data: Any, info: Any) -> None:
        self._exception = "\n".join([_plain(data.exc), *self._reasons])
        _log(self, data, info)

    def _invalid(self, data: Any, info: Any) -> None:
        """What is wrong with the semantic manifest. That something is dbt says last, by an exception without it."""
        if info.level == "error":
            self._reasons.append(f"  {_plain(data.msg)}")
        _log(self, data, info)

    def _statistics(self, data: Any, info: Any) -> None:
        self._stats = dict(data.stats)
        _log(self, data, info)

    def _completed(self, data: Any, info: Any) -> None:
        failed = exit_codes.FAILURE if self._handled else exit_codes.ERROR
        self.exit_code = exit_codes.SUCCESS if data.success else failed
        fields = {
            "success": data.success,
            "elapsed": data.elapsed,
            "stats": self._stats,
            "exit_code": self.exit_code,
        }
        if self._exception is not None:
            fields["exception"] = self._exception
        if self._exceptions_line is not None:
            fields["line"] = self._exceptions_line
        self._write("dbt_finished", fields)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _node_start(self, data: Any, info: Any) -> None:
        if data.node_info.unique_id not in self._described:  # a unit test, which dbt has not selected as a node
            runner = frames.runner()
            if runner is not None:
                self.describe([runner.node], frames.manifest())

    def describe(self, nodes: Iterable[Any], manifest: Any) -> None:
        """Say what the manifest has of these, and before that, of all that they are made from."""
        full_refresh = _full_refresh()
        for node in describe.with_upstreams(nodes, manifest, self._described):
            self._write_description(node, manifest, full_refresh=full_refresh)

    def _write_description(self, node: Any, manifest: Any, *, full_refresh: bool) -> None:
        try:
            self._write("node_described", describe.node(node, manifest, full_refresh=full_refresh))
        except Exception as error:  # noqa: BLE001 - the others are described all the same
            self._report("NodeStart", error)

    def _node_compiling(self, data: Any, info: Any) -> None:
        if self._interrupt is not None:
            self._interrupt.note_start()
        batch = _batch(data)
        if batch == 0:
            self._batches_planned(data)
        unique_id = data.node_info.unique_id
        if batch is not None:
            self._stopwatch.note_parts(unique_id)
            self._stopwatch.start((unique_id, threading.get_ident()))
            return
        self._stopwatch.start(unique_id)
        self._write(
            "node_started",
            {
                "unique_id": unique_id,
                "thread": threading.current_thread().name,
            },
        )

    def _node_executing(self, data: Any, info: Any) -> None:
        if _batch(data):
            return  # the first batch's code stands for its model's
        sql = frames.compiled_code()
        if sql:
            self._write("node_compiled", {"unique_id": data.node_info.unique_id, "sql": sql})

    def _node_finished(self, data: Any, info: Any) -> None:
        node, result = data.node_info, data.run_result
        unique_id = node.unique_id
        message, status = result.message, result.status
        _, statement = self._queries.pop(threading.get_ident(), (0, ""))
        line = self._line(message, statement, frames.runner()) if statement else None
        if _batch(data) is not None:
            if status == "error":
                self._batch_errors.setdefault(unique_id, _said(message, line))
            return
        fields: dict[str, Any] = {
            "unique_id": unique_id,
            "status": status,
            "thread": result.thread,
            "execution_time": self._stopwatch.stop(unique_id, result.execution_time),
        }
        fields.update(_said(message, line))
        if status in _OF_BATCHES:
            # dbt says of the model only that batches of it have failed.
            fields.update(self._batch_errors.pop(unique_id, {}))
        for timing in result.timing_info:
            fields[timing.name] = [
                _nanoseconds(timing.started_at),
                _nanoseconds(timing.completed_at),
            ]
        if result.num_failures:
            fields["failures"] = describe.integer(result.num_failures)
        fields.update(describe.response(result.adapter_response))
        says_more = node.materialized == _INCREMENTAL or node.resource_type == "source"
        outcome = frames.result() if says_more else None
        batches = describe.batches(outcome)
        if batches is not None:
            fields["batches"] = batches
        if node.resource_type == "source" and outcome is not None:
            self._write("freshness_result", {"unique_id": unique_id, **describe.freshness(outcome)})
        self._end_node(fields)

    def _end_node(self, fields: dict[str, Any]) -> None:
        cause = frames.failed_fast() if fields["status"] in _FAILED else None
        self._write("node_finished", fields if cause is None else {**fields, "cause": cause})

    def _exception_on_run(self, data: Any, info: Any) -> None:
        """What only this says: an exception around a node's runner, or one in a batch, whose result is but `ERROR`."""
        unique_id = data.unique_id
        runner = frames.runner_of_failed_batch()
        if runner is not None:
            _, statement = self._queries.get(threading.get_ident(), (0, ""))
            message = data.exc.removeprefix(_BEFORE_ERROR)
            self._batch_errors.setdefault(unique_id, _said(message, self._line(message, statement, runner)))
        elif frames.has_no_result():
            self._queries.pop(threading.get_ident(), None)
            said = _said(f"{_BEFORE_ERROR}{data.exc}", None)
            if frames.batch_number() is not None:
                self._batch_errors.setdefault(unique_id, said)
            else:
                thread = threading.current_thread().name
                self._end_node({"unique_id": unique_id, "status": "error", "thread": thread, **said})
        _log(self, data, info)

    def _note(self, data: Any, info: Any) -> None:
        self._unfilled.notice()
        if info.level not in _QUIET:
            _log(self, data, info)

    def _line(self, message: str, statement: str, runner: Any) -> tuple[int, str] | None:
        """Where the node's error stands that names a line of the statement in which it has come up."""
        number = lines.line_in(message) if statement and message else None
        if number is None or runner is None:
            return None
        try:
            compiled = getattr(runner.node, "compiled_code", None) or ""
            return lines.traced(number, statement, compiled, lines.source_of(runner.node, runner.config))
        except Exception as error:  # noqa: BLE001 - the node's result is journalled without it
            self._report("NodeFinished", error)
            return None

    def _marked(self, data: Any, info: Any) -> None:
        found = frames.failed_above()
        if found is not None:
            failed, dependents = found
            for unique_id in dependents:
                self._skipped_by.setdefault(unique_id, failed)

    def _skipped(self, data: Any, info: Any) -> None:
        unique_id = data.node_info.unique_id
        fields = {"unique_id": unique_id}
        if unique_id in self._skipped_by:
            fields["cause"] = self._skipped_by[unique_id]
        self._write("node_skipped", fields)
        _log(self, data, info)

    def _test_result(self, data: Any, info: Any) -> None:
        self._write(
            "test_result",
            {
                "unique_id": data.node_info.unique_id,
                "status": data.status,
                "failures": describe.integer(data.num_failures),
            },
        )
        _log(self, data, info)

    def _batches_planned(self, data: Any) -> None:
        runner = frames.runner()
        before = runner.node.previous_batch_results
        batches = {
            "successful": describe.periods(before.successful if before is not None else ()),
            "failed": describe.periods(runner.batches.values()),
        }
        self._write("batches_planned", {"unique_id": data.node_info.unique_id, "batches": batches})

    def _batch_result(self, data: Any, info: Any) -> None:
        # Of a batch that went well dbt gives the adapter's message for its status.
        status = data.status if data.status in ("error", "skipped") else "success"
        unique_id = data.node_info.unique_id
        fields = {
            "unique_id": unique_id,
            "status": status,
            "batch": data.batch_index,
            "batches": data.total_batches,
            "execution_time": self._stopwatch.stop((unique_id, threading.get_ident()), data.execution_time),
        }
        period = frames.batch_period()
        if period is not None:
            start, end = period
            fields.update(start=start.isoformat(), end=end.isoformat())
        self._write("batch_finished", fields)
        _log(self, data, info)

    # --- hooks and queries ----------------------------------------------------------------------------------------

    def _hook_start(self, data: Any, info: Any) -> None:
        if self._interrupt is not None:
            self._interrupt.note_hook()
            self._interrupt.note_start()
        self._open_hook = data.node_info.unique_id
        self._stopwatch.start(self._open_hook)
        self._write(
            "hook_started",
            {"unique_id": self._open_hook, "statement": data.statement},
        )
        _log(self, data, info)

    def _hook_end(self, data: Any, info: Any) -> None:
        unique_id = data.node_info.unique_id
        self._write(
            "hook_finished",
            {
                "unique_id": unique_id,
                "status": _HOOK_STATUS.get(data.status, data.status),
                "execution_time": self._stopwatch.stop(unique_id, data.execution_time),
                "message": frames.hook_message(),
            },
        )
        _log(self, data, info)
        if self._interrupt is not None:
            self._interrupt.note_hook()

    def _hooks_broken_off(self, data: Any, info: Any) -> None:
        """Dbt Core 1.8 only: a hook that fails is not said to have ended."""
        error = frames.hook_error()
        self._write(
            "hook_finished",
            {
                "unique_id": self._open_hook,
                "status": "error",
                "message": getattr(error, "msg", None) or str(error),
            },
        )
        _log(self, data, info)

    def _query(self, data: Any, info: Any) -> None:
        sql, unique_id = data.sql, data.node_info.unique_id
        self._query_count += 1
        query = self._query_count
        self._queries[threading.get_ident()] = (query, sql)
        fields = {"query": query, "sql": without_ours(sql), "connection_name": data.conn_name}
        if unique_id:
            fields["unique_id"] = unique_id
        self._write("query_started", fields)

    def _query_status(self, data: Any, info: Any) -> None:
        query, _ = self._queries.pop(threading.get_ident(), (0, ""))
        if not query:
            return
        unique_id = data.node_info.unique_id
        fields = {"query": query, "status": data.status, "elapsed": data.elapsed}
        if unique_id:
            fields["unique_id"] = unique_id
        self._write("query_finished", fields)


def _said(message: str, line: tuple[int, str] | None) -> dict[str, Any]:
    said: dict[str, Any] = {"message": message} if message else {}
    return said if line is None else {**said, "line": line}


def _log(recorder: Recorder, data: Any, info: Any) -> None:
    message = info.msg
    if not message:
        return
    fields = {"level": info.level, "name": info.name, "message": _plain(message)}
    unique_id = getattr(getattr(data, "node_info", None), "unique_id", "")
    if unique_id:
        fields["unique_id"] = unique_id
    recorder._write("log", fields)


_HANDLERS: dict[str, Handler | None] = {
    "MainReportVersion": Recorder._version,
    "MainEncounteredError": Recorder._error,
    "DebugCmdResult": Recorder._check,
    "RunningOperationCaughtError": Recorder._operation_error,
    "RunningOperationUncaughtError": Recorder._operation_error,
    "SemanticValidationFailure": Recorder._invalid,
    "AdapterRegistered": Recorder._adapter,
    "ArtifactWritten": Recorder._artifact,
    "FoundStats": Recorder._found,
    "ConcurrencyLine": Recorder._selection,
    "NodeStart": Recorder._node_start,
    "NodeCompiling": Recorder._node_compiling,
    "NodeExecuting": Recorder._node_executing,
    "NodeFinished": Recorder._node_finished,
    "MarkSkippedChildren": Recorder._marked,
    "SkippingDetails": Recorder._skipped,
    "LogTestResult": Recorder._test_result,
    "LogBatchResult": Recorder._batch_result,
    "GenericExceptionOnRun": Recorder._exception_on_run,
    "Note": Recorder._note,
    "LogHookStartLine": Recorder._hook_start,
    "LogHookEndLine": Recorder._hook_end,
    "DatabaseErrorRunningHook": Recorder._hooks_broken_off,
    "SQLQuery": Recorder._query,
    "SQLQueryStatus": Recorder._query_status,
    "StatsLine": Recorder._statistics,
    "CommandCompleted": Recorder._completed,
    "Formatting": None,
}


def _full_refresh() -> bool:
    """Whether dbt was told to make incremental models anew."""
    from dbt.flags import get_flags

    flags: Any = get_flags()  # type: ignore[no-untyped-call]
    return bool(getattr(flags, "FULL_REFRESH", False))


def _batch(data: Any) -> int | None:
    """The number, from 0, of the batch that this event of a node's is of; None for the node itself.

    dbt fires the events of a node for each batch of a microbatch model too, and then for the model.
    """
    return frames.batch_number() if data.node_info.materialized == _INCREMENTAL else None


def _context_objects() -> dict[str, Any]:
    import click

    context = click.get_current_context(silent=True)
    return (context.obj or {}) if context is not None else {}


def _log_path(flags: Any) -> str | None:
    """The folder of dbt's log."""
    place = getattr(flags, "LOG_PATH", None)
    return str(Path(place).absolute()) if place else None


def _command() -> str:
    import click

    context = click.get_current_context(silent=True)
    names: list[str] = []
    while context is not None and context.parent is not None:
        names.append(context.info_name or "")
        context = context.parent
    return " ".join(reversed(names))


def _plain(text: str) -> str:
    return _COLOUR.sub("", text) if "\x1b" in text else text


def _nanoseconds(moment: Any) -> int:
    return moment.seconds * 1_000_000_000 + moment.nanos  # type: ignore[no-any-return]
