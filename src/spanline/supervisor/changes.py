"""What has become of the project since a run began: code that is another now, nodes that are gone."""

from __future__ import annotations

from collections.abc import Mapping

from spanline.events import NodeDescribed
from spanline.journal.progress import Progress


class Changes:
    """The changes that have been told of one run: each is told once."""

    def __init__(self, before: Progress) -> None:
        self._checksums = {
            unique_id: checksum for step in before.steps.values() for unique_id, checksum in step.checksums.items()
        }
        self._gone: frozenset[str] = frozenset()

    def changed(self, descriptions: Mapping[str, NodeDescribed]) -> list[str]:
        """Nodes whose code isn't what it was when the run was begun, or when this was last asked."""
        if not self._checksums:
            return []
        now = {key: node.checksum for key, node in descriptions.items() if node.checksum}
        found = sorted(key for key, old in self._checksums.items() if now.get(key, old) != old)
        self._checksums.update((key, now[key] or "") for key in found)
        return found

    def gone(self, progress: Progress, step: int) -> list[str]:
        """Nodes that the step was to do, and no longer can."""
        found = progress.steps.get(step)
        gone = found.gone if found is not None else frozenset()
        new = sorted(gone - self._gone)
        self._gone |= gone
        return new
