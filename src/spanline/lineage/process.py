"""The column resolver's process: it reads a session's journal, and writes into it what columns the nodes have.

It has low priority, and nobody waits for it longer than `spanline.sinks.openlineage.translate.COLUMNS_WAIT`. What it
finds is an event like any other, so that what is made of it can be made again. Standard input ends when the session
does, or its supervisor.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from spanline import events
from spanline.journal.appender import Appender
from spanline.journal.reader import Reader, Record, follow
from spanline.system.open_file import OpenFile
from spanline.system.terminal import log_to_errors

_NICE: Final = 10
_POLL_SECONDS: Final = 0.02
"""Less than any node takes, and no more often: each look takes the processor from dbt."""


def main(arguments: Sequence[str]) -> int:
    """`JOURNAL JOURNAL_FD CACHE SESSION`: resolve until standard input ends and all before that is read."""
    log_to_errors()
    os.nice(_NICE)
    journal, cache = Path(arguments[0]), Path(arguments[2])
    journal_fd, number = int(arguments[1]), int(arguments[3])
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    writer = f"columns-{os.getpid()}"
    appender = Appender(journal, writer, fd=journal_fd)
    appender.locate(number, 0, 0)
    appender.append(
        events.ColumnResolverStarted(sqlglot_version=metadata.version("sqlglot"), compiled=sqlglot_is_compiled())
    )
    found = (
        record
        for record in follow(Reader(OpenFile(journal, journal_fd)), ended.is_set, _POLL_SECONDS)
        if record.event.session == number and record.event.writer != writer
    )
    begun = _until_configured(found)
    if begun:
        _resolve(itertools.chain(begun, found), appender, cache)
    return 0


def _until_configured(found: Iterable[Record]) -> list[Record]:
    """What comes before dbt reads its project; nothing where it never does.

    What resolving imports would have held up dbt's own imports.
    """
    begun = []
    for record in found:
        begun.append(record)
        if isinstance(record.event, events.DbtConfigured):
            return begun
    return []


def _resolve(found: Iterable[Record], appender: Appender, path: Path) -> None:
    from spanline.lineage.cache import Cache  # noqa: PLC0415
    from spanline.lineage.resolver import Resolver  # noqa: PLC0415

    with Cache.open(path) as cache:
        resolver = Resolver(cache)
        for record in found:
            resolved = resolver.take(record.event)
            if resolved is not None:
                appender.locate(record.event.session, record.event.step, record.event.attempt)
                appender.append(resolved)


def sqlglot_is_compiled() -> bool:
    """Whether its build here is the one in C, which is three times as fast: told without importing it."""
    spec = importlib.util.find_spec("sqlglot")
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path()
    return any((folder / f"parser{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def _wait_for_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()
