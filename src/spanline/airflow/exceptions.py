"""Spanline's exceptions under Airflow: the same names, and what Airflow knows of each is whether to try again.

Each derives from the core's exception of that name and from `AirflowException`. Of a permanent failure a subclass is
raised that derives from `AirflowFailException` as well, so that no Airflow retry is spent on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from spanline import errors
from spanline.failures.matching import UNKNOWN


class SpanlineError(errors.SpanlineError, AirflowException):
    """Base of those that are not about how a run ended."""


class RunBusy(errors.RunBusy, AirflowException):
    """Another process that is alive holds the run: a later try may find it free."""


class UsageError(errors.UsageError, AirflowFailException):
    """Something that was asked for can't be done, however often it is tried."""


class DbtException(errors.DbtException, AirflowException):
    """A run did not succeed."""


class DbtCompilationException(DbtException, errors.DbtCompilationException):
    """dbt couldn't read, parse or compile the project, or a node of it."""


class DbtProfileException(DbtException, errors.DbtProfileException):
    """The profile is missing or incomplete, or names what can't be used."""


class DbtConnectionException(DbtException, errors.DbtConnectionException):
    """The warehouse can't be reached, or doesn't know the user."""


class DbtRuntimeException(DbtException, errors.DbtRuntimeException):
    """Nodes failed while they ran, or tests failed."""


class DbtTestFailed(DbtRuntimeException, errors.DbtTestFailed):
    """Tests failed, and nothing else did."""


class DbtCancelled(DbtException, errors.DbtCancelled):
    """The run was cancelled before it was done."""


class DbtTimeout(DbtException, errors.DbtTimeout):
    """The run, or one of its nodes, took longer than allowed and was cancelled."""


class RunnerDied(DbtException, errors.RunnerDied):
    """dbt's process, or its supervisor, ended without a result: the next try resumes the run."""


class PermanentCompilationException(DbtCompilationException, AirflowFailException):
    """A `DbtCompilationException` that another try would meet again."""


class PermanentProfileException(DbtProfileException, AirflowFailException):
    """A `DbtProfileException` that another try would meet again."""


class PermanentConnectionException(DbtConnectionException, AirflowFailException):
    """A `DbtConnectionException` that another try would meet again, such as a wrong password."""


class PermanentRuntimeException(DbtRuntimeException, AirflowFailException):
    """A `DbtRuntimeException` that another try would meet again."""


class PermanentTestFailed(DbtTestFailed, AirflowFailException):
    """A `DbtTestFailed`: the data is what it is."""


class PermanentCancelled(DbtCancelled, AirflowFailException):
    """A `DbtCancelled`: somebody wanted the run to end."""


_OURS: Final[Mapping[type[errors.DbtException], tuple[type[DbtException], type[DbtException]]]] = {
    errors.DbtException: (DbtException, DbtException),
    errors.DbtCompilationException: (DbtCompilationException, PermanentCompilationException),
    errors.DbtProfileException: (DbtProfileException, PermanentProfileException),
    errors.DbtConnectionException: (DbtConnectionException, PermanentConnectionException),
    errors.DbtRuntimeException: (DbtRuntimeException, PermanentRuntimeException),
    errors.DbtTestFailed: (DbtTestFailed, PermanentTestFailed),
    errors.DbtCancelled: (DbtCancelled, PermanentCancelled),
    errors.DbtTimeout: (DbtTimeout, DbtTimeout),
    errors.RunnerDied: (RunnerDied, RunnerDied),
}
"""For each of the core's: the one that Airflow may retry, and the one that it must not."""


@contextmanager
def airflow_exceptions() -> Iterator[None]:
    """Raise Airflow's kind of exception where the core raises its own."""
    try:
        yield
    except AirflowException:
        raise
    except errors.SpanlineError as error:
        raise of(error) from error


def of(error: errors.SpanlineError) -> AirflowException:
    """Airflow's kind of this exception, with what it says."""
    if isinstance(error, errors.DbtException):
        mine, permanent = _OURS[type(error)]
        kind = permanent if _is_permanent(error) else mine
        found = kind(
            str(error),
            run_id=error.run_id,
            failed_nodes=error.failed_nodes,
            category=error.category,
            transient=error.transient,
        )
        found.__dict__.update(error.__dict__)  # what only some have: the connection, the field, the signal
        return found
    if isinstance(error, errors.RunBusy):
        return RunBusy(str(error))
    return (UsageError if isinstance(error, errors.UsageError) else SpanlineError)(str(error))


def _is_permanent(error: errors.DbtException) -> bool:
    """Whether another try would end the same way. Of an unknown error nobody knows: Airflow's `retries` decide."""
    return isinstance(error, errors.DbtTestFailed) or not (error.transient or error.category == UNKNOWN)
