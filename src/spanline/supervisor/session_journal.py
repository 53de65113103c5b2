"""The journal of a run as who supervises a session sees it: written, read back, and folded into what is known."""

from __future__ import annotations

import logging
import os

from spanline.events import Event
from spanline.home.home import RunDirectory
from spanline.journal.appender import PatientAppender
from spanline.journal.progress import Progress
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.system.open_file import OpenFile

log = logging.getLogger("spanline")


class SessionJournal:
    """One journal, open to the end of the session. What becomes of its file is said once, and ends nothing."""

    def __init__(self, directory: RunDirectory) -> None:
        self.appender = PatientAppender(directory.journal, f"supervisor-{os.getpid()}")
        self.file = OpenFile(directory.journal, self.appender.fd)
        self.state = RunState()
        """What is known of the session, as of the last `catch_up`."""
        self.progress = Progress()
        """What is done of the run, as of then."""
        self.unwritten: list[Event] = []
        """What the journal should hold at its end, and had no room for."""
        self.lost = ""
        """What became of it, where it can't be read any more."""
        self._directory = directory
        self._reader = Reader(self.file)

    def append(self, event: Event) -> None:
        """Write an event, where the appender stands."""
        self.appender.append(event)

    def locate(self, session: int, step: int, attempt: int) -> None:
        """Say of which invocation the next events are."""
        self.appender.locate(session, step, attempt)

    def catch_up(self) -> None:
        """Read what has come, whoever has written it."""
        try:
            for record in self._reader.read():
                self._apply(record.event)
        except OSError as error:
            self._lose(f"the journal {self.file.path} can't be read any more: {error.strerror or error}")

    def settle(self) -> None:
        """Write what there was no room for; what there is none for now either is at least known here."""
        self.catch_up()
        for event in self.appender.settle():
            self._apply(event)
            self.unwritten.append(event)
        self.catch_up()

    def look_for_loss(self) -> None:
        """Look whether somebody has removed it: dbt goes on, and so does the delivery, as far as it can be read."""
        if not self.lost and self.file.is_gone:
            self._lose(self._directory.loss)

    def _apply(self, event: Event) -> None:
        self.state.apply(event)
        self.progress.apply(event)

    def _lose(self, what: str) -> None:
        if not self.lost:
            self.lost = what
            log.warning("%s", what)
