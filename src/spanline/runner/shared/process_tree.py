"""A process and all that it has started: to be found, and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def stat(pid: int) -> list[str]:
    """The fields of proc(5)'s `stat` from the third on."""
    # The second field is the command in parentheses, which may itself hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    if Path("/proc/self/stat").exists():
        found = {}
        for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
            if entry.isdigit():
                with suppress(OSError, IndexError):
                    found[int(entry)] = int(stat(int(entry))[1])
        return found
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}


def descendants(pid: int) -> list[int]:
    """Every process that descends from this one, the nearest first."""
    children = defaultdict(list)
    for child, parent in _parents().items():
        children[parent].append(child)
    found = list(children[pid])
    for child in found:
        found.extend(children[child])
    return found


def kill(pid: int) -> None:
    """SIGKILL a process and everything that it has started, except ourselves."""
    # Stopped first, so that it starts nothing more while its descendants are counted.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for victim in (*descendants(pid), pid):
        if victim != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
