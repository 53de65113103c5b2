"""The time that a session and its nodes may take, and the cancel that follows when one takes longer."""

from __future__ import annotations

import time
from collections.abc import Callable

from spanline.home.limits import Limits
from spanline.journal.state import TIME_OUT, RunState
from spanline.supervisor.cancel import CancelOrder


class TimeLimits:
    """The limits of one session, whose time passes from `begin` on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ends_at: float | None = None
        self._exceeded = False

    def begin(self) -> None:
        """Have the session's time pass from now on."""
        if self._limits.timeout is not None:
            self._ends_at = time.monotonic() + self._limits.timeout

    def exceeded(self, known: Callable[[], RunState]) -> CancelOrder | None:
        """The cancel that a limit asks for, of each limit once. `known` tells what is known of the session by now."""
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            self._ends_at = None
            return self._order(f"the run took longer than {self._limits.timeout:g} s")
        limit = self._limits.node_timeout
        if limit is None or self._exceeded:
            return None
        state = known()
        passed = time.monotonic_ns() - state.clock.mono
        for node in state.open_nodes:
            if node.started is not None and passed > node.started - state.clock.time + limit * 1e9:
                return self._order(f"{node.unique_id} took longer than {limit:g} s", node.unique_id)
        return None

    def _order(self, reason: str, unique_id: str | None = None) -> CancelOrder:
        self._exceeded = True
        return CancelOrder(by=TIME_OUT, reason=reason, unique_id=unique_id)
