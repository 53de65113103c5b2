"""The progress of a microbatch model: which of its batches are done, over all attempts and sessions of a run."""

from __future__ import annotations

import msgspec

from spanline import events
from spanline.events import Batch


class ModelBatches(msgspec.Struct):
    """The batches of a model, in order, and whether each is done. `checksum` is the checksum of the model's code."""

    done: dict[Batch, bool] = {}
    checksum: str | None = None

    @property
    def batches(self) -> events.Batches:
        """The batches that are done, and those that are not."""
        successful = [batch for batch, done in self.done.items() if done]
        return events.Batches(successful, [batch for batch, done in self.done.items() if not done])

    def planned(self, event: events.BatchesPlanned, checksum: str | None = None) -> None:
        """Take dbt's plan as the whole: a model that starts over has new batches, and none is done."""
        is_done = {**dict.fromkeys(event.batches.successful, True), **dict.fromkeys(event.batches.failed, False)}
        self.done = dict(sorted(is_done.items()))
        self.checksum = checksum

    def batch_finished(self, event: events.BatchFinished) -> None:
        """Take one batch into account."""
        batch = (event.start or "", event.end or "")
        if event.status == "success" and batch in self.done:
            self.done[batch] = True

    def node_finished(self, found: events.Batches, checksum: str | None = None) -> None:
        """Take dbt's result of the whole model into account.

        A batch that succeeded stays so: an interrupted dbt reports batches that end meanwhile as failed. Earlier
        versions of Spanline journalled only this result.
        """
        if not self.done:
            self.checksum = checksum
        for batch in found.failed:
            self.done.setdefault(batch, False)
        self.done.update(dict.fromkeys(found.successful, True))
