"""The facts that statistics need from one journal: its sessions, retries and node executions, as a small table.

The fold (`spanline.journal.state`) says what events mean, here as everywhere. In a journal of 1,500 nodes, only one
line in seven is decoded, selected by a regular expression: the rest is queries, logs and columns. Of a node's
description, only what identifies its code is decoded: the fold merely stores descriptions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, Union

import msgspec

from spanline import events
from spanline.dbt.arguments import without_global_flags
from spanline.events import Event, TornRecord
from spanline.journal.reader import Unfinished
from spanline.journal.state import CUT_OFF, RUNNING, RunState, outcome_of

VERSION: Final = 2
"""Of what is taken from a journal: with another, what was kept of journals is taken again."""

SESSION, RETRY, NODE, TORN = "session", "retry", "node", "torn"
"""The kinds of facts."""
TESTS: Final = ("test.", "unit_test.")


class _Relation(msgspec.Struct, frozen=True):
    name: str


class _Described(Event, frozen=True, kw_only=True, tag="node_described"):
    """Of `events.NodeDescribed` what identifies the code, which is a third of the line."""

    unique_id: str
    materialized: str | None = None
    relation: _Relation | None = None
    depends_on: tuple[str, ...] = ()
    checksum: str | None = None
    test: events.TestInfo | None = None


READ: Final = (
    events.SessionStarted,
    events.SessionEnded,
    events.AttemptStarted,
    events.AttemptEnded,
    events.RetryScheduled,
    events.RunnerDied,
    events.CancelRequested,
    events.Heartbeat,
    events.InterruptReceived,
    _Described,
    events.NodeFinished,
    events.HookFinished,
)
_TAGS: Final = "|".join(str(event.__struct_config__.tag) for event in READ)
_LINE: Final = re.compile(rb'\n\{"type":"(?:' + _TAGS.encode() + rb')"[^\n]*')
_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Union[READ])  # noqa: UP007 - made of a tuple
_NO_EXECUTION: Final = CUT_OFF | {"skipped", "no-op", RUNNING}
_UNWATCHED_SECONDS: Final = 60.0
"""A supervisor writes a heartbeat every 30 s: a session's end later than this was written by somebody else."""
_VARYING: Final = frozenset(("--vars", "--event-time-start", "--event-time-end"))
"""Options of dbt that may differ from run to run of the same job."""


class Facts(msgspec.Struct):
    """A table, column by column.

    | kind    | name            | status                    | seconds        | moment   | number                    |
    | ------- | --------------- | ------------------------- | -------------- | -------- | ------------------------- |
    | session | the job         | outcome, None: not ended  | it took        | start    | of the session            |
    | retry   | category        |                           | of the wait    | when     |                           |
    | node    | unique id       | dbt's, ran and ended      | execution time | end      | of a test: its code, hashed |
    | torn    |                 |                           |                |          | of lines                  |
    """

    kind: list[str] = []
    name: list[str] = []
    status: list[str | None] = []
    seconds: list[float] = []
    moment: list[int] = []
    number: list[int | None] = []

    def add(
        self,
        kind: str,
        name: str = "",
        status: str | None = None,
        seconds: float = 0.0,
        moment: int = 0,
        number: int | None = None,
    ) -> None:
        """Add a row."""
        self.kind.append(kind)
        self.name.append(name)
        self.status.append(status)
        self.seconds.append(seconds)
        self.moment.append(moment)
        self.number.append(number)


def facts_of(journal: Iterable[bytes]) -> Facts:
    """Read a journal, given in pieces, to its last newline. Without a session, its only facts are torn lines."""
    reading = _Reading()
    decode = _decoder.decode
    for line in _lines(journal):
        if line is None:
            reading.torn += 1
            continue
        try:
            event = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                event = events.decode(line)
            except TornRecord:
                reading.torn += 1
                continue
        reading.take(event)
    return reading.end()


def _lines(journal: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines to be read, each with the newline before it; None for one that is longer than a record.

    Only a line that two pieces share is copied to join it.
    """
    unfinished = Unfinished()
    unfinished.add(b"\n")
    for piece in journal:
        first, last = piece.find(b"\n"), piece.rfind(b"\n")
        if first < 0:
            unfinished.add(piece)
            continue
        line = unfinished.end(piece[:first])
        yield from (None,) if line is None else _LINE.findall(line)
        yield from _LINE.findall(piece, first, last)
        unfinished.add(piece[last:])


class _Reading:
    """One reading of one journal."""

    def __init__(self) -> None:
        self.torn = 0
        self._facts = Facts()
        self._state = RunState()
        self._last = 0
        self._descriptions: dict[str, _Described] = {}
        self._invocation = (0, 0, 0)
        self._tests: list[int] = []

    def take(self, event: Event | _Described) -> None:
        """Take the next event into account."""
        _TAKES.get(type(event), _Reading._other)(self, event)

    def end(self) -> Facts:
        """The journal has no more."""
        self._identify_tests()
        self._end_session(None)
        if self.torn:
            self._facts.add(TORN, number=self.torn)
        return self._facts

    def _end_session(self, outcome: str | None) -> None:
        """Note the session under way, if there is one, as not ended, or as ended by the start of another."""
        if self._state.session is not None and self._state.ended is None:
            self._note_session(outcome, self._last)

    def _note_session(self, outcome: str | None, end: int) -> None:
        state = self._state
        if state.session is not None:
            seconds = max(end - state.started, 0) / 1e9
            name = job(state.session)
            self._facts.add(SESSION, name, outcome, seconds, state.started, state.session_number)

    def _other(self, event: Event) -> None:
        self._state.apply(event)
        self._last = self._state.now

    def _session_started(self, event: events.SessionStarted) -> None:
        self._end_session("died")
        self._other(event)

    def _runner_died(self, event: events.RunnerDied) -> None:
        self._state.apply(event)  # it may have been found dead much later

    def _session_ended(self, event: events.SessionEnded) -> None:
        self._state.apply(event)
        now = self._state.now
        watched = now - self._last <= _UNWATCHED_SECONDS * 1e9
        self._note_session(outcome_of(self._state, event), now if watched else self._last)

    def _retry_scheduled(self, event: events.RetryScheduled) -> None:
        self._other(event)
        self._facts.add(RETRY, event.category or "unknown", seconds=event.delay, moment=self._state.now)

    def _node_described(self, event: _Described) -> None:
        self._enter((event.session, event.step, event.attempt))
        self._descriptions[event.unique_id] = event
        self._last = self._state.clock.at(event)

    def _node_finished(self, event: events.NodeFinished) -> None:
        self._other(event)
        unique_id = event.unique_id
        node = self._state.nodes[unique_id]
        if node.status in _NO_EXECUTION:
            return
        if unique_id.startswith(TESTS):
            self._enter((event.session, event.step, event.attempt))
            self._tests.append(len(self._facts.kind))
        self._facts.add(NODE, unique_id, node.status, node.execution_time, self._last)

    def _hook_finished(self, event: events.HookFinished) -> None:
        self._other(event)
        status = self._state.hooks[event.unique_id].status
        if status not in _NO_EXECUTION:
            self._facts.add(NODE, event.unique_id, status, event.execution_time, self._last)

    def _enter(self, invocation: tuple[int, int, int]) -> None:
        """What is described from here on is the code of this invocation, and not of the one before."""
        if invocation != self._invocation:
            self._identify_tests()
            self._invocation = invocation

    def _identify_tests(self) -> None:
        """Say of the tests of the invocation that is over which code they have run on."""
        if self._tests:
            codes = code_hashes(self._descriptions)
            for row in self._tests:
                self._facts.number[row] = codes.get(self._facts.name[row])
            self._tests = []


_TAKES: Final[Mapping[type[Event | _Described], Callable[[_Reading, Any], None]]] = {
    events.SessionStarted: _Reading._session_started,
    events.SessionEnded: _Reading._session_ended,
    events.RetryScheduled: _Reading._retry_scheduled,
    events.RunnerDied: _Reading._runner_died,
    _Described: _Reading._node_described,
    events.NodeFinished: _Reading._node_finished,
    events.HookFinished: _Reading._hook_finished,
}


def code_hashes(descriptions: Mapping[str, _Described]) -> dict[str, int]:
    """For each node a hash of its own code and that of all that is above it.

    A node's parents are described before it, so one pass is enough.
    """
    encode = msgspec.json.Encoder().encode
    found: dict[str, int] = {}
    for unique_id, node in descriptions.items():
        relation = node.relation.name if node.relation is not None else None
        parents = [(parent, found.get(parent)) for parent in node.depends_on]
        code = encode((node.checksum, relation, node.materialized, node.test, parents))
        found[unique_id] = int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), "big", signed=True)
    return found


def job(session: events.SessionStarted) -> str:
    """The job of a run: the task of its caller, or the project and dbt's command.

    dbt's global flags are not part of it: with other colors, or less output, it is the same job.
    """
    dag, task = session.caller.get("dag_id"), session.caller.get("task_id")
    if dag and task:
        return f"{dag}.{task}"
    commands = "; ".join(" ".join(_lasting(argv)) for argv in session.steps)
    return f"{PurePath(session.project_dir).name}: {commands}"


def _lasting(argv: list[str]) -> Iterator[str]:
    arguments = iter(without_global_flags(argv))
    for argument in arguments:
        if argument in _VARYING:
            next(arguments, None)
        elif argument.partition("=")[0] not in _VARYING:
            yield argument
