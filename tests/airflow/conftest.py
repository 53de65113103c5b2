"""Airflow, where it is installed: the environment needs `spanline[airflow]`, which `dev` does not bring."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.airflow_site import AIRFLOW, Site
from tests.support.clouds import CLOUDS, Cloud
from tests.support.project import Project
from tests.support.receivers import Receiver

DAGS = Path(__file__).parent / "dags"
SNIPPETS = DAGS / "snippets.txt"
AIRFLOW_DOC = Path(__file__).parents[2] / "docs" / "airflow.md"

# Airflow makes its home where it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="spanline-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

if not AIRFLOW.exists():
    collect_ignore = [place.name for place in DAGS.parent.glob("test_*.py") if place.name != "test_command.py"]


@pytest.fixture(scope="session")
def lineage_of_site(start_receiver: Callable[[], Receiver]) -> Receiver:
    return start_receiver()


@pytest.fixture(scope="session")
def bucket() -> Iterator[Cloud]:
    with CLOUDS["s3"]() as cloud:
        yield cloud


@pytest.fixture(scope="session")
def shop_of_site(copy_project: Callable[[], Project]) -> Project:
    """The project of the DAGs that name one themselves; it takes a schema for all of its models."""
    project = copy_project()
    (macro,) = re.findall(r"```sql\n(.*?)```", AIRFLOW_DOC.read_text(), re.DOTALL)
    project.write("macros/generate_schema_name.sql", macro)
    seeded = project.dbt("seed", DBT_SCHEMA_OVERRIDE="chosen")
    assert seeded.returncode == 0, seeded.stdout.decode()
    return project


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, lineage_of_site: Receiver, shop_of_site: Project, bucket: Cloud
) -> Iterator[Site]:
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(DAGS / "shop.py", dags)
    (dags / "snippets.py").write_text(snippets(shop_of_site, bucket))
    warehouse = str(shop_of_site.path / "shop.duckdb")
    credentials = {"conn_type": "aws", "login": "nobody", "password": "nothing-to-hide"}
    found = Site(
        tmp_path_factory.mktemp("airflow"),
        dags,
        {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": lineage_of_site.url}),
            "AIRFLOW_CONN_DBT_DREMIO_PROD": json.dumps({"conn_type": "duckdb", "host": warehouse}),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
                {**credentials, "extra": {"endpoint_url": bucket.endpoint, "region_name": "us-east-1"}}
            ),
            "AIRFLOW_VAR_SCHEMA": "chosen",
        },
    )
    try:
        found.start()
        yield found
    finally:
        found.stop()


def snippets(project: Project, bucket: Cloud) -> str:
    """DAGs of tasks as people have them, and as they would have them: but for the import, nothing is changed."""
    text = SNIPPETS.read_text()
    for example, ours in (
        ("/opt/airflow/venvs/dbt-venv", sys.prefix),
        ("/opt/airflow/dbt/my_project", str(project.path)),
        ("my-dbt-artifacts", bucket.url.removeprefix("s3://")),
    ):
        assert example in text
        text = text.replace(example, ours)
    return text
