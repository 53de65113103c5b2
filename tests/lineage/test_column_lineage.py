"""Lineage of columns through a project of the shape that everybody begins with; expected edges were drawn by hand."""

from __future__ import annotations

import pytest

from spanline.lineage import columns
from spanline.lineage.columns import Schema, analyse

IDENTITY, TRANSFORMATION, AGGREGATION = "IDENTITY", "TRANSFORMATION", "AGGREGATION"

SEEDS = {
    "raw_guests": ["id", "first_name", "last_name"],
    "raw_orders": ["id", "guest_id", "ordered_at", "state"],
    "raw_payments": ["id", "order_id", "method", "cents"],
}
MODELS = {
    "stg_guests": """
        with source as (select * from "cafe"."main"."raw_guests"),
        renamed as (select id as guest_id, first_name || ' ' || last_name as full_name from source)
        select * from renamed""",
    "stg_orders": """
        with source as (select * from "cafe"."main"."raw_orders"),
        renamed as (select id as order_id, guest_id, cast(ordered_at as date) as ordered_on, state from source)
        select * from renamed""",
    "stg_payments": """
        with source as (select * from "cafe"."main"."raw_payments"),
        renamed as (select id as payment_id, order_id, method, cents / 100 as amount from source)
        select * from renamed""",
    "orders": """
        with orders as (select * from "cafe"."main"."stg_orders"),
        payments as (select * from "cafe"."main"."stg_payments"),
        per_order as (
            select order_id,
                   sum(case when method = 'card' then amount else 0 end) as card_amount,
                   sum(amount) as amount
            from payments group by order_id),
        final as (
            select orders.order_id, orders.guest_id, orders.ordered_on, per_order.card_amount, per_order.amount
            from orders left join per_order on orders.order_id = per_order.order_id)
        select * from final""",
    "guests": """
        with guests as (select * from "cafe"."main"."stg_guests"),
        orders as (select * from "cafe"."main"."orders"),
        per_guest as (
            select guest_id, min(ordered_on) as first_order, count(order_id) as orders, sum(amount) as spent
            from orders group by guest_id),
        final as (
            select guests.guest_id, guests.full_name, per_guest.first_order, per_guest.orders, per_guest.spent
            from guests left join per_guest on guests.guest_id = per_guest.guest_id)
        select * from final""",
}
DIRECT = {
    "stg_guests": {
        "guest_id": {("raw_guests", "id", IDENTITY)},
        "full_name": {("raw_guests", "first_name", TRANSFORMATION), ("raw_guests", "last_name", TRANSFORMATION)},
    },
    "stg_orders": {
        "order_id": {("raw_orders", "id", IDENTITY)},
        "guest_id": {("raw_orders", "guest_id", IDENTITY)},
        "ordered_on": {("raw_orders", "ordered_at", TRANSFORMATION)},
        "state": {("raw_orders", "state", IDENTITY)},
    },
    "stg_payments": {
        "payment_id": {("raw_payments", "id", IDENTITY)},
        "order_id": {("raw_payments", "order_id", IDENTITY)},
        "method": {("raw_payments", "method", IDENTITY)},
        "amount": {("raw_payments", "cents", TRANSFORMATION)},
    },
    "orders": {
        "order_id": {("stg_orders", "order_id", IDENTITY)},
        "guest_id": {("stg_orders", "guest_id", IDENTITY)},
        "ordered_on": {("stg_orders", "ordered_on", IDENTITY)},
        "card_amount": {("stg_payments", "amount", AGGREGATION)},
        "amount": {("stg_payments", "amount", AGGREGATION)},
    },
    "guests": {
        "guest_id": {("stg_guests", "guest_id", IDENTITY)},
        "full_name": {("stg_guests", "full_name", IDENTITY)},
        "first_order": {("orders", "ordered_on", AGGREGATION)},
        "orders": {("orders", "order_id", AGGREGATION)},
        "spent": {("orders", "amount", AGGREGATION)},
    },
}


def seeded() -> Schema:
    schema = Schema("duckdb")
    for name, fields in SEEDS.items():
        schema.add(("cafe", "main", name), [(field, "varchar") for field in fields])
    return schema


def edges(column: columns.Column, kind: str) -> set[tuple[str, str, str]]:
    return {
        (one.field.relation[2], one.field.name, how.subtype)
        for one in column.inputs
        for how in one.transformations
        if how.type == kind
    }


def build() -> dict[str, columns.Analysis]:
    """Every model in order, each one's columns known to those below it."""
    schema, found = seeded(), {}
    for name, sql in MODELS.items():
        found[name] = analyse(sql, "duckdb", schema)
        schema.add(("cafe", "main", name), [(column.name, column.data_type) for column in found[name].columns])
    return found


def test_every_column_of_every_model_has_its_lineage() -> None:
    found = build()
    assert {name: analysis.error for name, analysis in found.items()} == dict.fromkeys(MODELS)
    drawn = {name: {c.name: edges(c, "DIRECT") for c in analysis.columns} for name, analysis in found.items()}
    assert drawn == DIRECT


def test_conditions_are_indirect() -> None:
    card = next(c for c in build()["orders"].columns if c.name == "card_amount")
    assert ("stg_payments", "method", "CONDITIONAL") in edges(card, "INDIRECT")


def test_joins_and_groups_decide_about_the_whole_dataset() -> None:
    whole = {
        (one.field.relation[2], one.field.name, how.subtype)
        for one in build()["orders"].dataset
        for how in one.transformations
    }
    assert {("stg_orders", "order_id", "JOIN"), ("stg_payments", "order_id", "GROUP_BY")} <= whole


def test_a_star_over_an_unknown_relation_is_said_to_be_one() -> None:
    found = analyse("select * from cafe.main.nobody_knows", "duckdb", seeded())
    assert not found.complete
    assert found.error is None


@pytest.mark.parametrize("sql", ["", "select from where )(", "select " + "(" * 5000 + "1" + ")" * 5000, "\x00", "🦆"])
def test_what_cannot_be_read_is_said_and_raises_nothing(sql: str) -> None:
    found = analyse(sql, "duckdb", seeded())
    assert found.columns == ()
    assert found.error
