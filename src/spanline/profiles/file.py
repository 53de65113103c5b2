"""The file that dbt reads a profile from. It exists from just before dbt starts until dbt has read it, or we are gone.

It contains no secret. Its directory is private, in memory if possible, and locked by the process that made it. The lock
ends with that process, however it dies, and the next start removes directories that nobody has locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from spanline.errors import SpanlineError
from spanline.system import process

_NAME: Final = "profiles.yml"
_PREFIX: Final = "spanline-profiles-"
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - each file has a private directory there
"""Where files are kept in memory, if the system has such a place."""


class ProfileFile:
    """A `profiles.yml` in `directory`, removed when its `with` block is left, if not before: see `write`."""

    def __init__(self, place: Path) -> None:
        self.directory, self._lock = _private_directory(place)

    def __enter__(self) -> ProfileFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def remove(self) -> None:
        """Remove it: dbt has read it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Remove it, and let go of its lock."""
        self.remove()
        process.close(self._lock)


def write(text: str) -> ProfileFile:
    """Write a profile's text into a file of its own. Raises `SpanlineError` where there is no place for it."""
    why = ""
    for place in places():
        try:
            return _write(place, text)
        except OSError as error:
            why = str(error)
    raise SpanlineError(f"cannot write a profile for dbt: {why}")


def _write(place: Path, text: str) -> ProfileFile:
    made = ProfileFile(place)
    try:
        with open(made.directory / _NAME, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(text.encode())
    except BaseException:
        made.close()
        raise
    return made


def sweep() -> None:
    """Remove what processes have left that are gone."""
    for place in places():
        for left in place.glob(f"{_PREFIX}*"):
            with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB) as fd:
                if os.fstat(fd).st_uid == os.geteuid():
                    shutil.rmtree(left)


def places() -> list[Path]:
    """Where private directories can be made, the best first."""
    in_memory = [IN_MEMORY] if os.access(IN_MEMORY, os.R_OK | os.W_OK | os.X_OK) else []
    return [*in_memory, Path(tempfile.gettempdir())]


def _private_directory(place: Path) -> tuple[Path, int]:
    """A new directory that nobody else can enter, and the descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        with suppress(FileNotFoundError):
            fd = _open(path)
            process.keep_from_forks(fd)
            with suppress(OSError):  # where nothing can be locked nobody sweeps
                fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                return path, fd
            process.close(fd)  # somebody has swept between the two


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    fd = _open(path)
    try:
        fcntl.flock(fd, how)
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
