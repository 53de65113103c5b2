"""The column resolver: what it makes of a session's events, its cache, and the process that it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import psutil
import pytest

from spanline import events
from spanline.api.run import Run
from spanline.events import Column, ColumnsResolved, Event
from spanline.home import home
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.journal.reader import Reader
from spanline.lineage import cache as cache_module
from spanline.lineage import catalog, columns
from spanline.lineage.cache import Cache
from spanline.lineage.catalog import Catalog
from spanline.lineage.resolver import Resolver
from spanline.supervisor import column_resolver
from spanline.supervisor.column_resolver import ResolverProcess, start_resolver
from spanline.supervisor.heartbeat import Silence
from spanline.supervisor.session import Supervisor
from spanline.system.open_file import OpenFile
from tests.support.journals import journal
from tests.support.lineage_events import (
    RUN_ID,
    assert_one_start_and_one_end,
    assert_valid,
    compiled,
    described,
    end_of,
    finished,
    in_order,
    invoked,
    opened,
    relation,
    started,
    unique_id_of,
)
from tests.support.project import Project, last_run
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

SEED, STAGED, FINAL = "seed.shop.orders", "model.shop.staged", "model.shop.final"
STAGED_SQL = """
with source as (select * from "shop"."main"."orders"),
final as (select id, amount / 100 as price, upper(state) as state from source)
select * from final
"""
FINAL_SQL = """
with staged as (select * from "shop"."main"."staged"),
final as (select state, sum(price) as price, count(*) as orders from staged where id > 0 group by state)
select * from final
"""
SHOP: list[Event] = in_order(
    opened(),
    invoked(),
    described(SEED, columns=[Column(name) for name in ("id", "amount", "state")]),
    described(STAGED, depends_on=[SEED], columns=[Column("price", "decimal(9,2)", "What it cost")]),
    started(STAGED),
    compiled(STAGED, STAGED_SQL),
    finished(STAGED),
    described(FINAL, depends_on=[STAGED]),
    started(FINAL),
    compiled(FINAL, FINAL_SQL),
    finished(FINAL),
)
COPY, MADE, SUM = "DIRECT:IDENTITY", "DIRECT:TRANSFORMATION", "DIRECT:AGGREGATION"

Edges = dict[str, set[tuple[str, str, str]]]


def resolve(happened: Sequence[Event], cache: Cache | None = None) -> list[ColumnsResolved]:
    resolver = Resolver(cache if cache is not None else Cache(None))
    found = [resolver.take(event) for event in happened]
    return [event for event in found if event is not None]


def of_sql(found: Sequence[Event]) -> dict[str, ColumnsResolved]:
    return {e.unique_id: e for e in found if isinstance(e, ColumnsResolved) and e.origin == "sql"}


def edges(found: ColumnsResolved) -> Edges:
    def named(inputs: Sequence[events.ColumnInput]) -> set[tuple[str, str, str]]:
        return {(found.datasets[one.dataset], one.field, kind) for one in inputs for kind in one.transformations}

    return {**{name: named(inputs) for name, inputs in found.lineage.items()}, "*": named(found.reads)}


def names(found: ColumnsResolved) -> list[str]:
    return [column.name for column in found.columns]


# --- what it finds out ----------------------------------------------------------------------------------------------


def test_columns_are_followed_through_seeds_and_models() -> None:
    found = of_sql(resolve(SHOP))
    assert edges(found[STAGED]) == {
        "id": {("shop.main.orders", "id", COPY)},
        "price": {("shop.main.orders", "amount", MADE)},
        "state": {("shop.main.orders", "state", MADE)},
        "*": set(),
    }
    assert names(found[FINAL]) == ["state", "price", "orders"]
    final = edges(found[FINAL])
    assert final["state"] == {("shop.main.staged", "state", COPY)}
    assert final["price"] == {("shop.main.staged", "price", SUM)}
    assert final["*"] == {
        ("shop.main.staged", "id", "INDIRECT:FILTER"),
        ("shop.main.staged", "state", "INDIRECT:GROUP_BY"),
    }


@pytest.mark.parametrize("source_is_first", [True, False])
def test_of_two_nodes_that_are_one_relation_the_one_that_knows_all_columns_counts(source_is_first: bool) -> None:
    source = described("source.shop.raw.orders", relation=relation("orders"), columns=[Column("id")])
    seed = described(SEED, columns=[Column(name) for name in ("id", "amount", "state")])
    both = [source, seed] if source_is_first else [seed, source]
    happened = in_order(opened(), invoked(), both, described(STAGED), compiled(STAGED, "select * from orders"))
    assert names(of_sql(resolve(happened))[STAGED]) == ["id", "amount", "state"]


def test_types_and_words_are_the_projects_where_it_has_them() -> None:
    price = next(column for column in of_sql(resolve(SHOP))[STAGED].columns if column.name == "price")
    assert price == Column("price", "decimal(9,2)", "What it cost")


def test_only_models_and_snapshots_in_sql_are_looked_at() -> None:
    others = [described("test.shop.t"), compiled("test.shop.t", "select 1 as id")]
    python = [described(FINAL, language="python"), compiled(FINAL, "def model(dbt, session): ...")]
    assert resolve(in_order(opened(), invoked(), others, python, compiled("model.shop.unknown", "select 1"))) == []


def test_an_incremental_model_reads_nothing_of_itself() -> None:
    sql = """
    select id from "shop"."main"."orders" where id > (select max(id) from "shop"."main"."staged")
    """
    found = of_sql(resolve([*SHOP[:6], compiled(STAGED, sql)]))[STAGED]
    assert edges(found)["id"] == {("shop.main.orders", "id", COPY)}
    assert set(found.datasets) == {"shop.main.orders"}


def test_a_snapshot_has_what_dbt_adds_once() -> None:
    added = ["dbt_scd_id", "dbt_valid_from"]
    snapshot = described("snapshot.shop.s", added_columns=added)
    for sql in ("select id from shop.main.orders", "select id, 1 as dbt_valid_from from shop.main.orders"):
        found = of_sql(resolve([*SHOP[:5], snapshot, compiled("snapshot.shop.s", sql)]))["snapshot.shop.s"]
        assert sorted(names(found)) == ["dbt_scd_id", "dbt_valid_from", "id"]


def test_what_no_node_is_has_the_place_that_the_sql_gives_it_or_else_dbts_own() -> None:
    sql = "select a.x, b.y, c.z from a join other.b on true join far.other.c on true"
    found = of_sql(resolve([*SHOP[:5], described(FINAL), compiled(FINAL, sql)]))[FINAL]
    assert set(found.datasets) == {"shop.main.a", "shop.other.b", "far.other.c"}


def test_a_node_is_found_by_its_relation_and_not_by_its_name() -> None:
    seed = described("seed.shop.people", relation=relation("Kunden 2", schema="größe"), columns=[Column("id")])
    sql = 'select * from "shop"."größe"."Kunden 2"'
    found = of_sql(resolve(in_order(opened(), invoked(), seed, described(FINAL), compiled(FINAL, sql))))[FINAL]
    assert edges(found)["id"] == {("shop.größe.Kunden 2", "id", COPY)}


def test_sql_that_cannot_be_read_says_why() -> None:
    found = of_sql(resolve([*SHOP[:6], compiled(STAGED, "select ((")]))[STAGED]
    assert found.error
    assert (found.lineage, found.reads) == ({}, [])
    assert names(found) == ["price"], "what the project documents"


def test_a_star_over_the_unknown_says_so_and_keeps_every_name_that_is_known() -> None:
    model = described(FINAL, columns=[Column("a", "integer"), Column("B", "integer", "Made")])
    sql = "select *, x + 1 as b, x as c from shop.main.unknown"
    found = of_sql(resolve([*SHOP[:5], model, compiled(FINAL, sql)]))[FINAL]
    assert "columns aren't all known" in (found.error or "")
    assert names(found) == ["a", "b", "c"]
    assert set(found.lineage) <= set(names(found)), "Marquez drops the lineage of a column that schema lacks"
    assert found.columns[1] == Column("b", "integer", "Made")


def test_columns_without_an_alias_are_no_matter_of_a_star() -> None:
    found = of_sql(resolve([*SHOP[:5], described(FINAL), compiled(FINAL, "select 1 as one, exists (select 1)")]))[FINAL]
    assert found.error == "there may be more columns: columns without an alias, which the warehouse names"
    assert names(found) == ["one"]


def test_more_than_five_thousand_columns_are_cut_and_that_is_said() -> None:
    sql = f"select {', '.join(f'{number} as c{number}' for number in range(5_001))}"
    before = time.process_time()
    found = of_sql(resolve([*SHOP[:6], compiled(STAGED, sql)]))[STAGED]
    assert time.process_time() - before < 5
    assert len(found.columns) == 5_000
    assert found.error == "cut: 5001 columns, of which the first 5000 are told"


def test_what_the_runner_asked_the_warehouse_is_known_downstream_and_in_later_runs(tmp_path: Path) -> None:
    source = described("source.shop.raw.events")
    asked = ColumnsResolved(unique_id=source.unique_id, origin="warehouse", columns=[Column("id"), Column("at")])
    model = [described(FINAL), compiled(FINAL, "select * from shop.main.events"), finished(FINAL)]
    with Cache.open(tmp_path / "columns.sqlite") as cache:
        first = resolve(in_order(opened(), invoked(), source, asked, model), cache)
    assert names(of_sql(first)[FINAL]) == ["id", "at"]
    with Cache.open(tmp_path / "columns.sqlite") as cache:
        second = resolve(in_order(opened(), invoked(), source, model), cache)
    assert [(e.unique_id, e.origin, names(e)) for e in second] == [
        (source.unique_id, "earlier", ["id", "at"]),
        (FINAL, "earlier", ["id", "at"]),
        (FINAL, "sql", ["id", "at"]),
    ]


def test_a_column_that_the_documentation_of_a_source_leaves_out_has_its_lineage_too() -> None:
    source = described("source.shop.raw.events", columns=[Column("id")])
    model = [described(FINAL), compiled(FINAL, "select id, at from shop.main.events")]
    found = of_sql(resolve(in_order(opened(), invoked(), source, model)))[FINAL]
    assert edges(found)["id"] == {("shop.main.events", "id", COPY)}
    assert edges(found)["at"] == {("shop.main.events", "at", COPY)}


def test_a_star_over_a_documented_source_does_not_claim_to_be_all() -> None:
    source = described("source.shop.raw.events", columns=[Column("id")])
    model = [described(FINAL), compiled(FINAL, "select * from shop.main.events")]
    assert of_sql(resolve(in_order(opened(), invoked(), source, model)))[FINAL].error


# --- the catalog ----------------------------------------------------------------------------------------------------


def table(**types: str) -> dict[str, object]:
    """A table of the catalog; its columns stand in another order than their index has."""
    found = {name: {"name": name, "type": kind, "index": place} for place, (name, kind) in enumerate(types.items())}
    return {"metadata": {}, "columns": dict(reversed(found.items())), "stats": {}}


def in_project(path: Path, happened: Sequence[Event] = SHOP, **nodes: dict[str, object]) -> list[Event]:
    """The same journal of a project at this path, with a catalog."""
    if nodes:
        (path / "target").mkdir()
        by_id = {name.replace("_", ".", 2): found for name, found in nodes.items()}
        (path / "target" / "catalog.json").write_text(json.dumps({"nodes": by_id, "sources": {}}))
    place = {"project_dir": str(path), "target_path": "target"}
    return [
        msgspec.structs.replace(event, **place) if isinstance(event, events.DbtConfigured) else event
        for event in happened
    ]


def test_types_of_the_catalog_win_and_its_columns_are_known_in_their_order(tmp_path: Path) -> None:
    happened = in_project(tmp_path, model_shop_staged=table(id="BIGINT", price="DOUBLE", state="VARCHAR"))
    known, found = (event for event in resolve(happened) if event.unique_id == STAGED)
    expected = [Column("id", "BIGINT"), Column("price", "DOUBLE", "What it cost"), Column("state", "VARCHAR")]
    assert (known.origin, known.columns) == ("catalog", expected)
    assert (found.origin, found.columns) == ("sql", expected)


def test_columns_are_those_of_the_sql_where_the_catalog_is_older(tmp_path: Path) -> None:
    happened = in_project(tmp_path, model_shop_staged=table(id="BIGINT", gone="DATE"))
    found = of_sql(resolve(happened))[STAGED]
    assert found.columns[0] == Column("id", "BIGINT")
    assert names(found) == ["id", "price", "state"]


def test_a_seed_has_the_columns_of_its_header_and_types_of_the_catalog(tmp_path: Path) -> None:
    happened = in_project(tmp_path, seed_shop_orders=table(id="BIGINT", gone="DATE"))
    seed = next(event for event in resolve(happened) if event.unique_id == SEED)
    assert [(c.name, c.data_type) for c in seed.columns] == [("id", "BIGINT"), ("amount", None), ("state", None)]
    assert names(of_sql(resolve(happened))[STAGED]) == ["id", "price", "state"]


@pytest.mark.parametrize("sql", ["select ((", "select * from shop.main.unknown"])
def test_where_the_sql_cannot_be_read_in_full_the_catalog_says_the_columns(tmp_path: Path, sql: str) -> None:
    happened = in_project(tmp_path, [*SHOP[:6], compiled(STAGED, sql)], model_shop_staged=table(id="BIGINT", b="DATE"))
    found = of_sql(resolve(happened))[STAGED]
    assert [(c.name, c.data_type) for c in found.columns] == [("id", "BIGINT"), ("b", "DATE")]
    assert found.error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"nodes": {}}',
        b'{"nodes": {"model.shop.staged": {"columns": []}}, "sources": {}}',
        b'{"nodes": {"model.shop.staged": {"columns": {"a": {"name": 1}}}}, "sources": {}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_catalog_that_cannot_be_read_is_left_out_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "catalog.json").write_bytes(content)
    assert resolve(in_project(tmp_path)) == resolve(SHOP)
    assert "is left out" in caplog.text


def test_without_a_catalog_nothing_is_said_of_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert catalog.load(tmp_path / "catalog.json") == Catalog()
    assert caplog.text == ""
    assert catalog.load(tmp_path) == Catalog(), "a directory"
    assert "is left out" in caplog.text


def test_a_relation_was_seen_when_it_was_built_and_not_when_its_session_began(tmp_path: Path) -> None:
    """A catalog may have been made between."""
    with Cache.open(tmp_path / "columns.sqlite", now=time.time() - 3600) as cache:
        cache.remember_relation("duckdb", "shop.main.a", [Column("a")])
        assert cache.relation("duckdb", "shop.main.a")[1] >= int(time.time()) - 60


def test_a_catalog_that_is_older_than_what_was_built_since_says_types_at_most(tmp_path: Path) -> None:
    happened = in_project(tmp_path, model_shop_staged=table(id="BIGINT", gone="DATE"))
    catalog_file = tmp_path / "target" / "catalog.json"
    place = tmp_path / "columns.sqlite"
    cached(place, SHOP)
    for generated_at, origin, first in (
        ("2001-01-01T00:00:00.000000Z", "earlier", ["id", "price", "state"]),
        ("2999-01-01T00:00:00.000000Z", "catalog", ["id", "gone"]),
    ):
        content = json.loads(catalog_file.read_text())
        catalog_file.write_text(json.dumps({**content, "metadata": {"generated_at": generated_at}}))
        known, resolved = (event for event in cached(place, happened) if event.unique_id == STAGED)
        assert (known.origin, names(known)) == (origin, first)
        assert (names(resolved), resolved.columns[0].data_type) == (["id", "price", "state"], "BIGINT")


# --- what is there already --------------------------------------------------------------------------------------------

INCREMENTAL = "model.shop.events"
CREATE = 'create table "shop"."main"."events" as (select 1 as a, 2 as b)'
INSERT = 'insert into "shop"."main"."events" (select 1 as a, 2 as b)'


@pytest.mark.parametrize(
    ("on_schema_change", "query", "expected"),
    [
        (None, INSERT, ["a", "b"]),
        ("ignore", INSERT, ["a", "c"]),
        ("ignore", CREATE, ["a", "b"]),
        ("ignore", CREATE.replace("events", "events__dbt_tmp"), ["a", "c"]),
        ("ignore", 'alter view "shop"."main"."events" rename to "events__dbt_backup"', ["a", "b"]),
        ("ignore", 'alter table "shop"."main"."events" add column b integer', ["a", "c"]),
        ("ignore", '/* dbt */ drop table if exists "shop"."main"."events" cascade', ["a", "b"]),
        ("fail", INSERT, ["a", "c"]),
        ("append_new_columns", INSERT, ["a", "c", "b"]),
        ("append_new_columns", CREATE, ["a", "b"]),
        ("sync_all_columns", INSERT, ["a", "b"]),
    ],
)
def test_a_relation_that_is_there_has_the_columns_that_dbt_gives_it(
    tmp_path: Path, on_schema_change: str | None, query: str, expected: list[str]
) -> None:
    """https://docs.getdbt.com/docs/build/incremental-models#what-if-the-columns-of-my-incremental-model-change."""

    def invocation(sql: str, *queries: str) -> list[Event]:
        sent = [
            events.QueryStarted(query=n, sql=text, unique_id=INCREMENTAL, session=1, step=1, attempt=1)
            for n, text in enumerate(queries)
        ]
        model = described(INCREMENTAL, materialized="incremental", on_schema_change=on_schema_change)
        below = [described(FINAL), compiled(FINAL, "select * from shop.main.events")]
        return in_order(opened(), invoked(), model, compiled(INCREMENTAL, sql), sent, finished(INCREMENTAL), below)

    place = tmp_path / "columns.sqlite"
    cached(place, invocation("select 1 as a, 3 as c", CREATE))
    second = of_sql(cached(place, invocation("select id as a, n as b from shop.main.orders", query)))
    assert names(second[INCREMENTAL]) == expected
    assert set(second[INCREMENTAL].lineage) == {"a", "b"} & set(expected)
    assert names(second[FINAL]) == expected
    (third, *_) = cached(place, invocation("select 1 as a"))
    assert (third.origin, names(third)) == ("earlier", expected)


@pytest.mark.parametrize(
    ("command", "status"),
    [("compile", "success"), ("docs generate", "success"), ("run", "error"), ("retry", "success")],
)
def test_what_was_not_built_is_not_remembered(tmp_path: Path, command: str, status: str) -> None:
    """Nor what a retry of a compile has compiled."""
    selection = events.Selection(unique_ids=[STAGED], repeats="compile" if command == "retry" else None)
    model = [selection, described(STAGED), compiled(STAGED, "select 1 as a"), finished(STAGED, status)]
    place = tmp_path / "columns.sqlite"
    assert names(of_sql(cached(place, in_order(opened(), invoked(command), model)))[STAGED]) == ["a"]
    assert [event.origin for event in cached(place, in_order(opened(), invoked(), model))] == ["sql"]


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL that is really looked at."""
    found: list[str] = []
    real = columns.analyse

    def analyse(sql: str, *others: Any) -> columns.Analysis:
        found.append(sql)
        return real(sql, *others)

    monkeypatch.setattr(columns, "analyse", analyse)
    return found


def cached(place: Path, happened: Sequence[Event] = SHOP) -> list[ColumnsResolved]:
    with Cache.open(place) as cache:
        return resolve(happened, cache)


def test_what_was_found_is_found_again_without_a_look_at_the_sql(tmp_path: Path, analysed: list[str]) -> None:
    cold = cached(tmp_path / "cache" / "columns.sqlite")
    assert analysed == [STAGED_SQL, FINAL_SQL]
    warm = cached(tmp_path / "cache" / "columns.sqlite")
    assert analysed == [STAGED_SQL, FINAL_SQL]
    assert of_sql(warm) == of_sql(cold)
    assert [(e.unique_id, e.origin) for e in warm if e.origin != "sql"] == [(STAGED, "earlier"), (FINAL, "earlier")]


def changed(what: str) -> list[Event]:
    happened = list(SHOP)
    for place, event in enumerate(happened):
        if what == "sql" and isinstance(event, events.NodeCompiled):
            happened[place] = msgspec.structs.replace(event, sql=event.sql + "-- changed")
        elif what == "columns" and isinstance(event, events.NodeDescribed) and event.unique_id == SEED:
            happened[place] = msgspec.structs.replace(event, columns=[*event.columns, Column("more")])
        elif what == "adapter" and isinstance(event, events.DbtConfigured):
            happened[place] = msgspec.structs.replace(event, adapter_type="postgres")
    return happened


def test_what_has_changed_is_looked_at_again_and_only_that(tmp_path: Path, analysed: list[str]) -> None:
    place = tmp_path / "columns.sqlite"
    cached(place)
    for what, expected in (("sql", 2), ("columns", 1), ("adapter", 2), ("nothing", 0)):
        analysed.clear()
        assert of_sql(cached(place, changed(what))) == of_sql(resolve(changed(what)))
        assert len(analysed) == expected + len(of_sql(resolve(changed(what)))), what


def test_another_version_looks_again(tmp_path: Path, analysed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path / "columns.sqlite")
    monkeypatch.setattr(cache_module, "__version__", "99")
    cached(tmp_path / "columns.sqlite")
    assert len(analysed) == 4


def test_the_same_sql_of_another_relation_is_something_else(tmp_path: Path) -> None:
    sql = 'select id from "shop"."main"."staged"'
    happened = [*SHOP[:6], compiled(STAGED, sql), described(FINAL), compiled(FINAL, sql)]
    found = of_sql(cached(tmp_path / "columns.sqlite", happened))
    assert edges(found[STAGED]).get("id", set()) == set(), "it is the model itself"
    assert edges(found[FINAL])["id"] == {("shop.main.staged", "id", COPY)}


def spoil(place: Path, how: str) -> None:
    if how == "garbage":
        place.write_bytes(b"this is no database" * 100)
    elif how == "directory":
        place.mkdir()
    elif how == "empty":
        place.write_bytes(b"")
    elif how == "other tables":
        with contextlib.closing(sqlite3.connect(place)) as connection:
            connection.execute("create table analyses (other int)")
            connection.commit()
    else:
        cached(place)
        with contextlib.closing(sqlite3.connect(place)) as connection:
            value = b"\xc1" if how == "values" else "a text"
            for name in ("analyses", "reads", "relations"):
                connection.execute(f"update {name} set value = ?", (value,))
            connection.commit()


SPOILT = ["garbage", "directory", "empty", "other tables", "values", "values of another type"]


@pytest.mark.parametrize("how", SPOILT)
def test_a_cache_that_cannot_be_read_costs_time_and_nothing_else(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(tmp_path / "columns.sqlite", how)
    assert cached(tmp_path / "columns.sqlite") == resolve(SHOP)
    assert ("cannot be used" in caplog.text) == (how in ("garbage", "directory", "other tables"))


@pytest.mark.parametrize("how", ["values", "values of another type"])
def test_values_that_cannot_be_read_are_written_again(how: str, tmp_path: Path, analysed: list[str]) -> None:
    spoil(tmp_path / "columns.sqlite", how)
    cached(tmp_path / "columns.sqlite")
    analysed.clear()
    cached(tmp_path / "columns.sqlite")
    assert analysed == []


def test_a_cache_that_another_holds_is_given_up_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "columns.sqlite"
    cached(place)
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("pragma locking_mode = exclusive")
        other.execute("begin exclusive")
        assert of_sql(cached(place)) == of_sql(resolve(SHOP))
    assert caplog.text.count("cannot be used") == 1
    assert "locked" in caplog.text


def test_runs_at_the_same_time_keep_each_others_findings(tmp_path: Path, analysed: list[str]) -> None:
    """Neither holds the other up, however long it goes on without another write."""
    place = tmp_path / "columns.sqlite"
    before = time.monotonic()
    with Cache.open(place) as one, Cache.open(place) as other:
        resolve(SHOP[:8], one)
        resolve(SHOP, other)
        resolve(SHOP, one)
    assert time.monotonic() - before < 1.5, "a lock is waited for two seconds"
    assert analysed == [STAGED_SQL, FINAL_SQL]


def test_what_nobody_has_used_for_two_months_is_dropped(tmp_path: Path) -> None:
    place = tmp_path / "columns.sqlite"
    cached(place)
    with contextlib.closing(sqlite3.connect(place)) as connection:
        connection.execute("update relations set used = used - 61 * 24 * 3600 where key like '%staged'")
        connection.commit()
    with Cache.open(place):
        pass
    with contextlib.closing(sqlite3.connect(place)) as connection:
        kept = [key for (key,) in connection.execute("select key from relations")]
    assert [key.partition("\x1f")[2] for key in kept] == ["shop.main.final"]


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert cached(tmp_path / "file" / "columns.sqlite") == resolve(SHOP)
    assert "cannot be used" in caplog.text


# --- the process, beside a journal that we write --------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "home" / "runs" / RUN_ID)
    found.path.mkdir(parents=True)
    write(found, SHOP)
    return found


def write(directory: RunDirectory, happened: Sequence[Event]) -> None:
    with directory.journal.open("ab") as file:
        for event in happened:
            file.write(b"\n" + msgspec.json.encode(event) + b"\n")


def read(directory: RunDirectory) -> list[Event]:
    reader = Reader(directory.journal)
    found = [record.event for record in reader.read()]
    assert reader.torn == 0
    return found


def said(directory: RunDirectory) -> list[ColumnsResolved]:
    """What the resolver has written, without what says who wrote it and when."""
    found = [event for event in read(directory) if isinstance(event, ColumnsResolved)]
    return [msgspec.structs.replace(event, writer="", seq=0, time=0, mono=0) for event in found]


def resolver(directory: RunDirectory, session: int) -> ResolverProcess:
    journal_fd = os.open(directory.journal, os.O_RDWR | os.O_APPEND)
    try:
        return ResolverProcess(directory, journal_fd, session)
    finally:
        os.close(journal_fd)


def beside_once(directory: RunDirectory) -> list[ColumnsResolved]:
    process = resolver(directory, 1)
    assert process.finish(30) == "done"
    return said(directory)


def placed(found: Sequence[ColumnsResolved]) -> list[ColumnsResolved]:
    return [msgspec.structs.replace(event, session=1, step=1, attempt=1) for event in found]


def test_the_process_writes_what_it_finds_and_where_that_belongs(directory: RunDirectory) -> None:
    assert beside_once(directory) == placed(resolve(SHOP))
    (begun,) = [event for event in read(directory) if isinstance(event, events.ColumnResolverStarted)]
    assert begun.sqlglot_version == columns.VERSION
    assert (begun.session, begun.step) == (1, 0)
    assert directory.columns_log.read_text() == ""
    assert directory.columns_cache.exists()


def test_a_warm_cache_gives_the_same_columns(directory: RunDirectory, tmp_path: Path) -> None:
    cold = beside_once(directory)
    again = RunDirectory(directory.path.with_name("again"))
    again.path.mkdir()
    write(again, SHOP)
    warm = beside_once(again)
    assert again.columns_cache == directory.columns_cache
    assert of_sql(warm) == of_sql(cold)
    assert [event.origin for event in warm].count("earlier") == 2


@pytest.mark.parametrize("how", ["garbage", "directory", "values"])
def test_the_process_only_warns_of_its_cache(directory: RunDirectory, how: str) -> None:
    directory.columns_cache.parent.mkdir()
    spoil(directory.columns_cache, how)
    assert beside_once(directory) == placed(resolve(SHOP))
    assert ("WARNING" in directory.columns_log.read_text()) == (how != "values")


def test_the_process_follows_the_journal_of_its_own_session(directory: RunDirectory) -> None:
    process = resolver(directory, 2)
    eventually(lambda: any(isinstance(e, events.ColumnResolverStarted) for e in read(directory)), "its start")
    assert said(directory) == []
    of_second = [msgspec.structs.replace(event, session=2) for event in SHOP]
    write(directory, of_second[:8])
    eventually(lambda: len(said(directory)) == 1, "the first model's columns")
    assert not process.ended
    write(directory, of_second[8:])
    eventually(lambda: len(said(directory)) == 2, "the second's")
    assert process.finish(30) == "done"
    assert {event.session for event in said(directory)} == {2}


def test_the_process_is_of_low_priority(directory: RunDirectory) -> None:
    process = resolver(directory, 1)
    try:
        eventually(lambda: said(directory), "that it works")
        (found,) = resolvers(directory)
        assert found.nice() == min(os.nice(0) + 10, 19)
    finally:
        process.finish(30)


def test_a_process_that_fails_says_why(directory: RunDirectory) -> None:
    process = resolver(directory, "no number")  # type: ignore[arg-type]
    eventually(lambda: process.ended, "its end")
    assert process.finish(0) == "it ended with 1: ValueError: invalid literal for int() with base 10: 'no number'"


def test_a_process_that_is_killed_says_so(directory: RunDirectory) -> None:
    process = resolver(directory, 1)
    eventually(lambda: said(directory), "that it works")
    resolvers(directory)[0].kill()
    eventually(lambda: process.ended, "its end")
    assert process.finish(0).startswith("it ended with -9")


def test_a_process_that_hangs_is_killed_when_the_time_is_over(directory: RunDirectory) -> None:
    process = resolver(directory, 1)
    eventually(lambda: said(directory), "that it works")
    (found,) = resolvers(directory)
    found.suspend()
    before = time.monotonic()
    assert process.finish(0.3) == "the session has ended before it"
    assert time.monotonic() - before < 1.3
    eventually(lambda: gone(found), "its end")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OPENLINEAGE_URL": "http://localhost:1", "SPANLINE_LINEAGE_COLUMNS": "off"},
        {"OPENLINEAGE_URL": "http://localhost:1", "OPENLINEAGE_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"},
    ],
    ids=str,
)
def test_where_nobody_is_told_of_columns_there_is_no_process(
    environ: dict[str, str], directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.path)
    monkeypatch.setattr(column_resolver, "ResolverProcess", lambda *_: pytest.fail("it was started"))
    assert start_resolver(directory, -1, 1, environ) is None


def test_a_process_that_cannot_be_started_is_no_error_of_the_run(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(directory.path / "gone"))
    with open(directory.journal, "ab") as journal:
        assert start_resolver(directory, journal.fileno(), 1, {"OPENLINEAGE_URL": "http://localhost:1"}) is None
    assert "its resolver cannot be started: [Errno 2]" in caplog.text


def resolvers(directory: RunDirectory) -> list[psutil.Process]:
    """The running resolvers of this run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if str(directory.journal) in (line := process.cmdline()) and any("lineage.process" in a for a in line):
                found.append(process)
    return [process for process in found if not gone(process)]


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- the process, beside dbt ----------------------------------------------------------------------------------------

AFTER = "model.shop.after"


@pytest.fixture
def gated(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Run, Callable[[], None]]]:
    """A run in which the model `gate` runs until it is let go on, and `after` follows."""
    opened_gate = project.path / "open"
    project.write("models/after.sql", "select o.id from {{ ref('raw_orders') }} o, {{ ref('gate') }} g")
    monkeypatch.setenv("GATE", str(opened_gate))
    monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
    run = project.start("run", "-s", "gate", "after")
    eventually(lambda: "model.shop.gate" in run.state.nodes, "the node under way")
    yield run, opened_gate.touch
    opened_gate.touch()
    run.wait(60)


def one(found: Sequence[Event], kind: type[Event]) -> Any:
    (event,) = [event for event in found if isinstance(event, kind)]
    return event


@pytest.mark.slow
def test_a_run_whose_resolver_is_killed_goes_on_without_columns(
    gated: tuple[Run, Callable[[], None]], receiver: Receiver
) -> None:
    run, open_gate = gated
    (resolver,) = eventually(lambda: resolvers(run.directory), "the resolver")
    eventually(lambda: any(isinstance(e, events.ColumnResolverStarted) for e in journal(run)), "that it works")
    resolver.send_signal(signal.SIGKILL)
    eventually(lambda: any(isinstance(e, events.ColumnResolverStopped) for e in journal(run)), "that it is noticed")
    open_gate()
    assert run.wait(60).success
    found = journal(run)
    assert one(found, events.ColumnResolverStopped).reason.startswith("it ended with -9")
    told = receiver.lineage
    assert_one_start_and_one_end(told)
    assert {event["eventType"] for event in told} == {"START", "COMPLETE"}
    after = end_of(told, AFTER)
    assert "columnLineage" not in after["outputs"][0]["facets"]
    (finish,) = [e for e in found if isinstance(e, events.NodeFinished) and e.unique_id == AFTER]
    (request,) = [r for r in receiver.requests if json.loads(r.body)["run"] == after["run"]]
    assert request.at - finish.time / 1e9 < 1.5, "nobody waits for what won't come"


def test_a_resolver_that_hangs_holds_up_the_end_for_two_seconds_at_most(
    gated: tuple[Run, Callable[[], None]], receiver: Receiver
) -> None:
    run, open_gate = gated
    (resolver,) = eventually(lambda: resolvers(run.directory), "the resolver")
    eventually(lambda: any(isinstance(e, events.ColumnResolverStarted) for e in journal(run)), "that it works")
    resolver.suspend()
    open_gate()
    assert run.wait(60).success
    found = journal(run)
    assert one(found, events.ColumnResolverStopped).reason == "the session has ended before it"
    over, end = one(found, events.AttemptEnded), one(found, events.SessionEnded)
    assert 1.5 < (end.time - over.time) / 1e9 < 4, "2 s, and what it takes a busy machine to end a process"
    assert resolvers(run.directory) == []
    told = receiver.lineage
    assert_one_start_and_one_end(told)
    assert end_of(told, AFTER)["eventType"] == "COMPLETE"
    assert "columnLineage" not in end_of(told, AFTER)["outputs"][0]["facets"]


def test_a_resolver_ends_with_a_supervisor_that_is_killed(project: Project, receiver: Receiver) -> None:
    environment = {**receiver.lineage_environment, "GATE": str(project.path / "open")}
    with project.open("dbt", "run", "-s", "gate", **environment) as supervisor:
        eventually(lambda: len(receiver.lineage) == 4, "the START of session and model, a hook between them")
        run = last_run(project)
        (resolver,) = resolvers(run.directory)
        supervisor.kill()
    eventually(lambda: gone(resolver), "the resolver's end")
    (project.path / "open").touch()
    eventually(lambda: not run.live, "the runner's end")
    assert not [event for event in journal(run) if isinstance(event, events.ColumnResolverStopped)]


@pytest.mark.slow
def test_the_first_run_and_the_next_tell_the_same_columns(project: Project, receiver: Receiver) -> None:
    runs = []
    for _ in range(2):
        receiver.requests.clear()
        done = project.spanline(
            "dbt", "run", "-s", "+totals", **receiver.lineage_environment, **receiver.otel_environment
        )
        assert done.returncode == 0, done.stdout.decode()
        runs.append(list(receiver.lineage))
    spans = {span.span_id.hex(): span.trace_id.hex() for span in receiver.spans}
    for event in runs[1]:
        facet = event["run"]["facets"]["spanline_run"]
        assert spans[facet["span_id"]] == facet["trace_id"], "lineage leads to its span"
    for told in runs:
        assert_one_start_and_one_end(told)
        for event in told:
            assert_valid(event)
        (totals,) = end_of(told, "model.shop.totals")["outputs"]
        (cents,) = totals["facets"]["columnLineage"]["fields"]["cents"]["inputFields"]
        assert (cents["name"], cents["field"]) == ("shop.main.orders", "cents")
    first, second = sorted((project.home / "runs").iterdir())
    cold, warm = (of_sql(journal(Run(RunDirectory(path)))) for path in (first, second))
    assert set(cold) == {f"model.shop.{name}" for name in ("orders", "customers", "totals")}
    for unique_id, found in cold.items():
        assert found.columns == warm[unique_id].columns
        assert edges(found) == edges(warm[unique_id])
    begin = next(e for e in runs[1] if unique_id_of(e) == "model.shop.totals")
    assert begin["eventType"] == "START"
    assert [field["name"] for field in begin["outputs"][0]["facets"]["schema"]["fields"]] == ["customer_id", "cents"]


@pytest.mark.slow
def test_columns_are_those_that_the_warehouse_has_though_the_sql_has_others(
    project: Project, receiver: Receiver
) -> None:
    """By DuckDB's own word: of incremental models, of what failed, and of what was compiled only."""
    more, less = "{% if var('more', false) %}, 2 as b {% endif %}", "{{ '' if var('more', false) else ', 3 as c' }}"
    for name, on_schema_change, sql in (
        ("plain", "ignore", f"select 1 as a {more}"),
        ("growing", "append_new_columns", f"select 1 as a {more} {less}"),
    ):
        configured = f"{{{{ config(materialized='incremental', on_schema_change='{on_schema_change}') }}}}"
        project.write(f"models/{name}.sql", f"{configured} {sql}")
        project.write(f"models/{name}_copy.sql", f"select * from {{{{ ref('{name}') }}}}")
    project.write("models/upper.sql", "select 1 as a {{ ', nope' if var('more', false) }}")
    project.write("models/upper_copy.sql", "select * from {{ ref('upper') }}")
    with_more = ("--vars", "{more: true}")
    project.write("models/turned.sql", "{{ config(materialized='view') }} select 1 as a")
    all_of = ("-s", "plain+", "growing+", "upper+", "turned")
    tables = {"plain", "plain_copy", "growing", "growing_copy"}
    uppers = {"upper", "upper_copy"}
    for args, built in (
        (("run", *all_of), {*tables, *uppers, "turned"}),
        (("run", *all_of, *with_more), {*tables, "turned"}),
        (("compile", *all_of, "--full-refresh", *with_more), set()),
        (("run", "-s", "plain_copy", "growing_copy", "upper_copy"), {"plain_copy", "growing_copy", "upper_copy"}),
        (("run", "-s", "turned"), {"turned"}),
        (("run", "-s", "plain+", "growing+", "--full-refresh", *with_more), tables),
    ):
        receiver.requests.clear()
        project.spanline("dbt", *args, **receiver.lineage_environment)
        with duckdb.connect(str(project.path / "shop.duckdb"), read_only=True) as connection:
            found = connection.execute("select table_name, column_name from information_schema.columns").fetchall()
        told = {
            output["name"].rpartition(".")[2]: {field["name"] for field in output["facets"]["schema"]["fields"]}
            for event in receiver.lineage
            for output in event["outputs"]
            if event["eventType"] == "COMPLETE" and args[0] == "run"
        }
        assert told == {table: {column for name, column in found if name == table} for table in built}, args
        project.write("models/turned.sql", "{{ config(materialized='incremental') }} select 1 as a, 2 as b")


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_due_two_seconds_after_the_last_event_and_then_every_thirty(tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    place.write_text("an event\n")
    silence = Silence(OpenFile(place))

    def write_more() -> None:
        with place.open("a") as file:
            file.write("more\n")

    assert not silence.lasts(100.0)
    assert not silence.lasts(101.99)
    assert silence.lasts(102.0)
    write_more()
    silence.broken(102.0)  # the heartbeat itself is no news
    assert not silence.lasts(102.1)
    assert not silence.lasts(131.99)
    assert silence.lasts(132.0)
    silence.broken(132.0)
    write_more()
    assert not silence.lasts(140.0), "somebody has written"
    assert not silence.lasts(141.99)
    assert silence.lasts(142.0)


def test_writing_puts_a_heartbeat_off(tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    silence = Silence(OpenFile(place))
    for second in range(10):
        with place.open("a") as file:
            file.write("an event\n")
        assert not silence.lasts(second * 1.9)
    assert silence.lasts(9 * 1.9 + 2)


def test_a_heartbeat_breaks_the_silence_of_a_run_that_is_only_observed(tmp_path: Path) -> None:
    spec = RunSpec(run_id=RUN_ID, steps=[["run"]], cwd=str(tmp_path), project_dir=str(tmp_path), python="python")
    directory, held = home.create_run(tmp_path / "home", RUN_ID, spec.encode())
    write(directory, opened())
    alive, lifeline = os.pipe()
    observer = threading.Thread(target=Supervisor(directory, spec, held).observe, args=(alive,))
    observer.start()
    try:
        eventually(lambda: any(isinstance(e, events.Heartbeat) for e in read(directory)), "a heartbeat", 3)
    finally:
        os.close(lifeline)
        observer.join()
        os.close(alive)
