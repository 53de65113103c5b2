"""Signals while a run is shown: they cancel a run of ours, and end the following of somebody else's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanline.api.run import Run


class Signals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into cancels of the run: the first gently, a second one at once.

    Where the run is somebody else's, they only end our following of it, as a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.followed: Run | None = None
        self._run: Run | None = None
        self._first: tuple[float, str] | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Signals:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(signum)
            # nohup and `&` have SIGHUP or SIGINT ignored, and mean it.
            if before is not signal.SIG_IGN:
                self._before[signum] = before
                signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    def watch(self, run: Run) -> None:
        """Cancel this run from now on, and now where a signal has come already."""
        if not run.supervised_here:
            self._follow(run)
            return
        self._run = run
        if self._first is not None:
            run.cancel(by=self._first[1])

    def _follow(self, run: Run) -> None:
        self.followed = run
        for signum in self._before:
            signal.signal(signum, signal.default_int_handler)
        if self._first is not None:
            raise KeyboardInterrupt

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        now, name = time.monotonic(), signal.Signals(signum).name
        if self._first is None:
            self._first = (now, name)
            if self._run is not None:
                self._run.cancel(by=name)
        elif self._run is not None and _is_another(now - self._first[0]):
            self._run.cancel(grace=0.0, by=f"a second {name}")


def _is_another(seconds: float) -> bool:
    # Not before there is a run: until then the module may be half imported by what the signal has interrupted.
    from spanline.supervisor.cancel import BOUNCE_SECONDS  # noqa: PLC0415

    return seconds > BOUNCE_SECONDS
