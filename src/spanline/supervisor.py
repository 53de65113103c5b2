"""Supervise one session of a run: its steps and attempts, the runner's life, cancels, and the sinks.

Attached, it is a thread of the caller's process; detached, a process of its own (`main`). It holds the run's lease,
and a pipe to the runner that carries what to do, the word to cancel, and by its end the news of our death.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import select
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from spanline import __version__, artifacts, events, ids, lease, process, run_results, tracecontext
from spanline.fulldisk import PatientAppender, end_of_attempt, rest_of
from spanline.home import RunDirectory
from spanline.journal import Appender, Reader
from spanline.lineage.beside import ResolverProcess, start_resolver
from spanline.lineage.parent import lineage_parent
from spanline.progress import Progress, Restriction
from spanline.project import project_name
from spanline.repository import find_repository
from spanline.runner import tree
from spanline.sinks.delivery import Deliveries, flush_seconds
from spanline.sinks.environment import otel_is_configured, tell_of_delivery
from spanline.spec import RunSpec
from spanline.state import CANCELLED, TIME_OUT, AttemptState, RunState

if TYPE_CHECKING:
    from spanline.retrying import Verdict

_TICK: Final = 0.05
_BEAT_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 2.0
_GIT_SECONDS: Final = 1.0
_COLUMNS_SECONDS: Final = 2.0
"""How long the end of a session waits for columns that are still being looked for."""
_RUNNER: Final = Path(__file__).with_name("runner")
_UNHANDLED: Final = 2
_DETAIL_CHARACTERS: Final = 4096

log = logging.getLogger("spanline")


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a run's cancel file: who asks, why, and how long dbt has before it is killed (seconds)."""

    by: str
    reason: str = ""
    grace: float = 30.0


class Stdio(msgspec.Struct, frozen=True):
    """The runner's standard streams: None is the caller's own, else a descriptor."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


def order_cancel(directory: RunDirectory, order: CancelOrder) -> None:
    """Ask whoever supervises this run to cancel it: from any process, or host, that sees its directory."""
    # A name for each order: a signal handler may order while its own thread is about to.
    new = directory.cancel.with_name(f"cancel.{uuid.uuid4().hex}.new")
    with contextlib.suppress(OSError):  # on a full disk it stays empty, and is an order all the same
        new.write_bytes(msgspec.json.encode(order))
    new.replace(directory.cancel)


def open_session(
    appender: Appender | PatientAppender,
    spec: RunSpec,
    number: int,
    trace: Mapping[str, str],
    *,
    detached: bool,
    resumes: bool = False,
) -> events.SessionStarted:
    """Write the event with which a session begins. `trace` is the trace context that it is part of."""
    parent, root = lineage_parent(os.environ)
    started = events.SessionStarted(
        run_id=spec.run_id,
        lineage_run_id=ids.lineage_run_id(spec.run_id, number),
        trace_id=f"{ids.session_trace_id(spec.run_id, number, trace.get('TRACEPARENT')):032x}",
        spanline_version=__version__,
        steps=spec.steps,
        project_dir=spec.project_dir,
        host=platform.node(),
        pid=os.getpid(),
        detached=detached,
        resumes=resumes,
        traceparent=trace.get("TRACEPARENT"),
        tracestate=trace.get("TRACESTATE"),
        lineage_parent=parent,
        lineage_root=root,
        caller=spec.caller,
        project=project_name(Path(spec.project_dir)),
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
        environment: dict[str, str] | None = None,
        foreground: bool = False,
        detached: bool = False,
        resumes: bool = False,
    ) -> None:
        """`foreground` leaves the runner in our process group: on a terminal it must be able to read.

        With `resumes`, steps and nodes that are done according to the journal aren't done again.
        """
        self.directory = directory
        self._spec = spec
        self._lease = held
        self._stdio = stdio if stdio is not None else Stdio()
        self._trace = tracecontext.current(os.environ)
        self._environment = {**os.environ, **self._trace, **spec.environment, **(environment or {})}
        self._foreground = foreground
        self._detached = detached
        # A cancel of an earlier session is over. One that is asked for from now on, were it before `run`, holds.
        with contextlib.suppress(FileNotFoundError):
            directory.cancel.unlink()
        self._appender = PatientAppender(directory.journal, f"supervisor-{os.getpid()}")
        self._stopped = ""
        self._exit_said: int | None = None
        self._state = RunState()
        self._progress = Progress()
        self._reader = Reader(directory.journal)
        self._resumes = resumes
        self._catch_up()
        self.session = self._state.session_number + 1
        """The number of the session within its run."""
        self._checksums = {
            unique_id: checksum
            for step in self._progress.steps.values()
            for unique_id, checksum in step.checksums.items()
        }
        self._verdict: Verdict | None = None
        self._cancel_seen: tuple[int, int] | None = None
        self._deadline: float | None = None
        self._beat_at = time.monotonic()
        self._silence = _Silence(directory.journal)
        self._resolver: ResolverProcess | None = None
        self._time_out_at: float | None = None
        self._timed_out = False
        self.undelivered: dict[str, int] = {}
        """What each sink had not delivered when the session ended."""
        self.unwritten: list[events.Event] = []
        """What the journal should hold at its end, and had no room for."""
        self.over = threading.Event()
        """Set when the session has ended and the journal is complete."""

    def run(self) -> int:
        """Do the session and return its exit code. An error of our own ends the session too, and is raised."""
        self._appender.redactor.add(self._spec.secrets(self._environment))
        open_session(
            self._appender, self._spec, self.session, self._trace, detached=self._detached, resumes=self._resumes
        )
        return self._deliver_while(self._steps)

    def observe(self, caller_gone: int) -> int:
        """Deliver what a process that isn't ours journals, until dbt has finished there or the process is gone.

        `caller_gone` is a descriptor that reads end-of-file then. Returns the session's exit code.
        """
        self.session = 1  # it has begun already
        self._appender.redactor.add(self._spec.secrets(self._environment))

        def wait() -> int:
            while not _has_ended(caller_gone, _TICK):
                self._beat()
            self._catch_up()
            attempt = self._state.attempt
            self._appender.locate(self.session, 1, 1)
            if attempt is None or attempt.exit_code is None:
                died = events.RunnerDied(detail="the process that called dbt ended before dbt did")
                for event in end_of_attempt(self._state, died):
                    self._appender.append(event)
                self._settle()
                return _UNHANDLED if attempt is None or attempt.exit_code is None else attempt.exit_code
            self._appender.append(events.AttemptEnded(exit_code=attempt.exit_code))
            self._keep_artifacts(attempt)
            return attempt.exit_code

        return self._deliver_while(wait)

    def _deliver_while(self, work: Callable[[], int]) -> int:
        deliveries = Deliveries(self.directory, self.over.is_set)
        self._resolver = start_resolver(self.directory, self.session, os.environ)
        # Who asks for a cancel mustn't wait for git.
        git = threading.Thread(target=self._tell_repository, name="spanline-git", daemon=True)
        git.start()
        code = _UNHANDLED
        try:
            code = work()
        finally:
            self._catch_up()
            self._appender.locate(self.session, 0, 0)
            self._stop_resolver(_COLUMNS_SECONDS if self._state.nodes else 0.0)
            git.join(_GIT_SECONDS)
            outcome = self._state.outcome(code)
            if outcome == CANCELLED:
                log.warning("cancelled: %d of %d nodes were completed", self._state.completed, self._state.total)
            self._appender.append(events.SessionEnded(outcome=outcome, exit_code=code))
            self._settle()
            self._appender.sync()
            self.over.set()
            self._keep_facts()
            cursors = deliveries.finish(flush_seconds())
            self.undelivered = {name: cursor.undelivered for name, cursor in cursors.items()}
            self._catch_up()
            tell_of_delivery(self.directory, self._state)
            self._appender.close()
            self._lease.release()
        return code

    def _keep_facts(self) -> None:
        """Spare statistics the reading of the journal, while the sinks deliver. It is never worth an error."""
        try:
            from spanline.stats.kept import keep_beside  # noqa: PLC0415 - needed only now

            keep_beside(self.directory)
        except Exception as error:  # noqa: BLE001
            log.info("nothing is kept of the journal for statistics: %s: %s", type(error).__name__, error)

    def _stop_resolver(self, timeout: float) -> None:
        if self._resolver is not None:
            reason = self._resolver.finish(timeout)
            self._appender.append(events.ColumnResolverStopped(reason=reason))
            self._resolver = None

    def _steps(self) -> int:
        self._catch_up()
        self._time_out_at = None if self._spec.timeout is None else time.monotonic() + self._spec.timeout
        code = 0
        for step, argv in enumerate(self._spec.steps, 1):
            before = self._progress.steps.get(step)
            if before is not None and before.done:
                continue
            self._appender.locate(self.session, step, 0)
            self._appender.append(events.StepStarted(argv=argv))
            code = self._step(step, argv)
            if code != 0:
                break
            if self._state.cancelling and step < len(self._spec.steps):
                return _UNHANDLED  # asked for too late for this step, in time for the next
        return code

    # --- one step -------------------------------------------------------------------------------------------------

    def _step(self, step: int, argv: Sequence[str]) -> int:
        """Try a step until it has ended well, or another attempt is no use; return the last one's exit code."""
        number = 0
        self._verdict = None

        def once() -> int:
            nonlocal number
            number += 1
            self._catch_up()
            if self._state.cancelling or self._cancel_seen is not None:
                return _UNHANDLED  # while waiting for this attempt
            restriction = self._restriction(step)
            code = self._attempt(step, number, argv, restriction)
            self._catch_up()
            self._tell_changes()
            # What was left out, or was gone from the project, is still not done.
            left = self._progress.steps[step].unfinished
            return 1 if code == 0 and left and restriction is not None else code

        if self._spec.retry.limit == 1:
            return once()
        from spanline.retrying import attempts  # noqa: PLC0415 - tenacity and the rules: most runs need neither

        return int(attempts(self._spec.retry, self._worth_another, self._announce, self._sleep)(once))

    def _restriction(self, step: int) -> Restriction | None:
        progress = self._progress.steps.get(step)
        lost = self._verdict.lost if self._verdict is not None else ()
        return progress.restriction(without=lost) if progress is not None else None

    def _worth_another(self, code: int) -> bool:
        from spanline.retrying import verdict  # noqa: PLC0415 - see `_step`

        attempt = self._state.attempt
        if code == 0 or attempt is None or self._state.cancelling or attempt.died is not None:
            return False
        self._verdict = verdict(self._state, attempt, partial=self._spec.retry.partial)
        return self._verdict.again

    def _announce(self, seconds: float) -> None:
        reason = self._verdict.reason if self._verdict is not None else ""
        self._appender.append(events.RetryScheduled(delay=seconds, reason=reason))
        log.warning("the attempt failed: %s; trying again in %.1f s", reason, seconds)

    def _sleep(self, seconds: float) -> None:
        """Wait for the next attempt, which a cancel makes needless."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._new_cancel() is None:
            self._beat()
            self._look_for_time_out()
            time.sleep(_TICK)

    def _tell_changes(self) -> None:
        """Say which nodes' code isn't what it was when the run was begun."""
        if not self._checksums:
            return
        now = {key: node.checksum for key, node in self._state.descriptions.items() if node.checksum}
        changed = sorted(key for key, old in self._checksums.items() if now.get(key, old) != old)
        if changed:
            self._checksums.update((key, now[key] or "") for key in changed)
            more = f" and {len(changed) - 10} more" if len(changed) > 10 else ""
            log.warning("the code has changed since this run began: %s%s", ", ".join(changed[:10]), more)

    def _tell_repository(self) -> None:
        """Say where the project's code is, while dbt is being imported."""
        found = find_repository(Path(self._spec.project_dir))
        if found is not None:
            self._appender.append(found)

    # --- one attempt ----------------------------------------------------------------------------------------------

    def _attempt(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None) -> int:
        self._appender.locate(self.session, step, attempt)
        control_read, control_write = process.private_pipe()
        word_read, word_write = os.pipe()
        os.set_blocking(word_read, False)
        self._stopped, self._exit_said = "", None
        try:
            runner = self._spawn(control_read, word_write, self._environment_of(step, attempt))
            os.close(control_read)
            unfinished = len(restriction.unfinished) if restriction is not None else None
            self._appender.append(
                events.AttemptStarted(argv=list(argv), pid=runner.pid, python=self._spec.python, unfinished=unfinished)
            )
            with contextlib.suppress(BrokenPipeError):  # it has died already, which is seen below
                _write_all(control_write, self._order(step, attempt, argv, restriction, word_write))
            self._watch(runner, control_write, word_read)
        finally:
            process.close(control_write)
            os.close(word_read)
            os.close(word_write)
        return self._conclude(runner)

    def _environment_of(self, step: int, attempt: int) -> dict[str, str]:
        """What dbt finds in its environment; with traces on, what its process is part of."""
        if not otel_is_configured(os.environ, "traces"):
            return self._environment
        above = ids.level(step, attempt, len(self._spec.steps))
        parent = self._trace.get("TRACEPARENT")
        own = tracecontext.for_dbt(self._spec.run_id, self.session, parent, above, os.environ)
        return {**tracecontext.without_dbts_own_spans(self._environment), **own}

    def _spawn(self, control: int, word: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # The runner unblocks them when it can handle them: an early Ctrl-C waits, instead of killing it half born.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with process.no_forks():  # a fork would hold the pipe by which Popen learns that the runner has begun
                return self._popen(control, word, environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _popen(self, control: int, word: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._spec.python, str(_RUNNER), str(control)],
            cwd=self._spec.cwd,
            env=environment,
            stdin=self._stdio.stdin,
            stdout=self._stdio.stdout,
            stderr=self._stdio.stderr,
            pass_fds=(control, self._lease.fd, word),
            start_new_session=not self._foreground,
        )

    def _order(self, step: int, attempt: int, argv: Sequence[str], restriction: Restriction | None, word: int) -> bytes:
        return (
            msgspec.json.encode(
                {
                    "args": list(argv),
                    "journal": str(self.directory.journal),
                    "faults": str(self.directory.faults),
                    "writer": f"runner-{self.session}-{step}-{attempt}",
                    "session": self.session,
                    "step": step,
                    "attempt": attempt,
                    "lease_fd": self._lease.fd,
                    "word_fd": word,
                    "grace": self._spec.grace,
                    "restriction": restriction,
                }
            )
            + b"\n"
        )

    def _watch(self, runner: subprocess.Popen[bytes], control: int, word: int) -> None:
        ended = threading.Event()

        def reap() -> None:
            runner.wait()
            ended.set()

        threading.Thread(target=reap, name="spanline-reaper", daemon=True).start()
        self._deadline = None
        while not ended.wait(_TICK):
            self._beat()
            self._look_for_time_out()
            self._look_for_cancel(control)
            self._listen(word)
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._deadline = None
                self._appender.append(events.RunnerKilled(reason="the grace period is over"))
                tree.kill(runner.pid)
        self._listen(word)
        self._look_for_cancel(control)  # a runner that dies of the same Ctrl-C may be faster than our look

    def _listen(self, word: int) -> None:
        """Hear what the runner says besides the journal: that it could write no more, and its exit code."""
        try:
            said = os.read(word, 65536).decode(errors="replace")
        except BlockingIOError:
            return
        for line in said.splitlines():
            what, _, rest = line.partition(" ")
            if what == "exit":
                self._exit_said = int(rest)
            else:
                self._stopped = rest
                log.warning("%s", rest)

    def _settle(self) -> None:
        """Write what there was no room for; what there is none for now either is at least known here."""
        self._catch_up()
        for event in self._appender.settle():
            self._state.apply(event)
            self._progress.apply(event)
            self.unwritten.append(event)
        self._catch_up()

    def _beat(self) -> None:
        now = time.monotonic()
        if now > self._beat_at + _BEAT_SECONDS:
            self._beat_at = now
            self._lease.beat()
        if self._silence.lasts(now):
            self._appender.append(events.Heartbeat())
            self._silence.broken(now)
        if self._resolver is not None and self._resolver.ended:
            self._stop_resolver(0.0)

    def _look_for_time_out(self) -> None:
        """Order a cancel of our own where the session, or a node, takes longer than it may."""
        now, limit = time.monotonic(), self._spec.node_timeout
        if self._time_out_at is not None and now > self._time_out_at:
            self._time_out_at = None
            self._time_out(f"the run took longer than {self._spec.timeout:g} s")
        if limit is None or self._timed_out:
            return
        self._catch_up()
        for node in self._state.open_nodes:
            if node.started is not None and time.monotonic_ns() > node.started_mono + limit * 1e9:
                self._time_out(f"{node.unique_id} took longer than {limit:g} s")
                return

    def _time_out(self, reason: str) -> None:
        self._timed_out = True
        log.warning("%s: it is cancelled", reason)
        order_cancel(self.directory, CancelOrder(by=TIME_OUT, reason=reason, grace=self._spec.grace))

    def _new_cancel(self) -> CancelOrder | None:
        """A cancel that was asked for since the last look, which is journalled then."""
        try:
            found = os.stat(self.directory.cancel)  # noqa: PTH116 - twenty times a second
            changed = (found.st_mtime_ns, found.st_ino)
            if changed == self._cancel_seen:
                return None
            order = msgspec.json.decode(self.directory.cancel.read_bytes(), type=CancelOrder)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            order = CancelOrder(by="an unreadable cancel file", grace=self._spec.grace)
        self._cancel_seen = changed
        self._appender.append(events.CancelRequested(by=order.by, reason=order.reason, grace=order.grace))
        return order

    def _look_for_cancel(self, control: int) -> None:
        order = self._new_cancel()
        if order is None:
            return
        deadline = time.monotonic() + order.grace
        self._deadline = min(deadline, self._deadline or deadline)
        with contextlib.suppress(BrokenPipeError):
            os.write(control, b"cancel\n")

    def _conclude(self, runner: subprocess.Popen[bytes]) -> int:
        """Say how the runner ended, and keep dbt's artifacts."""
        self._catch_up()
        self._settle()
        code = runner.returncode
        attempt = self._state.attempt
        if self._stopped:
            self._append_rest()
        if self._exit_said is not None and code >= 0:
            code = self._exit_said  # not Python's, which is another where dbt's output could not be written to the end
            self._appender.append(events.AttemptEnded(exit_code=code))
        elif attempt is not None and attempt.exit_code is not None and code >= 0:
            self._appender.append(events.AttemptEnded(exit_code=code))
        else:
            self._appender.append(self._death(code))
            code = _UNHANDLED
        self._settle()
        if attempt is not None and not self._stopped:
            self._keep_artifacts(attempt)
        return code

    def _append_rest(self) -> None:
        """End what the runner could not: as dbt's results say, where they are of this invocation."""
        self._appender.make_room()
        self._appender.append(events.JournalStopped(reason=self._stopped))
        rest = rest_of(self._state)
        for event in rest.ends if rest is not None else ():
            self._appender.append(event)

    def _death(self, code: int) -> events.RunnerDied:
        try:
            detail = _crash(self.directory.faults.read_text(errors="replace"))
        except OSError:
            detail = ""
        if code >= 0:
            return events.RunnerDied(exit_code=code, detail=detail)
        name = _signal_name(-code)
        if name == "SIGKILL" and not self._state.killed:
            detail = detail or "perhaps the system was out of memory"
        return events.RunnerDied(signal=name, detail=detail)

    def _keep_artifacts(self, attempt: AttemptState) -> None:
        place = self.directory.artifacts(attempt.session, attempt.step, attempt.attempt)
        for path in map(Path, self._state.artifacts.values()):
            try:
                kept = artifacts.keep(path, place, attempt.invocation_id)
            except (OSError, artifacts.Mixed) as error:
                log.warning("cannot keep %s: %s", path, error)
            else:
                if kept is not None:
                    self._tell_kept(kept)
        results = place / run_results.FILE_NAME
        if attempt.selection and not results.exists():
            try:
                place.mkdir(parents=True, exist_ok=True)
                run_results.write(self._state, attempt, results)
                self._tell_kept(results)
            except OSError as error:
                log.warning("cannot write %s: %s", results, error)

    def _tell_kept(self, file: Path) -> None:
        self._appender.append(events.ArtifactKept(name=file.name, size=file.stat().st_size))

    def _catch_up(self) -> None:
        for record in self._reader.read():
            self._state.apply(record.event)
            self._progress.apply(record.event)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _has_ended(fd: int, timeout: float) -> bool:
    """Whether a pipe reads end-of-file within so many seconds; what else comes through it is nothing to us."""
    readable, _, _ = select.select([fd], [], [], timeout)
    return bool(readable) and not os.read(fd, 64)


class _Silence:
    """Says when a heartbeat is due: readers that wait for a time to pass see it pass by events alone.

    That is some seconds after the last event of whoever writes, and from then on now and then.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._size = -1
        self._due = 0.0

    def lasts(self, now: float) -> bool:
        """Whether nobody has written for so long that a heartbeat is due."""
        size = self._written()
        if size != self._size:
            self._size = size
            self._due = now + _SILENCE_SECONDS
        return now >= self._due

    def broken(self, now: float) -> None:
        """Take note of a heartbeat, which is no news."""
        self._size = self._written()
        self._due = now + _HEARTBEAT_SECONDS

    def _written(self) -> int:
        try:
            return os.stat(self._journal).st_size  # noqa: PTH116 - twenty times a second
        except OSError:
            return self._size


def _crash(faults: str) -> str:
    """Of what faulthandler wrote, what crashed and the stack of the thread that did; it lists every thread."""
    what, *stacks = faults.strip().split("\n\n")
    crashed = [stack for stack in stacks if stack.startswith("Current thread")]
    return "\n".join([what, *crashed])[:_DETAIL_CHARACTERS]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


# --- a process of its own -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Supervise the run in this directory, detached from whoever started us.

    `DIRECTORY LEASE_FD` runs its steps. `--observe DIRECTORY LEASE_FD` only delivers what another process journals
    there; standard input ends when that process does.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if arguments[0] == "--observe":
        return _observe(RunDirectory(Path(arguments[1])), int(arguments[2]))
    directory = RunDirectory(Path(arguments[0]))
    spec = RunSpec.load(directory.spec)
    held = lease.Lease(int(arguments[1]))
    with (
        open(os.devnull, "rb") as nothing,
        open(directory.stdout, "ab") as out,
        open(directory.stderr, "ab") as err,
    ):
        supervisor = Supervisor(
            directory,
            spec,
            held,
            stdio=Stdio(nothing.fileno(), out.fileno(), err.fileno()),
            detached=True,
        )
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda number, _frame: _cancel_ours(directory, spec, number))
        return supervisor.run()


def _observe(directory: RunDirectory, lease_fd: int) -> int:
    spec = RunSpec.load(directory.spec)
    return Supervisor(directory, spec, lease.Lease(lease_fd), detached=True).observe(0)


def _cancel_ours(directory: RunDirectory, spec: RunSpec, signum: int) -> None:
    order_cancel(directory, CancelOrder(by=signal.Signals(signum).name, grace=spec.grace))
