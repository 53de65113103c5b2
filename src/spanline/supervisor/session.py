"""Supervise one session of a run, from its start, through its steps and the work beside them, to its end.

Attached, it is a thread of the caller's process; detached, a process of its own
(`spanline.supervisor.detached`). It holds the run's lease.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import select
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from spanline import events
from spanline._version import __version__
from spanline.dbt.project import project_name
from spanline.home import lease
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.home.storage import storage_options_of
from spanline.journal import ids
from spanline.journal.appender import Appender, PatientAppender
from spanline.journal.state import CANCELLED
from spanline.profiles.file import sweep
from spanline.runner.shared import exit_codes, settings
from spanline.runner.shared.secrets import secrets_of_mapping
from spanline.sinks.error_text import in_short
from spanline.stats import keep_facts
from spanline.supervisor import trace_context
from spanline.supervisor.attempt import TICK
from spanline.supervisor.beside import Beside
from spanline.supervisor.cancel import CancelOrder, Orders
from spanline.supervisor.full_disk import end_of_attempt
from spanline.supervisor.heartbeat import Silence
from spanline.supervisor.keeping import keep_artifacts
from spanline.supervisor.lineage_parent import lineage_parent
from spanline.supervisor.session_journal import SessionJournal
from spanline.supervisor.steps import SessionFacts, Steps
from spanline.system import process
from spanline.system.open_file import OpenFile
from spanline.system.stdio import Stdio

if TYPE_CHECKING:
    from spanline.profiles import Profile

_BEAT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.25
"""How often is looked for what nobody waits for: the journal's loss, its silence, the end of what goes on beside."""

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
        self._foreground = foreground
        self._detached = detached
        self._journal = SessionJournal(directory)
        self._resumes = resumes
        self._journal.catch_up()
        self.session = self._journal.state.session_number + 1
        """The number of the session within its run."""
        self._orders = Orders(directory)
        self._beat_at = time.monotonic()
        self._look_at = 0.0
        self._silence = Silence(self._journal.file)
        self._beside = Beside(directory, self._journal, Path(spec.project_dir))
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
        steps = self._steps()
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
        return self._deliver_while(steps.run)

    def _steps(self) -> Steps:
        facts = SessionFacts(
            directory=self.directory,
            spec=self._spec,
            number=self.session,
            lease_fd=self._lease.fd,
            environment=self._environment,
            trace=self._trace,
            stdio=self._stdio,
            foreground=self._foreground,
            profile=self._profile,
        )
        begun = partial(self._beside.begin, self.session)
        return Steps(facts, self._journal, self._orders, begun=begun, beat=self._beat)

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
        self._beside.begin(self.session)

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
            keep_artifacts(self.directory, self._journal, attempt)
            return attempt.exit_code

        return self._deliver_while(wait)

    def _deliver_while(self, work: Callable[[], int]) -> int:
        code = exit_codes.ERROR
        try:
            code = work()
        finally:
            self._journal.catch_up()
            self._journal.locate(self.session, 0, 0)
            self._beside.end()
            outcome = self._journal.state.outcome(code)
            if outcome == CANCELLED:
                state = self._journal.state
                log.warning("cancelled: %d of %d nodes were completed", state.completed, state.total)
            self._journal.append(events.SessionEnded(outcome=outcome, exit_code=code))
            self._journal.settle()
            self._journal.appender.sync()
            try:
                self._do_after(self._deliver_to_the_end, "the delivery of run %s could not be ended: %s")
                self._do_after(self._upload, "the artifacts of run %s could not be stored: %s")
            finally:
                self._journal.look_for_loss()
                self._journal.appender.close()
                keep_facts(self.directory)
                self._lease.release()
        return code

    def _do_after(self, task: Callable[[], None], complaint: str) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - dbt has ended, and its exit code stands
            log.warning(complaint, self._spec.run_id, in_short(error))

    def _deliver_to_the_end(self) -> None:
        self.undelivered = self._beside.deliver_to_the_end()

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

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        if now > self._beat_at + _BEAT_SECONDS:
            self._beat_at = now
            self._lease.beat()
        self._journal.look_for_loss()
        if self._silence.lasts(now):
            self._journal.append(events.Heartbeat())
            self._silence.broken(now)
        self._beside.look()


def _has_ended(fd: int, timeout: float) -> bool:
    """Whether a pipe reads end-of-file within so many seconds; what else comes through it is nothing to us."""
    readable, _, _ = select.select([fd], [], [], timeout)
    return bool(readable) and not os.read(fd, 64)
