"""The steps of a session, one dbt command after the other: the attempts of each, their cancels and time-outs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from spanline import events
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.journal import ids
from spanline.journal.progress import Restriction
from spanline.journal.state import RunState
from spanline.profiles.file import ProfileFile
from spanline.runner.shared import exit_codes, settings
from spanline.runner.shared.settings import comments_queries, tunes_collector
from spanline.sinks.enabled import otel_is_configured
from spanline.supervisor import trace_context
from spanline.supervisor.attempt import TICK, Ending, Launch, Order, QueryComments, Runner, death
from spanline.supervisor.cancel import Orders
from spanline.supervisor.changes import Changes
from spanline.supervisor.full_disk import rest_of
from spanline.supervisor.keeping import keep_artifacts
from spanline.supervisor.profile import given
from spanline.supervisor.session_journal import SessionJournal
from spanline.supervisor.time_limits import TimeLimits
from spanline.system.stdio import Stdio

if TYPE_CHECKING:
    from spanline.profiles import Profile
    from spanline.supervisor.retry import Verdict

_NAMED: Final = 10

log = logging.getLogger("spanline")


class SessionFacts(NamedTuple):
    """What the steps of a session go by."""

    directory: RunDirectory
    spec: RunSpec
    number: int
    """The session's, within its run."""
    lease_fd: int
    environment: Mapping[str, str]
    """What dbt finds in its environment, except what its process is part of."""
    trace: Mapping[str, str]
    """The trace context that the session is part of."""
    stdio: Stdio
    foreground: bool
    profile: Profile | None


class Steps:
    """Does the steps of one session. `begun` is called once dbt's process has been started, `beat` now and then."""

    def __init__(
        self,
        facts: SessionFacts,
        journal: SessionJournal,
        orders: Orders,
        *,
        begun: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        self._facts = facts
        self._spec = facts.spec
        self._journal = journal
        self._orders = orders
        self._begun = begun
        self._beat = beat
        self._changes = Changes(journal.progress)
        self._time_limits = TimeLimits(facts.spec.limits)
        self._verdict: Verdict | None = None
        self._profile_file: ProfileFile | None = None

    def run(self) -> int:
        """Do the steps that are not done, in order, to the first that fails; return the exit code."""
        self._journal.catch_up()
        self._time_limits.begin()
        code = 0
        for step, argv in enumerate(self._spec.steps, 1):
            before = self._journal.progress.steps.get(step)
            if before is not None and before.done:
                continue
            self._journal.locate(self._facts.number, step, 0)
            self._journal.append(events.StepStarted(argv=argv))
            code = self._step(step, argv)
            if code != 0:
                break
            if self._journal.state.cancelling and step < len(self._spec.steps):
                return exit_codes.ERROR  # asked for too late for this step, in time for the next
        return code

    def _step(self, step: int, argv: Sequence[str]) -> int:
        """Try a step until it has ended well, or another attempt is no use; return the last one's exit code."""
        number = 0
        self._verdict = None

        def once() -> int:
            nonlocal number
            number += 1
            self._journal.catch_up()
            if self._journal.state.cancelling or self._orders.given:
                return exit_codes.ERROR  # while waiting for this attempt
            restriction = self._restriction(step)
            code = self._attempt(step, number, argv, restriction)
            self._journal.catch_up()
            self._tell_changes(step)
            # What was left out is still not done.
            left = progress.unfinished if (progress := self._journal.progress.steps.get(step)) is not None else []
            return 1 if code == 0 and left and restriction is not None else code

        if self._spec.limits.retry_limit == 1:
            return once()
        from spanline.supervisor.retry import attempts  # noqa: PLC0415 - tenacity and the rules: most runs need neither

        return int(attempts(self._spec.limits, self._worth_another, self._announce, self._sleep)(once))

    def _restriction(self, step: int) -> Restriction | None:
        progress = self._journal.progress.steps.get(step)
        lost = self._verdict.lost if self._verdict is not None else ()
        return progress.restriction(without=lost) if progress is not None else None

    def _worth_another(self, code: int) -> bool:
        from spanline.supervisor.retry import verdict  # noqa: PLC0415 - see `_step`

        attempt = self._journal.state.attempt
        if code == 0 or attempt is None or self._journal.state.cancelling or attempt.died is not None:
            return False
        self._verdict = verdict(self._journal.state, attempt, partial=self._spec.limits.retry_partial)
        return self._verdict.again

    def _announce(self, seconds: float) -> None:
        reason = self._verdict.reason if self._verdict is not None else ""
        self._journal.append(events.RetryScheduled(delay=seconds, reason=reason))
        log.warning("the attempt failed: %s; trying again in %.1f s", reason, seconds)

    def _sleep(self, seconds: float) -> None:
        """Wait for the next attempt, which a cancel makes needless."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._new_cancel() is None:
            self._tick()
            time.sleep(TICK)

    def _tell_changes(self, step: int) -> None:
        """Say what isn't in the project as it was when the run was begun."""
        changed = self._changes.changed(self._journal.state.descriptions)
        if changed:
            log.warning("the code has changed since this run began: %s", _named(changed))
        gone = self._changes.gone(self._journal.progress, step)
        if gone:
            log.warning(
                "no longer in the project, or disabled: %s (renamed nodes are not run; --full runs everything)",
                _named(gone),
            )

    def _attempt(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None) -> int:
        self._journal.locate(self._facts.number, step, attempt)
        known = self._environment_of(step, attempt)
        with given(self._facts.profile, Path(self._spec.project_dir), argv, known) as (
            environment,
            self._profile_file,
        ):
            launch = Launch(
                # dbt v2 needs no interpreter of its own: ours has what its runner imports.
                python=self._spec.python if self._spec.program is None else sys.executable,
                cwd=self._spec.cwd,
                environment=environment,
                stdio=self._facts.stdio,
                foreground=self._facts.foreground,
                lease_fd=self._facts.lease_fd,
                journal_fd=self._journal.appender.fd,
            )
            with Runner(launch) as runner:
                unfinished = len(restriction.unfinished) if restriction is not None else None
                self._journal.append(
                    events.AttemptStarted(argv=list(argv), pid=runner.pid, python=launch.python, unfinished=unfinished)
                )
                runner.give(self._order(step, attempt, argv, restriction))
                self._begun()
                ending = runner.wait(self._tick, self._new_cancel, self._tell_killed)
        return self._conclude(ending)

    def _environment_of(self, step: int, attempt: int) -> Mapping[str, str]:
        """What dbt finds in its environment; with traces on, what its process is part of."""
        if not otel_is_configured(os.environ, "traces"):
            return self._facts.environment
        above = ids.level(step, attempt, len(self._spec.steps))
        parent = self._facts.trace.get(settings.TRACEPARENT)
        own = trace_context.for_dbt(self._spec.run_id, self._facts.number, parent, above, os.environ)
        return {**trace_context.without_dbts_own_spans(self._facts.environment), **own}

    def _order(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None) -> Order:
        return Order(
            args=list(argv),
            project_dir=self._spec.project_dir,
            journal=str(self._facts.directory.journal),
            faults=str(self._facts.directory.faults),
            writer=f"runner-{self._facts.number}-{step}-{attempt}",
            session=self._facts.number,
            step=step,
            attempt=attempt,
            grace=self._spec.limits.grace,
            restriction=restriction,
            comments=self._comments(step, attempt),
            tune_collector=self._spec.program is None and _tunes_collector(),
            program=self._spec.program,
        )

    def _comments(self, step: int, attempt: int) -> QueryComments | None:
        """What dbt's statements say that they are part of, where that is asked for and there are traces."""
        try:
            if not comments_queries(os.environ) or not otel_is_configured(os.environ, "traces"):
                return None
        except ValueError as error:
            log.warning("statements carry no trace context: %s", error)
            return None
        return QueryComments(self._spec.run_id, self._environment_of(step, attempt)[settings.TRACEPARENT])

    def _tick(self) -> None:
        self._beat()
        self._look_for_time_out()
        self._remove_read_profile()

    def _remove_read_profile(self) -> None:
        """Remove the profile's file as soon as dbt parses the project: it has read it then."""
        if self._profile_file is None:
            return
        self._journal.catch_up()
        attempt = self._journal.state.attempt
        if attempt is not None and attempt.under_way and attempt.phase is not None:
            self._profile_file.remove()
            self._profile_file = None

    def _tell_killed(self) -> None:
        self._journal.append(events.RunnerKilled(reason="the grace period is over"))

    def _look_for_time_out(self) -> None:
        """Order a cancel of our own where the session, or a node, takes longer than it may."""
        order = self._time_limits.exceeded(self._known)
        if order is not None:
            log.warning("%s: it is cancelled", order.reason)
            self._orders.give(order)

    def _known(self) -> RunState:
        self._journal.catch_up()
        return self._journal.state

    def _new_cancel(self) -> float | None:
        """The grace of a cancel that was asked for since the last look, which is journalled then."""
        order = self._orders.new()
        if order is None:
            return None
        grace = self._spec.limits.grace if order.grace is None else order.grace
        self._journal.append(
            events.CancelRequested(by=order.by, reason=order.reason, grace=grace, unique_id=order.unique_id)
        )
        return grace

    def _conclude(self, ending: Ending) -> int:
        """Say how the runner ended, and keep dbt's artifacts."""
        self._journal.settle()
        code = ending.returncode
        attempt = self._journal.state.attempt
        if ending.stopped:
            self._append_rest(ending.stopped)
        if ending.exit_code is not None and code >= 0:
            code = ending.exit_code  # not Python's, another where dbt's output could not be written to the end
            self._journal.append(events.AttemptEnded(exit_code=code))
        elif attempt is not None and attempt.exit_code is not None and code >= 0:
            self._journal.append(events.AttemptEnded(exit_code=code))
        else:
            self._journal.append(death(code, self._facts.directory.faults, killed=self._journal.state.killed))
            code = exit_codes.ERROR
        self._journal.settle()
        if attempt is not None and not ending.stopped:
            keep_artifacts(self._facts.directory, self._journal, attempt)
        return code

    def _append_rest(self, why: str) -> None:
        """End what the runner could not: as dbt's results say, where they are of this invocation."""
        self._journal.appender.make_room()
        self._journal.append(events.JournalStopped(reason=why))
        rest = rest_of(self._journal.state)
        for event in rest.ends if rest is not None else ():
            self._journal.append(event)


def _named(unique_ids: Sequence[str]) -> str:
    more = f" and {len(unique_ids) - _NAMED} more" if len(unique_ids) > _NAMED else ""
    return ", ".join(unique_ids[:_NAMED]) + more


def _tunes_collector() -> bool:
    try:
        return tunes_collector(os.environ)
    except ValueError as error:
        log.warning("the garbage collector stays as dbt has it: %s", error)
        return False
