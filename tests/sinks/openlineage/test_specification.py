"""Whether the events of all tests are checked against the specification, and what is checked without it."""

from __future__ import annotations

import copy
import json

import pytest

from spanline.testing import run_events
from tests.support.lineage_events import SPECIFICATION, assert_in_shape, assert_valid, specification, written

TOLD = [json.loads(text) for text in written(run_events({"model.shop.orders": "error"}, message="no such table"))]


def test_events_are_checked_against_the_schemas() -> None:
    if not specification.found:
        pytest.skip(f"OpenLineage's schemas are not in {SPECIFICATION}: only the shape of events is checked")
    for event in TOLD:
        assert_valid(event)
    wrong = copy.deepcopy(TOLD[0])
    wrong["run"]["runId"] = 7
    with pytest.raises(Exception, match="7 is not of type 'string'"):
        specification.validate("https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent", wrong)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eventTime", "2026-11-30T10:00:00"),
        ("eventType", "ENDED"),
        ("producer", "spanline"),
        ("schemaURL", "https://openlineage.io"),
        ("run.runId", "1"),
        ("job.name", ""),
        ("job.namespace", ""),
        ("run.facets.processing_engine._producer", "no URI"),
    ],
)
def test_an_event_out_of_shape_is_noticed(path: str, value: str) -> None:
    event = copy.deepcopy(TOLD[0])
    event["run"].setdefault("facets", {}).setdefault("processing_engine", {"_producer": "a:b", "_schemaURL": "a:b"})
    assert_in_shape(event)
    *above, last = path.split(".")
    place = event
    for name in above:
        place = place[name]
    place[last] = value
    with pytest.raises((AssertionError, ValueError)):
        assert_in_shape(event)
