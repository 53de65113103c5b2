"""The runner's process, at what its supervisor says to it through the control pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import spanline.runner
from spanline import events
from spanline.journal.reader import Reader
from tests.support.project import DEADLINE


def test_a_cancel_may_stand_in_the_pipe_before_the_order_is_read(tmp_path: Path) -> None:
    journal, lease = tmp_path / "journal.jsonl", os.open(tmp_path / "lease", os.O_CREAT | os.O_RDWR)
    journal_fd = os.open(journal, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    control, control_end = os.pipe()
    word, word_end = os.pipe()
    order = {
        "args": ["build"],
        "project_dir": str(tmp_path),
        "journal": str(journal),
        "faults": str(tmp_path / "faults.log"),
        "writer": "runner-1-1-1",
        "session": 1,
        "step": 1,
        "attempt": 1,
        "grace": 30.0,
        "tune_collector": True,
        "lease_fd": lease,
        "journal_fd": journal_fd,
        "word_fd": word_end,
    }
    os.write(control_end, json.dumps(order).encode() + b"\ncancel\n")
    runner = subprocess.Popen(
        [sys.executable, str(Path(spanline.runner.__file__).parent), str(control)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(control, lease, journal_fd, word_end),
    )
    for fd in (control, lease, journal_fd, word_end):
        os.close(fd)
    said, _ = runner.communicate(timeout=DEADLINE)
    os.close(control_end)

    assert (runner.returncode, said) == (2, b"")
    happened = [record.event for record in Reader(journal).read()]
    assert [event.reason for event in happened if isinstance(event, events.InterruptReceived)] == ["cancel"]
    assert not any(isinstance(event, events.NodeStarted) for event in happened)
    assert os.read(word, 64) == b"exit 2\n"
    os.close(word)
