"""What a statement does, as far as its first words say."""

from __future__ import annotations

import time

import pytest

from spanline.events import Relation
from spanline.lineage.statements import changes, operation, summary
from tests.support.lineage_events import relation


@pytest.mark.parametrize(
    ("sql", "name", "expected"),
    [
        ("create or replace transient table shop.main.a as (select 1)", "shop.main.a", True),
        ("create or replace   view shop.main.a\nas", "shop.main.a", True),
        ("create table if not exists `p`.`d`.`a`", "`p`.`d`.`a`", True),
        ("create local temporary table shop.main.a__dbt_tmp as", "shop.main.a", False),
        ("drop table if exists shop.main.a cascade", "shop.main.a", True),
        ("alter table shop.main.a.b rename", "shop.main.a", False),
        ("merge into shop.main.a as DBT_INTERNAL_DEST", "shop.main.a", True),
        ("delete from shop.main.a using x", "shop.main.a", True),
        ("truncate table shop.main.a", "shop.main.a", True),
        ("create index i on shop.main.a", "shop.main.a", False),
        ("create schema if not exists shop.main", "shop.main.a", False),
    ],
)
def test_what_a_statement_plainly_changes(sql: str, name: str, expected: bool) -> None:
    assert changes(sql, name) is expected


SONGS, ARTISTS = relation("songs"), relation("artists")
BIG = Relation("songs", "`p`.`d`.`songs`", "p", "d")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # https://opentelemetry.io/docs/specs/semconv/db/database-spans/#generating-a-summary-of-the-query
        ('SELECT * FROM "shop"."main"."songs" WHERE title = ?', "SELECT songs"),
        ('select * from "shop"."main"."songs", "shop"."main"."artists"', "SELECT songs artists"),
        ("call some_stored_procedure()", "CALL some_stored_procedure"),
        # What dbt writes.
        ('create or replace transient table "shop"."main"."songs" as (select 1)', "CREATE TABLE songs"),
        ("create or replace view `p.d.songs` as select 1", "CREATE VIEW songs"),
        ("create schema if not exists [shop].[raw]", "CREATE SCHEMA raw"),
        ('alter table "shop"."main"."songs__dbt_tmp" rename to "songs"', "ALTER TABLE songs__dbt_tmp"),
        ('drop table if exists "shop"."main"."songs__dbt_backup" cascade', "DROP TABLE songs__dbt_backup"),
        ('insert into "shop"."main"."songs" select * from "shop"."main"."artists"', "INSERT songs"),
        ("merge into shop.main.songs as DBT_INTERNAL_DEST using x", "MERGE songs"),
        ("delete from shop.main.songs where 1 = 1", "DELETE songs"),
        ("truncate table shop.main.songs", "TRUNCATE songs"),
        ('copy "shop"."raw"."songs" from \'/tmp/songs.csv\'', "COPY songs"),
        (
            '/* {"app": "dbt"} */\n\n  -- a\nselect count(*) from (select 1 from "shop"."main"."artists")',
            "SELECT artists",
        ),
        ("select table_name from system.information_schema.tables where 1 = 1", "SELECT information_schema.tables"),
        ("select distinct nspname from pg_namespace", "SELECT pg_namespace"),
        ("BEGIN", "BEGIN"),
        ("", ""),
    ],
)
def test_a_statement_is_summed_up_by_what_it_does_and_to_what(sql: str, expected: str) -> None:
    assert summary(sql, [ARTISTS, SONGS]) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            'create temporary table "loyalty__dbt_tmp20261130232258333295" as (select 1)',
            "CREATE TABLE loyalty__dbt_tmp",
        ),
        ("drop table audit_20261130", "DROP TABLE audit"),
        ('create index if not exists "9c2f0a" on "shop"."main"."songs" (id)', "CREATE INDEX songs"),
        ("select * from 'SECRET', \"SECRET\".songs, read_csv('SECRET') where x = 'SECRET'", "SELECT"),
        ('select * from "shop"."main"."songs_2", "shop"."main"."songs".x', "SELECT"),
    ],
)
def test_a_summary_has_nothing_that_is_of_one_run_or_of_the_data(sql: str, expected: str) -> None:
    assert summary(sql, [SONGS, ARTISTS]) == expected


def test_a_relation_is_found_as_its_adapter_writes_it() -> None:
    assert summary("select * from `p`.`d`.`songs_old` join `p`.`d`.`songs` on 1 = 1", [BIG]) == "SELECT songs"


def test_a_name_that_is_no_name_costs_no_time() -> None:
    began = time.perf_counter()
    assert summary(f'create table "{"_" * 200_000}"', []) == "CREATE TABLE"
    assert time.perf_counter() - began < 1


def test_a_long_summary_is_cut_between_names() -> None:
    many = [relation(f"relation_number_{number}") for number in range(100)]
    found = summary(f"select * from {', '.join(each.name for each in many)}", many)
    assert len(found) <= 255
    assert found.split(" ")[1:] == [each.identifier for each in many][: len(found.split(" ")) - 1]


@pytest.mark.parametrize(
    ("sql", "expected"), [("create\n or  replace table a", "CREATE TABLE"), ("create stage a", "CREATE")]
)
def test_an_operation_is_said_in_capitals_with_single_spaces(sql: str, expected: str) -> None:
    assert operation(sql) == expected
