"""Run one command of dbt v2: the program is started, its telemetry followed and journalled, its exit code returned."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Callable

from ..shared import exit_codes
from ..shared.settings import DBT_OTEL_FILE_NAME, DBT_TARGET_PATH
from ..shared.writer import Writer, both_clocks
from . import arguments, profile
from .preview import Preview, Previewed
from .translator import Event, Fields, Plan, Translator

_OWN_FILE = "--otel-file-name"
_TICK = 0.02
"""How often is looked for what dbt has written, in seconds."""
_PR_SET_PDEATHSIG = 1
"""https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""


def run(order: dict[str, Any], writer: Writer) -> int:
    """Run the command of an order, journal it, and return dbt's exit code. Call it in the main thread.

    A KeyboardInterrupt is passed on as SIGINT, on which dbt cancels its queries: on SIGTERM it would leave them.
    Raises `RuntimeError` where the command can't be run as the order says.
    """
    args = order["args"]
    if any(arg.partition("=")[0] == _OWN_FILE for arg in args):
        raise RuntimeError(f"leave out {_OWN_FILE}: Spanline follows the run by that file")
    with tempfile.TemporaryDirectory(prefix="v2-", dir=os.path.dirname(order["journal"])) as folder:  # noqa: PTH120
        return _run(order, args, writer, folder)


def _run(order: dict[str, Any], args: list[str], writer: Writer, folder: str) -> int:
    known, secrets = profile.configured(args, order["project_dir"], os.environ)
    writer.redactor.add(secrets)
    preview = _preview(order["program"], args, folder)
    restriction = order.get("restriction")
    if restriction is not None:
        previewed = preview()
        if previewed is None:
            raise RuntimeError("what is left to do can't be told apart from what is done: the project can't be listed")
        gone = sorted(set(restriction["unfinished"]) - set(previewed.names))
        if gone:
            writer.append("nodes_gone", {"unique_ids": gone})
        unfinished = [unique_id for unique_id in restriction["unfinished"] if unique_id in previewed.names]
        args = arguments.limited(args, unfinished, previewed.names)
        previewed.selection = sorted(set(previewed.selection).intersection(unfinished))
        preview = lambda: previewed  # noqa: E731
    translator = Translator(order["args"], order["project_dir"], partial(_plan, known, preview, writer))
    journal = _Journal(writer, translator)
    code = _followed([order["program"], *args], os.path.join(folder, "stream.jsonl"), journal)  # noqa: PTH118
    results = _results(order["project_dir"], args, translator)
    if results is not None:
        writer.append("artifact_written", {"artifact_type": "RunExecutionResult", "path": results})
    journal.write(translator.end(code))
    return code


def _preview(program: str, args: list[str], folder: str) -> Callable[[], Previewed | None]:
    """Begin to find out what the command is about to do; what is returned waits for that. None of a command of none."""
    if not arguments.command_in(args):
        return lambda: None
    place = os.path.join(folder, "preview")  # noqa: PTH118
    os.mkdir(place, 0o700)  # noqa: PTH102
    return Preview(program, args, os.environ, place).wait


def _plan(known: Fields, preview: Callable[[], Previewed | None], writer: Writer) -> Plan:
    configured = {"adapter_type": "", "adapter_version": "", **{key: value for key, value in known.items() if value}}
    try:
        previewed = preview()
    except (RuntimeError, OSError, ValueError) as error:
        message = f"what dbt is about to do is not known: {error}"
        writer.append("log", {"level": "warn", "name": "PreviewError", "message": message})
        return Plan(configured)
    if previewed is None:
        return Plan(configured)
    configured["adapter_type"] = configured["adapter_type"] or previewed.adapter
    return Plan(configured, previewed.selection, previewed.descriptions(previewed.selection))


def _followed(command: list[str], stream: str, journal: _Journal) -> int:
    """Run the program, and journal its stream meanwhile; return its exit code."""
    with open(os.open(stream, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600), "rb", buffering=0) as file:
        before = os.environ.get(DBT_OTEL_FILE_NAME)
        if before:
            journal.tell(
                f"{DBT_OTEL_FILE_NAME} is {before!r}, and nothing is written there: Spanline follows the run instead"
            )
        process = subprocess.Popen(
            command,
            env={**os.environ, DBT_OTEL_FILE_NAME: stream},
            preexec_fn=_die_with_us() if _on_linux() else None,  # noqa: PLW1509 - it calls the system, nothing else
        )
        ended = threading.Event()
        follower = threading.Thread(target=_follow, args=(file, stream, ended, journal), name="spanline-follower")
        follower.start()
        code = _wait(process)
        ended.set()
        follower.join()
    if code < 0:
        name = signal.Signals(-code).name
        journal.fail(f"dbt was ended by {name}")
        return exit_codes.ERROR
    return code


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)


def _follow(file: BinaryIO, path: str, ended: threading.Event, journal: _Journal) -> None:
    """Journal each line of the file as it is written, until the program has ended."""
    rest, seen = b"", False
    while True:
        over = ended.is_set()
        chunk = file.read(1 << 20)
        if chunk:
            if not seen:  # dbt has it open: it holds secrets, and is to be left to nobody
                seen = True
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                journal.take(line)
        elif over:
            return
        else:
            ended.wait(_TICK)


class _Journal:
    """Writes what the translator makes of each line.

    It never raises: an observer never changes the outcome of a run.
    """

    def __init__(self, writer: Writer, translator: Translator) -> None:
        self._writer = writer
        self._translator = translator
        self._reported = False

    def take(self, line: bytes) -> None:
        """Journal one line of the stream."""
        try:
            record = json.loads(line)
        except ValueError:
            return  # the last one, of a dbt that was killed
        try:
            self.write(self._translator.translate(record))
        except Exception as error:  # noqa: BLE001 - what it can't be told is told, once
            if not self._reported:
                self._reported = True
                kind = record.get("event_type") if isinstance(record, dict) else "of no type"
                self.tell(f"spanline could not record dbt's event {kind}: {type(error).__name__}: {error}")

    def write(self, events: Iterator[Event]) -> None:
        """Journal events, each at the time when it happened."""
        for event in events:
            now, mono = both_clocks()
            then = min(event.time or now, now)
            self._writer.append(event.type, event.fields, (then, mono - (now - then)))

    def tell(self, message: str) -> None:
        """Journal a warning of our own."""
        self._writer.append("log", {"level": "warn", "name": "RecorderError", "message": message})

    def fail(self, exception: str) -> None:
        """Journal that dbt has died."""
        self._writer.append("runner_failed", {"exception": exception})


def _results(project_dir: str, args: list[str], translator: Translator) -> str | None:
    """The path of dbt's results of this invocation; of an interrupted one they are wrong: all nodes have failed."""
    if translator.was_cancelled:
        return None
    target = arguments.option(args, "--target-path") or os.environ.get(DBT_TARGET_PATH) or "target"
    path = os.path.join(project_dir, target, "run_results.json")  # noqa: PTH118
    try:
        with open(path, encoding="utf-8") as file:
            metadata = json.load(file)["metadata"]
    except (OSError, ValueError, KeyError):
        return None
    return path if metadata.get("invocation_id") == translator.invocation_id else None


def _on_linux() -> bool:
    return sys.platform == "linux"


def _die_with_us() -> Callable[[], None]:
    """What has the program killed when this process is: an orphan would go on writing to the warehouse."""
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
