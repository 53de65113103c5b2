"""Names in OpenLineage are those that dbt-ol gives: lineage joins with what other producers emit.

Expected values are written by hand: from the rule in openlineage-dbt 1.54 where it knows the adapter, else from
https://openlineage.io/docs/spec/naming. The specification's own helpers, in openlineage-python, are a second source.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline.events import NodeDescribed, Relation
from spanline.lineage import names
from spanline.lineage.names import Identifier

GLUE_ROLE = "arn:aws:iam::123456789012:role/dbt"
FABRIC = "abc.datawarehouse.fabric.microsoft.com"
REDSHIFT = "shop.abc123xyz.eu-west-1.redshift.amazonaws.com"
SERVERLESS = "etl.123456789012.us-east-1.redshift-serverless.amazonaws.com"
WORKSPACE = "dbc-a1b2c3.cloud.databricks.com"
ORACLE_DESCRIPTOR = (
    "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCPS)(HOST=ora)(PORT=2484))(CONNECT_DATA=(SERVICE_NAME=svc.example.com)))"
)

DBT_OL_NAMESPACES = [
    ("athena", {"region_name": "eu-west-1"}, "awsathena://athena.eu-west-1.amazonaws.com"),
    ("bigquery", {"database": "p", "execution_project": "q", "host": "ignored"}, "bigquery"),
    ("bigquery", {}, "bigquery"),
    ("clickhouse", {"host": "c", "port": 8443, "secure": True}, "clickhouse://c:8443"),
    ("databricks", {"host": WORKSPACE, "http_path": "/sql/1.0", "catalog": "main"}, f"databricks://{WORKSPACE}"),
    ("databricks", {"host": WORKSPACE, "port": 443}, f"databricks://{WORKSPACE}"),
    ("dremio", {"software_host": "d", "cloud_host": None, "port": 9047}, "dremio://d:9047"),
    ("duckdb", {"path": "/data/shop.duckdb"}, "duckdb:///data/shop.duckdb"),
    ("duckdb", {"path": "shop.duckdb"}, "duckdb://shop.duckdb"),
    ("duckdb", {"path": "../data/shop.duckdb"}, "duckdb://../data/shop.duckdb"),
    ("duckdb", {"path": ":memory:"}, "duckdb://:memory:"),
    ("duckdb", {"path": "md:shop"}, "duckdb://md:shop"),
    ("duckdb", {"path": "md:"}, "duckdb://md:"),
    ("duckdb", {"path": "motherduck:shop"}, "duckdb://motherduck:shop"),
    ("duckdb", {"path": "ducklake:metadata.ducklake"}, "duckdb://ducklake:metadata.ducklake"),
    ("fabric", {"server": FABRIC}, f"fabric-warehouse://{FABRIC}"),
    ("fabric", {"host": FABRIC, "port": None}, f"fabric-warehouse://{FABRIC}"),
    ("fabric", {"server": FABRIC, "port": 1433}, f"fabric-warehouse://{FABRIC}:1433"),
    ("glue", {"region": "eu-west-1", "account_id": "123"}, "arn:aws:glue:eu-west-1:123"),
    ("glue", {"region": "eu-west-1", "role_arn": GLUE_ROLE}, "arn:aws:glue:eu-west-1:123456789012"),
    ("glue", {"region": "eu-west-1", "role_arn": GLUE_ROLE, "account_id": "123"}, "arn:aws:glue:eu-west-1:123"),
    ("postgres", {"host": "db.example.com", "port": 6432}, "postgres://db.example.com:6432"),
    ("postgres", {"host": "db", "port": 5432.0}, "postgres://db:5432"),
    ("postgres", {"host": "db", "port": "5432"}, "postgres://db:5432"),
    ("postgres", {"host": "/var/run/postgresql", "port": 5432}, "postgres:///var/run/postgresql:5432"),
    ("postgres", {"host": "::1", "port": 5432}, "postgres://::1:5432"),
    ("presto", {"host": "p", "port": 8080}, "presto://p:8080"),
    ("redshift", {"host": REDSHIFT, "port": 5439}, f"redshift://{REDSHIFT}:5439"),
    ("snowflake", {"account": "myorg-myaccount"}, "snowflake://myorg-myaccount"),
    ("snowflake", {"account": "MYORG-MYACCOUNT"}, "snowflake://MYORG-MYACCOUNT"),
    ("snowflake", {"account": "my-org-myaccount"}, "snowflake://my-org-myaccount"),
    ("snowflake", {"account": "myorg-myaccount.privatelink"}, "snowflake://myorg-myaccount"),
    ("snowflake", {"account": "myorg-myaccount.global"}, "snowflake://myorg-myaccount"),
    ("snowflake", {"account": "myorg-myaccount.snowflakecomputing.com"}, "snowflake://myorg-myaccount"),
    ("snowflake", {"account": "xy12345"}, "snowflake://xy12345.us-west-1.aws"),
    ("snowflake", {"account": "xy12345.us-east-1"}, "snowflake://xy12345.us-east-1.aws"),
    ("snowflake", {"account": "xy12345.us-east-2.aws"}, "snowflake://xy12345.us-east-2.aws"),
    ("snowflake", {"account": "xy12345.east-us-2.azure"}, "snowflake://xy12345.east-us-2.azure"),
    ("snowflake", {"account": "xy12345.fhplus.us-gov-west-1.aws"}, "snowflake://xy12345.fhplus.us-gov-west-1.aws"),
    ("snowflake", {"account": "xy12345.us-east-1.privatelink"}, "snowflake://xy12345.us-east-1.privatelink"),
    ("snowflake", {"account": "xy12345.us-east-2.aws.privatelink"}, "snowflake://xy12345.us-east-2.aws.privatelink"),
    ("snowflake", {"account": "xy12345.snowflakecomputing.com"}, "snowflake://xy12345.snowflakecomputing.com"),
    ("snowflake", {"account": "myorg-a-b", "account_as_written": "myorg-a_b"}, "snowflake://myorg-a_b"),
    ("snowflake", {"account": "my-org", "account_as_written": "my_org"}, "snowflake://my_org.us-west-1.aws"),
    ("spark", {"host": "s", "method": "thrift", "port": 10000}, "spark://s:10000"),
    ("spark", {"host": "s", "method": "thrift"}, "spark://s:10001"),
    ("spark", {"host": "s", "method": "http", "port": 443}, "spark://s:443"),
    ("spark", {"host": "s", "method": "http"}, "spark://s:443"),
    ("spark", {"host": WORKSPACE, "method": "odbc", "endpoint": "abc"}, f"spark://{WORKSPACE}:443"),
    ("sqlserver", {"server": "s", "port": 1433}, "mssql://s:1433"),
    ("trino", {"host": "t", "port": 8080, "method": "none"}, "trino://t:8080"),
    ("trino", {"host": "shop.trino.galaxy.starburst.io", "port": 443}, "trino://shop.trino.galaxy.starburst.io:443"),
    ("watsonx_presto", {"host": "p", "port": 8443}, "presto://p:8443"),
]


@pytest.mark.parametrize(("adapter", "connection", "namespace"), DBT_OL_NAMESPACES)
def test_a_datasets_namespace_is_the_one_of_dbt_ol(adapter: str, connection: dict, namespace: str) -> None:
    assert names.dataset_namespace(adapter, connection) == namespace


OWN_NAMESPACES = [
    # What dbt-ol stops at: a default left out of the profile, a connection without a host.
    ("athena", {}, "awsathena"),
    ("clickhouse", {"host": "c"}, "clickhouse://c:8123"),
    ("clickhouse", {"host": "c", "secure": True}, "clickhouse://c:8443"),
    ("clickhouse", {"host": "c", "driver": "native"}, "clickhouse://c:9000"),
    ("clickhouse", {"host": "c", "driver": "native", "secure": True}, "clickhouse://c:9440"),
    (
        "dremio",
        {"software_host": None, "cloud_host": "api.dremio.cloud", "cloud_project_id": "p-1", "port": 9047},
        "dremio://api.dremio.cloud/p-1",
    ),
    ("dremio", {"cloud_host": "api.dremio.cloud"}, "dremio://api.dremio.cloud"),
    ("duckdb", {}, "duckdb://:memory:"),
    ("fabric", {"workspace_name": "Sales"}, "fabric-warehouse://Sales"),
    ("glue", {"region": "eu-west-1"}, "glue://eu-west-1"),
    ("glue", {"region": "eu-west-1", "role_arn": "dbt"}, "glue://eu-west-1"),
    ("glue", {}, "glue"),
    ("postgres", {"host": "db"}, "postgres://db:5432"),
    ("postgres", {"host": "db", "port": float("inf")}, "postgres://db:inf"),
    ("redshift", {"host": "r"}, "redshift://r:5439"),
    ("spark", {"host": "NA", "method": "session", "port": 443}, "spark://NA"),
    ("spark", {"method": "session"}, "spark"),
    ("sqlserver", {"host": "s"}, "mssql://s:1433"),
    # What dbt-ol doesn't know: the specification's scheme.
    ("db2", {"host": "d"}, "db2://d:50000"),
    ("ibmdb2", {"host": "d", "port": 50001}, "db2://d:50001"),
    ("hive", {"host": "h", "port": 10000}, "hive://h:10000"),
    ("mysql", {"server": "m", "port": 3307}, "mysql://m:3307"),
    ("mysql", {"server": "m", "port": None}, "mysql://m:3306"),
    ("mysql", {"server": "", "unix_socket": "/run/mysqld.sock"}, "mysql:///run/mysqld.sock"),
    ("mysql5", {"server": "m"}, "mysql://m:3306"),
    ("mariadb", {"server": "m"}, "mysql://m:3306"),
    ("oracle", {"host": "ora", "port": "1522", "service": "svc"}, "oracle://ora:1522"),
    ("oracle", {"host": "ora"}, "oracle://ora:1521"),
    ("oracle", {"tns_name": "SHOP_HIGH"}, "oracle://SHOP_HIGH"),
    ("oracle", {"connection_string": "ora:1523/svc.example.com"}, "oracle://ora:1523"),
    ("oracle", {"connection_string": "tcps://ora/svc?retry_count=3"}, "oracle://ora:1521"),
    ("oracle", {"connection_string": "//ora/svc"}, "oracle://ora:1521"),
    ("oracle", {"connection_string": ORACLE_DESCRIPTOR}, "oracle://ora:2484"),
    ("synapse", {"server": "ws.sql.azuresynapse.net"}, "sqlserver://ws.sql.azuresynapse.net:1433"),
    ("teradata", {"server": "t"}, "teradata://t:1025"),
    ("teradata", {"server": "t", "port": "1026"}, "teradata://t:1026"),
    # What neither knows.
    ("doris", {"host": "d", "port": 9030}, "doris://d:9030"),
    ("exasol", {"dsn": "exa:8563"}, "exasol://exa:8563"),
    ("exasol", {"dsn": "exa1..3"}, "exasol://exa1..3:8563"),
    ("exasol", {"dsn": "exa/0123ABCD:8564"}, "exasol://exa:8564"),
    ("fabricspark", {"workspaceid": "1de8390c", "lakehouse": "lh"}, "fabric-lakehouse://1de8390c"),
    ("fabricspark", {"method": "livy"}, "fabric-lakehouse"),
    ("firebolt", {"account_name": "acme", "engine_name": "e"}, "firebolt://acme"),
    ("greenplum", {"host": "g", "port": 5432}, "greenplum://g:5432"),
    ("impala", {"host": "i"}, "impala://i:21050"),
    ("materialize", {"host": "m", "port": 6875}, "materialize://m:6875"),
    ("risingwave", {"host": "r", "port": 4566}, "risingwave://r:4566"),
    ("singlestore", {"host": "s", "port": 3306}, "singlestore://s:3306"),
    ("sqlite", {"schema_directory": "/data/sqlite", "database": "database"}, "sqlite:///data/sqlite"),
    ("starburst", {"host": "t", "port": 443}, "trino://t:443"),
    ("starrocks", {"host": "s"}, "starrocks://s:9030"),
    ("vertica", {"host": "v", "port": 5433}, "vertica://v:5433"),
    # What nobody knows.
    ("of_the_future", {"host": "h", "port": 1}, "of_the_future://h:1"),
    ("of_the_future", {"server": "h"}, "of_the_future://h"),
    ("of_the_future", {"account": "a", "port": 1}, "of_the_future://a"),
    ("of_the_future", {"path": "/data"}, "of_the_future:///data"),
    ("of_the_future", {"host": True, "port": False}, "of_the_future"),
    ("of_the_future", {}, "of_the_future"),
]


@pytest.mark.parametrize(("adapter", "connection", "namespace"), OWN_NAMESPACES)
def test_a_namespace_that_dbt_ol_has_not_is_the_specifications_or_follows_its_form(
    adapter: str, connection: dict, namespace: str
) -> None:
    assert names.dataset_namespace(adapter, connection) == namespace


@pytest.mark.parametrize(
    ("adapter", "connection", "namespace"),
    [
        ("duckdb", {"path": "/data/our shop.duckdb"}, "duckdb:///data/our=20shop.duckdb"),
        ("duckdb", {"path": '~/"new".duckdb'}, "duckdb://=7E/=22new=22.duckdb"),
        ("duckdb", {"path": "/data/100%.duckdb"}, "duckdb:///data/100=25.duckdb"),
        ("duckdb", {"path": "C:\\data\\shop.duckdb"}, "duckdb://C:=5Cdata=5Cshop.duckdb"),
        ("duckdb", {"path": "/données/dt=1/a+b.duckdb"}, "duckdb:///donn=C3=A9es/dt=1/a+b.duckdb"),
        ("sqlserver", {"server": "s\\sales", "port": 50123}, "mssql://s=5Csales:50123"),
        ("fabric", {"workspace_name": "Our Sales"}, "fabric-warehouse://Our=20Sales"),
        ("postgres", {"host": "[::1]", "port": 5432}, "postgres://=5B::1=5D:5432"),
    ],
)
def test_a_namespace_has_no_sign_that_a_backend_stumbles_over(adapter: str, connection: dict, namespace: str) -> None:
    """DataHub drops what is no URI; Marquez takes these, by its `NamespaceName`, and no others."""
    assert names.dataset_namespace(adapter, connection) == namespace
    assert re.fullmatch(r"[a-zA-Z:;=/0-9_\-.@+]{1,1024}", namespace)
    assert urlsplit(namespace).scheme == namespace.partition(":")[0]


@pytest.mark.parametrize(
    ("adapter", "connection", "namespace"),
    [
        ("duckdb", {"path": "md:shop?motherduck_token=s3cret&saas_mode=true"}, "duckdb://md:shop"),
        (
            "duckdb",
            {"path": "ducklake:postgres:dbname=lake host=db password='s3 cret' user=me"},
            "duckdb://ducklake:postgres:dbname=lake=20host=db=20user=me",
        ),
        ("of_the_future", {"dsn": "driver://me:s3cret@h:1/d?password=s3cret"}, "of_the_future://driver://h:1/d"),
    ],
)
def test_a_namespace_holds_no_secret(adapter: str, connection: dict, namespace: str) -> None:
    assert names.dataset_namespace(adapter, connection) == namespace


def test_the_table_of_names_has_every_adapter() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "naming.md").read_text(encoding="utf-8")
    assert [adapter for adapter in ADAPTERS if adapter != "of_the_future" and adapter not in documented] == []


ADAPTERS = sorted({adapter for adapter, _, _ in DBT_OL_NAMESPACES + OWN_NAMESPACES})
KEYS = sorted({key for _, connection, _ in DBT_OL_NAMESPACES + OWN_NAMESPACES for key in connection})
VALUES = st.none() | st.booleans() | st.floats() | st.text()


@given(st.sampled_from(ADAPTERS), st.dictionaries(st.sampled_from(KEYS), VALUES), st.text(), st.text(), st.text())
def test_no_connection_or_relation_is_too_strange_for_a_name(
    adapter: str, connection: dict, database: str, identifier: str, rendered: str
) -> None:
    relation = Relation(identifier, rendered, database, None)
    assert names.dataset_namespace(adapter, connection)
    symlinks = names.dataset_symlinks(adapter, connection, relation)
    assert symlinks == names.dataset_symlinks(adapter, connection, relation)
    assert len(set(symlinks)) == len(symlinks)


# --- names of datasets


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
        (Relation("t", '"t"'), "t"),
        (Relation("Orders", "DB.s.Orders", "DB", "s"), "DB.s.Orders"),
        (Relation("t", "`example.com:p`.`s`.`t`", "example.com:p", "s"), "example.com:p.s.t"),
        (Relation("v1.orders", '"d"."s"."v1.orders"', "d", "s"), "d.s.v1.orders"),
        (Relation('o"2', '"d"."s"."o"2"', "d", "s"), 'd.s.o"2'),
        (Relation("größe", '"d"."s"."größe"', "d", "s"), "d.s.größe"),
        (None, None),
    ],
)
def test_a_datasets_name_is_as_written_without_what_the_warehouse_lacks(
    relation: Relation | None, name: str | None
) -> None:
    assert names.dataset_name(node("model.shop.orders", "model", relation)) == name


def table(rendered: str, database: str | None, schema: str | None, identifier: str) -> Relation:
    return Relation(identifier, rendered, database, schema)


SNOWFLAKE = {"account": "myorg-myaccount"}
LOWER = table('"d"."s"."t"', "d", "s", "t")

FOLDS = [
    # Snowflake folds what is unquoted to upper case, part by part.
    ("snowflake", SNOWFLAKE, table("raw.shop.orders", "raw", "shop", "orders"), "RAW.SHOP.ORDERS"),
    ("snowflake", SNOWFLAKE, table('raw.shop."orders"', "raw", "shop", "orders"), "RAW.SHOP.orders"),
    ("snowflake", SNOWFLAKE, table('"raw".shop.orders', "raw", "shop", "orders"), "raw.SHOP.ORDERS"),
    ("snowflake", SNOWFLAKE, table('"raw"."shop"."orders"', "raw", "shop", "orders"), None),
    ("snowflake", SNOWFLAKE, table("RAW.SHOP.ORDERS", "RAW", "SHOP", "ORDERS"), None),
    ("snowflake", SNOWFLAKE, table('raw."a.b"."c.d"', "raw", "a.b", "c.d"), "RAW.a.b.c.d"),
    ("snowflake", SNOWFLAKE, table('raw.shop."a"b"', "raw", "shop", 'a"b'), 'RAW.SHOP.a"b'),
    # A letter outside of ASCII is left as it is: warehouses differ.
    ("snowflake", SNOWFLAKE, table("raw.shop.größe", "raw", "shop", "größe"), "RAW.SHOP.GRößE"),
    # So do Oracle, Db2 and Exasol, whose database isn't in the SQL.
    ("oracle", {"host": "o"}, table("shop.orders", None, "shop", "orders"), "SHOP.ORDERS"),
    ("oracle", {"host": "o"}, table('shop."orders"', "pdb", "shop", "orders"), "pdb.SHOP.orders"),
    ("ibmdb2", {"host": "d"}, table("shop.orders", "db", "shop", "orders"), "db.SHOP.ORDERS"),
    ("exasol", {"dsn": "e:8563"}, table("shop.orders", "DB", "shop", "orders"), "DB.SHOP.ORDERS"),
    # PostgreSQL and what descends from it fold to lower case.
    ("postgres", {"host": "db"}, table('"D"."S"."T"', "D", "S", "T"), None),
    ("postgres", {"host": "db"}, table('"D"."S".Orders', "D", "S", "Orders"), "D.S.orders"),
    ("greenplum", {"host": "db"}, table('"D"."S".Orders', "D", "S", "Orders"), "D.S.orders"),
    # These keep no upper case, quoted or not.
    ("redshift", {"host": "r"}, table('"Dev"."Shop"."Orders"', "Dev", "Shop", "Orders"), "dev.shop.orders"),
    ("trino", {"host": "t"}, table('"Hive"."Shop"."Orders"', "Hive", "Shop", "Orders"), "hive.shop.orders"),
    (
        "athena",
        {"region_name": "r"},
        table('"Awsdatacatalog"."s"."T"', "AwsDataCatalog", "s", "T"),
        "awsdatacatalog.s.t",
    ),
    ("spark", {"host": "s"}, table("Shop.Orders", None, "Shop", "Orders"), "shop.orders"),
    ("impala", {"host": "i"}, table("Shop.Orders", None, "Shop", "Orders"), "shop.orders"),
    # These keep every letter.
    ("bigquery", {}, table("`P`.`S`.`T`", "P", "S", "T"), None),
    ("duckdb", {"path": "a"}, table("D.S.T", "D", "S", "T"), None),
    ("sqlserver", {"server": "s"}, table("[D].[S].[T]", "D", "S", "T"), None),
    ("clickhouse", {"host": "c"}, table("`S`.`T`", "", "S", "T"), None),
    ("vertica", {"host": "v"}, table('"D"."S"."T"', "D", "S", "T"), None),
    ("of_the_future", {"host": "h"}, table("D.S.T", "D", "S", "T"), None),
]


@pytest.mark.parametrize(("adapter", "connection", "relation", "stored"), FOLDS)
def test_a_name_that_the_warehouse_folds_is_a_symlink(
    adapter: str, connection: dict, relation: Relation, stored: str | None
) -> None:
    namespace = names.dataset_namespace(adapter, connection)
    expected = [] if stored is None else [Identifier(namespace, stored)]
    assert names.dataset_symlinks(adapter, connection, relation) == expected


ATHENA = {"region_name": "eu-west-1"}
UNITY = f"unitycatalog://{WORKSPACE}"

SPECIFIED = [
    # The region and the cluster's name are in the host, or in the profile for IAM.
    ("redshift", {"host": REDSHIFT, "port": 5439}, LOWER, [("redshift://shop.eu-west-1:5439", "d.s.t")]),
    ("redshift", {"host": SERVERLESS, "port": 5439.0}, LOWER, [("redshift://etl.us-east-1:5439", "d.s.t")]),
    ("redshift", {"host": "x", "cluster_id": "c", "region": "r"}, LOWER, [("redshift://c.r:5439", "d.s.t")]),
    ("redshift", {"host": f"{REDSHIFT}.cn", "port": 5439}, LOWER, [("redshift://shop.eu-west-1:5439", "d.s.t")]),
    ("redshift", {"host": "10.0.0.1", "port": 5439}, LOWER, []),
    ("redshift", {"host": "localhost", "cluster_id": "c"}, LOWER, []),
    ("redshift", {"host": "localhost", "region": "r"}, LOWER, []),
    # Unity Catalog keeps lower case; Hive's metastore is no part of it.
    ("databricks", {"host": WORKSPACE}, LOWER, [(UNITY, "d.s.t")]),
    ("databricks", {"host": f"https://{WORKSPACE}/"}, LOWER, [(UNITY, "d.s.t")]),
    (
        "databricks",
        {"host": WORKSPACE},
        table("`Main`.`s`.`T`", "Main", "s", "T"),
        [(f"databricks://{WORKSPACE}", "main.s.t"), (UNITY, "main.s.t")],
    ),
    ("databricks", {"host": WORKSPACE}, table("`hive_metastore`.`s`.`t`", "hive_metastore", "s", "t"), []),
    ("databricks", {"host": WORKSPACE}, table("`spark_catalog`.`s`.`t`", "spark_catalog", "s", "t"), []),
    ("databricks", {"host": WORKSPACE}, table("`s`.`t`", None, "s", "t"), []),
    ("databricks", {}, LOWER, []),
    # Glue's catalog names tables by a path of its own; dbt-ol has that as a symlink of Athena's tables.
    (
        "glue",
        {"region": "eu-west-1", "role_arn": GLUE_ROLE},
        table("s.t", None, "s", "t"),
        [("arn:aws:glue:eu-west-1:123456789012", "table/s/t")],
    ),
    ("glue", {"region": "eu-west-1"}, table("s.t", None, "s", "t"), []),
    (
        "athena",
        {**ATHENA, "assume_role_arn": GLUE_ROLE},
        table('"awsdatacatalog"."s"."t"', "awsdatacatalog", "s", "t"),
        [("arn:aws:glue:eu-west-1:123456789012", "table/s/t")],
    ),
    ("athena", {**ATHENA, "assume_role_arn": GLUE_ROLE}, table('"dynamo"."s"."t"', "dynamo", "s", "t"), []),
    ("athena", ATHENA, table('"awsdatacatalog"."s"."t"', "awsdatacatalog", "s", "t"), []),
    # Snowflake's legacy forms without what is no part of an account's name; the hyphen that stands in its URL.
    (
        "snowflake",
        {"account": "xy12345.us-east-1.privatelink"},
        table('"d"."s"."t"', "d", "s", "t"),
        [("snowflake://xy12345.us-east-1.aws", "d.s.t")],
    ),
    (
        "snowflake",
        {"account": "xy12345.snowflakecomputing.com"},
        LOWER,
        [("snowflake://xy12345.us-west-1.aws", "d.s.t")],
    ),
    ("snowflake", {"account": "myorg-a_b"}, LOWER, [("snowflake://myorg-a-b", "d.s.t")]),
    (
        "snowflake",
        {"account": "myorg-a-b", "account_as_written": "myorg-a_b"},
        LOWER,
        [("snowflake://myorg-a-b", "d.s.t")],
    ),
    (
        "snowflake",
        {"account": "xy12345.eu-west-1.privatelink"},
        table("d.s.t", "d", "s", "t"),
        [("snowflake://xy12345.eu-west-1.privatelink", "D.S.T"), ("snowflake://xy12345.eu-west-1.aws", "D.S.T")],
    ),
    # Fabric's port may be there or not.
    ("fabric", {"server": FABRIC}, LOWER, [(f"fabric-warehouse://{FABRIC}:1433", "d.s.t")]),
    ("fabric", {"server": FABRIC, "port": 1433}, LOWER, [(f"fabric-warehouse://{FABRIC}", "d.s.t")]),
    ("fabric", {"workspace_name": "Sales"}, LOWER, []),
    # Names of two parts.
    ("synapse", {"server": "s"}, LOWER, [("sqlserver://s:1433", "s.t")]),
    ("mysql", {"server": "m"}, table("`s`.`t`", "s", "s", "t"), [("mysql://m:3306", "s.t")]),
    ("mysql", {"server": "m"}, table("`s`.`t`", None, "s", "t"), []),
    ("teradata", {"server": "t"}, table('"s"."t"', "s", "s", "t"), [("teradata://t:1025", "s.t")]),
    ("hive", {"host": "h"}, table("s.t", None, "s", "t"), []),
    # Oracle's database is the service.
    (
        "oracle",
        {"host": "ora", "port": 1521, "service": "svc.example.com"},
        table("shop.orders", None, "shop", "orders"),
        [("oracle://ora:1521", "SHOP.ORDERS"), ("oracle://ora:1521", "svc.example.com.SHOP.ORDERS")],
    ),
    (
        "oracle",
        {"connection_string": ORACLE_DESCRIPTOR},
        table('"S"."T"', None, "S", "T"),
        [("oracle://ora:2484", "svc.example.com.S.T")],
    ),
    ("oracle", {"tns_name": "X"}, table('"S"."T"', None, "S", "T"), []),
    # dbt-dremio's word for no folder isn't in the SQL.
    (
        "dremio",
        {"software_host": "d", "port": 9047},
        table('"@me"."t"', "@me", "no_schema", "t"),
        [("dremio://d:9047", "@me.t")],
    ),
    ("dremio", {"software_host": "d", "port": 9047}, table('"a"."b"."c"."t"', "a", "b.c", "t"), []),
]


@pytest.mark.parametrize(("adapter", "connection", "relation", "expected"), SPECIFIED)
def test_the_specifications_name_is_a_symlink_where_it_differs(
    adapter: str, connection: dict, relation: Relation, expected: list[tuple[str, str]]
) -> None:
    found = names.dataset_symlinks(adapter, connection, relation)
    assert [(other.namespace, other.name) for other in found] == expected
    assert {(other.namespace[:4] == "arn:", other.type) for other in found} <= {(True, "TABLE"), (False, "ALIAS")}


@pytest.mark.parametrize(
    ("adapter", "connection", "relation", "kind", "arguments"),
    [
        ("athena", ATHENA, LOWER, "Athena", ("eu-west-1", "d", "s", "t")),
        ("bigquery", {}, LOWER, "BigQuery", ("d", "s", "t")),
        ("db2", {"host": "h", "port": 50000}, table('"S"."T"', "d", "S", "T"), "DB2", ("h", "50000", "d", "S", "T")),
        ("glue", {"region": "r", "account_id": "1"}, table("s.t", None, "s", "t"), "AWSGlue", ("r", "1", "s", "t")),
        ("hive", {"host": "h", "port": 10000}, table("s.t", None, "s", "t"), "Hive", ("h", "10000", "s", "t")),
        ("mysql", {"server": "h"}, table("`s`.`t`", "s", "s", "t"), "MySQL", ("h", "3306", "s", "t")),
        (
            "oracle",
            {"host": "h", "port": 1521, "service": "svc"},
            table("s.t", None, "s", "t"),
            "Oracle",
            ("h", "1521", "svc", "S", "T"),
        ),
        ("postgres", {"host": "h", "port": 5432}, LOWER, "Postgres", ("h", "5432", "d", "s", "t")),
        ("redshift", {"host": REDSHIFT}, LOWER, "Redshift", ("shop", "eu-west-1", "5439", "d", "s", "t")),
        ("snowflake", SNOWFLAKE, table("d.s.t", "d", "s", "t"), "Snowflake", ("myorg", "myaccount", "D", "S", "T")),
        ("synapse", {"server": "h"}, LOWER, "AzureSynapse", ("h", "1433", "s", "t")),
        ("teradata", {"server": "h"}, table('"s"."t"', None, "s", "t"), "Teradata", ("h", "1025", "s", "t")),
        ("trino", {"host": "h", "port": 8080}, LOWER, "Trino", ("h", "8080", "d", "s", "t")),
    ],
)
def test_a_dataset_can_be_found_by_the_name_that_openlineages_own_helper_gives(
    adapter: str, connection: dict, relation: Relation, kind: str, arguments: tuple[str, ...]
) -> None:
    specification = pytest.importorskip("openlineage.client.naming.dataset")
    naming = getattr(specification, kind)(*arguments)
    own = (names.dataset_namespace(adapter, connection), names.dataset_name(node("model.p.t", "model", relation)))
    others = [(other.namespace, other.name) for other in names.dataset_symlinks(adapter, connection, relation)]
    assert (naming.get_namespace(), naming.get_name()) in [own, *others]


# --- names of jobs


@pytest.mark.parametrize(
    ("unique_id", "resource_type", "command", "name"),
    [
        # As dbt-ol.
        ("model.shop.orders", "model", "build", "d.s.shop.orders.build.run"),
        ("model.shop.orders", "model", "run", "d.s.shop.orders"),
        ("model.shop.orders.v2", "model", "build", "d.s.shop.orders.v2.build.run"),
        ("snapshot.shop.history", "snapshot", "build", "d.s.shop.history.build.snapshot"),
        ("snapshot.shop.history", "snapshot", "snapshot", "d.s.shop.history.snapshot"),
        ("test.shop.no_orders_lost", "test", "build", "test.shop.no_orders_lost"),
        ("test.shop.unique.1a2b", "test", "test", "test.shop.unique.1a2b"),
        ("unit_test.shop.orders.adds_up", "unit_test", "test", "unit_test.shop.orders.adds_up"),
        # What dbt-ol has no jobs for.
        ("seed.shop.raw", "seed", "build", "d.s.shop.raw.build.seed"),
        ("seed.shop.raw", "seed", "seed", "d.s.shop.raw.seed"),
        ("model.shop.orders", "model", "compile", "d.s.shop.orders.compile"),
        ("model.shop.orders", "model", "docs generate", "d.s.shop.orders.compile"),
        ("model.shop.orders", "model", "show", "d.s.shop.orders.show"),
        ("seed.shop.raw", "seed", "clone", "d.s.shop.raw.clone"),
        ("source.shop.raw.orders", "source", "source freshness", "source.shop.raw.orders"),
        ("operation.shop.shop-on-run-start-0", "operation", "build", "operation.shop.shop-on-run-start-0"),
        ("function.shop.area", "function", "build", "function.shop.area"),
        ("exposure.shop.dashboard", "exposure", "build", "exposure.shop.dashboard"),
        ("saved_query.shop.revenue", "saved_query", "build", "saved_query.shop.revenue"),
        ("analysis.shop.adhoc", "analysis", "compile", "analysis.shop.adhoc"),
        ("test.shop.no_orders_lost", "test", "compile", "test.shop.no_orders_lost.compile"),
        ("unit_test.shop.orders.adds_up", "unit_test", "docs generate", "unit_test.shop.orders.adds_up.compile"),
    ],
)
def test_a_nodes_job_is_named_as_dbt_ol_names_it(unique_id: str, resource_type: str, command: str, name: str) -> None:
    assert names.job_name(node(unique_id, resource_type, TABLE), command) == name


def test_a_job_without_a_database_or_a_relation_has_a_name() -> None:
    two_parts = table("`s`.`t`", None, "s", "t")
    assert names.job_name(node("model.shop.orders", "model", two_parts), "build") == "s.shop.orders.build.run"
    assert names.job_name(node("model.shop.stg", "model", None), "build") == "model.shop.stg"


EXTENDED = {"OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME": "true"}


@pytest.mark.parametrize(
    ("argv", "environ", "name"),
    [
        (["build", "--select", "orders"], {}, "dbt-run-shop"),
        (["build"], {"OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME": "false"}, "dbt-run-shop"),
        (["build"], {"OPENLINEAGE_DBT_JOB_NAME": "nightly"}, "nightly"),
        (["build"], {"OPENLINEAGE_DBT_JOB_NAME": ""}, "dbt-run-shop"),
        (["build"], {"OPENLINEAGE_DBT_JOB_NAME": "nightly", **EXTENDED}, "nightly"),
        (["build"], EXTENDED, "dbt-run-shop-prof"),
        (["build"], {"OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME": "1"}, "dbt-run-shop-prof"),
        (["build", "--select", "a", "+b", "--threads", "4"], EXTENDED, "dbt-run-shop-prof-a-_b"),
        (["build", "--models=tag:daily"], EXTENDED, "dbt-run-shop-prof-tag_daily"),
        (["run", "-m", "a", "-x"], EXTENDED, "dbt-run-shop-prof-a"),
        (["build", "--selector", "every night"], EXTENDED, "dbt-run-shop-prof-every_night"),
        (["build", "-s", "a", "--selector", "nightly"], EXTENDED, "dbt-run-shop-prof-a"),
        (["build", "--selector=hourly", "test", "--selector=nightly"], EXTENDED, "dbt-run-shop-prof-hourly"),
    ],
)
def test_the_job_of_a_run_is_named_by_dbt_ols_variables(argv: list[str], environ: dict, name: str) -> None:
    assert names.session_job_name("shop", "prof", argv, environ) == name


@pytest.mark.parametrize(
    ("unique_id", "command", "name"),
    [
        ("model.shop.orders", "build", "shop.orders"),
        ("model.shop.orders.v2", "run", "shop.orders.v2"),
        ("seed.shop.raw", "seed", "shop.raw"),
        ("snapshot.shop.history", "compile", "shop.history.compile"),
        ("model.dbt_utils.numbers", "docs generate", "dbt_utils.numbers.compile"),
        ("test.shop.unique_orders_id.1a2b", "test", "shop.test.unique_orders_id.1a2b"),
        ("test.shop.no_orders_lost", "compile", "shop.test.no_orders_lost.compile"),
        ("unit_test.shop.orders.adds_up", "build", "shop.unit_test.orders.adds_up"),
        ("source.shop.raw.events", "source freshness", "shop.source.raw.events"),
        ("operation.shop.shop-on-run-end-0", "compile", "shop.operation.shop-on-run-end-0"),
        ("exposure.shop.orders", "", "shop.exposure.orders"),
    ],
)
def test_a_short_name_is_the_project_and_the_node(unique_id: str, command: str, name: str) -> None:
    kind, package, *rest = unique_id.split(".")
    relation = Relation("t", "db.s.t", "db", "s") if kind in ("model", "seed", "snapshot") else None
    node = NodeDescribed(
        unique_id=unique_id, resource_type=kind, name=rest[-1], package_name=package, relation=relation
    )
    assert names.job_name(node, command, short=True) == name


def test_the_short_name_of_a_run_is_the_project() -> None:
    assert names.session_job_name("shop", short=True) == "shop"
    assert names.session_job_name("shop", environ={"OPENLINEAGE_DBT_JOB_NAME": "nightly"}, short=True) == "nightly"
    extended = {"OPENLINEAGE_DBT_USE_EXTENDED_JOB_NAME": "true"}
    assert names.session_job_name("shop", "prod", ["build", "-s", "a"], extended, short=True) == "shop-prod-a"


def test_the_job_of_a_run_is_named_after_the_project() -> None:
    assert names.session_job_name("shop") == "dbt-run-shop"
    assert names.session_job_name("shop", environ=EXTENDED) == "dbt-run-shop"
