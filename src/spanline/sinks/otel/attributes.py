"""What spans say of a session, a node and the warehouse: docs/traces.md has the keys in tables."""

from __future__ import annotations

from spanline import events
from spanline.events import NodeDescribed
from spanline.journal.state import NodeState, RunState, outcome_of
from spanline.results import conventions

Attributes = dict[str, "str | int | float | bool"]
Place = tuple[int, int]
"""Step and attempt; 0 is none."""


def of_place(place: Place) -> Attributes:
    """The step and the attempt, where there are any."""
    step, attempt = place
    return {conventions.STEP_NUMBER: step, **({conventions.ATTEMPT_NUMBER: attempt} if attempt else {})}


def of_session(event: events.SessionEnded, state: RunState) -> Attributes:
    """What the session has come to."""
    outcome = outcome_of(state, event)
    result = conventions.RESULTS.get(outcome, outcome)
    found: Attributes = {
        conventions.RUN: state.run_id,
        conventions.SESSION_NUMBER: event.session,
        conventions.PIPELINE_RUN: state.run_id,
        conventions.PIPELINE_RESULT: result,
        conventions.EXIT_CODE: event.exit_code,
        **of_warehouse(state),
    }
    if state.trigger_reason:
        found[conventions.TRIGGER_REASON] = state.trigger_reason
    if state.session is not None:
        found[conventions.OPENLINEAGE_RUN] = state.session.lineage_run_id
    if state.dbt is not None:
        found[conventions.DBT_VERSION] = state.dbt.dbt_version
        found[conventions.INVOCATION] = state.dbt.invocation_id
    if state.config is not None:
        found[conventions.PIPELINE_NAME] = found[conventions.PROJECT] = state.config.project or ""
        found[conventions.TARGET] = state.config.target or ""
    for status, count in state.counts.items():
        found[f"{conventions.NODES}{status.replace(' ', '_')}"] = count
    return found


def of_warehouse(state: RunState) -> Attributes:
    """The warehouse, by the conventions for databases."""
    config = state.config
    if config is None:
        return {}
    found: Attributes = {conventions.DB_SYSTEM: conventions.SYSTEMS.get(config.adapter_type, config.adapter_type)}
    for key, name in ((conventions.DB_NAMESPACE, "database"), (conventions.SERVER, "host")):
        value = config.connection.get(name)
        if value:
            found[key] = str(value)
    port = config.connection.get("port")
    if conventions.SERVER in found and port is not None and str(port).isdecimal():
        found[conventions.PORT] = int(port)
    return found


def of_node(node: NodeState, described: NodeDescribed | None) -> Attributes:
    """A node, and how it ended."""
    found: Attributes = {conventions.UNIQUE_ID: node.unique_id, conventions.OUTCOME: node.status}
    if node.rows_affected is not None:
        found[conventions.ROWS] = node.rows_affected
    if node.failing_rows is not None:
        found[conventions.FAILURES] = node.failing_rows
    if node.skipped_for:
        found[conventions.CAUSE] = node.skipped_for
    if described is None:
        return found
    found[conventions.NODE_TYPE] = described.resource_type
    if described.materialized:
        found[conventions.MATERIALIZATION] = described.materialized
    if described.path:
        found[conventions.FILE_PATH] = found[conventions.RELATIVE_PATH] = described.path
    relation = described.relation
    if relation is not None:
        found[conventions.DATABASE] = relation.database or ""
        found[conventions.SCHEMA] = relation.schema or ""
        found[conventions.IDENTIFIER] = relation.identifier
    return found


def of_result(event: events.NodeFinished) -> Attributes:
    """What else dbt's result says of a node."""
    known = {
        conventions.BYTES: event.bytes_processed,
        conventions.QUERY_ID: event.query_id,
        conventions.THREAD: event.thread or None,
    }
    return {key: value for key, value in known.items() if value is not None}
