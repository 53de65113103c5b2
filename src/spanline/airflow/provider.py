"""What Airflow is told of this provider: its connection type and the form of that, its hook, its links.

https://airflow.apache.org/docs/apache-airflow-providers/howto/create-custom-providers.html
"""

from __future__ import annotations

from spanline._version import __version__


def get_provider_info() -> dict[str, object]:
    """The provider's metadata. Airflow finds it by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "spanline",
        "name": "Spanline (dbt Core)",
        "description": "Run dbt Core, and see in real time what it does.",
        "versions": [__version__],
        "operators": [{"integration-name": "dbt Core", "python-modules": ["spanline.airflow.operators"]}],
        "hooks": [{"integration-name": "dbt Core", "python-modules": ["spanline.airflow.hook"]}],
        "triggers": [{"integration-name": "dbt Core", "python-modules": ["spanline.airflow.trigger"]}],
        "extra-links": [
            "spanline.airflow.links.DbtDocsLink",
            "spanline.airflow.links.DbtArtifactsLink",
            "spanline.airflow.links.DbtTraceLink",
            "spanline.airflow.links.DbtLineageLink",
        ],
        "connection-types": [
            {
                "connection-type": "dbt",
                "hook-class-name": "spanline.airflow.hook.DbtHook",
                "hook-name": "dbt",
                "ui-field-behaviour": {"hidden-fields": [], "relabeling": {"schema": "Database or schema"}},
                "conn-fields": {
                    "adapter": _text("dbt adapter", "dbt's name of it, such as postgres, snowflake or dremio"),
                    "dbt_docs_url": _text("dbt docs URL", "Where dbt's documentation is served"),
                    "artifacts_url": _text("Artifacts URL", "Below which people find stored artifacts"),
                    "trace_url": _text("Trace URL", "With {trace_id}, such as http://jaeger:16686/trace/{trace_id}"),
                    "lineage_url": _text("Lineage URL", "With {namespace}, {job} or {run_id}"),
                },
            }
        ],
    }


def _text(label: str, description: str) -> dict[str, object]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}
