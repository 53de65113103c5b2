"""UNION, EXCEPT and INTERSECT: the rows of queries that are put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from spanline.lineage.edges import FILTER, GROUP_BY, IDENTITY
from spanline.lineage.scopes import NOWHERE, Output, Rows
from spanline.lineage.sums import Sums


def united(branches: Sequence[Rows], sums: Sums, *, by_name: bool) -> Rows:
    """UNION, `by_name` or by place, where the first branch gives the names.

    Where columns of the first aren't listed, nobody knows the places of its others: what it has in common with the
    other branches whose columns aren't listed is a name. Where columns of another aren't, no edge from it is known.
    """
    if len(branches) == 1:
        return branches[0]
    first = branches[0]
    unlisted = sums.unlisted([branch.unlisted for branch in branches if branch.unlisted is not None])
    columns: Iterable[Sequence[Output | None]]
    if unlisted is not None and not by_name and first.unlisted is None:
        listed = [branch.columns for branch in branches if branch.unlisted is None]
        columns, unlisted = itertools.zip_longest(*listed), NOWHERE
    elif unlisted is not None and not by_name:
        alike = [branch for branch in branches[1:] if branch.unlisted is not None]
        columns = ([column, *(branch.column(column.name) for branch in alike)] for column in first.columns)
    elif by_name:
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


def distinct(rows: Rows, sums: Sums) -> Rows:
    """The rows, each of which is there once only: all the columns decide which."""
    keys = [(column.lineage, GROUP_BY) for column in rows.columns]
    whole = sums.of([(rows.whole, IDENTITY), *keys])
    return Rows(rows.columns, unlisted=rows.unlisted, strays=rows.strays, whole=whole)


def compared(left: Rows, right: Rows, sums: Sums) -> Rows:
    """EXCEPT and INTERSECT: the rows of the left, filtered by a look at both."""
    looks = [(column.lineage, FILTER) for column in (*left.columns, *right.columns)]
    whole = sums.of([(left.whole, IDENTITY), (right.whole, IDENTITY), *looks])
    return Rows(left.columns, unlisted=left.unlisted, strays=left.strays, whole=whole)
