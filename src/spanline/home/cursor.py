"""How far a sink has come: its cursor, and what runs still owe their backends."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from spanline._version import __version__
from spanline.home.home import RunDirectory
from spanline.system import files

Position = tuple[int, str, int]
"""Which message: the byte offset of the record that it was made of, its key, and which of those two it is, from 0.

The key is in it as a setting may leave messages out (`SPANLINE_LINEAGE_EXPOSURES=off`): the others stay the same ones.
"""

_LONGEST: Final = 1 << 20
"""Bytes of a cursor. What it lists is bounded, see `DeliveryLimits`."""


class GivenUp(msgspec.Struct, frozen=True):
    """A message that a backend failed at again and again, while it took others. A replay tries it again."""

    position: Position
    name: str
    reason: str


class Cursor(msgspec.Struct):
    """How far a sink got, according to its file."""

    offset: int = 0
    """Byte offset in the journal: whatever was made of what stands before it is acknowledged, or was rejected."""
    read_to: int = 0
    """Byte offset: the same holds up to here, except for what is `owed`."""
    owed: list[Position] = []
    delivered: int = 0
    rejected: int = 0
    given_up: list[GivenUp] = []
    """Those of the rejected that are worth another try."""
    undelivered: int = 0
    complete: bool = False
    error: str | None = None
    """Why what is undelivered was not, as far as is known."""
    rejection: str | None = None
    """The last reason for which the backend rejected something."""
    version: str = ""
    """Of the Spanline that has written it: another one may make other messages, so positions mean nothing to it."""

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """Read a cursor; one that isn't there, or can't be read, is at the start."""
        try:
            found = files.read_json(path, cls, _LONGEST)
        except OSError:
            return cls()
        if found.version != __version__:
            found.read_to, found.owed, found.given_up = found.offset, [], []
        return found

    def save(self, path: Path) -> None:
        """Write the cursor, whole or not at all; its folder is made anew where it is gone. Raises `OSError`."""
        self.version = __version__
        files.make_folder(path.parent, parents=False)
        files.write(path, msgspec.json.encode(self))


def undelivered(directory: RunDirectory) -> dict[str, int]:
    """What each sink still owes its backend."""
    cursors = ((path.stem, Cursor.load(path)) for path in directory.cursors())
    return {name: cursor.undelivered for name, cursor in cursors if not cursor.complete}
