"""A signal handler may ask a run what there is to ask, whatever it interrupts: no lock, and nothing half done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spanline.journal.reader import Reader
from tests.support.project import DEADLINE

ASKS = """
import json, os, signal, sys, threading
from pathlib import Path
from spanline import events
from spanline.api.run import Run
from spanline.home import home
from spanline.home.spec import RunSpec
from spanline.journal import ids
from spanline.journal.appender import Appender
from spanline.supervisor.session import Supervisor

NODES = 3000
place, here = Path(sys.argv[1]), sys.argv[2] == "here"
spec = RunSpec(run_id=ids.new_run_id(), steps=[["build"]], cwd=".", project_dir=".", python=sys.executable)
directory, held = home.create_run(place, spec.run_id, spec.encode())
run = Run(directory, Supervisor(directory, spec, held) if here else None)
asking = {Run.state.fget.__code__, Run.wait.__code__}
within, known, wrong = 0, 0, []

def interrupts_us(frame):
    while frame is not None and frame.f_code not in asking:
        frame = frame.f_back
    return frame is not None

def handler(_signum, frame):
    global within, known
    within += interrupts_us(frame)
    state = run.state
    run.cancel(by="a handler")
    if not run.live:
        wrong.append("it is not live")
    try:
        run.wait(timeout=0)
        wrong.append("it is over")
    except TimeoutError:
        pass
    if len(state.nodes) < known or any(node.open for node in list(state.nodes.values())[:-1]):
        wrong.append("a state that never was")
    known = len(state.nodes)
    signal.setitimer(signal.ITIMER_REAL, 0.001)

def write():
    appender = Appender(directory.journal, "test")
    appender.locate(1, 1, 1)
    for number in range(NODES):
        unique_id = f"model.shop.{number}"
        appender.append(events.NodeStarted(unique_id=unique_id, thread="t"))
        appender.append(events.NodeFinished(unique_id=unique_id, status="success"))

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
writing = threading.Thread(target=write)
writing.start()
while writing.is_alive() or within < 300:
    run.state
    try:
        run.wait(timeout=0.0005)
    except TimeoutError:
        pass
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(json.dumps([within, len(run.state.nodes), sorted(set(wrong))]))
"""

WRITES = """
import signal, sys
from spanline.runner.shared.writer import Writer

writer = Writer(sys.argv[1], "w")
within = 0

def handler(_signum, frame):
    global within
    while frame is not None and frame.f_code is not Writer.append.__code__:
        frame = frame.f_back
    within += frame is not None
    writer.append("heartbeat", {})
    signal.setitimer(signal.ITIMER_REAL, 0.0005)

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
while within < 300:
    writer.append("heartbeat", {})
signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


def test_a_record_may_be_written_above_another(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(journal)], capture_output=True, check=False, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr.decode()
    reader = Reader(journal)
    numbers = [record.event.seq for record in reader.read()]
    assert reader.torn == 0
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_what_a_run_is_asked_in_a_signal_handler(tmp_path: Path, where: str) -> None:
    """It is supervised here, or by a process whose lease this one holds."""
    asked = subprocess.run(
        [sys.executable, "-c", ASKS, str(tmp_path), where], capture_output=True, check=False, timeout=DEADLINE
    )
    assert asked.returncode == 0, asked.stderr.decode()
    within, nodes, wrong = json.loads(asked.stdout)
    assert within >= 300
    assert nodes == 3000
    assert wrong == []
