"""Hand spans, metrics and log records to the SDK's exporters, whose result is the acknowledgement."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Final, Literal, Protocol

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from spanline.events import Event
from spanline.sinks.base import Message
from spanline.state import RunState

Signal = Literal["traces", "metrics", "logs"]

SERVICE: Final = "dbt"
"""The service's name where OTEL_SERVICE_NAME says no other."""
_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_BATCH: Final = 512
_LINGER_SECONDS: Final = 0.02


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
        self._exporters = list(_exporters(signal))
        self._errors = _LastError()

    def deliver(self, payloads: Sequence[object]) -> None:
        """Export. Raises `ConnectionError` where an exporter says that it failed."""
        batch = payloads[0] if self._one_at_a_time else list(payloads)
        for exporter in self._exporters:
            if getattr(exporter.export(batch), "name", "") != "SUCCESS":
                raise ConnectionError(self._errors.last or "the exporter failed")

    def close(self) -> None:
        """Shut the exporters down."""
        for exporter in self._exporters:
            exporter.shutdown()


class _LastError(logging.Handler):
    """Exporters say why they failed to a logger only; keep the last word."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        logging.getLogger("opentelemetry.exporter").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _exporters(signal: Signal) -> Iterator[_Exporter]:
    for asked in os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        name = asked.strip()
        if name == "otlp":
            name = _otlp(signal)
        found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
        if not found:
            raise LookupError(f"no OpenTelemetry exporter {name!r} of {signal} is installed")
        yield found[0].load()()


def _otlp(signal: Signal) -> str:
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    return _PROTOCOLS.get(protocol, protocol)


def resource() -> Resource:
    """What the run's telemetry is about: OTEL_RESOURCE_ATTRIBUTES, and a service's name."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: SERVICE})
