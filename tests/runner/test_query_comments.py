"""The trace context on dbt's statements: which of them carry it, whose span it names, and what it leaves as it was."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline.api.start import start
from spanline.runner import comments
from spanline.runner.comments import comment_queries, commented, without_ours
from spanline.runner.shared.settings import comments_queries
from tests.supervisor.test_retry import LOCKED, held_by_another
from tests.support.project import DEADLINE, SILENT, Project
from tests.support.receivers import Receiver

pytestmark = pytest.mark.slow

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
COMMENT = f"/*traceparent='{TRACEPARENT}'*/"
OURS = re.compile(r"/\*traceparent='00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])'\*/;*\s*\Z")
SEED = re.compile(r"\s*(COPY|insert into) \S*raw_(orders|customers)\b")
"""What dbt loads a seed with: it puts its own comment there neither."""


@pytest.fixture
def environment(receiver: Receiver) -> dict[str, str]:
    return {**receiver.otel_environment, "SPANLINE_QUERY_COMMENTS": "traceparent", "DBT_LOG_FORMAT_FILE": "json"}


def dbt(project: Project, *args: str, code: int = 0, **environment: str) -> None:
    done = project.spanline(*args, **environment)
    assert done.returncode == code, done.stdout + done.stderr


def statements(project: Project) -> list[tuple[str, str]]:
    """The node and the text of every statement that dbt has sent, as dbt's log says."""
    lines = map(json.loads, (project.path / "logs" / "dbt.log").read_text().splitlines())
    sent = [line["data"] for line in lines if line["info"]["name"] == "SQLQuery"]
    return [(data.get("node_info", {}).get("unique_id", ""), data["sql"]) for data in sent]


def named(receiver: Receiver) -> dict[tuple[str, str], str]:
    """By trace and span, what every exported span is of, other than a query: its unique id, else its name."""
    found = {}
    for span in receiver.spans:
        attributes = {attribute.key: attribute.value.string_value for attribute in span.attributes}
        if "db.operation.name" not in attributes:
            found[span.trace_id.hex(), span.span_id.hex()] = attributes.get("unique_id", span.name)
    return found


def spans_of(project: Project, receiver: Receiver) -> set[tuple[str, str]]:
    """Each statement's node, and what the span is of that it names."""
    spans, found = named(receiver), set()
    for unique_id, sql in statements(project):
        ours = OURS.search(sql)
        if ours is not None:
            found.add((unique_id, spans[ours[1], ours[2]]))
        else:
            assert sql in ("BEGIN", "COMMIT", "ROLLBACK") or SEED.match(sql), sql
            assert '"app": "dbt"' not in sql
    return found


def nodes_of(found: set[tuple[str, str]]) -> set[str]:
    """The kinds of node that there are; all statements of one name its span."""
    of_nodes = {(node, span) for node, span in found if node}
    assert all(node == span for node, span in of_nodes)
    return {node.partition(".")[0] for node, _ in of_nodes}


def test_every_statement_of_a_build_names_the_span_of_its_node(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    dbt(project, "dbt", "build", **environment)
    found = spans_of(project, receiver)
    assert nodes_of(found) == {"operation", "seed", "model", "snapshot", "test", "unit_test"}
    assert {span for node, span in found if not node} == {"dbt build shop"}
    assert ("operation.shop.shop-on-run-start-0", "operation.shop.shop-on-run-start-0") in found


def test_the_warehouse_receives_it(project: Project, receiver: Receiver, environment: dict[str, str]) -> None:
    project.write("models/told.sql", "select current_query() as sql -- a comment to the end")
    dbt(project, "dbt", "run", "-s", "told", **environment)
    with duckdb.connect(str(project.path / "shop.duckdb")) as connection:
        ((sql,),) = connection.execute("select sql from told").fetchall()
    ours = OURS.search(sql)
    assert ours
    assert named(receiver)[ours[1], ours[2]] == "model.shop.told"
    assert ours[3] == "01"


def test_incremental_models_and_snapshots_go_on_with_it(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    for command in (["run", "-s", "orders"], ["snapshot"]):
        for _ in range(2):
            dbt(project, "dbt", *command, **environment)
    found = spans_of(project, receiver)
    assert nodes_of(found) == {"operation", "model", "snapshot"}


def test_an_operations_statement_names_the_session(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    project.write("macros/ask.sql", "{% macro ask() %}{% do run_query('select 1 as asked;') %}{% endmacro %}")
    dbt(project, "dbt", "run-operation", "ask", **environment)
    assert spans_of(project, receiver) == {("", "dbt run-operation shop")}
    (sql,) = [sql for _, sql in statements(project) if "asked" in sql]
    assert sql.endswith("'*/;")


def test_the_users_own_query_comment_stays_where_it_is(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    path = project.path / "dbt_project.yml"
    before = path.read_text()
    of_node = "{{ node.name if node else 'none' }}"
    for append, expected in (
        ("true", r"\n/\* mine customers \*/\n/\*traceparent='[^']*'\*/;?\Z"),
        ("false", r"\A/\* mine customers \*/\n.*\n/\*traceparent='[^']*'\*/;?\Z"),
    ):
        path.write_text(f'{before}\nquery-comment: {{comment: "mine {of_node}", append: {append}}}\n')
        dbt(project, "dbt", "run", "-s", "customers", **environment)
        created = [sql for node, sql in statements(project) if node.endswith("customers") and "create view" in sql]
        assert re.search(expected, created[-1], re.DOTALL), created[-1]
    path.write_text(f"{before}\nquery-comment: null\n")
    dbt(project, "dbt", "run", "-s", "customers", **environment)
    assert nodes_of(spans_of(project, receiver)) == {"operation", "model"}
    assert not statements(project)[-1][1].startswith("/*")


def test_a_step_of_several_and_a_resumed_session_have_spans_of_their_own(
    project: Project, receiver: Receiver, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    project.write("models/flaky.sql", "select {{ env_var('COLUMN') }} as id")
    monkeypatch.setenv("COLUMN", "no_such_column")
    run = start([["run", "-s", "customers"], ["run", "-s", "flaky"]], project_dir=project.path, stdio=SILENT)
    run.wait(DEADLINE)
    found = spans_of(project, receiver)
    assert {span for node, span in found if not node} == {"dbt run"}  # the step; the session is `dbt run, run`
    dbt(project, "retry", "latest", COLUMN="1", **environment)
    of_flaky = [OURS.search(sql) for node, sql in statements(project) if node == "model.shop.flaky"]
    traces = {ours[1] for ours in of_flaky if ours is not None}
    assert len(traces) == 2
    assert nodes_of(spans_of(project, receiver)) == {"operation", "model"}


def test_a_second_attempt_has_spans_of_its_own(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    other = project.path / "other.duckdb"
    project.write("models/locked.sql", LOCKED)
    with held_by_another(other):
        options = ("--retry-limit", "2", "--retry-delay", "0.1")
        dbt(project, *options, "dbt", "run", "-s", "locked", code=1, OTHER=str(other), **environment)
    found = spans_of(project, receiver)
    assert nodes_of(found) == {"operation", "model"}
    assert {span for node, span in found if not node} == {"dbt run shop", "attempt"}
    matches = [OURS.search(sql) for node, sql in statements(project) if node == "model.shop.locked"]
    assert len({ours.groups() for ours in matches if ours is not None}) == 2


def test_neither_journal_nor_spans_nor_lineage_show_it(
    project: Project, receiver: Receiver, environment: dict[str, str]
) -> None:
    dbt(project, "dbt", "build", **environment, **receiver.lineage_environment)
    (path,) = (project.home / "runs").iterdir()
    assert "/*traceparent=" not in (path / "journal.jsonl").read_text()
    shown = [
        attribute.value.string_value
        for span in receiver.spans
        for attribute in span.attributes
        if attribute.key == "db.query.text"
    ]
    assert any("create view" in sql for sql in shown)
    assert not [sql for sql in shown if "traceparent" in sql]
    lineage = json.dumps(receiver.lineage)
    assert "select c.id as customer_id" in lineage
    assert "/*traceparent=" not in lineage


def test_the_partial_parse_cache_holds(project: Project, environment: dict[str, str]) -> None:
    dbt(project, "dbt", "parse", **environment)
    dbt(project, "dbt", "parse", DBT_LOG_FORMAT_FILE="json")
    names = [json.loads(line)["info"]["name"] for line in (project.path / "logs" / "dbt.log").read_text().splitlines()]
    assert names.count("PartialParsingSkipParsing") == 2


@pytest.mark.parametrize(
    ("changed", "flags"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, {"00"}),
        ({"SPANLINE_QUERY_COMMENTS": ""}, set()),
        ({"SPANLINE_QUERY_COMMENTS": "everything"}, set()),
        ({"OTEL_TRACES_EXPORTER": "none"}, set()),
    ],
)
def test_it_is_there_where_it_is_asked_for_and_there_are_traces(
    project: Project, environment: dict[str, str], changed: dict[str, str], flags: set[str]
) -> None:
    dbt(project, "dbt", "run", "-s", "customers", **{**environment, **changed})
    assert {ours[3] for _, sql in statements(project) if (ours := OURS.search(sql))} == flags


def test_another_wish_is_told_to_be_none() -> None:
    assert not comments_queries({})
    assert not comments_queries({"SPANLINE_QUERY_COMMENTS": " Off "})
    assert comments_queries({"SPANLINE_QUERY_COMMENTS": " Traceparent "})
    with pytest.raises(ValueError, match="it must be traceparent or off"):
        comments_queries({"SPANLINE_QUERY_COMMENTS": "everything"})


# --- one statement


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", f"select 1\n{COMMENT}"),
        ("select 1;", f"select 1\n{COMMENT};"),
        ("select 1 ;\n\n", f"select 1\n{COMMENT} ;"),
        ("a; b;", f"a; b\n{COMMENT};"),
        ("select 1;;", f"select 1\n{COMMENT};;"),
        ("select 1 -- one", f"select 1 -- one\n{COMMENT}"),
        ("select 1 -- one;", f"select 1 -- one;\n{COMMENT}"),
        ("select 1 -- one\n;", f"select 1 -- one\n{COMMENT}\n;"),
        ("select '--', \"--\";", f"select '--', \"--\"\n{COMMENT};"),
        ("select 1; -- over", f"select 1; -- over\n{COMMENT}"),
        ("do $$ begin null; end $$;", f"do $$ begin null; end $$\n{COMMENT};"),
        ("select 1\n/* mine */;", f"select 1\n/* mine */\n{COMMENT};"),
        ("", ""),
        (" \n", " \n"),
        (" ; ", " ; "),
        (f"select 1\n{COMMENT}", f"select 1\n{COMMENT}"),
    ],
)
def test_it_stands_at_the_end_before_what_closes_the_statement(sql: str, expected: str) -> None:
    assert commented(sql, sql, "postgres", TRACEPARENT) == expected


@pytest.mark.parametrize(
    ("adapter", "sql", "carries"),
    [
        ("clickhouse", "insert into t (a, b)\n  format CSV\n  1,2\n", False),
        ("clickhouse", "INSERT INTO t VALUES (1)", False),
        ("clickhouse", "insert into t (a) select a from u", True),
        ("clickhouse", "select formatReadableSize(1)", True),
        ("postgres", "insert into t values (1)", True),
        ("athena", "\n  ALTER TABLE t set location 'x'", False),
        ("athena", "vacuum t", False),
        ("athena", "select 1", True),
        ("duckdb", "alter table t add column a int", True),
    ],
)
def test_statements_that_bear_no_comment_have_none(adapter: str, sql: str, *, carries: bool) -> None:
    # Of what dbt has put its own before, too.
    assert (COMMENT in commented(f"/* dbt */\n{sql}", sql, adapter, TRACEPARENT)) is carries


def test_athenas_is_hidden_as_its_adapter_hides_its_own() -> None:
    made = commented("create external table t", "create external table t", "athena", TRACEPARENT)
    assert made == f"create external table t\n-- {COMMENT}"
    assert without_ours(made) == "create external table t"


@given(st.text(alphabet="a'\"-/*;\n \t`#", max_size=40), st.sampled_from(["postgres", "athena", "clickhouse"]))
def test_without_it_the_statement_is_what_it_was(sql: str, adapter: str) -> None:
    made = commented(sql, sql, adapter, TRACEPARENT)
    assert without_ours(made).rstrip() == sql.rstrip()


def test_an_abridged_statement_loses_it_too_and_anothers_stays() -> None:
    assert without_ours(f"select 1\n{COMMENT}...") == "select 1..."
    assert without_ours(f"select 1\n{COMMENT} from t") == f"select 1\n{COMMENT} from t"


# --- what goes wrong


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """dbt's class of connection managers, whose method may be replaced in this test."""
    from dbt.adapters.base.connections import BaseConnectionManager

    monkeypatch.setattr(BaseConnectionManager, "_add_query_comment", BaseConnectionManager._add_query_comment)
    return BaseConnectionManager


def test_an_error_of_ours_costs_no_statement_and_is_told_once(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    comment_queries({"run_id": "r", "traceparent": TRACEPARENT}, (1, 1, 1), told.append)
    connections = SimpleNamespace(query_header=None, TYPE="postgres")
    assert manager._add_query_comment(connections, "select 1") == f"select 1\n{COMMENT}"

    def broken(*_: object) -> str:
        raise RuntimeError("no comment")

    monkeypatch.setattr(comments, "commented", broken)
    assert [manager._add_query_comment(connections, "select 1") for _ in range(3)] == ["select 1"] * 3
    (text,) = told
    assert "RuntimeError: no comment" in text


def test_a_dbt_that_is_another_goes_on_without(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(manager, "_add_query_comment")
    told: list[str] = []
    comment_queries({"run_id": "r", "traceparent": TRACEPARENT}, (1, 1, 1), told.append)
    (text,) = told
    assert "AttributeError" in text


# --- PostgreSQL

POSTGRES = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
models: {+materialized: table}
on-run-start: ["create table if not exists hooked as select 1 as id;"]
""",
    "seeds/raw_orders.csv": "id,amount\n1,10\n2,20\n",
    "models/orders.sql": "{{ config(materialized='incremental', unique_key='id', post_hook='analyze {{ this }}') }}"
    " select * from {{ ref('raw_orders') }}",
    "models/told.sql": "select current_query() as sql from {{ ref('orders') }} limit 1 -- %s 100 % of it",
    "models/shown.sql": "{{ config(materialized='view') }} select * from {{ ref('orders') }}",
    "models/shop.yml": "models: [{name: orders, columns: [{name: id, data_tests: [unique, not_null]}]}]",
    "snapshots/history.sql": """
{% snapshot history %}{{ config(target_schema='public', unique_key='id', strategy='check', check_cols='all') }}
select * from {{ ref('orders') }}{% endsnapshot %}
""",
    "macros/ask.sql": "{% macro ask() %}{% do run_query('select 4711 as asked') %}{% endmacro %}",
}


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[tuple[Project, Path]]:
    """A project on a real PostgreSQL, and the server's log, which has every statement."""
    pgserver = pytest.importorskip("pgserver")
    psycopg2 = pytest.importorskip("psycopg2")
    # Not in pytest's directory: as root the server runs as another user, who must be able to get there.
    place = Path(tempfile.mkdtemp(prefix="spanline-pg-"))
    server = pgserver.get_server(place / "data", cleanup_mode="stop")
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("alter system set log_statement = 'all'")
        cursor.execute("alter system set log_line_prefix = '<%a> '")
        cursor.execute("select pg_reload_conf()")
    project = Project(tmp_path / "shop")
    where = connection.info
    profile = {
        "type": "postgres", "host": where.host, "port": where.port, "user": where.user, "password": "",
        "dbname": where.dbname, "schema": "public", "threads": 2,
    }  # fmt: skip
    connection.close()
    profiles = {"shop": {"target": "dev", "outputs": {"dev": profile}}}
    for name, text in {**POSTGRES, "profiles.yml": json.dumps(profiles)}.items():
        project.write(name, text)
    yield project, Path(server.log)
    server.cleanup()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.postgres
def test_a_real_postgres_is_told_the_span_of_each_statement(
    on_postgres: tuple[Project, Path], receiver: Receiver, environment: dict[str, str]
) -> None:
    project, log = on_postgres
    for command in (["build"], ["build"], ["run-operation", "ask"]):
        dbt(project, "dbt", *command, **environment)
    found = spans_of(project, receiver)
    assert nodes_of(found) == {"operation", "seed", "model", "snapshot", "test"}
    assert {span for node, span in found if not node} == {"dbt build shop", "dbt run-operation shop"}

    arrived = re.findall(r"^<dbt> LOG:  statement: (.*?)(?=^<|\Z)", log.read_text(), re.DOTALL | re.MULTILINE)
    spans = named(receiver)
    of_server = {spans[ours[1], ours[2]] for sql in arrived if (ours := OURS.search(sql))}
    assert of_server == {span for _, span in found}
    bare = [sql for sql in arrived if not OURS.search(sql)]
    ends = ("BEGIN", "COMMIT", "ROLLBACK")
    assert not [sql for sql in bare if not sql.startswith(ends) and not SEED.match(sql.replace('"', ""))], bare
