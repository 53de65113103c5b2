"""Write dbt's `run_results.json` of an attempt from the journal, if a killed dbt has left none.

Its format is https://schemas.getdbt.com/dbt/run-results/v6.json, which has no status for a node that was cut off. It
becomes an `error`, and a node that never began becomes `skipped`, so `dbt retry` runs both again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import msgspec

from spanline.journal.batches import ModelBatches
from spanline.journal.state import CUT_OFF, AttemptState, NodeState, RunState
from spanline.system import files

FILE_NAME: Final = "run_results.json"
_SCHEMA: Final = "https://schemas.getdbt.com/dbt/run-results/v6.json"


def write(state: RunState, attempt: AttemptState, path: Path) -> None:
    """Write the file of the last attempt that ended. Raises `OSError` if that is not possible."""
    began = state.clock.at(state.dbt) if state.dbt is not None else state.started
    content = {
        "metadata": {
            "dbt_schema_version": _SCHEMA,
            "dbt_version": state.dbt.dbt_version if state.dbt is not None else "",
            "generated_at": datetime.fromtimestamp(state.last / 1e9, timezone.utc),
            "invocation_id": attempt.invocation_id,
            "env": {},
        },
        "results": list(_results(state, attempt)),
        "elapsed_time": max(0, state.last - began) / 1e9,
        # dbt retry needs these.
        "args": {"which": attempt.command, "invocation_command": " ".join(["dbt", *attempt.argv])},
    }
    files.write(path, msgspec.json.encode(content))


def _results(state: RunState, attempt: AttemptState) -> Iterator[dict[str, object]]:
    batches = state.batches.get(attempt.step, {})
    here = [node for node in state.nodes.values() if (node.step, node.attempt) == (attempt.step, attempt.attempt)]
    for node in here:
        if node.status in CUT_OFF:
            yield _result(node, "error", f"{node.status} while it ran", batches)
        else:
            yield _result(node, node.status, node.message, batches)
    begun = {node.unique_id for node in here}
    for unique_id in attempt.selection:
        if unique_id not in begun:
            yield _result(NodeState(unique_id=unique_id, status="skipped"), "skipped", "it had not begun", batches)


def _result(
    node: NodeState, status: str, message: str | None, batches: Mapping[str, ModelBatches]
) -> dict[str, object]:
    model = batches.get(node.unique_id)
    return {
        "unique_id": node.unique_id,
        "status": status,
        "timing": [],
        "thread_id": "",
        "execution_time": node.execution_time,
        "adapter_response": {} if node.rows_affected is None else {"rows_affected": node.rows_affected},
        "message": message,
        "failures": node.failing_rows,
        "compiled": None,
        "compiled_code": None,
        "relation_name": None,
        "batch_results": model.batches if model is not None else None,
    }
