"""What dbt's events leave out, read from the frames above the callback: all that is known here of dbt's own functions.

A callback runs in the thread that fired the event, so dbt's functions stand above it, with their local variables. Each
is found by its name, in dbt Core 1.8 to 1.12 alike; where one isn't there, what it knows is None.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from types import FrameType
from typing import Any

_DEPTH = 16
"""How far above the callback a function of dbt's is looked for: it stands five to eight frames up."""
_RETRY_TASK = "RetryTask"


# --- the invocation


def task() -> Any:
    """The task that is about to do what was selected."""
    return _local("execute_with_hooks", "self")


def repeated_command() -> str | None:
    """The command that `dbt retry` repeats, where that is what has called the task."""
    frame = _frame("execute_with_hooks")
    for _ in range(_DEPTH):
        above = frame.f_locals.get("self") if frame is not None else None
        if type(above).__name__ == _RETRY_TASK:
            return getattr(above, "previous_command_name", None)
        frame = frame.f_back if frame is not None else None
    return None


def failed_fast() -> str | None:
    """The node for whose failure dbt is stopping everything else, under `--fail-fast`.

    From the moment that it begins to cancel the other nodes' queries, in the thread that has started these nodes, until
    the last of them has ended. dbt's results call them skipped, however they end.
    """
    for frame in sys._current_frames().values():
        stopping = _from(frame, "_cancel_connections")
        while stopping is not None:
            # A dbt that was interrupted cancels them, too, and has no failure here.
            failure = stopping.f_locals.get("failure")
            if stopping.f_code.co_name == "execute_nodes" and failure is not None:
                return getattr(failure.node, "unique_id", None)
            stopping = stopping.f_back
    return None


# --- nodes


def runner() -> Any:
    """What runs the node, or the batch of one, that this thread is at."""
    return _local("call_runner", "runner")


def manifest() -> Any:
    """The manifest that its task works with."""
    return getattr(_local("call_runner", "self"), "manifest", None)


def result() -> Any:
    """The result of the node, once it has ended."""
    return _local("call_runner", "result")


def compiled_code() -> str | None:
    """The node's compiled code, once it is compiled."""
    return getattr(getattr(_local("compile_and_execute", "ctx"), "node", None), "compiled_code", None)


def failed_above() -> tuple[str, Iterable[str]] | None:
    """The node that has failed, and all nodes that can't be run because of it."""
    frame = _frame("_mark_dependent_errors")
    if frame is None:
        return None
    failed = frame.f_locals["node_id"]
    return failed, frame.f_locals["self"].graph.get_dependent_nodes(failed)


def has_no_result() -> bool:
    """Whether the exception that dbt tells of came up around a node, so that there is no result of its runner.

    dbt makes one then, an error, and fires no NodeFinished.
    """
    frame = _frame("_handle_generic_exception", "_handle_thread_exception", "call_runner")
    return frame is not None and frame.f_code.co_name != "_handle_generic_exception"


# --- batches of a microbatch model


def batch_number() -> int | None:
    """The number, from 0, of the batch that this thread is at; None where it is at a whole node."""
    return getattr(runner(), "batch_idx", None)


def batch_period() -> tuple[datetime, datetime] | None:
    """Start and end of the batch whose result dbt tells."""
    of_batch = _local("print_result_line", "self")
    return of_batch.batches[of_batch.batch_idx] if of_batch is not None else None


def runner_of_failed_batch() -> Any:
    """What ran the batch that has failed, where an exception of one is what dbt tells of."""
    return _local("_execute_microbatch_materialization", "self")


# --- hooks


def hook_message() -> str | None:
    """The message of the hook that has ended, with the warehouse's error where it failed."""
    return _local("safe_run_hooks", "message")  # type: ignore[no-any-return]


def hook_error() -> Any:
    """The exception by which a hook has ended, and all after it: in dbt Core 1.8 only."""
    return _local("safe_run_hooks", "exc")


# --- events that could not be filled


def event_being_made() -> tuple[str, dict[str, Any]] | None:
    """The name and the values of the event that dbt is making at this moment, where it is making one."""
    frame = _frame("__init__")
    if frame is None or "class_name" not in frame.f_locals:
        return None
    return frame.f_locals["class_name"], frame.f_locals["kwargs"]


def values() -> dict[str, Any]:
    """What dbt knows, at this moment, of the node or hook that this thread is at, under the names that events have."""
    from dbt_common.events.contextvars import get_node_info

    found = {"node_info": get_node_info()}
    ended = result() or _local("print_result_line", "result")
    if ended is not None:
        said = ended.to_msg_dict()
        found = {**found, **said, "run_result": said}
    return found


def _frame(*functions: str) -> FrameType | None:
    """The nearest frame that runs one of these functions of dbt's."""
    return _from(sys._getframe(1), *functions)


def _from(frame: FrameType | None, *functions: str) -> FrameType | None:
    for _ in range(_DEPTH):
        if frame is None or frame.f_code.co_name in functions:
            return frame
        frame = frame.f_back
    return None


def _local(function: str, name: str) -> Any:
    frame = _frame(function)
    return frame.f_locals.get(name) if frame is not None else None
