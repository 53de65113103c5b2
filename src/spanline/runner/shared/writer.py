"""Append records to a journal: each is one whole line, written by one `os.write`.

A record begins *and* ends with a newline, so that a line torn by a kill or a full disk spoils no other.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from contextlib import suppress
from json import encoder
from typing import Any, Callable

from .files import open_file
from .masking import Redactor
from .visible import visible

VERSION = 1
"""Version of the record format; a reader skips what it doesn't know, so this changes only when a meaning does."""
LONGEST_RECORD = 16 << 20
"""Bytes of a line, in which all ids of 100,000 nodes fit: a longer one is none of ours, and readers skip it."""
_LONGEST_BODY = LONGEST_RECORD - 4096
_TEXTS = (1 << 18, 1 << 12, 1 << 6)
"""To how many characters the texts of a record are cut that would be too long."""

_encode_each = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def _fast_encode() -> Callable[[Any], str]:
    """The same as `_encode_each`, which makes an encoder in C for every call: here, one for all of them."""
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return _encode_each
    chunks = make(None, str, encoder.encode_basestring, None, ":", ",", False, False, True)
    join = "".join
    return lambda fields: join(chunks(fields, 0))


_encode = _fast_encode()
_libc_write = ctypes.PyDLL(None, use_errno=True).write
_libc_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc_write.restype = ctypes.c_ssize_t


class Writer:
    """One writer of one journal; safe to use from any thread, and from a signal handler above one that writes.

    `name` tells the journal's writers apart: sequence numbers count within it.
    A disk that is full, or any other failure to write, stops this writer with one call of `on_stop`;
    it never raises, because what is written about a run must not change it.
    """

    def __init__(
        self,
        path: str,
        name: str,
        redactor: Redactor | None = None,
        on_stop: Callable[[str], None] | None = None,
        fd: int | None = None,
    ) -> None:
        """`fd` is the journal, open to append, where somebody else has opened it: its path may lead nowhere by now."""
        self.redactor = redactor if redactor is not None else Redactor()
        self._on_stop = on_stop if on_stop is not None else warn
        self._path = path
        self._name = name
        self._lock = threading.RLock()
        self._seq = 0
        self._stopped = False
        self.fd = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) if fd is None else fd
        """The journal, open to append, and to read."""
        self.locate(session=0, step=0, attempt=0)

    def locate(self, session: int, step: int, attempt: int) -> None:
        """Set the invocation that the records from now on belong to."""
        self._place = (
            f'"v":{VERSION},"writer":{_encode(self._name)},"session":{session},"step":{step},"attempt":{attempt},"seq":'
        )

    def append(self, type_: str, fields: dict[str, Any], stamps: tuple[int, int] | None = None) -> bool:
        """Append one record of the given type, and return whether it was written.

        `stamps` are the system's time and the monotonic one, in nanoseconds, where they aren't those of now.
        """
        body = _encode(self.redactor.record(type_, fields))
        if len(body) > _LONGEST_BODY // 4:  # of so many characters, which have at most four bytes each
            type_, body = _fitting(type_, body)
        rest = f",{body[1:]}\n" if len(body) > 2 else "}\n"
        now, mono = both_clocks() if stamps is None else stamps
        with self._lock:
            if self._stopped:
                return False
            self._seq = seq = self._seq + 1
            # Half a surrogate pair (of a file's name that is no UTF-8) has no place in JSON, not even escaped.
            line = f'\n{{"type":"{type_}",{self._place}{seq},"time":{now},"mono":{mono}{rest}'.encode(
                "utf-8", "replace"
            )
            # `os.write` gives up the GIL: to have it back among dbt's threads takes longer than the write.
            written = _libc_write(self.fd, line, len(line))
            if written == len(line):
                return True
            self._seq -= 1  # it was no record
            if written < 0:
                self._stop(os.strerror(ctypes.get_errno()))
            else:
                self._stop("only part of a record could be written; the disk may be full")
            return False

    def resume(self) -> None:
        """Go on after a stop, where there may be room again."""
        self._stopped = False

    def _stop(self, why: str) -> None:
        self._stopped = True
        self._on_stop(
            f"the journal {self._path} stops here: {why}. dbt goes on; "
            "what it does from now on is neither journalled nor delivered"
        )

    def sync(self) -> None:
        """Have the operating system put what was written on the disk."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            with self._lock:
                if not self._stopped:
                    self._stop(error.strerror or str(error))

    def close(self) -> None:
        """Close the journal; later records are dropped."""
        with self._lock:
            self._stopped = True
            with suppress(OSError):  # of a disk that is gone
                os.close(self.fd)


def both_clocks() -> tuple[int, int]:
    """The system's clock and the monotonic one, in nanoseconds: the second goes on when somebody sets the first."""
    return time.time_ns(), time.monotonic_ns()


def _fitting(type_: str, body: str) -> tuple[str, str]:
    """The type and content of a record that readers take: its texts are cut, else it only says what is missing."""
    size = _size(body)
    if size <= _LONGEST_BODY:
        return type_, body
    for most in _TEXTS:
        cut = _encode(_cut(json.loads(body), most))
        if _size(cut) <= _LONGEST_BODY:
            return type_, cut
    message = f"a record of type {type_} is left out: it would have {size} bytes"
    return "log", _encode({"level": "warn", "name": "RecordTooLong", "message": message})


def _size(body: str) -> int:
    return len(body.encode("utf-8", "replace"))


def _cut(value: Any, most: int) -> Any:
    """The same value with its texts cut to so many characters; keys stay as they are."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[: most - 1]}…"
    if isinstance(value, dict):
        return {key: _cut(each, most) for key, each in value.items()}
    return [_cut(each, most) for each in value] if isinstance(value, list) else value


def warn(message: str) -> None:
    """Say something on standard error, where there is one."""
    if sys.stderr is not None:  # it is where a process has none
        sys.stderr.write(f"spanline: {visible(message)}\n")
