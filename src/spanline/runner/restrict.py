"""Have dbt's command do only what earlier attempts have left undone, under its own arguments.

`dbt retry` works in the same way, by handing a task another queue (`dbt/task/retry.py`). It also builds the arguments
anew from `run_results.json`, which loses some of them, doesn't know some commands, and builds a model before its unit
tests; with the command itself nothing of that is so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any


def restrict(order: dict[str, Any]) -> None:
    """Let this process's dbt command run the nodes `unfinished` only, where they are still in the project.

    `batches` are those of microbatch models that have succeeded and failed, by unique id, as pairs of ISO 8601 times;
    `started` is when the first attempt began, up to which these models go.
    """
    from dbt.task.build import BuildTask
    from dbt.task.runnable import GraphRunnableTask

    generic: Any = GraphRunnableTask
    build: Any = BuildTask
    unfinished = set(order["unfinished"])

    def get_graph_queue(task: Any) -> Any:
        _go_on_at_the_batch(task, order)
        return _queue(task, unfinished & set(task.graph.nodes()))

    def get_build_queue(task: Any) -> Any:
        # A build has its unit tests in a list of their own, and runs them before their models.
        unit_tests = {unique_id for unique_id in unfinished if unique_id in task.manifest.unit_tests}
        task.selected_unit_tests = unit_tests
        task.build_model_to_unit_test_map(unit_tests)
        _go_on_at_the_batch(task, order)
        return _queue(task, unfinished & set(task.graph.nodes()) - unit_tests)

    generic.get_graph_queue = get_graph_queue
    build.get_graph_queue = get_build_queue


def _queue(task: Any, unique_ids: set[Any]) -> Any:
    from dbt.graph.queue import GraphQueue

    return GraphQueue(task.graph.get_subset_graph(unique_ids).graph, task.manifest, unique_ids)


def _go_on_at_the_batch(task: Any, order: dict[str, Any]) -> None:
    if not order.get("batches") or not hasattr(task, "batch_map"):
        return
    from dbt.artifacts.schemas.batch_results import BatchResults

    task.batch_map = {
        unique_id: BatchResults(successful=_times(found["successful"]), failed=_times(found["failed"]))
        for unique_id, found in order["batches"].items()
    }
    task.original_invocation_started_at = datetime.fromisoformat(order["started"])


def _times(pairs: list[list[str]]) -> list[tuple[datetime, datetime]]:
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pairs]
