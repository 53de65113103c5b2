"""The columns of the relations that are known so far, found by whichever way a query names a relation."""

from __future__ import annotations

from collections.abc import Sequence

from spanline.lineage.dialects import tables_differ_by_case

Relation = tuple[str | None, str | None, str]
"""Database, schema and identifier."""

Columns = tuple[tuple[str, str | None], ...]
"""Names and types, in order."""


class Schema:
    """The relations of a project with their columns: one object for all of it, cheap to add to.

    A relation is found under the name that it was added by; failing that, under one that differs in case (unless the
    adapter's tables may), or that leaves leading parts out, if just one fits. So nobody needs to know how an adapter
    folds names that aren't quoted, and two names which differ in case only are still told apart.
    """

    def __init__(self, adapter: str | None = None) -> None:
        self._case_matters = adapter is not None and tables_differ_by_case(adapter)
        self._columns: dict[Relation, Columns] = {}
        self._by_key: dict[Relation, list[Relation]] = {}
        self._partly_known: set[Relation] = set()

    def add(self, relation: Relation, columns: Sequence[tuple[str, str | None]], *, complete: bool = True) -> None:
        """Say which columns a relation has, in order; or not `complete`, some of them. What was said is replaced."""
        if relation not in self._columns:
            for key in _shortened(self.key(relation)):
                self._by_key.setdefault(key, []).append(relation)
        self._columns[relation] = tuple(columns)
        (self._partly_known.discard if complete else self._partly_known.add)(relation)

    def find(self, relation: Relation) -> Relation:
        """The relation that this name means, as it was added; the name itself where none was."""
        if relation not in self._columns:
            for key in _shortened(self.key(relation)):
                fitting = [known for known in self._by_key.get(key, ()) if self.same(known, relation)]
                if len(fitting) == 1:
                    return fitting[0]
        return relation

    def columns(self, relation: Relation) -> Columns | None:
        """The columns of the relation that this name means; None where they aren't known."""
        return self._columns.get(self.find(relation))

    def complete(self, relation: Relation) -> bool:
        """Whether a relation has no columns but those known."""
        known = self.find(relation)
        return known in self._columns and known not in self._partly_known

    def key(self, relation: Relation) -> Relation:
        """What the names of one relation have in common, however they are written and folded."""
        database, schema, identifier = (part if self._case_matters or not part else part.lower() for part in relation)
        return database or None, schema or None, identifier or ""

    def same(self, one: Relation, other: Relation) -> bool:
        """Whether two names may mean one relation: they say the same as far as both say anything."""
        pairs = zip(self.key(one), self.key(other), strict=True)
        return all(mine == yours or mine is None or yours is None for mine, yours in pairs)


def _shortened(key: Relation) -> dict[Relation, None]:
    _, schema, identifier = key
    return dict.fromkeys((key, (None, schema, identifier), (None, None, identifier)))
