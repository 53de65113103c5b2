"""Describe dbt's objects as plain data: nodes, connections, results.

dbt's classes differ between its versions, so every attribute is asked for with a default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .secrets import looks_secret, secrets_of_mapping

Fields = dict[str, Any]
"""Plain, JSON-able fields of one record."""


def node(node: Any) -> Fields:
    """Describe a node of the manifest (a model, seed, snapshot, test, unit test, source, exposure, function …)."""
    config = getattr(node, "config", None)
    depends_on = getattr(node, "depends_on", None)
    checksum = getattr(node, "checksum", None)
    fields = {
        "unique_id": node.unique_id,
        "resource_type": str(getattr(node.resource_type, "value", node.resource_type)),
        "name": node.name,
        "package_name": node.package_name,
        "materialized": getattr(config, "materialized", None),
        "language": getattr(node, "language", None),
        "path": getattr(node, "original_file_path", None),
        "description": getattr(node, "description", None),
        "relation": relation(node),
        "columns": columns(node),
        "depends_on": list(getattr(depends_on, "nodes", None) or ()),
        "tags": list(getattr(node, "tags", None) or ()),
        "meta": getattr(node, "meta", None) or getattr(config, "meta", None),
        "owner": _owner(node),
        "checksum": getattr(checksum, "checksum", None) or None,
        "test": _test(node, config),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def relation(node: Any) -> Fields | None:
    """The relation that a node is, or will be, in the warehouse; None where it has none there."""
    config = getattr(node, "config", None)
    if getattr(config, "materialized", None) == "ephemeral":
        return None
    name = getattr(node, "relation_name", None)
    identifier = getattr(node, "identifier", None) or getattr(node, "alias", None)
    if not name or not identifier:
        return None
    return {
        "database": node.database,
        "schema": node.schema,
        "identifier": identifier,
        "name": name,
    }


def columns(node: Any) -> list[Fields]:
    """The documented columns of a node."""
    return [
        {
            key: value
            for key, value in (
                ("name", column.name),
                ("data_type", column.data_type),
                ("description", column.description),
            )
            if value
        }
        for column in (getattr(node, "columns", None) or {}).values()
    ]


def _owner(node: Any) -> Fields | None:
    owner = getattr(node, "owner", None)
    if owner is not None:
        named = {key: getattr(owner, key, None) for key in ("name", "email")}
        return {key: value for key, value in named.items() if isinstance(value, str)} or None
    meta = getattr(node, "meta", None) or {}
    named_in_meta = meta.get("owner") or getattr(node, "group", None)
    return {"name": str(named_in_meta)} if named_in_meta else None


def _test(node: Any, config: Any) -> Fields | None:
    resource_type = str(getattr(node.resource_type, "value", node.resource_type))
    if resource_type == "unit_test":
        # `tested_node_unique_id` is empty but while dbt builds the test; dbt itself takes it from here.
        return {"name": "unit_test", "attached_node": next(iter(node.depends_on.nodes), None)}
    if resource_type != "test":
        return None
    metadata = getattr(node, "test_metadata", None)
    return {
        "name": metadata.name if metadata else node.name,
        "kind": "generic" if metadata else "singular",
        "severity": str(getattr(config, "severity", "error")).lower(),
        "column": getattr(node, "column_name", None),
        "attached_node": getattr(node, "attached_node", None),
    }


def connection(credentials: Any) -> Fields:
    """The public part of a profile's credentials: what `dbt debug` shows, never a password."""
    # Port and method name the warehouse, and some adapters (Spark's) don't show them.
    addressing = {name: getattr(credentials, name, None) for name in ("port", "method")}
    shown = {**addressing, **dict(credentials.connection_info())}
    return {name: value for name, value in shown.items() if isinstance(value, (str, int, float, bool))}


def credential_secrets(credentials: Any) -> Iterator[str]:
    """Texts of a profile's credentials that are not public, whatever their names.

    A text that also stands among the public ones (a password equal to the user's name) can't be told from it,
    and is left.
    """
    public = set(map(str, connection(credentials).values())) | {credentials.type}
    shown = set(credentials._connection_keys()) | {
        "type",
        "threads",
        "keepalives_idle",
        "sslmode",
        "extensions",
    }
    for name, value in credentials.to_dict(omit_none=True).items():
        if name in shown:
            # What is public may hold what isn't, by its name: DuckDB's settings hold the keys of S3.
            yield from secrets_of_mapping(value)
            continue
        for text in _texts(value):
            # A short text under a name that isn't a credential's is an option ("true", "prefer", "verify-ca").
            if text not in public and len(text) >= (3 if looks_secret(name) else 12):
                yield text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def response(response: Any) -> Fields:
    """What readers need of an adapter's response: rows, bytes, and the warehouse's id of the query."""
    found = {key: response[key] for key in response}
    fields = {
        "rows_affected": _whole(found.get("rows_affected")),
        "bytes_processed": _whole(found.get("bytes_processed") or found.get("data_scanned_in_bytes")),
        "query_id": found.get("query_id") or found.get("job_id"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _whole(value: object) -> int | None:
    # A protobuf Struct holds every number as a float; adapters answer -1 for "unknown".
    return int(value) if isinstance(value, (int, float)) and value >= 0 else None


def batches(result: Any) -> Fields | None:
    """The batches of a microbatch model that succeeded and failed, as pairs of ISO times."""
    found = getattr(result, "batch_results", None)
    if found is None:
        return None
    return {
        "successful": [[start.isoformat(), end.isoformat()] for start, end in found.successful],
        "failed": [[start.isoformat(), end.isoformat()] for start, end in found.failed],
    }


def freshness(result: Any) -> Fields:
    """The result of one source's freshness check. Times are ISO 8601, the age is in seconds."""
    fields = {"status": str(getattr(result.status, "value", result.status))}
    for name in ("max_loaded_at", "snapshotted_at"):
        moment = getattr(result, name, None)
        if moment is not None:
            fields[name] = moment.isoformat()
    age = getattr(result, "age", None)
    if age is not None:
        fields["age"] = age
    return fields
