"""Where secrets come from: every source, and what in it is none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from spanline.home.spec import RunSpec
from spanline.home.variables import kept_environment, kept_of
from spanline.runner import describe
from spanline.runner.shared.in_text import MASK
from spanline.runner.shared.masking import Redactor
from spanline.runner.shared.secrets import (
    of_yaml,
    secrets_of_address,
    secrets_of_arguments,
    secrets_of_environment,
    secrets_of_mapping,
    secrets_of_project,
)


def test_a_short_or_existing_value_is_a_secret_only_where_dbt_says_so(tmp_path: Path) -> None:
    there = tmp_path / "key.pem"
    there.touch()
    environment = {"USE_TOKEN": "on", "SERVICE_TOKEN": str(there), "DBT_ENV_SECRET_PIN": "17", "API_TOKEN": "abcdef"}
    assert set(secrets_of_environment(environment)) == {"17", "abcdef"}


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("postgres://ada:hush-pw@db.example.com/shop", {"hush-pw"}),
        ("postgresql+psycopg2://ada:hu%2Fsh@db/shop?sslmode=require", {"hu%2Fsh", "hu/sh"}),
        ("redis://:hush-pw@cache:6379/0", {"hush-pw"}),
        ("amqp://a:hush-1@one,amqp://b:hush-2@two", {"hush-1", "hush-2"}),
        ("https://api.example.com/x?region=eu&api_key=hush-key&page=2", {"hush-key"}),
        ("https://x.blob.core.windows.net/c?sv=2020&sig=hush%3D&se=2030", {"hush%3D", "hush="}),
        ("md:shop?motherduck_token=hush-token&saas_mode=true", {"hush-token"}),
        ("host=db user=ada password='hush pw' dbname=shop", {"hush pw"}),
        ("Server=db;Uid=ada;Pwd={hush;pw};Encrypt=yes", {"hush;pw"}),
        ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=hush==;EndpointSuffix=y", {"hush=="}),
        (
            '{"conn_type": "postgres", "login": "ada", "password": "hush-pw", "extra": {"token": "t1"}}',
            {"hush-pw", "t1"},
        ),
        ("-Xmx1g -Ddb.password=hush-pw", {"hush-pw"}),
        ("https://db.example.com:8080/a@b?c=d", set()),
        ("postgres://ada@db/shop", set()),
        ("ls=di=01;34:password_file=/x", set()),
        ("{not json", set()),
        ("//", set()),
    ],
)
def test_secrets_within_the_value_of_any_variable_are_found(value: str, secrets: set[str]) -> None:
    assert set(secrets_of_environment({"ANYTHING": value})) == secrets


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--vars", "{db_password: hush, day: monday}"],
        ["run", "--vars", '{"db_password": "hush", "day": "monday"}'],
        ["run", "--vars={db_password: hush}"],
        ["run", "--vars", "db_password: hush"],
        ["run", "--vars", "{outer: [{db_password: {deep: [hush]}}]}"],
        ["run", "--vars", "{auth: {type: basic, username: ada, value: hush}}"],
        ["run-operation", "grant", "--args", "{db_password: hush, role: reader}"],
        # dbt refuses these, and quotes them:
        ["run", "--vars", "{db_password: hush, day: monday"],
        ["run", "--vars", "{day: [monday, db_password: 'hush'}"],
        ["run", "--vars", "db_password=hush"],
    ],
)
def test_secrets_in_vars_are_found_however_they_are_written(args: list[str]) -> None:
    assert list(secrets_of_arguments(args)) == ["hush"]


@pytest.mark.parametrize("text", ["{", "just text", "[1", "", "{day: 2024-99-99}", "{token: true, password: null}"])
def test_vars_that_hold_no_secret_or_are_none_are_no_error(text: str) -> None:
    assert list(secrets_of_arguments(["run", "--vars", text])) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ' * 10_000,
        "[" * 10_000 + "]" * 10_000,
        "{password: hush-hush, b: &a [*a]}",
        "&a [[*a], *a]",
        "a: &a [*a, *a]",
    ],
    ids=["unclosed", "closed", "itself", "itself twice", "itself below"],
)
def test_what_is_nested_without_an_end_is_unreadable(text: str) -> None:
    assert of_yaml(text) is None
    assert list(secrets_of_environment({"SETTINGS": text})) == []
    assert kept_of({"SETTINGS": text}) == (({}, ["SETTINGS"]) if "password" in text else ({"SETTINGS": text}, []))
    argv = ["run", "--vars", text]
    redactor = Redactor(secrets_of_arguments(argv))
    assert redactor.record("dbt_started", {"argv": argv})["argv"] == [*argv[:2], text.replace("hush-hush", MASK)]


def test_numbers_under_telling_names_are_secrets_as_they_are_written() -> None:
    assert list(secrets_of_mapping({"pin_secret": 4711, "count": 3})) == ["4711"]


def test_vars_of_the_project_are_found_those_for_packages_too(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text(
        "name: shop\nvars:\n  db_password: hush-1\n  start: 2020-01-01\n"
        "  other_package:\n    service: {api_key: hush-2}\nmodels: {+password: not-a-var}\n"
    )
    (tmp_path / "vars.yml").write_text("vars:\n  token: hush-3\n")
    assert set(secrets_of_project(str(tmp_path))) == {"hush-1", "hush-2", "hush-3"}


@pytest.mark.parametrize("text", ["", "vars: [", "vars: 1", "- vars", "vars: {}\n\tx: 1"])
def test_a_project_that_dbt_will_refuse_is_no_error_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "dbt_project.yml").write_text(text)
    assert list(secrets_of_project(str(tmp_path))) == []
    assert list(secrets_of_project(str(tmp_path / "gone"))) == []


def test_a_run_knows_the_secrets_of_all_its_sources(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("vars: {token: hush-1}")
    spec = RunSpec(
        run_id="r",
        steps=[["deps"], ["run", "--vars", "{password: hush-2}"]],
        cwd="/",
        project_dir=str(tmp_path),
        python="python",
        environment={"DB_URL": "x://u:hush-3@h"},
    )
    assert set(spec.secrets({"DBT_ENV_SECRET_X": "hush-4"})) == {"hush-1", "hush-2", "hush-3", "hush-4"}


def test_variables_of_the_run_are_kept_but_for_secret_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_SCHEMA_OVERRIDE", "other")
    monkeypatch.setenv("DBT_ENV_SECRET_X", "hush")
    monkeypatch.setenv("EDITOR", "vi")
    kept, names = kept_environment({"REGION": "eu", "API_TOKEN": "hush"})
    assert kept["DBT_SCHEMA_OVERRIDE"] == "other"
    assert kept["REGION"] == "eu"
    assert "EDITOR" not in kept
    assert names == ["API_TOKEN", "DBT_ENV_SECRET_X"]
    assert "hush" not in kept.values()


def test_an_address_is_looked_for_in_a_time_that_grows_with_the_text() -> None:
    """A quarter of a million characters took minutes, when each was the beginning of a name."""
    before = time.process_time()
    assert list(secrets_of_address("x" * 250_000)) == []
    assert time.process_time() - before < 2


# --- of the profile


def test_postgres_credentials_have_their_password_and_nothing_public_for_a_secret() -> None:
    from dbt.adapters.postgres.connections import PostgresCredentials

    credentials = PostgresCredentials(
        database="analytics_production",
        schema="marts_production",
        host="db.internal.example.com",
        user="analytics_reader",
        port=5432,
        password="hush",
        role="reporting_role_name",
        search_path="marts_production,public",
        sslmode="verify-full",
        application_name="dbt",
    )
    assert set(describe.credential_secrets(credentials)) == {"hush"}
    shown = describe.connection(credentials)
    assert (shown["host"], shown["port"], shown["user"]) == ("db.internal.example.com", 5432, "analytics_reader")
    assert "hush" not in map(str, shown.values())


def test_duckdb_credentials_have_their_keys_for_secrets_however_deep_and_not_their_paths() -> None:
    from dbt.adapters.duckdb.credentials import DuckDBCredentials

    credentials = DuckDBCredentials.from_dict(
        {
            "type": "duckdb",
            "database": "warehouse",
            "schema": "main_schema_name",
            "path": "/data/shop/warehouse.duckdb",
            "settings": {"s3_region": "eu-central-1", "s3_secret_access_key": "hush-one"},
            "plugins": [{"module": "some_module_name", "config": {"user": "analytics_reader", "password": "hush-two"}}],
            "secrets": [{"type": "s3", "secret": "hush-three"}],
        }
    )
    found = set(describe.credential_secrets(credentials))
    assert {"hush-one", "hush-two", "hush-three"} <= found
    assert not found & {"eu-central-1", "/data/shop/warehouse.duckdb", "analytics_reader", "some_module_name"}


class TrustingCredentials:
    """An adapter's that shows its password, as dbt-ibmdb2's does, and an address that holds a token."""

    type = "trusting"
    host, port, password = "db.example.com", 50000, "hush-hush-1"
    path = "md:shop?motherduck_token=hush-hush-2&saas_mode=true"
    schema = "marts_of_production"
    dsn = "https://someone:hush-hush-3@db.example.com/x"

    def _connection_keys(self) -> tuple[str, ...]:
        return ("host", "password", "path", "dsn")

    def connection_info(self) -> list[tuple[str, object]]:
        return [(key, getattr(self, key)) for key in self._connection_keys()]

    def to_dict(self, *, omit_none: bool) -> dict[str, object]:
        assert omit_none
        return {**dict(self.connection_info()), "port": self.port, "schema": self.schema}


def test_what_an_adapter_shows_of_its_secrets_is_not_public() -> None:
    credentials = TrustingCredentials()
    shown = describe.connection(credentials)
    assert shown == {
        "host": "db.example.com",
        "port": 50000,
        "path": f"md:shop?motherduck_token={MASK}&saas_mode=true",
        "dsn": f"https://someone:{MASK}@db.example.com/x",
    }
    assert set(describe.credential_secrets(credentials)) == {"hush-hush-1", "hush-hush-2", "hush-hush-3"}
