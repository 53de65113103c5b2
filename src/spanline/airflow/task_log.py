"""The task's log: a line for each node as it ends, and the run's summary at the end, with their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from spanline.events import Event
from spanline.journal.state import RunState
from spanline.results import conventions
from spanline.results.log_lines import LogLines
from spanline.results.result import RunResult
from spanline.results.summary import summary

log = structlog.get_logger("spanline.airflow")

_OF_THE_RUN: Final = frozenset(
    (
        *("dbt.event.name", "dbt.project", "dbt.target", "invocation_id"),
        *("spanline.attempt", "spanline.run.id", "spanline.session", "spanline.step"),
    )
)
_METHODS: Final = {"info": "info", "warn": "warning", "error": "error"}


class TaskLog:
    """Tells of one session of a run: what earlier tries did is in their logs."""

    def __init__(self, session: int) -> None:
        self._lines = LogLines(printed=True)
        self._session = session

    def __call__(self, event: Event, state: RunState) -> None:
        """Log what this event, which was already applied to the state, amounts to."""
        if event.session < self._session:
            return
        for line in self._lines(event, state):
            if conventions.RUN_OUTCOME not in line.attributes:  # the summary says it
                getattr(log, _METHODS[line.severity])(line.body, **_own(line.attributes))


def _own(attributes: Mapping[str, object]) -> dict[str, object]:
    """What isn't the same for every line of the run."""
    return {name: value for name, value in attributes.items() if name not in _OF_THE_RUN}


def log_summary(result: RunResult) -> None:
    """Log the summary that the command line prints."""
    (log.info if result.success else log.error)(summary(result))
