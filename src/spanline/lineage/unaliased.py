"""What the warehouse calls a column that the SQL gives no alias, where that is certain.

PostgreSQL's rule is `FigureColname` in its parse_target.c, as of the versions that are maintained. Redshift's is that
of PostgreSQL 8, but it rewrites many of its own functions before. DuckDB's has a module of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Final, NamedTuple

from sqlglot import exp
from sqlglot.dialects import DuckDB, Postgres

from spanline.lineage import duckdb_names
from spanline.lineage.dialects import Spelling, dialect_for


class _Name(NamedTuple):
    text: str
    strong: bool = True  # a cast takes it over, and so does a CASE whose ELSE it is


_UNCERTAIN: Final = _Name("")
_UNCERTAIN_AND_WEAK: Final = _Name("", strong=False)
_NONE: Final = _Name("?column?", strong=False)
_OF_REDSHIFT: Final = frozenset(("avg", "coalesce", "count", "lower", "max", "min", "sum", "upper"))
_OPERATORS: Final = (exp.Binary, exp.Unary, exp.Predicate, exp.Literal, exp.Null)
_NO_OPERATORS: Final = (exp.Collate, exp.Dot, exp.Exists, exp.Paren)
_TYPES: Final = {
    "BIGINT": "int8",
    "BIT": "bit",
    "BOOLEAN": "bool",
    "BPCHAR": "bpchar",
    "CHAR": "bpchar",
    "DATE": "date",
    "DECIMAL": "numeric",
    "DOUBLE": "float8",
    "FLOAT": "float4",
    "INET": "inet",
    "INT": "int4",
    "INTERVAL": "interval",
    "JSON": "json",
    "JSONB": "jsonb",
    "MONEY": "money",
    "NAME": "name",
    "NCHAR": "bpchar",
    "OID": "oid",
    "POINT": "point",
    "REGCLASS": "regclass",
    "REGPROC": "regproc",
    "REGTYPE": "regtype",
    "SMALLINT": "int2",
    "TEXT": "text",
    "TIME": "time",
    "TIMETZ": "timetz",
    "TIMESTAMP": "timestamp",
    "TIMESTAMPTZ": "timestamptz",
    "UUID": "uuid",
    "VARBINARY": "bytea",
    "VARCHAR": "varchar",
    "XML": "xml",
    **{
        f"{each}{kind}": f"{each}{kind}".lower()
        for each in ("INT4", "INT8", "NUM", "TS", "TSTZ", "DATE")
        for kind in ("RANGE", "MULTIRANGE")
    },
}
_WITHOUT_PLACE: Final[dict[type[exp.Expr], str]] = {  # the parser doesn't keep where these functions stand in the SQL
    exp.Array: "array",
    exp.AtTimeZone: "timezone",
    exp.Ceil: "ceil",
    exp.Chr: "chr",
    exp.Exists: "exists",
    exp.Floor: "floor",
    exp.GroupConcat: "string_agg",
    exp.Initcap: "initcap",
    exp.JSONArrayAgg: "json_agg",
    exp.JSONBExists: "jsonb_exists",
    exp.JSONObject: "json_object",
    exp.Normalize: "normalize",
    exp.Overlay: "overlay",
    exp.StrPosition: "position",
    exp.Substring: "substring",
    exp.Tuple: "row",
}
_SINCE_15: Final[dict[type[exp.Expr], str]] = {
    exp.CurrentDate: "current_date",
    exp.CurrentTimestamp: "current_timestamp",
    exp.CurrentUser: "current_user",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
    exp.SessionUser: "session_user",
}
_SYMBOLS: Final = (exp.BitString, exp.ByteString, exp.Cbrt, exp.HexString, exp.MatchAgainst, exp.Sqrt)
"""What is a literal or an operator where it isn't written as a function."""
_EXTRACTS: Final = re.compile(r"\b(extract|date_part)\s*\(", re.IGNORECASE)
_MOST_BITS_OF_FLOAT4: Final = 24
_TRIMS: Final = {"": "btrim", "BOTH": "btrim", "LEADING": "ltrim", "TRAILING": "rtrim"}


class _Rule(NamedTuple):
    """How much of PostgreSQL's rule holds.

    It is for casts, for expressions with some functions, for all, and as it has been since PostgreSQL 15.
    """

    casts: bool = False
    functions: Callable[[str], bool] | None = None
    whole: bool = False
    since_15: bool = False


class Unaliased:
    """The names of columns without an alias in one text of SQL; empty where they aren't certain."""

    def __init__(self, adapter: str, sql: str) -> None:
        dialect = dialect_for(adapter)
        self._rule = _RULES.get(adapter.lower()) or _Rule(casts=isinstance(dialect, Postgres))
        self._spell = Spelling(dialect)
        self._sql = sql
        self._duckdb = duckdb_names.Names(sql, duckdb_version()) if isinstance(dialect, DuckDB) else None

    def __call__(self, node: exp.Expr) -> str:
        """The name of a projection that is no column."""
        if self._duckdb is not None:
            return self._by_place(node, self._duckdb)
        return self._name(node).text

    def is_alias(self, alias: exp.Expr) -> bool:
        """Whether an alias is one to the warehouse, too: to sqlglot the `_000` in `1_000` is, and EXPORT_STATE."""
        start = alias.args["alias"].meta.get("start")
        if not isinstance(start, int):
            return True
        before = self._sql[start - 1] if start else ""
        if before.isalnum() or before == ".":
            return False
        is_state = self._duckdb is not None and alias.alias.lower() == "export_state"
        return not is_state or self._sql[:start].rstrip().lower().endswith(("as", "'", '"'))

    def of_sign(self, column: exp.Expr) -> str | None:
        """The name of a column behind a `+`, which sqlglot leaves out; None where there is none."""
        place = _place(column)
        if place is None or self._before(place) != "+":
            return None
        if self._duckdb is not None:
            return self._duckdb.at(place)
        return _NONE.text if self._rule.functions is not None else ""

    def _before(self, place: int) -> str:
        """The last character before a place that is no blank or opening bracket."""
        place -= 1
        while place >= 0 and self._sql[place] in " \n\t(":
            place -= 1
        return self._sql[place] if place >= 0 else ""

    def _by_place(self, node: exp.Expr, names: duckdb_names.Names) -> str:
        """The name of what stands at the place of the node, or beside one of its neighbours whose place is known."""
        select = node.find_ancestor(exp.Select)
        projections = [each.unalias().unnest() for each in select.expressions] if select is not None else [node]
        own = next((at for at, each in enumerate(projections) if each is node), None)
        for at, each in sorted(enumerate(projections), key=lambda pair: pair[1] is not node):
            place = _place(each)
            if place is not None and own is not None:
                return names.at(place, own - at)
        return names.only(own) if own is not None else ""

    def _name(self, node: exp.Expr) -> _Name:
        found = None
        if self._rule.whole:
            found = self._in_full(node)
        if found is None and self._rule.functions is not None:
            found = self._of_expression(node, self._rule.functions)
        if found is None and self._rule.casts:
            found = self._of_cast(node)
        return found or self._of_field(node)

    def _of_field(self, node: exp.Expr) -> _Name:
        if isinstance(node, exp.Dot):
            return self._name(node.expression)
        if isinstance(node, exp.Column):
            return self._name(node.this)
        return _Name(self._spell(node)) if isinstance(node, exp.Identifier) else _UNCERTAIN

    def _of_cast(self, node: exp.Expr) -> _Name | None:
        if isinstance(node, exp.Paren):
            return self._name(node.this)
        if not isinstance(node, exp.Cast) or self._function(node):
            return None
        name = self._name(node.this)
        return name if name.strong else self._type(node.to)

    def _of_expression(self, node: exp.Expr, is_certain: Callable[[str], bool]) -> _Name | None:
        if isinstance(node, (exp.Window, exp.Filter, exp.WithinGroup)):
            return self._name(node.this)
        if isinstance(node, exp.Case):
            default = node.args.get("default")
            name = self._name(default) if default is not None else _NONE
            return name if name.strong else _Name("case", strong=False)
        function = self._function(node) if isinstance(node, (exp.Func, exp.Binary)) else ""
        if function:
            return _Name(function) if is_certain(function) else _UNCERTAIN
        if isinstance(node, exp.Boolean):
            return _NONE if self._rule.since_15 else _UNCERTAIN_AND_WEAK  # `bool` until PostgreSQL 14
        if isinstance(node, _OPERATORS) and not isinstance(node, _NO_OPERATORS):
            return _NONE
        return None

    def _in_full(self, node: exp.Expr) -> _Name | None:
        if isinstance(node, (exp.Bracket, exp.Collate)):
            return self._name(node.this)
        if isinstance(node, exp.Query):
            return self._first(node)
        if isinstance(node, exp.Interval) or _is_interval_with_precision(node):
            return _Name("interval", strong=False)
        if isinstance(node, exp.Extract):
            return self._extracted(node)
        return None if self._function(node) else self._without_place(node)

    def _without_place(self, node: exp.Expr) -> _Name | None:
        """The name of what isn't written as a function, or was and the parser doesn't keep how."""
        if isinstance(node, _SYMBOLS):
            return _NONE
        if isinstance(node, exp.Trim):
            return _Name(_TRIMS[node.text("position").upper()])
        name = _WITHOUT_PLACE.get(type(node)) or (_SINCE_15.get(type(node)) if self._rule.since_15 else None)
        return _Name(name) if name is not None else None

    def _extracted(self, node: exp.Expr) -> _Name | None:
        """EXTRACT, which is a function of its own name since PostgreSQL 14, or DATE_PART."""
        place = _place(node.expression)
        if not self._rule.since_15 or place is None or node.expression.find(exp.Extract) is not None:
            return None
        found = _EXTRACTS.findall(self._sql[:place])
        return _Name(found[-1].lower()) if found else None

    def _first(self, query: exp.Expr) -> _Name:
        """The name of a subquery's only column, which is strong even if there is none."""
        while isinstance(query, (exp.SetOperation, exp.Subquery)):
            query = query.this
        first = query.expressions[0] if isinstance(query, exp.Select) and query.expressions else query
        return _Name(self._spell(first.args["alias"]) if isinstance(first, exp.Alias) else self._name(first).text)

    def _type(self, type_: exp.DataType) -> _Name:
        if not self._rule.whole:
            return _UNCERTAIN_AND_WEAK
        kind = type_.args.get("kind")
        if isinstance(kind, (exp.Dot, exp.Identifier)):
            last = kind.expression if isinstance(kind, exp.Dot) else kind
            return _Name(self._spell(last), strong=False) if isinstance(last, exp.Identifier) else _UNCERTAIN_AND_WEAK
        if type_.is_type(exp.DType.ARRAY) and type_.expressions:
            return self._type(type_.expressions[0])
        if not isinstance(type_.this, exp.DType):
            return _Name("interval", strong=False) if isinstance(type_.this, exp.Interval) else _UNCERTAIN_AND_WEAK
        name = _TYPES.get(type_.this.name)
        if type_.expressions and type_.is_type(exp.DType.DOUBLE, exp.DType.FLOAT):
            bits = type_.expressions[0].name
            name = "float4" if bits.isdecimal() and int(bits) <= _MOST_BITS_OF_FLOAT4 else "float8"
        return _Name(name, strong=False) if name is not None else _UNCERTAIN_AND_WEAK

    def _function(self, node: exp.Expr) -> str:
        """The function that a node was written as: sqlglot has one node for many a pair, and the place of its name."""
        start, end = node.meta.get("start"), node.meta.get("end")
        name = self._sql[start : end + 1] if start is not None and end is not None else ""
        return name.lower() if name.isidentifier() else ""


@cache
def duckdb_version() -> int:
    """The major version of DuckDB beside which this runs; 1, by whose rules fewer names are certain, if none is."""
    try:
        return int(metadata.version("duckdb").partition(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 1


def _place(node: exp.Expr) -> int | None:
    """Where some of an expression stands in the SQL, outside of queries in it."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        start = each.meta.get("start")
        if isinstance(start, int):
            return start
        if not isinstance(each, (exp.DataType, exp.Query)):  # of types sqlglot has some made beforehand
            waiting.extend(each.iter_expressions())
    return None


def _is_interval_with_precision(node: exp.Expr) -> bool:
    """Whether this is `interval(2) '1 day'`, which sqlglot takes for a sum."""
    return isinstance(node, exp.Add) and isinstance(node.this, exp.Interval) and isinstance(node.this.this, exp.Paren)


_IN_FULL: Final = _Rule(casts=True, functions=lambda _: True, whole=True, since_15=True)
_RULES: Final = {
    **dict.fromkeys(("alloydb", "postgres", "timescaledb"), _IN_FULL),
    "greenplum": _IN_FULL._replace(since_15=False),  # which has grown out of PostgreSQL 12
    "redshift": _Rule(casts=True, functions=_OF_REDSHIFT.__contains__),
}
