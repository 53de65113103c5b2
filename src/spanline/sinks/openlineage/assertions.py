"""What tests and checks of freshness say of datasets.

Marquez shows the last `dataQualityAssertions` that it was told of a dataset, so each holds all of the session so far:
else a test that fails is hidden by the next that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from openlineage.client.facet_v2 import (
    InputDatasetFacet,
    data_quality_assertions_dataset,
    data_quality_metrics_input_dataset,
)

from spanline import events
from spanline.events import NodeDescribed
from spanline.journal.state import NodeState
from spanline.sinks.openlineage import facets
from spanline.sinks.openlineage.facets import PRODUCER

Assertion = data_quality_assertions_dataset.Assertion
InputFacets = dict[str, InputDatasetFacet]

_SOONEST: Final = 1_000
"""What must lie between two events for a backend to tell which is the later one, in nanoseconds: their times have
microseconds."""


class Assertions:
    """The assertions of a session on each dataset, by what made them, as they stand."""

    def __init__(self) -> None:
        self._on: dict[str, dict[str, Assertion]] = {}
        self._told: dict[str, int] = {}

    def add(self, unique_id: str, datasets: Iterable[str], assertion: Assertion) -> None:
        """Take what a node has found out of some datasets, in place of what it found before."""
        for dataset in datasets:
            self._on.setdefault(dataset, {})[unique_id] = assertion

    def forget(self, dataset: str) -> None:
        """Forget what was said of a dataset, as it has been written anew."""
        self._on.pop(dataset, None)

    def after(self, datasets: Iterable[str], time: int) -> int:
        """The time, or the first that is later than all that was told of these datasets: what has the last one wins.

        Two threads of dbt may stamp events in another order than that in which they write them.
        """
        found = max([time, *(self._told[dataset] + _SOONEST for dataset in datasets if dataset in self._told)])
        self._told.update(dict.fromkeys(datasets, found))
        return found

    def facets(self, dataset: str) -> InputFacets:
        """All assertions on a dataset, as a facet; none where there are none."""
        found = self._on.get(dataset)
        if not found:
            return {}
        return {
            "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=list(found.values()), producer=PRODUCER
            )
        }


def of_test(
    node: NodeDescribed, result: NodeState, *, column: Callable[[str], str] | None, arguments: bool
) -> Assertion | None:
    """A test's result; none of one that the warehouse couldn't carry out: of the data it says nothing.

    `column` writes the name of a column, where that may be told; `arguments` is whether those of the test may be.
    """
    info = node.test
    if info is None or facets.has_errored(result):
        return None
    return Assertion(
        assertion=facets.test_type(node),
        success=not facets.found_issues(result),
        column=column(info.column) if column is not None and info.column else None,
        severity=info.severity or "error",
        name=node.name,
        description=node.description or None,
        expected=facets.expectation(node),
        actual=None if result.failing_rows is None else str(result.failing_rows),
        params=dict(info.arguments) or None if arguments else None,
    )


def of_freshness(found: events.FreshnessResult) -> Assertion | None:
    """How fresh a source is; none where that could not be found out."""
    if found.status == "runtime error":
        return None
    failed = found.status == "error"
    limits = (found.error_after, found.warn_after) if failed else (found.warn_after, found.error_after)
    return Assertion(
        assertion="freshness",
        success=found.status == "pass",
        severity="error" if failed else "warn",
        name=found.unique_id,
        expected=limits[0] or limits[1],
        actual=None if found.age is None else f"{found.age:.0f} s",
    )


def last_updated(found: events.FreshnessResult) -> InputFacets:
    """The time of a source's last row."""
    if found.max_loaded_at is None:
        return {}
    return {
        "dataQualityMetrics": data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
            columnMetrics={}, lastUpdated=found.max_loaded_at, producer=PRODUCER
        )
    }
