"""SQL that sqlglot has no words for, put into words that it has: what a column is made of is the same in both.

Each character keeps its place, so that what is found in the one is found there in the other, and literals, names in
quotation marks and comments are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sqlglot.dialects import DuckDB, Postgres
from sqlglot.dialects.dialect import Dialect

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_KEPT: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|\"(?:\"\"|[^\"])*\"|(\$\w*\$).*?\1", re.DOTALL
)
_KNOWN_OPERATORS: Final = frozenset(
    ("<=", ">=", "<>", "!=", "||", "->", "->>", "#>", "#>>", "@>", "<@", "!~", "~*", "!~*", "~~", "!~~", "~~*", "!~~*")
)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _comma(match: re.Match[str]) -> str:
    return ",".ljust(len(match[0]))


def _operator(match: re.Match[str]) -> str:
    return match[0] if match[0] in _KNOWN_OPERATORS else "||".ljust(len(match[0]))


def _rule(pattern: str, write: Callable[[re.Match[str]], str]) -> _Rule:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL), write


_RULES: Final[tuple[tuple[type[Dialect], tuple[_Rule, ...]], ...]] = (
    (
        DuckDB,
        (
            _rule(r"\bexport_state\b", _blank),
            _rule(r"\bx(?=\0)", _blank),  # X'FF'
            _rule(r"\busing\s+key\s*\((?:[^()]|\([^()]*\))*\)", _blank),
            _rule(r"(?<=\brange)(\s*)<(?![=>])", lambda match: f"{match[1]}="),  # not a type
        ),
    ),
    (
        Postgres,
        (
            _rule(r"[-+*/<>=~!@#%^&|`?]{2,}", _operator),
            _rule(r"\bsimilar\b(?!\s+to\b)|\bescape\b(?=\s*\0+\s*\))", _comma),  # SUBSTRING(a SIMILAR b ESCAPE c)
            _rule(
                r"\breturning\s+\w+|\bformat\s+json\b|\b(?:null|absent)\s+on\s+null\b",
                _blank,
            ),
        ),
    ),
)


def reworded(sql: str, dialect: Dialect) -> str:
    """The SQL in other words of the same length; the same where there is nothing to reword."""
    rules = next((rules for kind, rules in _RULES if type(dialect) is kind), ())
    bare = _KEPT.sub(lambda match: "\0" * len(match[0]), sql)
    for pattern, write in rules:
        bare = pattern.sub(write, bare)
    return "".join(kept if new == "\0" else new for kept, new in zip(sql, bare, strict=True))
