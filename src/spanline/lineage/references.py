"""What a name means where it stands: a column of a source, a field inside one, an alias; and types written there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlglot import exp
from sqlglot.dialects import DuckDB, Postgres
from sqlglot.dialects.dialect import Dialect

from spanline.lineage.dialects import Spelling
from spanline.lineage.edges import NOTHING, TRANSFORMATION
from spanline.lineage.scopes import Output, Rows, Scope
from spanline.lineage.sums import Sums

_COUNT_TYPES: Final = {
    "athena": "BIGINT",
    "bigquery": "INT64",
    "databricks": "BIGINT",
    "duckdb": "BIGINT",
    "postgres": "BIGINT",
    "redshift": "BIGINT",
    "spark": "BIGINT",
    "trino": "BIGINT",
}
_HIDDEN: Final[dict[type[Dialect], frozenset[str]]] = {
    DuckDB: frozenset(("rowid",)),
    Postgres: frozenset(("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")),
}
"""Columns that each table has, and `*` doesn't give."""


class References:
    """Looks up names, as a dialect spells them."""

    def __init__(self, dialect: Dialect, spell: Spelling, sums: Sums) -> None:
        self._dialect = dialect
        self._spell = spell
        self._sums = sums

    def column(self, column: exp.Column, scope: Scope) -> Output:
        """What a column's name means."""
        if not isinstance(column.this, exp.Identifier):  # Snowflake's t.$1
            return Output(column.name, NOTHING)
        return self.named([self._spell(part) for part in column.parts], scope)

    def named(self, parts: Sequence[str], scope: Scope) -> Output:
        """What a dotted name means: a column of the source before it, or a field inside a column."""
        for place in range(len(parts) - 1, 0, -1):
            rows = scope.source(parts[:place])
            found = rows.column(parts[place]) if rows is not None else None
            if found is not None:
                return found if place == len(parts) - 1 else self._part(found, parts[-1])
        if len(parts) > 1 and parts[-1].lower() in _HIDDEN.get(type(self._dialect), ()):
            return Output(parts[-1], NOTHING)
        found = self._bare(parts[0], scope)
        return found if len(parts) == 1 else self._part(found, parts[-1])

    def _bare(self, name: str, scope: Scope) -> Output:
        """What a name alone means: that of a source is its whole row, of which PostgreSQL's `t.f` may be a function."""
        self._sums.spend(len(scope.sources))
        if name.upper() in self._dialect.PSEUDOCOLUMNS or name.lower() in _HIDDEN.get(type(self._dialect), ()):
            return scope.listed(name) or Output(name, NOTHING)
        found = scope.resolve(name)
        if found is not None:
            return found
        row = scope.source([name])
        if row is not None:
            return self._row(name, row)
        return scope.stray(name) or Output(name, NOTHING)

    def _row(self, name: str, row: Rows) -> Output:
        """What is made of a whole row."""
        return Output(name, self._sums.of((each.lineage, TRANSFORMATION) for each in row.columns))

    def _part(self, column: Output, name: str) -> Output:
        return Output(name, self._sums.of([(column.lineage, TRANSFORMATION)]))

    def type_of(self, node: exp.Expr, scope: Scope) -> str | None:
        """The type of an expression, where it is as good as written there."""
        node = node.unnest()
        if isinstance(node, exp.Cast):
            return node.to.sql(self._dialect)
        if isinstance(node, exp.Count):
            return _COUNT_TYPES.get(type(self._dialect).__name__.lower())
        if isinstance(node, (exp.Max, exp.Min)):
            node = node.this
        return self.column(node, scope).type if isinstance(node, exp.Column) else None

    def alias_columns(self, node: exp.Expr) -> list[str]:
        """The names of columns that an alias gives, `AS t (a, b)`."""
        alias = node.args.get("alias")
        return [self._spell(name) for name in alias.columns] if isinstance(alias, exp.TableAlias) else []
