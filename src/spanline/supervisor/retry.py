"""Whether to try a step again, and when: tenacity, over what the journal says of the attempt before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec
import tenacity

from spanline.failures.classify import Failure, failure_of, most_permanent
from spanline.home.limits import Limits
from spanline.journal.state import AttemptState, RunState
from spanline.runner.shared import exit_codes

if TYPE_CHECKING:
    from tenacity.stop import StopBaseT

MOST_SECONDS: Final = 60.0
"""The longest wait between two attempts."""


class Verdict(msgspec.Struct, frozen=True):
    """What is to be said of a failed attempt: whether another can help, because of what, and for which nodes not."""

    again: bool
    reason: str
    lost: tuple[str, ...] = ()


def verdict(state: RunState, attempt: AttemptState, *, partial: bool) -> Verdict:
    """Look at what failed in an attempt. Only what is known to pass by itself is worth another."""
    found = _failures(state, attempt)
    permanent = {key: failure for key, failure in found.items() if not failure.transient}
    again = not permanent or (partial and len(permanent) < len(found))
    # What is tried again is named, not what isn't.
    reason = most_permanent(failure for failure in found.values() if failure.transient or not again)
    if reason is None:
        return Verdict(again=False, reason="nobody knows what went wrong")
    return Verdict(again, f"{reason.category} ({reason.rule or 'no rule'})", _with_their_skipped(permanent, state))


def _failures(state: RunState, attempt: AttemptState) -> dict[str, Failure]:
    here = [n for n in state.failed_nodes if (n.step, n.attempt) in ((attempt.step, attempt.attempt), (0, 0))]
    if here:
        return {node.unique_id: failure_of(node.said, state.adapter) for node in here}
    said = attempt.exception
    return {"": failure_of(said, state.adapter)} if said else {}


def _with_their_skipped(permanent: Iterable[str], state: RunState) -> tuple[str, ...]:
    """What failed for good, and what was skipped and waits for it, though dbt may have named another cause."""
    lost = dict.fromkeys(filter(None, permanent))
    skipped = {node.unique_id for node in state.nodes.values() if node.status == "skipped"}
    while more := [key for key in skipped - lost.keys() if not lost.keys().isdisjoint(_causes(key, state))]:
        lost.update(dict.fromkeys(sorted(more)))
    return tuple(lost)


def _causes(unique_id: str, state: RunState) -> Iterable[str]:
    described = state.descriptions.get(unique_id)
    return (state.nodes[unique_id].cause or "", *(described.depends_on if described is not None else ()))


def attempts(
    limits: Limits,
    worth_another: Callable[[int], bool],
    announce: Callable[[float], None],
    sleep: Callable[[float], None],
) -> tenacity.Retrying:
    """Tenacity's loop over a function that does one attempt and returns its exit code.

    `announce` is told the seconds of each wait before it; `sleep` does the waiting.
    """
    return tenacity.Retrying(
        stop=_stop(limits),
        wait=tenacity.wait_exponential(limits.retry_delay, MOST_SECONDS) + tenacity.wait_random(0, limits.retry_delay),
        retry=tenacity.retry_if_result(worth_another),
        before_sleep=lambda state: announce(state.upcoming_sleep),
        sleep=sleep,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else exit_codes.ERROR,
    )


def _stop(limits: Limits) -> StopBaseT:
    after_attempts = tenacity.stop_after_attempt(limits.retry_limit)
    # `before`: an attempt that would begin too late isn't waited for.
    within = limits.retry_within
    return after_attempts if within is None else after_attempts | tenacity.stop_before_delay(within)
