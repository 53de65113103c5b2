"""Real HTTP servers in a backend's place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes = b"") -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A real HTTP server that says nothing on standard error, and its address."""
    quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Received:
    """One request."""

    at: float
    path: str
    body: bytes
    status: int


@dataclass
class Receiver:
    """A real HTTP server that keeps what it is sent. `status` may be a number, or said for each request."""

    url: str = ""
    status: int | Callable[[int], int] = 200
    delay: float = 0.0
    requests: list[Received] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """Cleared, requests hang until it is set again."""

    @property
    def lineage_environment(self) -> dict[str, str]:
        return {"OPENLINEAGE_URL": self.url}

    @property
    def otel_environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}

    def acknowledged(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path and request.status < 300]

    @property
    def lineage(self) -> list[dict]:  # type: ignore[type-arg]
        """OpenLineage events that were acknowledged, in the order of their receipt."""
        return [json.loads(request.body) for request in self.acknowledged("/api/v1/lineage")]

    @property
    def spans(self) -> list:  # type: ignore[type-arg]
        """Spans that were acknowledged, as protobuf messages."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for request in self.acknowledged("/v1/traces"):
            message = ExportTraceServiceRequest()
            message.ParseFromString(request.body)
            found += [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
        return found
