"""Adding up lineages, within a number of steps: a query that takes more of them is given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from spanline.lineage.edges import IDENTITY, NOTHING, Field, Kinds, Lineage, add
from spanline.lineage.limits import TooMuch
from spanline.lineage.scopes import NOWHERE, Output, Unlisted

_MOST_STEPS: Final = 5_000_000


class Sums:
    """The sums of one query, and the steps that it has taken. All of them raise `TooMuch` beyond the most."""

    def __init__(self) -> None:
        self.steps = 0

    def spend(self, steps: int) -> None:
        """Take so many steps."""
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise TooMuch(f"more than {_MOST_STEPS} steps")

    def of(self, parts: Iterable[tuple[Lineage, Kinds]]) -> Lineage:
        """The lineage of what is made of parts; of an only part its own, so that columns passed on share theirs."""
        present = [part for part in parts if part[0]]
        if not present:
            return NOTHING
        if len(present) == 1 and present[0][1] == IDENTITY:
            return present[0][0]
        total: dict[Field, Kinds] = {}
        for lineage, kinds in present:
            self.spend(len(lineage))
            add(total, lineage, kinds)
        return total

    def any_of(self, columns: Sequence[Output | None]) -> Output:
        """The column that holds, row by row, one of these."""
        present = [column for column in columns if column is not None]
        types = {column.type for column in present}
        lineage = self.of([(column.lineage, IDENTITY) for column in present])
        return Output(present[0].name, lineage, types.pop() if len(types) == 1 else None)

    def unlisted(self, unlisted: Sequence[Unlisted]) -> Unlisted | None:
        """Where the columns come from that nobody lists, of rows that are put one below the other."""
        if not unlisted:
            return None
        if any(each is NOWHERE for each in unlisted):
            return NOWHERE
        relations = dict.fromkeys(relation for each in unlisted for relation in each.relations)
        return Unlisted(tuple(relations), self.of([(each.lineage, IDENTITY) for each in unlisted]))
