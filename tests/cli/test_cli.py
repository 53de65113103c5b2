"""The command line: after the word `dbt` it is dbt; around it, errors are one line that says what to do."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from spanline import events
from spanline.api.run import Run
from spanline.dbt.arguments import command_of
from spanline.home import home
from spanline.journal.reader import Reader
from tests.support.journals import journal
from tests.support.project import DBT, SPANLINE, Project, command, last_run
from tests.support.waiting import eventually

_CHANGING = (
    (rb"\d\d:\d\d:\d\d", b"CLOCK"),
    (rb"\d+ hours \d+ minutes and \d+\.\d+ seconds \(\d+\.\d+s\)", b"ELAPSED"),
    (rb"\.* \[(.*?) in \d+\.\d+s\]", rb"[\1]"),
    (rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", b"UUID"),
)


def plain(text: bytes, project: Project) -> str:
    """Without times and durations, which change from run to run, and the project's place."""
    text = text.replace(str(project.path).encode(), b"PROJECT")
    for pattern, instead in _CHANGING:
        text = re.sub(pattern, instead, text)
    return text.decode()


def runs_of(project: Project) -> list[Run]:
    return [Run(directory) for directory in home.runs(project.home)]


@pytest.fixture
def twin(copy_project: Callable[[], Project]) -> Project:
    """Another copy of the project, for plain dbt."""
    return copy_project()


class Pair:
    """Says the same to dbt and to spanline, in two copies of the project, and compares what they answer."""

    def __init__(self, ours: Project, theirs: Project) -> None:
        self.ours, self.theirs = ours, theirs
        self.runs = 0

    def same(self, *args: str, code: int = 0, observed: bool = True, **environment: str) -> str:
        environment = {"SHOP_THREADS": "1", **environment}
        theirs, ours = self.theirs.dbt(*args, **environment), self.ours.spanline("dbt", *args, **environment)
        assert theirs.returncode == code, theirs.stdout.decode()
        assert ours.returncode == code, (ours.stdout + ours.stderr).decode()
        assert plain(ours.stdout, self.ours) == plain(theirs.stdout, self.theirs)
        assert plain(ours.stderr, self.ours) == plain(theirs.stderr, self.theirs)
        if observed:
            self.runs += 1
            run = runs_of(self.ours)[-1]
            assert len(runs_of(self.ours)) == self.runs
            assert run.result().exit_code == code
            assert run.result().outcome == ("failed" if code else "success")
        return ours.stdout.decode()


@pytest.fixture
def pair(project: Project, twin: Project) -> Pair:
    return Pair(project, twin)


# --- it is dbt


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["debug"], "All checks passed!"),
        (["deps"], ""),
        (["parse"], ""),
        (["compile", "--select", "totals"], "Compiled node 'totals' is:"),
        (["show", "--select", "customers"], "Ada"),
        (["run-operation", "say", "--args", "{text: hello there}"], "hello there"),
        (["docs", "generate"], "Catalog written to"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.slow
def test_a_command_that_succeeds_says_what_dbt_says(pair: Pair, args: list[str], said: str) -> None:
    assert said in pair.same(*args)


@pytest.mark.slow
def test_a_build_that_fails_and_its_retry_say_what_dbt_says(pair: Pair) -> None:
    said = pair.same("build", "--vars", "{break: true}", code=1)
    assert "no_such_column" in said
    pair.same("retry", code=1)
    retried = runs_of(pair.ours)[-1].result()
    assert [node.unique_id for node in retried.failed_nodes] == ["model.shop.fragile"]
    assert "model.shop.totals" not in {node.unique_id for node in retried.nodes}
    pair.same("clean")
    assert not (pair.ours.path / "target").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--selct", "customers"], "Did you mean"),
        (["run", "--threads", "many"], "Invalid value for '--threads'"),
        (["run-operation"], "Missing argument 'MACRO'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_of_use_is_dbts_own_with_its_suggestion(project: Project, args: list[str], said: str) -> None:
    theirs, ours = project.dbt(*args), project.spanline("dbt", *args)
    assert said in (theirs.stdout + theirs.stderr).decode()
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert ours.returncode == 2


@pytest.mark.parametrize("args", [[], ["-h"], ["run", "--help"]], ids=" ".join)
def test_help_and_version_are_dbts_and_leave_no_run(project: Project, args: list[str]) -> None:
    theirs, ours = project.dbt(*args), project.spanline("dbt", *args)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert runs_of(project) == []


@pytest.mark.slow
def test_a_parse_error_is_dbts_and_leaves_a_finished_run(pair: Pair) -> None:
    for project in (pair.ours, pair.theirs):
        project.write("models/bad.sql", "select {{ nothing(")
    assert "Compilation Error" in pair.same("run", code=2)


def test_a_missing_profile_is_dbts_and_leaves_a_finished_run(pair: Pair) -> None:
    for project in (pair.ours, pair.theirs):
        (project.path / "profiles.yml").unlink()
    pair.same("run", "--profiles-dir", ".", code=2)


@pytest.mark.slow
def test_without_a_project_the_error_is_dbts_and_the_run_is_kept_in_the_users_home(tmp_path: Path) -> None:
    user, empty = tmp_path / "user", tmp_path / "empty"
    (user / ".dbt").mkdir(parents=True)
    empty.mkdir()
    theirs = command([DBT, "run"], empty, {"HOME": str(user)})
    ours = command([SPANLINE, "dbt", "run"], empty, {"HOME": str(user)})
    assert ours.returncode == theirs.returncode == 2
    project = Project(empty)
    assert plain(ours.stdout, project) == plain(theirs.stdout, project)
    assert b"dbt_project.yml" in ours.stdout
    (directory,) = home.runs(user / ".spanline")
    assert Run(directory).result().exit_code == 2
    assert [path.name for path in empty.iterdir()] == ["logs"], "dbt's own"


@pytest.mark.slow
def test_an_environment_and_a_working_directory_are_passed_on(project: Project) -> None:
    below = project.path / "models"
    said = command([SPANLINE, "dbt", "--quiet", "ls", "-s", "gate"], below, {"GATE": "x", "SHOP_DB": "other.duckdb"})
    assert said.returncode == 2, "in a folder of the project dbt finds no project"
    said = project.spanline("dbt", "--quiet", "ls", "-s", "gate", GATE="x")
    assert said.stdout.split() == [b"shop.gate"]


def test_docs_serve_serves_until_it_is_interrupted(project: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = ["docs", "serve", "--no-browser", "--port", str(port)]
    with subprocess.Popen([SPANLINE, "dbt", *serve], cwd=project.path, stdout=subprocess.DEVNULL) as process:

        def page() -> bytes:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    return bytes(answer.read(2000))
            except OSError:
                return b""

        assert b"<html" in eventually(page, "dbt's page")
        process.send_signal(signal.SIGINT)
        process.wait(30)
    (run,) = runs_of(project)
    assert run.state.ended is not None


# --- options before it


def test_json_prints_the_journal_and_nothing_else(project: Project) -> None:
    done = project.spanline(
        "--output", "json", "dbt", "run", "--select", "customers fragile", "--vars", "{break: true}"
    )
    assert done.returncode == 1
    (run,) = runs_of(project)
    lines = done.stdout.splitlines()
    assert lines == [record.line for record in Reader(run.directory.journal).read()]
    kinds = [json.loads(line)["type"] for line in lines]
    assert (kinds[0], kinds[-1]) == ("session_started", "session_ended")
    assert not any(isinstance(events.decode(line), events.Unknown) for line in lines)


def test_a_home_may_stand_after_the_command(kept: Project, tmp_path: Path) -> None:
    for words in (["runs"], ["show", "latest"], ["tail", "latest"]):
        done = command([SPANLINE, *words, "--home", str(kept.home)], tmp_path, {})
        assert done.stdout.decode() == said_by(kept, *words) != ""


def test_a_home_and_a_run_id_may_be_given(project: Project, tmp_path: Path) -> None:
    run_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    options = ("--home", str(tmp_path / "elsewhere"), "--run-id", run_id)
    assert project.spanline(*options, "dbt", "clean").returncode == 0
    assert [run.run_id for run in home.runs(tmp_path / "elsewhere")] == [run_id]
    assert not project.home.exists()
    again = project.spanline(*options, "dbt", "clean")
    assert (again.returncode, again.stdout) == (2, b"")
    assert one_line(again).startswith(f"spanline: run {run_id} has already ended")


def test_a_detached_run_is_named_and_can_be_followed_to_its_end(project: Project) -> None:
    done = project.spanline("--detach", "dbt", "run", "--select", "customers")
    assert done.returncode == 0
    run_id = done.stdout.decode().strip()
    followed = project.spanline("tail", "-f", run_id)
    assert followed.returncode == 0
    assert "session_ended outcome=success" in followed.stdout.decode().splitlines()[-1]


@pytest.mark.slow
def test_a_detached_run_is_named_in_json_where_that_is_asked_for(project: Project) -> None:
    done = project.spanline("--detach", "--output", "json", "dbt", "run", "--select", "customers")
    (line,) = done.stdout.decode().splitlines()
    named = json.loads(line)
    assert (named["command"], named["outcome"]) == ("run --select customers", "running")
    assert project.spanline("tail", "-f", named["id"]).returncode == 0
    refused = project.spanline("--detach", "--output", "log-json", "dbt", "run")
    assert refused.returncode == 2
    assert b"choose one" in refused.stderr


@pytest.mark.parametrize("on_terminal", [False, True])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_who_follows_a_run_sees_what_dbt_says_and_stops_without_cancelling(
    project: Project, signum: int, *, on_terminal: bool
) -> None:
    gate = project.path / "open"
    project.spanline("--detach", "dbt", "run", "--select", "gate", GATE=str(gate))
    (run,) = runs_of(project)
    follower = Terminal([SPANLINE, *([] if on_terminal else ["--no-progress"]), "retry", run.id], project.path)
    follower.read_until(r"\d\d:\d\d:\d\d  1 of 1 START python table model main.gate")
    os.kill(follower.pid, signum)
    assert follower.wait() == 130
    assert f"spanline: run {run.id} continues; `spanline cancel {run.id}` cancels it" in follower.said
    assert run.live
    gate.touch()
    assert run.wait(60).success
    assert not [event for event in journal(run) if isinstance(event, (events.CancelRequested, events.RunnerKilled))]


class Terminal:
    """A process on a terminal of its own, and what it has said there."""

    def __init__(self, args: list[str], cwd: Path, **environment: str) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execve(args[0], args, {**os.environ, **environment, "TERM": "xterm", "COLUMNS": "120"})
        self.pid = pid
        self.said = ""

    def read_until(self, pattern: str) -> None:
        def found() -> bool:
            if select.select([self._fd], [], [], 0.1)[0]:
                self.said += os.read(self._fd, 65536).decode(errors="replace")
            return re.search(pattern, self.said) is not None

        eventually(found, f"{pattern!r} in {self.said!r}")

    def wait(self) -> int:
        try:
            while chunk := os.read(self._fd, 65536):
                self.said += chunk.decode(errors="replace")
        except OSError:
            pass  # the terminal's other end is closed
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_on_a_terminal_a_line_says_where_the_run_stands_and_a_summary_ends_it(project: Project) -> None:
    gate = project.path / "open"
    run = [SPANLINE, "dbt", "run", "-s", "customers gate fragile", "--vars", "{break: true}"]
    terminal = Terminal(run, project.path, GATE=str(gate))
    terminal.read_until(r"\[2/3\] · running gate · 1 failed · \d")
    gate.touch()
    assert terminal.wait() == 1
    summary = terminal.said[terminal.said.rindex("failed: ") :]
    assert summary.startswith("failed: 3 nodes in ")
    assert "(1 error, 2 success)" in summary
    assert "error model.shop.fragile (models/fragile.sql)" in summary
    assert "no_such_column" in summary
    assert str(runs_of(project)[0].directory.path) in summary


def test_without_progress_a_terminal_sees_dbt_alone(project: Project) -> None:
    terminal = Terminal([SPANLINE, "--no-progress", "dbt", "run", "-s", "customers"], project.path)
    assert terminal.wait() == 0
    assert "Completed successfully" in terminal.said
    assert "[1/1]" not in terminal.said
    assert "kept in" not in terminal.said


# --- the runs that it leaves


@pytest.fixture(scope="module")
def kept(copy_project: Callable[[], Project]) -> Project:
    """A project with a run that succeeded and, after it, one that failed."""
    project = copy_project()
    project.run("run", "--select", "customers")
    project.run("run", "--select", "customers fragile", "--vars", "{break: true}")
    return project


def said_by(project: Project, *args: str) -> str:
    done = project.spanline(*args)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout.decode()


def test_runs_lists_them_the_newest_first(kept: Project) -> None:
    first, second = runs_of(kept)
    lines = said_by(kept, "runs").splitlines()
    assert [line.split()[0] for line in lines] == [second.id, first.id]
    assert "failed" in lines[0]
    assert lines[1].endswith("run --select customers")
    assert len(said_by(kept, "runs", "--limit", "1").splitlines()) == 1
    listed = [json.loads(line) for line in said_by(kept, "runs", "--json").splitlines()]
    assert [(line["id"], line["outcome"]) for line in listed] == [(second.id, "failed"), (first.id, "success")]
    assert listed[0]["counts"] == {"success": 1, "error": 1}


def test_show_says_how_a_run_ended(kept: Project) -> None:
    first, second = runs_of(kept)
    assert said_by(kept, "show", "latest") == said_by(kept, "show", second.id)
    text = said_by(kept, "show", second.id)
    assert text.startswith("failed: 2 nodes in ")
    assert "error model.shop.fragile" in text
    shown = json.loads(said_by(kept, "show", first.id, "--json"))
    assert (shown["run_id"], shown["outcome"], shown["exit_code"]) == (first.id, "success", 0)
    assert [node["unique_id"] for node in shown["nodes"]] == ["model.shop.customers"]


def test_a_unique_prefix_names_a_run(kept: Project) -> None:
    first, second = runs_of(kept)
    common = first.id[: next(i for i, (a, b) in enumerate(zip(first.id, second.id, strict=True)) if a != b)]
    assert said_by(kept, "show", first.id[: len(common) + 1]) == said_by(kept, "show", first.id)
    ambiguous = kept.spanline("show", common)
    assert ambiguous.returncode == 2
    assert one_line(ambiguous) == f"spanline: 2 runs start with {common!r}: give more of the id"


def test_tail_prints_events_for_people_and_for_machines(kept: Project) -> None:
    _, second = runs_of(kept)
    lines = said_by(kept, "tail", "latest").splitlines()
    assert any("node_finished model.shop.fragile status=error" in line for line in lines)
    exact = said_by(kept, "tail", "latest", "--json").encode().splitlines()
    assert exact == [record.line for record in Reader(second.directory.journal).read()]


def test_tail_follows_a_run_while_it_goes_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE", str(project.path / "open"))
    run = project.start("run", "-s", "gate")
    eventually(lambda: run.state.session, "the session")
    follow = [SPANLINE, "tail", "-f", "--json", "latest"]
    with subprocess.Popen(follow, cwd=project.path, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        started = next(line for line in tail.stdout if '"type":"node_started"' in line)
        assert "model.shop.gate" in started
        shown = json.loads(said_by(project, "show", "latest", "--json"))
        assert (shown["outcome"], shown["exit_code"], shown["error"]) == ("running", None, None)
        assert said_by(project, "show", "latest").startswith("running: 0 of 1 nodes done; now: model.shop.gate")
        (project.path / "open").touch()
        assert '"type":"session_ended"' in list(tail.stdout)[-1]
        assert tail.wait(30) == 0
    assert run.wait(30).success


def test_cancel_of_a_run_that_is_over_changes_nothing(kept: Project) -> None:
    before = runs_of(kept)[-1].directory.journal.read_bytes()
    assert "has already ended" in said_by(kept, "cancel", "latest")
    assert runs_of(kept)[-1].directory.journal.read_bytes() == before


@pytest.mark.slow
def test_a_resumed_run_is_listed_with_the_time_of_its_beginning(project: Project) -> None:
    run = project.run("run", "--select", "fragile", "--vars", "{break: true}")
    began = run.state.started
    eventually(lambda: time.time() > began / 1e9 + 1.5, "another second")
    project.spanline("retry", "latest")
    assert run.state.session_number == 2
    assert run.state.started > began
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began / 1e9)) in said_by(project, "runs")


def test_cancel_ends_a_run_and_waits_for_its_end(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "{{ config(materialized='table') }} select count(*) as n from range(100000000000) a"
    project.write("models/slow.sql", slow)
    run = project.start("run", "-s", "customers slow")
    eventually(lambda: run.state.done == 1 and "model.shop.slow" in run.state.nodes, "the slow model")
    assert said_by(project, "cancel", "latest") == f"cancelled: run {run.id}\n"
    result = run.wait(30)
    assert result.counts == {"success": 1, "cancelled": 1}
    (order,) = [event for event in journal(run) if isinstance(event, events.CancelRequested)]
    assert order.by.startswith("spanline cancel")
    assert "  1 of 2 nodes were completed\n" in said_by(project, "show", "latest")
    assert (result.completed, result.total) == (1, 2)


# --- completion


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_a_completion_script_is_good_to_its_shell(tmp_path: Path, shell: str, check: list[str]) -> None:
    done = command([SPANLINE, "completion", shell], tmp_path, {})
    assert done.returncode == 0
    assert b"_SPANLINE_COMPLETE" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    script = tmp_path / "script"
    script.write_bytes(done.stdout)
    subprocess.run([shell, *check, str(script)], check=True)


@pytest.mark.parametrize(
    ("words", "offered"), [("spanline ru", "runs"), ("spanline show la", "latest"), ("spanline --no", "--no-progress")]
)
def test_commands_options_and_runs_are_completed(kept: Project, words: str, offered: str) -> None:
    environment = {"_SPANLINE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = command([SPANLINE], kept.path, environment)
    assert f"plain,{offered}" in done.stdout.decode().splitlines()


def test_ids_of_runs_are_completed(kept: Project) -> None:
    first, _ = runs_of(kept)
    environment = {
        "_SPANLINE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"spanline show {first.id[:8]}",
        "COMP_CWORD": "2",
    }
    assert first.id in command([SPANLINE], kept.path, environment).stdout.decode()


# --- bad input


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    return text.strip()


def assert_refused(project: Project, *args: str, said: str) -> None:
    """One line, exit code 2, and nothing written at all."""
    before = {path: path.stat().st_mtime_ns for path in project.path.rglob("*")}
    done = project.spanline(*args)
    assert done.returncode == 2
    assert done.stdout == b""
    assert re.search(said, one_line(done)), one_line(done)
    assert {path: path.stat().st_mtime_ns for path in project.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--nope", "dbt", "run"], "No such option '?--nope"),
        (["nonsense"], "No such command 'nonsense'"),
        (["show"], "Missing argument 'RUN'"),
        (["show", "latest"], "has no runs yet"),
        (["show", "0123"], "no run '0123' under .*spanline runs"),
        (["tail", ""], "no run ''"),
        (["cancel", "0123"], "no run '0123'"),
        (["replay", "0123"], "no run '0123'"),
        (["prune"], "--older-than, --keep or --max-size"),
        (["--run-id", "mine", "dbt", "run"], "must be a UUIDv7"),
        (["--run-id", "../../01890a5d-ac96-774b-bcce-b302099a8057", "dbt", "run"], "must be a UUIDv7"),
        (["--run-id", "", "dbt", "run"], "must be a UUIDv7"),
        (["--python", "/nowhere/python", "dbt", "run"], "cannot start the interpreter /nowhere/python.*--python"),
        (["--python", "/bin/false", "dbt", "run"], "dbt Core is not installed for /bin/false"),
        (["--home", "dbt_project.yml/x", "dbt", "run"], "cannot keep a run under .*Not a directory.*--home"),
        (["--home", "/proc/x", "dbt", "run"], "cannot keep a run under /proc/x.*--home or SPANLINE_HOME"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["--retry-limit", "7", "show", "latest"], "`spanline show` does not use --retry-limit: leave it out"),
        (["--output", "json", "show", "latest"], "`spanline show` does not use --output: use `spanline show --json`"),
        (
            ["--timeout", "1", "replay", "x"],
            "`spanline replay` does not use --timeout: use `spanline replay --timeout`",
        ),
        (["--detach", "--home", "x", "classify"], "`spanline classify` does not use --detach and --home: leave it out"),
        (
            ["--python", "p", "--run-id", "x", "retry", "latest"],
            "does not use --python and --run-id: a resumed run keeps its own",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(project: Project, args: list[str], said: str) -> None:
    assert_refused(project, *args, said=said)


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """A Python without dbt."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv" / "bin" / "python"


def install_stub(interpreter: Path, version: str) -> None:
    (site,) = interpreter.parents[1].glob("lib/python*/site-packages")
    (site / "dbt" / "cli").mkdir(parents=True)
    (site / "dbt" / "__init__.py").touch()
    (site / "dbt" / "cli" / "__init__.py").touch()
    info = site / f"dbt_core-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dbt-core\nVersion: {version}\n")


def test_an_interpreter_without_dbt_is_refused(project: Project, interpreter: Path) -> None:
    assert_refused(
        project, "--python", str(interpreter), "dbt", "run", said="dbt Core is not installed for .*pip install"
    )


@pytest.mark.parametrize("version", ["1.7.19", "0.21.0", "2.0.0", "1.13.0b1"])
def test_a_version_of_dbt_that_is_not_supported_is_refused(project: Project, interpreter: Path, version: str) -> None:
    install_stub(interpreter, version)
    expected = f"has dbt Core {version}, and Spanline runs 1.8 to 1.12"
    assert_refused(project, "--python", str(interpreter), "dbt", "run", said=expected)


def test_a_folder_named_dbt_is_not_taken_for_dbt(project: Project, interpreter: Path) -> None:
    project.write("dbt/cli/__init__.py", "")
    assert_refused(project, "--python", str(interpreter), "dbt", "run", said="dbt Core is not installed")


def test_help_is_instant_because_it_imports_no_client(tmp_path: Path) -> None:
    code = (
        "import sys; from spanline.cli.main import cli; "
        "print([m for m in ('dbt', 'msgspec', 'rich', 'openlineage', 'opentelemetry', 'yaml') if m in sys.modules])"
    )
    done = command([sys.executable, "-c", code], tmp_path, {})
    assert done.stdout == b"[]\n"


def test_a_reader_that_goes_away_is_no_error(kept: Project) -> None:
    with subprocess.Popen(
        [SPANLINE, "tail", "latest", "--json"], cwd=kept.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        tail.stdout.close()
        assert b"Traceback" not in tail.stderr.read()
        tail.wait(30)


def closed(redirections: str, *args: str) -> list[str]:
    """The command line as a shell starts it that redirects, or closes, its streams."""
    return ["/bin/sh", "-c", f'exec "$0" "$@" {redirections}', SPANLINE, *args]


@pytest.mark.parametrize(
    ("options", "redirections"),
    [
        ((), "<&-"),
        ((), ">&-"),
        ((), "2>&-"),
        ((), "<&- >&- 2>&-"),
        (("--output", "json"), "<&- >&- 2>&-"),
        (("--output", "log-json"), "<&- >&- 2>&-"),
    ],
)
def test_closed_streams_change_nothing_but_what_is_seen(
    project: Project, options: tuple[str, ...], redirections: str
) -> None:
    done = command(closed(redirections, *options, "dbt", "run", "--select", "customers"), project.path, {})
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert bool(done.stdout) is (">&-" not in redirections.split())
    assert last_run(project).result().counts == {"success": 1}


@pytest.mark.slow
@pytest.mark.parametrize("output", ["| true", "> /dev/full"])
def test_lines_that_nobody_reads_leave_the_exit_code_dbts(project: Project, output: str) -> None:
    script = f'"$0" "$@" {output}; echo "${{PIPESTATUS[0]}}" >&2'
    project.write("models/customers.sql", "select {{ 'no_such_column' if var('broken', false) else '1 as id' }}")
    for variables, code in (("{}", 0), ("{broken: true}", 1)):
        words = [SPANLINE, "--output", "json", "dbt", "run", "--select", "customers", "--vars", variables]
        done = command(["bash", "-c", script, *words], project.path, {})
        assert done.stderr.decode().split() == [str(code)]
    assert [run.result().exit_code for run in runs_of(project)] == [0, 1]


def test_a_run_says_when_it_began(kept: Project) -> None:
    first, _ = runs_of(kept)
    (line,) = [line for line in said_by(kept, "runs").splitlines() if line.startswith(first.id)]
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(first.state.started / 1e9))
    assert began in line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("build", "build"),
        ("--target test --log-format json build -s test", "build"),
        ("--quiet -t run source freshness --select raw", "source freshness"),
        ("--log-level=debug docs generate", "docs generate"),
        ("--version", ""),
        ("", ""),
    ],
)
def test_the_command_among_dbts_arguments(args: str, expected: str) -> None:
    assert command_of(args.split()) == expected


@pytest.mark.parametrize("option", ["--timeout", "--node-timeout", "--grace", "--retry-delay", "--retry-within"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_of_seconds_is_finite(tmp_path: Path, option: str, value: str) -> None:
    done = command([SPANLINE, option, value, "dbt", "run"], tmp_path, {})
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        f"spanline: Invalid value for '{option}': {value!r} is not a number of seconds."
    ]


@pytest.mark.parametrize("value", ["inf", "nan", "-1"])
def test_the_seconds_of_a_replay_are_a_number(kept: Project, value: str) -> None:
    assert_refused(kept, "replay", "latest", "--timeout", value, said="Invalid value for '--timeout'")


def test_a_home_that_cannot_be_read_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "home" / "runs").mkdir(parents=True)
    (tmp_path / "home" / "runs" / "01a2143b-e679-7a9e-bdb6-e2186d2d3777").write_text("no directory")
    for words in (["show", "latest"], ["tail", "latest"]):
        done = command([SPANLINE, "--home", str(tmp_path / "home"), *words], tmp_path, {})
        assert done.returncode == 2
        assert done.stderr.startswith(b"spanline: ")
        assert done.stderr.count(b"\n") == 1


def test_an_interpreter_may_be_named_as_in_a_shell(tmp_path: Path) -> None:
    python = Path(sys.executable)
    done = command([SPANLINE, "--python", python.name, "dbt", "--version"], tmp_path, {"PATH": str(python.parent)})
    assert done.returncode == 0, done.stderr.decode()


def test_a_run_that_is_somebody_elses_hides_no_other(project: Project) -> None:
    run = project.run("run-operation", "say", "--args", "{text: hello}")
    other = run.directory.path.with_name("01a2143b-e679-7a9e-bdb6-e2186d2d3777")
    other.mkdir()
    (other / "journal.jsonl").mkdir()  # root may read everything: what nobody can read stands for it
    done = project.spanline("runs", "--json")
    assert done.returncode == 0
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [run.id]
    assert done.stderr.decode().startswith(f"spanline: {other.name}: ")
    shutil.rmtree(other)
