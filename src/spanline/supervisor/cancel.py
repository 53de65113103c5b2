"""Cancel: ask whoever supervises a run to end it, from any process or host that sees its directory; and hear of it."""

from __future__ import annotations

import contextlib
import os
from typing import Final

import msgspec

from spanline.home.home import RunDirectory
from spanline.system import files

_FOR_ALL: Final = 0o644
"""Who sees a run's directory may see who cancels it."""
BOUNCE_SECONDS: Final = 1.0
"""A second Ctrl-C sooner than this is the same keystroke; later it means: now."""


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
    """Ask for a run's cancel. Who supervises it sees that within a twentieth of a second."""
    # A signal handler may order while its own thread is about to; and root a cancel that others have to read.
    try:
        files.write(directory.cancel, msgspec.json.encode(order), _FOR_ALL)
    except OSError:  # on a full disk it is empty, and an order all the same
        files.write(directory.cancel, b"", _FOR_ALL)


class Orders:
    """The orders that one session is given: from now on, as a cancel of an earlier session is over."""

    def __init__(self, directory: RunDirectory) -> None:
        self._file = directory.cancel
        self._seen: tuple[int, int] | None = None
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()

    @property
    def given(self) -> bool:
        """Whether there has been one."""
        return self._seen is not None

    def new(self) -> CancelOrder | None:
        """The order that was given since the last look, if one was."""
        try:
            found = os.lstat(self._file)  # twenty times a second
            changed = (found.st_mtime_ns, found.st_ino)
            if changed == self._seen:
                return None
            order = msgspec.json.decode(files.read(self._file), type=CancelOrder)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            order = CancelOrder(by="an unreadable cancel file")
        self._seen = changed
        return order
