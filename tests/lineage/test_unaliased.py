"""The names of columns without an alias, against what a PostgreSQL says."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanline.lineage.columns import Schema, analyse

_TABLE = "create table t (x int, y int, s text, d timestamp, j jsonb, a int[], c box)"

NAMES = [
    ("count(*)", "count"),
    ("UPPER(s)", "upper"),
    ("char_length(s)", "char_length"),
    ("length(s)", "length"),
    ("pg_catalog.upper(s)", "upper"),
    ("coalesce(x, y)", "coalesce"),
    ("greatest(x, y)", "greatest"),
    ("nullif(x, y)", "nullif"),
    ("mod(x, y)", "mod"),
    ("div(x, y)", "div"),
    ("date(d)", "date"),
    ("now()", "now"),
    ("sum(x) over (order by y)", "sum"),
    ("count(*) filter (where x > 1)", "count"),
    ("percentile_cont(0.5) within group (order by x)", "percentile_cont"),
    ("string_agg(s, ',' order by x)", "string_agg"),
    ("jsonb_build_object('é', x)", "jsonb_build_object"),
    ("ceil(x)", "ceil"),
    ("ceiling(x)", "ceiling"),
    ("substring(s from 1 for 2)", "substring"),
    ("substr(s, 1)", "substr"),
    ("position('a' in s)", "position"),
    ("trim(s)", "btrim"),
    ("trim(leading 'x' from s)", "ltrim"),
    ("rtrim(s)", "rtrim"),
    ("d at time zone 'utc'", "timezone"),
    ("x::int", "x"),
    ("cast((t.x) as text)", "x"),
    ("upper(s)::varchar(9)", "upper"),
    ("(x + 1)::int", "int4"),
    ("(x + 1)::int::numeric(9, 2)", "numeric"),
    ("(j ->> 'a')::timestamptz", "timestamptz"),
    ("date '2020-01-01'", "date"),
    ("true::int", "int4"),
    ("case when x > 1 then y end", "case"),
    ("case when x > 1 then 1 else y end", "y"),
    ("case when x > 1 then 1 else 2::int end", "case"),
    ("case when x > 1 then 1 else y::bigint end", "y"),
    ("cast(case when x > 1 then 1 end as int)", "int4"),
    ("a[1]", "a"),
    ("(array_agg(x order by y))[1]", "array_agg"),
    ("array[x, y]", "array"),
    ("array(select x from t)", "array"),
    ("(x, y)", "row"),
    ("exists (select 1)", "exists"),
    ("(select max(x) from t)", "max"),
    ("(select x as most from t limit 1)::text", "most"),
    ("(select 1)::text", "?column?"),
    ("x + 1", "?column?"),
    ("-x", "?column?"),
    ("s || 'x'", "?column?"),
    ("j -> 'a'", "?column?"),
    ("x ^ 2", "?column?"),
    ("x is null", "?column?"),
    ("x in (1, 2)", "?column?"),
    ("s ~ 'x'", "?column?"),
    ("null", "?column?"),
    ('s collate "C"', "s"),
    ("interval '1 day'", "interval"),
    ("interval(2) '1 day'", "interval"),
    ("true", "?column?"),
    ("case when x > 1 then true end", "case"),
    ("extract(day from d)", "extract"),
    ("date_part('day', d)", "date_part"),
    ("current_date", "current_date"),
    ("('{' || s || '}')::int[]", "int4"),
    ("(x + 1)::float(3)", "float4"),
    ("(x + 1)::float(30)", "float8"),
    ("'$.a'::jsonpath", "jsonpath"),
    ("'a'::pg_catalog.text", "text"),
    ("E'a'::bytea", "bytea"),
    ("'[1,2]'::int4range", "int4range"),
    ("interval '1 day'::interval day", "interval"),
    ("'10:00'::time with time zone", "timetz"),
    ("j @? '$.a'", "?column?"),
    ("x'1F'", "?column?"),
    ("chr(x)", "chr"),
    ("1_000", "?column?"),
    ("0o17", "?column?"),
    ("+x", "?column?"),
]


def names(expression: str, adapter: str) -> list[str]:
    schema = Schema(adapter)
    schema.add((None, None, "t"), [(name, None) for name in ("x", "y", "s", "d", "j", "a", "c")])
    found = analyse(f"select {expression} from t", adapter, schema)
    assert found.error is None, found.error
    assert found.complete == bool(found.columns)
    return [column.name for column in found.columns]


@pytest.mark.parametrize(("expression", "name"), NAMES)
def test_postgres_names(expression: str, name: str) -> None:
    assert names(expression, "postgres") == [name]


@pytest.mark.postgres
def test_postgres_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    pgserver = pytest.importorskip("pgserver")
    psycopg2 = pytest.importorskip("psycopg2")
    place: Path = tmp_path_factory.mktemp("pg")
    server = pgserver.get_server(place, cleanup_mode="stop")
    connection = psycopg2.connect(server.get_uri())
    try:
        with connection.cursor() as cursor:
            cursor.execute(_TABLE)
            for expression, name in NAMES:
                cursor.execute(f"select {expression} from t limit 0")
                assert [column.name for column in cursor.description] == [name], expression
    finally:
        connection.close()
        server.cleanup()


UNCERTAIN = ["(select * from t)", "(c).*"]


@pytest.mark.parametrize("expression", UNCERTAIN)
def test_what_depends_on_more_has_no_name(expression: str) -> None:
    assert names(expression, "postgres") == []


REDSHIFT = [
    ("count(*)", ["count"]),
    ("upper(s)::text", ["upper"]),
    ("sum(x) over (order by y)", ["sum"]),
    ("case when x > 1 then 1 end", ["case"]),
    ("x + 1", ["?column?"]),
    ("s::varchar", ["s"]),
    ("nvl(x, y)", []),
    ("dateadd(day, 1, d)", []),
    ("(x + 1)::int", []),
    ("(select 1)", []),
    ("exists (select 1)", []),
    ('s collate "C"', []),
]


@pytest.mark.parametrize(("expression", "expected"), REDSHIFT)
def test_redshift_names(expression: str, expected: list[str]) -> None:
    assert names(expression, "redshift") == expected


@pytest.mark.parametrize("adapter", ["snowflake", "bigquery", "vertica", "databricks"])
def test_of_other_warehouses_nothing_is_guessed(adapter: str) -> None:
    for expression in ("count(*)", "coalesce(x, y)", "case when x > 1 then 1 else y end", "x + 1", "(select 1)"):
        assert names(expression, adapter) == []
