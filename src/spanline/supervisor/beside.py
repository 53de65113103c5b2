"""What goes on beside dbt in a session: the delivery to sinks, the columns, where the project's code is."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spanline import events
from spanline.dbt.repository import find_repository
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.sinks.dispatcher import Deliveries, delivery_ended, flush_seconds
from spanline.supervisor.column_resolver import ResolverProcess, start_resolver
from spanline.supervisor.session_journal import SessionJournal

_GIT_SECONDS: Final = 1.0
_COLUMNS_SECONDS: Final = 2.0
"""How long the end of a session waits for columns that are still being looked for."""


class Beside:
    """The work beside dbt, which begins once dbt's process is there: it would wait for all that is imported."""

    def __init__(self, directory: RunDirectory, journal: SessionJournal, project_dir: Path) -> None:
        self._directory = directory
        self._journal = journal
        self._project_dir = project_dir
        self._deliveries: Deliveries | None = None
        self._git: threading.Thread | None = None
        self._resolver: ResolverProcess | None = None

    def begin(self, session: int) -> None:
        """Begin, unless that was done before."""
        if self._deliveries is None:
            self._deliveries = Deliveries(self._directory, self._journal.file)
            self._resolver = start_resolver(self._directory, self._journal.appender.fd, session, os.environ)
            # Who asks for a cancel mustn't wait for git.
            self._git = threading.Thread(target=self._tell_repository, name="spanline-git", daemon=True)
            self._git.start()

    def look(self) -> None:
        """Say so where the resolver has ended by itself."""
        if self._resolver is not None and self._resolver.ended:
            self._stop_resolver(0.0)

    def end(self) -> None:
        """Nothing is looked for any more, as dbt has ended; columns have a moment more where there were nodes."""
        self._stop_resolver(_COLUMNS_SECONDS if self._journal.state.nodes else 0.0)
        if self._git is not None:
            self._git.join(_GIT_SECONDS)

    def deliver_to_the_end(self) -> dict[str, int]:
        """Have the session delivered to its end, and return what each sink has not delivered."""

        def tell(cursors: Mapping[str, Cursor]) -> None:
            self._journal.catch_up()
            self._journal.append(delivery_ended(self._journal.file, cursors, self._journal.state))
            self._journal.settle()

        # Where no attempt was begun, they have not been either.
        deliveries = self._deliveries or Deliveries(self._directory, self._journal.file)
        cursors = deliveries.finish(flush_seconds(), tell)
        self._deliveries = None  # they have taken most of the memory
        return {name: cursor.undelivered for name, cursor in cursors.items() if not cursor.complete}

    def _stop_resolver(self, timeout: float) -> None:
        if self._resolver is not None:
            reason = self._resolver.finish(timeout)
            self._journal.append(events.ColumnResolverStopped(reason=reason))
            self._resolver = None

    def _tell_repository(self) -> None:
        """Say where the project's code is, while dbt is being imported."""
        found = find_repository(self._project_dir)
        if found is not None:
            self._journal.append(found)
