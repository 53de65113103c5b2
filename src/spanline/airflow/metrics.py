"""A run's numbers in Airflow's own metrics, with names that say enough where StatsD drops the tags."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Stats

from spanline.journal.state import RunState
from spanline.results.result import RunResult


def emit(result: RunResult, state: RunState, dag_id: str, task_id: str) -> None:
    """Durations are in milliseconds, as Airflow's are."""
    tags = {"dag_id": dag_id, "task_id": task_id}
    Stats.timing("spanline.run.duration", result.elapsed * 1000, tags=tags)
    Stats.incr(f"spanline.run.{result.outcome}", tags=tags)
    Stats.incr("spanline.run.retries", count=sum(attempt.attempt > 1 for attempt in state.attempts), tags=tags)
    for status, count in result.counts.items():
        Stats.incr(f"spanline.nodes.{status.replace(' ', '_')}", count=count, tags=tags)
    for node in result.nodes:
        of_kind = f"spanline.node.duration.{node.resource_type or 'other'}"
        Stats.timing(of_kind, node.execution_time * 1000, tags={**tags, "unique_id": node.unique_id})
