"""SQL that sqlglot can't read is read in other words; each case is one that the database takes."""

from __future__ import annotations

import pytest

from spanline.lineage.columns import Schema, analyse
from spanline.lineage.dialects import dialect_for
from spanline.lineage.rewording import reworded

CASES = [
    ("duckdb", "select sum(pay) export_state + 1 as s from staff", {"s": {"pay"}}),
    ("duckdb", "select id, X'FF' as mark from staff", {"id": {"id"}, "mark": set()}),
    ("duckdb", "select case when range < 2 then 'low' end as band from range(4)", {"band": set()}),
    (
        "duckdb",
        """with recursive t(k, v) using key (k, max(v) as v) as
        (select id, pay from staff union select k, v + 1 from t where v < 12) select k, v from t""",
        {"k": {"id"}, "v": {"pay"}},
    ),
    (
        "postgres",
        "select name, pay &< id as near from staff where name ~<~ 'a&<b'",
        {"name": {"name"}, "near": {"id", "pay"}},
    ),
    ("postgres", "select json_array(id, pay returning text) as doc from staff", {"doc": {"id", "pay"}}),
    ("postgres", "select substring(name similar '%#\"A#\"%' escape '#') as hit from staff", {"hit": {"name"}}),
]


@pytest.mark.parametrize(("adapter", "sql", "expected"), CASES)
def test_what_has_no_words_is_read_in_others(adapter: str, sql: str, expected: dict[str, set[str]]) -> None:
    schema = Schema(adapter)
    schema.add((None, None, "staff"), [("id", "int"), ("name", "varchar"), ("pay", "int")])
    found = analyse(sql, adapter, schema)
    assert found.error is None
    assert {column.name: {each.field.name for each in column.inputs} for column in found.columns} == expected


def test_literals_names_and_comments_keep_their_words() -> None:
    sql = "select 'a &< b', \"&<\", $x$ &< $x$ /* &< */, a &< b -- &<"
    assert reworded(sql, dialect_for("postgres")) == sql.replace("a &< b -- ", "a || b -- ")
    assert reworded(sql, dialect_for("snowflake")) == sql
