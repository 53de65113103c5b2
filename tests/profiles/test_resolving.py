"""Every example makes its profile, and what is missing, contradictory or unknown is named, never shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from rich.pretty import pretty_repr

from spanline.errors import DbtProfileException
from spanline.profiles import Adapter, Connection, Profile, integer, resolve, secret, text
from spanline.profiles.registry import ours
from tests.profiles.examples import EXAMPLES, SECRET, Example, with_secrets
from tests.profiles.test_connection import assert_hushed

CASES = [
    pytest.param(adapter, example, id=f"{adapter}-{name}")
    for adapter, examples in EXAMPLES.items()
    for name, example in examples.items()
]


@pytest.mark.parametrize(("adapter", "example"), CASES)
def test_an_example_makes_its_profile(adapter: str, example: Example) -> None:
    profile = example.resolved()
    assert (profile.conn_id, profile.adapter) == ("warehouse", adapter)
    if "{" not in str(example.output.get("user")):  # what Jinja could change is protected: see test_rendering
        assert with_secrets(dict(profile.output), profile) == {"type": adapter, **example.output}
    others = {name: value for name, value in profile.environment.items() if not name.startswith("DBT_ENV_SECRET_")}
    assert others == example.environment
    parts = [name for name in profile.environment if name.endswith("_PART")]
    assert len(others) + len(secrets_of(example.output)) + len(parts) == len(profile.environment)
    assert all(SECRET in profile.environment[part] for part in parts)
    for shown in (profile.document("shop"), profile.masked("shop"), repr(profile), str(profile)):
        assert SECRET not in shown
    read = yaml.safe_load(profile.document("shop"))
    assert read == {"shop": {"target": "default", "outputs": {"default": dict(profile.output)}}}


def secrets_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return {secret for inner in value.values() for secret in secrets_of(inner)}
    if isinstance(value, list):
        return {secret for inner in value for secret in secrets_of(inner)}
    return {value} if isinstance(value, str) and SECRET in value else set()


def test_every_adapter_has_an_example_with_threads() -> None:
    assert set(EXAMPLES) == set(ours())
    some = {name for name, examples in EXAMPLES.items() for example in examples.values() if "threads" in example.output}
    assert some == set(ours()) - {"mysql5", "mariadb", "duckdb"}


REFUSALS = yaml.safe_load(Path(__file__).with_name("refusals.yml").read_text())


@pytest.mark.parametrize(
    ("adapter", "refusal"),
    [
        pytest.param(adapter, refusal, id=f"{adapter}-{refusal['field']}-{number}")
        for adapter, refusals in REFUSALS.items()
        for number, refusal in enumerate(refusals)
    ],
)
def test_what_is_wrong_is_named_and_not_shown(adapter: str, refusal: dict[str, object]) -> None:
    connection = Connection.from_mapping({"conn_type": adapter, **refusal["connection"]}, "warehouse")
    with pytest.raises(DbtProfileException) as raised:
        resolve(connection)
    assert str(raised.value).startswith(f"connection 'warehouse': {refusal['field']} ")
    assert refusal["says"] in str(raised.value)
    assert (raised.value.conn_id, raised.value.category) == ("warehouse", "profile")
    assert raised.value.field == refusal["field"]
    assert_hushed(raised.value)


def test_every_adapter_says_what_is_missing_of_an_empty_connection() -> None:
    for name in ours():
        if name == "duckdb":  # a database in memory needs nothing
            continue
        with pytest.raises(DbtProfileException, match="is missing"):
            resolve(Connection(conn_id="warehouse", conn_type=name))


def test_a_type_that_there_is_not_lists_those_that_there_are() -> None:
    with pytest.raises(DbtProfileException, match=r"unknown conn_type foo; known are athena, aws, .*, trino"):
        resolve(Connection(conn_id="warehouse", conn_type="foo"))
    with pytest.raises(DbtProfileException, match=r"unknown adapter foo; known are athena, .*, vertica"):
        resolve(Connection(conn_id="warehouse", conn_type="postgres"), "foo")
    with pytest.raises(DbtProfileException, match="aws fits several adapters, athena, glue"):
        resolve(Connection(conn_id="warehouse", conn_type="aws"))


POSTGRES = Connection(conn_id="w", conn_type="postgres", host="h", login="u", password="hush", schema="d")


def test_what_is_asked_goes_before_what_the_connection_says() -> None:
    connection = Connection.from_mapping(
        {"conn_type": "postgres", "host": "h", "login": "u", "password": "hush", "schema": "d",
         "extra": {"host": "override", "schema": "of_connection", "threads": 2}}, "w"
    )  # fmt: skip
    assert (resolve(connection).output["schema"], resolve(connection).output["threads"]) == ("of_connection", 2)
    asked = resolve(connection, schema="asked", threads=9, target="prod")
    assert (asked.output["host"], asked.output["schema"], asked.output["threads"]) == ("override", "asked", 9)
    assert yaml.safe_load(asked.document("shop", "other"))["shop"]["target"] == "prod"
    assert resolve(connection, schema="").output["schema"] == "of_connection"
    assert yaml.safe_load(resolve(POSTGRES, schema="s").document("shop", "other"))["shop"]["target"] == "other"


def test_texts_that_differ_never_share_a_variable() -> None:
    keys = {"a-password": "hush1", "a_password": "hush2", "same": {"password": "hush3"}, "same_password": "hush4"}
    profile = resolve(Connection(conn_id="w", conn_type="duckdb", extra={"settings": keys}))
    assert with_secrets(profile.output["settings"], profile) == keys
    assert len(profile.environment) == 4


def test_a_file_with_a_key_that_is_not_encrypted_has_no_passphrase(tmp_path: Path) -> None:
    for head, expected in (("PRIVATE KEY", None), ("ENCRYPTED PRIVATE KEY", "hush")):
        key = tmp_path / f"{head}.p8"
        key.write_text(f"-----BEGIN {head}-----\nAAAA\n-----END {head}-----\n")
        extra = {"account": "a", "database": "d", "private_key_file": str(key)}
        profile = resolve(
            Connection(conn_id="w", conn_type="snowflake", login="u", password="hush", schema="s", extra=extra)
        )
        assert with_secrets(profile.output.get("private_key_passphrase"), profile) == expected
        assert "password" not in profile.output


def test_a_token_is_read_from_the_file_that_airflow_reads_it_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hush-jwt\n")
    extra = {"catalog": "c", "auth": "jwt", "jwt__file": str(file)}
    profile = resolve(Connection(conn_id="w", conn_type="trino", host="h", schema="s", extra=extra))
    assert with_secrets(profile.output["jwt_token"], profile) == "hush-jwt"


OTHERS = Adapter(
    name="plane",
    package="dbt-plane 1.0",
    conn_types=("hangar",),
    fields=(text("host", "host", required=True), integer("port", "port", default=9), secret("password", "password")),
)


def test_others_register_their_adapters_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plane.py").write_text("from tests.profiles.test_resolving import OTHERS\nbroken = 'no adapter'\n")
    found = tmp_path / "plane-1.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: plane\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text("[spanline.profiles]\nplane = plane:OTHERS\n")
    monkeypatch.syspath_prepend(tmp_path)
    for conn_type, adapter in (("hangar", None), ("plane", None), ("http", "plane")):
        connection = Connection(conn_id="w", conn_type=conn_type, host="h", password="hush")
        profile = resolve(connection, adapter)
        assert with_secrets(dict(profile.output), profile) == {
            "type": "plane", "host": "h", "port": 9, "password": "hush",
        }  # fmt: skip
    assert resolve(POSTGRES, schema="s").adapter == "postgres"

    (found / "entry_points.txt").write_text("[spanline.profiles]\nplane = plane:broken\n")
    with pytest.raises(DbtProfileException, match="the adapter plane"):
        resolve(Connection(conn_id="w", conn_type="hangar", host="h"))
    (found / "entry_points.txt").write_text("[spanline.profiles]\nplane = plane_that_is_gone:ADAPTER\n")
    with pytest.raises(DbtProfileException, match=r"the adapter plane .* ModuleNotFoundError"):
        resolve(Connection(conn_id="w", conn_type="hangar", host="h"))
    assert "plane_that_is_gone" not in sys.modules


def test_a_profile_shows_no_secret() -> None:
    profile = resolve(POSTGRES, schema="s")
    assert isinstance(profile, Profile)
    assert profile.environment == {"DBT_ENV_SECRET_SPANLINE_PASSWORD": "hush"}
    assert repr(profile) == "Profile(conn_id='w', adapter='postgres')"
    assert pretty_repr(profile) == repr(profile)
    assert "hush" not in f"{profile} {[profile]} {profile.masked('shop')}"
    assert "# DBT_ENV_SECRET_SPANLINE_PASSWORD=*****" in profile.masked("shop")
