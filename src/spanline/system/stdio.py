"""Standard input, output and error: open, even if the caller of this process has closed them (`<&-`).

The next file or pipe that is opened gets the number of a closed descriptor: dbt would print into the journal.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import NamedTuple


def open_descriptors() -> None:
    """Redirect closed streams to nowhere, for this process and the processes that it starts."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # gets the lowest free number
        os.set_inheritable(fd, True)
    os.close(fd)


def open_streams() -> None:
    """Open the descriptors, and Python's streams on them, which are None if there was no descriptor."""
    open_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # like standard error: its encoding may lack characters


def write(fd: int, data: bytes) -> None:
    """Write all of it, unless the reader is gone or blocks: then the text is lost, and the program goes on."""
    with contextlib.suppress(OSError):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # a process that shares the descriptor made it non-blocking, and it is full
                select.select([], [fd], [])


class Stdio(NamedTuple):  # no msgspec: `spanline --help` imports this, and must be instant
    """The runner's standard streams: a descriptor each, or None for the caller's own."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
