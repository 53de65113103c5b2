"""What a supervisor of its own is given: all of it arrives in its process, or it says what it misses."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from spanline.errors import SpanlineError
from spanline.profiles import Profile
from spanline.supervisor.handover import offer, take

TAKE = """
import os
from spanline.supervisor.handover import take
profile = take(0)
print([len(os.environ["LONG"]), os.fsencode(os.environ["ODD"]), profile and (profile.conn_id, profile.environment)])
"""
ENVIRONMENT = {"LONG": "x" * 120_000, "ODD": os.fsdecode(b"\xff'\n")}
PROFILE = Profile(conn_id="warehouse", adapter="duckdb", output={"type": "duckdb"}, environment={"A_KEY": "hush"})


@pytest.mark.parametrize("profile", [None, PROFILE], ids=["none", "profile"])
def test_another_process_takes_what_is_offered(profile: Profile | None) -> None:
    """More than a pipe has room for, and what is no UTF-8."""
    given = offer(ENVIRONMENT, profile)
    try:
        done = subprocess.run([sys.executable, "-c", TAKE], stdin=given, capture_output=True, text=True, check=True)
    finally:
        os.close(given)
    expected = None if profile is None else ("warehouse", {"A_KEY": "hush"})
    assert ast.literal_eval(done.stdout) == [120_000, b"\xff'\n", expected]


def test_half_of_what_was_to_be_said_is_an_error_that_does_not_quote_it() -> None:
    read, write = os.pipe()
    os.write(write, b'{"environment": {"A_KEY": "hush')
    os.close(write)
    with pytest.raises(SpanlineError, match="ended before it had said what it is given") as raised:
        take(read)
    os.close(read)
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is None
