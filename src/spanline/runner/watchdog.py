"""End the runner when its supervisor is gone and it doesn't end by itself.

A small process of its own, forked before dbt is imported: it needs neither the runner's main thread nor its GIL.
"""

from __future__ import annotations

import os
import select
import signal


def start(lifeline: int, grace: float, close: list[int]) -> None:
    """Fork the watchdog of this process.

    `lifeline` is a descriptor that reads end-of-file when the supervisor is gone; the watchdog never reads data
    from it. `close` are descriptors that it must not hold (the lease). After the end of the lifeline the runner has
    `grace` seconds before it is killed.
    """
    alive_read, alive_write = os.pipe()
    runner = os.getpid()
    if os.fork():
        os.close(alive_read)  # the write end stays open, unread, until this process ends
        return
    try:
        os.close(alive_write)
        for fd in (0, 1, 2, *close):
            os.close(fd)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            signal.signal(signum, signal.SIG_IGN)
        _watch(runner, lifeline, alive_read, grace)
    finally:
        os._exit(0)


def _watch(runner: int, lifeline: int, alive: int, grace: float) -> None:
    poller = select.poll()
    poller.register(lifeline, 0)  # no data wanted: only that the other end is closed
    poller.register(alive, 0)
    while True:
        gone = {fd for fd, _ in poller.poll()}
        if alive in gone:
            return
        if lifeline in gone:
            break
    poller.unregister(lifeline)
    if poller.poll(grace * 1000):
        return
    if os.getppid() == runner:
        os.kill(runner, signal.SIGKILL)
