"""Run: one run, whoever supervises it: follow it, wait for it, cancel it."""

from __future__ import annotations

import itertools
import logging
import math
import os
import platform
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import ArtifactsNotFound, UsageError
from spanline.events import Event
from spanline.home import lease
from spanline.home.cursor import undelivered
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.journal.progress import progress_of
from spanline.journal.reader import ASYNC_POLL_SECONDS, Reader, Record, afollow, follow
from spanline.journal.state import RunState
from spanline.results.from_state import result_of
from spanline.results.result import RunResult
from spanline.supervisor.cancel import BOUNCE_SECONDS, CancelOrder, order_cancel
from spanline.supervisor.session import Supervisor
from spanline.system.latch import Latch
from spanline.system.open_file import OpenFile

log = logging.getLogger("spanline")

LEASE_LOOKS: Final = 0.25
_SIGNAL_LOOKS: Final = 0.1
"""How long the main thread waits before it looks for signals, in seconds.

Of two that come at once the system may hand both to another thread, and then the main one, which alone runs Python's
handlers, goes on waiting.
"""


class Run:
    """One run, whoever supervises it: this process, a detached supervisor, or somebody else."""

    def __init__(self, directory: RunDirectory, supervisor: Supervisor | None = None) -> None:
        """Use `start` or `attach`. `supervisor` is that of this process, where it is this one that supervises."""
        self.directory = directory
        self._supervisor = supervisor
        self._over = Latch()
        self._exit_code: int | None = None
        self._failure: BaseException | None = None
        self._journal = supervisor.journal if supervisor is not None else OpenFile(directory.journal)
        self._lease = OpenFile(directory.lease)
        self._known = _Known()

    @property
    def id(self) -> str:
        """The run's id, a UUIDv7."""
        return self.directory.run_id

    @property
    def live(self) -> bool:
        """Whether somebody alive supervises it, or runs dbt for it."""
        if self._supervisor is not None and not self._over.is_set():
            return True
        return lease.is_held(self._lease)

    @property
    def supervised_here(self) -> bool:
        """Whether this process supervises the run."""
        return self._supervisor is not None

    @property
    def is_complete(self) -> bool:
        """Whether every step has ended well, so that `retry` would find nothing left to do."""
        progress = progress_of(record.event for record in Reader(self._journal).read())
        found = (progress.steps.get(number) for number in range(1, len(RunSpec.load(self.directory.spec).steps) + 1))
        return all(step is not None and step.done for step in found)

    @property
    def session(self) -> int:
        """The number of the session that is supervised here, else of the last one; a resumed run has had others."""
        return self._supervisor.session if self._supervisor is not None else self.state.session_number

    @property
    def state(self) -> RunState:
        """What is known of the run now. It doesn't change any more: who asks later gets another.

        It takes no lock: a signal handler may ask, whatever it interrupts. Of two who ask at once each reads by itself.
        """
        known, unwritten = self._known, self._unwritten
        reader = Reader(self._journal, known.offset)
        news = itertools.chain((record.event for record in reader.read()), unwritten[known.unwritten :])
        first = next(news, None)
        if first is None:
            return known.state
        state = known.state.fork()
        for event in itertools.chain([first], news):
            state.apply(event)
        self._known = _Known(state, reader.offset, len(unwritten))
        return state

    @property
    def _unwritten(self) -> Sequence[Event]:
        """What the journal should hold at its end, and doesn't."""
        return self._supervisor.unwritten if self._supervisor is not None and self._over.is_set() else ()

    def records(self, *, live: bool = True) -> Iterator[Record]:
        """Every record of the journal from its start; with `live`, on to the end of the run and of its sinks."""
        reader = Reader(self._journal)
        if not live:
            return reader.read()
        return follow(reader, self._end_of_run())

    def events(self) -> Iterator[Event]:
        """Every event from the start of the run to its end and that of its sinks, as it happens."""
        return (record.event for record in self.records())

    def states(self) -> Iterator[tuple[Event, RunState]]:
        """`events`, each with the state of the run after it, which the next one changes."""
        state = RunState()
        for event in self.events():
            state.apply(event)
            yield event, state

    async def aevents(self, poll: float = ASYNC_POLL_SECONDS) -> AsyncIterator[Event]:
        """`events` for an event loop. A run in which nothing happens is looked at every `poll` seconds."""
        async for record in afollow(Reader(self._journal), self._end_of_run(poll), poll):
            yield record.event

    async def astates(self, poll: float = ASYNC_POLL_SECONDS) -> AsyncIterator[tuple[Event, RunState]]:
        """`states` for an event loop, as `aevents`."""
        state = RunState()
        async for event in self.aevents(poll):
            state.apply(event)
            yield event, state

    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait until the run has ended and its sinks are done, then return its result.

        Raises `TimeoutError` after `timeout` seconds. A KeyboardInterrupt while waiting for a run that this process
        supervises cancels it, waits for its end, and is raised again; a second one, a second or more after the first,
        has dbt killed at once.
        """
        try:
            self._wait(timeout)
        except KeyboardInterrupt:
            if self.supervised_here:
                self._cancel_and_wait()
            raise
        if not self.supervised_here and self._journal.is_gone:
            log.warning("%s", self.directory.loss)
        return self.result()

    def _cancel_and_wait(self) -> None:
        first = time.monotonic()
        self.cancel(by="KeyboardInterrupt")
        while True:
            try:
                self._wait(None)
            except KeyboardInterrupt:
                if time.monotonic() > first + BOUNCE_SECONDS:
                    self.cancel(grace=0.0, by="a second KeyboardInterrupt")
            else:
                return

    def _supervise(self, supervisor: Supervisor) -> None:
        """Do the session in this thread; an error of ours is raised where somebody waits for the run."""
        try:
            self._exit_code = supervisor.run()
        except BaseException as error:  # noqa: BLE001
            self._failure = error
        finally:
            self._over.set()

    def _wait(self, timeout: float | None) -> None:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        looks = _SIGNAL_LOOKS if self.supervised_here else LEASE_LOOKS
        while not self._ends_within(min(looks, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"run {self.id} is still running after {timeout} s")
        if self._failure is not None:
            raise self._failure

    def _ends_within(self, seconds: float) -> bool:
        if self.supervised_here:
            # Not Thread.join: a KeyboardInterrupt in it makes Python 3.11 believe that the thread has ended.
            return self._over.wait(seconds)
        if self.live:
            time.sleep(seconds)
            return False
        return True

    def cancel(self, grace: float | None = None, *, by: str = "", reason: str = "") -> None:
        """Ask for a cancel: dbt cancels its queries and ends; what still lives after `grace` seconds is killed.

        Without a `grace` it is the one that the run was started with. Returns at once; `wait` waits for the end.
        A signal handler may ask. Raises `UsageError` where who supervises the run, elsewhere, can't be told.
        """
        order = CancelOrder(by=by or f"pid {os.getpid()} on {platform.node()}", reason=reason, grace=grace)
        if self._supervisor is not None:
            self._supervisor.cancel(order)
            return
        try:
            order_cancel(self.directory, order)
        except OSError as error:
            session = self.state.session
            who = f"pid {session.pid} on {session.host}" if session is not None else "it"
            raise UsageError(
                f"run {self.id} can't be cancelled from here: {error.filename}: {error.strerror}; "
                f"send SIGTERM to {who} instead"
            ) from error

    def artifact(self, name: str) -> Path:
        """One of dbt's artifacts, such as `manifest.json`, as the last invocation that wrote it has left it.

        Raises `ArtifactsNotFound` where none has.
        """
        found = self.directory.last_artifact(name)
        if found is None:
            raise ArtifactsNotFound(f"run {self.id} has no {name}")
        return found

    def result(self) -> RunResult:
        """The result of a run that has ended. Raises `UsageError` while it goes on."""
        if self.live:
            raise UsageError(f"run {self.id} is still running; wait() waits for its end")
        lost = self.directory.loss if self._journal.is_gone else ""
        return result_of(
            self.state.closed(),
            self.directory.path,
            self._undelivered(),
            exit_code=self._exit_code,
            lost=lost,
            artifacts=self.directory.last_artifacts(),
        )

    def _undelivered(self) -> Mapping[str, int]:
        """What sinks owe by their cursors; where these can't be read, what they owed when the session ended."""
        try:
            if not self._journal.is_gone:
                return undelivered(self.directory)
        except OSError as error:
            log.info("the cursors of run %s cannot be read: %s", self.id, error)
        return self._supervisor.undelivered if self._supervisor is not None else {}

    def _end_of_run(self, looks: float = 0.0) -> _EndOfRun:
        return _EndOfRun(self, max(LEASE_LOOKS, looks))


def supervised(supervisor: Supervisor) -> Run:
    """Have a session supervised by a thread of this process. A caller's process that ends waits for it."""
    run = Run(supervisor.directory, supervisor)
    threading.Thread(target=run._supervise, args=(supervisor,), name=f"spanline-{run.id}").start()
    return run


class _Known(msgspec.Struct, frozen=True):
    """What is known of a run: its state up to an offset of the journal, and of so many events that are not in it."""

    state: RunState = msgspec.field(default_factory=RunState)
    offset: int = 0
    unwritten: int = 0


class _EndOfRun:
    """Whether a run has ended, asked a hundred times a second: the lease is looked at every `looks` seconds only."""

    def __init__(self, run: Run, looks: float) -> None:
        self._run = run
        self._looks = looks
        self._look_at = 0.0
        self._ended = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._ended and (self._run.supervised_here or now >= self._look_at):
            self._look_at = now + self._looks
            self._ended = not self._run.live
        return self._ended
