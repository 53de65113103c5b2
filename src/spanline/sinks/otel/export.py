"""Hand spans, metrics and log records to the SDK's exporters, whose result is the acknowledgement."""

from __future__ import annotations

import inspect
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.client import BadStatusLine
from importlib.metadata import entry_points
from typing import Final, Literal, Protocol

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource

from spanline.events import Event
from spanline.journal.state import RunState
from spanline.results.log_lines import service_name
from spanline.runner.shared import settings
from spanline.sinks.base import Message, Rejected
from spanline.system.terminal import Errors

Signal = Literal["traces", "metrics", "logs"]

_FILE: Final = "otlp_json_file"
_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_TAKES_NONE: Final = frozenset(("404", "405", "501", "UNIMPLEMENTED"))
_REFUSED: Final = frozenset(("400", "406", "410", "411", "413", "414", "415", "422", "INVALID_ARGUMENT"))
"""Answers that stay the same, however often one asks."""
_TOO_LARGE: Final = "413"
_SAYS_TOO_LARGE: Final = re.compile(r"larger than max|exceeds (the )?max|length too large", re.IGNORECASE)
"""How gRPC's servers and the SDK's own check say it; the status, RESOURCE_EXHAUSTED, may as well mean a quota."""
_NO_HTTP: Final = "the answer is not HTTP: is this the port for gRPC (OTEL_EXPORTER_OTLP_PROTOCOL=grpc)?"
_EXPORTERS: Final = "opentelemetry.exporter"
_BATCH: Final = 512
_LINGER_SECONDS: Final[dict[Signal, float]] = {"traces": 0.0, "metrics": 0.0, "logs": 1.0}
"""Nobody waits for a log record as for a span: together they take a tenth of the requests. Spans come in bursts."""
_NOTHING: Final[Mapping[Signal, Sequence[object]]] = {"traces": [], "metrics": [MetricsData([])], "logs": []}
"""Payloads that make an empty request, which a backend acknowledges and does not keep."""


class _Exporter(Protocol):
    """What the SDK's exporters of the three signals have in common."""

    def export(self, batch: object, /) -> object: ...

    def shutdown(self) -> None: ...


class OtelSink:
    """Exports what a translator makes of one run's events, for one signal."""

    lanes = 1

    def __init__(
        self,
        signal: Signal,
        translate: Callable[[Event, RunState], Iterable[Message]],
        *,
        one_at_a_time: bool = False,
    ) -> None:
        """`one_at_a_time`: each payload is a whole batch already."""
        self.translate = translate
        self.batch = 1 if one_at_a_time else _BATCH
        self.linger = _LINGER_SECONDS[signal]
        self._one_at_a_time = one_at_a_time
        self._signal = signal
        self._recipients = [_Recipient(exporter) for exporter in _exporters(signal)]
        _last_words.listen()

    def deliver(self, payloads: Sequence[object]) -> None:
        """Export. Raises `Rejected` where trying again is no use, what an exporter failed with where it may be.

        Each exporter acknowledges for itself: tried again, it gets what it has not taken yet, the others nothing. One
        that has failed is asked first, and the others only when it takes something again.
        """
        for recipients in self._by_failing():
            failures = [
                failure for failure in (self._settle(one, payloads) for one in recipients) if failure is not None
            ]
            if failures:
                raise failures[0]
        refused: dict[int, str] = {}
        for one in self._recipients:
            refused |= one.forget(payloads)
        if refused:
            raise Rejected(next(iter(refused.values())), len(refused))

    def _by_failing(self) -> tuple[list[_Recipient], list[_Recipient]]:
        failing = [one for one in self._recipients if one.is_failing]
        return failing, [one for one in self._recipients if not one.is_failing]

    def _settle(self, recipient: _Recipient, payloads: Sequence[object]) -> Exception | None:
        """Export what this one has not had, in halves where it is too large for the backend."""
        owed = [recipient.owed(payloads)]
        while owed and (part := owed.pop()):
            failure = self._export(recipient.exporter, part)
            if isinstance(failure, _TooLarge) and len(part) > 1:
                middle = len(part) // 2
                owed += [part[middle:], part[:middle]]
            elif failure is None or isinstance(failure, Rejected):
                recipient.settle(part, failure)
            else:
                recipient.is_failing = True
                return failure
        recipient.is_failing = False
        return None

    def _export(self, exporter: _Exporter, payloads: Sequence[object]) -> Exception | None:
        _last_words.forget()
        try:
            result = exporter.export(payloads[0] if self._one_at_a_time else payloads)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other exporters have their turn
            return error
        return None if getattr(result, "name", "") == "SUCCESS" else self._failure()

    def _failure(self) -> Exception:
        said, code = _last_words.text, _last_words.code
        if code == _TOO_LARGE or _SAYS_TOO_LARGE.search(said):
            return _TooLarge(said)
        if code in _TAKES_NONE:
            off = f"{settings.exporter_variable(self._signal)}=none"
            return Rejected(f"the backend takes no {self._signal} ({code}); turn them off with {off}")
        if code in _REFUSED:
            return Rejected(said)
        return ConnectionError(said or "the exporter failed")

    def probe(self) -> str:
        """Send an empty request by each OTLP exporter. Return their addresses; others are not asked."""
        asked = [(one.exporter, getattr(one.exporter, "_endpoint", None)) for one in self._recipients]
        for exporter, address in asked:
            failure = self._export(exporter, _NOTHING[self._signal]) if address is not None else None
            if failure is not None:
                raise failure
        return ", ".join(str(address) for _, address in asked if address is not None) or "the exporter, not asked,"

    def close(self) -> None:
        """Shut the exporters down."""
        for one in self._recipients:
            one.exporter.shutdown()


class _Recipient:
    """An exporter, and what it has taken or refused of payloads that another has still to take."""

    def __init__(self, exporter: _Exporter) -> None:
        self.exporter = exporter
        self.is_failing = False
        # By identity; the payload is kept, so that no other has the same.
        self._settled: dict[int, tuple[object, Rejected | None]] = {}

    def owed(self, payloads: Sequence[object]) -> Sequence[object]:
        """Those that it has neither taken nor refused."""
        return [payload for payload in payloads if id(payload) not in self._settled]

    def settle(self, payloads: Sequence[object], refusal: Rejected | None) -> None:
        """It has taken these, or refused them."""
        self._settled |= {id(payload): (payload, refusal) for payload in payloads}

    def forget(self, payloads: Sequence[object]) -> dict[int, str]:
        """All exporters have settled these. Returns why it has refused which, by their place."""
        settled = [self._settled.pop(id(payload))[1] for payload in payloads]
        return {place: str(refusal) for place, refusal in enumerate(settled) if refusal is not None}


class _TooLarge(Rejected):
    """The backend takes no request of this size."""


class _LastWords(logging.Filter):
    """Exporters say why they failed to a logger only: keep what each thread that exports has heard of it.

    It comes before their own filters, which drop what they take for repetitions.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    def listen(self) -> None:
        """Hear what the exporters that are imported say from now on."""
        known = list(logging.root.manager.loggerDict.items())
        of_exporters = (logger for name, logger in known if name.startswith(_EXPORTERS))
        for logger in of_exporters:
            if isinstance(logger, logging.Logger) and self not in logger.filters:
                logger.filters.insert(0, self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self._said.append(record)
        return True

    def forget(self) -> None:
        """Begin anew, in this thread."""
        self._said.clear()

    @property
    def text(self) -> str:
        """What was said first, which is why it failed, and last, which is why the exporter gave up."""
        return "; ".join(dict.fromkeys(_in_short(record) for record in (*self._said[:1], *self._said[-1:])))

    @property
    def code(self) -> str:
        """The HTTP or gRPC status in what was said last, if there is one."""
        arguments = _arguments(self._said[-1]) if self._said else ()
        found = (str(getattr(argument, "name", argument)) for argument in arguments)
        return next((code for code in found if code in _TAKES_NONE | _REFUSED), "")

    @property
    def _said(self) -> list[logging.LogRecord]:
        if not hasattr(self._of_thread, "records"):
            self._of_thread.records = []
        records: list[logging.LogRecord] = self._of_thread.records
        return records


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def _in_short(record: logging.LogRecord) -> str:
    """Return the record's message on one line, with the causes of errors in place of all that clients wrap them in."""
    text = record.getMessage()
    for argument in _arguments(record):
        if isinstance(argument, Exception) and str(argument):
            text = text.replace(str(argument), _said_by(_cause(argument)))
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split()).rstrip(".")


def _said_by(cause: BaseException) -> str:
    """Its words; of an answer that isn't HTTP's, what that most likely is."""
    return _NO_HTTP if isinstance(cause, BadStatusLine) else str(cause)


def _cause(error: BaseException) -> BaseException:
    under = error.__cause__ or error.__context__
    return _cause(under) if under is not None and str(under) else error


_last_words = _LastWords()


def _exporters(signal: Signal) -> Iterator[_Exporter]:
    for asked in _asked(signal):
        name = _otlp(signal) if asked == "otlp" else asked
        found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
        if not found:
            raise LookupError(f"no OpenTelemetry exporter {name!r} of {signal} is installed")
        make = found[0].load()
        exporter = make(**_options(name, make))
        if not hasattr(exporter, "export"):
            raise LookupError(f"the OpenTelemetry exporter {name!r} sends nothing by itself: it waits to be asked")
        yield exporter


def _asked(signal: Signal) -> list[str]:
    """Return the exporters' names; by the specification, empty is as good as unset."""
    variable = settings.exporter_variable(signal)
    named = [name for name in map(str.strip, os.environ.get(variable, "").split(",")) if name]
    exporting = [name for name in named or ["otlp"] if name != "none"]
    if not exporting:
        raise LookupError(f"{variable} names no exporter; `{variable}=none` turns {signal} off")
    return exporting


def _otlp(signal: Signal) -> str:
    variables = (settings.otlp_variable(signal, "PROTOCOL"), settings.OTLP_PROTOCOL)
    named = (os.environ.get(variable, "").strip() for variable in variables)
    protocol = next(filter(None, named), "http/protobuf")
    return _PROTOCOLS.get(protocol, protocol)


def _options(name: str, make: Callable[..., object]) -> dict[str, object]:
    if name == "console":
        return {"out": Errors()}  # standard output is dbt's
    file = os.environ.get(settings.OTLP_FILE)
    if name == _FILE and file:
        return {"path": file}
    if name == _PROTOCOLS["http/protobuf"] and not any(map(os.environ.get, settings.OTLP_CREDENTIAL_PROVIDERS)):
        from spanline.sinks.http import RepeatingSession  # noqa: PLC0415 - `requests` is there only where this exporter is

        return {"session": RepeatingSession()}
    if name == _PROTOCOLS["grpc"] and "retryable_error_codes" in inspect.signature(make).parameters:
        from grpc import StatusCode  # type: ignore[import-untyped]  # noqa: PLC0415 - it is there only where the exporter is

        # Of what is too large the exporter itself would ask again, for all its time; one code there must be.
        return {"retryable_error_codes": (StatusCode.UNAVAILABLE,)}
    return {}


def resource() -> Resource:
    """What the run's telemetry is about: OTEL_RESOURCE_ATTRIBUTES, and a service's name.

    Newer SDKs add a random `service.instance.id`. With it a message made again would be another message, and each run
    would begin new series of metrics, so only one that was asked for stays.
    """
    found = Resource.create({SERVICE_NAME: service_name()})
    asked = OTELResourceDetector().detect().attributes
    kept = {key: value for key, value in found.attributes.items() if key != SERVICE_INSTANCE_ID or key in asked}
    return Resource(kept, found.schema_url)
