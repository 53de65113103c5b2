"""What a statement does, as far as its first words say: enough for those that dbt itself writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from spanline.events import Relation

_BEFORE: Final = re.compile(r"\s+|/\*.*?\*/|--[^\n]*(?:\n|\Z)", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z]+")
_HEAD: Final = re.compile(
    r"(?:(?P<defines>create|alter|drop)(?:\s+\w+){0,4}?\s+"
    r"(?P<kind>table|view|schema|database|index|function|procedure)\b(?:\s+if\s+(?:not\s+)?exists)?"
    r"|truncate(?:\s+table)?|insert\s+(?:into|overwrite)(?:\s+table)?|merge\s+into|delete\s+from|update"
    r"|copy(?:\s+into)?|call)\s+",
    re.IGNORECASE,
)
"""What stands before the name of what a statement makes, changes or calls."""
_PART: Final = r'(?:"[^"\n]+"|`[^`\n]+`|\[[^\]\n]+\]|[\w$]+)'
_NAME: Final = re.compile(rf"{_PART}(?:\.{_PART})*")
_CATALOG: Final = re.compile(r"\bfrom\s+(?:\w+\.)?(information_schema\.\w+|pg_\w+)", re.IGNORECASE)
"""Where dbt asks what there is."""
_OF_ONE_RUN: Final = re.compile(r"_*\d[\d_]{5,}\Z")
"""What dbt puts behind the names of temporary relations: the time, to the microsecond or the day."""
_PASSING: Final = frozenset(("INDEX",))
"""What dbt names anew each time: by a hash that the time is part of."""
_GOES_ON: Final = re.compile(r"[\w$.]")
_SUMMARY: Final = 255
"""Characters: https://opentelemetry.io/docs/specs/semconv/db/database-spans/#generating-a-summary-of-the-query."""


def operation(sql: str) -> str:
    """What the SQL begins with, after blanks and comments, in capitals: `SELECT`, `CREATE TABLE`."""
    found = _WORD.match(sql, _begin(sql))
    if found is None:
        return ""
    head = _head(sql)
    return " ".join(filter(None, (found[0], head and head["kind"]))).upper()


def summary(sql: str, reads: Iterable[Relation]) -> str:
    """What the SQL does, and to what: `CREATE TABLE orders`, `SELECT orders customers`; empty where nothing is plain.

    Of what it reads only those relations of `reads` are told, by their names, that stand in it. So whatever the SQL
    is, literals of it and names that are of one run only are not in its summary.
    """
    found, length = [], -1
    for word in (operation(sql), *(_target(sql) or _read(sql, reads))):
        length += 1 + len(word)
        if length > _SUMMARY:
            break
        found.append(word)
    return " ".join(found)


def changes(sql: str, name: str) -> bool:
    """Whether it is plainly the relation of this name, as dbt writes it, that the statement makes or changes."""
    found = _head(sql)
    return found is not None and _stands(sql, name, found.end())


def replaces(sql: str, name: str) -> bool:
    """Whether it is plainly the relation of this name that the statement makes, or takes away to make it anew."""
    if not changes(sql, name):
        return False
    return operation(sql).startswith(("CREATE", "DROP")) or sql.partition(name)[2].lstrip().lower().startswith(
        "rename to"
    )


def _target(sql: str) -> list[str]:
    """The last part of the name of what the statement makes, changes or calls."""
    head = _head(sql)
    name = _NAME.match(sql, head.end()) if head is not None else None
    if head is None or name is None or (head["kind"] or "").upper() in _PASSING:
        return []
    last: str = re.findall(_PART, name[0])[-1]
    if last.startswith("`"):  # BigQuery's, which may hold the whole name
        last = last.rpartition(".")[2]
    last = last.strip('"`[]')
    return [_OF_ONE_RUN.sub("", last) or last] if len(last) < _SUMMARY else []


def _read(sql: str, reads: Iterable[Relation]) -> list[str]:
    """Of the relations those that the statement reads, in the order in which they stand there; else dbt's catalog."""
    places = {relation.identifier: place for relation in reads for place in _places(sql, relation.name)}
    catalog = None if places else _CATALOG.search(sql)
    return [catalog[1]] if catalog is not None else sorted(places, key=places.__getitem__)


def _places(sql: str, name: str) -> Iterator[int]:
    """Where the name first stands, if it does."""
    at = sql.find(name) if name else -1
    while at >= 0:
        if _stands(sql, name, at):
            yield at
            return
        at = sql.find(name, at + 1)


def _stands(sql: str, name: str, at: int) -> bool:
    return sql.startswith(name, at) and not _GOES_ON.match(sql, at + len(name))


@lru_cache(maxsize=16)
def _head(sql: str) -> re.Match[str] | None:
    """What stands before a name, if anything does. Several questions are asked of one statement in a row."""
    return _HEAD.match(sql, _begin(sql))


def _begin(sql: str) -> int:
    at = 0
    while before := _BEFORE.match(sql, at):
        at = before.end()
    return at
