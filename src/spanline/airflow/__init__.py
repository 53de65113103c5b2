"""An Airflow provider: dbt as a task, whose lineage, trace, retry, cancel and deferral are Spanline's.

    from spanline.airflow import DbtOperator

    DbtOperator(task_id="build", dbt_project_dir="/opt/airflow/dbt/shop", dbt_command="build", conn_id="warehouse")

Everything that it does is the core's: here are its Airflow names. They are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanline.airflow.exceptions import DbtCancelled as DbtCancelled
    from spanline.airflow.exceptions import DbtCompilationException as DbtCompilationException
    from spanline.airflow.exceptions import DbtConnectionException as DbtConnectionException
    from spanline.airflow.exceptions import DbtException as DbtException
    from spanline.airflow.exceptions import DbtProfileException as DbtProfileException
    from spanline.airflow.exceptions import DbtRuntimeException as DbtRuntimeException
    from spanline.airflow.exceptions import DbtTestFailed as DbtTestFailed
    from spanline.airflow.exceptions import DbtTimeout as DbtTimeout
    from spanline.airflow.exceptions import RunnerDied as RunnerDied
    from spanline.airflow.hook import DbtHook as DbtHook
    from spanline.airflow.links import DbtArtifactsLink as DbtArtifactsLink
    from spanline.airflow.links import DbtDocsLink as DbtDocsLink
    from spanline.airflow.links import DbtLineageLink as DbtLineageLink
    from spanline.airflow.links import DbtTraceLink as DbtTraceLink
    from spanline.airflow.operators import DbtBuildOperator as DbtBuildOperator
    from spanline.airflow.operators import DbtDocsGenerateOperator as DbtDocsGenerateOperator
    from spanline.airflow.operators import DbtOperator as DbtOperator
    from spanline.airflow.operators import DbtRunOperator as DbtRunOperator
    from spanline.airflow.operators import DbtSeedOperator as DbtSeedOperator
    from spanline.airflow.operators import DbtSnapshotOperator as DbtSnapshotOperator
    from spanline.airflow.operators import DbtSourceFreshnessOperator as DbtSourceFreshnessOperator
    from spanline.airflow.operators import DbtTestOperator as DbtTestOperator
    from spanline.airflow.task_result import DbtTaskResult as DbtTaskResult
    from spanline.airflow.trigger import DbtExecutionTrigger as DbtExecutionTrigger

_EXCEPTIONS = (
    *("DbtCancelled", "DbtCompilationException", "DbtConnectionException", "DbtException", "DbtProfileException"),
    *("DbtRuntimeException", "DbtTestFailed", "DbtTimeout", "RunnerDied"),
)
_OPERATORS = (
    *("DbtBuildOperator", "DbtDocsGenerateOperator", "DbtOperator", "DbtRunOperator", "DbtSeedOperator"),
    *("DbtSnapshotOperator", "DbtSourceFreshnessOperator", "DbtTestOperator"),
)
_LINKS = ("DbtArtifactsLink", "DbtDocsLink", "DbtLineageLink", "DbtTraceLink")
_HOMES = {
    **dict.fromkeys(_EXCEPTIONS, "exceptions"),
    **dict.fromkeys(_OPERATORS, "operators"),
    **dict.fromkeys(_LINKS, "links"),
    "DbtExecutionTrigger": "trigger",
    "DbtHook": "hook",
    "DbtTaskResult": "task_result",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - it holds names


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanline.airflow' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"spanline.airflow.{home}"), name)
    globals()[name] = found
    return found
