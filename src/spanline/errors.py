"""Exceptions that Spanline raises.

    SpanlineError
    ├── UsageError                  something asked of Spanline can't be done; the message says what to do
    │   ├── RunNotFound             no run has this id
    │   ├── RunBusy                 another live process holds the run
    │   └── ArtifactsNotFound       there are no such artifacts in the store
    └── DbtException                a run did not succeed
        ├── DbtCompilationException   dbt couldn't read, parse or compile the project
        ├── DbtProfileException       the profile is missing or incomplete, or names what can't be used
        ├── DbtConnectionException    the warehouse can't be reached, or doesn't know the user
        ├── DbtRuntimeException       nodes failed in the warehouse
        │   └── DbtTestFailed           nothing but tests failed
        ├── DbtCancelled              the run was cancelled
        ├── DbtTimeout                the run, or a node, took longer than it may
        └── RunnerDied                dbt's process, or its supervisor, died

`RunResult.raise_for_failure()` raises `DbtException` and its subclasses, because a failed run is a result, not an error
of the call. The exception is `DbtProfileException`, which `spanline.profiles` raises before there is a run, if a
connection cannot be made into a profile. `spanline.failures` classifies each error, and docs/errors.md says which
exception that becomes.
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


class ArtifactsNotFound(UsageError):  # noqa: N818
    """A store has no artifacts of what was asked for."""


class DbtException(SpanlineError):  # noqa: N818
    """A run did not succeed.

    `run_id` names it, and is empty where none was begun; `failed_nodes` are the unique ids of the nodes that failed.
    `category` says what went wrong (a category of `spanline.failures`) and `transient` whether another attempt can
    help: where nodes failed differently, both are those of the most permanent failure.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str = "",
        failed_nodes: Sequence[str] = (),
        category: str = "unknown",
        transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.failed_nodes = tuple(failed_nodes)
        self.category = category
        self.transient = transient


class DbtCompilationException(DbtException):
    """dbt couldn't read, parse or compile the project, or a node of it."""


class DbtProfileException(DbtException):
    """The profile is missing or incomplete, or names a database, warehouse or driver that can't be used.

    Where it was to be made of a connection, `conn_id` names that, and `field` what is missing in it, or wrong.
    """

    conn_id: str | None = None
    field: str | None = None


class DbtConnectionException(DbtException):
    """The warehouse can't be reached, or doesn't know the user.

    `conn_id` is the caller's name of the connection (Airflow's connection id), else `PROFILE.TARGET`.
    """

    conn_id: str | None = None


class DbtRuntimeException(DbtException):
    """Nodes failed while they ran, or tests failed."""


class DbtTestFailed(DbtRuntimeException):
    """Tests failed, and nothing else did."""


class DbtCancelled(DbtException):
    """The run was cancelled before it was done."""


class DbtTimeout(DbtException):
    """The run, or one of its nodes, took longer than allowed and was cancelled.

    The node is the last of `failed_nodes`.
    """


class RunnerDied(DbtException):
    """The process that ran dbt, or its supervisor, ended without a result. `signal` names what killed it, if known."""

    signal: str | None = None
