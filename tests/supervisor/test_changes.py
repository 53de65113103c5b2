"""What has changed in the project since a run began is told once."""

from __future__ import annotations

from spanline import events
from spanline.journal.progress import Progress, StepProgress
from spanline.supervisor.changes import Changes

A, B = "model.shop.a", "model.shop.b"


def described(unique_id: str, checksum: str | None) -> events.NodeDescribed:
    return events.NodeDescribed(
        unique_id=unique_id, resource_type="model", name=unique_id, package_name="shop", checksum=checksum
    )


def test_code_that_is_another_is_told_once() -> None:
    changes = Changes(Progress(steps={1: StepProgress(checksums={A: "1", B: "1"})}))
    now = {A: described(A, "2"), B: described(B, "1"), "model.shop.new": described("model.shop.new", "1")}
    assert changes.changed(now) == [A]
    assert changes.changed(now) == []
    assert changes.changed({A: described(A, "3"), B: described(B, None)}) == [A]


def test_of_a_run_that_has_just_begun_nothing_has_changed() -> None:
    assert Changes(Progress()).changed({A: described(A, "2")}) == []


def test_nodes_that_are_gone_are_told_once() -> None:
    changes = Changes(Progress())
    progress = Progress(steps={1: StepProgress(gone=frozenset((B, A)))})
    assert changes.gone(progress, 1) == [A, B]
    assert changes.gone(progress, 1) == []
    assert changes.gone(progress, 2) == []
