"""Which exception a failed run amounts to, and what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import spanline
from spanline import errors
from spanline.failures import Failure, line_of, most_permanent
from spanline.raising import EXCEPTIONS, exception_of
from spanline.result import NodeResult, RunResult
from spanline.rules import Category

from .conftest import Project

DOCS = Path(__file__).parents[1] / "docs" / "errors.md"
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
    assert (error.category, error.transient, error.failed) == ("data", False, ("model.shop.bad_cast",))
    first, *_ = str(error).splitlines()
    assert first.startswith("model.shop.bad_cast (models/bad_cast.sql, line ")
    assert "Conversion Error: Could not convert string" in first, "the warehouse's words, without dbt's around them"
    assert re.search(rf"won't pass by itself: .*`spanline retry {error.run_id}`", str(error))


def test_tests_alone_that_fail_are_told_from_nodes_that_do(project: Project) -> None:
    error = raised(project.run("build", "-s", "never", "--vars", "{fail_test: true}").result())
    assert type(error) is spanline.DbtTestFailed
    assert isinstance(error, spanline.DbtRuntimeException)
    assert (error.category, error.failed) == ("data", ("test.shop.never",))


def test_a_profile_that_is_not_there(project: Project) -> None:
    error = raised(project.run("run", "--profile", "nobodys").result())
    assert type(error) is spanline.DbtProfileException
    assert "nobodys" in str(error)


def test_a_warehouse_that_is_not_there(project: Project) -> None:
    project.write("elsewhere/profiles.yml", _ELSEWHERE)
    command = ("run", "--profiles-dir", "elsewhere", "-s", "customers")
    error = raised(project.run(*command).result())
    assert isinstance(error, spanline.DbtConnectionException)
    assert (error.category, error.transient, error.conn_id) == ("connection", True, "shop.elsewhere")
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
        ("deadline 5 exceeded, pipeline 3", None),
        ("deadlock detected", None),
    ],
)
def test_the_line_that_an_error_names(message: str, line: int | None) -> None:
    assert line_of(message) == line
