"""UNION, EXCEPT and INTERSECT: the rows of queries that are put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from spanline.lineage.edges import FILTER, IDENTITY
from spanline.lineage.scopes import Output, Rows
from spanline.lineage.sums import Sums


def united(branches: Sequence[Rows], sums: Sums, *, by_name: bool) -> Rows:
    """UNION, `by_name` or by place.

    It is by name, too, if columns are not listed: nobody knows the places of the others then.
    """
    if len(branches) == 1:
        return branches[0]
    unlisted = sums.unlisted([branch.unlisted for branch in branches if branch.unlisted is not None])
    columns: Iterable[Sequence[Output | None]]
    if by_name or unlisted is not None:
        names: dict[str, str] = {}
        for column in itertools.chain.from_iterable(branch.columns for branch in branches):
            names.setdefault(column.name.lower(), column.name)
        sums.spend(len(names) * len(branches))
        columns = ([branch.column(name) for branch in branches] for name in names.values())
    else:
        columns = itertools.zip_longest(*(branch.columns for branch in branches))
    strays = sums.unlisted([branch.strays for branch in branches if branch.strays is not None])
    whole = sums.of([(branch.whole, IDENTITY) for branch in branches])
    return Rows([sums.any_of(each) for each in columns], unlisted=unlisted, strays=strays, whole=whole)


def compared(left: Rows, right: Rows, sums: Sums) -> Rows:
    """EXCEPT and INTERSECT: the rows of the left, filtered by a look at both."""
    looks = [(column.lineage, FILTER) for column in (*left.columns, *right.columns)]
    whole = sums.of([(left.whole, IDENTITY), (right.whole, IDENTITY), *looks])
    return Rows(left.columns, unlisted=left.unlisted, strays=left.strays, whole=whole)
