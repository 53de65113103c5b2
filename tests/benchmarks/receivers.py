"""Local backends, in a process of their own: OpenLineage on `/api/v1/lineage`, OTLP on `/v1/traces`.

While dbt runs they only note when each request had arrived, whole, and answer after a delay, or in turn after the time
that an OpenLineage event takes a backend of one CPU; what was in it is read when all is over, so that the two cores are
left to what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

LINEAGE_PATH: Final = "/api/v1/lineage"
TRACES_PATH: Final = "/v1/traces"
_TERMINAL: Final = frozenset(("COMPLETE", "FAIL", "ABORT"))
_ROOT: Final = Path(__file__).parents[2]
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Receipts(msgspec.Struct):
    """What had been received. Times are nanoseconds since the epoch."""

    lineage: dict[str, int] = {}
    """When the terminal event of an OpenLineage run id arrived, the first time."""
    jobs: dict[str, int] = {}
    """The same by the job's name, for producers whose run ids can't be derived."""
    spans: dict[int, int] = {}
    """When a span arrived, by its id."""
    requests: dict[str, int] = {}
    """Requests per path."""
    events: int = 0
    """OpenLineage events, START included."""
    duplicates: int = 0
    """How many of these had been received before."""
    lineage_seconds: float = 0.0
    """From the second OpenLineage event's arrival to the last one's answer: after the first there is a pause."""
    last: int = 0
    cpu: float = 0.0
    """CPU seconds of the receivers, which a real backend would have spent elsewhere."""


class _Request(msgspec.Struct):
    at: int
    path: str
    body: bytes
    compressed: bool
    answered: int = 0


class Receivers:
    """A running receiver process, and what it has received once it is stopped."""

    def __init__(self, output: Path, delay: float = 0.0, work: float = 0.0) -> None:
        """Answer after `delay` seconds, and to an OpenLineage event after `work` seconds in which no other is done."""
        self._output = output
        command = [sys.executable, "-m", f"{__package__}.receivers", "--output", str(output)]
        command += ["--delay", str(delay), "--work", str(work)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> Receipts:
        """End the process and read what it had received."""
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(timeout=60) != 0:
            raise RuntimeError("the receivers failed")
        assert self._process.stdout is not None
        self._process.stdout.close()
        return msgspec.json.decode(self._output.read_bytes(), type=Receipts)


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port where nothing listens, and nobody else can while this is open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --- in the receivers' process ----------------------------------------------------------------------------------------


async def _serve(delay: float, work: float) -> list[_Request]:
    received: list[_Request] = []
    processor = asyncio.Lock()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await _read(reader)
                received.append(request)
                if delay:
                    await asyncio.sleep(delay)
                if work and request.path == LINEAGE_PATH:
                    async with processor:
                        await asyncio.sleep(work)
                writer.write(_ANSWER)
                request.answered = time.time_ns()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    return received


async def _read(reader: asyncio.StreamReader) -> _Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ConnectionError("a request without a length")
    body = await reader.readexactly(int(headers["content-length"]))
    return _Request(time.time_ns(), first.split(" ")[1], body, headers.get("content-encoding") == "gzip")


def _receipts(received: list[_Request]) -> Receipts:
    found = Receipts()
    seen: set[bytes] = set()
    _, second = [*(request.at for request in received if request.path == LINEAGE_PATH), 0, 0][:2]
    for request in received:
        found.requests[request.path] = found.requests.get(request.path, 0) + 1
        found.last = request.at
        body = gzip.decompress(request.body) if request.compressed else request.body
        if request.path == LINEAGE_PATH:
            found.duplicates += body in seen
            seen.add(body)
            found.lineage_seconds = max(found.lineage_seconds, (request.answered - second) / 1e9)
            _take_lineage(found, request.at, body)
        elif request.path == TRACES_PATH:
            _take_spans(found, request.at, body)
    return found


def _take_lineage(found: Receipts, at: int, body: bytes) -> None:
    event = json.loads(body)
    found.events += 1
    if event.get("eventType") in _TERMINAL:
        found.lineage.setdefault(event["run"]["runId"], at)
        found.jobs.setdefault(event["job"]["name"], at)


def _take_spans(found: Receipts, at: int, body: bytes) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                found.spans.setdefault(int.from_bytes(span.span_id, "big"), at)


def main() -> None:
    """Listen until SIGTERM, then write what was received."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--work", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    before = time.process_time()
    received = asyncio.run(_serve(options.delay, options.work))
    cpu = time.process_time() - before
    found = _receipts(received)
    found.cpu = cpu
    options.output.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
