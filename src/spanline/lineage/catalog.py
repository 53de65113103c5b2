"""Read the columns in dbt's catalog: https://schemas.getdbt.com/dbt/catalog/v1/index.html."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from spanline.events import Column

Columns = dict[str, list[Column]]
"""Columns, in their order, by unique id."""

log = logging.getLogger("spanline")


class _Column(msgspec.Struct):
    name: str
    type: str = ""
    index: int = 0


class _Table(msgspec.Struct):
    columns: dict[str, _Column]


class _Catalog(msgspec.Struct):
    nodes: dict[str, _Table]
    sources: dict[str, _Table]


def load(path: Path) -> Columns:
    """The columns of the catalog at this path; none where there is no catalog, or none that can be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Catalog)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("the catalog %s is left out: %s", path, error)
        return {}
    return {
        unique_id: [
            Column(column.name, column.type or None)
            for column in sorted(table.columns.values(), key=lambda column: column.index)
        ]
        for unique_id, table in (found.nodes | found.sources).items()
    }
