"""How long something took, whatever the system's clock did meanwhile. See also tests/faults/test_clock.py."""

from __future__ import annotations

import pytest

from spanline.runner.stopwatch import Stopwatch

HOUR = 3_600_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize("ahead", [-HOUR, HOUR], ids=["back", "forward"])
def test_what_dbt_has_timed_by_a_clock_that_was_set_is_timed_again(ahead: int) -> None:
    readings = [(HOUR, 0), (HOUR, 0), (HOUR + 2 * SECOND, 2 * SECOND), (HOUR + ahead + 3 * SECOND, 3 * SECOND)]
    stopwatch = Stopwatch(lambda: readings.pop(0))
    stopwatch.start("before")
    stopwatch.start("during")
    assert stopwatch.stop("before", 1.9) == 1.9
    assert stopwatch.stop("during", 3 + ahead / SECOND) == 3


@pytest.mark.parametrize("dbts", [3600.2, -3599.8])
def test_a_clock_that_was_set_before_dbt_told_of_the_beginning_is_not_believed(dbts: float) -> None:
    stopwatch = Stopwatch()
    stopwatch.start("model.shop.orders")
    assert stopwatch.stop("model.shop.orders", dbts) == pytest.approx(0.0, abs=1.0)


def test_what_dbt_says_counts_where_no_clock_was_set() -> None:
    stopwatch = Stopwatch()
    stopwatch.start("model.shop.orders")
    assert stopwatch.stop("model.shop.orders", 0.75) == 0.75
    assert stopwatch.stop("one that nobody saw begin", 12.0) == 12.0


def test_parts_that_overlap_may_take_longer_than_the_whole() -> None:
    stopwatch = Stopwatch()
    stopwatch.start("model.shop.daily")
    stopwatch.note_parts("model.shop.daily")
    assert stopwatch.stop("model.shop.daily", 12.0) == 12.0
