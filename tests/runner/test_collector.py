"""The garbage collector of dbt's process: set for a manifest that stays, unless it is to be as dbt has it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.project import Project

# dbt-duckdb runs Python models in dbt's own process.
MODEL = """
import gc, json, pathlib

def model(dbt, session):
    dbt.config(materialized="table")
    pathlib.Path("collector.json").write_text(json.dumps([gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()]))
    return session.sql("select 1 as n")
"""


@pytest.mark.parametrize("setting", ["", "dbt", "nonsense"])
def test_what_stands_when_nodes_run_is_never_walked_again(project: Project, setting: str) -> None:
    project.write("models/collected.py", MODEL)
    done = project.spanline("dbt", "run", "--select", "collected", SPANLINE_GC=setting)
    assert done.returncode == 0, done.stdout.decode()
    enabled, thresholds, frozen = json.loads((project.path / "collector.json").read_text())
    assert enabled
    if setting:
        assert (tuple(thresholds), frozen) == (pythons_own(), 0)
    else:
        assert thresholds[0] > pythons_own()[0]
        assert frozen > 100_000, "dbt's modules and the manifest"
    warned = b"SPANLINE_GC is 'nonsense': it must be dbt, or not be set" in done.stderr
    assert warned == (setting == "nonsense")


def test_a_callers_own_collector_is_left_alone(project: Project) -> None:
    code = (
        "import gc; before = gc.get_threshold(), gc.get_freeze_count(); "
        "from dbt.cli.main import dbtRunner; import spanline\n"
        "assert dbtRunner(callbacks=[spanline.callback()]).invoke(['run', '-s', 'orders']).success\n"
        "assert (gc.get_threshold(), gc.get_freeze_count()) == before"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout.decode()


def pythons_own() -> tuple[int, int, int]:
    """The thresholds that an interpreter starts with."""
    done = subprocess.run(
        [sys.executable, "-c", "import gc; print(*gc.get_threshold())"], capture_output=True, check=True
    )
    first, second, third = map(int, done.stdout.split())
    return first, second, third
