"""The columns that functions in FROM give, where they are the same whatever the functions are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlglot import exp
from sqlglot.dialects import DuckDB, Postgres, Snowflake
from sqlglot.dialects.dialect import Dialect

_FLATTENED: Final = ("SEQ", "KEY", "PATH", "INDEX", "VALUE", "THIS")
_OF_JSON: Final = ("key", "value", "type", "atom", "id", "parent", "fullkey", "path")
_OF_FILE: Final = ("filename", "content", "size", "last_modified")
_DUCKDB: Final[Mapping[str, Sequence[str]]] = {
    "glob": ("file",),
    "json_each": _OF_JSON,
    "json_tree": _OF_JSON,
    "read_blob": _OF_FILE,
    "read_text": _OF_FILE,
    "sniff_csv": (
        "Delimiter",
        "Quote",
        "Escape",
        "NewLineDelimiter",
        "Comment",
        "SkipRows",
        "HasHeader",
        "Columns",
        "DateFormat",
        "TimestampFormat",
        "UserArguments",
        "Prompt",
    ),
}
_POSTGRES: Final[Mapping[str, Sequence[str]]] = {
    "json_each": ("key", "value"),
    "json_each_text": ("key", "value"),
    "jsonb_each": ("key", "value"),
    "jsonb_each_text": ("key", "value"),
    "pg_get_object_address": ("classid", "objid", "objsubid"),
    "pg_input_error_info": ("message", "detail", "hint", "sql_error_code"),
    "pg_partition_tree": ("relid", "parentrelid", "isleaf", "level"),
    "ts_debug": ("alias", "description", "token", "dictionaries", "dictionary", "lexemes"),
    "ts_parse": ("tokid", "token"),
    "ts_stat": ("word", "ndoc", "nentry"),
    "ts_token_type": ("tokid", "alias", "description"),
}
_SCALAR: Final = frozenset(
    ("generate_series", "json_object_keys", "jsonb_object_keys", "jsonb_path_query", "regexp_split_to_table")
)
"""PostgreSQL's functions of one column, which is called as the function is, or as its alias."""

SUMMARY: Final = ("min", "max", "approx_unique", "avg", "std", "q25", "q50", "q75", "count", "null_percentage")
SUMMARIZED: Final = ("column_name", "column_type", *SUMMARY)
"""The columns of DuckDB's SUMMARIZE: a column's name, its type, and figures."""


def columns_of(function: exp.Expr, dialect: Dialect, alias: str) -> Sequence[str]:
    """The names of the columns, under an alias or none; none where they depend on more."""
    name = function.name.lower() if isinstance(function, exp.Anonymous) else ""
    if isinstance(function, exp.GenerateSeries):
        name = "generate_series"
    if isinstance(dialect, DuckDB):
        return _DUCKDB.get(name, ())
    if type(dialect) is Postgres and name in _SCALAR:
        return [alias or name]
    if type(dialect) is Postgres and name in _POSTGRES:
        return _POSTGRES[name]
    if isinstance(dialect, Snowflake) and isinstance(function, exp.TableFromRows):
        return _FLATTENED if isinstance(function.this, exp.Explode) else ()
    return [column.name for column in function.find_all(exp.OpenJSONColumnDef, exp.JSONColumnDef)]
