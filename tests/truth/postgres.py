"""Asks PostgreSQL, by a cursor for each query that isn't read from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg2

from tests.truth import psql
from tests.truth.answers import Answer, Table

_QUERY: Final = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)
_UNSAFE: Final = re.compile(
    r"\s*(copy|load|create\s+(database|tablespace|subscription|user|role|language)|alter\s+(system|database|role|user)"
    r"|checkpoint|vacuum|cluster|reindex)\b|pg_sleep|pg_terminate|pg_promote|\blo_(import|export)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")
_COLUMNS: Final = """
    select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'm', 'f', 'p') and lower(c.relname) = any(%s)
        and (pg_table_is_visible(c.oid) or lower(n.nspname) = any(%s))
    order by (n.nspname in ('pg_catalog', 'information_schema')), c.oid, a.attnum
"""


class Database:
    """One database of a server."""

    def __init__(self, uri: str) -> None:
        self._connection = psycopg2.connect(uri)
        self._connection.autocommit = True
        self.run("set statement_timeout = '2s'")

    def run(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The rows that some SQL gives."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    def created(self, sql: str) -> list[tuple[str, int]] | None:
        """The columns of a query; None where PostgreSQL refuses it."""
        self.run("rollback")
        self.run("begin")
        try:
            self.run(f"declare __truth no scroll cursor for {sql}")
            with self._connection.cursor() as cursor:
                cursor.execute("fetch 0 from __truth")
                return [(column.name, column.type_code) for column in cursor.description or ()]
        except psycopg2.Error:
            return None
        finally:
            self.run("rollback")

    def answer(self, sql: str, source: str) -> Answer | None:
        """What PostgreSQL says of a query."""
        if not _QUERY.match(sql) or (created := self.created(sql)) is None:
            return None
        words = sorted({word.lower() for word in _WORD.findall(sql)})
        found: dict[tuple[str | None, str, str], list[tuple[str, str]]] = {}
        for schema, table, column, type_ in self.run(_COLUMNS, words, words):
            found.setdefault((None, schema, table), []).append((column, type_))
        return Answer(
            dialect="postgres",
            source=source,
            sql=sql,
            tables=tuple(Table(relation, tuple(columns)) for relation, columns in found.items()),
            names=tuple(name for name, _ in created),
            types=tuple(str(type_) for _, type_ in created),
        )


def of_script(path: Path, uri: str, before: Path | None = None) -> Iterator[Answer]:
    """The answers on the queries of one script, which runs in a database that the script `before` has filled."""
    database = Database(uri)
    try:
        for script in filter(None, (before, path)):
            for sql in psql.statements(script.read_text(errors="replace")):
                if _UNSAFE.search(sql):
                    continue
                answer = database.answer(sql, path.name) if script is path else None
                if answer is not None:
                    yield answer
                    if not re.search(r"\binto\b", sql, re.IGNORECASE):
                        continue
                try:
                    database.run(sql)
                except psycopg2.Error:
                    continue  # it ought to fail, or needs what isn't there
    finally:
        database.close()
