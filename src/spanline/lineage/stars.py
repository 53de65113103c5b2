"""What `*` gives: names that are given twice, patterns, and columns that nobody lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spanline.lineage.scopes import NOWHERE, Output, Unlisted


def like(pattern: str) -> re.Pattern[str]:
    """What ILIKE means by a pattern."""
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(each) or re.escape(each) for each in pattern), re.IGNORECASE | re.DOTALL)


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
