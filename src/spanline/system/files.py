"""Files of a run: opened as what they are, read within bounds, written whole or not at all, for their owner alone.

Everything below a home is read and written by this module (and by the runner's, on which it stands).
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
"""Root's user id: what is root's may be trusted, as root may change anything."""


def open_to_read(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a file; with `follow`, also through a link. Raises `OSError`, also where it is no regular file."""
    return os.fdopen(open_file(path, os.O_RDONLY, follow=follow), "rb")


def open_to_append(path: Path, mode: int = PRIVATE) -> BinaryIO:
    """Open a file to write at its end, which is made where it isn't there. Raises `OSError`, as above."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "ab")


def read(path: Path, limit: int = _SMALL, *, follow: bool = False, trusted: bool = False) -> bytes:
    """The content of a file of at most `limit` bytes.

    One that is to be `trusted` must belong to this user or to root.
    Raises `OSError`, also where it is longer, or no regular file.
    """
    with open_to_read(path, follow=follow) as file:
        found = os.fstat(file.fileno())
        if trusted:
            _check_owner(found.st_uid, path)
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it is longer than {limit} bytes", str(path))
        return file.read(found.st_size)


def read_json(path: Path, kind: type[T], limit: int = _SMALL, *, follow: bool = False, trusted: bool = False) -> T:
    """What a file holds as JSON. Raises `OSError` as `read` does, and where it holds no such thing."""
    content = read(path, limit, follow=follow, trusted=trusted)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise OSError(errno.EINVAL, f"it makes no sense: {error}", str(path)) from error


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
    """Write a file that appears whole, in place of what was there, with this mode whatever the umask.

    Raises `OSError`, and leaves nothing half written.
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
    """Copy a file, which may be a link to one, to a place where there is none. Raises `OSError`."""
    with (
        open_to_read(source, follow=True) as original,
        os.fdopen(open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file,
    ):
        shutil.copyfileobj(original, file, 1 << 20)


def make_folder(path: Path, *, parents: bool = True) -> None:
    """Make a folder for its owner alone, with `parents` those above it as usual; one that is there stays as it is.

    Raises `OSError`.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:  # what is there is a file: "File exists" would send one looking for a folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def check_owner(folder: Path, *, or_root: bool = True) -> None:
    """Raise `PermissionError` where a folder is neither this user's nor root's: its owner may put anything into it."""
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
