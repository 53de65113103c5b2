"""Have every statement of dbt's end with its trace context, as a comment in sqlcommenter's format.

https://google.github.io/sqlcommenter/spec/: a database's log, or a tracer on its side, so joins to the span of the
statement's node. The project and its own `query-comment` stay as they are, and the partial-parse cache holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable

from .shared.ids import span_id

_KIND = "traceparent"

_BLANKS = " \t\r\n\f\v"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_OURS = re.compile(r"\n(?:-- )?/\*traceparent='[0-9a-f-]{55}'\*/(?=[;\s.]*\Z)")
_OURS_REACHES = 160
"""How far from the end of a statement its comment begins at most, with some semicolons and blanks behind it."""

_ATHENAS_BARE = re.compile(r"\s*(?:alter|drop|optimize|vacuum|msck)", re.IGNORECASE)
"""What dbt-athena puts no comment on either: there they are errors."""
_CLICKHOUSES_DATA = re.compile(r"\s*insert\b.*?\b(?:format\s+\w+|values)\b", re.IGNORECASE | re.DOTALL)
"""Rows stand behind it, to the end; a comment would be one of them."""
_BARE: Mapping[str, re.Pattern[str]] = {"athena": _ATHENAS_BARE, "clickhouse": _CLICKHOUSES_DATA}
"""Statements that bear no comment behind them, by the adapter's type."""

_BEFORE_COMMENT: Mapping[str, str] = {"athena": "-- "}
"""Athena's DDL, which is Hive's, knows no block comments: dbt-athena hides its own in the same way."""


def comment_queries(order: Mapping[str, str], place: tuple[int, int, int], tell: Callable[[str], None]) -> None:
    """Have this process's dbt put the comment on every statement on which it puts its own.

    `order` has the `run_id`, and the `traceparent` above dbt's work, for statements of no node; `place` is session,
    step and attempt. What goes wrong is told once, and the statement goes as dbt has made it.
    """
    try:
        _wrap(order, place, _once(tell))
    except Exception as error:  # noqa: BLE001 - dbt can do without
        tell(f"statements carry no trace context: {type(error).__name__}: {error}")


def _wrap(order: Mapping[str, str], place: tuple[int, int, int], tell: Callable[[str], None]) -> None:
    from dbt.adapters.base.connections import BaseConnectionManager
    from dbt_common.events.contextvars import get_node_info

    manager: Any = BaseConnectionManager
    usual = manager._add_query_comment
    version, trace, _, flags = order["traceparent"].split("-")
    run_id, (session, step, attempt) = order["run_id"], place

    def traceparent(unique_id: str) -> str:
        if not unique_id:
            return order["traceparent"]
        return f"{version}-{trace}-{span_id(run_id, session, step, attempt, unique_id):016x}-{flags}"

    def add_query_comment(connections: Any, sql: str) -> str:
        made: str = usual(connections, sql)
        try:
            return commented(made, sql, connections.TYPE, traceparent(get_node_info().get("unique_id", "")))
        except Exception as error:  # noqa: BLE001 - a comment is never worth a statement
            tell(f"a statement carries no trace context: {type(error).__name__}: {error}; others may not either")
            return made

    manager._add_query_comment = add_query_comment


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    told: set[str] = set()

    def tell_first(text: str) -> None:
        if not told:
            told.add(text)
            tell(text)

    return tell_first


def commented(made: str, sql: str, adapter: str, traceparent: str) -> str:
    """The statement that dbt has `made` of `sql`, with the comment at its end, before a semicolon that closes it."""
    bare = _BARE.get(adapter)
    comment = f"/*traceparent='{traceparent}'*/"
    # dbt-snowflake comes by twice with some.
    if not sql.strip(_BLANKS + ";") or comment in sql or (bare is not None and bare.match(sql)):
        return made
    made = made.rstrip(_BLANKS)
    end = len(made.rstrip(_BLANKS + ";"))
    if ";" in made[end:].partition("\n")[0] and _ends_in_line_comment(made[:end]):
        end = len(made)  # it closes nothing
    # On a line of its own: the last one may be a comment to its end.
    return f"{made[:end]}\n{_BEFORE_COMMENT.get(adapter, '')}{comment}{made[end:]}"


def _ends_in_line_comment(sql: str) -> bool:
    last = sql.rpartition("\n")[2]
    return "--" in last and "--" in _QUOTED.sub("", last)


def without_ours(sql: str) -> str:
    """The statement without the comment that `commented` has put there."""
    reach = max(0, len(sql) - _OURS_REACHES)
    if sql.find(_KIND, reach) < 0:  # of every statement it is asked, and few have one
        return sql
    found = _OURS.search(sql, reach)
    return sql[: found.start()] + sql[found.end() :] if found is not None else sql
