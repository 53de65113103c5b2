"""A connection is read as Airflow reads it, from fields, JSON, a URI or a variable, and shows no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from spanline.errors import DbtProfileException, UsageError
from spanline.profiles import Connection

URIS = {
    # What airflow.sdk 1.3.2 (Airflow 3.3.2) makes of them: conn_type, host, port, login, password, schema, extra.
    "postgres://ada:p%40ss%2Fw%3Ard@db.example:6543/shop?sslmode=require&connect_timeout=7": (
        *("postgres", "db.example", 6543, "ada", "p@ss/w:rd", "shop"),
        {"sslmode": "require", "connect_timeout": "7"},
    ),
    "postgresql://ada@db.example/shop": ("postgres", "db.example", None, "ada", None, "shop", {}),
    "google-cloud-platform://?project=shop-1&key_path=%2Fk%2Fkey.json": (
        *("google_cloud_platform", None, None, None, None, None),
        {"project": "shop-1", "key_path": "/k/key.json"},
    ),
    "snowflake://ada:hush@/marts?__extra__=%7B%22account%22%3A+%22acme%22%7D": (
        *("snowflake", None, None, "ada", "hush", "marts"),
        {"account": "acme"},
    ),
    "databricks://https://:dapi@dbc-1.cloud.databricks.com/marts?http_path=%2Fsql%2F1": (
        *("databricks", "https://dbc-1.cloud.databricks.com", None, None, "dapi", "marts"),
        {"http_path": "/sql/1"},
    ),
    "duckdb://%2Fdata%2FShop.duckdb": ("duckdb", "/data/Shop.duckdb", None, None, None, None, {}),
    "trino://ada@TRINO.example:8080/?catalog=lake": (
        *("trino", "trino.example", 8080, "ada", None, None),
        {"catalog": "lake"},
    ),
    "aws://AKIA1:a%2Fb%2Bc@/?region_name=eu-west-1": (
        *("aws", None, None, "AKIA1", "a/b+c", None),
        {"region_name": "eu-west-1"},
    ),
    "mssql://sql.example:0/shop": ("mssql", "sql.example", None, None, None, "shop", {}),
    "postgres://ada:@db.example/": ("postgres", "db.example", None, "ada", None, None, {}),
    "postgres://%2Fvar%2Frun%2Fpg:5433/shop": ("postgres", "/var/run/pg", 5433, None, None, "shop", {}),
    "postgres://ada:hush@[::1]:5432/shop": ("postgres", "::1", 5432, "ada", "hush", "shop", {}),
    "clickhouse://ch.example/db%20one?secure=true&empty=": (
        *("clickhouse", "ch.example", None, None, None, "db one"),
        {"secure": "true", "empty": ""},
    ),
}
"""Airflow leaves a text empty, and a port 0, where this has None: both stand for nothing."""


def fields(connection: Connection) -> tuple[object, ...]:
    found = (connection.host, connection.port, connection.login, connection.password, connection.schema)
    return (connection.conn_type, *found, connection.extra)


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_airflow_reads_it(uri: str) -> None:
    assert fields(Connection.from_uri(uri, "warehouse")) == URIS[uri]


def test_the_same_connection_comes_from_a_mapping_json_a_file_or_a_variable(tmp_path: Path) -> None:
    mapping = {
        "conn_type": "google-cloud-platform",
        "description": "for the nightly run",
        "host": "",
        "port": "5432",
        "login": None,
        "extra": '{"extra__google_cloud_platform__project": "long", "project": "short", "extra__aws__role_arn": "r"}',
    }
    expected = ("google_cloud_platform", None, 5432, None, None, None, {"project": "short", "role_arn": "r"})
    file = tmp_path / "warehouse.json"
    file.write_text(json.dumps([mapping]))  # `airflow connections get -o json` prints a list
    variables = {"AIRFLOW_CONN_WAREHOUSE": json.dumps(mapping), "AIRFLOW_CONN_OTHER": "mysql://ada@my.example/shop"}
    found = [
        Connection.from_mapping(mapping, "warehouse"),
        Connection.from_json(json.dumps(mapping), "warehouse"),
        Connection.from_file(file),
        Connection.from_environment("warehouse", variables),
    ]
    assert {connection.conn_id for connection in found} == {"warehouse"}
    assert [fields(connection) for connection in found] == [expected] * 4
    assert fields(Connection.from_environment("other", variables))[:2] == ("mysql", "my.example")
    assert Connection.from_mapping({**mapping, "conn_id": "its_own"}, "warehouse").conn_id == "its_own"


WRONG = {
    "a port that is none": ({"port": "hush"}, "port"),
    "a port that is too great": ({"port": 70000}, "port"),
    "a port that is a fraction": ({"port": 1.5}, "port"),
    "a password that is a list": ({"password": ["hush"]}, "password"),
    "a field that there isn't": ({"passwrd": "hush"}, "passwrd"),
    "an extra that is no JSON": ({"extra": "hush}"}, "extra"),
    "an extra that is no object": ({"extra": '["hush"]'}, "extra"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_has_no_meaning_is_named_and_not_shown(what: str) -> None:
    given, field = WRONG[what]
    with pytest.raises(DbtProfileException, match=r"^connection 'warehouse': ") as raised:
        Connection.from_mapping({"conn_type": "postgres", **given}, "warehouse")
    assert (raised.value.conn_id, raised.value.field) == ("warehouse", field)
    assert field in str(raised.value)
    assert_hushed(raised.value)


@pytest.mark.parametrize("text", ["postgres://ada:hush#@h/d", "postgres://h:hush/d", "postgres://a:hush@[::1/d"])
def test_a_uri_that_cannot_be_read_is_not_shown(text: str) -> None:
    with pytest.raises(DbtProfileException, match="percent-encoded") as raised:
        Connection.from_uri(text, "warehouse")
    assert_hushed(raised.value)


@pytest.mark.parametrize("text", ['{"password": "hush"', "[]", "12", '[{"password": "hush"}, {}]'])
def test_json_that_is_no_connection_is_not_shown(text: str) -> None:
    with pytest.raises(DbtProfileException) as raised:
        Connection.from_json(text, "warehouse")
    assert_hushed(raised.value)


def test_a_connection_that_is_not_there_is_an_error_of_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="AIRFLOW_CONN_WAREHOUSE is not set"):
        Connection.from_environment("warehouse", {})
    with pytest.raises(UsageError, match=r"cannot read .*absent\.json"):
        Connection.from_file(tmp_path / "absent.json")


def test_a_connection_shows_no_secret() -> None:
    connection = Connection.from_uri("postgres://ada:hush@h/d?token=hush", "warehouse")
    assert repr(connection) == "Connection(conn_id='warehouse', conn_type='postgres')"
    assert pretty_repr(connection) == repr(connection)
    assert "hush" not in f"{connection} {[connection]}"


def assert_hushed(error: BaseException) -> None:
    """Neither it nor what it was raised for tells the secret, as a traceback would."""
    told = error
    while told is not None:
        assert "hush" not in f"{told!r} {told} {vars(told)}"
        told = None if told.__suppress_context__ else told.__context__
