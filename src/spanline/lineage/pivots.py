"""PIVOT and UNPIVOT: values that become columns, and columns that become values."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from spanline.lineage.dialects import Spelling
from spanline.lineage.edges import CONDITIONAL, FILTER, GROUP_BY, IDENTITY, NOTHING, Lineage
from spanline.lineage.expressions import flat
from spanline.lineage.scopes import NO_CTES, NOWHERE, Output, Rows, Scope, Unlisted
from spanline.lineage.stars import chosen
from spanline.lineage.sums import Sums


class Pivots:
    """Reshapes rows. `lineage` reads an expression in a scope."""

    def __init__(self, spell: Spelling, sums: Sums, lineage: Callable[[exp.Expr, Scope], Lineage]) -> None:
        self._spell = spell
        self._sums = sums
        self._lineage = lineage

    def pivoted(self, rows: Rows, pivot: exp.Pivot) -> Rows:
        """The rows of a source behind PIVOT or UNPIVOT."""
        scope = Scope(None, NO_CTES)
        scope.add("", "", rows)
        return self._unpivot(rows, pivot, scope) if pivot.args.get("unpivot") else self._pivot(rows, pivot, scope)

    def _pivot(self, rows: Rows, pivot: exp.Pivot, scope: Scope) -> Rows:
        """A column for each value of a field and each aggregate, and those that neither uses, grouped by.

        DuckDB's PIVOT … ON … USING … names the fields in `expressions`; nobody but the database knows its columns.
        """
        aggregations = pivot.args.get("using") or (pivot.expressions if pivot.args.get("fields") else [])
        keys = pivot.args.get("fields") or pivot.expressions
        fields = [(self._lineage(key.this if isinstance(key, exp.In) else key, scope), CONDITIONAL) for key in keys]
        values = [self._sums.of([(self._lineage(each, scope), IDENTITY), *fields]) for each in aggregations] or [
            NOTHING
        ]
        used = {column.name.lower() for each in (*aggregations, *keys) for column in each.find_all(exp.Column)}
        kept = [column for column in rows.columns if column.name.lower() not in used]
        group = pivot.args.get("group")
        if group is not None:
            kept = [self._grouped(key, rows, scope) for key in group.expressions]
        names = [self._spell(name) for name in pivot.args.get("columns") or ()]
        made = [Output(name, values[place % len(values)]) for place, name in enumerate(names)]
        unlisted = rows.unlisted if group is None else None
        if not names:
            unlisted = (
                Unlisted((), self._sums.of([(value, IDENTITY) for value in values])) if unlisted is None else NOWHERE
            )
        whole = self._sums.of([(rows.whole, IDENTITY), *((column.lineage, GROUP_BY) for column in kept)])
        return Rows([*kept, *made], unlisted=unlisted, whole=whole)

    def _grouped(self, key: exp.Expr, rows: Rows, scope: Scope) -> Output:
        """A column that is grouped by, under its own name, however the query writes it."""
        column = rows.listed(key.name) if isinstance(key, exp.Column) else None
        return column or Output(key.alias_or_name, self._lineage(key, scope))

    def _unpivot(self, rows: Rows, pivot: exp.Pivot, scope: Scope) -> Rows:
        """A row for each of the given columns: its name in one column, its value in another."""
        into = pivot.args.get("into")
        fields = pivot.args.get("fields") or ()
        groups = [list(flat(each)) for field in fields for each in field.expressions]
        names = [field.this for field in fields]
        values = [value for each in pivot.expressions for value in flat(each)] if fields else []
        if not fields:  # DuckDB's UNPIVOT … ON … INTO
            groups = [list(flat(each)) for each in pivot.expressions]
            names = [into.this] if into is not None else [exp.to_identifier("name")]
            values = into.expressions if into is not None else [exp.to_identifier("value")]
        members = [member for group in groups for member in group]
        used = {column.name.lower() for member in members for column in member.find_all(exp.Column)}
        for listed in (each for member in members for each in member.find_all(exp.Columns, exp.Star)):
            used.update(column.name.lower() for column in chosen(listed, rows.columns) or rows.columns)
        kept = [column for column in rows.columns if column.name.lower() not in used]
        made = [Output(self._spell(name), NOTHING) for name in names]
        for place, value in enumerate(values):
            cells = [(self._lineage(group[place], scope), IDENTITY) for group in groups if place < len(group)]
            made.append(Output(self._spell(value), self._sums.of(cells)))
        filters = [] if pivot.args.get("include_nulls") else [(column.lineage, FILTER) for column in made]
        whole = self._sums.of([(rows.whole, IDENTITY), *filters])  # a null gives no row
        return Rows([*kept, *made], unlisted=rows.unlisted, whole=whole)
