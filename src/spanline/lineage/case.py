"""The case of names: what a warehouse makes of a name without quotes, and which of the ways to write it lineage takes.

Which producers write which, and so which ways join with whom, is a table in docs/naming.md.
"""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase
from typing import Final, NamedTuple

from spanline.events import Relation

PROJECT, WAREHOUSE, LOWER = "project", "warehouse", "lower"
CASES: Final = (PROJECT, WAREHOUSE, LOWER)

_UPPER: Final = str.maketrans(ascii_lowercase, ascii_uppercase)
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_FOLDS: Final = {
    # adapter: what the warehouse does to a name, and whether it does so to a quoted one too
    **dict.fromkeys(("db2", "exasol", "ibmdb2", "oracle", "snowflake"), (_UPPER, False)),
    **dict.fromkeys(("greenplum", "materialize", "postgres", "risingwave"), (_LOWER, False)),
    **dict.fromkeys(("athena", "databricks", "glue", "hive", "impala", "presto", "redshift"), (_LOWER, True)),
    **dict.fromkeys(("spark", "starburst", "trino", "watsonx_presto"), (_LOWER, True)),
}


class Parts(NamedTuple):
    """The parts of a relation's name; empty where the warehouse lacks one."""

    database: str
    schema: str
    table: str


def as_written(relation: Relation) -> Parts:
    """The parts of a relation's name as the project has them."""
    return Parts(relation.database or "", relation.schema or "", relation.identifier)


def as_stored(adapter: str, relation: Relation) -> Parts:
    """The parts of a relation's name in the case in which the warehouse keeps them."""
    parts = as_written(relation)
    if adapter not in _FOLDS:
        return parts
    fold, quoted_too = _FOLDS[adapter]
    foldable = (quoted_too or bare for bare in _unquoted(relation))
    return Parts(*(part.translate(fold) if folds else part for part, folds in zip(parts, foldable, strict=True)))


def parts_in(case: str, adapter: str, relation: Relation) -> Parts:
    """The parts of a relation's name in this case."""
    if case == WAREHOUSE:
        return as_stored(adapter, relation)
    written = as_written(relation)
    return Parts(*map(str.lower, written)) if case == LOWER else written


def stored_column(adapter: str, name: str) -> str:
    """A column that the project names (in a seed's header, a test, a property) as the warehouse keeps it.

    dbt quotes the columns of a seed everywhere but on warehouses that fold to upper case:
    https://docs.getdbt.com/reference/resource-configs/quote_columns.
    """
    return name.translate(_UPPER) if _folds_to_upper(adapter) else name


def column_in(case: str, adapter: str, name: str) -> str:
    """A column's stored name in this case. The project's is the lower one of what was folded to upper."""
    if case == LOWER or (case == PROJECT and _folds_to_upper(adapter) and name == name.upper()):
        return name.lower()
    return name


def _folds_to_upper(adapter: str) -> bool:
    return _FOLDS.get(adapter, (None, False))[0] is _UPPER


def _unquoted(relation: Relation) -> list[bool]:
    """Which of database, schema and table stand without quotes in the relation as dbt writes it."""
    rest = relation.name
    bare = []
    for part in reversed(as_written(relation)):
        bare.append(bool(part) and rest.endswith(part))
        cut = len(part) if bare[-1] else len(part) + len('""')
        rest = rest[:-cut].removesuffix(".") if part else rest
    return bare[::-1]
