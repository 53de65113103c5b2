"""Files of a run: only regular files are opened, reads are bounded, writes are atomic and for the owner alone.

Everything below a home is read and written by this module, and by the runner's module that it uses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from spanline.runner.shared.files import open_file

T = TypeVar("T")

PRIVATE: Final = 0o600
_SMALL: Final = 1 << 16
ROOT: Final = 0
"""Root's user id. Root's files are trusted, because root may change anything."""


def open_to_read(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a file; with `follow`, also through a link. Raises `OSError`, also if it is not a regular file."""
    return os.fdopen(open_file(path, os.O_RDONLY, follow=follow), "rb")


def open_to_append(path: Path, mode: int = PRIVATE) -> BinaryIO:
    """Open a file for appending, and create it if needed. Raises `OSError`, as above."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "ab")


def read(path: Path, limit: int = _SMALL, *, follow: bool = False, trusted: bool = False) -> bytes:
    """The content of a file of at most `limit` bytes.

    With `trusted`, it must belong to this user or to root.
    Raises `OSError`, also if it is longer, or not a regular file.
    """
    with open_to_read(path, follow=follow) as file:
        found = os.fstat(file.fileno())
        if trusted:
            _check_owner(found.st_uid, path)
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it is longer than {limit} bytes", str(path))
        return file.read(found.st_size)


def read_json(path: Path, kind: type[T], limit: int = _SMALL, *, follow: bool = False, trusted: bool = False) -> T:
    """The content of a JSON file. Raises `OSError` as `read` does, and if the content is invalid."""
    content = read(path, limit, follow=follow, trusted=trusted)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise OSError(errno.EINVAL, f"invalid content: {error}", str(path)) from error


def read_start(path: Path, size: int = _SMALL) -> bytes:
    """At most the first `size` bytes of a file. Raises `OSError`."""
    with open_to_read(path) as file:
        return file.read(size)


def read_end(path: Path, size: int = _SMALL) -> bytes:
    """At most the last `size` bytes of a file. Raises `OSError`."""
    with open_to_read(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)


def write(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file atomically, in place of an existing one, with this mode whatever the umask.

    If it raises `OSError`, nothing half written remains.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def copy(source: Path, target: Path) -> None:
    """Copy a file, or the file that a link leads to, to a new path. Raises `OSError`."""
    with (
        open_to_read(source, follow=True) as original,
        os.fdopen(open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file,
    ):
        shutil.copyfileobj(original, file, 1 << 20)


def make_folder(path: Path, *, parents: bool = True) -> None:
    """Create a folder for its owner alone, and its `parents` with the usual mode. An existing folder stays as it is.

    Raises `OSError`.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:  # it is a file: "File exists" would make the user look for a folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def check_owner(folder: Path, *, or_root: bool = True) -> None:
    """Raise `PermissionError` unless a folder is this user's or root's: its owner may put anything into it."""
    _check_owner(folder.stat().st_uid, folder, or_root=or_root)


def _check_owner(owner: int, path: Path, *, or_root: bool = True) -> None:
    user = os.geteuid()
    if owner != user and not (or_root and owner == ROOT):
        raise PermissionError(errno.EPERM, f"it belongs to {_name(owner)}, and you are {_name(user)}", str(path))


def _name(user: int) -> str:
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"
