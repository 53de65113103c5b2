"""Lineage under Airflow: the session's parent is the task's run of this try, over the transport that Airflow has.

Nothing here may fail a task: what goes wrong is logged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from spanline.journal.state import SUCCESS, RunState
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def variables(context: Context) -> dict[str, str]:
    """The variables by which a run's lineage is the task's; none where the provider isn't installed."""
    try:
        from airflow.providers.openlineage.api.core import is_openlineage_active  # noqa: PLC0415 - it may be missing
        from airflow.providers.openlineage.plugins import macros  # noqa: PLC0415
    except ImportError:
        return {}
    try:
        if not is_openlineage_active():
            return {settings.OPENLINEAGE_DISABLED: "true"}
        task_instance = context["ti"]
        return {
            settings.OPENLINEAGE_DISABLED: "false",  # whatever an earlier try has said
            settings.OPENLINEAGE_PARENT_ID: macros.lineage_parent_id(task_instance),
            settings.OPENLINEAGE_ROOT_PARENT_ID: macros.lineage_root_parent_id(task_instance),
            **configuration(),
        }
    except Exception as error:  # noqa: BLE001 - lineage never fails a task
        log.warning("this run has no lineage: %s: %s", type(error).__name__, error)
        return {settings.OPENLINEAGE_DISABLED: "true"}


def configuration() -> dict[str, str]:
    """The provider's configuration as variables that OpenLineage's client reads.

    The provider resolves it, as only Airflow can: it may be in a connection, and so may an API key. A variable's name
    keeps it out of the run's files. Without a configuration of Airflow's the client reads the environment itself.
    """
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter  # noqa: PLC0415 - it may be missing

    found: Mapping[str, object] = OpenLineageAdapter().get_openlineage_config() or {}
    return {f"{settings.OPENLINEAGE_PREFIX}{key.upper()}": json.dumps(value) for key, value in found.items()}


def of_run(state: RunState) -> OperatorLineage | None:
    """What the whole run read and wrote, for the task's own event. None where dbt has not said which warehouse."""
    if state.config is None:
        return None
    from airflow.providers.openlineage.extractors.base import OperatorLineage  # noqa: PLC0415 - it may be missing
    from openlineage.client.event_v2 import InputDataset, OutputDataset  # noqa: PLC0415

    from spanline.sinks.openlineage import datasets  # noqa: PLC0415 - a DAG that is only parsed needs none of it

    namespace = datasets.namespace_of(state)
    ran = (state.descriptions[key] for key in state.all_nodes if key in state.descriptions)
    outputs = {name: None for _, name in written(state)}
    inputs = dict.fromkeys(name for node in ran for name in datasets.read_by(node, state))
    return OperatorLineage(
        inputs=[InputDataset(namespace, name) for name in inputs if name not in outputs],
        outputs=[OutputDataset(namespace, name) for name in outputs],
    )


def written(state: RunState) -> Iterator[tuple[str, str]]:
    """The nodes that have written a dataset, in any session of the run, and the name of that."""
    from spanline.sinks.openlineage import datasets  # noqa: PLC0415 - a DAG that is only parsed needs none of it

    for unique_id, node in state.all_nodes.items():
        described = state.descriptions.get(unique_id)
        name = datasets.written_by(described) if described is not None else None
        if name is not None and node.status == SUCCESS:
            yield unique_id, name
