"""Every example, put through the profile parsing of the real adapter: each package in an environment that uv makes.

Marked `adapters`; `.ci/run` runs the five biggest. The environments are kept under `SPANLINE_TEST_VENVS`, where that is
set. Each package is installed with the newest dbt Core that it takes, up to 1.11.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spanline.profiles import Adapter
from spanline.profiles.registry import ours
from spanline.testing import ProfileReading, read_by_dbt
from tests.profiles.examples import EXAMPLES

pytestmark = pytest.mark.adapters

ADAPTERS = ours()
BEYOND = {"spark": ["pyhive", "thrift"]}
"""What a package needs of others before it reads a profile."""
STUBS = {"pyodbc": "fabric sqlserver synapse spark", "pyspark": "spark"}
"""Modules that an adapter imports before it reads a profile, and that need a driver manager or a Java of the system."""
NOT_OURS = {
    "database": "clickhouse duckdb glue mysql mysql5 mariadb spark teradata",  # dbt makes it of another field
    "motherduck_token": "duckdb",  # in the settings, where older versions find it
}


@pytest.fixture(scope="module")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = os.environ.get("SPANLINE_TEST_VENVS")
    return Path(cache) if cache else tmp_path_factory.mktemp("venvs")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of modules that hold whatever is asked of them."""
    place = tmp_path_factory.mktemp("stubs")
    for name in STUBS:
        (place / f"{name}.py").write_text("class _Any:\n    pass\n\ndef __getattr__(name):\n    return _Any\n")
    return place


def interpreter(adapter: Adapter, venvs: Path) -> Path:
    """The interpreter of an environment that has this adapter's package, of the version whose fields we know."""
    name, version = adapter.package.split()
    place = venvs / f"{name}-{version}"
    python = place / "bin" / "python"
    if not (place / "done").exists():
        uv = Path(sys.executable).with_name("uv")
        wanted = ["dbt-core<1.12", f"{name}=={version}", *BEYOND.get(adapter.name, ())]
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, place], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *wanted], check=True)
        (place / "done").touch()
    return python


@pytest.mark.parametrize("name", ADAPTERS)
def test_dbt_reads_every_example_as_it_should(
    name: str, venvs: Path, stubs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, examples = ADAPTERS[name], EXAMPLES[name]
    if any(name in users.split() for users in STUBS.values()):
        monkeypatch.setenv("PYTHONPATH", str(stubs))
    profiles = [example.resolved() for example in examples.values()]
    read = read_by_dbt(*profiles, python=interpreter(adapter, venvs))
    for what, example, reading in zip(examples, examples.values(), read, strict=True):
        assert reading.refused is None, what
        assert reading.rendered == {"type": name, **example.output}, what
        assert reading.dropped == set(), what
    assert_fields_are_theirs(adapter, read[0])


def assert_fields_are_theirs(adapter: Adapter, reading: ProfileReading) -> None:
    """Ours are all that dbt knows, with all of its names; where it is a dataclass of another method, those are more."""
    named = {known for field in adapter.fields if not field.variable for known in (field.name, *field.aliases)}
    of_other_methods = {"trino"}
    left_out = {field for field, users in NOT_OURS.items() if adapter.name in users.split()}
    if adapter.name not in of_other_methods:
        assert named - reading.fields == set()
    assert {field for field in reading.fields - named - left_out if not field.startswith(("target_", "_"))} == set()
