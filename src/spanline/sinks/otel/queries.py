"""A query's span: its name, which is its summary, and what it says of the query."""

from __future__ import annotations

from collections.abc import Container, Iterator

import msgspec
from opentelemetry.trace import SpanContext

from spanline.events import NodeDescribed, Relation
from spanline.journal.state import RunState
from spanline.lineage.statements import changes, operation, summary
from spanline.results import conventions
from spanline.sinks.otel.attributes import Attributes, Place, of_warehouse
from spanline.sinks.otel.failing import Failed, response_code
from spanline.sinks.otel.sql import Shown


class Query(msgspec.Struct, frozen=True):
    """A query under way, and the span that it is part of."""

    number: int
    started: int
    sql: str
    unique_id: str | None
    place: Place
    above: SpanContext


def attributes_of(query: Query, state: RunState, shown: Shown, failed: Failed | None) -> Attributes:
    """What is known of the query before its answer; `shown` says what of its SQL may be seen."""
    optional = {
        conventions.DB_OPERATION: operation(query.sql),
        conventions.DB_SUMMARY: summary(query.sql, _relations(query, state)),
        conventions.DB_COLLECTION: _changed(query, state),
        conventions.DB_CODE: response_code(failed.message, state.adapter) if failed is not None else None,
        conventions.DB_QUERY: shown(query.sql, state.adapter or ""),
        conventions.UNIQUE_ID: query.unique_id,
    }
    return {**of_warehouse(state), **{key: value for key, value in optional.items() if value}}


def name_of(attributes: Attributes) -> str:
    """The span's: the summary, else the warehouse's name, as the conventions have it, once that is known."""
    return str(attributes.get(conventions.DB_SUMMARY) or attributes.get(conventions.DB_SYSTEM, conventions.QUERY))


def upstream(described: NodeDescribed | None, state: RunState, ran: Container[str] = ()) -> Iterator[str]:
    """What the node is made from, each once; in place of an ephemeral model, which is part of its SQL, what is behind.

    Those of `ran` stand for themselves.
    """
    seen: set[str] = set()
    left = list(reversed(described.depends_on)) if described is not None else []
    while left:
        unique_id = left.pop()
        if unique_id in seen:
            continue
        seen.add(unique_id)
        found = state.descriptions.get(unique_id)
        if found is not None and found.is_ephemeral and unique_id not in ran:
            left += reversed(found.depends_on)
        else:
            yield unique_id


def _relations(query: Query, state: RunState) -> Iterator[Relation]:
    """Those that a query of a node may plainly read: what the node is made from, and its own."""
    described = state.descriptions.get(query.unique_id or "")
    for unique_id in (*upstream(described, state), query.unique_id or ""):
        found = state.descriptions.get(unique_id)
        if found is not None and found.relation is not None:
            yield found.relation


def _changed(query: Query, state: RunState) -> str | None:
    """The relation of its node, where it is that one, and not one beside it, that the query makes or changes."""
    described = state.descriptions.get(query.unique_id or "")
    relation = described.relation if described is not None else None
    return relation.identifier if relation is not None and changes(query.sql, relation.name) else None
