"""Files where somebody may have put something else: nothing is followed, waited on, or believed that isn't ours."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanline import events
from spanline.api.run import Run
from spanline.errors import UsageError
from spanline.home import home, lease
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.journal import ids
from spanline.journal.appender import Appender, PatientAppender
from spanline.lineage.cache import Cache
from spanline.stats.kept import fits, keep_beside
from spanline.stats.places import Local
from spanline.supervisor.attempt import death
from spanline.supervisor.cancel import CancelOrder, Orders, order_cancel
from spanline.system import files, process
from tests.support.journals import session_started
from tests.support.project import SPANLINE, command

STRANGER = 12345
"""A user who is neither root nor whoever runs the tests."""
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def a_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"precious")
    path.symlink_to("target")


def a_socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


OTHERS: dict[str, Callable[[Path], object]] = {
    "a symbolic link": a_link,
    "a FIFO": os.mkfifo,
    "a directory": os.mkdir,
    "a socket": a_socket,
    "a device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),  # /dev/zero, which has no end
}


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that is no file."""
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    try:
        OTHERS[request.param](Path("it"))
    except PermissionError:
        pytest.skip(f"this user cannot make {request.param}")
    return Path("it")


@pytest.mark.parametrize(
    "use",
    [
        files.read,
        files.read_start,
        files.read_end,
        files.open_to_append,
        lambda path: files.copy(path, Path("copy")) if not path.is_symlink() else files.read(path),
    ],
    ids=["read", "read_start", "read_end", "open_to_append", "copy"],
)
def test_what_is_no_file_is_an_error_at_once(other: Path, use: Callable[[Path], object]) -> None:
    with pytest.raises(OSError, match=r"symbolic link|not a file|Is a directory|not followed"):
        use(other)
    assert not Path("target").exists() or Path("target").read_bytes() == b"precious"
    assert not Path("copy").exists()


def test_what_is_written_takes_the_place_of_what_is_no_file(other: Path) -> None:
    if other.is_dir():
        with pytest.raises(OSError, match="it"):
            files.write(other, b"ours")
    else:
        files.write(other, b"ours")
        assert files.read(other) == b"ours"
    assert not Path("target").exists() or Path("target").read_bytes() == b"precious"
    assert not list(Path().glob(".it.*")), "nothing half written is left"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_are_as_they_are_asked_for_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.make_folder(tmp_path / "folder")
        files.write(tmp_path / "private", b"")
        files.write(tmp_path / "public", b"", 0o644)
        files.open_to_append(tmp_path / "log").close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"folder": 0o700, "private": 0o600, "public": 0o644, "log": 0o600}


def test_a_file_is_read_no_further_than_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert files.read(path, 10) == b"0123456789"
    with pytest.raises(OSError, match="longer than 9 bytes"):
        files.read(path, 9)
    assert (files.read_start(path, 3), files.read_end(path, 3)) == (b"012", b"789")
    assert files.read_start(path, 99) == files.read_end(path, 99) == b"0123456789"


def test_a_copy_is_of_what_a_link_leads_to_and_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("manifest.json")
    files.copy(tmp_path / "link", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"{}"
    with pytest.raises(FileExistsError):
        files.copy(tmp_path / "link", tmp_path / "copy")


# --- a run's directory ------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    """A home that others may look into, as pytest's own folders are nobody else's."""
    folder = Path(tempfile.mkdtemp(prefix="spanline-test-"))
    folder.chmod(0o755)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture
def run(place: Path) -> RunDirectory:
    """A run that has failed, whose interpreter leaves a mark where it is started."""
    python = place.parent / "python"
    python.write_text(f"#!/bin/sh\ntouch {place.parent}/started\nexit 1\n")
    python.chmod(0o755)
    run_id = ids.new_run_id()
    spec = RunSpec(run_id=run_id, steps=[["build"]], cwd=str(place.parent), project_dir="/p/shop", python=str(python))
    directory, held = home.create_run(place, run_id, spec.encode())
    held.release()
    appender = Appender(directory.journal, "test")
    appender.locate(1, 0, 0)
    appender.append(session_started(run_id))
    appender.append(events.SessionEnded(outcome="failed", exit_code=1))
    appender.close()
    return directory


def said(place: Path, *words: str, **environment: str) -> tuple[int, str]:
    """The exit code of a command, and what it says in one line on standard error."""
    done = command([SPANLINE, "--home", str(place), *words], place.parent, environment)
    return done.returncode, done.stderr.decode()


USES: dict[str, tuple[Callable[[RunDirectory], object], bool]] = {
    "journal.jsonl": (lambda run: Run(run).state, False),
    "spec.json": (lambda run: RunSpec.load(run.spec), False),
    "lease": (lambda run: lease.acquire(run.lease), False),
    "lease ": (lambda run: lease.is_held(run.lease), False),
    "cursors/a.json": (lambda run: Cursor.load(run.cursor("a")).save(run.cursor("a")), True),
    "facts.json": (
        lambda run: (Local(run.path.parents[1]).kept(Local(run.path.parents[1]).journals()[0]), keep_beside(run)),
        True,
    ),
    "reserve": (lambda run: PatientAppender(run.journal, "test").close(), True),
    "faults.log": (lambda run: death(-11, run.faults, killed=False), True),
    "supervisor.log": (
        lambda run: process.spawn_detached("spanline.supervisor.detached", [], run.supervisor_log),
        False,
    ),
    "supervisor.log ": (lambda run: process.last_line(run.supervisor_log), True),
}
"""What is done with each file of a run, and whether it goes on without that file."""


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("make", [os.mkfifo, a_link], ids=["fifo", "link"])
def test_nothing_waits_for_or_follows_what_stands_in_place_of_a_runs_file(
    run: RunDirectory, name: str, make: Callable[[Path], None]
) -> None:
    path = run.path / name.strip()
    path.unlink(missing_ok=True)
    make(path)
    use, goes_on = USES[name]
    with within(10):
        if goes_on:
            use(run)
        else:
            with pytest.raises((OSError, UsageError), match=r"symbolic link|FIFO|not a file"):
                use(run)
    target = path.parent / "target"
    assert not target.exists() or target.read_bytes() == b"precious"


@pytest.mark.parametrize("make", [os.mkfifo, a_link, os.mkdir], ids=["fifo", "link", "folder"])
def test_what_stands_in_place_of_a_cancel_is_one(run: RunDirectory, make: Callable[[Path], None]) -> None:
    """Whoever put it there may ask for one, and nobody else."""
    orders = Orders(run)
    assert orders.new() is None
    make(run.cancel)
    with within(10):
        found = orders.new()
    assert found is not None
    assert found.by == "an unreadable cancel file"
    assert orders.new() is None, "one order"


@of_root
def test_a_cancel_that_root_asks_for_is_read_by_whose_run_it_is(place: Path, run: RunDirectory) -> None:
    before = os.umask(0o077)
    try:
        order_cancel(run, CancelOrder(by="root"))
    finally:
        os.umask(before)
    for folder in (place, run.path.parent, run.path):
        give_away(folder)
    assert as_a_stranger(lambda: files.read(run.cancel)) == ""


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"\xff", b'{"x":' + b"[" * 30_000], ids=lambda each: str(each)[:9]
)
def test_what_makes_no_sense_is_not_believed(run: RunDirectory, content: bytes) -> None:
    for path in (run.spec, run.lease, run.cursor("a"), run.facts, run.cancel):
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot read .*spec\.json: invalid content: "):
        RunSpec.load(run.spec)
    assert lease.read_holder(run.lease) is None
    assert Cursor.load(run.cursor("a")) == Cursor()
    assert not fits(content, run.run_id, 1)
    orders = Orders(run)
    run.cancel.write_bytes(content)
    order = orders.new()
    assert order is not None
    assert order.by == "an unreadable cancel file"


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise where it takes longer, be it in a system call."""

    def late(*_: object) -> None:
        raise AssertionError(f"it has taken longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("words", ["runs", "show latest", "retry latest", "replay latest"])
def test_a_fifo_in_place_of_a_journal_is_said_in_a_line(place: Path, run: RunDirectory, words: str) -> None:
    run.journal.unlink()
    os.mkfifo(run.journal)
    code, errors = said(place, *words.split())
    assert code == (0 if words == "runs" else 2)
    assert errors.count("\n") == 1
    assert "it is a FIFO, not a file" in errors


def test_a_link_among_the_runs_is_no_run(place: Path, run: RunDirectory) -> None:
    linked = run.path.with_name(ids.new_run_id())
    linked.symlink_to(run.path)
    assert home.runs(place) == [run]
    with pytest.raises(UsageError, match="symbolic link"):
        home.check_ours(RunDirectory(linked))


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_home_is_its_owners_alone_and_one_that_is_there_stays_as_it_is(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        directory, held = home.create_run(place, ids.new_run_id(), b"{}")
        held.release()
        folders = (place, place / "runs", directory.path, directory.path / "cursors")
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 4
        assert stat.S_IMODE((place / ".gitignore").stat().st_mode) == 0o644
        place.chmod(0o2775)
        home.create_run(place, ids.new_run_id(), b"{}")[1].release()
        assert stat.S_IMODE(place.stat().st_mode) == 0o2775
    finally:
        os.umask(before)


def test_a_link_in_place_of_the_file_that_git_reads_is_not_followed(place: Path) -> None:
    place.mkdir()
    (place / ".gitignore").symlink_to("target")
    home.create_run(place, ids.new_run_id(), b"{}")[1].release()
    assert not (place / "target").exists()


# --- somebody else's --------------------------------------------------------------------------------------------------


def give_away(*paths: Path) -> None:
    for path in paths:
        os.chown(path, STRANGER, -1)


@of_root
@pytest.mark.parametrize("theirs", ["spec", "run", "runs", "home"])
def test_nothing_is_started_that_somebody_else_may_have_named(place: Path, run: RunDirectory, theirs: str) -> None:
    give_away({"spec": run.spec, "run": run.path, "runs": run.path.parent, "home": place}[theirs])
    journalled = run.journal.read_bytes()
    for words in (("retry", "latest"), ("--detach", "retry", "latest")):
        code, errors = said(place, *words)
        assert code == 2
        assert errors.count("\n") == 1
        assert f"it belongs to uid {STRANGER}, and you are root (uid 0)" in errors
    assert not (place.parent / "started").exists()
    assert run.journal.read_bytes() == journalled


@of_root
def test_a_run_of_ones_own_starts_what_it_names(place: Path, run: RunDirectory) -> None:
    """So that the tests above would see it."""
    said(place, "retry", "latest")
    assert (place.parent / "started").exists()


@of_root
@pytest.mark.parametrize("command", ["replay", "upload"])
def test_nothing_is_sent_or_written_for_somebody_else(place: Path, run: RunDirectory, command: str) -> None:
    give_away(run.path)
    elsewhere = place.parent / "stored"
    variables = {"OPENLINEAGE_URL": "http://127.0.0.1:9", "SPANLINE_ARTIFACTS_URL": elsewhere.as_uri()}
    code, errors = said(place, command, "latest", **variables)
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"spanline: run {run.run_id} is not yours: {run.path}: it belongs to uid {STRANGER}")
    assert not elsewhere.exists()
    assert not list(run.cursors())


@of_root
def test_somebody_elses_run_can_be_looked_at(place: Path, run: RunDirectory) -> None:
    give_away(place, run.path.parent, run.path, run.journal, run.lease)
    for words in ("runs", "show latest", "tail latest", "stats"):
        code, errors = said(place, *words.split())
        assert code == 0, errors


@of_root
@pytest.mark.parametrize("theirs", ["home", "runs"])
def test_no_run_is_kept_where_somebody_else_may_change_it(place: Path, theirs: str) -> None:
    (place / "runs").mkdir(parents=True)
    give_away(place if theirs == "home" else place / "runs")
    with pytest.raises(UsageError, match=rf"cannot keep a run under .*: it belongs to uid {STRANGER}.*home_dir"):
        home.create_run(place, ids.new_run_id(), b"{}")
    assert list((place / "runs").iterdir()) == []


def as_a_stranger(do: Callable[[], object]) -> str:
    """What goes wrong where somebody else does this; nothing where it goes well."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(STRANGER)
            do()
        except BaseException as error:  # noqa: BLE001 - it is for the parent
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as text:
        return text.read()


@of_root
def test_a_home_that_is_roots_is_for_whoever_may_write_there(place: Path) -> None:
    """As a group shares one on purpose."""
    for folder in (place, place / "runs"):
        folder.mkdir()
        folder.chmod(0o1777)

    def keep_a_run() -> None:
        home.create_run(place, ids.new_run_id(), b"{}")[1].release()

    assert as_a_stranger(keep_a_run) == ""
    (theirs,) = home.runs(place)
    assert theirs.path.stat().st_uid == STRANGER
    keep_a_run()
    assert len(home.runs(place)) == 2


@of_root
def test_a_cache_that_is_somebody_elses_is_not_used(place: Path, run: RunDirectory) -> None:
    run.columns_cache.parent.mkdir()
    give_away(run.columns_cache.parent)
    with Cache.open(run.columns_cache) as cache:
        cache.remember_relation("duckdb://x", "a.b", [events.Column("id")])
        assert cache.relation("duckdb://x", "a.b") == ([], 0)
    assert list(run.columns_cache.parent.iterdir()) == []


def test_a_link_in_place_of_the_cache_is_not_followed(place: Path, run: RunDirectory) -> None:
    run.columns_cache.parent.mkdir()
    run.columns_cache.symlink_to("target")
    with Cache.open(run.columns_cache) as cache:
        assert cache.relation("duckdb://x", "a.b") == ([], 0)
    assert not (run.columns_cache.parent / "target").exists()
