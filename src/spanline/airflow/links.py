"""Links of a task: pushed as soon as they are known, so that they are there while the run goes on, deferred or not.

Airflow asks for each link when the task ends *and at every deferral*, and stores the answer over what was pushed. So
`get_link` returns what this process has pushed. A link of which nothing is configured is empty, and isn't shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _PushedLink(BaseOperatorLink):
    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """What was pushed; empty where nothing was."""
        pushed: Mapping[str, str] = getattr(operator, "pushed_links", {})
        return pushed.get(self.xcom_key, "")


class DbtDocsLink(_PushedLink):
    """dbt's documentation: of the project, and of the first node once that is known."""

    name = "dbt Docs"


class DbtArtifactsLink(_PushedLink):
    """Where the run's artifacts are."""

    name = "Artifacts"


class DbtTraceLink(_PushedLink):
    """The run's trace, in Jaeger, Tempo or Datadog."""

    name = "Trace"


class DbtLineageLink(_PushedLink):
    """The run's job, in Marquez or DataHub."""

    name = "Lineage"


def docs_url(base: str, unique_id: str | None = None) -> str:
    """A page of dbt's documentation: of a node, or the first."""
    if not base or unique_id is None:
        return base
    return f"{base.rstrip('/')}/#!/{unique_id.partition('.')[0]}/{quote(unique_id)}"


def artifacts_url(base: str, dag_id: str, task_id: str, run_id: str) -> str:
    """`{base}/{dag_id}/{task_id}/{run_id}/`, its parts percent-encoded."""
    return (
        "/".join((base.rstrip("/"), *(quote(part, safe="") for part in (dag_id, task_id, run_id)), "")) if base else ""
    )


def filled(template: str, **values: str) -> str:
    """A URL template with `{name}` replaced by values, percent-encoded; anything else in braces stays as it is."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template
