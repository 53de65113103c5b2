"""Cancel dbt from inside: turn a request into one KeyboardInterrupt in dbt's main thread.

dbt answers a KeyboardInterrupt by cancelling its queries. Two of them in quick succession make it lose
the first, and one that arrives while the main thread waits inside a driver (a hook's query) has no effect until that
query ends, or ends it and is lost: dbt then sees a failed hook and goes on. All of that is dealt with here.

Whoever asks, a signal included, only leaves a word; a thread journals it and then delivers the interrupt. So the
journal says that dbt was interrupted before it says what came of it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any, Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNAL_SECONDS = 0.05
_PRESS_SECONDS = 2.0
"""How long a cancel may stay without effect before the adapter is asked to cancel its connections."""


class Interrupt:
    """The one place that knows whether dbt was asked to stop. Construct it in the main thread."""

    def __init__(self) -> None:
        self._main = threading.main_thread().ident or 0
        # Python runs a signal's handler when the main thread comes to it, which inside a driver's query or at a prompt
        # it may not for long; but it writes the signal's number to this pipe at once.
        self._asked, self._asking = os.pipe()
        self._reason = ""
        os.set_blocking(self._asking, False)
        signal.set_wakeup_fd(self._asking, warn_on_full_buffer=False)
        self._delivered_at = 0.0
        self._last_start = 0.0
        self._over = False
        self.pending = False
        """Whether a KeyboardInterrupt is owed to the main thread; read on every event of dbt's."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)

    def ask(self, reason: str) -> None:
        """Ask dbt to cancel; from any thread, and as often as one likes: the first time counts."""
        self._reason = self._reason or reason
        with suppress(BlockingIOError):  # full of what was asked for before
            os.write(self._asking, b"\0")

    def raise_if_owed(self) -> None:
        """Raise the KeyboardInterrupt that is still owed, when called in the main thread."""
        if self.pending and threading.get_ident() == self._main:
            self._deliver()

    def note_start(self) -> None:
        """Note that dbt has just started a node or a hook."""
        self._last_start = time.monotonic()

    def note_hook(self) -> None:
        """Note that dbt has come to the start or the end of a hook, which it doesn't once it was interrupted.

        Raises the KeyboardInterrupt again, where a driver has swallowed it.
        """
        if self._delivered_at and threading.get_ident() == self._main:
            self._deliver()

    def disarm(self) -> None:
        """Raise nothing any more: dbt has ended, and can't be cancelled. Call it in the main thread."""
        self._over = True
        # Python's own end gives its handlers back for the default, by which a late Ctrl-C would kill.
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_IGN)

    def watch(
        self, on_asked: Callable[[str], None], press: Callable[[], None], on_error: Callable[[BaseException], None]
    ) -> None:
        """Start the thread that sees a cancel through: tells `on_asked` why, once, then presses until dbt ends.

        `press` is what helps where the interrupt has had no effect for a while; `on_error` is told what it raises.
        """
        threading.Thread(
            target=self._press, args=(on_asked, press, on_error), name="spanline-cancel", daemon=True
        ).start()

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self.pending:
            self._deliver()
        else:
            self.ask(signal.Signals(signum).name)

    def _deliver(self) -> None:
        self.pending = False
        self._delivered_at = time.monotonic()
        if not self._over:
            raise KeyboardInterrupt

    def _wait_until_asked(self) -> str:
        while True:
            number = os.read(self._asked, 1)[0]
            if number == 0:
                return self._reason
            if number in _SIGNALS:
                return signal.Signals(number).name

    def _signal_while_pending(self, seconds: float) -> None:
        # Again and again: a signal that comes just before the main thread blocks (in a read of the terminal, say)
        # has no effect until it wakes, which the next one makes it do.
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.pending:
                signal.pthread_kill(self._main, signal.SIGINT)
            time.sleep(_SIGNAL_SECONDS)

    def _press(
        self, on_asked: Callable[[str], None], press: Callable[[], None], on_error: Callable[[BaseException], None]
    ) -> None:
        on_asked(self._wait_until_asked())
        self.pending = True
        while True:
            self._signal_while_pending(_PRESS_SECONDS)
            if self._delivered_at and self._last_start > self._delivered_at + 1:
                # dbt starts nodes more than a second after it was interrupted: it has lost the interrupt.
                self._delivered_at = 0.0
                self.pending = True
            try:
                press()
            except Exception as error:  # noqa: BLE001 - whatever a driver raises, the grace period still ends dbt
                on_error(error)


def cancel_connections() -> None:
    """Have every adapter cancel its open connections, as dbt does itself when it is interrupted."""
    from dbt.adapters.factory import FACTORY

    adapters: list[Any] = list(FACTORY.adapters.values())
    for adapter in adapters:
        if adapter.is_cancelable():
            with adapter.connection_named("spanline-cancel"):
                adapter.cancel_open_connections()
