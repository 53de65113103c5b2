"""Where in a record a secret may stand: which fields hold what people wrote, or what a warehouse said.

All other fields, and the names of all fields, are the record's structure: readers join records by them, so they are
never masked. What a field is is decided by its place in its type of record, never by its name within somebody's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

DATA = "data"
"""What people wrote: masked by every rule of docs/security.md."""
TEXT = "text"
"""What names things too (a connection's host): only a secret that can be told apart is masked."""
ARGUMENTS = "arguments"
"""A command of dbt's, or several: `--vars` and `--args` are data, the others text."""

Place = Union[str, Mapping[str, "Place"]]
"""What a field is; of a field with fields (or of a list of such), what of these is anything."""

PLACES: Mapping[str, Mapping[str, Place]] = {
    "session_started": {"steps": ARGUMENTS, "caller": TEXT},
    "session_ended": {},
    "delivery_ended": {"sinks": {"error": DATA}},
    "repository_found": {"url": TEXT},
    "step_started": {"argv": ARGUMENTS},
    "attempt_started": {"argv": ARGUMENTS},
    "attempt_ended": {},
    "retry_scheduled": {"reason": TEXT},
    "runner_died": {"detail": DATA},
    "runner_killed": {"reason": TEXT},
    "cancel_requested": {"by": TEXT, "reason": TEXT},
    "journal_stopped": {"reason": TEXT},
    "heartbeat": {},
    "interrupt_received": {"reason": TEXT},
    "runner_failed": {"exception": DATA, "traceback": DATA},
    "dbt_started": {"argv": ARGUMENTS},
    "dbt_configured": {"connection": TEXT},
    "phase_started": {},
    "selection": {},
    "nodes_gone": {},
    "artifact_written": {},
    "artifact_kept": {},
    "artifacts_uploaded": {"url": TEXT, "left_out": TEXT, "error": DATA},
    "log": {"message": DATA},
    "dbt_finished": {"exception": DATA},
    "dbt_exited": {},
    "node_described": {
        "description": DATA,
        "columns": {"description": DATA},
        "tags": DATA,
        "meta": DATA,
        "owners": {"name": DATA, "emails": DATA},
        "test": {"arguments": DATA},
        "exposure": {"url": DATA, "label": DATA},
    },
    "node_started": {},
    "node_compiled": {"sql": DATA},
    "node_finished": {"message": DATA},
    "node_skipped": {},
    "test_result": {},
    "freshness_result": {},
    "batches_planned": {},
    "batch_finished": {},
    "hook_started": {"statement": DATA},
    "hook_finished": {"message": DATA},
    "query_started": {"sql": DATA},
    "query_finished": {},
    "column_resolver_started": {},
    "column_resolver_stopped": {"reason": TEXT},
    "columns_resolved": {"columns": {"description": DATA}, "error": DATA},
}
"""By the type of record. A type that isn't listed has no structure: all of its fields are data."""
