"""dbt as tasks of a real Airflow: the conf of each run says which copy of the project it is of, and what to do."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from spanline.airflow import DbtOperator, DbtSeedOperator

URLS = {
    "dbt_docs_url": "http://docs.example",
    "artifacts_url": "http://files.example/dbt",
    "trace_url": "http://jaeger.example/trace/{trace_id}",
    "lineage_url": "http://marquez.example/lineage/job/{namespace}/{job}",
}
SHOP = {
    "dbt_project_dir": "{{ dag_run.conf['project'] }}",
    "profiles_dir": "{{ dag_run.conf['project'] }}",
    "env_vars": {"GATE": "{{ dag_run.conf.get('gate', '') }}"},
    "select": "{{ dag_run.conf.get('select', '') }}",
    "vars": "{{ dag_run.conf.get('vars', '') }}",
    "check_interval": 1,
}
RETRIED = {"retries": 1, "retry_delay": timedelta(seconds=1)}

with DAG("attached", schedule=None):
    DbtOperator(task_id="dbt", dbt_command="run", **SHOP, **URLS, **RETRIED)

with DAG("deferred", schedule=None):
    DbtOperator(task_id="dbt", dbt_command="run", deferrable=True, **SHOP, **URLS, **RETRIED)

with DAG("timed", schedule=None):
    DbtOperator(task_id="dbt", dbt_command="run", execution_timeout=timedelta(seconds=12), **SHOP)

with DAG("timed_deferred", schedule=None):
    DbtOperator(task_id="dbt", dbt_command="run", execution_timeout=timedelta(seconds=12), deferrable=True, **SHOP)

with DAG("producer", schedule=None):
    DbtOperator(task_id="dbt", dbt_command="run", emit_assets=True, **SHOP)

with DAG("consumer", schedule=Asset("duckdb://shop.duckdb/shop.main.orders")):

    @task(task_id="dbt")
    def consume() -> str:
        return "a model was built"

    consume()

with DAG("mapped", schedule=None):
    # One at a time: DuckDB admits one writer.
    DbtSeedOperator.partial(
        task_id="dbt",
        dbt_project_dir=SHOP["dbt_project_dir"],
        profiles_dir=SHOP["profiles_dir"],
        trigger_reason="{{ dag_run.conf['reason'] }}",
        max_active_tis_per_dag=1,
    ).expand(select=["raw_orders", "raw_customers"])
