"""End the runner when its supervisor is gone and it doesn't end by itself, and what a runner that died has left.

A small process of its own, forked before dbt is imported: it needs neither the runner's main thread nor its GIL.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Callable

from .shared import process_tree


def start(lifeline: int, grace: float, close: list[int]) -> Callable[[], None]:
    """Fork the watchdog of this process; what is returned is to be called when the runner is about to end orderly.

    `lifeline` is a descriptor that reads end-of-file when the supervisor is gone; the watchdog never reads data
    from it. `close` are descriptors that it must not hold (the lease). After the end of the lifeline the runner has
    `grace` seconds before it and all that it has started are killed. A runner that dies without a word takes with it
    what it has started, where it has a process group of its own.
    """
    alive_read, alive_write = os.pipe()
    runner = os.getpid()
    if os.fork():
        os.close(alive_read)  # the write end stays open until this process ends
        return lambda: _say_farewell(alive_write)
    try:
        os.close(alive_write)
        for fd in (0, 1, 2, *close):
            os.close(fd)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            signal.signal(signum, signal.SIG_IGN)
        _watch(runner, lifeline, alive_read, grace)
    finally:
        os._exit(0)


def _say_farewell(alive: int) -> None:
    os.write(alive, b".")


def _watch(runner: int, lifeline: int, alive: int, grace: float) -> None:
    poller = select.poll()
    poller.register(lifeline, 0)  # no data wanted: only that the other end is closed
    poller.register(alive, select.POLLIN)
    deadline: float | None = None
    orderly = False
    while True:
        found = dict(poller.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000))
        if alive in found:
            if os.read(alive, 1):
                orderly = True
                continue
            if not orderly and os.getpgrp() == runner:
                os.killpg(runner, signal.SIGKILL)  # us too: nothing is left to watch
            return
        if lifeline in found:
            poller.unregister(lifeline)
            deadline = time.monotonic() + grace
        elif deadline is not None and time.monotonic() >= deadline:
            if os.getppid() == runner:
                process_tree.kill(runner)
            return
