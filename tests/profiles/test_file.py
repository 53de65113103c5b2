"""The file that dbt reads a profile from is private, and nothing of it is left, whoever dies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanline.errors import SpanlineError
from spanline.profiles import file

HOLDER = """
import os, pathlib, sys, time
from spanline.profiles import file
file.IN_MEMORY = pathlib.Path(sys.argv[1])
written = file.write("a: b\\n")
if "fork" in sys.argv and os.fork() == 0:
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)
    os._exit(0)
os.write(1, b"%s\\n" % bytes(written.directory))
sys.stdin.read()
"""


@pytest.fixture(autouse=True, params=["in memory", "elsewhere"])
def _place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a place in memory, and without."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    if request.param == "elsewhere":
        monkeypatch.setattr(file, "IN_MEMORY", tmp_path / "absent")
    elif not os.access(file.IN_MEMORY, os.W_OK):
        pytest.skip("there is no /dev/shm here")


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that has written a profile, and waits."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file.IN_MEMORY)],
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
    command = [sys.executable, "-c", HOLDER, str(file.IN_MEMORY), "fork"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        lines = [holder.stdout.readline().strip() for _ in range(2)]
        (fork,) = (int(line) for line in lines if line.isdigit())
        (left,) = (Path(line) for line in lines if not line.isdigit())
        try:
            holder.kill()
            holder.wait()
            file.sweep()
            assert not left.exists()
            os.kill(fork, 0)  # it lives still
        finally:
            os.kill(fork, signal.SIGKILL)


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
    monkeypatch.setattr(file, "places", lambda: [tmp_path / "absent"])
    with pytest.raises(SpanlineError, match="cannot write a profile for dbt"):
        file.write("a: b\n")
