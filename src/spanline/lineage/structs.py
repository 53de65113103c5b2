"""The fields of structs, as far as the SQL or a type says them: UNNEST makes a column of each, in DuckDB."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.errors import SqlglotError


def fields_of(node: exp.Expr, type_: str | None, *, within_lists: bool) -> Sequence[str] | None:
    """The names of a struct's fields, also of those in lists; none of what is no struct, None where nobody knows."""
    node = node.unnest()
    if isinstance(node, exp.Struct) and within_lists and len(list(node.find_all(exp.Struct))) > 1:
        return None  # what is in it is taken apart, too
    if isinstance(node, exp.Struct):
        return [each.name if isinstance(each, exp.PropertyEQ) else "" for each in node.expressions]
    if isinstance(node, exp.Array):
        first = node.expressions[0] if node.expressions else None
        return () if first is None or not within_lists else fields_of(first, None, within_lists=True)
    if isinstance(node, (exp.GenerateSeries, exp.Split)):
        return ()
    if isinstance(node, exp.Cast):
        return _of_type(node.to, within_lists=within_lists)
    return _of_written(type_, within_lists=within_lists) if type_ else None


def _of_written(type_: str, *, within_lists: bool) -> Sequence[str] | None:
    try:
        return _of_type(exp.DataType.build(type_, "duckdb"), within_lists=within_lists)
    except SqlglotError:
        return None


def _of_type(type_: exp.DataType, *, within_lists: bool) -> Sequence[str] | None:
    if type_.is_type(exp.DType.STRUCT):
        fields = [each for each in type_.expressions if isinstance(each, exp.ColumnDef)]
        nested = within_lists and any(
            not field.kind or _of_type(field.kind, within_lists=True) != () for field in fields
        )
        return None if nested or len(fields) < len(type_.expressions) else [field.name for field in fields]
    if type_.this in (exp.DType.USERDEFINED, exp.DType.UNKNOWN):
        return None
    if within_lists and type_.is_type(exp.DType.ARRAY, exp.DType.LIST) and type_.expressions:
        return _of_type(type_.expressions[0], within_lists=True)
    return ()
