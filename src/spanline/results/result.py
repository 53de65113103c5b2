"""RunResult: how a run ended, as plain data, and as an exception on request."""

from __future__ import annotations

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


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one node ended. `status` is dbt's, or `cancelled` or `interrupted`; `execution_time` is in seconds.

    `failing_rows` counts the rows that a test found; `cause` is the failed node for which it was skipped or cancelled;
    `failure` says what its error is.
    """

    unique_id: str
    status: str
    resource_type: str | None = None
    name: str | None = None
    path: str | None = None
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

    `outcome` is success, failed, cancelled or died. `exit_code` has dbt's meaning: 0 good, 1 nodes failed, 2 anything
    else. `elapsed` is in seconds. `failure` is the most permanent one of its errors. `conn_id` names the connection to
    the warehouse. `undelivered` counts what each sink still owes its backend (`spanline replay` sends it).
    `artifacts_url` is below what the artifacts are stored, `upload_error` why they are not.
    `incomplete` says why the journal doesn't hold everything that happened, where it doesn't. Of the `total` nodes that
    the last attempt was to do, `completed` have come to an end, good or bad. `timed_out_node` took longer than it may.
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

    def raise_for_failure(self) -> RunResult:
        """Raise the exception for the outcome, or return this result if the run succeeded.

        Raises a `DbtException`: docs/errors.md says which.
        """
        if self.success:
            return self
        raise exception_of(self)


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
