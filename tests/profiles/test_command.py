"""`spanline profile` prints what would be written, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.project import SPANLINE, command

CONNECTION = {
    "conn_type": "mssql",
    "host": "sql.example",
    "login": "ada",
    "password": "hush-password",
    "schema": "shop",
    "extra": {"schema": "marts", "trust_cert": True},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: warehouse\n")
    (tmp_path / "connection.json").write_text(json.dumps(CONNECTION))
    return tmp_path


def test_it_prints_the_profile_with_its_secrets_masked(project: Path) -> None:
    options = ("--adapter", "synapse", "--target", "prod", "--schema", "other", "--threads", "3")
    done = command([SPANLINE, "profile", "connection.json", *options], project, {})
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode()
    assert yaml.safe_load(printed) == {
        "warehouse": {
            "target": "prod",
            "outputs": {
                "prod": {
                    "type": "synapse",
                    "driver": "ODBC Driver 18 for SQL Server",
                    "host": "sql.example",
                    "database": "shop",
                    "schema": "other",
                    "authentication": "sql",
                    "user": "ada",
                    "password": "{{ env_var('DBT_ENV_SECRET_SPANLINE_PASSWORD') }}",
                    "trust_cert": True,
                    "threads": 3,
                }
            },
        }
    }
    assert printed.endswith("# for dbt's process only:\n# DBT_ENV_SECRET_SPANLINE_PASSWORD=*****\n")
    assert b"hush" not in done.stdout + done.stderr


def test_a_connection_may_come_from_a_variable_and_an_error_is_one_line(project: Path) -> None:
    uri = "postgres://ada:hush-password@db.example/shop"
    variables = {"AIRFLOW_CONN_GOOD": f"{uri}?schema=marts", "AIRFLOW_CONN_BAD": f"{uri}?sslmod=hush-too&schema=marts"}
    good = command([SPANLINE, "profile", "good"], project, variables)
    assert yaml.safe_load(good.stdout)["warehouse"]["outputs"]["default"]["host"] == "db.example"
    bad = command([SPANLINE, "profile", "bad"], project, variables)
    assert bad.returncode == 2
    assert bad.stderr.decode() == (
        "spanline: connection 'bad': sslmod is in extra, and postgres has no such field: did you mean sslmode?\n"
    )
    assert b"hush" not in good.stdout + good.stderr + bad.stdout


def test_a_connection_may_come_from_standard_input(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [SPANLINE, "profile", "-"], cwd=tmp_path, input=json.dumps(CONNECTION).encode(), capture_output=True, check=True
    )
    assert yaml.safe_load(done.stdout)["default"]["outputs"]["default"]["type"] == "sqlserver"
