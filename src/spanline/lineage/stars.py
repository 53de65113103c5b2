"""What `*` gives: names that are given twice, patterns, and columns that nobody lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from spanline.lineage.scopes import NOWHERE, Output, Unlisted


def like(pattern: str) -> re.Pattern[str]:
    """What ILIKE means by a pattern."""
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(each) or re.escape(each) for each in pattern), re.IGNORECASE | re.DOTALL)


def chosen(node: exp.Expr, columns: Sequence[Output]) -> Sequence[Output] | None:
    """Which of the columns DuckDB's COLUMNS lists, by a pattern or by names; None where a function decides."""
    by = node.this if isinstance(node, exp.Columns) else None
    if isinstance(by, exp.Literal) and by.is_string:
        pattern = pattern_of(node)
        return None if pattern is None else [column for column in columns if pattern.search(column.name)]
    if isinstance(by, exp.Array) and all(isinstance(each, exp.Literal) for each in by.expressions):
        names = {each.name.lower() for each in by.expressions}
        return [column for column in columns if column.name.lower() in names]
    return None


def pattern_of(node: exp.Expr) -> re.Pattern[str] | None:
    """The regular expression in COLUMNS; None where there is none, or one that is RE2's only."""
    by = node.this
    try:
        return re.compile(by.name) if isinstance(by, exp.Literal) and by.is_string else None
    except re.error:
        return None


def named_after(alias: str, column: str, pattern: re.Pattern[str] | None) -> str:
    r"""An alias in which `\1` stands for what the first group of the pattern has found in a column's name."""
    found = pattern.search(column) if pattern is not None else None

    def group(place: re.Match[str]) -> str:
        number = int(place[1])
        if found is None:
            return column if number == 0 else ""
        return (found[number] or "") if number <= (found.re.groups) else ""

    return re.sub(r"\\(\d)", group, alias)


def numbered(columns: Sequence[Output]) -> Sequence[Output]:
    """The columns with a number behind a name that an earlier one has: DuckDB's `id`, `id_1`, `id_2`."""
    if len({column.name.lower() for column in columns}) == len(columns):
        return columns
    taken: dict[str, int] = {}  # names, and the last number that each was given
    numbered = []
    for column in columns:
        name = column.name
        while name and name.lower() in taken:
            taken[column.name.lower()] += 1
            name = f"{column.name}_{taken[column.name.lower()]}"
        taken[name.lower()] = 0
        numbered.append(column._replace(name=name))
    return numbered


def beside(one: Unlisted | None, other: Unlisted | None) -> Unlisted | None:
    """The columns that aren't listed of two sources side by side."""
    return NOWHERE if one is not None and other is not None else one or other
