"""A run on standard output as JSON log lines, for those whose containers' output is what they collect."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from spanline import events
from spanline.api.run import Run
from spanline.events import Event
from spanline.journal.state import RunState
from spanline.results.log_lines import LogLine, LogLines, json_line, service_name
from spanline.results.result import RunResult
from spanline.results.summary import summary
from spanline.system.stdio import write
from spanline.system.terminal import json_line as printable


def write_lines(run: Run, fd: int) -> RunResult:
    """Write a line for what happens in the run's session, as it does, and its summary; return the run's result."""
    service = service_name()
    held: list[LogLine] = []
    for event, line in _lines(run):
        if isinstance(event, events.SessionEnded):
            held.append(line)
        else:
            write(fd, printable(json_line(line, service)))
    result = run.wait()
    if held:
        # The very last one is the run's; what sinks still owe is known only now.
        held[-1] = msgspec.structs.replace(held[-1], body=summary(result))
    for line in held:
        write(fd, printable(json_line(line, service)))
    return result


def _lines(run: Run) -> Iterator[tuple[Event, LogLine]]:
    state, make, session = RunState(), LogLines(printed=True), run.session
    for record in run.records():
        state.apply(record.event)
        for line in make(record.event, state):
            if state.session_number == session:
                yield record.event, line
