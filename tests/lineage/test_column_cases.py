"""Cases that once were told wrongly: names as the database gives them, and the edges that its SQL says.

DuckDB is asked for the names of its own. Each case stands for its cause.
"""

from __future__ import annotations

import duckdb
import pytest

from spanline.lineage.columns import Analysis, Input, Schema, analyse
from spanline.lineage.unaliased import duckdb_version

TABLES = {
    "shop": "id int, city varchar, qty int, tags varchar[], addr struct(street varchar, zip varchar), opened timestamp",
    "staff": "id int, shop_id int, name varchar, boss int, pay int",
    "wide": "id int, jan int, feb int, mar int",
}
COLUMNS = {
    "shop": [
        ("id", "INTEGER"),
        ("city", "VARCHAR"),
        ("qty", "INTEGER"),
        ("tags", "VARCHAR[]"),
        ("addr", "STRUCT(street VARCHAR, zip VARCHAR)"),
        ("opened", "TIMESTAMP"),
    ],
    "staff": [("id", "INTEGER"), ("shop_id", "INTEGER"), ("name", "VARCHAR"), ("boss", "INTEGER"), ("pay", "INTEGER")],
    "wide": [("id", "INTEGER"), ("jan", "INTEGER"), ("feb", "INTEGER"), ("mar", "INTEGER")],
}

# The SQL; the columns in order, each with its inputs; what decides about the rows. `*` is behind what only decides.
DUCKDB: list[tuple[str, dict[str, str], str]] = [
    (
        "with t(KEY_ID, v) as (select id, pay from staff) from t pivot (sum(v) for v in (10, 20) group by key_id)",
        {"KEY_ID": "staff.id", "10": "staff.pay", "20": "staff.pay"},
        "staff.id",
    ),
    (
        "select max(columns(*)) as m from wide",
        {"m": "wide.id", "m_1": "wide.jan", "m_2": "wide.feb", "m_3": "wide.mar"},
        "",
    ),
    (
        "select columns(* exclude (id))::varchar as v from wide",
        {"v": "wide.jan", "v_1": "wide.feb", "v_2": "wide.mar"},
        "",
    ),
    (
        r"select id, sum(columns('(.*)a(.*)')) over (order by id) as '\1-\2' from wide",
        {"id": "wide.id", "j-n": "wide.id* wide.jan", "m-r": "wide.id* wide.mar"},
        "",
    ),
    ("select id, greatest(*columns('.*a.*')) as best from wide", {"id": "wide.id", "best": "wide.jan wide.mar"}, ""),
    (
        "select id, [*columns(['pay', 'boss'])] as both from staff",
        {"id": "staff.id", "both": "staff.boss staff.pay"},
        "",
    ),
    ("select columns(['pay', 'boss']) + 1 from staff", {"boss": "staff.boss", "pay": "staff.pay"}, ""),
    ("select name from staff where columns(['pay', 'boss']) > 1", {"name": "staff.name"}, "staff.boss staff.pay"),
    ("select sum(qty) export_state from shop", {"sum(qty) EXPORT_STATE": "shop.qty"}, ""),
    ("select (addr).street from shop", {"(addr).street": "shop.addr"}, ""),
    (
        "select case when qty > 1 then addr end.street from shop",
        {"(CASE  WHEN ((qty > 1)) THEN (addr) ELSE NULL END).street": "shop.addr shop.qty*"},
        "",
    ),
    ("select city.upper() as u, shop.city.lower() as l from shop", {"u": "shop.city", "l": "shop.city"}, ""),
    ("select date_trunc(city, opened) as d from shop", {"d": "shop.city shop.opened"}, ""),
    ("select case when range < 2 then 'low' end as band from range(4)", {"band": ""}, ""),
    (
        "select * exclude (s.id) from wide s, wide w",
        {
            "jan": "wide.jan",
            "feb": "wide.feb",
            "mar": "wide.mar",
            "id": "wide.id",
            "jan_1": "wide.jan",
            "feb_1": "wide.feb",
            "mar_1": "wide.mar",
        },
        "",
    ),
    (
        "select * rename (s.id as staff_id) from staff s, wide w",
        {
            "staff_id": "staff.id",
            "shop_id": "staff.shop_id",
            "name": "staff.name",
            "boss": "staff.boss",
            "pay": "staff.pay",
            "id": "wide.id",
            "jan": "wide.jan",
            "feb": "wide.feb",
            "mar": "wide.mar",
        },
        "",
    ),
    (
        """with recursive r(k, v) using key (k) as (select id, pay from staff union
        select r.k, o.v + 1 from r join recurring.r o using (k) where o.v < 12) select v from r""",
        {"v": "staff.pay"},
        "staff.id staff.pay",
    ),
    ("select city[:qty] as head from shop", {"head": "shop.city shop.qty"}, ""),
    ('select "max" from (summarize wide)', {"max": "wide.feb wide.id wide.jan wide.mar"}, ""),
    ("select id from shop, range(qty)", {"id": "shop.id"}, "shop.qty"),
    ("select count(*) as n from shop s, unnest(s.tags) u(tag)", {"n": ""}, "shop.tags"),
    ("select id from shop limit (select max(pay) from staff)", {"id": "shop.id"}, "staff.pay"),
    ("select +qty from shop", {"(+(qty))": "shop.qty"}, ""),
    (
        "select id, unnest(addr) as a from shop",
        {"id": "shop.id", "street": "shop.addr", "zip": "shop.addr"},
        "shop.addr",
    ),
    ("select id, unnest(tags) from shop", {"id": "shop.id", "unnest(tags)": "shop.tags"}, "shop.tags"),
    ("select unnest([{'p': id}], recursive := true) as s from shop", {"p": "shop.id"}, "shop.id"),
    (
        "unpivot wide on jan, feb into name month value amount",
        {"id": "wide.id", "mar": "wide.mar", "month": "", "amount": "wide.feb wide.jan"},
        "wide.feb wide.jan",
    ),
    (
        "unpivot (select id, jan from wide) on columns('j.*')",
        {"id": "wide.id", "name": "", "value": "wide.jan"},
        "wide.jan",
    ),
    ("select count(*) as n from wide unpivot include nulls (amount for month in (jan, mar))", {"n": ""}, ""),
    ("select quote as Q from sniff_csv('x.csv')", {"Q": ""}, ""),
    (
        "select id, jan from wide union all by name select jan, feb from wide",
        {"id": "wide.id", "jan": "wide.jan", "feb": "wide.feb"},
        "",
    ),
]
POSTGRES: list[tuple[str, dict[str, str], str]] = [
    ("select pay, 1_000 from staff", {"pay": "staff.pay", "?column?": ""}, ""),
    ("select * from generate_series(1, 3) g, jsonb_each('{}')", {"g": "", "key": "", "value": ""}, ""),
    ("select s.ctid as place, tableoid::int as t from staff s", {"place": "", "t": ""}, ""),
    (
        "select s.split_name from staff s",
        {"split_name": "staff.boss staff.id staff.name staff.pay staff.shop_id"},
        "",
    ),
    (
        """with recursive t(n) as (select id from staff union all select n + 1 from t where n < 9)
        search depth first by n set path select * from t""",
        {"n": "staff.id", "path": "staff.id"},
        "staff.id",
    ),
    (
        """with recursive t(n) as (select id from staff union all select n % 3 from t)
        cycle n set seen using trail select * from t""",
        {"n": "staff.id", "seen": "staff.id", "trail": "staff.id"},
        "",
    ),
]
# Over relations whose columns nobody knows: the columns that are told, and whether they are all.
UNKNOWN: list[tuple[str, str, dict[str, str], bool]] = [
    ("duckdb", "select x.p from shop, (select pay as p from staff, wide) x", {"p": ""}, True),
    ("postgres", "select id, to_json(s) as doc from staff s", {"id": "staff.id", "doc": ""}, True),
    ("duckdb", "select name, struct_extract(s, 'pay') as p from staff s", {"name": "staff.name", "p": ""}, True),
    (
        "duckdb",
        "select a from (select mar as a, feb as b from wide union all select * from wide)",
        {"a": "wide.mar"},
        True,
    ),
    ("postgres", "select * from staff union all select 1, 2", {}, False),
    ("postgres", "select * from unnest(array[('a', 'b')::place]) u", {}, False),
    ("duckdb", "select unnest(x) from staff", {}, False),
]


def inputs(found: tuple[Input, ...]) -> str:
    only_decides = {each: all(kind.type == "INDIRECT" for kind in each.transformations) for each in found}
    return " ".join(sorted(f"{each.field.relation[-1]}.{each.field.name}{'*' * only_decides[each]}" for each in found))


def columns(found: Analysis) -> dict[str, str]:
    assert found.error is None, found.error
    return {column.name: inputs(column.inputs) for column in found.columns}


def told(adapter: str, sql: str) -> Analysis:
    schema = Schema(adapter)
    for name, known in COLUMNS.items():
        schema.add((None, None, name), known)
    return analyse(sql, adapter, schema)


@pytest.mark.parametrize(("sql", "expected", "of_rows"), DUCKDB)
def test_duckdb(sql: str, expected: dict[str, str], of_rows: str) -> None:
    found = told("duckdb", sql)
    if found.complete or duckdb_version() >= 2:
        assert columns(found) == expected
        assert list(columns(found)) == list(expected)
    assert inputs(found.dataset).replace("*", "") == of_rows


@pytest.mark.skipif(duckdb_version() < 2, reason="1.x gives some of the names otherwise, and they aren't told then")
@pytest.mark.parametrize(("sql", "expected"), [case[:2] for case in DUCKDB if "sniff_csv" not in case[0]])
def test_duckdb_says_so(sql: str, expected: dict[str, str]) -> None:
    connection = duckdb.connect()
    for name, definition in TABLES.items():
        connection.execute(f"create table {name} ({definition})")
    connection.execute(f"create table made as ({sql}) with no data")
    assert [row[0] for row in connection.execute("describe made").fetchall()] == list(expected)


@pytest.mark.parametrize(("sql", "expected", "of_rows"), POSTGRES)
def test_postgres(sql: str, expected: dict[str, str], of_rows: str) -> None:
    found = told("postgres", sql)
    assert columns(found) == expected
    assert inputs(found.dataset).replace("*", "") == of_rows


@pytest.mark.parametrize(("adapter", "sql", "expected", "complete"), UNKNOWN)
def test_over_relations_that_nobody_knows(adapter: str, sql: str, expected: dict[str, str], complete: bool) -> None:
    found = analyse(sql, adapter, Schema(adapter))
    assert columns(found) == expected
    assert found.complete == complete
