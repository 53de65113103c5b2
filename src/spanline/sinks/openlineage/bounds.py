"""Keep an event under a megabyte, which brokers and backends take: large facets are cut, and the event says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar, cast

import attr
from openlineage.client.event_v2 import Dataset, JobEvent, RunEvent
from openlineage.client.facet_v2 import RunFacet, column_lineage_dataset, schema_dataset
from openlineage.client.serde import Serde

from spanline.sinks.openlineage.facets import PRODUCER, SCHEMAS

EVENT_BYTES: Final = 1_000_000
SQL_CHARACTERS: Final = 200_000
_FIELD_BYTES: Final = 300
"""A generous guess of what one field, or one input of one, takes: an exact look at every event would cost too much."""

AnyEvent = TypeVar("AnyEvent", RunEvent, JobEvent)


@attr.define
class SpanlineCutFacet(RunFacet):
    """Facets that were left out, or shortened, because the event was too large. `docs/facets/spanline_cut.md`."""

    facets: list[str]

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMAS}/SpanlineCutFacet.json#/$defs/SpanlineCutFacet"


def bounded(event: AnyEvent) -> AnyEvent:
    """The event, without its largest facets where it would be larger than `EVENT_BYTES`."""
    if _guess(event) < EVENT_BYTES // 2 or _size(event) <= EVENT_BYTES:
        return event
    left_out: list[str] = []
    for holder, name in _cuttable(event):
        facets = dict(holder.facets or {})
        if facets.pop(name, None) is None:
            continue
        holder.facets = facets  # the datasets' facets are shared between events
        left_out.append(f"{holder.name}: {name}")
        if isinstance(event, RunEvent):
            event.run.facets = {
                **(event.run.facets or {}),
                "spanline_cut": SpanlineCutFacet(facets=left_out, producer=PRODUCER),
            }
        if _size(event) <= EVENT_BYTES:
            break
    return event


def _cuttable(event: RunEvent | JobEvent) -> Iterator[tuple[Dataset, str]]:
    """What may go, the least useful first."""
    inputs: list[Dataset] = sorted(event.inputs or [], key=_fields, reverse=True)
    outputs: list[Dataset] = list(event.outputs or [])
    for dataset in inputs:
        yield dataset, "schema"
    for dataset in outputs:
        yield dataset, "columnLineage"
    for dataset in outputs:
        yield dataset, "schema"
    for dataset in (*inputs, *outputs):
        for name in ("tags", "documentation", "dbt_exposures"):
            yield dataset, name


def _guess(event: RunEvent | JobEvent) -> int:
    fields = sum(map(_fields, [*(event.inputs or []), *(event.outputs or [])]))
    sql = (event.job.facets or {}).get("sql")
    return fields * _FIELD_BYTES + len(getattr(sql, "query", "")) * 2


def _fields(dataset: Dataset) -> int:
    facets = dataset.facets or {}
    schema, lineage = facets.get("schema"), facets.get("columnLineage")
    count = 3  # its other facets
    if isinstance(schema, schema_dataset.SchemaDatasetFacet):
        fields = schema.fields or []
        count += len(fields) + sum(len(field.description or "") for field in fields) // _FIELD_BYTES
    if isinstance(lineage, column_lineage_dataset.ColumnLineageDatasetFacet):
        count += len(lineage.dataset or [])
        inputs = (cast("dict[str, list[object]]", field)["inputFields"] for field in lineage.fields.values())
        count += sum(map(len, inputs))
    return count


def _size(event: RunEvent | JobEvent) -> int:
    return len(Serde.to_json(event))
