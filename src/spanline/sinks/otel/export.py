"""Hand spans, metrics and log records to the SDK's exporters, whose result is the acknowledgement."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Final, Literal, Protocol

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

from spanline.events import Event
from spanline.sinks.base import Message, Rejected
from spanline.state import RunState

Signal = Literal["traces", "metrics", "logs"]

SERVICE: Final = "dbt"
"""The service's name where OTEL_SERVICE_NAME says no other."""
FILE_VARIABLE: Final = "SPANLINE_OTLP_FILE"
"""Where `otlp_json_file` writes to: the exporter takes a path, but no variable of OpenTelemetry's names it."""
_FILE: Final = "otlp_json_file"
_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_TAKES_NONE: Final = frozenset(("404", "405", "501", "UNIMPLEMENTED"))
_REFUSED: Final = frozenset(("400", "406", "410", "411", "413", "414", "415", "422", "INVALID_ARGUMENT"))
"""Answers that stay the same, however often one asks."""
_EXPORTERS: Final = "opentelemetry.exporter"
_BATCH: Final = 512
_LINGER_SECONDS: Final = 0.005


class _Exporter(Protocol):
    """What the SDK's exporters of the three signals have in common."""

    def export(self, batch: object, /) -> object: ...

    def shutdown(self) -> None: ...


class OtelSink:
    """Exports what a translator makes of one run's events, for one signal."""

    lanes = 1
    linger = _LINGER_SECONDS

    def __init__(
        self,
        name: str,
        signal: Signal,
        translate: Callable[[Event, RunState], Iterable[Message]],
        *,
        one_at_a_time: bool = False,
    ) -> None:
        """`one_at_a_time`: each payload is a whole batch already."""
        self.name = name
        self.translate = translate
        self.batch = 1 if one_at_a_time else _BATCH
        self._one_at_a_time = one_at_a_time
        self._signal = signal
        self._exporters = list(_exporters(signal))
        _last_words.listen()

    def deliver(self, payloads: Sequence[object]) -> None:
        """Export. Raises `Rejected` where trying again is no use, `ConnectionError` where an exporter fails else."""
        batch = payloads[0] if self._one_at_a_time else list(payloads)
        for exporter in self._exporters:
            _last_words.forget()
            if getattr(exporter.export(batch), "name", "") != "SUCCESS":
                raise self._failure()

    def _failure(self) -> Exception:
        said, code = _last_words.text, _last_words.code
        if code in _TAKES_NONE:
            off = f"OTEL_{self._signal.upper()}_EXPORTER=none"
            return Rejected(f"the backend takes no {self._signal} ({code}); turn them off with {off}")
        if code in _REFUSED:
            return Rejected(said)
        return ConnectionError(said or "the exporter failed")

    def close(self) -> None:
        """Shut the exporters down."""
        for exporter in self._exporters:
            exporter.shutdown()


class _LastWords(logging.Filter):
    """Exporters say why they failed to a logger only: keep the last word, of each thread that exports.

    It comes before their own filters, which drop what they take for repetitions.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = threading.local()

    def listen(self) -> None:
        """Hear what the exporters that are imported say from now on."""
        known = list(logging.root.manager.loggerDict.items())
        of_exporters = (logger for name, logger in known if name.startswith("opentelemetry.exporter"))
        for logger in of_exporters:
            if isinstance(logger, logging.Logger) and self not in logger.filters:
                logger.filters.insert(0, self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self._said.record = record
        return True

    def forget(self) -> None:
        """Begin anew, in this thread."""
        self._said.record = None

    @property
    def text(self) -> str:
        """What was said."""
        record: logging.LogRecord | None = getattr(self._said, "record", None)
        return record.getMessage() if record is not None else ""

    @property
    def code(self) -> str:
        """The HTTP or gRPC status in it, if there is one."""
        record: logging.LogRecord | None = getattr(self._said, "record", None)
        arguments = record.args if record is not None and isinstance(record.args, tuple) else ()
        found = (str(getattr(argument, "name", argument)) for argument in arguments)
        return next((code for code in found if code in _TAKES_NONE | _REFUSED), "")


_last_words = _LastWords()


def _exporters(signal: Signal) -> Iterator[_Exporter]:
    for asked in os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        name = asked.strip()
        if name == "otlp":
            name = _otlp(signal)
        found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
        if not found:
            raise LookupError(f"no OpenTelemetry exporter {name!r} of {signal} is installed")
        make, file = found[0].load(), os.environ.get(FILE_VARIABLE) if name == _FILE else None
        exporter = make(path=file) if file else make()
        if not hasattr(exporter, "export"):
            raise LookupError(f"the OpenTelemetry exporter {name!r} sends nothing by itself: it waits to be asked")
        yield exporter


def _otlp(signal: Signal) -> str:
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    return _PROTOCOLS.get(protocol, protocol)


def resource() -> Resource:
    """What the run's telemetry is about: OTEL_RESOURCE_ATTRIBUTES, and a service's name.

    Newer SDKs add a random `service.instance.id`. With it a message made again would be another message, and each run
    would begin new series of metrics, so only one that was asked for stays.
    """
    asked = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or f"{SERVICE_NAME}=" in asked
    found = Resource.create({} if named else {SERVICE_NAME: SERVICE})
    left_out = SERVICE_INSTANCE_ID if f"{SERVICE_INSTANCE_ID}=" not in asked else ""
    kept = {key: value for key, value in found.attributes.items() if key != left_out}
    return Resource(kept, found.schema_url)
