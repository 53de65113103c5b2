"""The column resolver: from a session's events to what columns its nodes have, which is an event like any other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from spanline import events
from spanline.events import Column, ColumnInput, ColumnsResolved, Event, NodeDescribed
from spanline.lineage import catalog, columns, names
from spanline.lineage.cache import Cache
from spanline.lineage.case import stored_column
from spanline.lineage.statements import replaces

_MOST_COLUMNS: Final = 5_000
_RESOLVED: Final = frozenset(("model", "snapshot"))
_BUILD: Final = frozenset(("build", "run", "snapshot"))
"""dbt's commands that make the relations whose SQL they compile."""
_BUILT: Final = frozenset(("success", "partial success"))
_ADD_ONLY: Final = "append_new_columns"
_SYNC: Final = "sync_all_columns"

log = logging.getLogger("spanline")

Known = Sequence[Column]


class _Compiled(msgspec.Struct):
    """What a node has once it is built: `anew` where its relation is made anew, `kept` where that stays."""

    anew: ColumnsResolved
    kept: ColumnsResolved
    complete: bool
    replaced: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only what dbt does can tell which."""
        return self.kept is not self.anew

    @property
    def resolved(self) -> ColumnsResolved:
        """Which of them it is by now."""
        return self.anew if self.replaced else self.kept


class Resolver:
    """Takes events of one session, in order, and yields what it finds out.

    What SQL says of a relation holds for other nodes of the run at once, and for other runs once it has been built.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._schema = columns.Schema()
        self._adapter = ""
        self._namespace = ""
        self._command = ""
        self._catalog = catalog.Catalog()
        self._nodes: dict[str, NodeDescribed] = {}
        self._types: dict[str, Known] = {}
        self._earlier: dict[str, Known] = {}
        self._compiled: dict[str, _Compiled] = {}
        self._datasets: dict[columns.Relation, str] = {}
        self._defaults: tuple[str | None, str | None] = (None, None)

    def take(self, event: Event) -> ColumnsResolved | None:
        """What this event lets us know."""
        if isinstance(event, events.DbtStarted):
            self._command = event.command
        elif isinstance(event, events.Selection):
            self._command = event.repeats or self._command
        elif isinstance(event, events.DbtConfigured):
            self._configure(event)
        elif isinstance(event, NodeDescribed):
            return self._described(event)
        elif isinstance(event, ColumnsResolved):  # the runner's, which has asked the warehouse
            self._asked(event)
        elif isinstance(event, events.NodeCompiled):
            return self._compile(event)
        elif isinstance(event, events.QueryStarted):
            self._query(event)
        elif isinstance(event, events.NodeFinished):
            return self._finish(event)
        return None

    def _configure(self, event: events.DbtConfigured) -> None:
        self._adapter = event.adapter_type
        self._namespace = names.dataset_namespace(event.adapter_type, event.connection)
        self._schema = columns.Schema(event.adapter_type)
        self._defaults = (_text(event.connection.get("database")), _text(event.connection.get("schema")))
        if event.target_path and event.project_dir:
            self._catalog = catalog.load(Path(event.project_dir, event.target_path, "catalog.json"))

    def _described(self, described: NodeDescribed) -> ColumnsResolved | None:
        node = self._nodes[described.unique_id] = self._as_stored(described)
        name = names.dataset_name(node)
        if name is None:
            return None
        of_catalog = self._catalog.columns.get(node.unique_id, [])
        found, seen = self._cache.relation(self._namespace, name)
        origin = "earlier"
        self._types.pop(node.unique_id, None)
        if of_catalog and self._catalog.generated >= seen:
            found, origin = of_catalog, "catalog"
            self._types[node.unique_id] = of_catalog
        if not found:
            # The project's own words stand; they may leave columns out, unless they are a seed's header.
            self._know(node, node.columns, complete=node.resource_type == "seed")
            return None
        self._earlier[node.unique_id] = found
        # A seed has the columns of its header, whatever its table had before.
        of_header = node.columns if node.resource_type == "seed" else []
        known = _documented(of_header or found, node, found)
        self._know(node, known)
        return ColumnsResolved(unique_id=node.unique_id, origin=origin, columns=known)

    def _as_stored(self, node: NodeDescribed) -> NodeDescribed:
        """The node with its columns as the warehouse keeps their names, which is what SQL is resolved to."""
        replace = msgspec.structs.replace
        return replace(node, columns=[replace(c, name=stored_column(self._adapter, c.name)) for c in node.columns])

    def _asked(self, event: ColumnsResolved) -> None:
        node = self._nodes.get(event.unique_id)
        if node is not None and event.columns:
            self._know(node, event.columns)
            self._remember(node, event.columns)

    def _compile(self, event: events.NodeCompiled) -> ColumnsResolved | None:
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
        anew = self._resolved(node, found)
        kept = _kept(anew, node.on_schema_change, self._earlier.get(node.unique_id, ()))
        compiled = self._compiled[node.unique_id] = _Compiled(anew, kept, found.complete)
        if compiled.is_open and self._command in _BUILD:
            return None
        if found.complete and anew.columns:
            self._know(node, anew.columns)
        return anew

    def _query(self, event: events.QueryStarted) -> None:
        compiled = self._compiled.get(event.unique_id or "")
        if compiled is not None and compiled.is_open and not compiled.replaced:
            relation = self._nodes[compiled.anew.unique_id].relation
            compiled.replaced = relation is not None and replaces(event.sql, relation.name)

    def _finish(self, event: events.NodeFinished) -> ColumnsResolved | None:
        compiled = self._compiled.pop(event.unique_id, None)
        if compiled is None or self._command not in _BUILD:
            return None
        node, resolved = self._nodes[event.unique_id], compiled.resolved
        if compiled.complete and resolved.columns and event.status in _BUILT:
            self._know(node, resolved.columns)
            self._remember(node, resolved.columns)
        return resolved if compiled.is_open else None

    def _resolved(self, node: NodeDescribed, found: columns.Analysis) -> ColumnsResolved:
        own = names.dataset_name(node)
        numbers: dict[str, int] = {}
        lineage = {column.name: self._inputs(column.inputs, numbers, own) for column in found.columns[:_MOST_COLUMNS]}
        reads = self._inputs(found.dataset, numbers, own)
        in_catalog = self._types.get(node.unique_id, ())
        derived = [Column(column.name, column.data_type) for column in found.columns[:_MOST_COLUMNS]]
        error = found.error
        if len(found.columns) > _MOST_COLUMNS:
            error = f"cut: {len(found.columns)} columns, of which the first {_MOST_COLUMNS} are told"
        elif not found.complete and error is None:
            error = f"there may be more columns: {'; '.join(found.gaps)}"
        if not found.complete:
            derived = _together(in_catalog or node.columns, derived)
        if derived:
            derived = _together(derived, [Column(name) for name in node.added_columns])
        return ColumnsResolved(
            unique_id=node.unique_id,
            origin="sql",
            columns=_documented(derived, node, in_catalog, self._catalog.columns.get(node.unique_id, ())),
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


def _kept(anew: ColumnsResolved, on_schema_change: str | None, earlier: Known) -> ColumnsResolved:
    """What a relation has that is there already, and isn't given all columns that its SQL has by now, or keeps others.

    https://docs.getdbt.com/docs/build/incremental-models#what-if-the-columns-of-my-incremental-model-change
    """
    if on_schema_change in (None, _SYNC) or not earlier or not anew.columns:
        return anew
    before, now = _names(earlier), _names(anew.columns)
    if before == now or (on_schema_change == _ADD_ONLY and before < now):
        return anew
    of_both = _together(earlier, anew.columns)
    kept = of_both if on_schema_change == _ADD_ONLY else [c for c in of_both if c.name.casefold() in before]
    lineage = {column.name: anew.lineage[column.name] for column in kept if column.name in anew.lineage}
    return msgspec.structs.replace(anew, columns=kept, lineage=lineage)


def _names(known: Known) -> set[str]:
    return {column.name.casefold() for column in known}


def _documented(found: Known, node: NodeDescribed, typed: Known = (), formerly: Known = ()) -> list[Column]:
    """Columns that were found, with the types and descriptions that are known of them otherwise.

    Types of columns as they are go before all others, those that they had `formerly` come last.
    """
    types = {column.name.casefold(): column.data_type for column in typed}
    types_before = {column.name.casefold(): column.data_type for column in formerly}
    words = {column.name.casefold(): column for column in node.columns}
    result = []
    for column in found:
        key = column.name.casefold()
        documented = words.get(key)
        result.append(
            Column(
                column.name,
                types.get(key)
                or (documented.data_type if documented else None)
                or column.data_type
                or types_before.get(key),
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
