"""What is said of a client's errors: enough to mend it, and no key to the backend."""

from __future__ import annotations

import json

import pytest

from spanline.runner.shared.in_text import MASK
from spanline.sinks.error_text import in_full, in_short
from tests.support.project import Project
from tests.support.receivers import Receiver


@pytest.mark.slow
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


def test_a_secret_that_is_longer_than_what_is_told_is_cut_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut before it is masked would show the secret's beginning."""
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__AUTH__APIKEY", "hush" * 1000)
    for told in (in_short, in_full):
        assert "hush" not in told(ConnectionError(f"bad key {'hush' * 1000}"))
