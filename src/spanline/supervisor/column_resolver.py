"""Start the column resolver beside a session, and end it in time."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from spanline.home.home import RunDirectory
from spanline.lineage.options import tells_columns
from spanline.sinks.enabled import openlineage_is_configured
from spanline.system import process

_MODULE: Final = "spanline.lineage.process"

log = logging.getLogger("spanline")


def start_resolver(
    directory: RunDirectory, journal_fd: int, session: int, environ: Mapping[str, str]
) -> ResolverProcess | None:
    """The resolver of this session, where somebody is told of columns."""
    try:
        wanted = openlineage_is_configured(environ) and tells_columns(environ)
        return ResolverProcess(directory, journal_fd, session) if wanted else None
    except Exception as error:  # noqa: BLE001 - an observer never changes the outcome of a run
        log.warning("there is no column lineage: its resolver cannot be started: %s", error)
        return None


class ResolverProcess:
    """A running resolver. Its lifeline is its standard input: it ends with our process, whatever ends that."""

    def __init__(self, directory: RunDirectory, journal_fd: int, session: int) -> None:
        """`journal_fd` is the journal, open to append and to read, which it inherits."""
        self._log = directory.columns_log if directory.path.exists() else None
        read, self._lifeline = process.private_pipe()
        try:
            self._process = process.spawn_detached(
                _MODULE,
                [str(directory.journal), str(journal_fd), str(directory.columns_cache), str(session)],
                self._log,
                pass_fds=(journal_fd,),
                stdin=read,
            )
        finally:
            os.close(read)

    @property
    def ended(self) -> bool:
        """Whether the process is gone, which before `finish` is a fault."""
        return self._process.poll() is not None

    def finish(self, timeout: float) -> str:
        """Let it read what is there, for at most so many seconds, and say how it ended."""
        process.close(self._lifeline)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            return "the session has ended before it"
        return "done" if code == 0 else f"it ended with {code}: {process.last_line(self._log)}"
