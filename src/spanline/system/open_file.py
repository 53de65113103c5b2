"""A file that is opened once and stays open, so its content remains readable even if somebody removes it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spanline.runner.shared.files import open_file


class OpenFile:
    """A file for reading, open from the moment that it exists for as long as this object lives.

    It has no position and takes no lock, so threads may share it, and a signal handler may use it above any of them.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        """`fd` is an existing descriptor of the file, if any. This object makes its own copy."""
        self.path = path
        self._fds: list[int] = []
        """One, or several if several threads opened it at the same moment."""
        if fd is not None:
            self._fds.append(os.dup(fd))
        with contextlib.suppress(OSError):  # reading it will raise
            _ = self.fd

    def __del__(self) -> None:
        for fd in self._fds:
            os.close(fd)

    @property
    def fd(self) -> int | None:
        """Its descriptor; None if it does not exist yet. Raises `OSError` if it can't be opened."""
        if not self._fds:
            try:
                self._fds.append(open_file(self.path, os.O_RDONLY))
            except FileNotFoundError:
                return None
        return self._fds[0]

    @property
    def size(self) -> int:
        """Its size in bytes; 0 if it does not exist yet. Raises `OSError`."""
        return os.fstat(self.fd).st_size if self.fd is not None else 0

    @property
    def is_gone(self) -> bool:
        """Whether it existed, and its path no longer leads to it."""
        if not self._fds:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._fds[0]))  # noqa: PTH116 - asked often
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # nobody can say
            return False
