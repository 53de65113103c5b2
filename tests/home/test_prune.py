"""Prune bounds the runs of a home, and never takes a live one or, unasked, one that still owes a backend."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from spanline.home import home, lease
from spanline.home import prune as pruning
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from tests.support.project import SPANLINE, command

DAY = 86400


def id_of_age(seconds: float) -> str:
    """A run id whose time, its first 48 bits (RFC 9562), lies so far back."""
    value = int((time.time() - seconds) * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return str(uuid.UUID(int=value & ~(0xF << 76) & ~(3 << 62) | 7 << 76 | 2 << 62))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def old_run(place: Path) -> Callable[..., RunDirectory]:
    def make(age: float, size: int = 0, owed: int | None = None) -> RunDirectory:
        directory, held = home.create_run(place, id_of_age(age), b"{}")
        held.release()
        directory.journal.write_bytes(b"x" * size)
        if owed is not None:
            directory.cursor("openlineage").write_text(json.dumps({"undelivered": owed, "complete": not owed}))
        return directory

    return make


@pytest.fixture
def prune(place: Path, tmp_path: Path) -> Callable[..., list[dict]]:
    def run(*options: str) -> list[dict]:
        done = command([SPANLINE, "--home", str(place), "prune", "--json", *options], tmp_path, {})
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def left(place: Path) -> set[str]:
    assert not [entry for entry in (place / "runs").iterdir() if entry.name.startswith(".")], "nothing half removed"
    return {run.run_id for run in home.runs(place)}


def test_by_age(place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]) -> None:
    young, old = old_run(1.5 * DAY), old_run(2.5 * DAY)
    assert prune("--older-than", "2d") == [{"id": old.run_id, "removed": True, "kept": None}]
    assert left(place) == {young.run_id}


@pytest.mark.parametrize(("text", "days"), [("12h", 0.5), ("2d", 2), ("1w", 7), ("90m", 1 / 16), ("1.5d", 1.5)])
def test_an_age_may_be_in_minutes_hours_days_or_weeks(
    old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]], text: str, days: float
) -> None:
    old_run(days * DAY - 60)
    older = old_run(days * DAY + 60)
    assert [told["id"] for told in prune("--older-than", text)] == [older.run_id]


def test_by_number_the_latest_stay(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    first, second, third = old_run(300), old_run(200), old_run(100)
    assert [line["id"] for line in prune("--keep", "1")] == [first.run_id, second.run_id]
    assert left(place) == {third.run_id}


def test_by_size_the_latest_stay(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    first, second, third = old_run(300, 600_000), old_run(200, 600_000), old_run(100, 600_000)
    assert prune("--max-size", "1300K") == [{"id": first.run_id, "removed": True, "kept": None}]
    assert left(place) == {second.run_id, third.run_id}


def test_a_live_run_stays(place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]) -> None:
    run = old_run(100)
    held = lease.acquire(run.lease)
    assert prune("--keep", "0", "--undelivered") == [{"id": run.run_id, "removed": False, "kept": "it is live"}]
    held.release()
    prune("--keep", "0")
    assert left(place) == set()


def test_a_run_that_owes_a_backend_stays_unless_one_asks(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    owing, paid = old_run(100, owed=3), old_run(50, owed=0)
    lines = prune("--keep", "0")
    assert [line["removed"] for line in lines] == [False, True]
    assert "openlineage" in lines[0]["kept"]
    assert left(place) == {owing.run_id}
    assert not paid.path.exists()
    prune("--keep", "0", "--undelivered")
    assert left(place) == set()


def test_a_run_that_is_somebody_elses_stays_and_keeps_no_other(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    theirs, ours = old_run(2 * DAY), old_run(DAY)
    theirs.lease.unlink()
    theirs.lease.mkdir()  # root may read everything: what nobody can open stands for it
    first, second = prune("--keep", "0")
    assert (first["id"], first["removed"]) == (theirs.run_id, False)
    assert first["kept"].startswith("it can't be removed: ")
    assert (second["id"], second["removed"]) == (ours.run_id, True)
    assert left(place) == {theirs.run_id}


def test_a_dry_run_removes_nothing(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    run = old_run(100)
    assert prune("--keep", "0", "--dry-run") == [{"id": run.run_id, "removed": False, "kept": None}]
    assert left(place) == {run.run_id}


@pytest.mark.parametrize(
    "options", [[], ["--older-than", "soon"], ["--older-than", "5"], ["--max-size", "2X"], ["--keep", "-1"]]
)
def test_a_bound_that_makes_no_sense_is_refused_and_removes_nothing(
    place: Path, tmp_path: Path, old_run: Callable[..., RunDirectory], options: list[str]
) -> None:
    run = old_run(100 * DAY)
    done = command([SPANLINE, "--home", str(place), "prune", *options], tmp_path, {})
    assert done.returncode == 2
    assert left(place) == {run.run_id}


def test_nothing_else_in_the_home_is_touched(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    old_run(100)
    stranger = place / "runs" / "notes"
    stranger.mkdir()
    prune("--keep", "0")
    assert stranger.exists()
    assert (place / ".gitignore").exists()


def test_what_was_left_half_removed_or_half_made_goes(
    place: Path, old_run: Callable[..., RunDirectory], prune: Callable[..., list[dict]]
) -> None:
    run = old_run(DAY)
    removed, made, just_made = (place / "runs" / name for name in (f".removed-{run.run_id}", ".a.1", ".b.2"))
    for path in (removed, made, just_made):
        (path / "cursors").mkdir(parents=True)
    os.utime(made, (0, 0))
    prune("--keep", "1")
    assert {path.name for path in (place / "runs").iterdir()} == {run.run_id, just_made.name}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_run_that_cannot_be_removed_is_not_hidden(old_run: Callable[..., RunDirectory], place: Path) -> None:
    """Who may rename a run's directory need not be able to empty it."""
    run = old_run(DAY)
    for path in (place, run.path.parent):
        path.chmod(0o777)
    run.path.chmod(0o755)
    run.lease.chmod(0o666)
    child = os.fork()
    if child == 0:
        kept = None
        try:
            for path in run.path.parents:
                if path.stat().st_mode & 0o001 == 0:
                    path.chmod(path.stat().st_mode | 0o011)
            os.setuid(12345)
            kept = pruning.prune(run, undelivered_too=False, dry_run=False)
        finally:
            os._exit(0 if (kept or "").startswith("it can't be removed: it belongs to root (uid 0)") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert left(place) == {run.run_id}
    assert run.spec.exists()


def test_what_cannot_be_removed_of_a_run_is_said_and_goes_later(
    old_run: Callable[..., RunDirectory], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = old_run(DAY)
    busy = run.path / "artifacts"
    busy.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", busy], capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a file system")
    gone = run.path.with_name(f".removed-{run.run_id}")
    try:
        assert pruning.prune(run, undelivered_too=False, dry_run=False) is None
    finally:
        subprocess.run(["umount", gone / "artifacts"], check=True)
    assert f"{run.run_id}: some of it is left in {gone}: " in caplog.text
    assert not run.path.exists()
    pruning.sweep(place)
    assert left(place) == set()


def test_a_run_that_is_taken_up_stays(old_run: Callable[..., RunDirectory]) -> None:
    run = old_run(DAY)
    held = lease.acquire(run.lease)
    for dry_run in (False, True):
        assert pruning.prune(run, undelivered_too=True, dry_run=dry_run) == "it is live"
    held.release()
    assert run.spec.exists()


def test_the_size_of_a_run_is_known_while_its_files_come_and_go(old_run: Callable[..., RunDirectory]) -> None:
    run = old_run(DAY, size=1000)
    over = threading.Event()

    def save() -> None:
        while not over.is_set():
            Cursor(offset=1).save(run.cursor("openlineage"))

    saving = threading.Thread(target=save)
    saving.start()
    try:
        assert all(run.size() >= 1000 for _ in range(3000))
    finally:
        over.set()
        saving.join()


@pytest.mark.parametrize("options", [("--older-than", "-1d"), ("--max-size", "-1G"), ("--max-size", "infG")])
def test_no_bound_below_nothing(place: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    done = command([SPANLINE, "--home", str(place), "prune", *options], tmp_path, {})
    assert done.returncode == 2
    assert b"is not a quantity such as" in done.stderr
