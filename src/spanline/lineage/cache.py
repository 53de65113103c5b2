"""Keep what was found out of columns, so that SQL that hasn't changed isn't looked at again.

An analysis is kept by a checksum of the SQL and of the columns of what it reads; the columns of a relation, as they
were last seen, by its name. One SQLite file, shared by runs at the same time; what can't be kept is found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from spanline._version import __version__
from spanline.events import Column
from spanline.lineage import columns
from spanline.lineage.unaliased import duckdb_version
from spanline.system import files

_VERSION: Final = 3
_KEEP_SECONDS: Final = 60 * 24 * 3600
_TABLES: Final = """
create table if not exists analyses (key blob primary key, value blob not null, used integer not null) without rowid;
create table if not exists reads (key blob primary key, value blob not null, used integer not null) without rowid;
create table if not exists relations (key text primary key, value blob not null, used integer not null) without rowid;
"""

T = TypeVar("T")

log = logging.getLogger("spanline")

_analyses: Final = msgspec.msgpack.Decoder(columns.Analysis)
_relations: Final = msgspec.msgpack.Decoder(list[columns.Relation])
_columns: Final = msgspec.msgpack.Decoder(list[Column])


class Cache:
    """What is kept; without a connection nothing is."""

    def __init__(self, connection: sqlite3.Connection | None, now: float | None = None) -> None:
        self._connection = connection
        self._now = int(time.time() if now is None else now)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, now: float | None = None) -> Iterator[Cache]:
        """The cache in this file, which is made where it isn't there. `now` is when its user's session began."""
        cache = cls(_connect(path), now)
        try:
            yield cache
        finally:
            cache._close()

    def analysis(
        self,
        sql: str,
        adapter: str,
        schema: columns.Schema,
        this: columns.Relation | None,
        analyse: Callable[[], columns.Analysis],
    ) -> columns.Analysis:
        """What was found of this SQL of the relation `this` over these columns, or else what `analyse` finds now."""
        parts = (_VERSION, __version__, columns.VERSION, duckdb_version(), adapter, this, sql)
        of_sql = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
        read = self._get("reads", of_sql, _relations)
        if read is not None:
            kept = self._get("analyses", _key(of_sql, read[0], schema), _analyses)
            if kept is not None:
                return kept[0]
        found = analyse()
        self._put("reads", of_sql, msgspec.msgpack.encode(found.relations))
        self._put("analyses", _key(of_sql, found.relations, schema), msgspec.msgpack.encode(found))
        return found

    def relation(self, namespace: str, name: str) -> tuple[list[Column], int]:
        """The columns of a relation as they were last seen, and when, in seconds since the epoch; none, and 0."""
        return self._get("relations", f"{namespace}\x1f{name}", _columns) or ([], 0)

    def remember_relation(self, namespace: str, name: str, found: Sequence[Column]) -> None:
        """Keep the columns of a relation."""
        self._put("relations", f"{namespace}\x1f{name}", msgspec.msgpack.encode(found))

    # --- the file -------------------------------------------------------------------------------------------------

    def _get(self, table: str, key: bytes | str, decoder: msgspec.msgpack.Decoder[T]) -> tuple[T, int] | None:
        """What is kept under this key, and since when."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(f"select value, used from {table} where key = ?", (key,)).fetchone()  # noqa: S608
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        try:
            return (decoder.decode(row[0]), row[1]) if row is not None else None
        except (msgspec.MsgspecError, TypeError):
            return None  # of another version, or spoilt: it is found out again, and written over

    def _put(self, table: str, key: bytes | str, value: bytes) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute(f"insert or replace into {table} values (?, ?, ?)", (key, value, int(time.time())))  # noqa: S608
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        log.warning("the cache of columns cannot be used: %s", error)
        self._connection = None

    def _close(self) -> None:
        if self._connection is None:
            return
        try:
            for table in ("analyses", "reads", "relations"):
                self._connection.execute(f"delete from {table} where used < ?", (self._now - _KEEP_SECONDS,))  # noqa: S608
            self._connection.close()
        except sqlite3.Error as error:
            self._give_up(error)


def _connect(path: Path) -> sqlite3.Connection | None:
    try:
        files.make_folder(path.parent, parents=False)  # in its home, unless somebody has removed that
        files.check_owner(path.parent)
        files.open_to_append(path).close()  # SQLite would follow a link
        # Each write is a transaction: one left open while dbt is busy would hold up all other runs.
        connection = sqlite3.connect(path, timeout=2.0, isolation_level=None)
        connection.executescript("pragma journal_mode = wal; pragma synchronous = off;" + _TABLES)
    except (OSError, sqlite3.Error) as error:
        log.warning("the cache of columns %s cannot be used: %s", path, error)
        return None
    return connection


def _key(of_sql: bytes, relations: Sequence[columns.Relation], schema: columns.Schema) -> bytes:
    known = [
        (relation, schema.find(relation), schema.columns(relation), schema.complete(relation)) for relation in relations
    ]
    return hashlib.sha256(of_sql + msgspec.msgpack.encode(known)).digest()
