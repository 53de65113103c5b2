"""Lineage under Airflow: the session's parent is the task's run of this try, over the transport that Airflow has.

Nothing here may fail a task: what goes wrong is logged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from spanline.journal.state import RunState
from spanline.runner.shared import settings
from spanline.sinks.openlineage import datasets

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context

log = logging.getLogger(__name__)

_TRANSPORT: Final = settings.OPENLINEAGE_TRANSPORT_PREFIX


def variables(context: Context) -> dict[str, str]:
    """The variables by which a run's lineage is the task's; none where the provider isn't installed."""
    try:
        from airflow.providers.openlineage import conf  # noqa: PLC0415 - it may be missing
        from airflow.providers.openlineage.api.core import is_openlineage_active  # noqa: PLC0415
        from airflow.providers.openlineage.plugins import macros  # noqa: PLC0415
    except ImportError:
        return {}
    try:
        if not is_openlineage_active():
            return {settings.OPENLINEAGE_DISABLED: "true"}
        task_instance = context["ti"]
        return {
            settings.OPENLINEAGE_PARENT_ID: macros.lineage_parent_id(task_instance),
            settings.OPENLINEAGE_ROOT_PARENT_ID: macros.lineage_root_parent_id(task_instance),
            **_transport(conf.config_path(), conf.transport()),
        }
    except Exception as error:  # noqa: BLE001 - lineage never fails a task
        log.warning("this run's lineage has no parent: %s: %s", type(error).__name__, error)
        return {}


def _transport(config_path: str, transport: Mapping[str, object]) -> dict[str, str]:
    """How OpenLineage's client is told of the provider's transport. Without either it reads the environment itself."""
    if config_path:
        return {settings.OPENLINEAGE_CONFIG: config_path}
    return {_TRANSPORT: json.dumps(transport)} if transport else {}


def of_run(state: RunState) -> OperatorLineage | None:
    """What the whole run read and wrote, for the task's own event."""
    from airflow.providers.openlineage.extractors.base import OperatorLineage  # noqa: PLC0415 - it may be missing
    from openlineage.client.event_v2 import InputDataset, OutputDataset  # noqa: PLC0415

    namespace = datasets.namespace_of(state)
    described = [state.descriptions[key] for key in state.nodes if key in state.descriptions]
    written = dict.fromkeys(filter(None, map(datasets.written_by, described)))
    read = dict.fromkeys(name for node in described for name in datasets.read_by(node, state))
    return OperatorLineage(
        inputs=[InputDataset(namespace, name) for name in read if name not in written],
        outputs=[OutputDataset(namespace, name) for name in written],
    )
