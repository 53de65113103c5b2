"""What a task leaves behind of its run: small, plain, the same from `execute` and `execute_complete`."""

from __future__ import annotations

from typing import Final

import msgspec

from spanline.results.result import RunResult

_NAMED: Final = 100
"""So many failed nodes are named: an XCom isn't the place for more. The run has all."""
_MESSAGE: Final = 2_000


class DbtTaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `counts` are of nodes by status, `elapsed` is in seconds.

    `failed_nodes` are unique ids, the first hundred. `artifacts_url` is where the artifacts are stored, where they are;
    `directory` is the run's own on the worker.
    """

    run_id: str
    run_url: str = ""
    status: str
    exit_code: int
    elapsed: float
    counts: dict[str, int]
    failed_nodes: list[str]
    message: str | None = None
    artifacts_url: str | None = None
    directory: str

    @property
    def success(self) -> bool:
        """Whether the run succeeded."""
        return self.status == "success"

    @classmethod
    def of(cls, result: RunResult, run_url: str = "") -> DbtTaskResult:
        """What is told of a result."""
        return cls(
            run_id=result.run_id,
            run_url=run_url,
            status=result.outcome,
            exit_code=result.exit_code,
            elapsed=round(result.elapsed, 3),
            counts=result.counts,
            failed_nodes=[node.unique_id for node in result.failed_nodes[:_NAMED]],
            message=result.error[:_MESSAGE] if result.error else None,
            artifacts_url=result.artifacts_url,
            directory=str(result.directory),
        )

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types, as an XCom holds them."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found
