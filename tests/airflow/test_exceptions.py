"""Which exceptions Airflow may try again, and that the core's names and fields are theirs too."""

from __future__ import annotations

import pytest

from spanline import errors

pytestmark = pytest.mark.airflow

airflow = pytest.importorskip("spanline.airflow.exceptions")
sdk = pytest.importorskip("airflow.sdk.exceptions")

KINDS = [
    *(errors.DbtCompilationException, errors.DbtProfileException, errors.DbtConnectionException),
    *(errors.DbtRuntimeException, errors.DbtTestFailed, errors.DbtCancelled, errors.DbtTimeout, errors.RunnerDied),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("transient", [True, False])
def test_each_is_the_cores_and_airflows(kind: type[errors.DbtException], transient: bool) -> None:
    error = kind("said", run_id="r", failed_nodes=["a", "b"], category="data", transient=transient)
    found = airflow.of(error)
    assert isinstance(found, (kind,)), "except clauses for the core's names catch it"
    assert isinstance(found, getattr(airflow, kind.__name__))
    assert isinstance(found, sdk.AirflowException)
    assert (str(found), found.run_id, found.failed_nodes) == ("said", "r", ("a", "b"))
    assert (found.category, found.transient) == ("data", transient)


def fails_for_good(error: errors.SpanlineError) -> bool:
    return isinstance(airflow.of(error), sdk.AirflowFailException)


def test_what_another_try_would_meet_again_fails_for_good() -> None:
    assert fails_for_good(errors.DbtRuntimeException("no such column", category="not_found"))
    assert fails_for_good(errors.DbtConnectionException("wrong password", category="authentication"))
    assert fails_for_good(errors.DbtTestFailed("two rows", category="unknown"))
    assert fails_for_good(errors.DbtCancelled("by somebody", category="cancelled"))
    assert fails_for_good(errors.UsageError("no such project"))


def test_what_may_pass_is_tried_again() -> None:
    assert not fails_for_good(errors.DbtConnectionException("refused", category="connection", transient=True))
    assert not fails_for_good(errors.DbtRuntimeException("who knows", category="unknown"))
    assert not fails_for_good(errors.DbtTimeout("too long", category="timeout"))
    assert not fails_for_good(errors.RunnerDied("SIGKILL", category="internal"))
    assert not fails_for_good(errors.RunBusy("held"))


def test_what_only_some_have_is_kept() -> None:
    error = errors.DbtProfileException("host is missing", category="profile")
    error.conn_id, error.field = "warehouse", "host"
    found = airflow.of(error)
    assert (found.conn_id, found.field) == ("warehouse", "host")
