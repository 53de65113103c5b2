"""Which input columns change a query's result: each is changed, one at a time, in a transaction that is rolled back."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tests.truth.answers import Influence, Table

Rows = list[tuple[Any, ...]]

_WORD: Final = re.compile(r"\w+")
_STARS: Final = re.compile(r"\*|\bcolumns\b|\bfrom\b\s*\w+\s*;?\s*$", re.IGNORECASE)
_MOST_ROWS: Final = 100_000
_NUMBER: Final = re.compile(r"(u?(tiny|small|big|huge)?int(eger)?|decimal|numeric|double|float|real)\b", re.IGNORECASE)


def _changes(table: str, column: str, type_: str) -> Iterator[str]:
    """Updates of one column: some of its values are lost, all are shifted, rows swap theirs."""
    yield f"update {table} set {column} = null where hash(rowid) % 2 = 0"
    if _NUMBER.match(type_):
        yield f"update {table} set {column} = {column} + 1"
    elif type_ == "VARCHAR":
        yield f"update {table} set {column} = {column} || 'x'"
    elif type_ == "BOOLEAN":
        yield f"update {table} set {column} = not {column}"
    elif type_.startswith(("DATE", "TIMESTAMP")):
        yield f"update {table} set {column} = {column} + interval 400 day"
    yield (
        f"update {table} set {column} = o.v from (select rowid as r, lag({column}, 1, last) over (order by rowid) as v "
        f"from (select *, rowid, last({column}) over () as last from {table})) as o where {table}.rowid = o.r"
    )


def influences(sql: str, tables: Sequence[Table], run: Callable[[str], Rows], seconds: float) -> Iterator[Influence]:
    """What changes the result of a query. Nothing is said of one that isn't the same twice."""
    end = time.monotonic() + seconds
    try:
        before = _shape(run(sql))
    except Exception:  # noqa: BLE001 - the database refuses, or takes too long: nothing can be said
        return
    words = {word.lower() for word in _WORD.findall(sql)}
    for table in tables:
        name = ".".join(f'"{part}"' for part in table.relation if part)
        for column, type_ in table.columns:
            if column.lower() not in words and not _STARS.search(sql):
                continue
            quoted = f'"{column}"'
            if _after(f"update {name} set {quoted} = {quoted}", sql, run) != before:
                return
            places: set[int] = set()
            for change in _changes(name, quoted, type_):
                if time.monotonic() > end:
                    return
                after = _after(change, sql, run)
                if after is not None:
                    places.update(_differences(before, after))
            if places:
                yield Influence(table.relation[-1], column, tuple(sorted(places)))


def _after(change: str, sql: str, run: Callable[[str], Rows]) -> list[Counter[Any]] | None:
    """The result after a change; None where it can't be made, or the query fails then."""
    try:
        run("begin transaction")
    except Exception:  # noqa: BLE001 - the test has begun one of its own, which must stay
        return None
    try:
        run(change)
        return _shape(run(sql))
    except Exception:  # noqa: BLE001 - as above
        return None
    finally:
        run("rollback")


def _shape(rows: Rows) -> list[Counter[Any]]:
    """The values of each column whatever their order, and of the rows as a whole behind them."""
    if len(rows) > _MOST_ROWS:
        raise ValueError("too many rows")
    plain = [tuple(_plain(value) for value in row) for row in rows]
    return [*(Counter(column) for column in zip(*plain, strict=True)), Counter(plain)]


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _differences(before: list[Counter[Any]], after: list[Counter[Any]]) -> Iterator[int]:
    if len(before) != len(after):  # no rows at all
        yield -1
        return
    found = [place for place in range(len(before) - 1) if before[place] != after[place]]
    yield from found
    if not found and before[-1] != after[-1]:
        yield -1
