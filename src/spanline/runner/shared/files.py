"""Open a file where somebody may have put something else: never through a link, and never a FIFO or a device.

Opened plainly, a link leads elsewhere, a FIFO is waited on for ever, and a device may be anything.
"""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: str | os.PathLike[str], flags: int, mode: int = 0o600, *, follow: bool = False) -> int:
    """Open a regular file as `os.open` does, and return its descriptor, which no process inherits.

    Raises `OSError`: also where the path is a symbolic link, unless that is to be followed, or no regular file.
    """
    name = os.fspath(path)
    if not follow:
        flags |= os.O_NOFOLLOW
    try:
        fd = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", name) from error
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, or a socket
            raise OSError(errno.ENXIO, "it is not a file", name) from error
        raise
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind != stat.S_IFREG:
        os.close(fd)
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file", name)
    os.set_blocking(fd, True)
    return fd
