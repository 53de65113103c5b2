"""Airflow, where it is installed: the environment needs `spanline[airflow]`, which `dev` does not bring."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.airflow_site import AIRFLOW, Site
from tests.support.receivers import Receiver

DAGS = Path(__file__).parent / "dags"

# Airflow makes its home where it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="spanline-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

if not AIRFLOW.exists():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def lineage_of_site(start_receiver: Callable[[], Receiver]) -> Receiver:
    return start_receiver()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, lineage_of_site: Receiver) -> Iterator[Site]:
    found = Site(
        tmp_path_factory.mktemp("airflow"),
        DAGS,
        {"AIRFLOW__OPENLINEAGE__TRANSPORT": f'{{"type": "http", "url": "{lineage_of_site.url}"}}'},
    )
    try:
        found.start()
        yield found
    finally:
        found.stop()
