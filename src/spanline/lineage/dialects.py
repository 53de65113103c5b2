"""Which SQL an adapter speaks, and what a name written in it stands for."""

from __future__ import annotations

from functools import cache
from typing import Final

from sqlglot import exp
from sqlglot.dialects import BigQuery
from sqlglot.dialects.dialect import Dialect, Dialects, NormalizationStrategy

_BY_ADAPTER: Final = {
    "alloydb": "postgres",
    "crate": "postgres",
    "cratedb": "postgres",
    "databend": "snowflake",
    "fabricspark": "spark",
    "firebolt": "postgres",
    "glue": "spark",
    "greenplum": "postgres",
    "impala": "hive",
    "mariadb": "mysql",
    "maxcompute": "hive",
    "mysql5": "mysql",
    "netezza": "postgres",
    "singlestore": "mysql",
    "spark_livy": "spark",
    "sqlserver": "tsql",
    "starburst": "trino",
    "synapse": "tsql",
    "tidb": "mysql",
    "timescaledb": "postgres",
    "vertica": "postgres",
    "watsonx_presto": "presto",
    "watsonx_spark": "spark",
    "yellowbrick": "postgres",
}
_OWN: Final = frozenset(each.value for each in Dialects if each.value)


def dialect_of(adapter: str) -> str | None:
    """The sqlglot dialect of a dbt adapter's SQL, by the adapter's type; None, sqlglot's common one, if unknown.

    A dialect's name stands for itself.
    """
    name = adapter.lower()
    return _BY_ADAPTER.get(name) or (name if name in _OWN else None)


@cache
def dialect_for(adapter: str) -> Dialect:
    """The dialect itself, made once."""
    return Dialect.get_or_raise(dialect_of(adapter))


@cache
def tables_differ_by_case(adapter: str) -> bool:
    """Whether an adapter may have two tables of one schema whose names differ in case only, quoted or not."""
    dialect = dialect_for(adapter)
    return isinstance(dialect, BigQuery) or dialect.normalization_strategy is NormalizationStrategy.CASE_SENSITIVE


class Spelling:
    """How a dialect's warehouse writes down the names that a query uses.

    Where case doesn't matter, names stay as they are written: what looks a name up looks for the very name first.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._upper = dialect.normalization_strategy is NormalizationStrategy.UPPERCASE
        self._lower = dialect.normalization_strategy is NormalizationStrategy.LOWERCASE
        self.folds = self._upper or self._lower

    def __call__(self, name: exp.Expr) -> str:
        """The name of an identifier."""
        text = name.name
        if self.folds and not name.args.get("quoted"):
            return text.upper() if self._upper else text.lower()
        return text
