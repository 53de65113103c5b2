"""Column lineage of SQL, against edges written by hand."""

from __future__ import annotations

import importlib
import re
import sys
import threading
import time
from collections.abc import Iterable

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline.lineage import columns
from spanline.lineage.columns import Analysis, Field, Input, Relation, Schema, Transformation, analyse
from spanline.lineage.process import sqlglot_is_compiled

Edges = dict[str, set[str]]

GUESTS: Relation = ("cafe", "main", "guests")
ORDERS: Relation = ("cafe", "main", "orders")
MENU: Relation = ("cafe", "main", "menu")


def bar(adapter: str = "duckdb") -> Schema:
    """Three relations of a coffee bar."""
    schema = Schema(adapter)
    schema.add(GUESTS, [("id", "INTEGER"), ("name", "VARCHAR"), ("email", "VARCHAR")])
    schema.add(
        ORDERS,
        [
            ("id", "INTEGER"),
            ("guest_id", "INTEGER"),
            ("drink", "VARCHAR"),
            ("cents", "BIGINT"),
            ("status", "VARCHAR"),
            ("ordered_at", "TIMESTAMP"),
            ("extras", "JSON"),
        ],
    )
    schema.add(MENU, [("drink", "VARCHAR"), ("price", "BIGINT"), ("made_of", "STRUCT")])
    return schema


def analysed(sql: str, adapter: str = "duckdb", schema: Schema | None = None, this: Relation | None = None) -> Analysis:
    found = analyse(sql, adapter, bar(adapter) if schema is None else schema, this)
    assert found.error is None, found.error
    return found


def edges(inputs: Iterable[Input]) -> set[str]:
    """`orders.cents` for an identity, `orders.cents AGGREGATION` else, several subtypes joined by `+`."""
    told = set()
    for one in inputs:
        kinds = "+".join(each.subtype for each in one.transformations)
        name = f"{one.field.relation[2]}.{one.field.name}"
        told.add(name if kinds == "IDENTITY" else f"{name} {kinds}")
    return told


def fields(found: Analysis) -> Edges:
    names = [column.name for column in found.columns]
    assert len(names) == len(set(names)), names
    return {column.name: edges(column.inputs) for column in found.columns}


def lineage(sql: str, adapter: str = "duckdb", schema: Schema | None = None) -> Edges:
    return fields(analysed(sql, adapter, schema))


def dataset(sql: str, adapter: str = "duckdb", schema: Schema | None = None) -> set[str]:
    return edges(analysed(sql, adapter, schema).dataset)


# --- a whole project --------------------------------------------------------------------------------------------------

SEEDS: dict[str, list[str]] = {
    "raw_guests": ["id", "first_name", "last_name"],
    "raw_orders": ["id", "user_id", "order_date", "status"],
    "raw_payments": ["id", "order_id", "payment_method", "amount"],
}

STG_GUESTS = """
with source as (
    select * from "cafe"."main"."raw_guests"
),
renamed as (
    select id as guest_id, first_name, last_name from source
)
select * from renamed
"""

STG_ORDERS = """
with source as (
    select * from "cafe"."main"."raw_orders"
),
renamed as (
    select id as order_id, user_id as guest_id, order_date, status from source
)
select * from renamed
"""

STG_PAYMENTS = """
with source as (
    select * from "cafe"."main"."raw_payments"
),
renamed as (
    select
        id as payment_id,
        order_id,
        payment_method,
        -- the seed has cents
        amount / 100 as amount
    from source
)
select * from renamed
"""

GUESTS_MODEL = """
with guests as (
    select * from "cafe"."main"."stg_guests"
),
orders as (
    select * from "cafe"."main"."stg_orders"
),
payments as (
    select * from "cafe"."main"."stg_payments"
),
guest_orders as (
    select
        guest_id,
        min(order_date) as first_order,
        max(order_date) as most_recent_order,
        count(order_id) as number_of_orders
    from orders
    group by guest_id
),
guest_payments as (
    select orders.guest_id, sum(amount) as total_amount
    from payments
    left join orders on payments.order_id = orders.order_id
    group by orders.guest_id
),
final as (
    select
        guests.guest_id,
        guests.first_name,
        guests.last_name,
        guest_orders.first_order,
        guest_orders.most_recent_order,
        guest_orders.number_of_orders,
        guest_payments.total_amount as lifetime_value
    from guests
    left join guest_orders on guests.guest_id = guest_orders.guest_id
    left join guest_payments on guests.guest_id = guest_payments.guest_id
)
select * from final
"""

ORDERS_MODEL = """
with orders as (
    select * from "cafe"."main"."stg_orders"
),
payments as (
    select * from "cafe"."main"."stg_payments"
),
order_payments as (
    select
        order_id,
        sum(case when payment_method = 'card' then amount else 0 end) as card_amount,
        sum(case when payment_method = 'cash' then amount else 0 end) as cash_amount,
        sum(amount) as total_amount
    from payments
    group by order_id
),
final as (
    select
        orders.order_id,
        orders.guest_id,
        orders.order_date,
        orders.status,
        order_payments.card_amount,
        order_payments.cash_amount,
        order_payments.total_amount as amount
    from orders
    left join order_payments on orders.order_id = order_payments.order_id
)
select * from final
"""

PROJECT: dict[str, tuple[str, Edges, set[str]]] = {
    "stg_guests": (
        STG_GUESTS,
        {
            "guest_id": {"raw_guests.id"},
            "first_name": {"raw_guests.first_name"},
            "last_name": {"raw_guests.last_name"},
        },
        set(),
    ),
    "stg_orders": (
        STG_ORDERS,
        {
            "order_id": {"raw_orders.id"},
            "guest_id": {"raw_orders.user_id"},
            "order_date": {"raw_orders.order_date"},
            "status": {"raw_orders.status"},
        },
        set(),
    ),
    "stg_payments": (
        STG_PAYMENTS,
        {
            "payment_id": {"raw_payments.id"},
            "order_id": {"raw_payments.order_id"},
            "payment_method": {"raw_payments.payment_method"},
            "amount": {"raw_payments.amount TRANSFORMATION"},
        },
        set(),
    ),
    "guests": (
        GUESTS_MODEL,
        {
            "guest_id": {"stg_guests.guest_id"},
            "first_name": {"stg_guests.first_name"},
            "last_name": {"stg_guests.last_name"},
            "first_order": {"stg_orders.order_date AGGREGATION"},
            "most_recent_order": {"stg_orders.order_date AGGREGATION"},
            "number_of_orders": {"stg_orders.order_id AGGREGATION"},
            "lifetime_value": {"stg_payments.amount AGGREGATION"},
        },
        {
            "stg_guests.guest_id JOIN",
            "stg_orders.guest_id JOIN+GROUP_BY",
            "stg_orders.order_id JOIN",
            "stg_payments.order_id JOIN",
        },
    ),
    "orders": (
        ORDERS_MODEL,
        {
            "order_id": {"stg_orders.order_id"},
            "guest_id": {"stg_orders.guest_id"},
            "order_date": {"stg_orders.order_date"},
            "status": {"stg_orders.status"},
            "card_amount": {"stg_payments.amount AGGREGATION", "stg_payments.payment_method CONDITIONAL"},
            "cash_amount": {"stg_payments.amount AGGREGATION", "stg_payments.payment_method CONDITIONAL"},
            "amount": {"stg_payments.amount AGGREGATION"},
        },
        {"stg_orders.order_id JOIN", "stg_payments.order_id JOIN+GROUP_BY"},
    ),
}


def test_each_column_of_a_project_is_traced_to_the_relations_that_its_model_reads() -> None:
    schema = Schema("duckdb")
    for seed, names in SEEDS.items():
        schema.add(("cafe", "main", seed), [(name, "VARCHAR") for name in names])
    for model, (sql, of_columns, of_dataset) in PROJECT.items():
        found = analysed(sql, schema=schema)
        assert fields(found) == of_columns, model
        assert edges(found.dataset) == of_dataset, model
        assert found.complete
        schema.add(("cafe", "main", model), [(column.name, column.data_type) for column in found.columns])


def test_columns_keep_the_order_of_the_sql() -> None:
    found = analysed("select status, o.*, cents as price from main.orders o", "postgres")
    assert [column.name for column in found.columns] == [
        "status",
        *("id", "guest_id", "drink", "cents", "status", "ordered_at", "extras"),
        "price",
    ]


# --- what a column is made of -----------------------------------------------------------------------------------------

EXPRESSIONS = [
    ("drink", {"orders.drink"}),
    ("(drink)", {"orders.drink"}),
    ("upper(drink)", {"orders.drink TRANSFORMATION"}),
    ("cast(cents as varchar)", {"orders.cents TRANSFORMATION"}),
    ("drink || ' ' || status", {"orders.drink TRANSFORMATION", "orders.status TRANSFORMATION"}),
    ("cents > 300", {"orders.cents TRANSFORMATION"}),
    ("sum(cents)", {"orders.cents AGGREGATION"}),
    ("sum(cents) / 100", {"orders.cents AGGREGATION"}),
    ("grouping(drink)", {"orders.drink GROUP_BY"}),
    ("cents - avg(cents) over ()", {"orders.cents TRANSFORMATION+AGGREGATION"}),
    ("count(distinct guest_id)", {"orders.guest_id AGGREGATION"}),
    ("count(*)", set()),
    ("count(o.*)", set()),
    ("42", set()),
    ("null", set()),
    ("current_date", set()),
    ("case when status = 'paid' then cents else 0 end", {"orders.status CONDITIONAL", "orders.cents TRANSFORMATION"}),
    ("case status when 'paid' then 1 when drink then 2 end", {"orders.status CONDITIONAL", "orders.drink CONDITIONAL"}),
    ("case when cents > 3 then cents end", {"orders.cents TRANSFORMATION+CONDITIONAL"}),
    ("if(status = 'paid', cents, 0)", {"orders.status CONDITIONAL", "orders.cents TRANSFORMATION"}),
    (
        "coalesce(status, drink)",
        {"orders.status TRANSFORMATION+CONDITIONAL", "orders.drink TRANSFORMATION+CONDITIONAL"},
    ),
    ("nullif(cents, id)", {"orders.cents TRANSFORMATION+CONDITIONAL", "orders.id CONDITIONAL"}),
    ("sum(case when status = 'paid' then cents end)", {"orders.status CONDITIONAL", "orders.cents AGGREGATION"}),
    ("sum(cents) filter (where status = 'paid')", {"orders.cents AGGREGATION", "orders.status FILTER"}),
    ("count(*) filter (where status = 'paid')", {"orders.status FILTER"}),
    ("count_if(status = 'paid')", {"orders.status CONDITIONAL"}),
    ("string_agg(drink, ',' order by ordered_at)", {"orders.drink AGGREGATION", "orders.ordered_at SORT"}),
    ("list(drink order by cents desc)", {"orders.drink AGGREGATION", "orders.cents SORT"}),
    ("arg_max(drink, ordered_at)", {"orders.drink AGGREGATION", "orders.ordered_at SORT"}),
    ("percentile_cont(0.5) within group (order by cents)", {"orders.cents AGGREGATION"}),
    (
        "row_number() over (partition by guest_id order by ordered_at)",
        {"orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
    ),
    (
        "sum(cents) over (partition by guest_id order by ordered_at rows between 1 preceding and current row)",
        {"orders.cents AGGREGATION", "orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
    ),
    ("lag(drink) over (order by ordered_at)", {"orders.drink TRANSFORMATION", "orders.ordered_at WINDOW"}),
    ("first_value(drink) over w", {"orders.drink TRANSFORMATION", "orders.guest_id WINDOW", "orders.cents WINDOW"}),
    ("max(cents) over (w)", {"orders.cents AGGREGATION+WINDOW", "orders.guest_id WINDOW"}),
    (
        "sum(sum(cents)) over (partition by case when status = 'x' then drink end)",
        {"orders.cents AGGREGATION", "orders.status WINDOW", "orders.drink WINDOW"},
    ),
    ("(select max(price) from main.menu)", {"menu.price AGGREGATION"}),
    (
        "(select price from main.menu m where m.drink = o.drink)",
        {"menu.price", "menu.drink FILTER", "orders.drink FILTER"},
    ),
    ("exists (select 1 from main.menu m where m.drink = o.drink)", {"menu.drink FILTER", "orders.drink FILTER"}),
    (
        "drink in (select drink from main.menu where price > 3)",
        {"orders.drink TRANSFORMATION", "menu.drink TRANSFORMATION", "menu.price FILTER"},
    ),
    ("extras.milk", {"orders.extras TRANSFORMATION"}),
    ("o.extras.milk.kind", {"orders.extras TRANSFORMATION"}),
    ("extras['milk']", {"orders.extras TRANSFORMATION"}),
    ("extras ->> '$.milk'", {"orders.extras TRANSFORMATION"}),
    ("{'a': drink, 'b': cents}", {"orders.drink TRANSFORMATION", "orders.cents TRANSFORMATION"}),
    ("list_transform(extras, x -> x + cents)", {"orders.extras TRANSFORMATION", "orders.cents TRANSFORMATION"}),
    (
        "[x + cents for x in extras if x > id]",
        {"orders.extras TRANSFORMATION", "orders.cents TRANSFORMATION", "orders.id TRANSFORMATION"},
    ),
    ("unnest(extras)", {"orders.extras TRANSFORMATION"}),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_a_column_is_made_of(expression: str, expected: set[str]) -> None:
    sql = f"select {expression} as it from cafe.main.orders as o window w as (partition by guest_id order by cents)"
    assert lineage(sql) == {"it": expected}


# --- what the rows depend on ------------------------------------------------------------------------------------------

CLAUSES = [
    ("where status = 'paid'", {"orders.status FILTER"}),
    ("where cents between 1 and 3 and drink like 'e%'", {"orders.cents FILTER", "orders.drink FILTER"}),
    (
        "where drink in (select drink from main.menu where price > 3)",
        {"orders.drink FILTER", "menu.drink FILTER", "menu.price FILTER"},
    ),
    (
        "where exists (select 1 from main.menu where menu.drink = orders.drink)",
        {"orders.drink FILTER", "menu.drink FILTER"},
    ),
    ("where cents > (select avg(price) from main.menu)", {"orders.cents FILTER", "menu.price FILTER"}),
    ("order by ordered_at desc limit 3", {"orders.ordered_at SORT"}),
    ("order by 2", {"orders.cents SORT"}),
    ("order by much", {"orders.cents SORT"}),
    ("order by all", {"orders.id SORT", "orders.cents SORT"}),
    (
        "qualify row_number() over (partition by guest_id order by ordered_at) = 1",
        {"orders.guest_id FILTER", "orders.ordered_at FILTER"},
    ),
    ("where much > 3", {"orders.cents FILTER"}),
    ("limit 10", set()),
]


@pytest.mark.parametrize(("clause", "expected"), CLAUSES)
def test_the_rows_of_a_query_depend_on(clause: str, expected: set[str]) -> None:
    assert dataset(f"select id, cents as much from main.orders {clause}") == expected


GROUPS = [
    ("group by drink", {"orders.drink GROUP_BY"}),
    ("group by 1", {"orders.drink GROUP_BY"}),
    ("group by what", {"orders.drink GROUP_BY"}),
    ("group by all", {"orders.drink GROUP_BY"}),
    ("group by rollup (drink, status)", {"orders.drink GROUP_BY", "orders.status GROUP_BY"}),
    ("group by grouping sets ((drink), (status), ())", {"orders.drink GROUP_BY", "orders.status GROUP_BY"}),
    ("group by date_trunc('day', ordered_at), drink", {"orders.drink GROUP_BY", "orders.ordered_at GROUP_BY"}),
    ("group by drink having sum(cents) > 3", {"orders.drink GROUP_BY", "orders.cents FILTER"}),
    ("group by drink having total > 3", {"orders.drink GROUP_BY", "orders.cents FILTER"}),
]


@pytest.mark.parametrize(("clause", "expected"), GROUPS)
def test_the_rows_of_an_aggregation_depend_on(clause: str, expected: set[str]) -> None:
    assert dataset(f"select drink as what, sum(cents) as total from main.orders {clause}") == expected


JOINS = [
    ("join main.guests g on o.guest_id = g.id", {"orders.guest_id JOIN", "guests.id JOIN"}),
    (
        "left join main.guests g on o.guest_id = g.id and g.name <> ''",
        {"orders.guest_id JOIN", "guests.id JOIN", "guests.name JOIN"},
    ),
    ("join main.menu using (drink)", {"orders.drink JOIN", "menu.drink JOIN"}),
    ("natural join main.menu", {"orders.drink JOIN", "menu.drink JOIN"}),
    ("cross join main.guests", set()),
    (", main.guests g where o.guest_id = g.id", {"orders.guest_id FILTER", "guests.id FILTER"}),
    ("asof join main.guests g on o.id >= g.id", {"orders.id JOIN", "guests.id JOIN"}),
    ("join (select drink from main.menu where price > 3) m on true", {"menu.price FILTER"}),
    (
        "join (main.guests g join main.menu m on g.name = m.drink) on o.guest_id = g.id",
        {"guests.name JOIN", "menu.drink JOIN", "orders.guest_id JOIN", "guests.id JOIN"},
    ),
]


@pytest.mark.parametrize(("join", "expected"), JOINS)
def test_the_rows_of_a_join_depend_on(join: str, expected: set[str]) -> None:
    assert dataset(f"select o.id from main.orders o {join}") == expected


def test_an_asof_join_of_snowflake_depends_on_its_match_condition() -> None:
    sql = """
    select o.id from main.orders o
    asof join main.guests g match_condition (o.ordered_at >= g.email) on o.guest_id = g.id
    """
    assert dataset(sql, "snowflake") == {
        *("orders.ordered_at JOIN", "guests.email JOIN"),
        *("orders.guest_id JOIN", "guests.id JOIN"),
    }


def test_a_cte_decides_about_rows_only_if_it_is_read() -> None:
    sql = """
    with cheap as (select drink from main.menu where price < 300),
         unused as (select id from main.guests where email = '')
    select id from main.orders join cheap on cheap.drink = orders.drink
    """
    assert dataset(sql) == {"menu.price FILTER", "orders.drink JOIN", "menu.drink JOIN"}


def test_distinct_groups_by_all_that_it_tells_apart() -> None:
    assert dataset("select distinct drink, status from main.orders") == {
        "orders.drink GROUP_BY",
        "orders.status GROUP_BY",
    }
    assert dataset("select drink from main.orders union all select drink from main.menu") == set()
    assert dataset("select drink from main.orders union select drink from main.menu") == {
        "menu.drink GROUP_BY",
        "orders.drink GROUP_BY",
    }
    sql = "select distinct on (guest_id) id from main.orders order by guest_id, ordered_at"
    assert dataset(sql, "postgres") == {"orders.guest_id GROUP_BY+SORT", "orders.ordered_at SORT"}


def test_clickhouse_limits_by_group() -> None:
    sql = "select drink from main.orders prewhere cents > 3 order by id limit 1 by guest_id"
    assert dataset(sql, "clickhouse") == {"orders.cents FILTER", "orders.id SORT", "orders.guest_id GROUP_BY"}


def test_each_kind_of_transformation_has_its_type() -> None:
    found = analysed(
        """
        select id, upper(drink) as u, max(cents) over (partition by guest_id) as m, if(status = '', 1, 2) as c
        from main.orders join main.menu using (drink) where price > 1
        group by all order by extras
        """
    )
    types = {
        each.subtype: each.type
        for one in [*found.dataset, *(one for column in found.columns for one in column.inputs)]
        for each in one.transformations
    }
    direct = dict.fromkeys(("IDENTITY", "TRANSFORMATION", "AGGREGATION"), "DIRECT")
    indirect = dict.fromkeys(("WINDOW", "CONDITIONAL", "JOIN", "FILTER", "GROUP_BY", "SORT"), "INDIRECT")
    assert types == direct | indirect


# --- along a chain of queries -----------------------------------------------------------------------------------------


def test_the_strongest_step_of_a_chain_holds() -> None:
    sql = """
    with source as (select * from main.orders),
    lowered as (select guest_id, lower(drink) as drink, cents from source),
    counted as (select guest_id as guest, max(drink) as last_drink, sum(cents) as cents from lowered group by guest_id),
    final as (select guest, last_drink, cents / 100 as euros from counted)
    select * from final
    """
    assert lineage(sql) == {
        "guest": {"orders.guest_id"},
        "last_drink": {"orders.drink AGGREGATION"},
        "euros": {"orders.cents AGGREGATION"},
    }


def test_what_steers_a_column_steers_what_is_made_of_it() -> None:
    sql = """
    with ranked as (
        select *, row_number() over (partition by guest_id order by ordered_at) as place from main.orders
    )
    select place + 1 as next_place, case when place = 1 then drink end as first_drink from ranked where place < 3
    """
    found = analysed(sql)
    assert fields(found) == {
        "next_place": {"orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
        "first_drink": {
            "orders.drink TRANSFORMATION",
            "orders.guest_id CONDITIONAL",
            "orders.ordered_at CONDITIONAL",
        },
    }
    assert edges(found.dataset) == {"orders.guest_id FILTER", "orders.ordered_at FILTER"}


def test_two_paths_to_one_column_both_count() -> None:
    sql = "select cents from main.orders union all select sum(cents) from main.orders"
    assert lineage(sql) == {"cents": {"orders.cents IDENTITY+AGGREGATION"}}


def test_a_diamond_of_ctes_is_no_matter_of_its_paths() -> None:
    steps = ["step0 as (select id, cents, drink from main.orders)"]
    steps += [
        f"step{n} as (select a.*, a.cents + b.cents as cents{n} "
        f"from step{n - 1} a join step{n - 1} b on a.id = b.id union all select *, 0 from step{n - 1})"
        for n in range(1, 60)
    ]
    started = time.process_time()
    found = analysed(f"with {', '.join(steps)} select * from step59")
    assert time.process_time() - started < 5
    assert fields(found)["id"] == {"orders.id"}
    assert fields(found)["cents59"] == {"orders.cents TRANSFORMATION"}
    assert edges(found.dataset) == {"orders.id JOIN"}


def test_a_cte_hides_a_table_of_its_name_and_reads_it() -> None:
    assert lineage("with orders as (select id from main.orders), x as (select * from orders) select * from x") == {
        "id": {"orders.id"}
    }
    schema = Schema()
    schema.add((None, None, "orders"), [("id", None)])
    found = analysed("with orders as (select * from orders) select * from orders", schema=schema)
    assert fields(found) == {"id": {"orders.id"}}


RECURSION = """
with recursive chain as (
    select id, name, 1 as depth from main.guests where email is null
    union all
    select g.id, chain.name || g.name, depth + 1 from main.guests g join chain on g.id = chain.id
)
select * from chain
"""


def test_a_recursive_cte_is_read_until_nothing_new_is_found() -> None:
    found = analysed(RECURSION)
    assert fields(found) == {"id": {"guests.id"}, "name": {"guests.name IDENTITY+TRANSFORMATION"}, "depth": set()}
    assert edges(found.dataset) == {"guests.email FILTER", "guests.id JOIN"}
    shifted = """
    with recursive r (a, b, c) as (
        select id, 0, 0 from main.orders union all select 0, a, b from r
    )
    select * from r
    """
    assert lineage(shifted) == {"a": {"orders.id"}, "b": {"orders.id"}, "c": {"orders.id"}}


def test_recursion_needs_no_word_in_some_dialects() -> None:
    sql = """
    with chain as (select id, name from main.guests union all select c.id, c.name from chain c)
    select id from chain
    """
    for adapter in ("sqlserver", "oracle", "snowflake"):
        assert list(lineage(sql, adapter).values()) == [{"guests.id"}], adapter


# --- set operations ---------------------------------------------------------------------------------------------------


def test_a_union_goes_by_place() -> None:
    sql = """
    select id, name as what from main.guests
    union all select id, drink from main.orders
    union select 0, drink from main.menu
    """
    assert lineage(sql) == {"id": {"guests.id", "orders.id"}, "what": {"guests.name", "orders.drink", "menu.drink"}}


def test_a_union_by_name_goes_by_name() -> None:
    sql = "select id, name from main.guests union all by name select drink as name, id, cents from main.orders"
    assert lineage(sql) == {
        "id": {"guests.id", "orders.id"},
        "name": {"guests.name", "orders.drink"},
        "cents": {"orders.cents"},
    }


def test_except_and_intersect_filter_by_what_they_compare() -> None:
    for word in ("except", "intersect"):
        found = analysed(f"select drink from main.orders {word} select drink from main.menu where price > 3")
        assert fields(found) == {"drink": {"orders.drink"}}
        assert edges(found.dataset) == {"orders.drink FILTER", "menu.drink FILTER", "menu.price FILTER"}


def test_brackets_and_order_around_a_union() -> None:
    sql = """
    (select id, drink from main.orders order by cents limit 1)
    union all
    (with m as (select 1 as id, drink from main.menu) select * from m)
    order by drink
    """
    found = analysed(sql, "postgres")
    assert fields(found) == {"id": {"orders.id"}, "drink": {"orders.drink", "menu.drink"}}
    assert edges(found.dataset) == {"orders.cents SORT", "orders.drink SORT", "menu.drink SORT"}


# --- stars ------------------------------------------------------------------------------------------------------------

STARS = [
    ("duckdb", "select * exclude (email) from main.guests", {"id": {"guests.id"}, "name": {"guests.name"}}),
    ("snowflake", "select * exclude email from main.guests", {"id": {"guests.id"}, "name": {"guests.name"}}),
    ("bigquery", "select * except (email, id) from main.guests", {"name": {"guests.name"}}),
    ("databricks", "select * except (email, id) from main.guests", {"name": {"guests.name"}}),
    (
        "bigquery",
        "select * replace (upper(name) as name) from main.guests",
        {"id": {"guests.id"}, "name": {"guests.name TRANSFORMATION"}, "email": {"guests.email"}},
    ),
    (
        "snowflake",
        "select * exclude id rename (name as guest) from main.guests",
        {"GUEST": {"guests.name"}, "email": {"guests.email"}},
    ),
    ("snowflake", "select * ilike '%M%' from main.guests", {"name": {"guests.name"}, "email": {"guests.email"}}),
    ("snowflake", "select * ilike '_d' rename id as guest from main.guests", {"GUEST": {"guests.id"}}),
    (
        "duckdb",
        "select g.*, o.drink from main.guests g join main.orders o on o.guest_id = g.id",
        {"id": {"guests.id"}, "name": {"guests.name"}, "email": {"guests.email"}, "drink": {"orders.drink"}},
    ),
    (
        "duckdb",
        "select * from main.menu join main.guests on true",
        {
            "drink": {"menu.drink"},
            "price": {"menu.price"},
            "made_of": {"menu.made_of"},
            "id": {"guests.id"},
            "name": {"guests.name"},
            "email": {"guests.email"},
        },
    ),
    (
        "duckdb",
        "from main.guests select columns(*)",
        {"id": {"guests.id"}, "name": {"guests.name"}, "email": {"guests.email"}},
    ),
    ("duckdb", "select x.* from (select id as a from main.guests) as x(b)", {"b": {"guests.id"}}),
    (
        "postgres",
        "select x.* from (main.menu m join (select id from main.guests) g on g.id = m.price) as x",
        {"drink": {"menu.drink"}, "price": {"menu.price"}, "made_of": {"menu.made_of"}, "id": {"guests.id"}},
    ),
    (
        "bigquery",
        "select * replace (1 as id), name as again from main.guests",
        {"id": set(), "name": {"guests.name"}, "email": {"guests.email"}, "again": {"guests.name"}},
    ),
    (
        "spark",
        "select * from main.guests g left semi join main.orders o on o.guest_id = g.id",
        {"id": {"guests.id"}, "name": {"guests.name"}, "email": {"guests.email"}},
    ),
    (
        "snowflake",
        "select hash(*) as h from main.guests",
        {"H": {f"guests.{name} TRANSFORMATION" for name in ("id", "name", "email")}},
    ),
    (
        "postgres",
        "select to_json(g) as j from main.guests g",
        {"j": {f"guests.{name} TRANSFORMATION" for name in ("id", "name", "email")}},
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "expected"), STARS)
def test_a_star_stands_for(adapter: str, sql: str, expected: Edges) -> None:
    found = analysed(sql, adapter)
    assert fields(found) == expected
    assert found.complete


MERGED = [
    ("duckdb", "join main.menu using (drink)", {"orders.drink"}),
    ("duckdb", "left join main.menu using (drink)", {"orders.drink"}),
    ("duckdb", "natural join main.menu", {"orders.drink"}),
    ("postgres", "right join main.menu using (drink)", {"menu.drink"}),
    ("postgres", "full join main.menu using (drink)", {"orders.drink TRANSFORMATION", "menu.drink TRANSFORMATION"}),
]


@pytest.mark.parametrize(("adapter", "join", "expected"), MERGED)
def test_a_column_that_two_sides_share_comes_from(adapter: str, join: str, expected: set[str]) -> None:
    assert lineage(f"select drink from main.orders {join}", adapter) == {"drink": expected}
    starred = analysed(f"select * from main.orders {join}", adapter)
    assert fields(starred)["drink"] == expected
    place = [column.name for column in starred.columns].index("drink")
    assert place == (2 if adapter == "duckdb" else 0)
    assert len(starred.columns) == 9


NUMBERED = [
    ("select id, id, ID as id_1, id, name from main.guests", ["id", "id_1", "id_1_1", "id_2", "name"]),
    ("select * from main.menu a join main.menu b using (drink)", ["drink", "price", "made_of", "price_1", "made_of_1"]),
    (
        "with g as (select * exclude (email) from main.guests), t as (select * from g a, g b) select * from t, g",
        ["id", "name", "id_1", "name_1", "id_2", "name_2"],
    ),
]


@pytest.mark.parametrize(("sql", "names"), NUMBERED)
def test_duckdb_numbers_the_further_columns_of_a_name(sql: str, names: list[str]) -> None:
    assert [column.name for column in analysed(sql).columns] == names
    connection = duckdb.connect()
    connection.execute("attach ':memory:' as cafe; use cafe.main; create table guests (id int, name text, email text)")
    connection.execute("create table menu (drink text, price int, made_of int)")
    connection.execute(f"create table built as {sql}")
    assert [row[0] for row in connection.execute("describe built").fetchall()] == names


def test_postgres_gives_a_name_again() -> None:
    sql = "select a.*, b.* from main.guests a, main.guests b"
    assert [column.name for column in analysed(sql, "postgres").columns] == ["id", "name", "email"] * 2


def test_elsewhere_a_star_gives_a_name_once() -> None:
    sql = "select * from main.orders a join main.orders b on a.id = b.guest_id join main.menu on true"
    names = ["id", "guest_id", "drink", "cents", "status", "ordered_at", "extras", "price", "made_of"]
    assert [column.name for column in analysed(sql, "bigquery").columns] == names


UNNAMED = [
    ("duckdb", "select id, array(select 1), exists (select 1) from main.orders", ["id"]),
    (
        "vertica",
        "select id, cents::int, (drink), cast(upper(status) as text) from main.orders",
        ["id", "cents", "drink"],
    ),
    ("bigquery", "select (made_of).milk, 1 from main.menu", ["milk"]),
    (
        "postgres",
        "select o.extras.upper(drink), (o.extras).*, extract(day from ordered_at) from main.orders o",
        ["upper", "extract"],
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "names"), UNNAMED)
def test_a_column_whose_name_the_warehouse_makes_up_is_left_out(adapter: str, sql: str, names: list[str]) -> None:
    found = analysed(sql, adapter)
    assert [column.name for column in found.columns] == names
    assert found.gaps == ("columns without an alias, which the warehouse names",)


def test_each_cause_of_a_gap_is_told() -> None:
    star = "a `*` (or PIVOT, COLUMNS) is over a relation whose columns aren't all known"
    unnamed = "columns without an alias, which the warehouse names"
    assert analysed("select id, upper(drink) as d from lake.raw.taps").gaps == ()
    assert analysed("select * from lake.raw.taps").gaps == (star,)
    assert analysed("with t as (select exists (select 1) from lake.raw.taps) select * from t").gaps == (unnamed,)
    assert analysed("select *, exists (select 1) from lake.raw.taps").gaps == (star, unnamed)


def test_a_column_without_a_name_keeps_its_place() -> None:
    sql = "with n (a, b) as (select upper(name), id from main.guests) select * from n"
    assert lineage(sql) == {"a": {"guests.name TRANSFORMATION"}, "b": {"guests.id"}}


# --- relations that nobody knows --------------------------------------------------------------------------------------


def test_of_an_unknown_relation_what_the_sql_says_is_told() -> None:
    sql = """
    with source as (select * from lake.raw.taps),
    renamed as (select id as tap_id, lower(beer) as beer, beer = '' as is_empty from source)
    select *, tap_id * 2 as twice from renamed
    """
    found = analysed(sql)
    assert fields(found) == {
        "tap_id": {"taps.id"},
        "beer": {"taps.beer TRANSFORMATION"},
        "is_empty": {"taps.beer TRANSFORMATION"},
        "twice": {"taps.id TRANSFORMATION"},
    }
    assert found.complete
    assert found.relations == (("lake", "raw", "taps"),)


def test_a_star_by_a_function_leaves_the_columns_incomplete() -> None:
    found = analysed("select columns(lambda c: c[1] = 'i'), name as n from main.guests")
    assert fields(found) == {"n": {"guests.name"}}
    assert not found.complete


def test_a_star_over_an_unknown_relation_leaves_the_columns_incomplete() -> None:
    found = analysed("select *, id as copy from lake.raw.taps join main.menu on true")
    assert not found.complete
    assert fields(found) == {
        "drink": {"menu.drink"},
        "price": {"menu.price"},
        "made_of": {"menu.made_of"},
        "copy": {"taps.id"},
    }


def test_nobody_knows_which_columns_of_an_unknown_relation_a_pattern_fits() -> None:
    found = analysed("select * ilike '%d%', id as copy from lake.raw.taps", "snowflake")
    assert fields(found) == {"COPY": {"TAPS.ID"}}
    assert not found.complete


def test_a_name_that_may_be_of_two_unknown_relations_is_of_none() -> None:
    sql = "select a.id, b.id as other, beer from lake.raw.taps a join lake.raw.kegs b using (keg)"
    found = analysed(sql)
    assert fields(found) == {"id": {"taps.id"}, "other": {"kegs.id"}, "beer": set()}
    assert edges(found.dataset) == {"taps.keg JOIN", "kegs.keg JOIN"}


def test_nobody_knows_whose_the_columns_of_a_star_over_two_unknown_relations_are() -> None:
    sql = """
    with both as (select * from lake.raw.taps a, lake.raw.kegs b),
    more as (select * from both union all select *, 1 as x from lake.raw.mugs)
    select id, x from more
    """
    assert lineage(sql) == {"id": set(), "x": set()}


def test_unknown_relations_in_a_union_both_have_a_name() -> None:
    sql = "with u as (select * from lake.raw.taps union all select * from lake.raw.kegs) select id from u"
    assert lineage(sql) == {"id": {"taps.id", "kegs.id"}}
    assert not analysed("select * from lake.raw.taps union all select * from main.menu").complete


def test_a_relation_whose_columns_are_all_known_has_no_others() -> None:
    assert lineage("select rowid, nextval from main.orders o") == {"rowid": set(), "nextval": set()}
    assert lineage("with s as (select * from main.orders) select tip from s") == {"tip": set()}
    assert lineage("select (select max(price) from main.menu where tip > price) as m from main.orders") == {
        "m": {"menu.price AGGREGATION+FILTER"}
    }


def test_columns_that_are_known_in_part_are_told_and_not_taken_for_all() -> None:
    schema = bar()
    schema.add(MENU, [("drink", "VARCHAR")], complete=False)
    found = analysed("select * from main.menu", schema=schema)
    assert fields(found) == {"drink": {"menu.drink"}}
    assert not found.complete
    assert lineage("select drink, price from main.menu", schema=schema) == {
        "drink": {"menu.drink"},
        "price": {"menu.price"},
    }


# --- the model itself -------------------------------------------------------------------------------------------------

LOYAL: Relation = ("cafe", "main", "loyal")


def test_what_an_incremental_model_reads_of_itself_is_no_input() -> None:
    schema = bar()
    schema.add(LOYAL, [("guest_id", "INTEGER"), ("ordered_at", "TIMESTAMP")])
    sql = """
    select guest_id, ordered_at from "cafe"."main"."orders"
    where ordered_at > (select max(ordered_at) from "cafe"."main"."loyal")
    """
    found = analysed(sql, schema=schema, this=LOYAL)
    assert fields(found) == {"guest_id": {"orders.guest_id"}, "ordered_at": {"orders.ordered_at"}}
    assert edges(found.dataset) == {"orders.ordered_at FILTER"}
    assert found.relations == (ORDERS,)


@pytest.mark.parametrize("known", [True, False])
def test_nor_is_it_where_its_rows_are_kept(known: bool) -> None:
    schema = bar()
    if known:
        schema.add(LOYAL, [("guest_id", "INTEGER")])
    sql = "select guest_id from main.orders union all select guest_id from main.loyal where guest_id > 3"
    found = analysed(sql, schema=schema, this=LOYAL)
    assert fields(found) == {"guest_id": {"orders.guest_id"}}
    assert found.dataset == ()


def test_without_the_name_of_the_model_it_is_an_input_like_others() -> None:
    assert lineage("select id from main.loyal") == {"id": {"loyal.id"}}


# --- sources that are no tables ---------------------------------------------------------------------------------------

SOURCES = [
    ("duckdb", "select a, b from (values (1, 2), (3, 4)) as v(a, b)", {"a": set(), "b": set()}),
    ("postgres", "select column1 from (values (1)) v", {"column1": set()}),
    ("duckdb", "select x from main.orders, unnest(extras) as u(x)", {"x": {"orders.extras TRANSFORMATION"}}),
    ("postgres", "select x from main.orders, unnest(extras) as x", {"x": {"orders.extras TRANSFORMATION"}}),
    ("postgres", "select g from generate_series(1, 3) as g", {"g": set()}),
    (
        "trino",
        "select x, n from main.orders cross join unnest(extras, array[status]) with ordinality as u(x, y, n)",
        {"x": {"orders.extras TRANSFORMATION"}, "n": {"orders.extras TRANSFORMATION", "orders.status TRANSFORMATION"}},
    ),
    (
        "bigquery",
        "select extra, extra.kind, place from main.orders, unnest(extras) as extra with offset as place",
        {
            "extra": {"orders.extras TRANSFORMATION"},
            "kind": {"orders.extras TRANSFORMATION"},
            "place": {"orders.extras TRANSFORMATION"},
        },
    ),
    (
        "bigquery",
        "select array(select x from unnest(o.extras) x where x > o.cents) as xs from main.orders o",
        {
            "xs": {"orders.extras TRANSFORMATION+JOIN+FILTER", "orders.cents FILTER"},
        },
    ),
    (
        "snowflake",
        "select f.value:kind::string as kind, index from main.orders o, lateral flatten(input => o.extras) f",
        {"KIND": {"orders.extras TRANSFORMATION"}, "INDEX": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "snowflake",
        "select value from main.orders o, table(flatten(input => o.extras))",
        {"VALUE": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "spark",
        "select id, place, extra from main.orders lateral view posexplode(extras) e as place, extra",
        {"id": {"orders.id"}, "place": {"orders.extras TRANSFORMATION"}, "extra": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "redshift",
        "select o.id, e.kind, e from main.orders o, o.extras as e",
        {"id": {"orders.id"}, "kind": {"orders.extras TRANSFORMATION"}, "e": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "clickhouse",
        "select id, extra from main.orders array join extras as extra",
        {"id": {"orders.id"}, "extra": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "sqlserver",
        "select j.kind from main.orders o cross apply openjson(o.extras) with (kind varchar(9) '$.kind') j",
        {"kind": {"orders.extras TRANSFORMATION"}},
    ),
    (
        "postgres",
        "select m.p from main.orders o cross join lateral (select price as p from main.menu where drink = o.drink) m",
        {"p": {"menu.price"}},
    ),
    (
        "sqlserver",
        "select x.price from main.orders o outer apply (select top 1 price from main.menu m where m.drink = o.drink) x",
        {"price": {"menu.price"}},
    ),
    ("duckdb", "select * from read_csv('x.csv') as t(a, b)", {"a": set(), "b": set()}),
    (
        "spark",
        "select explode(extras) as (k, v) from main.orders",
        {name: {"orders.extras TRANSFORMATION"} for name in "kv"},
    ),
    (
        "spark",
        "select transform(drink, id) using 'cat' as (a, b) from main.orders",
        {name: {"orders.drink TRANSFORMATION", "orders.id TRANSFORMATION"} for name in "ab"},
    ),
    ("snowflake", "select t.$1 as a from @stage/file.csv t", {"A": set()}),
    ("bigquery", "select _partitiontime as p from main.orders", {"p": set()}),
    (
        "postgres",
        """
        select o.id, f.* from main.orders o,
        rows from (generate_series(1, o.cents), unnest(array[o.status])) as f (n, status)
        """,
        {
            "id": {"orders.id"},
            "n": {"orders.cents TRANSFORMATION", "orders.status TRANSFORMATION"},
            "status": {"orders.cents TRANSFORMATION", "orders.status TRANSFORMATION"},
        },
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "expected"), SOURCES)
def test_a_source_that_is_no_table_gives(adapter: str, sql: str, expected: Edges) -> None:
    assert lineage(sql, adapter) == expected


def test_a_lateral_query_filters_by_what_it_looks_at() -> None:
    sql = """
    select m.price from main.orders o,
    lateral (select price from main.menu where drink = o.drink order by price limit 1) m
    """
    assert dataset(sql, "postgres") == {"menu.drink FILTER", "orders.drink FILTER", "menu.price SORT"}


PIVOTS = [
    (
        "snowflake",
        """
        select * from (select guest_id, status, cents from main.orders)
        pivot (sum(cents) for status in ('paid', 'open')) as p (guest, paid, open)
        """,
        {
            "GUEST": {"orders.guest_id"},
            "PAID": {"orders.cents AGGREGATION", "orders.status CONDITIONAL"},
            "OPEN": {"orders.cents AGGREGATION", "orders.status CONDITIONAL"},
        },
    ),
    (
        "bigquery",
        """
        select * from (select guest_id, status, cents, id from main.orders)
        pivot (sum(cents) as total, count(id) as n for status in ('paid'))
        """,
        {
            "guest_id": {"orders.guest_id"},
            "total_paid": {"orders.cents AGGREGATION", "orders.status CONDITIONAL"},
            "n_paid": {"orders.id AGGREGATION", "orders.status CONDITIONAL"},
        },
    ),
    (
        "databricks",
        "select * from (select id, drink, status from main.orders) unpivot (what for kind in (drink, status))",
        {"id": {"orders.id"}, "kind": set(), "what": {"orders.drink", "orders.status"}},
    ),
    (
        "bigquery",
        """
        select * from (select id, drink, status, cents, guest_id from main.orders)
        unpivot ((what, much) for kind in ((drink, cents) as 'a', (status, guest_id) as 'b'))
        """,
        {
            "id": {"orders.id"},
            "kind": set(),
            "what": {"orders.drink", "orders.status"},
            "much": {"orders.cents", "orders.guest_id"},
        },
    ),
    (
        "snowflake",
        "select * from (select id, drink, status from main.orders) unpivot (what for kind in (drink, status))",
        {"ID": {"orders.id"}, "KIND": set(), "WHAT": {"orders.drink", "orders.status"}},
    ),
    (
        "duckdb",
        "unpivot main.guests on name, email into name kind value what",
        {"id": {"guests.id"}, "kind": set(), "what": {"guests.name", "guests.email"}},
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "expected"), PIVOTS)
def test_a_pivot_gives(adapter: str, sql: str, expected: Edges) -> None:
    assert lineage(sql, adapter) == expected


MATCHES = [
    (
        "snowflake",
        """
        select * from main.orders match_recognize (
            partition by guest_id order by ordered_at
            measures first(drink) as first_drink, sum(dear.cents) as cost, match_number() as n
            one row per match pattern (start_ dear+) define dear as dear.cents > lag(cents)
        )
        """,
        {
            "GUEST_ID": {"orders.guest_id"},
            "FIRST_DRINK": {"orders.drink AGGREGATION", "orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
            "COST": {"orders.cents AGGREGATION", "orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
            "N": {"orders.guest_id WINDOW", "orders.ordered_at WINDOW"},
        },
        {"orders.guest_id FILTER", "orders.ordered_at FILTER", "orders.cents FILTER"},
    ),
    (
        "snowflake",
        """
        select * from (select id, cents from main.orders) match_recognize (
            order by id measures last(cents) as most
            all rows per match pattern (up+) define up as cents > 3
        ) where most > 4
        """,
        {"ID": {"orders.id"}, "CENTS": {"orders.cents"}, "MOST": {"orders.cents AGGREGATION", "orders.id WINDOW"}},
        {"orders.id FILTER", "orders.cents FILTER"},
    ),
    (
        "trino",
        """
        select m.guest, m.cost, g.name from main.orders o match_recognize (
            partition by guest_id measures sum(a.cents) as cost pattern (a b+) define b as b.status = 'paid'
        ) as m (guest, cost) join main.guests g on g.id = m.guest
        """,
        {
            "guest": {"orders.guest_id"},
            "cost": {"orders.cents AGGREGATION", "orders.guest_id WINDOW"},
            "name": {"guests.name"},
        },
        {"orders.guest_id JOIN+FILTER", "orders.status FILTER", "guests.id JOIN"},
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "expected", "of_dataset"), MATCHES)
def test_a_pattern_of_rows_gives(adapter: str, sql: str, expected: Edges, of_dataset: set[str]) -> None:
    found = analysed(sql, adapter)
    assert fields(found) == expected
    assert edges(found.dataset) == of_dataset
    assert found.complete


def test_all_the_rows_of_a_pattern_have_the_columns_of_what_it_is_found_in() -> None:
    sql = """
    select * from lake.raw.taps match_recognize (
        order by id measures last(beer) as b {rows} pattern (a+) define a as a.beer <> ''
    )
    """
    one, every = (analysed(sql.format(rows=f"{rows} per match"), "snowflake") for rows in ("one row", "all rows"))
    assert fields(one) == fields(every) == {"B": {"TAPS.BEER AGGREGATION", "TAPS.ID WINDOW"}}
    assert one.complete
    assert not every.complete


def test_the_columns_of_a_pivot_by_values_are_known_to_the_database_only() -> None:
    found = analysed("pivot main.orders on status using sum(cents) group by guest_id, drink")
    assert fields(found) == {"guest_id": {"orders.guest_id"}, "drink": {"orders.drink"}}
    assert not found.complete
    sql = "with p as (pivot main.orders on status using sum(cents) group by guest_id) select paid, guest_id from p"
    assert lineage(sql) == {
        "paid": {"orders.cents AGGREGATION", "orders.status CONDITIONAL"},
        "guest_id": {"orders.guest_id"},
    }


def test_a_pivot_groups_by_what_it_leaves() -> None:
    sql = "select * from (select guest_id, status, cents from main.orders) pivot (sum(cents) for status in ('paid'))"
    assert dataset(sql, "snowflake") == {"orders.guest_id GROUP_BY"}


# --- names ------------------------------------------------------------------------------------------------------------

LATERAL_ALIASES = """
select cents * 2 as twice, twice + id as more, case when more > 3 then 1 end as many from main.orders where more > 1
"""


@pytest.mark.parametrize("adapter", ["snowflake", "duckdb", "redshift", "databricks"])
def test_an_alias_can_be_used_beside_itself(adapter: str) -> None:
    found = analysed(LATERAL_ALIASES, adapter)
    assert [edges(column.inputs) for column in found.columns] == [
        {"orders.cents TRANSFORMATION"},
        {"orders.cents TRANSFORMATION", "orders.id TRANSFORMATION"},
        {"orders.cents CONDITIONAL", "orders.id CONDITIONAL"},
    ]
    assert edges(found.dataset) == {"orders.cents FILTER", "orders.id FILTER"}


def test_a_source_column_stands_before_an_alias_of_its_name() -> None:
    assert lineage("select drink as cents, cents + 1 as more from main.orders") == {
        "cents": {"orders.drink"},
        "more": {"orders.cents TRANSFORMATION"},
    }


def test_names_are_found_however_they_are_quoted() -> None:
    schema = Schema()
    schema.add(("my db", "a.b", 'c"d'), [("é t", None), ("a.b", None), ("ÜBER", None)])
    sql = 'select "é t", x."a.b" as "1", "über" from "my db"."a.b"."c""d" x'
    assert lineage(sql, "duckdb", schema) == {"é t": {'c"d.é t'}, "1": {'c"d.a.b'}, "ÜBER": {'c"d.ÜBER'}}
    tables = Schema()
    tables.add((None, "caffè", "bestellungen für 日本"), [("größe", None)])
    found = analysed("select `größe` as `大きさ` from `caffè`.`bestellungen für 日本`", "databricks", tables)
    assert fields(found) == {"大きさ": {"bestellungen für 日本.größe"}}


FOLDS = [
    ("snowflake", 'select id, Name as Nm, "Odd" from DB.Sc.Tab', ["ID", "NM", "Odd"]),
    ("postgres", 'select ID, Name as Nm, "Odd" from DB.Sc.Tab', ["id", "nm", "Odd"]),
    ("oracle", 'select id, Name as Nm, "Odd" from DB.Sc.Tab', ["ID", "NM", "Odd"]),
    ("duckdb", 'select ID, Name as Nm, "Odd" from DB.Sc.Tab', ["ID", "Nm", "Odd"]),
    ("bigquery", "select ID, Name as Nm, `Odd` from DB.Sc.Tab", ["ID", "Nm", "Odd"]),
    ("sqlserver", "select ID, Name as Nm, [Odd] from DB.Sc.Tab", ["ID", "Nm", "Odd"]),
]


@pytest.mark.parametrize(("adapter", "sql", "names"), FOLDS)
def test_a_column_is_called_as_the_warehouse_will_call_it(adapter: str, sql: str, names: list[str]) -> None:
    assert [column.name for column in analysed(sql, adapter, Schema()).columns] == names


RELATIONS = [
    ("snowflake", "db.sc.tab", ("DB", "SC", "TAB")),
    ("snowflake", '"db".sc."t.b"', ("db", "SC", "t.b")),
    ("postgres", 'DB.Sc."Tab"', ("db", "sc", "Tab")),
    ("redshift", "DB.Sc.Tab", ("DB", "Sc", "Tab")),
    ("bigquery", "`my-project`.Data.`Tab`", ("my-project", "Data", "Tab")),
    ("bigquery", "`my-project.Data.Tab`", ("my-project", "Data", "Tab")),
    ("spark", "`sc`.`tab`", (None, "sc", "tab")),
    ("sqlserver", "[db].[sc].[o t]", ("db", "sc", "o t")),
    ("clickhouse", "`Sc`.`Tab`", (None, "Sc", "Tab")),
    ("trino", "tab", (None, None, "tab")),
]


@pytest.mark.parametrize(("adapter", "name", "relation"), RELATIONS)
def test_a_relation_is_named_as_the_dialect_folds(adapter: str, name: str, relation: Relation) -> None:
    assert analysed(f"select 1 as one from {name}", adapter, Schema()).relations == (relation,)


def test_of_two_sources_with_one_name_each_can_be_meant() -> None:
    schema = Schema()
    for name in ("here", "there"):
        schema.add(("d", name, "t"), [("id", None)])
    found = analysed("select here.t.id as a, there.t.id as b from d.here.t, d.there.t", "postgres", schema)
    assert [[one.field.relation for one in column.inputs] for column in found.columns] == [
        [("d", "here", "t")],
        [("d", "there", "t")],
    ]


def test_a_field_of_a_struct_is_a_part_of_its_column() -> None:
    sql = "select made_of.milk, m.made_of.beans.origin, made_of from main.menu m"
    expected = {
        "milk": {"menu.made_of TRANSFORMATION"},
        "origin": {"menu.made_of TRANSFORMATION"},
        "made_of": {"menu.made_of"},
    }
    assert lineage(sql, "bigquery") == expected
    assert lineage(sql, "duckdb") == expected
    assert not analysed("select m.made_of.* from main.menu m", "bigquery").complete


# --- the registry -----------------------------------------------------------------------------------------------------


def test_a_relation_is_found_by_any_case_and_by_fewer_parts() -> None:
    schema = Schema("snowflake")
    schema.add(("DB", "SC", "TAB"), [("ID", "NUMBER")])
    for name in (("DB", "SC", "TAB"), ("db", "sc", "tab"), (None, "sc", "Tab"), (None, None, "tab")):
        assert schema.find(name) == ("DB", "SC", "TAB")
        assert schema.columns(name) == (("ID", "NUMBER"),)
    assert schema.columns(("other", "sc", "tab")) is None
    assert schema.find(("db", "sc", "x")) == ("db", "sc", "x")


def test_a_relation_without_a_database_is_found_by_a_name_that_has_one() -> None:
    schema = Schema("spark")
    schema.add((None, "sc", "tab"), [("id", None)])
    assert schema.columns(("spark_catalog", "sc", "tab")) == (("id", None),)


def test_of_two_relations_that_fit_none_is_found() -> None:
    schema = Schema("postgres")
    schema.add(("d", "a", "t"), [("x", None)])
    schema.add(("d", "b", "t"), [("y", None)])
    assert schema.columns((None, None, "t")) is None
    assert schema.columns((None, "b", "t")) == (("y", None),)


def test_names_that_differ_in_case_only_are_told_apart() -> None:
    for adapter in ("bigquery", "postgres"):
        schema = Schema(adapter)
        schema.add(("d", "s", "Tab"), [("x", None)])
        schema.add(("d", "s", "tab"), [("y", None)])
        assert schema.columns(("d", "s", "tab")) == (("y", None),)
        assert schema.columns(("d", "s", "Tab")) == (("x", None),)
        assert schema.columns(("d", "s", "TAB")) is None
    assert Schema("bigquery").key(("d", "s", "Tab")) != Schema("bigquery").key(("d", "s", "tab"))
    assert Schema("postgres").key(("D", "", "Tab")) == ("d", None, "tab")


def test_what_is_said_later_holds() -> None:
    schema = Schema()
    schema.add(("d", "s", "t"), [("a", None)], complete=False)
    assert not schema.complete(("d", "s", "t"))
    schema.add(("d", "s", "t"), [("b", None)])
    assert schema.complete(("D", "S", "T"))
    assert schema.columns(("d", "s", "t")) == (("b", None),)
    assert not schema.complete(("d", "s", "other"))


# --- types ------------------------------------------------------------------------------------------------------------


def test_types_are_told_where_they_are_certain() -> None:
    sql = """
    with o as (select *, count(*) over () as n from main.orders)
    select id, cast(cents as decimal(9, 2)) as euros, drink::text as d, count(*) as n, max(ordered_at) as last,
           cents + 1 as more, (id) as same, try_cast(status as date) as day
    from o group by all
    """
    types = {column.name: column.data_type for column in analysed(sql).columns}
    assert types == {
        "id": "INTEGER",
        "euros": "DECIMAL(9, 2)",
        "d": "TEXT",
        "n": "BIGINT",
        "last": "TIMESTAMP",
        "more": None,
        "same": "INTEGER",
        "day": "DATE",
    }


def test_a_union_has_a_type_if_its_branches_agree() -> None:
    sql = "select id, drink as x from main.orders union all select id, id from main.guests"
    assert {column.name: column.data_type for column in analysed(sql).columns} == {"id": "INTEGER", "x": None}


def test_types_are_spelt_in_the_dialect() -> None:
    sql = "select cast(drink as int64) as a, count(*) as n from main.orders"
    assert [column.data_type for column in analysed(sql, "bigquery").columns] == ["INT64", "INT64"]


# --- dialects ---------------------------------------------------------------------------------------------------------

DIALECTS = [
    (
        "sqlserver",
        "select top 3 total = sum(cents), isnull(drink, status) as d from [main].[orders] with (nolock)",
        {
            "total": {"orders.cents AGGREGATION"},
            "d": {"orders.drink TRANSFORMATION+CONDITIONAL", "orders.status TRANSFORMATION+CONDITIONAL"},
        },
    ),
    (
        "clickhouse",
        """
        with upper(drink) as loud
        select loud, sumIf(cents, status = 'x') as s, argMax(drink, ordered_at) as d from main.orders final
        """,
        {
            "loud": {"orders.drink TRANSFORMATION"},
            "s": {"orders.cents AGGREGATION", "orders.status CONDITIONAL"},
            "d": {"orders.drink AGGREGATION", "orders.ordered_at SORT"},
        },
    ),
    (
        "clickhouse",
        "select multiIf(status = 'x', cents, drink = 'y', id, guest_id) as m from main.orders",
        {
            "m": {
                *("orders.status CONDITIONAL", "orders.drink CONDITIONAL"),
                *(f"orders.{name} TRANSFORMATION" for name in ("cents", "id", "guest_id")),
            },
        },
    ),
    (
        "trino",
        "select try_cast(cents as double) as c, max_by(drink, ordered_at) as d from main.orders",
        {"c": {"orders.cents TRANSFORMATION"}, "d": {"orders.drink AGGREGATION", "orders.ordered_at SORT"}},
    ),
    (
        "databricks",
        "select extras:milk.kind::string as k, date_add(ordered_at, 1) as d from main.orders",
        {"k": {"orders.extras TRANSFORMATION"}, "d": {"orders.ordered_at TRANSFORMATION"}},
    ),
    (
        "snowflake",
        """
        select
            iff(status = 'x', cents, 0) as a, decode(status, 'x', drink, extras) as b, nvl2(status, cents, id) as c,
            extras:milk as m
        from main.orders
        """,
        {
            "A": {"orders.status CONDITIONAL", "orders.cents TRANSFORMATION"},
            "B": {"orders.status CONDITIONAL", "orders.drink TRANSFORMATION", "orders.extras TRANSFORMATION"},
            "C": {"orders.status CONDITIONAL", "orders.cents TRANSFORMATION", "orders.id TRANSFORMATION"},
            "M": {"orders.extras TRANSFORMATION"},
        },
    ),
    (
        "bigquery",
        """
        select safe_divide(cents, id) as r, struct(drink as d, status) as s, date_trunc(ordered_at, month) as m
        from `main.orders`
        """,
        {
            "r": {"orders.cents TRANSFORMATION", "orders.id TRANSFORMATION"},
            "s": {"orders.drink TRANSFORMATION", "orders.status TRANSFORMATION"},
            "m": {"orders.ordered_at TRANSFORMATION"},
        },
    ),
    (
        "redshift",
        """
        select
            listagg(drink, ',') within group (order by ordered_at) as l,
            datediff(day, ordered_at, getdate()) as d
        from main.orders
        """,
        {"l": {"orders.drink AGGREGATION", "orders.ordered_at SORT"}, "d": {"orders.ordered_at TRANSFORMATION"}},
    ),
    (
        "athena",
        "select date_diff('day', ordered_at, current_date) as d from main.orders",
        {"d": {"orders.ordered_at TRANSFORMATION"}},
    ),
    (
        "oracle",
        "select id as i, nvl(drink, status) as d from main.orders start with id = 1 connect by prior id = guest_id",
        {
            "I": {"orders.id"},
            "D": {"orders.drink TRANSFORMATION+CONDITIONAL", "orders.status TRANSFORMATION+CONDITIONAL"},
        },
    ),
    (
        "mysql",
        "select ifnull(drink, '') as d, group_concat(status order by id separator ',') as s from `main`.`orders`",
        {"d": {"orders.drink TRANSFORMATION+CONDITIONAL"}, "s": {"orders.status AGGREGATION", "orders.id SORT"}},
    ),
    (
        "teradata",
        "sel id, coalesce(cents, 0) as c from main.orders qualify rank() over (order by cents) = 1",
        {"id": {"orders.id"}, "c": {"orders.cents TRANSFORMATION+CONDITIONAL"}},
    ),
    (
        "of_the_future",
        "select id, upper(drink) as d from main.orders",
        {"id": {"orders.id"}, "d": {"orders.drink TRANSFORMATION"}},
    ),
]


@pytest.mark.parametrize(("adapter", "sql", "expected"), DIALECTS)
def test_each_dialect_is_read(adapter: str, sql: str, expected: Edges) -> None:
    assert lineage(sql, adapter) == expected


ADAPTERS = {
    "athena": "athena",
    "bigquery": "bigquery",
    "clickhouse": "clickhouse",
    "databricks": "databricks",
    "dremio": "dremio",
    "duckdb": "duckdb",
    "exasol": "exasol",
    "fabric": "fabric",
    "glue": "spark",
    "mysql": "mysql",
    "oracle": "oracle",
    "postgres": "postgres",
    "redshift": "redshift",
    "snowflake": "snowflake",
    "spark": "spark",
    "sqlite": "sqlite",
    "sqlserver": "tsql",
    "starburst": "trino",
    "synapse": "tsql",
    "teradata": "teradata",
    "trino": "trino",
    "tsql": "tsql",
    "vertica": "postgres",
    "DuckDB": "duckdb",
}


def test_adapters_speak_a_dialect() -> None:
    assert {adapter: columns.dialect_of(adapter) for adapter in ADAPTERS} == ADAPTERS
    assert columns.dialect_of("of_the_future") is None
    assert columns.dialect_of("") is None


# --- statements around a query ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "create table x as select id from main.orders",
        "insert into x select id from main.orders",
        "set x = 1; select id from main.orders; ",
        "select id from main.orders -- the end",
        "(select id from main.orders)",
        "((with o as (select id from main.orders) select id from o))",
    ],
)
def test_the_query_of_a_statement_is_read(sql: str) -> None:
    assert lineage(sql) == {"id": {"orders.id"}}


# --- SQL that nobody can read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("", "no query"),
        ("   -- nothing\n", "no query"),
        ("drop table x", "no query"),
        ("select from where", "line 1, column"),
        ("select 'open", "Error"),
        ("select (1", "line 1, column"),
        ("def model(dbt, session):\n    return dbt.ref('a')\n", ""),
        ("{{ config() }}", ""),
    ],
)
def test_sql_that_cannot_be_read_gives_an_error_of_one_line(sql: str, error: str) -> None:
    found = analyse(sql, "duckdb", Schema())
    assert found.error is not None
    assert error in found.error
    assert "\n" not in found.error
    assert len(found.error) <= 200
    assert not found.complete
    assert (found.columns, found.dataset, found.relations) == ((), (), ())


def test_an_error_of_the_parser_is_short_however_long_the_sql() -> None:
    found = analyse("select " + "é" * 100_000 + " from (", "duckdb", Schema())
    assert found.error is not None
    assert len(found.error) <= 200


FRAGMENTS = st.sampled_from(
    [
        "select",
        "from",
        "where",
        "group by",
        "(",
        ")",
        ",",
        "*",
        "a",
        "b.c",
        "t",
        "'x'",
        "1",
        "with",
        "as",
        "join",
        "on",
        "union all",
        "case when",
        "then",
        "end",
        "over",
        ";",
        "[",
        "]",
        '"',
        "`",
        "{",
        "}",
        "order by",
        "$1",
        ":x",
        "->",
        "::int",
        "lateral",
        "unnest",
        "pivot",
        "for",
        "in",
        "values",
        "exists",
        "not",
        "distinct",
        "using",
        "natural",
        "qualify",
        ".",
        "..",
        "\x00",
        "�",
    ]
)


@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=30).map(" ".join)), st.sampled_from(sorted(ADAPTERS)))
def test_nothing_raises(sql: str, adapter: str) -> None:
    found = analyse(sql, adapter, Schema(adapter), (None, None, "t"))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Analysis) == found or "\ud800" in sql


@given(st.lists(FRAGMENTS, max_size=12).map(" ".join))
def test_nothing_raises_in_the_middle_of_a_query(middle: str) -> None:
    analyse(
        f"with o as (select * from main.orders) select id, {middle} from o join main.menu using (drink)",
        "duckdb",
        bar(),
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def timed(sql: str, adapter: str = "duckdb", seconds: float = 20.0) -> Analysis:
    started = time.process_time()
    found = analyse(sql, adapter, bar())
    assert time.process_time() - started < seconds
    return found


def test_five_thousand_columns() -> None:
    wide = ", ".join(f"c{n} + id as d{n}" for n in range(5_000))
    found = timed(f"with w as (select {wide} from main.wide) select * from w")
    assert len(found.columns) == 5_000
    assert edges(found.columns[4_999].inputs) == {"wide.c4999 TRANSFORMATION", "wide.id TRANSFORMATION"}


def test_a_thousand_ctes_in_a_row_and_inside_one_another() -> None:
    row = ", ".join(f"c{n} as (select id, drink || '' as drink from c{n - 1})" for n in range(1, 1_000))
    found = timed(f"with c0 as (select * from main.orders), {row} select * from c999")
    assert fields(found) == {"id": {"orders.id"}, "drink": {"orders.drink TRANSFORMATION"}}
    nested = "with c as (" * 1_000 + "select id from main.orders" + ") select * from c" * 1_000
    assert fields(timed(nested)) == {"id": {"orders.id"}}


def test_a_deep_union_and_deep_brackets() -> None:
    union = " union all ".join(f"select id, drink from main.orders where id = {n}" for n in range(3_000))
    found = timed(union)
    assert fields(found) == {"id": {"orders.id"}, "drink": {"orders.drink"}}
    assert fields(timed("select " + "(" * 1_500 + "id" + ")" * 1_500 + " as id from main.orders")) == {
        "id": {"orders.id"}
    }
    assert fields(timed("select * from " + "(select * from " * 1_000 + "main.guests" + ") x" * 1_000)) == {
        name: {f"guests.{name}"} for name in ("id", "name", "email")
    }


def test_a_megabyte_of_sql() -> None:
    branch = """
    select id, upper(drink) as drink, case when status = 'x' then cents end as cents from main.orders where cents > 0
    """
    sql = " union all ".join([branch] * (1_000_000 // len(branch)))
    found = timed(sql, seconds=30)
    assert fields(found) == {
        "id": {"orders.id"},
        "drink": {"orders.drink TRANSFORMATION"},
        "cents": {"orders.cents TRANSFORMATION", "orders.status CONDITIONAL"},
    }


def test_a_long_chain_of_operators_and_of_aliases() -> None:
    assert lineage("select " + " || ".join(["drink"] * 5_000) + " as d from main.orders") == {
        "d": {"orders.drink TRANSFORMATION"}
    }
    doubled = ", ".join(f"a{n} + a{n} as a{n + 1}" for n in range(500))
    assert fields(timed(f"select id as a0, {doubled} from main.orders"))["a500"] == {"orders.id TRANSFORMATION"}


ALL = " || ".join(f"c{n}" for n in range(600))
TOO_MUCH = {
    "brackets inside": "select " + "(" * 100_000,
    "nested too deeply": "select " + "not " * 100_000 + "true",
    "FROM in a row": "from " * 100_000 + "x",
    "types inside": "select cast(1 as " + "array<" * 100_000,
    "arrays, structs or types inside": "select " + "array[" * 40 + "1" + "]" * 40,
    "joins without a condition": "select * from a" + " join b" * 40,
    "subscripts and calls": "select a" + "[1].b" * 2_000,
    "characters": "select '" + "x" * 2_000_001 + "'",
    "edges": f"with w as (select {ALL} as s from x) select {', '.join(f's as s{n}' for n in range(600))} from w",
    "steps": f"with w as (select {ALL} as s from x) select {', '.join(f's || s as s{n}' for n in range(5_000))} from w",
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_would_take_for_ever_or_the_process_down_is_an_error(what: str) -> None:
    found = timed(TOO_MUCH[what])
    assert found.error is not None
    assert what in found.error


@pytest.mark.parametrize("depth", [30, 41, 60])
def test_brackets_may_be_some_in_one_another(depth: int) -> None:
    sql = "select " + "coalesce(" * depth + "id" + ", 1)" * depth + " as id from main.orders"
    assert lineage(sql) == {"id": {"orders.id TRANSFORMATION+CONDITIONAL"}}


def test_joins_with_a_condition_may_be_many() -> None:
    joins = "".join(f" left join main.menu m{n} on m{n}.drink = o.drink" for n in range(200))
    assert lineage(f"select m199.price from main.orders o {joins}") == {"price": {"menu.price"}}


def test_deep_sql_leaves_the_limits_of_the_process_alone() -> None:
    before = (sys.getrecursionlimit(), threading.stack_size(), threading.active_count())
    timed("select " + "(" * 1_000 + "1" + ")" * 1_000 + " as x")
    timed("select " + "(" * 50 + "not " * 50_000 + "1" + ")" * 50)
    assert (sys.getrecursionlimit(), threading.stack_size(), threading.active_count()) == before


def test_an_analysis_survives_its_encoding() -> None:
    found = analysed(ORDERS_MODEL)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Analysis) == found
    assert (
        Input(Field(MENU, "price"), (Transformation("DIRECT", "IDENTITY"),))
        in analysed("select price from main.menu").columns[0].inputs
    )


def test_the_version_of_sqlglot_is_known() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", columns.VERSION)


def test_a_compiled_build_is_known_without_an_import_of_it() -> None:
    parser = importlib.import_module("sqlglot.parser")
    assert sqlglot_is_compiled() == (not str(parser.__file__).endswith(".py"))
