"""One line of text for an event, as `spanline tail` prints it."""

from __future__ import annotations

import time

from spanline import events
from spanline.events import Event

_QUIET = (events.Heartbeat, events.QueryStarted, events.NodeDescribed, events.NodeCompiled)
_WIDTH = 160


def line(event: Event) -> str | None:
    """`12:00:01.234 node_finished model.shop.orders status=success …`; None for what only machines want."""
    if isinstance(event, _QUIET):
        return None
    kind, fields = events.fields_of(event)
    if isinstance(event, events.Unknown):
        kind, fields = event.name, {}
    clock = time.strftime("%H:%M:%S", time.localtime(event.time / 1e9))
    parts = [f"{clock}.{event.time // 1_000_000 % 1000:03}", _short(kind)]
    unique_id = fields.pop("unique_id", None)
    if unique_id:
        parts.append(_short(unique_id))
    parts += [f"{name}={_short(value)}" for name, value in fields.items() if value not in (None, "", {}, [])]
    return " ".join(parts)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
