"""Build the coffee shop in a task, which is the parent of dbt's run in lineage, and of its trace."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG

from spanline.airflow import DbtOperator

# Where there is a copy of it; what is built is kept beside it.
PROJECT = os.environ.get("COFFEE_SHOP", str(Path(__file__).parents[1] / "coffee_shop"))

with DAG("coffee_shop", schedule=None) as dag:
    build = DbtOperator(
        task_id="build",
        dbt_project_dir=PROJECT,
        dbt_command="build",
        profiles_dir=PROJECT,
    )
