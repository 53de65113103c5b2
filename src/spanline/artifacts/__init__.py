"""dbt's artifacts: kept for each run, loaded with an outcome, redacted, stored, and read back.

    from spanline import artifacts

    outcome = artifacts.load("manifest", "target")
    state = artifacts.latest("s3://bucket", dag="shop").download("state")

The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanline.artifacts.loading import Absent as Absent
    from spanline.artifacts.loading import Invalid as Invalid
    from spanline.artifacts.loading import Loaded as Loaded
    from spanline.artifacts.loading import WrongVersion as WrongVersion
    from spanline.artifacts.loading import get_catalog as get_catalog
    from spanline.artifacts.loading import get_manifest as get_manifest
    from spanline.artifacts.loading import get_run_results as get_run_results
    from spanline.artifacts.loading import get_sources as get_sources
    from spanline.artifacts.loading import load as load
    from spanline.artifacts.stored import Stored as Stored
    from spanline.artifacts.stored import latest as latest
    from spanline.home.storage import Redaction as Redaction
    from spanline.home.storage import Storage as Storage

_OF_LOAD = (
    *("Absent", "Invalid", "Loaded", "WrongVersion", "load"),
    *("get_catalog", "get_manifest", "get_run_results", "get_sources"),
)
_HOMES = {
    **dict.fromkeys(_OF_LOAD, "spanline.artifacts.loading"),
    **dict.fromkeys(("Stored", "latest"), "spanline.artifacts.stored"),
    **dict.fromkeys(("Redaction", "Storage"), "spanline.home.storage"),
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - it holds names


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanline.artifacts' has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    # No module may have the name of one of these: importing it would bind it here, in the function's place.
    globals()[name] = found
    return found
