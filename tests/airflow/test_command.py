"""dbt's command lines from an operator's arguments. This needs no Airflow."""

from __future__ import annotations

from spanline.airflow.command import Options, steps_of


def test_each_option_goes_to_the_steps_that_know_it() -> None:
    options = Options(
        select="marts tag:daily", exclude=["stg_orders"], vars={"day": 1}, full_refresh=True, threads=8, target="prod"
    )
    selected = ["--select", "marts", "tag:daily", "--exclude", "stg_orders"]
    common = ["--vars", '{"day": 1}', "--target", "prod"]
    assert steps_of(None, ["deps", "seed", "run --fail-fast", ["test"], "source freshness"], options) == [
        ["deps", *common],
        ["seed", *selected, "--full-refresh", "--threads", "8", *common],
        ["run", "--fail-fast", *selected, "--full-refresh", "--threads", "8", *common],
        ["test", *selected, "--threads", "8", *common],
        ["source", "freshness", *selected, "--threads", "8", *common],
    ]


def test_what_a_template_has_left_empty_is_not_given() -> None:
    assert steps_of("build", None, Options(select="", exclude=[], vars="")) == [["build"]]
    assert steps_of(None, None, Options()) == []


def test_vars_may_be_a_text() -> None:
    assert steps_of("run", [], Options(vars="{day: 1}")) == [["run", "--vars", "{day: 1}"]]
