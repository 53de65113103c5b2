"""Ids that derive from (run, session, step, attempt, unique_id): what both sides need of `spanline.ids`.

It is here, and only here, as the runner can import nothing of Spanline's that is outside of its folder.
"""

from __future__ import annotations

import hashlib


def span_id(run_id: str, session: int, *parts: object) -> int:
    """The span of what `parts` name within a session: 64 bits, never 0."""
    return int.from_bytes(digest("span", run_id, session, *parts)[:8], "big") or 1


def digest(*parts: object) -> bytes:
    """The hash that every derived id is taken from."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
