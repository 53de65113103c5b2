"""What others have written reaches a terminal as text: nothing that we print controls one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline import events
from spanline.api.run import Run
from spanline.cli.json_log import write_lines
from spanline.cli.live_line import print_log
from spanline.home.home import RunDirectory
from spanline.journal import ids
from spanline.journal.reader import Reader
from spanline.journal.state import state_of
from spanline.results.from_state import result_of
from spanline.results.summary import summary
from spanline.runner.shared.visible import in_line, visible
from spanline.runner.shared.writer import warn
from spanline.system.terminal import json_line
from tests.support.journals import session_started, undelivered
from tests.support.project import SPANLINE, Project, last_run
from tests.support.receivers import serving

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\u200b"
"""A title, a cleared screen, a colour in one byte, and marks that hide what follows."""
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\u200b"
IN_JSON = r"\u001b]0;owned\u0007\u001b[2J\u009b31m\u007f\u202e\u200b"
OUR_OWN = re.compile("\r\x1b\\[K")
"""With which the live line is replaced."""


def hidden(text: str) -> set[str]:
    """Characters of a text that control a terminal, or that nobody sees, as Unicode has them; newlines are layout."""
    return {
        character
        for character in text
        if character not in "\n\t"
        and (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(character)
            in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "BN")
            or character in "\u200e\u200f\u061c"
        )
    }


def test_no_hidden_character_of_unicode_is_left() -> None:
    assert [hex(code) for code in range(sys.maxunicode + 1) if hidden(visible(chr(code)))] == []


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_hidden_is_left_and_nothing_else_is_changed(text: str) -> None:
    assert hidden(visible(text)) == set()
    assert "\n" not in in_line(text)
    plain = "".join(each for each in text if not hidden(each) and each != "\\")
    assert [each for each in visible(plain) if not hidden(each)] == list(visible(plain))
    if not re.search("[\xad\u180e\u2060-\u206f\ufff9-\ufffb\u200c\u200d]", plain):
        assert visible(plain) == plain


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same(value: object) -> None:
    for encoded in (json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1), json.dumps(value)):
        printed = json_line(encoded.encode()).decode()
        assert json.loads(printed) == value
        assert hidden(printed) == set()
        assert printed.count("\n") == 1


@pytest.fixture(scope="module")
def evil(copy_project: Callable[[], Project]) -> Project:
    """A project with a model whose name, file and error are meant for a terminal."""
    project = copy_project()
    message = json.dumps(EVIL + "\nsecond line")
    project.write(
        f"models/evil{EVIL}.sql", "{{ exceptions.raise_compiler_error(" + message + ") if execute }} select 1"
    )
    return project


def on_a_terminal(args: list[str], cwd: Path, **environment: str) -> str:
    """What a command shows on a terminal of its own."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(args[0], args, {**os.environ, **environment, "TERM": "xterm", "COLUMNS": "200"})
    said = b""
    try:
        while chunk := os.read(fd, 65536):
            said += chunk
    except OSError:
        pass  # the other end is closed
    os.close(fd)
    os.waitpid(pid, 0)
    return OUR_OWN.sub("", said.decode()).replace("\r\n", "\n")


def test_a_run_shows_what_its_models_are_called_and_say(evil: Project) -> None:
    """dbt itself keeps quiet here, as its own output is passed on as it is."""
    quiet = ("--log-level", "none", "run", "-s", "path:models/evil*", "customers")
    said = on_a_terminal([SPANLINE, "dbt", *quiet], evil.path)
    assert hidden(said) == set()
    assert said.count(SHOWN) >= 3, said  # the id, the file, and the message
    assert last_run(evil).result().failed_nodes[0].name == f"evil{EVIL}"


@pytest.fixture
def told(tmp_path: Path) -> RunDirectory:
    """A run whose journal is written by somebody who wants to be seen."""
    run_id = ids.new_run_id()
    started = msgspec.structs.replace(session_started(run_id), steps=[["run", EVIL + "\n"]], project_dir=f"/p/{EVIL}")
    return undelivered(
        tmp_path,
        run_id,
        [
            started,
            events.AttemptStarted(argv=["run"], pid=1, python=EVIL),
            events.DbtConfigured(adapter_type="duckdb", adapter_version="1"),
            events.NodeStarted(unique_id=f"model.shop.{EVIL}\n", thread=EVIL),
            events.NodeFinished(
                unique_id=f"model.shop.{EVIL}\n",
                status="error",
                execution_time=1.0,
                message=f"{EVIL}\r\nsecond line{EVIL}",
            ),
            events.NodeFinished(unique_id="model.shop.b", status=EVIL, execution_time=1.0),
            events.Log(level="warn", name=EVIL, message=EVIL),
            events.JournalStopped(reason=EVIL),
            events.AttemptEnded(exit_code=1),
            events.SessionEnded(outcome="failed", exit_code=1),
        ],
    )


COMMANDS = (
    "show latest",
    "tail latest",
    "runs",
    "stats --since 2020-01-01",
    "prune --keep 0 --dry-run",
    "retry latest",
)


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("form", ["text", "--json"])
def test_what_a_journal_holds_is_shown(told: RunDirectory, words: str, form: str) -> None:
    options = [form] if form == "--json" and "retry" not in words else []
    said = on_a_terminal([SPANLINE, "--home", str(told.path.parents[1]), *words.split(), *options], told.path)
    assert hidden(said) == set()
    names_it = words.split(maxsplit=1)[0] in ("show", "tail", "runs", "stats")
    assert ((IN_JSON if options else SHOWN) in said) == names_it, said
    if words == "show latest" and not options:
        assert f"    second line{SHOWN}" in said.splitlines()
        assert f"  error model.shop.{SHOWN}\\x0a" in said.splitlines(), "a name's newline begins no line"


@pytest.mark.parametrize(
    "words",
    [
        ("show", EVIL),
        ("show", f"{EVIL}\nspanline: all is well"),
        ("--home", f"/nowhere/{EVIL}", "show", "latest"),
        ("--home", f"http://127.0.0.1:9/{EVIL}", "stats"),
        ("stats", "--since", EVIL),
        ("prune", "--older-than", EVIL),
        (EVIL,),
        (f"--{EVIL}",),
        ("--python", EVIL, "dbt", "run"),
        ("--run-id", EVIL, "dbt", "run"),
        ("classify", "--adapter", EVIL, EVIL),
        ("demo", "--directory", "taken"),
    ],
)
def test_what_was_typed_is_shown(tmp_path: Path, words: tuple[str, ...]) -> None:
    place = tmp_path / f"here{EVIL}" / "taken"
    (place / "something").mkdir(parents=True)
    said = on_a_terminal([SPANLINE, *words], place.parent)
    assert hidden(said) == set()
    assert "x1b]0;owned" in said or "u001b]0;owned" in said, said
    assert "\nspanline: all is well" not in said


@pytest.mark.slow
def test_what_a_backend_answers_is_shown(told: RunDirectory) -> None:
    """In the reason, in a body, or as the address of a redirect."""
    answers = [
        b"HTTP/1.1 400 "
        + EVIL.encode("latin-1", "ignore")
        + b"\r\nContent-Length: 40\r\n\r\n"
        + EVIL.encode().ljust(40),
        b"HTTP/1.1 302 Found\r\nLocation: http://x/" + EVIL[:10].encode() + b"\r\nContent-Length: 0\r\n\r\n",
    ]
    said = []
    for each in answers:

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self, each: bytes = each) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.wfile.write(each)

        with serving(Answers) as url:
            words = [SPANLINE, "--home", str(told.path.parents[1]), "replay", "latest", "--all", "--timeout", "6"]
            said.append(
                on_a_terminal(
                    words, told.path, OPENLINEAGE_URL=url, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{url}/v1/traces"
                )
            )
    assert hidden("".join(said)) == set()
    assert r"400 Client Error: \x1b]0;owned\x07" in said[0], said
    assert r"redirects to http://x/\x1b]0;owned\x07" in said[1]


@pytest.mark.parametrize("variable", ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER", "OPENLINEAGE__TRANSPORT__TYPE"])
def test_what_is_sent_to_a_console_is_shown(told: RunDirectory, variable: str) -> None:
    words = [SPANLINE, "--home", str(told.path.parents[1]), "replay", "latest"]
    said = on_a_terminal(words, told.path, **{variable: "console"})
    assert hidden(said) == set()
    assert "owned" in said


@pytest.mark.parametrize("write", [print_log, write_lines], ids=["its text", "log-json"])
def test_what_dbt_has_said_elsewhere_is_shown(
    told: RunDirectory, tmp_path: Path, write: Callable[[Run, int], object]
) -> None:
    with open(tmp_path / "said", "wb") as file:
        write(Run(told), file.fileno())
    said = (tmp_path / "said").read_text()
    assert hidden(said) == set()
    assert SHOWN in said or IN_JSON in said


def test_a_detached_supervisor_logs_it_shown(tmp_path: Path) -> None:
    code = "import logging; from spanline.system.terminal import log_to_errors; "
    code += "log_to_errors(); logging.warning('%s', {!r})"
    done = subprocess.run([sys.executable, "-c", code.format(EVIL)], capture_output=True, text=True, check=True)
    assert done.stderr.endswith(f"WARNING {SHOWN}\n")


@pytest.mark.parametrize("thread", ["thread.run()", "thread.start(); thread.join()"])
def test_an_exception_that_nobody_catches_is_shown(thread: str) -> None:
    code = f"""
import threading
from spanline.system.terminal import show_exceptions
show_exceptions()
def fail():
    raise ValueError({EVIL!r})
thread = threading.Thread(target=fail)
{thread}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith(f"ValueError: {SHOWN}\n")
    assert done.returncode == (1 if "run" in thread else 0)


def test_a_warning_of_the_runner_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    warn(EVIL)
    assert capsys.readouterr().err == f"spanline: {SHOWN}\n"


def test_what_an_encoding_does_not_have_is_shown(told: RunDirectory) -> None:
    """And is no error, as it would be to Python."""
    home = str(told.path.parents[1])
    said = on_a_terminal(
        [SPANLINE, "--home", home, "show", "latest"], told.path, PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert "Traceback" not in said
    assert SHOWN in said


def test_a_long_message_is_cut_in_text_and_whole_in_json(tmp_path: Path) -> None:
    run_id = ids.new_run_id()
    message = "Database Error\n" + "x" * 1_000_000
    node = events.NodeFinished(unique_id="model.shop.a" + "b" * 100_000, status="error", message=message)
    failed = [events.AttemptEnded(exit_code=1), events.SessionEnded(outcome="failed", exit_code=1)]
    run = undelivered(tmp_path, run_id, [session_started(run_id), node, *failed])
    result = result_of(state_of(record.event for record in Reader(run.journal).read()), run.path, {})
    text = summary(result)
    assert len(text) < 10_000
    assert "x" * 1900 in text
    assert "…" in text
    assert result.failed_nodes[0].message == message
