"""Asks DuckDB."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from tests.truth import sqllogic
from tests.truth.answers import Answer, Table
from tests.truth.influence import Rows, influences

_UNSAFE: Final = re.compile(
    r"\s*(copy|attach|detach|install|load|export|import|force|checkpoint|vacuum|call|pragma\s+(?!enable_verification)"
    r"|set\s+(global\s+|session\s+)?\w*(directory|path|memory|limit|threads|secret|access|extension|logging|log)\w*|create\s+(\w+\s+){0,2}secret)\b",
    re.IGNORECASE,
)
"""What reaches out of the database, or out of the bounds that it runs in."""
_QUERY: Final = re.compile(r"[\s(]*(select|with|from|values|pivot|unpivot|table)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"\w+")
_SECONDS: Final = 2.0
_COLUMNS: Final = """
    select database_name, schema_name, table_name, column_name, data_type,
        table_name in (
            select table_name from duckdb_tables() where sql not ilike '%generated%' and sql not like '% AS(%'
        )
    from duckdb_columns() where not internal order by table_oid, column_index
"""


class Database:
    """One DuckDB, bounded in time and memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._connection = duckdb.connect(str(path) if path is not None else ":memory:")
        for setting in ("memory_limit = '2GB'", "threads = 1", "autoinstall_known_extensions = false"):
            self._connection.execute(f"set {setting}")

    def run(self, sql: str) -> Rows:
        """The rows that some SQL gives."""
        timer = threading.Timer(_SECONDS, self._connection.interrupt)
        timer.start()
        try:
            found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        finally:
            timer.cancel()
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def fill(self, table: str, rows: int) -> None:
        """Give a table rows whose values are few, so that they meet the conditions of queries now and then."""
        cells = [_cell(type_, place) for place, (_, type_, *_) in enumerate(self.run(f"describe {table}"))]
        self.run(f"insert into {table} select {', '.join(cells)} from range({rows}) as r (i)")

    def created(self, sql: str) -> list[tuple[str, str]] | None:
        """The columns of the table that a model would make of a query; None where DuckDB refuses it."""
        try:
            self.run(f"create or replace temp table __truth as (\n{sql}\n) with no data")
            found = [(str(name), str(type_)) for name, type_, *_ in self.run("describe __truth")]
            self.run("drop table temp.__truth")
        except duckdb.Error:
            return None
        return found

    def tables(self, sql: str) -> tuple[list[Table], list[Table]]:
        """The relations that the SQL may mean, and which of them are tables."""
        words = {word.lower() for word in _WORD.findall(sql)}
        found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        base = set()
        for database, schema, table, column, type_, is_table in self.run(_COLUMNS):
            if not set(_WORD.findall(table.lower())) - words and table != "__truth":
                found.setdefault((database, schema, table), []).append((column, type_))
                if is_table:
                    base.add((database, schema, table))
        tables = [Table(relation, tuple(columns)) for relation, columns in found.items()]
        return tables, [table for table in tables if table.relation in base]

    def answer(self, sql: str, source: str, seconds: float) -> Answer | None:
        """What DuckDB says of a query."""
        sql = sql.strip().rstrip(";")
        if not _QUERY.match(sql):
            return None
        created = self.created(sql)
        if created is None:
            return None
        tables, changeable = self.tables(sql)
        found = tuple(influences(sql, changeable, self.run, seconds)) if seconds and changeable else ()
        return Answer(
            dialect="duckdb",
            source=source,
            sql=sql,
            tables=tuple(tables),
            names=tuple(name for name, _ in created),
            types=tuple(type_ for _, type_ in created),
            influences=found,
        )


def of_tests(path: Path, seconds: float) -> Iterator[Answer]:
    """The answers on the queries of one `.test` file."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database()
        for place, (is_query, sql) in enumerate(sqllogic.statements(path.read_text(errors="replace"), folder)):
            if _UNSAFE.match(sql):
                continue
            answer = database.answer(sql, f"{path.name}:{place}", seconds) if is_query else None
            if answer is not None:
                yield answer
                continue
            try:
                database.run(sql)
            except Exception:  # noqa: BLE001 - an extension that isn't there, or too slow: what needs it is refused
                continue


def of_files(paths: Sequence[Path], data: Path, seconds: float) -> Iterator[Answer]:
    """The answers on queries in files, over a database that has their tables."""
    database = Database(data)
    for path in paths:
        for sql in path.read_text().split(";"):
            answer = database.answer(sql, path.name, seconds) if sql.strip() else None
            if answer is not None:
                yield answer


def _cell(type_: str, place: int) -> str:
    """A value for row i."""
    number = f"(hash(i * 1000 + {place}) % 7)::int"
    if type_ == "DATE":
        return f"date '2013-07-01' + {number}"
    if type_.startswith("TIMESTAMP"):
        return f"timestamp '2013-07-14 10:00:00' + to_hours({number} * 3)"
    return f"case {number} when 0 then '' else 'http://google.com/' || {number} end" if type_ == "VARCHAR" else number
