"""What a node or a hook is called, by spans and log lines alike.

Such a name is of low cardinality, as a route's is: a project has so many nodes, however often it is run.
"""

from __future__ import annotations

import re
from typing import Final

from spanline.journal.state import RunState
from spanline.results import conventions

_HOOK: Final = re.compile(r"operation\.(\w+)\.\1-(on-run-start|on-run-end)-(\d+)")


def name_of(unique_id: str, state: RunState) -> str:
    """`model orders`; of a hook its place, `on-run-end 1`, after its package where that isn't the project itself."""
    described = state.descriptions.get(unique_id)
    if described is not None:
        return f"{described.resource_type} {described.name}"
    hook = _HOOK.fullmatch(unique_id)
    if hook is None:
        return f"{conventions.HOOK} {unique_id}"
    package, place, index = hook.groups()
    name = f"{place} {int(index) + 1}"
    return name if package == state.project else f"{package} {name}"
