"""The column resolver: from a session's events to what columns its nodes have, which is an event like any other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spanline import events
from spanline.events import Column, ColumnInput, ColumnsResolved, Event, NodeDescribed
from spanline.lineage import catalog, columns, names
from spanline.lineage.cache import Cache

_MOST_COLUMNS: Final = 5_000
_RESOLVED: Final = frozenset(("model", "snapshot"))

log = logging.getLogger("spanline")

Known = Sequence[Column]


class Resolver:
    """Takes events of one session, in order, and yields what it finds out."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._schema = columns.Schema()
        self._adapter = ""
        self._namespace = ""
        self._catalog: catalog.Columns = {}
        self._nodes: dict[str, NodeDescribed] = {}
        self._datasets: dict[columns.Relation, str] = {}
        self._defaults: tuple[str | None, str | None] = (None, None)

    def take(self, event: Event) -> ColumnsResolved | None:
        """What this event lets us know."""
        if isinstance(event, events.DbtConfigured):
            self._configure(event)
        elif isinstance(event, NodeDescribed):
            return self._described(event)
        elif isinstance(event, ColumnsResolved):  # the runner's, which has asked the warehouse
            self._asked(event)
        elif isinstance(event, events.NodeCompiled):
            return self._compiled(event)
        return None

    def _configure(self, event: events.DbtConfigured) -> None:
        self._adapter = event.adapter_type
        self._namespace = names.dataset_namespace(event.adapter_type, event.connection)
        self._schema = columns.Schema(event.adapter_type)
        self._defaults = (_text(event.connection.get("database")), _text(event.connection.get("schema")))
        if event.target_path and event.project_dir:
            self._catalog = catalog.load(Path(event.project_dir, event.target_path, "catalog.json"))

    def _described(self, node: NodeDescribed) -> ColumnsResolved | None:
        self._nodes[node.unique_id] = node
        name = names.dataset_name(node)
        if name is None:
            return None
        in_catalog = self._catalog.get(node.unique_id)
        found = in_catalog or self._cache.relation(self._namespace, name)
        if not found:
            # The project's own words stand; they may leave columns out, unless they are a seed's header.
            self._know(node, node.columns, complete=node.resource_type == "seed")
            return None
        # A seed has the columns of its header, whatever its table had before.
        of_header = node.columns if node.resource_type == "seed" else []
        known = _documented(of_header or found, node, found)
        self._know(node, known)
        origin = "catalog" if in_catalog else "earlier"
        return ColumnsResolved(unique_id=node.unique_id, origin=origin, columns=known)

    def _asked(self, event: ColumnsResolved) -> None:
        node = self._nodes.get(event.unique_id)
        if node is not None and event.columns:
            self._know(node, event.columns)
            self._remember(node, event.columns)

    def _compiled(self, event: events.NodeCompiled) -> ColumnsResolved | None:
        node = self._nodes.get(event.unique_id)
        if node is None or node.resource_type not in _RESOLVED or node.language != "sql":
            return None
        this = _place(node)
        found = self._cache.analysis(
            event.sql,
            self._adapter,
            self._schema,
            this,
            lambda: columns.analyse(event.sql, self._adapter, self._schema, this),
        )
        resolved = self._resolved(node, found)
        if found.complete and resolved.columns:
            self._know(node, resolved.columns)
            self._remember(node, resolved.columns)
        return resolved

    def _resolved(self, node: NodeDescribed, found: columns.Analysis) -> ColumnsResolved:
        own = names.dataset_name(node)
        numbers: dict[str, int] = {}
        lineage = {column.name: self._inputs(column.inputs, numbers, own) for column in found.columns[:_MOST_COLUMNS]}
        reads = self._inputs(found.dataset, numbers, own)
        in_catalog = self._catalog.get(node.unique_id, ())
        derived = [Column(column.name, column.data_type) for column in found.columns[:_MOST_COLUMNS]]
        error = found.error
        if len(found.columns) > _MOST_COLUMNS:
            error = f"cut: {len(found.columns)} columns, of which the first {_MOST_COLUMNS} are told"
        elif not found.complete and error is None:
            error = "there may be more columns: a `*` is over a relation whose columns aren't all known"
        if not found.complete:
            derived = _together(in_catalog or node.columns, derived)
        if derived:
            derived = _together(derived, [Column(name) for name in node.added_columns])
        return ColumnsResolved(
            unique_id=node.unique_id,
            origin="sql",
            columns=_documented(derived, node, in_catalog),
            datasets=list(numbers),
            lineage={name: inputs for name, inputs in lineage.items() if inputs},
            reads=reads,
            error=error,
        )

    def _inputs(self, inputs: Sequence[columns.Input], numbers: dict[str, int], own: str | None) -> list[ColumnInput]:
        """What is read, without what an incremental model reads of itself."""
        found = []
        for one in inputs:
            name = self._dataset(one.field.relation)
            if name != own:
                kinds = [f"{kind.type}:{kind.subtype}" for kind in one.transformations]
                found.append(ColumnInput(numbers.setdefault(name, len(numbers)), one.field.name, kinds))
        return found

    def _dataset(self, relation: columns.Relation) -> str:
        """The name of what SQL reads: a node's, else what the SQL says, in the place where dbt connects to."""
        known = self._datasets.get(self._schema.key(relation))
        if known is not None:
            return known
        database, schema, identifier = relation
        return names.dotted(database or self._defaults[0], schema or self._defaults[1], identifier)

    def _know(self, node: NodeDescribed, known: Known, *, complete: bool = True) -> None:
        place, name = _place(node), names.dataset_name(node)
        if place is None or name is None:
            return
        self._datasets.setdefault(self._schema.key(place), name)
        # Of two nodes that are one relation (a source that is somebody's seed) either may know less.
        if known and (complete or not self._schema.complete(place)):
            self._schema.add(place, [(column.name, column.data_type) for column in known], complete=complete)

    def _remember(self, node: NodeDescribed, known: Known) -> None:
        name = names.dataset_name(node)
        if name is not None:
            self._cache.remember_relation(self._namespace, name, [Column(c.name, c.data_type) for c in known])


def _place(node: NodeDescribed) -> columns.Relation | None:
    relation = node.relation
    return (relation.database, relation.schema, relation.identifier) if relation is not None else None


def _documented(found: Known, node: NodeDescribed, typed: Known = ()) -> list[Column]:
    """Columns that were found, with the types and descriptions that are known of them otherwise."""
    types = {column.name.casefold(): column.data_type for column in typed}
    words = {column.name.casefold(): column for column in node.columns}
    result = []
    for column in found:
        key = column.name.casefold()
        documented = words.get(key)
        result.append(
            Column(
                column.name,
                types.get(key) or (documented.data_type if documented else None) or column.data_type,
                documented.description if documented else None,
            )
        )
    return result


def _together(known: Known, more: Known) -> list[Column]:
    """The columns of both, each once, as `more` writes it."""
    others = {column.name.casefold(): column for column in more}
    return [*(others.pop(column.name.casefold(), column) for column in known), *others.values()]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
