"""A replay that could not begin says so: nobody must take silence for delivery."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spanline import events
from spanline.home.home import RunDirectory
from spanline.journal import ids
from tests.support.journals import session_started, undelivered
from tests.support.project import SPANLINE, command
from tests.support.receivers import Receiver


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of which nothing has been delivered."""
    run_id = ids.new_run_id()
    ended = events.SessionEnded(outcome="success", exit_code=0)
    return undelivered(tmp_path, run_id, [session_started(run_id), ended])


def replayed(run: RunDirectory, **environment: str) -> tuple[int, str, str]:
    words = [SPANLINE, "--home", str(run.path.parents[1]), "replay", "latest"]
    done = command(words, run.path, environment)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("left", [None, b"", b"{torn\n"])
def test_without_a_journal_nothing_can_be_sent(run: RunDirectory, receiver: Receiver, left: bytes | None) -> None:
    run.journal.unlink()
    if left is not None:
        run.journal.write_bytes(left)
    code, said, errors = replayed(run, **receiver.lineage_environment)
    assert (code, said) == (2, "")
    assert errors == f"spanline: nothing can be sent of run {run.run_id}: there are no events in {run.journal}\n"


def test_a_sink_that_cannot_begin_is_no_sink_that_owes_nothing(run: RunDirectory) -> None:
    code, said, errors = replayed(run, OPENLINEAGE_CONFIG="/no/such/file.yml")
    assert (code, said) == (2, "")
    why = "LookupError: OPENLINEAGE_CONFIG names /no/such/file.yml, and there is no such file"
    assert errors.splitlines()[-1] == f"spanline: nothing could be sent of run {run.run_id}: openlineage: {why}"


def test_one_sink_that_cannot_begin_keeps_no_other(run: RunDirectory, receiver: Receiver) -> None:
    code, said, _ = replayed(run, OTEL_TRACES_EXPORTER="no_such", **receiver.lineage_environment)
    assert code == 1
    assert len(receiver.lineage) == 2
    of_lineage, of_traces = said.splitlines()
    assert of_lineage == "openlineage: 2 delivered, 0 undelivered"
    assert of_traces.startswith("otel_traces: 0 delivered, some undelivered: it could not begin: LookupError: ")


def test_without_a_sink_nothing_can_be_sent(run: RunDirectory) -> None:
    code, said, errors = replayed(run)
    assert (code, said) == (2, "")
    assert errors.startswith("spanline: no sink is configured: ")
    assert os.listdir(run.path / "cursors") == []
