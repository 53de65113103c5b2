"""Where a run's time goes: how long nodes wait for a thread, and which chain of nodes determined its length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

from spanline.events import NodeDescribed
from spanline.journal.state import NodeState

Descriptions = Mapping[str, NodeDescribed]

_TESTS: Final = frozenset(("test", "unit_test"))


def resource_type(unique_id: str) -> str:
    """The resource type at the start of a unique id."""
    return unique_id.partition(".")[0]


def seconds_of(node: NodeState) -> float:
    """How long a node took: dbt's figure, or if it was cut off, the time from its start to its end."""
    if node.execution_time or node.started is None or node.finished is None:
        return node.execution_time
    return (node.finished - node.started) / 1e9


class Queue:
    """How long nodes wait between being ready and starting, in one attempt.

    A node is ready when everything that dbt makes it wait for has ended: its upstream nodes in the selection and, under
    `build`, the tests on them. A node that waits for nothing is ready when the first node starts.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._ended: dict[str, int] = {}
        self._tested: dict[str, int] = {}

    def started(self, unique_id: str, at: int, descriptions: Descriptions) -> float:
        """Record a start, and return how many seconds earlier the node could have started."""
        self._first = self._first or at
        ready = max(self._first, *self._awaited(unique_id, descriptions))
        return max(0.0, (at - ready) / 1e9)

    def ended(self, unique_id: str, at: int, descriptions: Descriptions) -> None:
        """Record an end."""
        self._ended[unique_id] = at
        if resource_type(unique_id) in _TESTS:
            self._tested.update(dict.fromkeys(_upstream(unique_id, descriptions), at))

    def _awaited(self, unique_id: str, descriptions: Descriptions) -> Iterable[int]:
        kind = resource_type(unique_id)
        upstream = _upstream(unique_id, descriptions)
        if kind == "unit_test":  # it runs before the model that it tests, after what that reads
            upstream = [further for model in upstream for further in _upstream(model, descriptions)]
        yield 0
        yield from (self._ended.get(key, 0) for key in upstream)
        if kind not in _TESTS:
            yield from (self._tested.get(key, 0) for key in (unique_id, *upstream))


def critical_path(nodes: Mapping[str, NodeState], descriptions: Descriptions) -> list[NodeState]:
    """The slowest chain of nodes, each upstream of the next."""
    longest: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for node in sorted(ran(nodes), key=lambda node: node.finished or 0):  # upstream nodes end before others start
        upstream = [key for key in _upstream(node.unique_id, descriptions) if key in longest]
        last = max(upstream, key=lambda key: longest[key], default=None)
        longest[node.unique_id] = seconds_of(node) + (longest[last] if last is not None else 0.0)
        before[node.unique_id] = last
    at = max(longest, key=lambda key: longest[key], default=None)
    found: list[NodeState] = []
    while at is not None:
        found.append(nodes[at])
        at = before[at]
    return found[::-1]


def time_lost(path: Iterable[NodeState], nodes: Mapping[str, NodeState]) -> dict[str, float]:
    """Seconds that the path's nodes took beyond the run's median node of their resource type, by resource type."""
    times: dict[str, list[float]] = {}
    for node in ran(nodes):
        times.setdefault(resource_type(node.unique_id), []).append(seconds_of(node))
    usual = {kind: median(found) for kind, found in times.items()}
    lost = dict.fromkeys(sorted(usual), 0.0)
    for node in path:
        kind = resource_type(node.unique_id)
        lost[kind] += max(0.0, seconds_of(node) - usual[kind])
    return lost


def ran(nodes: Mapping[str, NodeState]) -> list[NodeState]:
    """The nodes that have started and ended."""
    return [node for node in nodes.values() if node.started is not None and not node.open]


def _upstream(unique_id: str, descriptions: Descriptions) -> list[str]:
    described = descriptions.get(unique_id)
    return described.depends_on if described is not None else []
