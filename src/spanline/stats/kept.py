"""The saved facts of one journal, so that it need not be read again, and the journal's state at that time.

The supervisor saves them next to the journal when a session ends, `spanline stats` in its cache. In both cases,
`facts_of` makes them from the journal. They are invalid once the journal has grown. A journal is only appended to, so
its size identifies its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from spanline.home.home import RunDirectory
from spanline.stats import facts
from spanline.stats.facts import Facts, facts_of
from spanline.system import files

_PIECE: Final = 1 << 16
"""Bytes of a journal that are read at a time: they fit a core's own cache, and cost a supervisor little."""


class Kept(msgspec.Struct, frozen=True):
    """The facts of a run's journal as it was when it had so many bytes."""

    version: int
    run_id: str
    size: int
    facts: Facts


def made_of(run_id: str, journal: Iterable[bytes]) -> bytes:
    """The facts of a journal to be saved, as one line of JSON."""
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in journal:
            size += len(piece)
            yield piece

    found = facts_of(counted())
    return msgspec.json.encode(Kept(facts.VERSION, run_id, size, found)) + b"\n"


def fits(content: bytes, run_id: str, size: int) -> bool:
    """Whether this was kept of this run's journal, by this version, when it had this size; it may also be spoilt."""
    try:
        kept = msgspec.json.decode(content, type=Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return (kept.version, kept.run_id, kept.size) == (facts.VERSION, run_id, size)


def pieces(journal: Path) -> Iterator[bytes]:
    """The content of a journal that is a file. Raises `OSError`."""
    with files.open_to_read(journal) as file:
        while piece := file.read(_PIECE):
            yield piece


def keep_beside(run: RunDirectory) -> None:
    """Save the facts of a run next to its journal, for statistics. Raises `OSError`."""
    files.write(run.facts, made_of(run.run_id, pieces(run.journal)))
