"""Have dbt's command do only what earlier attempts have left undone, under its own arguments.

`dbt retry` works in the same way, by handing a task another queue (`dbt/task/retry.py`). It also builds the arguments
anew from `run_results.json`, which loses some of them, doesn't know some commands, and builds a model before its unit
tests; with the command itself nothing of that is so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Callable


def restrict(order: dict[str, Any], tell_gone: Callable[[list[str]], None]) -> None:
    """Let this process's dbt command run the nodes `unfinished` only, where they are still in the project.

    Those that aren't, or are disabled, are told: who resumes a run must hear what of it can't be done any more.
    `batches` are those of microbatch models that are done and that aren't, by unique id, as pairs of ISO 8601 times;
    `started` is when the first attempt began, up to which these models go.
    """
    from dbt.task.build import BuildTask
    from dbt.task.runnable import GraphRunnableTask

    generic: Any = GraphRunnableTask
    build: Any = BuildTask
    unfinished = set(order["unfinished"])
    started = datetime.fromisoformat(order["started"])

    def still_there(task: Any) -> set[Any]:
        there = set(task.graph.nodes())
        gone = unfinished - there - set(task.manifest.unit_tests)
        if gone:
            tell_gone(sorted(gone))
        return unfinished & there

    def get_graph_queue(task: Any) -> Any:
        _go_up_to(started, task)
        return _queue(task, still_there(task))

    def get_build_queue(task: Any) -> Any:
        # A build has its unit tests in a list of their own, and runs them before their models.
        unit_tests = {unique_id for unique_id in unfinished if unique_id in task.manifest.unit_tests}
        task.selected_unit_tests = unit_tests
        task.build_model_to_unit_test_map(unit_tests)
        _go_up_to(started, task)
        return _queue(task, still_there(task) - unit_tests)

    generic.get_graph_queue = get_graph_queue
    build.get_graph_queue = get_build_queue
    if order["batches"]:
        _go_on_at_the_batch(order["batches"])


def _queue(task: Any, unique_ids: set[Any]) -> Any:
    from dbt.graph.queue import GraphQueue

    return GraphQueue(task.graph.get_subset_graph(unique_ids).graph, task.manifest, unique_ids)


def _go_up_to(started: datetime, task: Any) -> None:
    """Have microbatch models that had not begun end where they would have: a day may have passed since."""
    task.original_invocation_started_at = started
    task.config.invoked_at = started  # dbt Core 1.9


def _go_on_at_the_batch(known: dict[str, dict[str, Any]]) -> None:
    """Have microbatch models do the batches that are left, instead of those that dbt would now find.

    Since the first of them has made the table, these would be the latest few only.
    """
    from dbt.task.run import MicrobatchModelRunner

    generic: Any = MicrobatchModelRunner
    usual_batches, usually_incremental = generic.get_batches, generic._is_incremental

    def get_batches(runner: Any, model: Any) -> Any:
        found = known.get(model.unique_id)
        # Without its table a model is built from its beginning, as dbt does by itself.
        if found is not None and runner._has_relation(model):
            model.previous_batch_results = _left(found, model, runner.get_microbatch_builder(model))
        return usual_batches(runner, model)

    def is_incremental(runner: Any, model: Any) -> bool:
        # Under --full-refresh dbt would make the table anew, and what this run has already put into it would be gone.
        before = model.previous_batch_results
        return (before is not None and bool(before.successful)) or usually_incremental(runner, model)

    generic.get_batches = get_batches
    generic._is_incremental = is_incremental


def _left(found: dict[str, Any], model: Any, builder: Any) -> Any:
    """What is done and what is left; where the model has changed, the same time in its present batches, none done."""
    from dbt.artifacts.schemas.batch_results import BatchResults

    successful, failed = _times(found["successful"]), _times(found["failed"])
    then = sorted(successful + failed)
    size = model.config.batch_size
    start, end = builder.truncate_timestamp(then[0][0], size), builder.ceiling_timestamp(then[-1][1], size)
    now = builder.build_batches(start, end)
    if now == then and model.checksum.checksum == found["checksum"]:
        return BatchResults(successful=successful, failed=sorted(failed))
    if successful:
        _say(f"{model.name} has changed since {len(successful)} of its {len(then)} batches were done: it starts over")
    return BatchResults(failed=now)


def _times(pairs: list[list[str]]) -> list[tuple[datetime, datetime]]:
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pairs]


def _say(text: str) -> None:
    from dbt_common.events.functions import fire_event
    from dbt_common.events.types import Note

    fire_event(Note(msg=text))
