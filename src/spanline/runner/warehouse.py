"""Ask the warehouse which columns sources have that the project documents none of: as `dbt docs generate` asks.

Once in an invocation, over dbt's own adapter and connections, before the first node runs; only where it is asked for.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .shared.settings import WAREHOUSE_COLUMNS

_ON = ("1", "true", "yes", "on")

Columns = list[dict[str, str]]


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to ask."""
    return environ.get(WAREHOUSE_COLUMNS, "").strip().lower() in _ON


def undocumented_sources(chosen: Iterable[str], manifest: Any) -> list[Any]:
    """The sources that the chosen nodes, or what is upstream of them, read and nobody has described."""
    waiting, seen = list(chosen), set()
    while waiting:
        unique_id = waiting.pop()
        if unique_id in seen:
            continue
        seen.add(unique_id)
        node = manifest.nodes.get(unique_id)
        if node is not None:
            waiting.extend(node.depends_on.nodes)
    return [source for unique_id, source in manifest.sources.items() if unique_id in seen and not source.columns]


def columns_of(sources: list[Any], config: Any) -> Iterator[tuple[str, Columns]]:
    """The columns of each source that the warehouse knows, by its unique id."""
    from dbt.adapters.factory import get_adapter

    adapter = get_adapter(config)
    relations = {source.unique_id: adapter.Relation.create_from(config, source) for source in sources}
    with adapter.connection_named("spanline_columns"):
        table, problems = adapter.get_filtered_catalog(
            sources, {(source.database, source.schema) for source in sources}, set(relations.values())
        )
    if problems:
        raise RuntimeError(f"the warehouse was asked for columns of sources: {problems[0]}")
    found: dict[tuple[str, ...], list[tuple[int, str, str]]] = defaultdict(list)
    for row in table.rows:
        key = _key(row["table_database"], row["table_schema"], row["table_name"])
        found[key].append((int(row["column_index"]), row["column_name"], row["column_type"]))
    for source in sources:
        columns = sorted(found.get(_key(source.database, source.schema, source.identifier), ()))
        if columns:
            yield source.unique_id, [{"name": name, "data_type": str(kind)} for _, name, kind in columns]


def _key(*parts: object) -> tuple[str, ...]:
    return tuple(str(part or "").lower() for part in parts)
