"""Replay: send what a run's sinks have not delivered, and end in the journal what a dead supervisor has left open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from spanline import events
from spanline.errors import UsageError
from spanline.home import lease
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory, check_ours
from spanline.home.spec import RunSpec
from spanline.journal.appender import PatientAppender
from spanline.journal.reader import Reader
from spanline.journal.state import DIED, SUCCESS, state_of
from spanline.runner.shared import exit_codes
from spanline.sinks.dispatcher import Deliveries, delivery_ended, is_news
from spanline.stats import keep_facts
from spanline.supervisor.full_disk import end_of_attempt
from spanline.system.open_file import OpenFile


def replay(directory: RunDirectory, *, everything: bool, timeout: float) -> Mapping[str, Cursor]:
    """Deliver what is behind each sink's cursor, or `everything` again, and return the cursors as they are then.

    Ids, and so messages, are those of the first time. A sink that could not begin has a cursor that says why.
    Raises `RunBusy` while the run goes on, and `UsageError` where the run is somebody else's, its journal says nothing,
    or no sink could begin.
    """
    check_ours(directory)
    held = lease.acquire(directory.lease)
    try:
        if next(Reader(directory.journal).read(), None) is None:
            raise UsageError(
                f"nothing can be sent of run {directory.run_id}: there are no events in {directory.journal}"
            )
        close_abandoned(directory)
        journal = OpenFile(directory.journal)
        deliveries = Deliveries(directory, journal, again=everything)
        cursors = deliveries.finish(timeout, partial(_tell_delivery, directory, journal))
    finally:
        held.release()
    if deliveries.off and not cursors:
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(deliveries.off.items()))
        raise UsageError(f"nothing could be sent of run {directory.run_id}: {why}")
    return cursors | {name: _not_begun(directory.cursor(name), why) for name, why in deliveries.off.items()}


def _not_begun(path: Path, why: str) -> Cursor:
    cursor = Cursor.load(path)
    cursor.complete, cursor.error = False, f"it could not begin: {why}"
    return cursor


def _tell_delivery(directory: RunDirectory, journal: OpenFile, cursors: Mapping[str, Cursor]) -> None:
    """Journal how far the sinks have come, where that is further than was told, or from elsewhere."""
    state = state_of(record.event for record in Reader(journal).read())
    told = delivery_ended(journal, cursors, state)
    if not any(is_news(state.deliveries.get(sink.sink), sink) for sink in told.sinks):
        return
    appender = PatientAppender(directory.journal, "replay")
    _add_secrets(appender, directory, os.environ)
    appender.locate(state.session_number, 0, 0)
    appender.append(told)
    appender.settle()
    appender.close()
    keep_facts(directory)


def close_abandoned(directory: RunDirectory, environ: Mapping[str, str] = os.environ) -> None:
    """End the last session where its supervisor died before it could. Call it with the lease held.

    `environ` has the run's secrets, if anything has.
    """
    state = state_of(record.event for record in Reader(directory.journal).read())
    if state.session is None or state.ended is not None:
        return
    appender = PatientAppender(directory.journal, "closer", partial(state.clock.stamps, state.last))
    knows_secrets = _add_secrets(appender, directory, environ)
    attempt = state.attempt
    if attempt is not None and attempt.exit_code is None and attempt.died is None:
        appender.locate(attempt.session, attempt.step, attempt.attempt)
        died = events.RunnerDied(detail="it ended together with its supervisor")
        for event in end_of_attempt(state, died, messages=knows_secrets):
            appender.append(event)
            state.apply(event)
    code = attempt.exit_code if attempt is not None and attempt.exit_code is not None else exit_codes.ERROR
    appender.locate(state.session_number, 0, 0)
    outcome = state.outcome(code)
    last = attempt.step if attempt is not None else 0
    if outcome == SUCCESS and last < len(state.session.steps):
        outcome, code = DIED, exit_codes.ERROR
    appender.append(events.SessionEnded(outcome=outcome, exit_code=code))
    appender.settle()
    appender.sync()
    appender.close()


def _add_secrets(appender: PatientAppender, directory: RunDirectory, environ: Mapping[str, str]) -> bool:
    """Have the run's secrets cut, and return whether all are known: their values are not kept."""
    try:
        spec = RunSpec.load(directory.spec)
    except UsageError:
        return False
    appender.redactor.add(spec.secrets(environ))
    return all(name in environ for name in spec.secret_names)
