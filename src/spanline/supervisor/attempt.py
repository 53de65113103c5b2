"""One attempt's runner: dbt's process, from its start to its end.

A pipe to it carries what to do, the word to cancel, and by its end the news of our death. Another one brings what the
runner can't say in the journal: that it can write no more, and its exit code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from spanline import events
from spanline.dbt.interpreter import RUNNER
from spanline.journal.progress import Restriction
from spanline.runner.shared import process_tree
from spanline.system import files, process
from spanline.system.stdio import Stdio

TICK: Final = 0.05
"""How often is looked for what happens outside of the journal, in seconds."""
_DETAIL_CHARACTERS: Final = 4096

log = logging.getLogger("spanline")


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a runner is started. `foreground` leaves it in our process group: on a terminal it must be able to read.

    The lease's and the journal's descriptors are inherited: neither can be removed from under a runner.
    """

    python: str
    cwd: str
    environment: Mapping[str, str]
    stdio: Stdio
    foreground: bool
    lease_fd: int
    journal_fd: int


class QueryComments(msgspec.Struct, frozen=True):
    """What the statements of an attempt say that they are part of: their nodes' spans, else this one."""

    run_id: str
    traceparent: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner is to do: dbt's arguments, where to journal and as whom, and how long a cancel may take.

    `program` is dbt v2, which the runner starts; without one it runs dbt Core within itself.
    """

    args: list[str]
    project_dir: str
    journal: str
    faults: str
    writer: str
    session: int
    step: int
    attempt: int
    grace: float
    restriction: Restriction | None
    comments: QueryComments | None
    tune_collector: bool
    program: str | None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a runner ended: as the system says it, as it said itself, and why it could journal no more, if so."""

    returncode: int
    exit_code: int | None
    stopped: str


class Runner:
    """A runner that was started. Leaving its `with` block lets go of the pipes, by which one that lives on ends."""

    def __init__(self, launch: Launch) -> None:
        self._inherited = {"lease_fd": launch.lease_fd, "journal_fd": launch.journal_fd}
        control, self._control = process.private_pipe()
        self._word, self._word_end = os.pipe()
        os.set_blocking(self._word, False)
        self._exit_code: int | None = None
        self._stopped = ""
        try:
            self._process = self._spawn(launch, control)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(control)

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def give(self, order: Order) -> None:
        """Tell it what to do."""
        descriptors = {**self._inherited, "word_fd": self._word_end}
        line = msgspec.json.encode({**msgspec.structs.asdict(order), **descriptors}) + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has died already, which `wait` sees
            while line:
                line = line[os.write(self._control, line) :]

    def wait(
        self,
        tick: Callable[[], None],
        new_cancel: Callable[[], float | None],
        tell_killed: Callable[[], None],
    ) -> Ending:
        """Wait for its end, with a `tick` now and then; cancel where `new_cancel` returns a grace in seconds.

        One that still lives after the grace is killed, with all its descendants; `tell_killed` says so.
        """
        ended = threading.Event()

        def reap() -> None:
            self._process.wait()
            ended.set()

        threading.Thread(target=reap, name="spanline-reaper", daemon=True).start()
        deadline: float | None = None
        while not ended.wait(TICK):
            tick()
            deadline = self._cancel(new_cancel(), deadline)
            self._listen()
            if deadline is not None and time.monotonic() > deadline:
                deadline = None
                tell_killed()
                process_tree.kill(self.pid)
        self._listen()
        new_cancel()  # a runner that dies of the same Ctrl-C may be faster than our look
        return Ending(returncode=self._process.returncode, exit_code=self._exit_code, stopped=self._stopped)

    def _cancel(self, grace: float | None, deadline: float | None) -> float | None:
        """Pass a cancel on, if there is one, and return when the runner has to have ended."""
        if grace is None:
            return deadline
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, b"cancel\n")
        new = time.monotonic() + grace
        return min(new, deadline or new)

    def _listen(self) -> None:
        try:
            said = os.read(self._word, 65536).decode(errors="replace")
        except BlockingIOError:
            return
        for line in said.splitlines():
            what, _, rest = line.partition(" ")
            if what == "exit":
                self._exit_code = int(rest)
            else:
                self._stopped = rest
                log.warning("%s", rest)

    def _spawn(self, launch: Launch, control: int) -> subprocess.Popen[bytes]:
        # The runner unblocks them when it can handle them: an early Ctrl-C waits, instead of killing it half born.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with process.no_forks():  # a fork would hold the pipe by which Popen learns that the runner has begun
                return subprocess.Popen(
                    [launch.python, str(RUNNER), str(control)],
                    cwd=launch.cwd,
                    env=launch.environment,
                    stdin=launch.stdio.stdin,
                    stdout=launch.stdio.stdout,
                    stderr=launch.stdio.stderr,
                    pass_fds=(control, self._word_end, *self._inherited.values()),
                    start_new_session=not launch.foreground,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _close(self) -> None:
        process.close(self._control)
        os.close(self._word)
        os.close(self._word_end)


def death(returncode: int, faults: Path, *, killed: bool) -> events.RunnerDied:
    """What is known of the death of a runner: `faults` is what faulthandler left, `killed` whether we did it."""
    try:
        detail = _crash(files.read_start(faults).decode(errors="replace"))
    except OSError:
        detail = ""
    if returncode >= 0:
        return events.RunnerDied(exit_code=returncode, detail=detail)
    name = _signal_name(-returncode)
    if name == "SIGKILL" and not killed:
        detail = detail or "perhaps the system was out of memory"
    return events.RunnerDied(signal=name, detail=detail)


def _crash(faults: str) -> str:
    """Of what faulthandler wrote, what crashed and the stack of the thread that did; it lists every thread."""
    what, *stacks = faults.strip().split("\n\n")
    crashed = [stack for stack in stacks if stack.startswith("Current thread")]
    return "\n".join([what, *crashed])[:_DETAIL_CHARACTERS]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
