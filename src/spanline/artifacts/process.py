"""The process that stores a run's artifacts, separate from the caller's memory, threads and forks.

Whatever a cloud client does (hang, run an event loop, crash) ends with this process, so it can have a time limit. Its
order comes through standard input, because it may contain credentials. When standard input ends, the caller has ended,
and so does this process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from spanline.artifacts.send import key_of, send
from spanline.artifacts.stage import Contents, stage, staged
from spanline.artifacts.store import StoreError
from spanline.errors import UsageError
from spanline.events import ArtifactsUploaded, UploadedFile
from spanline.home.home import RunDirectory
from spanline.home.storage import Storage
from spanline.system.terminal import log_to_errors

_ORPHANED: Final = 3


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to store, where, and with which storage options."""

    directory: str
    storage: Storage
    options: dict[str, object]


def main(arguments: Sequence[str]) -> int:
    """Store what the order on standard input asks for; `RESULT_FD` is where the event that tells of it goes."""
    log_to_errors()
    order = msgspec.json.decode(_line(), type=Order)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    told = upload(RunDirectory(Path(order.directory)), order.storage, order.options, os.environ)
    with os.fdopen(int(arguments[0]), "wb") as result:
        result.write(msgspec.json.encode(told))
    return 0


def _line() -> bytes:
    """The first line of standard input, of which nothing may be taken by Python's buffer: a thread reads on."""
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(0, 65536)):
        line += piece
    return line


def _end_with_caller() -> None:
    while os.read(0, 64):
        pass
    os._exit(_ORPHANED)


def upload(
    directory: RunDirectory, storage: Storage, options: Mapping[str, object], environ: Mapping[str, str]
) -> ArtifactsUploaded:
    """Stage what isn't yet, and send it. What is sent is staged no longer; an error is told, not raised."""
    contents = None
    try:
        contents = staged(directory, storage) or stage(directory, storage, environ)
        url = send(directory.upload, contents, storage, options)
    except (StoreError, UsageError, OSError) as error:
        url = f"{storage.url.rstrip('/')}/{key_of(storage.key, contents)}" if contents is not None else storage.url
        return _told(url, contents, str(error))
    _forget(directory)
    return _told(url, contents)


def _told(url: str, contents: Contents | None, error: str | None = None) -> ArtifactsUploaded:
    if contents is None:
        return ArtifactsUploaded(url=url, error=error)
    files = [UploadedFile(file.key, file.size, file.stored) for file in contents.files.values()]
    return ArtifactsUploaded(
        url=url,
        files=files if error is None else [],
        cut=contents.cut_in_all,
        left_out=contents.left_out,
        error=error,
    )


def _forget(directory: RunDirectory) -> None:
    for file in directory.upload.iterdir():
        file.unlink()
    directory.upload.rmdir()
