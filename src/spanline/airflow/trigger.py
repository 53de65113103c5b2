"""DbtExecutionTrigger: waits in the triggerer for the end of a run, by its journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

import spanline
from spanline.airflow.task_log import TaskLog
from spanline.errors import SpanlineError
from spanline.journal.state import CANCELLED, DIED, SUCCESS

if TYPE_CHECKING:
    from spanline.results.result import RunResult

_POLL_SECONDS: Final = 1.0
"""How often a journal is looked at: five hundred triggers share one event loop."""
BY: Final = "Airflow"


class DbtExecutionTrigger(BaseTrigger):
    """Yields one event when a run has ended, or at its deadline.

    The event is `{status, message, run_id, results}`: `status` is success, error, cancelled, timeout or died, and
    `results` the run's summary, bounded and plain. `deadline` is in seconds since the epoch: the run's supervisor keeps
    that limit itself, and the trigger sees to it where that doesn't answer. `check_interval` is the longest time, in
    seconds, after which it is seen that the run's processes are gone.
    """

    def __init__(self, run_id: str, home_dir: str, deadline: float | None = None, check_interval: float = 60) -> None:
        super().__init__()
        self.run_id = run_id
        self.home_dir = home_dir
        self.deadline = deadline
        self.check_interval = check_interval

    def serialize(self) -> tuple[str, dict[str, object]]:
        """The class, and the arguments that make the same trigger in another process."""
        return (
            "spanline.airflow.trigger.DbtExecutionTrigger",
            {
                "run_id": self.run_id,
                "home_dir": self.home_dir,
                "deadline": self.deadline,
                "check_interval": self.check_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the run's end."""
        yield TriggerEvent(await self._event())

    async def on_kill(self) -> None:
        """Cancel the run: the task was killed, cleared or marked. Airflow gives this one second: it only asks."""
        self._cancel("the deferred task was killed, cleared, or marked")

    async def _event(self) -> dict[str, object]:
        try:
            run = spanline.attach(self.run_id, home_dir=self.home_dir)
        except SpanlineError as error:
            return self._told("error", f"{error}: do the triggerer and the worker share {self.home_dir}?")
        remaining = None if self.deadline is None else max(0.0, self.deadline - time.time())
        try:
            await asyncio.wait_for(self._end(run), remaining)
        except (asyncio.TimeoutError, TimeoutError):
            self._cancel("the task's time is up")
            return self._told("timeout", f"run {self.run_id} took longer than it may, and was cancelled")
        # The journal is read once more, from its start: not in the event loop.
        return self._of_result(await asyncio.to_thread(run.result))

    async def _end(self, run: spanline.Run) -> None:
        tell = TaskLog(run.session)
        async for event, state in run.astates(min(_POLL_SECONDS, self.check_interval)):
            tell(event, state)

    def _of_result(self, result: RunResult) -> dict[str, object]:
        status = {SUCCESS: "success", CANCELLED: "cancelled", DIED: "died"}.get(result.outcome, "error")
        said = result.error or result.outcome
        return self._told("timeout" if result.timed_out else status, said[:2000], result.summary())

    def _told(self, status: str, message: str, results: dict[str, object] | None = None) -> dict[str, object]:
        return {"status": status, "message": message, "run_id": self.run_id, "results": results or {}}

    def _cancel(self, reason: str) -> None:
        try:
            spanline.cancel(self.run_id, home_dir=self.home_dir, by=BY, reason=reason)
        except SpanlineError as error:
            self.log.warning("run %s could not be cancelled: %s", self.run_id, error)
