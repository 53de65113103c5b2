"""Processes: what a fork must not keep, which process a pid names, and how to start one that outlives us."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from spanline.runner.shared import process_tree
from spanline.system import files

_private_fds: Final[set[int]] = set()
_forks: Final = threading.RLock()
"""Held while forking, and while creating a descriptor that no fork may keep."""


@contextmanager
def no_forks() -> Iterator[None]:
    """Prevent all threads of this process from forking meanwhile."""
    with _forks:
        yield


def private_pipe() -> tuple[int, int]:
    """A pipe whose write end (the second) is closed in every fork of this process: it must end with *us*."""
    with _forks:
        read, write = os.pipe()
        keep_from_forks(write)
    return read, write


def keep_from_forks(fd: int) -> None:
    """Close this descriptor in every fork of this process: a lease or lifeline must end with *us*."""
    _private_fds.add(fd)


def close(fd: int) -> None:
    """Close a descriptor that `keep_from_forks` was told of."""
    _private_fds.discard(fd)
    os.close(fd)


def _close_private_fds() -> None:
    _forks.release()
    for fd in _private_fds:
        with suppress(OSError):
            os.close(fd)
    _private_fds.clear()


os.register_at_fork(before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_close_private_fds)


@functools.cache
def boot_id() -> str:
    """The id of this system's boot, from which its monotonic clock counts; empty if the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When a process started, in the system's own unit: two processes with the same pid differ in it.

    None if it is gone, even if it is still a zombie.
    """
    try:
        fields = process_tree.stat(pid)
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def last_line(log: Path | None) -> str:
    """The end of a process's log; empty if the log is."""
    try:
        lines = files.read_end(log).decode(errors="replace").strip().splitlines() if log is not None else []
    except OSError:
        return ""
    return lines[-1] if lines else ""


def spawn_detached(
    module: str,
    arguments: Sequence[str],
    log: Path | None,
    *,
    environment: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `module.main(arguments)` in a new session, without our standard streams, so that it outlives us.

    Its output goes to the `log`, if there is one.
    """
    # `-m` and `-c` put the working directory first on sys.path, where a file of the project could hide a module.
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; "
        "from spanline.system.collector import collect_seldom; collect_seldom(); "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    with files.open_to_append(log) if log is not None else open(os.devnull, "ab") as output, no_forks():
        started = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )
    # Somebody must wait for it, or it stays a zombie while the caller lives.
    threading.Thread(target=started.wait, name="spanline-reaper", daemon=True).start()
    return started
