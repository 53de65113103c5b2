"""Column lineage of a model's SQL: what each of its columns is made of, and what decides about its rows.

What is said follows https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet. `analyse` never raises
and never takes the process down, whatever it is given: SQL that nobody can read gives an `Analysis` that says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Final

import msgspec
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import Token

from spanline.lineage.dialects import dialect_for, dialect_of
from spanline.lineage.edges import Field, Lineage, Transformation, transformations
from spanline.lineage.limits import MOST_CHARACTERS, TooMuch, must_be_deep, on_deep_stack
from spanline.lineage.queries import Walk
from spanline.lineage.rewording import reworded
from spanline.lineage.schema import Relation, Schema
from spanline.lineage.unaliased import Unaliased

__all__ = [
    "VERSION",
    "Analysis",
    "Column",
    "Field",
    "Input",
    "Relation",
    "Schema",
    "Transformation",
    "analyse",
    "dialect_of",
]

VERSION: Final = metadata.version("sqlglot")
"""sqlglot's: another may find other columns, so what is cached is of one version."""

_MOST_EDGES: Final = 250_000
_UNLISTED: Final = "a `*` (or PIVOT, COLUMNS) is over a relation whose columns aren't all known"
_UNNAMED: Final = "columns without an alias, which the warehouse names"


class _NoQuery(Exception):  # noqa: N818 - it says what the SQL is
    """None of the statements gives rows."""


class Input(msgspec.Struct, frozen=True):
    """An input column, with all the ways in which it has a part."""

    field: Field
    transformations: tuple[Transformation, ...]


class Column(msgspec.Struct, frozen=True):
    """An output column; its type is None where only the warehouse knows it."""

    name: str
    data_type: str | None
    inputs: tuple[Input, ...]


class Analysis(msgspec.Struct, frozen=True):
    """What a model's SQL says of the model.

    `gaps` say why there are, or may be, more columns: those of a `*` over a relation that the schema lacks or knows in
    part, and those that the warehouse makes a name up for. `relations` are all that the SQL names, found in
    the schema or not, without the model itself. With an `error` there is nothing else.
    """

    columns: tuple[Column, ...] = ()
    dataset: tuple[Input, ...] = ()
    relations: tuple[Relation, ...] = ()
    gaps: tuple[str, ...] = ()
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all columns are told."""
        return not self.gaps and self.error is None


def analyse(sql: str, adapter: str, schema: Schema, this: Relation | None = None) -> Analysis:
    """The column lineage of a model's compiled SQL. Never raises.

    `adapter` is the type of dbt's adapter, or a dialect of sqlglot. `this` is the relation which the model builds: an
    incremental model's look at its own earlier rows gives no edges.
    """
    try:
        return _analyse(sql, adapter, schema, this)
    except ParseError as error:
        return Analysis(error=_of_parser(error))
    except RecursionError:
        return Analysis(error="nested too deeply")
    except (TooMuch, _NoQuery) as error:
        return Analysis(error=str(error))
    except Exception as error:  # noqa: BLE001 - sqlglot's parser may raise anything on SQL it isn't made for
        return Analysis(error=_short(f"{type(error).__name__}: {error}"))


def _analyse(sql: str, adapter: str, schema: Schema, this: Relation | None) -> Analysis:
    dialect = dialect_for(adapter)
    if len(sql) > MOST_CHARACTERS:
        raise TooMuch(f"more than {MOST_CHARACTERS} characters")
    tokens = dialect.tokenize(sql)

    def read() -> Analysis:
        query = _query(_parsed(sql, tokens, dialect))
        return _told(Walk(dialect, schema, this, Unaliased(adapter, sql)), query)

    if must_be_deep([token.token_type for token in tokens], dialect):
        return on_deep_stack(read)
    try:
        return read()
    except RecursionError:  # sqlglot in plain Python needs some twenty calls for a bracket
        return on_deep_stack(read)


def _parsed(sql: str, tokens: list[Token], dialect: Dialect) -> list[exp.Expr | None]:
    """The statements of some SQL: where sqlglot can't read it, in other words."""
    try:
        return dialect.parser().parse(tokens, sql)
    except ParseError:
        other = reworded(sql, dialect)
        if other == sql:
            raise
        return dialect.parser().parse(dialect.tokenize(other), other)


def _told(walk: Walk, query: exp.Expr) -> Analysis:
    rows = walk.query(query)
    if sum(len(column.lineage) for column in rows.columns) > _MOST_EDGES:
        raise TooMuch(f"more than {_MOST_EDGES} edges")
    named = [column for column in rows.columns if column.name]
    told: dict[int, tuple[Input, ...]] = {}  # columns that are passed on share their lineage

    def inputs(lineage: Lineage) -> tuple[Input, ...]:
        if id(lineage) not in told:
            told[id(lineage)] = tuple(Input(field, transformations(kinds)) for field, kinds in lineage.items())
        return told[id(lineage)]

    return Analysis(
        columns=tuple(Column(column.name, column.type, inputs(column.lineage)) for column in named),
        dataset=inputs(rows.whole),
        relations=tuple(walk.relations),
        gaps=(
            *([_UNLISTED] if rows.unlisted is not None else []),
            *([_UNNAMED] if len(named) < len(rows.columns) else []),
        ),
    )


def _query(statements: Iterable[exp.Expr | None]) -> exp.Expr:
    """The last query of some statements: of a CREATE TABLE AS or an INSERT, the one inside."""
    found: exp.Expr | None = None
    for statement in statements:
        inner = statement.args.get("expression") if isinstance(statement, (exp.DDL, exp.DML)) else statement
        if isinstance(inner, (exp.Query, exp.Values, exp.Pivot)):
            found = inner
    if found is None:
        raise _NoQuery("no query")
    return found


# --- errors -----------------------------------------------------------------------------------------------------------


def _of_parser(error: ParseError) -> str:
    if not error.errors:
        return _short(str(error))
    first = error.errors[0]
    return _short(f"line {first.get('line')}, column {first.get('col')}: {first.get('description')}")


def _short(message: str) -> str:
    """One line, not a long one."""
    line = " ".join(message.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
