"""The names of columns without an alias, against what DuckDB itself calls them."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from spanline.lineage.columns import Schema, analyse
from spanline.lineage.duckdb_names import Names
from spanline.lineage.unaliased import duckdb_version

_TABLE = (
    "create table t (a int, b int, f double, s varchar, d date, ts timestamp, l int[], bo boolean, j json, "
    'st struct(x int, y int[]), "Abc D" int, "year" int)'
)

EXPRESSIONS = """
sum(a)
SUM( DISTINCT a )
count(*)
Count()
count(t.a) + 1
a + b*2 - 3
(a+b)*2
a - (b - 1)
-a
- 5
-(-1)
-a::int
~a
not bo
bo and a>1 and (b<2 and bo)
bo or a>1 and b=2
a<>1
a==1
a between b + 1 and 2 or bo
a not between 1 and 2
a in (1, 2)
a not in (1,2)
a in l
(a, b) in ((1, 2))
a is null = bo
a isnull
a not null
bo is not true
a is not distinct from b
s like 'a%' || s
s not like 'a%'
s not ilike 'a'
s like 'a' escape '$'
s not similar to 'a'
s glob 'a*'
a || b + a
a & b | 1
a ** 2
a // 2 % 3
j ->> 'x' = 'y'
j -> 'x'
l[1]
l[:2]
l[a+1:]
st.x
t.st.x + 1
(st).x
st['x']
st.y[1]
{'x':1,'y z':a}
struct_pack(x := 1).x
[1,a]
[]
[x + 1 for x in l]
array[1,a]
map {'a':1}
(1,a)
a::varchar
a::text
a::DOUBLE
s::json
cast(a as decimal(10,2))
try_cast(s as INT8)
s::varchar(10)
l::int[3]
s::timestamp with time zone
s::timestamptz
'{}'::struct(a int, "B c" varchar)
date '2020-01-01'
interval '1 day'
interval 3 months
interval (a+1) hours
ts - interval 5 minute
interval 1 century
1.50
1e3
1_000
1e300+1e300
'it''s'
$$abc$$
NULL
FALSE
case when a>1 then 'x' end
case a when 1 then 'x' when 2 then 'y' else 'z' end
coalesce(a,b)
ifnull(a,b)
nullif(a,b)
if(a>1,b,2)
substring(s from 1 for 2)
substring(s for 2)
substr(s, 1)
position('a' in s)
extract(year from d)
extract(epoch from ts)
year(d)
trim(s)
trim(both 'x' from s)
trim(leading from s)
ts at time zone 'utc'
CURRENT_DATE + 1
sum(a) over ()
count(*) over (partition by b)
sum(a) over (partition by b order by s desc nulls last, a asc)
sum(a) over (order by b rows unbounded preceding)
sum(a) filter (where b>1)
string_agg(s, ',' order by a desc)
rank(order by a) over (order by b)
percentile_cont(0.5) within group (order by a desc)
list_transform(l, lambda x: x + 1)
s.upper().lower()
(s || 'a').upper()
main.upper(s)
year + 1
"Abc D" + 1
A+1
"sum"(a)
s collate nocase || s
sum(a) export_state
+a
""".strip().splitlines()
"""Of ours, on the table."""

UNCERTAIN = (
    "array(select 1)",
    "columns(lambda c: c = 'a')",
    "a = any(l)",
    "sum(a) over w",
    "0xFF",
    "grouping_id(a)",
    "s ~ 'a'",
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute(_TABLE)
        yield opened


def told(expression: str) -> list[str]:
    schema = Schema("duckdb")
    columns = [("a", "INTEGER"), ("b", "INTEGER"), ("l", "INTEGER[]"), ("s", "VARCHAR"), ("st", "STRUCT(x INTEGER)")]
    schema.add((None, None, "t"), columns)
    found = analyse(f"select {expression} from t", "duckdb", schema)
    assert found.error is None, found.error
    return [column.name for column in found.columns]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_column_is_called_as_duckdb_calls_it(expression: str, connection: duckdb.DuckDBPyConnection) -> None:
    names = told(expression)
    if names or duckdb_version() >= 2:
        connection.execute(f"create or replace temp table made as (select {expression} from t) with no data")
        assert names == [row[0] for row in connection.execute("describe made").fetchall()]


@pytest.mark.parametrize("expression", UNCERTAIN)
def test_what_depends_on_more_has_no_name(expression: str) -> None:
    assert Names(f"select {expression} from t", 2).at(len("select ")) == ""


def test_what_differs_between_versions_has_a_name_in_the_later_one_only() -> None:
    assert [Names("select a::text from t", version).at(7) for version in (1, 2)] == ["", "CAST(a AS text)"]
    assert [Names("select sum(a) from t", version).at(7) for version in (1, 2)] == ["sum(a)", "sum(a)"]


def test_each_column_has_its_own_name_wherever_it_stands() -> None:
    sql = """
        with c as (select 1 + 1, a /* , */ as x, sum(b) from t group by all)
        select current_date, (select max(a) as m from t) as y, 'a,b' || s, * from t where a in (select 2 * 3)
    """
    schema = Schema("duckdb")
    schema.add((None, None, "t"), [("a", None), ("s", None), ("b", None)])
    found = analyse(sql, "duckdb", schema)
    assert [column.name for column in found.columns] == ["current_date", "y", "('a,b' || s)", "a", "s", "b"]
