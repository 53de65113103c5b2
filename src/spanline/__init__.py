"""Run dbt Core and see, in real time, what it does.

    import spanline

    result = spanline.run(["build"], project_dir="my_project")
    result.raise_for_failure()

The names below are the public API; they are imported when they are first used, so that `import spanline` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from spanline._version import __version__ as __version__

if TYPE_CHECKING:
    from spanline import artifacts as artifacts
    from spanline import events as events
    from spanline import profiles as profiles
    from spanline.api.callback import callback as callback
    from spanline.api.callers import find as find
    from spanline.api.callers import start_or_resume as start_or_resume
    from spanline.api.run import Run as Run
    from spanline.api.start import attach as attach
    from spanline.api.start import cancel as cancel
    from spanline.api.start import retry as retry
    from spanline.api.start import run as run
    from spanline.api.start import start as start
    from spanline.api.start import upload as upload
    from spanline.errors import ArtifactsNotFound as ArtifactsNotFound
    from spanline.errors import DbtCancelled as DbtCancelled
    from spanline.errors import DbtCompilationException as DbtCompilationException
    from spanline.errors import DbtConnectionException as DbtConnectionException
    from spanline.errors import DbtException as DbtException
    from spanline.errors import DbtProfileException as DbtProfileException
    from spanline.errors import DbtRuntimeException as DbtRuntimeException
    from spanline.errors import DbtTestFailed as DbtTestFailed
    from spanline.errors import DbtTimeout as DbtTimeout
    from spanline.errors import RunBusy as RunBusy
    from spanline.errors import RunnerDied as RunnerDied
    from spanline.errors import RunNotFound as RunNotFound
    from spanline.errors import SpanlineError as SpanlineError
    from spanline.errors import UsageError as UsageError
    from spanline.failures.classify import Failure as Failure
    from spanline.failures.classify import classify as classify
    from spanline.failures.matching import Category as Category
    from spanline.home.home import RunDirectory as RunDirectory
    from spanline.home.limits import LimitArguments as LimitArguments
    from spanline.home.limits import Limits as Limits
    from spanline.home.storage import Redaction as Redaction
    from spanline.home.storage import Storage as Storage
    from spanline.journal.ids import new_run_id as new_run_id
    from spanline.journal.reader import Record as Record
    from spanline.journal.state import AttemptState as AttemptState
    from spanline.journal.state import NodeState as NodeState
    from spanline.journal.state import Outcome as Outcome
    from spanline.journal.state import RunState as RunState
    from spanline.results.result import NodeResult as NodeResult
    from spanline.results.result import RunResult as RunResult
    from spanline.system.stdio import Stdio as Stdio

_ERRORS = (
    "ArtifactsNotFound",
    "DbtCancelled",
    "DbtCompilationException",
    "DbtConnectionException",
    "DbtException",
    "DbtProfileException",
    "DbtRuntimeException",
    "DbtTestFailed",
    "DbtTimeout",
    "RunBusy",
    "RunNotFound",
    "RunnerDied",
    "SpanlineError",
    "UsageError",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "spanline.errors"),
    **dict.fromkeys(("attach", "cancel", "retry", "run", "start", "upload"), "spanline.api.start"),
    **dict.fromkeys(("find", "start_or_resume"), "spanline.api.callers"),
    "Run": "spanline.api.run",
    **dict.fromkeys(("Failure", "classify"), "spanline.failures.classify"),
    "Category": "spanline.failures.matching",
    "RunDirectory": "spanline.home.home",
    **dict.fromkeys(("LimitArguments", "Limits"), "spanline.home.limits"),
    **dict.fromkeys(("Redaction", "Storage"), "spanline.home.storage"),
    "new_run_id": "spanline.journal.ids",
    "Record": "spanline.journal.reader",
    **dict.fromkeys(("AttemptState", "NodeState", "Outcome", "RunState"), "spanline.journal.state"),
    **dict.fromkeys(("NodeResult", "RunResult"), "spanline.results.result"),
    "Stdio": "spanline.system.stdio",
    "callback": "spanline.api.callback",
}

_MODULES = ("artifacts", "events", "profiles")

__all__ = ["__version__", *_MODULES, *sorted(_HOMES)]  # noqa: PLE0604 - it holds names


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"spanline.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanline' has no attribute {name!r}")
    # No module may have the name of one of these: importing it would bind it here, in the function's place.
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found
