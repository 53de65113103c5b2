"""Column lineage of a model's SQL: what each of its columns is made of, and what decides about its rows.

What is said follows https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet. `analyse` never raises
and never takes the process down, whatever it is given: SQL that nobody can read gives an `Analysis` that says so.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import Future
from importlib import metadata
from typing import Final

import msgspec
import sqlglot.parser
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import TokenType

from spanline.lineage.dialects import Spelling, dialect_for, dialect_of
from spanline.lineage.edges import Field, Lineage, Transformation, transformations
from spanline.lineage.queries import TooMuch, Walk
from spanline.lineage.schema import Relation, Schema

__all__ = [
    "COMPILED",
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
    "relation_of",
]

VERSION: Final = metadata.version("sqlglot")
COMPILED: Final = not str(sqlglot.parser.__file__).endswith(".py")
"""Whether sqlglot's compiled build is there, with which this takes a third of the time."""

_MOST_CHARACTERS: Final = 2_000_000
_MOST_EDGES: Final = 250_000
_MOST_NESTING: Final = 2_000
_SHALLOW: Final = 40
_FEW_TOKENS: Final = 2_000
_MOST_TRIES: Final = 10
_MOST_SUBSCRIPTS: Final = 200
_STACK: Final = 256 * 1024 * 1024
_RECURSION: Final = 20_000


class _NoQuery(Exception):  # noqa: N818
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

    If it isn't `complete` there may be more columns: a `*` stands for those of a relation that the schema lacks.
    `relations` are all that the SQL names, found in the schema or not, without the model itself. With an `error` there
    is nothing else.
    """

    columns: tuple[Column, ...] = ()
    dataset: tuple[Input, ...] = ()
    relations: tuple[Relation, ...] = ()
    complete: bool = True
    error: str | None = None


def analyse(sql: str, adapter: str, schema: Schema, this: Relation | None = None) -> Analysis:
    """The column lineage of a model's compiled SQL. Never raises.

    `adapter` is the type of dbt's adapter, or a dialect of sqlglot. `this` is the relation which the model builds: an
    incremental model's look at its own earlier rows gives no edges.
    """
    try:
        return _analyse(sql, dialect_for(adapter), schema, this)
    except ParseError as error:
        return Analysis(complete=False, error=_of_parser(error))
    except RecursionError:
        return Analysis(complete=False, error="nested too deeply")
    except (TooMuch, _NoQuery) as error:
        return Analysis(complete=False, error=str(error))
    except Exception as error:  # noqa: BLE001 - sqlglot's parser may raise anything on SQL it isn't made for
        return Analysis(complete=False, error=_short(f"{type(error).__name__}: {error}"))


def relation_of(name: str, adapter: str) -> Relation | None:
    """The relation that a rendered name means, such as dbt's `relation_name`; None if it is no name."""
    dialect = dialect_for(adapter)
    try:
        table = exp.to_table(name, dialect=dialect)
    except Exception:  # noqa: BLE001 - as in `analyse`
        return None
    spell = Spelling(dialect)
    parts = [spell(part) for part in table.parts]
    database, schema, identifier = (None, None, *parts)[-3:]
    return (database, schema, identifier) if identifier else None


def _analyse(sql: str, dialect: Dialect, schema: Schema, this: Relation | None) -> Analysis:
    if len(sql) > _MOST_CHARACTERS:
        raise TooMuch(f"more than {_MOST_CHARACTERS} characters")
    tokens = dialect.tokenize(sql)
    kinds = [token.token_type for token in tokens]
    depth = _depth(kinds)

    def read() -> Analysis:
        query = _query(dialect.parser().parse(tokens, sql))
        return _told(Walk(dialect, schema, this), query)

    return read() if depth <= _SHALLOW and len(kinds) <= _FEW_TOKENS else _with_deep_stack(read)


def _told(walk: Walk, query: exp.Expr) -> Analysis:
    rows = walk.query(query)
    if sum(len(column.lineage) for column in rows.columns) > _MOST_EDGES:
        raise TooMuch(f"more than {_MOST_EDGES} edges")
    told: dict[int, tuple[Input, ...]] = {}  # columns that are passed on share their lineage

    def inputs(lineage: Lineage) -> tuple[Input, ...]:
        if id(lineage) not in told:
            told[id(lineage)] = tuple(Input(field, transformations(kinds)) for field, kinds in lineage.items())
        return told[id(lineage)]

    return Analysis(
        columns=tuple(Column(column.name, column.type, inputs(column.lineage)) for column in rows.columns),
        dataset=inputs(rows.whole),
        relations=tuple(walk.relations),
        complete=rows.unlisted is None,
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


# --- limits -----------------------------------------------------------------------------------------------------------

_OPENING: Final = frozenset((TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE))
_CLOSING: Final = frozenset((TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END))
_TRIED_TWICE: Final = frozenset((*Parser.TYPE_TOKENS, TokenType.INTERVAL, TokenType.LATERAL))
_DEEP: Final = threading.Lock()


def _depth(kinds: Sequence[TokenType]) -> int:
    """How deep the SQL is nested, as the parser recurses. Raises `TooMuch` for what would take it for ever.

    Compiled code has no recursion limit: only what is looked at before keeps it from the end of its stack. And what it
    reads in two ways it reads twice, so that the time doubles with each one inside another: a bracket behind the name
    of a type, and a join whose condition doesn't come.
    """
    if kinds.count(TokenType.JOIN) > _MOST_TRIES and _bare_joins(kinds) > _MOST_TRIES:
        raise TooMuch(f"more than {_MOST_TRIES} joins without a condition")
    if _nested(kinds, after=_TRIED_TWICE) > _MOST_TRIES:
        raise TooMuch(f"more than {_MOST_TRIES} arrays, structs or types inside one another")
    if kinds.count(TokenType.L_BRACKET) > _MOST_SUBSCRIPTS and _subscripts(kinds) > _MOST_SUBSCRIPTS:
        raise TooMuch(f"more than {_MOST_SUBSCRIPTS} subscripts in a row")
    depth = _nested(kinds)
    if depth > _MOST_NESTING:
        raise TooMuch(f"nested more than {_MOST_NESTING} deep")
    return depth


def _nested(kinds: Sequence[TokenType], after: Container[TokenType] | None = None) -> int:
    """The most brackets inside one another; of those behind certain tokens, if these are given."""
    most = current = 0
    counted: list[bool] = []
    before = TokenType.SEMICOLON
    for kind in kinds:
        if kind in _OPENING:
            counted.append(after is None or before in after)
            current += counted[-1]
            most = max(most, current)
        elif kind in _CLOSING and counted:
            current -= counted.pop()
        before = kind
    return most


def _bare_joins(kinds: Sequence[TokenType]) -> int:
    """The most joins that wait for a condition at the same time, those around brackets included."""
    most = waiting = outside = 0
    around: list[tuple[int, int]] = []
    before = TokenType.SEMICOLON
    for kind in kinds:
        if kind is TokenType.JOIN and before not in (TokenType.CROSS, TokenType.NATURAL):
            waiting += 1
            most = max(most, waiting)
        elif kind in (TokenType.ON, TokenType.USING):
            waiting = max(waiting - 1, outside)
        elif kind is TokenType.SELECT:
            waiting = outside
        elif kind is TokenType.L_PAREN:
            around.append((waiting, outside))
            outside = waiting
        elif kind is TokenType.R_PAREN and around:
            waiting, outside = around.pop()
        before = kind
    return most


def _subscripts(kinds: Sequence[TokenType]) -> int:
    """The most subscripts in a row, `a[1][2]`: the parser copies all before each."""
    most = current = 0
    for before, kind in itertools.pairwise(kinds):
        if kind is TokenType.L_BRACKET:
            current = current + 1 if before is TokenType.R_BRACKET else 0
            most = max(most, current)
    return most


def _with_deep_stack(function: Callable[[], Analysis]) -> Analysis:
    """Call a function on a thread whose stack holds whatever the recursion limit lets in.

    One at a time: both the size of a new thread's stack and the recursion limit are the process's.
    """
    result: Future[Analysis] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            result.set_exception(error)

    with _DEEP:
        size, limit = threading.stack_size(_STACK), sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(max(limit, _RECURSION))
            thread = threading.Thread(target=run, name="spanline-deep-sql", daemon=True)
            thread.start()
            thread.join()
        finally:
            threading.stack_size(size)
            sys.setrecursionlimit(limit)
    return result.result()


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
