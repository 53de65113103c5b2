"""Exceptions that Spanline raises.

    SpanlineError
    ├── UsageError                  something asked of Spanline can't be done; the message says what to do
    │   ├── RunNotFound             no run has this id
    │   └── RunBusy                 another live process holds the run
    └── DbtException                a run did not succeed
        ├── DbtCompilationException   dbt couldn't parse or compile the project
        ├── DbtRuntimeException       nodes failed in the warehouse, or tests failed
        ├── DbtCancelled              the run was cancelled
        ├── DbtTimeout                the run, or a node, took longer than it may
        └── RunnerDied                dbt's process, or its supervisor, died

`DbtException` and those below it are raised by `RunResult.raise_for_failure()` only: that a run failed is a result.
"""

from __future__ import annotations

from collections.abc import Sequence


class SpanlineError(Exception):
    """Base of everything that Spanline raises."""


class UsageError(SpanlineError):
    """Something that was asked for can't be done; the message says why, and what to do."""


class RunNotFound(UsageError):  # noqa: N818
    """No run has the id that was given."""


class RunBusy(UsageError):  # noqa: N818
    """Another process that is alive holds the run."""


class DbtException(SpanlineError):  # noqa: N818
    """A run did not succeed. `run_id` names it; `failed` are the unique ids of the nodes that failed."""

    def __init__(self, message: str, *, run_id: str, failed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.failed = tuple(failed)


class DbtCompilationException(DbtException):
    """dbt couldn't read, parse or compile the project: no node ran."""


class DbtRuntimeException(DbtException):
    """Nodes failed while they ran, or tests failed."""


class DbtCancelled(DbtException):
    """The run was cancelled before it was done."""


class DbtTimeout(DbtException):
    """The run, or one of its nodes, took longer than it may, and was cancelled."""


class RunnerDied(DbtException):
    """The process that ran dbt, or its supervisor, ended without a result. `signal` names what killed it, if known."""

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        failed: Sequence[str] = (),
        signal: str | None = None,
    ) -> None:
        super().__init__(message, run_id=run_id, failed=failed)
        self.signal = signal
