"""Variables that a run is given: what may hold a credential is kept nowhere, and all the rest is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import psutil
import pytest

from spanline.api.start import retry
from spanline.errors import UsageError
from spanline.home.spec import RunSpec
from spanline.home.variables import kept_of
from tests.support.project import DEADLINE, Project
from tests.support.receivers import answer, serving

KEY = "k3y-of-the-backend"
SECRET = {
    "OPENLINEAGE_API_KEY": "hush",
    "OPENLINEAGE__TRANSPORT": '{"type": "http", "url": "https://lineage.example.com"}',
    "OPENLINEAGE__TRANSPORT__AUTH": '{"type": "api_key", "apiKey": "hush"}',
    "OPENLINEAGE__TRANSPORT__HEADERS__X_TEAM": "hush",
    "AIRFLOW__OPENLINEAGE__TRANSPORT": "{}",
    "AIRFLOW_CONN_WAREHOUSE": "postgres://u@h/db",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=hush",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20hush",
    # by their values
    "DATABASE_URL": "postgresql://reader:hush@db.example.com/shop",
    "DBT_MOTHERDUCK": "md:shop?motherduck_token=hush-hush",
    "DBT_ODBC": "Driver={ODBC Driver 18};Server=db;Uid=reader;password=hush-hush",
    "DBT_PROFILE_TEXT": "shop:\n  outputs:\n    dev: {type: postgres, password: hush}",
    "OPENLINEAGE_CONFIG": "transport:\n  type: http\n  auth: {type: api_key, apiKey: hush}",
    "DBT_OPTIONS": '[{"name": "a", "token": "hush"}]',
    "DBT_NEARLY_JSON": '{"password": "hush", ...',
    "DBT_SIGNING": "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
    "DBT_EXTRA": "Bearer abcdef0123456789",
    "DBT_KEYFILE": base64.b64encode(b'{"type": "service_account", "project_id": "shop"}').decode(),
}
PLAIN = {
    "DBT_SCHEMA_OVERRIDE": "other",
    "REGION": "eu",
    "OPENLINEAGE_URL": "https://lineage.example.com:5000",
    "OPENLINEAGE_NAMESPACE": "nightly",
    "OPENLINEAGE_CONFIG": "/etc/openlineage.yml",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example.com",
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=dbt,deployment.environment.name=prod",
    "DBT_SETTINGS": '{"threads": 4, "tables": ["orders"]}',
    "DBT_NOTE": "two lines,\nof plain words",
    "DBT_WHERE": "day >= '2026-01-01' and state = 'open'",
}


@pytest.mark.parametrize("name", SECRET)
def test_what_may_hold_a_credential_is_kept_by_its_name_alone(name: str) -> None:
    assert kept_of({name: SECRET[name]}) == ({}, [name])


@pytest.mark.parametrize("name", PLAIN)
def test_all_the_rest_is_kept(name: str) -> None:
    assert kept_of({name: PLAIN[name]}) == ({name: PLAIN[name]}, [])


def test_what_a_session_is_part_of_holds_for_that_session() -> None:
    assert kept_of({"OPENLINEAGE_PARENT_ID": "airflow/a/b", "TRACEPARENT": "00-1-2-01", "REGION": "eu"}) == (
        {"REGION": "eu"},
        [],
    )


def test_what_a_run_is_given_again_takes_the_place_of_what_it_had() -> None:
    spec = RunSpec(run_id="r", steps=[["build"]], cwd="/", project_dir="/", python="p")
    first = spec.given({"REGION": "eu", "TARGET": "a", "DATABASE_URL": "postgres://h/db", "API_TOKEN": "hush"})
    assert first.environment == {"REGION": "eu", "TARGET": "a", "DATABASE_URL": "postgres://h/db"}
    assert first.secret_names == ["API_TOKEN"]
    again = first.given({"REGION": "us", "DATABASE_URL": "postgres://u:hush-hush@h/db"})
    assert again.environment == {"REGION": "us", "TARGET": "a"}
    assert again.secret_names == ["API_TOKEN", "DATABASE_URL"]
    assert again.given({"DATABASE_URL": "postgres://h/db"}).secret_names == ["API_TOKEN"]


# --- handed over to a supervisor of its own ------------------------------------------------------------------------


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A backend that wants a key: its address, and the key and the type of each event that it was sent."""
    found: list[tuple[str, str]] = []

    class Backend(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.append((self.headers["Authorization"], event["eventType"]))
            answer(self, 200)

    with serving(Backend) as address:
        yield address, found


@pytest.mark.slow
def test_a_transport_is_handed_to_the_supervisor_and_no_file(
    project: Project, asked: tuple[str, list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = asked
    transport = {
        "OPENLINEAGE__TRANSPORT__TYPE": "http",
        "OPENLINEAGE__TRANSPORT__URL": url,
        "OPENLINEAGE__TRANSPORT__AUTH": json.dumps({"type": "api_key", "apiKey": KEY}),
    }
    environment = {**transport, "OPENLINEAGE_NAMESPACE": "nightly"}
    run = project.start("build", "-s", "fragile", "--vars", "{break: true}", detached=True, environment=environment)
    session = run.state.session
    assert session is not None
    processes = [psutil.Process(session.pid), *psutil.Process(session.pid).children(recursive=True)]
    assert not [process for process in processes if KEY in " ".join(process.cmdline())]
    assert run.wait(DEADLINE).exit_code == 1
    assert {key for key, _ in received} == {f"Bearer {KEY}"}
    assert [kind for _, kind in received][-1] == "FAIL"

    spec = RunSpec.load(run.directory.spec)
    assert (spec.environment["OPENLINEAGE_NAMESPACE"], spec.secret_names) == ("nightly", sorted(transport))
    for file in run.directory.path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file

    with pytest.raises(UsageError, match="to resume this run, set OPENLINEAGE__TRANSPORT__AUTH, OPENLINEAGE__"):
        retry(run.id, home_dir=project.home)
    off = retry(run.id, home_dir=project.home, environment={"OPENLINEAGE_DISABLED": "true"}, detached=True)
    received.clear()
    assert off.wait(DEADLINE).exit_code == 1
    assert received == []
    transport["OPENLINEAGE_DISABLED"] = "false"
    new = {**transport, "OPENLINEAGE__TRANSPORT__AUTH": json.dumps({"type": "api_key", "apiKey": f"new {KEY}"})}
    parent = "airflow/nightly.dbt/01a21195-106f-709a-b5e2-0b1dc163f5ec"
    resumed = retry(
        run.id,
        home_dir=project.home,
        environment={**new, "OPENLINEAGE_PARENT_ID": parent, "REGION": "eu"},
        detached=True,
    )
    assert resumed is not None
    assert resumed.wait(DEADLINE).exit_code == 1
    assert {key for key, _ in received} == {f"Bearer new {KEY}"}
    again = resumed.state.session
    assert again is not None
    assert again.lineage_parent is not None
    assert again.lineage_parent.job == "nightly.dbt"
    kept = RunSpec.load(run.directory.spec).environment
    assert (kept["REGION"], kept["OPENLINEAGE_NAMESPACE"]) == ("eu", "nightly")
    assert KEY.encode() not in run.directory.spec.read_bytes()
