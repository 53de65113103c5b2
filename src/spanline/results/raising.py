"""The exception that a failed run amounts to: which one, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

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
from spanline.failures.matching import UNKNOWN
from spanline.journal.state import CANCELLED, DIED

if TYPE_CHECKING:
    from spanline.results.result import RunResult

EXCEPTIONS: Final[Mapping[str, type[DbtException]]] = {
    "compilation": DbtCompilationException,
    "parsing": DbtCompilationException,
    "profile": DbtProfileException,
    "connection": DbtConnectionException,
    "authentication": DbtConnectionException,
    "cancelled": DbtCancelled,
}
"""By category; every other one is a `DbtRuntimeException`. docs/errors.md has the same table."""

_ADVICE: Final[Mapping[str, str]] = {
    "compilation": "mend the project",
    "parsing": "mend the project",
    "profile": "mend the profile (`dbt debug` checks it)",
    "connection": "see that the warehouse can be reached (`dbt debug` tries it)",
    "authentication": "see that the credentials are valid (`dbt debug` tries them)",
    "permission": "grant the user what it lacks",
    "not_found": "see that what it names is there",
    "syntax": "mend the SQL",
    "data": "look at the data, and at what is expected of it",
    "timeout": "give it more time, or less to do",
    "throttled": "ask for less at a time (fewer threads), or later",
    "concurrency": "keep others away from the same tables, or try later",
    "resource": "give the warehouse more, or the query less to do",
    "internal": "look at dbt's log",
}

_OF_OUTCOME: Final[Mapping[type[DbtException], str]] = {
    RunnerDied: "internal",
    DbtTimeout: "timeout",
    DbtCancelled: "cancelled",
}
"""The category where the run's outcome, and no error, decides."""

_USAGE: Final = "dbt.usage"
"""The rule that knows what dbt's command line says of its arguments: with the same ones it will say so again."""


def exception_of(result: RunResult) -> DbtException:
    """The exception for a run that did not succeed."""
    failure = result.failure
    kind = _kind(result)
    error = kind(
        _message(result),
        run_id=result.run_id,
        failed=[*(node.unique_id for node in result.failed_nodes), *filter(None, [result.timed_out_node])],
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
    again = f"`spanline retry {result.run_id}` does what is left"
    if result.timed_out:  # whatever else has failed before
        return f"{said}\ntimeout: {_ADVICE['timeout']}; then {again}"
    failure = result.failure
    if failure is not None and failure.rule == _USAGE:
        return f"{said}\n{failure.category}, which won't pass by itself: give dbt other arguments"
    if failure is None or failure.category not in _ADVICE:
        return f"{said}\n{again}"
    how = "may pass by itself" if failure.transient else "won't pass by itself"
    return f"{said}\n{failure.category}, which {how}: {_ADVICE[failure.category]}; then {again}"
