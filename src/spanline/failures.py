"""Classify a failure by its message: what went wrong, and whether it may pass by itself.

Rules are few as yet, and careful: what no rule knows is `unknown` and not worth another try, as a permanent error that
is tried again costs money. Sources stand beside the rules.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_LOOKED_AT: Final = 8_000
"""Characters at each end of a message that are looked at: a warehouse says what is wrong first or last."""


class Failure(msgspec.Struct, frozen=True):
    """What a message means: its category, whether another try may help, and the rule that says so."""

    category: str
    transient: bool
    rule: str | None = None


class _Rule(msgspec.Struct, frozen=True):
    name: str
    category: str
    transient: bool
    pattern: re.Pattern[str]
    adapters: tuple[str, ...] = ()


def _rule(name: str, category: str, pattern: str, *adapters: str, transient: bool = True) -> _Rule:
    return _Rule(name, category, transient, re.compile(pattern), adapters)


_PG: Final = ("postgres", "redshift", "greenplum", "materialize")
_RULES: Final = (
    # https://duckdb.org/docs/stable/connect/concurrency
    _rule("duckdb.lock", "concurrency", r"IO Error: Could not set lock on file", "duckdb"),
    _rule("duckdb.conflict", "concurrency", r"TransactionContext Error: Conflict on", "duckdb"),
    # https://www.postgresql.org/docs/current/errcodes-appendix.html, and libpq's own words
    _rule("postgres.deadlock", "concurrency", r"(?m)^\s*deadlock detected$", *_PG),
    _rule("postgres.serialization", "concurrency", r"could not serialize access due to", *_PG),
    _rule("postgres.starting", "connection", r"FATAL:\s+the database system is (?:starting up|shutting down)", *_PG),
    _rule("postgres.terminated", "connection", r"terminating connection due to administrator command", *_PG),
    _rule("postgres.closed", "connection", r"server closed the connection unexpectedly", *_PG),
    _rule("postgres.too_many", "throttled", r"FATAL:\s+(?:sorry, )?too many clients already", *_PG),
    _rule(
        "postgres.refused",
        "connection",
        r'connection to server at "[^"\n]*"(?: \([^)\n]*\))?, port \d+ failed: (?:Connection refused|timeout expired)',
        *_PG,
    ),
)


def classify(message: str, adapter: str | None = None) -> Failure:
    """What a message of dbt's, or of the warehouse's, means; `adapter` is the type of dbt's adapter."""
    text = message if len(message) <= 2 * _LOOKED_AT else f"{message[:_LOOKED_AT]}\n{message[-_LOOKED_AT:]}"
    for rule in _RULES:
        if (not rule.adapters or adapter in rule.adapters) and rule.pattern.search(text):
            return Failure(rule.category, rule.transient, rule.name)
    return Failure("unknown", transient=False)
