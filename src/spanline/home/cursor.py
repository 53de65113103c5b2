"""How far a sink has come: its cursor, and what runs still owe their backends."""

from __future__ import annotations

from pathlib import Path

import msgspec

from spanline.home.home import RunDirectory
from spanline.system import files


class Cursor(msgspec.Struct):
    """How far a sink has come, as its file says."""

    offset: int = 0
    delivered: int = 0
    rejected: int = 0
    undelivered: int = 0
    complete: bool = False
    error: str | None = None
    """Why what is undelivered was not, as far as is known."""
    rejection: str | None = None
    """The last reason for which the backend rejected something."""

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """Read a cursor; one that isn't there, or can't be read, is at the start."""
        try:
            return files.read_json(path, cls)
        except OSError:
            return cls()

    def save(self, path: Path) -> None:
        """Write the cursor, whole or not at all; its folder is made anew where it is gone. Raises `OSError`."""
        files.make_folder(path.parent, parents=False)
        files.write(path, msgspec.json.encode(self))


def undelivered(directory: RunDirectory) -> dict[str, int]:
    """What each sink still owes its backend."""
    cursors = ((path.stem, Cursor.load(path)) for path in directory.cursors())
    return {name: cursor.undelivered for name, cursor in cursors if not cursor.complete}
