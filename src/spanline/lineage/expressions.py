"""What an expression is made of, and what each part is to it: SQL's meaning, in OpenLineage's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sqlglot import exp

from spanline.lineage.edges import (
    AGGREGATION,
    CONDITIONAL,
    FILTER,
    GROUP_BY,
    IDENTITY,
    SORT,
    TRANSFORMATION,
    WINDOW,
    Kinds,
)

Part = tuple[exp.Expr, Kinds]

_NO_PARTS_OF_METHODS: Final = (exp.Alias, exp.Column, exp.Lambda, exp.PropertyEQ, exp.Query)


def parts_of(node: exp.Expr) -> Iterable[Part]:
    """The parts of an expression that may have columns in them, with what each is to the whole."""
    reader = _READER_OF.get(type(node))
    if reader is None:
        reader = _READER_OF[type(node)] = _reader(type(node))
    return reader(node)


def aggregates(node: exp.Expr) -> bool:
    """Whether an expression aggregates the rows of its query, as GROUP BY ALL must know; a window function doesn't."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, exp.AggFunc):
            return True
        if not isinstance(each, exp.Query):
            inside = each.this if isinstance(each, exp.Window) else each
            waiting.extend(inside.iter_expressions())
    return False


def star_of(node: exp.Expr) -> exp.Star | None:
    """The star of `*`, `t.*` and DuckDB's `COLUMNS(*)`; None for all else."""
    if isinstance(node, exp.Star):
        return node
    star = node.this if isinstance(node, (exp.Column, exp.Columns)) else None
    return star if isinstance(star, exp.Star) else None


def dotted(node: exp.Expr) -> list[exp.Expr] | None:
    """The names in `a.b.c`, where they are no column's to sqlglot."""
    if isinstance(node, exp.Identifier):
        return [node]
    if not isinstance(node, exp.Dot) or not isinstance(node.expression, exp.Identifier):
        return None
    before = dotted(node.this)
    return None if before is None else [*before, node.expression]


def calls_method(node: exp.Expr) -> bool:
    """Whether a function is called on this, `s.upper()`, whose names sqlglot makes no columns of."""
    inner, outer = node, node.parent
    while outer is not None and not isinstance(outer, _NO_PARTS_OF_METHODS):
        if isinstance(outer, exp.Dot) and not isinstance(outer.expression, exp.Identifier):
            return inner.arg_key == "this"
        inner, outer = outer, outer.parent
    return False


def flat(node: exp.Expr) -> Iterator[exp.Expr]:
    """The members of a tuple, or the expression itself without brackets and aliases."""
    if isinstance(node, exp.Tuple):
        for each in node.expressions:
            yield from flat(each)
    elif isinstance(node, (exp.Paren, exp.PivotAlias, exp.Alias)):
        yield from flat(node.this)
    else:
        yield node


def _none(_: exp.Expr) -> Iterable[Part]:
    return ()


def _as_is(node: exp.Expr) -> Iterable[Part]:
    return ((node.this, IDENTITY),)


def _transformed(node: exp.Expr) -> Iterable[Part]:
    return [(part, TRANSFORMATION) for part in node.iter_expressions()]


def _cast(node: exp.Expr) -> Iterable[Part]:
    return ((node.this, TRANSFORMATION),)


def _aggregated(node: exp.Expr) -> Iterable[Part]:
    return [(part, AGGREGATION) for part in node.iter_expressions()]


def _counted(node: exp.Expr) -> Iterable[Part]:
    return [(part, AGGREGATION) for part in node.iter_expressions() if star_of(part) is None]


def _counted_if(node: exp.Expr) -> Iterable[Part]:
    return ((node.this, CONDITIONAL),)


def _chosen(node: exp.Expr) -> Iterable[Part]:
    """`MAX_BY(x, y)`: the x of the row that comes last by y."""
    return [(part, AGGREGATION if part is node.this else SORT) for part in node.iter_expressions()]


def _combined(node: exp.Expr) -> Iterable[Part]:
    """ClickHouse's `sumIf(x, condition)` and its like."""
    *values, last = node.expressions
    return [
        *((value, AGGREGATION) for value in values),
        (last, CONDITIONAL if "If" in node.name else AGGREGATION),
    ]


def _grouping(node: exp.Expr) -> Iterable[Part]:
    return [(part, GROUP_BY) for part in node.iter_expressions()]


def _filtered(node: exp.Expr) -> Iterable[Part]:
    """`SUM(x) FILTER (WHERE condition)`."""
    return (node.this, IDENTITY), (node.expression, FILTER)


def _ordered(node: exp.Expr) -> Iterable[Part]:
    """`ARRAY_AGG(x ORDER BY y)`, in which sqlglot puts the x below the order."""
    return [(part, IDENTITY if part is node.args.get("this") else SORT) for part in node.iter_expressions()]


def _within_group(node: exp.Expr) -> Iterable[Part]:
    """`LISTAGG(x) WITHIN GROUP (ORDER BY y)`; `MODE() WITHIN GROUP (ORDER BY x)` and its like aggregate the order."""
    if node.this.find(exp.Column) is not None:
        return (node.this, AGGREGATION), (node.expression, SORT)
    return [(ordered, AGGREGATION) for ordered in node.expression.expressions]


def _window(node: exp.Expr) -> Iterable[Part]:
    return [(part, TRANSFORMATION if part is node.this else WINDOW) for part in node.iter_expressions()]


def _case(node: exp.Expr) -> Iterable[Part]:
    """CASE; each of its branches is an IF below it."""
    operand = node.args.get("this")
    return [(part, CONDITIONAL if part is operand else TRANSFORMATION) for part in node.iter_expressions()]


def _if(node: exp.Expr) -> Iterable[Part]:
    return [(part, CONDITIONAL if part is node.this else TRANSFORMATION) for part in node.iter_expressions()]


def _coalesce(node: exp.Expr) -> Iterable[Part]:
    return [(part, TRANSFORMATION | CONDITIONAL) for part in node.iter_expressions()]


def _nullif(node: exp.Expr) -> Iterable[Part]:
    return (node.this, TRANSFORMATION | CONDITIONAL), (node.expression, CONDITIONAL)


def _decode(node: exp.Expr) -> Iterable[Part]:
    """`DECODE(value, search, result, …, default)`."""
    value, *rest = node.expressions
    yield value, CONDITIONAL
    for place, part in enumerate(rest):
        is_search = place % 2 == 0 and place + 1 < len(rest)
        yield part, CONDITIONAL if is_search else TRANSFORMATION


def _anonymous(node: exp.Expr) -> Iterable[Part]:
    return _multi_if(node) if node.name.lower() == "multiif" else _transformed(node)


def _multi_if(node: exp.Expr) -> Iterable[Part]:
    """ClickHouse's `multiIf(condition, result, …, default)`."""
    last = len(node.expressions) - 1
    for place, part in enumerate(node.expressions):
        yield part, CONDITIONAL if place % 2 == 0 and place < last else TRANSFORMATION


def _comprehension(node: exp.Expr) -> Iterable[Part]:
    """`[f(x, y) FOR x IN xs IF g(x)]`: x is a name of its own."""
    name = node.expression.name
    yield node.args["iterator"], TRANSFORMATION
    for inner in (node.this, node.args.get("condition")):
        columns = inner.find_all(exp.Column) if inner is not None else ()
        yield from ((column, TRANSFORMATION) for column in columns if column.parts[0].name != name)


_Reader = Callable[[exp.Expr], Iterable[Part]]

_READERS: Final[tuple[tuple[tuple[type, ...], _Reader], ...]] = (
    ((exp.Literal, exp.DataType, exp.Identifier, exp.Null, exp.Boolean, exp.Var, exp.TableAlias), _none),
    ((exp.Alias, exp.Aliases, exp.Paren, exp.Ordered, exp.Where, exp.Having, exp.Qualify, exp.PreWhere), _as_is),
    ((exp.Cast,), _cast),
    ((exp.Count,), _counted),
    ((exp.CountIf,), _counted_if),
    ((exp.ArgMax, exp.ArgMin), _chosen),
    ((exp.CombinedAggFunc,), _combined),
    ((exp.Grouping, exp.GroupingId), _grouping),
    # The value of another row, not of many.
    ((exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue), _transformed),
    ((exp.AggFunc,), _aggregated),
    ((exp.Filter,), _filtered),
    ((exp.Order,), _ordered),
    ((exp.WithinGroup,), _within_group),
    ((exp.Window,), _window),
    ((exp.Case,), _case),
    ((exp.If, exp.Nvl2), _if),
    ((exp.Coalesce,), _coalesce),
    ((exp.Nullif,), _nullif),
    ((exp.DecodeCase,), _decode),
    ((exp.Anonymous,), _anonymous),
    ((exp.Comprehension,), _comprehension),
)


_READER_OF: Final[dict[type[exp.Expr], _Reader]] = {}


def _reader(kind: type[exp.Expr]) -> _Reader:
    for kinds, reader in _READERS:
        if issubclass(kind, kinds):
            return reader
    return _transformed
