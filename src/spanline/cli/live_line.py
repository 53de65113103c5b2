"""The terminal during a run: dbt's output as it comes, and beneath it one line that says where the run stands."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from spanline import events
from spanline.journal.state import RunState
from spanline.results.summary import duration
from spanline.runner.shared.visible import in_line, visible
from spanline.system.stdio import Stdio, write

if TYPE_CHECKING:
    from spanline.api.run import Run

_REFRESH_SECONDS: Final = 0.2
_CHUNK: Final = 1 << 16
_CLEAR: Final = b"\r\x1b[K"
_NAMES: Final = 4


class LiveLine:
    """Passes dbt's output on, byte for byte, and keeps a line beneath it. Use it as a context manager."""

    def __init__(self, state: Callable[[], RunState]) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._line = b""
        self._at_line_start = True
        self._over = threading.Event()
        self._pipes = [os.pipe(), os.pipe()]
        self._threads = [
            threading.Thread(target=self._pump, args=(read, fd), daemon=True, name="spanline-output")
            for (read, _), fd in zip(self._pipes, (1, 2), strict=True)
        ]
        self._drawer = threading.Thread(target=self._draw_on, daemon=True, name="spanline-line")

    @property
    def stdio(self) -> Stdio:
        """The streams to give to dbt."""
        return Stdio(None, self.output, self._pipes[1][1])

    @property
    def output(self) -> int:
        """Where to write, instead of to standard output."""
        return self._pipes[0][1]

    def __enter__(self) -> LiveLine:
        for thread in (*self._threads, self._drawer):
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        for _, end in self._pipes:
            os.close(end)
        for thread in (self._drawer, *self._threads):
            thread.join(timeout=5)
        with self._lock:
            self._replace(b"")

    def _pump(self, read: int, fd: int) -> None:
        while chunk := os.read(read, _CHUNK):
            with self._lock:
                write(fd, (_CLEAR if self._line and self._at_line_start else b"") + chunk)
                self._at_line_start = chunk.endswith((b"\n", b"\r"))
                if self._at_line_start and self._line:
                    write(2, self._line)

    def _draw_on(self) -> None:
        while not self._over.wait(_REFRESH_SECONDS):
            line = _status(self._state()).encode(errors="replace")
            with self._lock:
                if line != self._line and self._at_line_start:
                    self._replace(line)

    def _replace(self, line: bytes) -> None:
        if self._line or line:
            write(2, _CLEAR + line)
        self._line = line


def print_log(run: Run, fd: int) -> None:
    """Print what dbt says in the session of a run that goes on elsewhere, from its start to its end."""
    session = run.session
    for record in run.records():
        event = record.event
        if isinstance(event, events.Log) and event.session >= session:
            clock = time.strftime("%H:%M:%S", time.gmtime(event.time / 1e9))  # as dbt writes it
            write(fd, f"{clock}  {visible(event.message)}\n".encode(errors="replace"))


def _status(state: RunState) -> str:
    """`[12/30] running orders, customers · 1 failed · 12.3 s`, cut to the terminal's width."""
    if not state.started or state.ended is not None:
        return ""
    attempt = state.attempt
    parts = []
    if state.cancelling:
        parts.append("cancelling")
    if state.total:
        parts.append(f"[{state.done}/{state.total}]")
        names = [node.unique_id.rpartition(".")[2] or node.unique_id for node in state.open_nodes]
        if names:
            more = f" +{len(names) - _NAMES}" if len(names) > _NAMES else ""
            parts.append(f"running {', '.join(names[:_NAMES])}{more}")
    elif attempt is not None and attempt.phase:
        parts.append({"parse": "parsing", "compile": "compiling"}.get(attempt.phase, attempt.phase))
    failed = len(state.failed_nodes)
    if failed:
        parts.append(f"{failed} failed")
    parts.append(duration(max(0, state.clock.now() - state.started) / 1e9))
    return in_line(" · ".join(parts))[: shutil.get_terminal_size().columns - 1]
