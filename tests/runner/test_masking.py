"""Secrets in records: masked in every form where people wrote something, and never where a record has its structure."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from spanline import events
from spanline.dbt.arguments import command_of
from spanline.journal.appender import Appender, PatientAppender
from spanline.journal.reader import Reader
from spanline.runner.shared.in_text import MASK
from spanline.runner.shared.masking import Redactor
from spanline.runner.shared.places import PLACES, Place
from spanline.runner.shared.telling import looks_secret, stands_apart
from spanline.runner.shared.writer import Writer
from tests.support.event_strategies import TYPES, any_event

KEY = "-----BEGIN PRIVATE KEY-----\nhush-first-line\nhush-second-line\n-----END PRIVATE KEY-----\n"

_letters = st.characters(exclude_categories=["Cs"], exclude_characters="*")
apart = st.text(_letters, min_size=6, max_size=20).filter(lambda text: stands_apart(text.strip()))
_few = st.text(_letters, max_size=8)
HERE = "here stands the secret"
leaves = _few | st.integers() | st.none() | st.booleans()

# --- structure

STRUCTURE = {
    "session_started": "run_id lineage_run_id trace_id spanline_version project_dir host boot_id pid detached resumes"
    " traceparent tracestate lineage_parent lineage_root project conn_id",
    "session_ended": "outcome exit_code",
    "delivery_ended": "",
    "repository_found": "commit branch path",
    "step_started": "",
    "attempt_started": "pid python unfinished",
    "attempt_ended": "exit_code",
    "retry_scheduled": "delay",
    "runner_died": "signal exit_code",
    "runner_killed": "",
    "cancel_requested": "grace unique_id",
    "journal_stopped": "",
    "heartbeat": "",
    "interrupt_received": "",
    "runner_failed": "",
    "dbt_started": "dbt_version python_version invocation_id command",
    "dbt_configured": "adapter_type adapter_version profile target threads project project_dir target_path log_path",
    "phase_started": "phase",
    "selection": "unique_ids repeats",
    "nodes_gone": "unique_ids",
    "artifact_written": "artifact_type path",
    "artifact_kept": "name size",
    "artifacts_uploaded": "files cut",
    "log": "level name unique_id",
    "dbt_finished": "success exit_code elapsed stats line",
    "dbt_exited": "exit_code",
    "node_described": "unique_id resource_type name package_name materialized language path relation depends_on"
    " checksum added_columns on_schema_change table_format catalog",
    "node_started": "unique_id thread",
    "node_compiled": "unique_id",
    "node_finished": "unique_id status thread execution_time compile execute failures rows_affected bytes_processed"
    " query_id batches line cause",
    "node_skipped": "unique_id cause",
    "test_result": "unique_id status failures",
    "freshness_result": "unique_id status max_loaded_at snapshotted_at age warn_after error_after",
    "batches_planned": "unique_id batches",
    "batch_finished": "unique_id status batch batches execution_time start end",
    "hook_started": "unique_id",
    "hook_finished": "unique_id status execution_time",
    "query_started": "query connection_name unique_id",
    "query_finished": "query status elapsed unique_id",
    "column_resolver_started": "sqlglot_version compiled",
    "column_resolver_stopped": "",
    "columns_resolved": "unique_id origin datasets lineage reads",
}
"""Fields that are never masked: by which records are joined, and readers decide. All others are what people wrote."""


def tag(kind: type[events.Event]) -> str:
    return str(kind.__struct_config__.tag)


@pytest.mark.parametrize("kind", TYPES, ids=tag)
def test_of_every_field_it_is_decided_whether_a_secret_may_stand_there(kind: type[events.Event]) -> None:
    own = set(kind.__struct_fields__) - set(events.Event.__struct_fields__)
    structure = set(STRUCTURE[tag(kind)].split())
    assert structure | set(PLACES[tag(kind)]) == own
    assert not structure & set(PLACES[tag(kind)])


def test_no_place_is_of_a_record_that_there_is_not() -> None:
    assert set(PLACES) == set(map(tag, TYPES))


COMMON = [
    "id",
    "code",
    "path",
    "model",
    "status",
    "type",
    "success",
    "0000",
    "1",
    "true",
    "{",
    '"',
    ",",
    ":",
    "\n",
    "e",
]
SEEMING = ["unique_id", "node_finished", "model.shop.orders", "orders_v2", "s3cr3t!", "hush-of-vars", '"unique_id":"']
secrets = st.lists(st.sampled_from([*COMMON, *SEEMING]) | st.text(min_size=1, max_size=12), min_size=1, max_size=4)


@st.composite
def secrets_and_event(draw: Callable[[st.SearchStrategy[object]], object]) -> tuple[list[str], events.Event]:
    """Some secrets, and an event of any type in whose every text they may stand."""
    known = draw(secrets)
    assert isinstance(known, list)
    pieces = st.sampled_from([*known, "model.shop.", " and ", "password", "'", "="])
    event = draw(any_event(st.sampled_from(known) | st.lists(pieces, max_size=4).map("".join)))
    assert isinstance(event, events.Event)
    return known, event


def structure_of(value: object, places: Mapping[str, Place]) -> object:
    """The same without what stands at these places."""
    if isinstance(value, list):
        return [structure_of(inner, places) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        name: structure_of(inner, place) if isinstance(place := places.get(name), Mapping) else inner
        for name, inner in value.items()
        if not isinstance(places.get(name), str)
    }


@given(secrets_and_event())
@example((["code"], events.DbtStarted(dbt_version="1", python_version="3", invocation_id="code", command="code")))
@example((["unique_id", "status"], events.NodeFinished(unique_id="model.a.status", status="status", message="status")))
@example((["path"], events.NodeDescribed(unique_id="path", resource_type="path", name="path", package_name="path")))
def test_whatever_the_secrets_a_record_is_what_it_was_but_for_what_people_wrote(
    case: tuple[list[str], events.Event],
) -> None:
    known, event = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        appender = Appender(path, "w")
        appender.redactor.add(known)
        assert appender.append(event)
        appender.close()
        reader = Reader(path)
        (record,) = reader.read()
    assert reader.torn == 0
    assert type(record.event) is type(event)
    stamped = dict.fromkeys(events.Event.__struct_fields__, 0)
    before, after = ({**msgspec.to_builtins(each), **stamped} for each in (event, record.event))
    places = PLACES[tag(type(event))]
    assert structure_of(after, places) == structure_of(before, places)


@given(known=secrets, options=st.lists(st.sampled_from(["--target", "dev", "-s", "code", "--vars", "{a: b}", "id"])))
def test_whatever_the_secrets_a_command_stays_the_command(known: list[str], options: list[str]) -> None:
    assume(not any(map(stands_apart, known)))
    steps = [["source", "freshness", *options], ["run", *options]]
    masked = Redactor([*known, "run", "source", "--vars"]).record("session_started", {"steps": steps})["steps"]
    assert [command_of(step) for step in masked] == ["source freshness", "run"]
    assert [len(step) for step in masked] == [len(step) for step in steps]


def test_a_word_in_the_project_that_is_also_a_secret_stays_where_it_is_a_word() -> None:
    redactor = Redactor(["orders", "id", "2024", "code"])
    sql = "select id, code from orders where year = 2024"
    assert redactor.record("node_compiled", {"unique_id": "model.shop.orders", "sql": sql}) == {
        "unique_id": "model.shop.orders",
        "sql": sql,
    }
    described = redactor.record(
        "node_described",
        {
            "unique_id": "model.shop.orders",
            "name": "orders",
            "relation": {"identifier": "orders", "name": '"orders"'},
            "columns": [{"name": "id", "description": "the id"}, {"name": "code", "description": "code"}],
            "tags": ["orders", "of orders"],
            "meta": {"status": "orders", "orders": 2024, "note": "see orders", "deep": [{"id": ["id"]}]},
            "test": {"name": "accepted_values", "column": "code", "arguments": {"values": ["code", "other"]}},
        },
    )
    assert described == {
        "unique_id": "model.shop.orders",
        "name": "orders",
        "relation": {"identifier": "orders", "name": '"orders"'},
        "columns": [{"name": "id", "description": "the id"}, {"name": "code", "description": MASK}],
        "tags": [MASK, "of orders"],
        "meta": {"status": MASK, "orders": MASK, "note": "see orders", "deep": [{"id": [MASK]}]},
        "test": {"name": "accepted_values", "column": "code", "arguments": {"values": [MASK, "other"]}},
    }


def test_where_the_warehouse_is_is_said_unless_it_is_a_secret_that_stands_apart() -> None:
    connection = {"host": "db", "port": 5432, "schema": "path", "user": "ada-of-dbt-1"}
    redactor = Redactor(["db", "5432", "path", "ada-of-dbt-1"])
    assert redactor.record("dbt_configured", {"connection": connection, "project": "db"}) == {
        "connection": {**connection, "user": MASK},
        "project": "db",
    }


def test_what_could_not_be_journalled_is_told_without_its_secrets_too(tmp_path: Path) -> None:
    appender = PatientAppender(tmp_path / "journal.jsonl", "w")
    appender.redactor.add(["hush-of-vars"])
    appender.locate(1, 2, 3)
    appender.close()
    appender.append(events.RunnerDied(signal="SIGKILL", detail="said hush-of-vars"))
    (left,) = appender.settle()
    assert left == events.RunnerDied(
        signal="SIGKILL", detail=f"said {MASK}", session=1, step=2, attempt=3, time=left.time, mono=left.mono
    )


# --- keys


def test_what_stands_under_a_telling_key_is_masked_whatever_it_is() -> None:
    meta = {
        "api_key": "a1",
        "pin_secret": 4711,
        "service": {"auth": {"type": "basic", "user": "ada", "password": "p", "rounds": 3}},
        "tokens": ["a", "b"],
        "secrets": ["a", {"name": "n", "value": "v"}],
        "secret": True,
        "token": None,
        "password_column": "id",
        "owner": "Ann",
    }
    assert Redactor().record("node_described", {"meta": meta})["meta"] == {
        **meta,
        "api_key": MASK,
        "pin_secret": MASK,
        "service": {"auth": {"type": "basic", "user": "ada", "password": MASK, "rounds": MASK}},
        "secrets": [MASK, {"name": "n", "value": MASK}],
    }


@pytest.mark.parametrize(
    ("args", "masked"),
    [
        (["run", "--vars", "{auth_token: code, day: monday}"], '{"auth_token": "*****", "day": "monday"}'),
        (["run", "--vars", "{a: {db_pass: x1}, n: 1}"], '{"a": {"db_pass": "*****"}, "n": 1}'),
        (["run", "--vars={password: code}"], '--vars={"password": "*****"}'),
        (["run-operation", "say", "--args", "{token: code}"], '{"token": "*****"}'),
        (["run", "--vars", "{password_column: id,  day: monday}"], "{password_column: id,  day: monday}"),
        (["run", "--vars", "{note: 'has hush-of-vars in it'}"], '{"note": "has ***** in it"}'),
        (["run", "--vars", "[hush-of-vars"], "[*****"),
        (["run", "--select", "hush-of-vars"], "*****"),
        (["run", "--select", "code"], "code"),
        (["run", "--state", "s3://u:pw@bucket/x"], "s3://u:*****@bucket/x"),
    ],
)
def test_dbts_arguments_are_told_with_their_vars_masked_as_what_they_are(args: list[str], masked: str) -> None:
    redactor = Redactor(["hush-of-vars", "code"])
    *before, last = redactor.record("dbt_started", {"argv": args})["argv"]
    assert before == args[:-1]
    assert last == masked


# --- forms


def in_base64(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "in SQL": lambda secret: secret.replace("'", "''"),
    "in MySQL": lambda secret: secret.replace("\\", "\\\\").replace("'", "\\'"),
    "in a URL": lambda secret: quote(secret, safe=""),
    "in the path of a URL": quote,
    "in a form": quote_plus,
    "in a URL, small": lambda secret: re.sub("%..", lambda code: code[0].lower(), quote(secret, safe="")),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON as UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "in JSON in JSON": lambda secret: json.dumps(json.dumps(secret))[3:-3],
    "in Python": lambda secret: repr(secret)[1:-1],
    "in YAML": lambda secret: yaml.dump(secret, default_style='"', width=1000).strip()[1:-1],
    "in YAML, single": lambda secret: secret.replace("'", "''"),
    "in base64": in_base64,
    "in base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "of a user": lambda secret: in_base64(f"ada:{secret}"),
    "of another user": lambda secret: in_base64(f"anna:{secret}\n"),
    "of a third": lambda secret: in_base64(f"x:{secret}:x"),
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=apart, before=_few, after=_few)
@example(secret="p'a\"s s\\w/ö+&=\U0001f600", before="'", after='"')
@example(secret="a\x07\x08\x0b\x0c\x1b\x00\x85\xa0\u2028b", before="", after="")
@example(secret="hush-of-vars", before="Basic ", after="")
def test_a_secret_is_masked_in_every_form(form: str, secret: str, before: str, after: str) -> None:
    formed = FORMS[form](secret)
    masked = Redactor([secret]).text(f"{before} {formed} {after}")
    assert formed.strip() not in masked
    assert secret.strip() not in masked
    assert MASK in masked


def test_of_base64_nothing_is_left_that_says_how_the_secret_begins_or_ends() -> None:
    header = f"Basic {in_base64('ada:hush-of-vars!')}"
    assert Redactor(["hush-of-vars!"]).text(f"sent {header}, got 401") == f"sent Basic {MASK}, got 401"


def test_of_two_secrets_one_within_the_other_nothing_is_left() -> None:
    assert Redactor(["hush-1", "hush-1-hush"]).text("a hush-1-hush b hush-1 c") == f"a {MASK} b {MASK} c"


def test_a_secret_of_several_lines_is_cut_from_a_text_that_indents_them_or_shows_one() -> None:
    redactor = Redactor([KEY])
    assert redactor.text("  " + "\n  ".join(KEY.splitlines())) == f"  {MASK}"
    assert redactor.text("no such key: hush-first-line.") == f"no such key: {MASK}."


@given(
    secret=apart | st.sampled_from(["0000", "id", "code", "true"]),
    before=_few,
    after=_few,
    shape=st.recursive(st.just(HERE) | leaves, lambda s: st.lists(s) | st.dictionaries(st.just(HERE) | _few, s)),
)
@example(secret="0000", before="", after="", shape={"status": HERE, "unique_id": [HERE], "0000": {"depends_on": HERE}})
@example(secret="hush-of-vars", before="", after="", shape={"status": HERE, HERE: {"unique_id": HERE}})
def test_of_what_people_wrote_no_part_holds_a_secret(secret: str, before: str, after: str, shape: object) -> None:
    told_apart = stands_apart(secret.strip())
    text = before + secret + after if told_apart else secret

    def put(value: object) -> object:
        if value == HERE:
            return text
        if isinstance(value, list):
            return [put(inner) for inner in value]
        return {put(key): put(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        writer = Writer(str(path), "w", Redactor([secret]))
        writer.append("future", {"any": put(shape), "object": PurePath(f"/x{secret}") if told_apart else None})
        writer.close()
        reader = Reader(path)
        (record,) = reader.read()
    assert reader.torn == 0
    assert isinstance(record.event, events.Unknown)
    found = texts([record.event.raw["any"], record.event.raw["object"]], keys=told_apart)
    assert not [each for each in found if (secret in each if told_apart else secret == each)]


def texts(value: object, *, keys: bool) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [each for pair in value.items() for inner in pair[not keys :] for each in texts(inner, keys=keys)]
    return [each for inner in value for each in texts(inner, keys=keys)] if isinstance(value, list) else []


@given(secret=apart, value=st.recursive(leaves, lambda s: st.lists(s) | st.dictionaries(_few, s)))
def test_a_value_in_which_no_secret_stands_stays_as_it_is(secret: str, value: object) -> None:
    found = texts(value, keys=True)
    assume(not [text for text in found for part in secret.splitlines() if part.strip() in text])
    assume(not any(map(looks_secret, found)))
    assert Redactor([secret]).data(value) == value


# --- what a text itself shows


@pytest.mark.parametrize(
    "text",
    [
        "create secret (type s3, key_id 'AKIA', secret '{}', region 'eu')",
        "create secret (type huggingface, token '{}')",
        "CREATE USER bob WITH PASSWORD '{}' VALID UNTIL 'infinity'",
        "alter user bob identified by '{}'",
        "alter user bob identified by {};",
        'create user bob identified by "{}"',
        "CREATE USER bob IDENTIFIED WITH sha256_password BY '{}'",
        "create table t with (access_key = '{}', location = 's3://b')",
        "copy t from 's3://b' credentials '{}'",
        "file_format=(type=csv) credentials=(aws_key_id='x' aws_secret_key='{}') encryption = (type = 'x')",
        "encryption = (type = 'x' master_key = '{}')",
        "'Server=db;Uid=ada;Pwd={};Encrypt=yes'",
        "set s3_secret_access_key='{}'",
        "alter login x with password = N'{}'",
        "password := $${}$$, other := 1",
        'options(password="{}")',
        "attach 'host=h user=u password={} dbname=d' as pg (type postgres)",
        "'DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};EndpointSuffix=y'",
        "from read_parquet('https://h/x?sv=1&sig={}&se=2')",
        "postgres_query('postgres://u:{}@h/db', 'x')",
        "map {{'Authorization': 'Bearer {}'}}".replace("Bearer {}", "{}"),
        "got 401 for Authorization: Bearer {}",
        '{{"password": "{}", "user": "u"}}',
        '{{\\"api_key\\": \\"{}\\", \\"user\\": \\"u\\"}}',
        "{{'db_password': '{}'}}",
        "run.sh --password={} --verbose",
        "LINE 1: ...ecret (type s3, secret '{}",
    ],
)
@pytest.mark.parametrize("secret", ["aZ09-x_9", "it''s-a-1"])
def test_values_behind_telling_names_are_masked_in_sql_and_messages(text: str, secret: str) -> None:
    secret = secret if "'{}" in text else "aZ09-x_9"
    assert Redactor().text(text.format(secret)) == text.format(MASK)


@pytest.mark.parametrize(
    "text",
    [
        "select a.token, b.token from a join b on a.token=b.token where a.password = b.password",
        'on "t"."token" = "u"."token" and t.password="u"."password"',
        'select api_key "ApiKey", token as "token" from t',
        "select 'x' as token, 'y' as z",
        "where token in ('a') or token like 'b' or token != 'c'",
        "select token::varchar, v:token::string, case when token then 'x' end",
        "where token_type = 'x' and password_column = 'id' and secret_id = 'y'",
        "where customer_key = 'abc' and passed = 'yes' and pass_rate = '1' and author = 'Ann'",
        "read_csv('/x', path '/y', pattern '*.csv')",
        "Unexpected token 'from' in line 1",
        "syntax error: unexpected token: 'from'",
        "mismatched input 'token' expecting 'password'",
        'password authentication failed for user "ada"',
        "basic authentication failed, bearer of bad news, Basic plan-2024-v2",
        "Env var required but not provided: 'DB_PASSWORD'",
        "https://h:8080/a@b s3://bucket/a:b@c",
    ],
)
def test_sql_and_messages_that_only_speak_of_such_names_stay_as_they_are(text: str) -> None:
    assert Redactor().text(text) == text


def test_what_a_statement_has_shown_is_known_in_the_error_that_quotes_a_part_of_it() -> None:
    redactor = Redactor()
    redactor.record("query_started", {"sql": "create secret (type s3, secret 'hush-of-sql', regoin 'eu')"})
    said = redactor.record("node_finished", {"message": "LINE 1: ...et 'hush-of-sql', regoin 'eu')"})
    assert said == {"message": f"LINE 1: ...et '{MASK}', regoin 'eu')"}


def test_so_much_is_not_learnt_that_every_record_would_be_searched_for_ever() -> None:
    redactor = Redactor()
    for number in range(1000):
        redactor.text(f"where token = 'hush-{number}.'")
    assert redactor.text("hush-19. hush-999.") == f"{MASK} hush-999."


def test_a_secret_of_quotes_and_backslashes_is_not_searched_for_ever() -> None:
    """Could each of forty pairs be read in two ways, a text that is nearly the secret would take years."""
    before = time.process_time()
    for secret, text in (
        ("\\'" * 40, "\\\\'" * 39),
        ("''" * 40, "'" * 150),
        ("\\" * 40, "\\" * 2000),
        ("\n " * 40, " \n" * 39),
    ):
        Redactor([f"abc{secret}xyz"]).text(f"abc{text}xy")
    assert time.process_time() - before < 1


@pytest.mark.parametrize("text", ["token='", "token=a ", "password '", "//a:", "Bearer ", "identified by ", "\\'", '"'])
def test_a_text_is_searched_in_a_time_that_grows_with_its_length(text: str) -> None:
    before = time.process_time()
    Redactor().text(text * (200_000 // len(text)))
    assert time.process_time() - before < 5


def test_letters_whose_small_form_is_longer_move_nothing() -> None:
    assert Redactor().text("İİİ password 'aZ09-x' İ") == f"İİİ password '{MASK}' İ"
