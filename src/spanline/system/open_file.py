"""A file that is opened once and stays open: what is in it is there for us, though somebody remove it meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spanline.runner.shared.files import open_file


class OpenFile:
    """A file to be read, open from the moment that it is there for as long as this lives.

    It has no position and takes no lock: threads may use it side by side, and a signal handler above any of them.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        """`fd` is a descriptor of the file where there is one, of which this has its own copy."""
        self.path = path
        self._fds: list[int] = []
        """One, or several where several had it opened at the same moment."""
        if fd is not None:
            self._fds.append(os.dup(fd))
        with contextlib.suppress(OSError):  # who wants to read it is told
            _ = self.fd

    def __del__(self) -> None:
        for fd in self._fds:
            os.close(fd)

    @property
    def fd(self) -> int | None:
        """Its descriptor; None where it isn't there yet. Raises `OSError` where it can't be opened."""
        if not self._fds:
            try:
                self._fds.append(open_file(self.path, os.O_RDONLY))
            except FileNotFoundError:
                return None
        return self._fds[0]

    @property
    def size(self) -> int:
        """How many bytes it has; none where it isn't there yet. Raises `OSError`."""
        return os.fstat(self.fd).st_size if self.fd is not None else 0

    @property
    def is_gone(self) -> bool:
        """Whether it was there, and its path no longer leads to it."""
        if not self._fds:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._fds[0]))  # noqa: PTH116 - asked often
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # nobody can say
            return False
