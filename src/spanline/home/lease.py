"""The lease of a run: an exclusive lock, held by the run's supervisor and inherited by its runner.

The lock is `flock` on the run's lease file. So it is held while *either* process lives, and disappears with the last of
them, however they die. The file's content names the holder. Its heartbeat matters only between hosts, where the lock
has no effect.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from spanline.errors import RunBusy, UsageError
from spanline.runner.shared import settings
from spanline.runner.shared.files import open_file
from spanline.system import files, process
from spanline.system.open_file import OpenFile

_TRIES: Final = 20
_TRY_SECONDS: Final = 0.02
"""Checking a lease (`is_held`) holds it for an instant, so acquiring it is tried again."""
_OTHER_HOST_SECONDS: Final = 60.0


class Holder(msgspec.Struct, frozen=True):
    """The holder of a lease. `heartbeat` is in seconds since the epoch."""

    host: str
    boot_id: str
    pid: int
    start_time: str | None
    heartbeat: float


class Lease:
    """An acquired lease; `fd` is the locked file, for the runner to inherit."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        process.keep_from_forks(fd)
        self.beat()

    def beat(self) -> None:
        """Write the holder and the heartbeat."""
        content = msgspec.json.encode(_ourselves())
        with suppress(OSError):  # the disk is full: the lock holds without content
            os.pwrite(self.fd, content, 0)
            os.ftruncate(self.fd, len(content))

    def release(self) -> None:
        """Release it. The lock disappears when the runner has released it too."""
        process.close(self.fd)


def acquire(path: Path) -> Lease:
    """Acquire the lease.

    Raises `RunBusy` if a live process holds it, `UsageError` if the file system has no working locks, and `OSError` if
    the file can't be opened or is not a regular file.
    """
    with process.no_forks():
        fd = open_file(path, os.O_RDWR | os.O_CREAT)
        process.keep_from_forks(fd)
    try:
        for _ in range(_TRIES):
            if _try_lock(fd, path, fcntl.LOCK_EX):
                break
            time.sleep(_TRY_SECONDS)
        else:
            raise RunBusy(f"the run is held by another process ({describe(path)})")
        _check_locks_work(path)
        _check_other_host(path)
    except BaseException:
        process.close(fd)
        raise
    return Lease(fd)


def is_held(lease: OpenFile | Path) -> bool:
    """Whether a live process holds the lease. Works for an open lease even if its file was removed."""
    file = lease if isinstance(lease, OpenFile) else OpenFile(lease)
    with process.no_forks():  # a fork would go on holding what we hold for an instant
        if file.fd is None:
            return False
        if not _try_lock(file.fd, file.path, fcntl.LOCK_SH):
            return True
        fcntl.flock(file.fd, fcntl.LOCK_UN)
        return False


def read_holder(path: Path) -> Holder | None:
    """The holder of the lease, or the last one."""
    try:
        return files.read_json(path, Holder)
    except OSError:
        return None


def describe(path: Path) -> str:
    """The holder, for a message."""
    holder = read_holder(path)
    return f"pid {holder.pid} on {holder.host}" if holder else "which has not written its name yet"


def _try_lock(fd: int, path: Path, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise UsageError(
            f"{path.parent} is on a file system without working locks ({error.strerror}); "
            f"set `home_dir` or {settings.HOME} to another place"
        ) from error
    return True


def _check_locks_work(path: Path) -> None:
    if not is_held(path):
        raise UsageError(
            f"{path.parent} is on a file system whose locks exclude nobody; "
            f"set `home_dir` or {settings.HOME} to another place"
        )


def _check_other_host(path: Path) -> None:
    holder = read_holder(path)
    if holder is None or holder.host == platform.node():
        return
    if time.time() - holder.heartbeat < _OTHER_HOST_SECONDS:
        raise RunBusy(f"the run is held by another host ({describe(path)})")


def _ourselves() -> Holder:
    pid = os.getpid()
    return Holder(platform.node(), process.boot_id(), pid, process.start_time(pid), time.time())
