"""Keep dbt's artifacts in the run's directory when an attempt has ended, and write the results that dbt could not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from spanline import events
from spanline.artifacts import collect
from spanline.dbt import run_results
from spanline.home.home import RunDirectory
from spanline.journal.state import AttemptState, RunState
from spanline.supervisor.session_journal import SessionJournal
from spanline.system import files

log = logging.getLogger("spanline")


def keep_artifacts(directory: RunDirectory, journal: SessionJournal, attempt: AttemptState) -> None:
    """Keep the artifacts of an attempt, unless the run's directory is gone, and journal that."""
    journal.look_for_loss()
    if not journal.lost:
        for kept in _keep(directory, journal.state, attempt):
            journal.append(kept)


def _keep(directory: RunDirectory, state: RunState, attempt: AttemptState) -> Iterator[events.ArtifactKept]:
    """Keep the artifacts of an attempt, and say of each that it is kept. What can't be kept is only warned of."""
    place = directory.artifacts(attempt.session, attempt.step, attempt.attempt)
    try:
        for folder in (place.parent, place):  # not the run's own directory, should it be gone by now
            files.make_folder(folder, parents=False)
    except OSError as error:
        log.warning("dbt's artifacts are not kept: %s", error)
        return
    for path in map(Path, state.artifacts.values()):
        try:
            kept = collect.keep(path, place, attempt.invocation_id)
            if kept is not None:
                yield _kept(kept)
        except (OSError, collect.Mixed) as error:
            log.warning("cannot keep %s: %s", path, error)
    results = place / run_results.FILE_NAME
    if attempt.selection and not results.exists():
        try:
            files.make_folder(place, parents=False)
            run_results.write(state, attempt, results)
            yield _kept(results)
        except OSError as error:
            log.warning("cannot write %s: %s", results, error)


def _kept(file: Path) -> events.ArtifactKept:
    return events.ArtifactKept(name=file.name, size=file.stat().st_size)
