"""Datasets and their facets: what a node reads and writes, with the columns that are known by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Final, cast

import attr
import msgspec
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    catalog_dataset,
    column_lineage_dataset,
    dataset_type_dataset,
    datasource_dataset,
    documentation_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
    ownership_dataset,
    schema_dataset,
    symlinks_dataset,
    tags_dataset,
)

from spanline import events
from spanline.events import ColumnInput, ColumnsResolved, NodeDescribed, Relation
from spanline.journal.state import NodeState, RunState
from spanline.lineage import case, names
from spanline.sinks.openlineage import facets
from spanline.sinks.openlineage.facets import PRODUCER, NamedDataset, cut

WRITERS: Final = frozenset(("model", "seed", "snapshot"))
"""Resource types that make a relation."""

_DESCRIPTION_CHARACTERS: Final = 4_000
_TYPES: Final = {
    "table": ("TABLE", None),
    "incremental": ("TABLE", None),
    "snapshot": ("TABLE", None),
    "seed": ("TABLE", None),
    "view": ("VIEW", None),
    "materialized_view": ("VIEW", "MATERIALIZED"),
    "dynamic_table": ("TABLE", "DYNAMIC"),
    "streaming_table": ("TABLE", "STREAMING"),
    "external": ("TABLE", "EXTERNAL"),
}
"""Dataset type and subtype by materialization."""
_UNKNOWN_TYPE: Final = ""
"""Never null, though the specification allows it: Marquez has a new column at each event then, and DataHub up to 1.6.0
answers 500 for ever."""
_REWRITES: Final = frozenset(("table", "view", "seed"))
"""Materializations that make the whole relation anew each time."""

Facets = dict[str, DatasetFacet]
_NONE: Final[Mapping[str, dict[str, InputDatasetFacet]]] = {}


@attr.define
class Exposure:
    """A consumer, in the words of openlineage-dbt's facet `dbt_exposures`, whose readers exist."""

    unique_id: str
    name: str
    type: str | None = None
    url: str | None = None


@attr.define
class ExposuresFacet(DatasetFacet):
    """The exposures that show a dataset."""

    exposures: list[Exposure]

    @staticmethod
    def _get_schema() -> str:
        return facets.own_schema("DbtExposuresDatasetFacet")


class Datasets:
    """What is known of the datasets of a session; each goes by the name that the project has for it."""

    def __init__(self, *, columns: bool, case: str) -> None:
        """`columns` is whether names of columns may be told, `case` how all names are written."""
        self._tells_columns = columns
        self._case = case
        self._adapter = ""
        self._relations: dict[str, Relation] = {}
        self._selected: dict[str, list[events.Column]] = {}  # by the SQL of this run
        self._there: dict[str, list[events.Column]] = {}  # of relations as this run has found them
        self._read: dict[str, None] = {}
        self._written: dict[str, None] = {}
        self._exposures: dict[str, dict[str, NodeDescribed]] = {}
        self._common: dict[str, Facets] = {}  # what doesn't change between two events on a dataset
        self._schemas: dict[str, Facets] = {}  # nor the columns of what is only read

    def configure(self, config: events.DbtConfigured) -> None:
        """Take which warehouse it is."""
        self._adapter = config.adapter_type

    def describe(self, node: NodeDescribed) -> None:
        """Take what the project says of a node."""
        self._common.pop(node.unique_id, None)
        self._schemas.pop(node.unique_id, None)
        name = names.dataset_name(node)
        if name is not None and node.relation is not None:
            self._relations[name] = node.relation
        if node.resource_type == "exposure":
            for unique_id in node.depends_on:
                self._common.pop(unique_id, None)
                self._exposures.setdefault(unique_id, {})[node.unique_id] = node

    def resolve(self, columns: ColumnsResolved) -> None:
        """Take what was found out of a node's columns."""
        if columns.origin == "sql":
            self._selected[columns.unique_id] = columns.columns
        elif columns.columns:
            self._there[columns.unique_id] = columns.columns
            self._schemas.pop(columns.unique_id, None)

    def write(self, node: NodeDescribed) -> str | None:
        """Take that a node has made its relation; its name, where it is one that makes any."""
        name = written_by(node)
        if name is not None:
            self._written[name] = None
        return name

    def read_and_written(self, state: RunState) -> tuple[list[NamedDataset], list[NamedDataset]]:
        """What nodes of the session have read that none of them has written; and what they have written."""
        namespace = namespace_of(state)
        read = [name for name in self._read if name not in self._written]
        return self._named(read, namespace), self._named(self._written, namespace)

    def _named(self, found: Iterable[str], namespace: str) -> list[NamedDataset]:
        return [NamedDataset(namespace, self._name(name)) for name in found]

    # --- which ----------------------------------------------------------------------------------------------------

    def inputs(
        self, node: NodeDescribed, state: RunState, of_input: Mapping[str, dict[str, InputDatasetFacet]] = _NONE
    ) -> list[InputDataset]:
        """What a node reads, with facets; `of_input` are those that hold for this run only, by name."""
        namespace = namespace_of(state)
        read = read_by(node, state)
        if node.resource_type != "exposure":  # which nobody runs here
            self._read.update(dict.fromkeys(read))
        return [
            InputDataset(
                namespace=namespace,
                name=self._name(name),
                facets=self._facets_of(upstream, state) | self._schema_there(name, upstream),
                inputFacets=of_input.get(name, {}),
            )
            for name, upstream in read.items()
        ]

    def output(
        self, node: NodeDescribed, state: RunState, columns: ColumnsResolved | None = None
    ) -> list[OutputDataset]:
        """What a node writes, with facets; nothing for one that writes no relation."""
        name = written_by(node)
        if name is None:
            return []
        namespace = namespace_of(state)
        found = dict(self._facets_of(node, state))
        if self._tells_columns:
            found |= self._schema(self._columns(node))
            if columns is not None:
                found |= self._column_lineage(columns, namespace)
        if node.materialized in _REWRITES:
            found |= _overwritten()
        return [OutputDataset(namespace=namespace, name=self._name(name), facets=found)]

    def column(self, written: str) -> str:
        """A column that the project names, as it is told."""
        return case.column_in(self._case, self._adapter, case.stored_column(self._adapter, written))

    def _name(self, name: str) -> str:
        """The name of a dataset, as it is told."""
        relation = self._relations.get(name)
        if relation is not None:
            return names.name_in(self._case, self._adapter, relation)
        return name.lower() if self._case == case.LOWER else name

    # --- their facets ---------------------------------------------------------------------------------------------

    def _facets_of(self, node: NodeDescribed, state: RunState) -> Facets:
        found = self._common.get(node.unique_id)
        if found is None:
            found = self._common[node.unique_id] = self._built_facets(node, state)
        return found

    def _built_facets(self, node: NodeDescribed, state: RunState) -> Facets:
        namespace = namespace_of(state)
        found: Facets = {
            "dataSource": datasource_dataset.DatasourceDatasetFacet(name=namespace, uri=namespace, producer=PRODUCER)
        }
        found |= _words(node) | _type(node) | self._symlinks(node, state) | _catalog(node, state)
        exposures = self._exposures.get(node.unique_id)
        if exposures:
            found["dbt_exposures"] = ExposuresFacet(
                exposures=[_exposure(one) for one in exposures.values()],
                producer=PRODUCER,
            )
        return found

    def _columns(self, node: NodeDescribed) -> list[events.Column]:
        """The columns of what a node makes: those of its SQL, else those that are there, else what the project says."""
        return self._selected.get(node.unique_id) or self._there.get(node.unique_id) or self._documented(node)

    def _documented(self, node: NodeDescribed) -> list[events.Column]:
        return [
            msgspec.structs.replace(column, name=case.stored_column(self._adapter, column.name))
            for column in node.columns
        ]

    def _schema_there(self, name: str, node: NodeDescribed) -> Facets:
        """The columns of what is read, where all are known, and nobody has told them: not what this run has made.

        A backend that is told of an input's columns takes these for all that there are, whatever it knew before.
        """
        if not self._tells_columns or name in self._written:
            return {}
        found = self._schemas.get(node.unique_id)
        if found is None:
            of_header = self._documented(node) if node.resource_type == "seed" else []
            found = self._schemas[node.unique_id] = self._schema(self._there.get(node.unique_id, of_header))
        return found

    def _schema(self, columns: Iterable[events.Column]) -> Facets:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(
                name=case.column_in(self._case, self._adapter, column.name),
                type=column.data_type or _UNKNOWN_TYPE,
                description=cut(column.description, _DESCRIPTION_CHARACTERS) if column.description else None,
            )
            for column in columns
        ]
        return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)} if fields else {}

    def _column_lineage(self, resolved: ColumnsResolved, namespace: str) -> Facets:
        if not resolved.lineage and not resolved.reads:
            return {}
        told = [self._name(name) for name in resolved.datasets]

        def input_field(one: ColumnInput) -> dict[str, object]:
            kinds = (kind.partition(":") for kind in one.transformations)
            return {
                "namespace": namespace,
                "name": told[one.dataset],
                "field": case.column_in(self._case, self._adapter, one.field),
                "transformations": [{"type": kind, "subtype": subtype} for kind, _, subtype in kinds],
            }

        # Plain mappings of the facet's shape: they are many, and its classes are slow to make and to write.
        fields = {
            case.column_in(self._case, self._adapter, name): {"inputFields": [input_field(one) for one in inputs]}
            for name, inputs in resolved.lineage.items()
        }
        dataset = [input_field(one) for one in resolved.reads]
        return {
            "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(
                fields=cast("dict[str, column_lineage_dataset.Fields]", fields),
                dataset=cast("list[column_lineage_dataset.InputField]", dataset),
                producer=PRODUCER,
            )
        }

    def _symlinks(self, node: NodeDescribed, state: RunState) -> Facets:
        config = state.config
        if config is None or node.relation is None:
            return {}
        found = names.dataset_symlinks(config.adapter_type, config.connection, node.relation, self._case)
        if not found:
            return {}
        identifiers = [symlinks_dataset.Identifier(namespace=i.namespace, name=i.name, type=i.type) for i in found]
        return {"symlinks": symlinks_dataset.SymlinksDatasetFacet(identifiers=identifiers, producer=PRODUCER)}


def namespace_of(state: RunState) -> str:
    """The namespace of every dataset behind dbt's connection."""
    config = state.config
    return names.dataset_namespace(config.adapter_type, config.connection) if config else "dbt"


def upstream(node: NodeDescribed, state: RunState) -> Iterator[NodeDescribed]:
    """What a node reads: its upstream nodes, an ephemeral one replaced by what that reads; each once."""
    waiting = list(reversed(node.depends_on))
    seen = set()
    while waiting:
        unique_id = waiting.pop()
        found = state.descriptions.get(unique_id)
        if unique_id in seen or found is None:
            continue
        seen.add(unique_id)
        if found.is_ephemeral:
            waiting.extend(reversed(found.depends_on))
        else:
            yield found


def written_by(node: NodeDescribed) -> str | None:
    """The name of the dataset that a node writes, as the project has it."""
    return names.dataset_name(node) if node.resource_type in WRITERS else None


def read_by(node: NodeDescribed, state: RunState) -> dict[str, NodeDescribed]:
    """The datasets that a node reads, by the project's name: two nodes (a seed and a source over it) may be one table.

    A unit test reads none: its rows are given.
    """
    if node.resource_type == "unit_test":
        return {}
    found: dict[str, NodeDescribed] = {}
    read: Iterable[NodeDescribed] = [node] if node.resource_type == "source" else upstream(node, state)
    for one in read:
        name = names.dataset_name(one)
        if name is not None and (name not in found or not found[name].columns):
            found[name] = one
    return found


def statistics(result: NodeState) -> dict[str, OutputDatasetFacet]:
    """How much was written, where the adapter says it."""
    if result.rows_affected is None:
        return {}
    return {
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=result.rows_affected, producer=PRODUCER
        )
    }


def _words(node: NodeDescribed) -> Facets:
    """What people have written on a dataset."""
    found: Facets = {}
    if node.description:
        found["documentation"] = documentation_dataset.DocumentationDatasetFacet(
            description=cut(node.description, _DESCRIPTION_CHARACTERS), contentType="text/markdown", producer=PRODUCER
        )
    owners = facets.owner_names(node)
    if owners:
        found["ownership"] = ownership_dataset.OwnershipDatasetFacet(
            owners=[ownership_dataset.Owner(name=owner, type="OWNER") for owner in owners], producer=PRODUCER
        )
    every = (*facets.tags_of(node), *facets.meta_of(node))
    tags = [tags_dataset.TagsDatasetFacetFields(*tag) for tag in every]
    if tags:
        found["tags"] = tags_dataset.TagsDatasetFacet(tags=tags, producer=PRODUCER)
    return found


def _type(node: NodeDescribed) -> Facets:
    kind = _TYPES.get(node.materialized or node.resource_type)
    if kind is None:
        return {}
    return {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(
            datasetType=kind[0], subType=kind[1], producer=PRODUCER
        )
    }


def _catalog(node: NodeDescribed, state: RunState) -> Facets:
    """The catalog that a relation is in: the one that the project names, else the warehouse's own, its database."""
    name = node.catalog or (node.relation.database if node.relation is not None else None)
    if name is None or state.config is None:
        return {}
    adapter = state.config.adapter_type
    return {
        "catalog": catalog_dataset.CatalogDatasetFacet(
            framework=node.table_format or adapter, type=adapter, name=name, source="dbt", producer=PRODUCER
        )
    }


def _exposure(node: NodeDescribed) -> Exposure:
    info = node.exposure if node.exposure is not None else events.ExposureInfo()
    return Exposure(node.unique_id, node.name, info.type, info.url)


@cache
def _overwritten() -> Facets:
    return {
        "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=lifecycle_state_change_dataset.LifecycleStateChange.OVERWRITE, producer=PRODUCER
        )
    }
