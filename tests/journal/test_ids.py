"""Identities: UUIDv7 as RFC 9562 has it, and derived ids that follow from nothing but what they are derived from."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanline.journal import ids

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
"""A valid UUIDv7 of July 2023, not one of ours."""

sessions = st.integers(1, 50)
places = st.tuples(st.integers(1, 9), st.integers(1, 9), st.text(min_size=1, max_size=20))


def is_version_7(text: str) -> bool:
    """RFC 9562, section 5.7: version 7 in bits 48 to 51, the variant 10 in bits 64 and 65."""
    bits = uuid.UUID(text).int
    return (bits >> 76) & 0xF == 7 and (bits >> 62) & 0b11 == 0b10 and text == str(uuid.UUID(text))


def test_a_new_run_id_is_a_uuid_of_version_7_and_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = [ids.new_run_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert all(map(is_version_7, made))
    assert len(set(made)) == 1000
    assert all(before <= uuid.UUID(one).int >> 80 <= after for one in made)


def test_run_ids_sort_by_time() -> None:
    made = []
    for _ in range(5):
        made.append(ids.new_run_id())
        now = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == now:
            pass
    assert made == sorted(made)


def test_the_first_sessions_lineage_run_is_the_run_itself() -> None:
    assert ids.lineage_run_id(RUN, 1) == RUN
    assert ids.lineage_run_id(RUN, 2) != RUN


@given(session=sessions, place=places)
def test_a_derived_lineage_id_is_a_version_7_of_its_runs_time(session: int, place: tuple[int, int, str]) -> None:
    derived = ids.lineage_run_id(RUN, session, *place)
    assert is_version_7(derived)
    assert derived != RUN
    assert uuid.UUID(derived).int >> 80 == uuid.UUID(RUN).int >> 80


@given(one=st.tuples(sessions, places), other=st.tuples(sessions, places))
def test_ids_are_equal_exactly_where_what_they_are_derived_from_is(
    one: tuple[int, tuple[int, int, str]], other: tuple[int, tuple[int, int, str]]
) -> None:
    for derive in (ids.lineage_run_id, ids.span_id):
        same = derive(RUN, one[0], *one[1]) == derive(RUN, other[0], *other[1])
        assert same == (one == other)
    assert (ids.trace_id(RUN, one[0]) == ids.trace_id(RUN, other[0])) == (one[0] == other[0])


@given(session=sessions, place=places)
def test_trace_and_span_ids_have_the_sizes_of_w3c_trace_context_and_are_never_zero(
    session: int, place: tuple[int, int, str]
) -> None:
    assert 0 < ids.trace_id(RUN, session) < 2**128
    assert 0 < ids.span_id(RUN, session, *place) < 2**64


def test_another_process_derives_the_same_ids() -> None:
    code = (
        f"from spanline.journal import ids; r = {RUN!r}; "
        "print(ids.lineage_run_id(r, 2, 1, 1, 'model.a.b'), ids.trace_id(r, 2), ids.span_id(r, 2, 1, 1, 'model.a.b'))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert re.fullmatch(r"[0-9a-f-]{36} \d+ \d+\n", said[0])


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"  00-{TRACE}-{SPAN}-00\t",
        f"cc-{TRACE}-{SPAN}-01-what-comes-later",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "nonsense",
    ],
)
def test_a_sessions_trace_is_the_one_that_opentelemetry_reads_in_a_traceparent(traceparent: str) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    theirs = get_current_span(context).get_span_context()
    expected = theirs.trace_id if theirs.is_valid else ids.trace_id(RUN, 1)
    assert ids.session_trace_id(RUN, 1, traceparent) == expected
