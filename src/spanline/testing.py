"""Help for those who extend Spanline, in their tests: for sinks, rules and adapters of profiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from spanline import events
from spanline.errors import SpanlineError
from spanline.events import Event
from spanline.failures import matching
from spanline.failures.classify import Failure, classify_by
from spanline.journal.state import FAILED, FAILURE, SUCCESS, RunState
from spanline.profiles.profile import Profile
from spanline.runner.shared import exit_codes, settings
from spanline.sinks import Message, Sink

# --- sinks


def run_events(nodes: Mapping[str, str], message: str | None = None) -> list[Event]:
    """The events of a run that never was, of nodes that end in these statuses, one after the other.

    Nodes have dbt's unique ids, such as `model.shop.orders`; those that fail do so with this message. Every event lies
    a second after the one before.
    """
    failed = not FAILED.isdisjoint(nodes.values())
    code = exit_codes.FAILURE if failed else exit_codes.SUCCESS
    of_nodes = [event for unique_id, status in nodes.items() for event in _of_node(unique_id, status, message)]
    happened: list[Event] = [
        _session_started(),
        events.StepStarted(argv=["build"]),
        events.AttemptStarted(argv=["build"], pid=2, python="python"),
        *of_nodes,
        events.AttemptEnded(exit_code=code),
        events.SessionEnded(outcome=FAILURE if failed else SUCCESS, exit_code=code),
    ]
    return [_at(number, event) for number, event in enumerate(happened, 1)]


def _session_started() -> events.SessionStarted:
    run_id = "01900000-0000-7000-8000-000000000000"
    return events.SessionStarted(
        run_id=run_id,
        lineage_run_id=run_id,
        trace_id=f"{1:032x}",
        spanline_version="0",
        steps=[["build"]],
        project_dir="shop",
        host="host",
        pid=1,
    )


def _of_node(unique_id: str, status: str, message: str | None) -> tuple[Event, Event, Event]:
    kind, package, *name = unique_id.split(".")
    return (
        events.NodeDescribed(unique_id=unique_id, name=".".join(name), resource_type=kind, package_name=package),
        events.NodeStarted(unique_id=unique_id, thread="Thread-1"),
        events.NodeFinished(
            unique_id=unique_id, status=status, execution_time=1.0, message=message if status in FAILED else None
        ),
    )


def _at(number: int, event: Event) -> Event:
    second = 1_000_000_000
    return msgspec.structs.replace(
        event, seq=number, time=1_700_000_000 * second + number * second, mono=number * second, session=1,
        step=1, attempt=1,
    )  # fmt: skip


def tell(sink: Sink, happened: Iterable[Event], *, deliver: bool = True) -> list[Message]:
    """Tell a sink what happened, as a run does, and return the messages that it made of it.

    With `deliver` they are delivered, too, in order and as many at a time as the sink takes; what that raises is raised
    here. The sink stays open.
    """
    state, made = RunState(), []
    for event in happened:
        state.apply(event)
        made += list(sink.translate(event, state))
    payloads = [message.payload for message in made]
    for first in range(0, len(payloads) if deliver else 0, sink.batch):
        sink.deliver(payloads[first : first + sink.batch])
    return made


# --- rules of failures


def classify_with(rules: str | Path, message: str, adapter: str | None = None) -> Failure:
    """What an error is by a file of rules, and Spanline's own after it. Raises `UsageError` where it can't be read."""
    return classify_by(matching.load(Path(rules)), message, adapter)


def check_rules(rules: str | Path) -> None:
    """Check that each rule of a file has an `example`, and is the first to know it.

    Raises `AssertionError`, and `UsageError` where the file can't be read.
    """
    found = matching.load(Path(rules))
    for matcher in found.rules:
        rule = matcher.rule
        if rule.changes_another:
            continue
        if rule.example is None:
            raise AssertionError(f"rule {rule.id} has no example")
        told = classify_by(found, rule.example, next(iter(rule.adapters), None))
        if told.rule != rule.id:
            raise AssertionError(f"the example of rule {rule.id} is known to {told.rule or 'none'} first")


# --- adapters of profiles


class ProfileReading(msgspec.Struct, frozen=True, kw_only=True):
    """How dbt reads a profile.

    `rendered` is the output once dbt has rendered it, secrets and all; `credentials` what its adapter makes of that,
    and `fields` the names that it knows, aliases too. `refused` is what dbt says of a profile that it doesn't take.
    """

    rendered: dict[str, object] = {}
    credentials: dict[str, object] = {}
    fields: frozenset[str] = frozenset()
    refused: str | None = None

    @property
    def dropped(self) -> set[str]:
        """What dbt doesn't know of the output, and drops without a word."""
        return set(self.rendered) - self.fields - {"type", "threads"}


_READ: Final = r"""
import dataclasses, json, os, sys, tempfile
from argparse import Namespace

def reading(profile):
    os.environ.update(profile["environment"])
    try:
        from dbt_common.context import set_invocation_context
        set_invocation_context(dict(os.environ))
    except ImportError:
        pass  # dbt Core 1.7, which reads os.environ
    from dbt.config.profile import Profile, read_profile
    from dbt.config.renderer import ProfileRenderer
    from dbt.flags import set_from_args
    with tempfile.TemporaryDirectory() as place:
        with open(os.path.join(place, "profiles.yml"), "w") as file:
            file.write(profile["document"])
        set_from_args(Namespace(PROFILES_DIR=place, PROJECT_DIR=place), None)
        raw, renderer = read_profile(place), ProfileRenderer({})
        try:
            _, rendered = Profile.render_profile(raw["read"], "read", None, renderer)
            made = Profile.from_raw_profiles(raw, "read", renderer)
        except BaseException as error:
            return {"refused": f"{type(error).__name__}: {error}"}
    credentials = made.credentials
    fields = {field.name for field in dataclasses.fields(credentials)}
    return {
        "rendered": rendered,
        "credentials": {**credentials.to_dict(omit_none=True), "threads": made.threads},
        "fields": sorted(fields | set(credentials._ALIASES) | {"method"} & set(dir(credentials))),
    }

given = json.load(sys.stdin)
# What packages print on their import must not stand before it.
answer, sys.stdout = sys.stdout, sys.stderr
json.dump([reading(profile) for profile in given], answer, default=str)
"""


def read_by_dbt(*profiles: Profile, python: str | Path = sys.executable) -> list[ProfileReading]:
    """Have the dbt of an interpreter, which needs the adapters, read these profiles; nothing connects to a warehouse.

    Raises `SpanlineError` where there is no dbt that could read them.
    """
    given = [{"document": profile.document("read"), "environment": dict(profile.environment)} for profile in profiles]
    done = subprocess.run(
        [str(python), "-c", _READ],
        input=json.dumps(given),
        env=_environment_without_secrets(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SpanlineError(f"{python} could not read the profiles: {done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout, type=list[ProfileReading])


def _environment_without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what dbt would take for something of its own."""
    return {name: value for name, value in environ.items() if not name.startswith(settings.DBT_PREFIX)}
