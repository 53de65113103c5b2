"""One walk over a parsed query: for each column that it gives, the input columns that it owes something to.

The query is read as it was parsed. sqlglot's `qualify` would rewrite it first, every name resolved, every star and
alias expanded: that takes three times as long as the parse, copies an expression to wherever its alias is used (a chain
of aliases doubles with each), and gives the whole query up at the first name that it can't make out. Here a name is
looked up when it is met, and what is found is a lineage that has been added up already: no path is followed twice, and
a name that nobody knows costs its own edge only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sqlglot import exp
from sqlglot.dialects import TSQL, DuckDB, Oracle, Postgres, Snowflake
from sqlglot.dialects.dialect import Dialect, UsingColumnOrder

from spanline.lineage.dialects import Spelling
from spanline.lineage.edges import (
    AGGREGATION,
    FILTER,
    GROUP_BY,
    IDENTITY,
    JOIN,
    NOTHING,
    SORT,
    TRANSFORMATION,
    WINDOW,
    Kinds,
    Lineage,
    through,
)
from spanline.lineage.expressions import aggregates, calls_method, dotted, flat, parts_of, star_of
from spanline.lineage.pivots import Pivots
from spanline.lineage.references import References
from spanline.lineage.relations import Relations
from spanline.lineage.schema import Relation, Schema
from spanline.lineage.scopes import NO_CTES, NOWHERE, Ctes, Output, Rows, Scope, Unlisted
from spanline.lineage.set_operations import compared, distinct, united
from spanline.lineage.stars import beside, chosen, like, named_after, numbered, pattern_of
from spanline.lineage.structs import fields_of
from spanline.lineage.sums import Sums
from spanline.lineage.table_functions import SUMMARIZED, SUMMARY, columns_of
from spanline.lineage.unaliased import Unaliased, duckdb_version

_MOST_ROUNDS: Final = 32
_MOST_REPEATED: Final = 1_000
_CLAUSES: Final = (
    ("prewhere", FILTER),
    ("where", FILTER),
    ("connect", FILTER),
    ("having", FILTER),
    ("qualify", FILTER),
    ("sort", SORT),
    ("cluster", SORT),
)
_UNITS: Final = frozenset(
    ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND", "DECADE")
)
_SCHEMAS: Final = frozenset(("information_schema", "main", "pg_catalog", "system"))
_WORD: Final = re.compile(r"\w+")


class Walk:
    """Reads one query; see `query`."""

    def __init__(self, dialect: Dialect, schema: Schema, this: Relation | None, name: Unaliased) -> None:
        self._dialect = dialect
        self._spell = Spelling(dialect)
        self._name = name
        self._sums = Sums()
        self._relations = Relations(schema, this, self._sums)
        self._references = References(dialect, self._spell, self._sums)
        self._pivots = Pivots(self._spell, self._sums, self.lineage)

    @property
    def relations(self) -> Iterable[Relation]:
        """The relations that the query names, in order, without its own."""
        return self._relations.named

    # --- queries --------------------------------------------------------------------------------------------------

    def query(self, node: exp.Expr, outer: Scope | None = None, ctes: Ctes = NO_CTES) -> Rows:
        """What a query gives, read inside another one or by itself."""
        self._sums.spend(1)
        clause = node.args.get("with_")
        if clause is not None:
            ctes = self._with(clause, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, outer, ctes)
        if isinstance(node, exp.SetOperation):
            return self._sorted(node, self._combined(node, outer, ctes))
        return self._sorted(node, self._rows(node, Scope(outer, ctes)))

    def _with(self, clause: exp.With, outer: Scope | None, ctes: Ctes) -> Ctes:
        known = dict(ctes)
        for cte in clause.expressions:
            if not isinstance(cte, exp.CTE) or cte.args.get("scalar"):
                continue
            name = cte.alias.lower()
            if self._reads_itself(cte, clause):
                known[name] = self._recursive(cte, outer, known)
            else:
                known[name] = self.query(cte.this, outer, known).renamed(self._references.alias_columns(cte))
        search = clause.args.get("search")
        if search is not None and clause.expressions:
            name = clause.expressions[-1].alias.lower()
            known[name] = self._searched(known[name], search)
        return known

    def _searched(self, rows: Rows, search: exp.Expr) -> Rows:
        """PostgreSQL's SEARCH and CYCLE, which add columns that are made of those that they look at."""
        key = rows.column(self._spell(search.this))
        lineage = NOTHING if key is None else self._sums.of([(key.lineage, TRANSFORMATION)])
        names = [
            search.args[each] for each in ("expression", "using") if isinstance(search.args.get(each), exp.Identifier)
        ]
        added = [Output(self._spell(name), lineage) for name in names]
        return Rows([*rows.columns, *added], unlisted=rows.unlisted, strays=rows.strays, whole=rows.whole)

    def _reads_itself(self, cte: exp.CTE, clause: exp.With) -> bool:
        """Whether a CTE is recursive: some dialects have no word for it, in others it reads a table of its own name."""
        if not isinstance(cte.this, exp.SetOperation):
            return False
        if clause.args.get("recursive"):
            return True
        name = cte.alias.lower()
        return isinstance(self._dialect, (Oracle, Snowflake, TSQL)) and any(
            table.name.lower() == name and not table.db for table in cte.this.expression.find_all(exp.Table)
        )

    def _recursive(self, cte: exp.CTE, outer: Scope | None, ctes: Ctes) -> Rows:
        """Read a recursive CTE until nothing new is found.

        It takes as many rounds as a value needs to get from column to column: two, nearly always.
        """
        anchor = cte.this
        while isinstance(anchor, exp.SetOperation):
            anchor = anchor.this
        name, names = cte.alias.lower(), self._references.alias_columns(cte)
        rows = self.query(anchor, outer, ctes).renamed(names)
        for _ in range(_MOST_ROUNDS):
            before = rows
            rows = self.query(cte.this, outer, {**ctes, name: before}).renamed(names)
            if rows.whole == before.whole and rows.columns == before.columns:
                break
        return rows

    def _select(self, select: exp.Select, outer: Scope | None, ctes: Ctes) -> Rows:
        scope = Scope(outer, ctes)
        self._read_from(select, scope)
        self._define(select, scope)
        rows = self._projections(select, scope)
        rows.whole = self._sums.of(
            (
                *self._joined(scope),
                *self._clauses(select, scope, rows),
                *self._grouped(select, scope, rows),
                *self._ordered(select, scope, rows),
            )
        )
        return rows

    def _define(self, select: exp.Select, scope: Scope) -> None:
        """Tell the scope what a SELECT names besides columns: windows, and expressions in ClickHouse's WITH."""
        clause = select.args.get("with_")
        for cte in clause.expressions if clause is not None else ():
            if cte.args.get("scalar"):
                scope.aliases[cte.alias.lower()] = Output(cte.alias, self.lineage(cte.this, scope))
        for window in select.args.get("windows") or ():
            scope.windows[window.name.lower()] = self.lineage(window, scope)

    def _clauses(self, select: exp.Select, scope: Scope, rows: Rows) -> Iterator[tuple[Lineage, Kinds]]:
        for name, kinds in _CLAUSES:
            clause = select.args.get(name)
            if clause is not None:
                yield self.lineage(clause, scope), kinds
        limit = select.args.get("limit")
        unique = select.args.get("distinct")
        keys = limit.args.get("expressions") if limit is not None else None  # ClickHouse's LIMIT n BY
        on = unique.args.get("on") if unique is not None else None
        if unique is not None and on is None:
            yield from ((column.lineage, GROUP_BY) for column in rows.columns)
        for clause in (limit, select.args.get("offset")):
            number = clause.args.get("expression") if clause is not None else None
            if number is not None:
                yield self.lineage(number, scope), FILTER  # it may be a query
        for key in (*(keys or ()), *(flat(on) if on is not None else ())):
            yield self._key(key, scope, rows), GROUP_BY

    def _grouped(self, select: exp.Select, scope: Scope, rows: Rows) -> Iterator[tuple[Lineage, Kinds]]:
        group = select.args.get("group")
        if group is None:
            return
        if group.args.get("all"):
            for projection, column in zip(select.expressions, rows.columns, strict=False):
                if not aggregates(projection):
                    yield column.lineage, GROUP_BY
        for key in group.iter_expressions():
            yield self._key(key, scope, rows), GROUP_BY

    def _ordered(self, query: exp.Expr, scope: Scope, rows: Rows) -> Iterator[tuple[Lineage, Kinds]]:
        order = query.args.get("order")
        for ordered in order.expressions if order is not None else ():
            key = ordered.this if isinstance(ordered, exp.Ordered) else ordered
            if isinstance(key, exp.Var) and key.name.upper() == "ALL":
                yield from ((column.lineage, SORT) for column in rows.columns)
                continue
            # A column of the output stands before one of a source that has its name.
            named = rows.listed(self._spell(key.this)) if isinstance(key, exp.Column) and not key.table else None
            yield named.lineage if named is not None else self._key(key, scope, rows), SORT

    def _key(self, key: exp.Expr, scope: Scope, rows: Rows) -> Lineage:
        """What GROUP BY and ORDER BY mean: an expression, or a column by its number."""
        if isinstance(key, exp.Literal):
            place = int(key.name) - 1 if key.name.isdecimal() and len(key.name) < 6 else -1
            return rows.columns[place].lineage if 0 <= place < len(rows.columns) else NOTHING
        return self.lineage(key, scope)

    def _sorted(self, node: exp.Expr, rows: Rows) -> Rows:
        """The rows of a set operation, or of a query in brackets, in the order that stands behind it."""
        if node.args.get("order") is None:
            return rows
        scope = Scope(None, NO_CTES)
        scope.add("", "", rows)
        whole = self._sums.of(((rows.whole, IDENTITY), *self._ordered(node, scope, rows)))
        return Rows(rows.columns, unlisted=rows.unlisted, strays=rows.strays, whole=whole)

    # --- set operations -------------------------------------------------------------------------------------------

    def _combined(self, node: exp.SetOperation, outer: Scope | None, ctes: Ctes) -> Rows:
        operations: list[exp.SetOperation] = []
        first: exp.Expr = node
        while isinstance(first, exp.SetOperation):
            operations.append(first)
            first = first.this
        branches = [self.query(first, outer, ctes)]
        by_name = False
        for operation in reversed(operations):
            right = self.query(operation.expression, outer, ctes)
            named = bool(operation.args.get("by_name") or operation.args.get("on"))
            if not isinstance(operation, exp.Union):
                branches = [compared(united(branches, self._sums, by_name=by_name), right, self._sums)]
            elif named == by_name:
                branches.append(right)
            else:
                branches, by_name = [united(branches, self._sums, by_name=by_name), right], named
            if operation.args.get("distinct") and isinstance(operation, exp.Union):
                branches = [distinct(united(branches, self._sums, by_name=by_name), self._sums)]
        return united(branches, self._sums, by_name=by_name)

    # --- FROM -----------------------------------------------------------------------------------------------------

    def _read_from(self, select: exp.Select, scope: Scope) -> None:
        clause = select.args.get("from_")
        if clause is not None:
            self._source(clause.this, scope)
        for name, part in select.args.items():  # in the SQL's order: MATCH_RECOGNIZE is of the source before it
            if name == "joins":
                for join in part or ():
                    self._join(join, scope)
            elif name == "match" and part is not None:
                key, rows = scope.sources.popitem()
                scope.add(part.alias or key, "", self._matched(rows, part))
        for lateral in select.args.get("laterals") or ():
            self._source(lateral, scope)

    def _source(self, node: exp.Expr, scope: Scope) -> None:
        """Add an item of FROM to the scope, and what is joined inside of it."""
        if isinstance(node, exp.Subquery) and not node.alias and _is_source(node.this):
            self._source(node.this, scope)  # brackets around a join
        else:
            scope.add(_alias(node), node.text("db"), self._rows(node, scope))
        for join in node.args.get("joins") or ():
            self._join(join, scope)

    def _join(self, join: exp.Join, scope: Scope) -> None:
        if join.kind == "ARRAY":
            self._array_join(join, scope)
            return
        before = len(scope.sources)
        self._source(join.this, scope)
        conditions = (join.args.get("match_condition"), join.args.get("on"))  # the first of Snowflake's ASOF JOIN
        scope.conditions.extend(condition for condition in conditions if condition is not None)
        if join.args.get("using") or join.method == "NATURAL":
            self._equate(join, before, scope)
        if join.is_semi_or_anti_join:
            scope.unseen.update(itertools.islice(scope.sources, before, None))

    def _equate(self, join: exp.Join, before: int, scope: Scope) -> None:
        """USING and NATURAL: make one column of the two sides', that of the side that always has it, else of both."""
        self._sums.spend(len(scope.sources))
        left = Scope(None, NO_CTES)
        left.sources = dict(itertools.islice(scope.sources.items(), before))
        left.settled = scope.settled
        right = list(itertools.islice(scope.sources.values(), before, None))
        if join.method == "NATURAL":
            names = [column.name for rows in right for column in rows.columns if left.listed(column.name)]
        else:
            names = [self._spell(name) for name in join.args["using"]]
        for name in names:
            theirs = (rows.column(name) for rows in right)
            both = [column for column in (left.resolve(name), *theirs) if column is not None]
            if both:
                scope.equated.extend(column.lineage for column in both)
                self._merge(name.lower(), join, both, scope)

    def _merge(self, key: str, join: exp.Join, both: Sequence[Output], scope: Scope) -> None:
        if join.side == "FULL":
            merged = self._sums.any_of(both)
            merged = merged._replace(lineage=self._sums.of([(merged.lineage, TRANSFORMATION)]))
        else:
            merged = both[-1] if join.side == "RIGHT" else both[0]
        scope.settled[key] = merged
        if not join.is_semi_or_anti_join and key not in scope.merged:
            scope.merged.append(key)

    def _array_join(self, join: exp.Join, scope: Scope) -> None:
        """ClickHouse: the members of an array take the place of the array, or stand beside it under an alias."""
        for array in (join.this, *join.expressions):
            members = self._sums.of([(self.lineage(array, scope), TRANSFORMATION)])
            name = array.alias_or_name
            scope.settled[name.lower()] = Output(name, members)

    def _rows(self, node: exp.Expr, scope: Scope) -> Rows:
        """What an item of FROM gives under its alias."""
        if isinstance(node, exp.Unnest):
            return self._unnested(node, scope)
        rows = self._unaliased(node, scope)
        for pivot in node.args.get("pivots") or ():
            rows = self._pivots.pivoted(rows, pivot).renamed(self._references.alias_columns(pivot))
        return rows.renamed(self._references.alias_columns(node))

    def _unaliased(self, node: exp.Expr, scope: Scope) -> Rows:
        if isinstance(node, exp.Table):
            return self._table(node, scope)
        lateral = isinstance(node, exp.Lateral) and isinstance(node.this, exp.Query)
        if lateral or isinstance(node, exp.Subquery):
            # A query sees the sources beside it by LATERAL only, in DuckDB always.
            sees_them = lateral or isinstance(self._dialect, DuckDB)
            if isinstance(node.this, exp.Summarize):
                return self._summarized(node.this, scope)
            return self._bracketed(node.this, scope if sees_them else scope.outer, scope.ctes)
        if isinstance(node, exp.Values):
            return self._values(node, scope)
        if isinstance(node, (exp.Final, exp.Pivot)):
            rows = self._rows(node.this, scope)
            return self._pivots.pivoted(rows, node) if isinstance(node, exp.Pivot) else rows
        return self._made(node, self.lineage(node, scope))

    def _summarized(self, node: exp.Summarize, scope: Scope) -> Rows:
        """DuckDB's SUMMARIZE: a row for each column, with figures that are made of its values."""
        if isinstance(node.this, exp.Query):
            rows = self.query(node.this, scope, scope.ctes)
        elif isinstance(node.this, exp.Table):
            rows = self._rows(node.this, scope)
        else:
            return Rows((), unlisted=NOWHERE)
        figures = self._sums.of([(column.lineage, AGGREGATION) for column in rows.columns])
        return Rows([Output(name, figures if name in SUMMARY else NOTHING) for name in SUMMARIZED], whole=rows.whole)

    def _bracketed(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> Rows:
        """A query in brackets; or all the columns of a join in brackets that goes by one alias."""
        if not _is_source(node):
            return self.query(node, outer, ctes)
        inner = Scope(outer, ctes)
        self._source(node, inner)
        rows = self._expand(exp.Star(), None, inner, set())
        return Rows(rows.columns, unlisted=rows.unlisted, strays=rows.strays, whole=self._sums.of(self._joined(inner)))

    def _joined(self, scope: Scope) -> Iterator[tuple[Lineage, Kinds]]:
        """What decides which rows the sources of a scope give together."""
        yield from ((rows.whole, IDENTITY) for rows in scope.sources.values())
        yield from ((lineage, JOIN) for lineage in scope.equated)
        yield from ((self.lineage(condition, scope), JOIN) for condition in scope.conditions)

    def _table(self, table: exp.Table, scope: Scope) -> Rows:
        side_by_side = table.args.get("rows_from")
        if side_by_side:
            return self._made(table, self._sums.of([(self.lineage(each, scope), IDENTITY) for each in side_by_side]))
        if not isinstance(table.this, (exp.Identifier, exp.Dot)):
            return self._made(table.this, self.lineage(table.this, scope), table.alias)
        names = [self._spell(part) for part in table.parts]
        if len(names) == 1 or (len(names) == 2 and names[0].lower() == "recurring"):  # DuckDB's USING KEY
            cte = scope.ctes.get(names[-1].lower())
            if cte is not None:
                return cte
        database, schema, identifier = (None, None, *names)[-3:]
        return self._relations.rows((database, schema, identifier or ""))

    def _made(self, function: exp.Expr, lineage: Lineage, alias: str = "") -> Rows:
        """What a function in FROM gives: columns that are all made of its arguments, named by the alias if at all.

        Its arguments decide, too, how many rows there are beside those of its neighbours.
        """
        made = Unlisted((), self._sums.of([(lineage, TRANSFORMATION)]))
        names = columns_of(function, self._dialect, alias)
        return Rows((), unlisted=made, whole=self._sums.of([(lineage, JOIN)])).renamed(names)

    def _unnested(self, unnest: exp.Unnest, scope: Scope) -> Rows:
        arrays = [self._sums.of([(self.lineage(array, scope), TRANSFORMATION)]) for array in unnest.expressions]
        made = Unlisted((), self._sums.of([(array, IDENTITY) for array in arrays]))
        names = self._unnested_names(unnest)
        if len(arrays) == len(names) > 1:
            columns = [Output(name, array) for name, array in zip(names, arrays, strict=True)]
        else:
            columns = [Output(name, made.lineage) for name in names]
        offset = unnest.args.get("offset")
        if offset:
            columns.append(
                Output(self._spell(offset) if isinstance(offset, exp.Identifier) else "offset", made.lineage)
            )
        whole = self._sums.of([(made.lineage, JOIN)])
        return Rows(columns, strays=made, whole=whole) if names else Rows(columns, unlisted=made, whole=whole)

    def _unnested_names(self, unnest: exp.Unnest) -> list[str]:
        """What the members of arrays are called; none where `*` gives their fields, as BigQuery's does."""
        alias = unnest.args.get("alias")
        if not isinstance(alias, exp.TableAlias) or alias.this is None:
            return []
        if any(type_.this is exp.DType.USERDEFINED for type_ in unnest.find_all(exp.DataType)):
            return [self._spell(column) for column in alias.columns]  # perhaps rows, of which each field is a column
        of_old = isinstance(self._dialect, DuckDB) and duckdb_version() < 2
        name = "unnest" if of_old else self._spell(alias.this)
        return [self._spell(column) for column in alias.columns] or [name]

    def _values(self, values: exp.Values, scope: Scope) -> Rows:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in values.expressions]
        cells = itertools.zip_longest(*([Output("", self.lineage(cell, scope)) for cell in row] for row in rows))
        name, first = ("col", 0) if isinstance(self._dialect, DuckDB) else ("column", 1)
        columns = [self._sums.any_of(each)._replace(name=f"{name}{place}") for place, each in enumerate(cells, first)]
        return Rows(columns)

    # --- MATCH_RECOGNIZE -------------------------------------------------------------------------------------------

    def _matched(self, rows: Rows, match: exp.MatchRecognize) -> Rows:
        """Rows that follow each other in a pattern: one for each match, or all of them, beside its measures."""
        variables = Scope(None, NO_CTES)
        for name in _WORD.findall(match.text("pattern")):
            variables.add(name, "", rows)
        scope = Scope(variables, NO_CTES)
        scope.add("", "", rows)
        keys = match.args.get("partition_by") or ()
        order = match.args.get("order")
        ordered = order.expressions if order is not None else ()
        window = self._sums.of([(self.lineage(each, scope), WINDOW) for each in (*keys, *ordered)])
        measures = [
            column._replace(lineage=self._sums.of([(column.lineage, IDENTITY), (window, IDENTITY)]))
            for measure in match.args.get("measures") or ()
            for column in self._projected(measure.this, scope)
        ]
        of_all = match.text("rows").upper().startswith("ALL")
        kept = rows.columns if of_all else [column for key in keys for column in self._projected(key, scope)]
        defined = [(self.lineage(each.this, scope), FILTER) for each in match.args.get("define") or ()]
        whole = self._sums.of([(rows.whole, IDENTITY), (window, FILTER), *defined])
        made = Rows([*kept, *measures], unlisted=rows.unlisted if of_all else None, whole=whole)
        return made.renamed(self._references.alias_columns(match))

    # --- SELECT ---------------------------------------------------------------------------------------------------

    def _projections(self, select: exp.Select, scope: Scope) -> Rows:
        columns: list[Output] = []
        unlisted: Unlisted | None = None
        strays: Unlisted | None = None
        starred: set[str] = set()
        for projection in select.expressions:
            star = star_of(projection)
            if star is not None:
                rows = self._expand(star, projection, scope, starred)
                if len(select.expressions) == 1:
                    return Rows(self._distinguished(rows.columns), unlisted=rows.unlisted, strays=rows.strays)
                columns.extend(rows.columns)
                starred.update(column.name.lower() for column in rows.columns)
                unlisted, strays = beside(unlisted, rows.unlisted), beside(strays, rows.strays)
            elif (listing := self._listing(projection)) is not None:
                made = self._for_each(listing, projection, scope)
                columns.extend(made.columns)
                unlisted = beside(unlisted, made.unlisted)
            else:
                columns.extend(self._projected(projection, scope))
        return Rows(self._distinguished(columns), unlisted=unlisted, strays=strays)

    def _listing(self, projection: exp.Expr) -> exp.Columns | None:
        """DuckDB's COLUMNS in a projection, which makes a column of each that it lists; `*COLUMNS` makes one of all."""
        if not isinstance(self._dialect, DuckDB):
            return None
        found = projection.find(exp.Columns)
        if found is None or found.args.get("unpack"):
            return None
        around = found.find_ancestor(exp.Anonymous)
        return None if around is not None and around.name.lower() == "unpack" else found

    def _for_each(self, listing: exp.Columns, projection: exp.Expr, scope: Scope) -> Rows:
        """The columns of a projection that has COLUMNS in it."""
        listed = self._listed(listing, scope)
        if listed is None:
            return Rows((), unlisted=NOWHERE)
        columns = []
        for column in listed.columns:
            scope.chosen = column.lineage
            name = named_after(projection.alias, column.name, pattern_of(listing)) or column.name
            of_column = projection.unalias() is listing
            columns.append(Output(name, self.lineage(projection, scope), column.type if of_column else None))
        scope.chosen = None
        return Rows(columns, unlisted=listed.unlisted)

    def _listed(self, listing: exp.Columns, scope: Scope) -> Rows | None:
        """The columns that COLUMNS lists; None where only DuckDB knows."""
        star = star_of(listing)
        if star is not None and star.args.get("replace"):
            return None
        if star is not None:
            return self._expand(star, None, scope, set())
        if isinstance(listing.this, exp.Column) and isinstance(listing.this.this, exp.Star):
            return self._expand(listing.this.this, listing.this, scope, set())
        every = self._expand(exp.Star(), None, scope, set())
        columns = chosen(listing, every.columns)
        return None if columns is None else Rows(columns, unlisted=every.unlisted)

    def _distinguished(self, columns: Sequence[Output]) -> Sequence[Output]:
        return numbered(columns) if isinstance(self._dialect, DuckDB) else columns

    def _projected(self, projection: exp.Expr, scope: Scope) -> Iterator[Output]:
        """The column of a projection; of `explode(x) AS (a, b)` and its like, more than one."""
        if isinstance(projection, (exp.Aliases, exp.QueryTransform)):
            schema = projection.args.get("schema") or projection
            lineage = self._sums.of([(self.lineage(projection, scope), TRANSFORMATION)])
            yield from (Output(self._spell(name), lineage) for name in schema.expressions)
            return
        inner = projection.unalias().unnest()
        if isinstance(inner, (exp.Explode, exp.Unnest)):
            scope.equated.append(self.lineage(inner, scope))  # the members decide how many rows there are
            fields = self._fields(inner, scope)
            if fields is not None:
                yield from fields
                return
        is_named = isinstance(projection, exp.Alias) and self._name.is_alias(projection)
        if isinstance(inner, exp.Column):
            output = self._references.column(inner, scope)
            signed = self._name.of_sign(inner)
            if signed is not None:
                output = Output(signed, self._sums.of([(output.lineage, TRANSFORMATION)]))
            elif self._spell.folds and isinstance(inner.this, exp.Identifier):
                output = output._replace(name=self._spell(inner.this))
        else:
            name = "" if is_named else self._name(inner)
            output = Output(name, self.lineage(inner, scope), self._references.type_of(inner, scope))
        if is_named:
            output = output._replace(name=self._spell(projection.args["alias"]))
            scope.aliases[output.name.lower()] = output
        yield output

    def _fields(self, node: exp.Expr, scope: Scope) -> Sequence[Output] | None:
        """The columns of DuckDB's UNNEST of a struct; one without a name where nobody knows whether it is of one."""
        if not isinstance(self._dialect, DuckDB) or not isinstance(node, exp.Explode):
            return None
        options = {each.name.lower() for each in node.expressions}
        lineage = self._sums.of([(self.lineage(node, scope), TRANSFORMATION)])
        names = fields_of(node.this, self._references.type_of(node.this, scope), within_lists="recursive" in options)
        if names is None or options - {"recursive"}:
            return None if isinstance(node.parent, exp.Alias) else [Output("", lineage)]
        return [Output(name, lineage) for name in names] or None

    def _expand(self, star: exp.Star, projection: exp.Expr | None, scope: Scope, starred: set[str]) -> Rows:
        """The columns of a star. What an earlier source, or star of the same SELECT, has given isn't given again."""
        sources = self._starred(projection, scope)
        merged = [] if isinstance(projection, exp.Column) else scope.merged
        changed = any(star.args.get(key) for key in ("except_", "ilike", "replace", "rename"))
        if len(sources) == 1 and not (changed or merged or starred):
            return sources[0]
        if changed:
            sources = self._changed_sources(star, sources, scope)
        columns: list[tuple[str, Output]] = []
        if self._dialect.USING_COLUMN_ORDER is not UsingColumnOrder.IN_PLACE:
            columns = [(key, scope.settled[key]) for key in merged]
        unlisted: Unlisted | None = None
        strays: Unlisted | None = None
        given = {*starred, *(key for key, _ in columns)}
        repeats = self._repeats(sources)
        for rows in sources:
            self._sums.spend(len(rows.columns))
            keyed = [(column.name.lower(), column) for column in rows.columns]
            fresh = [each for each in keyed if each[0] not in given or (repeats and each[0] not in merged)]
            columns += [(key, scope.settled[key] if key in merged else column) for key, column in fresh]
            given.update(key for key, _ in fresh)
            unlisted, strays = beside(unlisted, rows.unlisted), beside(strays, rows.strays)
        outputs = self._changed(star, columns, unlisted, scope) if changed else [column for _, column in columns]
        return Rows(outputs, unlisted=unlisted, strays=strays)

    def _changed_sources(self, star: exp.Star, sources: Sequence[Rows], scope: Scope) -> Sequence[Rows]:
        """The sources after EXCEPT and RENAME of columns that are told with their source, `* exclude (t.c)`."""
        changes: list[tuple[exp.Expr, str | None]] = [(each, None) for each in star.args.get("except_") or ()]
        changes += [(each.this, self._spell(each.args["alias"])) for each in star.args.get("rename") or ()]
        keys = [key for key in scope.sources if key not in scope.unseen]
        changed = list(sources)
        for old, new in changes:
            key = old.table.lower() if isinstance(old, exp.Column) else ""
            if key in keys and (len(sources) == len(keys) or sources[0] is scope.sources[key]):
                place = keys.index(key) if len(sources) == len(keys) else 0
                changed[place] = _with_column(changed[place], old.name.lower(), new)
        return changed

    def _repeats(self, sources: Sequence[Rows]) -> bool:
        """Whether a star gives a name again that it has given: DuckDB and PostgreSQL do, others refuse to build that.

        In moderation, since the columns of such a star double with each that reads it twice.
        """
        return (
            isinstance(self._dialect, (DuckDB, Postgres))
            and sum(len(rows.columns) for rows in sources) < _MOST_REPEATED
        )

    def _starred(self, projection: exp.Expr | None, scope: Scope) -> Sequence[Rows]:
        """The sources of a star; of one behind a column, `s.*`, its fields."""
        if not isinstance(projection, exp.Column):
            return [rows for key, rows in scope.sources.items() if key not in scope.unseen]
        qualifier = [self._spell(part) for part in projection.parts[:-1]]
        source = scope.source(qualifier)
        if source is not None:
            return [source]
        column = self._references.named(qualifier, scope)
        return [Rows((), unlisted=Unlisted((), self._sums.of([(column.lineage, TRANSFORMATION)])))]

    def _changed(
        self, star: exp.Star, columns: Sequence[tuple[str, Output]], unlisted: Unlisted | None, scope: Scope
    ) -> list[Output]:
        """The columns of a star after its EXCEPT, ILIKE, REPLACE and RENAME."""
        left_out = {each.name.lower() for each in star.args.get("except_") or () if not _is_qualified(each)}
        pattern = star.args.get("ilike")
        if pattern is not None:
            matches = like(pattern.name)
            left_out.update(key for key, _ in columns if not matches.fullmatch(key))
        changes: dict[str, Output] = {}
        for replacement in star.args.get("replace") or ():
            lineage, type_ = self.lineage(replacement, scope), self._references.type_of(replacement.this, scope)
            name = self._spell(replacement.args["alias"])
            changes[name.lower()] = Output(name, lineage, type_)
        by_key = dict(reversed(columns))
        for rename in (each for each in star.args.get("rename") or () if not _is_qualified(each.this)):
            old = rename.this.name
            column = by_key.get(old.lower()) or (unlisted.column(old) if unlisted is not None else None)
            if column is not None:
                changes[old.lower()] = column._replace(name=self._spell(rename.args["alias"]))
        kept = [changes.get(key, column) for key, column in columns if key not in left_out]
        return [*kept, *(column for key, column in changes.items() if key not in by_key)]

    # --- expressions ----------------------------------------------------------------------------------------------

    def lineage(self, root: exp.Expr, scope: Scope) -> Lineage:
        """What an expression is made of, and decided by."""
        found: list[tuple[Lineage, Kinds]] = []
        waiting = [(root, IDENTITY)]
        while waiting:
            node, kinds = waiting.pop()
            self._sums.steps += 1
            leaf = self._leaf(node, scope)
            if leaf is None:
                waiting.extend(reversed([(part, through(kinds, inner)) for part, inner in parts_of(node)]))
            elif leaf:
                found.append((leaf, kinds))
        return self._sums.of(found)

    def _leaf(self, node: exp.Expr, scope: Scope) -> Lineage | None:
        """The lineage of what is looked up as a whole; None for what has parts."""
        if isinstance(self._dialect, DuckDB):
            found = self._own_leaf(node, scope)
            if found is not None:
                return found
        return _window_named(node, scope) if isinstance(node, exp.Identifier) else self._looked_up(node, scope)

    def _looked_up(self, node: exp.Expr, scope: Scope) -> Lineage | None:
        """The lineage of a column, a star or a query."""
        star = star_of(node)
        if star is not None:
            return self._sums.of(
                (column.lineage, IDENTITY) for column in self._expand(star, node, scope, set()).columns
            )
        if isinstance(node, exp.Column):
            return self._references.column(node, scope).lineage
        if isinstance(node, exp.Query):
            rows = self.query(node, scope, scope.ctes)
            return self._sums.of([(rows.whole, IDENTITY), *((column.lineage, IDENTITY) for column in rows.columns)])
        if isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            return self.query(node.this, scope, scope.ctes).whole
        return None

    def _own_leaf(self, node: exp.Expr, scope: Scope) -> Lineage | None:
        """What only DuckDB has, and what sqlglot takes for something else there."""
        if isinstance(node, exp.Columns):
            listed = None if scope.chosen is not None else self._listed(node, scope)
            columns = listed.columns if listed is not None else ()
            return scope.chosen or self._sums.of((column.lineage, IDENTITY) for column in columns)
        if isinstance(node, (exp.Dot, exp.Identifier)):
            names = dotted(node)
            return self._path(names, scope) if names and calls_method(node) else None
        if isinstance(node, exp.Placeholder) and isinstance(node.parent, exp.Bracket) and node.name:
            return self._references.named([node.name], scope).lineage  # `x[:n]`
        if isinstance(node, exp.Var) and node.arg_key == "unit":
            column = scope.listed(node.name)  # `date_trunc(s, d)`
            return NOTHING if column is None or node.name.upper() in _UNITS else column.lineage
        return None

    def _path(self, names: Sequence[exp.Expr], scope: Scope) -> Lineage:
        parts = [self._spell(name) for name in names]
        return NOTHING if parts[0].lower() in _SCHEMAS else self._references.named(parts, scope).lineage


def _with_column(rows: Rows, key: str, name: str | None) -> Rows:
    """The rows with another name for a column, or without it."""
    columns = [
        column if column.name.lower() != key else column._replace(name=name or "")
        for column in rows.columns
        if name is not None or column.name.lower() != key
    ]
    return Rows(columns, unlisted=rows.unlisted, strays=rows.strays)


def _is_qualified(column: exp.Expr) -> bool:
    return isinstance(column, exp.Column) and bool(column.table)


def _is_source(node: exp.Expr) -> bool:
    """Whether brackets in FROM hold a source, perhaps with joins, rather than a query."""
    if isinstance(node, exp.Subquery):
        return bool(node.alias or node.args.get("joins"))
    return isinstance(node, exp.Table)


def _alias(node: exp.Expr) -> str:
    """The name by which a source is known: the last that it is given."""
    if isinstance(node, exp.Final):
        return _alias(node.this)
    for pivot in reversed(node.args.get("pivots") or ()):
        if pivot.alias:
            return str(pivot.alias)
    alias = node.args.get("alias")
    if isinstance(alias, exp.TableAlias) and not alias.this and alias.columns:
        return str(alias.columns[0].name)  # BigQuery's UNNEST(x) AS y
    return node.alias_or_name


def _window_named(node: exp.Identifier, scope: Scope) -> Lineage:
    """The lineage of `OVER w`; no other identifier that isn't a column's means anything."""
    if node.arg_key != "alias" or not isinstance(node.parent, exp.Window):
        return NOTHING
    found = scope.windows.get(node.name.lower())
    return NOTHING if found is None else found
