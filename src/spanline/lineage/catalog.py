"""Read the columns in dbt's catalog: https://schemas.getdbt.com/dbt/catalog/v1/index.html."""

from __future__ import annotations

import logging
import math
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from spanline.events import Column
from spanline.system import files


class Catalog(msgspec.Struct, frozen=True):
    """Columns, in their order, by unique id, and when they were asked for, in seconds since the epoch."""

    columns: dict[str, list[Column]] = {}
    generated: float = math.inf


_LARGEST: Final = 1 << 28
"""Bytes: of 10,000 relations a catalog has some fifty million."""

log = logging.getLogger("spanline")


class _Column(msgspec.Struct):
    name: str
    type: str = ""
    index: int = 0


class _Table(msgspec.Struct):
    columns: dict[str, _Column]


class _Metadata(msgspec.Struct, frozen=True):
    generated_at: datetime | None = None


class _Catalog(msgspec.Struct):
    nodes: dict[str, _Table]
    sources: dict[str, _Table]
    metadata: _Metadata = _Metadata()


def load(path: Path) -> Catalog:
    """The catalog at this path; an empty one where there is none, or none that can be read."""
    try:
        found = files.read_json(path, _Catalog, _LARGEST, follow=True)
    except FileNotFoundError:
        return Catalog()
    except OSError as error:
        log.warning("the catalog %s is left out: %s", path, error.strerror or error)
        return Catalog()
    generated = found.metadata.generated_at
    return Catalog(
        {unique_id: _columns(table) for unique_id, table in (found.nodes | found.sources).items()},
        generated.timestamp() if generated is not None else math.inf,
    )


def _columns(table: _Table) -> list[Column]:
    ordered = sorted(table.columns.values(), key=lambda column: column.index)
    return [Column(column.name, column.type or None) for column in ordered]
