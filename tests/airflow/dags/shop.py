"""dbt as tasks of a real Airflow: the conf of each run says which copy of the project it is of, and what to do."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from spanline.airflow import DbtOperator

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
