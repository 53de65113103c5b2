"""RunResult: how a run ended, as plain data, and as an exception for those who want one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanline.errors import (
    DbtCancelled,
    DbtCompilationException,
    DbtException,
    DbtRuntimeException,
    DbtTimeout,
    RunnerDied,
)
from spanline.state import CANCELLED, DIED, FAILED, SUCCESS, TIME_OUT, AttemptState, NodeState, RunState


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one node ended. `status` is dbt's, or `cancelled` or `interrupted`; `execution_time` is in seconds."""

    unique_id: str
    status: str
    resource_type: str | None = None
    name: str | None = None
    path: str | None = None
    execution_time: float = 0.0
    message: str | None = None
    failures: int | None = None
    rows_affected: int | None = None
    cause: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended in failure (a skipped node did not)."""
        return self.status in FAILED


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    `outcome` is success, failed, cancelled or died. `exit_code` has dbt's meaning: 0 good, 1 nodes failed, 2 anything
    else. `elapsed` is in seconds. `undelivered` counts what each sink still owes its backend (`spanline replay` sends
    it).
    """

    run_id: str
    outcome: str
    exit_code: int
    elapsed: float
    directory: str
    nodes: tuple[NodeResult, ...] = ()
    error: str | None = None
    signal: str | None = None
    timed_out: bool = False
    undelivered: Mapping[str, int] = {}

    @property
    def success(self) -> bool:
        """Whether everything went well."""
        return self.outcome == SUCCESS

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        """The nodes that failed, in the order in which they did."""
        return tuple(node for node in self.nodes if node.failed)

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes have which status."""
        found: dict[str, int] = {}
        for node in self.nodes:
            found[node.status] = found.get(node.status, 0) + 1
        return found

    def raise_for_failure(self) -> RunResult:
        """Raise what fits the outcome, or return this result where all went well.

        Raises `DbtCompilationException`, `DbtRuntimeException`, `DbtCancelled`, `DbtTimeout` or `RunnerDied`, all
        `DbtException`.
        """
        if self.success:
            return self
        failed = [node.unique_id for node in self.failed]
        message = f"{self.error or 'dbt failed'} (run {self.run_id})"
        if self.outcome == DIED:
            raise RunnerDied(message, run_id=self.run_id, failed=failed, signal=self.signal)
        raise _exception_for(self)(message, run_id=self.run_id, failed=failed)


def _exception_for(result: RunResult) -> type[DbtException]:
    if result.outcome == CANCELLED:
        return DbtTimeout if result.timed_out else DbtCancelled
    if result.failed:
        return DbtRuntimeException
    return DbtCompilationException if result.exit_code == 2 else DbtException


def result_of(state: RunState, directory: str, undelivered: Mapping[str, int]) -> RunResult:
    """The result that a run's state amounts to."""
    ended = state.ended
    attempt = state.attempt
    everything = [*state.nodes.values(), *(hook for hook in state.hooks.values() if hook.failed)]
    return RunResult(
        run_id=state.run_id,
        outcome=ended.outcome if ended else DIED,
        exit_code=ended.exit_code if ended else 2,
        elapsed=(state.last - state.started) / 1e9,
        directory=directory,
        nodes=tuple(_node(node, state) for node in sorted(everything, key=lambda n: n.finished or 0)),
        error=_error(state),
        signal=attempt.died.signal if attempt and attempt.died else None,
        timed_out=_timed_out(state),
        undelivered=dict(undelivered),
    )


def _timed_out(state: RunState) -> bool:
    return state.cancel is not None and state.cancel.by == TIME_OUT


def _node(node: NodeState, state: RunState) -> NodeResult:
    described = state.descriptions.get(node.unique_id)
    return NodeResult(
        unique_id=node.unique_id,
        status=node.status,
        resource_type=described.resource_type if described else None,
        name=described.name if described else None,
        path=described.path if described else None,
        execution_time=node.execution_time,
        message=node.message,
        failures=node.failures,
        rows_affected=node.rows_affected,
        cause=node.cause,
    )


def _error(state: RunState) -> str | None:
    ended, attempt = state.ended, state.attempt
    if ended is not None and ended.outcome == SUCCESS:
        return None
    if ended is None or attempt is None:
        return "the supervisor ended before the run did"
    if state.cancel is not None and _timed_out(state):
        return f"{state.cancel.reason}, and was cancelled"
    if state.cancelling:
        return f"the run was cancelled ({state.cancel.by if state.cancel else 'interrupted'})"
    if attempt.died is not None:
        how = attempt.died.signal or f"exit code {attempt.died.exit_code}"
        return f"the process that ran dbt died ({how}). {attempt.died.detail}".strip()
    return _failure(state, attempt)


def _failure(state: RunState, attempt: AttemptState) -> str:
    if state.failed:
        first = state.failed[0]
        more = f" and {len(state.failed) - 1} more" if len(state.failed) > 1 else ""
        return f"{first.unique_id}{more} failed: {(first.message or first.status).strip()}"
    if attempt.finished is not None and attempt.finished.exception:
        return attempt.finished.exception.strip()
    return attempt.runner_exception or f"dbt ended with exit code {attempt.exit_code}"
