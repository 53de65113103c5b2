"""Standard input, output and error: open, even where whoever started this process has closed them (`<&-`).

A descriptor that is closed gives its number to the next file or pipe that is opened: dbt would print into the journal.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys


def open_descriptors() -> None:
    """Open those that are closed on nothing, for us and for what we start."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != fd:
                os.dup2(nothing, fd)
                os.close(nothing)
            os.set_inheritable(fd, True)


def open_streams() -> None:
    """Open the descriptors, and Python's streams on them, which are None where there was no descriptor."""
    open_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def write(fd: int, data: bytes) -> None:
    """Write all of it, unless whoever reads is gone or has no room: what the text is about goes on."""
    with contextlib.suppress(OSError):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # whoever shares the descriptor has made it so, and it is full
                select.select([], [fd], [])
