"""What the names in a query stand for: the columns of its sources, listed or not, and the scopes that see them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlglot import exp

from spanline.lineage.edges import IDENTITY, NOTHING, Field, Kinds, Lineage, add
from spanline.lineage.schema import Relation


class Output(NamedTuple):
    """A column of a query or of a source."""

    name: str
    lineage: Lineage
    type: str | None = None


class Unlisted(NamedTuple):
    """Where columns come from that nobody lists: each relation has one of any name, or all are made of the lineage."""

    relations: tuple[Relation, ...] = ()
    lineage: Lineage = NOTHING

    def column(self, name: str) -> Output:
        """The column of this name."""
        lineage: dict[Field, Kinds] = {Field(relation, name): IDENTITY for relation in self.relations}
        add(lineage, self.lineage)
        return Output(name, lineage)


NOWHERE: Final = Unlisted()
"""Several sources have columns that aren't listed: nobody can say which of them has a name."""


class Rows:
    """What a query, or a source in FROM, gives: its columns, in order, and what its rows as a whole depend on.

    Columns that aren't listed are part of `*`, and meant by bare names, if they are `unlisted`. Not so `strays`, which
    only the SQL knows of: one is meant by a name qualified with the source's own, or that nothing else explains.
    """

    __slots__ = ("_by_name", "columns", "strays", "unlisted", "whole")

    def __init__(
        self,
        columns: Sequence[Output],
        *,
        unlisted: Unlisted | None = None,
        strays: Unlisted | None = None,
        whole: Lineage = NOTHING,
    ) -> None:
        self.columns = columns
        self.unlisted = unlisted
        self.strays = strays
        self.whole = whole
        self._by_name: dict[str, Output] | None = None

    def listed(self, name: str) -> Output | None:
        """The column of this very name, else one that differs in case only."""
        index = self._by_name
        if index is None:
            index = self._by_name = {}
            for column in self.columns:
                index.setdefault(column.name, column)
            for column in self.columns:
                index.setdefault(column.name.lower(), column)
        return index.get(name) or index.get(name.lower())

    def column(self, name: str) -> Output | None:
        """The column that is meant by a name qualified with the source's."""
        found = self.listed(name)
        if found is None:
            others = self.unlisted or self.strays
            return None if others is None else others.column(name)
        return found

    def renamed(self, names: Sequence[str]) -> Rows:
        """The same with the column names of an alias, `AS t (a, b)`, which list all the columns of a function."""
        if not names:
            return self
        absent = Output("", self.unlisted.lineage if self.unlisted is not None else NOTHING)
        columns = [
            column._replace(name=name) if name else column
            for name, column in itertools.zip_longest(names, self.columns, fillvalue=None)
            for column in (column or absent,)
        ]
        return Rows(columns, strays=self.strays or self.unlisted, whole=self.whole)


Ctes = Mapping[str, Rows]
"""The CTEs that a query can read, by name in lower case."""

NO_CTES: Final[Ctes] = {}


class Scope:
    """The names that the expressions of one SELECT can use. All keys are in lower case."""

    def __init__(self, outer: Scope | None, ctes: Ctes) -> None:
        self.outer = outer
        self.ctes = ctes
        self.sources: dict[str, Rows] = {}
        self.unseen: set[str] = set()  # sources that `*` leaves out: those of semi-joins
        self.merged: list[str] = []  # the columns of USING and NATURAL, each of which two sources have
        self.settled: dict[str, Output] = {}  # names that stand above the sources: merged, of ARRAY JOIN, or guessed
        self.aliases: dict[str, Output] = {}
        self.windows: dict[str, Lineage] = {}
        self.conditions: list[exp.Expr] = []  # of joins
        self.equated: list[Lineage] = []  # by USING and NATURAL
        self.chosen: Lineage | None = None  # what DuckDB's COLUMNS stands for, where it makes one column for each

    def add(self, name: str, schema: str, rows: Rows) -> None:
        """Add a source; a second one of the same name can be reached by its schema."""
        key = name.lower() or f" {len(self.sources)}"
        self.sources[f"{schema}.{name}".lower() if key in self.sources else key] = rows

    def source(self, qualifier: Sequence[str]) -> Rows | None:
        """The source that a qualifier names, from here outwards."""
        key = qualifier[-1].lower()
        longer = ".".join(qualifier[-2:]).lower()
        scope: Scope | None = self
        while scope is not None:
            found = scope.sources.get(longer) or scope.sources.get(key)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def listed(self, name: str) -> Output | None:
        """The column of this name in the first source that lists one."""
        for rows in self.sources.values():
            found = rows.listed(name)
            if found is not None:
                return found
        return None

    def resolve(self, name: str) -> Output | None:
        """What a bare name means, from here outwards: a source's column, else an alias, else what may well be meant."""
        key = name.lower()
        scope: Scope | None = self
        certain = True
        while scope is not None:
            found = scope.settled.get(key) or scope.listed(name) or scope.aliases.get(key)
            if found is None and certain:
                found = scope._guess(name, key)
                certain = not any(
                    rows.unlisted is not None and rows.unlisted.relations for rows in scope.sources.values()
                )
            if found is not None:
                return found
            scope = scope.outer
        return None

    def _guess(self, name: str, key: str) -> Output | None:
        """The column of the only source that may have one of this name: it has one from then on."""
        named = self.sources.get(key)
        if named is not None and named.unlisted is not None and not named.unlisted.relations:
            return named.unlisted.column(name)  # the only column of a function goes by the function's alias
        if named is not None and named.unlisted is not None and named.unlisted.relations[0][-1].lower() != key:
            return Output(name, NOTHING)  # the whole row of a relation that goes by an alias
        unlisted = [rows.unlisted for rows in self.sources.values() if rows.unlisted is not None]
        tables = [each for each in unlisted if each.relations or each is NOWHERE]
        candidates = tables or unlisted
        if len(candidates) != 1:
            return None
        found = self.settled[key] = candidates[0].column(name)
        return found

    def stray(self, name: str) -> Output | None:
        """The column of the only table in reach that might have one nobody knows of."""
        scope: Scope | None = self
        while scope is not None:
            strays = [rows.strays for rows in scope.sources.values() if rows.strays is not None]
            tables = [each for each in strays if each.relations]
            if tables:
                return tables[0].column(name) if len(tables) == 1 else None
            scope = scope.outer
        return None
