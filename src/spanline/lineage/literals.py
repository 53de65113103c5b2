"""SQL without its literals: what may be shown of it where the data in it may not."""

from __future__ import annotations

import re
from typing import Final

import sqlglot
from sqlglot.errors import SqlglotError

from spanline.lineage.dialects import dialect_of

_BEGINS_NUMBER: Final = re.compile(r"(?<![\w)\]\"'`$])[.$]\d|(?<!\w)0[xX][0-9a-fA-F]")
"""`.5`, which tokenizers take apart, T-SQL's `$5.00`, and ClickHouse's `0x1p3`: names begin with digits there, too."""
_REST_OF_LITERAL: Final = re.compile(r"\w*(?:\.\d\w*)?")
"""What belongs to a literal whose beginning a tokenizer knows: of `0xFF`, `1_000`, `1.5f`, `'AB'XB`."""


def without_literals(sql: str, adapter: str) -> str | None:
    """The SQL with `?` for each literal, by the adapter's own rules of what is one; None where it can't be read."""
    dialect = dialect_of(adapter)
    if dialect is None:
        return None
    try:
        tokens = sqlglot.tokenize(sql, read=dialect)
    except (SqlglotError, ValueError):
        return None
    pieces, at = [], 0
    for token in tokens:
        literal = _is_literal(token.token_type.name)
        if not token.text and not literal:
            continue  # it marks something (Athena's DDL), and stands for nothing in the text
        start, end = token.start, token.end + 1
        if start < at:  # within a literal: dialects make several tokens of `1L`, or of `0xFF`
            at = max(at, end)
            continue
        pieces.append(_without_comments(sql[at:start]))
        if literal or _BEGINS_NUMBER.match(sql, start):
            pieces.append("?")
            rest = _REST_OF_LITERAL.match(sql, end)
            end = rest.end() if rest is not None else end
        else:
            pieces.append(sql[start:end])
        at = end
    return "".join(pieces).strip()


def _is_literal(kind: str) -> bool:
    return kind.endswith("STRING") or kind == "NUMBER"


def _without_comments(between: str) -> str:
    """What stands between two tokens: blanks, and comments, which may hold anything."""
    return between if between.isspace() or not between else " "
