"""What a run is kept in is removed, or can't be written any more, while it goes on: dbt's outcome is its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import SPANLINE, RunView, Sandbox
from tests.faults.test_resume import assert_one_start_and_one_end

SELECT = ("build", "--select", "fast", "gate", "broken", "last")
NODES = ("fast", "gate", "broken", "last")
WAITS = """
import json, spanline
run = spanline.start(["build", "--select", "fast", "gate", "broken", "last"], detached=True)
result = run.wait()
print(json.dumps([result.exit_code, result.outcome, len(result.nodes), result.incomplete]))
"""


@pytest.fixture
def removable(duckdb_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose dbt waits at the gate."""
    sandbox = duckdb_sandbox
    (sandbox.project / "models" / "last.sql").write_text("select * from {{ ref('gate') }}")
    sandbox.close_gate()
    return sandbox


def _has_begun(run: RunView) -> None:
    """Its supervisor has, and not dbt."""
    assert not run.events("dbt_started")


def _at_the_gate(run: RunView) -> None:
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.waits_for("node_finished", unique_id="model.faults.broken")
    run.waits_for("node_started", unique_id="model.faults.gate")


def _said(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("spanline: ")]


def _everything_is_told(backend: Backend) -> None:
    """The journal is read to its end by those who have it open."""
    assert_one_start_and_one_end(backend.lineage)
    ended = {e["job"]["name"] for e in backend.lineage if e["eventType"] in ("COMPLETE", "FAIL")}
    assert {name for name in NODES if any(f".{name}." in job for job in ended)} == set(NODES)
    (session,) = [
        e["eventType"] for e in backend.lineage if "dbt-run" in e["job"]["name"] and e["eventType"] != "START"
    ]
    assert session == "FAIL"


@pytest.mark.parametrize("when", [_has_begun, _at_the_gate], ids=["before dbt", "amid nodes"])
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("home", ()),
        ("run", ("--output", "json")),
        ("journal", ("--retry-limit", "2")),
    ],
)
def test_what_a_run_is_kept_in_is_removed(
    removable: Sandbox, backend: Backend, when: Callable[[RunView], None], what: str, options: Sequence[str]
) -> None:
    started = removable.dbt(*SELECT, options=options, env=backend.environment)
    run = removable.run()
    when(run)
    gone = {"home": removable.home, "run": run.path, "journal": run.path / "journal.jsonl"}[what]
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    removable.open_gate()

    assert started.ends() == 1, started.text
    assert len(_said(started.text)) == 1, _said(started.text)
    (said,) = _said(started.text)
    assert str(gone) in said
    assert "Traceback" not in started.text
    assert not gone.exists(), "nothing is made anew of it"
    _everything_is_told(backend)
    if "json" in options:
        kinds = [json.loads(line)["type"] for line in started.text.splitlines() if line.startswith("{")]
        assert kinds.count("node_finished") == len(NODES)
        assert "session_ended" in kinds


def test_removed_while_the_run_ends(removable: Sandbox, backend: Backend) -> None:
    started = removable.dbt(*SELECT, env={**backend.environment, "SPANLINE_FLUSH_TIMEOUT": "20"})
    run = removable.run()
    _at_the_gate(run)
    backend.down()
    removable.open_gate()
    run.waits_for("session_ended")
    shutil.rmtree(removable.home)
    backend.up()
    assert started.ends() == 1, started.text
    assert len(_said(started.text)) == 1
    _everything_is_told(backend)


def test_removed_from_under_a_detached_run(removable: Sandbox, backend: Backend) -> None:
    waiting = removable.script(WAITS, env=backend.environment)
    run = removable.run()
    _at_the_gate(run)
    shutil.rmtree(removable.home)
    removable.open_gate()
    assert waiting.ends() == 0, waiting.text
    warning, printed = waiting.text.splitlines()
    assert str(removable.home) in warning
    exit_code, outcome, nodes, incomplete = json.loads(printed)
    assert (exit_code, outcome, nodes) == (1, "failed", len(NODES))
    assert warning.endswith(incomplete)
    removable.all_gone()
    _everything_is_told(backend)
    assert not removable.home.exists()


@pytest.mark.parametrize("how", ["--node-timeout", "SIGTERM"])
def test_cancelled_when_there_is_no_directory_to_order_it_in(removable: Sandbox, how: str) -> None:
    options = ("--node-timeout", "5") if how == "--node-timeout" else ()
    started = removable.dbt("build", "--select", "fast", "slow", options=options)
    run = removable.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.is_in_slow_query()
    shutil.rmtree(removable.home)
    if how == "SIGTERM":
        started.popen.terminate()
    assert started.ends() == 2, started.text
    assert "spanline: cancelled: 1 of 2 nodes were completed" in started.text


def test_only_the_cursors_are_removed(removable: Sandbox, backend: Backend) -> None:
    """They are made again: what is owed is kept, and nothing is lost."""
    backend.down()
    started = removable.dbt(*SELECT, env={**backend.environment, "SPANLINE_FLUSH_TIMEOUT": "1"})
    run = removable.run()
    _at_the_gate(run)
    shutil.rmtree(run.path / "cursors")
    removable.open_gate()
    assert started.ends() == 1, started.text
    assert [line for line in _said(started.text) if "spanline replay" not in line] == []
    assert run.shown()["undelivered"]["openlineage"] > 0
    backend.up()
    removable.did("replay", run.id, env=backend.environment)
    _everything_is_told(backend)


# --- not removed, but out of reach ----------------------------------------------------------------------------------


def _give_up_roots_privileges() -> None:
    """Have file modes hold for root, too: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@contextlib.contextmanager
def _mode(mode: int, *places: Path) -> Iterator[None]:
    before = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(mode)
    yield
    for place in reversed(places):
        place.chmod(before[place])


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "out of reach"])
def test_the_directory_may_not_be_written_any_more(removable: Sandbox, backend: Backend, mode: int) -> None:
    started = removable.start([SPANLINE, "dbt", *SELECT], backend.environment, preexec_fn=_give_up_roots_privileges)
    run = removable.run()
    _at_the_gate(run)
    with _mode(mode, run.path / "cursors", run.path, removable.home):
        removable.open_gate()
        assert started.ends() == 1, started.text
    (said,) = _said(started.text)
    assert "dbt's artifacts are not kept: " in said
    assert "Permission denied" in said
    assert run.ends == [("failed", 1)], "what was open goes on"
    _everything_is_told(backend)


def test_the_disk_is_taken_away(removable: Sandbox, backend: Backend, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    removable.home = disk
    started = removable.dbt(*SELECT, env={**backend.environment, "SPANLINE_HOME": str(disk)})
    try:
        run = removable.run()
        _at_the_gate(run)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    removable.open_gate()
    assert started.ends() == 1, started.text
    (said,) = _said(started.text)
    assert str(disk / "runs") in said
    _everything_is_told(backend)
    assert not os.listdir(disk)
