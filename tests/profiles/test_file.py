"""The file that dbt reads a profile from is private, and nothing of it is left, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from spanline.errors import SpanlineError
from spanline.profiles import file

HOLDER = """
import pathlib, sys
from spanline.profiles import file
file._IN_MEMORY = pathlib.Path(sys.argv[1])
written = file.write("a: b\\n")
print(written.directory, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True, params=["in memory", "elsewhere"])
def _place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a place in memory, and without."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    if request.param == "elsewhere":
        monkeypatch.setattr(file, "_IN_MEMORY", tmp_path / "absent")
    elif not os.access(file._IN_MEMORY, os.W_OK):
        pytest.skip("there is no /dev/shm here")


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that has written a profile, and waits."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file._IN_MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield held
    held.kill()
    held.communicate()


def test_nobody_else_can_read_it_and_it_goes_when_it_has_been_read() -> None:
    before = os.umask(0)
    try:
        written = file.write("a: b\n")
    finally:
        os.umask(before)
    with written:
        found = written.directory / "profiles.yml"
        assert found.read_text() == "a: b\n"
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        assert stat.S_IMODE(written.directory.stat().st_mode) == 0o700
        written.remove()
        assert not written.directory.exists()
        written.remove()


def test_it_goes_with_an_exception_too() -> None:
    def fail() -> Path:
        with file.write("a: b\n") as written:
            assert written.directory.exists()
            places.append(written.directory)
            raise KeyError

    places: list[Path] = []
    with pytest.raises(KeyError):
        fail()
    assert not places[0].exists()


def test_what_a_killed_process_has_left_is_swept_and_what_a_live_one_holds_is_not(
    holder: subprocess.Popen[str],
) -> None:
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    with file.write("mine: 1\n") as mine:
        file.sweep()
        assert (left / "profiles.yml").exists()
        assert (mine.directory / "profiles.yml").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (left / "profiles.yml").exists()
        file.sweep()
        assert not left.exists()
        assert (mine.directory / "profiles.yml").exists()


def test_a_fork_of_ours_holds_nothing() -> None:
    """One that outlives us must not keep the next start from sweeping."""
    with file.write("a: b\n") as written:
        context = multiprocessing.get_context("fork")
        there, here = context.Pipe()
        child = context.Process(target=_wait_for, args=(there,), daemon=True)
        child.start()
        assert here.recv() == "forked"
        os.close(written._lock)  # as our death would
        written._lock = os.open(os.devnull, os.O_RDONLY)
        file.sweep()
        assert not written.directory.exists()
        here.send("end")
        child.join()


def _wait_for(pipe: Connection) -> None:
    pipe.send("forked")
    pipe.recv()


def test_others_directories_and_links_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "kept").touch()
    link = Path(tempfile.gettempdir()) / "spanline-profiles-link"
    link.symlink_to(target)
    plain = Path(tempfile.gettempdir()) / "spanline-profiles-file"
    plain.touch()
    file.sweep()
    assert link.is_symlink()
    assert plain.exists()
    assert (target / "kept").exists()


def test_no_place_for_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_places", lambda: [tmp_path / "absent"])
    with pytest.raises(SpanlineError, match="cannot write a profile for dbt"):
        file.write("a: b\n")
