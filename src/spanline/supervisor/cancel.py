"""Cancel: ask whoever supervises a run to end it, from any process or host that sees its directory; and hear of it.

A signal handler may ask: nothing here takes a lock.
"""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Final

import msgspec

from spanline.home.home import RunDirectory
from spanline.system import files

_FOR_ALL: Final = 0o644
"""Who sees a run's directory may see who cancels it."""
BOUNCE_SECONDS: Final = 1.0
"""A second Ctrl-C sooner than this is the same keystroke; later it means: now."""


Version = tuple[int, int]
"""Of a cancel file: when it was written, in nanoseconds, and its inode."""


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a run's cancel file: who asks, why, and how long dbt has before it is killed.

    `grace` is in seconds; without it the run's own holds, which who supervises it knows. `unique_id` is the node that
    took too long, where it is for that.
    """

    by: str
    reason: str = ""
    grace: float | None = None
    unique_id: str | None = None


def order_cancel(directory: RunDirectory, order: CancelOrder) -> None:
    """Ask for a run's cancel. Who supervises it sees that within a twentieth of a second. Raises `OSError`.

    A run that does not exist yet is cancelled as soon as its first session begins.
    """
    if not directory.path.exists():
        files.make_folder(directory.path.parent)
        _write(directory.early_cancel, order)
        if not directory.path.exists():
            return
    _write(directory.cancel, order)


def _write(path: Path, order: CancelOrder) -> None:
    # A signal handler may order while its own thread is about to; and root a cancel that others have to read.
    try:
        files.write(path, msgspec.json.encode(order), _FOR_ALL)
    except OSError:  # on a full disk it is empty, and an order all the same
        files.write(path, b"", _FOR_ALL)


class Orders:
    """The orders that one session is given: what stands in the cancel file when it begins is one, too.

    Who takes a run over has removed what was meant for the session before (`forget_order`).
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.given = False
        """Whether there has been one."""
        self._ours: collections.deque[CancelOrder] = collections.deque()
        self._file = directory.cancel
        self._seen: Version | None = None

    def give(self, order: CancelOrder) -> None:
        """Order a cancel from within this process, which needs no directory."""
        self._ours.append(order)

    def new(self) -> CancelOrder | None:
        """The order that was given since the last look, if one was; of several the last."""
        order = self._in_file()
        while self._ours:
            order = self._ours.popleft()
        self.given = self.given or order is not None
        return order

    def _in_file(self) -> CancelOrder | None:
        found = order_version(self._file)  # twenty times a second
        if found is None or found == self._seen:
            return None
        self._seen = found
        try:
            return files.read_json(self._file, CancelOrder)
        except OSError:
            return CancelOrder(by="an unreadable cancel file")


def order_version(file: Path) -> Version | None:
    """Which cancel file it is that is there; None if there is none, or its directory is gone."""
    try:
        found = os.lstat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def forget_order(file: Path, version: Version | None) -> None:
    """Remove a cancel file if it is still this one: one that was written since is meant for the next session.

    Raises `OSError`.
    """
    if version is not None and order_version(file) == version:
        file.unlink(missing_ok=True)
