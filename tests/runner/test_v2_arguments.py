"""How a command of dbt v2 is listed, and how it is limited to what is left of it."""

from __future__ import annotations

from spanline.runner.v2.arguments import command_in, limited, listing

NAMES = {
    "model.shop.orders": ["shop", "marts", "orders"],
    "unit_test.shop.orders.totals": ["shop", "marts", "orders", "totals"],
    "model.shop.below": ["shop", "marts", "below"],
}


def test_a_listing_is_of_the_same_project_and_selection() -> None:
    args = [
        "--target",
        "prod",
        "build",
        "--full-refresh",
        "-s",
        "+orders",
        "tag:x",
        "--vars",
        "{a: 1}",
        "--threads",
        "4",
    ]
    assert command_in(args) == "build"
    assert listing(args) == [
        *("list", "--target", "prod", "-s", "+orders", "tag:x", "--vars", "{a: 1}"),
        *("--resource-type", "model", "seed", "snapshot", "test", "unit_test", "function"),
        *("--output", "json", "--output-keys", "unique_id"),
    ]


def test_kinds_that_are_asked_for_are_listed_alone() -> None:
    assert listing(["build", "--resource-type", "seed"])[:3] == ["list", "--resource-type", "seed"]


def test_a_command_that_runs_no_nodes_is_none() -> None:
    assert [command_in(args) for args in (["deps"], ["run-operation", "x"], ["debug"])] == ["", "", ""]


def test_what_is_left_replaces_the_selection_and_nothing_else() -> None:
    args = [
        "build",
        "-s",
        "orders+",
        "--exclude",
        "tag:x",
        "--threads",
        "4",
        "--vars",
        "{a: 1}",
        "--selector",
        "nightly",
    ]
    assert limited(args, ["model.shop.below", "model.shop.gone"], NAMES) == [
        *("build", "--threads", "4", "--vars", "{a: 1}"),
        *("--select", "fqn:shop.marts.below", "--indirect-selection", "empty"),
    ]


def test_a_node_whose_name_begins_with_that_of_a_chosen_one_is_excluded() -> None:
    assert limited(["build"], ["model.shop.orders"], NAMES) == [
        *("build", "--select", "fqn:shop.marts.orders"),
        *("--exclude", "fqn:shop.marts.orders.totals", "--indirect-selection", "empty"),
    ]
