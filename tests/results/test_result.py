"""Which exception a failed run amounts to, and what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import spanline
from spanline import errors, events
from spanline.failures.classify import Failure, line_of, most_permanent
from spanline.failures.matching import Category
from spanline.results.result import EXCEPTIONS, NodeResult, RunResult, exception_of
from spanline.runner.shared.lines import CODE, FILE, STATEMENT, of_jinja, traced
from tests.support.journals import journal
from tests.support.project import Project

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
_CAST = "select {{ 1 }} as one,\n  cast(name as integer) as number from {{ ref('customers') }}"
_ELSEWHERE = """
shop:
  target: elsewhere
  outputs:
    elsewhere: {type: postgres, host: 127.0.0.1, port: 9, user: u, password: p, dbname: d, schema: s}
"""


def raised(result: RunResult) -> spanline.DbtException:
    with pytest.raises(spanline.DbtException) as found:
        result.raise_for_failure()
    return found.value


def of_nodes(*nodes: NodeResult) -> spanline.DbtException:
    failures = [node.failure for node in nodes if node.failure is not None]
    return exception_of(
        RunResult(
            run_id="r",
            outcome="failed",
            exit_code=1,
            elapsed=1.0,
            directory="d",
            nodes=nodes,
            failure=most_permanent(failures),
        )
    )


def failing(unique_id: str, category: Category, *, transient: bool = False, status: str = "error") -> NodeResult:
    kind = unique_id.partition(".")[0]
    return NodeResult(unique_id=unique_id, status=status, resource_type=kind, failure=Failure(category, transient, "r"))


def test_a_node_that_fails_in_the_warehouse_is_named_with_its_file_its_line_and_the_own_error(project: Project) -> None:
    project.write("models/bad_cast.sql", "{{ config(materialized='table') }}\n" + _CAST)
    error = raised(project.run("run", "-s", "+bad_cast").result())
    assert type(error) is spanline.DbtRuntimeException
    assert (error.category, error.transient, error.failed_nodes) == ("data", False, ("model.shop.bad_cast",))
    first, *_ = str(error).splitlines()
    where = "model.shop.bad_cast (models/bad_cast.sql, line 3 of the compiled code): "
    assert first.startswith(where), "the file has a macro in that line"
    assert "Conversion Error: Could not convert string" in first, "the warehouse's words, without dbt's around them"
    assert re.search(rf"\(permanent\): .*`spanline retry {error.run_id}`", str(error))


_TABLE = "{{ config(materialized='table') }}\n"
_CHECKED = "{{ config(unique_key='id', strategy='check', check_cols='all') }}"
_IN_BATCHES = """{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', \
batch_size='day', begin=(modules.datetime.date.today() - modules.datetime.timedelta(1)) | string) }}"""
_FAILING = {
    # A line may be named where it stands literally, and once, in the file: not of what dbt puts around it or into it.
    "models/l_view.sql": ("select nope", (1, FILE)),
    "models/l_table.sql": (_TABLE + "select cast('x' as int) as i", (2, FILE)),
    "models/l_blank_lines.sql": (
        f"\n\n{_TABLE}\nselect {{{{ 1 }}}} as one,\n  nope\nfrom (select 1 as x)\n",
        (6, FILE),
    ),
    "models/l_macro.sql": ("select 1 as x,\n  {{ 'no' ~ 'pe' }} as y", (2, CODE)),
    "models/l_twice.sql": (_TABLE + "{{ '' }}select 1 as a\nunion all\nselect nope\nunion all\nselect 3", (4, FILE)),
    "models/l_again.sql": (_TABLE + "{% for u in ['', 'union all'] %}\n{{ u }}\nselect nope\n{% endfor %}", (4, CODE)),
    "models/l_ephemeral.sql": ("select id,\n  nope\nfrom {{ ref('priced') }}", (2, FILE)),
    "models/l_hooked.sql": ("{{ config(pre_hook='select\\n nope') }} select 1", (4, STATEMENT)),
    "snapshots/l_snap.sql": (
        f"\n{{% snapshot l_snap %}}\n{_CHECKED}\nselect 1 as id,\n  nope\n{{% endsnapshot %}}",
        (5, FILE),
    ),
    "tests/l_test.sql": ("\nselect nope\nfrom {{ ref('raw_customers') }}", (2, FILE)),
    "models/l_batches.sql": (_IN_BATCHES + "\nselect '{{ model.batch.event_time_start }}' as at,\n  nope\n", (3, FILE)),
}


def test_the_line_of_an_error_is_one_of_the_file_where_it_stands_there(project: Project) -> None:
    for name, (text, _) in _FAILING.items():
        project.write(name, text)
    run = project.run("build", "-s", "+l_view", "+path:models/l_*", "l_snap", "l_test")
    ended = {e.unique_id.split(".")[2]: e for e in journal(run) if isinstance(e, events.NodeFinished)}
    expected = {Path(name).stem: line for name, (_, line) in _FAILING.items()}
    found = {name: (ended[name].line, ended[name].message) for name in expected}
    assert {name: line for name, (line, _) in found.items()} == expected, found
    assert [event.line for name, event in ended.items() if name not in expected and event.line] == []
    batches = ended["l_batches"]
    assert 'Binder Error: Referenced column "nope"' in (batches.message or ""), "the batch's error, not `ERROR`"
    names = {node.name: node for node in run.result().nodes}
    assert names["l_batches"].failure == Failure("not_found", False, "duckdb.no_column")


def test_a_line_that_is_not_literally_there_is_not_guessed() -> None:
    code = "\nselect a,\n  b\nfrom t\n"
    sent = f"/* dbt */\n\ncreate table x as (\n{code}\n);"
    assert traced(7, sent, code, "{{ config() }}\nselect a,\n  b\nfrom t") == (4, FILE)
    assert traced(7, sent, code, "") == (4, CODE), "the file can't be read"
    assert traced(3, sent, code, code) == (3, STATEMENT), "dbt's own"
    assert traced(99, sent, code, code) == (99, STATEMENT)
    assert traced(1, "insert into x\nselect a,\n c from tmp", code, code) == (1, STATEMENT)
    assert traced(2, "insert into x\nselect a,\n c from tmp", code, code) == (2, STATEMENT), "no more than alike"
    assert traced(6, sent.replace("from t", "from t where d > 1"), code, code) == (3, FILE)
    assert traced(2, "select a\n from t", "", "") == (2, STATEMENT)


def test_the_line_that_jinja_names_is_one_of_the_file_where_its_text_stands_there(tmp_path: Path) -> None:
    message = "Compilation Error in model a (models/a.sql)\n  unexpected '}'\n    line 2\n      {{ nope( }}"
    (tmp_path / "models").mkdir()
    for source, line in {"select\n {{ nope( }}": 2, "\n \n\nselect\n{{ nope( }}": 5, "{{ nope( }}\n1": None}.items():
        (tmp_path / "models" / "a.sql").write_text(source)
        assert of_jinja(message, str(tmp_path)) == (line and (line, FILE))
    assert of_jinja(message, str(tmp_path / "nowhere")) is None
    assert of_jinja("Compilation Error\n  line 2\n  x", str(tmp_path)) is None


def test_the_lines_of_a_large_model_are_found_at_once() -> None:
    code = "\n".join(f"column_{n}," for n in range(20_000))
    assert traced(19_000, "changed\n" + code.replace("column_7,", "x"), code, code) == (18_999, FILE)


def test_the_node_whose_failure_decides_comes_first(project: Project) -> None:
    for name, sql in {"a_syntax": "selec t", "b_column": "select nope", "c_cast": _TABLE + "select 'x'::int"}.items():
        project.write(f"models/{name}.sql", sql)
    error = raised(project.run("run", "--threads", "1", "-s", "a_syntax b_column c_cast").result())
    first, *_, more, advice = str(error).splitlines()
    assert first.startswith('model.shop.b_column (models/b_column.sql, line 1): Binder Error: Referenced column "nope"')
    assert more == "2 more failed: model.shop.a_syntax, model.shop.c_cast", "in their order"
    assert advice.startswith("not_found (permanent): check that the named object exists")


def test_tests_alone_that_fail_are_told_from_nodes_that_do(project: Project) -> None:
    error = raised(project.run("build", "-s", "never", "--vars", "{fail_test: true}").result())
    assert type(error) is spanline.DbtTestFailed
    assert isinstance(error, spanline.DbtRuntimeException)
    assert (error.category, error.failed_nodes) == ("data", ("test.shop.never",))


def test_a_profile_that_is_not_there(project: Project) -> None:
    error = raised(project.run("run", "--profile", "nobodys").result())
    assert type(error) is spanline.DbtProfileException
    assert "nobodys" in str(error)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--nosuchoption"], "dbt run: No such option '--nosuchoption'"),
        (["nosuchcommand"], "dbt nosuchcommand: No such command 'nosuchcommand'."),
        (["build", "--threads", "many"], "dbt build: Invalid value for '--threads': 'many' is not a valid integer."),
        (["run-operation"], "operation: Missing argument 'MACRO'."),
    ],
)
def test_arguments_that_dbt_does_not_know(project: Project, args: list[str], said: str) -> None:
    error = raised(project.run(*args).result())
    assert type(error) is spanline.DbtCompilationException
    assert (error.category, error.transient) == ("parsing", False)
    assert str(error).startswith(said)
    assert str(error).splitlines()[-1] == "parsing (permanent): change dbt's arguments"


@pytest.mark.parametrize("args", [("bad_sql",), ("--args", "{a: 1}", "bad_sql"), ("--quiet", "--args={}", "bad_sql")])
def test_an_operation_that_fails_is_named_with_the_line(project: Project, args: tuple[str, ...]) -> None:
    project.write("macros/bad.sql", "{% macro bad_sql(a=0) %}{% do run_query('select\\n  nope') %}{% endmacro %}")
    error = raised(project.run("run-operation", *args).result())
    assert error.category == "not_found"
    named = "operation bad_sql" if args[0] != "--quiet" else "operation"
    assert re.match(rf'{named} \(line \d of the statement\): Binder Error: Referenced column "nope"', str(error))


@pytest.mark.slow
def test_what_cannot_be_compiled_is_named_with_its_file(project: Project) -> None:
    assert str(raised(project.run("run-operation", "boom").result())).splitlines()[0] == (
        "operation boom: macro boom (macros/operations.sql): boom"
    )
    project.write("models/unclosed.sql", "\n\nselect\n  {{ nope( }}")
    first, *_ = str(raised(project.run("run").result())).splitlines()
    assert first.startswith("dbt run: model unclosed (models/unclosed.sql, line 4): unexpected '}'")


@pytest.mark.slow
def test_a_database_in_a_folder_that_is_not_there(project: Project) -> None:
    error = raised(project.run("run", environment={"SHOP_DB": "nosuch/folder/shop.duckdb"}).result())
    assert type(error) is spanline.DbtProfileException
    assert re.match(r'dbt run: IO Error: Cannot open file "\S+": No such file or directory\n', str(error))


@pytest.mark.slow
def test_a_warehouse_that_is_not_there(project: Project) -> None:
    project.write("elsewhere/profiles.yml", _ELSEWHERE)
    command = ("run", "--profiles-dir", "elsewhere", "-s", "customers")
    error = raised(project.run(*command).result())
    assert isinstance(error, spanline.DbtConnectionException)
    assert (error.category, error.transient, error.conn_id) == ("connection", True, "shop.elsewhere")
    assert str(error).startswith('dbt run: connection to server at "127.0.0.1", port 9 failed: Connection refused\n')
    named = project.run(*command, caller={"conn_id": "warehouse_prod"}).result()
    assert getattr(raised(named), "conn_id", None) == "warehouse_prod"


def test_the_most_permanent_failure_decides() -> None:
    lock = failing("model.shop.a", "concurrency", transient=True)
    lost = failing("model.shop.b", "connection", transient=True)
    syntax = failing("model.shop.c", "syntax")
    unknown = failing("model.shop.d", "unknown")
    for nodes in ((lost, syntax, lock, unknown), (unknown, lock, syntax, lost)):
        error = of_nodes(*nodes)
        assert (type(error), error.category, error.transient) == (spanline.DbtRuntimeException, "syntax", False)
    error = of_nodes(lock, lost)
    assert (type(error), error.category, error.transient) == (spanline.DbtConnectionException, "connection", True)


def test_a_test_that_cannot_run_has_not_failed_as_a_test() -> None:
    assert type(of_nodes(failing("test.shop.a", "data", status="fail"))) is spanline.DbtTestFailed
    broken = failing("test.shop.b", "not_found", status="error")
    assert type(of_nodes(failing("test.shop.a", "data", status="fail"), broken)) is spanline.DbtRuntimeException


def test_the_table_in_the_docs_is_the_one_that_holds() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", DOCS.read_text(), re.MULTILINE)
    expected = {
        category: EXCEPTIONS.get(category, errors.DbtRuntimeException).__name__ for category in get_args(Category)
    }
    assert dict(rows) == expected


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("LINE 3: select * from nowhere\n              ^", 3),  # PostgreSQL, DuckDB
        ("SQL compilation error: error line 12 at position 4", 12),  # Snowflake
        ("Syntax error: Unexpected keyword SELECT at [7:5]", 7),  # BigQuery
        ("[PARSE_SYNTAX_ERROR] Syntax error at or near 'x'.(line 2, pos 7)", 2),  # Databricks
        ("line 1:8: Column 'x' cannot be resolved", 1),  # Trino
        ('File "/tmp/x.py", line 281, in model\nLINE 4: select nope', 4),  # of the SQL, not of the traceback
        ("deadline 5 exceeded, pipeline 3", None),
        ("deadlock detected", None),
    ],
)
def test_the_line_that_an_error_names(message: str, line: int | None) -> None:
    assert line_of(message) == line
