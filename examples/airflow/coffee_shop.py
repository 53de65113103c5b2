"""Build the coffee shop with Spanline from a task of Airflow's, which becomes the parent of the run in lineage."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import dag, task

# Where there is a copy of it; what is built is kept beside it.
PROJECT = Path(os.environ.get("COFFEE_SHOP", Path(__file__).parents[1] / "coffee_shop"))
PARENT = "{{ macros.OpenLineageProviderPlugin.lineage_parent_id(task_instance) }}"
ROOT = "{{ macros.OpenLineageProviderPlugin.lineage_root_parent_id(task_instance) }}"


@dag(schedule=None)
def coffee_shop() -> None:
    @task
    def build(parent: str, root: str) -> dict[str, int]:
        import spanline

        result = spanline.run(
            ["build", "--profiles-dir", "."],
            project_dir=PROJECT,
            environment={"OPENLINEAGE_PARENT_ID": parent, "OPENLINEAGE_ROOT_PARENT_ID": root},
            retry_limit=3,
        )
        result.raise_for_failure()
        return dict(result.counts)

    build(PARENT, ROOT)


coffee_shop()
