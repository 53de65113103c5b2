"""Datasets and their facets: what a node reads and writes, with the columns that are known by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    data_quality_assertions_dataset,
    data_quality_metrics_input_dataset,
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
from spanline.events import ColumnInput, ColumnsResolved, NodeDescribed
from spanline.journal.state import NodeState, RunState
from spanline.lineage import names
from spanline.sinks.openlineage import facets
from spanline.sinks.openlineage.facets import PRODUCER, cut

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
    """What is known of the datasets of a session."""

    def __init__(self, *, columns: bool) -> None:
        """`columns` is whether names of columns may be told."""
        self._tells_columns = columns
        self._resolved: dict[str, ColumnsResolved] = {}
        self._exposures: dict[str, dict[str, NodeDescribed]] = {}
        self._common: dict[str, Facets] = {}  # what doesn't change between two events on a dataset

    def describe(self, node: NodeDescribed) -> None:
        """Take what the project says of a node."""
        self._common.pop(node.unique_id, None)
        if node.resource_type == "exposure":
            for unique_id in node.depends_on:
                self._common.pop(unique_id, None)
                self._exposures.setdefault(unique_id, {})[node.unique_id] = node

    def resolve(self, columns: ColumnsResolved) -> None:
        """Take what was found out of a node's columns."""
        self._common.pop(columns.unique_id, None)
        self._resolved[columns.unique_id] = msgspec.structs.replace(columns, lineage={}, reads=[], datasets=[])

    # --- which ----------------------------------------------------------------------------------------------------

    def inputs(
        self, node: NodeDescribed, state: RunState, of_input: Mapping[str, dict[str, InputDatasetFacet]] = _NONE
    ) -> list[InputDataset]:
        """What a node reads, with facets; `of_input` are those that hold for this run only, by unique id."""
        namespace = namespace_of(state)
        return [
            InputDataset(
                namespace=namespace,
                name=name,
                facets=self._facets_of(upstream, state),
                inputFacets=of_input.get(upstream.unique_id, {}),
            )
            for name, upstream in read_by(node, state).items()
        ]

    def output(
        self, node: NodeDescribed, state: RunState, columns: ColumnsResolved | None = None
    ) -> list[OutputDataset]:
        """What a node writes, with facets; nothing for one that writes no relation.

        Type, source, columns and change of state are told at the start too, as far as they are known: a Marquez makes
        a version of the dataset of each different set of them.
        """
        name = names.dataset_name(node) if node.resource_type in WRITERS else None
        if name is None:
            return []
        namespace = namespace_of(state)
        found = dict(self._facets_of(node, state))
        if columns is not None and self._tells_columns:
            found |= _column_lineage(columns, namespace)
        if node.materialized in _REWRITES:
            found |= _overwritten()
        return [OutputDataset(namespace=namespace, name=name, facets=found)]

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
        if self._tells_columns:
            found |= _schema(self.columns(node))
        found |= _words(node) | _type(node) | _symlinks(node, state) | _catalog(node, state)
        exposures = self._exposures.get(node.unique_id)
        if exposures:
            found["dbt_exposures"] = ExposuresFacet(
                exposures=[_exposure(one) for one in exposures.values()],
                producer=PRODUCER,
            )
        return found

    def columns(self, node: NodeDescribed) -> list[events.Column]:
        """The columns of a node's relation: those found out, else those that the project knows."""
        resolved = self._resolved.get(node.unique_id)
        return resolved.columns if resolved is not None and resolved.columns else node.columns


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


def read_by(node: NodeDescribed, state: RunState) -> dict[str, NodeDescribed]:
    """The datasets that a node reads, by name: two nodes (a seed and a source over it) may be one table."""
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


def assertion(
    node: NodeDescribed, result: NodeState, *, columns: bool, arguments: bool
) -> dict[str, InputDatasetFacet]:
    """A test's result, as a statement on the dataset that it read; with the column and arguments that may be told."""
    info = node.test
    if info is None:
        return {}
    one = data_quality_assertions_dataset.Assertion(
        assertion=facets.test_type(node),
        success=not facets.found_issues(result),
        column=info.column if columns else None,
        severity=info.severity or "error",
        name=node.name,
        description=node.description or None,
        expected=facets.expectation(node),
        actual=None if result.failing_rows is None else str(result.failing_rows),
        params=dict(info.arguments) or None if arguments else None,
    )
    return _assertions(one)


def freshness(found: events.FreshnessResult) -> dict[str, InputDatasetFacet]:
    """How fresh a source is, as a statement on it and by the time of its last row."""
    failed = found.status in ("error", "runtime error")
    limits = (found.error_after, found.warn_after) if failed else (found.warn_after, found.error_after)
    one = data_quality_assertions_dataset.Assertion(
        assertion="freshness",
        success=found.status == "pass",
        severity="error" if failed else "warn",
        name=found.unique_id,
        expected=limits[0] or limits[1],
        actual=None if found.age is None else f"{found.age:.0f} s",
    )
    facets_found = _assertions(one)
    if found.max_loaded_at is not None:
        facets_found["dataQualityMetrics"] = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
            columnMetrics={}, lastUpdated=found.max_loaded_at, producer=PRODUCER
        )
    return facets_found


def _assertions(one: data_quality_assertions_dataset.Assertion) -> dict[str, InputDatasetFacet]:
    return {
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[one], producer=PRODUCER
        )
    }


def _schema(columns: Iterable[events.Column]) -> Facets:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=column.name,
            type=column.data_type,
            description=cut(column.description, _DESCRIPTION_CHARACTERS) if column.description else None,
        )
        for column in columns
    ]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)} if fields else {}


def _column_lineage(resolved: ColumnsResolved, namespace: str) -> Facets:
    if not resolved.lineage and not resolved.reads:
        return {}
    # Plain mappings of the facet's shape: they are many, and its classes are slow to make and to write.
    fields = {
        name: {"inputFields": [_input_field(one, resolved, namespace) for one in inputs]}
        for name, inputs in resolved.lineage.items()
    }
    dataset = [_input_field(one, resolved, namespace) for one in resolved.reads]
    return {
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(
            fields=cast("dict[str, column_lineage_dataset.Fields]", fields),
            dataset=cast("list[column_lineage_dataset.InputField]", dataset),
            producer=PRODUCER,
        )
    }


def _input_field(one: ColumnInput, resolved: ColumnsResolved, namespace: str) -> dict[str, object]:
    kinds = (kind.partition(":") for kind in one.transformations)
    return {
        "namespace": namespace,
        "name": resolved.datasets[one.dataset],
        "field": one.field,
        "transformations": [{"type": kind, "subtype": subtype} for kind, _, subtype in kinds],
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


def _symlinks(node: NodeDescribed, state: RunState) -> Facets:
    config = state.config
    if config is None or node.relation is None:
        return {}
    found = names.dataset_symlinks(config.adapter_type, config.connection, node.relation)
    if not found:
        return {}
    identifiers = [symlinks_dataset.Identifier(namespace=i.namespace, name=i.name, type=i.type) for i in found]
    return {"symlinks": symlinks_dataset.SymlinksDatasetFacet(identifiers=identifiers, producer=PRODUCER)}


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


def _overwritten() -> Facets:
    return {
        "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=lifecycle_state_change_dataset.LifecycleStateChange.OVERWRITE, producer=PRODUCER
        )
    }
