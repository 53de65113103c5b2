"""Names in OpenLineage are those that dbt-ol gives: lineage joins with what other producers emit."""

from __future__ import annotations

import pytest

from spanline.events import NodeDescribed, Relation
from spanline.lineage import names


@pytest.mark.parametrize(
    ("adapter", "connection", "namespace"),
    [
        ("duckdb", {"path": "/data/shop.duckdb"}, "duckdb:///data/shop.duckdb"),
        ("duckdb", {"path": ":memory:"}, "duckdb://:memory:"),
        ("postgres", {"host": "db.example.com", "port": 6432}, "postgres://db.example.com:6432"),
        ("postgres", {"host": "db", "port": 5432.0}, "postgres://db:5432"),
        ("snowflake", {"account": "myorg-myaccount"}, "snowflake://myorg-myaccount"),
        ("snowflake", {"account": "my-org-myaccount"}, "snowflake://my-org-myaccount"),
        ("snowflake", {"account": "myorg-myaccount.privatelink"}, "snowflake://myorg-myaccount"),
        ("snowflake", {"account": "xy12345"}, "snowflake://xy12345.us-west-1.aws"),
        ("snowflake", {"account": "xy12345.us-east-1"}, "snowflake://xy12345.us-east-1.aws"),
        ("snowflake", {"account": "xy12345.east-us-2.azure"}, "snowflake://xy12345.east-us-2.azure"),
        ("bigquery", {"project": "p", "host": "ignored"}, "bigquery"),
        ("databricks", {"host": "a.cloud.databricks.com", "http_path": "/sql"}, "databricks://a.cloud.databricks.com"),
        ("redshift", {"host": "r.example.com", "port": 5439}, "redshift://r.example.com:5439"),
        ("redshift", {"host": "r.example.com"}, "redshift://r.example.com:5439"),
        ("trino", {"host": "t", "port": 8080}, "trino://t:8080"),
        ("presto", {"host": "p", "port": 8080}, "presto://p:8080"),
        ("watsonx_presto", {"host": "p", "port": 8443}, "presto://p:8443"),
        ("clickhouse", {"host": "c", "port": 8123}, "clickhouse://c:8123"),
        ("athena", {"region_name": "eu-west-1"}, "awsathena://athena.eu-west-1.amazonaws.com"),
        ("dremio", {"software_host": "d", "port": 9047}, "dremio://d:9047"),
        ("sqlserver", {"server": "s", "port": 1433}, "mssql://s:1433"),
        ("fabric", {"server": "f"}, "fabric-warehouse://f"),
        ("fabric", {"server": "f", "port": 1433}, "fabric-warehouse://f:1433"),
        ("glue", {"region": "eu-west-1", "account_id": "123"}, "arn:aws:glue:eu-west-1:123"),
        ("glue", {"region": "eu-west-1", "role_arn": "arn:aws:iam::123:role/r"}, "arn:aws:glue:eu-west-1:123"),
        ("spark", {"host": "s", "method": "thrift"}, "spark://s:10001"),
        ("spark", {"host": "s", "method": "http"}, "spark://s:443"),
        ("spark", {"host": "s", "method": "thrift", "port": 10000}, "spark://s:10000"),
        ("of_the_future", {"host": "h", "port": 1}, "of_the_future://h:1"),
    ],
)
def test_a_datasets_namespace_is_the_one_of_dbt_ol(adapter: str, connection: dict, namespace: str) -> None:
    assert names.dataset_namespace(adapter, connection) == namespace


def node(unique_id: str, resource_type: str, relation: Relation | None) -> NodeDescribed:
    return NodeDescribed(
        unique_id=unique_id, resource_type=resource_type, name="n", package_name="p", relation=relation
    )


TABLE = Relation("o2", '"d"."s"."o2"', "d", "s")


@pytest.mark.parametrize(
    ("relation", "name"),
    [
        (TABLE, "d.s.o2"),
        (Relation("t", "`s`.`t`", None, "s"), "s.t"),
        (Relation("t", "`s`.`t`", "", "s"), "s.t"),
        (None, None),
    ],
)
def test_a_datasets_name_leaves_out_what_the_warehouse_lacks(relation: Relation | None, name: str | None) -> None:
    assert names.dataset_name(node("model.shop.orders", "model", relation)) == name


@pytest.mark.parametrize(
    ("unique_id", "resource_type", "command", "name"),
    [
        ("model.shop.orders", "model", "build", "d.s.shop.orders.build.run"),
        ("model.shop.orders", "model", "run", "d.s.shop.orders"),
        ("snapshot.shop.history", "snapshot", "build", "d.s.shop.history.build.snapshot"),
        ("snapshot.shop.history", "snapshot", "snapshot", "d.s.shop.history.snapshot"),
        ("test.shop.unique.1a2b", "test", "build", "test.shop.unique.1a2b"),
    ],
)
def test_a_nodes_job_is_named_as_dbt_ol_names_it(unique_id: str, resource_type: str, command: str, name: str) -> None:
    assert names.job_name(node(unique_id, resource_type, TABLE), command) == name


def test_the_job_of_a_run_is_named_after_the_project() -> None:
    assert names.session_job_name("shop") == "dbt-run-shop"
