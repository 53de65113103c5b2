"""Supervise one session of a run: its steps and attempts, time-outs and cancels, and the sinks.

Attached, it is a thread of the caller's process; detached, a process of its own
(`spanline.supervisor.detached`). It holds the run's lease.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from spanline import events
from spanline._version import __version__
from spanline.dbt.project import project_name
from spanline.dbt.repository import find_repository
from spanline.home import lease
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.home.storage import storage_options_of
from spanline.journal import ids
from spanline.journal.appender import Appender, PatientAppender
from spanline.journal.progress import Restriction
from spanline.journal.state import CANCELLED, AttemptState, RunState
from spanline.profiles.file import ProfileFile, sweep
from spanline.runner.shared import exit_codes, settings
from spanline.runner.shared.secrets import secrets_of_mapping
from spanline.runner.shared.settings import comments_queries, tunes_collector
from spanline.sinks.dispatcher import Deliveries, delivery_ended, flush_seconds
from spanline.sinks.enabled import otel_is_configured
from spanline.sinks.error_text import in_short
from spanline.stats import keep_facts
from spanline.supervisor import trace_context
from spanline.supervisor.attempt import TICK, Ending, Launch, Order, QueryComments, Runner, death
from spanline.supervisor.cancel import CancelOrder, Orders
from spanline.supervisor.changes import Changes
from spanline.supervisor.column_resolver import ResolverProcess, start_resolver
from spanline.supervisor.full_disk import end_of_attempt, rest_of
from spanline.supervisor.heartbeat import Silence
from spanline.supervisor.keeping import keep_artifacts
from spanline.supervisor.lineage_parent import lineage_parent
from spanline.supervisor.profile import given
from spanline.supervisor.session_journal import SessionJournal
from spanline.supervisor.time_limits import TimeLimits
from spanline.system import process
from spanline.system.open_file import OpenFile
from spanline.system.stdio import Stdio

if TYPE_CHECKING:
    from spanline.profiles import Profile
    from spanline.supervisor.retry import Verdict

_BEAT_SECONDS: Final = 5.0
_GIT_SECONDS: Final = 1.0
_COLUMNS_SECONDS: Final = 2.0
"""How long the end of a session waits for columns that are still being looked for."""
_NAMED: Final = 10

log = logging.getLogger("spanline")


def open_session(
    appender: Appender | PatientAppender,
    spec: RunSpec,
    number: int,
    trace: Mapping[str, str],
    *,
    above: tuple[events.LineageRun | None, events.LineageRun | None],
    detached: bool,
    resumes: bool = False,
    conn_id: str | None = None,
) -> events.SessionStarted:
    """Write the event with which a session begins.

    `trace` is the trace context that it is part of, `above` its parent and its root in lineage, `conn_id` the
    connection that dbt's profile is made of.
    """
    parent, root = above
    started = events.SessionStarted(
        run_id=spec.run_id,
        lineage_run_id=ids.lineage_run_id(spec.run_id, number),
        trace_id=f"{ids.session_trace_id(spec.run_id, number, trace.get(settings.TRACEPARENT)):032x}",
        spanline_version=__version__,
        steps=spec.steps,
        project_dir=spec.project_dir,
        host=platform.node(),
        pid=os.getpid(),
        detached=detached,
        resumes=resumes,
        traceparent=trace.get(settings.TRACEPARENT),
        tracestate=trace.get(settings.TRACESTATE),
        lineage_parent=parent,
        lineage_root=root,
        caller=spec.caller,
        project=project_name(Path(spec.project_dir)),
        boot_id=process.boot_id(),
        conn_id=conn_id,
    )
    appender.locate(number, 0, 0)
    appender.append(started)
    return started


class Supervisor:
    """One session of one run, from its start to the end of its sinks."""

    def __init__(
        self,
        directory: RunDirectory,
        spec: RunSpec,
        held: lease.Lease,
        *,
        stdio: Stdio | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        profile: Profile | None = None,
        foreground: bool = False,
        detached: bool = False,
        resumes: bool = False,
        storage_options: Mapping[str, object] | None = None,
    ) -> None:
        """`environment` are variables that the session is given, beside those that the spec keeps, and our own.

        dbt reads the `profile`, where there is one, and else its own.
        `foreground` leaves the runner in our process group: on a terminal it must be able to read.
        With `resumes`, steps and nodes that are done according to the journal aren't done again. `storage_options`
        are what fsspec calls so, for the artifacts; by default they are the environment's.
        """
        self.directory = directory
        self._spec = spec
        self._lease = held
        self._stdio = stdio if stdio is not None else Stdio()
        self._given = environment
        self._trace = trace_context.current(os.environ, environment)
        self._environment = {**os.environ, **spec.environment, **environment, **self._trace}
        # They may hold credentials that are none of dbt's.
        self._storage_options = storage_options_of(self._environment) if storage_options is None else storage_options
        self._environment.pop(settings.ARTIFACTS_STORAGE_OPTIONS, None)
        self._profile = profile
        self._profile_file: ProfileFile | None = None
        self._foreground = foreground
        self._detached = detached
        self._journal = SessionJournal(directory)
        # A cancel of an earlier session is over. One that is asked for from now on, were it before `run`, holds.
        self._orders = Orders(directory)
        self._resumes = resumes
        self._journal.catch_up()
        self.session = self._journal.state.session_number + 1
        """The number of the session within its run."""
        self._changes = Changes(self._journal.progress)
        self._time_limits = TimeLimits(spec.limits)
        self._verdict: Verdict | None = None
        self._beat_at = time.monotonic()
        self._silence = Silence(self._journal.file)
        self._deliveries: Deliveries | None = None
        self._git: threading.Thread | None = None
        self._resolver: ResolverProcess | None = None
        self.undelivered: dict[str, int] = {}
        """What each sink had not delivered when the session ended."""

    @property
    def journal(self) -> OpenFile:
        """The journal's file."""
        return self._journal.file

    @property
    def unwritten(self) -> Sequence[events.Event]:
        """What the journal should hold at its end, and had no room for."""
        return self._journal.unwritten

    def run(self) -> int:
        """Do the session and return its exit code. An error of our own ends the session too, and is raised.

        What becomes of the run's directory meanwhile changes nothing of what dbt has done, nor of its exit code.
        """
        self._journal.appender.redactor.add(self._secrets())
        with contextlib.suppress(OSError):  # nobody's run depends on it
            sweep()
        open_session(
            self._journal.appender,
            self._spec,
            self.session,
            self._trace,
            above=self._above_in_lineage(),
            detached=self._detached,
            resumes=self._resumes,
            conn_id=self._profile.conn_id if self._profile is not None else None,
        )
        return self._deliver_while(self._steps)

    def cancel(self, order: CancelOrder) -> None:
        """Have the session cancelled; from any thread, and from a signal handler."""
        self._orders.give(order)

    def _secrets(self) -> list[str]:
        known = {**self._environment, **(self._profile.environment if self._profile is not None else {})}
        return [*self._spec.secrets(known), *secrets_of_mapping(self._storage_options)]

    def _above_in_lineage(self) -> tuple[events.LineageRun | None, events.LineageRun | None]:
        """Parent and root: those that the session was given, else those of our environment."""
        given = lineage_parent(self._given)
        return given if any(given) else lineage_parent(os.environ)

    def observe(self, caller_gone: int) -> int:
        """Deliver what a process that isn't ours journals, until dbt has finished there or the process is gone.

        `caller_gone` is a descriptor that reads end-of-file then. Returns the session's exit code.
        """
        self.session = 1  # it has begun already
        self._journal.appender.redactor.add(self._secrets())
        self._begin_beside()

        def wait() -> int:
            while not _has_ended(caller_gone, TICK):
                self._beat()
            self._journal.catch_up()
            attempt = self._journal.state.attempt
            self._journal.locate(self.session, 1, 1)
            if attempt is None or attempt.exit_code is None:
                died = events.RunnerDied(detail="the process that called dbt ended before dbt did")
                for event in end_of_attempt(self._journal.state, died):
                    self._journal.append(event)
                self._journal.settle()
                return exit_codes.ERROR if attempt is None or attempt.exit_code is None else attempt.exit_code
            self._journal.append(events.AttemptEnded(exit_code=attempt.exit_code))
            self._keep_artifacts(attempt)
            return attempt.exit_code

        return self._deliver_while(wait)

    def _deliver_while(self, work: Callable[[], int]) -> int:
        code = exit_codes.ERROR
        try:
            code = work()
        finally:
            self._journal.catch_up()
            self._journal.locate(self.session, 0, 0)
            self._stop_resolver(_COLUMNS_SECONDS if self._journal.state.nodes else 0.0)
            if self._git is not None:
                self._git.join(_GIT_SECONDS)
            outcome = self._journal.state.outcome(code)
            if outcome == CANCELLED:
                state = self._journal.state
                log.warning("cancelled: %d of %d nodes were completed", state.completed, state.total)
            self._journal.append(events.SessionEnded(outcome=outcome, exit_code=code))
            self._journal.settle()
            self._journal.appender.sync()
            try:
                self._do_after(self._finish_deliveries, "the delivery of run %s could not be ended: %s")
                self._do_after(self._upload, "the artifacts of run %s could not be stored: %s")
            finally:
                self._journal.look_for_loss()
                self._journal.appender.close()
                keep_facts(self.directory)
                self._lease.release()
        return code

    def _begin_beside(self) -> None:
        """Begin what goes on beside dbt, once: not before dbt's process, which would wait for all that is imported."""
        if self._deliveries is None:
            self._deliveries = Deliveries(self.directory, self._journal.file)
            self._resolver = start_resolver(self.directory, self._journal.appender.fd, self.session, os.environ)
            # Who asks for a cancel mustn't wait for git.
            self._git = threading.Thread(target=self._tell_repository, name="spanline-git", daemon=True)
            self._git.start()

    def _do_after(self, task: Callable[[], None], complaint: str) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - dbt has ended, and its exit code stands
            log.warning(complaint, self._spec.run_id, in_short(error))

    def _finish_deliveries(self) -> None:
        def tell(cursors: Mapping[str, Cursor]) -> None:
            self._journal.catch_up()
            self._journal.append(delivery_ended(self._journal.file, cursors, self._journal.state))
            self._journal.settle()

        # Where no attempt was begun, they have not been either.
        deliveries = self._deliveries or Deliveries(self.directory, self._journal.file)
        cursors = deliveries.finish(flush_seconds(), tell)
        self.undelivered = {name: cursor.undelivered for name, cursor in cursors.items() if not cursor.complete}
        self._deliveries = None  # they have taken most of the memory

    def _upload(self) -> None:
        """Store the artifacts, where that is asked for. Who asks for a cancel by now wants an end of that."""
        storage = self._spec.artifacts
        if storage is None:
            return
        from spanline.supervisor.upload import upload  # noqa: PLC0415 - needed when a run has ended, and not before

        self._new_cancel_order()

        def stop() -> bool:
            self._beat()
            return self._new_cancel_order()

        told = upload(self.directory, storage, self._storage_options, self._environment, stop)
        self._journal.append(told)
        self._journal.settle()
        if told.error is not None:
            log.warning(
                "the artifacts were not stored: %s; `spanline upload %s` tries again", told.error, self._spec.run_id
            )

    def _new_cancel_order(self) -> bool:
        return self._orders.new() is not None

    def _stop_resolver(self, timeout: float) -> None:
        if self._resolver is not None:
            reason = self._resolver.finish(timeout)
            self._journal.append(events.ColumnResolverStopped(reason=reason))
            self._resolver = None

    def _steps(self) -> int:
        self._journal.catch_up()
        self._time_limits.begin()
        code = 0
        for step, argv in enumerate(self._spec.steps, 1):
            before = self._journal.progress.steps.get(step)
            if before is not None and before.done:
                continue
            self._journal.locate(self.session, step, 0)
            self._journal.append(events.StepStarted(argv=argv))
            code = self._step(step, argv)
            if code != 0:
                break
            if self._journal.state.cancelling and step < len(self._spec.steps):
                return exit_codes.ERROR  # asked for too late for this step, in time for the next
        return code

    # --- one step -------------------------------------------------------------------------------------------------

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
                "no longer in the project, or disabled: %s (what is there by another name isn't run; --full does all)",
                _named(gone),
            )

    def _tell_repository(self) -> None:
        """Say where the project's code is, while dbt is being imported."""
        found = find_repository(Path(self._spec.project_dir))
        if found is not None:
            self._journal.append(found)

    # --- one attempt ----------------------------------------------------------------------------------------------

    def _attempt(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None) -> int:
        self._journal.locate(self.session, step, attempt)
        known = self._environment_of(step, attempt)
        with given(self._profile, Path(self._spec.project_dir), argv, known) as (environment, self._profile_file):
            launch = Launch(
                python=self._spec.python,
                cwd=self._spec.cwd,
                environment=environment,
                stdio=self._stdio,
                foreground=self._foreground,
                lease_fd=self._lease.fd,
                journal_fd=self._journal.appender.fd,
            )
            with Runner(launch) as runner:
                unfinished = len(restriction.unfinished) if restriction is not None else None
                self._journal.append(
                    events.AttemptStarted(argv=list(argv), pid=runner.pid, python=launch.python, unfinished=unfinished)
                )
                runner.give(self._order(step, attempt, argv, restriction))
                self._begin_beside()
                ending = runner.wait(self._tick, self._new_cancel, self._tell_killed)
        return self._conclude(ending)

    def _environment_of(self, step: int, attempt: int) -> dict[str, str]:
        """What dbt finds in its environment; with traces on, what its process is part of."""
        if not otel_is_configured(os.environ, "traces"):
            return self._environment
        above = ids.level(step, attempt, len(self._spec.steps))
        parent = self._trace.get(settings.TRACEPARENT)
        own = trace_context.for_dbt(self._spec.run_id, self.session, parent, above, os.environ)
        return {**trace_context.without_dbts_own_spans(self._environment), **own}

    def _order(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None) -> Order:
        return Order(
            args=list(argv),
            project_dir=self._spec.project_dir,
            journal=str(self.directory.journal),
            faults=str(self.directory.faults),
            writer=f"runner-{self.session}-{step}-{attempt}",
            session=self.session,
            step=step,
            attempt=attempt,
            grace=self._spec.limits.grace,
            restriction=restriction,
            comments=self._comments(step, attempt),
            tune_collector=_tunes_collector(),
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

    def _beat(self) -> None:
        now = time.monotonic()
        if now > self._beat_at + _BEAT_SECONDS:
            self._beat_at = now
            self._lease.beat()
        self._journal.look_for_loss()
        if self._silence.lasts(now):
            self._journal.append(events.Heartbeat())
            self._silence.broken(now)
        if self._resolver is not None and self._resolver.ended:
            self._stop_resolver(0.0)

    def _look_for_time_out(self) -> None:
        """Order a cancel of our own where the session, or a node, takes longer than it may."""
        order = self._time_limits.exceeded(self._known)
        if order is not None:
            log.warning("%s: it is cancelled", order.reason)
            self.cancel(order)

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
            self._journal.append(death(code, self.directory.faults, killed=self._journal.state.killed))
            code = exit_codes.ERROR
        self._journal.settle()
        if attempt is not None and not ending.stopped:
            self._keep_artifacts(attempt)
        return code

    def _append_rest(self, why: str) -> None:
        """End what the runner could not: as dbt's results say, where they are of this invocation."""
        self._journal.appender.make_room()
        self._journal.append(events.JournalStopped(reason=why))
        rest = rest_of(self._journal.state)
        for event in rest.ends if rest is not None else ():
            self._journal.append(event)

    def _keep_artifacts(self, attempt: AttemptState) -> None:
        self._journal.look_for_loss()
        if not self._journal.lost:
            for kept in keep_artifacts(self.directory, self._journal.state, attempt):
                self._journal.append(kept)


def _named(unique_ids: Sequence[str]) -> str:
    more = f" and {len(unique_ids) - _NAMED} more" if len(unique_ids) > _NAMED else ""
    return ", ".join(unique_ids[:_NAMED]) + more


def _tunes_collector() -> bool:
    try:
        return tunes_collector(os.environ)
    except ValueError as error:
        log.warning("the garbage collector stays as dbt has it: %s", error)
        return False


def _has_ended(fd: int, timeout: float) -> bool:
    """Whether a pipe reads end-of-file within so many seconds; what else comes through it is nothing to us."""
    readable, _, _ = select.select([fd], [], [], timeout)
    return bool(readable) and not os.read(fd, 64)
