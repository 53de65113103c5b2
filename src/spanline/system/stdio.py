"""Standard input, output and error: open, even where whoever started this process has closed them (`<&-`).

A descriptor that is closed gives its number to the next file or pipe that is opened: dbt would print into the journal.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import NamedTuple


def open_descriptors() -> None:
    """Have those that are closed lead nowhere, for us and for what we start."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(fd, True)
    os.close(fd)


def open_streams() -> None:
    """Open the descriptors, and Python's streams on them, which are None where there was no descriptor."""
    open_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is: its encoding may be a small one


def write(fd: int, data: bytes) -> None:
    """Write all of it, unless whoever reads is gone or has no room: what the text is about goes on."""
    with contextlib.suppress(OSError):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # whoever shares the descriptor has made it so, and it is full
                select.select([], [fd], [])


class Stdio(NamedTuple):  # no msgspec: `spanline --help` imports this, and is instant
    """The runner's standard streams: None is the caller's own, else a descriptor."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
