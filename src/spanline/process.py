"""Processes: what a fork must not keep, what a process has started, and how to end all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_private_fds: Final[set[int]] = set()


def keep_from_forks(fd: int) -> None:
    """Have this descriptor closed in every fork of this process: a lease or lifeline must end with *us*."""
    _private_fds.add(fd)


def close(fd: int) -> None:
    """Close a descriptor that `keep_from_forks` was told of."""
    _private_fds.discard(fd)
    os.close(fd)


def _close_private_fds() -> None:
    for fd in _private_fds:
        with suppress(OSError):
            os.close(fd)
    _private_fds.clear()


os.register_at_fork(after_in_child=_close_private_fds)


def start_time(pid: int) -> str | None:
    """When a process started, in whatever unit the system has: two processes of one pid differ in it. None if gone."""
    try:
        return _stat(pid)[19]
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    # proc(5): the second field is the command in parentheses, which may itself hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    if Path("/proc/self/stat").exists():
        found = {}
        for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
            if entry.isdigit():
                with suppress(OSError, IndexError):
                    found[int(entry)] = int(_stat(int(entry))[1])
        return found
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False
    ).stdout
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


def kill_tree(pid: int) -> None:
    """SIGKILL a process and everything that it has started."""
    # Stopped first, so that it starts nothing more while its descendants are counted.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for victim in (*descendants(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def spawn_detached(
    module: str,
    arguments: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `module.main(arguments)` in a session of its own, with nothing of our stdio, outliving us."""
    # `-m` and `-c` put the working directory first on sys.path, where a file of the project could hide a module.
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )
