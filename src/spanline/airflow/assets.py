"""An asset event for each model that was built, so that a DAG can be scheduled on a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from spanline.journal.state import SUCCESS, RunState
from spanline.sinks.openlineage import datasets

if TYPE_CHECKING:
    from airflow.sdk import Context


def uri(namespace: str, name: str) -> str:
    """The asset's URI, from the names of a dataset in OpenLineage: `postgres://host:5432/shop.marts.orders`."""
    return f"{namespace.rstrip('/')}/{name}"


def emit(state: RunState, alias: AssetAlias, context: Context) -> int:
    """Add an event for each node that was written; how many there are."""
    found = list(_built(state))
    for unique_id, name in found:
        extra = {"unique_id": unique_id, "run_id": state.run_id}
        context["outlet_events"][alias].add(Asset(uri=uri(datasets.namespace_of(state), name)), extra=extra)
    return len(found)


def _built(state: RunState) -> Iterator[tuple[str, str]]:
    for unique_id, node in state.nodes.items():
        described = state.descriptions.get(unique_id)
        name = datasets.written_by(described) if described is not None else None
        if name is not None and node.status == SUCCESS:
            yield unique_id, name
