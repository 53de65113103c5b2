"""An asset event for each model that was built, so that a DAG can be scheduled on a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from spanline.airflow import lineage
from spanline.journal.state import RunState
from spanline.sinks.openlineage import datasets

if TYPE_CHECKING:
    from airflow.sdk import Context


def uri(namespace: str, name: str) -> str:
    """The asset's URI, from the names of a dataset in OpenLineage: `postgres://host:5432/shop.marts.orders`."""
    return f"{namespace.rstrip('/')}/{name}"


def emit(state: RunState, alias: AssetAlias, context: Context) -> int:
    """Add an event for each node that was written, in whichever try of the task; how many there are."""
    found = list(lineage.written(state))
    for unique_id, name in found:
        extra = {"unique_id": unique_id, "run_id": state.run_id}
        context["outlet_events"][alias].add(Asset(uri=uri(datasets.namespace_of(state), name)), extra=extra)
    return len(found)
