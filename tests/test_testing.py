"""What `spanline.testing` offers to those who write a sink or rules, used as they would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from spanline import events
from spanline.events import Event
from spanline.journal.state import RunState, state_of
from spanline.sinks import Message
from spanline.testing import check_rules, classify_with, run_events, tell

ERRORS = {"model.shop.orders": "success", "model.shop.totals": "error", "test.shop.unique": "fail"}


class Failures:
    """A sink of what failed."""

    lanes, batch, linger = 1, 2, 0.0

    def __init__(self) -> None:
        self.delivered: list[list[object]] = []

    def translate(self, event: Event, state: RunState) -> Iterator[Message]:
        if isinstance(event, events.NodeFinished):
            yield Message(f"{event.unique_id} {state.now // 10**9 % 100}")

    def deliver(self, payloads: Sequence[object]) -> None:
        self.delivered.append(list(payloads))

    def close(self) -> None: ...


def test_a_sink_is_told_of_a_run() -> None:
    sink = Failures()
    made = tell(sink, run_events(ERRORS, message="no such table"))
    assert [message.payload for message in made] == [
        "model.shop.orders 6",
        "model.shop.totals 9",
        "test.shop.unique 12",
    ]
    assert sink.delivered == [["model.shop.orders 6", "model.shop.totals 9"], ["test.shop.unique 12"]]


def test_what_is_not_to_be_delivered_is_not() -> None:
    sink = Failures()
    assert len(tell(sink, run_events(ERRORS), deliver=False)) == 3
    assert sink.delivered == []


@pytest.mark.parametrize(
    ("nodes", "outcome", "exit_code"), [({"model.shop.a": "success"}, "success", 0), (ERRORS, "failed", 1)]
)
def test_the_events_are_those_of_a_run(nodes: dict[str, str], outcome: str, exit_code: int) -> None:
    state = state_of(run_events(nodes, message="no such table"))
    assert state.ended is not None
    assert (state.ended.outcome, state.ended.exit_code) == (outcome, exit_code)
    assert {node.unique_id: node.status for node in state.counted} == nodes
    assert {node.message for node in state.failed_nodes} <= {"no such table"}


RULES = "rules: [{id: ours.x, category: throttled, transient: true, pattern: 'no beer', example: 'There is no beer'}]"


def test_a_file_of_rules_is_checked_and_asked(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(RULES)
    check_rules(file)
    found = classify_with(file, "no beer left")
    assert (found.category, found.transient, found.rule) == ("throttled", True, "ours.x")
    assert classify_with(file, "deadlock detected", "postgres").rule == "postgres.deadlock"


@pytest.mark.parametrize(
    ("example", "said"),
    [("", "rule ours.x has no example"), (", example: 'deadlock detected'", "of rule ours.x is known to")],
)
def test_a_rule_that_does_not_know_its_example_is_named(example: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(f"rules: [{{id: ours.x, category: data, pattern: 'no beer'{example}}}]")
    with pytest.raises(AssertionError, match=said):
        check_rules(file)
