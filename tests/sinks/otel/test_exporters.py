"""OpenTelemetry's exporters: which are asked for, what they acknowledge, what is too large, and reasons."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import certifi
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from spanline.home.home import RunDirectory
from spanline.results.log_lines import service_name
from spanline.sinks.base import Rejected
from spanline.sinks.otel import traces
from spanline.sinks.otel.export import OtelSink, resource
from spanline.supervisor.replay import replay
from tests.support.project import Project
from tests.support.receivers import Receiver, answer, serving

MEBIBYTE = 1 << 20


def a_span(name: str, size: int = 0) -> ReadableSpan:
    """A span that has ended, of so many bytes and a few more."""
    return ReadableSpan(
        name,
        SpanContext(trace_id=1, span_id=sum(name.encode()), is_remote=False),
        attributes={"db.query.text": "x" * size},
        start_time=1,
        end_time=2,
    )


def names_in(message: ExportTraceServiceRequest) -> list[str]:
    return [span.name for r in message.resource_spans for scope in r.scope_spans for span in scope.spans]


def names_in_file(file: Path) -> list[str]:
    resources = [r for line in file.read_text().splitlines() for r in json.loads(line)["resourceSpans"]]
    return [span["name"] for r in resources for scope in r["scopeSpans"] for span in scope["spans"]]


@dataclass
class Picky:
    """A backend that answers 413 to more than `most` spans in a request, and always to the span `never`."""

    most: int = 1000
    never: str = ""
    url: str = ""
    requests: list[list[str]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def status(self, names: list[str]) -> int:
        self.requests.append(names)
        if len(names) > self.most or self.never in names:
            return 413
        self.taken += names
        return 200


@pytest.fixture
def picky() -> Iterator[Picky]:
    backend = Picky()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer(self, backend.status(names_in(ExportTraceServiceRequest.FromString(body))))

    with serving(Handler) as backend.url:
        yield backend


@contextmanager
def receiving_grpc(
    refusing: tuple[grpc.StatusCode, str] | None = None, most: int = 4 * MEBIBYTE
) -> Iterator[tuple[str, list[list[str]]]]:
    """A real gRPC server that takes messages of `most` bytes, its address, and the names that each request had."""
    received: list[list[str]] = []

    class Service(TraceServiceServicer):
        def Export(  # noqa: N802
            self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            received.append(names_in(request))
            if refusing is not None:
                context.abort(*refusing)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", most)])
    add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", received
    finally:
        server.stop(None).wait()


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OtelSink]]:
    """Make the sink of spans under these variables."""
    made: list[OtelSink] = []

    def make(**variables: str) -> OtelSink:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        made.append(traces())
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def kept(copy_project: Callable[[], Project]) -> RunDirectory:
    """A real run of which nothing has been delivered."""
    return copy_project().run("run", "-s", "customers", "orders").directory


# --- which exporters


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": " , "},
        {"OTEL_TRACES_EXPORTER": "otlp,"},
        {"OTEL_TRACES_EXPORTER": "otlp,none"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": ""},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ""},
    ],
)
def test_an_empty_variable_is_as_good_as_unset(
    variables: dict[str, str], receiver: Receiver, sink: Callable[..., OtelSink]
) -> None:
    sink(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **variables).deliver([a_span("a")])
    assert [span.name for span in receiver.spans] == ["a"]


def test_an_empty_protocol_of_the_signal_leaves_that_of_all(sink: Callable[..., OtelSink]) -> None:
    with receiving_grpc() as (url, received):
        sink(
            OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=""
        ).deliver([a_span("a")])
    assert received == [["a"]]


def test_a_list_of_none_says_how_to_turn_the_signal_off(sink: Callable[..., OtelSink]) -> None:
    with pytest.raises(LookupError, match=r"names no exporter; `OTEL_TRACES_EXPORTER=none` turns traces off"):
        sink(OTEL_TRACES_EXPORTER="none,")


# --- what is too large


def test_a_batch_that_is_too_large_is_delivered_in_halves(picky: Picky, sink: Callable[..., OtelSink]) -> None:
    picky.most = 2
    sink(OTEL_EXPORTER_OTLP_ENDPOINT=picky.url).deliver([a_span(name) for name in "abcde"])
    assert picky.requests == [list("abcde"), list("ab"), list("cde"), ["c"], list("de")]
    assert picky.taken == list("abcde")


def test_only_the_span_that_is_too_large_is_rejected(
    picky: Picky, kept: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{picky.url}/v1/traces")
    everything = replay(kept, everything=True, timeout=20)["otel_traces"]
    assert (everything.rejected, everything.undelivered, everything.error) == (0, 0, None)
    sent, picky.taken, picky.never = picky.taken, [], "model customers"
    cursor = replay(kept, everything=True, timeout=20)["otel_traces"]
    assert (cursor.delivered, cursor.rejected, cursor.undelivered) == (everything.delivered - 1, 1, 0)
    assert "413" in str(cursor.rejection)
    assert sorted(picky.taken) == sorted(name for name in sent if name != "model customers")


def test_over_grpc_too(sink: Callable[..., OtelSink]) -> None:
    with receiving_grpc(most=MEBIBYTE) as (url, received):
        exporter = sink(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        batch = [a_span("a", 600_000), a_span("large", 2 * MEBIBYTE), a_span("b", 600_000), a_span("c")]
        with pytest.raises(Rejected, match="larger than max") as caught:
            exporter.deliver(batch)
    assert caught.value.count == 1
    assert received == [["a"], ["b", "c"]]


def test_a_quota_that_is_used_up_is_no_matter_of_size(sink: Callable[..., OtelSink]) -> None:
    with receiving_grpc((grpc.StatusCode.RESOURCE_EXHAUSTED, "quota of today")) as (url, received):
        exporter = sink(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        with pytest.raises(ConnectionError, match="quota of today"):
            exporter.deliver([a_span("a"), a_span("b")])
    assert received == [["a", "b"]]


def test_the_sdks_own_limit_of_64_mib_splits_a_batch(receiver: Receiver, sink: Callable[..., OtelSink]) -> None:
    sink(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url).deliver([a_span(name, 30 * MEBIBYTE) for name in "abc"])
    assert [len(request.body) // (30 * MEBIBYTE) for request in receiver.requests] == [1, 2]
    assert [span.name for span in receiver.spans] == ["a", "b", "c"]


# --- several exporters


def test_what_one_exporter_has_taken_is_not_given_to_it_again(
    kept: RunDirectory, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = lambda number: 500 if number < 4 else 200
    file = tmp_path / "spans.jsonl"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp_json_file,otlp")
    monkeypatch.setenv("SPANLINE_OTLP_FILE", str(file))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    cursor = replay(kept, everything=True, timeout=20)["otel_traces"]
    assert (cursor.rejected, cursor.undelivered) == (0, 0)
    assert len(receiver.requests) >= 4
    in_file = names_in_file(file)
    assert len(in_file) == cursor.delivered
    assert in_file == [span.name for span in receiver.spans]


def test_a_backend_that_takes_no_traces_keeps_none_from_the_file(
    kept: RunDirectory, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 404
    file = tmp_path / "spans.jsonl"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp,otlp_json_file")
    monkeypatch.setenv("SPANLINE_OTLP_FILE", str(file))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    cursor = replay(kept, everything=True, timeout=20)["otel_traces"]
    names = names_in_file(file)
    assert "model customers" in names
    assert (cursor.delivered, cursor.rejected, cursor.undelivered) == (0, len(names), 0)


@pytest.mark.slow
def test_the_console_prints_a_span_once_while_the_backend_is_down(project: Project, receiver: Receiver) -> None:
    receiver.status = 500
    done = project.spanline(
        "dbt", "run", "-s", "customers",
        OTEL_TRACES_EXPORTER="console,otlp", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/v1/traces",
        SPANLINE_FLUSH_TIMEOUT="2",
    )  # fmt: skip
    assert done.returncode == 0
    assert len(receiver.requests) > 2
    names = re.findall(r'^    "name": "(.*)",$', done.stderr.decode(), re.MULTILINE)
    assert names
    assert len(names) == len(set(names))


def test_while_an_exporter_fails_others_get_nothing_new_and_nothing_twice(
    receiver: Receiver, sink: Callable[..., OtelSink], tmp_path: Path
) -> None:
    """Whatever batches it is tried with: the same again, another, and each of the first alone."""
    receiver.status = 500
    file = tmp_path / "spans.jsonl"
    exporters = sink(
        OTEL_TRACES_EXPORTER="otlp_json_file,otlp", SPANLINE_OTLP_FILE=str(file),
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_TIMEOUT="2",
    )  # fmt: skip
    a, b, c = a_span("a"), a_span("b"), a_span("c")
    for batch in ([a, b], [c], [a, b], [a]):
        failure(exporters, batch)
    assert names_in_file(file) == ["a", "b"]
    receiver.status = 200
    for batch in ([c], [a], [b]):
        exporters.deliver(batch)
    assert names_in_file(file) == ["a", "b", "c"]
    assert [span.name for span in receiver.spans][-3:] == ["c", "a", "b"]


# --- why


def failure(exporter: OtelSink, batch: Sequence[object]) -> str:
    with pytest.raises(ConnectionError) as caught:
        exporter.deliver(batch)
    return str(caught.value)


def test_a_refused_connection_is_named(sink: Callable[..., OtelSink]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        exporter = sink(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{unused.getsockname()[1]}", OTEL_EXPORTER_OTLP_TIMEOUT="2"
        )
        said = failure(exporter, [a_span("a")])
    assert "Connection refused" in said
    assert "0x" not in said
    assert len(said) < 250


def test_the_answer_of_a_backend_that_is_down_is_named(receiver: Receiver, sink: Callable[..., OtelSink]) -> None:
    receiver.status = 503
    exporter = sink(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_TIMEOUT="2")
    said = failure(exporter, [a_span("a")])
    assert "Service Unavailable" in said
    assert len(said) < 250


def test_a_port_for_grpc_that_is_spoken_to_in_http_is_named(sink: Callable[..., OtelSink]) -> None:
    with receiving_grpc() as (url, _):
        exporter = sink(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="2")
        said = failure(exporter, [a_span("a")])
    assert said.isprintable()
    assert "is this the port for gRPC" in said


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1, signed by nobody else, and in the same file its key."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("no certificate can be made here")
    path = tmp_path / "certificate.pem"
    path.write_text((tmp_path / "key.pem").read_text() + path.read_text())
    return path


def test_the_certificate_named_for_otlp_goes_before_those_of_all(
    certificate: Path, sink: Callable[..., OtelSink]
) -> None:
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self, 200)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
    try:
        exporter = sink(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"https://127.0.0.1:{server.server_port}",
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(certificate),
            REQUESTS_CA_BUNDLE=certifi.where(),
        )
        exporter.deliver([a_span("a")])
    finally:
        server.shutdown()
        server.server_close()
    assert received == ["/v1/traces"]


def test_what_the_sdk_makes_of_a_variable_is_said_once(project: Project) -> None:
    done = project.spanline(
        "dbt", "run", "--select", "customers",
        OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="console",
        OTEL_TRACES_SAMPLER="nonsense", OTEL_RESOURCE_ATTRIBUTES="nonsense",
    )  # fmt: skip
    said = [line for line in done.stderr.decode().splitlines() if line.startswith("spanline: ")]
    assert len(said) == 2
    assert all("OpenTelemetry: " in line and "nonsense" in line for line in said)


# --- the service's name


@pytest.mark.parametrize(
    ("asked", "name"), [("peer.service.name=x", "dbt"), ("service.name =shop", "shop"), ("service.name=", "dbt")]
)
def test_the_services_name_is_read_from_pairs(asked: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", asked)
    assert (resource().attributes["service.name"], service_name()) == (name, name)


@pytest.mark.parametrize(
    ("asked", "identity"),
    [("service.instance.id =worker-1", "worker-1"), ("peer.service.instance.id=x", None), ("", None)],
)
def test_an_instance_has_an_id_where_one_is_asked_for(
    asked: str, identity: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", asked)
    assert resource().attributes.get("service.instance.id") == identity
