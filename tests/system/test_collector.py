"""The collector of a process of our own, looked at in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spanline.system import process

LOOK = "import atexit, gc; atexit.register(lambda: print(*gc.get_threshold(), gc.get_freeze_count() > 10_000))"


def test_the_command_line_collects_seldom_and_leaves_all_alone_at_its_end() -> None:
    code = f"{LOOK}; from spanline.cli.main import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *thresholds, frozen = done.stdout.splitlines()[-1].split()
    assert int(thresholds[0]) > 700
    assert frozen == "True"


def test_so_does_what_is_started_beside_it(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(f"def main(arguments):\n    {LOOK}\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    started = process.spawn_detached("looking", [], tmp_path / "log", environment=environment)
    assert started.wait(30) == 0
    threshold, *_ = (tmp_path / "log").read_text().split()
    assert int(threshold) > 700


def test_the_api_leaves_the_collector_of_its_caller_alone() -> None:
    code = "import gc; before = gc.get_threshold(); import spanline; spanline.run; print(before == gc.get_threshold())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
