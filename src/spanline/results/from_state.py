"""The result that a run's state amounts to, and what its error says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from spanline.dbt.arguments import command_of
from spanline.failures.classify import (
    decisive_first,
    failure_of,
    failure_of_session,
    line_of,
    own_words,
    place_of,
)
from spanline.journal.state import DIED, SUCCESS, AttemptState, NodeState, Outcome, RunState
from spanline.results.result import NodeResult, RunResult
from spanline.runner.shared import exit_codes
from spanline.runner.shared.lines import FILE, STATEMENT

_NAMED: Final = 5
_OF_SQL: Final = frozenset(("syntax", "not_found", "data"))
_OF_A_FILE: Final = frozenset(("compilation", "parsing"))
"""Categories of errors that name a line: of the statement that the warehouse was sent, or of a file of the project."""
_OPERATION: Final = "run-operation"


def result_of(
    state: RunState,
    directory: Path,
    undelivered: Mapping[str, int],
    *,
    exit_code: int | None = None,
    lost: str = "",
    artifacts: Mapping[str, Path] = MappingProxyType({}),
) -> RunResult:
    """The result that a run's state amounts to.

    `exit_code` is that of the last session, where that is known although the state isn't; `lost` says what isn't.
    `artifacts` are those that are kept in the directory.
    """
    ended = state.ended
    if ended is not None:
        outcome, exit_code = cast("Outcome", ended.outcome), ended.exit_code
    elif exit_code is not None:
        outcome = state.outcome(exit_code)
    else:
        outcome, exit_code = DIED, exit_codes.ERROR
    attempt, uploaded = state.attempt, state.uploaded
    # A node that an earlier session has done, and this one has done again, is this one's.
    latest = {**state.earlier, **{node.unique_id: node for node in state.counted}}
    asked = {*state.earlier, *(unique_id for attempt in state.attempts for unique_id in attempt.selection)}
    nodes = tuple(_node(node, state) for node in sorted(latest.values(), key=lambda n: n.finished or 0))
    return RunResult(
        run_id=state.run_id or directory.name,
        outcome=outcome,
        exit_code=exit_code,
        elapsed=(state.last - state.started) / 1e9,
        directory=directory,
        nodes=nodes,
        completed=sum(1 for unique_id in asked if unique_id in latest and latest[unique_id].is_completed),
        total=len(asked),
        error=None if outcome == SUCCESS else _error(state),
        failure=failure_of_session(state),
        conn_id=_conn_id(state),
        signal=attempt.died.signal if attempt and attempt.died else None,
        timed_out=state.cancelled_by_limit,
        timed_out_node=state.cancel.unique_id if state.cancel is not None and state.cancelled_by_limit else None,
        cancelled_by=state.cancel.by if state.cancel is not None else None,
        cancel_reason=(state.cancel.reason or None) if state.cancel is not None else None,
        incomplete=state.incomplete or lost or None,
        undelivered=dict(undelivered),
        artifacts_url=uploaded.url if uploaded is not None and uploaded.error is None else None,
        upload_error=uploaded.error if uploaded is not None else None,
        artifacts=dict(artifacts),
        sessions=len(state.sessions),
        attempts=state.attempt_count,
        invocation_ids=tuple(state.invocation_ids),
        trace_ids=tuple(session.trace_id for session in state.sessions),
    )


def _node(node: NodeState, state: RunState) -> NodeResult:
    described = state.descriptions.get(node.unique_id)
    return NodeResult(
        unique_id=node.unique_id,
        status=node.status,
        resource_type=described.resource_type if described else None,
        name=described.name if described else None,
        path=Path(described.path) if described is not None and described.path else None,
        execution_time=node.execution_time,
        message=node.message,
        failing_rows=node.failing_rows,
        rows_affected=node.rows_affected,
        cause=node.cause,
        failure=failure_of(node.said, state.adapter) if node.is_failure else None,
    )


def _conn_id(state: RunState) -> str | None:
    session = state.session
    named = (session.caller.get("conn_id") or session.conn_id) if session is not None else None
    if named or state.config is None or not state.config.profile:
        return named
    return f"{state.config.profile}.{state.config.target}"


def _error(state: RunState) -> str:
    attempt = state.attempt
    if state.ended is None or attempt is None:
        return "the supervisor ended before the run did"
    if state.cancel is not None and state.cancelled_by_limit:
        slow = state.descriptions.get(state.cancel.unique_id or "")
        where = f" ({slow.path})" if slow is not None and slow.path else ""
        return f"{state.cancel.reason}{where}, and was cancelled"
    if state.cancelling:
        return f"the run was cancelled ({state.cancel.by if state.cancel else 'interrupted'})"
    if attempt.died is not None:
        return attempt.died.said
    return _failure(state, attempt)


def _failure(state: RunState, attempt: AttemptState) -> str:
    if not state.failed_nodes:
        return _failure_of_dbt(attempt, state.adapter)
    first, *others = decisive_first(state.failed_nodes, state.adapter)
    described = state.descriptions.get(first.unique_id)
    where = _where(described.path if described is not None else None, _line(first.said, state.adapter, first.line))
    more = f"\n{len(others)} more failed: {_listed(others)}" if others else ""
    return f"{first.unique_id}{where}: {own_words(first.said)}{more}"


def _failure_of_dbt(attempt: AttemptState, adapter: str | None) -> str:
    """What dbt gave up for, without a node that failed: what was done, what of it, and the words of who refused."""
    said = (attempt.exception or "").strip()
    if not said:
        return f"dbt ended with exit code {attempt.exit_code}"
    what, path = place_of(said)
    where = _where(path, _line(said, adapter, attempt.finished.line if attempt.finished is not None else None))
    return ": ".join([*_doing(attempt, f"{what or ''}{where}"), own_words(said)])


def _doing(attempt: AttemptState, of_what: str) -> Iterator[str]:
    """The command, of an operation its name; and what of it failed, which may be no more than a line."""
    command = attempt.command or command_of(attempt.argv)
    did = _operation(attempt.argv) if command == _OPERATION else f"dbt {command}".strip()
    if of_what.startswith(" "):
        yield f"{did}{of_what}"
    else:
        yield did
        yield from filter(None, [of_what])


def _operation(argv: Sequence[str]) -> str:
    words = argv[argv.index(_OPERATION) :] if _OPERATION in argv else argv
    # What stands behind an option may be its value.
    names = (word for before, word in pairwise(words) if not word.startswith("-") and not before.startswith("-"))
    return f"operation {next(names, '')}".strip()


def _where(path: str | None, line: str | None) -> str:
    known = list(filter(None, (path, line)))
    return f" ({', '.join(known)})" if known else ""


def _line(message: str, adapter: str | None, traced: tuple[int, str] | None) -> str | None:
    """The line that an error names, where it is one of code: a data file has lines, too."""
    number, category = line_of(message), failure_of(message, adapter).category
    if number is None or (category == "data" and f"LINE {number}:" not in message):
        return None
    if category not in _OF_SQL and not (category in _OF_A_FILE and traced):
        return None
    line, of = traced or (number, STATEMENT)
    return f"line {line}" if of == FILE else f"line {line} of the {of}"


def _listed(nodes: Sequence[NodeState]) -> str:
    names = ", ".join(node.unique_id for node in nodes[:_NAMED])
    return names if len(nodes) <= _NAMED else f"{names}, …"
