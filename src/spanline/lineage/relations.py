"""The relations that a query names, with the columns that the schema knows of them."""

from __future__ import annotations

from spanline.lineage.edges import IDENTITY, NOTHING, Field
from spanline.lineage.schema import Relation, Schema
from spanline.lineage.scopes import Output, Rows, Unlisted
from spanline.lineage.sums import Sums


class Relations:
    """The relations of one query, which makes the relation `this`, where it makes one."""

    def __init__(self, schema: Schema, this: Relation | None, sums: Sums) -> None:
        self.named: dict[Relation, None] = {}
        """Those that the query names, in order, without its own."""
        self._schema = schema
        self._this = None if this is None else schema.find(this)
        self._sums = sums
        self._rows: dict[Relation, Rows] = {}

    def rows(self, named: Relation) -> Rows:
        """A table or a view. The model's own is no input: what it holds is of earlier runs, whatever it is read for."""
        relation = self._schema.find(named)
        rows = self._rows.get(relation)
        if rows is None:
            own = self._this is not None and self._schema.same(relation, self._this)
            if not own:
                self.named[relation] = None
            rows = self._rows[relation] = self._own() if own else self._foreign(relation)
        return rows

    def _foreign(self, relation: Relation) -> Rows:
        others = Unlisted((relation,))
        columns = self._schema.columns(relation)
        if columns is None:
            return Rows((), unlisted=others)
        self._sums.spend(len(columns))
        listed = [Output(name, {Field(relation, name): IDENTITY}, type_) for name, type_ in columns]
        return Rows(listed, unlisted=None if self._schema.complete(relation) else others)

    def _own(self) -> Rows:
        columns = self._schema.columns(self._this) if self._this is not None else None
        if columns is None:
            return Rows((), unlisted=Unlisted())
        return Rows([Output(name, NOTHING, type_) for name, type_ in columns])
