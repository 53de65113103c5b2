"""Run one dbt command, journalled: the runner's process from its start to its exit code."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from typing import Any, Callable

from . import collector, watchdog
from .comments import comment_queries
from .interrupt import Interrupt, cancel_connections
from .recorder import Recorder
from .restrict import restrict
from .shared import exit_codes
from .shared.files import open_file
from .shared.masking import Redactor
from .shared.secrets import secrets_of_run
from .shared.visible import visible
from .shared.writer import Writer
from .v2 import run as v2


def main(argv: list[str]) -> int:
    """Run the command that the supervisor has written to the control pipe, whose descriptor is the one argument.

    The pipe carries a first line of JSON (see `supervisor`), later the word `cancel`, and its end means that the
    supervisor is gone. With `--plain` as the first argument the rest is run as `dbt` would, unobserved.
    """
    if argv[:1] == ["--plain"]:
        return _dbt(argv[1:], {})
    control_fd = int(argv[0])
    control = os.fdopen(control_fd, "rb", buffering=0)
    order, behind = _read_order(control)
    if order["tune_collector"]:
        collector.expect_manifest()
    # What dbt starts must hold neither the lease nor the pipe.
    for fd in (control_fd, order["lease_fd"], order["word_fd"], order["journal_fd"]):
        os.set_inheritable(fd, False)
    say_farewell = watchdog.start(control_fd, order["grace"], [order["lease_fd"]])

    # A parent that ignores SIGINT (nohup, `&` in a script) hands that on; dbt needs it to cancel.
    interrupt = Interrupt()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # see the supervisor
    writer = Writer(
        order["journal"],
        order["writer"],
        Redactor(secrets_of_run(os.environ, [order["args"]], order["project_dir"])),
        on_stop=lambda why: _say(order["word_fd"], f"stopped {why}"),
        fd=order["journal_fd"],
    )
    writer.locate(order["session"], order["step"], order["attempt"])
    with suppress(OSError):  # of a full disk
        # Open until the process ends, for a crash to write to.
        faults = os.fdopen(open_file(order["faults"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w")
        faulthandler.enable(faults)
    threading.Thread(target=_listen, args=(control, behind, interrupt), name="spanline-lifeline", daemon=True).start()
    watch = partial(
        interrupt.watch,
        on_asked=lambda reason: _write(writer, "interrupt_received", {"reason": reason}),
        press=_press_nothing if order.get("program") else cancel_connections,
        on_error=lambda error: _write(
            writer,
            "log",
            {
                "level": "warn",
                "name": "CancelError",
                "message": f"the adapter could not cancel its connections: {error}",
            },
        ),
    )
    if order.get("program"):
        code = _observed(partial(v2.run, order, writer), writer, interrupt, watch, lambda: None)
    else:
        recorder = Recorder(
            writer, interrupt, order["args"], on_selection=collector.keep_manifest if order["tune_collector"] else None
        )
        run = partial(_dbt, order["args"], {"callbacks": [recorder], "manifest": None})
        code = _observed(run, writer, interrupt, watch, partial(_prepare, order, writer))
    writer.append("dbt_exited", {"exit_code": code})
    _say(order["word_fd"], f"exit {code}")
    say_farewell()
    return code


def _observed(
    run: Callable[[], int],
    writer: Writer,
    interrupt: Interrupt,
    watch: Callable[[], None],
    prepare: Callable[[], None],
) -> int:
    code = exit_codes.ERROR
    try:
        prepare()
        watch()  # from here on, and no further than this block, a KeyboardInterrupt may be raised
        code = run()
        interrupt.disarm()
    except KeyboardInterrupt:
        interrupt.disarm()
    except Exception as error:  # noqa: BLE001 - it is journalled, shown, and the exit code says it
        writer.append(
            "runner_failed",
            {
                "exception": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(limit=-20),
            },
        )
        sys.stderr.write(visible(traceback.format_exc()))
    interrupt.disarm()
    return code


def _prepare(order: dict[str, Any], writer: Writer) -> None:
    """Have the dbt of this process do what the order says, and its arguments can't."""
    _hear_usage_errors(writer)
    if order.get("restriction") is not None:
        restrict(order["restriction"], lambda gone: _write(writer, "nodes_gone", {"unique_ids": gone}))
    if order.get("comments") is not None:
        comment_queries(
            order["comments"],
            (order["session"], order["step"], order["attempt"]),
            lambda why: _write(writer, "log", {"level": "warn", "name": "QueryCommentError", "message": why}),
        )


def _hear_usage_errors(writer: Writer) -> None:
    """Have journalled what dbt's command line says of arguments that it can't make sense of.

    It says so before there is an event of dbt's; click shows it, and exits.
    """
    from click import UsageError

    show = UsageError.show

    def shown(error: UsageError, file: Any = None) -> None:
        writer.append("runner_failed", {"exception": f"Usage Error: {error.format_message()}"})
        show(error, file)

    UsageError.show = shown  # type: ignore[assignment,method-assign]


def _dbt(args: list[str], context: dict[str, Any]) -> int:
    """Run dbt's own command line, its callbacks handed over where `dbtRunner` hands over its own.

    `dbtRunner.invoke` differs from `dbt` in usage errors, `--help` and exit codes; this is `dbt`.
    """
    from dbt.cli.main import cli

    sys.argv = ["dbt", *args]
    try:
        cli.main(args=list(args), prog_name="dbt", obj=context)
    except SystemExit as end:
        if end.code is None:
            return 0
        return end.code if isinstance(end.code, int) else 1
    return 0


def _read_order(control: Any) -> tuple[dict[str, Any], bytes]:
    """The order, and what else has come by then: a cancel may be as early as that.

    The pipe has no buffer: Python, at its end, would wait for one that the thread of `_listen` reads from.
    """
    said = b""
    while b"\n" not in said:
        chunk = control.read(65536)
        if not chunk:
            raise SystemExit(exit_codes.ERROR)  # the supervisor died before it had said what to do
        said += chunk
    line, _, behind = said.partition(b"\n")
    return json.loads(line), behind


def _listen(control: Any, said: bytes, interrupt: Interrupt) -> None:
    while True:
        if said:
            interrupt.ask("cancel")
        said = control.read(64)
        if not said:
            interrupt.ask("the supervisor is gone")
            return


def _press_nothing() -> None:
    """The program that was sent SIGINT cancels by itself."""


def _write(writer: Writer, type_: str, fields: dict[str, Any]) -> None:
    writer.append(type_, fields)


def _say(word_fd: int, word: str) -> None:
    """Tell the supervisor what it must know even where nothing can be journalled."""
    with suppress(OSError):  # it is gone
        os.write(word_fd, f"{word}\n".encode())
