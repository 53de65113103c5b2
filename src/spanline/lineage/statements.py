"""What a statement does, as far as its first words say: enough for those that dbt itself writes."""

from __future__ import annotations

import re
from typing import Final

_BEFORE: Final = re.compile(r"\s+|/\*.*?\*/|--[^\n]*(?:\n|\Z)", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z]+")
_CHANGES: Final = re.compile(
    r"(?:create(?:\s+or\s+replace)?(?:\s+(?!if\b)\w+){0,3}\s+(?:table|view)(?:\s+if\s+not\s+exists)?"
    r"|(?:alter|drop)(?:\s+materialized)?\s+(?:table|view)(?:\s+if\s+exists)?|truncate(?:\s+table)?"
    r"|insert\s+(?:into|overwrite)(?:\s+table)?|merge\s+into|delete\s+from|update)\s+",
    re.IGNORECASE,
)
"""What stands before the name of what a statement changes."""
_GOES_ON: Final = re.compile(r"[\w$.]")


def operation(sql: str) -> str:
    """The word that the SQL begins with, in capitals, after blanks and comments."""
    found = _WORD.match(sql, _begin(sql))
    return found[0].upper() if found else ""


def changes(sql: str, name: str) -> bool:
    """Whether it is plainly the relation of this name, as dbt writes it, that the statement makes or changes."""
    found = _CHANGES.match(sql, _begin(sql))
    return found is not None and sql.startswith(name, found.end()) and not _GOES_ON.match(sql, found.end() + len(name))


def replaces(sql: str, name: str) -> bool:
    """Whether it is plainly the relation of this name that the statement makes, or takes away to make it anew."""
    if not changes(sql, name):
        return False
    return operation(sql) in ("CREATE", "DROP") or sql.partition(name)[2].lstrip().lower().startswith("rename to")


def _begin(sql: str) -> int:
    at = 0
    while before := _BEFORE.match(sql, at):
        at = before.end()
    return at
