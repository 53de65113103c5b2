"""What several commands print: a run in a list, and values as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spanline.system.terminal import say_json

if TYPE_CHECKING:
    from spanline.api.run import Run


def listed(run: Run) -> dict[str, object]:
    """A run in the list of runs: id, start, outcome, command, counts, directory."""
    live = run.live
    state = run.state if live else run.state.closed()
    outcome = state.ended.outcome if state.ended else ("running" if live else "died")
    steps = state.session.steps if state.session else []
    return {
        "id": run.id,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.begun / 1e9)),
        "outcome": outcome,
        "command": "; ".join(" ".join(step) for step in steps),
        "counts": state.counts,
        "directory": str(run.directory.path),
    }


def echo_json(value: object) -> None:
    """Print a value as one line of JSON."""
    import msgspec  # noqa: PLC0415

    say_json(msgspec.json.encode(value))


def plain(value: object) -> dict[str, object]:
    """A struct as a mapping of JSON's types; paths as text."""
    import msgspec  # noqa: PLC0415

    built = msgspec.to_builtins(value, enc_hook=str)
    if not isinstance(built, dict):
        raise TypeError(f"not an object: {value!r}")
    return built
