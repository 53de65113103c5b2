"""Which limit of time is exceeded, and what is asked for then: each once."""

from __future__ import annotations

import time

from spanline import events
from spanline.home.limits import Limits
from spanline.journal.state import TIME_OUT, RunState, state_of
from spanline.supervisor.time_limits import TimeLimits
from tests.support.journals import session_started

NODE = "model.shop.slow"


def running(seconds: float) -> RunState:
    """A session in which a node has run for so long, by the monotonic clock."""
    then = time.monotonic_ns() - int(seconds * 1e9)
    started = session_started("01890a5d-ac96-774b-bcce-b302099a8057", session=1, time=then, mono=then)
    node = events.NodeStarted(unique_id=NODE, thread="t", session=1, step=1, attempt=1, time=then, mono=then)
    return state_of([started, node])


def test_without_a_limit_nothing_is_exceeded() -> None:
    limits = TimeLimits(Limits())
    limits.begin()
    assert limits.exceeded(lambda: running(10_000)) is None


def test_a_node_that_takes_longer_is_named_once() -> None:
    limits = TimeLimits(Limits(node_timeout=60.0))
    assert limits.exceeded(lambda: running(30)) is None
    order = limits.exceeded(lambda: running(61))
    assert order is not None
    assert (order.by, order.unique_id, order.reason) == (TIME_OUT, NODE, f"{NODE} took longer than 60 s")
    assert limits.exceeded(lambda: running(62)) is None


def test_a_session_that_takes_longer_is_cancelled_once_and_not_before_it_has_begun() -> None:
    limits = TimeLimits(Limits(timeout=0.0, node_timeout=60.0))
    assert limits.exceeded(lambda: running(1)) is None
    limits.begin()
    before = time.monotonic()
    while time.monotonic() == before:
        pass
    order = limits.exceeded(lambda: running(1))
    assert order is not None
    assert (order.unique_id, order.reason) == (None, "the run took longer than 0 s")
    assert limits.exceeded(lambda: running(61)) is None, "it is being cancelled already"
