"""Describe dbt's objects as plain data: nodes, connections, results.

dbt's classes differ between its versions, so every attribute is asked for with a default.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from .shared.in_text import masked_address
from .shared.secrets import secrets_of_address, secrets_of_mapping
from .shared.telling import looks_secret

Fields = dict[str, Any]
"""Plain, JSON-able fields of one record."""


def with_upstreams(nodes: Iterable[Any], manifest: Any, known: set[str]) -> Iterator[Any]:
    """These nodes, and before each its upstream nodes, except what is `known`, to which they are added."""
    left = [(node, False) for node in nodes]
    while left:  # no recursion: a chain of nodes may be longer than Python's stack
        node, upstream_is_out = left.pop()
        if upstream_is_out:
            yield node
        elif node.unique_id not in known:
            known.add(node.unique_id)
            left.append((node, True))
            left += [(upstream, False) for upstream in _upstream(node, manifest)]


def _upstream(node: Any, manifest: Any) -> list[Any]:
    """What of the manifest's nodes and sources this one is made from."""
    unique_ids = getattr(getattr(node, "depends_on", None), "nodes", None) or () if manifest is not None else ()
    found = (manifest.nodes.get(unique_id) or manifest.sources.get(unique_id) for unique_id in unique_ids)
    return [upstream for upstream in found if upstream is not None]


def exposures_of(chosen: set[str], manifest: Any) -> list[Any]:
    """Those that show what of the manifest was chosen: dbt runs none, so nothing else tells of them."""
    exposures = (getattr(manifest, "exposures", None) or {}).values()
    return [exposure for exposure in exposures if not chosen.isdisjoint(exposure.depends_on.nodes)]


def node(node: Any, manifest: Any = None, *, full_refresh: bool = False) -> Fields:
    """Describe a node of the manifest (a model, seed, snapshot, test, unit test, source, exposure, function …).

    `full_refresh` says whether dbt makes incremental models anew where they don't say otherwise.
    """
    config = getattr(node, "config", None)
    depends_on = getattr(node, "depends_on", None)
    checksum = getattr(node, "checksum", None)
    fields = {
        "unique_id": node.unique_id,
        "resource_type": _kind(node),
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
        "meta": _meta(node),
        "owners": _owners(node, manifest),
        "checksum": getattr(checksum, "checksum", None) or None,
        "added_columns": _added_columns(node, config),
        "on_schema_change": _on_schema_change(node, config, full_refresh=full_refresh),
        "table_format": getattr(config, "table_format", None),
        "catalog": getattr(config, "catalog_name", None) or getattr(config, "catalog", None),
        "test": _test(node, config),
        "exposure": _exposure(node),
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
    """The columns of a node that the project knows: the documented ones, of a seed all that its header names."""
    documented = {
        column.name: {
            key: value
            for key, value in (
                ("name", column.name),
                ("data_type", column.data_type),
                ("description", column.description),
            )
            if value
        }
        for column in (getattr(node, "columns", None) or {}).values()
    }
    if _kind(node) != "seed":
        return list(documented.values())
    types = getattr(node.config, "column_types", None) or {}
    by_name = {name.lower(): fields for name, fields in documented.items()}
    found = []
    for name in _header(node):
        fields = {"name": name, **({"data_type": str(types[name])} if name in types else {})}
        found.append({**fields, **by_name.pop(name.lower(), {}), "name": name})
    return [*found, *by_name.values()]


def _header(node: Any) -> list[str]:
    """The first line of a seed's file; nothing where it can't be read, which dbt will say."""
    root = getattr(node, "root_path", None)
    if not root:
        return []
    try:
        with open(os.path.join(root, node.original_file_path), encoding="utf-8-sig", newline="") as file:  # noqa: PTH118
            return next(csv.reader(file, delimiter=getattr(node.config, "delimiter", None) or ","), [])
    except (OSError, UnicodeError, csv.Error):
        return []


def _added_columns(node: Any, config: Any) -> list[str]:
    """What dbt adds to a snapshot: https://docs.getdbt.com/reference/resource-configs/snapshot_meta_column_names."""
    if _kind(node) != "snapshot":
        return []
    named = getattr(config, "snapshot_meta_column_names", None)
    names = ["dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"]
    if getattr(config, "hard_deletes", None) == "new_record":
        names.append("dbt_is_deleted")
    return [getattr(named, name, None) or name for name in names]


def _on_schema_change(node: Any, config: Any, *, full_refresh: bool) -> str | None:
    """What dbt does to a relation that is there: https://docs.getdbt.com/docs/build/incremental-models.

    To a snapshot it adds columns, and never takes one away.
    """
    if _kind(node) == "snapshot":
        return "append_new_columns"
    if getattr(config, "materialized", None) != "incremental":
        return None
    refresh = getattr(config, "full_refresh", None)
    if full_refresh if refresh is None else refresh:
        return None
    return getattr(config, "on_schema_change", None) or "ignore"


def _kind(node: Any) -> str:
    return str(getattr(node.resource_type, "value", node.resource_type))


def _owners(node: Any, manifest: Any) -> list[Fields]:
    """Who answers for a node: an exposure's own owner, those that its meta names, or those of its group."""
    group = getattr(node, "group", None)
    own = list(_each_owner(getattr(node, "owner", None) or _meta(node).get("owner")))
    if own or not group:
        return own
    groups = getattr(manifest, "groups", None) or {}
    of_group = next((each.owner for each in groups.values() if each.name == group), None)
    return list(_each_owner(of_group)) or [{"name": str(group)}]


def _each_owner(said: Any) -> Iterator[Fields]:
    """Owners as a project writes them: a name, a name with addresses, addresses alone, or a list of such."""
    if isinstance(said, (list, tuple)):
        for each in said:
            yield from _each_owner(each)
        return
    known = said if isinstance(said, dict) else getattr(said, "__dict__", {"name": said})
    names, emails = _each(known.get("name")), _each(known.get("email"))
    addresses: Fields = {"emails": emails} if emails else {}
    for name in names:
        yield {"name": name, **addresses}
    if addresses and not names:
        yield addresses


def _each(said: Any) -> list[str]:
    return [str(one) for one in (said if isinstance(said, (list, tuple)) else [said]) if one not in (None, "")]


def _meta(node: Any) -> Fields:
    return getattr(node, "meta", None) or getattr(getattr(node, "config", None), "meta", None) or {}


def _test(node: Any, config: Any) -> Fields | None:
    resource_type = _kind(node)
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
        "warn_if": getattr(config, "warn_if", None),
        "error_if": getattr(config, "error_if", None),
        "arguments": {
            name: value
            for name, value in (metadata.kwargs if metadata else {}).items()
            if name not in ("model", "column_name")
        },
    }


def _exposure(node: Any) -> Fields | None:
    if _kind(node) != "exposure":
        return None
    kind = getattr(node, "type", None)
    fields = {
        "type": getattr(kind, "value", kind),
        "url": getattr(node, "url", None),
        "label": getattr(node, "label", None),
    }
    return {name: value for name, value in fields.items() if value}


_ADDRESSES = ("dsn", "connection_string")
"""Settings that hold a secret only where `secrets_of_address` finds one; elsewhere they say where the warehouse is."""


def connection(credentials: Any) -> Fields:
    """The public part of a profile's credentials: what `dbt debug` shows, never a password."""
    # They name the warehouse, and some adapters don't show them: Spark's port and method, Fabric's host.
    addressing = {name: getattr(credentials, name, None) for name in ("port", "method", "host")}
    shown = {**addressing, **dict(credentials.connection_info())}
    return {
        name: masked_address(value) if isinstance(value, str) else value
        for name, value in shown.items()
        if isinstance(value, (str, int, float, bool)) and _is_public(name)
    }


def _is_public(name: str) -> bool:
    # An adapter's list of what it shows is not to be trusted: dbt-ibmdb2's has the password.
    return name in _ADDRESSES or not looks_secret(name)


def credential_secrets(credentials: Any) -> Iterator[str]:
    """Texts of a profile's credentials that are not public, whatever their names.

    A text that also stands among the public ones (a password equal to the user's name) can't be told from it,
    and is left.
    """
    public = {*map(str, connection(credentials).values()), credentials.type}
    public |= {getattr(credentials, name, None) for name in ("database", "schema")}  # not every adapter shows them
    shown = set(filter(_is_public, credentials._connection_keys())) | {
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
            if isinstance(value, str):
                yield from secrets_of_address(value)
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


_MOST = (1 << 63) - 1
_OF_RESPONSE = frozenset(("rows_affected", "bytes_processed", "data_scanned_in_bytes", "query_id", "job_id"))


def response(response: Any) -> Fields:
    """What readers need of an adapter's response: rows, bytes, and the warehouse's id of the query."""
    found = {key: response[key] for key in response if key in _OF_RESPONSE}
    fields = {
        "rows_affected": _whole(found.get("rows_affected")),
        "bytes_processed": _whole(found.get("bytes_processed") or found.get("data_scanned_in_bytes")),
        "query_id": found.get("query_id") or found.get("job_id"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _whole(value: object) -> int | None:
    # A protobuf Struct holds every number as a float; adapters answer -1 for "unknown".
    return integer(value) if isinstance(value, (int, float)) and 0 <= value < math.inf else None


def integer(value: float) -> int:
    """The number as one of 64 bits, which is the most that backends take."""
    return max(-_MOST, min(int(value), _MOST))


def batches(result: Any) -> Fields | None:
    """The batches of a microbatch model that succeeded and failed, as pairs of ISO times."""
    found = getattr(result, "batch_results", None)
    if found is None:
        return None
    return {"successful": periods(found.successful), "failed": periods(found.failed)}


def periods(batches: Iterable[tuple[datetime, datetime]]) -> list[list[str]]:
    """Start and end of each batch, in ISO 8601."""
    return [[start.isoformat(), end.isoformat()] for start, end in batches]


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
    criteria = getattr(getattr(result, "node", None), "freshness", None)
    for name in ("warn_after", "error_after"):
        limit = getattr(criteria, name, None)
        if limit is not None and limit.count is not None:
            fields[name] = f"{limit.count} {getattr(limit.period, 'value', limit.period)}"
    return fields
