"""A real Jaeger: built once as a Go tool into a cache outside the tree, started on free ports, read over its API.

It is `cmd/jaeger`, with its memory as the storage: what its container is, without the web pages.
"""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.gotools import cached, go
from tests.support.waiting import eventually

MODULE = "github.com/jaegertracing/jaeger"
VERSION = "v1.76.0"


def binary() -> Path:
    """Jaeger's, built now if it isn't in the cache."""
    return cached(f"jaeger-{VERSION}", "jaeger", _build)


def _build(module: Path) -> None:
    downloaded = json.loads(go(module, "mod", "download", "-json", f"{MODULE}@{VERSION}"))
    theirs = json.loads(go(module, "mod", "edit", "-json", downloaded["GoMod"]))
    # A module's `replace` counts only where it is the main one: ours repeats Jaeger's, and begins with its sums.
    lines = ["module spanline-tests", f"go {theirs['Go']}"]
    for each in theirs.get("Replace") or ():
        old, new = each["Old"], each["New"]
        lines.append(f"replace {old['Path']} => {new['Path']} {new['Version']}")
    (module / "go.mod").write_text("\n".join(lines) + "\n")
    (module / "go.sum").write_bytes((Path(downloaded["Dir"]) / "go.sum").read_bytes())
    go(module, "get", "-tool", f"{MODULE}/cmd/jaeger@{VERSION}")
    go(module, "build", "-o", "jaeger", f"{MODULE}/cmd/jaeger")


@dataclass
class Span:
    """One, as Jaeger's API has it; times are in microseconds."""

    id: str
    name: str
    parent: str | None
    links: list[tuple[str, str]]
    """Trace and span of each span that it follows from."""
    tags: dict[str, object]
    start: int
    duration: int
    warnings: list[str]


@dataclass
class Trace:
    """One, by the ids of its spans."""

    id: str
    service: str
    spans: dict[str, Span]

    @property
    def root(self) -> Span:
        (root,) = [span for span in self.spans.values() if span.parent not in self.spans]
        return root

    def node(self, unique_id: str) -> Span:
        """The span of a node: of all that bear its id, the one that says how it ended."""
        (found,) = [s for s in self.nodes if s.tags["unique_id"] == unique_id]
        return found

    @property
    def nodes(self) -> list[Span]:
        return [span for span in self.spans.values() if "node_outcome" in span.tags]

    def path(self, span: Span) -> list[Span]:
        """From the span up to the root, both included."""
        found = [span]
        while found[-1].parent in self.spans:
            assert len(found) <= len(self.spans), "the parents go round in a circle"
            found.append(self.spans[found[-1].parent])  # type: ignore[index]
        return found


@dataclass
class Jaeger:
    """One that runs."""

    otlp: str
    api: str

    @property
    def environment(self) -> dict[str, str]:
        """What a run needs to be told. Jaeger takes neither metrics nor logs."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "SPANLINE_FLUSH_TIMEOUT": "20",
        }

    def traces(self, service: str = "dbt") -> list[Trace]:
        answer = self.get("/api/traces", service=service, limit="100")
        return [_trace(trace) for trace in answer["data"]]  # type: ignore[attr-defined]

    def trace_of(self, run_id: str, session: int = 1) -> Trace:
        """The trace of a session of a run."""
        wanted = {"spanline.run.id": run_id, "spanline.session": session}
        (found,) = [t for t in self.traces() if wanted.items() <= t.root.tags.items()]
        return found

    def get(self, path: str, **query: str) -> dict[str, object]:
        with urllib.request.urlopen(f"{self.api}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        try:
            self.get("/api/services")
            socket.create_connection(urllib.parse.urlsplit(self.otlp).netloc.split(":"), 1).close()  # type: ignore[arg-type]
        except (OSError, urllib.error.URLError):
            return False
        return True


def _trace(data: dict) -> Trace:  # type: ignore[type-arg]
    (service,) = {process["serviceName"] for process in data["processes"].values()}
    return Trace(data["traceID"], service, {span["spanID"]: _span(span) for span in data["spans"]})


def _span(data: dict) -> Span:  # type: ignore[type-arg]
    references = data["references"]
    parents = [r["spanID"] for r in references if r["refType"] == "CHILD_OF"]
    return Span(
        id=data["spanID"],
        name=data["operationName"],
        parent=parents[0] if parents else None,
        links=[(r["traceID"], r["spanID"]) for r in references if r["refType"] == "FOLLOWS_FROM"],
        tags={tag["key"]: tag["value"] for tag in data["tags"]},
        start=data["startTime"],
        duration=data["duration"],
        warnings=data["warnings"] or [],
    )


@contextmanager
def running(jaeger: Path, place: Path) -> Iterator[Jaeger]:
    """Start it; what it says goes to a file in `place`."""
    ports = _free_ports(3)
    config = place / "jaeger.json"
    config.write_text(json.dumps(_config(*ports)))
    with (place / "jaeger.log").open("wb") as log:
        process = subprocess.Popen([jaeger, "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    found = Jaeger(otlp=f"http://127.0.0.1:{ports[0]}", api=f"http://127.0.0.1:{ports[1]}")
    try:
        eventually(lambda: found.answers() or process.poll() is not None, "Jaeger's answer")
        assert process.poll() is None, (place / "jaeger.log").read_text()[-2000:]
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _config(otlp: int, api: int, grpc: int) -> dict[str, object]:
    """The parts of its own all-in-one configuration that are needed: https://www.jaegertracing.io/docs/latest/."""
    storage, exporter = "memory", "jaeger_storage_exporter"
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": [exporter]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {storage: {"memory": {"max_traces": 1000}}}},
            "jaeger_query": {
                "storage": {"traces": storage},
                "http": {"endpoint": f"127.0.0.1:{api}"},
                "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
            },
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {exporter: {"trace_storage": storage}},
    }


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
