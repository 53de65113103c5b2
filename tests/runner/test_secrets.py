"""No secret leaves dbt's process but where dbt itself puts it: journal, backends and process list are clean."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spanline import events
from spanline.api.run import Run
from spanline.home.spec import RunSpec
from spanline.home.variables import kept_environment
from spanline.journal.reader import Reader
from spanline.runner import describe
from spanline.runner.shared.secrets import (
    MASK,
    Redactor,
    looks_secret,
    secrets_of_address,
    secrets_of_arguments,
    secrets_of_environment,
)
from spanline.runner.shared.writer import Writer
from spanline.sinks.error_text import in_full, in_short
from tests.support.journals import journal
from tests.support.project import Project
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

KEY = "-----BEGIN PRIVATE KEY-----\nhush-first-line\nhush-second-line\n-----END PRIVATE KEY-----\n"
SECRETS = {
    "variable": "hush-of-vars",
    "nested": 'hush "nested" \\ ü',
    "environment": "hush-of-environment",
    "dbts": "hush-of-dbt-env-secret",
    "profile": "hush-of-the-profile",
    "first": "hush-first-line",
    "second": "hush-second-line",
}
VARS = json.dumps({"db_password": SECRETS["variable"], "service": {"api_key": SECRETS["nested"]}})
ENVIRONMENT = {
    "BILLING_API_TOKEN": SECRETS["environment"],
    "DBT_ENV_SECRET_NAME": SECRETS["dbts"],
    "SIGNING_PRIVATE_KEY": KEY,
}


@dataclass
class Told:
    project: Project
    run: Run
    receiver: Receiver

    @property
    def results(self) -> dict[str, events.NodeFinished]:
        return {e.unique_id: e for e in journal(self.run) if isinstance(e, events.NodeFinished)}


@pytest.fixture(scope="module")
def told(copy_project: Callable[[], Project], start_receiver: Callable[[], Receiver]) -> Told:
    """A run that tells its secrets wherever dbt lets it."""
    project, receiver = copy_project(), start_receiver()
    project.write(
        "my_plugin.py",
        "from dbt.adapters.duckdb.plugins import BasePlugin\n\nclass Plugin(BasePlugin):\n    pass\n",
    )
    config = f"{{secret: {SECRETS['profile']}, name: \"{{{{ env_var('DBT_ENV_SECRET_NAME') }}}}\"}}"
    plugin = f"      module_paths: [.]\n      plugins: [{{module: my_plugin, config: {config}}}]\n"
    project.write("profiles.yml", (project.path / "profiles.yml").read_text().rstrip("\n") + "\n" + plugin)
    project.write(
        "models/leaky.sql",
        "{{ config(meta={'note': var('db_password'), var('db_password'): [var('service')]}) }}\n"
        "{% do log('saying ' ~ var('db_password') ~ env_var('BILLING_API_TOKEN'), info=true) %}\n"
        f"select '{{{{ var('db_password') }}}}' as a, '{SECRETS['profile']}' as b,"
        " '{{ var('service').api_key }}' as c, '{{ env_var('SIGNING_PRIVATE_KEY') }}' as d,"
        f" '{SECRETS['dbts']}' as e",
    )
    project.write(
        "models/refused.sql",
        "{% if execute %}"
        "{% do exceptions.raise_compiler_error('refused ' ~ var('db_password') ~ env_var('SIGNING_PRIVATE_KEY')) %}"
        "{% endif %}",
    )
    project.write("models/broken.sql", "select no_such_column, '{{ var('db_password') }}' as a")
    done = project.spanline(
        "dbt",
        "run",
        "--select",
        "leaky refused broken",
        "--vars",
        VARS,
        **ENVIRONMENT,
        **receiver.lineage_environment,
        **receiver.otel_environment,
    )
    assert done.returncode == 1, (done.stdout + done.stderr).decode()
    return Told(project, Run(_directory(project)), receiver)


def _directory(project: Project) -> object:
    from spanline.home.home import RunDirectory

    (path,) = (project.home / "runs").iterdir()
    return RunDirectory(path)


def forms(secret: str) -> list[bytes]:
    """As it is, and as it stands in JSON, with and without escapes for what is no ASCII."""
    inside = [json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    return [text.encode() for text in {secret, *inside}]


@pytest.mark.parametrize("which", SECRETS)
def test_no_file_of_the_run_holds_a_secret(told: Told, which: str) -> None:
    # Of --vars spec.json keeps what a resume needs, and dbt's own artifacts hold them, as they do in target/.
    not_looked_at = {"spec.json"} if which in ("variable", "nested") else set()
    files = [path for path in told.run.directory.path.rglob("*") if path.is_file() and path.name not in not_looked_at]
    ours = [path for path in files if told.run.directory.path / "artifacts" not in path.parents]
    assert told.run.directory.journal in ours
    for path in ours:
        assert not [form for form in forms(SECRETS[which]) if form in path.read_bytes()], path


@pytest.mark.parametrize("which", SECRETS)
def test_no_backend_is_told_a_secret(told: Told, which: str) -> None:
    bodies = b"".join(request.body for request in told.receiver.requests)
    assert told.receiver.lineage
    assert told.receiver.spans
    assert not [form for form in forms(SECRETS[which]) if form in bodies]


def test_what_is_left_says_that_something_was_cut(told: Told) -> None:
    """Without this the tests above would pass where nothing was told at all."""
    found = journal(told.run)
    said = {event.message for event in found if isinstance(event, events.Log)}
    assert f"saying {MASK}{MASK}" in said
    compiled = {event.unique_id: event.sql for event in found if isinstance(event, events.NodeCompiled)}
    assert compiled["model.shop.leaky"].strip() == (
        f"select '{MASK}' as a, '{MASK}' as b, '{MASK}' as c, '{MASK}' as d, '{MASK}' as e"
    )
    described = {event.unique_id: event for event in found if isinstance(event, events.NodeDescribed)}
    assert described["model.shop.leaky"].meta == {"note": MASK, MASK: [{"api_key": MASK}]}
    messages = {key: event.message or "" for key, event in told.results.items()}
    assert f"refused {MASK}" in messages["model.shop.refused"]
    assert "no_such_column" in messages["model.shop.broken"]
    (started,) = [event for event in found if isinstance(event, events.DbtStarted)]
    assert "--vars" in started.argv
    assert MASK in started.argv[-1]


def test_the_spec_keeps_names_of_secret_variables_and_never_their_values(told: Told) -> None:
    spec = RunSpec.load(told.run.directory.spec)
    assert "DBT_ENV_SECRET_NAME" in spec.secret_names
    text = told.run.directory.spec.read_bytes()
    for which in ("environment", "dbts", "profile", "first"):
        assert not [form for form in forms(SECRETS[which]) if form in text]


def test_what_is_kept_is_for_its_owners_eyes(told: Told) -> None:
    directory = told.run.directory

    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    assert mode(directory.path) == 0o700
    assert mode(directory.spec) == 0o600
    assert mode(directory.journal) == 0o600


@pytest.mark.parametrize("detached", [False, True])
def test_the_process_list_shows_no_variables(
    project: Project, monkeypatch: pytest.MonkeyPatch, *, detached: bool
) -> None:
    monkeypatch.setenv("GATE", str(project.path / "open"))
    run = project.start("run", "-s", "gate", "--vars", VARS, detached=detached)
    try:
        eventually(lambda: "model.shop.gate" in run.state.nodes, "the model under way")
        session = run.state.session
        attempt = next(e for e in journal(run) if isinstance(e, events.AttemptStarted))
        assert session is not None
        runner = psutil.Process(attempt.pid)
        family = [runner, *runner.children(recursive=True)]
        if detached:
            family.append(psutil.Process(session.pid))
        for process in family:
            line = " ".join(process.cmdline())
            assert line
            assert SECRETS["variable"] not in line
    finally:
        (project.path / "open").touch()
        assert run.wait(60).success


# --- what a secret is


@pytest.mark.parametrize(
    "name",
    [
        "DBT_ENV_SECRET_ANYTHING",
        "DBT_ENV_SECRET",
        "DB_PASSWORD",
        "PGPASSWORD",
        "password",
        "db_pass",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "api-key",
        "API_KEY",
        "apikey",
        "service.token",
        "STORAGE_SAS",
        "SENTRY_DSN",
        "AZURE_CLIENT_SECRET",
        "private_key",
        "keyfile_json",
        "DATABASE_CONNECTION_STRING",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "PWD",
        "OLDPWD",
        "DBT_TARGET",
        "start_date",
        "tokenizer",
        "passenger_count",
        "compass",
        "SSH_AUTH_SOCK_PATH",
        "private_key_path",
        "GOOGLE_CREDENTIALS_FILE",
        "author",
        "monkey",
    ],
)
def test_names_of_other_things_are_no_secrets(name: str) -> None:
    assert not looks_secret(name)


def test_a_short_or_existing_value_is_a_secret_only_where_dbt_says_so(tmp_path: Path) -> None:
    there = tmp_path / "key.pem"
    there.touch()
    environment = {"USE_TOKEN": "on", "SERVICE_TOKEN": str(there), "DBT_ENV_SECRET_PIN": "17", "API_TOKEN": "abcdef"}
    assert set(secrets_of_environment(environment)) == {"17", "abcdef"}


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--vars", "{db_password: hush, day: monday}"],
        ["run", "--vars", '{"db_password": "hush", "day": "monday"}'],
        ["run", "--vars={db_password: hush}"],
        ["run", "--vars", "db_password: hush"],
        ["run", "--vars", "{outer: [{db_password: {deep: [hush]}}]}"],
        ["run-operation", "grant", "--args", "{db_password: hush, role: reader}"],
    ],
)
def test_secrets_in_vars_are_found_however_they_are_written(args: list[str]) -> None:
    assert list(secrets_of_arguments(args)) == ["hush"]


@pytest.mark.parametrize("text", ["{", "just text", "[1", ""])
def test_vars_that_dbt_will_refuse_are_no_error_of_ours(text: str) -> None:
    assert list(secrets_of_arguments(["run", "--vars", text])) == []


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


# --- cutting

_letters = st.characters(exclude_categories=["Cs"], exclude_characters="*")
secrets = st.text(_letters, min_size=4, max_size=20).filter(lambda text: len(text.strip()) > 3)
_few = st.text(_letters, max_size=8)
HERE = "here stands the secret"
leaves = _few | st.integers() | st.none() | st.booleans()


def texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for inner in pair for text in texts(inner)]
    return [text for inner in value for text in texts(inner)] if isinstance(value, list) else []


@given(
    secret=secrets,
    before=_few,
    after=_few,
    shape=st.recursive(st.just(HERE) | leaves, lambda s: st.lists(s) | st.dictionaries(st.just(HERE) | _few, s)),
)
def test_a_record_without_its_secrets_is_valid_json(secret: str, before: str, after: str, shape: object) -> None:
    def put(value: object) -> object:
        if value == HERE:
            return before + secret + after
        if isinstance(value, list):
            return [put(inner) for inner in value]
        return {put(key): put(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        writer = Writer(str(path), "w", Redactor([secret]))
        writer.append("future", {"any": put(shape), "object": PurePath(f"/x{secret}")})
        writer.close()
        reader = Reader(path)
        (record,) = reader.read()
    assert reader.torn == 0
    assert isinstance(record.event, events.Unknown)
    assert not [text for text in texts([record.event.raw["any"], record.event.raw["object"]]) if secret in text]


@given(secret=secrets, value=st.recursive(leaves, lambda s: st.lists(s) | st.dictionaries(_few, s)))
def test_a_record_in_which_no_secret_stands_stays_as_it_is(secret: str, value: object) -> None:
    assume(not [text for text in texts(value) for part in secret.splitlines() if part.strip() in text])
    assert Redactor([secret]).clean(value) == value


def test_of_two_secrets_one_within_the_other_nothing_is_left() -> None:
    assert Redactor(["hush", "hush-hush"]).clean("a hush-hush b hush c") == f"a {MASK} b {MASK} c"


def test_a_secret_of_several_lines_is_cut_from_a_text_that_indents_them() -> None:
    cleaned = Redactor([KEY]).clean("  " + "\n  ".join(KEY.splitlines()))
    assert "hush" not in cleaned


def test_ids_that_records_are_joined_by_stay_whatever_a_secret_says() -> None:
    fields = {"unique_id": "model.shop.orders", "message": "of shop"}
    assert Redactor(["shop"]).clean(fields) == {"unique_id": "model.shop.orders", "message": f"of {MASK}"}


class TrustingCredentials:
    """An adapter's that shows its password, as dbt-ibmdb2's does, and an address that holds a token."""

    type = "trusting"
    host, port, password = "db.example.com", 50000, "hush-hush-1"
    path = "md:shop?motherduck_token=hush-hush-2&saas_mode=true"
    dsn = "https://someone:hush-hush-3@db.example.com/x"

    def _connection_keys(self) -> tuple[str, ...]:
        return ("host", "password", "path", "dsn")

    def connection_info(self) -> list[tuple[str, object]]:
        return [(key, getattr(self, key)) for key in self._connection_keys()]

    def to_dict(self, *, omit_none: bool) -> dict[str, object]:
        assert omit_none
        return {**dict(self.connection_info()), "port": self.port}


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


def test_what_a_backend_refuses_is_told_without_the_key_to_it(project: Project, receiver: Receiver) -> None:
    # 401 is no verdict on the event: it is owed, and the client's error, which quotes the address, says why.
    receiver.status = 401
    address = receiver.url.replace("//", "//anna:hush-of-the-address@")
    environment = {"OPENLINEAGE_URL": address, "SPANLINE_FLUSH_TIMEOUT": "1"}
    done = project.spanline("dbt", "run", "--select", "customers", **environment)
    replayed = project.spanline("replay", "latest", "--timeout", "1", "--json", **environment)
    for said in (done.stderr, replayed.stdout, replayed.stderr):
        assert b"401" in said
    assert done.returncode == 0
    kept = [path.read_bytes() for path in (project.path / ".spanline").rglob("*") if path.is_file()]
    told = [done.stdout, done.stderr, replayed.stdout, replayed.stderr]
    assert not [text for text in (*kept, *told) if b"hush" in text]

    receiver.status = 200
    assert project.spanline("replay", "latest", **environment).returncode == 0
    cursor = next((project.path / ".spanline").rglob("openlineage.json"))
    assert json.loads(cursor.read_text())["error"] is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPENLINEAGE__TRANSPORT__AUTH__APIKEY", "hush-key", "bad key hush-key"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-orgid=1,authorization=Basic%20hush==", "header value: 'Basic hush=='"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=hush-key", "Invalid header b'hush-key'"),
        ("OPENLINEAGE_URL", "http://u:hush%40key@h", "cannot resolve hush@key@h"),
        ("NOTHING", "", "for url: https://u:hush@h/v1/traces?token=hush2 no"),
        ("NOTHING", "", "cannot resolve https://u:p@hush@h, and token=h, max retries"),
        ("NOTHING", "", r"of openlineage.yml, header value: 'Bearer hush-key\n'"),
        ("OTEL_EXPORTER_OTLP_HEADERS", 'api-key="hush"', "no such key: hush"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20hush==", "cannot decode hush=="),
        ("OPENLINEAGE__TRANSPORT", '{"auth": {"apiKey": "hush-key\\n"}}', "bad key hush-key"),
    ],
)
def test_errors_of_clients_are_told_without_what_the_environment_or_they_themselves_show_to_be_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    try:
        raise ConnectionError(f"1 of 2: {said}\nmore: {said}")
    except ConnectionError as error:
        short, full = in_short(error), in_full(error)
    assert short.startswith("ConnectionError: 1 of 2: ")
    assert "Traceback" in full
    assert "\n" not in short
    for text in (short, full):
        assert MASK in text
        assert "hush" not in text


def test_what_is_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "content-type=application/json,x-scope-orgid=1")
    said = "Max retries exceeded with url: /v1/traces?auth=1 (application/json, 1 of 1)"
    assert in_short(ConnectionError(said)) == f"ConnectionError: {said.replace('auth=1', f'auth={MASK}')}"


def test_an_address_is_looked_for_in_a_time_that_grows_with_the_text() -> None:
    """A quarter of a million characters took minutes, when each was the beginning of a name."""
    before = time.process_time()
    assert list(secrets_of_address("x" * 250_000)) == []
    assert time.process_time() - before < 2


def test_a_secret_that_is_longer_than_what_is_told_is_cut_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut before it is masked would show the secret's beginning."""
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__AUTH__APIKEY", "hush" * 1000)
    for told in (in_short, in_full):
        assert "hush" not in told(ConnectionError(f"bad key {'hush' * 1000}"))
