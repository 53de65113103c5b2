"""RunResult: how a run ended, as plain data, and as an exception on request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import (
    DbtCancelled,
    DbtCompilationException,
    DbtConnectionException,
    DbtException,
    DbtProfileException,
    DbtRuntimeException,
    DbtTestFailed,
    DbtTimeout,
    RunnerDied,
    UsageError,
)
from spanline.failures.classify import Failure
from spanline.failures.matching import UNKNOWN
from spanline.journal.state import CANCELLED, DIED, FAILED, SUCCESS, Outcome

_TESTS: Final = frozenset(("test", "unit_test"))

EXCEPTIONS: Final[Mapping[str, type[DbtException]]] = {
    "compilation": DbtCompilationException,
    "parsing": DbtCompilationException,
    "profile": DbtProfileException,
    "connection": DbtConnectionException,
    "authentication": DbtConnectionException,
    "cancelled": DbtCancelled,
}
"""By category; every other one is a `DbtRuntimeException`. docs/errors.md has the same table."""

ADVICE: Final[Mapping[str, str]] = {
    "compilation": "fix the project",
    "parsing": "fix the project",
    "profile": "fix the profile (`dbt debug` checks it)",
    "connection": "check that the warehouse can be reached (`dbt debug` tries it)",
    "authentication": "check the credentials (`dbt debug` tries them)",
    "permission": "grant the missing permission to the user",
    "not_found": "check that the named object exists",
    "syntax": "fix the SQL",
    "data": "check the data, and what the code expects of it",
    "timeout": "allow more time, or reduce the work",
    "throttled": "use fewer threads, or try again later",
    "concurrency": "keep other processes off the same tables, or try again later",
    "resource": "use a larger warehouse, or reduce what the query does",
    "internal": "read dbt's log",
}
"""What to do, by category."""

_OF_OUTCOME: Final[Mapping[type[DbtException], str]] = {
    RunnerDied: "internal",
    DbtTimeout: "timeout",
    DbtCancelled: "cancelled",
}
"""The category where the run's outcome, and no error, decides."""

_USAGE: Final = "dbt.usage"
"""The rule that knows what dbt's command line says of its arguments: with the same ones it will say so again."""


_NAMED: Final = 50
_OF_A_NAME: Final = 300
_OF_A_NODE: Final = 500
_OF_A_PLACE: Final = 1_000
_OF_A_RUN: Final = 3_000
"""The bounds of a summary: failed nodes; characters of a name, of a node's error, of a place, of the run's error."""
_OF_A_KEY: Final = 60
_ENTRIES: Final = 12
_SUMMARY_BYTES: Final = 50_000


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one node ended. `status` is dbt's, or `cancelled` or `interrupted`; `execution_time` is in seconds.

    `path` is the node's file, relative to the project. `failing_rows` is the number of rows that a test found. `cause`
    is the failed node because of which it was skipped or cancelled. `failure` classifies its error.
    """

    unique_id: str
    status: str
    resource_type: str | None = None
    name: str | None = None
    path: Path | None = None
    execution_time: float = 0.0
    message: str | None = None
    failing_rows: int | None = None
    rows_affected: int | None = None
    cause: str | None = None
    failure: Failure | None = None

    @property
    def is_failed_test(self) -> bool:
        """Whether it is a test, and found what it looks for (one that couldn't run is no such test)."""
        return self.resource_type in _TESTS and self.status == "fail"

    @property
    def is_failure(self) -> bool:
        """Whether it ended in failure (a skipped node did not)."""
        return self.status in FAILED


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    `outcome` is success, failed, cancelled or died. `exit_code` has dbt's meaning: 0 success, 1 nodes failed, 2 any
    other error. `elapsed` is in seconds. `failure` is the most permanent of its failures. `conn_id` names the
    connection to the warehouse. `undelivered` counts the messages that each sink has not delivered (`spanline replay`
    sends them). The artifacts are stored below `artifacts_url`; `upload_error` says why they are not. `incomplete` says
    why the journal lacks something, if it does. `timed_out_node` took longer than allowed. `cancelled_by` and
    `cancel_reason` say who asked for the cancel, and why.

    The result of a resumed run covers all its sessions: `nodes` are those that earlier sessions completed and those of
    the last one. Of the `total` nodes, `completed` have succeeded or failed. `sessions` and `attempts` are counts,
    `invocation_ids` are dbt's, and `trace_ids` those of the sessions. `artifacts` maps names to the latest file of each
    name. `elapsed`, `failure` and the other fields describe the last session.
    """

    run_id: str
    outcome: Outcome
    exit_code: int
    elapsed: float
    directory: Path
    nodes: tuple[NodeResult, ...] = ()
    completed: int = 0
    total: int = 0
    error: str | None = None
    failure: Failure | None = None
    conn_id: str | None = None
    signal: str | None = None
    timed_out: bool = False
    timed_out_node: str | None = None
    incomplete: str | None = None
    undelivered: Mapping[str, int] = {}
    artifacts_url: str | None = None
    upload_error: str | None = None
    cancelled_by: str | None = None
    cancel_reason: str | None = None
    artifacts: Mapping[str, Path] = {}
    sessions: int = 1
    attempts: int = 1
    invocation_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the run succeeded."""
        return self.outcome == SUCCESS

    @property
    def failed_nodes(self) -> tuple[NodeResult, ...]:
        """The nodes that failed, in the order in which they did."""
        return tuple(node for node in self.nodes if node.is_failure)

    @property
    def counts(self) -> dict[str, int]:
        """The number of nodes per status."""
        found: dict[str, int] = {}
        for node in self.nodes:
            found[node.status] = found.get(node.status, 0) + 1
        return found

    def to_dict(self) -> dict[str, object]:
        """All of it, in types that JSON has; paths are text. `from_dict` reads it."""
        return dict(msgspec.to_builtins(self, enc_hook=str))

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> RunResult:
        """The result that `to_dict` was asked of. Raises `UsageError` if a field has another type."""
        try:
            return msgspec.convert(dict(fields), cls, dec_hook=_as_path)
        except msgspec.ValidationError as error:
            raise UsageError(f"this is not a run's result: {error}") from error

    def summary(self) -> dict[str, object]:
        """What a scheduler has to know: at most 50 kB of JSON, without NaN or infinity.

        Of the failed nodes it names at most the first 50, each with the beginning of its message; `failed` counts all.
        """
        named = _NAMED
        found = self._summary(named)
        while named and len(json.dumps(found)) > _SUMMARY_BYTES:
            named //= 2
            found = self._summary(named)
        return found

    def _summary(self, named: int) -> dict[str, object]:
        failed, failure = self.failed_nodes, self.failure
        return {
            "run_id": self.run_id,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "elapsed": self.elapsed if math.isfinite(self.elapsed) else None,
            "counts": _first(self.counts),
            "total": self.total,
            "completed": self.completed,
            "failed": len(failed),
            "failed_nodes": [_failed(node) for node in failed[:named]],
            "error": _cut(self.error, _OF_A_RUN),
            "category": failure.category if failure is not None else None,
            "transient": failure.transient if failure is not None else None,
            "timed_out": self.timed_out,
            "cancelled_by": _cut(self.cancelled_by, _OF_A_NAME),
            "cancel_reason": _cut(self.cancel_reason, _OF_A_NAME),
            "incomplete": _cut(self.incomplete, _OF_A_NAME),
            "sessions": self.sessions,
            "attempts": self.attempts,
            "trace_id": self.trace_ids[-1] if self.trace_ids else None,
            "directory": _cut(str(self.directory), _OF_A_PLACE),
            "artifacts": _first(self.artifacts) if named else {},
            "artifacts_url": _cut(self.artifacts_url, _OF_A_PLACE),
            "upload_error": _cut(self.upload_error, _OF_A_NAME),
            "undelivered": _first(self.undelivered),
        }

    def raise_for_failure(self) -> RunResult:
        """Raise the exception for the outcome, or return this result if the run succeeded.

        Raises a `DbtException`: docs/errors.md says which.
        """
        if self.success:
            return self
        raise exception_of(self)


def _as_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"no value of {kind}")


def _first(found: Mapping[str, object]) -> dict[str, object]:
    """The first entries of a mapping, paths as text."""
    entries = list(found.items())[:_ENTRIES]
    return {
        name[:_OF_A_KEY]: _cut(str(value), _OF_A_PLACE) if isinstance(value, Path) else value for name, value in entries
    }


def _failed(node: NodeResult) -> dict[str, object]:
    return {
        "unique_id": _cut(node.unique_id, _OF_A_NAME),
        "status": node.status,
        "message": _cut(node.message, _OF_A_NODE),
        "category": node.failure.category if node.failure is not None else None,
    }


def _cut(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[: length - 1]}…"


def exception_of(result: RunResult) -> DbtException:
    """The exception for a run that did not succeed."""
    failure = result.failure
    kind = _kind(result)
    error = kind(
        _message(result),
        run_id=result.run_id,
        failed_nodes=[*(node.unique_id for node in result.failed_nodes), *filter(None, [result.timed_out_node])],
        category=_OF_OUTCOME.get(kind) or (failure.category if failure is not None else UNKNOWN),
        transient=failure is not None and failure.transient and kind not in _OF_OUTCOME,
    )
    if isinstance(error, RunnerDied):
        error.signal = result.signal
    elif isinstance(error, DbtConnectionException):
        error.conn_id = result.conn_id
    return error


def _kind(result: RunResult) -> type[DbtException]:
    if result.outcome == DIED:
        return RunnerDied
    if result.outcome == CANCELLED:
        return DbtTimeout if result.timed_out else DbtCancelled
    if result.failed_nodes and all(node.is_failed_test for node in result.failed_nodes):
        return DbtTestFailed
    if result.failure is None:
        return DbtRuntimeException
    return EXCEPTIONS.get(result.failure.category, DbtRuntimeException)


def _message(result: RunResult) -> str:
    said = result.error or "dbt failed"
    again = f"`spanline retry {result.run_id}` resumes the run"
    if result.timed_out:  # whatever else has failed before
        return f"{said}\ntimeout: {ADVICE['timeout']}; then {again}"
    failure = result.failure
    if failure is not None and failure.rule == _USAGE:
        return f"{said}\n{failure.category} (permanent): change dbt's arguments"
    if failure is None or failure.category not in ADVICE:
        return f"{said}\n{again}"
    how = "transient" if failure.transient else "permanent"
    return f"{said}\n{failure.category} ({how}): {ADVICE[failure.category]}; then {again}"
