"""Why a session was wanted is told in lineage and in the trace, of the session alone."""

from __future__ import annotations

from spanline import events
from spanline.journal.ids import new_run_id
from spanline.journal.state import state_of
from spanline.sinks.openlineage import facets
from spanline.sinks.otel import attributes
from tests.support.journals import session_started


def test_the_reason_is_in_the_sessions_facet_and_in_its_span() -> None:
    started = session_started(new_run_id(), caller={"dag_id": "shop", "trigger_reason": "late data"})
    ended = events.SessionEnded(outcome="success", exit_code=0)
    state = state_of([started, ended])
    assert facets.of_session(state)["spanline_run"].trigger_reason == "late data"  # type: ignore[attr-defined]
    assert facets.of_node(state, "model.shop.a", (1, 1, 1))["spanline_run"].trigger_reason is None  # type: ignore[attr-defined]
    assert attributes.of_session(ended, state)["spanline.trigger_reason"] == "late data"


def test_without_a_reason_none_is_told() -> None:
    state = state_of([session_started(new_run_id())])
    assert facets.of_session(state)["spanline_run"].trigger_reason is None  # type: ignore[attr-defined]
