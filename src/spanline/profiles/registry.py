"""The available adapters: Spanline's, and those that packages register by entry point."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from spanline.profiles.adapter import Adapter
from spanline.profiles.connection import Connection, failure

ENTRY_POINTS: Final = "spanline.profiles"
"""The group in which others register an `Adapter`, or a function that returns one."""
_OURS: Final = (
    *("athena", "bigquery", "clickhouse", "databricks", "dremio", "duckdb", "exasol", "glue", "mysql", "oracle"),
    *("postgres", "redshift", "snowflake", "spark", "sqlite", "sqlserver", "teradata", "trino", "vertica"),
)
"""The modules in `adapters/`, each with the adapters of one package."""


def ours() -> dict[str, Adapter]:
    """Our adapters, by dbt's names of them."""
    modules = (importlib.import_module(f"spanline.profiles.adapters.{name}") for name in _OURS)
    return {adapter.name: adapter for module in modules for adapter in module.ADAPTERS}


def find(connection: Connection, name: str | None) -> Adapter:
    """The adapter of that name, or else the one for this type of connection. Raises `DbtProfileException`."""
    known = ours()
    fitting = _fitting(known, connection, name)
    if not fitting:
        known = {**known, **_of_others(connection)}
        fitting = _fitting(known, connection, name)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(adapter.name for adapter in fitting)
        raise failure(f"{connection.conn_type} fits several adapters, {names}: name one", conn_id=connection.conn_id)
    of_type = f"unknown conn_type {connection.conn_type}" if connection.conn_type else "its conn_type is missing"
    what = f"unknown adapter {name}" if name else of_type
    types = [] if name else [kind for adapter in known.values() for kind in adapter.conn_types]
    raise failure(f"{what}; known are {', '.join(sorted({*known, *types}))}", conn_id=connection.conn_id)


def _fitting(known: Mapping[str, Adapter], connection: Connection, name: str | None) -> list[Adapter]:
    asked = name or connection.conn_type
    if asked in known:
        return [known[asked]]
    return [] if name else [adapter for adapter in known.values() if asked in adapter.conn_types]


def _of_others(connection: Connection) -> dict[str, Adapter]:
    found = (_loaded(entry_point, connection) for entry_point in entry_points(group=ENTRY_POINTS))
    return {adapter.name: adapter for adapter in found}


def _loaded(entry_point: EntryPoint, connection: Connection) -> Adapter:
    try:
        found = entry_point.load()
        adapter = found if isinstance(found, Adapter) else found()
    except Exception as error:
        raise failure(
            f"the adapter {entry_point.name} ({entry_point.value}) can't be loaded: {type(error).__name__}: {error}",
            conn_id=connection.conn_id,
        ) from error
    if not isinstance(adapter, Adapter):
        raise failure(f"{entry_point.value} is not an Adapter of spanline.profiles", conn_id=connection.conn_id)
    return adapter
