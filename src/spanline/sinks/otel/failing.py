"""What telemetry says of what failed: its kind, its exception, the warehouse's code; and how much of its message."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from spanline.failures import matching
from spanline.failures.classify import Failure, failure_of, most_permanent, own_words
from spanline.journal.state import CANCELLED, DIED, NodeState, RunState
from spanline.results import conventions
from spanline.sinks.otel.sql import SHOWN_WHOLE, Shown

_HEAD: Final = re.compile(
    r"(?:Encountered an error[^\n]*\n|\S+ failed, error:\n)?\s*"
    r"(Breaking Change to Contract|(?:Runtime|Database|Compilation|Parsing|Internal|Validation|Dependency) Error)",
    re.IGNORECASE,
)
_CLASSES: Final = {
    "runtime error": "DbtRuntimeError",
    "database error": "DbtDatabaseError",
    "compilation error": "CompilationError",
    "parsing error": "ParsingError",
    "internal error": "DbtInternalError",
    "validation error": "DbtValidationError",
    "dependency error": "DependencyError",
    "breaking change to contract": "ContractBreakingChangeError",
}
"""dbt's classes by how the messages of these, and of what is derived from them, begin."""
_PYTHON: Final = re.compile(r"((?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure))(?::|\Z)")


class Failed(msgspec.Struct, frozen=True):
    """What went wrong.

    `raised`: it is for this span to tell the exception. `quoting`: the words may quote SQL and data; else they are
    ours, or a person's.
    """

    message: str
    failure: Failure
    raised: bool = True
    quoting: bool = True

    def told(self, shown: Shown) -> str:
        """What may be said of it: its kind only, where SQL may not be seen: warehouses quote it in messages."""
        return told(self.message, self.failure, shown) if self.quoting else self.message

    @property
    def attributes(self) -> dict[str, str]:
        """What it is, as attributes."""
        rule = {conventions.RULE: self.failure.rule} if self.failure.rule else {}
        return {conventions.ERROR_TYPE: self.failure.category, **rule}

    @property
    def exception_type(self) -> str:
        """The class of the exception, or the one of dbt's that it is derived from; where nobody says, what it is."""
        head = _HEAD.match(self.message)
        if head is not None:
            return _CLASSES[head[1].lower()]
        named = _PYTHON.match(self.message)
        return named[1] if named is not None else self.failure.category


def told(message: str, failure: Failure, shown: Shown) -> str:
    """The message, or what it is where SQL may not be seen."""
    return message if shown is SHOWN_WHOLE else f"{failure.category} ({failure.rule or 'no rule'})"


def of_node(node: NodeState, adapter: str | None) -> Failed:
    """Why a node failed, or was cut off."""
    return Failed(node.said, Failure("cancelled") if node.status == CANCELLED else failure_of(node.said, adapter))


def of_level(state: RunState, outcome: str, step: int = 0, attempt: int = 0) -> Failed:
    """Why the session, or this step or attempt of it, ended as it did.

    `raised` where no node of it has failed, whose span says it.
    """
    if outcome == CANCELLED:
        cancel = state.cancel
        said = cancel.reason or f"{outcome} by {cancel.by}" if cancel is not None else outcome
        return _in_our_words(said, Failure("timeout" if state.cancelled_by_limit else "cancelled"))
    nodes = [node for node in state.failed_nodes if step in (0, node.step) and attempt in (0, node.attempt)]
    thrown = given_up_for(state)
    if thrown is not None and (outcome == DIED or not nodes):
        return thrown
    said = f"{len(nodes)} failed, first {nodes[0].unique_id}" if nodes else outcome
    decisive = most_permanent(failure_of(node.said, state.adapter) for node in nodes)
    return _in_our_words(said, decisive or failure_of(said, state.adapter))


def _in_our_words(said: str, failure: Failure) -> Failed:
    return Failed(said, failure, raised=False, quoting=False)


def of_query(above: Failed) -> Failed:
    """Why the query failed for which what is above it did: the warehouse's own error. The exception is told there."""
    return Failed(own_words(above.message) or above.message, above.failure, raised=False)


def given_up_for(state: RunState) -> Failed | None:
    """The exception for which dbt gave up, or that its process died, where it did and nobody had asked for it."""
    attempt = state.attempt
    if attempt is None or state.cancelling:
        return None
    said = attempt.died.said if attempt.died is not None else attempt.exception
    return Failed(said, failure_of(attempt.exception or said, state.adapter)) if said else None


def response_code(message: str, adapter: str | None) -> str | None:
    """The warehouse's own code for the error, where the rules know where it writes one."""
    words = f"\n{own_words(message)}"
    for each in matching.of_adapter(adapter) if adapter else ():
        for ignored in each.ignore:
            words = ignored.sub("", words)
        for code in each.codes:
            found = code.search(words)
            if found is not None:
                return found[found.lastindex or 0]
    return None
